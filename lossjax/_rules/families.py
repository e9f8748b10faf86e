"""Divergences of two members by non-negative terms, and their gradients, which JAX would find by terms that cancel.

Of natural parameters, D = A(q) - A(p) - A'(p)(q - p):  A'(q) - A'(p) in q,  -A''(p)(q - p) in p.
Of means, D = A*(y) - A*(m) - A*'(m)(y - m):  the difference of the natural parameters in y,  (m - y)/V(m) in m.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._rules.logits import kl_of_logits
from lossjax._rules.positive import exponential
from lossjax._rules.probabilities import divergence_terms
from lossjax.numerics import expm1, log_growth, log_quotient, psi, sigmoid, times, xi


def bernoulli(p: Array, q: Array) -> Array:
    """``log(1 + e^q) - log(1 + e^p) - σ(p)(q - p)``, elementwise."""
    return _bernoulli(p, q)


def poisson(p: Array, q: Array) -> Array:
    """``e^q - e^p - e^p (q - p)``, elementwise."""
    return _poisson(p, q)


def negative_binomial(p: Array, q: Array) -> Array:
    """``log((1 - e^p)/(1 - e^q)) - (q - p) e^p/(1 - e^p)`` for p, q < 0, elementwise."""
    return _negative_binomial(p, q)


def negative_binomial_entropy(r: float, y: Array, mean: Array) -> Array:
    """``y log(y/m) - (y + r) log((y + r)/(m + r))``, elementwise."""
    return _negative_binomial_entropy(r, y, mean)


def inverse_gaussian(y: Array, mean: Array) -> Array:
    """``(y - m)²/(2 m² y)``, elementwise."""
    return _inverse_gaussian(y, mean)


def _bernoulli_forward(p: Array, q: Array) -> tuple[Array, Any]:
    return kl_of_logits(*(jnp.stack([z, jnp.zeros_like(z)], axis=-1) for z in (p, q))), (p, q)


def _bernoulli_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    # σ(q) - σ(p) = σ(q) σ(-p) (1 - e^(p - q)) = -σ(p) σ(-q) (1 - e^(q - p)), the one whose exponent is negative
    p, q = saved
    gap = jnp.where(jnp.isinf(p) & (p == q), 0, q - p)
    up = gap > 0
    size = -expm1(jnp.where(up, -gap, gap))  # not |gap|: its derivative at 0 is none
    in_q = jnp.where(up, sigmoid(q) * sigmoid(-p) * size, -sigmoid(p) * sigmoid(-q) * size)
    return -cotangent * times(sigmoid(p) * sigmoid(-p), gap), cotangent * in_q


def _growth(p: Array, q: Array) -> Array:
    """``e^q - e^p`` by 1 - e^-|q - p|: neither cancels nor overflows before its larger term."""
    up = q > p
    return jnp.where(up, -jnp.exp(q), jnp.exp(p)) * expm1(jnp.where(up, p - q, q - p))


def _poisson_forward(p: Array, q: Array) -> tuple[Array, Any]:
    return exponential(q, p), (p, q)


def _poisson_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    p, q = saved
    return -cotangent * times(jnp.exp(p), q - p), cotangent * _growth(p, q)


def _step(p: Array, q: Array) -> Array:
    """``(e^q - e^p)/(1 - e^p)``, the share of 1 - e^p that 1 - e^q lacks."""
    return _growth(p, q) / -expm1(p)


def _negative_binomial_forward(p: Array, q: Array) -> tuple[Array, Any]:
    # With d = q - p, w = e^p/(1 - e^p) and s = w(e^d - 1), (1 - e^q)/(1 - e^p) = 1 - s:
    # D = -log(1 - s) - wd = ψ(-s) + wξ(d). Towards s = 1 the logarithm is of the ratio itself.
    gap, step = q - p, _step(p, q)
    odds = jnp.exp(p) / -expm1(p)
    high, wide = step > 0.5, gap > 2
    ratio = log_quotient(jnp.where(high, -expm1(q), 1), jnp.where(high, -expm1(p), 1))
    first = jnp.where(high, -step - ratio, psi(jnp.where(high, 0, -step)))
    return first + jnp.where(wide, step - times(odds, gap), times(odds, xi(jnp.where(wide, 0, gap)))), (p, q)


def _negative_binomial_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    # A' = w, A'' = w(1 + w) = w/(1 - e^p), and A'(q) - A'(p) = s/(1 - e^q)
    p, q = saved
    curvature = jnp.exp(p) / jnp.square(expm1(p))
    return -cotangent * times(curvature, q - p), cotangent * (_step(p, q) / -expm1(q))


def _apportioned(r: float, y: Array, mean: Array) -> tuple[Array, Array]:
    """Of ``y + r`` shared out as m to r the first part, and how much it exceeds y."""
    return (mean / (mean + r)) * (y + r), (r / (mean + r)) * (mean - y)


def _negative_binomial_entropy_forward(r: float, y: Array, mean: Array) -> tuple[Array, Any]:
    # y log(y/m) - (y + r) log((y + r)/(m + r)) is the divergence of (y, r) from the same total shared as m to r: the
    # term of y, and rψ(t) with 1 + t = (y + r)/(m + r), far below 1 by the logarithm of the ratio itself
    rest = (y - mean) / (mean + r)
    low = rest < -0.5
    of_ratio = rest - log_quotient(jnp.where(low, y + r, 1), jnp.where(low, mean + r, 1))
    of_r = r * jnp.where(low, of_ratio, psi(jnp.where(low, 0, rest)))
    return divergence_terms(y, *_apportioned(r, y, mean)) + of_r, (r, y, mean)


def _negative_binomial_entropy_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    # The natural parameter is log(m/(m + r)), the variance m(m + r)/r
    r, y, mean = saved
    of_y, step = _apportioned(r, y, mean)
    never = (y == 0) & (mean == 0)
    return (
        None,
        -cotangent * log_growth(y, of_y, step),
        cotangent * jnp.where(never, 1, step / jnp.where(never, 1, mean)),
    )


def _inverse_gaussian_forward(y: Array, mean: Array) -> tuple[Array, Any]:
    step = (y - mean) / mean
    return 0.5 * step * (step / y), (y, mean)


def _inverse_gaussian_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    # ½(1/m² - 1/y²) in y, (m - y)/m³ in m
    y, mean = saved
    step = (y - mean) / mean
    return cotangent * 0.5 * (step / y) * (1 / mean + 1 / y), -cotangent * (step / mean / mean)


_bernoulli = closed_form(_bernoulli_forward, _bernoulli_backward)
_poisson = closed_form(_poisson_forward, _poisson_backward)
_negative_binomial = closed_form(_negative_binomial_forward, _negative_binomial_backward)
_negative_binomial_entropy = closed_form(_negative_binomial_entropy_forward, _negative_binomial_entropy_backward)
_inverse_gaussian = closed_form(_inverse_gaussian_forward, _inverse_gaussian_backward)
