"""What a wrong gradient looks like: the causes that can be told from its numbers beside the right ones."""

import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lossjax.verify.ulp import Balls

Numbers = NDArray[np.float64]

_SAME = 1e-4
"""Entries that differ by less than this share of the larger are held to be the same: a hint need not be certain."""


def hint(got: Balls, want: Balls, others: Iterable[Balls] = (), lengths: Iterable[int] = ()) -> str:
    """The likeliest cause, as a sentence; empty where the numbers suggest none.

    Args:
      got: the gradient by the rule.
      want: the gradient of the formula.
      others: the right gradients at inputs that were tried before.
      lengths: of the axes that other arguments have and this one has not: it may be broadcast along them.
    """
    g, w = _floats(got), _floats(want)
    if not (np.isfinite(g).all() and np.isfinite(w).all() and w.any()):
        return ""
    for of in (_zero, functools.partial(_factor, lengths=tuple(lengths)), _moved, _neighbour, _rows, _branch):
        if found := of(g, w):
            return found
    if g.any() and any(_alike(g, _floats(other)) for other in others if other.shape == got.shape):
        return "it is the gradient at another input: is something saved from an earlier call?"
    return ""


def _floats(array: Balls) -> Numbers:
    return np.array([float(x.mid()) for x in array.ravel().tolist()]).reshape(array.shape)


def _alike(a: Numbers, b: Numbers) -> bool:
    return bool(np.all(np.abs(a - b) <= _SAME * np.maximum(np.abs(a), np.abs(b))))


def _zero(got: Numbers, want: Numbers) -> str:
    if got.any():
        return ""
    return "it is 0 everywhere: is the argument treated as a constant (None, stop_gradient)?"


def unsummed(got: Balls, spread: Balls) -> str:
    """What it means if the gradient is one part of what is to be summed along the first axis of ``spread``."""
    parts = _floats(spread)
    if len(parts) < 2 or not np.isfinite(parts).all() or not parts.any():
        return ""
    if not any(_alike(_floats(got), part) for part in parts):
        return ""
    return "it is the right one for one place of a broadcast axis: is a sum over that axis missing?"


def _factor(got: Numbers, want: Numbers, lengths: tuple[int, ...] = ()) -> str:
    """One number times the right gradient."""
    at = np.unravel_index(int(np.argmax(np.abs(want))), want.shape)
    ratio = float(got[at] / want[at])
    if not _alike(got, ratio * want):
        return ""
    if abs(ratio - 1) < _SAME:  # less than what is told apart here
        return ""
    if abs(ratio + 1) < _SAME:
        return "every entry has the wrong sign"
    for axis, length in enumerate(want.shape):
        if length > 1 and min(abs(ratio * length - 1), abs(ratio / length - 1)) < _SAME:
            kind = "a mean where a sum is meant" if ratio < 1 else "a sum where a mean is meant"
            return f"every entry is {ratio:.6g} times the right one, and axis {axis} has {length} entries: {kind}?"
    if broadcast := [n for n in lengths if n > 1 and abs(ratio * n - 1) < _SAME]:
        return (
            f"every entry is {ratio:.6g} times the right one, and another argument has an axis of {broadcast[0]} "
            f"entries: is a sum over a broadcast axis missing, or a mean in its place?"
        )
    return f"every entry is {ratio:.6g} times the right one: a factor too many or too few"


def _moved(got: Numbers, want: Numbers) -> str:
    """The right numbers in other places."""
    if want.ndim >= 2 and want.shape[-1] == want.shape[-2] and _alike(got, np.swapaxes(want, -1, -2)):
        return "it is the transpose of the right one"
    for axis in range(want.ndim):
        for step in (1, -1):
            if want.shape[axis] > 2 and _within(got, np.roll(want, step, axis), axis, step):
                return f"it is the right one moved by one along axis {axis}: an index off by one?"
    return ""


def _within(got: Numbers, moved: Numbers, axis: int, step: int) -> bool:
    """Whether they are alike but for the entries that the move brought in at the end."""
    inside = slice(1, None) if step > 0 else slice(None, -1)
    at = (slice(None),) * axis + (inside,)
    return _alike(got[at], moved[at]) and bool(moved[at].any())


def _neighbour(got: Numbers, want: Numbers) -> str:
    """One amount of each row that is at an entry's neighbour, as where a label is one too large."""
    off = got - want
    wrong = np.abs(off) > _SAME * np.maximum(np.abs(got), np.abs(want))
    if not want.ndim or want.shape[-1] < 3 or not (wrong.sum(axis=-1)[wrong.any(axis=-1)] == 2).all():
        return ""
    rows = np.nonzero(wrong.any(axis=-1).ravel())[0]
    flat = np.where(wrong, off, 0).reshape(-1, want.shape[-1])
    places = [np.nonzero(flat[row])[0] for row in rows]
    opposite = all(
        abs(flat[row][at].sum()) <= _SAME * np.abs(flat[row][at]).max() for row, at in zip(rows, places, strict=True)
    )
    if not len(rows) or not opposite or any(b - a != 1 for a, b in places):
        return ""
    return "in each wrong row one amount is at the entry beside: is a label, or an index, off by one?"


def _rows(got: Numbers, want: Numbers) -> str:
    """Entries that have a gradient and should not, or the other way round, with all others right."""
    wrong = np.abs(got - want) > _SAME * np.maximum(np.abs(got), np.abs(want))
    if not wrong.any() or wrong.all():
        return ""
    if not want[wrong].any():
        return "it is wrong exactly where it should be 0: is a mask, or a part that is cut off, forgotten?"
    if not got[wrong].any():
        return "it is 0 where it should not be, and right elsewhere: does a mask hide too much?"
    return ""


def _branch(got: Numbers, want: Numbers) -> str:
    """Right in one part, and one number times the right gradient in the other."""
    wrong = np.abs(got - want) > _SAME * np.maximum(np.abs(got), np.abs(want))
    if wrong.sum() < 2 or wrong.all():
        return ""
    ratios = got[wrong] / want[wrong]
    if np.ptp(ratios) > _SAME * np.abs(ratios).max():
        return ""
    what = "the wrong sign" if abs(ratios[0] + 1) < _SAME else f"{ratios[0]:.6g} times the right value"
    return f"{int(wrong.sum())} of {wrong.size} entries have {what}, the others are right: one branch of the rule?"
