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
OF_ITS_OWN = (
    "kl_divergence", "kl_divergence_with_log_targets", "generalized_kl_divergence", "softmax_cross_entropy", "l2_loss",
    "poly_loss_cross_entropy",
)  # fmt: skip
"""What is not one of lossjax's losses as it is, but for broadcasting and dtypes; of those the contract asks this."""


def accuracy(function: Any, name: str) -> Any:
    """The certificate of value and gradient, in every float argument."""
    arguments = draw(name)
    argnums = tuple(i for i, a in enumerate(arguments) if jnp.issubdtype(a.dtype, jnp.floating))
    return check(function, *arguments, argnums=argnums, checks=("value", "gradient"), ulps=UNITS.get(name, 8))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in OF_ITS_OWN else pytest.mark.slow)
        for name in ours.OWN
        if "convex" not in name
    ],
)
def test_value_and_gradient_keep_their_digits(name: str) -> None:
    assert accuracy(getattr(ours, name), name).ok


def test_a_function_that_loses_digits_is_caught() -> None:
    """As optax writes it, with a difference of 1 and the probability."""

    def poly(logits: Any, labels: Any) -> Any:
        p = jnp.exp(logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True))
        return ours.softmax_cross_entropy(logits, labels) + 2 * jnp.sum(labels * (1 - p), axis=-1)

    assert not accuracy(poly, "poly_loss_cross_entropy").ok
