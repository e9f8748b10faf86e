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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core import sharding
from lossjax._core.masks import nan_unless
from lossjax._core.plain import rules_are_off
from lossjax._core.platform import by_platform
from lossjax._softmax import one_pass
from lossjax._softmax.one_pass import WeightedGaps
from lossjax._softmax.row_sum import (
    DEFINITION,
    ON_CPU,
    Reductions,
    class_count,
    class_index,
    others,
    shifted_exponential,
    sum_of_others,
    sum_over_classes,
)
from lossjax.numerics import times


class Plan(NamedTuple):
    """How the sums over the classes are formed.

    ``over`` is the mesh axis that the classes are split over, or None. ``reused`` says that the exponentials are wanted
    twice, in the sum and in :func:`p_of`. The row is then summed by XLA's own reduction, whose one array of
    exponentials both uses share (in a backward pass it becomes the gradient's buffer), and not by pieces. ``empty``
    says that a row of nothing but -inf is defined: a sum of no terms, whose logarithm is -inf and has the gradient 0.
    """

    over: str | None = None
    reused: bool = False
    empty: bool = False


ONE_DEVICE = Plan()


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

    def is_pivot(self, z: Array) -> Array:
        """Whether an entry is the pivot's, a boolean for every entry."""
        return class_index(z, self.pivot.dtype) == self.pivot

    def sum(self, x: Array) -> Array:
        """The sum over the classes, with the class axis kept."""
        return sum_over_classes(x, self.over)

    def at_pivot(self, x: Array) -> Array:
        """Of x, the entry at the pivot, with the class axis kept; exact, infinities included."""
        return self.sum(jnp.where(self.is_pivot(x), x, 0))

    def undefined_unless(self, condition: Array) -> "RowStatistics":
        """The same statistics, with NaN for the rows where the condition (one boolean per row) does not hold."""
        return dataclasses.replace(self, rest=nan_unless(condition, self.rest))

    def stopped(self) -> "RowStatistics":
        """The same statistics as constants to a derivative: rules give the total derivative in the logits.

        Without the rules the formula is differentiated, through the statistics too.
        """
        if rules_are_off():
            return self
        return jax.tree.map(lambda part: lax.stop_gradient(part), self)


def row_statistics(z: Array, pivot: Array | None = None, plan: Plan = ONE_DEVICE, dtype: Any = None) -> RowStatistics:
    """The statistics of each row, about the class indices ``pivot`` (shape of the rows), or about a maximum.

    They are in ``dtype``, z's own by default. Logits of 16 bits are made wider where they are used, each time again:
    where several uses share one wider array, XLA stores it.

    A row with NaN, with two +inf, or (unless the plan says ``empty``) with nothing but -inf has NaN for its parts.
    """
    return row_statistics_and_gaps(z, (), pivot, plan, dtype)[0]


def row_statistics_and_gaps(
    z: Array, weights: tuple[Array, ...], pivot: Array | None = None, plan: Plan = ONE_DEVICE, dtype: Any = None
) -> tuple[RowStatistics, tuple[WeightedGaps, ...]]:
    """The same, and of each of these weights ``[..., C]`` the weighted gaps, if the platform reads its rows once.

    Elsewhere they are infinite: by another platform they are not wanted, and not formed.
    """
    index = None if pivot is None else pivot[..., None]
    cpu, otherwise = (functools.partial(_in_passes, reductions, plan, dtype) for reductions in (ON_CPU, DEFINITION))
    found = by_platform(
        z, weights, index, cpu=cpu, otherwise=otherwise, accelerator=functools.partial(_in_one_pass, plan, dtype)
    )
    index, logit, maximum, rest, gaps = found
    own = shifted_exponential(logit, maximum)
    # With a maximum of +inf every finite entry has E = 0, so that own + rest counts the infinities. XLA's maximum of a
    # long row may not be NaN for a NaN in it.
    defined = jnp.isfinite(maximum) | (jnp.isposinf(maximum) & (own + rest == 1))
    defined = defined & jnp.isfinite(rest) & ~jnp.isnan(logit)
    if plan.empty:
        # Under a maximum of -inf every entry has E = 0; with a total of 1 they have the probability 0.
        nothing = jnp.isneginf(maximum) & jnp.isneginf(logit) & (rest == 0)
        own, rest, defined = jnp.where(nothing, 0, own), jnp.where(nothing, 1, rest), defined | nothing
    own, rest = (nan_unless(defined, part) for part in (own, rest))
    return RowStatistics(index, logit, maximum, own, rest, plan, of_maximum=pivot is None), gaps


def _in_passes(
    reductions: Reductions, plan: Plan, dtype: Any, z: Array, weights: tuple[Array, ...], index: Array | None
) -> tuple[Any, ...]:
    """(pivot, its logit, maximum, rest, no gaps): the maximum first, and then the sum about it."""
    over = plan.over
    largest_here = jnp.max(lax.stop_gradient(z), axis=-1, keepdims=True)
    maximum = (largest_here if over is None else lax.pmax(largest_here, over)).astype(dtype or z.dtype)
    if index is None:
        index = reductions.index_of_maximum(lax.stop_gradient(z))
        if over is not None:
            index = jnp.where(_is_first_with(largest_here.astype(maximum.dtype), maximum, over), index, -1)
    logit = logit_at(z, index, over).astype(maximum.dtype)
    parts = logit, reductions.sum_without(z, index, maximum, reused=plan.reused)
    logit, rest = parts if over is None else lax.psum(parts, over)
    none = lax.full_like(rest, jnp.inf)
    return index, logit, maximum, rest, tuple(WeightedGaps(none, none, none) for _ in weights)


def _in_one_pass(plan: Plan, dtype: Any, z: Array, weights: tuple[Array, ...], index: Array | None) -> tuple[Any, ...]:
    """The same, of one reading of the logits; on several devices each one's part is brought to the common maximum."""
    over = plan.over
    pivot, logit, here, rest, gaps = one_pass.statistics(z, index, dtype or z.dtype, weights)
    if over is None:
        return pivot, logit, here, rest, gaps
    maximum = lax.pmax(here, over)
    if index is None:  # every device has left its own maximum out
        is_pivot_here = _is_first_with(here, maximum, over)
        pivot, rest = jnp.where(is_pivot_here, pivot, -1), jnp.where(is_pivot_here, rest, rest + 1)
        logit = jnp.where(is_pivot_here, logit, 0)
        gaps = tuple(one.left_out_if(is_pivot_here) for one in gaps)
    gaps = tuple(one._replace(total=one.total + times(one.others, gap(here, maximum))) for one in gaps)
    logit, rest, gaps = lax.psum((logit, rest * shifted_exponential(here, maximum), gaps), over)
    return pivot, logit, maximum, rest, gaps


def labelled_rows(z: Array, labels: Array, plan: Plan = ONE_DEVICE, dtype: Any = None) -> RowStatistics:
    """The statistics about the labels, NaN where a label is no class; over devices, labels count all classes."""
    return labelled_rows_and_gaps(z, labels, (), plan, dtype)[0]


def labelled_rows_and_gaps(
    z: Array, labels: Array, weights: tuple[Array, ...], plan: Plan = ONE_DEVICE, dtype: Any = None
) -> tuple[RowStatistics, tuple[WeightedGaps, ...]]:
    """The same, and :func:`row_statistics_and_gaps`."""
    over = plan.over
    first = 0 if over is None else lax.axis_index(over).astype(labels.dtype) * z.shape[-1]
    in_range = (labels >= 0) & (labels < class_count(z, over))
    rows, gaps = row_statistics_and_gaps(z, weights, labels - first, plan, dtype)
    return rows.undefined_unless(in_range), gaps


def _is_first_with(here: Array, maximum: Array, over: str) -> Array:
    """Whether this is the first device to hold the maximum.

    An equality that decides: so the barrier, which makes the number that was sent the number that is compared.
    """
    devices = lax.axis_size(over)
    candidate = jnp.where(lax.optimization_barrier(here) == maximum, lax.axis_index(over), devices)
    return lax.axis_index(over) == lax.pmin(candidate, over)


def logit_at(z: Array, index: Array, over: str | None = None) -> Array:
    """``z_i``, class axis kept; where the classes are on several devices, 0 for an index that is no class here."""
    if over is not None or sharding.split_count(z) > 1:
        return sum_over_classes(jnp.where(class_index(z, index.dtype) == index, z, 0))
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


def sum_of_other_surprisals(z: Array, rows: RowStatistics) -> Array:
    """``Σ_{k≠i} -log p_k``, i the pivot, with the class axis kept; a formula, not a rule."""
    gaps_of_others = sum_of_others(gap, rows.pivot, (z,), rows.maximum)
    if rows.over is not None:
        gaps_of_others = lax.psum(gaps_of_others, rows.over)
    count = jnp.asarray(class_count(z, rows.over) - 1, gaps_of_others.dtype)
    return gaps_of_others + count * rows.log_total()


def surprisal(z: Array, rows: RowStatistics) -> Array:
    """``-log p_k`` of the logits z (all, or the pivot's): the sum of two non-negative terms; a formula, not a rule."""
    return gaps(z, rows) + rows.log_total()


def p_of(z: Array, rows: RowStatistics) -> Array:
    """``p``, a formula (rules use :func:`probabilities`)."""
    return jnp.where(rows.is_pivot(z), rows.own, others(z, rows.pivot, rows.maximum)) / rows.total()


def p_minus_one_hot_of(z: Array, rows: RowStatistics) -> Array:
    """``p - e_i``, a formula (rules use :func:`p_minus_one_hot`)."""
    total = rows.total()
    return jnp.where(rows.is_pivot(z), -rows.rest / total, others(z, rows.pivot, rows.maximum) / total)
