"""Checks in several processes: compiling is most of their time, and each process has its own compiler."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
Pool = concurrent.futures.Executor


@contextmanager
def pool_of(processes: int) -> Iterator[Pool | None]:
    """A pool of so many processes, or None for 1: then this process does the work."""
    if processes <= 1:
        yield None
        return
    # JAX runs threads, which a forked process would not have: so the processes are spawned.
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def run_all(
    function: Callable[..., T],
    work: Sequence[tuple[Any, ...]],
    pool: Pool | None,
    done: Callable[[T], None] | None = None,
) -> list[T]:
    """``function(*item)`` for each item of the work, in its order; ``done`` is told each result when it is there."""
    report = done or (lambda _: None)
    if pool is None:
        results = []
        for item in work:
            results.append(function(*item))
            report(results[-1])
        return results
    futures = [pool.submit(function, *item) for item in work]
    for future in concurrent.futures.as_completed(futures):
        report(future.result())
    return [future.result() for future in futures]
