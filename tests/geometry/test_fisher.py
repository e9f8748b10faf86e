"""Item 5.10 and G7: the Fisher matrix in each coordinate system, its products, the natural gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx
from jax.flatten_util import ravel_pytree

import lossjax
from lossjax.geometry.fisher import (
    fisher_information,
    natural_gradient,
    softmax_fisher_vector_product,
    softmax_gauss_newton_vector_product,
)
from lossjax.verify import assert_verified, check
from tests.support.batches import assert_batches_are_loops
from tests.support.floats import distribution, unit
from tests.support.one_mode import assert_same_in
from tests.support.quick import quick

COORDINATES = ("logits", "ambient", "mean", "natural", "sphere")


information = jax.jit(fisher_information, static_argnums=1)

# --- the matrix ------------------------------------------------------------------------------------------------------


def tolerance_of(dtype, p):
    """1e-12 in float64; in float32 64u times the condition of the mean coordinates' matrix."""
    return 1e-12 if dtype == np.float64 else 64 * unit(dtype) * np.linalg.cond(information(p, "mean"))


@pytest.mark.covering
@pytest.mark.parametrize("n", [2, 3, 7])
def test_each_matrix_is_the_expected_square_of_its_score(n, dtype):
    """Σ_k p_k (∂ log p_k)(∂ log p_k)ᵀ, by automatic differentiation in the coordinates concerned."""
    p = distribution(np.random.default_rng(n), n, dtype)
    parametrisations = {
        "logits": (np.log(p), jax.nn.softmax),
        "natural": (np.log(p[:-1] / p[-1]), lambda z: jax.nn.softmax(jnp.append(z, jnp.zeros((), z.dtype)))),
        "mean": (p[:-1], lambda m: jnp.append(m, 1 - jnp.sum(m))),
        "ambient": (p, lambda p: p),
        "sphere": (2 * np.sqrt(p), lambda x: jnp.square(x) / 4),
    }
    assert set(parametrisations) == set(COORDINATES)
    for coordinates, (point, to_probabilities) in parametrisations.items():
        score = quick(jax.jacobian(lambda x, f=to_probabilities: jnp.log(f(x))))(point)
        expected = np.einsum("k,ki,kj->ij", p.astype(np.float64), score, score)
        got = np.asarray(information(p, coordinates))
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=tolerance_of(dtype, p) * max(1, np.max(np.abs(expected))))


@pytest.mark.parametrize("n", [2, 3, 7])
def test_relations_between_the_coordinates(n, dtype):
    p = distribution(np.random.default_rng(n), n, dtype)
    logits, ambient, mean, natural, sphere = (np.asarray(information(p, c), np.float64) for c in COORDINATES)
    tolerance = tolerance_of(dtype, p)
    np.testing.assert_allclose(mean @ natural, np.eye(n - 1), atol=tolerance)
    np.testing.assert_allclose(logits @ ambient @ logits, logits, atol=tolerance)  # J is ∂p/∂z
    to_sphere = logits / np.sqrt(p.astype(np.float64))[:, None]  # ∂ξ/∂z, dξ = dp/√p
    np.testing.assert_allclose(to_sphere.T @ sphere @ to_sphere, logits, atol=tolerance)
    np.testing.assert_allclose(np.linalg.det(mean), 1 / np.prod(p.astype(np.float64)), rtol=tolerance)
    np.testing.assert_allclose(logits.sum(-1), np.zeros(n), atol=8 * unit(dtype))
    assert np.linalg.eigvalsh(logits).max() <= 0.5 + 8 * unit(dtype)
    assert np.linalg.matrix_rank(logits, tol=1e-5) == n - 1


@pytest.mark.parametrize("n", [2, 3, 7])
def test_natural_and_mean_are_the_hessians_of_conjugate_potentials(n):
    """Hess A · Hess A* = I: the log-partition function with z_n = 0, and the negative entropy of the free means."""
    with jax.enable_x64(True):
        p = distribution(np.random.default_rng(n), n, np.float64)

        def partition(z):
            return jax.nn.logsumexp(jnp.append(z, 0.0))

        def negative_entropy(m):
            return jnp.sum(m * jnp.log(m)) + (1 - jnp.sum(m)) * jnp.log(1 - jnp.sum(m))

        of_natural, of_mean = (
            quick(jax.hessian(partition))(np.log(p[:-1] / p[-1])),
            quick(jax.hessian(negative_entropy))(p[:-1]),
        )
        tolerance = 64 * unit(np.float64) * np.linalg.cond(of_mean)
        np.testing.assert_allclose(of_natural @ of_mean, np.eye(n - 1), atol=tolerance)
        np.testing.assert_allclose(information(p, "natural"), of_natural, atol=1e-15)
        np.testing.assert_allclose(information(p, "mean"), of_mean, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_the_sphere_reaches_the_boundary(dtype):
    """Where "ambient" is infinite. A tangent of the sphere has the length of its dp, and one along ξ none."""
    edge = np.array([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]], dtype)
    np.testing.assert_array_equal(
        fisher_information(edge, "sphere"), np.broadcast_to(np.eye(3, dtype=dtype), (2, 3, 3))
    )
    assert np.isinf(np.asarray(fisher_information(edge, "ambient"))).any()
    p = distribution(np.random.default_rng(0), 4, dtype)
    score = quick(jax.jacobian(lambda x: jnp.log(jnp.square(x) / jnp.sum(jnp.square(x)))))(2 * np.sqrt(p))
    restricted = np.eye(4) - np.sqrt(np.outer(p, p))  # of a distribution at every ξ: the identity's restriction
    np.testing.assert_allclose(np.einsum("k,ki,kj->ij", p, score, score), restricted, atol=64 * unit(dtype))


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
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


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_the_gradient_of_the_matrix_is_that_of_the_formula(dtype):
    p = distribution(np.random.default_rng(0), 4, dtype)
    plain = quick(jax.jacobian(lambda p: jnp.diag(p) - p[:, None] * p[None, :]))(p)
    np.testing.assert_allclose(quick(jax.jacrev(fisher_information))(p), plain, atol=8 * unit(dtype))
    for coordinates in COORDINATES:
        assert np.isfinite(quick(jax.jacfwd(lambda p, c=coordinates: fisher_information(p, c)))(p)).all()


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
        product = jax.jit(softmax_fisher_vector_product)
        hessian = np.asarray(quick(jax.hessian(lambda z: jax.nn.logsumexp(z) - z[2]))(z))
        np.testing.assert_allclose(product(z, v), hessian @ v, atol=1e-15)

        def plain(z, v):
            p = jax.nn.softmax(z)
            return p * (v - p @ v)

        assert_same_in("forward over reverse", softmax_fisher_vector_product, plain, (z, v))
        masked = product(np.append(z, -np.inf), np.append(v, 1.0))
        np.testing.assert_allclose(masked, np.append(hessian @ v, 0.0), atol=1e-15)


@pytest.mark.parametrize("checks", ["cotangent", pytest.param(("rule", "modes"), marks=pytest.mark.slow)], ids=str)
def test_fisher_vector_product_is_verified(checks):
    """In float64. It has no rule of its own, and all its derivatives are held to the plain formula above."""
    with jax.enable_x64(True):
        z, v = np.random.default_rng(0).normal(size=(2, 5))
        assert_verified(softmax_fisher_vector_product, z, v, argnums=(0, 1), checks=checks)


# --- Gauss-Newton ----------------------------------------------------------------------------------------------------


def classifier(x):
    """A network with one hidden layer: parameters to logits ``[rows, 3]``."""
    return lambda w: jnp.tanh(x @ w["hidden"]) @ w["out"][0] + w["out"][1][None]


def network(rng, dtype, rows=5):
    x = rng.normal(size=(rows, 4)).astype(dtype)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape).astype(dtype))  # noqa: E731
    trees = [{"hidden": draw(4, 6), "out": (draw(6, 3), draw(3))} for _ in range(2)]
    return classifier(x), *trees, rng.integers(0, 3, rows)


def flat(tree):
    return ravel_pytree(tree)[0]


def test_hessian_gauss_newton_and_fisher_of_a_linear_model_are_one():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, labels = rng.normal(size=(7, 4)) / 4, rng.integers(0, 3, 7)
        w, v = rng.normal(size=(2, 4, 3))

        def loss(w):
            return jnp.sum(lossjax.softmax_cross_entropy_with_integer_labels(x @ w, labels))

        gauss_newton = jax.jit(lambda w, v: softmax_gauss_newton_vector_product(lambda w: x @ w, w, v))(w, v)
        hessian = jax.jit(lambda w, v: jax.jvp(jax.grad(loss), (w,), (v,))[1])(w, v)
        np.testing.assert_allclose(gauss_newton, hessian, rtol=0, atol=7e-16)
        p = np.exp(x @ w) / np.sum(np.exp(x @ w), axis=-1, keepdims=True)
        score = np.einsum("ri,rkc->rkic", x, np.eye(3) - p[:, None, :])  # of class k in row r
        fisher = np.einsum("rk,rkic,rk->ic", p, score, np.einsum("rkic,ic->rk", score, v))
        np.testing.assert_allclose(gauss_newton, fisher, rtol=0, atol=7e-16)


def test_of_a_network_it_is_the_hessian_less_the_curvature_of_the_logits():
    with jax.enable_x64(True):
        function, w, v, labels = network(np.random.default_rng(1), np.float64)

        def loss(w):
            return jnp.sum(lossjax.softmax_cross_entropy_with_integer_labels(function(w), labels))

        @quick
        def all_three(w, v):
            residual = jax.nn.softmax(function(w)) - jax.nn.one_hot(labels, 3, dtype=jnp.float64)
            curvature = jax.jvp(jax.grad(lambda w: jnp.sum(residual * function(w))), (w,), (v,))[1]
            product = softmax_gauss_newton_vector_product(function, w, v)
            hessian = jax.jvp(jax.grad(loss), (w,), (v,))[1]
            return flat(product), flat(curvature), flat(hessian)

        product, curvature, hessian = (np.asarray(x) for x in all_three(w, v))
        assert np.max(np.abs(hessian - product)) > 0.1 * np.max(np.abs(hessian))
        np.testing.assert_allclose(product + curvature, hessian, atol=1e-13 * np.max(np.abs(hessian)))


def test_it_is_symmetric_and_positive_semidefinite_where_the_hessian_is_not():
    with jax.enable_x64(True):
        function, w, _, labels = network(np.random.default_rng(2), np.float64)
        point, back = ravel_pytree(w)
        basis = jnp.eye(point.size)
        product = jax.jit(lambda v: flat(softmax_gauss_newton_vector_product(function, w, back(v))))
        G = np.asarray(jax.vmap(product)(basis))
        np.testing.assert_allclose(G, G.T, atol=1e-14)
        eigenvalues = np.linalg.eigvalsh(G)
        assert eigenvalues.min() >= -1e-13 * eigenvalues.max()
        assert np.linalg.matrix_rank(G, tol=1e-10) <= 5 * 2  # five rows, each of rank n - 1

        def loss(x):
            return jnp.sum(lossjax.softmax_cross_entropy_with_integer_labels(function(back(x)), labels))

        assert np.linalg.eigvalsh(quick(jax.hessian(loss))(point)).min() < -1e-3


def test_gauss_newton_of_16_bit_parameters_keeps_their_dtype():
    _, w, v, _ = network(np.random.default_rng(3), np.float32)
    narrow, along = (jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree) for tree in (w, v))
    product = softmax_gauss_newton_vector_product(lambda w: w["out"][1], narrow, v)
    assert {leaf.dtype for leaf in jax.tree.leaves(product)} == {jnp.dtype(jnp.bfloat16)}
    logits, vector = narrow["out"][1], along["out"][1]
    want = softmax_fisher_vector_product(logits, vector)
    np.testing.assert_allclose(product["out"][1].astype(jnp.float32), want, rtol=2.0**-8)
    assert not np.any(product["hidden"])


INPUTS = np.array([[1.0, 2.0], [0.3, -1.0]], np.float32)


def small_product(w, v):
    return softmax_gauss_newton_vector_product(lambda w: jnp.tanh(INPUTS.astype(w.dtype) @ w), w, v)


def test_derivatives_of_gauss_newton_are_those_of_the_formula():
    """Jᵀ(diag p̂ - p̂p̂ᵀ)Jv of a layer with one input after the other, written down."""

    def plain(w, v):
        x = INPUTS.astype(w.dtype)
        z = jnp.tanh(x @ w)
        p, pushed = jax.nn.softmax(z), (1 - z**2) * (x @ v)
        return x.T @ ((1 - z**2) * p * (pushed - jnp.sum(p * pushed, axis=-1, keepdims=True)))

    with jax.enable_x64(True):
        w, v = np.eye(2) * 0.7, np.full((2, 2), 0.3) + np.eye(2)
        assert_same_in("reverse over reverse", small_product, plain, (w, v))


@pytest.mark.slow
def test_gauss_newton_in_every_mode():
    w, v = jnp.eye(2) * 0.7, jnp.full((2, 2), 0.3) + jnp.eye(2)
    assert_verified(small_product, w, v, argnums=(0, 1), checks=("rule", "cotangent", "modes"))
    assert not check(lambda w, v: w * small_product(w, v), w, v, reference=small_product, checks="rule").ok


# --- the natural gradient --------------------------------------------------------------------------------------------


def exact_natural_gradient(z, g):
    """F⁺g, and what its roundings are measured by, in ball arithmetic."""
    z, g = ([arb(float(entry)) for entry in row] for row in (z, g))
    weights = [entry.exp() for entry in z]
    total = sum(weights, arb(0))
    n, mean, size = len(g), sum(g, arb(0)) / len(g), sum((abs(x) for x in g), arb(0)) / len(g)
    divided = [(x - mean) * total / w for x, w in zip(g, weights, strict=True)]
    scales = [(abs(x) + size) * total / w for x, w in zip(g, weights, strict=True)]
    centre, middle = sum(divided, arb(0)) / n, sum(scales, arb(0)) / n
    return [x - centre for x in divided], [float(s + middle) for s in scales]


def test_it_is_the_moore_penrose_inverse():
    with jax.enable_x64(True):
        for n in (1, 2, 7):
            z = np.random.default_rng(n).normal(size=n)
            p = np.exp(z) / np.sum(np.exp(z))
            F = np.diag(p) - np.outer(p, p)
            X = np.asarray(quick(jax.vmap(natural_gradient, in_axes=(None, 0)))(z, np.eye(n))).T
            for got, want in ((F @ X @ F, F), (X @ F @ X, X), ((F @ X).T, F @ X), ((X @ F).T, X @ F)):
                np.testing.assert_allclose(got, want, atol=1e-13 * max(1, np.abs(X).max()))
            # The planted fault: diag(1/p) solves F x = g where Σg = 0 too, and is not the inverse.
            naive = np.diag(1 / p)
            assert n == 1 or np.max(np.abs((F @ naive).T - F @ naive)) > 1e-2


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow), 3, 33])
def test_natural_gradient_is_accurate(n, scale, dtype):
    rng, compiled = np.random.default_rng(n), jax.jit(natural_gradient)
    with ctx.workprec(300):
        for kind in ("any", "loss"):
            z = np.clip(scale * rng.normal(size=(8, n)), -35, 35).astype(dtype)
            g = rng.normal(size=(8, n)).astype(dtype) * np.logspace(-6, 6, 8).astype(dtype)[:, None]
            if kind == "loss":
                g = np.asarray(jax.nn.softmax(z)) - np.eye(n, dtype=dtype)[rng.integers(0, n, 8)]
            got = np.asarray(compiled(z, g))
            for row, (x, y) in enumerate(zip(z, g, strict=True)):
                for value, want, size in zip(got[row], *exact_natural_gradient(x, y), strict=True):
                    assert float(abs(arb(float(value)) - want)) <= 16 * unit(dtype) * size


def test_of_a_cross_entropy_it_is_one_less_the_ratio():
    """G7: F⁺(p̂ - t) = 1 - t/p̂ up to a constant."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        of_loss = jax.jit(lambda z, t: natural_gradient(z, jax.grad(lossjax.softmax_cross_entropy)(z, t)))
        for n in (2, 7):
            z, t = 0.5 * rng.normal(size=n), distribution(rng, n, np.float64, 0.5)
            want = -t * np.sum(np.exp(z)) / np.exp(z)
            got = of_loss(z, t)
            np.testing.assert_allclose(got, want - want.mean(), rtol=0, atol=4e-15)
            assert abs(np.sum(got)) <= 4e-15


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_where_a_probability_vanishes_nothing_is_plausible(dtype):
    far = dtype.type(100 if dtype == np.float32 else 800)
    rows = np.array([[far, 0, 1], [0, -np.inf, 1], [80, 0, 1]], dtype)
    g = np.broadcast_to(np.array([0.5, -0.25, -0.25], dtype), rows.shape)
    squared = lambda z, g: jnp.sum(natural_gradient(z, g) ** 2)  # noqa: E731
    value, slope = quick(lambda z, g: (natural_gradient(z, g), jax.grad(squared)(z, g)))(rows, g)
    assert not np.isfinite(value[:2]).any()
    assert not np.isfinite(slope[:2]).any()
    assert np.isfinite(value[2]).all()


def test_derivatives_of_the_natural_gradient_are_those_of_the_formula():
    def plain(z, g):
        divided = (g - jnp.mean(g, axis=-1, keepdims=True)) / jax.nn.softmax(z)
        return divided - jnp.mean(divided, axis=-1, keepdims=True)

    with jax.enable_x64(True):
        z, g = np.random.default_rng(5).normal(size=(2, 2, 3))
        assert_same_in("reverse over forward", natural_gradient, plain, (z, g))


CHECKS = [("gradient", "cotangent"), pytest.param(("rule", "value", "modes"), marks=pytest.mark.slow)]


@pytest.mark.parametrize("checks", CHECKS, ids=str)
def test_natural_gradient_is_verified(checks):
    z, g = jnp.array([[0.3, -0.5, 1.2], [0.9, 0.2, -0.4]]), jnp.array([[0.1, -0.7, 0.4], [0.3, 0.3, 0.2]])
    assert_verified(natural_gradient, z, g, argnums=(0, 1), checks=checks)


def test_natural_gradient_of_16_bit_is_computed_in_float32():
    z, g = jnp.array([[0.3, -0.5, 1.2]]), jnp.array([[0.1, -0.7, 0.4]])
    narrow = z.astype(jnp.bfloat16), g.astype(jnp.bfloat16)
    assert jax.eval_shape(natural_gradient, *narrow).dtype == jnp.float32
    gradient = jax.eval_shape(jax.grad(lambda z: jnp.sum(natural_gradient(z, g) ** 2)), narrow[0])
    assert gradient.dtype == jnp.bfloat16


# --- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_batches_are_loops(dtype):
    rng = np.random.default_rng(0)
    p, q = (np.stack([[distribution(rng, 3, dtype) for _ in range(2)] for _ in range(4)]) for _ in range(2))
    functions = (
        softmax_fisher_vector_product,
        natural_gradient,
        lambda p, _: fisher_information(p),
        lambda p, _: fisher_information(p, "mean"),
        lambda p, _: fisher_information(p, "sphere"),
    )
    assert_batches_are_loops(functions, (p, q), 16)


def test_errors_say_what_came_and_what_to_do():
    p = jnp.array([0.5, 0.5])
    with pytest.raises(ValueError, match=r"coordinates must be one of 'logits', .*'sphere', got 'theta'"):
        fisher_information(p, "theta")
    with pytest.raises(ValueError, match="p has 1 class, wanted at least 2 in mean coordinates"):
        fisher_information(jnp.ones(1), "mean")
    with pytest.raises(ValueError, match=r"v has shape \(3,\), wanted \(2,\) of logits"):
        softmax_fisher_vector_product(p, jnp.ones(3))
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\), wanted \(2,\) of logits"):
        natural_gradient(p, jnp.ones(3))
    with pytest.raises(TypeError, match="gradient must be floating-point, got int32"):
        natural_gradient(p, jnp.array([1, 0]))


def test_errors_of_trees_name_the_leaf():
    w = {"a": jnp.ones(2), "b": (jnp.ones(3),)}

    def product(vector, parameters=w, function=lambda w: w["a"]):
        return softmax_gauss_newton_vector_product(function, parameters, vector)

    with pytest.raises(ValueError, match=r"vector is the tree .*wanted .* of parameters; make it by jax\.tree\.map"):
        product({"a": jnp.ones(2)})
    with pytest.raises(
        ValueError, match=r"vector\['b'\]\[0\] has shape \(2,\), wanted \(3,\) of parameters\['b'\]\[0\]"
    ):
        product({"a": jnp.ones(2), "b": (jnp.ones(2),)})
    with pytest.raises(TypeError, match=r"parameters\['a'\] must be floating-point, got int32"):
        product(w, parameters={"a": jnp.arange(2), "b": (jnp.ones(3),)})
    with pytest.raises(TypeError, match="logits_function must return one array of logits"):
        product(w, function=lambda w: (w["a"], w["a"]))
    with pytest.raises(TypeError, match=r"logits_function\(parameters\) must be floating-point, got int32"):
        product(w, function=lambda w: jnp.argmax(w["a"], keepdims=True))
    with pytest.raises(ValueError, match="logits is a scalar"):
        product(w, function=lambda w: jnp.sum(w["a"]))
