"""Whether a rule is right for arrays of other sizes too: a size may be written down in it, or whole blocks be meant.

The example has one length along each axis. Here each axis, with those of the same length in all arguments, gets one
entry more, which is in no whole block, and the rows become a single one. Where the function takes that, its rule and
its formula are executed exactly there, as at the example.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from lossjax._core.xla import LITTLE_EFFORT
from lossjax.verify._check import compare as by
from lossjax.verify._check.inlining import uses
from lossjax.verify._check.inputs import Family, generic
from lossjax.verify._check.labels import labels_of
from lossjax.verify._check.problem import Arrays, Problem, is_float, is_key, kind
from lossjax.verify._check.programs import REFUSALS, Pair, as_floats, x64

_MOST_LENGTHS = 3
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
    one = of_example.one
    for k, length in enumerate(_lengths(one)[:_MOST_LENGTHS]):
        try:
            is_symmetric = _symmetric(of_example, length)
        except Exception:  # the function may refuse entries in another order in any way
            continue
        # One entry broadcasts against what the function has of its own: it says something only if others are taken too.
        for size in (length + 1, 1) if k == 0 else (length + 1,):
            try:
                arrays = _of_size(one, length, size, seed)
                if sum(map(np.size, arrays)) > _MOST_ENTRIES:
                    break
                leaves = list(one.leaves)
                for position, array in zip(one.traced, arrays, strict=True):
                    leaves[position] = array
                other = dataclasses.replace(one, leaves=tuple(leaves), arrays=arrays)
                pair = Pair(other, reference, seed, wide=of_example.wide)
                if pair.plain is None:
                    break
                if is_symmetric and not _symmetric(pair, size):
                    break  # the formula has the size written down, as a number of classes that it is made for
                differs = reference is not None and _by_kernel(other, pair) and _differs(pair)
            except Exception:  # the function may refuse other sizes in any way
                break
            yield Resized(other, pair, Family(f"{size} entries along each axis of {length}", arrays), differs)


def _lengths(one: Problem) -> list[int]:
    """The lengths of axes, that of the rows first: the first axis of what is differentiated."""
    shapes = [one.arrays[i].shape for i in (*one.moving, *range(len(one.arrays)))]
    return list(dict.fromkeys(length for shape in shapes for length in shape if length > 1))


def _of_size(one: Problem, length: int, size: int, seed: int) -> Arrays:
    """The arguments with ``size`` entries along every axis that had ``length``: the first again after the last."""
    labels = labels_of(one)
    classes = labels is not None and labels.classes == length
    taken = []
    for k, array in enumerate(one.arrays):
        new = array if is_key(array) else np.asarray(array)
        for axis, old in enumerate(array.shape):
            if old == length:
                new = new[(slice(None),) * axis + (np.arange(size) % length,)]
        if labels is not None and classes and k == labels.position:
            new = new % size
        elif is_float(array) and array.shape != new.shape and kind(array) == "simplex":
            total = np.sum(new.astype(np.float64), axis=-1, keepdims=True)
            new = (new / np.where(total == 0, 1, total)).astype(array.dtype)
        taken.append(new)
    return generic(one, tuple(taken), np.random.default_rng(seed))


def _symmetric(pair: Pair, length: int) -> bool:
    """Whether the formula has the same values if all moves by one along every axis of this length."""
    one = pair.one

    def moved(array: Any) -> Any:
        axes = [axis for axis, n in enumerate(np.shape(array)) if n == length]
        return np.roll(array, [1] * len(axes), axes) if axes else array

    labels = labels_of(one)
    arrays = [array if is_key(array) else moved(np.asarray(array)) for array in one.arrays]
    if labels is not None and labels.classes == length:
        arrays[labels.position] = (arrays[labels.position] + 1) % length
    before, after = (_values(pair, tuple(given)) for given in (one.arrays, arrays))
    return all(np.allclose(a, moved(b), rtol=1e-3, atol=1e-6) for a, b in zip(before, after, strict=True))


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
