"""Items 5.10 to 5.12: the Fisher matrix in each coordinate system, its product with a vector, constant curvature."""

import doctest
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import polygamma
from jax.test_util import check_grads

from lossjax.geometry import (
    fisher_information,
    fisher_rao_distance,
    fisher_rao_geodesic,
    sectional_curvature,
    softmax_fisher_vector_product,
)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


def unit(dtype):
    return float(np.finfo(dtype).eps) / 2


def distribution(rng, n, dtype, scale=1.0):
    e = np.exp(scale * rng.normal(size=n))
    return (e / e.sum()).astype(dtype)


# --- the matrix ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 7])
def test_each_matrix_is_the_expected_square_of_its_score(n, dtype):
    """Σ_k p_k (∂ log p_k)(∂ log p_k)ᵀ, by automatic differentiation in the coordinates concerned."""
    p = distribution(np.random.default_rng(n), n, dtype)
    parametrisations = {
        "logits": (jnp.log(p), jax.nn.softmax),
        "natural": (jnp.log(p[:-1] / p[-1]), lambda z: jax.nn.softmax(jnp.append(z, jnp.zeros((), z.dtype)))),
        "mean": (jnp.asarray(p[:-1]), lambda m: jnp.append(m, 1 - jnp.sum(m))),
    }
    for coordinates, (point, to_probabilities) in parametrisations.items():
        score = jax.jacobian(lambda x, f=to_probabilities: jnp.log(f(x)))(point)
        expected = np.einsum("k,ki,kj->ij", p.astype(np.float64), score, score)
        got = np.asarray(fisher_information(p, coordinates))
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=64 * unit(dtype) * np.max(1 / p))


@pytest.mark.parametrize("n", [2, 3, 7])
def test_relations_between_the_coordinates(n, dtype):
    p = distribution(np.random.default_rng(n), n, dtype)
    logits, ambient, mean, natural = (
        np.asarray(fisher_information(p, c), np.float64) for c in ("logits", "ambient", "mean", "natural")
    )
    tolerance = 64 * unit(dtype) * np.linalg.cond(mean)
    np.testing.assert_allclose(mean @ natural, np.eye(n - 1), atol=tolerance)
    np.testing.assert_allclose(logits @ ambient @ logits, logits, atol=tolerance)
    np.testing.assert_allclose(np.linalg.det(mean), 1 / np.prod(p.astype(np.float64)), rtol=tolerance)
    np.testing.assert_allclose(logits.sum(-1), np.zeros(n), atol=8 * unit(dtype))
    assert np.linalg.eigvalsh(logits).max() <= 0.5 + 8 * unit(dtype)
    assert np.linalg.matrix_rank(logits, tol=1e-5) == n - 1


def test_the_ambient_score_has_mean_one_and_is_no_score(dtype):
    """E18: E ∂_i log p = 1, not 0; the ambient matrix is a metric on vectors that sum to 0, no covariance."""
    p = distribution(np.random.default_rng(0), 5, dtype)
    np.testing.assert_allclose(np.diag(fisher_information(p, "ambient")) * p, np.ones(5), rtol=2 * unit(dtype))


def test_a_confident_row_keeps_its_variance(dtype):
    rare = dtype.type(2.0**-80)
    J = np.asarray(fisher_information(np.array([1, rare], dtype)))
    np.testing.assert_array_equal(J, rare * np.array([[1, -1], [-1, 1]], dtype))
    naive = np.diag(np.array([1, rare], dtype)) - np.outer([1, rare], [1, rare]).astype(dtype)
    assert naive[0, 0] == 0


def test_the_gradient_of_the_matrix_is_that_of_the_formula(dtype):
    p = distribution(np.random.default_rng(0), 4, dtype)
    plain = jax.jacobian(lambda p: jnp.diag(p) - p[:, None] * p[None, :])(p)
    np.testing.assert_allclose(jax.jacrev(fisher_information)(p), plain, atol=8 * unit(dtype))
    for coordinates in ("logits", "ambient", "mean", "natural"):
        assert np.isfinite(jax.jacfwd(lambda p, c=coordinates: fisher_information(p, c))(p)).all()


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("n", [1, 3, 33])
def test_fisher_vector_product(n, scale, dtype):
    rng = np.random.default_rng(n)
    z, v = (scale * rng.normal(size=(4, n))).astype(dtype), rng.normal(size=(4, n)).astype(dtype)
    wide = z.astype(np.longdouble)
    p = np.exp(wide - wide.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    relative = v - np.take_along_axis(v, z.argmax(-1)[:, None], -1).astype(np.longdouble)
    want = p * (relative - (p * relative).sum(-1, keepdims=True))
    relative = np.abs(relative)
    allowed = 16 * unit(dtype) * p * (relative + (p * relative).sum(-1, keepdims=True))
    assert np.all(np.abs(np.asarray(jax.jit(softmax_fisher_vector_product)(z, v)) - want) <= allowed)


def test_fisher_vector_product_is_the_hessian_of_the_cross_entropy():
    with jax.enable_x64(True):
        z, v = np.random.default_rng(0).normal(size=(2, 5))
        hessian = jax.hessian(lambda z: jax.nn.logsumexp(z) - z[2])(z)
        np.testing.assert_allclose(softmax_fisher_vector_product(z, v), hessian @ v, atol=1e-15)
        check_grads(
            jax.jit(softmax_fisher_vector_product),
            (z, v),
            order=2,
            modes=("fwd", "rev"),
            eps=1e-5,
            rtol=1e-6,
            atol=1e-6,
        )
        masked = softmax_fisher_vector_product(np.append(z, -np.inf), np.append(v, 1.0))
        np.testing.assert_allclose(masked, np.append(hessian @ v, 0.0), atol=1e-15)


# --- curvature -------------------------------------------------------------------------------------------------------


def fisher_metric(mean):
    return fisher_information(jnp.append(mean, 1 - jnp.sum(mean)), "mean")


@pytest.mark.parametrize("n", [3, 4, 6])
def test_the_simplex_has_constant_curvature_a_quarter(n):
    """Table 4.1.1 prints 'variable curvature'."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(n)
        points = np.stack([distribution(rng, n, np.float64)[:-1] for _ in range(10)])
        u, v = rng.normal(size=(2, 10, n - 1))
        curvature = jax.jit(lambda *x: sectional_curvature(fisher_metric, *x))(points, u, v)
        assert float(jnp.max(jnp.abs(curvature - 0.25))) <= 1e-7
        assert float(jnp.ptp(curvature)) <= 1e-7


def test_spaces_of_known_curvature():
    with jax.enable_x64(True):
        x, u, v = np.array([0.4, 1.3]), np.array([1.0, 0.3]), np.array([-0.2, 0.5])
        normal = sectional_curvature(lambda m: jnp.diag(jnp.array([1.0, 2.0])) / m[1] ** 2, x, u, v)
        np.testing.assert_allclose(normal, -0.5, rtol=1e-13)
        flat = sectional_curvature(lambda _: jnp.array([[2.0, 0.5], [0.5, 1.0]]), x, u, v)
        assert float(flat) == 0.0
        polar = sectional_curvature(lambda m: jnp.diag(jnp.stack([jnp.ones_like(m[0]), m[0] ** 2])), x, u, v)
        np.testing.assert_allclose(polar, 0.0, atol=1e-13)


def test_the_gamma_family_is_genuinely_variable():
    """The checker sees variation where there is some."""

    def gamma(m):
        shape, rate = m
        off = -1 / rate
        return jnp.array([[polygamma(1, shape), off], [off, shape / rate**2]])

    with jax.enable_x64(True):
        u, v = np.eye(2)
        got = [float(sectional_curvature(gamma, np.array([k, 1.7]), u, v)) for k in (0.5, 1.0, 2.0, 5.0)]
        np.testing.assert_allclose(got, [-0.4040, -0.4563, -0.4859, -0.4976], atol=5e-5)


def test_curvature_does_not_depend_on_the_basis_of_the_plane():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)

        def metric(x):
            return jnp.diag(1 + jnp.square(x)) + jnp.outer(jnp.sin(x), jnp.sin(x))

        x, u, v = rng.normal(size=(3, 4))
        first = sectional_curvature(metric, x, u, v)
        assert abs(float(first)) > 1e-3
        np.testing.assert_allclose(sectional_curvature(metric, x, u + 2 * v, 3 * v - u), first, rtol=1e-11)
        assert np.isnan(sectional_curvature(metric, x, u, 2 * u))
        assert np.isfinite(jax.grad(lambda x: sectional_curvature(metric, x, u, v))(x)).all()


# --- the rest --------------------------------------------------------------------------------------------------------


def test_batches_are_loops(dtype):
    rng = np.random.default_rng(0)
    p, q = (np.stack([[distribution(rng, 3, dtype) for _ in range(2)] for _ in range(4)]) for _ in range(2))
    functions = (
        fisher_rao_distance,
        softmax_fisher_vector_product,
        lambda p, q: fisher_rao_geodesic(p, q, p[..., 0]),
        lambda p, _: fisher_information(p),
        lambda p, _: fisher_information(p, "mean"),
    )
    for function in functions:
        whole = jax.jit(function)(p, q)
        rows = np.array([[function(a, b) for a, b in zip(x, y, strict=True)] for x, y in zip(p, q, strict=True)])
        np.testing.assert_allclose(whole, rows, atol=16 * unit(dtype))
        np.testing.assert_allclose(jax.vmap(function)(p, q), whole, atol=16 * unit(dtype))


def test_errors_say_what_came_and_what_to_do():
    p = jnp.array([0.5, 0.5])
    with pytest.raises(ValueError, match="coordinates must be 'logits', 'ambient', 'mean' or 'natural', got 'theta'"):
        fisher_information(p, "theta")
    with pytest.raises(ValueError, match="p has 1 class, wanted at least 2 in mean coordinates"):
        fisher_information(jnp.ones(1), "mean")
    with pytest.raises(ValueError, match=r"v has shape \(3\), wanted \(2\) of logits"):
        softmax_fisher_vector_product(p, jnp.ones(3))
    with pytest.raises(TypeError, match="q must be floating-point, got int32"):
        fisher_rao_distance(p, jnp.array([1, 0]))
    with pytest.raises(TypeError, match="t must be a real number, got complex64"):
        fisher_rao_geodesic(p, p, 1j)
    with pytest.raises(ValueError, match=r"metric gives shape \(2,\).*return a matrix"):
        sectional_curvature(lambda x: x, p, p, p)


def test_the_examples_of_the_docstrings():
    results = doctest.testmod(sys.modules["lossjax.geometry.fisher"])
    assert results.attempted
    assert not results.failed
