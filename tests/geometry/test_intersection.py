"""Dykstra's alternation (items 4.4, 4.5, G5): conditions of the nearest point, exact truths, derivatives, failures."""

import functools
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax.geometry import project_to_ball, project_to_box, project_to_simplex
from lossjax.geometry.convex import project_to_affine, project_to_half_space
from lossjax.geometry.intersection import project_convex
from tests.support.floats import unit
from tests.support.quick import quick


def half_spaces(normals, offsets):
    return [lambda v, a=a, b=b: project_to_half_space(v, a, b) for a, b in zip(normals, offsets, strict=True)]


def solver(projections):
    return quick(lambda y: project_convex(y, projections, return_info=True))


def projected(y, projections, dtype, solve=None):
    """The projection, and how far it may be off: the tolerance 16mu over 1 - r, r the mean factor of a cycle.

    The sizes of the w_i, which rounding is relative to, are at most a few times those of y and of the point.
    """
    x, info = (solve or solver(projections))(y)
    assert np.all(info.converged)
    tolerance = 16 * len(projections) * unit(dtype)
    rate = tolerance ** (1 / np.maximum(np.asarray(info.iterations, np.float64), 1))
    size = np.linalg.norm(y, axis=-1) + np.linalg.norm(x, axis=-1)
    assert np.all(info.residual <= tolerance)
    return np.asarray(x, np.float64), 4 * tolerance * size / (1 - rate)


SETS = {
    "capped simplex": lambda n: [lambda v: project_to_box(v, 0.0, 1.5 / n), project_to_simplex],
    "ball and half-space": lambda n: [project_to_ball, lambda v: project_to_half_space(v, jnp.ones_like(v), 0.3)],
    "three": lambda n: [
        lambda v: project_to_box(v, -0.5, 0.75),
        lambda v: project_to_half_space(v, jnp.cos(jnp.arange(n, dtype=v.dtype)), 0.1),
        lambda v: project_to_ball(v, 0.9),
    ],
    "one": lambda n: [project_to_simplex],
    "the same twice": lambda n: [project_to_ball, project_to_ball],
}


ALIKE = ("one", "the same twice")
"""Easy ones; of two sets whose increments are not unique the derivative is taken in the room's next file."""


@pytest.mark.covering
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in ALIKE else ()) for n in SETS])
def test_nearest_point_of_the_intersection(name, dtype):
    """The variational inequality for points of the set, idempotence, and 1-Lipschitz, all within the error allowed."""
    n = 7
    sets = SETS[name](n)
    solve = solver(sets)
    y = (np.array([2, 3])[:, None, None] * np.random.default_rng(n).normal(size=(2, 12, n))).astype(dtype)
    (x, others), (off, others_off) = projected(y, sets, dtype, solve)
    slack = np.einsum("in,ijn->ij", y[0] - x, others[None] - x[:, None])
    size = np.linalg.norm(y[0] - x, axis=-1)
    apart = np.linalg.norm(others[None] - x[:, None], axis=-1)
    allowed = off[:, None] * (apart + size[:, None]) + others_off.max() * size[:, None]
    assert np.all(slack <= allowed)
    assert slack.min() < -0.01  # the printed equality does not hold
    (again, _), (again_off, _) = projected(np.stack([x, others]).astype(dtype), sets, dtype, solve)
    assert np.all(np.linalg.norm(again - x, axis=-1) <= off + again_off)
    before, after = (np.linalg.norm(z[:, None].astype(float) - z[None], axis=-1) for z in (y[0], x))
    assert np.all(after - before <= off[:, None] + off[None])


def test_alternating_without_increments_is_not_the_projection():
    """The planted fault: von Neumann's alternation ends in the intersection, at a point that is not the nearest."""
    sets = [jax.jit(project) for project in SETS["ball and half-space"](3)]
    with jax.enable_x64(True):
        y = np.array([2.0, -0.4, 0.5])
        x = y
        for _ in range(500):
            for project in sets:
                x = project(x)
        assert all(np.linalg.norm(project(x) - x) < 1e-12 for project in sets)
        right, off = projected(y, sets, np.dtype(np.float64))
        assert (y - x) @ (right - x) > 1e-3  # the inequality catches it
        assert (y - right) @ (x - right) <= 4 * off


# --- exact truths ----------------------------------------------------------------------------------------------------


def exact_capped_simplex(y, cap):
    """Σ clip(y - τ, 0, cap) falls in τ, linearly between the breakpoints."""
    y, cap = [Fraction(float(e)) for e in y], Fraction(float(cap))

    def at(tau):
        return [min(max(e - tau, Fraction(0)), cap) for e in y]

    breaks = sorted(set(y) | {e - cap for e in y})
    left, right = next((a, b) for a, b in itertools.pairwise([breaks[0] - 1, *breaks]) if sum(at(a)) >= 1 >= sum(at(b)))
    high, low = sum(at(left)), sum(at(right))
    return at(left if high == low else left + (right - left) * (high - 1) / (high - low))


@pytest.mark.parametrize("n", [33])
def test_capped_simplex_against_exact_arithmetic(n, dtype):
    cap = dtype.type(1.5 / n)
    y = np.random.default_rng(n).normal(size=(4, n)).astype(dtype)
    x, off = projected(y, [lambda v: project_to_box(v, 0.0, cap), project_to_simplex], dtype)
    for row, found, allowed in zip(y, x, off, strict=True):
        want = exact_capped_simplex(row, cap)
        assert np.linalg.norm([float(Fraction(a) - b) for a, b in zip(found, want, strict=True)]) <= allowed


def nearest_of_polyhedron(y, normals, offsets):
    """Every set of constraints that might be active, until the conditions hold."""
    for size in range(len(normals) + 1):
        for active in itertools.combinations(range(len(normals)), size):
            A, b = normals[list(active)], offsets[list(active)]
            multipliers = np.linalg.lstsq(A @ A.T, A @ y - b, rcond=None)[0] if size else np.zeros(0)
            x = y - multipliers @ A
            if np.all(multipliers >= 0) and np.all(normals @ x <= offsets + 1e-12):
                return x
    raise AssertionError("the polyhedron is empty")


@pytest.mark.covering
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_polyhedron_against_all_active_sets(scale, dtype):
    rng = np.random.default_rng(7)
    normals, active = rng.normal(size=(4, 3)).astype(dtype), 0
    offsets = rng.uniform(0.1, 1, 4).astype(dtype)
    y = (3 * rng.normal(size=(12, 3))).astype(dtype)
    sets = half_spaces(normals, (scale * offsets).astype(dtype))
    x, off = projected((scale * y).astype(dtype), sets, dtype)
    # The scaled numbers are rounded, which moves the truth by 8u of its size over the least angle of the normals.
    rounding = 8 * unit(dtype) * scale * np.linalg.norm(y, axis=-1) * np.linalg.cond(normals.astype(float))
    for row, found, allowed in zip(y.astype(float), x, off + rounding, strict=True):
        want = nearest_of_polyhedron(row, normals.astype(float), offsets.astype(float))
        assert np.linalg.norm(found - scale * want) <= allowed
        active = max(active, np.sum(np.abs(normals @ want - offsets) < 1e-9))
    assert active >= 2


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_ball_and_half_space_in_closed_form(dtype):
    y, radius, offset = np.array([2.0, -0.4, 0.5]), 1.0, 0.25
    a = np.array([0.6, 0.8, 0.0])
    sets = [project_to_ball, lambda v: project_to_half_space(v, a.astype(dtype), offset)]
    solve = solver(sets)
    for point in (y, -y, 0.1 * y, np.array([0.3, 0.3, 0.1])):
        along = point - (a @ point) * a
        edge = offset * a + np.sqrt(radius**2 - offset**2) * along / np.linalg.norm(along)
        in_ball, in_half = point * min(1, radius / np.linalg.norm(point)), point - max(a @ point - offset, 0) * a
        want = in_ball if a @ in_ball <= offset else in_half if np.linalg.norm(in_half) <= radius else edge
        found, off = projected(point.astype(dtype), sets, dtype, solve)
        assert np.linalg.norm(found - want) <= off + 8 * unit(dtype) * np.linalg.norm(point)


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_affine_sets_are_one_affine_set_and_pythagoras_is_an_equality(dtype):
    rng = np.random.default_rng(0)
    A, b, y = rng.normal(size=(3, 6)).astype(dtype), rng.normal(size=3).astype(dtype), rng.normal(size=6).astype(dtype)
    rows = [lambda v: project_to_affine(v, A[:1], b[:1]), lambda v: project_to_affine(v, A[1:], b[1:])]
    found, off = projected(y, rows, dtype)
    whole = np.asarray(quick(project_to_affine)(y, A, b), np.float64)
    wide = A.astype(float)
    exact = y + np.linalg.pinv(wide) @ (b - wide @ y)
    condition = np.linalg.cond(wide)
    assert np.linalg.norm(found - exact) <= off
    assert np.linalg.norm(whole - exact) <= 64 * unit(dtype) * condition * (np.linalg.norm(y) + np.linalg.norm(exact))
    other = exact + np.linalg.svd(wide)[2][3:].T @ np.array([1.0, -2.0, 3.0])
    gap = np.sum((y - other) ** 2) - np.sum((y - found) ** 2) - np.sum((found - other) ** 2)
    assert abs(gap) <= 2 * off * (np.linalg.norm(y - found) + np.linalg.norm(found - other))
    # The derivative is the projection matrix of the stacked equations, in both modes.
    if dtype == np.float64:
        function = functools.partial(project_convex, projections=rows)
        for jacobian in quick(lambda y: (jax.jacfwd(function)(y), jax.jacrev(function)(y)))(y):
            assert np.abs(jacobian - (np.eye(6) - np.linalg.pinv(wide) @ wide)).max() <= 6 * off


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_pythagoras_is_an_inequality_on_convex_sets(dtype):
    """Item 4.4: the unit square, as the intersection of two strips; y = (2, ½) has the inner product -1 at (0, ·)."""
    strips = [
        lambda v: project_to_box(v, jnp.array([0, -jnp.inf], dtype), jnp.array([1, jnp.inf], dtype)),
        lambda v: project_to_box(v, jnp.array([-jnp.inf, 0], dtype), jnp.array([jnp.inf, 1], dtype)),
    ]
    y = np.array([2, 0.5], dtype)
    x = np.asarray(solver(strips)(y)[0], np.float64)
    np.testing.assert_array_equal(x, [1, 0.5])
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0, 0.5]])
    inner = (corners - x) @ (y - x)
    assert inner.max() <= 0
    assert inner.min() == -1
    gaps = np.sum((y - corners) ** 2, axis=-1) - np.sum((y - x) ** 2) - np.sum((x - corners) ** 2, axis=-1)
    np.testing.assert_array_equal(gaps, -2 * inner)


# --- derivatives -----------------------------------------------------------------------------------------------------


def test_the_gradient_is_symmetric_and_between_0_and_1():
    """A projection is the gradient of a convex function and 1-Lipschitz; on a polyhedron it projects."""
    with jax.enable_x64(True):
        for name in ("capped simplex", "three"):
            sets = SETS[name]
            y = 2 * np.random.default_rng(7).normal(size=7)
            J = np.asarray(quick(jax.jacrev(functools.partial(project_convex, projections=sets(7))))(y))
            np.testing.assert_allclose(J, J.T, atol=1e-11)
            eigenvalues = np.linalg.eigvalsh(J)
            assert eigenvalues.min() >= -1e-11
            assert eigenvalues.max() <= 1 + 1e-11
            if name == "capped simplex":
                np.testing.assert_allclose(J @ J, J, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_batches_are_loops(dtype):
    y = (2 * np.random.default_rng(0).normal(size=(2, 3, 4))).astype(dtype)
    tangent = np.cos(np.arange(y.size)).reshape(y.shape).astype(dtype)
    sets = SETS["capped simplex"](4)

    @quick
    def of_all(y):
        x, pull, info = jax.vjp(lambda y: project_convex(y, sets, return_info=True), y, has_aux=True)
        return x, info, pull(tangent)[0]

    x, info, pulled = of_all(y)
    whole, off = projected(y, sets, dtype, lambda _: (x, info))
    rows = quick(jax.vmap(jax.vmap(lambda y: project_convex(y, sets))))(y)
    assert np.all(np.linalg.norm(whole - rows, axis=-1) <= 2 * off)
    # The derivative projects on the face: entries between the bounds move, and their sum does not.
    free = (whole > 1e-3) & (whole < 1.5 / 4 - 1e-3)
    mean = np.sum(tangent * free, axis=-1, keepdims=True) / np.maximum(free.sum(axis=-1, keepdims=True), 1)
    assert np.all(np.linalg.norm(free * (tangent - mean) - pulled, axis=-1) <= 4 * off)


def test_16_bit_is_computed_in_float32():
    y = jnp.array([0.7, 0.9, -0.2], jnp.bfloat16)
    sets = SETS["capped simplex"](3)
    assert jax.eval_shape(lambda y: project_convex(y, sets), y).dtype == jnp.float32
    assert jax.eval_shape(jax.grad(lambda y: project_convex(y, sets)[0]), y).dtype == jnp.bfloat16


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_disjoint_sets_are_reported(dtype):
    """x stands still after the first cycle, and only the increments, which grow for ever, tell."""
    a = np.array([1.0, 0.0, 0.0], dtype)
    disjoint, y = half_spaces([a, -a], [0.0, -1.0]), np.array([0.25, 3.0, -1.0], dtype)
    still = [np.asarray(jnp.clip(y[0], *bounds)) for bounds in ((-jnp.inf, 0), (1, jnp.inf))]
    assert still == [0, 1]
    with pytest.raises(ValueError, match=r"no convergence in 1 rows \(residual .*\); the sets may be disjoint"):
        project_convex(y, disjoint, max_iterations=50)
    few = functools.partial(project_convex, projections=disjoint, max_iterations=50)

    @quick
    def with_slopes(y):
        x, pull, info = jax.vjp(functools.partial(few, return_info=True), y, has_aux=True)
        return x, info, pull(jnp.ones_like(x))[0]

    x, info, slopes = with_slopes(np.stack([y, y + 1]))
    assert np.isnan(x).all()
    assert np.isnan(slopes).all()
    assert not np.any(info.converged)
    np.testing.assert_array_equal(info.iterations, [50, 50])
    assert np.all(np.asarray(info.residual) > 0.01)  # a distance of 1 over increments of 50


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_sets_that_touch_are_not_disjoint(dtype):
    a, y = np.array([1.0, 0.0, 0.0], dtype), np.array([0.25, 3.0, -1.0], dtype)
    met, info = solver(half_spaces([a, -a], [1.0, -1.0]))(y)
    assert info.converged
    np.testing.assert_allclose(met, [1, 3, -1], atol=32 * unit(dtype) * np.linalg.norm(y))


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_too_few_cycles_are_reported_row_by_row(dtype):
    sets = SETS["capped simplex"](3)
    y = np.array([[1 / 3, 1 / 3, 1 / 3], [0.7, 0.3, 0.1]], dtype)
    few = quick(functools.partial(project_convex, projections=sets, max_iterations=3, return_info=True))
    x, info = few(y)
    np.testing.assert_array_equal(info.converged, [True, False])
    np.testing.assert_array_equal(np.isnan(x).all(-1), [False, True])
    loosely = functools.partial(project_convex, projections=sets, max_iterations=20, tolerance=1e-3, return_info=True)
    loose, info = quick(loosely)(y)
    assert np.all(info.converged)
    exact = np.array([[float(e) for e in exact_capped_simplex(row, dtype.type(0.5))] for row in y])
    assert 1e-6 < np.max(np.abs(np.asarray(loose) - exact)) < 0.1  # the tolerance is obeyed


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_nan_stays_nan(dtype):
    y = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [0.2, 0.3, 0.4]], dtype)
    sets = SETS["capped simplex"](3)

    @quick
    def with_slopes(y):
        x, pull = jax.vjp(lambda y: project_convex(y, sets), y)
        return x, pull(jnp.zeros_like(x).at[:, 0].set(1))[0]

    x, slopes = with_slopes(y)
    np.testing.assert_array_equal(np.isnan(x).all(-1), [True, True, False])
    np.testing.assert_array_equal(np.isnan(slopes).any(-1), [True, True, False])


def test_errors_say_what_came_and_what_to_do():
    y = jnp.ones(3)
    with pytest.raises(ValueError, match="projections is empty"):
        project_convex(y, [])
    with pytest.raises(ValueError, match=r"projection 1 gives .*float32\[2\].*wanted the same"):
        project_convex(y, [project_to_ball, lambda v: v[:2]])
    with pytest.raises(ValueError, match="max_iterations must be at least 1, got 0"):
        project_convex(y, [project_to_ball], max_iterations=0)
    with pytest.raises(ValueError, match="tolerance must be finite and at least 0"):
        project_convex(y, [project_to_ball], tolerance=-1.0)
    with pytest.raises(TypeError, match="y must be floating-point"):
        project_convex(jnp.arange(3), [project_to_ball])
