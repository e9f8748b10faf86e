"""The processes that ``lossjax verify`` works in."""

import contextlib
import gc
import os

import jax
import pytest

from lossjax.verify.workers import little_garbage, pool_of, run_all


def test_they_have_two_devices_and_leave_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else ``shard_map`` is not asked of any loss."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0")
    before = dict(os.environ)
    with pool_of(2) as pool:
        assert run_all(jax.device_count, [()], pool) == [1], "the caller's own flag counts"
    monkeypatch.delenv("XLA_FLAGS")
    with pool_of(2) as pool:
        assert run_all(jax.device_count, [()], pool) == [2]
    assert dict(os.environ) == {k: v for k, v in before.items() if k != "XLA_FLAGS"}


@pytest.mark.parametrize("own", [None, "1", "0", "2"])
def test_they_log_nothing_unless_the_caller_wants_it(monkeypatch: pytest.MonkeyPatch, own: str | None) -> None:
    """Loading from the cache of compiled programs, jaxlib 0.10.0 wrote 170 lines between those of the progress.

    "1" is what JAX sets itself when it is imported.
    """
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if own is not None:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", own)
    with pool_of(2) as pool:
        assert run_all(os.getenv, [("TF_CPP_MIN_LOG_LEVEL",)], pool) == ["3" if own in (None, "1") else own]
    assert os.environ.get("TF_CPP_MIN_LOG_LEVEL") == own


@pytest.mark.parametrize("own", [(700, 10, 10), (200_000, 10, 10), (0, 10, 10)], ids=["seldom", "as seldom", "never"])
def test_garbage_is_looked_for_seldom_and_then_as_before(own: tuple[int, int, int]) -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(*own)
        with contextlib.suppress(KeyError), little_garbage():
            assert gc.get_threshold()[0] == (max(100_000, own[0]) if own[0] else 0)
            raise KeyError
        assert gc.get_threshold() == own
    finally:
        gc.set_threshold(*before)
