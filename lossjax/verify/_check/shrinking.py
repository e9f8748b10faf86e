"""The smallest input that shows a fault: fewer rows, then rounder numbers, as long as the fault stays."""

import dataclasses
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lossjax.verify._check.problem import Arrays, Problem, is_float
from lossjax.verify._check.programs import REFUSALS, Pair, x64
from lossjax.verify.subject import home

_SECONDS = 3.0
"""How long is spent on making one input smaller."""
_MOST_ENTRIES = 24
"""Numbers are made rounder one by one where there are at most so many."""
_COLUMNS = 78
"""So wide is the program at most, so that a terminal does not cut it off."""

Wrong = Callable[[Problem, Pair, Arrays], str]
"""What is wrong for these arguments, in words; empty where nothing is."""


def shrunk(one: Problem, pair: Pair, arrays: Arrays, again: Callable[[Problem], Pair], wrong: Wrong) -> str:
    """A program in plain JAX that shows the fault; empty where it cannot be written down.

    Args:
      one: the function.
      pair: its rule and formula, traced for the shapes of ``arrays``.
      arrays: arguments for which something is wrong.
      again: makes the pair for other shapes.
      wrong: says what is wrong, if anything is.
    """
    until = time.perf_counter() + _SECONDS
    dtypes = [a.dtype for a in one.arrays]
    if any("[" in name or "'" in name for name in one.names) or len(one.traced) != len(one.leaves):
        return ""

    def said(one: Problem, pair: Pair, arrays: Arrays) -> str:
        try:
            return wrong(one, pair, arrays)
        except REFUSALS:
            return ""

    for fewer in _one_row(arrays):
        try:
            small = dataclasses.replace(one, leaves=fewer, arrays=fewer)
            its = again(small)
        except Exception:  # the function may refuse other shapes in any way
            continue
        if its.plain is not None and said(small, its, fewer):
            one, pair, arrays = small, its, fewer
            break
    if sum(a.size for a in arrays if is_float(a)) <= _MOST_ENTRIES:
        arrays = _rounder(arrays, lambda tried: bool(said(one, pair, tried)), until)
    what = said(one, pair, arrays)
    return _program(one, pair, list(zip(arrays, dtypes, strict=True)), what) if what else ""


def _one_row(arrays: Arrays) -> Iterator[Arrays]:
    """The arguments with one of their rows alone."""
    rows = next((a.shape[0] for a in arrays if np.ndim(a)), 1)
    for row in range(rows if rows > 1 else 0):
        yield tuple(a[row : row + 1] if np.ndim(a) and a.shape[0] == rows else a for a in arrays)


def _rounder(arrays: Arrays, still_wrong: Callable[[Arrays], bool], until: float) -> Arrays:
    """Each number replaced by the first of 1, its integer part and its first digit for which the fault stays."""
    for k, array in enumerate(arrays):
        if not is_float(array):
            continue
        for at in np.ndindex(array.shape):
            number = float(arrays[k][at])
            for rounder in dict.fromkeys((1.0, float(np.rint(number)), float(f"{number:.0e}"))):
                if time.perf_counter() > until:
                    return arrays
                tried = arrays[k].copy()
                tried[at] = rounder
                if rounder == number:
                    break
                if still_wrong((*arrays[:k], tried, *arrays[k + 1 :])):
                    arrays = (*arrays[:k], tried, *arrays[k + 1 :])
                    break
    return arrays


def _program(one: Problem, pair: Pair, arrays: list[tuple[Any, Any]], what: str) -> str:
    """``what`` is wrong for these arrays, each with the dtype that it is given in."""
    found = home(one.fn)
    where = "from {} import {}".format(*found) if found else "# fn: the function that was checked"
    name = found[1] if found else "fn"
    moving = [f"x{i}" for i in one.moving]
    every = [f"x{i}" if i in one.moving else f"args[{i}]" for i in range(len(arrays))]
    with x64(pair.wide):
        results = one.shapes(tuple(array.astype(dtype) for array, dtype in arrays))
    weights = [_written(w, o.dtype) for w, o in zip(pair.cotangents, results, strict=True)]
    weight = weights[0] if len(weights) == 1 else f"({', '.join(weights)})"
    lines = [
        "import jax, jax.numpy as jnp",
        where,
        "args = (",
        *(f"    {_written(array, dtype)}," for array, dtype in arrays),
        ")",
        f"value, pull = jax.vjp(lambda {', '.join(moving)}: {name}({', '.join(every)}), "
        f"{', '.join(f'args[{i}]' for i in one.moving)})",
        f"# {what}",
        f"print(pull({weight}))",
    ]  # fmt: skip
    return "\n".join(_folded(line) for line in lines)


def _folded(line: str) -> str:
    """A line of a program, broken after spaces within its parentheses, or as several lines of a comment."""
    if line.startswith(("from ", "import ")):
        return line
    indent = "# " if line.startswith("# ") else "    "
    parts = textwrap.wrap(line, _COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(parts)


def _written(array: np.ndarray, dtype: np.dtype) -> str:
    return f"jnp.array({np.asarray(array).astype(float if is_float(array) else array.dtype).tolist()}, '{dtype}')"
