"""Checks in several processes: compiling is most of their time, and each process has its own compiler."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def run_all(
    function: Callable[..., T], work: Sequence[tuple[Any, ...]], processes: int, done: Callable[[T], None] | None = None
) -> list[T]:
    """``function(*item)`` for each item of the work, in its order; ``done`` is told each result when it is there."""
    report = done or (lambda _: None)
    if processes <= 1:
        results = []
        for item in work:
            results.append(function(*item))
            report(results[-1])
        return results
    # "spawn", for JAX has threads.
    pool = concurrent.futures.ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    with pool:
        futures = [pool.submit(function, *item) for item in work]
        for future in concurrent.futures.as_completed(futures):
            report(future.result())
        return [future.result() for future in futures]
