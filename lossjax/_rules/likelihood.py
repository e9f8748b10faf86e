"""Closed forms of the noise distributions' negative log-likelihoods."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import digamma

from lossjax._core.autodiff import closed_form, scalar_rule
from lossjax._core.elementwise import difference
from lossjax._core.xla import known_anew_on_chips
from lossjax.numerics import log_factorial, psi, times


def _gaussian_nll_forward(dtype: Any, mean: Array, target: Array, log_variance: Array) -> tuple[Array, Any]:
    z = standardized(dtype, mean, target, log_variance / 2)
    square = z * z
    value = 0.5 * (math.log(2 * math.pi) + log_variance + square)
    # Where s tends to -inf, e^-s outgrows s, so an infinite square decides.
    return jnp.where(jnp.isposinf(square), square, value), (dtype, mean, target, log_variance)


def _gaussian_nll_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array]:
    dtype, mean, target, log_variance = saved
    log_variance = known_anew_on_chips(log_variance)
    root_precision = jnp.exp(-log_variance / 2)
    z = standardized(dtype, mean, target, log_variance / 2)
    in_mean = cotangent * times(z, root_precision)
    return None, in_mean, -in_mean, cotangent * 0.5 * (1 - z) * (1 + z)


gaussian_nll = closed_form(_gaussian_nll_forward, _gaussian_nll_backward)
"""``(dtype, mean, target, log-variance s) -> ½ (log 2π + s + (mean - target)² e^-s)``, elementwise."""


def standardized(dtype: Any, location: Array, target: Array, s: Array) -> Array:
    """``(location - target) e^-s``, also where the difference alone overflows."""
    r = difference(dtype, location, target)
    beyond = jnp.isinf(r)
    half = jnp.where(beyond, difference(dtype, location / 2, target / 2), 0)
    return jnp.where(beyond, 2 * scaled(half, s), scaled(jnp.where(beyond, 0, r), s))


def scaled(r: Array, s: Array) -> Array:
    """``r e^-s``, in two steps where e^-s leaves the range of the dtype; an r of 0 or infinity is returned as it is."""
    factor, root = jnp.exp(-s), jnp.exp(-s / 2)
    outside = jnp.isinf(factor) | (factor == 0)
    product = jnp.where(outside, r * root * root, r * jnp.where(outside, 1, factor))
    return jnp.where(((r == 0) | jnp.isinf(r)) & ~jnp.isnan(s), r, product)


def _laplace_forward(dtype: Any, location: Array, target: Array, log_scale: Array) -> tuple[Array, Any]:
    size = jnp.abs(standardized(dtype, location, target, log_scale))
    value = math.log(2) + log_scale + size
    return jnp.where(jnp.isposinf(size), size, value), (dtype, location, target, log_scale)


def _laplace_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array]:
    dtype, location, target, log_scale = saved
    sign, precision = jnp.sign(difference(dtype, location, target)), jnp.exp(-log_scale)
    in_location = cotangent * times(sign, precision)
    size = jnp.abs(standardized(dtype, location, target, log_scale))
    return None, in_location, -in_location, cotangent * (1 - size)


laplace = closed_form(_laplace_forward, _laplace_backward)
"""``(dtype, location, target, log-scale s) -> log 2 + s + |location - target| e^-s``, elementwise."""


class Counts(NamedTuple):
    """Static options of the Poisson loss.

    Attributes:
      of_log: whether the prediction is the logarithm z of the rate λ, or λ itself.
      full: whether log t! is added.
    """

    of_log: bool
    full: bool


def _poisson_nll_forward(counts: Counts, dtype: Any, prediction: Array, target: Array) -> tuple[Array, Any]:
    x, t = prediction.astype(dtype), target.astype(dtype)
    rate, z = (jnp.exp(x), x) if counts.of_log else (x, jnp.log(x))
    # ``times`` makes t z = 0 for t = 0 and z = -inf: at a rate of 0 it is certain that nothing happens. A rate beyond
    # the largest number is the value by itself, since t z may have overflowed too, and ∞ - ∞ is NaN.
    value = jnp.where(jnp.isposinf(rate), rate, rate - times(t, z))
    return value + log_factorial(t) if counts.full else value, (counts, dtype, prediction, target)


# In z it is e^z - t; in λ it is 1 - t/λ, and 1 at t = 0 for every λ. In t it is ψ(t + 1) - z, without log t! it is -z.


def _poisson_nll_backward(saved: Any, cotangent: Array) -> tuple[None, None, Array, Array]:
    counts, dtype, prediction, target = saved
    x, t = prediction.astype(dtype), target.astype(dtype)
    in_target = -x if counts.of_log else -jnp.log(x)
    if counts.full:
        in_target = in_target + digamma(t + 1)
    if counts.of_log:
        return None, None, cotangent * (jnp.exp(x) - t), cotangent * in_target
    never, certain = t == 0, jnp.isposinf(x)
    in_rate = jnp.where(never | certain, 1, (x - t) / jnp.where(never | certain, 1, x))
    return None, None, cotangent * in_rate, cotangent * in_target


poisson_nll = closed_form(_poisson_nll_forward, _poisson_nll_backward)
"""``(counts, dtype, z or λ, target t >= 0) -> e^z - t z``, or ``λ - t log λ``, and ``log t!`` if full, elementwise."""


# The constants of Student's t, with x = ν/2:
#
#     h(x) = ½ log x + log Γ(x) - log Γ(x + ½) = 1/(8x) - 1/(192x³) + 1/(640x⁵) - …
#
# The series is used from x = 16 on, where what is left out is below 2^-53 of h, and of its slope. Below, h climbs:
#
#     h(a) - h(a + 1) = log(1 + ½/a) - ½ log(1 + 1/a) = ½ log(1 + ¼/(a(a + 1))),    of slope -1/(4a(a + ½)(a + 1)),
#
# all steps of one sign, and so are their slopes: neither h nor its slope cancels.
_CLIMBED = 16
_SERIES = (1 / 8, -1 / 192, 1 / 640, -17 / 14336, 31 / 18432, -691 / 180224, 5461 / 425984)


def _climb(nu: Array, step: Callable[[Array], Array], series: Callable[[Array], Array]) -> Array:
    x = nu / 2
    small = x < _CLIMBED
    low = jnp.where(small, x, 1)
    climbed = sum(step(low + i) for i in range(_CLIMBED))
    return series(1 / jnp.where(small, low + _CLIMBED, x)) + jnp.where(small, climbed, 0)


def _series(inverse: Array, coefficients: Sequence[float]) -> Array:
    total = jnp.zeros_like(inverse)
    for coefficient in reversed(coefficients):
        total = coefficient + inverse * inverse * total
    return inverse * total


def _normalizer_slope(nu: Array) -> Array:
    of_powers = tuple(-(2 * k + 1) * coefficient for k, coefficient in enumerate(_SERIES))
    return 0.5 * _climb(
        nu,
        lambda a: -0.25 / a / ((a + 0.5) * (a + 1)),
        lambda inverse: inverse * _series(inverse, of_powers),
    )


@scalar_rule(lambda g, nu: g * _normalizer_slope(nu))
def normalizer(nu: Array) -> Array:
    """``½ log(ν/2) + log Γ(ν/2) - log Γ((ν+1)/2)``, which is about 1/(4ν)."""
    return _climb(
        nu,
        lambda a: 0.5 * jnp.log1p(0.25 / a / (a + 1)),
        lambda inverse: _series(inverse, _SERIES),
    )


def _limit(nu: Array) -> tuple[Array, Array]:
    """Whether ν is infinite, where the distribution is a Gaussian; and ν, or 1 there."""
    gaussian = jnp.isposinf(nu)
    return gaussian, jnp.where(gaussian, 1, nu)


def _t_parts(dtype: Any, location: Array, target: Array, nu: Array, log_scale: Array) -> tuple[Array, Array, Array]:
    """For t = r e^-s/√ν:  log(1 + t²), t²/(1 + t²) and t/(1 + t²). Both t² and t may overflow."""
    t = standardized(dtype, location, target, log_scale) / jnp.sqrt(nu)
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
    gaussian, finite = _limit(nu)
    log_square, _, _ = _t_parts(dtype, location, target, finite, log_scale)
    half_square = 0.5 * jnp.square(standardized(dtype, location, target, log_scale))
    spread = jnp.where(gaussian, half_square, (finite + 1) / 2 * log_square)
    value = spread + log_scale + (constant + math.log(2 * math.pi) / 2)
    return jnp.where(jnp.isposinf(spread), spread, value), (dtype, location, target, nu, log_scale)


def _t_scale_slope(z: Array, nu: Array) -> Array:
    """``1 - (ν + 1) q = (1 - z²)/(1 + z²/ν)``. Where z² > ν, both are divided by z²/ν: z² may overflow."""
    root = jnp.sqrt(nu)
    far = jnp.abs(z) > root
    inner, inverse = jnp.where(far, 0, z), root / jnp.where(far, z, root)
    centre = (1 - inner) * (1 + inner) / (1 + jnp.square(inner / root))
    tail = root * (1 / jnp.where(far, z, 1) - 1) * (inverse + root)
    return jnp.where(far, tail / (1 + inverse * inverse), centre)


def _student_t_backward(saved: Any, cotangent: Array) -> tuple[Any, ...]:
    dtype, location, target, nu, log_scale = saved
    location, nu, log_scale = map(known_anew_on_chips, (location, nu, log_scale))
    gaussian, nu = _limit(nu)
    log_square, q, slope = _t_parts(dtype, location, target, nu, log_scale)
    half = difference(dtype, location / 2, target / 2)
    far = q == 1  # Here slope and e^-s may each leave the range, while their product √ν/r does not.
    scaled = times((nu + 1) / jnp.sqrt(nu) * slope, jnp.exp(-log_scale))
    in_location = jnp.where(far, 0.5 * (nu + 1) / jnp.where(far, half, 1), scaled)
    # In ν the slope is ½ log(1 + t²) - ½ (1 + 1/ν) q. Where q is small log(1 + t²) - q nearly cancels; it is ψ(-q).
    excess = jnp.where(q < 0.5, psi(-jnp.where(q < 0.5, q, 0)), log_square - q)
    in_nu = jnp.where(gaussian, 0, (excess - q / nu) / 2)
    z = standardized(dtype, location, target, log_scale)
    in_location = cotangent * jnp.where(gaussian, times(z, jnp.exp(-log_scale)), in_location)
    in_scale = jnp.where(gaussian, (1 - z) * (1 + z), _t_scale_slope(z, nu))
    return None, in_location, -in_location, cotangent * in_nu, cotangent * in_scale, cotangent


student_t = closed_form(_student_t_forward, _student_t_backward)
"""``(dtype, location, target, degrees of freedom, log-scale, normalizer) -> loss``, elementwise."""
