"""Every public loss, and its options, as cases of the contract: how to draw the arguments, and what is true of them.

The arguments are those of the loss's signature (:mod:`lossjax.verify.signatures`), the truth is the one registered
with ``@truth_of``. Nothing is to be added here for a new loss.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import lossjax
from lossjax._core.plain import plain_of
from lossjax.verify.samples import bound, loss_of
from lossjax.verify.signatures import SIGNATURES, Signature
from tests.support.draws import (
    FAMILIES,
    Draw,
    Family,
    and_numbers,
    and_signed_weights,
    and_tunable,
    and_weights,
    arguments_of,
    labelled,
    with_targets,
)
from tests.support.option_truths import OptionTruth, focal, generalized, poly
from tests.support.truths import Truth, of_mixed_js, of_tail, of_weighted_sum
from tests.support.truths_of_answers import TRUTHS


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
    """Whether rows can be mapped over, and split over devices."""

    @property
    def plain(self) -> Callable[..., jax.Array]:
        """The loss with its rules off."""
        return plain_of(self.loss)


def _named(*names: str) -> tuple[Family, ...]:
    return tuple(f for f in FAMILIES if f.name in names)


SUITED: dict[str, tuple[Family, ...]] = {
    "logits": FAMILIES,
    "probabilities": tuple(f for f in FAMILIES if f.offset == 0 and not f.ties and f.scale <= 4),
    # For losses of one entry the number of classes says nothing.
    "scores": _named("normal", "small", "wide", "offset", "one row", "ties"),
    "vectors": _named("normal", "two classes", "one class", "small", "wide", "offset", "one row", "ties", "many"),
    # Without the offset, whose exponential overflows.
    "log likelihoods": _named("normal", "small", "wide", "one row"),
    "log rates": _named("normal", "small", "wide", "one row"),
}
"""The families that suit a loss, by the kind of its first argument."""


def _case(name: str, signature: Signature) -> Case:
    judged, loss = TRUTHS[name], loss_of(name)
    return Case(
        name,
        bound(loss, *signature.options, **judged.options),
        arguments_of(*signature.kinds),
        signature.argnums,
        judged.truth,
        judged.units,
        SUITED[signature.kinds[0]],
        signature.per_row,
    )


CASES = tuple(_case(name, signature) for name, signature in SIGNATURES.items())
CASE = {case.name: case for case in CASES}

_LABEL = lossjax.softmax_cross_entropy_with_integer_labels
_TARGET = lossjax.softmax_cross_entropy
_BINARY = arguments_of("scores", "fractions")
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
    Case("brier, targets", lossjax.softmax_brier_score, with_targets, (0, 1), TRUTHS["softmax_brier_score"].truth, 24, OPTION_FAMILIES),
    Case("sigmoid, pos_weight", bound(lossjax.sigmoid_cross_entropy, "pos_weight", "label_smoothing"), and_numbers(_BINARY, 2.5, 0.1), (0, 1, 2, 3), per_row=False),
    Case("sigmoid focal, both", bound(lossjax.sigmoid_focal_loss, "alpha", "gamma"), and_numbers(_BINARY, 0.25, 1.3), (0, 1, 2, 3), per_row=False),
    Case("mean squared error, weights", bound(lossjax.mean_squared_error, "weights"), arguments_of("scores", "scores", "widths"), (0, 1, 2), per_row=False),
    Case("logsumexp, b", bound(lossjax.logsumexp, "b"), and_signed_weights(arguments_of("logits")), (0, 1), of_weighted_sum, 16, OPTION_FAMILIES),
    Case("JS, mixture", bound(lossjax.softmax_js_divergence, "mixture"), and_numbers(arguments_of("logits", "other logits"), 0.1), (0, 1, 2), of_mixed_js, 33, OPTION_FAMILIES, per_row=False),
    Case("sparse targets, tail", bound(lossjax.softmax_cross_entropy_with_sparse_targets, tail=True), arguments_of("logits", "listed classes", "listed probabilities"), (0, 2), of_tail, 24, OPTION_FAMILIES[:1] + OPTION_FAMILIES[2:]),
    Case("poisson, full", bound(lossjax.poisson_nll, full=True), arguments_of("log rates", "counts"), (0, 1)),
)  # fmt: skip
"""Options: rule against plain formula, the transformations that differ most, and accuracy where there is a truth."""

STANDING = CASES[:6]
"""Transformations see one wrapper, around every rule: six losses stand for all in those that differ least."""
OF_EACH_FILE = (
    *STANDING,
    *(CASE[name] for name in (
        "softmax_kl_divergence", "softmax_entropy", "softmax_brier_score", "entropy", "kl_divergence", "huber_loss",
        "student_t_nll", "poisson_nll", "cosine_similarity", "sigmoid_focal_loss", "multiclass_sparsemax_loss",
    )),
)  # fmt: skip
"""And one loss of each file of rules."""
