"""Euclidean projections onto the closed convex sets that have a closed form (chapter 4.1, §4.1.4)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._rules import simplex as rules
from lossjax.geometry._pseudo_inverse import factors, matmul
from lossjax.geometry._vectors import norm, per_row, vectors
from lossjax.numerics import unit_roundoff


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
      >>> from lossjax.geometry import project_to_simplex
      >>> print(project_to_simplex(jnp.array([10000.5, 10000.0, -3.0])))
      [0.75 0.25 0.  ]

    Source: §4.1.4; Held, Wolfe and Crowder (1974); Martins and Astudillo (2016).
    """
    (y,) = vectors(y=y)
    return rules.project_to_simplex(y)


def project_to_box(y: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> Array:
    r"""The point x nearest to y with lower ≤ x ≤ upper, elementwise.

    Domain: any y, lower <= upper. Other bounds raise; if that is known only when the program runs (of traced arrays),
    the result is NaN, because a compiled program cannot raise.

    Gradient: 1 in y inside the box and on its boundary; elsewhere 1 in the bound that the result equals.

    Args:
      y: ``[..., n]`` floats.
      lower: real numbers that broadcast to y's shape; -inf is no bound.
      upper: real numbers that broadcast to y's shape; +inf is no bound.

    Returns:
      The projection, ``[..., n]``, in float32 or wider.

    Accuracy: exact.

    Raises:
      TypeError: y that is not floating-point.
      ValueError: bounds that do not broadcast to y, or cross.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import project_to_box
      >>> print(project_to_box(jnp.array([2.0, 0.5]), 0.0, 1.0))
      [1.  0.5]

    Source: §4.1.4 (the unit square is the counterexample to equality in the printed condition).
    """
    (y,) = vectors(y=y)
    lower, upper = (_bound(name, value, y) for name, value in (("lower", lower), ("upper", upper)))
    ordered = lower <= upper
    if checks.is_concrete(ordered) and not bool(jnp.all(ordered)):
        raise ValueError("lower must be at most upper everywhere, got bounds that cross; exchange them")
    inside = jnp.where(y < lower, lower, jnp.where(y > upper, upper, y))
    return jnp.where(ordered, inside, jnp.nan)


def project_to_ball(y: ArrayLike, radius: ArrayLike = 1.0) -> Array:
    r"""The point x nearest to y with ‖x‖₂ ≤ radius.

    .. math:: y \min(1, r/\|y\|_2)

    Domain: finite y, radius >= 0.

    Gradient: inside, that of y; outside, r/‖y‖ times the part orthogonal to y, and y/‖y‖ in the radius.

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
      >>> from lossjax.geometry import project_to_ball
      >>> print(project_to_ball(jnp.array([3.0, 4.0]), radius=10.0), project_to_ball(jnp.array([0.0, 4.0])))
      [3. 4.] [0. 1.]

    Source: §4.1.4.
    """
    (y,) = vectors(y=y)
    r = checks.number("radius", radius, y.dtype, positive=False)
    length = norm(y)[..., None]
    outside = length > r
    return jnp.where(outside, r * (y / jnp.where(outside, length, 1)), y)


def project_to_half_space(y: ArrayLike, normal: ArrayLike, offset: ArrayLike) -> Array:
    r"""The point nearest to y with ⟨a, x⟩ ≤ b.

    .. math:: x = y - \frac{\max(\langle a, y\rangle - b,\, 0)}{\|a\|^2}\, a

    Domain: finite y and a. For a = 0 every point satisfies the condition if b >= 0; otherwise no point does, and the
    call raises; if that is known only when the program runs (of traced arrays), the result is NaN, because a compiled
    program cannot raise.

    Gradient: inside and on the boundary, that of y; outside, true in y, a and b.

    Args:
      y: ``[..., n]`` floats.
      normal: a, ``[n]`` floats, of any length.
      offset: b, a number, or one per row, ``[...]``; +inf is no bound.

    Returns:
      The projection, ``[..., n]``, in float32 or wider.

    Accuracy: within (n + 8)u(‖y‖ + |b|/‖a‖); exact inside.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not fit; a = 0 with b < 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import project_to_half_space
      >>> print(project_to_half_space(jnp.array([3.0, 4.0]), jnp.array([0.0, 2.0]), 2.0))
      [3. 1.]

    Source: §4.1.4; Boyd and Vandenberghe, Convex Optimization (2004), §8.1.
    """
    (y,), (a,) = vectors(y=y), vectors(normal=normal)
    checks.same_shape("normal", a.shape, "of a row of y", y.shape[-1:], "give one half-space, or use jax.vmap")
    dtype = checks.compute_dtype(y, a)
    y, a = y.astype(dtype), a.astype(dtype)
    b = per_row("offset", offset, y.shape[:-1], dtype)
    length = norm(a)
    is_zero = length == 0
    feasible = ~is_zero | (b >= 0)
    if checks.is_concrete(feasible) and not bool(jnp.all(feasible)):
        raise ValueError("normal is 0 and offset negative: no point has 0 ≤ offset; give another of the two")
    length = jnp.where(is_zero, 1, length)
    unit = jnp.broadcast_to(a / length, y.shape)
    everywhere = jnp.isposinf(b)
    excess = jnp.sum(unit * y, axis=-1, keepdims=True) - jnp.where(everywhere, 0, b) / length
    inside = everywhere | (excess <= 0)  # False for NaN, which is thereby kept.
    nearest = jnp.where(inside, y, y - excess * unit)
    return nearest * jnp.where(feasible, jnp.ones_like(b), jnp.nan)


def project_to_affine(y: ArrayLike, A: ArrayLike, b: ArrayLike) -> Array:
    r"""The point nearest to y with Ax = b.

    .. math:: x = y - A^+ (Ay - b)

    Domain: any A; it may be wide, rank-deficient or zero. If b is not in the range of A, no point satisfies Ax = b, and
    the call raises; if that is known only when the program runs (of traced arrays), the result is NaN, because a
    compiled program cannot raise. b is taken to be in the range of A if it is in the range of a matrix within
    4 max(k, n)u‖A‖ of A, which is as exactly as the singular values of A are known: with x₀ = A⁺b, if ‖b - Ax₀‖ is at
    most that number times ‖x₀‖.

    Gradient: true in y, A and b where the rank does not change nearby.

    Args:
      y: ``[..., n]`` floats.
      A: ``[k, n]`` floats.
      b: ``[k]`` floats.

    Returns:
      The projection, ``[..., n]``, in units of y, in float32 or wider.

    Accuracy: ‖Ax - b‖ ≤ 256u‖A‖(‖y‖ + ‖x‖).

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not fit; a b that no point attains.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import project_to_affine
      >>> print(jnp.round(project_to_affine(jnp.array([1.0, 2.0, 6.0]), jnp.ones((1, 3)), jnp.zeros(1)), 5))
      [-2. -1.  3.]

    Source: theorem 4.1.3; Golub and Van Loan, Matrix Computations (2013), §5.5.
    """
    (y,), A, b = vectors(y=y), checks.floating("A", A), checks.floating("b", b)
    if A.ndim != 2 or 0 in A.shape:
        raise ValueError(f"A has shape {A.shape}, wanted [k, n], k, n >= 1; for one equation use a[None, :]")
    checks.same_shape("A", A.shape[1:], "of a row of y, after its first axis", y.shape[-1:], "give [k, n]")
    checks.same_shape("b", b.shape, "of A less its last axis", A.shape[:1], "give one number per row of A")
    dtype = checks.compute_dtype(y, A, b)
    y, A, b = y.astype(dtype), A.astype(dtype), b.astype(dtype)
    inverse = factors(A)
    least = inverse.solve(b[:, None])
    allowed = 4 * max(A.shape) * unit_roundoff(dtype) * norm(A.ravel()) * norm(least[:, 0])
    infeasible = norm(b - matmul(A, least)[:, 0]) > allowed  # False for NaN, which is thereby kept.
    if checks.is_concrete(infeasible) and bool(infeasible):
        raise ValueError("no point has Ax = b: b is not in the range of A; for the best fit use least_squares")
    missing = matmul(y.reshape(-1, y.shape[-1]), A.T) - jnp.broadcast_to(b, (y.size // y.shape[-1], b.size))
    nearest = y - inverse.solve(missing.T).T.reshape(y.shape)
    return nearest * jnp.where(infeasible, jnp.nan, jnp.ones_like(infeasible, dtype))


def _bound(name: str, value: ArrayLike, y: Array) -> Array:
    array = jnp.asarray(value)
    checks.broadcastable(name, array.shape, y.shape)
    return jnp.broadcast_to(array.astype(y.dtype), y.shape)
