"""Euclidean projections (§4.1.4): theorem 4.1.3 for linear models, and for the convex sets that have a closed form."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax import _checks
from lossjax._autodiff import closed_form
from lossjax.geometry._elementary import norm, vectors
from lossjax.geometry._pseudo_inverse import factors, times


def least_squares(X: ArrayLike, y: ArrayLike) -> Array:
    r"""The parameters of least norm that minimise ‖y - Xθ‖.

    .. math:: \hat\theta = X^+ y, \qquad X^\top (y - X\hat\theta) = 0

    Domain: any X, also wide, rank-deficient or zero. Singular values at most s_max·max(N, d)·u count as 0.

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
      >>> X = jnp.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
      >>> print(jnp.round(least_squares(X, jnp.array([1.0, 5.0, 3.0])), 5))
      [2. 0.]

    Source: theorem 4.1.3 and what follows it; θ̂ = (XᵀX)⁻¹Xᵀy there requires rank X = d.
    """
    X, y = _design_and_targets(X, y)
    return factors(X).solve(y[..., None])[..., 0]


def orthogonal_projection(X: ArrayLike, y: ArrayLike) -> Array:
    r"""The point Xθ̂ of the column space of X nearest to y: theorem 4.1.3.

    .. math:: \hat y = X X^+ y = U U^\top y

    Domain: as :func:`least_squares`, any rank and shape.

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
      >>> print(jnp.round(orthogonal_projection(jnp.ones((3, 1)), jnp.array([1.0, 2.0, 6.0])), 5))
      [3. 3. 3.]

    Source: theorem 4.1.3.
    """
    X, y = _design_and_targets(X, y)
    return factors(X).project(y[..., None])[..., 0]


def projection_matrix(X: ArrayLike) -> Array:
    r"""The matrix of :func:`orthogonal_projection`: symmetric, idempotent, of trace rank X.

    .. math:: P = X X^+ = U U^\top

    Domain: any X; see :func:`least_squares`. Gradient: true where the rank does not change nearby.

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
      >>> print(jnp.round(projection_matrix(jnp.array([[1.0, 2.0], [1.0, 2.0]])), 5))
      [[0.5 0.5]
       [0.5 0.5]]

    Source: §4.1.4, P = X(XᵀX)⁻¹Xᵀ, there for rank X = d.
    """
    X = _design(X)
    X = X.astype(_checks.compute_dtype(X))
    basis = factors(X).basis
    return times(basis, basis.mT)


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
      >>> print(r_squared(jnp.array([1.0, 2.0, 2.0]), jnp.array([1.0, 2.0, 3.0])))
      0.5

    Source: §4.1.7.
    """
    predictions, targets = vectors(predictions=predictions, targets=targets)
    # Measured from the first target, constant targets give exactly 0 and a common offset leaves no rounding.
    moved = targets - targets[..., :1]
    total = norm(moved - jnp.mean(moved, axis=-1, keepdims=True))
    return 1 - jnp.square(norm(targets - predictions) / jnp.where(total == 0, jnp.nan, total))


def project_to_simplex(y: ArrayLike) -> Array:
    r"""The distribution nearest to y in Euclidean distance (also called sparsemax).

    .. math:: p_i = \max(y_i - \tau, 0), \qquad \tau : \textstyle\sum_i p_i = 1

    Domain: real vectors; -inf gives 0. NaN or +inf makes the row NaN.

    Gradient: :math:`g_i - \operatorname{mean}_S g` on the support S = {p > 0}, 0 elsewhere.

    Args:
      y: ``[..., n]`` floats.

    Returns:
      A distribution, ``[..., n]``, in float32 or wider.

    Accuracy: each entry within 8u absolute, whatever the offset of y; the sum is 1 within 8u.

    Raises:
      TypeError: y that is not floating-point.
      ValueError: a scalar, or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> print(project_to_simplex(jnp.array([10000.5, 10000.0, -3.0])))
      [0.75 0.25 0.  ]

    Source: §4.1.4; Held, Wolfe and Crowder (1974); Martins and Astudillo (2016).
    """
    (y,) = vectors(y=y)
    return _project_to_simplex(None, y)


def project_to_box(y: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> Array:
    r"""The point nearest to y with lower ≤ y ≤ upper, elementwise.

    Domain: any y. NaN where lower > upper, if that is known only at run time.

    Gradient: 1 in y inside the box and on its boundary, else 1 in the bound that acts.

    Args:
      y: ``[..., n]`` floats.
      lower: real numbers that broadcast to y's shape; -inf is no bound.
      upper: likewise; +inf is no bound.

    Returns:
      The projection, ``[..., n]``, in float32 or wider.

    Accuracy: exact.

    Raises:
      TypeError: y that is not floating-point.
      ValueError: bounds that do not broadcast to y, or cross.

    Example:
      >>> import jax.numpy as jnp
      >>> print(project_to_box(jnp.array([2.0, 0.5]), 0.0, 1.0))
      [1.  0.5]

    Source: §4.1.4 (the unit square is the counterexample to equality in the printed condition).
    """
    (y,) = vectors(y=y)
    lower, upper = (_bound(name, value, y) for name, value in (("lower", lower), ("upper", upper)))
    ordered = lower <= upper
    if _checks.is_concrete(ordered) and not bool(jnp.all(ordered)):
        raise ValueError("lower must be at most upper everywhere, got bounds that cross; exchange them")
    inside = jnp.where(y < lower, lower, jnp.where(y > upper, upper, y))
    return jnp.where(ordered, inside, jnp.nan)


def project_to_ball(y: ArrayLike, radius: ArrayLike = 1.0) -> Array:
    r"""The point nearest to y with ‖y‖₂ ≤ radius.

    .. math:: y \min(1, r/\|y\|_2)

    Domain: finite y, radius >= 0. Gradient: inside, that of y; outside, r/‖y‖ times the part orthogonal to y, and
    y/‖y‖ in the radius.

    Args:
      y: ``[..., n]`` floats.
      radius: a scalar.

    Returns:
      The projection, ``[..., n]``, in float32 or wider.

    Accuracy: within 8u relatively; exact inside.

    Raises:
      TypeError: y that is not floating-point, a radius that is not a real scalar.
      ValueError: a scalar y, no entry, a negative radius.

    Example:
      >>> import jax.numpy as jnp
      >>> print(project_to_ball(jnp.array([3.0, 4.0]), radius=10.0), project_to_ball(jnp.array([0.0, 4.0])))
      [3. 4.] [0. 1.]

    Source: §4.1.4.
    """
    (y,) = vectors(y=y)
    r = _checks.number("radius", radius, y.dtype, positive=False)
    length = norm(y)[..., None]
    outside = length > r
    return jnp.where(outside, r * (y / jnp.where(outside, length, 1)), y)


def _design(X: ArrayLike) -> Array:
    array = _checks.floating("X", X)
    if array.ndim < 2 or 0 in array.shape[-2:]:
        raise ValueError(f"X has shape {array.shape}, wanted [..., N, d], N, d >= 1; for one feature use x[:, None]")
    return array


def _design_and_targets(X: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    design, targets = _design(X), _checks.floating("y", y)
    _checks.same_shape("y", targets.shape, "of X less its last axis", design.shape[:-1], "give one target a row of X")
    dtype = _checks.compute_dtype(design, targets)
    return design.astype(dtype), targets.astype(dtype)


def _bound(name: str, value: ArrayLike, y: Array) -> Array:
    array = jnp.asarray(value)
    _checks.broadcastable(name, array.shape, y.shape)
    return jnp.broadcast_to(array.astype(y.dtype), y.shape)


def _simplex_forward(_: None, y: Array) -> tuple[Array, Array]:
    # Measured from the maximum the entries are exact or small. The threshold is at least -1 there, so that nothing
    # below -1 is in the support; cut off, it does not spoil the sums.
    largest = jnp.max(y, axis=-1, keepdims=True)
    below = jnp.maximum(y - jnp.where(jnp.isfinite(largest), largest, jnp.nan), -1)
    descending = jnp.sort(below, axis=-1, descending=True)
    count = jnp.broadcast_to(jnp.arange(1, y.shape[-1] + 1, dtype=y.dtype), y.shape)
    size = jnp.sum(count * descending > jnp.cumsum(descending, axis=-1) - 1, axis=-1, keepdims=True).astype(y.dtype)
    # The support is chosen by running sums; its threshold is summed afresh, pairwise.
    threshold = (jnp.sum(jnp.where(count <= size, descending, 0), axis=-1, keepdims=True) - 1) / size
    projection = jnp.maximum(below - threshold, 0)
    return projection, (projection > 0).astype(y.dtype)


def _simplex_backward(_: None, support: Array, cotangent: Array) -> tuple[Array]:
    inside = jnp.where(support == 0, 0, cotangent)
    return (support * (inside - jnp.sum(inside, axis=-1, keepdims=True) / jnp.sum(support, axis=-1, keepdims=True)),)


_project_to_simplex = closed_form(_simplex_forward, _simplex_backward)
