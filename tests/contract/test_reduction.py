"""How losses are reduced: sums, and means by counts and by weights.

That a mean over nothing is 0 is asked of every loss in ``test_edges.py``.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lossjax
from lossjax._core.reduction import Reducer

ROWS, CLASSES = 5, 3


def test_a_mean_whose_weights_sum_to_0_is_0_with_zero_gradient(random: np.random.Generator) -> None:
    z, y = (jnp.asarray(random.normal(size=(ROWS, CLASSES)), jnp.float32) for _ in range(2))

    def by_class(z: jax.Array, weights: jax.Array) -> jax.Array:
        return lossjax.softmax_cross_entropy_with_integer_labels(
            z, jnp.zeros(ROWS, jnp.int32), class_weights=weights, reduction="mean"
        )

    def by_entry(z: jax.Array, weights: jax.Array) -> jax.Array:
        return lossjax.mean_squared_error(z, y, weights=weights)

    for loss, weights in ((by_class, jnp.float32([0, 1, 2])), (by_entry, jnp.zeros_like(z))):
        value, gradient = jax.value_and_grad(loss, (0, 1))(z, weights)
        assert value == 0
        assert not np.any(gradient[0])
        assert np.isfinite(gradient[1]).all()


def test_weights_divide_the_mean_by_their_counted_sum() -> None:
    losses, weights = jnp.float32([2, 6, jnp.nan]), jnp.float32([1, 3, 5])
    where = jnp.array([True, True, False])
    assert Reducer("mean", where)(losses, own_weights=weights) == 2
    assert Reducer("sum", where)(losses, own_weights=weights) == 8
    assert Reducer("mean", where)(losses) == 4
    assert np.array_equal(Reducer("none", where)(losses), [2, 6, 0])
    assert np.isnan(Reducer("mean")(losses)), "an unmasked NaN is not hidden"
    assert Reducer("mean")(losses[:2]) == 4


def test_a_mean_of_weights_has_the_true_gradient_in_them() -> None:
    """d/dw (Σ w l / Σ w) = (l - mean)/Σw."""
    losses, weights = jnp.float32([1, 2, 6]), jnp.float32([0.5, 1, 2])
    gradient = jax.grad(lambda w: Reducer("mean")(w * losses, own_weights=w))(weights)
    mean = np.sum(np.asarray(losses) * np.asarray(weights)) / 3.5
    assert np.allclose(gradient, (np.asarray(losses) - mean) / 3.5, rtol=8 * 2.0**-24, atol=0)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    st.lists(st.booleans(), min_size=7, max_size=7),
    st.lists(st.floats(-50, 50, width=32), min_size=7, max_size=7),
)
def test_a_mask_is_a_removal(keep: list[bool], losses: list[float]) -> None:
    kept = np.float64(losses)[keep]
    for how, want in (("sum", kept.sum()), ("mean", kept.mean() if kept.size else 0.0)):
        got = float(Reducer(how, jnp.array(keep))(jnp.float32(losses)))
        assert abs(got - want) <= 8 * 2.0**-24 * np.abs(kept).sum()


@pytest.mark.parametrize("where", [None, jnp.array([True, False, True, True, True])])
def test_a_mean_of_large_losses_is_one(where: jax.Array | None) -> None:
    """Their sum overflows, their mean does not; and no digit of a usual mean changes."""
    large, zeros = jnp.full(5, 1.5e19), jnp.zeros(5)
    value, slope = jax.value_and_grad(lossjax.squared_error)(large, zeros, where=where, reduction="mean")
    kept = 5 if where is None else 4
    np.testing.assert_allclose(value, 2.25e38, rtol=2.0**-22)
    np.testing.assert_allclose(jnp.max(slope), 3e19 / kept, rtol=2.0**-22)
    usual = jnp.float32([0.1, 0.7, -3.3, 5.1, 1e-3])
    assert lossjax.squared_error(usual, zeros, reduction="mean") == jnp.sum(usual * usual) / jnp.float32(5)
