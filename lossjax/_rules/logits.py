"""Divergences of two rows of logits by non-negative terms, which never leave the logits."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form, known_as
from lossjax._core.masks import nan_unless
from lossjax._softmax import functions, row_statistics
from lossjax.numerics import exact_difference, expm1, log1p, psi, softplus, times, xi


def kl_of_logits(u: Array, v: Array) -> Array:
    """:func:`softmax_kl_divergence` in nats over the last axis, for arrays checked already."""
    return _kl_divergence(u, v)


class _Relative(NamedTuple):
    """``r = w - <p, w>`` with w = v - u, and the logarithms of p_k e^{r_k}; r = 0 where a class is impossible under p.

    w is measured from its value at the pivot, and its rounding errors are kept: neither a common offset of u nor one
    of v, however large, is felt in r.
    """

    r: Array
    exponent: Array
    possible: Array

    @classmethod
    def of(cls, u: Array, v: Array, p: Array, rows_u: row_statistics.RowStatistics) -> "_Relative":
        possible = ~jnp.isneginf(u)
        w, error = exact_difference(jnp.where(possible, v, 0), jnp.where(possible, u, 0))
        w, error, own_v = (_from_pivot(part, u, rows_u) for part in (w, error, v))
        relative = w + error
        mean = jnp.sum(times(p, relative), axis=-1, keepdims=True)
        r = jnp.where(possible, relative - mean, 0)
        # r - gap = own_v - mean: by whichever has the smaller terms (the first is ∞ - ∞ where r leaves the range). The
        # pivot is a maximum; the last term, which is 0, says so to a derivative.
        by_gap = possible & jnp.isfinite(r) & (jnp.abs(r) <= 2 * jnp.abs(own_v))
        by_pivot = own_v - mean + (rows_u.pivot_logit - rows_u.maximum)
        exponent = jnp.where(by_gap, r - row_statistics.gaps(u, rows_u), by_pivot) - rows_u.log_total()
        return cls(r, exponent, possible)


@jax.jit  # one function in the program, called for both rows
def _tame(z: Array) -> Array:
    """The same distributions by logits that can be subtracted from each other.

    A row that one +inf makes certain has 0 there and -inf elsewhere; a row near the end of the range is measured from
    its maximum.
    """
    maximum = jnp.max(z, axis=-1, keepdims=True)
    infinite = jnp.isposinf(z)
    certain = jnp.sum(infinite, axis=-1, keepdims=True, dtype=jnp.int32) == 1
    z = jnp.where(certain, jnp.where(infinite, 0, jnp.where(jnp.isnan(z), z, -jnp.inf)), z)
    extreme = (jnp.abs(maximum) > float(jnp.finfo(z.dtype).max) / 4) & jnp.isfinite(maximum)
    return jnp.where(extreme, z - jnp.where(extreme, maximum, 0), z)


@jax.jit  # one function in the program, called for both rows
def _softmax_of(z: Array) -> tuple[row_statistics.RowStatistics, Array]:
    rows = row_statistics.row_statistics(z, plan=row_statistics.Plan(reused=True))
    return rows, row_statistics.p_of(z, rows)


def _from_pivot(values: Array, u: Array, rows_u: row_statistics.RowStatistics) -> Array:
    return values - jnp.sum(jnp.where(rows_u.is_pivot(u), values, 0), axis=-1, keepdims=True)


def _comparable_logits(u: Array, v: Array) -> tuple[Array, Array]:
    """Both rows by logits that can be subtracted.

    A finite logit of v may leave the range there, and its class look impossible. Where the class has no weight under p,
    it is left out of u as well: it contributes nothing, and does not make the divergence infinite.
    """
    tame_u, tame_v = _tame(u), _tame(v)
    faint = tame_u < jnp.max(tame_u, axis=-1, keepdims=True) + 2 * math.log(float(jnp.finfo(u.dtype).tiny))
    lost = jnp.isneginf(tame_v) & jnp.isfinite(v) & faint
    return jnp.where(lost, -jnp.inf, tame_u), tame_v


class _Compared(NamedTuple):
    """Two rows of logits with their statistics, what r and p are, and KL, one number per row."""

    u: Array
    v: Array
    rows_u: row_statistics.RowStatistics
    rows_v: row_statistics.RowStatistics
    p: Array
    q: Array
    r: Array
    kl: Array
    undefined: Array

    @classmethod
    def of(cls, u: Array, v: Array) -> "_Compared":
        u, v = _comparable_logits(u, v)
        (rows_u, p), (rows_v, q) = _softmax_of(u), _softmax_of(v)
        excluded = jnp.any(jnp.isneginf(v) & ~jnp.isneginf(u), axis=-1, keepdims=True)
        r, exponent, possible = _Relative.of(u, jnp.where(excluded, u, v), p, rows_u)
        # The terms p ξ(r): by ξ near 0; else p e^r - p(1 + r), where p e^r neither overflows nor vanishes with p.
        near = (jnp.abs(r) < 1) & possible
        far = jnp.exp(jnp.minimum(exponent, 2)) - times(p, 1 + r)
        terms = jnp.where(near, p * xi(jnp.where(near, r, 0)), far)
        close = jnp.log1p(jnp.sum(terms, axis=-1, keepdims=True))
        # A divergence with an exponent above 2 is that exponent plus a log-sum-exp: both positive.
        largest = jnp.max(exponent, axis=-1, keepdims=True)
        anchor = jnp.maximum(largest, 2)
        distant = anchor + jnp.log(jnp.sum(jnp.exp(exponent - anchor), axis=-1, keepdims=True))
        divergence = jnp.where(largest > 2, distant, close)
        undefined = jnp.isnan(rows_u.rest) | jnp.isnan(rows_v.rest)
        kl = nan_unless(~undefined, jnp.where(excluded, jnp.inf, divergence))
        return cls(u, v, rows_u, rows_v, p, q, r, kl, undefined)

    def saved(self) -> tuple[Any, ...]:
        """What a backward pass needs: the logits, and a few numbers per row."""
        return self.u, self.v, self.rows_u.stopped(), self.rows_v.stopped(), jax.lax.stop_gradient(self.kl)


def _kl_divergence_forward(u: Array, v: Array) -> tuple[Array, Any]:
    compared = _Compared.of(u, v)
    return compared.kl[..., 0], compared.saved()


def _kl_divergence_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    u, v, rows_u, rows_v, kl = saved
    g = cotangent[..., None]
    p, q = functions.probabilities(u, rows_u), functions.probabilities(v, rows_v)
    excluded = jnp.isneginf(v) & ~jnp.isneginf(u)
    somewhere = jnp.any(excluded, axis=-1, keepdims=True)
    relative = _Relative.of(u, jnp.where(somewhere, u, v), p, rows_u)
    # q - p = p (e^d - 1) with d = log q - log p = r - KL: no cancellation where the two are close.
    kl = _precomputed_kl(kl, u, v)
    d = relative.r - kl
    close = (jnp.abs(d) < 0.5) & relative.possible & (kl < 1)
    in_v = jnp.where(close, p * expm1(jnp.where(close, d, 0)), q - p)
    # Where a logit of q tends to -inf under p's eyes, so does r there, and to +inf at the classes beside it.
    apart = jnp.where(excluded, jnp.where(p < 1, -jnp.inf, 0), jnp.where(relative.possible, jnp.inf, 0))
    r = jnp.where(somewhere, apart, relative.r)
    undefined = jnp.isnan(rows_u.rest) | jnp.isnan(rows_v.rest)
    return g * nan_unless(~undefined, -times(p, r)), g * nan_unless(~undefined, in_v)


_kl_divergence = closed_form(_kl_divergence_forward, _kl_divergence_backward)
_precomputed_kl = known_as(lambda u, v: _kl_divergence(u, v)[..., None])


@jax.jit  # one function in the program, called for both sides
def _log_share(d: Array) -> Array:
    """``log(p/m) = log 2 - softplus(d)`` with m = (p + q)/2."""
    near = jnp.abs(d) < 1
    return jnp.where(near, -log1p(expm1(jnp.where(near, d, 0)) / 2), math.log(2) - softplus(jnp.where(near, 0, d)))


def _log_ratio(kl: Array, r: Array, log_p: Array, log_q: Array) -> Array:
    """``log q - log p``: r - KL where the two are close; ±inf where one of them is 0, and 0 where both are."""
    neither = jnp.isneginf(log_p) & jnp.isneginf(log_q)
    apart = jnp.where(neither, 0, jnp.where(neither, 0, log_q) - jnp.where(neither, 0, log_p))
    close = (kl < 1) & ~jnp.isneginf(log_p)
    return jnp.where(close, r - jnp.where(kl < 1, kl, 0), apart)


def _comparable(u: Array, v: Array) -> Array:
    """v, or u in the rows where v lacks a class that u has: their relative logits would be infinite."""
    return jnp.where(jnp.any(jnp.isneginf(v) & ~jnp.isneginf(u), axis=-1, keepdims=True), u, v)


def _js_divergence_forward(u: Array, v: Array) -> tuple[Array, Any]:
    both = _Compared.of(u, v)
    log_p, log_q = -row_statistics.surprisal(both.u, both.rows_u), -row_statistics.surprisal(both.v, both.rows_v)
    d = _log_ratio(both.kl, both.r, log_p, log_q)
    near = jnp.abs(d) < 1
    step = jnp.where(near, d, 0)
    close = both.p * psi(expm1(step) / 2) + both.q * psi(expm1(-step) / 2)
    distant = times(both.p, _log_share(d)) + times(both.q, _log_share(-d))
    divergence = jnp.sum(jnp.where(near, close, distant), axis=-1) / 2
    return nan_unless(~both.undefined[..., 0], divergence), both.saved()


def _js_divergence_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    u, v, rows_u, rows_v, kl = saved
    g = cotangent[..., None]
    p, q = functions.probabilities(u, rows_u), functions.probabilities(v, rows_v)
    kl = _precomputed_kl(kl, u, v)
    r = _Relative.of(u, _comparable(u, v), p, rows_u).r
    d = _log_ratio(kl, r, functions.log_probabilities(u, rows_u), functions.log_probabilities(v, rows_v))
    a, b = (jnp.where(kl < 1, _log_share(side), -softplus(side)) / 2 for side in (d, -d))
    a, b = jnp.where(p > 0, a, 0), jnp.where(q > 0, b, 0)
    return g * functions.fisher_product(u, rows_u, a), g * functions.fisher_product(v, rows_v, b)


js_divergence = closed_form(_js_divergence_forward, _js_divergence_backward)
