"""The closed form of the entropy of a softmax."""

import functools
from typing import Any

from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax._softmax import functions, terms
from lossjax._softmax.fused_rows import Fused
from lossjax._softmax.kernels import with_kernels
from lossjax._softmax.row_statistics import Plan, RowStatistics, gap, row_statistics
from lossjax.numerics import times


def _gap(entries: Any, rows: RowStatistics, _: Any) -> Array:
    return gap(entries[0], rows.maximum)


def _weighed_gap(entries: Any, rows: RowStatistics, _: Any) -> Array:
    z = entries[0].astype(rows.maximum.dtype)
    return times(functions.probabilities(z, rows), gap(z, rows.maximum))


def _entropy_forward(z: Array, dtype: Any, *, differentiated: bool = True) -> tuple[Array, Any]:
    rows = row_statistics(z, plan=Plan.of(z, dtype, differentiated=differentiated), dtype=dtype)
    expected_gap = terms.of_others(_weighed_gap, (z,), rows, ())
    # The pivot is a maximum: its gap is 0, and counts for the derivative of this formula alone.
    expected_gap = expected_gap + terms.of_pivot(_weighed_gap, (z,), rows, ())
    return (expected_gap + rows.log_total())[..., 0], (z, rows.stopped(), lax.stop_gradient(expected_gap))


def _entropy_backward(saved: Any, cotangent: Array) -> tuple[Array, None]:
    # dH/dz = p∘(gap - <p, gap>) = J(p) gap. Where the gap is infinite, p is 0, and so is the gradient.
    z, rows, expected_gap = saved
    return cotangent[..., None] * functions.fisher_product_of(_gap, (z,), rows, (), mean=expected_gap), None


_entropy_value = functools.partial(_entropy_forward, differentiated=False)

entropy = closed_form(
    *with_kernels(_entropy_forward, _entropy_backward, held=5, fused=(None, Fused(5))),
    value=with_kernels(_entropy_value, _entropy_backward, held=5)[0],
)
"""``(z, dtype) -> log Σ e^(z - max z) + Σ p (max z - z)``, the entropy of softmax(z) in nats, per row."""
