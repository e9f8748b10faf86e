"""What the rooms of this package share: argument checks, and two elementary functions without their singularities."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax import _checks
from lossjax._autodiff import closed_form


def vectors(**named: ArrayLike) -> tuple[Array, ...]:
    """The arguments as floats ``[..., n]`` of one shape, n >= 1, in the dtype to compute in."""
    arrays = {name: _checks.floating(name, value) for name, value in named.items()}
    first = next(iter(arrays))
    for name, array in arrays.items():
        _checks.class_axis(array, name, -1)
        _checks.same_shape(name, array.shape, f"of {first}", arrays[first].shape, "use jnp.broadcast_to, or jax.vmap")
    dtype = _checks.compute_dtype(*arrays.values())
    return tuple(array.astype(dtype) for array in arrays.values())


def per_row(name: str, value: ArrayLike, rows: Sequence[int], dtype: Any) -> Array:
    """A real scalar, or one a row, as an array that broadcasts with ``[..., n]``."""
    array = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.bool_) or not jnp.isrealobj(array):
        raise TypeError(f"{name} must be a real number, got {array.dtype}; convert it with .astype(jnp.float32)")
    if array.shape == ():
        return array.astype(dtype)
    _checks.same_shape(name, array.shape, "(one number a row)", rows, "or give a scalar, or use jax.vmap")
    return array.astype(dtype)[..., None]


def norm(x: Array) -> Array:
    """``‖x‖₂`` over the last axis, with the subgradient 0 at x = 0; squares neither overflow nor vanish.

    The scale is a constant to the derivative: the norm does not depend on it.
    """
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    scale = jnp.where((largest == 0) | jnp.isinf(largest), 1, largest)
    squares = jnp.sum(jnp.square(x / scale), axis=-1)
    is_zero = squares == 0
    return jnp.where(is_zero, 0, scale[..., 0] * jnp.sqrt(jnp.where(is_zero, 1, squares)))


def log_ratio(p: Array, q: Array) -> Array:
    """``log(p/q)``, elementwise; relative error below 8u for p near q also, and no overflow of the ratio.

    Gradients 1/p and -1/q. -inf at p = 0, +inf at q = 0, NaN at both.
    """
    return _log_ratio(None, p, q)


def _log_ratio_forward(_: None, p: Array, q: Array) -> tuple[Array, tuple[Array, Array]]:
    # Near q the difference is exact, and log1p of its small quotient loses nothing. Beyond, the logarithm is at least
    # 0.22, and a rounding of the ratio costs 4.5u. Where the ratio leaves the range, the logarithms do not.
    # (A quarter, not a half: XLA's float64 log1p is wrong by up to 240u between -0.41 and -0.36, on CPU.)
    near = jnp.abs(p - q) < 0.25 * q
    ratio = p / q
    in_range = (ratio >= jnp.finfo(p.dtype).tiny) & (ratio < jnp.inf)
    far = jnp.where(in_range, jnp.log(jnp.where(in_range, ratio, 1)), jnp.log(p) - jnp.log(q))
    return jnp.where(near, jnp.log1p(jnp.where(near, (p - q) / jnp.where(near, q, 1), 0)), far), (p, q)


def _log_ratio_backward(_: None, residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    p, q = residuals
    return cotangent / p, -cotangent / q


_log_ratio = closed_form(_log_ratio_forward, _log_ratio_backward)
