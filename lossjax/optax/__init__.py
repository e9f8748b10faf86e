"""Every name of ``optax.losses``, with its signature and result dtype: change one import.

    from lossjax import optax as losses        # was: from optax import losses

The losses in ``OWN`` are lossjax's: few-ulp values and gradients, finite where the mathematics is. They give what
optax's give, but for these cases, in which optax's lose digits or are wrong:

* logits far from 0, confident rows, 16-bit inputs (computed in float32, returned in their dtype): they lose no digit;
* a label outside [0, C) gives NaN, in value and gradient, and so does a target that optax's documentation excludes (a
  hinge loss of labels 0 and 1, a negative probability of a divergence or of the poly loss); a ``where`` that hides the
  label gives +inf;
* a class of zero target contributes 0, at logits and log-probabilities of -inf too;
* binary cross-entropy and focal loss at ±inf, ``log_cosh`` near 0, the cosine of a zero vector (0, with gradient 0);
* Kullback-Leibler divergences of distributions are never negative.

All other names (CTC, ranking, dice, contrastive, ``make_fenchel_young_loss``, ``smooth_labels``) are optax's own.
Here arguments broadcast and mix dtypes as optax's do, which the losses of the same names in ``lossjax`` refuse.
"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import optax.losses as _theirs
from jax import Array
from jax.typing import ArrayLike

import lossjax
from lossjax._core import checks
from lossjax._core.domains import AMOUNTS, REALS
from lossjax._core.masks import hide, nan_unless
from lossjax._rules.log_probabilities import LogOptions, log_divergence
from lossjax._softmax.curves import CROSS_ENTROPY
from lossjax._softmax.options import LogitLoss, classes_last
from lossjax.optax._broadcasting import (
    Axes,
    all_axes,
    loss_of_vectors,
    mask_of_entries,
    promoted,
    same_shapes,
    together,
    with_labels,
    with_options,
)

OWN = (
    "convex_kl_divergence", "cosine_distance", "cosine_similarity", "generalized_kl_divergence", "hinge_loss",
    "huber_loss", "kl_divergence", "kl_divergence_with_log_targets", "l2_loss", "log_cosh", "multiclass_hinge_loss",
    "multiclass_perceptron_loss", "multiclass_sparsemax_loss", "perceptron_loss", "poly_loss_cross_entropy",
    "safe_softmax_cross_entropy", "sigmoid_binary_cross_entropy", "sigmoid_focal_loss", "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels", "sparsemax_loss", "squared_error",
)  # fmt: skip
"""The names that lossjax implements."""

REEXPORTED = tuple(name for name in sorted(vars(_theirs)) if not name.startswith("_") and name not in OWN)
"""The names that are optax's own, as many as the optax at hand has."""


def __getattr__(name: str) -> Any:
    if name in REEXPORTED:
        return getattr(_theirs, name)
    raise AttributeError(f"neither lossjax.optax nor optax.losses has {name!r}")


def __dir__() -> list[str]:
    return [*OWN, *REEXPORTED, "OWN", "REEXPORTED"]


# --- regression ------------------------------------------------------------------------------------------------------


def squared_error(predictions: ArrayLike, targets: ArrayLike | None = None) -> Array:
    """``(predictions - targets)²``; targets of 0 if not given. See :func:`lossjax.squared_error`."""
    same_shapes(predictions, targets)
    first, second, dtype = together(predictions, targets)
    return lossjax.squared_error(first, second).astype(dtype)


def l2_loss(predictions: ArrayLike, targets: ArrayLike | None = None) -> Array:
    """Half of :func:`squared_error`."""
    same_shapes(predictions, targets)
    first, second, dtype = together(predictions, targets)
    return (lossjax.squared_error(first, second) / 2).astype(dtype)


def huber_loss(predictions: ArrayLike, targets: ArrayLike | None = None, *, delta: ArrayLike = 1.0) -> Array:
    """See :func:`lossjax.huber_loss`."""
    first, second, dtype = together(predictions, targets)
    first, second, options = with_options(first, second, delta=delta)
    return lossjax.huber_loss(first, second, **options).astype(dtype)


def log_cosh(predictions: ArrayLike, targets: ArrayLike | None = None) -> Array:
    """See :func:`lossjax.log_cosh`, which is accurate near 0."""
    first, second, dtype = together(predictions, targets)
    return lossjax.log_cosh(first, second).astype(dtype)


def cosine_similarity(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: ArrayLike = 0.0,
    axis: Axes = -1,
    where: ArrayLike | None = None,
) -> Array:
    """See :func:`lossjax.cosine_similarity`; ``epsilon`` bounds the squared norms from below."""
    return loss_of_vectors(lossjax.cosine_similarity, predictions, targets, epsilon, axis, where, nothing=0)


def cosine_distance(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: ArrayLike = 0.0,
    axis: Axes = -1,
    where: ArrayLike | None = None,
) -> Array:
    """See :func:`lossjax.cosine_distance`, which keeps its digits where the vectors are nearly parallel."""
    return loss_of_vectors(lossjax.cosine_distance, predictions, targets, epsilon, axis, where, nothing=1)


# --- margins ---------------------------------------------------------------------------------------------------------


def hinge_loss(predictor_outputs: ArrayLike, targets: ArrayLike) -> Array:
    """See :func:`lossjax.hinge_loss`."""
    first, second, dtype = together(predictor_outputs, targets, "predictor_outputs")
    return lossjax.hinge_loss(first, second).astype(dtype)


def perceptron_loss(predictor_outputs: ArrayLike, targets: ArrayLike) -> Array:
    """See :func:`lossjax.perceptron_loss`."""
    same_shapes(predictor_outputs, targets)
    first, second, dtype = together(predictor_outputs, targets, "predictor_outputs")
    return lossjax.perceptron_loss(first, second).astype(dtype)


def sparsemax_loss(logits: ArrayLike, labels: ArrayLike) -> Array:
    """See :func:`lossjax.sparsemax_loss`; any label but 0 counts as 1."""
    first, second, _ = together(logits, jnp.asarray(labels) != 0, "logits")
    return lossjax.sparsemax_loss(first, second.astype(jnp.int32)).astype(first.dtype)


def multiclass_hinge_loss(scores: ArrayLike, labels: ArrayLike) -> Array:
    """See :func:`lossjax.multiclass_hinge_loss`."""
    z, rows, dtype = _scores(scores, labels)
    return lossjax.multiclass_hinge_loss(z, rows).astype(dtype)


def multiclass_perceptron_loss(scores: ArrayLike, labels: ArrayLike) -> Array:
    """See :func:`lossjax.multiclass_perceptron_loss`."""
    z, rows, dtype = _scores(scores, labels)
    return lossjax.multiclass_perceptron_loss(z, rows).astype(dtype)


def multiclass_sparsemax_loss(scores: ArrayLike, labels: ArrayLike) -> Array:
    """See :func:`lossjax.multiclass_sparsemax_loss`."""
    z, rows, dtype = _scores(scores, labels)
    return lossjax.multiclass_sparsemax_loss(z, rows).astype(dtype)


def _scores(scores: ArrayLike, labels: ArrayLike) -> tuple[Array, Array, Any]:
    """Scores, one label per row, and the dtype that optax's one-hot labels in float32 lead to."""
    z = checks.floating("scores", scores)
    z, rows, _ = with_labels(z, labels)
    return z, rows, jnp.promote_types(z.dtype, jnp.float32)


# --- cross-entropies -------------------------------------------------------------------------------------------------


def sigmoid_binary_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Array:
    """See :func:`lossjax.sigmoid_cross_entropy`."""
    first, second, _ = together(logits, labels, "logits")
    return lossjax.sigmoid_cross_entropy(first, second).astype(first.dtype)


def sigmoid_focal_loss(
    logits: ArrayLike, labels: ArrayLike, *, alpha: ArrayLike | None = None, gamma: ArrayLike = 2.0
) -> Array:
    """See :func:`lossjax.sigmoid_focal_loss`."""
    first, second, _ = together(logits, labels, "logits")
    first, second, options = with_options(first, second, alpha=alpha, gamma=gamma)
    return lossjax.sigmoid_focal_loss(first, second, **options).astype(first.dtype)


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, axis: Axes = -1, where: ArrayLike | None = None
) -> Array:
    """See :func:`lossjax.softmax_cross_entropy`; ``where`` is of the rows' shape or, for classes, of the logits'."""
    return _of_distributions(_cross_entropy, logits, labels, axis, where)


def safe_softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Array:
    """:func:`softmax_cross_entropy`, which is safe here."""
    return _of_distributions(_cross_entropy, logits, labels, -1, None)


def poly_loss_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    epsilon: ArrayLike = 2.0,
    axis: Axes = -1,
    where: ArrayLike | None = None,
) -> Array:
    """See :func:`lossjax.poly_cross_entropy`."""
    checks.floating("labels", labels)
    return _of_distributions(lossjax.poly_cross_entropy, logits, labels, axis, where, epsilon=epsilon)


def _cross_entropy(z: Array, t: Array, *, where: Array | None = None) -> Array:
    """Of targets of any sign, as optax's is: one-hot labels times an advantage, or a difference quotient at 0."""
    return LogitLoss.of(z, t, "distributions", domain=REALS, where=where).reduced(CROSS_ENTROPY)


def _of_distributions(
    loss: Any, logits: ArrayLike, labels: ArrayLike, axis: Axes, where: ArrayLike | None, **options: ArrayLike
) -> Array:
    z, t, dtype = together(logits, labels, "logits")
    axes = all_axes(axis, z.ndim)
    z, t, rows = classes_last(z, axes), classes_last(t, axes), None
    if where is not None:
        kept = classes_last(mask_of_entries(where, jnp.shape(logits), axes), axes)
        z, t, rows = jnp.where(kept, z, -jnp.inf), jnp.where(kept, t, 0), jnp.any(kept, axis=-1)
    if not any(map(jnp.ndim, options.values())):
        return loss(z, t, where=rows, **options).astype(dtype)
    names, values = zip(*options.items(), strict=True)  # one number a row

    def of_row(z: Array, t: Array, row: Array, *given: Array) -> Array:
        return loss(z, t, where=row, **dict(zip(names, given, strict=True)))

    every = jnp.vectorize(of_row, signature=f"(c),(c),(){',()' * len(names)}->()")
    with jax.numpy_rank_promotion("allow"):
        losses = every(z, t, jnp.ones(z.shape[:-1], bool) if rows is None else rows, *values)
    return losses.astype(promoted(dtype, *map(jnp.asarray, values)))


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike, labels: ArrayLike, axis: int | tuple[int, ...] = -1, where: ArrayLike | None = None
) -> Array:
    """See the function of this name in ``lossjax``; ``where`` is of the rows' shape or, for classes, of the logits'.

    A hidden label gives +inf: it has probability 0.
    """
    if not isinstance(axis, int | tuple):
        raise ValueError(f"axis must be an integer or a tuple of integers, got {axis!r}")
    z = checks.floating("logits", logits)
    axes = all_axes(axis, z.ndim)
    kept = None if where is None else classes_last(mask_of_entries(where, z.shape, axes), axes)
    z, labels, kept = with_labels(classes_last(z, axes), labels, kept)
    rows = None
    if kept is not None:
        z, rows = jnp.where(kept, z, -jnp.inf), jnp.any(kept, axis=-1)
    return lossjax.softmax_cross_entropy_with_integer_labels(z, labels, where=rows).astype(z.dtype)


# --- divergences -----------------------------------------------------------------------------------------------------


def kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axes = -1, where: ArrayLike | None = None
) -> Array:
    """``Σ t (log t - log_predictions)``: never negative for distributions. At t = 0 the gradient in t is finite."""
    return _divergence(log_predictions, targets, axis, where, log_targets=False, generalized=False)


def kl_divergence_with_log_targets(
    log_predictions: ArrayLike, log_targets: ArrayLike, axis: Axes = -1, where: ArrayLike | None = None
) -> Array:
    """:func:`kl_divergence` with the targets' logarithms: as accurate for close distributions as for distant ones."""
    return _divergence(log_predictions, log_targets, axis, where, log_targets=True, generalized=False)


def generalized_kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axes = -1, where: ArrayLike | None = None
) -> Array:
    """``Σ t (log t - log q) - t + q`` with ``q = exp(log_predictions)``: never negative, whatever the masses."""
    return _divergence(log_predictions, targets, axis, where, log_targets=False, generalized=True)


def convex_kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axes = -1, where: ArrayLike | None = None
) -> Array:
    """Deprecated name of :func:`generalized_kl_divergence`."""
    warnings.warn("convex_kl_divergence: use generalized_kl_divergence instead", DeprecationWarning, stacklevel=2)
    return generalized_kl_divergence(log_predictions, targets, axis, where)


def _divergence(
    log_predictions: ArrayLike,
    targets: ArrayLike,
    axis: Axes,
    where: ArrayLike | None,
    *,
    log_targets: bool,
    generalized: bool,
) -> Array:
    checks.floating("targets", targets)
    a, t, dtype = together(log_predictions, targets, "log_predictions")
    axes = all_axes(axis, a.ndim)
    options = LogOptions(checks.compute_dtype(a, t), log_targets, generalized)
    mask = None if where is None else classes_last(mask_of_entries(where, a.shape), axes)
    a, t = classes_last(a, axes), classes_last(t, axes)
    divergence = log_divergence(options, a, t, mask)
    if not log_targets:
        t = AMOUNTS.named("targets", t, mask)
        divergence = nan_unless(jnp.all(hide(mask, AMOUNTS.contains(t), True), axis=-1), divergence)
    return divergence.astype(dtype)
