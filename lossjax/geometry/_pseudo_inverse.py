r"""The pseudo-inverse in two thin factors, X⁺ = B Lᵀ, and their derivatives.

L is an orthonormal basis of X's column space and B = X⁺L, both from one singular value decomposition: never from XᵀX,
whose condition number is the square of X's. Least squares is B(Lᵀy) and its projection is L(Lᵀy).

The derivative of the decomposition divides by differences of singular values, yet neither product changes when the
basis is turned. So turn it as little as possible, dL ⟂ L. For constant rank, with the derivative of X⁺ by Golub and
Pereyra (1973),

    dL = (I - LLᵀ) dX B             dB = -B Lᵀ dX B + (I - B Lᵀ X) dXᵀ L BᵀB

which meet L, B and X only, so that every order of differentiation is exact in whatever does not depend on the basis.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax.numerics import unit_roundoff


class Factors(NamedTuple):
    """L ``[..., N, k]`` and B ``[..., d, k]`` with X⁺ = B Lᵀ; their columns beyond the rank are 0."""

    basis: Array
    inverse: Array

    def solve(self, Y: Array) -> Array:
        """``X⁺Y``, ``[..., d, m]`` from ``[..., N, m]``."""
        return times(self.inverse, times(self.basis.mT, Y))

    def project(self, Y: Array) -> Array:
        """``XX⁺Y``, ``[..., N, m]``."""
        return times(self.basis, times(self.basis.mT, Y))


def factors(X: Array) -> Factors:
    """The factors of ``[..., N, d]``; singular values at most s_max·max(N, d)·u count as 0."""
    left, singular, right = jnp.linalg.svd(lax.stop_gradient(X), full_matrices=False)
    negligible = singular <= singular[..., :1] * (max(X.shape[-2:]) * unit_roundoff(X.dtype))  # False for NaN: it stays
    negligible = negligible[..., None, :]
    basis = jnp.where(negligible, 0, left)
    inverse = jnp.where(negligible, 0, right.mT / jnp.where(negligible, 1, singular[..., None, :]))
    return Factors(*_factors(X, basis, inverse))


def times(a: Array, b: Array) -> Array:
    """The matrix product; accelerators round the factors of float32 products to 11 bits unless told not to."""
    return jnp.matmul(a, b, precision="highest")


def _factors_forward(X: Array, basis: Array, inverse: Array) -> tuple[tuple[Array, Array], Any]:
    return (basis, inverse), (X, basis, inverse)


def _factors_backward(saved: Any, cotangents: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    # The transposes of the three terms above. The decomposition enters with its gradient stopped: X's rule is total.
    X, basis, inverse = saved
    L, B = _factors(X, basis, inverse)
    in_basis, in_inverse = cotangents
    across = in_basis - times(L, times(L.mT, in_basis))
    kernel = in_inverse.mT - times(times(in_inverse.mT, B), times(L.mT, X))
    in_x = (
        times(across, B.mT) - times(times(L, times(B.mT, in_inverse)), B.mT) + times(times(L, times(B.mT, B)), kernel)
    )
    return in_x, jnp.zeros_like(basis), jnp.zeros_like(inverse)


_factors = closed_form(_factors_forward, _factors_backward)
