"""Rules of what slides a window over an array: sums, extremes, any reduction, and the places of extremes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flint import arb

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.elementwise import decide
from lossjax.verify._exact.ordering import extreme, position
from lossjax.verify._exact.pairs import COMPARISONS
from lossjax.verify._exact.reductions import summed
from lossjax.verify._exact.rules import INF, NEG_INF, ZERO, rule, to_array
from lossjax.verify._exact.structural import padded
from lossjax.verify.ulp import Balls

NOWHERE = -1
"""The place of an entry of a window that lies outside the array or between its entries."""
_SHAPE = ["window_dimensions", "window_strides", "padding"]
_DILATED = [*_SHAPE, "base_dilation", "window_dilation"]


def windows(
    shape: Sequence[int],
    sizes: Sequence[int],
    strides: Sequence[int],
    padding: Any,
    base: Any = None,
    window: Any = None,
) -> np.ndarray:
    """The places in the flat array that each window covers: the axes of the array, then those of the window."""
    base, window = base or (1,) * len(sizes), window or (1,) * len(sizes)
    places = np.arange(int(np.prod(shape, dtype=int))).reshape(tuple(shape))
    config = [(low, high, between - 1) for (low, high), between in zip(padding, base, strict=True)]
    places = padded(places, np.asarray(NOWHERE), config)
    spans = [(size - 1) * step + 1 for size, step in zip(sizes, window, strict=True)]
    counts = [max((n - span) // by + 1, 0) for n, span, by in zip(places.shape, spans, strides, strict=True)]
    if 0 in counts:
        return np.empty((*counts, *sizes), int)
    views = np.lib.stride_tricks.sliding_window_view(places, tuple(spans))
    return views[tuple(slice(None, None, by) for by in (*strides, *window))]


def _lines(shape: Sequence[int], params: Any) -> tuple[list[list[int]], tuple[int, ...]]:
    """The places that each window covers, one list for each, and the shape of the result."""
    sizes = params["window_dimensions"]
    dilations = params.get("base_dilation"), params.get("window_dilation")
    found = windows(shape, sizes, params["window_strides"], params["padding"], *dilations)
    outer = found.shape[: len(sizes)]
    return found.reshape(int(np.prod(outer, dtype=int)), int(np.prod(sizes, dtype=int))).tolist(), outer


def _reduced(reduce: Callable[[Context, list[arb]], arb]) -> Callable[..., Balls]:
    def apply(context: Context, params: Any, x: Balls) -> Balls:
        entries = x.ravel().tolist()
        lines, shape = _lines(x.shape, params)
        return to_array([reduce(context, [entries[i] for i in line if i != NOWHERE]) for line in lines], shape)

    return apply


rule("reduce_window_sum", reads=_DILATED)(_reduced(summed))
rule("reduce_window_max", reads=_DILATED)(_reduced(lambda c, line: extreme(c, line, "max") if line else NEG_INF))
rule("reduce_window_min", reads=_DILATED)(_reduced(lambda c, line: extreme(c, line, "min") if line else INF))


@rule("reduce_window", reads=[*_DILATED, "jaxpr", "consts"])
def _reduce_window(context: Context, params: Any, *values: Any) -> list[Any]:
    """A fold from the left. In the padding stands the initial value, which some platforms count and others do not."""
    if params["consts"]:
        raise context.unsupported("its rule does not know the parameter 'consts'")
    arrays, starts = values[: len(values) // 2], values[len(values) // 2 :]
    flat = [a.ravel() for a in arrays]
    lines, shape = _lines(arrays[0].shape, params)
    if any(NOWHERE in line for line in lines):
        twice = context.run(params["jaxpr"], [*starts, *starts])
        if not all(np.asarray(a)[()] == np.asarray(b)[()] for a, b in zip(twice, starts, strict=True)):
            raise context.unsupported("there is padding, and platforms differ on whether its initial value counts")
    rows = []
    for line in lines:
        state = list(starts)
        for i in line:
            if i != NOWHERE:
                state = context.run(params["jaxpr"], [*state, *(a[i : i + 1].reshape(()) for a in flat)])
        rows.append([np.asarray(v)[()] for v in state])
    columns = [[row[k] for row in rows] for k in range(len(arrays))]
    return [
        to_array(c, shape) if a.dtype == object else np.asarray(c, a.dtype).reshape(shape)
        for c, a in zip(columns, arrays, strict=True)
    ]


# --- the places of extremes ------------------------------------------------------------------------------------------


def _chosen(context: Context, params: Any, x: Balls) -> tuple[list[int], tuple[int, ...]]:
    """The place that each window selects: the first for which ``select_prim`` holds against all others."""
    name = getattr(params["select_prim"], "name", "")
    if name not in ("ge", "le"):
        raise context.unsupported(f"its rule does not know the select_prim {name!r}")
    entries = x.ravel().tolist()
    lines, shape = _lines(x.shape, params)
    return [_selected(context, [i for i in line if i != NOWHERE], entries, name) for line in lines], shape


def _selected(context: Context, line: list[int], entries: list[arb], name: str) -> int:
    if not line:
        return NOWHERE
    inside = [entries[i] for i in line]
    if not any(v.is_nan() for v in inside):
        return line[position(context, inside, 1 if name == "ge" else -1)]
    best = line[0]
    for i in line[1:]:
        if not decide(context, COMPARISONS[name], entries[best], entries[i]):
            best = i
    return best


@rule("select_and_scatter_add", reads=[*_SHAPE, "select_prim"])
def _select_and_scatter_add(context: Context, params: Any, source: Balls, x: Balls) -> Balls:
    """Each entry of the source is added where its window selects."""
    added: list[list[arb]] = [[] for _ in range(x.size)]
    for place, value in zip(_chosen(context, params, x)[0], source.ravel().tolist(), strict=True):
        if place != NOWHERE:
            added[place].append(value)
    return to_array([summed(context, values) for values in added], x.shape)


@rule("select_and_gather_add", reads=[*_DILATED, "select_prim"])
def _select_and_gather_add(context: Context, params: Any, tangents: Balls, x: Balls) -> Balls:
    """The entry of the tangents that each window selects."""
    places, shape = _chosen(context, params, x)
    flat = tangents.ravel().tolist()
    return to_array([ZERO if place == NOWHERE else flat[place] for place in places], shape)
