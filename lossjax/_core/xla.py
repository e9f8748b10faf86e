"""Minimum and maximum that keep a NaN.

``jnp.maximum(x, 0)`` promises NaN for NaN, and inside a sum XLA's CPU backend gives 0; so does ``jnp.max`` of more than
some thousand numbers (JAX 0.10 and 0.12). A select keeps what it is told to.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def at_least(x: Array, bound: ArrayLike) -> Array:
    """``max(x, bound)``; where they are equal its derivative is the bound's."""
    return jnp.where((x > bound) | jnp.isnan(x), x, bound)


def at_most(x: Array, bound: ArrayLike) -> Array:
    """``min(x, bound)``; where they are equal its derivative is the bound's."""
    return jnp.where((x < bound) | jnp.isnan(x), x, bound)


def between(x: Array, low: ArrayLike, high: ArrayLike) -> Array:
    """x, cut off at both ends."""
    return at_least(at_most(x, high), low)


def largest(x: Array) -> Array:
    """Over the last axis, kept."""
    undefined = jnp.any(jnp.isnan(x), axis=-1, keepdims=True)
    return jnp.where(undefined, jnp.nan, jnp.max(x, axis=-1, keepdims=True))
