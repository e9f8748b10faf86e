r"""Bregman divergences (chapter 4.1, §4.1.5, equation (4.1.2)): one convex function, one loss.

.. math:: D_\phi(p, q) = \phi(p) - \phi(q) - \langle \nabla\phi(q), p - q \rangle \ge 0, \qquad = 0 \iff p = q

The definition subtracts numbers that agree in more digits the nearer p is to q; in the end its sign is noise. The
generators of ``generators.py`` therefore have a method ``divergence``, which is a sum of non-negative terms. Its
gradient in p is :math:`\nabla\phi(p) - \nabla\phi(q)`, a mean minus a target as in theorem 4.1.5.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax.geometry._vectors import vectors


class Generator(Protocol):
    """A strictly convex function φ. It may also have a method ``divergence(p, q)``, which is then used."""

    def value(self, x: ArrayLike, /) -> Array:
        """φ(x)."""
        ...

    def gradient(self, x: ArrayLike, /) -> Array:
        """∇φ(x)."""
        ...

    def conjugate(self, theta: ArrayLike, /) -> Array:
        """φ*(θ), the supremum over x of ⟨θ, x⟩ - φ(x)."""
        ...


def bregman_divergence(generator: Generator | Callable[[Array], Array], p: ArrayLike, q: ArrayLike) -> Array:
    r"""How far the convex function φ rises at p above its tangent at q.

    .. math:: D_\phi(p, q) = \phi(p) - \phi(q) - \langle \nabla\phi(q), p - q \rangle

    Domain: p in the domain of φ, q where φ is differentiable.

    Gradient: :math:`\nabla\phi(p) - \nabla\phi(q)` in p, :math:`-\nabla^2\phi(q)(p - q)` in q.

    Args:
      generator: φ: a generator of this package; any object with ``value`` and ``gradient`` (its ``divergence`` is used
        if it has one); or a function from a vector ``[n]`` to a scalar, which JAX differentiates.
      p: ``[..., n]`` floats.
      q: ``[..., n]`` floats, the same shape.

    Returns:
      The divergence, ``[...]``, in the units of φ (nats for the entropies), in float32 or wider.

    Accuracy: for a generator of this package the relative error is at most 8u unless its docstring says otherwise, and
    the result is never negative, and 0 at p = q. For other generators the error is a few u of the largest term of the
    definition; near p = q even the sign is uncertain.

    Raises:
      TypeError: arguments that are not floating-point, a generator of another kind.
      ValueError: shapes that do not agree, no entry, a function whose value is not a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import NegativeEntropy
      >>> from lossjax.geometry import bregman_divergence
      >>> p, q = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.2, 0.5, 0.3])
      >>> print(f"{bregman_divergence(NegativeEntropy(), p, q):.6f}")
      0.223805
      >>> print(bregman_divergence(lambda x: jnp.sum(x**4), jnp.array([2.0]), jnp.array([1.0])))
      11.0

    Source: equation (4.1.2), and theorem 4.1.4 without its last term.
    """
    p, q = vectors(p=p, q=q)
    methods: Any = generator  # A function has none of these methods.
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
