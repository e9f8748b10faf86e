"""Divergences of two rows of logits by non-negative terms, which never leave the logits.

Both divergences are sums over the classes of functions of p, q and  d = log q - log p  alone. With w = v - u,

    d = w - log <p, e^w> = w - <p, w> - KL(p‖q)

so that d is w measured from a centre of the row. A common offset of u or of v is in w and in the centre, and must not
be felt: w is measured from its value at the pivot of u first, its rounding error kept.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form, known_as
from lossjax._softmax import functions
from lossjax._softmax.row_statistics import RowStatistics, logit_at, softmax_with_statistics
from lossjax._softmax.row_sum import shifted_exponential
from lossjax.numerics import exact_difference, expm1, log1p, softplus, times, xi


def kl_of_logits(u: Array, v: Array) -> Array:
    """:func:`softmax_kl_divergence` in nats over the last axis, for arrays checked already."""
    return _kl_divergence(u, v)


class _Pair(NamedTuple):
    """Two rows of logits, and one number per row each: all that a backward pass needs.

    ``centre`` is log <p, e^w>. It is measured from ``reference`` - max u, as w is.
    """

    u: Array
    v: Array
    rows_u: RowStatistics
    rows_v: RowStatistics
    reference: Array
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

    def log_ratio(self) -> Array:
        """``log q - log p``: finite, and huge where one of them is 0."""
        return _finite(_relative(self.u, self.v, self.rows_u.maximum, self.reference) - self.centre)


def _finite(x: Array) -> Array:
    largest = float(jnp.finfo(x.dtype).max)
    return jnp.clip(x, -largest, largest)


def _impossible(z: Array, rows: RowStatistics) -> Array:
    """Whether p is 0: under a finite maximum at -inf, under a maximum of +inf at everything else."""
    return jnp.isinf(rows.maximum - z)


def _probabilities(z: Array, rows: RowStatistics) -> Array:
    """``p`` by the operations of :func:`softmax_with_statistics`, which XLA may merge with these."""
    return shifted_exponential(z, rows.maximum) / (1 + rows.rest)


@jax.jit
def _relative(u: Array, v: Array, reference_u: Array, reference_v: Array) -> Array:
    """``w = v - u`` measured from the same difference of the references, by exact differences; finite."""
    w, error = _difference(u, v)
    w_there, error_there = _difference(reference_u, reference_v)
    return _finite((w - w_there) + (error - error_there))


def _difference(u: Array, v: Array) -> tuple[Array, Array]:
    w, error = exact_difference(_finite(v), _finite(u))
    return _finite(w), error


def _compared(u: Array, v: Array) -> tuple[Array, Array, Array, Array, _Pair]:
    """The sum of p ξ(d) that is KL(p‖q), d, p, q, and what to save.

    The centre c is log <p, e^w>, and KL = Σ p ξ(w - c), with terms q - p - p (w - c) away from 0. A c that is wrong by
    δ adds ξ(δ) to this. By the two row statistics c is known to some u, which is enough for KL > 1/2. Below, the
    mean stands for the centre, where δ = KL itself: the sum is then e^KL - 1.
    """
    (rows_u, p), (rows_v, q) = softmax_with_statistics(u), softmax_with_statistics(v)
    beside, maximum = _finite(logit_at(v, rows_u.pivot)), _finite(rows_v.maximum)
    reference = jnp.where(maximum - beside > 8, maximum, beside)
    w = _relative(u, v, rows_u.maximum, reference)
    mean = jnp.sum(p * w, axis=-1, keepdims=True)
    centre = (maximum - reference) + (rows_v.log_total() - rows_u.log_total())
    close = centre - mean < 0.5
    x = _finite(w - jnp.where(close, mean, centre))
    q_at_x = q * jnp.exp(jnp.where(close, centre - mean, 0))
    total = jnp.sum(jnp.where(x < 2, p * xi(jnp.minimum(x, 2)), q_at_x - p * (1 + x)), axis=-1, keepdims=True)
    kl = jnp.where(close, jnp.log1p(total), total)
    pair = _Pair(u, v, rows_u, rows_v, reference, jnp.where(close, mean + kl, centre))
    return kl, p, q, pair.constant()


def _kl_divergence_forward(u: Array, v: Array) -> tuple[Array, Any]:
    kl, _, _, pair = _compared(u, v)
    kl = jnp.where(jnp.any(pair.excluded(), axis=-1, keepdims=True), jnp.inf, kl)
    return jnp.where(pair.undefined(), jnp.nan, kl)[..., 0], pair


_difference_known = known_as(lambda u, v: v - u)
_kl_slope_known = known_as(
    lambda u, v, rows_u, reference: -functions.fisher_product(
        u, rows_u, _difference_known(_relative(u, v, rows_u.maximum, reference), u, v)
    )
)
_change_known = known_as(
    lambda u, v, rows_u, rows_v: functions.probabilities(v, rows_v) - functions.probabilities(u, rows_u)
)


def _kl_divergence_backward(saved: _Pair, cotangent: Array) -> tuple[Array, Array]:
    u, v, rows_u, rows_v = saved[:4]
    pair = saved.constant()
    p, q = _probabilities(pair.u, rows_u), _probabilities(pair.v, rows_v)
    w, excluded = _relative(pair.u, pair.v, rows_u.maximum, pair.reference), pair.excluded()
    mean = jnp.sum(p * w, axis=-1, keepdims=True)
    # Where a logit of q tends to -inf under p's eyes, so does w - <p, w> there, and to +inf at the classes beside it.
    apart = jnp.where(excluded, jnp.where(p < 1, -jnp.inf, 0), jnp.inf)
    in_u = -times(p, jnp.where(jnp.any(excluded, axis=-1, keepdims=True), apart, w - mean))
    # q - p = p (e^d - 1): no cancellation where the two are close.
    d = w - pair.centre
    in_v = jnp.where(jnp.abs(d) < 0.5, p * jnp.expm1(jnp.clip(d, -0.5, 0.5)), q - p)
    g = jnp.where(pair.undefined(), jnp.nan, cotangent[..., None])
    return g * _kl_slope_known(in_u, u, v, rows_u, pair.reference), g * _change_known(in_v, u, v, rows_u, rows_v)


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
    _, p, q, pair = _compared(u, v)
    divergence = jnp.sum((p + q) * _js_curve(pair.log_ratio()), axis=-1) / 2
    return jnp.where(pair.undefined()[..., 0], jnp.nan, divergence), pair


_log_ratio_known = known_as(
    lambda u, v, rows_u, rows_v: functions.log_probabilities(v, rows_v) - functions.log_probabilities(u, rows_u)
)
_half_log_share_known = known_as(lambda d: -softplus(d) / 2)


def _js_divergence_backward(saved: _Pair, cotangent: Array) -> tuple[Array, Array]:
    # J takes no notice of the log 2 in  ½ log(p/m) = ½ (log 2 - softplus d)  and  ½ log(q/m) = ½ (log 2 - softplus -d).
    u, v, rows_u, rows_v = saved[:4]
    pair = saved.constant()
    d = pair.log_ratio()
    even = -log1p(expm1(-jnp.abs(d)) / 2)  # log 2 - log(1 + e^-|d|)
    ratio = _log_ratio_known(d, u, v, rows_u, rows_v)
    a = _half_log_share_known((even - jnp.maximum(d, 0)) / 2, ratio)
    b = _half_log_share_known((even - jnp.maximum(-d, 0)) / 2, -ratio)
    g = jnp.where(pair.undefined(), jnp.nan, cotangent[..., None])
    return g * functions.fisher_product(u, rows_u, a), g * functions.fisher_product(v, rows_v, b)


js_divergence = closed_form(_js_divergence_forward, _js_divergence_backward)
