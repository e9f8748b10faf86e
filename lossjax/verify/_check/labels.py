"""Which integers among the arguments are labels: they select an entry along an axis of what is differentiated."""

from typing import NamedTuple

import numpy as np

from lossjax.verify._check.problem import Problem, is_integer

_SOME_CLASSES = 6
_MARKS = (-1, -100)
"""Of what is no label, in common use."""


class Labels(NamedTuple):
    """Integers that select an entry along an axis of a float array."""

    position: int
    of: int
    axis: int
    classes: int


def labels_of(one: Problem) -> Labels | None:
    """The first integer array that has the shape of a differentiated one without one axis, and fits its range.

    Whole numbers may be exponents or counts: they are, if nothing hangs on the order of the entries along that axis.
    """
    for i, labels in enumerate(one.arrays):
        if not is_integer(labels) or not labels.size:
            continue
        for j in one.moving:
            shape = one.arrays[j].shape
            for axis in reversed(range(len(shape))):
                fits = shape[:axis] + shape[axis + 1 :] == labels.shape and shape[axis] > 1
                if fits and labels.min() >= 0 and labels.max() < shape[axis] and _selects(one, i, j, axis):
                    return Labels(i, j, axis, shape[axis])
    return None


def _selects(one: Problem, labels: int, position: int, axis: int) -> bool:
    """Whether entries and labels moved together change nothing, and the entries alone do.

    A function may weigh its classes by numbers of its own, so that the first fails: its slopes then tell, and where
    they cannot, integers beside a single float array are labels.
    """
    array = one.arrays[position]
    classes = array.shape[axis]
    entries = {position: np.roll(array, 1, axis)}  # not turned round: a label in the middle would stay
    for k in one.floats:  # weights of the classes
        axes = [n for n, length in enumerate(one.arrays[k].shape) if length == classes]
        if k != position and len(axes) == 1:
            entries[k] = np.roll(one.arrays[k], 1, axes[0])
    together = entries | {labels: (one.arrays[labels] + 1) % classes}
    try:
        before, alone, both = (
            one.computed(given) for given in (one.arrays, *(one.replaced(one.arrays, by) for by in (entries, together)))
        )
    except Exception:  # a function that checks its arguments while it runs may raise anything
        return True

    def same(moved: list[np.ndarray]) -> bool:
        """The values, or just moved as the entries are."""
        with np.errstate(all="ignore"):
            return all(
                any(np.allclose(b, c, rtol=1e-3, atol=0, equal_nan=True) for c in (a, *_moved(a, array.shape, axis)))
                for a, b in zip(before, moved, strict=True)
            )

    if same(alone):
        return False
    if same(both):
        return True
    try:
        told = _picks(one, labels, position, axis)
    except Exception:  # as above
        told = None
    return len(one.floats) == 1 if told is None else told


def _picks(one: Problem, labels: int, position: int, axis: int) -> bool | None:
    """Whether each entry has its lowest slope, or its highest, where it is labelled itself; None if no slope tells.

    The slopes of ``w xᵏ`` in the entries are monotone in the exponent k: of three entries one is then highest and one
    lowest where k is its own index, and those between are neither.
    """
    array = one.arrays[position]
    some = np.unique(np.linspace(0, array.shape[axis] - 1, _SOME_CLASSES).astype(int))
    slopes = []
    for label in some:
        arrays = one.replaced(one.arrays, {labels: np.full_like(one.arrays[labels], label)})
        gradient = one.compiled_pullback(arrays, one.ones)[1][one.moving.index(position)]
        slopes.append(np.moveaxis(np.asarray(gradient).astype(np.float64), axis, -1)[..., some])
    table = np.stack(slopes, axis=-1)  # the last axes: the entry that is moved, the label
    own = np.diagonal(table, axis1=-2, axis2=-1)
    others = np.where(np.eye(some.size, dtype=bool), np.nan, table)
    if some.size < 3 or not np.isfinite(table).all() or np.any(np.ptp(table, axis=-1) == 0):
        return None
    return bool(np.all(own < np.nanmin(others, axis=-1)) or np.all(own > np.nanmax(others, axis=-1)))


def _moved(values: np.ndarray, shape: tuple[int, ...], axis: int) -> list[np.ndarray]:
    return [np.roll(values, 1, axis)] if values.shape == shape else []


def ignored(one: Problem, labels: Labels) -> list[np.ndarray]:
    """The labels with a first one that the function takes no notice of, as padding is marked: -1 or -100.

    It is known by the value, which then does not hang on that row.
    """
    given, array = one.arrays[labels.position], one.arrays[labels.of]
    first = np.zeros(given.shape, bool)
    first.reshape(-1)[0] = True
    other = np.where(np.expand_dims(first, labels.axis), np.roll(array, 1, labels.axis) / 2, array)  # of another sum
    found = []
    for mark in _MARKS if np.issubdtype(given.dtype, np.signedinteger) else ():
        marked = np.where(first, mark, given).astype(given.dtype)
        try:
            values = [
                one.computed(one.replaced(one.arrays, by))
                for by in ({labels.position: marked}, {labels.position: marked, labels.of: other})
            ]
        except Exception:  # a function that checks its arguments while it runs may raise anything
            continue
        if all(np.isfinite(a).all() and np.array_equal(a, b) for a, b in zip(*values, strict=True)):
            found.append(marked)
    return found
