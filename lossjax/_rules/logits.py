"""Divergences of two rows of logits by non-negative terms, which never leave the logits.

Both divergences are sums over the classes of functions of p, q and  d = log q - log p  alone. With w = v - u,

    d = w - log <p, e^w> = w - <p, w> - KL(p‖q)

so that d is w measured from a centre of the row. A common offset of u or of v must not be felt: each row is measured
from its maximum first, with the rounding error kept.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form, known_as
from lossjax._softmax import functions
from lossjax._softmax.row_statistics import RowStatistics, logit_at
from lossjax._softmax.row_sum import class_index
from lossjax.numerics import exact_difference, expm1, log1p, softplus, times, xi


def kl_of_logits(u: Array, v: Array) -> Array:
    """:func:`softmax_kl_divergence` in nats over the last axis, for arrays checked already."""
    return _kl_divergence(u, v)


class _Pair(NamedTuple):
    """Two rows of logits, and one number per row each: all that a backward pass needs.

    ``centre`` is log <p, e^w>, with w measured from its value for the two maxima.
    """

    u: Array
    v: Array
    rows_u: RowStatistics
    rows_v: RowStatistics
    centre: Array

    def constant(self) -> "_Pair":
        """The same numbers as constants to a derivative."""
        return jax.tree.map(lambda part: lax.stop_gradient(part), self)

    def undefined(self) -> Array:
        """Whether one of the rows is no row of logits, one boolean per row."""
        return jnp.isnan(self.rows_u.rest + self.rows_v.rest)

    def excluded(self) -> Array:
        """Whether a class is possible under p and impossible under q."""
        return _impossible(self.v, self.rows_v) & ~_impossible(self.u, self.rows_u)


def _impossible(z: Array, rows: RowStatistics) -> Array:
    """Whether p is 0: under a finite maximum at -inf, under a maximum of +inf at everything else."""
    return rows.maximum - z == jnp.inf


@jax.jit
def _finite(x: Array) -> Array:
    largest = float(jnp.finfo(x.dtype).max)
    return jnp.minimum(jnp.maximum(x, -largest), largest)


class _Gap(NamedTuple):
    """``z - max z``, with 0 at a maximum, infinite or not: the rounded difference, and its rounding error."""

    rounded: Array
    error: Array

    def exponential(self) -> Array:
        exponential = jnp.exp(self.rounded)
        return exponential + exponential * self.error


@jax.jit
def _gap(z: Array, maximum: Array) -> _Gap:
    largest = float(jnp.finfo(z.dtype).max)
    # A select, which keeps a NaN: inside a fusion XLA's CPU backend may answer it with the other operand of a minimum.
    return _Gap(*exact_difference(jnp.where(z > largest, largest, z), _finite(maximum)))


def _relative(u: _Gap, v: _Gap) -> Array:
    """``w = v - u`` measured from its value for the two maxima; finite."""
    return (_finite(v.rounded) - _finite(u.rounded)) + (v.error - u.error)


class _Softmax(NamedTuple):
    """A row of logits, from one array of exponentials."""

    rows: RowStatistics
    gap: _Gap
    p: Array

    @classmethod
    def of(cls, z: Array) -> "_Softmax":
        pivot = jnp.argmax(z, axis=-1, keepdims=True)
        maximum, rest, gap, p = _softmax_about(z, pivot)
        return cls(RowStatistics(pivot, maximum, maximum, jnp.ones_like(rest), rest), gap, p)


@jax.jit
def _softmax_about(z: Array, pivot: Array) -> tuple[Array, Array, _Gap, Array]:
    """The maximum, the sum of the other exponentials, z - m, and p; NaN for a row that has no softmax.

    It is jitted so that JAX traces and lowers it once for the two rows.
    """
    maximum = logit_at(z, pivot)
    gap = _gap(z, maximum)
    exponentials = gap.exponential()
    rest = jnp.sum(jnp.where(class_index(z, pivot.dtype) == pivot, 0, exponentials), axis=-1, keepdims=True)
    defined = jnp.isfinite(maximum) | (jnp.isposinf(maximum) & (rest == 0))
    rest = jnp.where(defined, rest, jnp.nan)
    return maximum, rest, gap, exponentials / (1 + rest)


def _compared(u: Array, v: Array) -> tuple[Array, Array, Array, Array, _Pair]:
    """KL(p‖q) where no class is excluded, d, p, q, and what to save.

    The centre c is log <p, e^w>, and KL = Σ p ξ(w - c), with terms q - p - p (w - c) away from 0. A c that is wrong by
    δ adds ξ(δ) to this. By the two row statistics c is known to some u, which is enough for KL > 1/2. Below, the
    mean stands for the centre, where δ = KL itself: the sum is then e^KL - 1.
    """
    (rows_u, gap_u, p), (rows_v, gap_v, q) = _Softmax.of(u), _Softmax.of(v)
    w = _relative(gap_u, gap_v)
    mean = jnp.sum(p * w, axis=-1, keepdims=True)
    centre = jnp.log1p(rows_v.rest) - jnp.log1p(rows_u.rest)
    close = centre - mean < 0.5
    x = _finite(w - jnp.where(close, mean, centre))
    q_at_x = q * jnp.exp(jnp.where(close, centre - mean, 0))
    total = jnp.sum(jnp.where(x < 2, p * xi(jnp.minimum(x, 2)), q_at_x - p * (1 + x)), axis=-1, keepdims=True)
    kl = jnp.where(close, jnp.log1p(total), total)
    centre = jnp.where(close, mean + kl, centre)
    return kl, _finite(w - centre), p, q, _Pair(u, v, rows_u.stopped(), rows_v.stopped(), lax.stop_gradient(centre))


def _kl_divergence_forward(u: Array, v: Array) -> tuple[Array, Any]:
    kl, _, _, _, pair = _compared(u, v)
    kl = jnp.where(jnp.any(pair.excluded(), axis=-1, keepdims=True), jnp.inf, kl)
    return jnp.where(pair.undefined(), jnp.nan, kl)[..., 0], pair


_difference = known_as(lambda u, v: v - u)
_kl_slope = known_as(lambda u, v, rows_u, w: -functions.fisher_product(u, rows_u, _difference(w, u, v)))
_change = known_as(lambda u, v, rows_u, rows_v: functions.probabilities(v, rows_v) - functions.probabilities(u, rows_u))


def _kl_divergence_backward(saved: _Pair, cotangent: Array) -> tuple[Array, Array]:
    u, v, rows_u, rows_v, centre = saved.constant()
    gap_u, gap_v = _gap(u, rows_u.maximum), _gap(v, rows_v.maximum)
    p, q = gap_u.exponential() / (1 + rows_u.rest), gap_v.exponential() / (1 + rows_v.rest)
    w, excluded = _relative(gap_u, gap_v), saved.excluded()
    mean = jnp.sum(p * w, axis=-1, keepdims=True)
    # Where a logit of q tends to -inf under p's eyes, so does w - <p, w> there, and to +inf at the classes beside it.
    apart = jnp.where(excluded, jnp.where(p < 1, -jnp.inf, 0), jnp.inf)
    in_u = -times(p, jnp.where(jnp.any(excluded, axis=-1, keepdims=True), apart, w - mean))
    # q - p = p (e^d - 1): no cancellation where the two are close.
    d = w - centre
    in_v = jnp.where(jnp.abs(d) < 0.5, p * jnp.expm1(jnp.clip(d, -0.5, 0.5)), q - p)
    g = jnp.where(saved.undefined(), jnp.nan, cotangent[..., None])
    return (
        g * _kl_slope(in_u, saved.u, saved.v, rows_u, w),
        g * _change(in_v, saved.u, saved.v, rows_u, rows_v),
    )


_kl_divergence = closed_form(_kl_divergence_forward, _kl_divergence_backward)


def _js_curve(d: Array) -> Array:
    """``½[(1-τ) log(1-τ) + (1+τ) log(1+τ)]`` with τ = tanh(d/2) = (q - p)/(q + p): even, between 0 and log 2.

    Near 0 by its series τ²/2 + τ⁴/12 + … + τ²ⁿ/2n(2n-1), all of one sign; beyond, with ε = e^-|d|, it is
    log 2 - log(1 + ε) - |d| ε/(1 + ε).
    """
    distance = jnp.minimum(jnp.abs(d), 1e3)  # ε is 0 long before
    epsilon = jnp.exp(-distance)
    tau = -jnp.expm1(-jnp.minimum(distance, 1)) / (1 + epsilon)
    square = tau * tau
    terms = 10 if jnp.finfo(d.dtype).bits <= 32 else 22
    series = jnp.zeros_like(d)
    for n in range(terms, 0, -1):
        series = series * square + 1 / (2 * n * (2 * n - 1))
    far = math.log(2) - jnp.log1p(epsilon) - distance * (epsilon / (1 + epsilon))
    return jnp.where(distance < 1, series * square, far)


def _js_divergence_forward(u: Array, v: Array) -> tuple[Array, Any]:
    _, d, p, q, pair = _compared(u, v)
    divergence = jnp.sum((p + q) * _js_curve(d), axis=-1) / 2
    return jnp.where(pair.undefined()[..., 0], jnp.nan, divergence), pair


_log_ratio = known_as(
    lambda u, v, rows_u, rows_v: functions.log_probabilities(v, rows_v) - functions.log_probabilities(u, rows_u)
)
_half_log_share = known_as(lambda d: -softplus(d) / 2)


def _js_divergence_backward(saved: _Pair, cotangent: Array) -> tuple[Array, Array]:
    # J takes no notice of the log 2 in  ½ log(p/m) = ½ (log 2 - softplus d)  and  ½ log(q/m) = ½ (log 2 - softplus -d).
    u, v, rows_u, rows_v, centre = saved.constant()
    d = _finite(_relative(_gap(u, rows_u.maximum), _gap(v, rows_v.maximum)) - centre)
    even = -log1p(expm1(-jnp.abs(d)) / 2)  # log 2 - log(1 + e^-|d|)
    ratio = _log_ratio(d, saved.u, saved.v, rows_u, rows_v)
    a = _half_log_share((even - jnp.maximum(d, 0)) / 2, ratio)
    b = _half_log_share((even - jnp.maximum(-d, 0)) / 2, -ratio)
    g = jnp.where(saved.undefined(), jnp.nan, cotangent[..., None])
    return g * functions.fisher_product(saved.u, rows_u, a), g * functions.fisher_product(saved.v, rows_v, b)


js_divergence = closed_form(_js_divergence_forward, _js_divergence_backward)
