"""The closed form of a log-sum-exp whose terms have weights of any sign: A = log Σ b_k exp z_k.

With P_k = b_k exp(z_k)/Σ_j b_j exp z_j, which sum to 1, and Q_k = exp(z_k)/Σ_j b_j exp z_j,

    ∂A/∂z = P                                        ∂A/∂b = Q
    Σ_k h_k ∂P_k/∂z = P∘(h - <P, h>)                 Σ_k h_k ∂P_k/∂b = Q∘(h - <P, h>)
    Σ_k h_k ∂Q_k/∂z = Q∘h - P <Q, h>                 Σ_k h_k ∂Q_k/∂b = -Q <Q, h>

so every order of differentiation meets only A, P and Q. The pivot i is where |b| exp z is largest. Terms are measured
by it, t_k = (b_k/|b_i|) exp(z_k - z_i), so that |t_k| <= 1 and

    A = z_i + log|b_i| + log Σ t        P = t/Σ t        Q_k = exp(z_k - z_i)/|b_i| / Σ t.

exp(z_k - z_i) may leave the range where its products do not, so it is multiplied in as two roots. In the derivatives in
z the cotangent h is measured by its value at the pivot, h - h_i in P's and h - b h_i/b_i in Q's. That changes nothing,
and where one term is nearly all of the sum, two nearby numbers are not subtracted.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax._core.masks import nan_unless
from lossjax._softmax.row_sum import class_index, sum_over_classes
from lossjax.numerics import exact_difference


class _Terms(NamedTuple):
    """The pivot (a boolean for every entry), z_i and |b_i|, the roots of exp(z - z_i), and t."""

    is_pivot: Array
    logit: Array
    size: Array
    root: Array
    each: Array

    @classmethod
    def of(cls, z: Array, b: Array) -> "_Terms":
        absent = (b == 0) & ~jnp.isnan(z)
        largest = jnp.where(absent, -jnp.inf, z + jnp.log(jnp.abs(b)))
        index = jnp.argmax(lax.stop_gradient(largest), axis=-1, keepdims=True)
        is_pivot = class_index(z, index.dtype) == index
        logit, weight = (_at(is_pivot, lax.stop_gradient(x)) for x in (z, b))
        size = jnp.where(weight == 0, 1, jnp.abs(weight))
        logit = jnp.where((weight == 0) | jnp.isneginf(logit), 0, logit)  # a row without a term
        difference, error = exact_difference(z, logit)
        difference = jnp.where(is_pivot & jnp.isposinf(logit), 0, difference)
        root = jnp.exp(difference / 2)
        root = root + jnp.where(jnp.isfinite(root), root * (error / 2), 0)
        factor = jnp.where(absent & jnp.isposinf(root), 0, root)  # 0·exp(inf) counts as nothing
        # Two weights whose quotient is no normal number are compared by their logarithms.
        quotient = b / size
        usual = (b == 0) | ((jnp.abs(quotient) >= float(jnp.finfo(z.dtype).tiny)) & jnp.isfinite(quotient))
        distance = difference + jnp.log(jnp.where(usual, 1, jnp.abs(b))) - jnp.log(size)
        far = jnp.sign(b) * jnp.exp(jnp.where(usual, 0, distance))
        return cls(is_pivot, logit, size, root, jnp.where(usual, quotient * factor * factor, far))

    def less_one(self) -> Array:
        """``Σ t - 1``."""
        return (_at(self.is_pivot, self.each) - 1) + _at(~self.is_pivot, self.each)

    def total(self) -> Array:
        """``Σ t``, NaN where it is negative: its logarithm is."""
        total = _at(self.is_pivot, self.each) + _at(~self.is_pivot, self.each)
        return nan_unless(~(total < 0), total)


def _at(here: Array, x: Array) -> Array:
    """The sum of the entries that are here, with the class axis kept."""
    return sum_over_classes(jnp.where(here, x, 0))


def _logarithm_forward(z: Array, b: Array) -> tuple[Array, Any]:
    terms = _Terms.of(z, b)
    return (terms.logit + jnp.log(terms.size) + jnp.log1p(terms.less_one()))[..., 0], (z, b)


def _logarithm_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    g = cotangent[..., None]
    return g * _shares(*saved), g * _ratios(*saved)


def _shares_forward(z: Array, b: Array) -> tuple[Array, Any]:
    terms = _Terms.of(z, b)
    return jnp.where(terms.each == 0, 0, terms.each / terms.total()), (z, b)


def _shares_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    relative = cotangent - _at(_Terms.of(*saved).is_pivot, cotangent)
    share, ratio = _shares(*saved), _ratios(*saved)
    from_mean = relative - sum_over_classes(share * relative)
    return share * from_mean, ratio * from_mean


def _ratios_forward(z: Array, b: Array) -> tuple[Array, Any]:
    terms = _Terms.of(z, b)
    return jnp.where(terms.root == 0, 0, terms.root / terms.size * (terms.root / terms.total())), (z, b)


def _ratios_backward(saved: Any, cotangent: Array) -> tuple[Array, Array]:
    z, b = saved
    is_pivot, share, ratio = _Terms.of(z, b).is_pivot, _shares(z, b), _ratios(z, b)
    weight = _at(is_pivot, b)
    slope = _at(is_pivot, cotangent) / jnp.where(weight == 0, 1, weight)
    relative = jnp.where(is_pivot, 0, cotangent - b * slope)
    in_logit = ratio * relative - share * sum_over_classes(ratio * relative)
    return in_logit, -ratio * sum_over_classes(ratio * cotangent)


_shares = closed_form(_shares_forward, _shares_backward)
_ratios = closed_form(_ratios_forward, _ratios_backward)
log_weighted_sum = closed_form(_logarithm_forward, _logarithm_backward)
"""``log Σ b exp z`` over the last axis; -inf for a sum of 0, NaN for a negative one."""
