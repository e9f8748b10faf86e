"""Closed forms of the errors: squared, Huber, log-cosh, pinball."""

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._core.elementwise import difference
from lossjax._core.xla import at_least, at_most, between
from lossjax.numerics import times


def _squared_error_forward(dtype: Any, prediction: Array, target: Array) -> tuple[Array, Any]:
    error = difference(dtype, prediction, target)
    return error * error, (dtype, prediction, target)


def _squared_error_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    dtype, prediction, target = saved
    in_prediction = 2 * cotangent * difference(dtype, prediction, target)
    return None, in_prediction, -in_prediction


squared_error = closed_form(_squared_error_forward, _squared_error_backward)
"""``(dtype, prediction, target) -> (prediction - target)²``, elementwise."""


def _huber_forward(dtype: Any, prediction: Array, target: Array, delta: Array) -> tuple[Array, Any]:
    size = jnp.abs(difference(dtype, prediction, target))
    inner = at_most(size, delta)
    half = jnp.abs(difference(dtype, prediction / 2, target / 2))  # The difference itself may overflow.
    return inner * (inner / 2) + 2 * times(half - inner / 2, delta), (dtype, prediction, target, delta)


def _huber_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array]:
    dtype, prediction, target, delta = saved
    r = difference(dtype, prediction, target)
    in_prediction = cotangent * between(r, -delta, delta)
    return None, in_prediction, -in_prediction, cotangent * at_least(jnp.abs(r) - delta, 0)


huber = closed_form(_huber_forward, _huber_backward)
"""``(dtype, prediction, target, δ) -> r²/2`` for an error of size r <= δ, ``δ (r - δ/2)`` beyond, elementwise."""


def _log_cosh_forward(dtype: Any, prediction: Array, target: Array) -> tuple[Array, Any]:
    size = jnp.abs(difference(dtype, prediction, target))
    near = size < 1
    grown = jnp.expm1(jnp.where(near, size, 0))
    sinh = (grown + grown / (1 + grown)) / 2
    small = jnp.log1p(sinh * sinh) / 2
    large = (size - math.log(2)) + jnp.log1p(jnp.exp(-2 * size))
    return jnp.where(near, small, large), (dtype, prediction, target)


def _log_cosh_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    dtype, prediction, target = saved
    in_prediction = cotangent * jnp.tanh(difference(dtype, prediction, target))
    return None, in_prediction, -in_prediction


log_cosh = closed_form(_log_cosh_forward, _log_cosh_backward)
"""``(dtype, prediction, target) -> log cosh(prediction - target)``, elementwise."""


def _quantile_forward(dtype: Any, prediction: Array, target: Array, level: Array) -> tuple[Array, Any]:
    half = difference(dtype, prediction / 2, target / 2)  # The difference itself may overflow.
    value = 2 * jnp.where(half < 0, -times(level, half), times(1 - level, half))
    return jnp.where(jnp.isnan(half), half, value), (dtype, prediction, target, level)


def _quantile_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array]:
    dtype, prediction, target, level = saved
    r = difference(dtype, prediction, target)
    slope = jnp.where(r < 0, -level, jnp.where(r > 0, 1 - level, 0 * r))  # 0·r keeps a NaN.
    return None, cotangent * slope, -cotangent * slope, -cotangent * r


quantile = closed_form(_quantile_forward, _quantile_backward)
"""``(dtype, prediction, target, level) -> max(-level·r, (1 - level)·r)`` of r = prediction - target, elementwise."""


# Smooth L1: with q = min(|r|, β) it is ½ q (q/β) + (|r| - q), which at β = 0 is |r|. In r its slope is r/β cut off at
# ±1, in β it is -½ (q/β)².


def _share(size: Array, beta: Array) -> Array:
    """``min(|r|, β)/β``; where β is 0, 1 for any error but 0."""
    none = beta == 0
    return jnp.where(none, jnp.sign(size), at_most(size / jnp.where(none, 1, beta), 1))


def _smooth_l1_forward(dtype: Any, prediction: Array, target: Array, beta: Array) -> tuple[Array, Any]:
    size = jnp.abs(difference(dtype, prediction, target))
    inner = at_most(size, beta)
    beyond = jnp.where(size > beta, size - jnp.where(size > beta, beta, 0), 0)
    return times(_share(size, beta), inner / 2) + beyond, (dtype, prediction, target, beta)


def _smooth_l1_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array]:
    dtype, prediction, target, beta = saved
    r = difference(dtype, prediction, target)
    share = _share(jnp.abs(r), beta)
    in_prediction = cotangent * share * jnp.sign(r)
    return None, in_prediction, -in_prediction, -0.5 * cotangent * share * share


smooth_l1 = closed_form(_smooth_l1_forward, _smooth_l1_backward)
"""``(dtype, prediction, target, β) -> r²/(2β)`` for an error of size r <= β, ``r - β/2`` beyond, elementwise."""

# Pseudo-Huber: with x = r/δ and h = √(1 + x²) it is δ²(h - 1), where h - 1 = x²/(1 + h), in which nothing cancels.
#
#     loss = r (r/(1 + h))  for |x| < 1,  else  δ |r| · |x|/(1 + h), whose last factor is at most 1
#     in r: r/h = δ sign(r)/√(1 + 1/x²)        in δ: δ (h - 1)²/h = m (h - 1)/h  with  m = δ(h - 1) = |r| |x|/(1 + h)


def _pseudo_huber_parts(r: Array, delta: Array) -> tuple[Array, Array, Array, Array]:
    """Whether |x| < 1; there h, else 1/√(1 + 1/x²); ``|x|/(1 + h)``; and ``(h - 1)/h``."""
    x = jnp.abs(r) / delta
    near = x < 1
    small, inverse = jnp.where(near, x, 0), 1 / jnp.where(near, 1, x)
    inner, outer = jnp.sqrt(1 + small * small), jnp.sqrt(1 + inverse * inverse)
    share = jnp.where(near, small / (1 + inner), 1 / (inverse + outer))
    rise = jnp.where(near, small * share / inner, 1 - inverse / outer)
    return near, jnp.where(near, inner, 1 / outer), share, rise


def _pseudo_huber_forward(dtype: Any, prediction: Array, target: Array, delta: Array) -> tuple[Array, Any]:
    r = difference(dtype, prediction, target)
    near, root, share, _ = _pseudo_huber_parts(r, delta)
    half = jnp.abs(difference(dtype, prediction / 2, target / 2))  # The difference itself may overflow.
    within = jnp.where(near, r, 0)
    value = jnp.where(near, within * (within / (1 + root)), 2 * times(share * half, jnp.where(near, 1, delta)))
    return value, (dtype, prediction, target, delta)


def _pseudo_huber_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array]:
    dtype, prediction, target, delta = saved
    r = difference(dtype, prediction, target)
    near, root, share, rise = _pseudo_huber_parts(r, delta)
    within = jnp.where(near, r, 0)
    in_prediction = cotangent * jnp.where(near, within / root, root * jnp.sign(r) * jnp.where(near, 1, delta))
    return None, in_prediction, -in_prediction, cotangent * times(share * rise, jnp.abs(r))


pseudo_huber = closed_form(_pseudo_huber_forward, _pseudo_huber_backward)
"""``(dtype, prediction, target, δ) -> δ² (√(1 + (r/δ)²) - 1)`` of r = prediction - target, elementwise."""
