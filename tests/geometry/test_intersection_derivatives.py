"""Derivatives of Dykstra's alternation: in the point, in captured arrays, of second order, transformed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax.geometry import project_convex, project_to_ball, project_to_half_space
from lossjax.verify import assert_verified
from tests.support.differences import assert_central_differences
from tests.support.one_mode import assert_derivative_along
from tests.support.quick import quick


def of_ball_and_half_space(y, a, b, r):
    return project_convex(y, [lambda v: project_to_ball(v, r), lambda v: project_to_half_space(v, a, b)])


def on_both(dtype=np.float64):
    """Arguments at which both constraints act."""
    a = np.array([1.0, 2.0, -0.5, 0.3, 0.9])
    return tuple(np.asarray(x, dtype) for x in (np.array([1.0, 0.7, -0.4, 2.0, 0.1]), a, 0.4, 0.9))


def test_gradients_in_the_point_and_in_what_the_projections_captured():
    with jax.enable_x64(True):
        args = on_both()
        x = quick(of_ball_and_half_space)(*args)
        assert abs(np.linalg.norm(x) - 0.9) < 1e-12
        assert abs(args[1] @ x - 0.4) < 1e-12
        assert_central_differences(of_ball_and_half_space, args, 10, compiled=quick, modes=(jax.jacrev,))

        def twice(y, a, b):  # the increments are not unique, the derivative is
            return project_convex(y, [lambda v, k=k: project_to_half_space(v, k * a, k * b) for k in (1, 2)])

        args = np.array([1.1, 0.3, 0.9, -0.4, 0.35]), args[1], np.float64(0.2)
        assert_central_differences(twice, args, 10, compiled=quick, modes=(jax.jacfwd,))


def test_second_derivatives():
    """Of a curved set and a flat one, in every pair of arguments, against differences of the gradient."""
    with jax.enable_x64(True):
        args = on_both()
        direction = tuple(np.cos(3 + np.arange(np.size(a))).reshape(np.shape(a)) for a in args)

        def along(t):
            moved = tuple(a + t * d for a, d in zip(args, direction, strict=True))
            slopes = jax.grad(lambda *f: jnp.vdot(of_ball_and_half_space(*f), args[1]), (0, 1, 2, 3))(*moved)
            return jnp.concatenate([jnp.ravel(g) for g in slopes])

        assert_derivative_along(along, 100)


def test_transformations_of_captured_arrays():
    with jax.enable_x64(True):
        args, positions = on_both(), (0, 1, 2, 3)

        def total(*full):
            return jnp.vdot(jnp.arange(1, 6, dtype=jnp.float64), of_ball_and_half_space(*full))

        @quick
        def in_two_ways(*args):
            batch = tuple(jnp.stack([a, a]) for a in args)
            mapped = jax.tree.map(lambda g: g[1], jax.vmap(jax.grad(total, positions))(*batch))
            return mapped, jax.grad(jax.checkpoint(total), positions)(*args)

        for g, w in zip(*in_two_ways(*args), strict=True):
            np.testing.assert_allclose(g, w, atol=4096 * 2.0**-53 * np.max(np.abs(w)))


@pytest.mark.slow
def test_certified():
    """Its exact arithmetic does not solve (2): the modes are computed, loops and second derivatives included."""
    a, y = np.float32([1, -2, 0.5]), np.float32([0.9, -0.5, 0.2])
    sets = [project_to_ball, lambda v: project_to_half_space(v, a, 0.25)]
    assert_verified(lambda y: project_convex(y, sets), y, checks="modes")
