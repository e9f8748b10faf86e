"""Every function of ``lossjax.optax`` keeps the digits that the losses of ``lossjax`` promise."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax import optax as ours
from lossjax.verify import check
from tests.plugin.test_optax import draw


def accuracy(function: Any, name: str) -> Any:
    """The certificate of value and gradient, in every float argument."""
    arguments = draw(name)
    argnums = tuple(i for i, a in enumerate(arguments) if jnp.issubdtype(a.dtype, jnp.floating))
    return check(function, *arguments, argnums=argnums, checks=("value", "gradient"), ulps=8)


WITH_ARITHMETIC = (
    "l2_loss", "softmax_cross_entropy", "kl_divergence", "kl_divergence_with_log_targets", "generalized_kl_divergence",
)  # fmt: skip
"""Those that add operations of their own to a loss of ``lossjax``."""
THE_SAME_LOSS = {name: getattr(lossjax, name, None) for name in ours.OWN if name not in WITH_ARITHMETIC} | {
    "sigmoid_binary_cross_entropy": lossjax.sigmoid_cross_entropy,
    "poly_loss_cross_entropy": lossjax.poly_cross_entropy,
    "safe_softmax_cross_entropy": ours.softmax_cross_entropy,
    "convex_kl_divergence": ours.generalized_kl_divergence,
}
"""The others, and whose numbers they give; ``lossjax verify`` certifies those."""


@pytest.mark.parametrize("name", WITH_ARITHMETIC)
def test_value_and_gradient_keep_their_digits(name: str) -> None:
    assert accuracy(getattr(ours, name), name).ok


@pytest.mark.parametrize("name", THE_SAME_LOSS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_value_and_gradient_are_those_of_the_loss(name: str) -> None:
    """To the last bit, in every float argument."""
    arguments = draw(name)
    floats = tuple(i for i, a in enumerate(arguments) if jnp.issubdtype(a.dtype, jnp.floating))
    weights = np.linspace(-1, 2, 4, dtype=np.float32)

    def both(loss: Any) -> Any:
        def total(*arguments: jax.Array) -> jax.Array:
            losses = loss(*arguments)
            return jnp.sum(losses * weights.reshape(-1, *[1] * (losses.ndim - 1)))

        return loss(*arguments), *jax.grad(total, floats)(*arguments)

    found, wanted = (jax.jit(both, static_argnums=0)(loss) for loss in (getattr(ours, name), THE_SAME_LOSS[name]))
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_function_that_loses_digits_is_caught() -> None:
    """As optax writes it, with a difference that cancels near 0."""

    def log_cosh(x: Any, y: Any) -> Any:
        return jnp.logaddexp(x - y, y - x) - jnp.log(2).astype(x.dtype)

    assert not accuracy(log_cosh, "log_cosh").ok
