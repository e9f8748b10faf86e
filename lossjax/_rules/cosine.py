"""The closed form of the cosine of two vectors."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax._core.xla import total


class Options(NamedTuple):
    """Static options.

    Attributes:
      dtype: the dtype to compute in.
      distance: whether the result is 1 - cosine.
    """

    dtype: Any
    distance: bool


class _Unit(NamedTuple):
    """A vector divided by its length.

    A vector that is shorter than the shortest length allowed is divided by that length. A zero vector stays 0.

    Attributes:
      direction: the quotient.
      inverse: what the vector was multiplied by.
      is_unit: whether the direction has length 1.
      is_short: whether the vector was divided by the shortest length.
    """

    direction: Array
    inverse: Array
    is_unit: Array
    is_short: Array

    @classmethod
    def both(cls, options: Options, a: Array, b: Array, epsilon: Array) -> "tuple[_Unit, _Unit]":
        """Divide both vectors by their lengths, in the dtype to compute in."""
        shortest = jnp.sqrt(epsilon)[..., None]
        return cls.of(a.astype(options.dtype), shortest), cls.of(b.astype(options.dtype), shortest)

    @classmethod
    def of(cls, vector: Array, shortest: Array) -> "_Unit":
        largest = jnp.max(jnp.abs(vector), axis=-1, keepdims=True, initial=0)
        zero = largest == 0
        # This scale is such that neither the squares nor its inverse overflow or vanish.
        most = 2.0 ** (jnp.finfo(vector.dtype).maxexp - 8)
        scale = jnp.clip(largest, 1 / most, most)
        shrunk = vector / scale
        length = jnp.sqrt(total(shrunk * shrunk, keepdims=True))
        length = jnp.where(zero, 1, length)
        short = jnp.where(zero, 0, length * scale) < shortest
        inverse = jnp.where(short, 1 / jnp.where(short, shortest, 1), 1 / length / scale)
        direction = jnp.where(short, vector * inverse, shrunk / length)
        return cls(direction, jnp.where(zero & ~short, 0, inverse), ~(short | zero), short)


def _within(x: Array, low: float, high: float) -> Array:
    """x, which rounding alone carries out of an interval, back in it; with the derivative of x."""
    return x - lax.stop_gradient(x - jnp.clip(x, low, high))


def _cosine_forward(options: Options, a: Array, b: Array, epsilon: Array) -> tuple[Array, Any]:
    unit_a, unit_b = _Unit.both(options, a, b, epsilon)
    value = _within(total(unit_a.direction * unit_b.direction), -1, 1)
    if options.distance:
        apart = total(jnp.square(unit_a.direction - unit_b.direction)) / 2
        value = jnp.where((unit_a.is_unit & unit_b.is_unit)[..., 0], _within(apart, 0, 2), 1 - value)
    return value, (options, a, b, epsilon)


# With unit vectors â and b̂:
#     in a, in general:                         (b̂ - cos â)/‖a‖
#     in a, for close vectors:                  ((b̂ - â) + ½‖b̂ - â‖² â)/‖a‖, the same without cancellation
#     in a, where it was divided by a constant: b̂ divided by that constant
#     in ε, for each vector divided by √ε:      -½ cos/ε
#
# Entry i of b̂ - cos â is Σ_j â_j (â_j b̂_i - â_i b̂_j): a relative change of 1 in each b_j alone changes it by
#
#     c_i = |b̂_i| (1 - â_i²) + |â_i| Σ_{j≠i} |â_j b̂_j|
#
# in all. The terms with j = i cancel. They are no larger than the others while â_i² <= ½, and the first two formulas
# are within a multiple of u c_i. Of an entry with â_i² > ½, of which a vector has at most one, they are left out:
#
#     b̂_i Σ_{j≠i} â_j² - â_i Σ_{j≠i} â_j b̂_j.


def _across(own: Array, other: Array, both_units: Array) -> Array:
    """``b̂ - cos â`` for an â of length 1: what of b̂ is across it."""
    step = other - own
    apart = total(step * step, keepdims=True) / 2
    cosine = total(own * other, keepdims=True)
    usual = jnp.where(both_units & (apart < 0.5), step + apart * own, other - cosine * own)
    dominates = own * own > 0.5
    rest = jnp.where(dominates, 0, own)
    square, product = (total(rest * x, keepdims=True) for x in (rest, other))
    return jnp.where(dominates, other * square - own * product, usual)


def _cosine_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array]:
    options, a, b, epsilon = saved
    unit_a, unit_b = _Unit.both(options, a, b, epsilon)
    cosine = total(unit_a.direction * unit_b.direction, keepdims=True)
    g = cotangent[..., None] * (-1 if options.distance else 1)

    def pulled(own: _Unit, other: _Unit) -> Array:
        across = _across(own.direction, other.direction, own.is_unit & other.is_unit)
        return g * own.inverse * jnp.where(own.is_unit, across, other.direction)

    halves = (unit_a.is_short.astype(g.dtype) + unit_b.is_short.astype(g.dtype)) / 2
    in_epsilon = -g * halves * cosine / jnp.where(halves == 0, 1, epsilon[..., None])
    return None, pulled(unit_a, unit_b), pulled(unit_b, unit_a), in_epsilon[..., 0]


cosine = closed_form(_cosine_forward, _cosine_backward)
"""``(options, a, b, ε) ->`` the cosine of the angle between a and b, or 1 less the cosine, over the last axis."""
