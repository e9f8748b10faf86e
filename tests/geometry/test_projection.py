"""Theorem 4.1.3 and its conditions (items 4.1 to 4.7, 7.2, G5, G14), rank deficiency, derivatives, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax import geometry
from lossjax.geometry import project_to_box
from tests.support.batches import assert_batches_are_loops
from tests.support.floats import unit
from tests.support.one_mode import assert_same_in
from tests.support.quick import quick

# Jitted, each is compiled as one.
least_squares = jax.jit(geometry.least_squares)
orthogonal_projection = jax.jit(geometry.orthogonal_projection)
projection_matrix = jax.jit(geometry.projection_matrix)
r_squared = jax.jit(geometry.r_squared)

SHAPES = [(40, 5, 5), (40, 5, 3), (4, 7, 4), (1, 1, 1), (9, 3, 0)]


def design(shape, dtype, scale=1.0):
    """A matrix of the given rank, and targets."""
    rows, columns, rank = shape
    rng = np.random.default_rng(rows + columns + rank)
    left, right = rng.normal(size=(rows, rank)), rng.normal(size=(rank, columns))
    X = left @ right if rank < min(rows, columns) else rng.normal(size=(rows, columns))
    return (scale * X).astype(dtype), rng.normal(size=rows).astype(dtype)


@pytest.mark.covering(2)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("shape", SHAPES)
def test_projection_matrix_is_an_orthogonal_projection(shape, scale, dtype):
    X, y = design(shape, dtype, scale)
    u = unit(dtype)
    P = np.asarray(projection_matrix(X), np.float64)
    assert np.max(np.abs(P @ P - P)) <= 64 * u
    assert np.max(np.abs(P - P.T)) <= 64 * u
    assert abs(np.trace(P) - shape[2]) <= 64 * u * shape[2]
    assert np.max(np.abs(P @ X - X)) <= 64 * u * max(np.linalg.norm(X), 1e-300)
    leverages = np.diag(P)
    assert leverages.min() >= -64 * u
    assert leverages.max() <= 1 + 64 * u
    np.testing.assert_allclose(orthogonal_projection(X, y), P @ y, atol=64 * u * np.linalg.norm(y))


@pytest.mark.covering(2)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_residual_is_orthogonal_to_the_columns(shape, scale, dtype):
    X, y = design(shape, dtype, scale)
    bound = 256 * unit(dtype) * np.linalg.norm(X) * np.linalg.norm(y)
    wide = X.astype(np.float64)
    for fitted in (orthogonal_projection(X, y), wide @ np.asarray(least_squares(X, y), np.float64)):
        assert np.linalg.norm(wide.T @ (y - np.asarray(fitted, np.float64))) <= bound


@pytest.mark.covering
@pytest.mark.parametrize("shape", SHAPES)
def test_least_squares_has_least_norm(shape, dtype):
    X, y = design(shape, dtype)
    want = np.linalg.pinv(X.astype(np.float64), rcond=1e-5) @ y.astype(np.float64)
    singular = np.linalg.svd(X.astype(np.float64))[1]
    condition = 1.0 if shape[2] == 0 else singular[0] / singular[shape[2] - 1]
    allowed = 64 * unit(dtype) * condition**2 * (np.linalg.norm(want) + np.linalg.norm(y))
    assert np.linalg.norm(np.asarray(least_squares(X, y)) - want) <= allowed


def test_zero_and_duplicated_columns_are_no_obstacle(dtype):
    x = np.array([1.0, 2.0, 4.0], dtype)
    X = np.stack([x, np.zeros(3, dtype), x], axis=1)
    assert np.linalg.det(X.T @ X) == 0
    np.testing.assert_allclose(least_squares(X, 3 * x), [1.5, 0, 1.5], atol=64 * unit(dtype))


def test_laeuchli_matrix(dtype):
    """Rank 2, but the rounded XᵀX is exactly singular: the printed (XᵀX)⁻¹ does not exist."""
    small = dtype.type(np.sqrt(unit(dtype)) / 4)
    X = np.array([[1, 1], [small, 0], [0, small]], dtype)
    gram = np.asarray(jnp.matmul(X.T, X, precision="highest"))
    assert gram[0, 0] * gram[1, 1] - gram[0, 1] * gram[1, 0] == 0
    P = np.asarray(projection_matrix(X), np.float64)
    assert abs(np.trace(P) - 2) <= 128 * unit(dtype)
    theta = np.asarray(least_squares(X, X @ np.array([1, 1], dtype)), np.float64)
    np.testing.assert_allclose(theta, [1, 1], atol=64 * unit(dtype) / float(small))


def test_pythagoras_on_affine_and_convex_sets(dtype):
    X, y = design((40, 5, 3), dtype)
    u = unit(dtype)
    best = np.asarray(orthogonal_projection(X, y), np.float64)
    other = X.astype(np.float64) @ np.arange(5.0)

    def squared(a):
        return np.sum(np.square(a))

    whole = squared(y - other)
    assert abs(whole - squared(y - best) - squared(best - other)) <= 64 * u * whole
    assert abs((y - best) @ (other - best)) <= 64 * u * np.linalg.norm(y - best) * np.linalg.norm(other - best)
    # On the unit square the printed equality fails: the variational inequality holds, here strictly.
    target = np.array([2.0, 0.5], dtype)
    nearest = np.asarray(project_to_box(target, 0.0, 1.0))
    np.testing.assert_array_equal(nearest, np.array([1, 0.5], dtype))
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0, 0.5]], dtype)
    inner = (corners - nearest) @ (target - nearest)
    assert inner.max() <= 0
    assert inner.min() == -1


@pytest.mark.parametrize("shape", [(6, 3, 3), (3, 5, 3)])
def test_linear_derivatives_of_full_rank(shape):
    """Against JAX's own derivatives of (XᵀX)⁻¹Xᵀ, or of Xᵀ(XXᵀ)⁻¹ for a wide X."""

    def ours(X, y):
        return jnp.concatenate([least_squares(X, y), orthogonal_projection(X, y), projection_matrix(X) @ y])

    def plain(X, y):
        wide = X.shape[0] < X.shape[1]
        inverse = X.T @ jnp.linalg.inv(X @ X.T) if wide else jnp.linalg.inv(X.T @ X) @ X.T
        return jnp.concatenate([inverse @ y, X @ (inverse @ y), X @ (inverse @ y)])

    with jax.enable_x64(True):
        X, y = design(shape, np.float64)
        mode = "forward over reverse" if shape[0] > shape[1] else "reverse over forward"
        assert_same_in(mode, ours, plain, (X, y), 1e-10, 1e-10)


def test_linear_derivatives_along_a_path_of_constant_rank():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        left, right = rng.normal(size=(2, 6, 2)), rng.normal(size=(2, 2, 4))
        y = rng.normal(size=6)

        def path(t):
            return (left[0] + t * left[1]) @ (right[0] + t * right[1])

        for function in (least_squares, orthogonal_projection):
            along = lambda t, f=function: f(path(t), y)  # noqa: E731
            forward, reverse = jax.jacfwd(along), jax.jacrev(along)
            at = quick(lambda t: (along(t), forward(t), reverse(t)))  # noqa: B023
            step = 1e-5
            before, here, after = at(-step), at(0.0), at(step)
            central = (after[0] - before[0]) / (2 * step)
            for slope in here[1:]:
                np.testing.assert_allclose(slope, central, rtol=1e-7, atol=1e-8)
            central = (after[1] - before[1]) / (2 * step)
            np.testing.assert_allclose(quick(jax.jacfwd(reverse))(0.0), central, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_equal_singular_values_do_not_disturb_the_gradient(dtype):
    y = np.arange(3, dtype=dtype)
    gradient = quick(jax.grad(lambda X: jnp.sum(least_squares(X, y) ** 2)))(np.eye(3, 2, dtype=dtype))
    np.testing.assert_allclose(gradient, [[0, 0], [0, -2], [0, 4]], atol=64 * unit(dtype))


def test_nan_stays_nan(dtype):
    X = np.array([[np.nan, 1.0], [1.0, 2.0]], dtype)
    assert np.isnan(least_squares(X, np.ones(2, dtype))).all()


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_batches_are_loops(dtype):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2, 3, 5, 2)).astype(dtype), rng.normal(size=(2, 3, 5)).astype(dtype)
    functions = least_squares, orthogonal_projection, lambda X, y: r_squared(X[..., 0], y)
    assert_batches_are_loops(functions, (X, y), 64)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_r_squared_with_an_intercept(offset, dtype):
    X, y = design((50, 4, 4), dtype)
    X[:, 0] = 1
    y = (y + dtype.type(offset)).astype(dtype)
    fitted = orthogonal_projection(X, y)
    a, b = np.asarray(fitted, np.float64), y.astype(np.float64)
    want = 1 - np.sum((b - a) ** 2) / np.sum((b - b.mean()) ** 2)
    assert abs(float(r_squared(fitted, y)) - want) <= 16 * unit(dtype) * (2 - want)
    if offset == 0:
        assert abs(want - np.corrcoef(a, b)[0, 1] ** 2) <= 64 * unit(dtype)
        assert abs(np.sum(b**2) - np.sum(a**2) - np.sum((b - a) ** 2)) <= 64 * unit(dtype) * np.sum(b**2)


def test_r_squared_edges(dtype):
    x, y = np.array([[1.0], [2.0], [3.0]], dtype), np.array([10.0, 11.0, 12.0], dtype)
    without_intercept = float(r_squared(orthogonal_projection(x, y), y))
    np.testing.assert_allclose(without_intercept, 1 - 243 / 14, rtol=64 * unit(dtype))  # -16.357: not in [0, 1]
    constant = np.full(3, 0.1, dtype)
    assert np.isnan(r_squared(x[:, 0], constant))
    assert np.isnan(r_squared(constant, constant))
    assert np.isnan(jax.grad(r_squared)(x[:, 0], constant)).all()
    assert float(r_squared(y, y)) == 1.0
    np.testing.assert_array_equal(jax.grad(r_squared)(y, y), np.zeros(3, dtype))
    huge = y * dtype.type(1e-3 * float(np.finfo(dtype).max))
    assert float(r_squared(huge, huge)) == 1.0


def test_errors_say_what_came_and_what_to_do():
    y = jnp.ones(3)
    with pytest.raises(ValueError, match=r"X has shape \(3,\), wanted \[\.\.\., N, d\].*x\[:, None\]"):
        least_squares(y, y)
    with pytest.raises(ValueError, match=r"y has shape \(3,\), wanted \(2,\) of X less its last axis"):
        orthogonal_projection(jnp.ones((2, 3)), y)
    with pytest.raises(TypeError, match="X must be floating-point, got int32"):
        projection_matrix(jnp.ones((2, 3), jnp.int32))
    with pytest.raises(ValueError, match="targets has shape"):
        r_squared(y, jnp.ones(2))
