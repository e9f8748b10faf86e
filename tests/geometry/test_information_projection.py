"""G6: Pythagoras for both information projections, moment matching, and where an equality is none."""

import functools

import jax
import numpy as np
import pytest

from lossjax.geometry import i_projection, m_projection
from tests.support.floats import unit
from tests.support.moment_problems import allowed, kl, moments_of, problem
from tests.support.quick import quick

PROBLEMS = [(2, 1, 1.0), (5, 2, 6.0), (33, 4, 3.0), (1, 1, 1.0)]
SOLVED = quick(functools.partial(i_projection, return_info=True))


@pytest.mark.covering
@pytest.mark.parametrize("shape", PROBLEMS)
def test_moments_and_pythagoras(shape, dtype):
    """KL(x‖q) = KL(x‖p*) + KL(p*‖q) where Tx = b: the difference is ⟨x - p*, log p*/q⟩ = ⟨λ, T(x - p*)⟩."""
    q, T, x = problem(*shape, dtype)
    p, info = SOLVED(q, T, moments_of(T, x, dtype))
    assert info.converged
    assert info.iterations <= 25
    p, wide = np.asarray(p, np.float64), T.astype(np.float64)
    off = allowed(T, q, p, dtype)
    size = np.abs(wide).max(axis=1)
    assert info.residual <= off
    assert np.max(np.abs(wide @ (p - x)) / size) <= 2 * off
    assert abs(p.sum() - 1) <= (8 + len(p)) * unit(dtype)
    z = np.linalg.lstsq(wide.T / size - wide[:, :1].T / size, np.log(p / q) - np.log(p[0] / q[0]), rcond=1e-6)
    exponents = np.abs(np.log(p / q)).max() + np.abs(np.log(q)).max()
    assert np.abs((wide - wide[:, :1]).T / size @ z[0] - np.log(p / q) + np.log(p[0] / q[0])).max() <= (
        64 * len(p) * unit(dtype) * (1 + exponents)
    )  # log p/q is a combination of the statistics: p is in the family
    gap = kl(x, q / q.astype(float).sum()) - kl(x, p / p.sum()) - kl(p / p.sum(), q / q.astype(float).sum())
    assert abs(gap) <= 2 * off * (1 + np.abs(z[0]).sum())


@pytest.mark.covering
@pytest.mark.parametrize("shape", PROBLEMS[:-1])
def test_m_projection_is_nearest_in_the_second_argument(shape, dtype):
    base, T, x = problem(*shape, dtype)
    fitted = np.asarray(quick(m_projection)(x.astype(dtype), T, base), np.float64)
    rng, wide = np.random.default_rng(0), T.astype(np.float64)
    off = allowed(T, base, fitted, dtype) + unit(dtype) * len(x)
    assert np.max(np.abs(wide @ (fitted - x)) / np.abs(wide).max(axis=1)) <= 2 * off
    for _ in range(5):
        weights = rng.normal(size=len(T)) / np.abs(wide).max(axis=1)
        member = base * np.exp(weights @ wide)
        member, exact = member / member.sum(), fitted / fitted.sum()
        gap = kl(x, member) - kl(x, exact) - kl(exact, member)
        size = np.abs(np.log(exact / member)).max() * len(T)
        assert abs(gap) <= 4 * off * (1 + size)
        assert kl(x, member) >= kl(x, exact) - 4 * off * (1 + size)


def test_the_two_words_are_two_points():
    """On one family E, arg min KL(p‖q) matches moments; arg min KL(q‖p), by search, is another point of it."""
    with jax.enable_x64(True):
        p, t = np.array([0.5, 0.05, 0.05, 0.4]), np.array([[0.0, 1.0, 2.0, 3.0]])
        lines = np.linspace(-3, 3, 20001)
        family = np.exp(lines[:, None] * t)
        family /= family.sum(axis=-1, keepdims=True)
        second = family[np.argmin(np.sum(p * np.log(p / family), axis=-1))]
        first = family[np.argmin(np.sum(family * np.log(family / p), axis=-1))]
        fitted = np.asarray(quick(m_projection)(p, t, np.full(4, 0.25)))
        assert np.abs(fitted - second).sum() < 1e-3  # the grid's step, times the variance of t
        assert np.abs(fitted - first).sum() > 0.01


def test_on_a_convex_set_pythagoras_is_an_inequality():
    """{p : Tp >= b}: where the constraint acts, the projection is that on Tp = b, and the excess is λ(Tp - b) > 0."""
    with jax.enable_x64(True):
        q, t, b = np.array([0.5, 0.3, 0.15, 0.05]), np.array([[0.0, 1.0, 2.0, 3.0]]), np.array([1.5])
        star = np.asarray(SOLVED(q, t, b)[0])
        multiplier = np.log(star[1] / q[1]) - np.log(star[0] / q[0])
        assert multiplier > 0
        for p in np.random.default_rng(0).dirichlet(np.ones(4), 50):
            excess = float((t @ p - b)[0])
            gap = kl(p, q) - kl(p, star) - kl(star, q)
            np.testing.assert_allclose(gap, multiplier * excess, atol=1e-14)
            if excess > 0.01:
                assert gap > 0


def test_in_the_second_argument_of_a_mixture_it_fails() -> None:
    """The counterexample: Pythagoras' inequality does not hold there."""
    p, star, q = np.array([0.1, 0.1, 0.4, 0.4]), np.full(4, 0.25), np.array([0.4, 0.1, 0.3, 0.2])
    np.testing.assert_allclose([kl(p, q), kl(p, star) + kl(star, q)], [0.25370, 0.31452], atol=1e-5)
