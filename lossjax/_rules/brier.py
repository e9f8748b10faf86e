"""The closed form of the Brier score of logits."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._softmax import functions, row_statistics


class BrierOptions(NamedTuple):
    dtype: Any
    labelled: bool

    def distance(self, z: Array, rows: row_statistics.RowStatistics, targets: Array, p: Array, one_off: Array) -> Array:
        """``p - t``; where t_i >= 1/2 at the pivot (a maximum) as (p_i - 1) + (1 - t_i), both without cancellation.

        Elsewhere p - t itself: two classes of equal logits must not differ by how their p was rounded.
        """
        t = targets.astype(z.dtype)
        if self.labelled:
            hot = row_statistics.class_index(z, targets.dtype) == targets[..., None]
            t = hot.astype(z.dtype)
        return jnp.where(rows.is_pivot(z) & (t >= 0.5), one_off + (1 - t), p - t)


def _seen(valid: Array | None, array: Array) -> Array:
    if valid is None:
        return array
    return jnp.where(valid.reshape(valid.shape + (1,) * (array.ndim - valid.ndim)), array, 0)


def _brier_forward(options: BrierOptions, logits: Array, targets: Array, valid: Array | None) -> tuple[Array, Any]:
    z, t = _seen(valid, logits.astype(options.dtype)), _seen(valid, targets)
    rows = row_statistics.row_statistics(z)
    if options.labelled:
        rows = rows.undefined_unless((t >= 0) & (t < z.shape[-1]))
    distance = options.distance(z, rows, t, row_statistics.p_of(z, rows), row_statistics.p_minus_one_hot_of(z, rows))
    loss = jnp.sum(distance * distance, axis=-1)
    return _seen(valid, loss), (options, logits, targets, valid, rows.stopped())


def _brier_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array | None, None]:
    options, logits, targets, valid, rows = saved
    z, t, g = _seen(valid, logits.astype(options.dtype)), _seen(valid, targets), _seen(valid, cotangent)[..., None]
    p, one_off = functions.probabilities(z, rows), functions.p_minus_one_hot(z, rows)
    distance = options.distance(z, rows, t, p, one_off)
    in_z = _seen(valid, 2 * g * functions.fisher_product(z, rows, distance))
    return None, in_z, None if options.labelled else _seen(valid, -2 * g * distance), None


brier = closed_form(_brier_forward, _brier_backward)
