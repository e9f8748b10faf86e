"""Hessian products: against the Hessian, in ulps, and without its memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax import softmax_cross_entropy_hvp
from lossjax._core.plain import plain_of
from lossjax.geometry import softmax_fisher_vector_product
from lossjax.verify import oracle, ulp
from tests.support.quick import quick

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weights": {"class_weights": np.linspace(0.5, 2, 5)},
    "smoothing": {"label_smoothing": 0.2, "smoothing": "others"},
    "z-loss": {"z_loss": 0.05},
    "softcap": {"logit_softcap": 3.0},
    "temperature": {"temperature": 0.5},
    "all": {"class_weights": np.linspace(0.5, 2, 5), "label_smoothing": 0.1, "z_loss": 0.05, "logit_softcap": 3.0,
            "temperature": 2.0, "where": np.array([True, False, True, True])},
}  # fmt: skip


@pytest.mark.covering
@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "distributions"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_is_the_hessian_times_the_vector(options: dict[str, Any], labelled: bool) -> None:
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        z, v = (jnp.asarray(random.normal(size=(4, 5)) * 2) for _ in range(2))
        targets = random.integers(0, 5, 4) if labelled else random.uniform(0, 1, (4, 5))
        loss = lossjax.softmax_cross_entropy_with_integer_labels if labelled else lossjax.softmax_cross_entropy
        slope = jax.grad(lambda z: plain_of(loss)(z, targets, reduction="sum", **options))
        want = quick(lambda z, v: jax.jvp(slope, (z,), (v,))[1])(z, v)
        got = quick(lambda z, v: softmax_cross_entropy_hvp(z, targets, v, **options))(z, v)
        assert np.abs(got - want).max() <= 64 * 2.0**-53 * np.abs(want).max()


def test_any_axis() -> None:
    random = np.random.default_rng(0)
    z, v = (jnp.asarray(random.normal(size=(3, 4, 5)), jnp.float32) for _ in range(2))
    labels = jnp.asarray(random.integers(0, 15, 4))
    flat = [jnp.transpose(a, (1, 0, 2)).reshape(4, 15) for a in (z, v)]
    got, want = quick(
        lambda z, v, flat: (softmax_cross_entropy_hvp(z, labels, v, axis=(0, 2)),
                            softmax_cross_entropy_hvp(flat[0], labels, flat[1]))
    )(z, v, flat)  # fmt: skip
    np.testing.assert_array_equal(jnp.transpose(got, (1, 0, 2)).reshape(4, 15), want)


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_accurate_for_confident_rows(scale: float) -> None:
    random = np.random.default_rng(0)
    z, v = (np.float32(random.normal(size=(20, 6)) * s) for s in (scale, 1.0))
    got = jax.jit(lambda z, v: softmax_cross_entropy_hvp(z, jnp.zeros(20, int), v))(z, v)
    with oracle.precision():
        p, x = oracle.softmax(ulp.balls(z)), ulp.balls(v)
        top = np.argmax(z, -1)[:, None]
        apart = abs(x - np.take_along_axis(x, top, -1))
        truth = p * (x - oracle.total(p * x)[:, None])
        size = p * (apart + oracle.total(p * apart)[:, None])
        assert ulp.in_roundoffs(got, truth, scale=ulp.relative_to(size)).max() <= 16


def test_it_is_the_fisher_information() -> None:
    random = np.random.default_rng(0)
    z, v = (jnp.asarray(random.normal(size=(3, 5)), jnp.float32) for _ in range(2))
    # Each is within 16u·p_i(|v_i - v_m| + Σ p_j|v_j - v_m|), and the bracket is at most twice the spread of v.
    difference = jax.jit(
        lambda z, v: softmax_cross_entropy_hvp(z, jnp.arange(3), v) - softmax_fisher_vector_product(z, v)
    )(z, v)
    assert bool(jnp.all(jnp.abs(difference) <= 32 * 2.0**-24 * 2 * jnp.ptp(v, axis=-1, keepdims=True)))


def test_no_square_matrix_is_in_memory() -> None:
    classes = 4096
    arrays = [jax.ShapeDtypeStruct((2, classes), jnp.float32)] * 2
    compiled = jax.jit(lambda z, v: softmax_cross_entropy_hvp(z, jnp.zeros(2, int), v)).lower(*arrays).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes <= 8 * 2 * classes * 4 < classes * classes * 4


def test_it_is_differentiable() -> None:
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        z, v = (jnp.asarray(random.normal(size=(2, 4))) for _ in range(2))
        labels = jnp.array([0, 3])
        plain = plain_of(lossjax.softmax_cross_entropy_with_integer_labels)
        along = jnp.asarray(random.normal(size=(2, 4)))
        slope = jax.grad(lambda z: plain(z, labels, reduction="sum"))

        def derivative(product: Callable[[jax.Array], jax.Array]) -> jax.Array:
            return jax.jvp(product, (z,), (along,))[1]

        got = quick(lambda: derivative(lambda z: softmax_cross_entropy_hvp(z, labels, v)))()
        want = quick(lambda: derivative(lambda z: jax.jvp(slope, (z,), (v,))[1]))()
        assert np.abs(got - want).max() <= 256 * 2.0**-53


def test_refusals() -> None:
    z = jnp.zeros((2, 3))
    with pytest.raises(ValueError, match=r"vector has shape \(3,\), wanted \(2, 3\) of the logits"):
        softmax_cross_entropy_hvp(z, jnp.zeros(2, int), jnp.zeros(3))
    with pytest.raises(TypeError, match="vector must be floating-point"):
        softmax_cross_entropy_hvp(z, jnp.zeros(2, int), jnp.zeros((2, 3), int))
    wrong = quick(softmax_cross_entropy_hvp)(z, jnp.array([0, 3]), z + 1)
    assert np.isnan(wrong[1]).all()
    assert (wrong[0] == 0).all()
