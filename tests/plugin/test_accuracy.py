"""Every function of ``lossjax.optax`` keeps the digits that the losses of ``lossjax`` promise."""

from typing import Any

import jax.numpy as jnp
import pytest

from lossjax import optax as ours
from lossjax.verify import check
from tests.plugin.test_optax import draw

UNITS = {"cosine_similarity": 24, "cosine_distance": 24}
"""As ``lossjax.verify.signatures`` derives them."""


def accuracy(function: Any, name: str) -> Any:
    """The certificate of value and gradient, in every float argument."""
    arguments = draw(name)
    argnums = tuple(i for i, a in enumerate(arguments) if jnp.issubdtype(a.dtype, jnp.floating))
    return check(function, *arguments, argnums=argnums, checks=("value", "gradient"), ulps=UNITS.get(name, 8))


NAMES = [name for name in ours.OWN if name != "convex_kl_divergence"]


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_keep_their_digits(name: str) -> None:
    """(The one that is left out is another function's deprecated name.)"""
    assert accuracy(getattr(ours, name), name).ok


def test_a_function_that_loses_digits_is_caught() -> None:
    """As optax writes it, with a difference that cancels near 0."""

    def log_cosh(x: Any, y: Any) -> Any:
        return jnp.logaddexp(x - y, y - x) - jnp.log(2).astype(x.dtype)

    assert not accuracy(log_cosh, "log_cosh").ok
