"""The exponential map of Fisher's metric and its inverse: exact arithmetic, round trips, boundary, all derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx

from lossjax.geometry.fisher_rao import (
    _arc,
    _wave,
    fisher_rao_distance,
    fisher_rao_exp,
    fisher_rao_geodesic,
    fisher_rao_log,
)
from lossjax.verify import assert_verified
from tests.geometry.test_fisher_rao import exact_distance
from tests.support.batches import assert_batches_are_loops
from tests.support.floats import distribution, unit
from tests.support.one_mode import assert_same_in
from tests.support.quick import quick

log, exp = jax.jit(fisher_rao_log), jax.jit(fisher_rao_exp)
distance, geodesic = jax.jit(fisher_rao_distance), jax.jit(fisher_rao_geodesic)
SEPARATIONS = (1e-5, 1e-3, 0.1, 1.0, 5.0)


def pair(rng, n, separation, dtype):
    p = distribution(rng, n, dtype)
    q = p * np.exp(separation * rng.normal(size=n))
    return p, (q / q.sum()).astype(dtype)


def dyadic(rng, n, separation, dtype):
    """Two distributions whose sums are exactly 1: the numerators of 2^22."""

    def rounded(x):
        numerators = np.maximum(np.floor(x / x.sum() * 2**22), 1)
        numerators[np.argmax(numerators)] += 2**22 - numerators.sum()
        return numerators / 2**22

    p = rounded(rng.dirichlet(np.full(n, 3.0)))
    return p.astype(dtype), rounded(p * np.exp(separation * rng.normal(size=n))).astype(dtype)


def in_balls(x):
    return [arb(float(entry)) for entry in np.asarray(x)]


def exact_log(p, q):
    """The vector, and what the roundings of each entry are measured by."""
    theta = exact_distance(p, q) / 2
    factor = 2 * theta / theta.sin()
    want, size = [], []
    for a, b in zip(in_balls(p), in_balls(q), strict=True):
        root, step = a.sqrt(), b.sqrt() - a.sqrt()
        curve = 2 * (theta / 2).sin() ** 2 * root
        want.append(factor * root * (step + curve))
        size.append(float(factor * root * (abs(step) + curve)))
    return want, size


def exact_exp(p, v):
    p, v = in_balls(p), in_balls(v)
    s = sum((x**2 / a for a, x in zip(p, v, strict=True)), arb(0)).sqrt()
    roots = [(s / 2).cos() * a.sqrt() + (s / 2).sin() / s * x / a.sqrt() for a, x in zip(p, v, strict=True)]
    size = [float(abs(r) * (a.sqrt() + abs(x) / a.sqrt())) for r, a, x in zip(roots, p, v, strict=True)]
    return [r**2 for r in roots], size


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("n", [2, 3, 7, 33])
def test_entries_are_accurate(n, separation, dtype):
    rng = np.random.default_rng(n)
    with ctx.workprec(300):
        for _ in range(10):
            p, q = pair(rng, n, separation, dtype)
            if np.all(p == q):
                continue
            v = np.asarray(log(p, q))
            for got, (want, size) in ((v, exact_log(p, q)), (np.asarray(exp(p, v)), exact_exp(p, v))):
                for value, truth, scale in zip(got, want, size, strict=True):
                    assert float(abs(arb(float(value)) - truth)) <= 16 * unit(dtype) * scale


def test_the_textbook_logarithm_is_not():
    """The planted fault: (d/sin θ) √p (√q - cos θ √p) as written is lost at a separation of 1e-5 in float32."""
    p, q = dyadic(np.random.default_rng(0), 7, 1e-5, np.float32)
    theta = fisher_rao_distance(p, q) / 2
    naive = 2 * theta / jnp.sin(theta) * jnp.sqrt(p) * (jnp.sqrt(q) - jnp.cos(theta) * jnp.sqrt(p))
    with ctx.workprec(300):
        want, size = exact_log(p, q)
        errors = [
            max(float(abs(arb(float(a)) - b)) / s for a, b, s in zip(np.asarray(got), want, size, strict=True) if s)
            for got in (naive, fisher_rao_log(p, q))
        ]
    assert errors[0] > 1e-3
    assert errors[1] <= 16 * 2**-24


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("n", [2, 3, 7, 33])
def test_the_two_maps_are_inverse_and_measure_the_distance(n, separation, dtype):
    rng = np.random.default_rng(n)
    for _ in range(5):
        p, q = dyadic(rng, n, separation, dtype)
        v = np.asarray(log(p, q))
        # Each of the two is within 16u of √q_i (√p_i + √q_i)-sized terms; v enters the second.
        np.testing.assert_array_less(np.abs(exp(p, v) - q), 64 * unit(dtype) * np.sqrt(q) * (np.sqrt(p) + np.sqrt(q)))
        wide = v.astype(np.float64)
        assert abs(wide.sum()) <= 16 * unit(dtype) * np.abs(wide).sum()
        length, d = np.sqrt(np.sum(wide**2 / p)), float(distance(p, q))
        assert abs(length - d) <= 20 * unit(dtype) * d
        np.testing.assert_allclose(exp(p, v / 2), geodesic(p, q, dtype.type(0.5)), rtol=64 * unit(dtype))


def test_the_logarithm_of_a_vector_s_end_is_the_vector(dtype):
    p = distribution(np.random.default_rng(0), 5, dtype)
    v = np.asarray(0.2 * p * np.array([1.0, -0.5, 0.3, -0.7, 0.2]), dtype)
    v[0] -= v.sum()
    back = log(p, exp(p, v))
    np.testing.assert_allclose(back, v, atol=64 * unit(dtype) * np.max(p))


def test_at_no_distance(dtype):
    p = np.array([0.3, 0.0, 0.2, 0.5], dtype)
    zero = np.zeros(4, dtype)
    np.testing.assert_array_equal(log(p, p), zero)
    np.testing.assert_allclose(exp(p, zero), p, rtol=2 * unit(dtype))


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_the_boundary(dtype):
    u = unit(dtype)
    p, q = np.array([0.5, 0.0, 0.5], dtype), np.array([0.25, 0.0, 0.75], dtype)
    v = log(p, q)
    assert float(v[1]) == 0.0
    np.testing.assert_allclose(v[::2], log(p[::2], q[::2]), rtol=4 * u)
    np.testing.assert_allclose(exp(p, v), q, rtol=32 * u)
    # Off the face of p no dp leads, whatever it is that it should reach.
    inside = np.array([0.25, 0.25, 0.5], dtype)
    slope = jax.grad(lambda p, q: jnp.sum(fisher_rao_log(p, q)))
    for found in quick(lambda *args: (fisher_rao_log(*args), slope(*args)))(p, inside):
        assert np.isnan(found).all()
    assert np.isnan(exp(p, np.array([-0.1, 0.1, 0.0], dtype))).all()
    assert np.isnan(log(*np.eye(2, dtype=dtype))).all()
    # But to the boundary the path leads, to its opposite face as well.
    target = np.array([1.0, 0.0, 0.0], dtype)
    np.testing.assert_allclose(exp(inside, log(inside, target)), target, atol=32 * u)


def test_nearly_disjoint_supports_are_nearly_pi_apart(dtype):
    rare = dtype.type(2.0**-60)
    p, q = np.array([1, rare], dtype), np.array([rare, 1], dtype)
    v = np.asarray(log(p, q)).astype(np.float64)
    np.testing.assert_allclose(np.sqrt(np.sum(v**2 / p)), np.pi, rtol=16 * unit(dtype) + 2.0**-28)
    np.testing.assert_allclose(v[1], np.pi * 2.0**-30, rtol=16 * unit(dtype) + 2.0**-28)
    np.testing.assert_allclose(v[0], -np.pi * 2.0**-30, atol=16 * unit(dtype), rtol=2.0**-28)  # 2^-30 - cos θ
    np.testing.assert_allclose(exp(p, v.astype(dtype)), q, atol=16 * unit(dtype))


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_beyond_the_boundary_the_path_is_reflected_and_comes_back(dtype):
    p = np.array([0.5, 0.3, 0.2], dtype)
    v = np.array([0.3, -0.2, -0.1]) / np.sqrt(np.sum(np.array([0.3, -0.2, -0.1]) ** 2 / p))  # of length 1
    lengths = np.linspace(0, 2 * np.pi, 33).astype(dtype)
    path = quick(jax.vmap(lambda s: fisher_rao_exp(p, s * v.astype(dtype))))(lengths)
    assert float(jnp.min(path)) >= 0
    np.testing.assert_allclose(path.sum(-1), np.ones(33), atol=64 * unit(dtype))
    np.testing.assert_allclose(path[-1], p, atol=64 * unit(dtype))
    np.testing.assert_allclose(path[16], v**2 / p, atol=64 * unit(dtype))  # a quarter of the circle on: √γ = ½ dξ
    q = exp(p, v.astype(dtype))
    np.testing.assert_allclose(exp(p, dtype.type(3) * v.astype(dtype)), geodesic(p, q, dtype.type(3)), rtol=2e-5)


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_derivatives_at_no_distance(dtype):
    p = distribution(np.random.default_rng(0), 4, dtype)
    eye, zero = np.eye(4, dtype=dtype), np.zeros(4, dtype)
    tangents = (eye - 0.25)[:3]  # on the simplex
    in_p, in_q = quick(jax.jacobian(fisher_rao_log, argnums=(0, 1)))(p, p)
    np.testing.assert_allclose(tangents @ in_q.T, tangents, atol=16 * unit(dtype))
    np.testing.assert_allclose(tangents @ in_p.T, -tangents, atol=16 * unit(dtype))
    in_p, in_v = quick(jax.jacobian(fisher_rao_exp, argnums=(0, 1)))(p, zero)
    np.testing.assert_allclose(in_p, eye, atol=16 * unit(dtype))
    np.testing.assert_allclose(in_v, eye, atol=16 * unit(dtype))


def test_second_derivatives_at_no_distance_are_the_connection():
    """γ̈ = -½ Σv²/p · p + v²/(2p) at v = 0, in Fisher's metric of curvature ¼: a norm's subgradient would give 0."""
    with jax.enable_x64(True):
        p = distribution(np.random.default_rng(0), 4, np.float64)
        v = np.array([0.2, -0.1, -0.3, 0.2])
        along = lambda t: fisher_rao_exp(p, t * v)  # noqa: E731
        twice = quick(jax.jacfwd(jax.jacfwd(along)))(0.0)
        np.testing.assert_allclose(twice, v**2 / (2 * p) - 0.5 * np.sum(v**2 / p) * p, atol=1e-15)
        thrice = quick(jax.jacfwd(jax.jacfwd(jax.jacfwd(along))))(0.0)
        s = np.sqrt(np.sum(v**2 / p))
        np.testing.assert_allclose(thrice, -(s**2) * v, atol=1e-14)  # of (√γ)², √γ = cos(ts/2)√p + sin(ts/2)/s v/√p
        # exp(log) = 1 to second order in q, at q = p
        there = lambda q: fisher_rao_exp(p, fisher_rao_log(p, q))  # noqa: E731
        bent = jax.jit(lambda p: jax.jvp(lambda q: jax.jvp(there, (q,), (v,))[1], (p,), (v,))[1])(p)
        np.testing.assert_allclose(bent, np.zeros(4), atol=1e-13)


def plain_exp(p, v):
    s = jnp.sqrt(jnp.sum(v**2 / p, axis=-1, keepdims=True))
    return (jnp.cos(s / 2) * jnp.sqrt(p) + jnp.sin(s / 2) / s * v / jnp.sqrt(p)) ** 2


def plain_log(p, q):
    total = jnp.sum(p, axis=-1, keepdims=True) + jnp.sum(q, axis=-1, keepdims=True)
    theta = jnp.arccos(2 * jnp.sum(jnp.sqrt(p * q), axis=-1, keepdims=True) / total)
    return 2 * theta / jnp.sin(theta) * jnp.sqrt(p) * (jnp.sqrt(q) - jnp.cos(theta) * jnp.sqrt(p))


POINTS = np.array([[0.7, 0.3], [0.1, 0.9]])
MAPS = {
    "exp": (fisher_rao_exp, plain_exp, np.array([[0.1, -0.1], [-0.05, 0.05]]), "reverse over forward"),
    "log": (fisher_rao_log, plain_log, np.array([[0.25, 0.75], [0.3, 0.7]]), "forward over reverse"),
}


@pytest.mark.parametrize("which", MAPS)
def test_derivatives_are_those_of_the_formula(which):
    function, plain, other, mode = MAPS[which]
    with jax.enable_x64(True):
        assert_same_in(mode, function, plain, (POINTS, other), 1e-11, 1e-10)


@pytest.mark.parametrize("which", MAPS)
@pytest.mark.parametrize("checks", ["cotangent", pytest.param(("rule", "modes"), marks=pytest.mark.slow)], ids=str)
def test_verified(which, checks):
    function, _, other, _ = MAPS[which]
    p, other = POINTS.astype(np.float32), other.astype(np.float32)
    assert_verified(function, p, other, argnums=(0, 1), checks=checks)


@pytest.mark.parametrize("which", MAPS)
def test_16_bit_is_computed_in_float32(which):
    function, _, other, _ = MAPS[which]
    p, v = jnp.asarray(POINTS, jnp.bfloat16), jnp.asarray(other, jnp.float32)
    assert jax.eval_shape(function, p, v.astype(jnp.bfloat16)).dtype == jnp.float32
    assert jax.eval_shape(jax.grad(lambda p: jnp.sum(function(p, v) ** 2)), p).dtype == jnp.bfloat16


@pytest.mark.covering
@pytest.mark.parametrize("order", [-1, 0, 1, 2, 3])
def test_each_wave_is_minus_twice_the_derivative_of_the_one_before(order, dtype):
    y = np.array([0.0, 1e-8, 0.3, 0.99, 1.01, 4.0, 8.9, 9.1, 30.0], dtype)
    with ctx.workprec(200):
        for got, at in zip(np.asarray(_wave(order, jnp.asarray(y))), in_balls(y), strict=True):
            # Σ (-y/2)^i/(i! (2k + 2i + 1)!!), at 200 bits
            want, term = arb(0), arb(1)
            for k in range(1, 2 * order + 2, 2):
                term /= k
            for i in range(80):
                want += term
                term *= -at / (2 * (i + 1) * (2 * (order + i + 1) + 1))
            assert float(abs(arb(float(got)) - want)) <= 4 * unit(dtype) / max(1, float(at)) ** (order / 2)
    slope = quick(jax.vmap(jax.grad(lambda y: _wave(order, y))))(jnp.asarray(y))
    # Half of the next one, compiled in two ways, each as exact as above.
    allowed = 4 * unit(dtype) / np.maximum(1, y.astype(float)) ** ((order + 1) / 2)
    assert np.all(np.abs(slope + 0.5 * _wave(order + 1, jnp.asarray(y))) <= allowed)


def test_the_arc_is_accurate(dtype):
    share = np.concatenate([np.logspace(-30, -1, 40), np.linspace(0.1, 0.5, 40)]).astype(dtype)
    with ctx.workprec(200):
        for got, h in zip(np.asarray(_arc(jnp.asarray(share))), in_balls(share), strict=True):
            want = 2 * h.sqrt().asin() / (h * (1 - h)).sqrt()
            assert float(abs(arb(float(got)) - want) / want) <= 4 * unit(dtype)


def test_errors_say_what_came_and_what_to_do():
    p = jnp.array([0.5, 0.5])
    with pytest.raises(ValueError, match=r"v has shape \(3,\), wanted \(2,\) of p"):
        fisher_rao_exp(p, jnp.ones(3))
    with pytest.raises(TypeError, match="q must be floating-point, got int32"):
        fisher_rao_log(p, jnp.array([1, 0]))
    with pytest.raises(TypeError, match="q must be floating-point, got int32"):
        fisher_rao_distance(p, jnp.array([1, 0]))
    with pytest.raises(TypeError, match="t must be a real number, got complex64"):
        fisher_rao_geodesic(p, p, 1j)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_batches_are_loops(dtype):
    rng = np.random.default_rng(0)
    p, q = (np.stack([[distribution(rng, 3, dtype) for _ in range(2)] for _ in range(4)]) for _ in range(2))
    functions = (
        fisher_rao_distance,
        fisher_rao_log,
        lambda p, q: fisher_rao_exp(p, q - p),
        lambda p, q: fisher_rao_geodesic(p, q, p[..., 0]),
    )
    assert_batches_are_loops(functions, (p, q), 16)
