"""What every public loss is called with: one line per loss.

A loss's arguments are described here and nowhere else. The certifier draws its arguments from this table
(:mod:`lossjax.verify.samples`); the tests take from it the arguments they draw, the numbers among which they hunt for
a failure, the shapes, and which arguments a gradient is asked for. A new loss needs one line here.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

Shape = tuple[int, int]
"""Rows and classes."""


class Kind(NamedTuple):
    """One kind of argument: its shape, how to draw it, and the numbers at which a loss may go wrong."""

    draw: Callable[[np.random.Generator, Shape], np.ndarray]
    """Usual numbers of this kind, in float64 or int32."""
    hard: tuple[float, ...] = ()
    """Finite numbers in its domain at which the losses must be accurate, the extreme ones among them."""
    beyond: tuple[float, ...] = ()
    """Further numbers at which a loss has a limit, or none: infinities and NaN."""
    outside: tuple[float, ...] = ()
    """Numbers that lie outside the domain: an entry (or row) that holds one is NaN in value and gradient."""
    integer: bool = False
    """Whether it holds integers, in which no loss is differentiated."""


def _normal(scale: float) -> Callable[[np.random.Generator, Shape], np.ndarray]:
    return lambda random, shape: random.normal(size=shape) * scale


def _between(low: float, high: float) -> Callable[[np.random.Generator, Shape], np.ndarray]:
    return lambda random, shape: random.uniform(low, high, shape)


def _dirichlet(random: np.random.Generator, shape: Shape) -> np.ndarray:
    return random.dirichlet(np.ones(shape[1]), shape[0])


def _log_probabilities(random: np.random.Generator, shape: Shape) -> np.ndarray:
    return -random.exponential(3, shape)


def _vectors(random: np.random.Generator, shape: Shape) -> np.ndarray:
    """Every second one has a dominating entry, so that any two of these are nearly parallel."""
    x = random.normal(size=shape)
    x[::2, 0] *= 1000
    return x


def _listed(random: np.random.Generator, shape: Shape) -> np.ndarray:
    """Distinct classes of each row: two, or the only one."""
    every = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape)
    return random.permuted(every, axis=1)[:, :2]


def _listed_probabilities(random: np.random.Generator, shape: Shape) -> np.ndarray:
    return random.dirichlet(np.ones(3), shape[0])[:, : min(2, shape[1])]


U = 2.0**-24
"""The unit roundoff of float32."""
_REAL = (
    0.0, -0.0, 1e-30, 1.0, -1.0, 0.5, 0.3, -1.7, 3.0, -2.25, 16.75, -16.75, 88.0, -88.0, 1e4, -1e4, 1e4 + 2**-10, 1e19,
    3e38, -3e38,
)  # fmt: skip
_NO_NUMBER = (np.inf, -np.inf, np.nan)
_LOG_SHARES = (-1e-30, -1e-7, -0.3, -0.69314718, -1.0, -1.0001, -3.0, -16.75, -80.0, -300.0, -1e4)
_SHARES = (1, 0.5, 0.25, 0.125, 1e-30, 0.3, 1 - U, 1e-37)

KINDS: Mapping[str, Kind] = {
    # Integers come first: they are drawn for every loss, so that all losses of logits get the same logits.
    "labels": Kind(
        lambda random, shape: random.integers(0, shape[1], shape[0]).astype(np.int32),
        outside=(-1, 100, 2**31 - 1),
        integer=True,
    ),
    "tokens": Kind(
        lambda random, shape: random.integers(0, shape[1], shape[0]).astype(np.int32),
        outside=(-1, 100, 2**31 - 1),
        integer=True,
    ),
    "listed classes": Kind(_listed, outside=(-1, 100, 2**31 - 1), integer=True),
    "binary labels": Kind(
        lambda random, shape: random.integers(0, 2, shape).astype(np.int32),
        outside=(-1, 2),
        integer=True,
    ),
    "logits": Kind(_normal(2), _REAL, _NO_NUMBER),
    "other logits": Kind(_normal(2), _REAL, _NO_NUMBER),
    "scores": Kind(_normal(2), _REAL, _NO_NUMBER),
    "distributions": Kind(_dirichlet, (0, 1, 0.5, 0.25, 1e-30, 2), outside=(-0.5, -1e-30)),
    "probabilities": Kind(_dirichlet, _SHARES, (0, -0.0, np.nan), (-0.5, -np.inf)),
    "other probabilities": Kind(_dirichlet, _SHARES, (0, -0.0, np.nan), (-0.5, -1e-30)),
    "listed probabilities": Kind(_listed_probabilities, (0, 1, 0.5, 0.25, 1e-30, 2), outside=(-0.5, -1e-30)),
    "fractions": Kind(_between(0, 1), (0, 1, 0.5, 0.25, 1e-30, 1 - U), outside=(2, -1e-30, 1 + 2 * U)),
    "signs": Kind(lambda random, shape: random.choice([-1.0, 1.0], shape), (1, -1), outside=(0, 2, -0.5)),
    "vectors": Kind(_vectors, _REAL, _NO_NUMBER),
    "log rates": Kind(_normal(1), _REAL, _NO_NUMBER),
    "counts": Kind(
        lambda random, shape: random.poisson(3, shape).astype(np.float64), (0, 1, 3, 0.5, 1e4), outside=(-1, -1e-30)
    ),
    "widths": Kind(_between(0.5, 2), (1e-30, 0.5, 1, 1e4), outside=(-1, -1e-30)),
    "levels": Kind(_between(0.1, 0.9), (0, 0.25, 0.5, 1, 0.9), outside=(-0.5, 1.5)),
    "log scales": Kind(_normal(1), (0, 1, -1, 0.5, 16.75, -16.75, 40, -40, 190, -190)),
    "degrees of freedom": Kind(_between(1, 30), (1e-14, 1e-3, 0.5, 1, 3, 40, 1e8), outside=(-1, -1e-30)),
    "log likelihoods": Kind(_log_probabilities, _LOG_SHARES, _NO_NUMBER),
    "other log likelihoods": Kind(_log_probabilities, _LOG_SHARES, _NO_NUMBER),
    "temperatures": Kind(_between(0.05, 0.8), (1e-30, 0.1, 0.5, 0.8), outside=(-1, -1e-30)),
    "margins": Kind(_between(0, 2), (0, 1e-30, 0.5, -1, 3)),
    "choices": Kind(lambda random, shape: np.indices(shape).sum(0) % 3 == 0, integer=True),
}
"""``other`` kinds are the second of two that are compared: drawn near the first where closeness is what is hard."""


class Signature(NamedTuple):
    """The arguments of one loss."""

    arguments: tuple[str, ...]
    """The kinds of its positional arguments."""
    options: Mapping[str, str] = {}
    """The kinds of those options that are arrays of the same shape, and are differentiated too, by name."""
    per_row: bool = True
    """Whether each row has numbers of its own in the result. Then rows can be mapped over, and split over devices."""
    ulps: float = 8
    """How many units of roundoff of result and inputs the certifier allows value and gradient."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """All kinds, the options last."""
        return (*self.arguments, *self.options.values())

    @property
    def argnums(self) -> tuple[int, ...]:
        """The positions that a gradient is asked for."""
        return tuple(i for i, kind in enumerate(self.kinds) if not KINDS[kind].integer)


_LABELLED = Signature(("logits", "labels"))
_LOGITS = Signature(("logits",))
_TWO_LOGITS = Signature(("logits", "other logits"))
_TWO_PROBABILITIES = Signature(("probabilities", "other probabilities"))
_ERROR = Signature(("scores", "scores"))
_ANSWERS = ("log likelihoods", "other log likelihoods")
# An entry of the gradient is (b̂_j - c â_j)/‖a‖. For n = 7 a length is within 5.5u, a quotient by it within 2u more, and
# the cosine c within the lengths' errors and 7u. What the two terms have in common cancels with them: the entry is
# within 17u of itself and 23u of c â_j, by which u of a_j changes it. A dominating entry is a difference of
# b̂_j Σ â_k² and â_j Σ â_k b̂_k, each within 14u beside the lengths' errors, and these are 25u of the entry itself, which
# is no larger than what u of b changes it by.
_COSINE = Signature(("vectors", "vectors"), ulps=24)

SIGNATURES: Mapping[str, Signature] = {
    "softmax_cross_entropy_with_integer_labels": _LABELLED,
    "softmax_cross_entropy": Signature(("logits", "distributions")),
    "softmax_cross_entropy_with_sparse_targets": Signature(("logits", "listed classes", "listed probabilities")),
    "token_log_probs": Signature(("logits", "tokens")),
    "sigmoid_cross_entropy": Signature(("scores", "fractions")),
    "softmax": _LOGITS,
    "log_softmax": _LOGITS,
    "logsumexp": _LOGITS,
    "softmax_entropy": _LOGITS,
    "softmax_kl_divergence": _TWO_LOGITS,
    "softmax_js_divergence": _TWO_LOGITS,
    "softmax_focal_loss": _LABELLED,
    "poly_cross_entropy": _LABELLED,
    "generalized_cross_entropy": _LABELLED,
    "softmax_brier_score": _LABELLED,
    "sigmoid_focal_loss": Signature(("scores", "fractions")),
    "self_information": Signature(("probabilities",)),
    "entropy": Signature(("probabilities",)),
    "cross_entropy": _TWO_PROBABILITIES,
    "kl_divergence": _TWO_PROBABILITIES,
    "jeffreys_divergence": _TWO_PROBABILITIES,
    "js_divergence": _TWO_PROBABILITIES,
    "squared_error": _ERROR,
    "mean_squared_error": Signature(("scores", "scores"), per_row=False),
    "huber_loss": Signature(("scores", "scores"), {"delta": "widths"}),
    "smooth_l1_loss": Signature(("scores", "scores"), {"beta": "widths"}),
    "pseudo_huber_loss": Signature(("scores", "scores"), {"delta": "widths"}),
    "log_cosh": _ERROR,
    "quantile_loss": Signature(("scores", "scores"), {"level": "levels"}),
    "gaussian_nll": Signature(("scores", "scores"), {"log_variance": "log scales"}),
    "laplace_nll": Signature(("scores", "scores"), {"log_scale": "log scales"}),
    # The terms of the slope in ν nearly cancel at a usual residual. They are (w² - 2w - 1)/(4ν²) for w = r²e^-2s and a
    # large ν, and no more than a rounding of the arguments changes, for w² + 2w + 1 < 3|w² - 2w - 1| + 4|w² - w|.
    "student_t_nll": Signature(
        ("scores", "scores"), {"degrees_of_freedom": "degrees of freedom", "log_scale": "log scales"}, ulps=16
    ),
    "poisson_nll": Signature(("log rates", "counts")),
    "cosine_similarity": _COSINE,
    "cosine_distance": _COSINE,
    "hinge_loss": Signature(("scores", "signs")),
    "perceptron_loss": Signature(("scores", "signs")),
    "sparsemax_loss": Signature(("scores", "binary labels")),
    "multiclass_hinge_loss": _LABELLED,
    "multiclass_perceptron_loss": _LABELLED,
    "multiclass_sparsemax_loss": _LABELLED,
    "policy.sampled_kl": Signature(_ANSWERS),
    "policy.clipped_loss": Signature((*_ANSWERS, "scores")),
    "preference.dpo_loss": Signature((*_ANSWERS, *_ANSWERS), {"beta": "temperatures", "label_smoothing": "fractions"}),
    "preference.ipo_loss": Signature((*_ANSWERS, *_ANSWERS), {"beta": "temperatures"}),
    "preference.kto_loss": Signature(
        _ANSWERS, {"desirable": "choices", "reference_kl": "margins", "beta": "temperatures"}
    ),
    "preference.cpo_loss": Signature(_ANSWERS, {"beta": "temperatures"}),
    "preference.simpo_loss": Signature(_ANSWERS, {"beta": "temperatures", "margin": "margins"}),
    "preference.orpo_loss": Signature(_ANSWERS, {"weight": "temperatures"}),
}
