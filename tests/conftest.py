"""Strict JAX for every test, two host devices, and seeds from one fixture."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def random(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's own name: no test depends on which ran before it."""
    return np.random.default_rng(list(request.node.nodeid.encode()))
