r"""Least squares and its projection from one singular value decomposition X = U diag(s) Vᵀ, with their derivatives.

Never XᵀX, whose condition number is the square of X's. The derivative of the decomposition divides by differences of
singular values; those of the two functions do not. With θ = X⁺y, e = y - Xθ, P = XX⁺, for constant rank,

    dθ  = X⁺(dy - dX θ) + X⁺X⁺ᵀ dXᵀ e + (I - X⁺X) dXᵀ X⁺ᵀ θ          (Golub and Pereyra, 1973)
    dPy = P dy + (I - P) dX θ + X⁺ᵀ dXᵀ e

which meet only X⁺, X⁺ᵀ = (Xᵀ)⁺ and P: the backward passes call the two functions again, and so every order of
differentiation is exact. The factors enter with their gradient stopped, for the rules of X are total.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from lossjax._autodiff import closed_form
from lossjax.numerics import unit_roundoff


class Factors(NamedTuple):
    """X⁺ = right diag(inverse) leftᵀ, in columns of unit length; those beyond the rank are 0."""

    left: Array
    inverse: Array
    right: Array

    def transposed(self) -> "Factors":
        """The factors of Xᵀ."""
        return Factors(self.right, self.inverse, self.left)


def factors(X: Array) -> Factors:
    """The factors of ``[..., N, d]``; singular values at most s_max·max(N, d)·u are 0."""
    left, singular, right = jnp.linalg.svd(lax.stop_gradient(X), full_matrices=False)
    negligible = singular <= singular[..., :1] * (max(X.shape[-2:]) * unit_roundoff(X.dtype))  # False for NaN: it stays
    return Factors(
        jnp.where(negligible[..., None, :], 0, left),
        jnp.where(negligible, 0, 1 / jnp.where(negligible, 1, singular)),
        jnp.where(negligible[..., None, :], 0, right.mT),
    )


def solve(X: Array, of_x: Factors, Y: Array) -> Array:
    """``X⁺Y``: ``[..., d, m]`` from ``[..., N, d]`` and ``[..., N, m]``."""
    return _solve(None, X, *of_x, Y)


def project(X: Array, of_x: Factors, Y: Array) -> Array:
    """``XX⁺Y``: ``[..., N, m]``."""
    return _project(None, X, *of_x, Y)


def _times(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")  # accelerators round float32 products to 10 bits otherwise


def _solve_forward(_: None, X: Array, left: Array, inverse: Array, right: Array, Y: Array) -> tuple[Array, Any]:
    return _times(right, inverse[..., None] * _times(left.mT, Y)), (X, Factors(left, inverse, right), Y)


def _project_forward(_: None, X: Array, left: Array, inverse: Array, right: Array, Y: Array) -> tuple[Array, Any]:
    return _times(left, _times(left.mT, Y)), (X, Factors(left, inverse, right), Y)


def _solve_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array, ...]:
    # The transposes of dθ's three terms, with h = X⁺ᵀg:  -h θᵀ,  e (X⁺h)ᵀ,  (X⁺ᵀθ)(g - Xᵀh)ᵀ.
    X, of_x, Y = residuals
    of_transpose = of_x.transposed()
    theta = solve(X, of_x, Y)
    h = solve(X.mT, of_transpose, cotangent)
    in_x = (
        _times(Y - _times(X, theta), solve(X, of_x, h).mT)
        + _times(solve(X.mT, of_transpose, theta), (cotangent - _times(X.mT, h)).mT)
        - _times(h, theta.mT)
    )
    return in_x, *map(jnp.zeros_like, of_x), h


def _project_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array, ...]:
    # The transposes of dPy's three terms:  (g - Pg) θᵀ,  e (X⁺g)ᵀ,  and P g for y.
    X, of_x, Y = residuals
    in_y = project(X, of_x, cotangent)
    in_x = _times(cotangent - in_y, solve(X, of_x, Y).mT) + _times(
        Y - project(X, of_x, Y), solve(X, of_x, cotangent).mT
    )
    return in_x, *map(jnp.zeros_like, of_x), in_y


_solve = closed_form(_solve_forward, _solve_backward)
_project = closed_form(_project_forward, _project_backward)
