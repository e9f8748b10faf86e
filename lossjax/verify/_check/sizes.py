"""Whether a rule is right for arrays of other sizes too: a size may be written down in it, or whole blocks be meant.

The example has one length along each axis. Here each axis, with those of the same length in all arguments, gets one
entry more, which is in no whole block, and the rows become a single one. Rows and classes that are as many by accident
are told apart, and each get one more alone; a single row becomes some. Where the function takes that, its rule and its
formula are executed exactly there, as at the example.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from lossjax._core.xla import LITTLE_EFFORT
from lossjax.verify._check import compare as by
from lossjax.verify._check.axes import Axes, batches_of_one, moves, of_one_length, parts
from lossjax.verify._check.family import Family
from lossjax.verify._check.inlining import uses
from lossjax.verify._check.inputs import generic
from lossjax.verify._check.problem import Arrays, Problem, is_float, is_key, kind
from lossjax.verify._check.programs import REFUSALS, Pair, as_floats, x64

_MOST_ENTRIES = 4096
"""Of all arguments together: a size that matters shows in a small example."""


@dataclasses.dataclass(frozen=True)
class Resized:
    """The function at arguments of another size."""

    one: Problem
    pair: Pair
    family: Family
    whole_blocks: bool
    """Whether its value is another there, and comes from a kernel: such a kernel may be for whole blocks only."""


def resized(of_example: Pair, reference: Callable[..., Any] | None, seed: int) -> Iterator[Resized]:
    """The sizes at which the function works, with its rule and its formula traced for each."""
    one, at = of_example.one, functools.partial(_resized, of_example, reference, seed)
    for k, axes in enumerate(of_one_length(one)):
        try:
            moving = moves(one, axes, functools.partial(_values, of_example))
        except Exception:  # the function may refuse entries in another order in any way
            continue
        # One entry broadcasts against what the function has of its own: it says something only if others are taken too.
        for size in (axes.length + 1, 1) if k == 0 else (axes.length + 1,):
            if (found := at(axes, size, of_things=moving)) is None:
                break
            yield found
        for part in _parts(one, axes):
            if (found := at(part, part.length + 1, of_things=True)) is not None:
                yield found
    for batch in batches_of_one(one):
        if (found := at(batch, _another_length(one), of_things=True)) is not None:
            yield found
            return


def _parts(one: Problem, axes: Axes) -> list[Axes]:
    try:
        return parts(one, axes)
    except Exception:  # as above
        return []


def _another_length(one: Problem) -> int:
    """The least above 1 that no axis has."""
    lengths = {n for array in one.arrays for n in np.shape(array)}
    return next(n for n in itertools.count(2) if n not in lengths)


def _resized(
    of_example: Pair, reference: Callable[..., Any] | None, seed: int, axes: Axes, size: int, *, of_things: bool
) -> Resized | None:
    """The function at arguments with so many entries along these axes, if it takes them.

    Entries that are many ``of_things`` may be moved along the axes, as at the example. A formula of which that is not
    true at another size has the size written down, as a number of classes that it is made for.
    """
    one = of_example.one
    try:
        arrays = _of_size(one, axes, size, seed)
        if sum(map(np.size, arrays)) > _MOST_ENTRIES:
            return None
        leaves = list(one.leaves)
        for position, array in zip(one.traced, arrays, strict=True):
            leaves[position] = array
        other = dataclasses.replace(one, leaves=tuple(leaves), arrays=arrays)
        pair = Pair(other, reference, seed, wide=of_example.wide)
        if pair.plain is None:
            return None
        if of_things and not moves(other, axes._replace(length=size), functools.partial(_values, pair)):
            return None
        differs = reference is not None and _by_kernel(other, pair) and _differs(pair)
    except Exception:  # the function may refuse other sizes in any way
        return None
    return Resized(other, pair, Family(f"{size} entries along {axes}", arrays), differs)


def _of_size(one: Problem, axes: Axes, size: int, seed: int) -> Arrays:
    """The arguments with ``size`` entries along these axes: the first again after the last."""
    taken = [array if is_key(array) else np.asarray(array) for array in one.arrays]
    for k, axis in axes.places:
        taken[k] = taken[k][(slice(None),) * axis + (np.arange(size) % axes.length,)]
    for k, array in enumerate(one.arrays):
        if k == axes.classes_of(one):
            taken[k] = taken[k] % size
        elif is_float(array) and array.shape != taken[k].shape and kind(array) == "simplex":
            total = np.sum(taken[k].astype(np.float64), axis=-1, keepdims=True)
            taken[k] = (taken[k] / np.where(total == 0, 1, total)).astype(array.dtype)
    return generic(one, tuple(taken), np.random.default_rng(seed))


def _values(pair: Pair, arrays: Arrays) -> Arrays:
    """Those of the formula as floats: exactly if that is possible, for nothing has to be compiled then."""
    assert pair.plain is not None
    try:
        exact, _ = pair.plain(pair.given(arrays), pair.cotangents)
    except REFUSALS:
        return jax.jit(pair.one.values(pair.truth), compiler_options=LITTLE_EFFORT)(arrays)
    return tuple(map(as_floats, exact))


def _by_kernel(one: Problem, pair: Pair) -> bool:
    with x64(pair.wide):
        return uses(jax.make_jaxpr(one.values(one.fn))(pair.arrays), ("pallas_call",))


def _differs(pair: Pair) -> bool:
    """Whether the value itself is not that of the reference."""
    assert pair.plain is not None
    try:
        pairs = zip(*(p(pair.arrays, pair.cotangents)[0] for p in (pair.ruled, pair.plain)), strict=True)
        return any(by.compare(g, w, pair.tolerance).wrong.any() for g, w in pairs)
    except REFUSALS:
        return False
