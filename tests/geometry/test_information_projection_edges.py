"""The information projections where they are hard: closed forms, the edge of what is feasible, errors."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import ConvexHull

from lossjax.geometry import i_projection, m_projection
from tests.support.floats import unit
from tests.support.moment_problems import allowed, moments_of, problem
from tests.support.quick import quick

SOLVED = quick(functools.partial(i_projection, return_info=True))


def value_and_slopes(q, T, b):
    return i_projection(q, T, b), jax.jacobian(i_projection, 2)(q, T, b)


def test_bernoulli_and_geometric(dtype):
    """Two outcomes: the moment is the probability, whatever q is. Moments of 1, r, r², …: the geometric law."""
    for mean in (1e-4, 0.3, 0.999):
        p = np.asarray(SOLVED(np.array([0.9, 0.1], dtype), np.array([[0, 1]], dtype), np.array([mean], dtype))[0])
        exact = float(dtype.type(mean))
        np.testing.assert_allclose(p, [1 - exact, exact], atol=allowed(np.ones((1, 2)), [0.9, 0.1], p, dtype))
    for ratio, n in ((0.25, 12), (1.0, 12), (3.0, 12)):
        law = ratio ** np.arange(n)
        law /= law.sum()
        t = np.arange(n, dtype=dtype)[None]
        p = np.asarray(SOLVED(np.full(n, 1 / n, dtype), t, moments_of(t, law, dtype))[0])
        # An error of the mean by ε, in units of n, moves p by ε n/σ² times the deviation n.
        variance = law @ np.arange(n) ** 2 - (law @ np.arange(n)) ** 2
        np.testing.assert_allclose(p, law, atol=allowed(t, np.full(n, 1 / n), law, dtype) * n**2 / variance)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_uniform_with_no_wish_stays_uniform(dtype):
    q, T, _ = problem(7, 2, 1.0, dtype)
    p = SOLVED(q, T, moments_of(T, q.astype(float), dtype))[0]
    np.testing.assert_allclose(p, q, atol=allowed(T, q, q, dtype) * 7)
    constant = np.array([[3.0] * 7], dtype)
    np.testing.assert_allclose(SOLVED(q * 1000, constant, constant[:, 0])[0], q, rtol=64 * unit(dtype))


def test_a_base_that_is_nearly_all_in_one_place(dtype):
    """The Newton step is 1e29 long; log(1 + R)/R of it is the right size. Half of it, and half again, would take 97."""
    q, t = np.array([1, 1e-30, 1e-30, 1e-30], dtype), np.arange(4, dtype=dtype)[None]
    p, info = SOLVED(q, t, np.array([1.5], dtype))
    assert info.iterations <= 10
    np.testing.assert_allclose(np.asarray(p)[[0, 3]], [0.5, 0.5], atol=256 * unit(dtype) + 1e-9)


# --- the edge --------------------------------------------------------------------------------------------------------


@pytest.mark.covering
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_at_the_edge_the_limit(mean, dtype):
    t = np.arange(4, dtype=dtype)[None]
    p, info = SOLVED(np.full(4, 0.25, dtype), t, np.array([mean], dtype))
    assert info.converged
    spread = 2 * np.log(1 / unit(dtype))
    np.testing.assert_allclose(p, np.eye(4)[int(mean)], atol=4 * unit(dtype) * 5 * (12 + 5 * spread))
    assert np.isfinite(quick(value_and_slopes)(np.full(4, 0.25, dtype), t, np.array([mean], dtype))[1]).all()


SQUARE = np.array([[0, 1, 0, 1, 0.5], [0, 0, 1, 1, 0.5]])
IMPOSSIBLE = [(1.001, 0.5), (1.0001, 1.0001), (0.5, 1.00005), (-4.0, 0.5), (1e9, -1e9)]
POSSIBLE = [(1.0, 0.5), (1.0, 1.0), (0.0, 1.0), (0.5, 0.5), (0.99999, 0.3)]


@pytest.mark.parametrize("base", ["uniform", "skewed"])
def test_what_is_impossible_is_proven_at_once(base, dtype):
    """A plane between b and the columns ends the iteration; on the edge and inside, none is found."""
    T = SQUARE.astype(dtype)
    q = {"uniform": np.full(5, 0.2), "skewed": np.array([1, 1e-6, 1e-9, 1e-3, 1e-12])}[base].astype(dtype)
    b = np.array(IMPOSSIBLE + POSSIBLE).astype(dtype)
    p, info = SOLVED(np.tile(q, (len(b), 1)), T, b)
    np.testing.assert_array_equal(info.converged, [False] * len(IMPOSSIBLE) + [True] * len(POSSIBLE))
    np.testing.assert_array_equal(np.isnan(p).all(-1), ~np.asarray(info.converged))
    assert np.max(np.asarray(info.iterations)[: len(IMPOSSIBLE)]) <= 30


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_what_is_impossible_raises_and_has_no_slope(dtype):
    q, T, b = np.full(5, 0.2, dtype), SQUARE.astype(dtype), np.array(IMPOSSIBLE[0], dtype)
    with pytest.raises(ValueError, match=r"no convergence in 1 rows .*no distribution on the support of q"):
        i_projection(q, T, b)
    assert all(np.isnan(found).all() for found in quick(value_and_slopes)(q, T, b))


def test_data_on_a_face_of_the_moments(dtype):
    """Maximum likelihood where classes are never seen, in general position: a few Newton steps, none in vain."""
    rng = np.random.default_rng(5)
    fit = quick(lambda p, q: m_projection(p, T, q, return_info=True))
    T = rng.normal(size=(2, 6)).astype(dtype)
    outer = ConvexHull(T.T.astype(np.float64)).simplices
    p, q = np.zeros((8, 6)), rng.dirichlet(np.ones(6), 8).astype(dtype)
    for row, face in zip(p, itertools.cycle(outer), strict=False):
        row[face] = rng.dirichlet(np.ones(2))
    p[-1] = np.eye(6)[outer[0, 0]]
    fitted, info = fit(p.astype(dtype), q)
    assert np.all(info.converged)
    assert np.max(info.iterations) <= 40  # each divides the missing part by e: log 1/u, and those on the way
    spread = 64 * np.log(1 / unit(dtype))
    # Two statistics and two seen classes on the face: the fit is the data.
    np.testing.assert_allclose(fitted, p, atol=4 * unit(dtype) * 9 * (14 + spread))


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_constraints_that_contradict_each_other(dtype):
    q, t = np.full(4, 0.25, dtype), np.array([0, 1, 2, 3], dtype)
    T = np.stack([t, 2 * t + 1, np.full(4, 7, dtype), np.array([1, 0, 0, 0], dtype)])
    good = np.array([0.5, 2.0, 7.0, 0.7], dtype)
    alone = np.asarray(i_projection(q, T[[0, 3]], good[[0, 3]]))
    np.testing.assert_allclose(i_projection(q, T, good), alone, atol=256 * unit(dtype))
    for row in (1, 2):
        with pytest.raises(ValueError, match="no distribution"):
            i_projection(q, T, good + 1e-3 * np.eye(4, dtype=dtype)[row])
    with pytest.raises(ValueError, match="no distribution"):
        i_projection(np.array([0.5, 0, 0.5, 0], dtype), t[None], np.array([2.001], dtype))


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_offsets_and_units_of_the_statistics_do_not_matter(dtype):
    q, T, x = problem(6, 2, 1.0, dtype)
    p = np.asarray(SOLVED(q, T, moments_of(T, x, dtype))[0])
    moved = (T * dtype.type(2.0**20)).astype(dtype)
    np.testing.assert_array_equal(SOLVED(q, moved, moments_of(moved, x, dtype))[0], p)
    integers = np.array([[0, 1, 2, 5]], dtype)
    far, _ = SOLVED(np.full(4, 0.25, dtype), integers + 2**10, np.array([2**10 + 1.5], dtype))
    near, _ = SOLVED(np.full(4, 0.25, dtype), integers, np.array([1.5], dtype))
    np.testing.assert_allclose(far, near, atol=64 * unit(dtype))


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_nan_stays_nan(dtype):
    T, b = np.array([[0, 1, 2]], dtype), np.array([1], dtype)
    traced = quick(lambda *args: (i_projection(*args), jax.grad(lambda *a: i_projection(*a)[0], (0, 1, 2))(*args)))
    uniform, no_base = np.full(3, 1 / 3, dtype), ([np.nan, 0.5, 0.5], [np.inf, 0.5, 0.5], [0, 0, 0], [-0.5, 1, 0.5])
    for q in (no_base[0], no_base[3]):
        assert np.isnan(i_projection(np.array(q, dtype), T, b)).all()
    for args in (
        *((np.array(q, dtype), T, b) for q in no_base),
        *((uniform, np.array([[0, bad, 2]], dtype), b) for bad in (np.nan, np.inf)),
        *((uniform, T, np.array([bad], dtype)) for bad in (np.nan, np.inf)),
    ):
        value, slopes = traced(*args)
        assert np.isnan(value).all()
        assert all(np.isnan(slope).any() for slope in slopes)
    with pytest.raises(ValueError, match="no distribution on the support of q"):
        i_projection(np.zeros(3, dtype), T, b)


def test_errors_say_what_came_and_what_to_do():
    q, T, b = jnp.full(3, 1 / 3), jnp.array([[0.0, 1.0, 2.0]]), jnp.ones(1)
    with pytest.raises(ValueError, match=r"T has shape \(3,\), wanted \[k, n\].*t\[None, :\]"):
        i_projection(q, T[0], b)
    with pytest.raises(ValueError, match=r"T has shape \(2,\), wanted \(3,\) of a row of q"):
        i_projection(q, T[:, :2], b)
    with pytest.raises(ValueError, match=r"b has shape \(2,\), wanted \(1,\) of q, but k of T for n"):
        i_projection(q, T, jnp.ones(2))
    with pytest.raises(TypeError, match="q must be floating-point, got int32"):
        i_projection(jnp.ones(3, jnp.int32), T, b)
    with pytest.raises(ValueError, match="max_iterations must be at least 1"):
        i_projection(q, T, b, max_iterations=0)
    with pytest.raises(ValueError, match=r"no convergence in 1 rows .*or raise max_iterations"):
        i_projection(q, T, jnp.array([1.9]), max_iterations=2)
    with pytest.raises(ValueError, match=r"p must be a distribution, and 0 where base is"):
        m_projection(q, T, jnp.array([0.5, 0.0, 0.5]))
    assert np.isnan(jax.jit(m_projection)(q, T, jnp.array([0.5, 0.0, 0.5]))).all()
    with pytest.raises(ValueError, match=r"base has shape \(2,\), wanted \(3,\) of p"):
        m_projection(q, T, jnp.ones(2))
