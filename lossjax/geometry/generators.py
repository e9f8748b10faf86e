r"""Convex functions φ, each with its gradient, its conjugate and its divergence (chapter 4.1, §4.1.5).

A generator works on the last axis, n, of arrays of floats ``[..., n]``. Its ``value``, ``conjugate`` and ``divergence``
return ``[...]``; its ``gradient`` and the inverse of that, ``conjugate_gradient``, return ``[..., n]``, in float32 or
wider. A generator is a pytree, so that ``jax.jit`` takes it as an argument.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._rules.logit_divergences import kl_of_logits
from lossjax._rules.positive import binary_entropy, exponential, itakura_saito, power_divergence
from lossjax._rules.probabilities import relative_entropy
from lossjax._softmax.functions import log_sum_exp, softmax
from lossjax.geometry._vectors import vectors
from lossjax.numerics import log_ratio, sigmoid, softplus, xlogy


def registered(cls: type[Any]) -> type[Any]:
    """Make a class a frozen dataclass whose fields are pytree leaves."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


@registered
class SquaredEuclidean:
    """φ = ½‖x‖² on R^n. D = ½‖p - q‖², half the *squared* distance: the loss of a Gaussian, self-dual, symmetric."""

    def value(self, x: ArrayLike) -> Array:
        """½‖x‖²."""
        (x,) = vectors(x=x)
        return 0.5 * jnp.sum(jnp.square(x), axis=-1)

    def gradient(self, x: ArrayLike) -> Array:
        """The vector itself."""
        return vectors(x=x)[0]

    def conjugate(self, theta: ArrayLike) -> Array:
        """½‖θ‖²."""
        return self.value(theta)

    def conjugate_gradient(self, theta: ArrayLike) -> Array:
        """The vector itself."""
        return vectors(theta=theta)[0]

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """½‖p - q‖²."""
        p, q = vectors(p=p, q=q)
        return self.value(p - q)


@registered
class NegativeEntropy:
    """φ = Σ x log x on x >= 0. D = Σ p log(p/q) - p + q, the Kullback-Leibler divergence where Σp = Σq.

    For q on the boundary it is +inf exactly where some p_i > 0 = q_i; 0 log 0 = 0. The gradient in p is log(p/q), which
    is -inf at p_i = 0 < q_i, and 0 where both are 0.
    """

    def value(self, x: ArrayLike) -> Array:
        """Σ x log x."""
        (x,) = vectors(x=x)
        return jnp.sum(xlogy(x, x), axis=-1)

    def gradient(self, x: ArrayLike) -> Array:
        """1 + log x."""
        (x,) = vectors(x=x)
        return 1 + jnp.log(x)

    def conjugate(self, theta: ArrayLike) -> Array:
        """Σ e^(θ - 1)."""
        (theta,) = vectors(theta=theta)
        return jnp.sum(jnp.exp(theta - 1), axis=-1)

    def conjugate_gradient(self, theta: ArrayLike) -> Array:
        """e^(θ - 1)."""
        (theta,) = vectors(theta=theta)
        return jnp.exp(theta - 1)

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """Σ p ψ((q - p)/p), ψ(t) = t - log(1 + t)."""
        return jnp.sum(relative_entropy(*vectors(p=p, q=q)), axis=-1)


@registered
class BurgEntropy:
    """φ = -Σ log x on x > 0. D = Σ p/q - log(p/q) - 1, the Itakura-Saito distance: it depends on ratios only."""

    def value(self, x: ArrayLike) -> Array:
        """-Σ log x."""
        (x,) = vectors(x=x)
        return -jnp.sum(jnp.log(x), axis=-1)

    def gradient(self, x: ArrayLike) -> Array:
        """-1/x."""
        (x,) = vectors(x=x)
        return -1 / x

    def conjugate(self, theta: ArrayLike) -> Array:
        """-Σ (1 + log(-θ)), θ < 0."""
        (theta,) = vectors(theta=theta)
        return -jnp.sum(1 + jnp.log(-theta), axis=-1)

    def conjugate_gradient(self, theta: ArrayLike) -> Array:
        """-1/θ."""
        return self.gradient(theta)

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """Σ ψ((p - q)/q), ψ(t) = t - log(1 + t)."""
        return jnp.sum(itakura_saito(*vectors(p=p, q=q)), axis=-1)


@registered
class Exponential:
    """φ = Σ e^x on R^n. D = Σ e^q ξ(p - q), ξ(x) = e^x - 1 - x: the loss of a Poisson law in logarithms of its mean."""

    def value(self, x: ArrayLike) -> Array:
        """Σ e^x."""
        (x,) = vectors(x=x)
        return jnp.sum(jnp.exp(x), axis=-1)

    def gradient(self, x: ArrayLike) -> Array:
        """e^x."""
        (x,) = vectors(x=x)
        return jnp.exp(x)

    def conjugate(self, theta: ArrayLike) -> Array:
        """Σ θ log θ - θ, θ >= 0."""
        (theta,) = vectors(theta=theta)
        return jnp.sum(xlogy(theta, theta) - theta, axis=-1)

    def conjugate_gradient(self, theta: ArrayLike) -> Array:
        """The logarithm, log θ."""
        (theta,) = vectors(theta=theta)
        return jnp.log(theta)

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """Σ e^q ξ(p - q), ξ(x) = e^x - 1 - x."""
        return jnp.sum(exponential(*vectors(p=p, q=q)), axis=-1)


@registered
class LogSumExp:
    """φ = log Σ e^x on R^n. D(p, q) = KL(softmax q ‖ softmax p): theorem 4.1.4 in logits, arguments exchanged.

    It is strictly convex except along the direction of a constant added to all entries, which changes D by nothing. The
    relative error of D is at most (8 + g)u for any offset, where g is the largest |p - q|.
    """

    def value(self, x: ArrayLike) -> Array:
        """The log-sum-exp."""
        return log_sum_exp(vectors(x=x)[0])

    def gradient(self, x: ArrayLike) -> Array:
        """The softmax."""
        return softmax(vectors(x=x)[0])

    def conjugate(self, theta: ArrayLike) -> Array:
        """Σ θ log θ, which holds on the simplex (not tested, because a sum is rounded). It is NaN for θ < 0."""
        return NegativeEntropy().value(theta)

    def conjugate_gradient(self, theta: ArrayLike) -> Array:
        """The logarithm, which is one choice of logits; the others differ by a constant."""
        (theta,) = vectors(theta=theta)
        return jnp.log(theta)

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """log(1 + Σ π ξ(w - ⟨π, w⟩)) with π = softmax(q), w = p - q and ξ(x) = e^x - 1 - x, for finite logits."""
        p, q = vectors(p=p, q=q)
        return kl_of_logits(q, p)


@registered
class Softplus:
    """φ = Σ log(1 + e^x) on R^n. D(p, q) = Σ KL(Bernoulli σ(q) ‖ Bernoulli σ(p)): each entry a logit of its own."""

    def value(self, x: ArrayLike) -> Array:
        """Σ log(1 + e^x)."""
        return jnp.sum(softplus(vectors(x=x)[0]), axis=-1)

    def gradient(self, x: ArrayLike) -> Array:
        """The sigmoid."""
        return sigmoid(vectors(x=x)[0])

    def conjugate(self, theta: ArrayLike) -> Array:
        """Σ θ log θ + (1 - θ) log(1 - θ), 0 <= θ <= 1."""
        return BernoulliEntropy().value(theta)

    def conjugate_gradient(self, theta: ArrayLike) -> Array:
        """The logit."""
        return BernoulliEntropy().gradient(theta)

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """The sum over the entries, each a divergence of logits of two classes, the entry and 0."""
        p, q = (jnp.stack([x, jnp.zeros_like(x)], axis=-1) for x in vectors(p=p, q=q))
        return jnp.sum(kl_of_logits(q, p), axis=-1)


@registered
class BernoulliEntropy:
    """φ = Σ x log x + (1 - x) log(1 - x) on [0, 1], conjugate to :class:`Softplus`. D is the binary KL divergence."""

    def value(self, x: ArrayLike) -> Array:
        """Σ x log x + (1 - x) log(1 - x)."""
        (x,) = vectors(x=x)
        return jnp.sum(xlogy(x, x) + xlogy(1 - x, 1 - x), axis=-1)

    def gradient(self, x: ArrayLike) -> Array:
        """log(x/(1 - x))."""
        (x,) = vectors(x=x)
        return log_ratio(x, 1 - x)

    def conjugate(self, theta: ArrayLike) -> Array:
        """Σ log(1 + e^θ)."""
        return Softplus().value(theta)

    def conjugate_gradient(self, theta: ArrayLike) -> Array:
        """The sigmoid."""
        return Softplus().gradient(theta)

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """Σ p log(p/q) + (1 - p) log((1 - p)/(1 - q)), from non-negative terms."""
        return jnp.sum(binary_entropy(*vectors(p=p, q=q)), axis=-1)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["alpha"])
@dataclasses.dataclass(frozen=True)
class Tsallis:
    """φ = Σ (x^α - x)/(α(α - 1)) on x >= 0. For α = 2, D is half the squared distance; as α -> 1, negative entropy's.

    The relative error of D is at most 8u(α + 1)/|α - 1|.

    Attributes:
      alpha: α, a Python number > 0 other than 1 (that limit is :class:`NegativeEntropy`).
    """

    alpha: float

    def __post_init__(self) -> None:
        """Refuse anything but a positive number other than 1."""
        if not isinstance(self.alpha, int | float) or isinstance(self.alpha, bool):
            raise TypeError(f"alpha must be a Python number, got {self.alpha!r}")
        if not 0 < self.alpha < float("inf") or self.alpha == 1:
            raise ValueError(f"alpha must be positive and not 1 (use NegativeEntropy there), got {self.alpha}")

    def value(self, x: ArrayLike) -> Array:
        """Σ (x^α - x)/(α(α - 1))."""
        (x,) = vectors(x=x)
        return jnp.sum(x**self.alpha - x, axis=-1) / (self.alpha * (self.alpha - 1))

    def gradient(self, x: ArrayLike) -> Array:
        """(α x^(α-1) - 1)/(α(α - 1))."""
        (x,) = vectors(x=x)
        return (self.alpha * x ** (self.alpha - 1) - 1) / (self.alpha * (self.alpha - 1))

    def conjugate(self, theta: ArrayLike) -> Array:
        """Σ x^α/α at x = ∇φ*(θ)."""
        return jnp.sum(self.conjugate_gradient(theta) ** self.alpha, axis=-1) / self.alpha

    def conjugate_gradient(self, theta: ArrayLike) -> Array:
        """max(0, (α - 1)θ + 1/α)^(1/(α-1)), α > 1."""
        if self.alpha < 1:
            raise ValueError(f"the conjugate is given for alpha > 1, got {self.alpha}")
        (theta,) = vectors(theta=theta)
        base = (self.alpha - 1) * theta + 1 / self.alpha
        return jnp.where(
            base > 0, jnp.where(base > 0, base, 1) ** (1 / (self.alpha - 1)), jnp.where(base <= 0, 0, base)
        )

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """Σ q^α (ξ(αl) - α ξ(l))/(α(α - 1)) with l = log(p/q), ξ(x) = e^x - 1 - x; where l is large, the definition."""
        return jnp.sum(power_divergence(self.alpha, *vectors(p=p, q=q)), axis=-1)
