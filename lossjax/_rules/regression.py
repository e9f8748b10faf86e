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
