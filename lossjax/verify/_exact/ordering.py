"""Rules that compare numbers and hand on one of them: sorting, maxima, and where they are."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flint import arb

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.pairs import BINARY, equal, less
from lossjax.verify._exact.rules import INF, NEG_INF, Complex, Unknown, rule, to_array
from lossjax.verify.ulp import Balls


def order(context: Context, a: Any, b: Any) -> int:
    """-1, 0 or 1 as a sorts before, with or after b; NaN comes last, and complex numbers by their real parts first."""
    if isinstance(a, Complex):
        return order(context, a.real, b.real) or order(context, a.imag, b.imag)
    if not isinstance(a, arb):
        return int(a > b) - int(a < b)
    if type(a) is Unknown or type(b) is Unknown:
        raise context.undecided(a, b)
    if a.is_nan() or b.is_nan():
        return int(a.is_nan()) - int(b.is_nan())
    if equal(a, b):
        return 0
    before = less(a, b)
    if before is None:
        raise context.undecided(a, b)
    return -1 if before else 1


def _total(test: Callable[[int], bool]) -> Callable[..., np.ndarray]:
    """A comparison that orders NaN too, as binary searches use it."""

    def compare(context: Context, params: Any, a: Balls, b: Balls) -> np.ndarray:
        a, b = np.broadcast_arrays(a, b)
        answers = [test(order(context, x, y)) for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)]
        return np.asarray(answers, dtype=bool).reshape(a.shape)

    return compare


rule("eq_to")(_total(lambda c: c == 0))
rule("lt_to")(_total(lambda c: c < 0))
rule("le_to")(_total(lambda c: c <= 0))


@rule("sort", reads=["dimension", "num_keys"])
def _sort(context: Context, params: Any, *values: Any) -> list[Any]:
    axis, keys = params["dimension"], params["num_keys"]

    def compare(lines: list[Any], i: int, j: int) -> int:
        return next((c for line in lines[:keys] if (c := order(context, line[i], line[j]))), 0)

    return _reordered(values, axis, compare, values[0].shape[axis])


@rule("top_k", reads=["k", "axis"])
def _top_k(context: Context, params: Any, x: Any) -> list[Any]:
    axis = params.get("axis", x.ndim - 1)
    places = np.broadcast_to(np.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.ndim)]), x.shape)

    def compare(lines: list[Any], i: int, j: int) -> int:
        return -order(context, lines[0][i], lines[0][j])

    return _reordered((x, places.astype(np.int32)), axis, compare, params["k"])


def _reordered(values: Sequence[Any], axis: int, compare: Any, first: int) -> list[Any]:
    """Every array's lines along the axis in the order of ``compare`` (stable), the ``first`` so many."""
    moved = [np.moveaxis(v, axis, -1) for v in values]
    results = [np.empty((*m.shape[:-1], first), dtype=m.dtype) for m in moved]
    for where in np.ndindex(moved[0].shape[:-1]):
        lines = [m[where] for m in moved]
        key = functools.cmp_to_key(functools.partial(compare, lines))
        chosen = sorted(range(moved[0].shape[-1]), key=key)[:first]
        for result, line in zip(results, lines, strict=True):
            result[where] = line[chosen]
    return [np.moveaxis(r, -1, axis) for r in results]


# --- extremes --------------------------------------------------------------------------------------------------------


def _candidate(entries: Sequence[arb], sign: int) -> int:
    """The first entry that no other certainly exceeds (for sign -1: falls below). It is an extreme if one is known."""
    best = 0
    for i in range(1, len(entries)):
        if entries[i] is not entries[best] and (entries[i] > entries[best] if sign > 0 else entries[i] < entries[best]):
            best = i
    return best


def position(context: Context, entries: Sequence[arb], sign: int) -> int:
    """The index of the first largest entry (smallest for sign -1); the first NaN if there is one."""
    missing = next((i for i, v in enumerate(entries) if v.is_nan()), None)
    if missing is not None:
        if any(type(v) is Unknown for v in entries[: missing + 1]):
            raise context.undecided(entries[missing])
        return missing
    best = entries[_candidate(entries, sign)]
    # All entries are compared before the first is taken, because a later one may overlap with it.
    equal_or_open = [i for i, v in enumerate(entries) if v is best or not (v < best if sign > 0 else v > best)]
    overlapping = [entries[i] for i in equal_or_open]
    certain = equal_or_open[0] if all(equal(v, best) for v in overlapping) else None
    return context.settled(certain, equal_or_open, *overlapping)


def extreme(context: Context, entries: Sequence[arb], name: str) -> arb:
    """One of the entries where it is certain which; else a ball that holds the extreme."""
    best = entries[_candidate(entries, 1 if name == "max" else -1)]
    certain = all(v is best or (v <= best if name == "max" else v >= best) for v in entries)
    if certain and not best.is_nan():
        return best
    return functools.reduce(functools.partial(context.one, BINARY[name]), entries)


def lines_along(x: Any, axes: Sequence[int]) -> tuple[list[list[Any]], tuple[int, ...]]:
    """The entries along these axes, one list for each place on the others; and the others' shape."""
    others = [i for i in range(x.ndim) if i not in axes]
    shape = tuple(x.shape[i] for i in others)
    count = int(np.prod(shape, dtype=int))
    flat = np.transpose(x, (*others, *axes)).reshape(count, -1) if count and x.size else np.empty((count, 0), object)
    return flat.tolist(), shape


def _reduced(name: str, of_none: arb) -> Callable[..., Balls]:
    def reduce(context: Context, params: Any, x: Balls) -> Balls:
        lines, shape = lines_along(x, params["axes"])
        return to_array([extreme(context, line, name) if line else of_none for line in lines], shape)

    return reduce


rule("reduce_max", reads=["axes"])(_reduced("max", NEG_INF))
rule("reduce_min", reads=["axes"])(_reduced("min", INF))


def _located(sign: int) -> Callable[..., np.ndarray]:
    def locate(context: Context, params: Any, x: Balls) -> np.ndarray:
        lines, shape = lines_along(x, params["axes"])
        return np.asarray([position(context, line, sign) for line in lines], params["index_dtype"]).reshape(shape)

    return locate


rule("argmax", reads=["axes", "index_dtype"])(_located(1))
rule("argmin", reads=["axes", "index_dtype"])(_located(-1))
