"""The rule of products whose rows come in groups of computed sizes."""

from typing import Any

import numpy as np

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.reductions import dot_general
from lossjax.verify._exact.rules import ZERO, rule, to_array
from lossjax.verify.ulp import Balls


@rule("ragged_dot_general", reads=["ragged_dot_dimension_numbers", "group_offset"])
def _ragged_dot_general(context: Context, params: Any, left: Any, right: Any, sizes: np.ndarray) -> Balls:
    """Group by group: along a free axis of the left operand, with a right operand each, or along one that is summed.

    What lies in no group is 0 in the first case and left out in the second.
    """
    numbers = params["ragged_dot_dimension_numbers"]
    sums, batch = numbers.dot_dimension_numbers
    (axis,), groups = numbers.lhs_ragged_dimensions, numbers.rhs_group_dimensions
    if params["group_offset"] is not None or sizes.ndim != 1 or axis in batch[0]:
        raise context.unsupported("its rule does not know groups that differ from one batch to another, or an offset")
    left, right = context.balls(left), context.balls(right)
    ends = np.cumsum(sizes)
    if ends.size and ends[-1] > left.shape[axis]:
        raise context.unsupported(f"its groups are of {ends[-1]} entries, and there are {left.shape[axis]}")
    rows = [np.arange(end - size, end) for size, end in zip(sizes.tolist(), ends.tolist(), strict=True)]
    shape = context.equation.outvars[0].aval.shape
    result = to_array([ZERO] * int(np.prod(shape, dtype=int)), shape)
    if axis in sums[0]:
        other = sums[1][sums[0].index(axis)]
        for k, group in enumerate(rows):
            operands = np.take(left, group, axis), np.take(right, group, other)
            result[k] = dot_general(context, {"dimension_numbers": (sums, batch)}, *operands)
        return result
    free = [i for i in range(left.ndim) if i not in sums[0] and i not in batch[0]]
    place = len(batch[0]) + free.index(axis)
    without = [tuple(i - sum(i > g for g in groups) for i in axes) for axes in (sums[1], batch[1])]
    for k, group in enumerate(rows):
        own = right
        for g in sorted(groups, reverse=True):
            own = np.take(own, k, g)
        given = {"dimension_numbers": ((sums[0], without[0]), (batch[0], without[1]))}
        result[(*(slice(None),) * place, group)] = dot_general(context, given, np.take(left, group, axis), own)
    return result
