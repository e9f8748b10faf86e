"""The closed form of the entropy of a softmax."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._softmax import functions, row_statistics
from lossjax.numerics import times


def _entropy_forward(z: Array) -> tuple[Array, Any]:
    rows = row_statistics.row_statistics(z)
    expected_gap = jnp.sum(times(row_statistics.p_of(z, rows), row_statistics.gaps(z, rows)), axis=-1, keepdims=True)
    return (expected_gap + rows.log_total())[..., 0], (z, rows.stopped())


def _entropy_backward(saved: Any, cotangent: Array) -> tuple[Array]:
    # dH/dz = p∘(gap - <p, gap>) = J(p) gap. Where the gap is infinite, p is 0, and so is the gradient.
    z, rows = saved
    gap = rows.maximum - z
    return (cotangent[..., None] * functions.fisher_product(z, rows, jnp.where(jnp.isfinite(gap), gap, 0)),)


entropy = closed_form(_entropy_forward, _entropy_backward)
"""``z -> log Σ e^(z - max z) + Σ p (max z - z)``, the entropy of softmax(z) in nats, per row."""
