"""The rule of the binary focal loss; ``reshaped.py`` holds what people call.

With s = softplus, c = 1 - p_t, b the binary cross-entropy and a the class weight, each linear in the target y,

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

from lossjax._autodiff import closed_form
from lossjax._surprisal import power
from lossjax.numerics import quotient, sigmoid, softplus, times


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


def _forward(
    dtype: Any, logits: Array, targets: Array, gamma: Array, alpha: Array | None = None
) -> tuple[Array, tuple[Array, Array, Array, Array | None]]:
    part = _Parts.of(dtype, logits, targets, alpha)
    loss = times(part.weight * power(part.doubt, gamma), part.cross_entropy)
    undefined = jnp.isnan(part.z) | jnp.isnan(part.y)
    return jnp.where(undefined, jnp.nan, loss), (logits, targets, gamma, alpha)


def _backward(dtype: Any, residuals: Any, cotangent: Array) -> tuple[Array, ...]:
    logits, targets, gamma, alpha = residuals
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
    pulled = cotangent * in_z, cotangent * in_y, cotangent * in_gamma
    return pulled if alpha is None else (*pulled, cotangent * (2 * y - 1) * shared)


elementwise_sigmoid_focal = closed_form(_forward, _backward)
"""(dtype, logits, targets, gamma[, alpha]) -> loss, elementwise."""
