"""Strict JAX for every test, two host devices, seeds from one fixture, a compilation cache that the workers share."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import XLA_FLAGS

os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=2", XLA_FLAGS]
)

import jax
import numpy as np
import pytest

from tests.support import quick, tiers

pytest_plugins = ["pytester", "tests.support.cpu_times"]
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# The suite is mostly compiling: what one worker has compiled the other need not, nor the next run here.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
# Nobody reads which line of Python an operation of a test's compiled program comes from.
jax.config.update("jax_traceback_in_locations_limit", 0)
quick.use_contexts_again()


# Tracing makes many small objects that live long: a tenth of the time would go into looking for garbage among them.
gc.set_threshold(100_000, 20, 20)

MOST_PROGRAMS = 1500


@pytest.fixture(autouse=True, scope="module")
def _memory() -> Iterator[None]:
    """A worker does not keep all that earlier files compiled: it would reach many gigabytes."""
    yield
    if len(jax.local_devices()[0].client.live_executables()) > MOST_PROGRAMS:
        jax.clear_caches()


@pytest.fixture
def random(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's own name: no test depends on which ran before it."""
    return np.random.default_rng(list(request.node.nodeid.encode()))


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[np.dtype]:
    """Run the test once in each width; JAX has 64 bits only while the wide one runs."""
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before ``-m`` chooses."""
    tiers.mark_slow(items)
    tiers.mark_documents(items)


def pytest_collection_finish() -> None:
    """What has been imported and collected stays until the end."""
    gc.freeze()
