"""What a function makes of infinities, NaN, the largest and the smallest numbers, and labels out of range."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lossjax.verify._check.certificate import Row
from lossjax.verify._check.family import shown
from lossjax.verify._check.labels import Labels, labels_of
from lossjax.verify._check.problem import Arrays, Problem
from lossjax.verify._check.programs import REFUSALS, Pair, Program, cotangents
from lossjax.verify.ulp import Balls

_TRIED = {
    "edges": "±inf, NaN, large and the smallest numbers, 0, labels at and beyond the ends",
    "overflow": "the largest numbers of the dtype",
}
_MOST_ENTRIES = 200_000
_MOST_FAILURES = 4


class Edge(NamedTuple):
    """One set of extreme arguments."""

    name: str
    arrays: Arrays
    outside: bool = False
    """Whether labels are out of range: then the value is NaN, or 0 if such labels hide rows, and so is the gradient."""
    beyond: bool = False
    """Whether they are so also for one who counts from the end: then a value that looks like one is wrong."""
    largest: bool = False
    """Whether the numbers are the dtype's largest."""
    flushed: bool = False
    """Whether the numbers are so small that the machine may take them for 0."""


def check_edges(
    one: Problem, reference: Callable[..., Any] | None, pair: Pair, wanted: Sequence[str], seed: int
) -> list[Row]:
    """The rows ``edges`` and ``overflow``, those that are wanted.

    No exception; a finite value has a gradient without NaN; a value that exists and is representable is computed as a
    finite number; and a label out of range gives no plausible value, and no plausible gradient where the value is NaN.
    """
    try:
        rows = pair.rows
    except Exception:  # a failure of the function at its own example belongs to other rows
        rows = None
    cotangent = cotangents(one.shapes(one.arrays), np.random.default_rng(seed + 5))
    values, pull = one.compiled_values, one.compiled_pullback
    exact = Program(one.pullback(reference or one.fn), one.arrays, cotangent, wide=False)
    size = max(sum(np.size(a) for a in one.arrays), 1)
    tried = dict.fromkeys(wanted, 0)
    failures: dict[str, list[str]] = {name: [] for name in wanted}
    for edge in _edges(one):
        name = "overflow" if edge.largest else "edges"
        if name not in wanted:
            continue
        tried[name] += 1
        try:
            outputs = [np.asarray(v) for v in values(edge.arrays)]
            gradients = [np.asarray(g) for g in pull(edge.arrays, cotangent)[1]]
        except REFUSALS:  # there is a loop in it that may have no end here
            tried[name] -= 1
            continue
        except Exception as error:  # no input may raise, whatever the error, once the function is compiled
            what = f"raises {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            failures[name].append(_line(one, edge, what, None))
            continue
        truth: Any = None
        # What the formula returns for a label out of range is not a truth.
        if size * sum(tried.values()) <= _MOST_ENTRIES and not edge.outside:
            try:
                truth = exact(edge.arrays, cotangent)
            except REFUSALS:
                truth = None
        failures[name] += _judged(one, edge, rows, outputs, gradients, truth)
    rows_of = []
    for name, lines in failures.items():
        detail = f"{_TRIED[name]}: {tried[name]} inputs"
        rows_of.append(Row(name, not lines, float(len(lines)), 0, detail, tuple(lines[:_MOST_FAILURES])))
    return rows_of


def _judged(
    one: Problem, edge: Edge, rows: int | None, outputs: list[Any], gradients: list[Any], truth: Any
) -> Iterator[str]:
    for k, output in enumerate(outputs):
        lost = ~np.isfinite(output.astype(np.float64))
        if truth is not None:
            there = _representable(truth[0][k], output.dtype)
            bad = lost & there
            if bad.any() and not edge.flushed:
                at = _first(bad)
                want = truth[0][k][at].str(9, radius=False)
                yield _line(one, edge, f"output {k} at {list(at)} is {output[at]}, want {want}", at)
    for k, gradient in enumerate(gradients):
        name = one.names[one.moving[k]]
        batched = rows is not None and gradient.ndim > 0 and gradient.shape[0] == rows
        finite, missing = _by_row(outputs, rows if batched else None)
        wide = gradient.astype(np.float64)
        of_finite = _spread(finite, gradient)
        bad = of_finite & np.isnan(wide)
        if truth is not None:
            bad |= of_finite & np.isinf(wide) & _representable(truth[1][k], gradient.dtype) & (not edge.flushed)
        if bad.any():
            at = _first(bad)
            yield _line(one, edge, f"gradient of {name} at {list(at)} is {gradient[at]} where the value is finite", at)
        if edge.beyond and gradient.size:
            batch = rows if batched else None
            plausible = _spread(_by_row(outputs, batch)[0] & ~_zero_by_row(outputs, batch), gradient)
            if plausible.any():
                at = _first(plausible)
                yield _line(one, edge, "the value is a plausible number, as if there were such a class", at)
        if edge.outside and gradient.size:
            finite_rows = np.isfinite(wide).reshape(*np.shape(missing), -1).all(axis=-1)
            plausible = missing & finite_rows
            if np.any(plausible):
                at = _first(np.asarray(plausible))
                yield _line(one, edge, f"gradient of {name} is finite where the value is NaN", at)
            silent = _spread(_zero_by_row(outputs, rows if batched else None), gradient) & (wide != 0)
            if silent.any():
                at = _first(silent)
                what = (
                    f"gradient of {name} at {list(at)} is {gradient[at]} where the label hides the row: its value is 0"
                )
                yield _line(one, edge, what, at)


def _by_row(outputs: list[Any], rows: int | None) -> tuple[Any, Any]:
    """Whether all outputs (of a row) are finite, and whether one is NaN."""
    flat = [o.astype(np.float64).reshape(*(() if rows is None else (rows,)), -1) for o in outputs]
    finite = np.logical_and.reduce([np.isfinite(o).all(axis=-1) for o in flat])
    missing = np.logical_or.reduce([np.isnan(o).any(axis=-1) for o in flat])
    return np.asarray(finite), np.asarray(missing)


def _zero_by_row(outputs: list[Any], rows: int | None) -> Any:
    """Whether all outputs (of a row) are exactly 0."""
    flat = [o.reshape(*(() if rows is None else (rows,)), -1) for o in outputs]
    return np.asarray(np.logical_and.reduce([(o == 0).all(axis=-1) for o in flat]))


def _spread(of_rows: Any, gradient: Any) -> Any:
    return np.broadcast_to(of_rows.reshape(of_rows.shape + (1,) * (gradient.ndim - of_rows.ndim)), gradient.shape)


def _representable(truth: Balls, dtype: Any) -> Any:
    """Where the exact result is a number well below overflow."""
    most = float(jnp.finfo(dtype).max) / 4
    found = [t.is_finite() and float(abs(t).abs_upper()) <= most for t in truth.ravel().tolist()]
    return np.array(found, bool).reshape(truth.shape)


def _first(bad: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def _line(one: Problem, edge: Edge, what: str, at: tuple[int, ...] | None) -> str:
    return f"{what} (inputs {edge.name!r}: {shown(one, edge.arrays, at[0] if at else None)})"


# --- the inputs ------------------------------------------------------------------------------------------------------


def _edges(one: Problem) -> Iterator[Edge]:
    of, labels = one.kinds, labels_of(one)
    for i in one.moving:
        array = one.arrays[i]
        if not array.ndim or not array.size:
            continue
        limits = jnp.finfo(array.dtype)
        huge, small = 0.9 * float(limits.max), float(limits.tiny) / 4
        # The sum of as many squares is a number, as is the square of any.
        large = 2.0 ** (limits.maxexp // 2 - 1 - math.ceil(math.log2(array.size) / 2))
        own = labels if labels and labels.of == i else None
        extremes: list[tuple[str, float]] = [("NaN", np.nan)]
        if of[i] in ("any", "positive"):
            extremes += [("inf", np.inf), ("large", large), ("huge", huge), ("a quarter of the largest", huge / 4)]
        if of[i] == "any":
            extremes += [("-inf", -np.inf), ("-large", -large), ("-huge", -huge)]
        else:
            extremes += [("0", 0.0)]
        for name, extreme in extremes:
            for place, where in _places(array, own, None if own is None else one.arrays[own.position]):
                moved = np.where(where, np.asarray(extreme, array.dtype), array)
                given = one.replaced(one.arrays, {i: moved})
                of_largest = bool(np.isfinite(extreme)) and abs(extreme) > large
                yield Edge(f"{name} {place} in {one.names[i]}", given, largest=of_largest)
        whole: list[tuple[str, float]] = [("0", 0.0), ("subnormal", small)]
        if of[i] == "any":
            whole += [("-inf", -np.inf), ("huge", huge / array.size)]  # their sum is finite
        for name, value in whole if of[i] != "simplex" else []:
            filled = one.replaced(one.arrays, {i: np.full(array.shape, value)})
            yield Edge(f"{one.names[i]} all {name}", filled, flushed=name == "subnormal", largest=name == "huge")
        if of[i] == "simplex":
            hot = np.broadcast_to(np.arange(array.shape[-1]) == 0, array.shape)
            yield Edge(f"{one.names[i]} one-hot", one.replaced(one.arrays, {i: hot}))
    if labels is not None:
        given = one.arrays[labels.position]
        most = int(np.iinfo(given.dtype).max)
        for label in (0, labels.classes - 1, labels.classes, -1, -100, most):
            if label < 0 and given.dtype.kind == "u":
                continue
            filled = one.replaced(one.arrays, {labels.position: np.full(given.shape, label)})
            outside, beyond = not 0 <= label < labels.classes, not -labels.classes <= label < labels.classes
            yield Edge(f"labels {label}", filled, outside, beyond)


def _places(array: Any, labels: Labels | None, chosen: Any) -> Iterator[tuple[str, Any]]:
    """One entry of each row; with labels, the chosen one and one beside it."""
    if labels is None:
        yield "first", np.broadcast_to(np.arange(array.shape[-1]) == 0, array.shape)
        return
    places = np.arange(labels.classes).reshape([-1 if k == labels.axis else 1 for k in range(array.ndim)])
    for name, shift in (("at the label", 0), ("beside the label", 1)):
        yield name, places == np.expand_dims((chosen + shift) % labels.classes, labels.axis)
