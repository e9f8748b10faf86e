"""One subject executed exactly, its value and its gradient, beside what JAX computes."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossjax.verify import UndecidedComparison, UnsupportedPrimitive, exact
from survey.subjects import Subject, is_float, numeric

CLOSE = 1e-5
"""The relative difference to JAX's float64 from which a result is not believed."""

OK, NONE = "ok", "none"
"""Executed and confirmed by JAX; not asked, because JAX itself has no such thing."""


class OutOfTime(BaseException):
    """No library may catch it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """An end after so many seconds of a processor: what else the machine does is not counted."""

    def stop(*_: Any) -> None:
        raise OutOfTime

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _parts(results: Any) -> list[np.ndarray]:
    """Numbers as complex128, from JAX or from exact execution."""
    return [np.asarray(x).astype(complex) if x.dtype != object else _rounded(x) for x in numeric(results)]


def _rounded(x: Any) -> np.ndarray:
    return np.array([complex(v) for v in x.ravel().tolist()], complex).reshape(x.shape)


def _apart(truth: Any, computed: Any) -> float:
    """The largest difference, relative to the largest number of the result."""
    worst = 0.0
    for a, b in zip(_parts(truth), _parts(computed), strict=True):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        finite = np.isfinite(a) & np.isfinite(b)
        if not np.all(same | finite):
            return float("inf")
        scale = max(1.0, float(np.max(np.abs(b[finite]), initial=0)))
        worst = max(worst, float(np.max(np.abs(a - b)[finite & ~same], initial=0)) / scale)
    return worst


def _outcome(function: Callable[..., Any], args: tuple[Any, ...], limit: float) -> tuple[str, float]:
    """What became of it, and the seconds of exact execution."""
    try:
        computed = jax.jit(function)(*args)
    except Exception as problem:
        return f"{NONE}: {type(problem).__name__}", 0.0
    if not numeric(computed):
        return f"{NONE}: no numbers", 0.0
    start = time.process_time()
    try:
        with limited(limit):
            truth = exact(function)(*args)
            difference = _apart(truth, computed)
            if difference > CLOSE:  # a conversion to a narrower dtype may be what the result is made of
                difference = _apart(exact(function, round_conversions=True)(*args), computed)
        seconds = time.process_time() - start
        return (OK if difference <= CLOSE else f"differs: by {difference:.1e}"), seconds
    except OutOfTime:
        return "time", time.process_time() - start
    except (UnsupportedPrimitive, NotImplementedError) as problem:
        name = re.search(r"primitive '([^']*)'", str(problem))
        return f"refused: {name.group(1) if name else ''}: {str(problem)[:200]}", time.process_time() - start
    except UndecidedComparison as problem:
        return f"undecided: {str(problem)[:200]}", time.process_time() - start
    except Exception as problem:
        return f"error: {type(problem).__name__}: {str(problem)[:200]}", time.process_time() - start


def _total(function: Callable[..., Any]) -> Callable[..., Any]:
    """A weighted sum of all that the function returns in floats, so that every entry has a say."""

    def total(*args: Any) -> Any:
        parts = []
        for x in numeric(function(*args)):
            if jnp.issubdtype(x.dtype, jnp.inexact):
                weights = 1 + jnp.arange(x.size).reshape(x.shape) % 3
                parts += [jnp.sum(jnp.real(x) * weights)] + (
                    [jnp.sum(jnp.imag(x) * weights)] if jnp.iscomplexobj(x) else []
                )
        return sum(parts[1:], parts[0])

    return total


def measured(subject: Subject, limit: float) -> dict[str, Any]:
    """One row of the survey; value and gradient may take ``limit`` seconds each."""
    value, seconds = _outcome(subject.function, subject.args, limit)
    row = {"library": subject.library, "name": subject.name, "value": value, "seconds": seconds}
    leaves, tree = jax.tree.flatten(subject.args)
    floats = tuple(i for i, x in enumerate(leaves) if is_float(x) or isinstance(x, float))
    gradient, seconds = f"{NONE}: no float argument", 0.0
    if floats and not value.startswith(NONE):

        def of_leaves(*given: Any) -> Any:
            return _total(subject.function)(*jax.tree.unflatten(tree, given))

        gradient, seconds = _outcome(jax.grad(of_leaves, floats), tuple(leaves), limit)
    return row | {"gradient": gradient, "gradient_seconds": seconds}
