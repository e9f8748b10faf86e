"""Divergences as sums of non-negative terms, and their gradients.

The terms are made of ψ(t) = t - log(1 + t) and ξ(x) = e^x - 1 - x. For D(p, q) = φ(p) - φ(q) - φ'(q)(p - q) the
gradients are φ'(p) - φ'(q) in p and -φ''(q)(p - q) in q. They are written out here, because JAX would differentiate the
quotient inside ψ, and there two terms cancel.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._core.masks import nan_unless
from lossjax._rules.probabilities import divergence_terms
from lossjax.numerics import expm1, log_growth, log_ratio, psi, xi


def _psi_of_ratio(a: Array, b: Array) -> Array:
    """``ψ(a/b - 1) = a/b - 1 - log(a/b)``: the two terms as they are where they have one sign, else the series of ψ.

    Where a is far below b, a/b - 1 rounds to -1 and forgets a. There the logarithm is taken of the ratio itself.
    """
    t = (a - b) / b
    low = t < -0.5
    return jnp.where(low, t - log_ratio(jnp.where(low, a, b), b), psi(jnp.where(low, 0, t)))


def _itakura_saito_forward(p: Array, q: Array) -> tuple[Array, Any]:
    return _psi_of_ratio(p, q), (p, q)


# With t = (p - q)/q:
#     in p:    1/q - 1/p  =  t/p
#     in q:   (q - p)/q²  = -t/q


def _itakura_saito_backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    p, q = saved
    t = (p - q) / q
    return cotangent * (t / p), -cotangent * (t / q)


itakura_saito = closed_form(_itakura_saito_forward, _itakura_saito_backward)
"""``(p, q) -> p/q - log(p/q) - 1 = ψ((p - q)/q)``, elementwise."""


def exponential(p: Array, q: Array) -> Array:
    """``e^p - e^q - e^q (p - q) = e^q ξ(p - q)``, elementwise. It is a formula, which JAX differentiates."""
    # Above a gap of 2 nothing cancels in the definition, and ξ could overflow where e^q vanishes.
    gap = p - q
    wide = gap > 2
    level = jnp.exp(q)
    return jnp.where(wide, jnp.exp(p) - level * (1 + jnp.where(wide, gap, 0)), level * xi(jnp.where(wide, 0, gap)))


# With l = log(p/q),  p^α - q^α - α q^(α-1) (p - q) = q^α (ξ(αl) - α ξ(l)).  Near p = q these two terms cancel only to a
# fixed share of them, (α - 1)/(α + 1). Where p and q are more than a factor e apart, the definition is as accurate.


def _power_divergence_forward(alpha: float, p: Array, q: Array) -> tuple[Array, Any]:
    positive = (p > 0) & (q > 0)
    logarithm = log_ratio(jnp.where(positive, p, 1), jnp.where(positive, q, 1))
    near = jnp.abs(logarithm) < 1
    close = jnp.where(near, logarithm, 0)
    by_logs = q**alpha * (xi(alpha * close) - alpha * xi(close))
    safe = jnp.where(q > 0, q, 1)
    tangent = jnp.where(q > 0, q**alpha + alpha * safe ** (alpha - 1) * (p - q), 0 if alpha > 1 else -jnp.inf)
    direct = p**alpha - jnp.where((p == 0) & (q == 0), 0, tangent)
    value = jnp.where(positive & near, by_logs, direct) / (alpha * (alpha - 1))
    return nan_unless((p >= 0) & (q >= 0), value), (alpha, p, q)


# In p:  φ'(p) - φ'(q) = (p^(α-1) - q^(α-1))/(α - 1) = q^(α-1) (e^((α-1)l) - 1)/(α - 1)
# In q:  -φ''(q)(p - q)  with  φ'' = q^(α-2)


def _power_divergence_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    alpha, p, q = saved
    positive = (p > 0) & (q > 0)
    safe_p, safe_q = jnp.where(positive, p, 1), jnp.where(positive, q, 1)
    power = (alpha - 1) * log_ratio(safe_p, safe_q)
    near = jnp.abs(power) < 1
    apart = p ** (alpha - 1) - q ** (alpha - 1)
    slope = jnp.where(positive & near, safe_q ** (alpha - 1) * expm1(jnp.where(near, power, 0)), apart) / (alpha - 1)
    return (
        None,
        cotangent * jnp.where(p == q, 0 * p, slope),
        -cotangent * (jnp.where(p == q, 0, q ** (alpha - 2)) * (p - q)),
    )


power_divergence = closed_form(_power_divergence_forward, _power_divergence_backward)
"""``(α, p, q) -> (p^α - q^α - α q^(α-1) (p - q))/(α(α - 1))``, elementwise, for p, q >= 0 and α > 0 other than 1."""


def _binary_entropy_forward(y: Array, mean: Array) -> tuple[Array, Any]:
    # The steps are given, because 1 - y and 1 - m are rounded: their difference would be wrong by as much as u.
    return divergence_terms(y, mean, mean - y) + divergence_terms(1 - y, 1 - mean, y - mean), (y, mean)


def _binary_entropy_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    y, mean = saved
    in_y = log_growth(1 - y, 1 - mean, y - mean) - log_growth(y, mean, mean - y)
    # At y = m = 0 or 1 the quotient is 0/0; the slope is that of log 1/(1 - m), or of log 1/m.
    certain = (y == mean) & ((y == 0) | (y == 1))
    inside = jnp.where(certain, 0.5, mean)
    return cotangent * in_y, cotangent * jnp.where(certain, 1 - 2 * y, (mean - y) / inside / (1 - inside))


binary_entropy = closed_form(_binary_entropy_forward, _binary_entropy_backward)
"""``(y, m) -> y log(y/m) + (1 - y) log((1 - y)/(1 - m))``, elementwise."""
