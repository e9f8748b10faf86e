"""Items 5.1 to 5.6, 6.12b and G2: signs, exact zeros, accuracy, duality, and the printed statements that fail."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx

from lossjax.geometry import (
    BernoulliEntropy,
    BurgEntropy,
    Exponential,
    LogSumExp,
    Mahalanobis,
    NegativeEntropy,
    Softplus,
    SquaredEuclidean,
    Tsallis,
    bregman_divergence,
)
from tests.support.floats import unit
from tests.support.one_mode import MODES, assert_same_in
from tests.support.quick import quick

A = np.array([[4.0, 1.0, -0.5], [1.0, 3.0, 0.25], [-0.5, 0.25, 2.0]])  # exact in float32
GENERATORS = {
    "squared": SquaredEuclidean(),
    "entropy": NegativeEntropy(),
    "burg": BurgEntropy(),
    "exponential": Exponential(),
    "log_sum_exp": LogSumExp(),
    "mahalanobis": Mahalanobis(A.astype(np.float32)),
    "softplus": Softplus(),
    "bernoulli": BernoulliEntropy(),
    "tsallis 1.5": Tsallis(1.5),
    "tsallis 3": Tsallis(3.0),
}
POSITIVE = ("entropy", "burg", "tsallis 1.5", "tsallis 3")
SHARE = {"tsallis 1.5": 5, "tsallis 3": 2}
"""(α + 1)/(α - 1): what the terms of these divergences exceed them by."""
FUNCTIONS = {
    "squared": lambda x: 0.5 * jnp.sum(x * x),
    "entropy": lambda x: jnp.sum(x * jnp.log(x)),
    "burg": lambda x: -jnp.sum(jnp.log(x)),
    "exponential": lambda x: jnp.sum(jnp.exp(x)),
    "log_sum_exp": jax.nn.logsumexp,
    "mahalanobis": lambda x: 0.5 * x @ A.astype(x.dtype) @ x,
    "softplus": lambda x: jnp.sum(jnp.logaddexp(x, 0)),
    "bernoulli": lambda x: jnp.sum(x * jnp.log(x) + (1 - x) * jnp.log1p(-x)),
    "tsallis 1.5": lambda x: jnp.sum(x * jnp.sqrt(x) - x) / 0.75,
    "tsallis 3": lambda x: jnp.sum(x**3 - x) / 6,
}


@pytest.fixture(params=list(GENERATORS))
def name(request):
    return request.param


def points(name, scale, dtype, count=100, seed=0):
    """Pairs [count, 3] at relative (positive domains) or absolute distance ``scale``."""
    rng = np.random.default_rng(seed)
    base, step = rng.normal(size=(count, 3)), scale * rng.normal(size=(count, 3))
    if name in POSITIVE:
        return np.exp(base).astype(dtype), np.exp(base + step).astype(dtype)
    if name == "bernoulli":  # 1 - p is exact: p has few bits and is not small
        grid = 2.0**14
        p, q = (np.clip(np.round(grid / (1 + np.exp(-x))), 1, grid - 1) / grid for x in (base, base + step))
        return p.astype(dtype), q.astype(dtype)
    return base.astype(dtype), (base + step).astype(dtype)


def exact(name, p, q):
    """The definition (4.1.2), term by term where the sum allows it, in 300-bit arithmetic."""
    p, q = [arb(float(entry)) for entry in p], [arb(float(entry)) for entry in q]
    d = [a - b for a, b in zip(p, q, strict=True)]
    pairs = list(zip(p, q, strict=True))
    if name == "squared":
        return sum((entry**2 for entry in d), arb(0)) / 2
    if name == "entropy":
        return sum((a * (a / b).log() - a + b for a, b in pairs), arb(0))
    if name == "burg":
        return sum((a / b - 1 - (a / b).log() for a, b in pairs), arb(0))
    if name == "exponential":
        return sum((a.exp() - b.exp() * (1 + a - b) for a, b in pairs), arb(0))
    if name == "softplus":
        return sum(
            ((1 + a.exp()).log() - (1 + b.exp()).log() - b.exp() / (1 + b.exp()) * (a - b) for a, b in pairs), arb(0)
        )
    if name == "bernoulli":
        return sum((a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log() for a, b in pairs if a != b), arb(0))
    if name.startswith("tsallis"):
        alpha = arb(GENERATORS[name].alpha)
        terms = ((a**alpha - b**alpha - alpha * b ** (alpha - 1) * (a - b)) for a, b in pairs)
        return sum(terms, arb(0)) / (alpha * (alpha - 1))
    if name == "mahalanobis":
        return sum((arb(float(entry)) * d[i] * d[j] for (i, j), entry in np.ndenumerate(A)), arb(0)) / 2
    at_p, at_q = (sum((entry.exp() for entry in x), arb(0)) for x in (p, q))
    return (at_p / at_q).log() - sum((b.exp() / at_q * entry for b, entry in zip(q, d, strict=True)), arb(0))


@functools.cache
def divergence(name):
    """One function per generator, so that a size and a dtype are compiled once."""
    return jax.jit(functools.partial(bregman_divergence, GENERATORS[name]))


@pytest.mark.covering(2)
@pytest.mark.parametrize("scale", [1e-5, 1e-3, 0.1, 1.0, 4.0])
def test_divergences_are_accurate(name, scale, dtype):
    p, q = points(name, scale, dtype)
    got = np.asarray(divergence(name)(p, q), np.float64)
    gap = np.max(np.abs(p - q)) if name == "log_sum_exp" else 0.0
    with ctx.workprec(300):
        want = np.array([float(exact(name, a, b)) for a, b in zip(p, q, strict=True)])
    worst = np.argmax(np.abs(got - want) / np.where(want == 0, 1, want))
    units = 8 * SHARE.get(name, 1) + gap
    assert np.all(np.abs(got - want) <= units * unit(dtype) * want), (p[worst], q[worst], got[worst], want[worst])


@pytest.mark.covering
def test_never_negative_and_zero_only_at_equality(name, dtype):
    for seed in range(10):
        for scale in (8 * unit(dtype), 1e-3, 1.0):
            p, q = points(name, scale, dtype, seed=seed)
            smallest = np.min(divergence(name)(p, q), where=(p != q).any(-1), initial=1.0)
            assert smallest > 0 if scale >= 1e-3 else smallest >= 0
        np.testing.assert_array_equal(divergence(name)(p, p), np.zeros(100, dtype))


def test_the_definition_itself_is_negative_in_half_the_near_cases():
    """The planted fault: the textbook formula must fail the test above."""
    p, q = points("entropy", 8 * 2**-24, np.float32, count=1000)
    naive = quick(functools.partial(bregman_divergence, FUNCTIONS["entropy"]))(p, q)
    assert np.mean(naive < 0) > 0.2


@pytest.mark.covering
def test_any_function_has_a_divergence(name, dtype):
    p, q = points(name, 0.7, dtype)
    rows, others = p.reshape(4, 25, 3), q.reshape(4, 25, 3)
    by_definition = quick(functools.partial(bregman_divergence, FUNCTIONS[name]))
    tolerance, ours = 1e3 * unit(dtype), np.reshape(divergence(name)(p, q), (4, 25))
    np.testing.assert_allclose(by_definition(rows, others), ours, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(by_definition(rows, rows), np.zeros((4, 25)))
    assert jax.eval_shape(divergence(name), rows, others).shape == (4, 25)


def test_adding_an_affine_function_changes_nothing(name):
    with jax.enable_x64(True):
        p, q = points(name, 0.7, np.float64)
        slope = np.array([1.0, -2.0, 0.5])
        shifted = quick(lambda p, q: bregman_divergence(lambda x: FUNCTIONS[name](x) + slope @ x + 3.0, p, q))
        np.testing.assert_allclose(shifted(p, q), divergence(name)(p, q), atol=1e-12, rtol=1e-12)


def test_duality(name):
    """G2: D_φ(p, q) = D_φ*(∇φ(q), ∇φ(p)); φ(p) + φ*(θ) - ⟨p, θ⟩ = D_φ(p, ∇φ*(θ)); ∇φ* inverts ∇φ."""
    with jax.enable_x64(True):
        p, q = points(name, 0.7, np.float64, count=20)
        generator = Mahalanobis(A) if name == "mahalanobis" else GENERATORS[name]

        @quick
        def both_sides(p, q):
            at_p, at_q = generator.gradient(p), generator.gradient(q)
            gap = generator.value(p) + generator.conjugate(at_q) - jnp.sum(p * at_q, axis=-1)
            dual = bregman_divergence(generator.conjugate, at_q, at_p)
            inverses = jax.vmap(jax.grad(generator.conjugate))(at_p), generator.conjugate_gradient(at_p)
            slope = jax.vmap(jax.grad(generator.value))(q)
            return bregman_divergence(generator, p, q), (gap, dual), inverses, (at_q, slope)

        divergence, equal_to_it, inverses, gradients = both_sides(p, q)
        for other in equal_to_it:
            np.testing.assert_allclose(other, divergence, atol=1e-12)
        for back in inverses:
            free = (back[:, :1], p[:, :1]) if name == "log_sum_exp" else (0, 0)  # logits, up to a constant
            np.testing.assert_allclose(back - free[0], p - free[1], rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(*gradients, rtol=1e-12, atol=1e-12)


def test_three_point_identity(name):
    with jax.enable_x64(True):
        x, y = points(name, 0.7, np.float64)
        z, _ = points(name, 0.7, np.float64, seed=1)
        gradient = quick(GENERATORS[name].gradient)
        cross = np.sum((gradient(y) - gradient(z)) * (x - y), axis=-1)
        of_two = divergence(name)
        np.testing.assert_allclose(of_two(x, z), of_two(x, y) + of_two(y, z) + cross, rtol=1e-12, atol=1e-12)


def test_the_mean_minimises_the_expected_divergence(name):
    """G2's mean property: E D(X, c) - E D(X, E X) = D(E X, c) — why both losses elicit the conditional mean."""
    with jax.enable_x64(True):
        x, other = points(name, 1.0, np.float64)
        mean = np.broadcast_to(x.mean(0), x.shape)
        candidate = np.broadcast_to(other[0], x.shape)
        of_two = divergence(name)
        excess = np.mean(of_two(x, candidate)) - np.mean(of_two(x, mean))
        np.testing.assert_allclose(excess, of_two(mean, candidate)[0], atol=1e-12, rtol=1e-12)


def test_derivatives(name):
    """Those that JAX finds in φ(p) - φ(q) - ⟨∇φ(q), p - q⟩; and near equality, where that cancels, ∇²φ (p - q)."""

    def plain(p, q):
        phi = FUNCTIONS[name]
        return jax.vmap(lambda p, q: phi(p) - phi(q) - jax.grad(phi)(q) @ (p - q))(p, q)

    with jax.enable_x64(True):
        p, q = points(name, 0.7, np.float64, count=4)
        mode = MODES[(list(GENERATORS).index(name) + 1) % len(MODES)]
        assert_same_in(mode, functools.partial(bregman_divergence, GENERATORS[name]), plain, (p, q))
        if name != "log_sum_exp":
            near = p * (1 + 1e-9)

            @quick
            def to_first_order(near, p):
                slopes = jax.grad(lambda p, q: jnp.sum(divergence(name)(p, q)), argnums=(0, 1))(near, p)
                return slopes, jax.jvp(jax.vmap(jax.grad(FUNCTIONS[name])), (p,), (near - p,))[1]

            (in_p, in_q), want = to_first_order(near, p)
            np.testing.assert_allclose(in_p, want, rtol=1e-7)
            np.testing.assert_allclose(in_q, -want, rtol=1e-7)


def test_log_sum_exp_gradients_are_accurate_near_equality(dtype):
    """softmax(p) - softmax(q) cancels; π(e^s - 1) does not."""
    rng = np.random.default_rng(0)
    q = rng.normal(size=5).astype(dtype)
    p = (q + 1e-4 * rng.normal(size=5)).astype(dtype)
    in_p, in_q = jax.jit(jax.grad(LogSumExp().divergence, argnums=(0, 1)))(p, q)
    with ctx.workprec(300):
        at_p, at_q = ([arb(float(entry)).exp() for entry in x] for x in (p, q))
        want = [float(a / sum(at_p, arb(0)) - b / sum(at_q, arb(0))) for a, b in zip(at_p, at_q, strict=True)]
    np.testing.assert_allclose(np.asarray(in_p, np.float64), want, atol=16 * unit(dtype) * 1e-4)
    weights = np.exp(q) / np.sum(np.exp(q))
    fisher = np.diag(weights) - np.outer(weights, weights)
    np.testing.assert_allclose(in_q, fisher @ (q - p), atol=32 * unit(dtype) * 1e-4)


def test_kl_in_logits_exchanges_its_arguments(dtype):
    """6.12b: KL(softmax u ‖ softmax v) = D_lse(v, u), at 128u."""
    u, v = (2 * np.random.default_rng(1).normal(size=(2, 100, 3))).astype(dtype)
    p, q = (np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True) for x in (u, v))
    in_logits = divergence("log_sum_exp")(v, u)
    np.testing.assert_allclose(divergence("entropy")(p, q), in_logits, atol=128 * unit(dtype))
    assert np.max(np.abs(divergence("log_sum_exp")(u, v) - in_logits)) > 0.1


def test_log_sum_exp_takes_any_offset_and_gap(dtype):
    p, q = np.array([0.0, 1.0, 0.5], dtype), np.array([0.25, 0.5, 1.0], dtype)
    far, apart = p + dtype.type(1024), np.array([1000.0, 0.0, 0.0], dtype)
    given = np.zeros((2, 100, 3), dtype)  # as many rows as the program has that other tests have compiled
    given[:, :4] = [[p, far, far, apart], [q, q, p, apart[::-1]]]
    base, moved, equal, wide = divergence("log_sum_exp")(*given)[:4]
    np.testing.assert_allclose(moved, base, rtol=16 * unit(dtype))
    assert equal == 0
    assert wide == 1000


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_theorem_4_1_4_and_its_printed_equation(dtype):
    p, q = np.array([0.5, 0.3, 0.2], dtype), np.array([0.2, 0.5, 0.3], dtype)
    kl = float(np.sum(p.astype(np.float64) * np.log(p / q.astype(np.float64))))
    np.testing.assert_allclose(bregman_divergence(NegativeEntropy(), p, q), kl, atol=128 * unit(dtype))
    printed = float(-jnp.sum(p * jnp.log(q)) + jnp.sum(p * jnp.log(p)) + jnp.sum(p * jnp.log(p / q)))
    np.testing.assert_allclose(printed, 2 * kl, atol=128 * unit(dtype))
    np.testing.assert_allclose([printed, kl], [0.447609, 0.223805], atol=1e-6)
    half = np.array([0.5, 0.0], dtype)  # 5.4 prints "half the distance", which is 1/4 here
    assert float(bregman_divergence(SquaredEuclidean(), half, 0 * half)) == 0.125


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_off_the_simplex_the_generalised_formula_holds(dtype):
    p, q = np.array([1.0, 2.0], dtype), np.array([0.5, 1.5], dtype)
    plain = float(np.sum(p.astype(np.float64) * np.log(p / q.astype(np.float64))))
    divergence = float(bregman_divergence(NegativeEntropy(), p, q))
    assert abs(divergence - (plain - 1)) <= 256 * unit(dtype) * divergence


@functools.partial(jax.jit, static_argnums=0)
def with_gradients(generator, p, q):
    """The divergences of rows, and their gradients in both arguments."""
    return generator.divergence(p, q), jax.grad(lambda *x: jnp.sum(generator.divergence(*x)), argnums=(0, 1))(p, q)


def test_relative_entropy_on_the_boundary(dtype):
    """A class that neither row has adds nothing: it makes all rows of one length."""
    inf = np.inf
    table = [([1, 0, 0], [0.5, 0.5, 0], np.log(2)), ([0.5, 0.5, 0], [1, 0, 0], inf)]
    table += [([0, 0, 1], [0, 0.5, 0.5], np.log(2)), ([1, 0, 0], [1, 0, 0], 0), ([0, 1, 0], [1, 0, 0], inf)]
    table += [([0, 0, 0], [0, 0, 0], 0), ([0, 0, 0], [2, 0, 0], 2), ([0, 0.25, 0], [0, 0.5, 0], 0.25 - np.log(2) / 4)]
    p, q, want = (np.array(column, dtype) for column in zip(*table, strict=True))
    value, (in_p, in_q) = with_gradients(NegativeEntropy(), p, q)
    np.testing.assert_allclose(value, want, rtol=4 * unit(dtype))
    assert not np.isnan(in_p).any()
    assert not np.isnan(in_q).any()
    np.testing.assert_allclose(in_p[-1, :2], [0, -np.log(2)], rtol=4 * unit(dtype))
    np.testing.assert_allclose(in_q[-1, :2], [1, 0.5], rtol=4 * unit(dtype))
    outside = np.zeros_like(p)
    outside[0, 0] = -0.1
    assert np.isnan(with_gradients(NegativeEntropy(), outside, q)[0][0])


def test_nothing_overflows_on_the_way(dtype):
    tiny, huge = 4 * float(np.finfo(dtype).tiny), float(np.finfo(dtype).max) / 16
    p, q = np.array([tiny], dtype), np.array([huge], dtype)
    assert float(bregman_divergence(NegativeEntropy(), p, q)) == q[0]
    low, high = np.array([-800.0], dtype), np.array([10.0], dtype)
    value, gradients = with_gradients(Exponential(), high, low)
    np.testing.assert_allclose(value, np.exp(10), rtol=4 * unit(dtype))
    assert np.isfinite(gradients).all()


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_generators_are_arguments_of_jit_grad_and_vmap(dtype):
    p, q = np.array([1.0, 2.0, 3.0], dtype), np.array([0.5, 1.0, 4.0], dtype)
    generator = Mahalanobis(A.astype(dtype))
    value = jax.jit(bregman_divergence)(generator, p, q)
    d = p - q
    np.testing.assert_allclose(value, 0.5 * d @ A.astype(dtype) @ d, rtol=16 * unit(dtype))
    in_matrix = quick(jax.grad(bregman_divergence))(generator, p, q).matrix
    np.testing.assert_allclose(in_matrix, 0.5 * np.outer(d, d), atol=64 * unit(dtype))
    assert np.isnan(jax.jit(bregman_divergence)(Mahalanobis(-A.astype(dtype)), p, q))


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_a_generator_of_ones_own(dtype):
    class Quartic:
        def value(self, x):
            return jnp.sum(x**4, axis=-1)

        def gradient(self, x):
            return 4 * x**3

    p, q = np.array([[2.0], [1.0]], dtype), np.array([[1.0], [1.0]], dtype)
    np.testing.assert_array_equal(bregman_divergence(Quartic(), p, q), np.array([11, 0], dtype))


def test_errors_say_what_came_and_what_to_do():
    p = jnp.ones(3)
    with pytest.raises(TypeError, match=r"generator must have value and gradient.*NegativeEntropy\(\)"):
        bregman_divergence("entropy", p, p)
    with pytest.raises(ValueError, match=r"generator gives shape \(3,\).*sum its terms"):
        bregman_divergence(lambda x: x * x, p, p)
    with pytest.raises(ValueError, match=r"q has shape \(2,\), wanted \(3,\) of p"):
        bregman_divergence(SquaredEuclidean(), p, jnp.ones(2))
    with pytest.raises(TypeError, match="p must be floating-point, got int32"):
        bregman_divergence(SquaredEuclidean(), jnp.ones(3, jnp.int32), p)
    with pytest.raises(ValueError, match=r"matrix has shape \(2, 2\), wanted \(3, 3\)"):
        bregman_divergence(Mahalanobis(jnp.eye(2)), p, p)
