"""Aitchison geometry: theorem 4.1.6 made exact (6.12a), accuracy against exact arithmetic, gradients, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx

from lossjax.geometry import aitchison_add, aitchison_distance, aitchison_scale, centered_log_ratio
from lossjax.geometry.simplex import aitchison_inner_product
from lossjax.verify import assert_verified
from tests.support.batches import assert_batches_are_loops
from tests.support.floats import distribution, unit
from tests.support.one_mode import MODES, assert_same_in
from tests.support.quick import quick

SIZES = (1, 2, 3, 7, 33)
SCALES = (1e-3, 0.1, 1.0, 8.0)


def exact_logits(p):
    logs = [arb(float(entry)).log() for entry in p]
    mean = sum(logs, arb(0)) / len(logs)
    return [entry - mean for entry in logs]


@pytest.mark.covering(2)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("n", SIZES)
def test_centered_log_ratio_is_accurate(n, scale, dtype):
    with ctx.workprec(200):
        p = distribution(np.random.default_rng(n), n, dtype, scale)
        want = exact_logits(p)
        got = np.asarray(centered_log_ratio(p))
        largest = max(float(abs(entry)) for entry in want)
        error = max(float(abs(arb(float(a)) - b)) for a, b in zip(got, want, strict=True))
        assert error <= 8 * unit(dtype) * largest


def test_the_plain_formula_loses_the_logits_of_a_nearly_uniform_distribution():
    p = np.array([1 + 2e-6, 1 - 1e-6, 1 - 1e-6], np.float32) / np.float32(3)
    with ctx.workprec(200):
        want = np.array([float(entry) for entry in exact_logits(p)])
    plain = np.asarray(jnp.log(p) - jnp.mean(jnp.log(p)))
    ours = np.asarray(centered_log_ratio(p))
    assert np.max(np.abs(ours - want)) <= 8 * 2**-24 * np.max(np.abs(want))
    assert np.max(np.abs(plain - want)) > 1e-3 * np.max(np.abs(want))


softmax = quick(jax.nn.softmax)


@quick
def operations(p, q, t):
    return aitchison_add(p, q), aitchison_scale(p, t), centered_log_ratio(p), aitchison_distance(p, q)


@pytest.mark.covering(2)
@pytest.mark.parametrize("n", [n if n in (1, 3, 33) else pytest.param(n, marks=pytest.mark.slow) for n in SIZES])
@pytest.mark.parametrize("scale", SCALES)
def test_softmax_is_a_linear_isomorphism(n, scale, dtype):
    rng = np.random.default_rng(n)
    u, v = (scale * rng.normal(size=(2, n))).astype(dtype)
    t = dtype.type(-1.7)
    tolerance = 512 * unit(dtype)
    total, scaled, logits, distance = operations(softmax(u), softmax(v), t)
    np.testing.assert_allclose(total, softmax(u + v), rtol=tolerance)
    np.testing.assert_allclose(scaled, softmax(t * u), rtol=tolerance)
    np.testing.assert_allclose(logits, u - u.mean(), atol=tolerance * (1 + np.abs(u).max()))
    centred = (u - u.mean()) - (v - v.mean())
    np.testing.assert_allclose(distance, np.linalg.norm(centred), atol=tolerance * (1 + np.abs(centred).max()))


def test_vector_space_axioms(dtype):
    p, q = (distribution(np.random.default_rng(seed), 5, dtype, 2.0) for seed in (1, 2))
    uniform = np.full(5, 0.2, dtype)
    tolerance = 64 * unit(dtype)
    np.testing.assert_array_equal(aitchison_add(p, q), aitchison_add(q, p))
    np.testing.assert_allclose(aitchison_add(p, uniform), p, rtol=tolerance)
    np.testing.assert_allclose(aitchison_scale(p, 0), uniform, rtol=tolerance)
    np.testing.assert_allclose(aitchison_add(p, aitchison_scale(p, -1)), uniform, rtol=tolerance)
    np.testing.assert_allclose(aitchison_scale(p, 2), aitchison_add(p, p), rtol=tolerance)


def test_products_that_underflow_are_normalised_all_the_same():
    p, q = jnp.array([1.0, 1e-30, 2e-30]), jnp.array([1e-37, 1e-20, 1e-20])
    naive = p * q
    assert float(jnp.sum(naive[1:])) == 0.0
    np.testing.assert_allclose(aitchison_add(p, q)[1:] / 1e-13, [1.0, 2.0], rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_bayes_rule_keeps_zeros_and_has_true_gradients_there(dtype):
    p, q = np.array([0.0, 0.25, 0.75], dtype), np.array([0.5, 0.3, 0.0], dtype)
    np.testing.assert_array_equal(aitchison_add(p, q), np.array([0, 1, 0], dtype))
    in_p, in_q = jax.jit(jax.jacobian(aitchison_add, argnums=(0, 1)))(p, q)
    tolerance = 32 * unit(dtype)
    mass = 0.075  # <p, q>; d(p_i q_i / mass) with the posterior (0, 1, 0)
    np.testing.assert_allclose(in_p, np.array([[0.5, 0, 0], [-0.5, 0, 0], [0, 0, 0]]) / mass, atol=tolerance * 10)
    np.testing.assert_allclose(in_q, np.array([[0, 0, 0], [0, 0, -0.75], [0, 0, 0.75]]) / mass, atol=tolerance * 10)


def test_distance_is_exact_near_equality(dtype):
    rng = np.random.default_rng(3)
    p = distribution(rng, 7, dtype, 1.0)
    q = (p * (1 + 64 * unit(dtype) * rng.normal(size=7))).astype(dtype)
    with ctx.workprec(300):
        difference = [a - b for a, b in zip(exact_logits(p), exact_logits(q), strict=True)]
        want = sum((entry**2 for entry in difference), arb(0)).sqrt()
        ratio = max(float(abs((arb(float(a)) / arb(float(b))).log())) for a, b in zip(p, q, strict=True))
        assert float(abs(arb(float(aitchison_distance(p, q))) - want)) <= 8 * unit(dtype) * ratio
    naive = float(jnp.linalg.norm(jnp.log(p) - jnp.mean(jnp.log(p)) - jnp.log(q) + jnp.mean(jnp.log(q))))
    assert abs(naive - float(want)) > 100 * unit(dtype) * float(want)
    assert float(aitchison_distance(p, p)) == 0.0


@pytest.mark.covering(2)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("n", SIZES)
def test_inner_product_is_accurate(n, scale, dtype):
    rng = np.random.default_rng(n)
    p, q = (distribution(rng, n, dtype, scale) for _ in range(2))
    with ctx.workprec(200):
        a, b = exact_logits(p), exact_logits(q)
        want = sum((x * y for x, y in zip(a, b, strict=True)), arb(0))
        size = (n + 1) * float(max(abs(x) for x in a)) * float(max(abs(y) for y in b))
        assert float(abs(arb(float(aitchison_inner_product(p, q))) - want)) <= 16 * unit(dtype) * size


def test_inner_product_is_one(dtype):
    """Symmetric, linear in ⊕ and ⊙, the square of the distance from uniform, which alone is orthogonal to all."""
    p, q, r = (distribution(np.random.default_rng(seed), 5, dtype, 1.0) for seed in (1, 2, 3))
    uniform, tolerance = np.full(5, 0.2, dtype), 256 * unit(dtype)
    assert float(aitchison_inner_product(p, q)) == float(aitchison_inner_product(q, p))
    both = aitchison_inner_product(p, r) * 1.7 + aitchison_inner_product(q, r)
    sums = aitchison_add(np.asarray(aitchison_scale(p, 1.7)), q)
    np.testing.assert_allclose(aitchison_inner_product(sums, r), both, atol=tolerance)
    np.testing.assert_allclose(aitchison_inner_product(p, p), aitchison_distance(p, uniform) ** 2, rtol=tolerance)
    np.testing.assert_array_equal(aitchison_inner_product(p, uniform), 0)
    assert abs(float(aitchison_inner_product(p, q)) - float(np.dot(p, q))) > 0.1
    assert np.isnan(aitchison_inner_product(p, np.array([0, 0.25, 0.25, 0.25, 0.25], dtype)))


@pytest.mark.parametrize("checks", ["cotangent", pytest.param(("rule", "modes"), marks=pytest.mark.slow)], ids=str)
def test_inner_product_is_verified(checks):
    """Its derivatives of both orders are below, held to the formula."""
    p, q = jnp.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), jnp.array([[0.2, 0.3, 0.5], [0.3, 0.3, 0.4]])
    assert_verified(aitchison_inner_product, p, q, argnums=(0, 1), checks=checks)


def plain_logits(p):
    return jnp.log(p) - jnp.mean(jnp.log(p))


FORMULAS = {
    "clr": (lambda p, q, t: centered_log_ratio(p), lambda p, q, t: plain_logits(p)),
    "add": (lambda p, q, t: aitchison_add(p, q), lambda p, q, t: p * q / jnp.sum(p * q)),
    "scale": (lambda p, q, t: aitchison_scale(p, t), lambda p, q, t: p**t / jnp.sum(p**t)),
    "inner": (
        lambda p, q, t: aitchison_inner_product(p, q),
        lambda p, q, t: jnp.sum(plain_logits(p) * plain_logits(q)),
    ),
    "distance": (
        lambda p, q, t: aitchison_distance(p, q),
        lambda p, q, t: jnp.sqrt(jnp.sum((plain_logits(p) - plain_logits(q)) ** 2)),
    ),
}


@pytest.mark.parametrize("name", list(FORMULAS))
def test_derivatives_are_those_of_the_formula(name):
    with jax.enable_x64(True):
        p, q = (distribution(np.random.default_rng(seed), 4, np.float64, 1.0) for seed in (1, 2))
        assert_same_in(MODES[list(FORMULAS).index(name) % len(MODES)], *FORMULAS[name], (p, q, np.float64(0.8)), 1e-13)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_gradient_of_the_distance_at_equality_is_a_finite_subgradient(dtype):
    p = distribution(np.random.default_rng(5), 6, dtype, 1.0)
    for gradient in quick(jax.grad(aitchison_distance, argnums=(0, 1)))(p, p):
        np.testing.assert_array_equal(gradient, np.zeros(6, dtype))


BATCHED = (
    aitchison_add,
    aitchison_distance,
    lambda p, q: aitchison_scale(p, q[..., 0]),
    lambda p, q: 10 + aitchison_inner_product(p, q),
)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_batches_are_loops(dtype):
    rng = np.random.default_rng(0)
    p, q = (np.stack([[distribution(rng, 3, dtype) for _ in range(2)] for _ in range(4)]) for _ in range(2))
    assert_batches_are_loops(BATCHED, (p, q), 8)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_axis(dtype):
    p = np.random.default_rng(0).uniform(0.1, 1, (3, 4, 5)).astype(dtype)
    last, along, both = quick(
        lambda p, q: (centered_log_ratio(q), centered_log_ratio(p, axis=1), centered_log_ratio(p, axis=(0, 2)))
    )(p, np.moveaxis(p, 1, -1))
    np.testing.assert_array_equal(along, np.moveaxis(last, -1, 1))
    np.testing.assert_allclose(both.sum((0, 2)), 0, atol=64 * unit(dtype))


def test_16_bit_is_computed_in_float32():
    p = jnp.array([0.25, 0.75], jnp.bfloat16)
    assert jax.eval_shape(centered_log_ratio, p).dtype == jnp.float32
    assert jax.eval_shape(aitchison_inner_product, p, p).dtype == jnp.float32
    slope = jax.grad(lambda p: aitchison_distance(p, jnp.array([0.5, 0.5])))
    assert jax.eval_shape(slope, p).dtype == jnp.bfloat16


def test_errors_say_what_came_and_what_to_do():
    p = jnp.array([0.5, 0.5])
    with pytest.raises(TypeError, match=r"p must be floating-point, got int32\[2\]; convert it"):
        aitchison_add(jnp.array([1, 2]), p)
    with pytest.raises(ValueError, match=r"q has shape \(3,\), wanted \(2,\) of p; use jnp\.broadcast_to"):
        aitchison_distance(p, jnp.ones(3))
    with pytest.raises(ValueError, match=r"q has shape \(3,\), wanted \(2,\) of p"):
        aitchison_inner_product(p, jnp.ones(3))
    with pytest.raises(ValueError, match="p is a scalar"):
        centered_log_ratio(0.5)
    with pytest.raises(ValueError, match=r"scalar has shape \(2,\), wanted \(\) \(one number per row\)"):
        aitchison_scale(p, p)
    with pytest.raises(TypeError, match="scalar must be a real number, got bool"):
        aitchison_scale(p, True)
