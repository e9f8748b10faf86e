"""The generalisations G2 to G18 that no other room tests: each figure of theirs is reached, and what is false fails."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax.geometry import fisher_rao_distance, orthogonal_projection, projection_matrix
from tests.support.quick import quick

U = 2.0**-53
RANDOM = np.random.default_rng(12)
P, Q = RANDOM.dirichlet(np.ones(5), (2, 200))
LOGITS = RANDOM.normal(size=(2, 200, 5)) * np.exp(RANDOM.uniform(-3, 3, (200, 1)))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def test_gibbs_variational_principle() -> None:
    """G2: max ⟨p, z⟩ + H(p) = lse(z), at the softmax; what another p falls short of is KL(p‖softmax z)."""
    z = LOGITS[0]
    lse, best = lossjax.logsumexp(z), lossjax.softmax(z)
    size = 1 + np.abs(z).max(-1)
    attained = jnp.sum(best * z, -1) + lossjax.entropy(best)
    assert np.max(np.abs(attained - lse) / size) <= 1e-14
    gap = lse - jnp.sum(P * z, -1) - lossjax.entropy(P)
    assert np.max(np.abs(gap - lossjax.kl_divergence(P, best)) / size) <= 1e-12
    assert np.min(gap) > 0


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, -1.0, 2.0])
def test_alpha_connections_have_constant_curvature(alpha: float) -> None:
    """G8: R = (1 - α²)/4 (δ g - δ g) for n = 4 in coordinates θ = (p₁, p₂, p₃): flat for α = ±1, ¼ for Levi-Civita.

    Γ_{ij,k} = E[(∂ᵢ∂ⱼℓ + ½(1 - α) ∂ᵢℓ ∂ⱼℓ) ∂ₖℓ] with ℓ = log p.
    """

    def logarithms(theta: Any) -> Any:
        return jnp.log(jnp.concatenate([theta, 1 - jnp.sum(theta, keepdims=True)]))

    def metric(theta: Any) -> Any:
        score = jax.jacfwd(logarithms)(theta)
        return jnp.einsum("x,xi,xj->ij", jnp.exp(logarithms(theta)), score, score)

    def connection(theta: Any) -> Any:
        score, bend = jax.jacfwd(logarithms)(theta), jax.jacfwd(jax.jacfwd(logarithms))(theta)
        both = bend + (1 - alpha) / 2 * jnp.einsum("xi,xj->xij", score, score)
        lowered = jnp.einsum("x,xij,xk->ijk", jnp.exp(logarithms(theta)), both, score)
        return jnp.einsum("ijk,km->mij", lowered, jnp.linalg.inv(metric(theta)))

    @quick
    def riemann(theta: Any) -> Any:
        G, moved = connection(theta), jax.jacfwd(connection)(theta)  # moved[m, j, l, i] = ∂ᵢ Γᵐⱼₗ
        half = jnp.einsum("mjli->mlij", moved) + jnp.einsum("mik,kjl->mlij", G, G)
        return half - jnp.swapaxes(half, -1, -2), metric(theta)

    for theta in RANDOM.dirichlet(np.full(4, 3.0), 3)[:, :3]:
        found, g = (np.asarray(x) for x in riemann(theta))
        constant = np.einsum("mi,jl->mlij", np.eye(3), g) - np.einsum("mj,il->mlij", np.eye(3), g)
        scale = np.abs(g).max() ** 2
        assert np.abs(found - (1 - alpha**2) / 4 * constant).max() <= 1e-11 * scale
        assert np.abs(found - (1.01 - alpha**2) / 4 * constant).max() > 1e-5 * scale  # another constant is seen


def test_hellinger_jeffreys_and_jensen_shannon() -> None:
    """G9: 1 - cos(d/2) = ½Σ(√p - √q)² with d of Fisher and Rao; Σ(p - q) log(p/q); √JS fails no triangle, KL does."""
    hellinger = 0.5 * np.sum((np.sqrt(P) - np.sqrt(Q)) ** 2, -1)
    np.testing.assert_allclose(1 - np.cos(fisher_rao_distance(P, Q) / 2), hellinger, atol=8 * U)
    jeffreys = np.sum((P - Q) * np.log(P / Q), -1)
    np.testing.assert_allclose(lossjax.jeffreys_divergence(P, Q), jeffreys, rtol=1e-12)
    middle = RANDOM.dirichlet(np.ones(5), 200)
    root = lambda a, b: np.sqrt(lossjax.js_divergence(a, b))  # noqa: E731
    assert np.all(root(P, Q) <= (root(P, middle) + root(middle, Q)) * (1 + 64 * U))
    between = (P + Q) / 2  # where a divergence that is like a square fails
    assert np.any(lossjax.kl_divergence(P, Q) > lossjax.kl_divergence(P, between) + lossjax.kl_divergence(between, Q))


def test_softmax_is_half_lipschitz() -> None:
    """G10: 0 ⪯ J ⪯ ½I, with equality at (½, ½, 0, …); ‖Δp‖₂ ≤ ½‖Δz‖₂ and ‖Δp‖₁ ≤ ‖Δz‖_∞, nearly attained."""
    jacobian = quick(jax.vmap(jax.jacfwd(lossjax.softmax)))
    eigenvalues = np.linalg.eigvalsh(jacobian(LOGITS[0]))
    assert eigenvalues.min() >= -8 * U
    assert eigenvalues.max() <= 0.5 + 8 * U
    extreme = np.linalg.eigvalsh(jacobian(np.array([[0.0, 0.0, -np.inf, -np.inf]])))
    np.testing.assert_allclose(extreme[0], [0, 0, 0, 0.5], atol=8 * U)
    near = np.array([[1, 1, -40, -40, -40]]) * np.exp(RANDOM.uniform(-3, 0, (100, 1)))
    step = np.array([1, -1, 0, 0, 0]) * np.exp(RANDOM.uniform(-5, 0, (100, 1)))
    z, w = np.concatenate([LOGITS[0], near]), np.concatenate([LOGITS[1], near + step])
    change = np.asarray(lossjax.softmax(z) - lossjax.softmax(w))
    in_two = np.linalg.norm(change, axis=-1) / np.linalg.norm(z - w, axis=-1)
    in_one = np.abs(change).sum(-1) / np.abs(z - w).max(-1)
    assert 0.484 <= in_two.max() <= 0.5 + 8 * U
    assert 0.972 <= in_one.max() <= 1 + 8 * U


def test_pinsker_and_the_chi_square_bounds() -> None:
    """G11: ½‖p - q‖₁² ≤ KL ≤ log(1 + χ²) ≤ χ², and KL is jointly convex; none of the three holds the other way."""
    kl = np.asarray(lossjax.kl_divergence(P, Q))
    chain = [0.5 * np.abs(P - Q).sum(-1) ** 2, kl, np.log1p(np.sum((P - Q) ** 2 / Q, -1)), np.sum((P - Q) ** 2 / Q, -1)]
    for low, high in itertools.pairwise(chain):
        assert np.all(low <= high * (1 + 64 * U))
        assert np.max(high / low) > 1.01
    t = RANDOM.uniform(size=(100, 1))
    mixed = [t * x[:100] + (1 - t) * x[100:] for x in (P, Q)]
    bound = t[:, 0] * kl[:100] + (1 - t[:, 0]) * kl[100:]
    assert np.all(lossjax.kl_divergence(*mixed) <= bound * (1 + 64 * U))


SATURATION = {  # z: CE, |CE'|, ½(1 - σ)², |MSE'|, ratio
    -10.0: (10.0000454, 0.999954602, 0.499954603, 4.53937469e-5, 4.53958077e-5),
    -5.0: (5.00671535, 0.993307149, 0.493329546, 6.60356222e-3, 6.64805667e-3),
    -np.log(2): (1.09861229, 0.666666667, 0.222222222, 0.148148148, 0.222222222),
    0.0: (0.693147181, 0.5, 0.125, 0.125, 0.25),
    5.0: (6.71534849e-3, 6.69285092e-3, 2.23971267e-5, 4.44944522e-5, 6.64805667e-3),
    10.0: (4.53988992e-5, 4.53978687e-5, 1.03048324e-9, 2.06087292e-9, 4.53958077e-5),
}


def test_saturation_of_the_squared_error() -> None:
    """G13: the printed table to its last digit; the peak 4/27 at -log 2; where the two gradients part for good."""
    cross_entropy = jax.value_and_grad(lambda z: lossjax.sigmoid_cross_entropy(z, 1.0))
    squared = jax.value_and_grad(lambda z: 0.5 * lossjax.squared_error(lossjax.numerics.sigmoid(z), 1.0))
    for z, printed in SATURATION.items():
        ce, ce_slope = cross_entropy(jnp.float64(z))
        mse, mse_slope = squared(jnp.float64(z))
        np.testing.assert_allclose([ce, -ce_slope, mse, -mse_slope, mse_slope / ce_slope], printed, rtol=5e-9)
    grid = np.linspace(-6, 6, 2401)
    slopes = -np.asarray(jax.vmap(lambda z: squared(z)[1])(grid))
    assert abs(grid[np.argmax(slopes)] + np.log(2)) <= 0.005
    assert abs(slopes.max() - 4 / 27) < 1e-6
    curvature = np.asarray(jax.vmap(jax.grad(lambda z: squared(z)[1]))(grid))
    np.testing.assert_array_equal(curvature < 0, grid < -np.log(2))  # concave exactly there

    def brier(z: Any) -> Any:
        return 0.5 * jnp.sum((lossjax.softmax(z) - jnp.eye(3)[0]) ** 2)

    assert abs(np.linalg.eigvalsh(jax.hessian(brier)(jnp.array([-4.0, 4.0, 0.0]))).min() + 0.0318) < 5e-5
    wrong = jnp.array([-20.0, 20.0, 0.0])
    steep = jax.grad(lambda z: lossjax.softmax_cross_entropy_with_integer_labels(z, 0))(wrong)
    assert abs(np.linalg.norm(steep) - np.sqrt(2)) < 1e-8
    assert abs(np.linalg.norm(jax.grad(brier)(wrong)) - 2.9e-9) < 5e-11


def test_weighted_least_squares_and_gauss_markov() -> None:
    """G14: weighted least squares projects in the metric W, not in the Euclidean one; no unbiased linear fit varies
    less than least squares; ridge regression is no projection.
    """
    X, y, w = RANDOM.normal(size=(9, 3)), RANDOM.normal(size=9), RANDOM.uniform(0.2, 3, 9)
    root = np.sqrt(w)
    fitted = np.asarray(orthogonal_projection(root[:, None] * X, root * y)) / root
    np.testing.assert_allclose(X.T @ (w * (y - fitted)), 0, atol=1e-13)  # e ⟂ col X in W
    assert np.abs(X.T @ (y - fitted)).max() > 0.01
    whitened = np.asarray(projection_matrix(root[:, None] * X))
    weighted = whitened / root[:, None] * root
    assert np.abs(weighted @ weighted - weighted).max() < 1e-13
    assert np.abs(weighted - weighted.T).max() > 0.01
    best, other = np.linalg.pinv(X), np.linalg.solve(X.T @ (w[:, None] * X), X.T * w)
    np.testing.assert_allclose(other @ X, np.eye(3), atol=1e-13)  # unbiased
    assert np.linalg.eigvalsh(other @ other.T - best @ best.T).min() >= -1e-14
    assert np.trace(other @ other.T - best @ best.T) > 0.01
    ridge = X @ np.linalg.solve(X.T @ X + np.eye(3), X.T)
    assert np.abs(ridge @ ridge - ridge).max() > 0.01


def test_mirror_descent_is_a_softmax() -> None:
    """G15: arg min η⟨g, p⟩ + KL(p‖p_t) = softmax(log p_t - ηg): it is stationary, and every other p is worse by KL."""
    g, eta = RANDOM.normal(size=(200, 5)), 0.7
    step = lossjax.softmax(jnp.log(Q) - eta * g)

    def objective(p: Any) -> Any:
        return eta * jnp.sum(g * p, -1) + lossjax.kl_divergence(p, Q)

    excess = objective(P) - objective(step)
    np.testing.assert_allclose(excess, lossjax.kl_divergence(P, step), rtol=1e-11, atol=1e-13)
    slope = np.asarray(jax.grad(lambda p: jnp.sum(objective(p)))(step))
    assert np.abs(slope - slope.mean(-1, keepdims=True)).max() < 1e-13
    euclidean = lossjax.geometry.project_to_simplex(Q - eta * g)  # another geometry, another step
    assert np.min(objective(euclidean) - objective(step)) > 0


def test_losses_of_the_simplex_that_are_strictly_proper() -> None:
    """G18: the excess of the expected score is a Bregman divergence, KL for the logarithm, ‖p - q‖² for Brier's; the
    score 1 - p_c, which is linear, is improper.
    """
    z, labels = np.log(Q), np.broadcast_to(np.arange(5), (200, 5))

    def expected(score: Any, z: Any) -> Any:
        return np.sum(P * score(jnp.broadcast_to(z[:, None], (200, 5, 5)), labels), -1)

    for score, divergence in (
        (lossjax.softmax_cross_entropy_with_integer_labels, lossjax.kl_divergence(P, Q)),
        (lossjax.softmax_brier_score, np.sum((P - Q) ** 2, -1)),
    ):
        np.testing.assert_allclose(expected(score, z) - expected(score, np.log(P)), divergence, rtol=1e-11, atol=1e-13)
    one_hot = 30 * np.eye(5)[P.argmax(-1)]  # an honest forecaster is beaten by one who is certain
    linear = lambda z, c: 1 - jnp.take_along_axis(lossjax.softmax(z), c[..., None], -1)[..., 0]  # noqa: E731
    assert np.all(expected(linear, one_hot) < expected(linear, np.log(P)))
