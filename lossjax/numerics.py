"""Elementary functions that keep their relative accuracy where the textbook expression cancels or divides by zero.

Every function is elementwise and computes in the dtype of its arguments. Most have a derivative in closed form; a
function whose description says that it is a formula has none, and JAX differentiates its code. ``u`` is the unit
roundoff (2^-24 in float32, 2^-53 in float64).

Example:
  >>> import jax, jax.numpy as jnp
  >>> from lossjax.numerics import psi, xi, xlogy
  >>> x = jnp.float32(1e-3)
  >>> print(f"{jnp.exp(x) - 1 - x:.5e} {xi(x):.5e}")  # the truth is 5.00167e-07
  5.23520e-07 5.00167e-07
  >>> print(f"{x - jnp.log(1 + x):.5e} {psi(x):.5e}")  # the truth is 4.99667e-07
  4.52972e-07 4.99667e-07
  >>> print(jax.grad(jax.scipy.special.xlogy, 1)(0.0, 0.0), jax.grad(xlogy, 1)(jnp.float32(0), jnp.float32(0)))
  nan 0.0
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import scalar_rule
from lossjax._core.masks import nan_unless
from lossjax._core.xla import is_finite, less_constant

_SQRT_HALF = math.sqrt(0.5)


def exact_difference(a: Array, b: Array) -> tuple[Array, Array]:
    """``a - b`` as an unevaluated sum: the rounded difference, and its rounding error, which is exact.

    Where the difference is infinite or NaN the error is 0.

    Args:
      a: floats, any shape.
      b: floats of the same dtype, of a shape that broadcasts with ``a``.

    Returns:
      ``(difference, error)`` with ``difference + error == a - b`` exactly, barring overflow.
    """
    difference, error = two_difference(a, b)
    return difference, jnp.where(jnp.isfinite(difference), error, 0)


def two_difference(a: Array, b: Array) -> tuple[Array, Array]:
    """:func:`exact_difference` of finite numbers: Knuth's two-sum, six operations and no branch."""
    difference = a - b
    back = difference - a
    return difference, (a - (difference - back)) - (b + back)


@scalar_rule(lambda g, x: g * expm1(x))
def xi(x: Array) -> Array:
    """``e^x - 1 - x``, which is never negative, within a relative error of 8u, also near 0.

    It is the second-order remainder of exp, hence the Bregman divergence of exp between x and 0: Kullback-Leibler
    divergences between exponential-family members are sums of it.
    """
    # On (-1, 2) the series is used. Outside, e^x - 1 - x magnifies the error of exp at most 1.7-fold (at x = 2).
    small = (x > -1) & (x < 2)
    inside = jnp.where(small, x, 0)
    outside = jnp.where(small, 2, x)
    infinite = jnp.isposinf(outside)
    direct = jnp.where(infinite, outside, jnp.exp(outside) - 1 - jnp.where(infinite, 0, outside))
    return jnp.where(small, xi_series(inside), direct)


def _psi_slope(t: Array) -> Array:
    """``d/dt (t - log(1 + t)) = t/(1 + t)``, which tends to 1."""
    finite = jnp.where(jnp.isposinf(t), 0, t)
    return jnp.where(jnp.isposinf(t), 1, finite / (1 + finite))


@scalar_rule(lambda g, t: g * _psi_slope(t))
def psi(t: Array) -> Array:
    """``t - log(1 + t)`` for t >= -1, which is never negative, within a relative error of 8u, also near 0.

    ``psi(-1) = +inf``, and NaN for smaller t. It is the dual of :func:`xi`: divergences between probabilities are sums
    of it.
    """
    # On (-1/2, 5/4) the series is used; s² <= 0.15 there. Below, 1 + t is exact. Above, log1p(t) is at most 0.65 t, so
    # that the difference does not cancel.
    small = (t > -0.5) & (t < 1.25)
    inside = jnp.where(small, t, 0)
    outside = jnp.where(small | jnp.isposinf(t), 2, t)
    direct = outside - jnp.where(outside < 0, jnp.log(1 + outside), jnp.log1p(jnp.maximum(outside, 0)))
    return jnp.where(small, psi_series(inside), jnp.where(jnp.isposinf(t), t, direct))


def xi_series(x: Array, reach: float = 2) -> Array:
    """:func:`xi` on [-1, reach], where its series needs no exponential; a formula, which JAX differentiates."""
    # x²/2! + x³/3! + … + xⁿ/n! by Horner's rule. What is left out is about 2 reachⁿ⁻¹/(n+1)! of the sum, below u/8.
    room = float(jnp.finfo(x.dtype).eps) / 16
    terms = next(n for n in itertools.count(2) if 2 * reach ** (n - 1) / math.factorial(n + 1) < room)
    total = jnp.full_like(x, 1 / math.factorial(terms))
    for k in range(terms - 1, 1, -1):
        total = total * x + 1 / math.factorial(k)
    return x * x * total


def psi_series(t: Array) -> Array:
    """:func:`psi` on [-1/2, 5/4], where its series needs no logarithm; a formula, which JAX differentiates.

    From log1p(t) = 2 atanh(s) = 2(s + s³/3 + …), s = t/(2 + t). Because t = s(2 + t), the leading terms cancel on
    paper: t - 2s = t·s. That leaves s(t - 2s²(1/3 + s²/5 + …)).
    """
    terms = 10 if _is_single(t) else 20
    s = t / (2 + t)
    square = s * s
    total = jnp.full_like(t, 1 / (2 * terms + 1))
    for k in range(terms - 1, 0, -1):
        total = 1 / (2 * k + 1) + total * square
    return s * (t - 2 * square * total)


def _is_single(x: Array) -> bool:
    return jnp.finfo(x.dtype).bits <= 32


def expm1(x: Array) -> Array:
    """``e^x - 1``. XLA's own (CPU backend, JAX 0.10 to 0.12) loses accuracy for |x| > 1, where e^x - 1 is accurate."""
    return jnp.where(jnp.abs(x) < 1, jnp.expm1(jnp.where(jnp.abs(x) < 1, x, 0)), jnp.exp(x) - 1)


def log1p(x: Array) -> Array:
    """``log(1 + x)`` within 4u. XLA's own (CPU backend, float64, JAX 0.10 to 0.12) is up to 240u off in (-0.5, -0.3).

    Below -1/4 the rounding of 1 + x changes log(1 + x) by at most 2.4u. It is a formula, which JAX differentiates.
    """
    low = x < -0.25
    return jnp.where(low, jnp.log(1 + jnp.where(low, x, 0)), jnp.log1p(jnp.where(low, 0, x)))


def _xlogy_slope(x: Array, y: Array) -> Array:
    """``x/y``. Where x is 0 it is 0 for every y, except for NaN."""
    return jnp.where(x == 0, jnp.where(jnp.isnan(y), y, 0), x / jnp.where(x == 0, 1, y))


@scalar_rule(lambda g, x, y: g * jnp.where(jnp.isnan(x), x, jnp.log(y)), lambda g, x, y: g * _xlogy_slope(x, y))
def xlogy(x: Array, y: Array) -> Array:
    """``x·log(y)`` with ``0·log(0) = 0`` in the value, and there 0 in the gradient with respect to ``y``; NaN for NaN.

    ``jax.scipy.special.xlogy`` has this value, but a NaN gradient at (0, 0). Here ∂/∂y = x/y is 0 where x is 0. And
    ∂/∂x = log y, which at y = 0 is -inf, as it should be.
    """
    return jnp.where(jnp.isnan(y), y, times(x, jnp.log(y)))


def times(weight: Array, value: Array) -> Array:
    """``weight·value`` where a weight of 0 silences an infinite or NaN value."""
    return weight * jnp.where((weight == 0) & ~is_finite(value), 0, value)


@scalar_rule(lambda g, x: g / (x * math.log(2)))
def log2(x: Array) -> Array:
    """``log₂ x``, exact at every power of two (``jnp.log2`` misses one in six); elsewhere within 2 ulp.

    x = m·2^e with m in [√½, √2) gives e + log1p(m - 1)/ln 2. The subtraction is exact, and at a power of two it is 0.
    """
    usual = (x > 0) & jnp.isfinite(x)
    mantissa, exponent = jnp.frexp(jnp.where(usual, x, 1))
    low = mantissa < _SQRT_HALF
    mantissa = jnp.where(low, 2 * mantissa, mantissa)
    exponent = (exponent - low.astype(exponent.dtype)).astype(x.dtype)
    return jnp.where(usual, exponent + jnp.log1p(mantissa - 1) / math.log(2), jnp.log(x))


_ZETA_LESS_ONE = (
    0.6449340668482263, 0.20205690315959424, 0.08232323371113819, 0.03692775514336992, 0.01734306198444914,
    0.008349277381922825, 0.004077356197944342, 0.002008392826082211, 0.000994575127818087, 0.0004941886041194589,
    0.0002460865533080517, 0.00012271334757848681, 6.12481350587106e-05, 3.058823630697205e-05, 1.528225940864575e-05,
    7.637197637855309e-06, 3.8172932649901264e-06, 1.908212716505986e-06, 9.539620338637478e-07, 4.769329866594063e-07,
    2.3845050271809054e-07, 1.1921992593144637e-07, 5.96081890409661e-08, 2.980350344294891e-08, 1.4901554818216867e-08,
)  # fmt: skip
"""ζ(k) - 1 for k from 2 on."""
_EULER = 0.5772156649015329


@scalar_rule(lambda g, t: g * jax.scipy.special.digamma(t + 1))
def log_factorial(t: Array) -> Array:
    """``log t! = log Γ(t + 1)`` for t >= 0 within a relative error of 16u, also at its zeros, t = 0 and 1.

    XLA's log-gamma (CPU backend, JAX 0.10 to 0.12) is off by 5e-7 there in float32.
    """
    # log Γ(2 + s) = (1 - γ)s + Σ_k (-1)^k (ζ(k) - 1) s^k/k is used for |s| <= ½. It is brought there by one step of
    # Γ(t + 2) = (t + 1) Γ(t + 1) for t below ½, and by up to four of Γ(t + 1) = t Γ(t) for t from 1.5 to 5.5.
    near, low = t < 5.5, t < 0.5
    small = jnp.where(near, t, 1)
    steps = jnp.floor(small - 0.5)
    s = jnp.where(low, small, small - 1 - steps)
    total = jnp.zeros_like(t)
    for k in range(12 if _is_single(t) else 26, 1, -1):
        total = s * ((-1) ** k * _ZETA_LESS_ONE[k - 2] / k + total)
    product = jnp.ones_like(t)
    for i in range(4):
        product = product * jnp.where(steps > i, small - i, 1)
    climbed = jnp.where(low, -jnp.log1p(jnp.where(low, small, 0)), jnp.log(product))
    return jnp.where(near, climbed + s * (1 - _EULER + total), jax.scipy.special.gammaln(jnp.where(near, 6, t) + 1))


def log_base(x: Array, base: float | None) -> Array:
    """``log_b x``. The base None means the natural logarithm; with base 2, powers of two are exact."""
    if base is None:
        return jnp.log(x)
    if base == 2:
        return log2(x)
    return jnp.log(x) / math.log(base)


def per_nat(base: float | None) -> float:
    """How many units of ``base`` make one nat: 1/ln b."""
    return 1.0 if base is None else 1 / math.log(base)


@scalar_rule(lambda g, a, b: g / a, lambda g, a, b: -g / b)
def log_ratio(a: Array, b: Array) -> Array:
    """``log(a/b)`` within a relative error of 8u, also for a near b; the ratio does not overflow.

    The gradients are 1/a and -1/b. The value is -inf at a = 0, +inf at b = 0, and NaN where both are 0.
    """
    neither = (a == 0) & (b == 0)
    return nan_unless(~neither, log_growth(b, a, a - b))


def log_growth(start: Array, end: Array, step: Array) -> Array:
    """``log(end/start)`` with ``step = end - start`` given, which may be known more exactly; 0 where both are 0.

    It is a formula, which JAX differentiates. Where |step| is below half of the start, log1p(step/start) is accurate.
    Elsewhere the logarithm is at least 0.4, and the rounding of the ratio changes it by 2.5u at most.
    """
    ratio = step / jnp.where(start == 0, 1, start)
    close = (jnp.abs(ratio) < 0.5) & (start > 0)
    apart = jnp.where((start == 0) & (end == 0), 0, log_quotient(end, start))
    return jnp.where(close, log1p(jnp.where(close, ratio, 0)), apart)


def log_quotient(a: Array, b: Array) -> Array:
    """``log(a/b)`` of the rounded quotient; where that leaves the normal range, the difference of the logarithms."""
    quotient = a / b
    normal = (quotient > jnp.finfo(a.dtype).tiny) & jnp.isfinite(quotient)
    return jnp.where(normal, jnp.log(jnp.where(normal, quotient, 1)), jnp.log(a) - jnp.log(b))


def _quotient_in_divisor(g: Array, a: Array, b: Array) -> Array:
    return -g * quotient(a, b) / b


@scalar_rule(lambda g, a, b: g / b, _quotient_in_divisor)
def quotient(a: Array, b: Array) -> Array:
    """``a/b`` with a derivative that does not square b: JAX's own has b^-2, which overflows long before 1/b does."""
    return a / b


@scalar_rule(lambda g, x: g * sigmoid(x))
def softplus(x: Array) -> Array:
    """``log(1 + e^x) = max(x, 0) + log1p(e^-|x|)``, a sum of non-negative terms. Its gradient is :func:`sigmoid`.

    (-|x| is written as the minimum of x and -x: XLA sees that it is the same for both signs, and takes one exponential
    for ``softplus(x)`` and ``softplus(-x)``.)
    """
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(jnp.minimum(x, -x)))


def _sigmoid_pullback(g: Array, x: Array) -> Array:
    return g * sigmoid(x) * sigmoid(-x)


@scalar_rule(_sigmoid_pullback)
def sigmoid(x: Array) -> Array:
    """``1/(1 + e^-x)``, both tails to full relative accuracy: for negative x it is e^x/(1 + e^x).

    Its gradient is σ(x)·σ(-x), without a subtraction from 1.

    (-|x| is written in another way than in :func:`softplus`, so that XLA does not take one exponential for both. On a
    GPU it would store it, and for logits of 16 bits move five times their bytes.)
    """
    tail = jnp.exp(-jnp.maximum(x, -x))
    return jnp.where(x >= 0, 1, tail) / (1 + tail)


def _log_odds_slope(x: Array) -> Array:
    """``1/(1 - e^x)``; NaN for x > 0."""
    return nan_unless(x <= 0, 1 / jnp.abs(expm1(x)))


@scalar_rule(lambda g, x: g * _log_odds_slope(x))
def log_odds(x: Array) -> Array:
    """``log(p/(1 - p))`` of a probability given by its logarithm x = log p <= 0; its derivative is 1/(1 - p).

    It is accurate within 8u everywhere, also near p = 1/2, where it is 0. The value is -inf at x = -inf, +inf at 0, and
    NaN for x > 0, which is the logarithm of no probability.
    """
    # With y = -x - log 2 it is -log(2e^y - 1). log 2 is given in two parts, so that y is right where it is small too.
    # Between x/2 and 2x the difference to the first is exact.
    y = less_constant(-x, *(_LOG2_SINGLE if _is_single(x) else _LOG2_DOUBLE))
    even = jnp.abs(y) < 0.25
    near = -log1p(2 * jnp.expm1(jnp.where(even, y, 0)))
    likely = x > -math.log(2)
    above = -jnp.log(jnp.expm1(-jnp.where(likely, x, -1)))
    below = x - log1p(-jnp.exp(jnp.where(likely, -1, x)))
    return jnp.where(even, near, jnp.where(likely, above, below))


_LOG2_SINGLE, _LOG2_DOUBLE = (0.6931471824645996, -1.904654299957768e-09), (math.log(2), 2.3190468138462996e-17)
"""``log 2`` as the nearest number of the dtype, and the rest."""


def unit_roundoff(dtype: Any) -> float:
    """``u``, half the spacing of the dtype's numbers at 1: 2^-24 for float32, 2^-53 for float64."""
    return float(jnp.finfo(dtype).eps) / 2
