r"""The matrix product, and the pseudo-inverse in two thin factors, X⁺ = B Lᵀ, with their derivatives.

L is an orthonormal basis of X's column space, and B = X⁺L. Both come from one singular value decomposition of X, not
from XᵀX, whose condition number is the square of X's. The least-squares solution is B(Lᵀy), its projection L(Lᵀy).

The derivative of the decomposition divides by differences of singular values. Neither product changes when the basis is
turned, however, so the derivative here turns the basis as little as possible: dL ⟂ L. For constant rank, and with the
derivative of X⁺ by Golub and Pereyra (1973),

    dL = (I - LLᵀ) dX B             dB = -B Lᵀ dX B + (I - B Lᵀ X) dXᵀ L BᵀB

Only L, B and X occur in them, so every order of differentiation is exact in whatever does not depend on the basis.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax.numerics import unit_roundoff


class Factors(NamedTuple):
    """L ``[..., N, k]`` and B ``[..., d, k]`` with X⁺ = B Lᵀ. Their columns beyond the rank of X are 0."""

    basis: Array
    inverse: Array

    def solve(self, Y: Array) -> Array:
        """``X⁺Y``, ``[..., d, m]`` from ``[..., N, m]``."""
        return matmul(self.inverse, matmul(self.basis.mT, Y))

    def project(self, Y: Array) -> Array:
        """``XX⁺Y``, ``[..., N, m]``."""
        return matmul(self.basis, matmul(self.basis.mT, Y))


def factors(X: Array) -> Factors:
    """The factors of ``[..., N, d]``; singular values at most s_max·max(N, d)·u count as 0."""
    left, singular, right = jnp.linalg.svd(lax.stop_gradient(X), full_matrices=False)
    # The comparison is False for NaN, which is thereby kept.
    negligible = singular <= singular[..., :1] * (max(X.shape[-2:]) * unit_roundoff(X.dtype))
    negligible = negligible[..., None, :]
    basis = jnp.where(negligible, 0, left)
    inverse = jnp.where(negligible, 0, right.mT / jnp.where(negligible, 1, singular[..., None, :]))
    return Factors(*_factors(X, basis, inverse))


def matmul(a: Array, b: Array) -> Array:
    """The matrix product in full precision. By default accelerators round float32 factors to 11 bits or fewer."""
    return jnp.matmul(a, b, precision="highest")


def _factors_forward(X: Array, basis: Array, inverse: Array) -> tuple[tuple[Array, Array], Any]:
    return (basis, inverse), (X, basis, inverse)


def _factors_backward(saved: Any, cotangents: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    # These are the transposes of the terms above: the whole derivative in X, so that of the decomposition is stopped.
    X, basis, inverse = saved
    L, B = _factors(X, basis, inverse)
    in_basis, in_inverse = cotangents
    across = in_basis - matmul(L, matmul(L.mT, in_basis))
    kernel = in_inverse.mT - matmul(matmul(in_inverse.mT, B), matmul(L.mT, X))
    in_x = (
        matmul(across, B.mT)
        - matmul(matmul(L, matmul(B.mT, in_inverse)), B.mT)
        + matmul(matmul(L, matmul(B.mT, B)), kernel)
    )
    return in_x, jnp.zeros_like(basis), jnp.zeros_like(inverse)


_factors = closed_form(_factors_forward, _factors_backward)
