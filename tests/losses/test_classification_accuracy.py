"""Both softmax cross-entropies against the exact result, to a vocabulary; and what the peers get wrong."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax import sigmoid_cross_entropy, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from lossjax.verify import oracle, ulp

SCALES, OFFSETS = (1e-2, 1.0, 6.0, 40.0), (0.0, 1e4)


def _families(classes: int, dtype: Any, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of every scale and offset; each with a random label, the most likely one, and the least likely one."""
    combined = [(s, o) for s in SCALES for o in OFFSETS]
    rows = 1 if classes >= 1000 else 3
    if classes > 1000:
        combined = [(1e-2, 1e4), (6.0, 0.0), (40.0, 0.0)]
    z = np.concatenate([random.normal(size=(rows, classes)) * s + o for s, o in combined]).astype(dtype)
    ties = np.round(z[:1])
    z = np.concatenate([z, ties])
    return z, np.stack([random.integers(0, classes, len(z)), np.argmax(z, -1), np.argmin(z, -1)])


def _pulled(loss: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The value and the gradient in the logits, for cotangents of the rows."""

    def of(z: jax.Array, second: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, pullback = jax.vjp(lambda z: loss(z, second), z)
        return value, pullback(cotangent)[0]

    return jax.jit(of)


by_label, by_target = _pulled(softmax_cross_entropy_with_integer_labels), _pulled(softmax_cross_entropy)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000, 50257])
def test_within_8_roundoffs(classes: int, dtype: Any, random: np.random.Generator) -> None:
    """|error| <= (8 + [C > 1000]·log2(C)/2) u |truth| + C·tiny, for the value and every entry of the gradient."""
    allowed = 8 + (np.log2(classes) / 2 if classes > 1000 else 0)
    with jax.enable_x64(dtype == np.float64), oracle.precision(192 if classes > 100 else 640):
        z, kinds = _families(classes, dtype, random)
        exact = ulp.balls(z)
        p, lse = oracle.softmax(exact), oracle.log_sum_exp(exact)
        row = np.arange(len(z))
        for kind, labels in zip(("random", "arg max", "arg min"), kinds, strict=True):
            value, gradient = lse - exact[row, labels], p.copy()
            gradient[row, labels] -= 1
            cotangent = (random.uniform(0.5, 2, len(z)) * np.where(random.uniform(size=len(z)) < 0.5, -1, 1)).astype(
                dtype
            )
            weighted = ulp.balls(cotangent)[:, None] * gradient
            hot = jax.nn.one_hot(labels, classes, dtype=dtype)
            for form, (got, slope) in (
                ("label", by_label(z, labels.astype(np.int32), cotangent)), ("one-hot", by_target(z, hot, cotangent)),
            ):  # fmt: skip
                tiny = 2 * classes * ulp.smallest_normal(dtype)
                for what, computed, truth in (("value", got, value), ("gradient", slope, weighted)):
                    off = ulp.in_roundoffs(computed, truth, negligible=tiny)
                    at = np.unravel_index(np.argmax(off), off.shape)
                    assert off[at] <= allowed, (
                        f"{form}, {kind} labels, C={classes}: {what}{list(map(int, at))} is off by {off[at]:.3g}u of "
                        f"{truth[at]}, allowed {allowed:.3g}u; "
                        f"logits span {np.ptp(z[at[0]]):.3g} around {z[at[0]].mean():.3g}"
                    )
                    if classes > 1000 and kind != "arg max":
                        break  # one gradient a form: the labels differ in one entry


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", ["label", "one-hot"])
def test_a_gradient_sums_to_0(form: str, dtype: Any, random: np.random.Generator) -> None:
    """Σ∂ = 0 to rounding: every entry is within 8u, so the sum is within 8u of Σ|∂|."""
    with jax.enable_x64(dtype == np.float64):
        for scale in (1e-3, 1.0, 30.0):
            z = jnp.asarray(random.normal(size=(9, 17)) * scale + 100, dtype)
            for labels in (jnp.asarray(random.integers(0, 17, 9), jnp.int32), jnp.argmax(z, -1).astype(jnp.int32)):
                second = labels if form == "label" else jax.nn.one_hot(labels, 17, dtype=dtype)
                _, gradient = (by_label if form == "label" else by_target)(
                    z, second, jnp.linspace(-2, 3, 9, dtype=dtype)
                )
                wide = np.asarray(gradient, np.longdouble)
                assert np.all(np.abs(wide.sum(-1)) <= 8 * np.finfo(dtype).eps / 2 * np.abs(wide).sum(-1))
                assert np.all(np.abs(wide).sum(-1) > 0)


# --- what the peers get wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_an_offset_costs_nothing(offset: float) -> None:
    """z = (offset, offset - 5): log-sum-exp less the label's logit is 1.8 % off at 1e4."""
    got = softmax_cross_entropy_with_integer_labels(jnp.float32([[offset, offset - 5]]), jnp.int32([0]))[0]
    assert abs(float(got) - np.log1p(np.exp(-5))) <= 8 * 2.0**-24 * np.log1p(np.exp(-5))


@pytest.mark.parametrize("margin", [17.0, 20.0, 30.0, 50.0, 80.0])
def test_a_confident_row_keeps_its_loss_and_its_gradient(margin: float) -> None:
    """log_softmax rounds both to 0 from a margin of 16.75 on."""
    z, truth = jnp.float32([[margin, 0, 0]]), np.log1p(2 * np.exp(-margin))
    for loss, second in (
        (softmax_cross_entropy_with_integer_labels, jnp.int32([0])),
        (softmax_cross_entropy, jnp.float32([[1, 0, 0]])),
    ):
        value, gradient = jax.value_and_grad(lambda z, f=loss, s=second: f(z, s, reduction="sum"))(z)
        assert abs(float(value) - truth) <= 8 * 2.0**-24 * truth
        assert abs(float(gradient[0, 0]) + 2 * np.exp(-margin)) <= 9 * 2.0**-24 * 2 * np.exp(-margin)


@pytest.mark.parametrize(("dtype", "truth"), [(jnp.bfloat16, 0.758624), (jnp.float16, 0.407606)])
def test_sixteen_bit_logits_are_computed_in_float32(dtype: Any, truth: float) -> None:
    """bfloat16 rounds 299 to 300; a loss computed in it would be 0."""
    got = softmax_cross_entropy_with_integer_labels(jnp.asarray([[300, 299, 298]], dtype), jnp.int32([0]))
    assert got.dtype == jnp.float32
    assert abs(float(got[0]) - truth) < 1e-6


def test_a_class_left_out_by_minus_infinity_adds_nothing() -> None:
    """One-hot targets give NaN elsewhere; and forward mode too."""
    z, t = jnp.float32([[1, 2, -jnp.inf]]), jnp.float32([[0.25, 0.75, 0]])
    assert np.isfinite(softmax_cross_entropy(z, t)).all()
    for mode in (jax.jacfwd, jax.jacrev):
        assert np.isfinite(mode(softmax_cross_entropy)(z, t)).all()


def test_unnormalised_targets_have_their_true_gradient() -> None:
    """(Σt) p - t: a row of zeros has none, and t = (0, 2, 0) has twice that of (0, 1, 0)."""
    z = jnp.float32([[0.1, 0.5, -0.3]])
    gradient = jax.grad(lambda t: softmax_cross_entropy(z, t, reduction="sum"))
    slope = jax.grad(lambda z, t: softmax_cross_entropy(z, t, reduction="sum"))
    assert not np.any(slope(z, jnp.zeros_like(z)))
    assert np.array_equal(slope(z, jnp.float32([[0, 2, 0]])), 2 * slope(z, jnp.float32([[0, 1, 0]])))
    assert np.allclose(gradient(jnp.abs(z)), -lossjax.log_softmax(z), rtol=1e-6)


def test_the_softcap_is_in_the_gradient() -> None:
    """Some forget its slope, sech²(z/c)."""
    z, labels = jnp.float32([[3, -1, 2]]), jnp.int32([1])
    slope = jax.grad(
        lambda z: softmax_cross_entropy_with_integer_labels(z, labels, logit_softcap=2.0, reduction="sum")
    )(z)
    capped = np.tanh(np.asarray(z) / 2) * 2
    p = np.exp(capped) / np.exp(capped).sum()
    assert np.allclose(slope, (p - [[0, 1, 0]]) / np.cosh(np.asarray(z) / 2) ** 2, rtol=64 * 2.0**-24, atol=0)


def test_the_second_results_have_gradients() -> None:
    """The log-sum-exp beside the loss and the coefficient of the z-loss: silent zeros elsewhere."""
    z, labels = jnp.float32([[3, -1, 2], [0, 1, 5]]), jnp.int32([1, 2])
    lse = np.log(np.exp(np.asarray(z)).sum(-1))
    of_lse = jax.grad(
        lambda z: jnp.vdot(
            softmax_cross_entropy_with_integer_labels(z, labels, return_logsumexp=True)[1], jnp.float32([2, 3])
        )
    )(z)
    assert np.allclose(of_lse, np.float32([[2], [3]]) * np.exp(np.asarray(z) - lse[:, None]), rtol=1e-6)
    of_coefficient = jax.grad(
        lambda c: softmax_cross_entropy_with_integer_labels(z, labels, z_loss=c, reduction="sum")
    )(0.0)
    assert np.allclose(of_coefficient, np.sum(lse**2), rtol=1e-6)


def test_a_binary_loss_keeps_both_tails() -> None:
    z = jnp.float32([40, -40])
    value, pullback = jax.vjp(lambda z: sigmoid_cross_entropy(z, jnp.float32([1, 0])), z)
    assert np.allclose(value, np.exp(-40), rtol=8 * 2.0**-24, atol=0)
    assert np.allclose(pullback(jnp.float32([2, 3]))[0], [-2 * np.exp(-40), 3 * np.exp(-40)], rtol=8 * 2.0**-24, atol=0)
