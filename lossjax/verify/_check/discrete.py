"""Variations of what has no slope: labels, flags, and whole numbers."""

from typing import Any

import numpy as np

from lossjax.verify._check.family import Family
from lossjax.verify._check.labels import Labels, ignored
from lossjax.verify._check.problem import Problem, is_integer, is_key

GAP = 20.0
_MOST_LABELS = 12


def of_labels(one: Problem, labels: Labels | None) -> list[Family]:
    """Logits far apart, every label, and a label that says that its row does not count."""
    if labels is None:
        return []
    given, logits = one.arrays[labels.position], one.arrays[labels.of].astype(np.float64)
    far = (with_gap(logits, given, labels.axis, gap) for gap in (GAP, -GAP))
    return [
        *(Family(f"confident and {name}", one.replaced(one.arrays, {labels.of: logits}))
          for name, logits in zip(("right", "wrong"), far, strict=True)),
        *(Family(name, one.replaced(one.arrays, {labels.position: moved}))
          for name, moved in _labels(given, labels.classes)),
        *(Family(f"a label of {marked.min()}", one.replaced(one.arrays, {labels.position: marked}), regular=False)
          for marked in ignored(one, labels)),
    ]  # fmt: skip


def _labels(labels: Any, classes: int) -> list[tuple[str, Any]]:
    """The labels shifted, so that each row gets every class; if there are many, each class in some row, or most."""
    if classes <= _MOST_LABELS:
        return [(f"labels + {k}", (labels + k) % classes) for k in range(1, classes)]
    each = np.arange(labels.size, dtype=labels.dtype).reshape(labels.shape)
    first = range(0, classes, max(1, labels.size))
    some = np.linspace(0, len(first) - 1, min(len(first), _MOST_LABELS)).astype(int)
    starts = dict.fromkeys([0, classes - 1, *(first[k] for k in some)])
    return [(f"labels from {k} on", ((each + k) % classes).astype(labels.dtype)) for k in starts]


def with_gap(a: Any, at: Any, axis: int, gap: float) -> Any:
    """A copy in which the entry that ``at`` selects along the axis is ``gap`` above the largest of the others."""
    chosen = np.expand_dims(np.asarray(at), axis)
    others = a.copy()
    np.put_along_axis(others, chosen, -np.inf, axis)
    moved = a.copy()
    np.put_along_axis(moved, chosen, np.max(others, axis=axis, keepdims=True) + gap, axis)
    return moved


def of_flags(one: Problem, random: np.random.Generator) -> list[Family]:
    """Flags of the example, which are often all True, drawn; turned over; and all of them False."""
    flags = [i for i, a in enumerate(one.arrays) if not is_key(a) and a.dtype == np.bool_ and a.size]
    if not flags:
        return []
    drawn = {i: random.random(one.arrays[i].shape) < 0.5 for i in flags}
    for i in flags:  # one of each kind at least: a rule that forgets the mask is right where it hides nothing
        drawn[i].reshape(-1)[: min(2, drawn[i].size)] = [False, True][: drawn[i].size]
    over = {i: ~np.asarray(one.arrays[i]) for i in flags}
    none = {i: np.zeros(one.arrays[i].shape, bool) for i in flags}
    return [
        Family("flags drawn", one.replaced(one.arrays, drawn), regular=False),
        Family("flags turned over", one.replaced(one.arrays, over), regular=False),
        Family("flags all False", one.replaced(one.arrays, none), regular=False),
    ]


def of_whole_numbers(one: Problem, labels: Labels | None, random: np.random.Generator) -> list[Family]:
    """Integers that are no labels: in another order, larger, smaller, and counted from the end where that is known."""
    counts = [i for i, a in enumerate(one.arrays) if is_integer(a) and a.size and (not labels or i != labels.position)]
    if not counts:
        return []
    given = {i: np.asarray(one.arrays[i]) for i in counts}
    below = {}
    for i, a in given.items():
        wide = a.astype(np.int64)
        drawn = random.integers(np.minimum(wide, 0), np.maximum(wide, 1) + 1)
        below[i] = drawn if np.any(drawn != wide) else np.where(np.arange(a.size).reshape(a.shape) == 0, a == 0, a)
    changed = {
        "shuffled": {i: random.permutation(a.ravel()).reshape(a.shape) for i, a in given.items()},
        "+ 17": {i: a + 17 for i, a in given.items()},
        "drawn from 0 on": below,
        "halved": {i: a - a // 2 for i, a in given.items()},  # not to 0, by which a function may divide
        "of -1": {i: np.full_like(a, -1) for i, a in given.items() if _counts_from_the_end(one, i)},
    }
    return [Family(f"integers {how}", one.replaced(one.arrays, by), regular=False) for how, by in changed.items() if by]


def _counts_from_the_end(one: Problem, position: int) -> bool:
    """Whether -1 means the last entry along some axis, which is known by the value."""
    given = one.arrays[position]
    if not np.issubdtype(given.dtype, np.signedinteger):
        return False
    lengths = dict.fromkeys(n for array in one.arrays for n in np.shape(array) if n > 1)
    try:
        first, *others = (
            one.computed(one.replaced(one.arrays, {position: number}))
            for number in (np.full_like(given, k) for k in (-1, *(n - 1 for n in lengths)))
        )
    except Exception:  # a function that checks its arguments while it runs may raise anything
        return False
    return all(np.isfinite(a).all() for a in first) and any(all(map(np.array_equal, first, other)) for other in others)
