"""Closed forms of the losses of one logit.

The binary cross-entropy, with s = softplus, s(z) = max(z, 0) + log1p(e^-|z|):

    loss = w y s(-z) + (1 - y) s(z)
    ∂/∂z = (1 - y) σ(z) - w y σ(-z)    ∂/∂y = w s(-z) - s(z)    ∂/∂w = y s(-z)

For w = 1 the two log1p terms are the same, and ∂/∂y = -z exactly. Smoothing makes of a target t the
y = (1 - ε) t + ε/2, so that ∂/∂t = (1 - ε) ∂/∂y and ∂/∂ε = (½ - t) ∂/∂y.

The binary focal loss has c = 1 - p_t, the binary cross-entropy b and the class weight a, each linear in the target y:

    b = y s(-z) + (1 - y) s(z)      c = y σ(-z) + (1 - y) σ(z)      a = α y + (1 - α)(1 - y)
    loss = a c^γ b
    ∂/∂z = a c^γ (b_z + γ c_z b/c)      b_z = (1 - y) σ(z) - y σ(-z)      c_z = (1 - 2y) σ(z) σ(-z)
    ∂/∂y = a c^γ (-z + γ c_y b/c) + (2α - 1) c^γ b                       c_y = σ(-z) - σ(z) = -tanh(z/2)
    ∂/∂γ = loss·log c                 ∂/∂α = (2y - 1) c^γ b

The ratio b/c stays finite where b and c vanish: s(-z)/σ(-z) tends to 1.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._core.masks import nan_unless
from lossjax._core.xla import known_anew_on_chips
from lossjax._softmax.curves import power
from lossjax.numerics import quotient, sigmoid, softplus, times


def _smoothed(y: Array, smoothing: Array | None) -> tuple[Array, Array]:
    """(y, 1 - y) after smoothing. 1 - y is formed from 1 - target, so that neither of them is rounded to 0."""
    if smoothing is None:
        return y, 1 - y
    keep, half = 1 - smoothing, smoothing / 2
    return keep * y + half, keep * (1 - y) + half


def _sigmoid_cross_entropy_forward(
    dtype: Any, logits: Array, targets: Array, smoothing: Array | None, weight: Array | None
) -> tuple[Array, Any]:
    z = logits.astype(dtype)
    y, other = _smoothed(targets.astype(dtype), smoothing)
    loss = times(y if weight is None else times(y, weight), softplus(-z)) + times(other, softplus(z))
    loss = nan_unless(~jnp.isnan(z), loss)  # A zero target must not silence a NaN logit.
    return loss, (dtype, logits, targets, smoothing, weight)


def _sigmoid_cross_entropy_backward(saved: Any, g: Array) -> tuple[Any, ...]:
    dtype, logits, targets, smoothing, w = saved
    z, target = logits.astype(dtype), targets.astype(dtype)
    y, other = _smoothed(target, smoothing)
    in_z = g * (other * sigmoid(z) - (y if w is None else times(y, w)) * sigmoid(-z))
    in_y = -z if w is None else times(w, softplus(-z)) - softplus(z)
    in_targets = g * (in_y if smoothing is None else times(1 - smoothing, in_y))
    in_smoothing = None if smoothing is None else g * times(0.5 - target, in_y)
    in_weight = None if w is None else g * jnp.where(jnp.isnan(z), z, times(y, softplus(-z)))
    return None, in_z, in_targets, in_smoothing, in_weight


elementwise_sigmoid_cross_entropy = closed_form(_sigmoid_cross_entropy_forward, _sigmoid_cross_entropy_backward)
"""``(dtype, logits, targets, smoothing or None, weight or None) -> loss``, elementwise."""


class _Parts(NamedTuple):
    """The parts of the focal loss: z, y, b, c (the probability of the other class) and a of the derivation above."""

    z: Array
    y: Array
    cross_entropy: Array
    doubt: Array
    weight: Array | float

    @classmethod
    def of(cls, dtype: Any, logits: Array, targets: Array, alpha: Array | None) -> "_Parts":
        z, y = logits.astype(dtype), targets.astype(dtype)
        cross_entropy = times(y, softplus(-z)) + times(1 - y, softplus(z))
        doubt = y * sigmoid(-z) + (1 - y) * sigmoid(z)
        return cls(z, y, cross_entropy, doubt, 1.0 if alpha is None else alpha * y + (1 - alpha) * (1 - y))


def _focal_forward(
    dtype: Any, logits: Array, targets: Array, gamma: Array, alpha: Array | None = None
) -> tuple[Array, Any]:
    part = _Parts.of(dtype, logits, targets, alpha)
    loss = times(part.weight * power(part.doubt, gamma), part.cross_entropy)
    return nan_unless(~jnp.isnan(part.z + part.y), loss), (dtype, logits, targets, gamma, alpha)


def _focal_backward(saved: Any, cotangent: Array) -> tuple[Any, ...]:
    dtype, logits, targets, gamma, alpha = saved
    part = _Parts.of(dtype, known_anew_on_chips(logits), targets, alpha)
    z, y, b, c, a = part
    likely, unlikely = sigmoid(z), sigmoid(-z)
    modulation = power(c, gamma)
    ratio = jnp.where(c > 0, quotient(b, jnp.where(c > 0, c, 1)), 1)
    in_doubt = gamma * times((1 - 2 * y) * likely * unlikely, ratio)
    in_z = a * modulation * ((1 - y) * likely - y * unlikely + in_doubt)
    # c^γ stands in two halves, one on each side of the ratio: the ratio may be as large as c^γ is small.
    root = power(c, gamma / 2)
    in_y = a * (times(root, -z) * root - times(gamma, times(root * jnp.tanh(z / 2), ratio) * root))
    shared = times(modulation, b)
    if alpha is not None:
        in_y = in_y + (2 * alpha - 1) * shared
    # log c is the logarithm of c, or of 1 - p_t by log1p, whichever of c and p_t is the smaller.
    near_one = jnp.log1p(-jnp.where(c < 0.5, 0, y * likely + (1 - y) * unlikely))
    in_gamma = times(jnp.where(c < 0.5, jnp.log(jnp.where(c > 0, c, 1)), near_one), a * shared)
    in_alpha = [] if alpha is None else [cotangent * (2 * y - 1) * shared]
    return None, cotangent * in_z, cotangent * in_y, cotangent * in_gamma, *in_alpha


elementwise_sigmoid_focal = closed_form(_focal_forward, _focal_backward)
"""``(dtype, logits, targets, gamma, alpha or None) -> loss``, elementwise."""
