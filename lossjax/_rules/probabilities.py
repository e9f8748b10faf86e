"""Measures of probabilities, entry by entry. No term of a divergence is negative, and none of them cancels."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._core.masks import nan_unless
from lossjax.numerics import log2, log_growth, log_quotient, per_nat, psi, times


def _plogp_forward(base: float | None, p: Array) -> tuple[Array, Any]:
    return times(p, log2(p) if base == 2 else jnp.log(p) * per_nat(base)), (base, p)


def _plogp_backward(saved: Any, cotangent: Array) -> tuple[None, Array]:
    base, p = saved
    return None, cotangent * (jnp.log(p) + 1) * per_nat(base)


plogp = closed_form(_plogp_forward, _plogp_backward)
"""``(base, p) -> p log p`` with 0 log 0 = 0, elementwise; base None is the natural logarithm."""


def divergence_terms(p: Array, q: Array, step: Array) -> Array:
    """The terms ``p log(p/q) - p + q``, with ``step = q - p`` given: it may be known more exactly than from q.

    While q >= p/2 a term is p ψ(step/p). For a smaller q, 1 + step/p would have lost q; there p log(p/q) is well above
    p - q, and the two are subtracted. Where p is 0 the term is q; where q alone is 0 it is +inf.
    """
    positive = (p > 0) & (q > 0)
    p_safe, q_safe, step_safe = jnp.where(positive, p, 1), jnp.where(positive, q, 1), jnp.where(positive, step, 0)
    ratio = step_safe / p_safe
    near = (ratio >= -0.5) & (ratio < 1e3)
    by_psi = p_safe * psi(jnp.where(near, ratio, 0))
    by_logs = step_safe - p_safe * log_quotient(q_safe, p_safe)
    value = jnp.where(positive, jnp.where(near, by_psi, by_logs), jnp.where(p > 0, jnp.inf, q))
    return nan_unless((p >= 0) & (q >= 0), value)


def _relative_entropy_forward(p: Array, q: Array) -> tuple[Array, Any]:
    return divergence_terms(p, q, q - p), (p, q)


def _relative_entropy_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    p, q = saved
    return -cotangent * log_growth(p, q, q - p), cotangent * jnp.where((p == 0) & (q >= 0), 1, (q - p) / q)


relative_entropy = closed_form(_relative_entropy_forward, _relative_entropy_backward)
"""``(p, q) -> p log(p/q) - p + q >= 0``, the terms of ``lossjax.kl_divergence``, elementwise."""


def _jensen_shannon_forward(p: Array, q: Array) -> tuple[Array, Any]:
    # The midpoint is p + (q - p)/2 = q + (p - q)/2. Its steps are given, so that the rounding of the midpoint does not
    # matter. It is p + half, because p/2 + q/2 would flush the smallest probabilities to 0.
    # The smaller goes first: so, however a compiler rounds, the divergence is symmetric to the last bit.
    swapped = q < p
    low, high = jnp.where(swapped, q, p), jnp.where(swapped, p, q)
    half = (high - low) / 2
    middle = low + half
    return (divergence_terms(low, middle, half) + divergence_terms(high, middle, -half)) / 2, (p, q)


def _jensen_shannon_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    p, q = saved
    half = (q - p) / 2
    middle = p + half
    return -cotangent / 2 * log_growth(p, middle, half), -cotangent / 2 * log_growth(q, middle, -half)


jensen_shannon = closed_form(_jensen_shannon_forward, _jensen_shannon_backward)
"""``(p, q) ->`` the mean of both terms against the midpoint of p and q, elementwise."""
