"""Item 5.9 and G8: the Fisher-Rao distance and its geodesics, against exact arithmetic and at singular places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx

from lossjax.geometry import (
    NegativeEntropy,
    bregman_divergence,
    fisher_information,
    fisher_rao_distance,
    fisher_rao_geodesic,
)
from lossjax.verify import assert_verified
from tests.support.floats import distribution, unit
from tests.support.one_mode import assert_same_in
from tests.support.quick import quick

distance, slope = jax.jit(fisher_rao_distance), jax.jit(jax.grad(fisher_rao_distance))
geodesic, information = jax.jit(fisher_rao_geodesic), jax.jit(fisher_information)
mapped_geodesic = jax.jit(jax.vmap(fisher_rao_geodesic, in_axes=(None, None, 0)))
mapped_distance = jax.jit(jax.vmap(fisher_rao_distance, in_axes=(None, 0)))


PROMISED = 10
"""Units of the docstring. Differences, sums and roots take half of them; the arc tangent is XLA's, of any version."""


def exact_distance(p, q):
    p, q = [arb(float(entry)) for entry in p], [arb(float(entry)) for entry in q]
    overlap = sum(((a * b).sqrt() for a, b in zip(p, q, strict=True)), arb(0))
    return 2 * (2 * overlap / (sum(p, arb(0)) + sum(q, arb(0)))).acos()


@pytest.mark.parametrize("separation", [1e-5, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize("n", [2, 3, 7, 33])
def test_distance_is_accurate_at_every_separation(n, separation, dtype):
    rng = np.random.default_rng(n)
    with ctx.workprec(300):
        for _ in range(20):
            p = distribution(rng, n, dtype)
            q = (p * np.exp(separation * rng.normal(size=n))).astype(dtype)
            q = (q / q.sum()).astype(dtype)
            q[0] = np.nextafter(q[0], dtype.type(1))  # never p itself
            want = exact_distance(p, q)
            assert float(abs(arb(float(distance(p, q))) - want) / want) <= PROMISED * unit(dtype)


def test_the_arc_cosine_form_is_not():
    """The planted fault: 2 arccos Σ√(pq) in float32 is several per cent off at 1e-3, and returns 0 at 1e-5."""
    rng = np.random.default_rng(0)

    def naive(p, q):
        return float(2 * jnp.arccos(jnp.minimum(jnp.sum(jnp.sqrt(p * q)), 1)))

    p = distribution(rng, 7, np.float32)
    step = rng.normal(size=7)
    errors = {}
    for separation in (1e-3, 1e-5):
        q = p * (1 + separation * step)
        q = (q / q.sum()).astype(np.float32)
        with ctx.workprec(300):
            want = float(exact_distance(p, q))
        errors[separation] = abs(naive(p, q) - want) / want
        assert abs(float(distance(p, q)) - want) <= 4 * 2**-24 * want
    assert errors[1e-3] > 1e-3
    assert errors[1e-5] > 0.9


def test_distance_edges(dtype):
    u = unit(dtype)
    corners = np.eye(3, dtype=dtype)
    np.testing.assert_allclose(distance(corners[0], corners[1]), np.pi, rtol=2 * u)
    np.testing.assert_array_equal(distance(corners, corners), np.zeros(3, dtype))
    p = distribution(np.random.default_rng(0), 3, dtype)
    centre = np.full(3, 1 / 3, dtype)
    assert float(distance(p, centre)) == float(distance(centre, p))
    # d from e_1 to the centre: cos(d/2) = 1/√3
    np.testing.assert_allclose(distance(corners[0], centre), 2 * np.arccos(3**-0.5), rtol=4 * u)


def test_a_distance_whose_squares_underflow(dtype):
    """All but the rarest entry agree: its share of the distance is its own root, and is kept."""
    rare = dtype.type(np.finfo(dtype).tiny * 4)
    p, q = np.array([1, 0], dtype), np.array([1, rare], dtype)
    np.testing.assert_allclose(distance(p, q), 2 * np.sqrt(rare), rtol=4 * unit(dtype))
    assert float(rare) ** 2 < np.finfo(dtype).tiny


def test_distance_squared_is_twice_kl_to_leading_order():
    """5.9: KL/(d²/2) -> 1 and KL/d² -> 1/2, not 1: 'ds² is the divergence' needs the factor ½."""
    with jax.enable_x64(True):
        p, v = np.array([0.2, 0.3, 0.5]), np.array([1.0, 2.0, -3.0])
        for size in (1e-2, 1e-3, 1e-4):
            q = p + size * v / 10
            kl, d = bregman_divergence(NegativeEntropy(), p, q), distance(p, q)
            assert abs(float(kl / d**2) - 0.5) <= size
            assert abs(float(d**2 / np.sum((q - p) ** 2 / p)) - 1) <= 2 * size


def test_eikonal_equation():
    """|∇d| = 1 in the dual metric: gᵀ (diag p - p pᵀ) g."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        for n in (2, 3, 7):
            p, q = distribution(rng, n, np.float64), distribution(rng, n, np.float64)
            gradient = slope(p, q)
            np.testing.assert_allclose(gradient @ information(p) @ gradient, 1.0, rtol=1e-14)
            near = p * (1 + 1e-9 * rng.normal(size=n))
            gradient = slope(p, near / near.sum())
            np.testing.assert_allclose(gradient @ information(p) @ gradient, 1.0, rtol=1e-6)


def test_second_derivatives_are_those_of_the_arc_cosine():
    def plain(p, q):
        return 2 * jnp.arccos(2 * jnp.sum(jnp.sqrt(p * q), axis=-1) / (jnp.sum(p, axis=-1) + jnp.sum(q, axis=-1)))

    with jax.enable_x64(True):
        p, q = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), np.array([[0.2, 0.3, 0.5], [0.3, 0.3, 0.4]])
        assert_same_in("forward over forward", fisher_rao_distance, plain, (p, q), 1e-11, 1e-10)


@pytest.mark.parametrize("checks", [("rule", "cotangent"), pytest.param("modes", marks=pytest.mark.slow)], ids=str)
def test_distance_is_verified(checks):
    p, q = jnp.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), jnp.array([[0.2, 0.3, 0.5], [0.3, 0.3, 0.4]])
    assert_verified(fisher_rao_distance, p, q, argnums=(0, 1), checks=checks)
    narrow = p.astype(jnp.bfloat16), q.astype(jnp.bfloat16)
    assert jax.eval_shape(fisher_rao_distance, *narrow).dtype == jnp.float32


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_gradients_at_singular_places(dtype):
    p = distribution(np.random.default_rng(0), 5, dtype)
    np.testing.assert_array_equal(slope(p, p), np.zeros(5, dtype))
    a, b = np.array([0.0, 0.5, 0.5], dtype), np.array([0.0, 0.25, 0.75], dtype)
    gradient = slope(a, b)
    assert float(gradient[0]) == 0.0
    assert np.isfinite(gradient).all()
    inner = slope(a[1:], b[1:])
    np.testing.assert_allclose(gradient[1:], inner, rtol=4 * unit(dtype))
    assert np.asarray(slope(a, np.array([0.5, 0.5, 0.0], dtype)))[0] == -np.inf
    jacobian = quick(jax.jacobian(fisher_rao_geodesic, argnums=(0, 1, 2)))
    for t in (0.0, 0.3, 1.0):
        for other in (a, b):
            in_p, in_q, in_t = jacobian(a, other, dtype.type(t))
            assert np.isfinite(np.concatenate([in_p, in_q, in_t[:, None]], axis=1)).all()


@pytest.mark.covering(2)
@pytest.mark.parametrize("separation", [1e-4, 0.1, 2.0])
@pytest.mark.parametrize("n", [2, 3, 33])
def test_geodesic_is_traversed_at_constant_speed(n, separation, dtype):
    rng = np.random.default_rng(n)
    u = unit(dtype)
    p = distribution(rng, n, dtype)
    q = p * np.exp(separation * rng.normal(size=n))
    q = (q / q.sum()).astype(dtype)
    times = np.linspace(0, 1, 9).astype(dtype)
    path = mapped_geodesic(p, q, times)
    assert float(jnp.min(path)) >= 0
    np.testing.assert_allclose(path.sum(-1), np.ones(9), atol=32 * u)
    np.testing.assert_allclose(path[0], p, rtol=32 * u)
    np.testing.assert_allclose(path[-1], q, rtol=32 * u)
    whole = float(distance(p, q))
    travelled = mapped_distance(p, path)
    np.testing.assert_allclose(travelled, times * whole, atol=32 * u)


def test_geodesic_entries_are_accurate(dtype):
    rng = np.random.default_rng(0)
    with ctx.workprec(300):
        for scale in (0.1, 1.0, 5.0):
            p, q = distribution(rng, 7, dtype, scale), distribution(rng, 7, dtype, scale)
            t = dtype.type(rng.uniform())
            theta = exact_distance(p, q) / 2
            for got, a, b in zip(np.asarray(geodesic(p, q, t)), p, q, strict=True):
                at_p = ((1 - arb(float(t))) * theta).sin() * arb(float(a)).sqrt()
                at_q = (arb(float(t)) * theta).sin() * arb(float(b)).sqrt()
                want = float(((at_p + at_q) / theta.sin()) ** 2)
                assert abs(float(got) - want) <= 32 * unit(dtype) * want


def test_the_straight_segment_is_longer():
    """The m-geodesic between the same points: its Fisher length exceeds the distance."""
    with jax.enable_x64(True):
        p, q = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.2, 0.7])
        t = np.linspace(0, 1, 101)[:, None]
        segment, path = (1 - t) * p + t * q, geodesic(np.tile(p, (101, 1)), np.tile(q, (101, 1)), t[:, 0])
        whole = float(distance(p, q))

        def length(points):
            return float(jnp.sum(distance(points[:-1], points[1:])))

        assert abs(length(path) - whole) <= 1e-13
        assert length(segment) > 1.001 * whole


def test_lengths_by_quadrature():
    """∫ √(Σ γ̇²/γ) dt, twenty Gauss points: of the geodesic the distance, of the m-segment more."""
    with jax.enable_x64(True):
        nodes, weights = np.polynomial.legendre.leggauss(20)
        times = (nodes + 1) / 2
        rng = np.random.default_rng(0)

        def length(path):
            point, velocity = quick(jax.vmap(lambda t: jax.jvp(path, (t,), (1.0,))))(times)
            return float(np.sum(weights / 2 * np.sqrt(np.sum(velocity**2 / point, axis=-1))))

        for n in (2, 3, 7):
            p, q = distribution(rng, n, np.float64), distribution(rng, n, np.float64)
            whole = float(distance(p, q))
            assert abs(length(lambda t, p=p, q=q: geodesic(p, q, t)) - whole) <= 1e-10 * whole
            segment = length(lambda t, p=p, q=q: (1 - t) * p + t * q)
            assert segment > whole * (1 + 1e-4) if n > 2 else abs(segment - whole) <= 1e-10 * whole
