"""The rules of the policy losses: functions of two log-probabilities of one token.

With x = log q - log p, taken as the rounded difference and its rounding error (e^x magnifies the error by x),

    k3 = ξ(x) = e^x - 1 - x        ∂k3/∂x = e^x - 1

and with r = e^{log p - log p_old}, the advantage A, and the bounds 1 - a and 1 + b of the ratio,

    loss = -min(r A, clip(r, 1 - a, 1 + b) A) = -A·(the ratio, or the bound that it has passed in A's favour)

A's favour is upwards for A > 0 and downwards for A < 0; at the bound itself the ratio counts. So the gradient is -A r
in log p where the ratio counts and 0 elsewhere, -(the ratio or bound) in A, and -A or A in a bound's width where the
bound counts.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._core.xla import known_anew_on_chips
from lossjax.numerics import exact_difference, expm1, xi


def _shifted(value: Array, slope: Array, error: Array) -> Array:
    """A function at x + error, from its value and slope at x; where the slope is infinite the value is."""
    return value + error * jnp.where(jnp.isfinite(slope), slope, 0)


def _k3_forward(dtype: Any, log_p: Array, log_q: Array) -> tuple[Array, Any]:
    x, error = exact_difference(log_q.astype(dtype), log_p.astype(dtype))
    return _shifted(xi(x), expm1(x), error), (dtype, log_p, log_q)


def _k3_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    dtype, log_p, log_q = saved
    log_p = known_anew_on_chips(log_p)
    x, error = exact_difference(log_q.astype(dtype), log_p.astype(dtype))
    slope = cotangent * _shifted(expm1(x), jnp.exp(x), error)
    return None, -slope, slope


k3 = closed_form(_k3_forward, _k3_backward)
"""``(dtype, log_p, log_q) -> ξ(log_q - log_p)``, elementwise."""


def _ratio(dtype: Any, log_p: Array, log_old: Array) -> Array:
    exponent, error = exact_difference(log_p.astype(dtype), log_old.astype(dtype))
    ratio = jnp.exp(exponent)
    return _shifted(ratio, ratio, error)


def _bounded(ratio: Array, advantage: Array, below: Array, above: Array) -> tuple[Array, Array, Array]:
    """The ratio or the bound that counts, and whether that is the lower or the upper bound."""
    at_lower = (advantage < 0) & (ratio < 1 - below)
    at_upper = (advantage > 0) & (ratio > 1 + above)
    return jnp.where(at_upper, 1 + above, jnp.where(at_lower, 1 - below, ratio)), at_lower, at_upper


def _scaled(advantage: Array, ratio: Array) -> Array:
    """``A r`` where A = 0 silences an infinite ratio, but not one that is NaN."""
    return advantage * jnp.where((advantage == 0) & jnp.isinf(ratio), 0, ratio)


def _clipped_forward(
    dtype: Any, log_p: Array, log_old: Array, advantage: Array, below: Array, above: Array
) -> tuple[Array, Any]:
    factor, _, _ = _bounded(_ratio(dtype, log_p, log_old), advantage, below, above)
    return -_scaled(advantage, factor), (dtype, log_p, log_old, advantage, below, above)


def _clipped_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array, Array, Array]:
    dtype, log_p, log_old, advantage, below, above = saved
    log_p = known_anew_on_chips(log_p)
    ratio = _ratio(dtype, log_p, log_old)
    factor, at_lower, at_upper = _bounded(ratio, advantage, below, above)
    in_log_p = -cotangent * _scaled(jnp.where(at_lower | at_upper, 0, advantage), ratio)
    in_below, in_above = jnp.where(at_lower, advantage, 0), jnp.where(at_upper, -advantage, 0)
    return None, in_log_p, -in_log_p, -cotangent * factor, cotangent * in_below, cotangent * in_above


clipped = closed_form(_clipped_forward, _clipped_backward)
"""``(dtype, log_p, log_old, advantage, below, above) -> loss``, elementwise."""
