"""The comparison of derivatives sees a rule that is wrong in one mode or in one order only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.derivatives import assert_same_derivatives

ARGS = np.float32([0.3, 1.2]), np.float32([0.7, -0.4])


def plain(x, y):
    return jnp.sin(x) * y


@jax.custom_jvp
def wrong_slope(x):
    return jnp.sin(x)


wrong_slope.defjvps(lambda t, _, x: t * 1.01 * jnp.cos(x))


@jax.custom_jvp
def slope_without_slope(x):
    return jnp.sin(x)


slope_without_slope.defjvps(lambda t, _, x: t * jax.lax.stop_gradient(jnp.cos(x)))


def test_equal_functions_pass():
    assert_same_derivatives(plain, lambda x, y: y * jnp.cos(x - jnp.float32(np.pi / 2)), ARGS, 1e-5, 1e-5)


@pytest.mark.parametrize("sine", [wrong_slope, slope_without_slope])
def test_a_wrong_rule_is_caught(sine):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same_derivatives(lambda x, y: sine(x) * y, plain, ARGS, 1e-5, 1e-5)
