"""The angle between vectors as a loss."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.masks import hide, nan_unless
from lossjax._core.plain import with_plain
from lossjax._rules import cosine as rules
from lossjax._softmax.inputs import classes_last


@with_plain
def cosine_similarity(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: ArrayLike = 0.0,
    axis: int | Sequence[int] = -1,
    where: ArrayLike | None = None,
) -> Array:
    r"""The cosine of the angle between two vectors.

    .. math:: \cos(a, b) = \langle a, b\rangle/(\|a\| \|b\|)

    Domain: real vectors of any length; nothing overflows or underflows. A zero vector has no direction: its cosine is
    0, with zero gradient.

    Gradient: :math:`(\hat b - \cos\,\hat a)/\|a\|` in a, with :math:`\hat a = a/\|a\|`, and with a and b exchanged in
    b; -½ cos/ε in ε for each vector that was divided by √ε.

    Args:
      predictions: ``[..., n]`` floats, a.
      targets: ``[..., n]`` floats of the shape of the predictions, b.
      epsilon: ε >= 0, a number, or an array that broadcasts to the shape of the result: a vector shorter than √ε is
        divided by √ε instead of its length.
      axis: the axis of the vectors' entries, or several axes that are taken as one.
      where: booleans of the shape of the vectors, or of one that broadcasts to it; False entries count as 0.

    Returns:
      ``[...]``, a pure number in [-1, 1], in float32 or wider.

    Accuracy: an absolute error within (8 + log₂ n)u. Entry i of the gradient in a is within (16 + log₂ n)u of
    :math:`(|\hat b_i| (1 - \hat a_i^2) + |\hat a_i| \sum_{j \neq i} |\hat a_j \hat b_j|)/\|a\|`, which is what
    rounding b changes, and far less than 1/‖a‖ for an entry that dominates its vector.

    Raises:
      TypeError: arguments that are not floats.
      ValueError: shapes that do not agree, a negative ε.

    Example:
      >>> import jax.numpy as jnp
      >>> print(cosine_similarity(jnp.array([[3e30, 0.0], [0.0, 0.0]]), jnp.array([[1.0, 0.0], [1.0, 2.0]])))
      [1. 0.]

    Source: §4.1.4 (projection onto a line).
    """
    return _cosine(False, predictions, targets, epsilon, axis, where)


@with_plain
def cosine_distance(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: ArrayLike = 0.0,
    axis: int | Sequence[int] = -1,
    where: ArrayLike | None = None,
) -> Array:
    r"""One minus the cosine of the angle between two vectors.

    .. math:: 1 - \cos(a, b) = \tfrac12 \|\hat a - \hat b\|^2

    The second form does not subtract two nearby numbers: nearly parallel vectors keep their distance.

    Domain: real vectors of any length; the distance of a zero vector from any other is 1, with zero gradient.

    Gradient: the negative of :func:`cosine_similarity`'s.

    Args:
      predictions: ``[..., n]`` floats, a.
      targets: ``[..., n]`` floats of the shape of the predictions, b.
      epsilon: ε >= 0, a number, or an array that broadcasts to the shape of the result: a vector shorter than √ε is
        divided by √ε instead of its length.
      axis: the axis of the vectors' entries, or several axes that are taken as one.
      where: booleans of the shape of the vectors, or of one that broadcasts to it; False entries count as 0.

    Returns:
      ``[...]``, a pure number in [0, 2], in float32 or wider. Never negative.

    Accuracy: (16 + log₂ n)u·√d + 64u², with d the distance (1 - cos has an error of 1u, whatever d). The gradient's is
    that of :func:`cosine_similarity`.

    Raises:
      TypeError: arguments that are not floats.
      ValueError: shapes that do not agree, a negative ε.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{cosine_distance(jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-5])):.4g}")
      5e-11

    Source: §4.1.4 (projection onto a line).
    """
    return _cosine(True, predictions, targets, epsilon, axis, where)


def _cosine(
    distance: bool,
    predictions: ArrayLike,
    targets: ArrayLike,
    epsilon: ArrayLike,
    axis: int | Sequence[int],
    where: ArrayLike | None,
) -> Array:
    a, b = checks.floating("predictions", predictions), checks.floating("targets", targets)
    checks.same_shape("targets", b.shape, "of the predictions", a.shape, "give two vectors of one length")
    axes = checks.class_axis(a, "predictions", axis)
    if where is not None:
        kept = checks.boolean("where", where)
        checks.broadcastable("where", kept.shape, a.shape)
        kept = jnp.broadcast_to(kept, a.shape)
        a, b = hide(kept, a), hide(kept, b)
    a, b = classes_last(a, axes), classes_last(b, axes)
    squared = checks.nonnegative("epsilon", epsilon)
    checks.broadcastable("epsilon", squared.shape, a.shape[:-1])
    dtype = checks.compute_dtype(a, b, squared)
    squared = jnp.broadcast_to(squared.astype(dtype), a.shape[:-1])
    return nan_unless(~jnp.isnan(squared), rules.cosine(rules.Options(dtype, distance), a, b, squared))
