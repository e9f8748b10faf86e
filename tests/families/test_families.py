"""Exponential families (G1, G3, G12): the moments, the loss and the divergences against sums over the observations."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax import families
from lossjax.families import canonical_nll, deviance, kl_divergence
from lossjax.numerics import xi
from tests.support.floats import unit
from tests.support.quick import quick

U = 2.0**-53
NAN, INF = np.nan, np.inf


class Nodes(NamedTuple):
    """Observations to sum over, and the base measure h(y) dy of each."""

    observations: np.ndarray
    logarithm: np.ndarray


def on_the_line(log_h: Callable[[np.ndarray], np.ndarray]) -> Nodes:
    """The trapezoidal rule for densities on R: beyond ±40 and between the nodes, e^-y²/2σ² leaves nothing at σ < 2."""
    y = np.arange(-40 * 64, 40 * 64 + 1) / 64
    return Nodes(y, log_h(y) + math.log(y[1] - y[0]))


def on_the_half_line(log_h: Callable[[np.ndarray], np.ndarray]) -> Nodes:
    """The trapezoidal rule in x = log y: dy = y dx, and both tails decay exponentially at least."""
    x = np.arange(-90 * 128, 9 * 128 + 1) / 128
    return Nodes(np.exp(x), log_h(np.exp(x)) + x + math.log(x[1] - x[0]))


def counted(most: int, log_h: Callable[[int], float]) -> Nodes:
    return Nodes(np.arange(most + 1.0), np.array([log_h(k) for k in range(most + 1)]))


def negative_binomial(r: float) -> Nodes:
    return counted(900, lambda k: math.lgamma(k + r) - math.lgamma(k + 1) - math.lgamma(r))


FAMILIES: dict[str, families.Family] = {
    "gaussian": families.Gaussian(),
    "gaussian 2.5": families.Gaussian(2.5),
    "bernoulli": families.Bernoulli(),
    "poisson": families.Poisson(),
    "exponential": families.Exponential(),
    "gamma 2.5": families.Gamma(2.5),
    "negative binomial 3": families.NegativeBinomial(3.0),
    "negative binomial 0.7": families.NegativeBinomial(0.7),
    "inverse gaussian": families.InverseGaussian(),
    "categorical": families.Categorical(),
    "gaussian pair": families.GaussianUnknownVariance(),
}
NEGATIVE = ("exponential", "gamma 2.5", "negative binomial 3", "negative binomial 0.7", "inverse gaussian")
VECTORS = ("categorical", "gaussian pair")
SCALARS = [name for name in FAMILIES if name not in VECTORS]
WITH_DEVIANCE = [name for name in FAMILIES if name != "gaussian pair"]
NODES: dict[str, Nodes] = {
    "gaussian": on_the_line(lambda y: -0.5 * y * y - 0.5 * math.log(2 * math.pi)),
    "gaussian 2.5": on_the_line(lambda y: -0.2 * y * y - 0.5 * math.log(5 * math.pi)),
    "bernoulli": counted(1, lambda _: 0.0),
    "poisson": counted(200, lambda k: -math.lgamma(k + 1)),
    "exponential": on_the_half_line(lambda y: 0 * y),
    "gamma 2.5": on_the_half_line(lambda y: 1.5 * np.log(y) - math.lgamma(2.5)),
    "negative binomial 3": negative_binomial(3.0),
    "negative binomial 0.7": negative_binomial(0.7),
    "inverse gaussian": on_the_half_line(lambda y: -0.5 * np.log(2 * math.pi) - 1.5 * np.log(y) - 0.5 / y),
    "categorical": Nodes(np.eye(5), np.zeros(5)),
    "gaussian pair": on_the_line(lambda y: 0 * y - 0.5 * math.log(2 * math.pi)),
}
OF_SUMS = 4096 * U
"""Exponents up to some 10³, log y! and its like included, are known to that many u; so are their exponentials."""


def naturals(name: str, dtype: Any, count: int = 5, seed: int = 0) -> np.ndarray:
    """Moderate members, ``[count]`` or ``[count, n]``: all their mass lies among the nodes."""
    random = np.random.default_rng(seed)
    if name == "categorical":
        return random.normal(size=(count, 5)).astype(dtype)
    if name == "gaussian pair":
        return np.stack([random.normal(size=count), -random.uniform(0.2, 2, count)], axis=-1).astype(dtype)
    z = random.normal(size=count)
    return (-np.abs(z) - 0.125 if name in NEGATIVE else z).astype(dtype)


def observations(name: str, dtype: Any, count: int = 5, seed: int = 1) -> np.ndarray:
    """Inside the hull, none of them a mean."""
    random = np.random.default_rng(seed)
    if name == "categorical":
        return random.dirichlet(np.ones(5), count).astype(dtype)
    if name.startswith("gaussian"):
        return random.normal(size=count).astype(dtype)
    y = random.uniform(0.1, 0.9, count)
    return (y if name == "bernoulli" else 3 * y).astype(dtype)


def event_shape(name: str) -> tuple[int, ...]:
    return {"categorical": (5,), "gaussian pair": (2,)}.get(name, ())


EASIER = ("gaussian", "exponential", "negative binomial 0.7")
"""Of a class that is here with another parameter; and a parameter of 1 hides where it goes."""


def harder(name: str) -> Any:
    """A case of the fast tier, unless it is an easier one."""
    return pytest.param(name, marks=pytest.mark.slow if name in EASIER else ())


@pytest.fixture(params=[harder(n) for n in FAMILIES])
def name(request):
    return request.param


def close(got: Any, want: Any, units: float, size: Any = None) -> None:
    """Within so many u of the size (default: what is wanted), in float64's arithmetic."""
    got, want = np.asarray(got), np.asarray(want, np.float64)
    allowed = units * unit(got.dtype) * np.abs(np.asarray(want if size is None else size, np.float64))
    assert got.shape == want.shape, (got.shape, want.shape)
    wrong = ~(np.abs(got.astype(np.float64) - want) <= allowed)
    assert not wrong.any(), (got[wrong][:3], want[wrong][:3])


def probabilities(family: families.Family, nodes: Nodes, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The density of each node times its width, and T of the nodes ``[m, n]``, in float64."""
    statistic = np.asarray(family.sufficient_statistic(nodes.observations)).reshape(len(nodes.observations), -1)
    exponent = statistic @ np.atleast_1d(z) - float(family.log_partition(z)) + nodes.logarithm
    return np.exp(exponent), statistic


def assert_moments(family: families.Family, nodes: Nodes, z: np.ndarray) -> None:
    """h(y) e^(⟨z, T⟩ - A) sums to 1, T to the mean, and its products to the variance."""
    p, statistic = probabilities(family, nodes, z)
    close(p.sum(), 1.0, OF_SUMS / U)
    mean = np.asarray(family.mean(z)).reshape(-1)
    close(p @ statistic, mean, OF_SUMS / U, p @ np.abs(statistic))
    off = statistic - mean
    covariance = np.asarray(family.variance(z)).reshape(len(mean), len(mean))
    close(off.T @ (p[:, None] * off), covariance, OF_SUMS / U, np.abs(off).T @ (p[:, None] * np.abs(off)))


# --- the moments -----------------------------------------------------------------------------------------------------


@pytest.mark.covering
def test_moments_are_derivatives_of_the_log_partition(name, dtype):
    """G1: 5e-15 in float64 is 45u."""
    family, z = FAMILIES[name], naturals(name, dtype, 13)
    hessians = jax.hessian(family.log_partition), jax.jacrev(family.mean)

    @quick
    def of_rows(z: Any) -> Any:
        value, gradient = jax.vmap(jax.value_and_grad(family.log_partition))(z)
        return value, gradient, family.mean(z), family.variance(z), [jax.vmap(hessian)(z) for hessian in hessians]

    value, gradient, mean, variance, found = of_rows(z)
    for hessian in found:
        axes = tuple(range(1, hessian.ndim))
        close(
            hessian, variance, 45, np.broadcast_to(np.max(np.abs(variance), axis=axes, keepdims=True), variance.shape)
        )
    close(gradient, mean, 45)
    assert gradient.dtype == mean.dtype == variance.dtype == value.dtype == dtype
    assert variance.shape == z.shape + event_shape(name)


def test_moments_are_sums_over_the_observations(name):
    with jax.enable_x64(True):
        for z in naturals(name, np.float64):
            assert_moments(FAMILIES[name], NODES[name], z)


def test_wrong_moments_are_caught():
    """The planted faults: a mean, a variance, a log-partition 1 % off; a base measure of another shape."""

    class Wrong(families.Poisson):
        pass

    z = np.float64(0.5)
    with jax.enable_x64(True):
        for method in ("_log_partition", "_mean", "_variance"):
            family = Wrong()
            bare = getattr(family, method)
            object.__setattr__(family, method, lambda z, bare=bare: 1.01 * bare(z))
            with pytest.raises(AssertionError):
                assert_moments(family, NODES["poisson"], z)
        with pytest.raises(AssertionError):
            assert_moments(families.Gamma(2.0), NODES["gamma 2.5"], -z)
        assert_moments(Wrong(), NODES["poisson"], z)


# --- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.covering
def test_gradient_is_mean_minus_statistic(name, dtype):
    family = FAMILIES[name]
    z, y = naturals(name, dtype, 13), observations(name, dtype, 13)
    mean, statistic = jax.jit(lambda z, y: (family.mean(z), family.sufficient_statistic(y)))(z, y)
    in_z = jax.jit(jax.grad(lambda z: jnp.sum(canonical_nll(family, z, y) * weights(z))))(z)
    w = np.asarray(weights(z)).reshape(-1, *[1] * (z.ndim - 1))
    close(in_z, w * (np.float64(mean) - np.float64(statistic)), 16, w * (np.abs(mean) + np.abs(statistic)))


def weights(z: Any) -> Any:
    """A non-uniform cotangent of the losses."""
    return jnp.asarray(np.random.default_rng(3).uniform(-2, 2, len(z)).astype(z.dtype))


@pytest.mark.covering
def test_hessian_is_the_variance_whatever_the_target(name, dtype):
    family, z = FAMILIES[name], naturals(name, dtype, 7)
    y, other = observations(name, dtype, 7), observations(name, dtype, 7, seed=2)
    curved = jax.vmap(jax.hessian(lambda z, y: canonical_nll(family, z, y)))
    twice, targets = np.concatenate([z, z]), np.concatenate([y, other])
    hessians, variance = map(np.asarray, quick(lambda z, y: (curved(z, y), family.variance(z[:7])))(twice, targets))
    hessian, at_other = hessians[:7], hessians[7:]
    axes = tuple(range(1, hessian.ndim))
    scale = np.broadcast_to(np.max(np.abs(variance), axis=axes, keepdims=True), hessian.shape)
    # A difference of curvatures, as where (μ - y)(μ + y) + σ² is differentiated, may cost as much as y adds.
    far = 1 + np.abs(y) if name == "gaussian pair" else np.ones(1)
    close(hessian, variance, 45, scale * far.reshape(-1, *[1] * (hessian.ndim - 1)))
    if name != "gaussian pair":
        np.testing.assert_allclose(at_other, hessian, rtol=0, atol=45 * unit(dtype) * scale.max())


def test_variance_is_the_fisher_information(name):
    """The mean of the score is 0 and the mean of its square the variance; the variance is positive definite."""
    with jax.enable_x64(True):
        family, nodes = FAMILIES[name], NODES[name]
        score = jax.jit(jax.vmap(jax.grad(lambda z, y: canonical_nll(family, z, y)), (None, 0)))
        for z in naturals(name, np.float64):
            p, _ = probabilities(family, nodes, z)
            scores = np.asarray(score(z, nodes.observations)).reshape(len(p), -1)
            close(p @ scores, np.zeros(scores.shape[1]), OF_SUMS / U, p @ np.abs(scores))
            information = scores.T @ (p[:, None] * scores)
            variance = np.asarray(family.variance(z)).reshape(information.shape)
            close(information, variance, OF_SUMS / U, np.abs(scores).T @ (p[:, None] * np.abs(scores)))
            least = np.linalg.eigvalsh(variance)[0]
            assert abs(least) < 8 * U if name == "categorical" else least > 0.01  # a constant in the logits is free


def test_the_divergence_is_that_of_the_densities(name):
    """G3 for every family: Σ p log(p/q) over the nodes, by the definition from A, and as half a deviance of means."""
    with jax.enable_x64(True):
        family, nodes = FAMILIES[name], NODES[name]
        for z, w in zip(naturals(name, np.float64), naturals(name, np.float64, seed=4), strict=True):
            p, statistic = probabilities(family, nodes, z)
            surplus = float(family.log_partition(w)) - float(family.log_partition(z))
            logarithm = statistic @ np.atleast_1d(z - w) + surplus
            size = p @ (np.abs(statistic) @ np.abs(np.atleast_1d(z - w))) + abs(surplus)
            got = kl_divergence(family, z, w)
            close(p @ logarithm, got, OF_SUMS / U, size)
            bregman = surplus - np.sum(np.asarray(family.mean(z)) * (w - z))
            close(bregman, got, 64, size)
            if name in WITH_DEVIANCE:
                half = deviance(family, family.mean(w), family.mean(z)) / 2
                # the means are rounded, and their divergence feels that by the distance of the parameters
                close(half, got, 64, got + np.sum(np.abs(np.asarray(family.mean(z)) * (w - z))))


def test_gaussians_apart_by_their_squared_error(dtype):
    """G3: (a - b)²/2σ², and ½ξ(s₁ - s₂) + ½(μ₁ - μ₂)²e^-s₂ with s = log σ²."""
    random = np.random.default_rng(5)
    a, b = random.normal(size=(2, 9)).astype(dtype)
    for variance in (1.0, 2.5):
        got = kl_divergence(families.Gaussian(variance), a / dtype.type(variance), b / dtype.type(variance))
        close(got, (np.float64(a) - b) ** 2 / (2 * variance), 32, (np.abs(a) + np.abs(b)) ** 2 / (2 * variance))
    s, t = random.normal(size=(2, 9)).astype(dtype)

    def natural(mean: Any, log_variance: Any) -> Any:
        return jnp.stack([mean * jnp.exp(-log_variance), -0.5 * jnp.exp(-log_variance)], axis=-1)

    got = kl_divergence(families.GaussianUnknownVariance(), natural(a, s), natural(b, t))
    known = 0.5 * np.float64(xi(s - t)) + 0.5 * (np.float64(a) - b) ** 2 * np.exp(-np.float64(t))
    # the parameters are rounded: u(|a| + |b|) in the distance of the means, u in the variances
    close(got, known, 32, 1 + np.abs(s - t) + np.exp(s - t) + (np.abs(a) + np.abs(b)) ** 2 * np.exp(-t))


# --- convexity, and what a link that is not canonical costs ----------------------------------------------------------


def test_g12_convex_in_natural_parameters_alone():
    with jax.enable_x64(True):
        random = np.random.default_rng(6)
        mu, y, s = random.normal(size=(3, 11))
        hessian = np.asarray(
            quick(jax.vmap(jax.hessian(lambda a, y: lossjax.gaussian_nll(a[0], y, log_variance=a[1]))))(
                np.stack([mu, s], axis=-1), y
            )
        )
        determinant = hessian[:, 0, 0] * hessian[:, 1, 1] - hessian[:, 0, 1] * hessian[:, 1, 0]
        close(determinant, -0.5 * (mu - y) ** 2 * np.exp(-2 * s), 64)  # ½r²e^-2s - r²e^-2s: no digit is lost
        assert np.all(np.linalg.eigvalsh(hessian)[:, 0] < 0)
        z = np.stack([mu * np.exp(-s), -0.5 * np.exp(-s)], axis=-1)
        pair = families.GaussianUnknownVariance()
        convex = quick(jax.vmap(jax.hessian(lambda z, y: canonical_nll(pair, z, y))))(z, y)
        assert np.all(np.linalg.eigvalsh(convex)[:, 0] > 0)


def test_g1_other_links_carry_their_slope_over_the_variance():
    """∂L/∂η = (μ - y) μ'(η)/V(μ); squared error of a sigmoid is p'(η) (p - y), without the 1/V: there it saturates."""
    with jax.enable_x64(True):
        eta, y = np.random.default_rng(7).normal(size=9), np.random.default_rng(8).uniform(size=9)

        def probit(eta: Any) -> Any:
            mu = jax.scipy.special.ndtr(eta)
            return jnp.log(mu / (1 - mu))

        gaussian, bernoulli = families.Gaussian(2.5), families.Bernoulli()
        wrong = np.array([-20.0, -8.0])  # confidently wrong: the target is 1

        @jax.jit
        def found(eta: Any, wrong: Any) -> Any:
            slopes = [
                jax.grad(lambda e: jnp.sum(canonical_nll(bernoulli, probit(e), y)))(eta),
                jax.grad(lambda e: jnp.sum(canonical_nll(gaussian, jnp.exp(e) / 2.5, y)))(eta),
                jax.grad(lambda z: jnp.sum(0.5 * (jax.nn.sigmoid(z) - 1) ** 2))(wrong),
                jax.grad(lambda z: jnp.sum(canonical_nll(bernoulli, z, np.ones(2))))(wrong),
            ]
            return slopes, jax.scipy.special.ndtr(eta), bernoulli.mean(wrong), bernoulli.variance(wrong)

        (of_probit, of_gaussian, squared, canonical), *others = found(eta, wrong)
        mu, p, variance = map(np.asarray, others)
        slope = np.exp(-(eta**2) / 2) / math.sqrt(2 * math.pi)
        size = (mu + y) * slope / (mu * (1 - mu))
        close(of_probit, (mu - y) * slope / (mu * (1 - mu)), 64, size)
        close(of_gaussian, (np.exp(eta) - y) * np.exp(eta) / 2.5, 16, (np.exp(eta) + y) * np.exp(eta))
        close(squared, (p - 1) * p * (1 - p), 16)
        close(squared / canonical, variance, 16)
        assert np.all(np.abs(squared) < 1e-3)
        assert np.all(np.abs(canonical) > 0.999)
