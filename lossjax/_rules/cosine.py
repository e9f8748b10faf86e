"""The closed form of the cosine of two vectors."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form


class Options(NamedTuple):
    dtype: Any
    distance: bool
    shortest: float


class _Unit(NamedTuple):
    """A vector over its length (over the shortest length allowed, if that is longer; 0 for a zero vector)."""

    direction: Array
    inverse: Array
    is_unit: Array

    @classmethod
    def both(cls, options: Options, a: Array, b: Array) -> "tuple[_Unit, _Unit]":
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


def _cosine_forward(options: Options, a: Array, b: Array) -> tuple[Array, Any]:
    unit_a, unit_b = _Unit.both(options, a, b)
    value = jnp.sum(unit_a.direction * unit_b.direction, axis=-1)
    if options.distance:
        apart = jnp.sum(jnp.square(unit_a.direction - unit_b.direction), axis=-1) / 2
        value = jnp.where((unit_a.is_unit & unit_b.is_unit)[..., 0], apart, 1 - value)
    return value, (options, a, b)


def _cosine_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    options, a, b = saved
    # d cos/da = (b̂ - cos â)/‖a‖; for unit vectors b̂ - cos â = (b̂ - â) + ½‖b̂ - â‖² â, which close vectors want.
    # A vector divided by a constant length has b̂ times its inverse.
    unit_a, unit_b = _Unit.both(options, a, b)
    both = unit_a.is_unit & unit_b.is_unit
    step = unit_b.direction - unit_a.direction
    apart = jnp.sum(step * step, axis=-1, keepdims=True) / 2
    cosine = jnp.sum(unit_a.direction * unit_b.direction, axis=-1, keepdims=True)
    g = cotangent[..., None] * (-1 if options.distance else 1)

    def pulled(own: _Unit, other: _Unit, step: Array) -> Array:
        close = both & (apart < 0.5)
        across = jnp.where(close, step + apart * own.direction, other.direction - cosine * own.direction)
        return g * own.inverse * jnp.where(own.is_unit, across, other.direction)

    return None, pulled(unit_a, unit_b, step), pulled(unit_b, unit_a, -step)


cosine = closed_form(_cosine_forward, _cosine_backward)
