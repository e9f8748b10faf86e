"""Arguments to certify each public loss of lossjax with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import lossjax

ROWS, CLASSES = 5, 7


class Sample(NamedTuple):
    """A loss, arguments for it, which of them it is differentiated in, and the units of roundoff it is allowed."""

    name: str
    loss: Callable[..., Any]
    arguments: tuple[np.ndarray, ...]
    argnums: tuple[int, ...]
    ulps: float = 8


def names() -> tuple[str, ...]:
    """The public losses: those with a plain formula to be checked against."""
    loaded = vars(lossjax)  # not what is imported when asked for, and may want an extra
    return tuple(name for name in lossjax.__all__ if hasattr(loaded.get(name), "plain"))


def sample(name: str, dtype: Any) -> Sample:
    """The loss of this name with arguments of this dtype: always the same."""
    random = np.random.default_rng(0)

    def scores(scale: float = 2.0) -> np.ndarray:
        return np.asarray(random.normal(size=(ROWS, CLASSES)) * scale, dtype)

    def distributions() -> np.ndarray:
        return np.asarray(random.dirichlet(np.ones(CLASSES), ROWS), dtype)

    def between(low: float, high: float) -> np.ndarray:
        return np.asarray(random.uniform(low, high, (ROWS, CLASSES)), dtype)

    labels = random.integers(0, CLASSES, ROWS).astype(np.int32)
    binary = random.integers(0, 2, (ROWS, CLASSES)).astype(np.int32)
    signs = np.asarray(2 * binary - 1, dtype)
    loss: Callable[..., Any] = getattr(lossjax, name)
    if name == "sparsemax_loss":
        return Sample(name, loss, (scores(), binary), (0,))
    if name in _WITH_LABELS:
        return Sample(name, loss, (scores(), labels), (0,))
    if name in _OF_LOGITS:
        return Sample(name, loss, (scores(),), (0,))
    if name in _OF_PROBABILITIES:
        return Sample(name, loss, (distributions(),), (0,))
    if name in _OF_TWO_PROBABILITIES:
        return Sample(name, loss, (distributions(), distributions()), (0, 1))
    if name == "softmax_cross_entropy":
        return Sample(name, loss, (scores(), distributions()), (0, 1))
    if name in ("sigmoid_cross_entropy", "sigmoid_focal_loss"):
        return Sample(name, loss, (scores(), between(0, 1)), (0, 1))
    if name in ("hinge_loss", "perceptron_loss"):
        return Sample(name, loss, (scores(), signs), (0,))
    if name == "poisson_nll":
        return Sample(name, loss, (scores(1.0), np.asarray(random.poisson(3, (ROWS, CLASSES)), dtype)), (0,))
    for option, arguments in (
        ("delta", (between(0.5, 2),)), ("level", (between(0.1, 0.9),)), ("log_variance", (scores(1.0),)),
        ("log_scale", (scores(1.0),)),
    ):  # fmt: skip
        if (name, option) in _WITH_OPTION:
            return Sample(name, _bound(loss, option), (scores(), scores(), *arguments), (0, 1, 2))
    if name == "student_t_nll":
        bound = _bound(loss, "degrees_of_freedom", "log_scale")
        # The gradient in ν is a difference of two terms, each within 16u, that nearly cancel at a usual residual.
        return Sample(name, bound, (scores(), scores(), between(1, 30), scores(1.0)), (0, 1, 2, 3), 32)
    return Sample(name, loss, (scores(), scores()), (0, 1))


_WITH_LABELS = (
    "softmax_cross_entropy_with_integer_labels", "softmax_focal_loss", "poly_cross_entropy",
    "generalized_cross_entropy", "softmax_brier_score", "multiclass_hinge_loss", "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
)  # fmt: skip
_OF_LOGITS = ("softmax", "log_softmax", "logsumexp", "softmax_entropy")
_OF_PROBABILITIES = ("self_information", "entropy")
_OF_TWO_PROBABILITIES = ("cross_entropy", "kl_divergence", "jeffreys_divergence", "js_divergence")
_WITH_OPTION = (
    ("huber_loss", "delta"), ("quantile_loss", "level"), ("gaussian_nll", "log_variance"), ("laplace_nll", "log_scale"),
)  # fmt: skip


def _bound(loss: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """The loss with options as further positional arguments."""

    def of(*arguments: Any) -> Any:
        return loss(*arguments[:2], **dict(zip(names, arguments[2:], strict=True)))

    return of
