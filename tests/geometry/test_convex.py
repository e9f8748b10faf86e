"""Projections onto convex sets with a closed form (items 4.1 to 4.5): exact truths, conditions, derivatives, errors."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax.geometry import project_to_ball, project_to_box, project_to_simplex
from lossjax.geometry.convex import project_to_affine, project_to_half_space
from lossjax.verify import assert_verified
from tests.support.batches import assert_batches_are_loops
from tests.support.differences import assert_central_differences
from tests.support.floats import unit
from tests.support.one_mode import assert_derivative_along
from tests.support.quick import quick


@pytest.mark.parametrize("n", [2, 7])
def test_variational_inequality_of_each_convex_projection(n, dtype):
    rng = np.random.default_rng(n)
    for project in (project_to_simplex, project_to_ball, lambda y: project_to_box(y, -0.3, 0.4)):
        y = (rng.normal(size=(51, n)) * np.array([2, *[3] * 50])[:, None]).astype(dtype)
        nearest, *points = np.asarray(quick(project)(y), np.float64)
        y, points = y[0], np.array(points)
        slack = (points - nearest) @ (y - nearest)
        assert slack.max() <= 64 * unit(dtype) * np.linalg.norm(y)
        assert slack.min() < -0.01  # the printed equality does not hold


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 30.0])
@pytest.mark.parametrize("n", [1, 3, 501])
def test_simplex_projection_is_exact_to_rounding(n, scale, offset, dtype):
    y = (scale * np.random.default_rng(n).normal(size=n) + offset).astype(dtype)
    exact = [Fraction(float(entry)) for entry in y]
    running = threshold = Fraction(0)
    for count, entry in enumerate(sorted(exact, reverse=True), 1):
        running += entry
        if count * entry - running + 1 > 0:
            threshold = (running - 1) / count
    got = [Fraction(float(entry)) for entry in np.asarray(project_to_simplex(y))]
    assert max(abs(a - max(b - threshold, 0)) for a, b in zip(got, exact, strict=True)) <= 8 * unit(dtype)
    assert abs(sum(got) - 1) <= 8 * unit(dtype)
    assert min(got) >= 0


def test_running_sums_without_the_shift_are_not():
    """optax.projections at an offset of 1e4: the planted fault that the test above must catch."""
    projection_simplex = pytest.importorskip("optax").projections.projection_simplex
    y = (1e4 + np.random.default_rng(0).normal(size=501)).astype(np.float32)
    with jax.numpy_dtype_promotion("standard"):
        theirs = projection_simplex(jnp.asarray(y))
    assert abs(np.sum(np.asarray(theirs), dtype=np.float64) - 1) > 1000 * 8 * 2**-24
    assert abs(np.sum(np.asarray(project_to_simplex(y)), dtype=np.float64) - 1) <= 8 * 2**-24


def test_simplex_edges(dtype):
    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(project_to_simplex(np.array([0.5, -inf, 0.5], dtype)), np.array([0.5, 0, 0.5], dtype))
    both = quick(lambda y: (project_to_simplex(y), jax.grad(lambda y: project_to_simplex(y)[0])(y)))
    for bad in ([nan, 0.0], [inf, 0.0], [-inf, -inf]):
        value, slope = both(np.array(bad, dtype))
        assert np.isnan(value).all()
        assert np.isnan(slope).any()


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_gradients_of_the_convex_projections(dtype):
    y = np.array([0.9, 0.5, -2.0], dtype)
    want = np.array([[0.5, -0.5, 0], [-0.5, 0.5, 0], [0, 0, 0]], dtype)
    for jacobian in quick(lambda y: (jax.jacrev(project_to_simplex)(y), jax.jacfwd(project_to_simplex)(y)))(y):
        np.testing.assert_array_equal(jacobian, want)
    edge = np.array([0.0, 1.0, 2.0], dtype)
    np.testing.assert_array_equal(jax.grad(lambda y: project_to_box(y, 0.0, 1.0).sum())(edge), np.array([1, 1, 0]))
    zero = np.zeros(3, dtype)
    np.testing.assert_array_equal(quick(jax.jacrev(project_to_ball))(zero), np.eye(3))
    in_radius = quick(jax.jacrev(project_to_ball, argnums=1))(np.array([3.0, 4.0], dtype), dtype.type(1))
    np.testing.assert_allclose(in_radius, [0.6, 0.8], rtol=8 * unit(dtype))


@pytest.mark.parametrize("checks", ["cotangent", pytest.param(("rule", "modes"), marks=pytest.mark.slow)], ids=str)
def test_the_rule_of_the_simplex_is_certified(checks):
    """Its derivative is a constant matrix wherever there is one: the test above states it, in both modes."""
    y = np.float32([[0.9, 0.5, -2.0], [0.1, 0.3, 3.0]])
    assert_verified(project_to_simplex, y, checks=checks)


# --- half-spaces -----------------------------------------------------------------------------------------------------


def exact_half_space(y, a, b):
    y, a, b = ([Fraction(float(e)) for e in v] for v in (y, a, [b]))
    excess = max(sum(p * q for p, q in zip(y, a, strict=True)) - b[0], Fraction(0))
    return [p - excess / sum(q * q for q in a) * q for p, q in zip(y, a, strict=True)]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("n", [1, 33])
def test_half_space_is_exact_to_rounding(n, scale, dtype):
    rng = np.random.default_rng(n)
    a = (scale * rng.normal(size=n)).astype(dtype)
    y = rng.normal(size=(8, n)).astype(dtype)
    b = (np.sum(y * a, axis=-1) + scale * rng.normal(size=8)).astype(dtype)
    got = np.asarray(project_to_half_space(y, a, b))
    length, moved = np.linalg.norm(a.astype(np.float64)), 0
    for row, offset, found in zip(y, b, got, strict=True):
        want = exact_half_space(row, a, offset)
        off = np.linalg.norm([float(Fraction(float(g)) - w) for g, w in zip(found, want, strict=True)])
        assert off <= (n + 8) * unit(dtype) * (np.linalg.norm(row) + abs(float(offset)) / length)
        moved += not np.array_equal(row, found)
    assert 0 < moved < 8  # inside, the row itself


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_half_space_edges(dtype):
    y, zero = np.array([1.0, -2.0, 0.5], dtype), np.zeros(3, dtype)
    np.testing.assert_array_equal(project_to_half_space(y, zero, 0.0), y)
    np.testing.assert_array_equal(project_to_half_space(y, y, np.inf), y)
    np.testing.assert_array_equal(quick(jax.jacobian(project_to_half_space, argnums=1))(y, y, np.inf), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="normal is 0 and offset negative"):
        project_to_half_space(y, zero, -1.0)
    both = quick(lambda *args: jax.value_and_grad(lambda y: project_to_half_space(y, *args[1:]).sum())(args[0]))
    assert all(np.isnan(part).all() for part in both(y, zero, dtype.type(-1)))
    assert np.isnan(project_to_half_space(np.array([np.nan, 0, 0], dtype), y, 0.0)).all()
    in_a = quick(jax.jacobian(project_to_half_space, argnums=1))(y, zero, dtype.type(1))
    np.testing.assert_array_equal(in_a, np.zeros((3, 3)))


def points_of_a_half_space():
    """Points on both sides, and normal and offsets."""
    rng = np.random.default_rng(0)
    y, a = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    return y, a, (y @ a + np.array([-1, 1, -0.1])).astype(np.float32)


@pytest.mark.slow
def test_every_mode_of_the_half_space():
    """It has no rule of its own: the derivatives are those of JAX, which the test below holds to differences."""
    assert_verified(project_to_half_space, *points_of_a_half_space(), argnums=(0, 1, 2), checks=("modes", "cotangent"))


def test_half_space_derivatives():
    y, a, b = points_of_a_half_space()
    with jax.enable_x64(True):
        args = tuple(np.asarray(x, np.float64) for x in (y, a, b))
        assert_central_differences(project_to_half_space, args, compiled=quick)


# --- affine sets -----------------------------------------------------------------------------------------------------


AFFINE = {"wide": (2, 5, 2), "square": (3, 3, 3), "tall": (6, 4, 4), "deficient": (5, 7, 3), "one": (1, 1, 1)}


project_to_plane = jax.jit(project_to_affine)
"""One program for each set. Not by tests.quick: so compiled, XLA of JAX 0.12 makes NaN of an A of one entry."""


def equations(shape, dtype, scale=1.0):
    """A of the given rank, a point of {Ax = b}, and b, rounded."""
    rows, columns, rank = shape
    rng = np.random.default_rng(rows + columns + rank)
    left, right = rng.integers(-3, 4, (rows, rank)), rng.integers(-3, 4, (rank, columns))
    full = rng.normal(size=(rows, columns))
    A = (scale * (left @ right if rank < min(rows, columns) else full)).astype(dtype)
    point = rng.normal(size=columns)
    return A, point, (A.astype(np.float64) @ point).astype(dtype)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("name", list(AFFINE))
def test_affine_projection_satisfies_its_conditions(name, scale, dtype):
    A, point, b = equations(AFFINE[name], dtype, scale)
    y = (3 * np.random.default_rng(1).normal(size=(4, A.shape[1]))).astype(dtype)
    x = np.asarray(project_to_plane(y, A, b), np.float64)
    wide, u = A.astype(np.float64), unit(dtype)
    size = np.linalg.norm(y, axis=-1) + np.linalg.norm(x, axis=-1)
    assert np.all(np.linalg.norm(x @ wide.T - b, axis=-1) <= 256 * u * np.linalg.norm(wide) * size)
    # y - x is normal to the set: Pythagoras, with equality, for every point of it.
    singular = np.linalg.svd(wide)[1]
    condition = singular[0] / singular[singular > 1e-5 * singular[0]][-1]
    inner = np.abs(np.sum((y - x) * (point - x), axis=-1))
    assert np.all(inner <= 256 * u * condition * size * (size + np.linalg.norm(point)))
    again = np.asarray(project_to_plane(x.astype(dtype), A, b), np.float64)
    assert np.all(np.linalg.norm(again - x, axis=-1) <= 256 * u * condition * size)
    want = y + (b - y @ wide.T) @ np.linalg.pinv(wide, rcond=1e-5).T
    assert np.all(np.linalg.norm(x - want, axis=-1) <= 256 * u * condition * size)


def test_equations_without_a_solution_are_told_from_rounding(dtype):
    u = unit(dtype)
    A, _, b = equations(AFFINE["deficient"], dtype)
    for scale in (1e-12, 1e12):
        rows, _, offsets = equations(AFFINE["deficient"], dtype, scale)
        project_to_affine(np.zeros(A.shape[1], dtype), rows, offsets)  # feasible but for rounding: raises nothing
    off = np.linalg.svd(A.astype(np.float64))[0][:, -1]  # orthogonal to the range
    y = np.zeros(A.shape[1], dtype)
    both = quick(lambda *args: jax.value_and_grad(lambda y: project_to_affine(y, *args[1:]).sum())(args[0]))
    for part in (1.0, 512 * u):
        wrong = (b + part * np.linalg.norm(b) * off).astype(dtype)
        with pytest.raises(ValueError, match=r"no point has Ax = b.*least_squares"):
            project_to_affine(y, A, wrong)
        assert all(np.isnan(found).all() for found in both(y, A, wrong))
    zero = np.zeros_like(A)
    np.testing.assert_array_equal(project_to_affine(y + 1, zero, zero[:, 0]), y + 1)
    with pytest.raises(ValueError, match="no point"):
        project_to_affine(y, zero, np.array([0, 0, 0, 0, 1e-30], dtype))
    assert np.isnan(project_to_affine(y + np.nan, zero, zero[:, 0])).all()


def test_affine_derivatives():
    with jax.enable_x64(True):
        for name in ("wide", "one"):  # of full rank: A may move anyhow
            A, _, b = equations(AFFINE[name], np.float64)
            # Not by tests.quick: so compiled, XLA of JAX 0.12 makes forward mode NaN for the A of one entry.
            assert_central_differences(project_to_affine, (np.linspace(-1, 2, A.shape[1]), A, b), 1e2)
        A, point, b = equations(AFFINE["deficient"], np.float64)
        turn, y = np.random.default_rng(3).normal(size=(7, 7)), np.linspace(-1, 2, 7)
        left = np.random.default_rng(4).normal(size=(5, 5))

        def path(t):  # of constant rank, b staying in the range
            moved = (jnp.eye(5) + t * left) @ A @ (jnp.eye(7) + t * turn)
            return project_to_affine(y + t, moved, moved @ (point + t * y))

        assert_derivative_along(path, 1e2)


@pytest.mark.covering
@pytest.mark.parametrize("name", ["half-space", "affine"])
def test_batches_are_loops(name, dtype):
    rng = np.random.default_rng(0)
    y, a, b = rng.normal(size=(2, 3, 5)).astype(dtype), rng.normal(size=(2, 5)).astype(dtype), np.ones(2, dtype)
    function = {
        "half-space": lambda y: project_to_half_space(y, a[0], b[0]),
        "affine": lambda y: project_to_affine(y, a, b),
    }[name]
    assert_batches_are_loops(function, (y,), 64)
    tangent = np.cos(np.arange(30)).reshape(y.shape).astype(dtype)
    both_ways = quick(lambda y, t: (jax.jvp(function, (y,), (t,))[1], jax.vjp(function, y)[1](t)[0]))
    pushed, pulled = both_ways(y, tangent)
    np.testing.assert_allclose(np.vdot(pushed, tangent), np.vdot(pulled, tangent), atol=64 * unit(dtype) * 30)


def test_16_bit_is_computed_in_float32():
    y = jnp.array([1.0, 2.0, -3.0], jnp.bfloat16)
    for function in (lambda y: project_to_half_space(y, y, 1.0), lambda y: project_to_affine(y, y[None], y[:1])):
        assert jax.eval_shape(function, y).dtype == jnp.float32
        assert jax.eval_shape(jax.grad(lambda y, f=function: f(y).sum()), y).dtype == jnp.bfloat16


def test_errors_say_what_came_and_what_to_do():
    y = jnp.ones(3)
    with pytest.raises(ValueError, match="lower must be at most upper"):
        project_to_box(y, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"upper has shape \(2,\), wanted one that broadcasts to \(3,\)"):
        project_to_box(y, 0.0, jnp.ones(2))
    with pytest.raises(ValueError, match="radius must be at least 0"):
        project_to_ball(y, -1.0)
    assert np.isnan(jax.jit(project_to_box)(y, 1.0, 0.0)).all()
    with pytest.raises(ValueError, match=r"normal has shape \(2,\), wanted \(3,\) of a row of y"):
        project_to_half_space(y, jnp.ones(2), 0.0)
    with pytest.raises(ValueError, match=r"offset has shape \(3,\), wanted \(\)"):
        project_to_half_space(y, y, y)
    with pytest.raises(TypeError, match="normal must be floating-point"):
        project_to_half_space(y, jnp.ones(3, jnp.int32), 0.0)
    with pytest.raises(ValueError, match=r"A has shape \(3,\), wanted \[k, n\].*a\[None, :\]"):
        project_to_affine(y, y, y)
    with pytest.raises(ValueError, match=r"b has shape \(3,\), wanted \(1,\) of A"):
        project_to_affine(y, y[None], y)
