"""What a row of logits says by itself, or beside another: §4.1.6, and §4.1.1's measures without leaving the logits."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax import _checks
from lossjax import _softmax as _rows
from lossjax._autodiff import closed_form, with_plain
from lossjax.numerics import exact_difference, expm1, per_nat, times, xi


def _last(array: Array, axis: int) -> Array:
    return jnp.moveaxis(array, axis, -1).astype(_checks.compute_dtype(array))


@with_plain
def softmax(logits: ArrayLike, *, axis: int = -1) -> Array:
    r"""The probabilities of a row of logits.

    .. math:: p_j = e^{z_j - m} / \textstyle\sum_k e^{z_k - m}, \quad m = \max z

    Domain: any real logits; -inf has probability 0, one +inf has 1. A row with NaN, with two +inf, or with nothing
    but -inf is NaN.

    Gradient: J(p) = diag(p) - p pᵀ, applied without the matrix; every row of it sums to 0 to rounding.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      axis: the class axis.

    Returns:
      Probabilities, the logits' shape and dtype (computed in float32 for 16-bit logits). Onto the open simplex, and
      not one to one: softmax(z + a) = softmax(z).

    Accuracy: 8u relative in every entry (plus the smallest normal number), at every scale, offset and gap.

    Raises:
      TypeError: logits that are not floats.
      ValueError: an axis that does not exist or holds no class.

    Example:
      >>> import jax.numpy as jnp
      >>> print(softmax(jnp.array([1000.0, 1000.0, -jnp.inf])))
      [0.5 0.5 0. ]

    Source: §4.1.6.
    """
    logits = _checks.floating("logits", logits)
    (one,) = _checks.one_class_axis(logits, "logits", axis)
    return jnp.moveaxis(_rows.softmax(_last(logits, one)), -1, one).astype(logits.dtype)


@with_plain
def log_softmax(logits: ArrayLike, *, axis: int = -1) -> Array:
    r"""The log-probabilities of a row of logits.

    .. math:: \log p_k = -\left[(m - z_k) + \log(1 + \textstyle\sum_{j \ne i} e^{z_j - m})\right], \quad z_i = m

    Domain: as :func:`softmax`; a logit of -inf has -inf.

    Gradient: g - (Σg) p for a cotangent g, without cancellation where p_k is near 1.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      axis: the class axis.

    Returns:
      Log-probabilities in nats, the logits' shape, in float32 or wider.

    Accuracy: 8u relative in every entry; the entry of a certain class does not round to 0.

    Raises:
      TypeError: logits that are not floats.
      ValueError: an axis that does not exist or holds no class.

    Example:
      >>> import jax.numpy as jnp
      >>> [f"{entry:.5g}" for entry in log_softmax(jnp.array([50.0, 0.0]))]
      ['-1.9287e-22', '-50']

    Source: §4.1.6, equation (4.1.5).
    """
    logits = _checks.floating("logits", logits)
    (one,) = _checks.one_class_axis(logits, "logits", axis)
    return jnp.moveaxis(_rows.log_softmax(_last(logits, one)), -1, one)


@with_plain
def logsumexp(logits: ArrayLike, *, axis: int = -1) -> Array:
    r"""The log-partition function of the categorical family.

    .. math:: A(z) = \log \textstyle\sum_j e^{z_j} = m + \log(1 + \textstyle\sum_{j \ne i} e^{z_j - m})

    Domain: as :func:`softmax`; a row of nothing but -inf is NaN (its gradient has no value).

    Gradient: softmax(z).

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      axis: the class axis.

    Returns:
      ``[...]`` in nats, in float32 or wider.

    Accuracy: 8u·max(|m|, |A - m|): where the two terms cancel, the result is small beside them.

    Raises:
      TypeError: logits that are not floats.
      ValueError: an axis that does not exist or holds no class.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{logsumexp(jnp.array([1000.0, 1000.0])):.3f}")
      1000.693

    Source: equation (4.1.5).
    """
    logits = _checks.floating("logits", logits)
    (one,) = _checks.one_class_axis(logits, "logits", axis)
    return _rows.log_sum_exp(_last(logits, one))


@with_plain
def softmax_entropy(logits: ArrayLike, *, axis: int = -1, base: float | None = None) -> Array:
    r"""Shannon entropy of ``softmax(logits)``.

    .. math:: H = \textstyle\sum_k p_k (m - z_k) + \log \textstyle\sum_j e^{z_j - m}

    Domain: as :func:`softmax`; impossible classes contribute nothing. Never negative.

    Gradient: p_k ((m - z_k) - Σ_j p_j (m - z_j)).

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      axis: the class axis.
      base: of the logarithm, greater than 1; None = nats, 2 = bits.

    Returns:
      ``[...]`` in nats unless ``base``, in float32 or wider.

    Accuracy: 33u (67u where a gap reaches 16).

    Raises:
      TypeError: logits that are not floats.
      ValueError: an axis that does not exist or holds no class, a base not greater than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> print(softmax_entropy(jnp.zeros(8), base=2))
      3.0

    Source: §4.1.1, H(P).
    """
    logits = _checks.floating("logits", logits)
    (one,) = _checks.one_class_axis(logits, "logits", axis)
    return _entropy(None, _last(logits, one)) * per_nat(_checks.base(base))


@with_plain
def softmax_kl_divergence(
    logits_p: ArrayLike, logits_q: ArrayLike, *, axis: int = -1, base: float | None = None
) -> Array:
    r"""Kullback-Leibler divergence KL(p‖q) of ``p = softmax(logits_p)`` from ``q = softmax(logits_q)``.

    .. math:: \log\left(1 + \textstyle\sum_k p_k\, \xi(r_k)\right), \quad r = w - \textstyle\sum_k p_k w_k,
              \quad w = z_q - z_p, \quad \xi(x) = e^x - 1 - x

    Every term is non-negative: the result is never negative, exactly 0 for equal logits, and as accurate for close
    distributions as for distant ones.

    Domain: as :func:`softmax` for both; classes impossible under p contribute nothing, a class possible under p and
    impossible under q gives +inf.

    Gradient: -p∘r in ``logits_p``, q - p in ``logits_q``.

    Args:
      logits_p: ``[..., C]`` floats, of the distribution that weighs (the prediction, or the first argument of KL).
      logits_q: ``[..., C]`` floats, the same shape.
      axis: the class axis.
      base: of the logarithm, greater than 1; None = nats, 2 = bits.

    Returns:
      ``[...]`` in nats unless ``base``, in float32 or wider.

    Accuracy: 33u (67u where a gap reaches 16).

    Raises:
      TypeError: logits that are not floats.
      ValueError: shapes that do not agree, an axis that does not exist or holds no class, a base not greater than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{softmax_kl_divergence(jnp.array([1.0, 0.0]), jnp.array([1.0 + 2**-10, 0.0])):.5g}")
      9.3738e-08

    Source: theorem 4.1.6 as corrected: KL(softmax u‖softmax v) is the Bregman divergence of log-sum-exp from v to u.
    """
    logits_p = _checks.floating("logits_p", logits_p)
    logits_q = _checks.floating("logits_q", logits_q)
    _checks.same_shape("logits_q", logits_q.shape, "of logits_p", logits_p.shape, "give two logits a class")
    (one,) = _checks.one_class_axis(logits_p, "logits_p", axis)
    dtype = _checks.compute_dtype(logits_p, logits_q)
    u, v = (jnp.moveaxis(z, one, -1).astype(dtype) for z in (logits_p, logits_q))
    return kl_of_logits(u, v) * per_nat(_checks.base(base))


def kl_of_logits(u: Array, v: Array) -> Array:
    """:func:`softmax_kl_divergence` in nats over the last axis, for arrays checked already."""
    return _kl_divergence(None, u, v)


def _entropy_forward(_: None, z: Array) -> tuple[Array, Any]:
    rows = _rows.row_statistics(z)
    expected_gap = jnp.sum(times(_rows.p_of(z, rows), _rows.gaps(z, rows)), axis=-1, keepdims=True)
    return (expected_gap + rows.log_total())[..., 0], (z, rows.stopped())


def _entropy_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array]:
    # dH/dz = p∘(gap - <p, gap>) = J(p) gap; an infinite gap has p = 0, and gradient 0.
    z, rows = residuals
    gap = rows.maximum - z
    return (cotangent[..., None] * _rows.fisher_product(z, rows, jnp.where(jnp.isfinite(gap), gap, 0)),)


class _Relative(NamedTuple):
    """``r = w - <p, w>`` with w = v - u, and the logarithms of p_k e^{r_k}; r = 0 where a class is impossible under p.

    w is measured from its value at the pivot, and its rounding errors are kept: neither a common offset of u nor one
    of v, however large, is felt in r.
    """

    r: Array
    exponent: Array
    possible: Array

    @classmethod
    def of(cls, u: Array, v: Array, p: Array, rows_u: _rows.Rows) -> "_Relative":
        possible = ~jnp.isneginf(u)
        w, error = exact_difference(jnp.where(possible, v, 0), jnp.where(possible, u, 0))
        w, error, own_v = (_from_pivot(part, u, rows_u) for part in (w, error, v))
        relative = w + error
        mean = jnp.sum(times(p, relative), axis=-1, keepdims=True)
        r = jnp.where(possible, relative - mean, 0)
        exponent = jnp.where(possible, r - _rows.gaps(u, rows_u), own_v - mean) - rows_u.log_total()
        return cls(r, exponent, possible)


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


def _from_pivot(values: Array, u: Array, rows_u: _rows.Rows) -> Array:
    return values - jnp.sum(jnp.where(rows_u.is_pivot(u), values, 0), axis=-1, keepdims=True)


def _kl_divergence_forward(_: None, u: Array, v: Array) -> tuple[Array, Any]:
    u, v = _tame(u), _tame(v)
    rows_u, rows_v = _rows.row_statistics(u), _rows.row_statistics(v)
    excluded = jnp.any(jnp.isneginf(v) & ~jnp.isneginf(u), axis=-1, keepdims=True)
    p = _rows.p_of(u, rows_u)
    relative = _Relative.of(u, jnp.where(excluded, u, v), p, rows_u)
    r, exponent = relative.r, relative.exponent
    # The terms p ξ(r): by ξ near 0; else p e^r - p(1 + r), where p e^r neither overflows nor vanishes with p.
    near = (jnp.abs(r) < 1) & relative.possible
    far = jnp.exp(jnp.minimum(exponent, 2)) - times(p, 1 + r)
    terms = jnp.where(near, p * xi(jnp.where(near, r, 0)), far)
    close = jnp.log1p(jnp.sum(terms, axis=-1, keepdims=True))
    # A divergence with an exponent above 2 is that exponent plus a log-sum-exp: both positive.
    largest = jnp.max(exponent, axis=-1, keepdims=True)
    anchor = jnp.maximum(largest, 2)
    distant = anchor + jnp.log(jnp.sum(jnp.exp(exponent - anchor), axis=-1, keepdims=True))
    divergence = jnp.where(largest > 2, distant, close)
    undefined = jnp.isnan(rows_u.rest) | jnp.isnan(rows_v.rest)
    divergence = jnp.where(undefined, jnp.nan, jnp.where(excluded, jnp.inf, divergence))
    return divergence[..., 0], (u, v, rows_u.stopped(), rows_v.stopped())


def _kl_divergence_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array, Array]:
    u, v, rows_u, rows_v = residuals
    g = cotangent[..., None]
    p, q = _rows.probabilities(u, rows_u), _rows.probabilities(v, rows_v)
    excluded = jnp.isneginf(v) & ~jnp.isneginf(u)
    somewhere = jnp.any(excluded, axis=-1, keepdims=True)
    relative = _Relative.of(u, jnp.where(somewhere, u, v), p, rows_u)
    # q - p = p (e^d - 1) with d = log q - log p = r - KL: no cancellation where the two are close.
    d = relative.r - _kl_divergence(None, u, v)[..., None]
    close = (jnp.abs(d) < 0.5) & relative.possible
    in_v = jnp.where(close, p * expm1(jnp.where(close, d, 0)), q - p)
    # Where a logit of q tends to -inf under p's eyes, so does r there, and to +inf at the classes beside it.
    apart = jnp.where(excluded, jnp.where(p < 1, -jnp.inf, 0), jnp.where(relative.possible, jnp.inf, 0))
    r = jnp.where(somewhere, apart, relative.r)
    return g * -times(p, r), g * in_v


_entropy = closed_form(_entropy_forward, _entropy_backward)
_kl_divergence = closed_form(_kl_divergence_forward, _kl_divergence_backward)
