"""The reshaped cross-entropies at the parameters where they are another loss, and where they would overflow."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax import (
    generalized_cross_entropy,
    poly_cross_entropy,
    sigmoid_cross_entropy,
    sigmoid_focal_loss,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    softmax_focal_loss,
)

U = 2.0**-24


@pytest.fixture
def batch() -> tuple[jax.Array, jax.Array, jax.Array]:
    random = np.random.default_rng(0)
    z = jnp.asarray(random.normal(size=(7, 5)) * 3, jnp.float32)
    return z, jnp.asarray(random.integers(0, 5, 7)), jnp.asarray(random.dirichlet(np.ones(5), 7), jnp.float32)


@pytest.mark.parametrize(
    "loss",
    [lambda z, t: softmax_focal_loss(z, t, gamma=0), lambda z, t: poly_cross_entropy(z, t, epsilon=0)],
    ids=["focal", "poly"],
)
def test_without_reshaping_it_is_the_cross_entropy(loss: Callable[..., jax.Array], batch: Any) -> None:
    z, labels, targets = batch

    def both(f: Callable[[jax.Array], jax.Array], z: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, pullback = jax.vjp(f, z)
        return value, pullback(jnp.ones_like(value))[0]

    own = [lambda z: loss(z, labels), lambda z: loss(z, targets)]
    usual = [
        lambda z: softmax_cross_entropy_with_integer_labels(z, labels), lambda z: softmax_cross_entropy(z, targets)
    ]  # fmt: skip
    got, want = jax.jit(lambda z: [[both(f, z) for f in losses] for losses in (own, usual)])(z)
    for (value, slope), (truth, direction) in zip(got, want, strict=True):
        np.testing.assert_allclose(value, truth, rtol=8 * U)
        np.testing.assert_allclose(slope, direction, rtol=0, atol=16 * U)


def test_generalized_lies_between_cross_entropy_and_absolute_error(batch: Any) -> None:
    z, labels, _ = batch
    p = jnp.take_along_axis(softmax(z), labels[:, None], -1)[:, 0]
    np.testing.assert_allclose(generalized_cross_entropy(z, labels, q=1.0), 1 - p, rtol=16 * U, atol=U)
    near = softmax_cross_entropy_with_integer_labels(z, labels)  # (1 - e^-ql)/q = l - q l²/2 + …
    np.testing.assert_allclose(generalized_cross_entropy(z, labels, q=1e-6), near, rtol=1e-5)
    assert (generalized_cross_entropy(z * 100, labels, q=0.5) <= 2).all()


def test_one_hot_and_labels_agree(batch: Any) -> None:
    z, labels, _ = batch
    hot = jax.nn.one_hot(labels, 5)
    for loss in (softmax_focal_loss, poly_cross_entropy, generalized_cross_entropy):
        np.testing.assert_allclose(loss(z, labels), loss(z, hot), rtol=32 * U, atol=U * 1e-6)


def test_two_classes_are_a_sigmoid() -> None:
    z = jnp.linspace(-30, 30, 13, dtype=jnp.float32)
    pair = jnp.stack([jnp.zeros_like(z), z], -1)
    got = softmax_focal_loss(pair, jnp.ones(13, int), gamma=1.5)
    np.testing.assert_allclose(got, sigmoid_focal_loss(z, jnp.ones(13), gamma=1.5), rtol=48 * U)


def test_alpha_weighs_classes_but_is_not_counted(batch: Any) -> None:
    z, labels, _ = batch
    alpha = jnp.asarray([0.5, 1, 2, 0, 4], jnp.float32)
    rows = softmax_focal_loss(z, labels) * alpha[labels]
    np.testing.assert_allclose(softmax_focal_loss(z, labels, alpha=alpha), rows, rtol=4 * U)
    np.testing.assert_allclose(softmax_focal_loss(z, labels, alpha=alpha, reduction="mean"), rows.mean(), rtol=16 * U)
    weighted = softmax_focal_loss(z, labels, class_weights=alpha, reduction="mean")
    np.testing.assert_allclose(weighted, rows.sum() / alpha[labels].sum(), rtol=16 * U)
    np.testing.assert_allclose(softmax_focal_loss(z, labels, alpha=0.25), softmax_focal_loss(z, labels) / 4, rtol=4 * U)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_second_order_stays_finite_where_the_other_class_vanishes(gamma: float) -> None:
    """1 - p runs down to 1e-38: a derivative that squares it overflows."""
    z = np.float32([40, 60, 80, 87, 100])
    pair = np.stack([z, np.zeros_like(z)], -1)

    def products(z: jax.Array, pair: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Along one logit of each row: rows do not feel each other, and the other logit's column is the negative."""
        binary = jax.grad(lambda z: sigmoid_focal_loss(z, jnp.ones(5), gamma=gamma).sum())
        multi = jax.grad(lambda z: softmax_focal_loss(z, jnp.zeros(5, int), gamma=gamma).sum())
        return jax.jvp(binary, (z,), (jnp.ones(5),))[1], jax.jvp(multi, (pair,), (jnp.float32([[1, 0]] * 5),))[1]

    for product in jax.jit(products)(z, pair):
        assert np.isfinite(product).all()


def test_binary_focal_weighs_both_classes(batch: Any) -> None:
    z = batch[0]
    y = (batch[2] > 0.2).astype(jnp.float32)
    plain = sigmoid_focal_loss(z, y, gamma=0)
    np.testing.assert_allclose(plain, sigmoid_cross_entropy(z, y), rtol=8 * U)
    weighted = plain * (0.25 * y + 0.75 * (1 - y))
    np.testing.assert_allclose(sigmoid_focal_loss(z, y, gamma=0, alpha=0.25), weighted, rtol=8 * U)


def test_refusals(batch: Any) -> None:
    z, labels, _ = batch
    with pytest.raises(ValueError, match="q must be at most 1, got"):
        generalized_cross_entropy(z, labels, q=1.5)
    with pytest.raises(ValueError, match="gamma must be at least 0, got -1"):
        softmax_focal_loss(z, labels, gamma=-1)
    with pytest.raises(ValueError, match="alpha must be at most 1, got a maximum of 2"):
        sigmoid_focal_loss(z, z * 0, alpha=2.0)
    with pytest.raises(TypeError, match="epsilon must be a real scalar"):
        poly_cross_entropy(z, labels, epsilon=jnp.ones(2))
    with pytest.raises(ValueError, match="ignore_index is for integer labels"):
        poly_cross_entropy(z, z * 0, ignore_index=1)
    with pytest.raises(TypeError, match=r"targets must be floating-point, got bool.* give integer labels, or"):
        poly_cross_entropy(z, z > 0)
