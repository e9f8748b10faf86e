"""Euclidean projection onto the column space of a linear model (chapter 4.1, §4.1.4, theorem 4.1.3)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax.geometry._pseudo_inverse import factors, matmul
from lossjax.geometry._vectors import norm, vectors


def least_squares(X: ArrayLike, y: ArrayLike) -> Array:
    r"""The parameters of least norm that minimise ‖y - Xθ‖.

    .. math:: \hat\theta = X^+ y, \qquad X^\top (y - X\hat\theta) = 0

    Domain: any X; it may be wide, rank-deficient or zero. Singular values at most s_max·max(N, d)·u count as 0.

    Gradient: true in X and y where the rank does not change nearby (X⁺ jumps where it does).

    Args:
      X: ``[..., N, d]`` floats, the design matrix.
      y: ``[..., N]`` floats, the targets.

    Returns:
      θ̂, ``[..., d]``, in units of y/X, in float32 or wider.

    Accuracy: ‖Xᵀ(y - Xθ̂)‖ ≤ 256u‖X‖‖y‖, at any condition number that leaves the rank visible.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not fit, or an empty matrix.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import least_squares
      >>> X = jnp.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
      >>> print(jnp.round(least_squares(X, jnp.array([1.0, 5.0, 3.0])), 5))
      [2. 0.]

    Source: theorem 4.1.3 and what follows it. The book's θ̂ = (XᵀX)⁻¹Xᵀy requires rank X = d.
    """
    X, y = _design_and_targets(X, y)
    return factors(X).solve(y[..., None])[..., 0]


def orthogonal_projection(X: ArrayLike, y: ArrayLike) -> Array:
    r"""The point Xθ̂ of the column space of X nearest to y: theorem 4.1.3.

    .. math:: \hat y = X X^+ y = U U^\top y

    Domain: any X, of any rank and shape, as in :func:`least_squares`.

    Gradient: true in X and y where the rank does not change nearby.

    Args:
      X: ``[..., N, d]`` floats, the design matrix.
      y: ``[..., N]`` floats, the targets.

    Returns:
      ŷ, ``[..., N]``, in the units of y, in float32 or wider.

    Accuracy: ‖Xᵀ(y - ŷ)‖ ≤ 256u‖X‖‖y‖.

    Raises:
      TypeError: arguments that are not floats.
      ValueError: shapes that do not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import orthogonal_projection
      >>> print(jnp.round(orthogonal_projection(jnp.ones((3, 1)), jnp.array([1.0, 2.0, 6.0])), 5))
      [3. 3. 3.]

    Source: theorem 4.1.3.
    """
    X, y = _design_and_targets(X, y)
    return factors(X).project(y[..., None])[..., 0]


def projection_matrix(X: ArrayLike) -> Array:
    r"""The matrix of :func:`orthogonal_projection`: symmetric, idempotent, of trace rank X.

    .. math:: P = X X^+ = U U^\top

    Domain: any X; see :func:`least_squares`.

    Gradient: true where the rank does not change nearby.

    Args:
      X: ``[..., N, d]`` floats.

    Returns:
      P, ``[..., N, N]``, in float32 or wider. Its diagonal holds the leverages, in [0, 1].

    Accuracy: |P² - P|, |P - Pᵀ| ≤ 64u; |tr P - rank| ≤ 64u·rank.

    Raises:
      TypeError: X that is not floating-point.
      ValueError: X that is not a matrix, or is empty.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import projection_matrix
      >>> print(jnp.round(projection_matrix(jnp.array([[1.0, 2.0], [1.0, 2.0]])), 5))
      [[0.5 0.5]
       [0.5 0.5]]

    Source: §4.1.4, which has P = X(XᵀX)⁻¹Xᵀ for rank X = d.
    """
    X = _design(X)
    X = X.astype(checks.compute_dtype(X))
    basis = factors(X).basis
    return matmul(basis, basis.mT)


def r_squared(predictions: ArrayLike, targets: ArrayLike) -> Array:
    r"""Coefficient of determination, the share of the targets' variation that the predictions explain.

    .. math:: R^2 = 1 - \frac{\sum_i (y_i - \hat y_i)^2}{\sum_i (y_i - \bar y)^2}

    Domain: real vectors. NaN (with NaN gradient) where the targets are constant. It lies in [0, 1] for least squares
    with an intercept; without one it can be negative.

    Gradient: :math:`2 (y - \hat y)/\mathrm{SST}` in the predictions; true in the targets.

    Args:
      predictions: ``[..., N]`` floats.
      targets: ``[..., N]`` floats, the same shape.

    Returns:
      R², a pure number, ``[...]``, in float32 or wider.

    Accuracy: within 16u(1 + SSE/SST), whatever the offset and the scale of the targets.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or no sample.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import r_squared
      >>> print(r_squared(jnp.array([1.0, 2.0, 2.0]), jnp.array([1.0, 2.0, 3.0])))
      0.5

    Source: the chapter's summary, §4.1.7, corrected as G14 says.
    """
    predictions, targets = vectors(predictions=predictions, targets=targets)
    # The targets are measured from the first one: constant targets then give exactly 0, and an offset adds no rounding.
    moved = targets - targets[..., :1]
    total = norm(moved - jnp.mean(moved, axis=-1, keepdims=True))
    return 1 - jnp.square(norm(targets - predictions) / jnp.where(total == 0, jnp.nan, total))


def _design(X: ArrayLike) -> Array:
    array = checks.floating("X", X)
    if array.ndim < 2 or 0 in array.shape[-2:]:
        raise ValueError(f"X has shape {array.shape}, wanted [..., N, d], N, d >= 1; for one feature use x[:, None]")
    return array


def _design_and_targets(X: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    design, targets = _design(X), checks.floating("y", y)
    checks.same_shape("y", targets.shape, "of X less its last axis", design.shape[:-1], "give one target per row of X")
    dtype = checks.compute_dtype(design, targets)
    return design.astype(dtype), targets.astype(dtype)
