"""Closed forms of the losses of one logit.

The binary cross-entropy, with s = softplus, s(z) = max(z, 0) + log1p(e^-|z|):

    loss = w y s(-z) + (1 - y) s(z)
    ∂/∂z = (1 - y) σ(z) - w y σ(-z)    ∂/∂y = w s(-z) - s(z)    ∂/∂w = y s(-z)

For w = 1 the two log1p terms are one, and ∂/∂y = -z exactly; the general form covers both.

The binary focal loss, with c = 1 - p_t, b the binary cross-entropy and a the class weight, each linear in the target y:

    b = y s(-z) + (1 - y) s(z)      c = y σ(-z) + (1 - y) σ(z)      a = α y + (1 - α)(1 - y)
    loss = a c^γ b
    ∂/∂z = a c^γ (b_z + γ c_z b/c)      b_z = (1 - y) σ(z) - y σ(-z)      c_z = (1 - 2y) σ(z) σ(-z)
    ∂/∂y = a c^γ (-z + γ c_y b/c) + (2α - 1) c^γ b                       c_y = σ(-z) - σ(z) = -tanh(z/2)
    ∂/∂γ = loss·log c                 ∂/∂α = (2y - 1) c^γ b

b/c stays finite where both vanish: s(-z)/σ(-z) tends to 1.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._softmax.curves import power
from lossjax.numerics import quotient, sigmoid, softplus, times


class SigmoidOptions(NamedTuple):
    """Static options: the dtype to compute in and the label smoothing."""

    dtype: Any
    smoothing: float

    def smoothed(self, targets: Array) -> tuple[Array, Array]:
        """(y, 1 - y) after smoothing; 1 - y is formed from 1 - target, so that neither is lost at an end."""
        keep, half = 1 - self.smoothing, self.smoothing / 2
        y = targets.astype(self.dtype)
        return keep * y + half, keep * (1 - y) + half


def _seen(valid: Array | None, *arrays: Array | None) -> list[Array | None]:
    if valid is None:
        return list(arrays)
    return [None if a is None else jnp.where(valid, a, 0) for a in arrays]


def _sigmoid_cross_entropy_forward(
    options: SigmoidOptions, logits: Array, targets: Array, weight: Array | None, valid: Array | None
) -> tuple[Array, Any]:
    z, t, w = _seen(valid, logits.astype(options.dtype), targets, weight)
    assert z is not None
    assert t is not None
    y, other = options.smoothed(t)
    positive = y if w is None else w * y
    loss = times(positive, softplus(-z)) + times(other, softplus(z))
    loss = jnp.where(jnp.isnan(z), jnp.nan, loss)  # a zero target must not silence a NaN logit
    if valid is not None:
        loss = jnp.where(valid, loss, 0)
    return loss, (options, logits, targets, weight, valid)


def _sigmoid_cross_entropy_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, Array | None, None]:
    options, logits, targets, weight, valid = saved
    z, t, w, g = _seen(valid, logits.astype(options.dtype), targets, weight, cotangent)
    assert z is not None
    assert t is not None
    assert g is not None
    y, other = options.smoothed(t)
    in_z = g * (other * sigmoid(z) - (y if w is None else w * y) * sigmoid(-z))
    in_y = -g * z if w is None else g * (times(w, softplus(-z)) - softplus(z))
    in_targets = (1 - options.smoothing) * in_y
    in_weight = None if w is None else g * jnp.where(jnp.isnan(z), z, times(y, softplus(-z)))
    in_z, in_targets, in_weight = _seen(valid, in_z, in_targets, in_weight)
    assert in_z is not None
    assert in_targets is not None
    return None, in_z, in_targets, in_weight, None


elementwise_sigmoid_cross_entropy = closed_form(_sigmoid_cross_entropy_forward, _sigmoid_cross_entropy_backward)


class _Parts(NamedTuple):
    z: Array
    y: Array
    cross_entropy: Array
    doubt: Array  # c, the probability of the other class
    weight: Array | float

    @classmethod
    def of(cls, dtype: Any, logits: Array, targets: Array, alpha: Array | None) -> "_Parts":
        z, y = logits.astype(dtype), targets.astype(dtype)
        y = jnp.where((y >= 0) & (y <= 1), y, jnp.nan)  # beyond, c is no probability, and c^γ no number or a huge one
        cross_entropy = times(y, softplus(-z)) + times(1 - y, softplus(z))
        doubt = y * sigmoid(-z) + (1 - y) * sigmoid(z)
        return cls(z, y, cross_entropy, doubt, 1.0 if alpha is None else alpha * y + (1 - alpha) * (1 - y))


def _forward(dtype: Any, logits: Array, targets: Array, gamma: Array, alpha: Array | None = None) -> tuple[Array, Any]:
    part = _Parts.of(dtype, logits, targets, alpha)
    loss = times(part.weight * power(part.doubt, gamma), part.cross_entropy)
    undefined = jnp.isnan(part.z) | jnp.isnan(part.y)
    return jnp.where(undefined, jnp.nan, loss), (dtype, logits, targets, gamma, alpha)


def _backward(saved: Any, cotangent: Array) -> tuple[Any, ...]:
    dtype, logits, targets, gamma, alpha = saved
    part = _Parts.of(dtype, logits, targets, alpha)
    z, y, b, c, a = part
    likely, unlikely = sigmoid(z), sigmoid(-z)
    modulation = power(c, gamma)
    ratio = jnp.where(c > 0, quotient(b, jnp.where(c > 0, c, 1)), 1)
    in_doubt = gamma * times((1 - 2 * y) * likely * unlikely, ratio)
    in_z = a * modulation * ((1 - y) * likely - y * unlikely + in_doubt)
    # c^γ in two halves, one on each side of a ratio that may be as large as c^γ is small.
    root = power(c, gamma / 2)
    in_y = a * (times(root, -z) * root - times(gamma, times(root * jnp.tanh(z / 2), ratio) * root))
    shared = times(modulation, b)
    if alpha is not None:
        in_y = in_y + (2 * alpha - 1) * shared
    # log c = log(1 - p_t), by whichever of the two is small.
    near_one = jnp.log1p(-jnp.where(c < 0.5, 0, y * likely + (1 - y) * unlikely))
    in_gamma = times(jnp.where(c < 0.5, jnp.log(jnp.where(c > 0, c, 1)), near_one), a * shared)
    in_alpha = [] if alpha is None else [cotangent * (2 * y - 1) * shared]
    return None, cotangent * in_z, cotangent * in_y, cotangent * in_gamma, *in_alpha


elementwise_sigmoid_focal = closed_form(_forward, _backward)
"""(dtype, logits, targets, gamma[, alpha]) -> loss, elementwise."""
