r"""Bregman divergences (§4.1.5, equation (4.1.2)): one convex function, one loss.

.. math:: D_\phi(p, q) = \phi(p) - \phi(q) - \langle \nabla\phi(q), p - q \rangle \ge 0, \qquad = 0 \iff p = q

The definition subtracts numbers that agree in more digits the nearer p is to q, and then its sign is noise. Each
generator below therefore has a ``divergence`` of its own, a sum of non-negative terms. Its gradient in p is
:math:`\nabla\phi(p) - \nabla\phi(q)`: mean less target once more (theorem 4.1.5).

A generator works on the last axis, n, of arrays of floats ``[..., n]``. ``value`` and ``conjugate`` return ``[...]``,
``gradient`` returns ``[..., n]``, in float32 or wider. It is a pytree, so that ``jax.jit`` takes it as an argument.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax import _checks
from lossjax._softmax import log_sum_exp, softmax
from lossjax.geometry._divergences import exponential, itakura_saito
from lossjax.geometry._elementary import vectors
from lossjax.information import relative_entropy
from lossjax.logit_divergences import kl_of_logits
from lossjax.numerics import xlogy


class Generator(Protocol):
    """A strictly convex function φ. A method ``divergence(p, q)`` of its own is optional."""

    def value(self, x: ArrayLike, /) -> Array:
        """φ(x)."""
        ...

    def gradient(self, x: ArrayLike, /) -> Array:
        """∇φ(x)."""
        ...

    def conjugate(self, theta: ArrayLike, /) -> Array:
        """φ*(θ) = sup_x ⟨θ, x⟩ - φ(x)."""
        ...


def bregman_divergence(generator: Generator | Callable[[Array], Array], p: ArrayLike, q: ArrayLike) -> Array:
    r"""How far the convex function φ rises at p above its tangent at q.

    .. math:: D_\phi(p, q) = \phi(p) - \phi(q) - \langle \nabla\phi(q), p - q \rangle

    Domain: p in the domain of φ, q where φ is differentiable.

    Gradient: :math:`\nabla\phi(p) - \nabla\phi(q)` in p, :math:`-\nabla^2\phi(q)(p - q)` in q.

    Args:
      generator: φ: a generator of this module, any object with ``value`` and ``gradient`` (and ``divergence``, if it
        knows better than the definition), or a function from a vector ``[n]`` to a scalar, differentiated by JAX.
      p: ``[..., n]`` floats.
      q: ``[..., n]`` floats, the same shape.

    Returns:
      The divergence, ``[...]``, in the units of φ (nats for the entropies), in float32 or wider.

    Accuracy: for a generator of this module, relatively within 8u, never negative, 0 at p = q (see there for more). By
    the definition, within a few u of the largest of its terms: the sign is not certain near p = q.

    Raises:
      TypeError: arguments that are not floating-point, a generator that is none of the above.
      ValueError: shapes that do not agree, no entry, a function whose value is not a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> p, q = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.2, 0.5, 0.3])
      >>> print(f"{bregman_divergence(NegativeEntropy(), p, q):.6f}")
      0.223805
      >>> print(bregman_divergence(lambda x: jnp.sum(x**4), jnp.array([2.0]), jnp.array([1.0])))
      11.0

    Source: equation (4.1.2), theorem 4.1.4 with its last term struck out.
    """
    p, q = vectors(p=p, q=q)
    methods: Any = generator  # a function has none of them
    if hasattr(methods, "divergence"):
        return methods.divergence(p, q)
    if hasattr(methods, "value") and hasattr(methods, "gradient"):
        value, gradient = methods.value, methods.gradient
    elif callable(generator):
        _check_scalar(generator, p)
        value = jnp.vectorize(generator, signature="(n)->()")
        gradient = jnp.vectorize(jax.grad(generator), signature="(n)->(n)")
    else:
        raise TypeError(
            f"generator must have value and gradient, or be a function from a vector to a scalar, got {generator!r}; "
            "an example is NegativeEntropy()"
        )
    return value(p) - value(q) - jnp.sum(gradient(q) * (p - q), axis=-1)


def _check_scalar(function: Callable[[Array], Array], p: Array) -> None:
    shape = jax.eval_shape(function, jax.ShapeDtypeStruct(p.shape[-1:], p.dtype)).shape
    if shape != ():
        raise ValueError(f"generator gives shape {shape} for a vector of {p.shape[-1]}, wanted a scalar; sum its terms")


def _generator(cls: type[Any]) -> type[Any]:
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


@_generator
class SquaredEuclidean:
    """φ = ½‖x‖² on R^n. D = ½‖p - q‖², half the *squared* distance: the loss of a Gaussian, self-dual, symmetric."""

    def value(self, x: ArrayLike) -> Array:
        """½‖x‖²."""
        (x,) = vectors(x=x)
        return 0.5 * jnp.sum(jnp.square(x), axis=-1)

    def gradient(self, x: ArrayLike) -> Array:
        """The identity."""
        return vectors(x=x)[0]

    def conjugate(self, theta: ArrayLike) -> Array:
        """½‖θ‖²."""
        return self.value(theta)

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """½‖p - q‖²."""
        p, q = vectors(p=p, q=q)
        return self.value(p - q)


@_generator
class NegativeEntropy:
    """φ = Σ x log x on x >= 0. D = Σ p log(p/q) - p + q, the Kullback-Leibler divergence where Σp = Σq.

    It is extended to q on the boundary by lower semicontinuity: +inf exactly where some p_i > 0 = q_i; 0 log 0 = 0. The
    gradient in p is log(p/q), -inf at p_i = 0 < q_i, and 0 where both are 0.
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

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """Σ p ψ((q - p)/p), ψ(t) = t - log(1 + t)."""
        return jnp.sum(relative_entropy(*vectors(p=p, q=q)), axis=-1)


@_generator
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
        """-Σ 1 + log(-θ), θ < 0."""
        (theta,) = vectors(theta=theta)
        return -jnp.sum(1 + jnp.log(-theta), axis=-1)

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """Σ ψ((p - q)/q), ψ(t) = t - log(1 + t)."""
        return jnp.sum(itakura_saito(*vectors(p=p, q=q)), axis=-1)


@_generator
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

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """Σ e^q ξ(p - q)."""
        return jnp.sum(exponential(*vectors(p=p, q=q)), axis=-1)


@_generator
class LogSumExp:
    """φ = log Σ e^x on R^n. D(p, q) = KL(softmax q ‖ softmax p): theorem 4.1.4 in logits, arguments exchanged.

    Convex, and strictly so but for a constant added to all entries, which changes nothing. D is accurate within
    (8 + g)u relatively, g the largest |p - q|, for any offset.
    """

    def value(self, x: ArrayLike) -> Array:
        """The log-sum-exp."""
        return log_sum_exp(vectors(x=x)[0])

    def gradient(self, x: ArrayLike) -> Array:
        """The softmax."""
        return softmax(vectors(x=x)[0])

    def conjugate(self, theta: ArrayLike) -> Array:
        """Σ θ log θ on the simplex, outside of which it is +inf (not tested: a sum is rounded). NaN for θ < 0."""
        return NegativeEntropy().value(theta)

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """log(1 + Σ π ξ(w - ⟨π, w⟩)), π = softmax(q), w = p - q. Finite logits."""
        p, q = vectors(p=p, q=q)
        return kl_of_logits(q, p)


@_generator
class Mahalanobis:
    """φ = ½ xᵀAx on R^n. D = ½ (p - q)ᵀA(p - q): the loss of a Gaussian of covariance A⁻¹.

    Attributes:
      matrix: A, ``[n, n]`` floats, symmetric (its symmetric part is used) and positive definite, else NaN.
    """

    matrix: ArrayLike

    def value(self, x: ArrayLike) -> Array:
        """½‖Lᵀx‖² with A = LLᵀ (Cholesky)."""
        x, matrix = self._with_matrix(x=x)
        return 0.5 * jnp.sum(jnp.square(jnp.matmul(x, _cholesky(matrix), precision="highest")), axis=-1)

    def gradient(self, x: ArrayLike) -> Array:
        """Ax."""
        x, matrix = self._with_matrix(x=x)
        return jnp.matmul(x, matrix, precision="highest")

    def conjugate(self, theta: ArrayLike) -> Array:
        """½ θᵀA⁻¹θ."""
        theta, matrix = self._with_matrix(theta=theta)
        columns = theta.reshape(-1, theta.shape[-1]).T
        whitened = jax.scipy.linalg.solve_triangular(_cholesky(matrix), columns, lower=True)
        return 0.5 * jnp.sum(jnp.square(whitened), axis=0).reshape(theta.shape[:-1])

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """½‖Lᵀ(p - q)‖²."""
        p, q = vectors(p=p, q=q)
        return self.value(p - q)

    def _with_matrix(self, **named: ArrayLike) -> tuple[Array, Array]:
        (x,) = vectors(**named)
        matrix = _checks.floating("matrix", self.matrix)
        _checks.same_shape("matrix", matrix.shape, "for these vectors", (x.shape[-1],) * 2, "give A as [n, n]")
        dtype = _checks.compute_dtype(x, matrix)
        matrix = matrix.astype(dtype)
        return x.astype(dtype), 0.5 * (matrix + matrix.T)


def _cholesky(matrix: Array) -> Array:
    return jnp.linalg.cholesky(matrix, symmetrize_input=False)
