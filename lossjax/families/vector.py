"""The families whose natural parameter is a vector on the last axis."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from lossjax._core import checks
from lossjax._core.autodiff import closed_form
from lossjax._core.domains import AMOUNTS, Domain
from lossjax._core.masks import nan_unless
from lossjax._rules.logit_divergences import kl_of_logits
from lossjax._rules.positive import itakura_saito
from lossjax._rules.probabilities import relative_entropy
from lossjax._softmax import functions, row_statistics
from lossjax.families.family import Family
from lossjax.numerics import times


@dataclasses.dataclass(frozen=True)
class Categorical(Family):
    """One of n classes, y a distribution ``[..., n]``, z its logits: A = log Σ e^z, mean softmax(z), variance J(p̂).

    Its loss is :func:`lossjax.softmax_cross_entropy`. The parametrisation has one dimension too many: a constant added
    to all logits changes nothing, and the variance is singular.
    """

    event: ClassVar[int] = 1

    def _log_partition(self, z: Array) -> Array:
        return functions.log_sum_exp(z)

    def _mean(self, z: Array) -> Array:
        return functions.softmax(z)

    def _variance(self, z: Array) -> Array:
        rows = row_statistics.row_statistics(z)
        basis = jnp.broadcast_to(jnp.eye(z.shape[-1], dtype=z.dtype), (*z.shape, z.shape[-1]))
        each = jax.tree.map(lambda part: part[..., None, :], rows)
        return functions.fisher_product(jnp.broadcast_to(z[..., None, :], basis.shape), each, basis)

    def _inside(self, z: Array) -> Array:
        return ~jnp.isnan(z).any(axis=-1)

    def _observations(self) -> Domain:
        return AMOUNTS

    def _supports(self, y: Array) -> Array:
        return AMOUNTS.contains(y).all(axis=-1)

    def _loss(self, z: Array, y: Array) -> Array:
        rows = row_statistics.row_statistics(z)
        loss = jnp.sum(times(y, row_statistics.surprisal(z, rows)), axis=-1)
        return nan_unless(~jnp.isnan(rows.rest[..., 0]), loss)  # A target of 0 must not silence it.

    def _mean_minus_target(self, z: Array, y: Array) -> Array:
        return functions.cross_entropy_slope(z, row_statistics.row_statistics(z).stopped(), y)

    def _in_targets(self, z: Array, y: Array) -> Array:
        return -functions.log_softmax(z)

    def _divergence(self, p: Array, q: Array) -> Array:
        return kl_of_logits(p, q)

    def _half_deviance(self, y: Array, mean: Array) -> Array:
        return jnp.sum(relative_entropy(y, mean), axis=-1)


@dataclasses.dataclass(frozen=True)
class GaussianUnknownVariance(Family):
    """y ~ N(μ, σ²), both unknown: z = (μ/σ², -1/(2σ²)) on the last axis, T(y) = (y, y²), A = μ²/(2σ²) + ½ log σ².

    In these parameters the loss is convex; in (μ, log σ²), where :func:`lossjax.gaussian_nll` lives, it is not. The two
    losses differ by ½ log 2π only. The variance is that of T: [[σ², 2μσ²], [2μσ², 4μ²σ² + 2σ⁴]].
    """

    event: ClassVar[int] = 1
    has_deviance: ClassVar[bool] = False

    def _check_event(self, name: str, array: Array) -> None:
        if array.shape[-1:] != (2,):
            raise ValueError(f"{name} has shape {array.shape}, wanted [..., 2]: μ/σ² and -1/(2σ²)")

    def _check_observations(self, name: str, parameters: Array, targets: Array) -> None:
        self._check_event(name, parameters)
        wanted = parameters.shape[:-1]
        checks.same_shape("targets", targets.shape, f"of {name}'s rows", wanted, "give one observation a row")

    def _log_partition(self, z: Array) -> Array:
        return 0.5 * (_moments(z)[0] * z[..., 0] - jnp.log(-2 * z[..., 1]))  # σ² is rounded; its inverse is not.

    def _mean(self, z: Array) -> Array:
        mean, variance = _moments(z)
        return jnp.stack([mean, jnp.square(mean) + variance], axis=-1)

    def _variance(self, z: Array) -> Array:
        mean, variance = _moments(z)
        mixed = 2 * mean * variance
        last = 4 * jnp.square(mean) * variance + 2 * jnp.square(variance)
        return jnp.stack([jnp.stack([variance, mixed], axis=-1), jnp.stack([mixed, last], axis=-1)], axis=-1)

    def _inside(self, z: Array) -> Array:
        return (z[..., 1] < 0) & jnp.isfinite(z).all(axis=-1)

    def _supports(self, y: Array) -> Array:
        return y == y

    def _statistic(self, y: Array) -> Array:
        return jnp.stack([y, jnp.square(y)], axis=-1)

    def _loss(self, z: Array, y: Array) -> Array:
        # A - ⟨z, T⟩ = ½ log σ² + ½ (y - μ)²/σ²: the squares cancel on paper, not in floating point.
        precision = -2 * z[..., 1]
        return 0.5 * (jnp.square((y - _moments(z)[0]) * jnp.sqrt(precision)) - jnp.log(precision))

    def _mean_minus_target(self, z: Array, y: Array) -> Array:
        # The second entry is μ² + σ² - y² = (μ - y)(μ + y) + σ².
        mean, variance = _moments(z)
        return jnp.stack([mean - y, (mean - y) * (mean + y) + variance], axis=-1)

    def _in_targets(self, z: Array, y: Array) -> Array:
        mean, variance = _moments(z)
        return (y - mean) / variance

    def _divergence(self, p: Array, q: Array) -> Array:
        return _gaussian_divergence(p, q)


def _moments(z: Array) -> tuple[Array, Array]:
    """The mean μ and the variance σ²."""
    return z[..., 0] / (-2 * z[..., 1]), -0.5 / z[..., 1]


# Let z = (a, b) with b = -1/2σ², and x = (a_q - a_p) + 2μ_p (b_q - b_p), which is (μ_q - μ_p)/σ_q². Then
#
#     D = ½(ρ - 1 - log ρ) + ½(μ_q - μ_p)²/σ_q²,    with ρ = σ_p²/σ_q² = b_q/b_p  and  (μ_q - μ_p)²/σ_q² = x²/(-2b_q)
#     in q:   the mean of T under q less that under p,  (μ_q - μ_p,  (μ_q - μ_p)(μ_q + μ_p) + σ_q² - σ_p²)
#     in p:   -∇²A(z_p)(q - p)
#
# where μ_q - μ_p = σ_q² x.


def _gaussian_divergence_forward(p: Array, q: Array) -> tuple[Array, tuple[Array, Array]]:
    b_p, b_q = p[..., 1], q[..., 1]
    return 0.5 * itakura_saito(-b_q, -b_p) + 0.25 * jnp.square(_standardized_step(p, q) / jnp.sqrt(-b_q)), (p, q)


def _gaussian_divergence_backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    p, q = saved
    (mean_p, variance_p), (mean_q, variance_q) = _moments(p), _moments(q)
    x, step = _standardized_step(p, q), q[..., 1] - p[..., 1]
    apart = variance_q * x
    in_p = -variance_p * x, -2 * variance_p * (mean_p * x + variance_p * step)
    in_q = apart, apart * (mean_q + mean_p) + 2 * variance_p * step * variance_q
    return cotangent[..., None] * jnp.stack(in_p, axis=-1), cotangent[..., None] * jnp.stack(in_q, axis=-1)


def _standardized_step(p: Array, q: Array) -> Array:
    """``x = (μ_q - μ_p)/σ_q²``, by differences of the parameters where the variances are close."""
    (a_p, b_p), (a_q, b_q) = ((z[..., 0], z[..., 1]) for z in (p, q))
    ratio = b_q / b_p
    close = (ratio > 0.5) & (ratio < 2)
    return jnp.where(close, (a_q - a_p) - a_p * ((b_q - b_p) / b_p), a_q - a_p * ratio)


_gaussian_divergence = closed_form(_gaussian_divergence_forward, _gaussian_divergence_backward)
"""``(p, q) -> D``, the divergence of Gaussians with natural parameters ``[..., 2]``."""
