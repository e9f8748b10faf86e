"""Every public loss, one line each: how to draw its arguments, and what is true of them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import lossjax
from lossjax._core.plain import plain_of
from tests.support import truths
from tests.support.draws import (
    FAMILIES,
    Draw,
    Family,
    and_entries,
    and_numbers,
    and_positive,
    and_tunable,
    and_weights,
    binary,
    counts,
    gaussian,
    labelled,
    one_logits,
    one_p,
    plus_or_minus,
    regression,
    two_logits,
    two_p,
    with_targets,
    zero_or_one,
)
from tests.support.option_truths import OptionTruth, focal, generalized, poly
from tests.support.truths import Truth


@dataclasses.dataclass(frozen=True)
class Case:
    """One loss with one set of options."""

    name: str
    loss: Callable[..., jax.Array]
    draw: Draw
    argnums: tuple[int, ...]
    truth: Callable[..., Truth] | None = None
    units: float = 8.0
    """The error allowed, in u of the scale."""
    families: tuple[Family, ...] = FAMILIES
    per_row: bool = True
    """One output a row: the leading axis can be mapped over and split over devices."""

    @property
    def plain(self) -> Callable[..., jax.Array]:
        """The loss with its rules off."""
        return plain_of(self.loss)


def bound(loss: Callable[..., Any], *names: str, **options: Any) -> Callable[..., jax.Array]:
    """The loss with options fixed, and those in ``names`` as further arguments; its plain form likewise."""

    def of(function: Callable[..., Any]) -> Callable[..., jax.Array]:
        return lambda *args: function(*args[:2], **dict(zip(names, args[2:], strict=True)), **options)

    result = of(loss)
    result.plain = of(plain_of(loss))  # pyright: ignore[reportFunctionMemberAccess]  # functions take attributes
    return result


# --- the losses ------------------------------------------------------------------------------------------------------


def _named(*names: str) -> tuple[Family, ...]:
    return tuple(f for f in FAMILIES if f.name in names)


PROBABILITIES = tuple(f for f in FAMILIES if f.offset == 0 and not f.ties and f.scale <= 4)
ENTRIES = _named("normal", "small", "wide", "offset", "one row", "ties")
"""For losses of one entry: the number of classes says nothing."""
COUNTS = _named("normal", "small", "wide", "one row")
"""Without the offset, whose exponential overflows."""
_LABEL = lossjax.softmax_cross_entropy_with_integer_labels
_TARGET = lossjax.softmax_cross_entropy

CASES = (
    Case("softmax_cross_entropy_with_integer_labels", _LABEL, labelled, (0,), truths.of_labels),
    Case("softmax_cross_entropy", _TARGET, with_targets, (0, 1), truths.of_targets, 13),
    Case("sigmoid_cross_entropy", lossjax.sigmoid_cross_entropy, binary, (0, 1), truths.of_binary),
    Case("softmax", lossjax.softmax, one_logits, (0,), truths.of_softmax, 16),
    Case("log_softmax", lossjax.log_softmax, one_logits, (0,), truths.of_log_softmax, 13),
    Case("logsumexp", lossjax.logsumexp, one_logits, (0,), truths.of_logsumexp),
    Case("softmax_entropy", lossjax.softmax_entropy, one_logits, (0,), truths.of_entropy_of_logits, 33),
    Case("softmax_kl_divergence", lossjax.softmax_kl_divergence, two_logits, (0, 1), truths.of_kl_of_logits, 33),
    Case("softmax_js_divergence", lossjax.softmax_js_divergence, two_logits, (0, 1), truths.of_js_of_logits, 33),
    Case("softmax_focal_loss", lossjax.softmax_focal_loss, labelled, (0,), OptionTruth(curve=focal, parameter=2.0), 32),
    Case("poly_cross_entropy", lossjax.poly_cross_entropy, labelled, (0,), OptionTruth(curve=poly, parameter=2.0), 16),
    Case("generalized_cross_entropy", bound(lossjax.generalized_cross_entropy, q=0.75), labelled, (0,), OptionTruth(curve=generalized, parameter=0.75), 24),
    Case("softmax_brier_score", lossjax.softmax_brier_score, labelled, (0,), truths.of_brier, 24),
    Case("sigmoid_focal_loss", lossjax.sigmoid_focal_loss, binary, (0, 1), truths.of_sigmoid_focal, 32, ENTRIES),
    Case("self_information", lossjax.self_information, one_p, (0,), truths.of_self_information, 10, PROBABILITIES),
    Case("entropy", lossjax.entropy, one_p, (0,), truths.of_entropy, 16, PROBABILITIES),
    Case("cross_entropy", lossjax.cross_entropy, two_p, (0, 1), truths.of_cross_entropy, 32, PROBABILITIES),
    Case("kl_divergence", lossjax.kl_divergence, two_p, (0, 1), truths.of_kl, 33, PROBABILITIES),
    Case("jeffreys_divergence", lossjax.jeffreys_divergence, two_p, (0, 1), truths.of_jeffreys, 33, PROBABILITIES),
    Case("js_divergence", lossjax.js_divergence, two_p, (0, 1), truths.of_js, 33, PROBABILITIES),
    Case("squared_error", lossjax.squared_error, regression, (0, 1), truths.of_squared_error, 3, ENTRIES),
    Case("mean_squared_error", lossjax.mean_squared_error, regression, (0, 1), truths.of_mean_squared_error, 16, ENTRIES, per_row=False),
    Case("huber_loss", bound(lossjax.huber_loss, "delta"), and_entries(regression, (0.5, 2.0)), (0, 1, 2), truths.of_huber, 8, ENTRIES),
    Case("log_cosh", lossjax.log_cosh, regression, (0, 1), truths.of_log_cosh, 16, ENTRIES),
    Case("quantile_loss", bound(lossjax.quantile_loss, "level"), and_entries(regression, (0.05, 0.95)), (0, 1, 2), truths.of_quantile, 3, ENTRIES),
    Case("gaussian_nll", bound(lossjax.gaussian_nll, "log_variance"), gaussian, (0, 1, 2), truths.of_gaussian, 8, ENTRIES),
    Case("laplace_nll", bound(lossjax.laplace_nll, "log_scale"), gaussian, (0, 1, 2), truths.of_laplace, 8, ENTRIES),
    Case("student_t_nll", bound(lossjax.student_t_nll, "degrees_of_freedom", "log_scale"), and_entries(regression, (0.5, 40.0), (-1.0, 1.0)), (0, 1, 2, 3), truths.of_student_t, 16, ENTRIES),
    Case("poisson_nll", lossjax.poisson_nll, counts, (0, 1), truths.of_poisson, 8, COUNTS),
    Case("cosine_similarity", lossjax.cosine_similarity, regression, (0, 1), truths.of_cosine, 16, ENTRIES),
    Case("cosine_distance", lossjax.cosine_distance, regression, (0, 1), truths.of_cosine_distance, 16, ENTRIES),
    Case("hinge_loss", lossjax.hinge_loss, plus_or_minus, (0, 1), truths.of_hinge, 3, ENTRIES),
    Case("perceptron_loss", lossjax.perceptron_loss, plus_or_minus, (0, 1), truths.of_perceptron, 3, ENTRIES),
    Case("sparsemax_loss", lossjax.sparsemax_loss, zero_or_one, (0,), truths.of_sparsemax, 3, ENTRIES),
    Case("multiclass_hinge_loss", lossjax.multiclass_hinge_loss, labelled, (0,), truths.of_multiclass_hinge, 3),
    Case("multiclass_perceptron_loss", lossjax.multiclass_perceptron_loss, labelled, (0,), truths.of_multiclass_perceptron, 3),
    Case("multiclass_sparsemax_loss", lossjax.multiclass_sparsemax_loss, labelled, (0,), truths.of_multiclass_sparsemax, 16),
)  # fmt: skip

_ALL = {"label_smoothing": 0.1, "reduction": "mean", "ignore_index": 2}
_MEAN = {"label_smoothing": 0.1, "reduction": "mean"}
_TUNABLE = ("class_weights", "z_loss", "logit_softcap", "temperature")
_OTHERS = {"label_smoothing": 0.2, "smoothing": "others"}


def _option(
    name: str, loss: Callable[..., Any], draw: Draw, names: tuple[str, ...] = (), units: float = 24, **fixed: Any
) -> Case:
    """A softmax loss with options, differentiable in everything but labels."""
    curve = {lossjax.softmax_focal_loss: focal, lossjax.poly_cross_entropy: poly, lossjax.generalized_cross_entropy: generalized}  # fmt: skip
    truth = OptionTruth(names, **fixed, **({"curve": curve[loss]} if loss in curve else {}))
    first = (0,) if draw(FAMILIES[0], np.float64)[1].dtype.kind == "i" else (0, 1)
    argnums = (*first, *range(2, 2 + len(names)))
    return Case(name, bound(loss, *names, **fixed), draw, argnums, truth, units, OPTION_FAMILIES, per_row=not names)


OPTION_FAMILIES = _named("normal", "two classes", "wide", "confident", "offset")
OPTION_CASES = (
    _option("labels, smoothing", _LABEL, labelled, label_smoothing=0.1),
    _option("labels, smoothing over others", _LABEL, labelled, **_OTHERS),
    _option("labels, weights", _LABEL, and_weights(labelled), ("class_weights",)),
    _option("labels, z-loss", _LABEL, and_numbers(labelled, 1e-2), ("z_loss",)),
    _option("labels, softcap", _LABEL, and_numbers(labelled, 4.0), ("logit_softcap",)),
    _option("labels, temperature", _LABEL, and_numbers(labelled, 1.7), ("temperature",)),
    _option("labels, all", _LABEL, and_tunable(labelled), _TUNABLE, **_ALL),
    _option("targets, smoothing", _TARGET, with_targets, label_smoothing=0.1),
    _option("targets, all", _TARGET, and_tunable(with_targets), _TUNABLE, **_MEAN),
    _option("focal, gamma", lossjax.softmax_focal_loss, and_numbers(labelled, 1.3), ("gamma",), 48),
    _option("focal, targets", lossjax.softmax_focal_loss, and_numbers(with_targets, 0.5), ("gamma",), 48),
    _option("focal, all", lossjax.softmax_focal_loss, and_numbers(and_tunable(labelled), 2.0), (*_TUNABLE, "gamma"), 48, **_ALL),
    _option("poly, targets", lossjax.poly_cross_entropy, and_numbers(with_targets, -1.0), ("epsilon",)),
    _option("generalized, targets", lossjax.generalized_cross_entropy, and_numbers(with_targets, 0.7), ("q",), 48),
    Case("brier, targets", lossjax.softmax_brier_score, with_targets, (0, 1), truths.of_brier, 24, OPTION_FAMILIES),
    Case("sigmoid, pos_weight", bound(lossjax.sigmoid_cross_entropy, "pos_weight", label_smoothing=0.1), and_numbers(binary, 2.5), (0, 1, 2), per_row=False),
    Case("sigmoid focal, both", bound(lossjax.sigmoid_focal_loss, "alpha", "gamma"), and_numbers(binary, 0.25, 1.3), (0, 1, 2, 3), per_row=False),
    Case("mean squared error, weights", bound(lossjax.mean_squared_error, "weights"), and_positive(regression), (0, 1, 2), per_row=False),
    Case("poisson, full", bound(lossjax.poisson_nll, full=True), counts, (0, 1)),
)  # fmt: skip
"""Options: rule against plain formula, the transformations that differ most, and accuracy where there is a truth."""
