"""Brier score and accuracy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax import accuracy, softmax, softmax_brier_score

INF, NAN = np.inf, np.nan


def test_the_brier_score_is_strictly_proper() -> None:
    """Expected score Σ q_c B(p, c) is least at p = q, where its gradient is 0, and nowhere else on a grid."""
    q = jnp.asarray([0.2, 0.3, 0.5])

    def expected(z: jax.Array) -> jax.Array:
        return jnp.sum(q * softmax_brier_score(jnp.broadcast_to(z, (3, 3)), jnp.arange(3)))

    best = jnp.log(q)
    assert np.abs(jax.grad(expected)(best)).max() < 4 * 2.0**-24
    for step in np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32):
        p = softmax(best + step)
        np.testing.assert_allclose(expected(best + step) - expected(best), np.sum((p - q) ** 2), atol=1e-6)


def test_brier_edges() -> None:
    z = jnp.float32([[INF, 0, 0], [0, -INF, 0], [-INF, -INF, -INF], [NAN, 0, 0], [0, 0, 0]])
    labels = jnp.array([0, 1, 0, 0, 3])
    value, gradient = jax.vmap(jax.value_and_grad(softmax_brier_score))(z, labels)
    np.testing.assert_array_equal(value, np.float32([0, 1.5, NAN, NAN, NAN]))
    assert np.isnan(gradient[2:]).all()
    assert (gradient[0] == 0).all()
    np.testing.assert_array_equal(gradient[1], [0, 0, 0])  # p_1 = 0 stays 0, and ½, ½ is where the rest belongs


def test_masked_rows_count_as_nothing() -> None:
    z, labels = jnp.float32([[NAN, 0], [1, 0]]), jnp.array([0, -100])
    assert softmax_brier_score(z, labels, where=jnp.array([False, True]), ignore_index=-100, reduction="mean") == 0
    gradient = jax.grad(lambda z: softmax_brier_score(z, labels, where=jnp.array([False, False]), reduction="sum"))(z)
    assert (gradient == 0).all()


def test_accuracy_is_arg_max() -> None:
    random = np.random.default_rng(0)
    z = np.round(random.normal(size=(50, 7)) * 2).astype(np.float32)  # with ties
    labels = random.integers(0, 7, 50)
    right = np.argmax(z, -1) == labels
    np.testing.assert_array_equal(accuracy(z, labels, reduction="none"), right)
    assert accuracy(z, labels) == np.float32(right.mean())
    order = np.argsort(-z, -1, kind="stable")
    for k in (2, 7, 9):
        among = (order[:, :k] == labels[:, None]).any(-1)
        np.testing.assert_array_equal(accuracy(z, labels, top_k=k, reduction="none"), among)
    np.testing.assert_array_equal(accuracy(z.T, labels, axis=0), accuracy(z, labels))


def test_accuracy_counts_what_is_counted() -> None:
    z, labels = jnp.float32([[1, 0], [0, 1], [NAN, 1]]), jnp.array([0, 0, 1])
    assert accuracy(z[:2], labels[:2], ignore_index=0) == 0
    assert accuracy(z, labels, where=jnp.array([True, False, False])) == 1
    assert np.isnan(accuracy(z, labels))
    assert np.isnan(accuracy(z[:2], jnp.array([0, 5])))
    assert (jax.grad(lambda z: accuracy(z, labels[:2]))(z[:2]) == 0).all()
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        accuracy(z, labels, top_k=0)
