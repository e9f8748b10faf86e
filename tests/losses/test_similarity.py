"""Cosines of vectors of any length, nearly parallel, and zero."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax import cosine_distance, cosine_similarity


@pytest.mark.parametrize("length", [2e-38, 1e-30, 1.0, 1e30, 3e38])
def test_the_length_does_not_matter(length: float) -> None:
    a, b = jnp.float32([1, 0]) * np.float32(length), jnp.float32([1, 1])
    np.testing.assert_allclose(cosine_similarity(a, b), np.sqrt(0.5), rtol=4 * 2.0**-24)
    (gradient,) = jax.vjp(lambda a: cosine_similarity(a, b), a)[1](jnp.float32(1))
    if length < 1e38:  # else the gradient is below the smallest normal number
        np.testing.assert_allclose(np.asarray(gradient, np.float64) * length, [0, np.sqrt(0.5)], rtol=1e-6, atol=1e-6)


def test_nearly_parallel_vectors_keep_their_distance() -> None:
    for angle in (1e-2, 1e-4, 1e-6):
        b = jnp.float32([1, angle])
        truth = 1 - 1 / np.sqrt(1 + np.float64(b[1]) ** 2) if angle > 1e-3 else np.float64(b[1]) ** 2 / 2
        np.testing.assert_allclose(cosine_distance(jnp.float32([1, 0]), b), truth, rtol=1e-4)
    assert cosine_distance(b, b) == 0


def test_a_zero_vector_has_no_direction() -> None:
    zero, v = jnp.zeros(3), jnp.float32([1, -2, 2])
    for loss, value in ((cosine_similarity, 0), (cosine_distance, 1)):
        for pair in ((zero, v), (v, zero), (zero, zero)):
            assert loss(*pair) == value
            assert all((g == 0).all() for g in jax.grad(loss, (0, 1))(*pair))


def test_epsilon_bounds_the_length() -> None:
    v = jnp.float32([3, 4])
    short = v * 1e-3
    np.testing.assert_allclose(cosine_similarity(short, v, epsilon=1.0), 5e-3, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda a: cosine_similarity(a, v, epsilon=1.0))(short), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda a: cosine_similarity(a, v, epsilon=1e-4))(v * 0), [60, 80], rtol=1e-6)


def test_masked_entries_count_as_zero() -> None:
    a, b = jnp.float32([[1, np.nan, 2]]), jnp.float32([[2, 1, 4]])
    kept = jnp.array([[True, False, True]])
    np.testing.assert_allclose(cosine_similarity(a, b, where=kept), [1], rtol=1e-6)
    assert jax.grad(lambda a: cosine_similarity(a, b, where=kept)[0])(a)[0, 1] == 0


@pytest.mark.parametrize("loss", [cosine_similarity, cosine_distance])
def test_a_mask_is_of_vectors_or_of_entries(loss: Callable[..., jax.Array]) -> None:
    """A vector without an entry that counts is no loss; a mask that could be either is refused."""
    a, b = jnp.arange(1.0, 13).reshape(3, 4), jnp.arange(12.0).reshape(3, 4) ** 2
    kept = jnp.array([True, False, True])
    whole = loss(a, b)
    np.testing.assert_array_equal(loss(a, b, where=kept), jnp.where(kept, whole, 0))
    np.testing.assert_array_equal(loss(a.T, b.T, axis=0, where=kept), jnp.where(kept, whole, 0))
    assert loss(a, b, where=kept[:, None], reduction="mean") == (whole[0] + whole[2]) / 2
    entries = jnp.array([True, True, True, False])
    # Both are within (16 + log₂ 4) u of what they are, for similarity and distance are at most 1 here.
    np.testing.assert_allclose(
        loss(a, b, where=entries), loss(a[:, :3], b[:, :3]), rtol=0, atol=2 * (16 + 2) * 2.0**-24
    )
    square = a[:, :3], b[:, :3]
    with pytest.raises(ValueError, match=r"give where.reshape\(3, 1\) for vectors, where.reshape\(1, 3\) for entries"):
        loss(*square, where=kept)
    np.testing.assert_array_equal(loss(*square, where=kept[:, None]), jnp.where(kept, loss(*square), 0))


def test_refusals() -> None:
    v = jnp.ones(3)
    with pytest.raises(ValueError, match="epsilon must be at least 0, got a minimum of -1"):
        cosine_similarity(v, v, epsilon=-1.0)
    with pytest.raises(ValueError, match="targets has shape"):
        cosine_similarity(v, jnp.ones(2))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [2, 7, 100])
def test_a_cosine_is_one(size: int, dtype: str, random: np.random.Generator) -> None:
    """No rounding carries it beyond ±1, where arccos is NaN; the gradient there stays that of a cosine, 0 along a."""
    length = 10 ** random.uniform(-3, 3, (2000, 1))
    a = jnp.asarray(random.normal(size=(2000, size)) * length, dtype)
    both = jax.jit(lambda a, b: (cosine_similarity(a, b), cosine_distance(a, b)))
    for factor in (1, -1, 3, 0.1):
        cosine, distance = both(a, a * jnp.asarray(factor, dtype))
        assert np.abs(cosine).max() <= 1
        assert distance.min() >= 0
        assert distance.max() <= 2
        assert not np.isnan(np.arccos(cosine)).any()
    slope = jax.jit(jax.grad(lambda a: jnp.sum(cosine_similarity(a, jax.lax.stop_gradient(a)))))(a[:50])
    assert np.isfinite(slope).all()
