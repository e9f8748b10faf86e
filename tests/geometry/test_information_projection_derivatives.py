"""Derivatives of the information projections: of every kind, at zeros, under redundancy; batches and 16 bits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax.geometry import i_projection, m_projection
from lossjax.geometry._tilting import _ratio
from lossjax.verify import assert_verified
from tests.support.differences import assert_central_differences
from tests.support.floats import unit
from tests.support.moment_problems import problem
from tests.support.one_mode import assert_derivative_along
from tests.support.quick import quick


def test_derivatives_in_everything():
    with jax.enable_x64(True):
        q, T, x = problem(5, 2, 1.0, np.float64)
        T = T / np.abs(T).max(axis=1, keepdims=True)
        assert_central_differences(i_projection, (q, T, T @ x), 100, compiled=quick, modes=(jax.jacrev,))
        turns = tuple(np.cos(np.arange(a.size)).reshape(a.shape) for a in (x, T, q))

        def path(t):
            return m_projection(*(a + t * turn for a, turn in zip((x, T, q), turns, strict=True)))

        assert_derivative_along(path, 1000)


def test_derivatives_at_zero_are_one_sided_and_true():
    """∂p/∂q_i at q_i = 0: what the class would get, were it given any weight."""
    with jax.enable_x64(True):
        q, T = np.array([0.0, 0.4, 0.3, 0.2, 0.1]), np.array([[0.0, 1.0, 2.0, 3.0, 5.0]])
        b = np.array([2.2])
        h, step = 1e-5, 1e-5 * np.eye(5)[0]
        both_ways = quick(
            lambda q: (i_projection(q, T, b), jax.jacfwd(i_projection)(q, T, b), jax.jacrev(i_projection)(q, T, b))
        )
        found = [both_ways(q + k * step) for k in range(4)]
        values = [np.asarray(value) for value, *_ in found]
        want = (-11 * values[0] + 18 * values[1] - 9 * values[2] + 2 * values[3]) / (6 * h)
        assert want[0] > 0.1
        for got in found[0][1:]:
            np.testing.assert_allclose(got[:, 0], want, atol=1e-9)
        assert float(values[0][0]) == 0.0


def test_redundant_rows_leave_the_derivative_alone():
    """T moves with its redundancy: along the path, the rank stays."""
    with jax.enable_x64(True):
        q, T, x = problem(5, 2, 1.0, np.float64)
        T = T / np.abs(T).max(axis=1, keepdims=True)
        turn = np.random.default_rng(1).normal(size=T.shape)

        def path(t, redundant):
            moved, b = T + t * turn, T @ x + 0.1 * t
            if redundant:
                moved = jnp.concatenate([moved, moved[:1] - 3 * moved[1:], jnp.full((1, 5), 2 + t)])
                b = jnp.concatenate([b, b[:1] - 3 * b[1:], jnp.full(1, 2 + t)])
            return i_projection(q, moved, b)

        modes = (jax.jacfwd, True), (jax.jacrev, True), (jax.jacfwd, False)
        *redundant, want = quick(lambda t: [mode(functools.partial(path, redundant=r))(t) for mode, r in modes])(0.0)
        for got in redundant:
            np.testing.assert_allclose(got, want, atol=1e-11)


@pytest.mark.parametrize("order", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_second_and_third_derivatives(order):
    with jax.enable_x64(True):
        q, T, x = problem(4, 1, 1.0, np.float64)
        args = (q, T / np.abs(T).max(), T @ x / np.abs(T).max())
        direction = tuple(np.cos(1 + np.arange(np.size(a))).reshape(np.shape(a)) for a in args)

        def slope(t):
            moved = (a + t * d for a, d in zip(args, direction, strict=True))
            gradient = jax.grad(lambda *full: jnp.vdot(i_projection(*full), x), (0, 1, 2))(*moved)
            return jnp.concatenate([jnp.ravel(g) for g in gradient])

        function = slope if order == 2 else jax.jacfwd(slope)
        assert_derivative_along(function, 10.0 ** (order + 1))


@pytest.mark.parametrize("checks", ["cotangent", pytest.param(("rule", "modes"), marks=pytest.mark.slow)], ids=str)
def test_the_rule_of_the_ratio_is_certified(checks):
    """p/q is judged exactly; of the whole, exact arithmetic has no singular value decomposition."""
    q, z = np.array([0.5, 0.2, 0.3], np.float32), np.array([1.0, -0.4, 0.3], np.float32)
    assert_verified(lambda q, z: _ratio(q, z), q, z, argnums=(0, 1), checks=checks)


@pytest.mark.slow
def test_every_mode_of_the_whole():
    """Held against its own formula, two steps of Newton's, in floating point: second derivatives and loops included."""
    q, T, b = np.array([0.5, 0.2, 0.3], np.float32), np.array([[0, 1, 2]], np.float32), np.array([0.7], np.float32)
    assert_verified(i_projection, q, T, b, argnums=(0, 1, 2), checks="modes")


# --- batches and dtypes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_batches_are_loops(dtype):
    rng = np.random.default_rng(0)
    q, x = rng.dirichlet(np.ones(4), (2, 3)).astype(dtype), rng.dirichlet(np.ones(4), (2, 3)).astype(dtype)
    T = np.array([[0, 1, 2, 3], [1, 0, 0, 2]], dtype)
    b = (x @ T.T).astype(dtype)
    tolerance = 4096 * unit(dtype)  # every row is solved to rounding; the least variance of T in these is 1/50
    of_info = functools.partial(i_projection, return_info=True)
    fit = lambda x, q: m_projection(x, T, q)  # noqa: E731

    @quick
    def whole_and_rows(q, b, x):
        mapped = jax.vmap(jax.vmap(lambda q, b: of_info(q, T, b)))(q, b)
        return (i_projection(q, T, b), fit(x, q)), mapped, jax.vmap(jax.vmap(fit))(x, q)

    whole, (found, info), fitted = whole_and_rows(q, b, x)
    for got, want in zip(whole, (found, fitted), strict=True):
        np.testing.assert_allclose(got, want, atol=tolerance)
    assert info.iterations.shape == info.residual.shape == info.converged.shape == (2, 3)


def test_16_bit_is_computed_in_float32():
    q, T, b = (
        jnp.array([0.5, 0.25, 0.25], jnp.bfloat16),
        jnp.array([[0, 1, 2]], jnp.bfloat16),
        jnp.ones(1, jnp.bfloat16),
    )
    assert jax.eval_shape(i_projection, q, T, b).dtype == jnp.float32
    assert jax.eval_shape(m_projection, q, T, q).dtype == jnp.float32
    gradients = jax.eval_shape(jax.grad(lambda *args: i_projection(*args)[0], (0, 1, 2)), q, T, b)
    assert [g.dtype for g in gradients] == [jnp.bfloat16] * 3
