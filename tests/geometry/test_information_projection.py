"""G6: Pythagoras for both information projections, moment matching, infeasible moments, and the derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax.geometry import i_projection, m_projection


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


RANDOM = np.random.default_rng(0)
Q, DATA = RANDOM.dirichlet(np.ones(5)), RANDOM.dirichlet(np.ones(5))
T = np.array([[0.0, 1.0, 2.0, 3.0, 4.0], [1.0, -1.0, 0.5, 0.0, 2.0]])
kl = lossjax.kl_divergence


def test_i_projection_satisfies_pythagoras() -> None:
    """KL(p‖q) = KL(p‖p*) + KL(p*‖q) for every p of the linear family."""
    projected = i_projection(Q, T, T @ DATA)
    np.testing.assert_allclose(T @ projected, T @ DATA, atol=1e-14)
    np.testing.assert_allclose(kl(DATA, Q), kl(DATA, projected) + kl(projected, Q), atol=1e-14)
    assert kl(projected, Q) < kl(DATA, Q)


def test_m_projection_matches_moments_and_is_the_nearest_of_the_family() -> None:
    """KL(p‖q) = KL(p‖q*) + KL(q*‖q) for every q of the exponential family."""
    fitted = m_projection(DATA, T, Q)
    np.testing.assert_allclose(T @ fitted, T @ DATA, atol=1e-14)
    for weights in ([0.3, -0.2], [-1.0, 0.5]):
        member = lossjax.softmax(jnp.log(Q) + jnp.asarray(weights) @ T)
        np.testing.assert_allclose(kl(DATA, member), kl(DATA, fitted) + kl(fitted, member), atol=1e-14)


def test_in_the_second_argument_of_a_mixture_it_fails() -> None:
    """The counterexample: Pythagoras' inequality does not hold there."""
    p, star, q = np.array([0.1, 0.1, 0.4, 0.4]), np.full(4, 0.25), np.array([0.4, 0.1, 0.3, 0.2])
    np.testing.assert_allclose([kl(p, q), kl(p, star) + kl(star, q)], [0.25370, 0.31452], atol=1e-5)


def test_infeasible_moments_are_reported() -> None:
    with pytest.raises(ValueError, match="no distribution on the support of q has these moments"):
        i_projection(Q, T[:1], np.array([9.0]))
    assert np.isnan(jax.jit(lambda b: i_projection(Q, T[:1], b))(np.array([9.0]))).all()


def test_zeros_stay_and_redundant_rows_are_harmless() -> None:
    hollow = np.array([0.0, 0.4, 0.3, 0.2, 0.1])
    projected = i_projection(hollow, T[:1], np.array([2.5]))
    assert projected[0] == 0
    np.testing.assert_allclose(T[0] @ projected, 2.5, atol=1e-14)
    twice = i_projection(hollow, np.stack([T[0], 2 * T[0], np.ones(5)]), np.array([2.5, 5.0, 1.0]))
    np.testing.assert_allclose(twice, projected, atol=1e-13)


def test_the_derivative_is_that_of_the_implicit_function() -> None:
    """Against central differences, in q, T and b, by reverse and forward mode."""
    b = T @ DATA
    weight = RANDOM.normal(size=5)
    value = lambda q, t, b: jnp.sum(jnp.asarray(weight) * i_projection(q, t, b))  # noqa: E731
    arguments = (jnp.asarray(Q), jnp.asarray(T), jnp.asarray(b))
    gradient = jax.grad(value, (0, 1, 2))(*arguments)
    for k, argument in enumerate(arguments):
        direction = jnp.asarray(RANDOM.normal(size=argument.shape)) * 1e-3
        moved = [(*arguments[:k], argument + s * 1e-2 * direction, *arguments[k + 1 :]) for s in (1, -1)]
        central = (value(*moved[0]) - value(*moved[1])) / 2e-2
        np.testing.assert_allclose(jnp.sum(gradient[k] * direction), central, rtol=1e-6, atol=1e-12)
        tangents = tuple(direction if i == k else jnp.zeros_like(a) for i, a in enumerate(arguments))
        np.testing.assert_allclose(jax.jvp(value, arguments, tangents)[1], central, rtol=1e-6, atol=1e-12)
