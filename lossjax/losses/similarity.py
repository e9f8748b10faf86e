"""The angle between vectors as a loss."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax import _checks
from lossjax._autodiff import closed_form, with_plain
from lossjax._logit_options import classes_last


@with_plain
def cosine_similarity(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: float = 0.0,
    axis: int | Sequence[int] = -1,
    where: ArrayLike | None = None,
) -> Array:
    r"""The cosine of the angle between two vectors.

    .. math:: \cos(a, b) = \langle a, b\rangle/(\|a\| \|b\|)

    Domain: real vectors of any length: nothing overflows or underflows. A zero vector has no direction: 0, with zero
    gradient.

    Gradient: :math:`(\hat b - \cos\,\hat a)/\|a\|` in a, with :math:`\hat a = a/\|a\|`; likewise in b.

    Args:
      predictions: ``[..., n]`` floats, a.
      targets: ``[..., n]`` floats, the same shape, b.
      epsilon: a static number >= 0: a vector shorter than √ε is divided by √ε instead of its length.
      axis: the axis of the vectors' entries, or several, taken as one.
      where: booleans of the vectors' shape (or one that broadcasts to it); False entries count as 0.

    Returns:
      ``[...]``, a pure number in [-1, 1], in float32 or wider.

    Accuracy: 8u absolute, plus log₂(n)u; the gradient within that of 1/‖a‖.

    Raises:
      TypeError: arguments that are not floats, an ε that is traced.
      ValueError: shapes that do not agree, a negative ε.

    Example:
      >>> import jax.numpy as jnp
      >>> print(cosine_similarity(jnp.array([[3e30, 0.0], [0.0, 0.0]]), jnp.array([[1.0, 0.0], [1.0, 2.0]])))
      [1. 0.]

    Source: §4.1.4 (projection onto a line).
    """
    return _cosine(*_prepared(False, predictions, targets, epsilon, axis, where))


@with_plain
def cosine_distance(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: float = 0.0,
    axis: int | Sequence[int] = -1,
    where: ArrayLike | None = None,
) -> Array:
    r"""One less the cosine of the angle between two vectors.

    .. math:: 1 - \cos(a, b) = \tfrac12 \|\hat a - \hat b\|^2

    The second form does not subtract two nearby numbers: nearly parallel vectors keep their distance.

    Domain: real vectors of any length; the distance of a zero vector from any other is 1, with zero gradient.

    Gradient: the negative of :func:`cosine_similarity`'s.

    Args:
      predictions: ``[..., n]`` floats, a.
      targets: ``[..., n]`` floats, the same shape, b.
      epsilon: a static number >= 0: a vector shorter than √ε is divided by √ε instead of its length.
      axis: the axis of the vectors' entries, or several, taken as one.
      where: booleans of the vectors' shape (or one that broadcasts to it); False entries count as 0.

    Returns:
      ``[...]``, a pure number in [0, 2], in float32 or wider. Never negative.

    Accuracy: with d the distance, (16 + log₂ n)u·√d + 64u² (1 - cos has an error of u, whatever d).

    Raises:
      TypeError: arguments that are not floats, an ε that is traced.
      ValueError: shapes that do not agree, a negative ε.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{cosine_distance(jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-5])):.4g}")
      5e-11

    Source: §4.1.4 (projection onto a line).
    """
    return _cosine(*_prepared(True, predictions, targets, epsilon, axis, where))


class _Options(NamedTuple):
    dtype: Any
    distance: bool
    shortest: float


def _prepared(
    distance: bool,
    predictions: ArrayLike,
    targets: ArrayLike,
    epsilon: float,
    axis: int | Sequence[int],
    where: ArrayLike | None,
) -> tuple[_Options, Array, Array]:
    a, b = _checks.floating("predictions", predictions), _checks.floating("targets", targets)
    _checks.same_shape("targets", b.shape, "of the predictions", a.shape, "give two vectors of one length")
    axes = _checks.class_axis(a, "predictions", axis)
    if where is not None:
        kept = _checks.boolean("where", where)
        _checks.broadcastable("where", kept.shape, a.shape)
        kept = jnp.broadcast_to(kept, a.shape)
        a, b = jnp.where(kept, a, 0), jnp.where(kept, b, 0)
    shortest = _checks.static_nonnegative("epsilon", epsilon) ** 0.5
    options = _Options(_checks.compute_dtype(a, b), distance, shortest)
    return options, classes_last(a, axes), classes_last(b, axes)


class _Unit(NamedTuple):
    """A vector over its length (over the shortest length allowed, if that is longer; 0 for a zero vector)."""

    direction: Array
    inverse: Array
    is_unit: Array

    @classmethod
    def both(cls, options: _Options, a: Array, b: Array) -> "tuple[_Unit, _Unit]":
        """Of both vectors, in the dtype to compute in."""
        return cls.of(a.astype(options.dtype), options.shortest), cls.of(b.astype(options.dtype), options.shortest)

    @classmethod
    def of(cls, vector: Array, shortest: float) -> "_Unit":
        largest = jnp.max(jnp.abs(vector), axis=-1, keepdims=True, initial=0)
        zero = largest == 0
        # Squares neither overflow nor vanish, nor does the inverse of the scale.
        most = 2.0 ** (jnp.finfo(vector.dtype).maxexp - 8)
        scale = jnp.clip(largest, 1 / most, most)
        shrunk = vector / scale
        length = jnp.sqrt(jnp.sum(shrunk * shrunk, axis=-1, keepdims=True))
        length = jnp.where(zero, 1, length)
        short = jnp.where(zero, 0, length * scale) < shortest
        inverse = jnp.where(short, 1 / shortest if shortest else 1, 1 / length / scale)
        direction = jnp.where(short, vector * inverse, shrunk / length)
        return cls(direction, jnp.where(zero & ~short, 0, inverse), ~(short | zero))


def _cosine_forward(options: _Options, a: Array, b: Array) -> tuple[Array, Any]:
    unit_a, unit_b = _Unit.both(options, a, b)
    value = jnp.sum(unit_a.direction * unit_b.direction, axis=-1)
    if options.distance:
        apart = jnp.sum(jnp.square(unit_a.direction - unit_b.direction), axis=-1) / 2
        value = jnp.where((unit_a.is_unit & unit_b.is_unit)[..., 0], apart, 1 - value)
    return value, (a, b)


def _cosine_backward(options: _Options, residuals: Any, cotangent: Array) -> tuple[Array, Array]:
    # d cos/da = (b̂ - cos â)/‖a‖; for unit vectors b̂ - cos â = (b̂ - â) + ½‖b̂ - â‖² â, which close vectors want.
    # A vector divided by a constant length has b̂ times its inverse.
    unit_a, unit_b = _Unit.both(options, *residuals)
    both = unit_a.is_unit & unit_b.is_unit
    step = unit_b.direction - unit_a.direction
    apart = jnp.sum(step * step, axis=-1, keepdims=True) / 2
    cosine = jnp.sum(unit_a.direction * unit_b.direction, axis=-1, keepdims=True)
    g = cotangent[..., None] * (-1 if options.distance else 1)

    def pulled(own: _Unit, other: _Unit, step: Array) -> Array:
        close = both & (apart < 0.5)
        across = jnp.where(close, step + apart * own.direction, other.direction - cosine * own.direction)
        return g * own.inverse * jnp.where(own.is_unit, across, other.direction)

    return pulled(unit_a, unit_b, step), pulled(unit_b, unit_a, -step)


_cosine = closed_form(_cosine_forward, _cosine_backward)
