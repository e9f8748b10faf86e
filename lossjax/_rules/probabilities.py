"""Measures of probabilities, term by term: each term non-negative and without cancellation."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax.numerics import log2, log_growth, log_quotient, per_nat, psi, times


def _plogp_forward(base: float | None, p: Array) -> tuple[Array, Any]:
    return times(p, log2(p) if base == 2 else jnp.log(p) * per_nat(base)), (base, p)


def _plogp_backward(saved: Any, cotangent: Array) -> tuple[None, Array]:
    base, p = saved
    return None, cotangent * (jnp.log(p) + 1) * per_nat(base)


def relative_entropy(p: Array, q: Array) -> Array:
    """The terms ``p log(p/q) - p + q >= 0`` of :func:`kl_divergence`, elementwise, for arrays checked already."""
    return _relative_entropy(p, q)


def divergence_terms(p: Array, q: Array, step: Array) -> Array:
    """The terms p log(p/q) - p + q, where step = q - p is given: it may be known more exactly than from q.

    p ψ(step/p) while q >= p/2; below, 1 + step/p would have lost q, and p log(p/q) is well above p - q. Where p is 0
    it is q, where q alone is 0 it is +inf.
    """
    positive = (p > 0) & (q > 0)
    p_safe, q_safe, step_safe = jnp.where(positive, p, 1), jnp.where(positive, q, 1), jnp.where(positive, step, 0)
    ratio = step_safe / p_safe
    near = (ratio >= -0.5) & (ratio < 1e3)
    by_psi = p_safe * psi(jnp.where(near, ratio, 0))
    by_logs = step_safe - p_safe * log_quotient(q_safe, p_safe)
    value = jnp.where(positive, jnp.where(near, by_psi, by_logs), jnp.where(p > 0, jnp.inf, q))
    return jnp.where((p >= 0) & (q >= 0), value, jnp.nan)


def _relative_entropy_forward(p: Array, q: Array) -> tuple[Array, Any]:
    return divergence_terms(p, q, q - p), (p, q)


def _relative_entropy_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    p, q = saved
    return -cotangent * log_growth(p, q, q - p), cotangent * jnp.where((p == 0) & (q >= 0), 1, (q - p) / q)


def _jensen_shannon_forward(p: Array, q: Array) -> tuple[Array, Any]:
    # The midpoint is p + (q - p)/2 = q + (p - q)/2: by its steps, the rounding of (p + q)/2 is not felt.
    half = (q - p) / 2
    middle = p + half  # p/2 + q/2 would flush the smallest probabilities to 0
    return (divergence_terms(p, middle, half) + divergence_terms(q, middle, -half)) / 2, (p, q)


def _jensen_shannon_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    p, q = saved
    half = (q - p) / 2
    middle = p + half
    return -cotangent / 2 * log_growth(p, middle, half), -cotangent / 2 * log_growth(q, middle, -half)


plogp = closed_form(_plogp_forward, _plogp_backward)


_relative_entropy = closed_form(_relative_entropy_forward, _relative_entropy_backward)


jensen_shannon = closed_form(_jensen_shannon_forward, _jensen_shannon_backward)
