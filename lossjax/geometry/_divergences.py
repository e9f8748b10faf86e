"""Divergences as sums of non-negative terms, with ψ(t) = t - log(1 + t) and ξ(x) = e^x - 1 - x, and their gradients.

For D(p, q) = φ(p) - φ(q) - φ'(q)(p - q) the gradients are φ'(p) - φ'(q) and -φ''(q)(p - q). JAX would find them by
differentiating the quotient inside ψ, where two terms cancel; so they are given.
"""

import jax.numpy as jnp
from jax import Array

from lossjax._autodiff import closed_form
from lossjax.numerics import log_ratio, psi, xi


def _psi_of_ratio(a: Array, b: Array) -> Array:
    """``ψ(a/b - 1) = a/b - 1 - log(a/b)``, both terms of one sign, or by the series of ψ where they cancel.

    Far below b, a/b - 1 rounds to -1 and forgets a; the logarithm is taken of the ratio itself there.
    """
    t = (a - b) / b
    low = t < -0.5
    return jnp.where(low, t - log_ratio(jnp.where(low, a, b), b), psi(jnp.where(low, 0, t)))


def itakura_saito(p: Array, q: Array) -> Array:
    """``p/q - log(p/q) - 1 = ψ((p - q)/q)``, elementwise."""
    return _itakura_saito(None, p, q)


def _itakura_saito_forward(_: None, p: Array, q: Array) -> tuple[Array, tuple[Array, Array]]:
    return _psi_of_ratio(p, q), (p, q)


def _itakura_saito_backward(_: None, residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    # 1/q - 1/p = t/p  and  (q - p)/q² = -t/q  with t = (p - q)/q
    p, q = residuals
    t = (p - q) / q
    return cotangent * (t / p), -cotangent * (t / q)


def exponential(p: Array, q: Array) -> Array:
    """``e^p - e^q - e^q (p - q) = e^q ξ(p - q)``, elementwise (a formula, not a rule)."""
    # Above a gap of 2 nothing cancels in the definition, and ξ could overflow where e^q vanishes.
    gap = p - q
    wide = gap > 2
    level = jnp.exp(q)
    return jnp.where(wide, jnp.exp(p) - level * (1 + jnp.where(wide, gap, 0)), level * xi(jnp.where(wide, 0, gap)))


_itakura_saito = closed_form(_itakura_saito_forward, _itakura_saito_backward)
