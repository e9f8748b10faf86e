"""Jensen-Shannon divergence of two rows of logits about any mixture of the two.

With p = softmax u, q = softmax v, the mixture m = βp + γq, γ = 1 - β, and d = log q - log p (``logit_pairs.py`` says
how d is known of each class):

    JS_β     = β KL(p‖m) + γ KL(q‖m)
             = Σ [β p ψ(γ (e^d - 1)) + γ q ψ(β (e^-d - 1))]          ψ(t) = t - log(1 + t)
    ∂JS_β/∂u = p∘(a - <p, a>)          a = β log(p/m)
    ∂JS_β/∂v = q∘(b - <q, b>)          b = γ log(q/m)
    ∂JS_β/∂β = KL(p‖m) - KL(q‖m)

for what is added to the logarithms, βγ (q - p) + γβ (p - q), is 0 in each class. No term is negative. With L the
larger of p and q, S the smaller, l and s their weights, and ε = e^-|d|, both arguments of ψ are small where they should
be, and nothing overflows:

    S ψ(l (1/ε - 1)) = L [l (1 - ε) - ε log(m/S)]          L ψ(-s (1 - ε))          m/S = 1 + l (1/ε - 1)
    m/L = 1 - s (1 - ε) = l + sε

At β = ½ the formula in ``logit_divergences.py`` is the same number for half the work.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form, known_as
from lossjax._core.masks import nan_unless
from lossjax._core.sharding import same_on_all
from lossjax._rules.logit_pairs import Class, Pair, class_of, compare, slopes_of_shares, stopped, sum_over_others
from lossjax._softmax import functions
from lossjax._softmax.row_statistics import RowStatistics
from lossjax.numerics import expm1, psi_series, softplus, times


class _Parts(NamedTuple):
    """Of each class: the two divergences' terms, and the logarithms of p and q over the mixture."""

    of_p: Array
    of_q: Array
    log_p: Array
    log_q: Array

    @classmethod
    def of(cls, one: Class, pair: Pair, beta: Array) -> "_Parts":
        d, gamma = one.d(pair), 1 - beta
        rises = d > 0
        larger, own, other = (jnp.where(rises, *x) for x in ((one.q, one.p), (gamma, beta), (beta, gamma)))
        distance = jnp.minimum(jnp.abs(d), 1e3)  # ε is 0 long before
        epsilon, less = jnp.exp(-distance), -expm1(-distance)
        # log(m/S): beyond the limit, at which e^|d| is far from the largest number, it grows as |d|.
        within = jnp.minimum(distance, 80 if jnp.finfo(d.dtype).bits == 32 else 700)
        grown = own * expm1(within)
        over_smaller = jnp.log1p(grown) + (distance - within)
        fallen = -other * less
        slight = fallen > -0.25
        over_larger = jnp.where(slight, jnp.log1p(jnp.where(slight, fallen, 0)), jnp.log(own + other * epsilon))
        near, close = grown < 1.25, fallen > -0.5
        smaller = jnp.where(near, epsilon * psi_series(jnp.where(near, grown, 0)), own * less - epsilon * over_smaller)
        greater = jnp.where(close, psi_series(jnp.where(close, fallen, 0)), fallen - over_larger)
        smaller, greater = times(larger, smaller), times(larger, greater)
        return cls(
            jnp.where(rises, smaller, greater),
            jnp.where(rises, greater, smaller),
            -jnp.where(rises, over_smaller, over_larger),
            -jnp.where(rises, over_larger, over_smaller),
        )


def _terms(u: Array, v: Array, rows: tuple[Pair, Array]) -> Array:
    pair, beta = rows
    return _term_of(class_of(u, v, pair.rows_u, pair.rows_v), pair, beta)


def _term_of(one: Class, pair: Pair, beta: Array) -> Array:
    parts = _Parts.of(one, pair, beta)
    return beta * parts.of_p + (1 - beta) * parts.of_q


def _forward(over: str | None, u: Array, v: Array, mixture: Array) -> tuple[Array, Any]:
    pair, pivot = compare(over, u, v)
    beta = _each_row(mixture, pair)
    js = sum_over_others(_terms, pair.rows_u, (u, v), (pair, beta)) + _term_of(pivot, pair, beta)
    return nan_unless(~pair.undefined(), js)[..., 0], (u, v, mixture, stopped(pair))


def _each_row(mixture: Array, pair: Pair) -> Array:
    return jnp.zeros_like(pair.shift) + same_on_all(mixture, pair.rows_u.over)


def _shares(one: Class, pair: Pair, beta: Array) -> tuple[Array, Array]:
    """``a`` and ``b``, both without a constant where the row is not close, of which J(p) takes no notice.

    log(p/m) = -log β - log(1 + (γ/β) e^d): without the first part the digits of classes where p ≫ q are kept.
    """
    parts, gamma = _Parts.of(one, pair, beta), 1 - beta
    odds = one.d(pair) + (jnp.log(gamma) - jnp.log(beta))
    return (
        beta * jnp.where(pair.close, parts.log_p, -softplus(odds)),
        gamma * jnp.where(pair.close, parts.log_q, -softplus(-odds)),
    )


def _log_ratio(u: Array, v: Array, rows_u: RowStatistics, rows_v: RowStatistics) -> Array:
    """``d`` as JAX differentiates it, 0 where neither is possible."""
    log_p, log_q = functions.log_probabilities(u, rows_u), functions.log_probabilities(v, rows_v)
    neither = jnp.isneginf(log_p) & jnp.isneginf(log_q)
    return jnp.where(neither, 0, jnp.where(neither, 0, log_q) - jnp.where(neither, 0, log_p))


@known_as
def _slope(u: Array, v: Array, rows_u: RowStatistics, rows_v: RowStatistics, own: Array, other: Array) -> Array:
    """``J(p) a``, with the weights of p and q."""
    odds = _log_ratio(u, v, rows_u, rows_v) + (jnp.log(other) - jnp.log(own))
    return functions.fisher_product(u, rows_u, -own * softplus(odds))


@known_as
def _in_mixture(u: Array, v: Array, rows_u: RowStatistics, rows_v: RowStatistics, beta: Array) -> Array:
    """``KL(p‖m) - KL(q‖m)``, of the classes held here."""
    gamma = 1 - beta
    odds = _log_ratio(u, v, rows_u, rows_v) + (jnp.log(gamma) - jnp.log(beta))
    log_p, log_q = -jnp.log(beta) - softplus(odds), -jnp.log(gamma) - softplus(-odds)
    p, q = functions.probabilities(u, rows_u), functions.probabilities(v, rows_v)
    return jnp.sum(times(p, log_p) - times(q, log_q), axis=-1)


def _backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array]:
    u, v, mixture, pair = saved
    rows_u, rows_v = pair.rows_u, pair.rows_v
    x, y, constant = jax.lax.stop_gradient((u, v, mixture))
    beta = _each_row(constant, pair)
    in_u, in_v = slopes_of_shares(_shares, x, y, pair, beta)
    parts = _Parts.of(class_of(x, y, rows_u, rows_v), pair, beta)
    in_mixture = jnp.sum(parts.of_p - parts.of_q, axis=-1)
    g, defined = cotangent[..., None], ~pair.undefined()
    in_u, in_v = (nan_unless(defined, slope) for slope in (in_u, in_v))
    wide_u, wide_v = u.astype(in_u.dtype), v.astype(in_u.dtype)
    of_rows, moving = _each_row(mixture, pair), (wide_u, wide_v, rows_u, rows_v)
    in_mixture = _in_mixture(nan_unless(defined[..., 0], in_mixture), *moving, of_rows)
    return (
        None,
        g * _slope(in_u, *moving, of_rows, 1 - of_rows),
        g * _slope(in_v, wide_v, wide_u, rows_v, rows_u, 1 - of_rows, of_rows),
        jnp.sum(cotangent * in_mixture),
    )


js_divergence = closed_form(_forward, _backward)
"""``(over, u, v, β) -> JS_β`` in nats over the last axis, or a mesh axis too, β a scalar in (0, 1)."""
