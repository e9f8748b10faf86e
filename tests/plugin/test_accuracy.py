"""Every function of ``lossjax.optax`` keeps the digits that the losses of ``lossjax`` promise."""

from typing import Any

import jax
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


@pytest.mark.parametrize("name", [name for name in ours.OWN if name != "convex_kl_divergence"])
def test_value_and_gradient_keep_their_digits(name: str) -> None:
    """(The one that is left out is another function's deprecated name.)"""
    assert accuracy(getattr(ours, name), name).ok


def test_a_function_that_loses_digits_is_caught() -> None:
    """As optax writes it, with a difference of 1 and the probability."""

    def poly(logits: Any, labels: Any) -> Any:
        p = jnp.exp(logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True))
        return ours.softmax_cross_entropy(logits, labels) + 2 * jnp.sum(labels * (1 - p), axis=-1)

    assert not accuracy(poly, "poly_loss_cross_entropy").ok
