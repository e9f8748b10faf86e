"""The closed form of the Euclidean projection onto the probability simplex."""

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._core.masks import nan_unless
from lossjax._core.xla import at_least, largest


def _simplex_forward(y: Array) -> tuple[Array, Array]:
    # Measured from the maximum, every entry is exact or small. The threshold is then at least -1, so no entry below -1
    # is in the support; those entries are raised to -1, so that they do not spoil the sums.
    top = largest(y)
    below = at_least(y - nan_unless(jnp.isfinite(top), top), -1)
    descending = jnp.sort(below, axis=-1, descending=True)
    count = jnp.broadcast_to(jnp.arange(1, y.shape[-1] + 1, dtype=y.dtype), y.shape)
    size = jnp.sum(count * descending > jnp.cumsum(descending, axis=-1) - 1, axis=-1, keepdims=True).astype(y.dtype)
    # Running sums choose the support. Its threshold is summed afresh, because a running sum accumulates rounding.
    threshold = (jnp.sum(jnp.where(count <= size, descending, 0), axis=-1, keepdims=True) - 1) / size
    projection = at_least(below - threshold, 0)
    # An undefined row has no support. Its mask is NaN, so that none of its slopes looks plausible.
    return projection, jnp.where(jnp.isnan(projection), projection, (projection > 0).astype(y.dtype))


def _simplex_backward(support: Array, cotangent: Array) -> tuple[Array]:
    inside = jnp.where(support == 0, 0, cotangent)
    return (support * (inside - jnp.sum(inside, axis=-1, keepdims=True) / jnp.sum(support, axis=-1, keepdims=True)),)


project_to_simplex = closed_form(_simplex_forward, _simplex_backward)
"""``y -> max(y - τ, 0)`` with τ such that the entries sum to 1, over the last axis."""
