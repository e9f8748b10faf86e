"""Closed forms of the noise distributions' negative log-likelihoods."""

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._core.elementwise import difference
from lossjax.numerics import psi, times


def _gaussian_nll_forward(dtype: Any, mean: Array, target: Array, log_variance: Array) -> tuple[Array, Any]:
    standardized = scaled(difference(dtype, mean, target), log_variance / 2)
    square = standardized * standardized
    value = 0.5 * (math.log(2 * math.pi) + log_variance + square)
    # Where s tends to -inf, e^-s outgrows s, so an infinite square decides.
    return jnp.where(jnp.isposinf(square), square, value), (dtype, mean, target, log_variance)


def _gaussian_nll_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array]:
    dtype, mean, target, log_variance = saved
    root_precision = jnp.exp(-log_variance / 2)
    standardized = scaled(difference(dtype, mean, target), log_variance / 2)
    in_mean = cotangent * times(standardized, root_precision)
    return None, in_mean, -in_mean, cotangent * 0.5 * (1 - standardized) * (1 + standardized)


gaussian_nll = closed_form(_gaussian_nll_forward, _gaussian_nll_backward)
"""``(dtype, mean, target, log-variance s) -> ½ (log 2π + s + (mean - target)² e^-s)``, elementwise."""


def scaled(r: Array, s: Array) -> Array:
    """``r e^-s``, in two steps where e^-s leaves the range of the dtype; an r of 0 or infinity is returned as it is."""
    factor, root = jnp.exp(-s), jnp.exp(-s / 2)
    outside = jnp.isinf(factor) | (factor == 0)
    product = jnp.where(outside, r * root * root, r * jnp.where(outside, 1, factor))
    return jnp.where(((r == 0) | jnp.isinf(r)) & ~jnp.isnan(s), r, product)


def _laplace_forward(dtype: Any, location: Array, target: Array, log_scale: Array) -> tuple[Array, Any]:
    standardized = jnp.abs(scaled(difference(dtype, location, target), log_scale))
    value = math.log(2) + log_scale + standardized
    return jnp.where(jnp.isposinf(standardized), standardized, value), (dtype, location, target, log_scale)


def _laplace_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array]:
    dtype, location, target, log_scale = saved
    r, precision = difference(dtype, location, target), jnp.exp(-log_scale)
    in_location = cotangent * times(jnp.sign(r), precision)
    return None, in_location, -in_location, cotangent * (1 - jnp.abs(scaled(r, log_scale)))


laplace = closed_form(_laplace_forward, _laplace_backward)
"""``(dtype, location, target, log-scale s) -> log 2 + s + |location - target| e^-s``, elementwise."""


def _poisson_nll_forward(dtype: Any, log_rate: Array, target: Array) -> tuple[Array, Any]:
    z, t = log_rate.astype(dtype), target.astype(dtype)
    rate = jnp.exp(z)
    # ``times`` makes t z = 0 for t = 0 and z = -inf: at a rate of 0 it is certain that nothing happens. A rate beyond
    # the largest number is the value by itself, since t z may have overflowed too, and ∞ - ∞ is NaN.
    value = jnp.where(jnp.isposinf(rate), rate, rate - times(t, z))
    return value, (dtype, log_rate, target)


def _poisson_nll_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    dtype, log_rate, target = saved
    z, t = log_rate.astype(dtype), target.astype(dtype)
    return None, cotangent * (jnp.exp(z) - t), -cotangent * z


poisson_nll = closed_form(_poisson_nll_forward, _poisson_nll_backward)
"""``(dtype, log-rate z, target t >= 0) -> e^z - t z``, elementwise."""


def normalizer(nu: Array) -> Array:
    """``½ log(ν/2) + log Γ(ν/2) - log Γ((ν+1)/2)``, which is about 1/(4ν). It is a formula, which JAX differentiates.

    With x = ν/2, the recurrence h(x) = h(x + n) + ½ log(x/(x + n)) + Σ_{i<n} log(1 + ½/(x + i)) climbs to an x at which
    the terms of the asymptotic series 1/(8x) - 1/(192x³) + … that are left out are below 2^-53.
    """
    x = nu / 2
    steps = 16
    small = x < steps
    low = jnp.where(small, x, 1)
    climbed = sum(jnp.log1p(0.5 / (low + i)) for i in range(steps)) + 0.5 * jnp.log(low / (low + steps))
    inverse = 1 / jnp.where(small, low + steps, x)
    square = inverse * inverse
    series = jnp.zeros_like(x)
    for coefficient in (-691 / 180224, 31 / 18432, -17 / 14336, 1 / 640, -1 / 192, 1 / 8):
        series = coefficient + square * series
    return inverse * series + jnp.where(small, climbed, 0)


def _t_parts(dtype: Any, location: Array, target: Array, nu: Array, log_scale: Array) -> tuple[Array, Array, Array]:
    """For t = r e^-s/√ν:  log(1 + t²), t²/(1 + t²) and t/(1 + t²). Both t² and t may overflow."""
    r = difference(dtype, location, target)
    t = times(r, jnp.exp(-log_scale) / jnp.sqrt(nu))
    near = jnp.abs(t) < 1
    inner, outer = jnp.where(near, t, 0), 1 / jnp.where(near, 1, t)
    slope = jnp.where(near, inner / (1 + inner * inner), outer / (1 + outer * outer))
    share = jnp.where(near, inner * slope, 1 / (1 + outer * outer))
    huge = jnp.abs(t) > 1e15  # Here log t is as accurate when it is the sum of its parts' logarithms.
    half = difference(dtype, location / 2, target / 2)  # The difference itself may overflow.
    size = math.log(2) + jnp.log(jnp.abs(jnp.where(huge, half, 1)))
    log_t = jnp.where(huge, size - log_scale - jnp.log(nu) / 2, 0)
    beyond = jnp.where(huge, 2 * log_t, jnp.log1p(outer * outer) - 2 * jnp.log(jnp.abs(jnp.where(huge, 1, outer))))
    return jnp.where(near, jnp.log1p(inner * inner), beyond), share, slope


def _student_t_forward(
    dtype: Any, location: Array, target: Array, nu: Array, log_scale: Array, constant: Array
) -> tuple[Array, Any]:
    log_square, _, _ = _t_parts(dtype, location, target, nu, log_scale)
    value = (nu + 1) / 2 * log_square + log_scale + (constant + math.log(2 * math.pi) / 2)
    return jnp.where(jnp.isposinf(log_square), log_square, value), (dtype, location, target, nu, log_scale)


def _student_t_backward(saved: Any, cotangent: Array) -> tuple[Any, ...]:
    dtype, location, target, nu, log_scale = saved
    log_square, q, slope = _t_parts(dtype, location, target, nu, log_scale)
    half = difference(dtype, location / 2, target / 2)
    far = q == 1  # Here slope and e^-s may each leave the range, while their product √ν/r does not.
    scaled = times((nu + 1) / jnp.sqrt(nu) * slope, jnp.exp(-log_scale))
    in_location = cotangent * jnp.where(far, 0.5 * (nu + 1) / jnp.where(far, half, 1), scaled)
    # In ν the slope is ½ log(1 + t²) - ½ (1 + 1/ν) q. Where q is small log(1 + t²) - q nearly cancels; it is ψ(-q).
    excess = jnp.where(q < 0.5, psi(-jnp.where(q < 0.5, q, 0)), log_square - q)
    in_nu = (excess - q / nu) / 2
    return None, in_location, -in_location, cotangent * in_nu, cotangent * (1 - (nu + 1) * q), cotangent


student_t = closed_form(_student_t_forward, _student_t_backward)
"""``(dtype, location, target, degrees of freedom, log-scale, normalizer) -> loss``, elementwise."""
