"""The rule of the binary cross-entropy; ``classification.py`` holds what people call.

    loss = w y s(-z) + (1 - y) s(z),   s = softplus,   s(z) = max(z, 0) + log1p(e^-|z|)
    ∂/∂z = (1 - y) σ(z) - w y σ(-z)    ∂/∂y = w s(-z) - s(z)    ∂/∂w = y s(-z)

For w = 1 the two log1p terms are one, and ∂/∂y = -z exactly; the general form covers both.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._autodiff import closed_form
from lossjax.numerics import sigmoid, softplus, times


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
    return loss, (logits, targets, weight, valid)


def _sigmoid_cross_entropy_backward(
    options: SigmoidOptions, residuals: Any, cotangent: Array
) -> tuple[Array, Array, Array | None, None]:
    logits, targets, weight, valid = residuals
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
    return in_z, in_targets, in_weight, None


elementwise_sigmoid_cross_entropy = closed_form(_sigmoid_cross_entropy_forward, _sigmoid_cross_entropy_backward)
