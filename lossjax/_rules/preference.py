"""The preference losses as functions of sequence log-probabilities: compositions of accurate scalar functions.

Each is a function of a margin h, and everything nonlinear in it is a rule of its own (softplus, σ, the
binary cross-entropy, the odds ratio). So each derivative has one source, and JAX's chain rule only adds and multiplies.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form, scalar_rule
from lossjax._core.masks import nan_unless
from lossjax._rules.sigmoid import elementwise_sigmoid_cross_entropy
from lossjax.numerics import exact_difference, expm1, log_quotient, sigmoid, softplus, times


def _relative_margin(
    dtype: Any, chosen: Array, rejected: Array, reference_chosen: Array, reference_rejected: Array
) -> Array:
    """``(c - c₀) - (r - r₀)`` rounded once: the three differences keep their rounding errors to the end."""
    gain, error = exact_difference(chosen.astype(dtype), reference_chosen)
    other, other_error = exact_difference(rejected.astype(dtype), reference_rejected)
    margin, margin_error = exact_difference(gain, other)
    return margin + (margin_error + (error - other_error))


@scalar_rule(
    lambda g, h, beta: g * nan_unless(jnp.isfinite(beta), beta),
    lambda g, h, beta: g * jnp.where(jnp.isinf(h), 0, h),
)
def _scaled(h: Array, beta: Array) -> Array:
    """``βh``. An infinite margin, that of an impossible answer, has no part in β's gradient; an infinite β is none."""
    return beta * nan_unless(jnp.isfinite(beta), h)


def dpo(
    dtype: Any,
    chosen: Array,
    rejected: Array,
    reference_chosen: Array,
    reference_rejected: Array,
    beta: Array,
    smoothing: Array,
) -> Array:
    """``(1 - ε) s(-βh) + ε s(βh)``: the binary cross-entropy of the logit -βh with the target ε."""
    margin = _relative_margin(dtype, chosen, rejected, reference_chosen, reference_rejected)
    return elementwise_sigmoid_cross_entropy(dtype, -_scaled(margin, beta), smoothing, None, None)


def ipo(
    dtype: Any, chosen: Array, rejected: Array, reference_chosen: Array, reference_rejected: Array, beta: Array
) -> Array:
    """``(h - 1/(2β))²``."""
    margin = _relative_margin(dtype, chosen, rejected, reference_chosen, reference_rejected)
    return jnp.square(margin - 1 / (2 * beta))


def kto(dtype: Any, log_p: Array, log_reference: Array, sign: Array, reference_kl: Array, beta: Array) -> Array:
    """``1 - σ(±β(log p - log p₀ - KL)) = σ(∓β(…))``."""
    gain, error = exact_difference(log_p.astype(dtype), log_reference.astype(dtype))
    beyond, beyond_error = exact_difference(gain, reference_kl)
    return sigmoid(-sign * _scaled(beyond + (beyond_error + error), beta))


def cpo(dtype: Any, chosen: Array, rejected: Array, beta: Array) -> Array:
    """``s(-β(c - r)) - c``."""
    chosen = chosen.astype(dtype)
    return softplus(-_scaled(chosen - rejected.astype(dtype), beta)) - chosen


def simpo(dtype: Any, chosen: Array, rejected: Array, beta: Array, margin: Array) -> Array:
    """``s(m - β(c - r))``."""
    return softplus(margin - _scaled(chosen.astype(dtype) - rejected.astype(dtype), beta))


# The odds ratio. With P = e^c, R = e^r, and o the difference of their log-odds,
#
#     σ(-o) = R(1 - P)/D,  D = P(1 - R) + R(1 - P)      ∂o/∂c = 1/(1 - P)      ∂o/∂r = -1/(1 - R)
#
# so that 1 - P cancels in the gradient -σ(-o)/(1 - P) = -R/D, which is finite where P is 1. R/D is formed with both
# probabilities divided by the larger one: they may be too small to be numbers.
#
# The value log(1 + e^-o) is not formed from the log-odds: of a P near 1 they are large, and e^-o would feel all of
# their rounding. The odds ratio e^-o = e^(r - c) (1 - P)/(1 - R) is a product of two numbers on one side of 1.
def _penalty(c: Array, r: Array) -> Array:
    """``log(1 + e^-o)``; NaN where c or r is no log-probability, or both are 0 or -inf."""
    gap, error = exact_difference(r, c)
    not_chosen, not_rejected = -expm1(c), -expm1(r)
    far = ~(gap < 60)
    odds = jnp.exp(jnp.where(far, 0, gap)) * (1 + jnp.where(far, 0, error)) * (not_chosen / not_rejected)
    huge = far | (odds > 1e30)
    logarithm = gap + log_quotient(not_chosen, not_rejected)
    return nan_unless(jnp.maximum(c, r) <= 0, jnp.where(huge, logarithm, jnp.log1p(jnp.where(huge, 0, odds))))


def _odds_ratio_forward(c: Array, r: Array, weight: Array) -> tuple[Array, Any]:
    return weight * _penalty(c, r), (c, r, weight)


def _odds_ratio_backward(saved: Any, cotangent: Array) -> tuple[Array, Array, Array]:
    c, r, weight = saved
    gap, error = exact_difference(c, r)
    fainter = jnp.exp(-jnp.abs(gap))
    fainter = fainter - times(jnp.sign(gap) * error, fainter)
    chosen, rejected = jnp.where(gap < 0, fainter, 1), jnp.where(gap < 0, 1, fainter)
    not_chosen, not_rejected = -expm1(c), -expm1(r)
    defined = (jnp.maximum(c, r) <= 0) & (jnp.minimum(c, r) < 0)
    share = nan_unless(defined, rejected / (chosen * not_rejected + rejected * not_chosen))
    return (
        -cotangent * (weight * share),
        cotangent * (weight * share * not_chosen / not_rejected),
        cotangent * _penalty(c, r),
    )


_odds_ratio = closed_form(_odds_ratio_forward, _odds_ratio_backward)
"""``(c, r, w) -> w s(-o)``, elementwise."""


def orpo(dtype: Any, chosen: Array, rejected: Array, weight: Array) -> Array:
    """``-c + w s(-o)``, o the difference of the log-odds of e^c and e^r."""
    chosen = chosen.astype(dtype)
    return _odds_ratio(chosen, rejected.astype(dtype), weight) - chosen
