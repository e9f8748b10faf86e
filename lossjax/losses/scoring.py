"""Scores of predicted distributions: the Brier score, and accuracy."""

from typing import Unpack

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.masks import nan_unless
from lossjax._core.options import with_options
from lossjax._core.plain import with_plain
from lossjax._core.reduction import Reduction
from lossjax._rules import brier as rules
from lossjax._softmax.options import LabelOptions, LogitLoss, ScoreOptions


@with_plain
@with_options
def softmax_brier_score(logits: ArrayLike, targets: ArrayLike, **options: Unpack[ScoreOptions]) -> Array:
    r"""Squared distance of ``softmax(logits)`` from the target distribution: a strictly proper, bounded score.

    .. math:: L = \|\hat p - t\|^2

    Domain: any logits that define a softmax; a label stands for its one-hot distribution, targets >= 0. A row with a
    label outside [0, C), or a negative target, is NaN.

    Gradient: :math:`2 J(\hat p)(\hat p - t)` in the logits, with J(p) = diag(p) - p pᵀ, without the matrix;
    :math:`2(t - \hat p)` in float targets.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      targets: ``[...]`` integers in [0, C), or ``[..., C]`` floats.
      **options: the options of :class:`ScoreOptions`.

    Returns:
      A pure number in [0, 2], ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 24u for labels, 24u of p̂ + t for distributions. The score of a confident right row does not round to 0.

    Raises:
      TypeError: logits that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an unknown reduction.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import softmax_brier_score
      >>> [f"{score:.4g}" for score in softmax_brier_score(jnp.array([[0.0, 0.0], [20.0, 0.0]]), jnp.array([0, 0]))]
      ['0.5', '8.497e-18']

    Source: Brier (1950); §4.1.5 (the Bregman divergence of ‖·‖²).
    """
    given = LogitLoss.of(logits, targets, "either", **options)
    static = rules.BrierOptions(given.dtype, given.labelled)
    losses = rules.brier(static, given.logits, given.targets, given.reducer.valid)
    return given.reducer(given.or_nan(losses))


@with_options
def accuracy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    top_k: int = 1,
    reduction: Reduction = "mean",
    **options: Unpack[LabelOptions],
) -> Array:
    r"""Whether the label is among the ``top_k`` largest logits: 1 if it is, 0 if it is not.

    .. math:: \left[\,|\{j : z_j > z_c \text{ or } z_j = z_c,\ j < c\}| < k\,\right]

    With ``top_k=1`` it is ``argmax(logits) == labels``; ties go to the smaller index, as ``argmax`` decides them.

    Domain: logits without NaN, and labels in [0, C); the result of any other row is NaN.

    Gradient: 0 wherever the accuracy is continuous. It is a measure to watch, not a loss to train on.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      labels: ``[...]`` integers in [0, C).
      top_k: how many of the largest logits count as right.
      reduction: "none" (0.0 or 1.0 per row), "sum", or "mean" over the counted rows; an empty mean is 0.
      where: ``[...]`` booleans, one per row; False rows are not counted. Default: None.
      **options: the options of :class:`LabelOptions`.

    Returns:
      A share in [0, 1], or a count with "sum"; ``[...]`` or a scalar, in float32 or wider.

    Accuracy: exact, and a mean is rounded once.

    Raises:
      TypeError: logits that are not floats, labels that are not integers.
      ValueError: shapes that do not agree, ``top_k`` below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import accuracy
      >>> print(accuracy(jnp.array([[1.0, 3.0, 2.0], [5.0, 0.0, 0.0]]), jnp.array([2, 0])))
      0.5

    Source: §4.1.3, with the correction that p̂_y is not the accuracy of arg-max decisions.
    """
    count = checks.integer("top_k", top_k)
    if count < 1:
        raise ValueError(f"top_k must be at least 1, got {count}")
    given = LogitLoss.of(logits, labels, "labels", reduction=reduction, **options)
    z, chosen = lax.stop_gradient(given.logits).astype(given.dtype), given.targets[..., None]
    index = lax.broadcasted_iota(chosen.dtype, z.shape, z.ndim - 1)
    own = jnp.sum(jnp.where(index == chosen, z, 0), axis=-1, keepdims=True)
    ahead = jnp.sum((z > own) | ((z == own) & (index < chosen)), axis=-1, dtype=jnp.int32)
    undefined = jnp.any(jnp.isnan(z), axis=-1) | (given.targets < 0) | (given.targets >= z.shape[-1])
    # 1, or NaN. XLA takes the product of NaN and a converted boolean for 0, but not that with the number 0.
    one = nan_unless(~undefined, jnp.ones(undefined.shape, given.dtype))
    return given.reducer(jnp.where(ahead < count, one, 0 * one))
