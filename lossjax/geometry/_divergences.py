"""Divergences as sums of non-negative terms, with ψ(t) = t - log(1 + t) and ξ(x) = e^x - 1 - x, and their gradients.

For D(p, q) = φ(p) - φ(q) - φ'(q)(p - q) the gradients are φ'(p) - φ'(q) and -φ''(q)(p - q). JAX would find them by
differentiating the quotient inside ψ, where two terms cancel; so they are given.
"""

import jax.numpy as jnp
from jax import Array

from lossjax._autodiff import closed_form
from lossjax._softmax import fisher_product, log_softmax, log_sum_exp, row_statistics, softmax
from lossjax.geometry._elementary import log_ratio
from lossjax.numerics import exact_difference, psi, xi


def _psi_of_ratio(a: Array, b: Array) -> Array:
    """``ψ(a/b - 1) = a/b - 1 - log(a/b)``, both terms of one sign, or by the series of ψ where they cancel.

    Far below b, a/b - 1 rounds to -1 and forgets a; the logarithm is taken of the ratio itself there.
    """
    t = (a - b) / b
    low = t < -0.5
    return jnp.where(low, t - log_ratio(jnp.where(low, a, b), b), psi(jnp.where(low, 0, t)))


def relative_entropy(p: Array, q: Array) -> Array:
    """``p log(p/q) - p + q = p ψ((q - p)/p)``, elementwise; q at p = 0; +inf at p > 0 = q."""
    return _relative_entropy(None, p, q)


def _relative_entropy_forward(_: None, p: Array, q: Array) -> tuple[Array, tuple[Array, Array]]:
    # Where p is 0, or so small beside q that their ratio leaves the range, all but q is below its rounding.
    alone = (p == 0) | (jnp.isposinf(q / p) & jnp.isfinite(q))
    p_or_one, q_or_one = jnp.where(alone, 1, p), jnp.where(alone, 1, q)
    value = p_or_one * _psi_of_ratio(q_or_one, p_or_one)
    return jnp.where(alone, jnp.where(q >= 0, q, jnp.nan), value), (p, q)


def _relative_entropy_backward(_: None, residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    p, q = residuals
    absent = (p == 0) & (q == 0)
    in_p = jnp.where(absent, 0, log_ratio(jnp.where(absent, 1, p), jnp.where(absent, 1, q)))
    in_q = jnp.where(p == 0, 1, (q - p) / jnp.where(absent, 1, q))
    return cotangent * in_p, cotangent * in_q


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


def log_sum_exp_divergence(p: Array, q: Array) -> Array:
    """``KL(softmax q ‖ softmax p)`` over the last axis, from finite logits.

    With π = softmax(q) and r = p - q, centred to ⟨π, r⟩ = 0, it is log Σ π e^r = log(1 + Σ π ξ(r)): terms >= 0, and an
    error δ in the centre costs only δ times the result.
    """
    return _log_sum_exp_divergence(None, p, q)


def _tilt(p: Array, q: Array) -> tuple[Array, Array]:
    """π and r, as if p - q were exact: nearly constant differences leave a small r, of which a rounding would be much.

    So it is centred twice: the first time takes out the constant, the second the roundings of that.
    """
    weights = softmax(q)
    difference, error = exact_difference(p, q)
    r = (difference - jnp.sum(weights * difference, axis=-1, keepdims=True)) + error
    return weights, r - jnp.sum(weights * r, axis=-1, keepdims=True)


def _log_sum_exp_divergence_forward(_: None, p: Array, q: Array) -> tuple[Array, tuple[Array, Array]]:
    weights, r = _tilt(p, q)
    tilted = log_softmax(q) + r  # log(π e^r)
    wide = r > 2
    # For r > 2 nothing cancels in π e^r - π (1 + r), and the product does not overflow where its factor would.
    terms = jnp.where(
        wide,
        jnp.exp(jnp.minimum(tilted, 1)) - weights * (1 + jnp.where(wide, r, 0)),
        weights * xi(jnp.where(wide, 0, r)),
    )
    near = jnp.log1p(jnp.sum(terms, axis=-1))
    far = jnp.max(tilted, axis=-1) > 1  # then the result exceeds 1, and the logarithm of the sum loses nothing
    return jnp.where(far, log_sum_exp(tilted), near), (p, q)


def _log_sum_exp_divergence_backward(_: None, residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    # softmax(p) = π e^r / Σ π e^r, and D is the logarithm of that sum: with s = r - D, the difference is π (e^s - 1).
    p, q = residuals
    weights, r = _tilt(p, q)
    s = r - log_sum_exp_divergence(p, q)[..., None]
    near = jnp.abs(s) < 1
    in_p = jnp.where(near, weights * jnp.expm1(jnp.where(near, s, 0)), softmax(p) - weights)
    in_q = -fisher_product(q, row_statistics(q), p - q)
    return cotangent[..., None] * in_p, cotangent[..., None] * in_q


_relative_entropy = closed_form(_relative_entropy_forward, _relative_entropy_backward)
_itakura_saito = closed_form(_itakura_saito_forward, _itakura_saito_backward)
_log_sum_exp_divergence = closed_form(_log_sum_exp_divergence_forward, _log_sum_exp_divergence_backward)
