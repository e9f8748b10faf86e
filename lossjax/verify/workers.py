"""Checks in several processes: compiling is most of their time, and what one has compiled the others load."""

import concurrent.futures
import gc
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import jax

_XLA_FLAGS = "--xla_cpu_parallel_codegen_split_count=1", "--xla_force_host_platform_device_count=2"
"""One thread compiles a program, for the processes share the cores; and ``shard_map`` is asked on two devices."""

_LEVEL_OF_JAX, _SILENT = "1", "3"
"""The level of messages that JAX sets where the caller has set none; and that of what ends the process alone."""

_SELDOM = 100_000, 20, 20
"""Thresholds of the garbage collector: tracing makes many small objects that live long."""

T = TypeVar("T")
Pool = concurrent.futures.Executor


@contextmanager
def pool_of(processes: int) -> Iterator[Pool | None]:
    """A pool of so many processes, or None for 1: then this process does the work."""
    if processes <= 1:
        yield None
        return
    # JAX runs threads, which a forked process would not have: so the processes are spawned.
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        cache = jax.config.values["jax_compilation_cache_dir"] or folder
        with _environment(), concurrent.futures.ProcessPoolExecutor(processes, spawn, _prepare, (cache,)) as pool:
            yield pool


@contextmanager
def _environment() -> Iterator[None]:
    """Have processes that start inside take our settings, and then the caller's, of which the last counts.

    They say nothing on their own: of every program that it loads from the cache jaxlib 0.10.0 says, in an error's
    words, that this machine may not be the one that compiled it.
    """
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", _LEVEL_OF_JAX)
    ours = {
        "XLA_FLAGS": " ".join([*_XLA_FLAGS, os.environ.get("XLA_FLAGS", "")]).strip(),
        "TF_CPP_MIN_LOG_LEVEL": _SILENT if level == _LEVEL_OF_JAX else level,
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def little_garbage() -> Iterator[None]:
    """Inside, garbage is looked for seldom: an eighth of a check's time went into that, and found next to nothing."""
    before = gc.get_threshold()
    if before[0]:  # 0 says that the caller wants none
        gc.set_threshold(max(before[0], _SELDOM[0]), *_SELDOM[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _prepare(cache: str) -> None:
    """Make a process share what it compiles with the others, and seldom look for garbage.

    Tracing makes many small objects that live long. A tenth of the time would go into looking through them.
    """
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_traceback_in_locations_limit", 0)  # nobody reads where their operations come from
    gc.freeze()
    gc.set_threshold(*_SELDOM)


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
