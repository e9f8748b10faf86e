"""Laplace, Student-t and Poisson likelihoods, Huber and quantile losses: limits, minimisers, edges, refusals."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx

from lossjax import gaussian_nll, huber_loss, laplace_nll, log_cosh, poisson_nll, quantile_loss, student_t_nll
from lossjax._rules import likelihood as rules
from tests.support.floats import unit

U = 2.0**-24
INF, NAN = np.inf, np.nan
Y = np.float32([0.0, 0.25, 1.0, 4.0, 9.0])


def lowest(loss: Callable[..., jax.Array], grid: np.ndarray) -> float:
    """The constant prediction with the least mean loss on Y."""
    return float(grid[np.argmin([np.mean(loss(jnp.full(5, m), Y)) for m in grid.astype(np.float32)])])


def test_minimisers() -> None:
    """Absolute error: the median; pinball: the quantile; Student-t: near the bulk; Poisson: the mean."""
    grid = np.arange(0, 10, 0.25)
    assert lowest(laplace_nll, grid) == 1.0
    assert lowest(lambda m, y: quantile_loss(m, y, level=0.3), grid) == 0.25
    assert lowest(lambda m, y: quantile_loss(m, y, level=0.7), grid) == 4.0
    assert lowest(lambda m, y: student_t_nll(m, y, degrees_of_freedom=0.5), grid) < 1
    mean = np.log(Y.mean())
    assert abs(float(jax.grad(lambda z: poisson_nll(jnp.full(5, z), Y, reduction="mean"))(mean))) < 8 * U * Y.mean()


def test_student_t_tends_to_the_gaussian() -> None:
    mean, target = jnp.float32([0, 1, -2, 5]), jnp.float32([0, 0, 1, 1])
    got = student_t_nll(mean, target, degrees_of_freedom=1e7)
    np.testing.assert_allclose(got, gaussian_nll(mean, target), rtol=2e-5)
    cauchy = student_t_nll(mean, target, degrees_of_freedom=1.0, log_scale=0.5)
    r = np.float64(mean - target)
    np.testing.assert_allclose(cauchy, np.log(math.pi) + 0.5 + np.log1p(r * r * math.exp(-1)), rtol=8 * U)


def test_student_t_at_extremes() -> None:
    """A residual whose square overflows still has a logarithm; and the densities integrate to 1."""
    value, slope = jax.value_and_grad(lambda m: student_t_nll(m, jnp.float32(0), degrees_of_freedom=3.0))(
        jnp.float32(1e30)
    )
    np.testing.assert_allclose(value, 4 * np.log(1e30) + np.log(math.pi / 2) + np.log(3**-1.5), rtol=1e-5)
    np.testing.assert_allclose(slope, 4e-30, rtol=8 * U)
    grid = jnp.linspace(-400, 400, 400001, dtype=jnp.float32)
    for nu in (2.0, 5.0, 40.0):
        density = np.exp(-np.float64(student_t_nll(grid, grid * 0, degrees_of_freedom=nu)))
        assert abs(density.sum() * 0.002 - 1) < (2e-5 if nu == 2 else 1e-6)


def test_poisson_is_a_density() -> None:
    counts = jnp.arange(200.0)
    for rate in (0.1, 3.0, 60.0):
        nll = poisson_nll(jnp.full(200, math.log(rate), jnp.float32), counts, full=True)
        assert abs(np.exp(-np.float64(nll)).sum() - 1) < 64 * U * 400
    assert poisson_nll(jnp.float32(-INF), jnp.float32(0)) == 0
    assert poisson_nll(jnp.float32(-INF), jnp.float32(1)) == INF
    value, slope = jax.value_and_grad(poisson_nll)(jnp.float32(1), jnp.float32(-1))
    assert np.isnan(value)
    assert np.isnan(slope)


def test_masked_entries() -> None:
    bad, kept = jnp.float32([NAN, 1.0]), jnp.array([False, True])
    losses = {
        "huber": lambda a: huber_loss(a, a * 0, where=kept, reduction="mean"),
        "log_cosh": lambda a: log_cosh(a, a * 0, where=kept, reduction="mean"),
        "quantile": lambda a: quantile_loss(a, jnp.zeros(2), where=kept, reduction="mean"),
        "laplace": lambda a: laplace_nll(a, jnp.zeros(2), log_scale=bad, where=kept, reduction="mean"),
        "student": lambda a: student_t_nll(a, jnp.zeros(2), degrees_of_freedom=2.0, where=kept, reduction="mean"),
        "poisson": lambda a: poisson_nll(a, jnp.float32([NAN, 2]), full=True, where=kept, reduction="mean"),
    }
    for name, loss in losses.items():
        value = loss(bad)
        assert np.isfinite(value), name
    gradient = jax.grad(losses["laplace"])(bad)
    assert gradient[0] == 0
    assert np.isfinite(jax.grad(losses["student"])(bad)[1])


def test_huber_and_log_cosh_at_infinity() -> None:
    r = jnp.float32([INF, -INF, NAN, 0])
    for loss in (huber_loss, log_cosh):
        np.testing.assert_array_equal(loss(r, jnp.zeros(4)), [INF, INF, NAN, 0])
        np.testing.assert_array_equal(jax.grad(lambda r, f=loss: f(r, jnp.zeros(4)).sum())(r), [1, -1, NAN, 0])


def test_refusals() -> None:
    r = jnp.ones(3)
    with pytest.raises(ValueError, match="delta must be greater than 0, got a minimum of 0"):
        huber_loss(r, r, delta=0)
    with pytest.raises(ValueError, match="level must be at most 1, got a maximum of"):
        quantile_loss(r, r, level=1.5)
    with pytest.raises(ValueError, match="degrees_of_freedom must be greater than 0"):
        student_t_nll(r, r, degrees_of_freedom=-1.0)
    with pytest.raises(ValueError, match=r"log_scale has shape \(2,\), wanted one that broadcasts to \(3,\)"):
        laplace_nll(r, r, log_scale=jnp.zeros(2))
    with pytest.raises(ValueError, match="reduction must be one of"):
        poisson_nll(r, r, reduction="average")


def test_an_overflowing_rate_needs_no_fused_arithmetic() -> None:
    """Operation by operation, e^z and t z both overflow, and their difference would be NaN without a fused product."""
    with jax.disable_jit():
        value, slope = jax.value_and_grad(poisson_nll)(jnp.float32(3e38), jnp.float32(2))
    assert value == np.inf
    assert slope == np.inf


def test_the_constant_of_student_t_and_its_slope_do_not_cancel(dtype: np.dtype) -> None:
    """Of one to three roundings a step, of sixteen steps of one sign that are added: at most 20u."""
    nu = np.exp(np.linspace(np.log(1e-8), np.log(1e8), 301)).astype(dtype)
    found = jax.jit(jax.vmap(jax.value_and_grad(rules.normalizer)))(nu)
    with ctx.workprec(400):
        x = [arb(float(n)) / 2 for n in nu]
        values = [a.log() / 2 + a.lgamma() - (a + arb(0.5)).lgamma() for a in x]
        slopes = [(1 / (2 * a) + a.digamma() - (a + arb(0.5)).digamma()) / 2 for a in x]
        for got, want in zip(found, (values, slopes), strict=True):
            errors = [float(abs(arb(float(g)) / w - 1)) for g, w in zip(got, want, strict=True)]
            assert max(errors) <= 20 * unit(dtype)
