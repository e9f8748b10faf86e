"""What a softmax needs to know of a row: its statistics about one class, and the formulas made of them.

Leave one class i, the pivot, out of the sum. With m = max z, E_j = exp(z_j - m), own = E_i and rest = Σ_{j≠i} E_j,

    p_j = E_j/(own + rest)      p_i - 1 = -rest/(own + rest)      -log p_k = (m - z_k) + log1p((own - 1) + rest)

hold whichever class the pivot is, and cancel nowhere if it is the label (then its p - 1 is what is wanted) or a
maximum (then no other p exceeds 1/2, and own = 1). The pivot is an index, never the test "z equals its maximum": logits
that a fusion computes twice may differ in their last bit, and a test that no entry passes would lose the row.

The maximum is a constant to every derivative: all of the above holds with any number for m.

**Classes over devices.** Under ``shard_map`` a device may hold a part of each row. ``over`` is then the mesh axis that
the classes are split over. Everything above stands; a sum over the classes is a sum over that axis as well, a maximum
a maximum, and the pivot, counted from the first class held here, is outside the range of all devices but one.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core import sharding
from lossjax._core.masks import nan_unless
from lossjax._core.plain import rules_are_off
from lossjax._core.platform import by_platform
from lossjax._core.whole_rows import compiler_makes_the_kernel, rows_are_on_chip
from lossjax._core.xla import closed_off, is_finite
from lossjax._softmax import one_pass, one_pass_pair
from lossjax._softmax.one_pass import WeightedGaps
from lossjax._softmax.plan import ONE_DEVICE, Plan
from lossjax._softmax.row_sum import (
    DEFINITION,
    NO_CLASS,
    ON_CPU,
    Reductions,
    class_count,
    class_index,
    shifted_exponential,
    sum_over_classes,
    whole_sum_of_others,
)
from lossjax._softmax.transform import AS_STORED, View
from lossjax.numerics import times


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowStatistics:
    """The pivot of each row, its logit, the maximum, and the two parts of Σ exp(z - m); the class axis is kept as 1."""

    pivot: Array
    pivot_logit: Array
    maximum: Array
    own: Array
    rest: Array
    plan: Plan = dataclasses.field(default=ONE_DEVICE, metadata={"static": True})
    of_maximum: bool = dataclasses.field(default=False, metadata={"static": True})
    """Whether the pivot is a maximum, and not a label."""
    asked: bool | None = dataclasses.field(default=None, metadata={"static": True})
    """Of a part of the classes: whether it is the pivot, or has no pivot in it. None for all classes."""
    constant: bool = dataclasses.field(default=False, metadata={"static": True})
    """Whether a derivative takes these numbers for constants, as in a backward pass: see :meth:`stopped`."""

    @property
    def over(self) -> str | None:
        """The mesh axis that the classes are split over."""
        return self.plan.over

    def total(self) -> Array:
        """``Σ exp(z - m)``."""
        return self.own + self.rest

    def log_total(self) -> Array:
        """``log Σ exp(z - m)``, to full relative accuracy if the pivot is a maximum, to u absolute otherwise."""
        return jnp.log1p((self.own - 1) + self.rest)

    def classes_of(self, z: Array) -> Array:
        """The index of each entry's class."""
        return class_index(z, self.pivot.dtype)

    def is_pivot(self, z: Array) -> Array:
        """Whether an entry is the pivot's, a boolean for every entry."""
        return self.classes_of(z) == self.pivot if self.asked is None else jnp.asarray(self.asked)

    def sum(self, x: Array) -> Array:
        """The sum over the classes, with the class axis kept."""
        here = closed_off(sum_over_classes(x), self.pivot)
        return here if self.over is None else lax.psum(here, self.over)

    def at_pivot(self, x: Array) -> Array:
        """Of x, the entry at the pivot, with the class axis kept; exact, infinities included."""
        return self.sum(jnp.where(self.is_pivot(x), x, 0))

    def entry_at_pivot(self, x: Array) -> Array:
        """The same, looked up where nothing else of x is wanted."""
        here = logit_at(x, self.pivot, self.over)
        return here if self.over is None else lax.psum(here, self.over)

    def undefined_unless(self, condition: Array) -> "RowStatistics":
        """The same statistics, with NaN for the rows where the condition (one boolean per row) does not hold."""
        return dataclasses.replace(self, rest=nan_unless(condition, self.rest))

    def stopped(self) -> "RowStatistics":
        """The same statistics as constants to a derivative: rules give the total derivative in the logits.

        Without the rules the formula is differentiated, through the statistics too.
        """
        if rules_are_off():
            return self
        return dataclasses.replace(jax.tree.map(lambda part: lax.stop_gradient(part), self), constant=True)


def row_statistics(
    x: Array, pivot: Array | None = None, plan: Plan = ONE_DEVICE, dtype: Any = None, view: View = AS_STORED
) -> RowStatistics:
    """The statistics of each row, about the class indices ``pivot`` (shape of the rows), or about a maximum.

    They are in ``dtype``, x's own by default, and of the logits that ``view`` sees. Logits of 16 bits are made wider,
    and logits are transformed, where they are used, each time again: what several uses share, XLA stores.

    A row with NaN, with two +inf, or (unless the plan says ``empty``) with nothing but -inf has NaN for its parts.
    """
    return row_statistics_and_gaps(x, (), pivot, plan, dtype, view)[0]


def row_statistics_and_gaps(
    x: Array,
    weights: tuple[Array, ...],
    pivot: Array | None = None,
    plan: Plan = ONE_DEVICE,
    dtype: Any = None,
    view: View = AS_STORED,
) -> tuple[RowStatistics, tuple[WeightedGaps, ...]]:
    """The same, and of each of these weights ``[..., C]`` the weighted gaps, if the platform reads its rows once.

    Elsewhere they are infinite: by another platform they are not wanted, and not formed.
    """
    index, dtype = None if pivot is None else pivot[..., None], dtype or x.dtype
    cpu, otherwise = (functools.partial(_in_passes, reductions, plan, dtype) for reductions in (ON_CPU, DEFINITION))
    accelerator = functools.partial(_in_one_pass, plan, dtype)
    gpu = functools.partial(accelerator, one_operand=True) if view.transform.softcap is not None else accelerator
    found = by_platform(x, weights, index, view, cpu=cpu, otherwise=otherwise, accelerator=gpu, tpu=accelerator)
    index, logit, maximum, rest, gaps = found
    return _of_parts(index, logit, maximum, rest, plan, of_maximum=pivot is None), gaps


def rows_of_pair(
    u: Array, v: Array, dtype: Any, reduce: Any = lax.reduce
) -> tuple[RowStatistics, RowStatistics, Array]:
    """The statistics of two rows each in one reading of both, and a first guess of ``<p, w>`` (``one_pass_pair.py``).

    Of u about a maximum, and of v about the same class.
    """
    index, of_u, (there, largest, others), weighted = one_pass_pair.statistics_of_pair(u, v, dtype, reduce)
    logit, maximum, rest = of_u
    rows_u = _of_parts(index, logit, maximum, rest, ONE_DEVICE, of_maximum=True)
    rows_v = _of_parts(index, there, largest, others, ONE_DEVICE, of_maximum=False)
    return rows_u, rows_v, weighted / rows_u.total()


def _of_parts(
    index: Array, logit: Array, maximum: Array, rest: Array, plan: Plan, *, of_maximum: bool
) -> RowStatistics:
    own = shifted_exponential(logit, maximum)
    # With a maximum of +inf every finite entry has E = 0, so that own + rest counts the infinities. XLA's maximum of a
    # long row may not be NaN for a NaN in it.
    defined = is_finite(maximum) | (jnp.isposinf(maximum) & (own + rest == 1))
    defined = defined & is_finite(rest) & ~jnp.isnan(logit)
    if compiler_makes_the_kernel():
        defined = defined & (index != NO_CLASS)
    if plan.empty:
        # Under a maximum of -inf every entry has E = 0; with a total of 1 they have the probability 0.
        nothing = jnp.isneginf(maximum) & jnp.isneginf(logit) & (rest == 0)
        own, rest, defined = jnp.where(nothing, 0, own), jnp.where(nothing, 1, rest), defined | nothing
    own, rest = (nan_unless(defined, part) for part in (own, rest))
    return RowStatistics(index, logit, maximum, own, rest, plan, of_maximum)


def _exponential(x: Array, rows: tuple[Array, View]) -> Array:
    maximum, view = rows
    return shifted_exponential(view.of(x, maximum.dtype), maximum)


def _in_passes(
    reductions: Reductions,
    plan: Plan,
    dtype: Any,
    x: Array,
    weights: tuple[Array, ...],
    index: Array | None,
    view: View = AS_STORED,
) -> tuple[Any, ...]:
    """(pivot, its logit, maximum, rest, no gaps): the maximum first, and then the sum about it.

    The transform is increasing.
    """
    over = plan.over
    largest_here = view.transform.apply(reductions.maximum(lax.stop_gradient(x), view.valid).astype(dtype))
    largest_here = lax.stop_gradient(largest_here)
    maximum = largest_here if over is None else lax.pmax(largest_here, over)
    if index is None:
        index = reductions.index_of_maximum(lax.stop_gradient(x), view.valid)
        if over is not None:
            index = jnp.where(sharding.is_first_with(largest_here, maximum, over), index, -1)
    total = whole_sum_of_others if plan.reused else reductions.sum_of_others
    rest = total(_exponential, index, (x,), (maximum, view))
    if over is None:
        logit = view.of(logit_at(x, index), dtype).astype(dtype)
    else:  # a sum over the devices is known to be the same on all, which an option of the view is not
        logit, rest = lax.psum((logit_at(view.of(x, dtype).astype(dtype), index, over), rest), over)
    none = lax.full_like(rest, jnp.inf)
    return index, logit, maximum, rest, tuple(WeightedGaps(none, none, none) for _ in weights)


def _in_one_pass(
    plan: Plan,
    dtype: Any,
    x: Array,
    weights: tuple[Array, ...],
    index: Array | None,
    view: View = AS_STORED,
    *,
    one_operand: bool = False,
) -> tuple[Any, ...]:
    """The same, of one reading of the logits; on several devices each one's part is brought to the common maximum."""
    over = plan.over
    z = view.of(x, dtype)
    pivot, logit, here, rest, gaps = one_pass.statistics(z, index, dtype, weights, one_operand=one_operand)
    if over is None:
        return pivot, logit, here, rest, gaps
    maximum = lax.pmax(here, over)
    if index is None:  # every device has left its own maximum out
        is_pivot_here = sharding.is_first_with(here, maximum, over)
        pivot, rest = jnp.where(is_pivot_here, pivot, -1), jnp.where(is_pivot_here, rest, rest + 1)
        logit = jnp.where(is_pivot_here, logit, 0)
        gaps = tuple(one.left_out_if(is_pivot_here) for one in gaps)
    gaps = tuple(one._replace(total=one.total + times(one.others, gap(here, maximum))) for one in gaps)
    logit, rest, gaps = lax.psum((logit, rest * shifted_exponential(here, maximum), gaps), over)
    return pivot, logit, maximum, rest, gaps


def labelled_rows_and_gaps(
    x: Array,
    labels: Array,
    weights: tuple[Array, ...],
    plan: Plan = ONE_DEVICE,
    dtype: Any = None,
    view: View = AS_STORED,
) -> tuple[RowStatistics, tuple[WeightedGaps, ...]]:
    """:func:`row_statistics_and_gaps` about the labels, NaN where a label is no class.

    Over devices, labels count all classes.
    """
    over = plan.over
    first = 0 if over is None else lax.axis_index(over).astype(labels.dtype) * x.shape[-1]
    in_range = (labels >= 0) & (labels < class_count(x, over))
    rows, gaps = row_statistics_and_gaps(x, weights, labels - first, plan, dtype, view)
    return rows.undefined_unless(in_range), gaps


def logit_at(z: Array, index: Array, over: str | None = None) -> Array:
    """``z_i``, class axis kept; where the classes are on several devices, 0 for an index that is no class here.

    Of an array of one row, which all rows share, an entry for each index.
    """
    if over is not None or rows_are_on_chip() or sharding.split_count(z) > 1:
        return sum_over_classes(jnp.where(class_index(z, index.dtype) == index, z, 0))
    if z.shape[:-1] != index.shape[:-1]:
        return jnp.take(z.reshape(-1), index, mode="clip")
    return jnp.take_along_axis(z, index, axis=-1, mode="clip")


def gap(z: Array, maximum: Array) -> Array:
    """``m - z_k``; 0 at the maximum, infinite or not.

    Without a select, which would keep XLA from summing these unstored: under a maximum of +inf the gap to the largest
    number is lifted to infinity.
    """
    largest = float(jnp.finfo(maximum.dtype).max)
    ceiling = jnp.clip(maximum, -largest, largest)
    distance = ceiling - jnp.minimum(z.astype(maximum.dtype), largest)
    # logits that are computed twice may exceed their maximum
    distance = distance + lax.stop_gradient(jnp.maximum(-distance, 0))
    lift = jnp.minimum(distance, 1) * jnp.where(jnp.isposinf(maximum), largest, 0)
    return distance + lift + lift


def gaps(z: Array, rows: RowStatistics) -> Array:
    """:func:`gap` of each entry."""
    return gap(z, rows.maximum)


def surprisal(z: Array, rows: RowStatistics) -> Array:
    """``-log p_k`` of the logits z (all, or the pivot's): the sum of two non-negative terms; a formula, not a rule."""
    return gaps(z, rows) + rows.log_total()


def p_of(z: Array, rows: RowStatistics) -> Array:
    """``p``, a formula (rules use :func:`probabilities`)."""
    return jnp.where(rows.is_pivot(z), rows.own, _exponentials_of_others(z, rows)) / rows.total()


def _exponentials_of_others(z: Array, rows: RowStatistics) -> Array:
    """``exp(z - m)``, and 0 for the pivot: the array that :func:`whole_sum_of_others` sums."""
    return jnp.where(rows.is_pivot(z), 0, shifted_exponential(z, rows.maximum))


def p_minus_one_hot_of(z: Array, rows: RowStatistics) -> Array:
    """``p - e_i``, a formula (rules use :func:`p_minus_one_hot`)."""
    total = rows.total()
    return jnp.where(rows.is_pivot(z), -rows.rest / total, _exponentials_of_others(z, rows) / total)
