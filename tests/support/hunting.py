"""Hunting, by hypothesis, for numbers at which a property of a loss fails: the arguments are drawn by their kinds."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lossjax.verify.signatures import KINDS, U
from tests.support.cases import Case
from tests.support.contract import gradients

TINY, LARGEST = 2.0**-126, float(np.finfo(np.float32).max)
ROWS, CLASSES = 3, 5
"""One shape for all: every shape is compiled for."""


def pool(kind: str, *, beyond: bool = False) -> tuple[float, ...]:
    """The numbers that an argument of this kind is drawn from, and with ``beyond`` those outside its domain too."""
    return KINDS[kind].hard + (KINDS[kind].beyond + KINDS[kind].outside if beyond else ())


def among(numbers: tuple[float, ...], shape: tuple[int, ...] = (ROWS, CLASSES)) -> st.SearchStrategy[np.ndarray]:
    """Arrays of these numbers."""
    size = int(np.prod(shape))
    entries = st.lists(st.sampled_from(numbers), min_size=size, max_size=size)
    return entries.map(lambda x: np.array(x, np.float32).reshape(shape))


def drawn(kind: str, *, beyond: bool = False) -> st.SearchStrategy[np.ndarray]:
    """Arguments of one kind."""
    usual = KINDS[kind].draw(np.random.default_rng(0), (ROWS, CLASSES))
    if not KINDS[kind].integer:
        return among(pool(kind, beyond=beyond), usual.shape)
    if kind == "listed classes":  # distinct ones
        orders = st.lists(st.permutations(range(CLASSES)), min_size=ROWS, max_size=ROWS)
        return orders.map(lambda x: np.array(x, usual.dtype)[:, : usual.shape[1]])
    top = 2 if usual.shape == (ROWS, CLASSES) else CLASSES
    numbers = st.lists(st.integers(0, top - 1), min_size=usual.size, max_size=usual.size)
    return numbers.map(lambda x: np.array(x, usual.dtype).reshape(usual.shape))


def close_pair(numbers: tuple[float, ...]) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Two arrays that agree in about half of their entries: divergences of what is nearly equal."""
    kept = st.lists(st.booleans(), min_size=ROWS * CLASSES, max_size=ROWS * CLASSES)
    return st.tuples(among(numbers), among(numbers), kept).map(
        lambda x: (x[0], np.where(np.reshape(x[2], (ROWS, CLASSES)), x[0], x[1]))
    )


def hunt(holds: Callable[..., None], *strategies: st.SearchStrategy[Any], examples: int = 40) -> None:
    """Call ``holds`` with examples of the strategies, always the same ones."""
    quiet = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    quiet(given(st.tuples(*strategies))(lambda drawn: holds(*drawn)))()


@functools.cache
def compiled(loss: Callable[..., Any], argnums: tuple[int, ...], *options: tuple[str, Any]) -> Callable[..., Any]:
    """The value and its gradients, for arguments of any values. The properties of one loss share one program."""

    def run(args: tuple[jax.Array, ...], more: dict[str, jax.Array]) -> Any:
        return gradients(functools.partial(loss, **dict(options), **more), Case("", loss, None, argnums), args)

    jitted = jax.jit(run)

    def call(*args: np.ndarray, **more: np.ndarray) -> list[np.ndarray]:
        value, _, pulled = jitted(args, more)
        return [np.asarray(value), *map(np.asarray, pulled)]

    return call


def same(got: np.ndarray, want: np.ndarray, units: float = 0, size: Any = 0) -> bool:
    """Specials exactly; numbers to ``units``·u of themselves and of ``size``."""
    with np.errstate(invalid="ignore"):
        error = np.abs(got.astype(np.float64) - want.astype(np.float64))
        near = error <= units * (U * (np.abs(want) + size) + 64 * TINY)
    return bool((near | (got == want) | (np.isnan(got) & np.isnan(want))).all())
