"""The closed form of the Brier score of logits."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._core.masks import hide
from lossjax._core.xla import known_anew_on_chips
from lossjax._softmax import functions, terms
from lossjax._softmax.row_statistics import Plan, RowStatistics, row_statistics
from lossjax._softmax.row_sum import Arrays, shown
from lossjax._softmax.transform import View


class BrierOptions(NamedTuple):
    """Static options: the dtype to compute in, and whether the targets are integer labels."""

    dtype: Any
    labelled: bool

    def inputs(self, logits: Array, targets: Array, valid: Array | None) -> tuple[Arrays, tuple[View, Array | None]]:
        """The arrays of the classes, and what the rows have: the view of the logits, and the labels."""
        view = View(None if valid is None else valid[..., None])
        if self.labelled:
            return (logits,), (view, targets[..., None])
        return (logits, targets), (view, None)


def _distance(entries: Any, rows: RowStatistics, beside: tuple[View, Array | None]) -> Array:
    """``p - t``, without cancellation.

    At the pivot, which is a maximum, p - t is formed as (p - 1) + (1 - t) if t >= 1/2: both of these are accurate.
    Elsewhere it is p - t itself, so that two classes of equal logits do not differ by how their p was rounded.
    """
    view, labels = beside
    dtype = rows.maximum.dtype
    z = view.of(entries[0], dtype).astype(dtype)
    t = (shown(entries[1], view.valid) if labels is None else entries[-1] == labels.astype(entries[-1].dtype)).astype(
        dtype
    )
    usual = functions.probabilities(z, rows) - t
    if rows.asked is False:
        return usual
    return jnp.where(rows.is_pivot(z) & (t >= 0.5), functions.p_minus_one_hot(z, rows) + (1 - t), usual)


def _square(entries: Any, rows: RowStatistics, beside: tuple[View, Array | None]) -> Array:
    distance = _distance(entries, rows, beside)
    return distance * distance


def _brier_forward(
    options: BrierOptions, logits: Array, targets: Array, valid: Array | None, *, differentiated: bool = True
) -> tuple[Array, Any]:
    arrays, beside = options.inputs(logits, targets, valid)
    plan = Plan.of(logits, options.dtype, differentiated=differentiated)
    rows = row_statistics(logits, plan=plan, dtype=options.dtype, view=beside[0])
    if options.labelled:
        label = hide(valid, targets)
        rows = rows.undefined_unless((label >= 0) & (label < logits.shape[-1]))
    loss = terms.of_pivot(_square, arrays, rows, beside) + terms.of_others(_square, arrays, rows, beside)
    return hide(valid, loss[..., 0]), (options, logits, targets, valid, rows.stopped())


def _brier_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array | None, None]:
    options, logits, targets, valid, rows = saved
    rows = dataclasses.replace(rows, maximum=known_anew_on_chips(rows.maximum))
    (arrays, beside), g = options.inputs(logits, targets, valid), hide(valid, cotangent)[..., None]
    in_z = hide(valid, 2 * g * functions.fisher_product_of(_distance, arrays, rows, beside, beside[0]))
    if options.labelled:
        return None, in_z, None, None
    return None, in_z, hide(valid, -2 * g * _distance((*arrays, None), rows, beside)), None


brier = closed_form(_brier_forward, _brier_backward, value=functools.partial(_brier_forward, differentiated=False))
"""``(options, logits, targets, valid) -> Σ (p - t)²``, per row."""
