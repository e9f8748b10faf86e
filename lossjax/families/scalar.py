"""The families of one number. An observation y is its own sufficient statistic; the mean is the derivative of A."""

import dataclasses
import math

import jax.numpy as jnp
from jax import Array

from lossjax._rules.families import bernoulli, inverse_gaussian, negative_binomial, negative_binomial_entropy, poisson
from lossjax._rules.positive import binary_entropy, itakura_saito
from lossjax._rules.probabilities import relative_entropy
from lossjax.families.family import Family, positive_number
from lossjax.numerics import expm1, log1p, quotient, sigmoid, softplus, times


def _not_nan(z: Array) -> Array:
    return ~jnp.isnan(z)


def _negative(z: Array) -> Array:
    return (z < 0) & jnp.isfinite(z)


@dataclasses.dataclass(frozen=True)
class Gaussian(Family):
    """y ~ N(μ, σ²) with known variance: z = μ/σ², A = ½σ²z². Its loss is the squared error's, less ½y²/σ².

    Attributes:
      noise_variance: σ², a Python number, 1 unless given.
    """

    noise_variance: float = 1.0

    def __post_init__(self) -> None:
        """Refuse anything but a positive number."""
        positive_number("Gaussian", "noise_variance", self.noise_variance)

    def _log_partition(self, z: Array) -> Array:
        return 0.5 * self.noise_variance * jnp.square(z)

    def _mean(self, z: Array) -> Array:
        return self.noise_variance * z

    def _variance(self, z: Array) -> Array:
        return self.noise_variance + 0 * z

    def _inside(self, z: Array) -> Array:
        return jnp.isfinite(z)

    def _supports(self, y: Array) -> Array:
        return _not_nan(y)

    def _loss(self, z: Array, y: Array) -> Array:
        return z * (0.5 * self.noise_variance * z - y)  # Two products could overflow where this does not.

    def _divergence(self, p: Array, q: Array) -> Array:
        return 0.5 * self.noise_variance * jnp.square(q - p)

    def _half_deviance(self, y: Array, mean: Array) -> Array:
        return 0.5 * jnp.square(y - mean) / self.noise_variance


@dataclasses.dataclass(frozen=True)
class Bernoulli(Family):
    """y in {0, 1} (or [0, 1]) with z the logit: A = log(1 + e^z). Its loss is the binary cross-entropy."""

    def _log_partition(self, z: Array) -> Array:
        return softplus(z)

    def _mean(self, z: Array) -> Array:
        return sigmoid(z)

    def _variance(self, z: Array) -> Array:
        return sigmoid(z) * sigmoid(-z)

    def _inside(self, z: Array) -> Array:
        return _not_nan(z)

    def _supports(self, y: Array) -> Array:
        return (y >= 0) & (y <= 1)

    def _loss(self, z: Array, y: Array) -> Array:
        # This is softplus(z) - yz, written as two non-negative terms.
        return times(y, softplus(-z)) + times(1 - y, softplus(z))

    def _mean_minus_target(self, z: Array, y: Array) -> Array:
        return (1 - y) * sigmoid(z) - y * sigmoid(-z)

    def _divergence(self, p: Array, q: Array) -> Array:
        return bernoulli(p, q)

    def _half_deviance(self, y: Array, mean: Array) -> Array:
        return binary_entropy(y, mean)


@dataclasses.dataclass(frozen=True)
class Poisson(Family):
    """Counts y >= 0 with z the logarithm of the rate: A = e^z. Its loss is :func:`lossjax.poisson_nll`."""

    def _log_partition(self, z: Array) -> Array:
        return jnp.exp(z)

    def _mean(self, z: Array) -> Array:
        return jnp.exp(z)

    def _variance(self, z: Array) -> Array:
        return jnp.exp(z)

    def _inside(self, z: Array) -> Array:
        return _not_nan(z)

    def _supports(self, y: Array) -> Array:
        return y >= 0

    def _loss(self, z: Array, y: Array) -> Array:
        return jnp.where(jnp.isposinf(z), z, jnp.exp(z) - times(y, z))

    def _divergence(self, p: Array, q: Array) -> Array:
        return poisson(p, q)

    def _half_deviance(self, y: Array, mean: Array) -> Array:
        return relative_entropy(y, mean)


@dataclasses.dataclass(frozen=True)
class Gamma(Family):
    """Waiting times y >= 0 of known shape k: z = -rate < 0, A = -k log(-z), mean -k/z, variance k/z².

    Attributes:
      shape: k, a Python number.
    """

    shape: float

    def __post_init__(self) -> None:
        """Refuse anything but a positive number."""
        positive_number(type(self).__name__, "shape", self.shape)

    def _log_partition(self, z: Array) -> Array:
        return -self.shape * jnp.log(-z)

    def _mean(self, z: Array) -> Array:
        return quotient(jnp.full_like(z, self.shape), -z)

    def _variance(self, z: Array) -> Array:
        return self.shape / jnp.square(z)

    def _inside(self, z: Array) -> Array:
        return _negative(z)

    def _supports(self, y: Array) -> Array:
        return y >= 0

    def _divergence(self, p: Array, q: Array) -> Array:
        return self.shape * itakura_saito(-q, -p)

    def _half_deviance(self, y: Array, mean: Array) -> Array:
        return self.shape * itakura_saito(y, mean)


@dataclasses.dataclass(frozen=True)
class Exponential(Gamma):
    """Waiting times y >= 0: the gamma law of shape 1. A = -log(-z), mean -1/z, variance the mean's square."""

    shape: float = dataclasses.field(default=1.0, init=False, repr=False)


@dataclasses.dataclass(frozen=True)
class NegativeBinomial(Family):
    """Counts y >= 0 of variance μ + μ²/r: z = log(μ/(μ + r)) < 0, A = -r log(1 - e^z), mean r e^z/(1 - e^z).

    Attributes:
      r: the number of failures (the inverse dispersion), a Python number.
    """

    r: float

    def __post_init__(self) -> None:
        """Refuse anything but a positive number."""
        positive_number("NegativeBinomial", "r", self.r)

    def _log_partition(self, z: Array) -> Array:
        # log(1 - e^z) is formed from whichever of 1 - e^z and e^z is the smaller.
        near = z > -math.log(2)
        return -self.r * jnp.where(
            near, jnp.log(-expm1(jnp.where(near, z, -1))), log1p(-jnp.exp(jnp.where(near, -1, z)))
        )

    def _mean(self, z: Array) -> Array:
        return self.r * _odds(z)

    def _variance(self, z: Array) -> Array:
        odds = _odds(z)
        return self.r * odds * (1 + odds)

    def _inside(self, z: Array) -> Array:
        return z < 0

    def _supports(self, y: Array) -> Array:
        return y >= 0

    def _divergence(self, p: Array, q: Array) -> Array:
        return self.r * negative_binomial(p, q)

    def _half_deviance(self, y: Array, mean: Array) -> Array:
        return negative_binomial_entropy(float(self.r), y, mean)


def _odds(z: Array) -> Array:
    """``e^z/(1 - e^z)``, whose derivative is odds·(1 + odds)."""
    return quotient(jnp.exp(z), -expm1(z))


@dataclasses.dataclass(frozen=True)
class InverseGaussian(Family):
    """First passage times y >= 0 of unit shape: z = -1/(2μ²) < 0, A = -√(-2z), mean 1/√(-2z), variance its cube."""

    def _log_partition(self, z: Array) -> Array:
        return -_inverse_mean(z)

    def _mean(self, z: Array) -> Array:
        return 1 / _inverse_mean(z)

    def _variance(self, z: Array) -> Array:
        return 1 / _inverse_mean(z) ** 3

    def _inside(self, z: Array) -> Array:
        return _negative(z)

    def _supports(self, y: Array) -> Array:
        return y >= 0

    def _divergence(self, p: Array, q: Array) -> Array:
        # With s = √(-2z) it is (s_q - s_p)²/(2 s_p), where s_q - s_p = 2(p - q)/(s_q + s_p).
        s_p, s_q = _inverse_mean(p), _inverse_mean(q)
        return 2 * jnp.square((p - q) / (s_p + s_q)) / s_p

    def _half_deviance(self, y: Array, mean: Array) -> Array:
        return inverse_gaussian(y, mean)


def _inverse_mean(z: Array) -> Array:
    """``1/μ = √(-2z)`` of the inverse Gaussian."""
    return jnp.sqrt(-2 * z)
