"""Which axes of the arguments are one thing, and may be given another length together."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lossjax.verify._check.labels import labels_of
from lossjax.verify._check.problem import Arrays, Problem, is_key

_MOST_LENGTHS, _MOST_PLACES, _MOST_PARTS = 3, 8, 3

Place = tuple[int, int]
"""An argument, and an axis of it."""


class Axes(NamedTuple):
    """Axes of one length."""

    length: int
    places: tuple[Place, ...]
    complete: bool = True
    """Whether these are all axes of that length."""

    def __str__(self) -> str:
        which = ", ".join(f"{axis} of argument {k}" for k, axis in self.places)
        return f"each axis of {self.length}" if self.complete else f"axis {which}"

    def classes_of(self, one: Problem) -> int | None:
        """The position of the labels, if they select an entry along these axes."""
        labels = labels_of(one)
        return None if labels is None or (labels.of, labels.axis) not in self.places else labels.position


def of_one_length(one: Problem) -> list[Axes]:
    """All axes of each length but 1, those of the rows first: the first axis of what is differentiated."""
    shapes = [one.arrays[i].shape for i in (*one.moving, *range(len(one.arrays)))]
    lengths = list(dict.fromkeys(length for shape in shapes for length in shape if length > 1))
    return [Axes(length, tuple(_places(one, length))) for length in lengths[:_MOST_LENGTHS]]


def _places(one: Problem, length: int) -> Iterable[Place]:
    return ((k, axis) for k, array in enumerate(one.arrays) for axis, n in enumerate(np.shape(array)) if n == length)


def batches_of_one(one: Problem) -> list[Axes]:
    """The first axes of length 1, if something differentiated has one and more axes: a batch, perhaps.

    First with the arguments that have no other axis, labels say, and then without them, which may be parameters.
    """
    first = [k for k, array in enumerate(one.arrays) if np.shape(array)[:1] == (1,)]
    deep = [k for k in first if one.arrays[k].ndim > 1]
    if not any(k in one.moving for k in deep):
        return []
    return [Axes(1, tuple((k, 0) for k in which)) for which in ([first, deep] if first != deep else [deep])]


def parts(one: Problem, axes: Axes) -> list[Axes]:
    """The axes of one length that are several things, told apart: rows from classes where there are as many.

    What belongs together may be moved by one together, and the results just move too, or stay. It is looked for only
    where the axes do not stand in one place, from the front or from behind.
    """
    in_front = {axis for _, axis in axes.places}
    behind = {axis - one.arrays[k].ndim for k, axis in axes.places}
    if len(in_front) == 1 or len(behind) == 1 or len(axes.places) > _MOST_PLACES:
        return []
    found: list[Axes] = []
    for size in range(1, len(axes.places)):
        for chosen in itertools.combinations(axes.places, size):
            part = Axes(axes.length, chosen, complete=False)
            if not any(set(other.places) <= set(chosen) for other in found) and moves(one, part, one.computed):
                found.append(part)
    return found[:_MOST_PARTS]


def moves(one: Problem, axes: Axes, values: Callable[[Arrays], Sequence[Any]]) -> bool:
    """Whether moving all by one along these axes just moves the values, or leaves them."""
    arrays = [array if is_key(array) else np.asarray(array) for array in one.arrays]
    for k, axis in axes.places:
        arrays[k] = np.roll(arrays[k], 1, axis)
    if (labels := axes.classes_of(one)) is not None:
        arrays[labels] = (arrays[labels] + 1) % axes.length
    before, after = ([np.asarray(v).astype(np.float64) for v in values(given)] for given in (one.arrays, tuple(arrays)))
    return all(
        any(np.allclose(a, moved, rtol=1e-3, atol=1e-6) for moved in _moved(b, axes.length))
        for a, b in zip(after, before, strict=True)
    )


def _moved(values: Any, length: int) -> Iterable[Any]:
    """The values, and these moved by one along any of their axes of this length."""
    found = [values]
    for axis, n in enumerate(values.shape):
        if n == length:
            found += [np.roll(one, 1, axis) for one in found]
    return found
