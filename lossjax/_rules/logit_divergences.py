"""Kullback-Leibler and Jensen-Shannon divergence of two rows of logits, which never leave the logits.

With p = softmax u and q = softmax v, everything is a sum over the classes of functions of p, q and d = log q - log p
(``logit_pairs.py`` says how d is known of each class, and what w, c and the pivot i are):

    KL(p‖q) = -Σ p d = Σ p ξ(d)              ξ(x) = e^x - 1 - x, and Σ p (e^d - 1) = Σ (q - p) = 0
    ∂KL/∂u  = -p∘(w - <p, w>)                ∂KL/∂v = q - p = p∘(e^d - 1)
    JS(p, q) = ½ Σ (p + q) J(d)              J(d) = log 2 - the entropy of a coin that falls with log-odds d
    ∂JS/∂u  = p∘(a - <p, a>)                 ∂JS/∂v = q∘(b - <q, b>)

with a = ½ log(p/m), b = ½ log(q/m), m = (p + q)/2. All terms of both divergences are non-negative: nothing cancels.
An error δ of c is felt to second order in JS.

KL does without the sum that c is of close rows. Its gradient needs the mean <p, w>, and KL = c - <p, w>. Measured from
its mean, w has the mean 0, so that

    e^KL = Σ p e^{w - <p, w>} = 1 + X,     X = Σ p ξ(w - <p, w>),     KL = log1p(X).

An error η of the mean is felt as η²/2 - η KL; and |η| is some roundings of Σ p |w|, whose square is below 2 KL/p_i.
This is used where |c| and |<p, w>| are below ½, so that X < 2. Elsewhere an error δ of d is felt by the terms pξ(d) as
ξ(δ), because their sum is that of p and of q e^δ.

<p, w> and <p, a> are measured from the pivot i, and <q, b> from a most probable class under q. The pivot has no term
then: a p that is within a rounding of 1 is never subtracted from 1.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.autodiff import closed_form, known_as
from lossjax._core.masks import nan_unless
from lossjax._core.platform import by_platform
from lossjax._core.xla import written_down
from lossjax._rules.logit_pairs import (
    Class,
    Pair,
    class_of,
    compare,
    odds,
    pair_of,
    rows_of,
    slopes_of_shares,
    stopped,
    stored_on_chips,
    sum_over_others,
    sums_over_others,
    where_near,
)
from lossjax._softmax import functions
from lossjax._softmax.kernels import with_kernels
from lossjax._softmax.row_statistics import RowStatistics, rows_of_pair
from lossjax.numerics import psi, softplus, times, xi_series


def kl_of_logits(u: Array, v: Array, over: str | None = None) -> Array:
    """:func:`softmax_kl_divergence` in nats over the last axis, or a mesh axis too, for arrays checked already."""
    return _kl_divergence(over, u, v)


# --- Kullback-Leibler ------------------------------------------------------------------------------------------------


def _weighted_w(u: Array, v: Array, rows: tuple[Pair, Array]) -> Array:
    return _weighted_rest(u, v, (*rows, 0))


def _weighted_rest(u: Array, v: Array, rows: tuple[Pair, Array, ArrayLike]) -> Array:
    """``p (w - μ)``."""
    pair, pivot_is_excluded, mean = rows
    one = class_of(u, v, pair.rows_u, pair.rows_v)
    return jnp.where(one.excluded | pivot_is_excluded, -jnp.inf, times(one.p, one.w(pair) - mean))


def _kl_terms(u: Array, v: Array, rows: tuple[Pair, Array]) -> Array:
    pair, scale = rows
    return _kl_of(class_of(u, v, pair.rows_u, pair.rows_v), pair, scale)


def _kl_of(one: Class, pair: Pair, scale: Array) -> Array:
    """``p ξ(d)``, or p e^d - p (1 + d) with q for p e^d, scaled if d is measured from the mean of a close row."""
    d = one.d(pair)
    near, small = where_near(d, 2)
    return jnp.where(near, one.p * xi_series(small, 2), one.q * scale - one.p * jnp.where(one.p > 0, 1 + d, 0))


class _Kl(NamedTuple):
    """Of two rows each, with the class axis kept as 1."""

    value: Array
    mean: Array
    """``<p, w>``, -inf where a class is possible under p and impossible under q."""
    pair: Pair
    """With a shift that is log p/q at the pivot."""


def _measured(pair: Pair, pivot: Class, mean: Array) -> tuple[Pair, Array]:
    """What the terms are formed of: d measured from the mean of a close row, and p_i/q_i e^-mean there."""
    close = pair.close & (jnp.abs(mean) < 0.5)
    origin = jnp.where(close, mean, 0)
    about_mean = pair._replace(close=close, shift=jnp.where(close, origin, pair.shift))
    return about_mean, odds(pivot, close) * jnp.exp(-origin)


def _known(pair: Pair, mean: Array, close_value: Array, value: Array) -> _Kl:
    kl = jnp.where(jnp.isneginf(mean), jnp.inf, jnp.where(pair.close, close_value, value))
    return _Kl(kl, mean, pair._replace(shift=jnp.where(pair.close, mean + kl, pair.shift)))


def _kl_in_passes(over: str | None, dtype: Any, u: Array, v: Array) -> _Kl:
    rows_u = rows_of(over, u, dtype)
    rows_v = rows_of(over, v, dtype, about=rows_u.pivot)  # no formula wants a most probable class of q
    pair, pivot = pair_of(rows_u, rows_v, rows_v.pivot_logit)
    mean = sum_over_others(_weighted_w, pair.rows_u, (u, v), (pair, pivot.excluded))
    measured = _measured(pair, pivot, mean)
    x = sum_over_others(_kl_terms, pair.rows_u, (u, v), measured) + _kl_of(pivot, *measured)
    return _known(measured[0], mean, jnp.log1p(jnp.where(measured[0].close, x, 0)), x)


def _kl_in_two_readings(dtype: Any, u: Array, v: Array, reduce: Any = jax.lax.reduce) -> _Kl:
    """By a first guess μ of the mean, of the reading that the statistics are of; a second one gives X and the rest δ.

    Σ p (w - μ) = δ and Σ p ξ(w - μ) = X, so that Σ p e^(w - μ) = 1 + s with s = X + δ, and

        KL = log1p(s) - δ = X - ψ(s),     ψ(s) = s - log1p(s)

    of which the second keeps its digits where s is small: ψ(s) is about δ²/2 there, and the guess near enough for
    that to be far below X. A μ that is no guess costs digits, never the truth.
    """
    rows_u, rows_v, guess = rows_of_pair(u, v, dtype, reduce)
    pair, pivot = pair_of(rows_u, rows_v, rows_v.pivot_logit)
    measured = _measured(pair, pivot, guess)
    terms = (_kl_terms, measured), (_weighted_rest, (pair, pivot.excluded, guess))
    x, rest = sums_over_others(terms, rows_u, (u, v), reduce)
    x, rest = x + _kl_of(pivot, *measured), rest - pivot.p * guess
    mean = guess + rest
    s = jnp.where(measured[0].close, x + rest, 0)
    close_value = jnp.where(jnp.abs(s) < 0.5, x - psi(s), jnp.log1p(s) - rest)
    return _known(*written_down((measured[0], mean, jnp.where(close_value < 0, 0, close_value), x)))


def _kl_divergence_forward(over: str | None, u: Array, v: Array) -> tuple[Array, Any]:
    dtype = checks.compute_dtype(u, v)
    in_passes = functools.partial(_kl_in_passes, over, dtype)
    if over is None:
        in_two_readings = functools.partial(_kl_in_two_readings, dtype)
        kl = by_platform(u, v, otherwise=in_passes, accelerator=in_two_readings)
    else:
        kl = in_passes(u, v)
    value = nan_unless(~kl.pair.undefined(), kl.value)[..., 0]
    return value, (u, v, stopped(kl.pair), jax.lax.stop_gradient(kl.mean))


_difference = known_as(lambda u, v: v - u)
_kl_slope = known_as(lambda u, rows_u, w: -functions.fisher_product(u, rows_u, w))
_change = known_as(lambda u, v, rows_u, rows_v: functions.probabilities(v, rows_v) - functions.probabilities(u, rows_u))


def _kl_divergence_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    u, v, pair, mean = saved
    pair, mean = stored_on_chips((pair, mean))
    rows_u, rows_v = pair.rows_u, pair.rows_v
    one = class_of(*jax.lax.stop_gradient((u, v)), rows_u, rows_v)
    w, d = one.w(pair), one.d(pair)
    # Where a logit of q tends to -inf under p's eyes, so does w - <p, w> there, and to +inf at the classes beside it.
    in_u = -times(one.p, jnp.where(one.excluded, jnp.where(one.p < 1, -jnp.inf, 0), w - mean))
    near, small = where_near(d, 1)
    in_v = jnp.where(near, one.p * (small + xi_series(small, 1)), one.q - one.p)
    g, defined = cotangent[..., None], ~pair.undefined()
    in_u, in_v = (nan_unless(defined, slope) for slope in (in_u, in_v))
    wide_u, wide_v = u.astype(w.dtype), v.astype(w.dtype)
    w = _difference(jnp.where(jnp.isfinite(w), w, 0), wide_u, wide_v)
    return None, g * _kl_slope(in_u, wide_u, rows_u, w), g * _change(in_v, wide_u, wide_v, rows_u, rows_v)


_kl_divergence = closed_form(*with_kernels(_kl_divergence_forward, _kl_divergence_backward, held=12))


# --- Jensen-Shannon --------------------------------------------------------------------------------------------------


class _Curve(NamedTuple):
    """Of the distance |d|: ε = e^-|d|, and τ = tanh(|d|/2) = |q - p|/(q + p)."""

    distance: Array
    epsilon: Array
    tau: Array

    @classmethod
    def of(cls, d: Array) -> "_Curve":
        distance = jnp.minimum(jnp.abs(d), 1e3)  # ε is 0 long before
        epsilon = jnp.exp(-distance)
        near, small = where_near(-distance, 1)
        return cls(distance, epsilon, jnp.where(near, -small - xi_series(small, 1), 1 - epsilon) / (1 + epsilon))


def _js_terms(u: Array, v: Array, pair: Pair) -> Array:
    return _js_of(class_of(u, v, pair.rows_u, pair.rows_v), pair)


def _js_of(one: Class, pair: Pair) -> Array:
    """``½ (p + q) J(d)`` with J = ½[(1-τ) log(1-τ) + (1+τ) log(1+τ)].

    Near 0 by the series τ²/2 + τ⁴/12 + … + τ²ⁿ/2n(2n-1), all of one sign; beyond, it is log 2 - log(1+ε) - |d| ε/(1+ε).
    """
    curve = _Curve.of(one.d(pair))
    square = curve.tau * curve.tau
    series = jnp.zeros_like(square)
    for n in range(10 if jnp.finfo(square.dtype).bits <= 32 else 22, 0, -1):
        series = series * square + 1 / (2 * n * (2 * n - 1))
    epsilon = curve.epsilon
    far = math.log(2) - jnp.log1p(epsilon) - curve.distance * (epsilon / (1 + epsilon))
    return times(one.p + one.q, jnp.where(curve.distance < 1, series * square, far)) / 2


def _js_divergence_forward(over: str | None, u: Array, v: Array) -> tuple[Array, Any]:
    pair, pivot = compare(over, u, v)
    js = sum_over_others(_js_terms, pair.rows_u, (u, v), pair) + _js_of(pivot, pair)
    return nan_unless(~pair.undefined(), js)[..., 0], (u, v, stopped(pair))


def _shares(one: Class, pair: Pair) -> tuple[Array, Array]:
    """``a = ½ log(p/m)`` and ``b = ½ log(q/m)``, both without their ½ log 2 where the row is not close.

    J(p) takes no notice of a constant. Without the log 2 the digits of classes where p ≫ q are kept in rows that are
    far apart: log(p/m) = log 2 - log(1 + e^d) = log(1 + τ) - max(d, 0).
    """
    d = one.d(pair)
    curve = _Curve.of(d)
    even = jnp.log1p(jnp.where(pair.close, curve.tau, curve.epsilon))
    even = jnp.where(pair.close, even, -even)
    return (even - jnp.maximum(d, 0)) / 2, (even - jnp.maximum(-d, 0)) / 2


@known_as
def _js_slope(u: Array, v: Array, rows_u: RowStatistics, rows_v: RowStatistics) -> Array:
    """``J(p) a``."""
    log_p, log_q = functions.log_probabilities(u, rows_u), functions.log_probabilities(v, rows_v)
    neither = jnp.isneginf(log_p) & jnp.isneginf(log_q)
    d = jnp.where(neither, 0, jnp.where(neither, 0, log_q) - jnp.where(neither, 0, log_p))
    return functions.fisher_product(u, rows_u, -softplus(d) / 2)


def _js_divergence_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    u, v, pair = saved
    rows_u, rows_v = pair.rows_u, pair.rows_v
    in_u, in_v = slopes_of_shares(_shares, *jax.lax.stop_gradient((u, v)), pair)
    g, defined = cotangent[..., None], ~pair.undefined()
    in_u, in_v = (nan_unless(defined, slope) for slope in (in_u, in_v))
    wide_u, wide_v = u.astype(in_u.dtype), v.astype(in_u.dtype)
    in_u, in_v = _js_slope(in_u, wide_u, wide_v, rows_u, rows_v), _js_slope(in_v, wide_v, wide_u, rows_v, rows_u)
    return None, g * in_u, g * in_v


js_divergence = closed_form(*with_kernels(_js_divergence_forward, _js_divergence_backward, held=12))
