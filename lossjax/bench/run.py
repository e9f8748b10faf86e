"""Measuring. Peers are compiled first, then called in turn, so that whatever slows the machine slows all of them."""

import dataclasses
import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from lossjax.bench.peers import PEERS, torch_step
from lossjax.bench.problems import TRUE_ROWS, Problem

BASE = "optax"
"""The contender that ratios are relative to, in the same round."""

COMPILATIONS = 3
"""How often each contender is compiled, from nothing and traced anew; the median time is shown."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """One contender on one problem. ``ratio`` is the median over rounds of its time to optax's in the same round."""

    problem: str
    peer: str
    seconds: float
    ratio: float
    rounds: int
    compile_seconds: float | None
    temporary_bytes: int | None
    loss_ulp: float | None
    gradient_ulp: float | None
    error: str | None = None


def measure(
    problem: Problem, peers: Iterable[str], *, seconds: float = 10.0, progress: Callable[[str], None] | None = None
) -> list[Measured]:
    """Time the peers on a problem, alternating, for about this many seconds (at least five rounds)."""
    tell = progress or (lambda _: None)
    data = problem.data()
    steps: dict[str, Callable[[], Any]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for peer in peers:
        tell(f"compiling {peer}")
        try:
            prepared = _prepared(problem, peer, data)
        except Exception as fault:  # That a peer refuses a problem is a result.
            facts[peer] = {"error": f"{type(fault).__name__}: {str(fault).splitlines()[0][:200]}"}
            continue
        if prepared is not None:
            steps[peer], facts[peer] = prepared
    times: dict[str, list[float]] = {peer: [] for peer in steps}
    start, rounds = time.monotonic(), 0
    order = list(steps)
    while order and (rounds < 5 or time.monotonic() - start < seconds):
        tell(f"round {rounds + 1}")
        for peer in order[rounds % len(order) :] + order[: rounds % len(order)]:
            begun = time.perf_counter()
            jax.block_until_ready(steps[peer]())
            times[peer].append(time.perf_counter() - begun)
        rounds += 1
    blank = dict.fromkeys(("compile_seconds", "temporary_bytes", "loss_ulp", "gradient_ulp"))
    return [
        Measured(
            problem=problem.name,
            peer=peer,
            seconds=statistics.median(times[peer]) if peer in times else float("nan"),
            ratio=_ratio(times, peer),
            rounds=rounds if peer in times else 0,
            **{**blank, **facts[peer]},
        )
        for peer in facts
    ]


def _ratio(times: dict[str, list[float]], peer: str) -> float:
    if peer not in times or BASE not in times:
        return float("nan")
    return statistics.median(a / b for a, b in zip(times[peer], times[BASE], strict=True))


def _prepared(problem: Problem, peer: str, data: tuple[Any, ...]) -> tuple[Callable[[], Any], dict[str, Any]] | None:
    if peer == "torch":
        step = torch_step(problem, data)
        if step is None:
            return None
        step()
        return step, {}
    made = PEERS[peer](problem)
    if made is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled, took = None, []
        for _ in range(COMPILATIONS):
            jax.clear_caches()
            begun = time.perf_counter()
            compiled = jax.jit(made).lower(*data).compile()
            took.append(time.perf_counter() - begun)
    assert compiled is not None
    analysis = compiled.memory_analysis()
    facts: dict[str, Any] = {
        "compile_seconds": statistics.median(took),
        "temporary_bytes": None if analysis is None else int(analysis.temp_size_in_bytes),
    }
    jax.block_until_ready(compiled(*data))
    facts |= _accuracy(problem, peer, data)
    return lambda: compiled(*data), facts


def _accuracy(problem: Problem, peer: str, data: tuple[Any, ...]) -> dict[str, float]:
    """The largest error of the losses and gradients of the first rows, in ulp of the result's dtype."""
    small = dataclasses.replace(problem, rows=min(TRUE_ROWS, problem.rows))
    logits, labels = data[0][:TRUE_ROWS], data[-1][:TRUE_ROWS]
    truth = problem.truth(logits, labels) if problem.kind == "rows" else None
    if truth is None:
        return {}
    one = dataclasses.replace(small, rows=1)
    step = jax.jit(jax.vmap(lambda z, y: PEERS[peer](one)(z[None], y[None])))  # pyright: ignore[reportOptionalCall]
    got = step(logits, labels)
    losses, gradients = (got, None) if problem.what == "forward" else (got[0], got[1][0])
    found = {"loss_ulp": _ulp(losses, truth[0])}
    if gradients is not None:
        found["gradient_ulp"] = _ulp(gradients[:, 0], truth[1])
    return found


def _ulp(got: Any, truth: np.ndarray) -> float:
    info = jax.numpy.finfo(got.dtype)
    # XLA may flush numbers below the normal ones to zero, so an ulp is at least that of the smallest normal number.
    size = np.maximum(np.abs(truth), float(info.tiny))
    ulp = float(info.eps) * 2.0 ** np.floor(np.log2(size.astype(np.float64)))
    return float(np.max(np.abs(np.asarray(got).astype(np.longdouble) - truth) / ulp))
