"""Divergences of two members of an exponential family, as sums of non-negative terms, and their gradients.

The gradients are written out, because JAX would find them by terms that cancel.

Of natural parameters, D = A(q) - A(p) - A'(p)(q - p). Its gradient is  A'(q) - A'(p) in q  and  -A''(p)(q - p) in p.
Of means, D = A*(y) - A*(m) - A*'(m)(y - m). Its gradient is the difference of the natural parameters in y, and
(m - y)/V(m) in m, with V the variance.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._rules.logit_divergences import kl_of_logits
from lossjax._rules.positive import exponential
from lossjax._rules.probabilities import divergence_terms
from lossjax.numerics import expm1, log_growth, log_quotient, psi, sigmoid, times, xi

# --- Bernoulli -------------------------------------------------------------------------------------------------------


def _bernoulli_forward(p: Array, q: Array) -> tuple[Array, Any]:
    u, v = (jnp.stack([z, jnp.zeros_like(z)], axis=-1) for z in (p, q))
    return kl_of_logits(u, v), (p, q)


# In q:  σ(q) - σ(p) =  σ(q) σ(-p) (1 - e^(p - q))   for q > p
#                    = -σ(p) σ(-q) (1 - e^(q - p))   for q < p: the exponent is never positive.


def _bernoulli_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    p, q = saved
    gap = jnp.where(jnp.isinf(p) & (p == q), 0, q - p)
    up = gap > 0
    size = -expm1(jnp.where(up, -gap, gap))  # |gap| would not do: it has no derivative at 0.
    in_q = jnp.where(up, sigmoid(q) * sigmoid(-p) * size, -sigmoid(p) * sigmoid(-q) * size)
    return -cotangent * times(sigmoid(p) * sigmoid(-p), gap), cotangent * in_q


bernoulli = closed_form(_bernoulli_forward, _bernoulli_backward)
"""``(p, q) -> log(1 + e^q) - log(1 + e^p) - σ(p)(q - p)``, elementwise."""

# --- Poisson ---------------------------------------------------------------------------------------------------------


def _growth(p: Array, q: Array) -> Array:
    """``e^q - e^p``, by 1 - e^-|q - p|: it does not cancel, and overflows only where its larger term does."""
    up = q > p
    return jnp.where(up, -jnp.exp(q), jnp.exp(p)) * expm1(jnp.where(up, p - q, q - p))


def _poisson_forward(p: Array, q: Array) -> tuple[Array, Any]:
    return exponential(q, p), (p, q)


def _poisson_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    p, q = saved
    return -cotangent * times(jnp.exp(p), q - p), cotangent * _growth(p, q)


poisson = closed_form(_poisson_forward, _poisson_backward)
"""``(p, q) -> e^q - e^p - e^p (q - p)``, elementwise."""

# --- negative binomial -----------------------------------------------------------------------------------------------
#
# With d = q - p, w = e^p/(1 - e^p) and s = w(e^d - 1), (1 - e^q)/(1 - e^p) = 1 - s, and so
#
#     D = -log(1 - s) - w d = ψ(-s) + w ξ(d).
#
# Where s is near 1, the logarithm is taken of the ratio itself. For the gradient,
#
#     A' = w,      A'' = w(1 + w) = w/(1 - e^p),      A'(q) - A'(p) = s/(1 - e^q).


def _negative_binomial_step(p: Array, q: Array) -> Array:
    """``s = (e^q - e^p)/(1 - e^p)``, the share of 1 - e^p that 1 - e^q lacks."""
    return _growth(p, q) / -expm1(p)


def _negative_binomial_forward(p: Array, q: Array) -> tuple[Array, Any]:
    gap, step = q - p, _negative_binomial_step(p, q)
    odds = jnp.exp(p) / -expm1(p)
    high, wide = step > 0.5, gap > 2
    ratio = log_quotient(jnp.where(high, -expm1(q), 1), jnp.where(high, -expm1(p), 1))
    first = jnp.where(high, -step - ratio, psi(jnp.where(high, 0, -step)))
    return first + jnp.where(wide, step - times(odds, gap), times(odds, xi(jnp.where(wide, 0, gap)))), (p, q)


def _negative_binomial_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    p, q = saved
    curvature = jnp.exp(p) / jnp.square(expm1(p))
    return -cotangent * times(curvature, q - p), cotangent * (_negative_binomial_step(p, q) / -expm1(q))


negative_binomial = closed_form(_negative_binomial_forward, _negative_binomial_backward)
"""``(p, q) -> log((1 - e^p)/(1 - e^q)) - (q - p) e^p/(1 - e^p)`` for p, q < 0, elementwise."""

# The divergence of means, y log(y/m) - (y + r) log((y + r)/(m + r)), is that of (y, r) from the same total y + r,
# shared out as m to r. It has the term of y, and the term r ψ(t) with 1 + t = (y + r)/(m + r). Where t is far below 0,
# the logarithm is taken of the ratio itself. The natural parameter is log(m/(m + r)), the variance m(m + r)/r.


def _apportioned(r: float, y: Array, mean: Array) -> tuple[Array, Array]:
    """The first part of ``y + r`` shared out as m to r, and by how much it exceeds y."""
    return (mean / (mean + r)) * (y + r), (r / (mean + r)) * (mean - y)


def _negative_binomial_entropy_forward(r: float, y: Array, mean: Array) -> tuple[Array, Any]:
    rest = (y - mean) / (mean + r)
    low = rest < -0.5
    of_ratio = rest - log_quotient(jnp.where(low, y + r, 1), jnp.where(low, mean + r, 1))
    of_r = r * jnp.where(low, of_ratio, psi(jnp.where(low, 0, rest)))
    return divergence_terms(y, *_apportioned(r, y, mean)) + of_r, (r, y, mean)


def _negative_binomial_entropy_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    r, y, mean = saved
    of_y, step = _apportioned(r, y, mean)
    never = (y == 0) & (mean == 0)
    return (
        None,
        -cotangent * log_growth(y, of_y, step),
        cotangent * jnp.where(never, 1, step / jnp.where(never, 1, mean)),
    )


negative_binomial_entropy = closed_form(_negative_binomial_entropy_forward, _negative_binomial_entropy_backward)
"""``(r, y, m) -> y log(y/m) - (y + r) log((y + r)/(m + r))``, elementwise."""

# --- inverse Gaussian ------------------------------------------------------------------------------------------------


def _inverse_gaussian_forward(y: Array, mean: Array) -> tuple[Array, Any]:
    step = (y - mean) / mean
    return 0.5 * step * (step / y), (y, mean)


def _inverse_gaussian_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    # The gradient is ½(1/m² - 1/y²) in y, and (m - y)/m³ in m.
    y, mean = saved
    step = (y - mean) / mean
    return cotangent * 0.5 * (step / y) * (1 / mean + 1 / y), -cotangent * (step / mean / mean)


inverse_gaussian = closed_form(_inverse_gaussian_forward, _inverse_gaussian_backward)
"""``(y, m) -> (y - m)²/(2 m² y)``, elementwise."""
