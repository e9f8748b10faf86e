"""JAX as users of optax run it."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def as_users_run_it() -> Iterator[None]:
    """JAX's default promotion: the plug-in's arguments mix as optax's do."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
