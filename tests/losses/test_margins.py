"""The margin losses: kinks, edges, and sparsemax as a Fenchel-Young loss."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax import (
    hinge_loss,
    multiclass_hinge_loss,
    multiclass_perceptron_loss,
    multiclass_sparsemax_loss,
    perceptron_loss,
    sparsemax_loss,
)
from lossjax.geometry import project_to_simplex

INF, NAN = np.inf, np.nan
MULTICLASS = pytest.mark.parametrize(
    "loss", [multiclass_hinge_loss, multiclass_perceptron_loss, multiclass_sparsemax_loss]
)


def test_kinks_have_a_subgradient() -> None:
    assert jax.grad(hinge_loss)(jnp.float32(1), jnp.float32(1)) == 0
    assert jax.grad(perceptron_loss)(jnp.float32(0), jnp.float32(1)) == 0
    assert jax.grad(lambda z: multiclass_perceptron_loss(z, jnp.array(1)))(jnp.float32([2, 2])).tolist() == [0, 0]
    assert jax.grad(lambda z: multiclass_hinge_loss(z, jnp.array(2)))(jnp.float32([5, 5, 0])).tolist() == [1, 0, -1]


def test_edges() -> None:
    score = jnp.float32([INF, -INF, NAN])
    for loss in (hinge_loss, perceptron_loss):
        np.testing.assert_array_equal(loss(score, jnp.ones(3)), [0, INF, NAN])
        np.testing.assert_array_equal(jax.grad(lambda s, f=loss: f(s, jnp.ones(3)).sum())(score), [0, -1, NAN])
    np.testing.assert_array_equal(sparsemax_loss(score, jnp.ones(3, int)), [0, INF, NAN])
    np.testing.assert_array_equal(jax.grad(lambda s: sparsemax_loss(s, jnp.ones(3, int)).sum())(score), [0, -1, NAN])
    assert np.isnan(sparsemax_loss(jnp.float32(1), jnp.array(2)))


@MULTICLASS
def test_an_offset_changes_nothing(loss: Callable[..., jax.Array]) -> None:
    z = jnp.float32([[0.5, 0.25, -1], [3, 0.125, 0], [0, 4, 1]])
    labels = jnp.array([0, 0, 2])
    np.testing.assert_array_equal(loss(z + 4096, labels), loss(z, labels))


@MULTICLASS
def test_bad_labels_and_masks(loss: Callable[..., jax.Array]) -> None:
    z, labels = jnp.float32([[0, 1], [NAN, 1], [0, 1]]), jnp.array([0, 0, 2])
    value, pullback = jax.vjp(lambda z: loss(z, labels), z)
    assert np.isfinite(value[0])
    assert np.isnan(value[1:]).all()
    assert np.isnan(pullback(jnp.ones(3))[0][1:]).all()
    seen = jnp.array([True, False, False])
    value, pullback = jax.vjp(lambda z: loss(z, labels, where=seen), z)
    assert (value[1:] == 0).all()
    assert (pullback(jnp.ones(3))[0][1:] == 0).all()
    assert loss(z, jnp.array([5, 5, 5]), ignore_index=5, reduction="mean") == 0
    assert loss(jnp.zeros((1, 1)), jnp.array([0]))[0] == 0


def test_sparsemax_is_a_fenchel_young_loss() -> None:
    """max_p <p, z> - ½‖p‖² + ½ - z_c by its definition, in float64; 0 exactly where the label leads by 1."""
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        z = jnp.asarray(random.normal(size=(50, 6)) * 2)
        labels = jnp.asarray(random.integers(0, 6, 50))
        p = project_to_simplex(z)
        want = jnp.sum(p * z - p * p / 2, -1) + 0.5 - jnp.take_along_axis(z, labels[:, None], -1)[:, 0]
        np.testing.assert_allclose(multiclass_sparsemax_loss(z, labels), want, rtol=0, atol=64 * 2.0**-53)
    assert multiclass_sparsemax_loss(jnp.float32([2, 1, 0]), jnp.array(0)) == 0
    assert multiclass_sparsemax_loss(jnp.float32([2, 1.25, 0]), jnp.array(0)) > 0


def test_two_classes_are_the_binary_sparsemax() -> None:
    z = jnp.linspace(-3, 3, 13, dtype=jnp.float32)
    pair = jnp.stack([jnp.zeros_like(z), z], -1)
    for label in (0, 1):
        labels = jnp.full(13, label)
        np.testing.assert_allclose(
            multiclass_sparsemax_loss(pair, labels), sparsemax_loss(z, labels), atol=4 * 2.0**-24
        )
