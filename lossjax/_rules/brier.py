"""The closed form of the Brier score of logits."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._core.masks import hide
from lossjax._softmax import functions, row_statistics


class BrierOptions(NamedTuple):
    """Static options: the dtype to compute in, and whether the targets are integer labels."""

    dtype: Any
    labelled: bool

    def distance(self, z: Array, rows: row_statistics.RowStatistics, targets: Array, p: Array, one_off: Array) -> Array:
        """``p - t``, without cancellation.

        At the pivot, which is a maximum, p - t is formed as (p - 1) + (1 - t) if t >= 1/2: both of these are accurate.
        Elsewhere it is p - t itself, so that two classes of equal logits do not differ by how their p was rounded.
        """
        t = targets.astype(z.dtype)
        if self.labelled:
            t = (row_statistics.class_index(z, targets.dtype) == targets[..., None]).astype(z.dtype)
        return jnp.where(rows.is_pivot(z) & (t >= 0.5), one_off + (1 - t), p - t)


def _brier_forward(options: BrierOptions, logits: Array, targets: Array, valid: Array | None) -> tuple[Array, Any]:
    z, t = hide(valid, logits.astype(options.dtype)), hide(valid, targets)
    rows = row_statistics.row_statistics(z)
    if options.labelled:
        rows = rows.undefined_unless((t >= 0) & (t < z.shape[-1]))
    distance = options.distance(z, rows, t, row_statistics.p_of(z, rows), row_statistics.p_minus_one_hot_of(z, rows))
    loss = jnp.sum(distance * distance, axis=-1)
    return hide(valid, loss), (options, logits, targets, valid, rows.stopped())


def _brier_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array | None, None]:
    options, logits, targets, valid, rows = saved
    z, t, g = hide(valid, logits.astype(options.dtype)), hide(valid, targets), hide(valid, cotangent)[..., None]
    p, one_off = functions.probabilities(z, rows), functions.p_minus_one_hot(z, rows)
    distance = options.distance(z, rows, t, p, one_off)
    in_z = hide(valid, 2 * g * functions.fisher_product(z, rows, distance))
    return None, in_z, None if options.labelled else hide(valid, -2 * g * distance), None


brier = closed_form(_brier_forward, _brier_backward)
"""``(options, logits, targets, valid) -> Σ (p - t)²``, per row."""
