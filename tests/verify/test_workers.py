"""The processes that ``lossjax verify`` works in."""

import os

import jax
import pytest

from lossjax.verify.workers import pool_of, run_all


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
