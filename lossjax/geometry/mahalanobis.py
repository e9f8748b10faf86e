"""The generator that has a matrix: half the squared Mahalanobis norm."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax.geometry._pseudo_inverse import matmul
from lossjax.geometry._vectors import vectors
from lossjax.geometry.generators import registered


@registered
class Mahalanobis:
    """φ = ½ xᵀAx on R^n. D = ½ (p - q)ᵀA(p - q): the loss of a Gaussian of covariance A⁻¹.

    Attributes:
      matrix: A, ``[n, n]`` floats, symmetric (its symmetric part is used) and positive definite, else NaN.
    """

    matrix: ArrayLike

    def value(self, x: ArrayLike) -> Array:
        """½‖Lᵀx‖² with A = LLᵀ (Cholesky)."""
        x, matrix = self._with_matrix(x=x)
        return 0.5 * jnp.sum(jnp.square(matmul(x, _cholesky(matrix))), axis=-1)

    def gradient(self, x: ArrayLike) -> Array:
        """Ax."""
        x, matrix = self._with_matrix(x=x)
        return matmul(x, matrix)

    def conjugate(self, theta: ArrayLike) -> Array:
        """½ θᵀA⁻¹θ."""
        theta, matrix = self._with_matrix(theta=theta)
        columns = theta.reshape(-1, theta.shape[-1]).T
        whitened = jax.scipy.linalg.solve_triangular(_cholesky(matrix), columns, lower=True)
        return 0.5 * jnp.sum(jnp.square(whitened), axis=0).reshape(theta.shape[:-1])

    def conjugate_gradient(self, theta: ArrayLike) -> Array:
        """A⁻¹θ."""
        theta, matrix = self._with_matrix(theta=theta)
        columns = theta.reshape(-1, theta.shape[-1]).T
        return jax.scipy.linalg.cho_solve((_cholesky(matrix), True), columns).T.reshape(theta.shape)

    def divergence(self, p: ArrayLike, q: ArrayLike) -> Array:
        """½‖Lᵀ(p - q)‖²."""
        p, q = vectors(p=p, q=q)
        return self.value(p - q)

    def _with_matrix(self, **named: ArrayLike) -> tuple[Array, Array]:
        (x,) = vectors(**named)
        matrix = checks.floating("matrix", self.matrix)
        checks.same_shape("matrix", matrix.shape, "for these vectors", (x.shape[-1],) * 2, "give A as [n, n]")
        dtype = checks.compute_dtype(x, matrix)
        matrix = matrix.astype(dtype)
        return x.astype(dtype), 0.5 * (matrix + matrix.T)


def _cholesky(matrix: Array) -> Array:
    return jnp.linalg.cholesky(matrix, symmetrize_input=False)
