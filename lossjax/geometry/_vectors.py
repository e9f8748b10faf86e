"""Vectors on the last axis: their argument checks, and a norm whose derivative at 0 is 0."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core import checks


def vectors(**named: ArrayLike) -> tuple[Array, ...]:
    """The arguments as floats ``[..., n]`` of one shape, n >= 1, in the dtype to compute in."""
    arrays = {name: checks.floating(name, value) for name, value in named.items()}
    first = next(iter(arrays))
    for name, array in arrays.items():
        checks.class_axis(array, name, -1)
        checks.same_shape(name, array.shape, f"of {first}", arrays[first].shape, "use jnp.broadcast_to, or jax.vmap")
    dtype = checks.compute_dtype(*arrays.values())
    return tuple(array.astype(dtype) for array in arrays.values())


def per_row(name: str, value: ArrayLike, rows: Sequence[int], dtype: Any) -> Array:
    """A real number, or one number per row, as an array that broadcasts with ``[..., n]``."""
    array = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.bool_) or not jnp.isrealobj(array):
        raise TypeError(f"{name} must be a real number, got {array.dtype}; convert it with .astype(jnp.float32)")
    if array.shape == ():
        return array.astype(dtype)
    checks.same_shape(name, array.shape, "(one number per row)", rows, "or give a scalar, or use jax.vmap")
    return array.astype(dtype)[..., None]


def norm(x: Array) -> Array:
    """``‖x‖₂`` over the last axis, with the subgradient 0 at x = 0.

    The vector is scaled by its largest entry first, so that no square overflows or vanishes. The norm does not depend
    on that scale, which is therefore a constant to the derivative.
    """
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    scale = jnp.where((largest == 0) | jnp.isinf(largest), 1, largest)
    squares = jnp.sum(jnp.square(x / scale), axis=-1)
    is_zero = squares == 0
    return jnp.where(is_zero, 0, scale[..., 0] * jnp.sqrt(jnp.where(is_zero, 1, squares)))
