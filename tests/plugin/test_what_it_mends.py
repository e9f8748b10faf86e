"""What ``lossjax.optax`` mends: where optax is wrong, or loses digits, and lossjax does not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax import optax as ours
from tests.support.quick import quick

f32 = np.float32
inf = np.inf


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4, -1e4])
@pytest.mark.parametrize("form", ["integer", "one-hot", "safe"])
def test_large_offsets_and_margins(offset: float, form: str) -> None:
    """Exact differences of logits: a margin of 30 leaves 1.87e-13, at any offset float32 can hold exactly."""
    z = jnp.asarray([[30.0, 0.0, 1.0]], f32) + f32(offset)
    loss = {
        "integer": lambda z: ours.softmax_cross_entropy_with_integer_labels(z, jnp.array([0])),
        "one-hot": lambda z: ours.softmax_cross_entropy(z, jnp.eye(3)[:1]),
        "safe": lambda z: ours.safe_softmax_cross_entropy(z, jnp.eye(3)[:1]),
    }[form]
    truth = np.log1p(np.exp(-30.0) + np.exp(-29.0))
    (gradient,) = jax.grad(lambda z: loss(z)[0])(z)
    np.testing.assert_allclose(loss(z)[0], truth, rtol=8 * 2**-24)
    np.testing.assert_allclose(gradient[0], np.expm1(-truth), rtol=8 * 2**-24)
    assert abs(float(gradient.sum())) <= 4 * 2**-24 * abs(float(gradient[0]))


def test_confident_rows_keep_the_digits_of_what_is_left() -> None:
    """1 - p is 1.3e-13 or 3.1e-7 here, of which float32 has every digit, and none where it is a difference of 1."""
    z, first, label = jnp.asarray([[30.0, 0.0, 1.0]], f32), jnp.eye(3, dtype=f32)[:1], jnp.ones((1,), f32)
    poly, focal = quick(lambda: (ours.poly_loss_cross_entropy(z, first), ours.sigmoid_focal_loss(z[:, 0] / 2, label)))()
    entropy = np.log1p(np.exp(-30.0) + np.exp(-29.0))
    np.testing.assert_allclose(poly[0], entropy - 2 * np.expm1(-entropy), rtol=16 * 2**-24)
    np.testing.assert_allclose(focal[0], np.log1p(np.exp(-15.0)) / (1 + np.exp(15.0)) ** 2, rtol=16 * 2**-24)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.bfloat16, 2**-8), (jnp.float16, 2**-11)])
def test_sixteen_bits_are_rounded_once(dtype: Any, tolerance: float) -> None:
    z = jnp.asarray([300.0, 299.0, 298.0], dtype)
    values = np.asarray(z, np.float64)
    got = ours.softmax_cross_entropy_with_integer_labels(z, jnp.array(0))
    assert got.dtype == dtype
    np.testing.assert_allclose(float(got), np.log(np.sum(np.exp(values - values[0]))), rtol=tolerance)


def test_a_mask_that_hides_the_label() -> None:
    z, mask = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[True, True, False]])
    assert ours.softmax_cross_entropy_with_integer_labels(z, jnp.array([2]), where=mask)[0] == inf
    nothing = jnp.zeros((1, 3), bool)
    assert ours.softmax_cross_entropy_with_integer_labels(z, jnp.array([2]), where=nothing)[0] == 0


@pytest.mark.parametrize("label", [-1, -100, 3])
def test_a_label_out_of_range(label: int) -> None:
    def loss(z: jax.Array) -> jax.Array:
        return ours.softmax_cross_entropy_with_integer_labels(z, jnp.array([label]))[0]

    z = jnp.array([[1.0, 2.0, 3.0]])
    assert np.isnan(loss(z))
    assert np.isnan(jax.grad(loss)(z)).all()


def test_infinite_logits() -> None:
    z, first = jnp.array([0.0, 1.0, -inf]), jnp.array([1.0, 0.0, 0.0])
    for loss in (ours.softmax_cross_entropy, ours.safe_softmax_cross_entropy, ours.poly_loss_cross_entropy):
        for found in quick(lambda z, loss=loss: (*jax.value_and_grad(loss)(z, first), jax.jacfwd(loss)(z, first)))(z):
            assert np.isfinite(found).all()
    assert ours.softmax_cross_entropy_with_integer_labels(jnp.array([inf, 0.0]), jnp.array(0)) == 0


@pytest.mark.parametrize("name", ["sigmoid_binary_cross_entropy", "sigmoid_focal_loss"])
def test_binary_losses_at_infinity(name: str) -> None:
    z, y = jnp.array([-inf, inf, inf, -inf]), jnp.array([0.0, 1.0, 0.0, 1.0])
    loss = getattr(ours, name)
    assert loss(z, y).tolist() == [0.0, 0.0, inf, inf]
    assert jax.grad(lambda z: loss(z, y).sum())(z).tolist() == [0.0, 0.0, 1.0, -1.0]


def test_divergences_of_close_distributions_are_never_negative() -> None:
    random = np.random.default_rng(0)
    for step, allowed in ((1e-3, 2e-3), (1e-4, 2e-2)):
        u = random.normal(size=(200, 16))
        v = u + step * random.normal(size=u.shape)
        log_p, log_q = (z - np.log(np.exp(z).sum(-1, keepdims=True)) for z in (u, v))
        log_p32, log_q32 = log_p.astype(f32), log_q.astype(f32)
        d = log_q32.astype(np.float64) - log_p32
        truth = np.sum(np.exp(log_p32.astype(np.float64)) * (np.expm1(d) - d), -1)
        got = ours.kl_divergence_with_log_targets(log_q32, log_p32)
        assert (got >= 0).all()
        np.testing.assert_allclose(got, truth, rtol=16 * 2**-24)
        from_targets = ours.kl_divergence(log_q32, np.exp(log_p).astype(f32))
        assert (from_targets >= 0).all()
        np.testing.assert_allclose(np.median(np.abs(from_targets - truth) / truth), 0, atol=allowed)


def test_divergences_with_zeros() -> None:
    log_q, t = jnp.log(jnp.array([0.5, 0.5, 0.0])), jnp.array([1.0, 0.0, 0.0])
    assert ours.kl_divergence(log_q, t) == pytest.approx(np.log(2))
    assert ours.kl_divergence_with_log_targets(log_q, jnp.log(t)) == pytest.approx(np.log(2))
    assert ours.kl_divergence(log_q, jnp.array([0.5, 0.0, 0.5])) == inf
    in_log_q, in_t = jax.grad(ours.kl_divergence, (0, 1))(log_q[:2], t[:2])
    assert in_log_q.tolist() == [-1.0, 0.0]
    assert np.isfinite(in_t).all()
    assert np.isfinite(jax.grad(ours.kl_divergence_with_log_targets, (0, 1))(log_q, jnp.log(t))).all()


def test_log_cosh_near_zero() -> None:
    x = f32([1e-4, 1e-3, 0.1, 1.0, 20.0])
    truth = np.log1p(np.sinh(x.astype(np.float64)) ** 2) / 2
    np.testing.assert_allclose(ours.log_cosh(x), truth, rtol=16 * 2**-24)


def test_the_cosine_of_zero() -> None:
    zero, v = jnp.zeros(3), jnp.array([1.0, 2.0, 2.0])
    assert ours.cosine_similarity(zero, v) == 0
    assert ours.cosine_distance(zero, v) == 1
    hidden = jnp.zeros(v.shape, bool)  # nothing is left: a zero vector to optax too
    assert (ours.cosine_similarity(v, v, where=hidden), ours.cosine_distance(v, v, where=hidden)) == (0, 1)
    for gradient in jax.grad(ours.cosine_similarity, (0, 1))(zero, v):
        assert gradient.tolist() == [0, 0, 0]


def test_masked_entries_may_hold_anything() -> None:
    z = jnp.array([[jnp.nan, jnp.nan], [1.0, 2.0]])
    for where in (jnp.array([False, True]), jnp.array([[False, False], [True, True]])):
        value, gradient = jax.value_and_grad(
            lambda z, where=where: ours.softmax_cross_entropy_with_integer_labels(
                z, jnp.array([0, 1]), where=where
            ).sum()
        )(z)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert gradient[0].tolist() == [0, 0]


def test_refusals_as_optax() -> None:
    with pytest.raises(ValueError, match="targets has shape"):
        ours.squared_error(jnp.ones(3), jnp.ones(4))
    with pytest.raises(ValueError, match="axis must be"):
        ours.softmax_cross_entropy_with_integer_labels(jnp.ones((2, 2)), jnp.array([0, 1]), axis=None)
    with pytest.raises(TypeError, match="logits must be floating-point"):
        ours.softmax_cross_entropy(jnp.ones((2, 2), int), jnp.ones((2, 2)))
    with pytest.warns(DeprecationWarning, match="use generalized_kl_divergence"):
        ours.convex_kl_divergence(jnp.zeros(2), jnp.ones(2))
