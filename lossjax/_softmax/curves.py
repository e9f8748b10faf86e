"""Functions F of a class's surprisal l = -log p: a loss is Σ v_k F(l_k), and F = l gives the cross-entropy.

Each has its slope and its derivative in its parameter θ. They are given p beside l, for e^-l would have l times the
rounding error of l; and they take 1 - p from l, where it keeps its relative accuracy.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax.numerics import expm1, quotient, times, xi

Formula = Callable[[Array, Array, Any], Array]
"""From the surprisal, the probability, and the parameter (None if there is none)."""


class Curve(NamedTuple):
    """A function F(l, p, θ) of the surprisal, its slope ∂F/∂l, and its derivative ∂F/∂θ."""

    value: Formula
    slope: Formula
    in_parameter: Formula
    is_identity: bool = False
    """Whether F(l) = l."""


def _unlikely(surprisal: Array) -> Array:
    """``1 - p``."""
    return -expm1(-surprisal)


def power(base: Array, exponent: Array) -> Array:
    """``base^exponent`` for base in [0, 1], exponent >= 0; at base 0 its derivatives are 0, never 0·∞."""
    usual = (base > 0) | jnp.isnan(base)
    return jnp.where(usual, jnp.power(jnp.where(usual, base, 1), exponent), jnp.where(exponent == 0, 1, 0))


CROSS_ENTROPY = Curve(
    lambda surprisal, p, _: surprisal,
    lambda surprisal, p, _: jnp.ones_like(surprisal),
    lambda surprisal, p, _: jnp.zeros_like(surprisal),
    is_identity=True,
)


# Focal, m = 1 - p:   F = m^γ l      F' = m^γ (1 + γ l p/m)      ∂F/∂γ = F log m
# l p/m is l/(e^l - 1): 1 at l = 0, and 0 at infinity.


def _focal(surprisal: Array, p: Array, gamma: Array) -> Array:
    return power(_unlikely(surprisal), gamma) * surprisal


def _focal_slope(surprisal: Array, p: Array, gamma: Array) -> Array:
    m = _unlikely(surprisal)
    share = jnp.where(m > 0, quotient(times(p, surprisal), jnp.where(m > 0, m, 1)), 1)
    return power(m, gamma) * (1 + gamma * share)


def _focal_in_gamma(surprisal: Array, p: Array, gamma: Array) -> Array:
    m = _unlikely(surprisal)
    logarithm = jnp.where(m < 0.5, jnp.log(jnp.where(m > 0, m, 1)), jnp.log1p(-jnp.where(m < 0.5, 0, p)))
    return times(logarithm, _focal(surprisal, p, gamma))


FOCAL = Curve(_focal, _focal_slope, _focal_in_gamma)


# Poly:   F = l + ε(1 - p) = (1 + ε) l - ε ξ(-l)      F' = 1 + ε p = (1 + ε) - ε(1 - p)      ∂F/∂ε = 1 - p
# For ε in [-1, 0) the second forms add non-negative terms, where the first would cancel near p = 1.


def _poly(surprisal: Array, p: Array, epsilon: Array) -> Array:
    direct = surprisal + epsilon * _unlikely(surprisal)
    return jnp.where(epsilon < 0, times(1 + epsilon, surprisal) - epsilon * xi(-surprisal), direct)


def _poly_slope(surprisal: Array, p: Array, epsilon: Array) -> Array:
    return jnp.where(epsilon < 0, (1 + epsilon) - epsilon * _unlikely(surprisal), 1 + epsilon * p)


POLY = Curve(_poly, _poly_slope, lambda surprisal, p, epsilon: _unlikely(surprisal))


# Generalised, x = q l:   F = (1 - p^q)/q      F' = p^q      ∂F/∂q = -(1 - (1 + x) e^-x)/q² = -e^-x ξ(x)/q²


def _tail(surprisal: Array, p: Array, q: Array) -> Array:
    """``p^q``; as e^-ql where p itself has underflowed."""
    faint = p < 1e3 * float(jnp.finfo(p.dtype).tiny)
    return jnp.where(faint, jnp.exp(-q * surprisal), power(jnp.where(faint, 1, p), q))


def _generalized(surprisal: Array, p: Array, q: Array) -> Array:
    x = q * surprisal
    return jnp.where(x < 1, -expm1(-jnp.minimum(x, 1)), 1 - _tail(surprisal, p, q)) / q


def _generalized_in_q(surprisal: Array, p: Array, q: Array) -> Array:
    x = q * surprisal
    near = jnp.where(x < 1, x, 0)
    far = 1 - _tail(surprisal, p, q) - times(_tail(surprisal, p, q), x)
    return -jnp.where(x < 1, jnp.exp(-near) * xi(near), far) / (q * q)


GENERALIZED = Curve(_generalized, _tail, _generalized_in_q)
