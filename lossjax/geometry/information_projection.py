r"""Information projections (G6): onto moments, in the first argument of KL; onto an exponential family, in the second.

**Both are one.** Let p* = softmax(log q + Tᵀλ) have the moments Tp* = b. For every p with the same moments,
log p*/q = Tᵀλ - const has the same mean under p and under p*, so that

    KL(p‖q) = KL(p‖p*) + ⟨p, log p*/q⟩ = KL(p‖p*) + KL(p*‖q),                                             (Pythagoras)

hence p* is the I-projection of q onto {p : Tp = b}. And for every member q' = softmax(log q + Tᵀλ') of the family of q
the same holds with q' for q: p* is the M-projection onto that family of every p with Tp = b.

**Newton.** The λ wanted minimises the convex Φ(λ) = log⟨q, exp Tᵀλ⟩ - ⟨b, λ⟩: gradient Tp - b, Hessian TJ(p)Tᵀ with
J(p) = diag(p) - ppᵀ. Along a step d, the third derivative of φ(t) = Φ(λ + td) is a third central moment of Tᵀd, at most
R = max Tᵀd - min Tᵀd times the second: |φ'''| ≤ Rφ''. For the Newton step (and any shorter one, from a larger Hessian)
φ'(0) = -δ, φ''(0) ≤ δ, and two integrations give

    φ(t) ≤ φ(0) - δt + δ (e^{Rt} - 1 - Rt)/R²,          least at t = log(1 + R)/R,

a descent whatever R is, without a search, and the whole Newton step as R -> 0.

**Derivative.** With u = Tᵀw, A = TJTᵀ, and r_i = p_i/q_i = e^{(Tᵀλ)_i}/⟨q, exp Tᵀλ⟩, differentiating Tp = b,

    A dλ = db - dT p - TJ (dq/q + dTᵀλ),

so that a cotangent c of λ, with w = A⁻¹c, is pulled back to

    w in b,        -r∘(u - ⟨p, u⟩) in q, true at q_i = 0 also,        -w pᵀ - λ (Ju)ᵀ in T.
"""

from typing import Any, Literal, NamedTuple, overload

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax import _checks
from lossjax._autodiff import closed_form
from lossjax.geometry._elementary import vectors
from lossjax.geometry._pseudo_inverse import times
from lossjax.geometry.intersection import ProjectionInfo, settled
from lossjax.numerics import times as silencing
from lossjax.numerics import unit_roundoff


@overload
def i_projection(
    q: ArrayLike, T: ArrayLike, b: ArrayLike, *, max_iterations: int = ..., return_info: Literal[False] = ...
) -> Array: ...
@overload
def i_projection(
    q: ArrayLike, T: ArrayLike, b: ArrayLike, *, max_iterations: int = ..., return_info: Literal[True]
) -> tuple[Array, ProjectionInfo]: ...
def i_projection(
    q: ArrayLike, T: ArrayLike, b: ArrayLike, *, max_iterations: int = 100, return_info: bool = False
) -> Array | tuple[Array, ProjectionInfo]:
    r"""The distribution with the moments b nearest to q: the I-projection onto a linear family.

    .. math:: p^* = \arg\min_p \{ \mathrm{KL}(p \| q) : Tp = b,\ \textstyle\sum_i p_i = 1 \}
        = \operatorname{softmax}(\log q + T^\top \lambda)

    It is the distribution of largest entropy with these moments, if q is uniform.

    Domain: q >= 0 of any scale, not all 0; zeros stay zeros. Rows of T may be redundant or constant: each is measured
    in units of its largest entry, known to u. b must be the moments of some distribution on the support of q; at the
    edge of these, λ is infinite, and p* is its limit to rounding. NaN for other b, if that is known only at run time.

    Gradient: true in q (at q_i = 0 also), T and b, to any order, where the rank of T and the support of p* do not
    change nearby.

    Args:
      q: ``[..., n]`` floats.
      T: ``[k, n]`` floats, the statistics.
      b: ``[..., k]`` floats, the moments wanted.
      max_iterations: Newton steps, an integer.
      return_info: also return how the iteration ended; then nothing is raised if it did not converge.

    Returns:
      p*, ``[..., n]``, in float32 or wider; with ``return_info`` the pair (p*, :class:`ProjectionInfo`). Its residual
      is the largest |Tp* - b|, each moment in units of the largest entry of its row of T.

    Accuracy: that residual is at most 4u(1 + s)(8 + max(k, n) + g), where s <= 2√(kn) is a norm of T in the same units
    and g, the size of the exponents, is a small number but near the edge.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not fit; moments that no distribution on the support of q has.

    Example:
      >>> import jax.numpy as jnp
      >>> p = i_projection(jnp.full(3, 1 / 3), jnp.array([[0.0, 1.0, 2.0]]), jnp.array([10 / 7]))
      >>> print(jnp.round(7 * p, 4))
      [1. 2. 4.]

    Source: G6; Csiszár (1975); Kullback (1959).
    """
    (q,), T, b = vectors(q=q), _statistics(T), _checks.floating("b", b)
    _checks.same_shape("T", T.shape[1:], "of a row of q, after its first axis", q.shape[-1:], "give [k, n]")
    _checks.same_shape("b", b.shape, "of q, but k of T for n", (*q.shape[:-1], T.shape[0]), "give k moments a row")
    dtype = _checks.compute_dtype(q, T, b)
    point, info = _by_row(q.astype(dtype), T.astype(dtype), b.astype(dtype), max_iterations)
    remedy = "no distribution on the support of q has these moments; or raise max_iterations"
    point, info = settled(point, info, raises=not return_info, remedy=remedy)
    return (point, info) if return_info else point


@overload
def m_projection(
    p: ArrayLike, T: ArrayLike, base: ArrayLike, *, max_iterations: int = ..., return_info: Literal[False] = ...
) -> Array: ...
@overload
def m_projection(
    p: ArrayLike, T: ArrayLike, base: ArrayLike, *, max_iterations: int = ..., return_info: Literal[True]
) -> tuple[Array, ProjectionInfo]: ...
def m_projection(
    p: ArrayLike, T: ArrayLike, base: ArrayLike, *, max_iterations: int = 100, return_info: bool = False
) -> Array | tuple[Array, ProjectionInfo]:
    r"""The member of an exponential family nearest to p: the M-projection, the fit of maximum likelihood.

    .. math:: q^* = \arg\min_q \{ \mathrm{KL}(p \| q) : q = \operatorname{softmax}(\log q_0 + T^\top \lambda) \}

    It has the moments of p, Tq* = Tp, and so is the I-projection of the base q₀ onto these.

    Domain: distributions p, base >= 0 of any scale; p > 0 only where base > 0 (else every KL is infinite: NaN if that
    is known only at run time). Where zeros of p put Tp at the edge of the moments of the family, λ is infinite, and q*
    is in the closure of the family.

    Gradient: as of :func:`i_projection`: true in p, T and base.

    Args:
      p: ``[..., n]`` floats, each row summing to 1.
      T: ``[k, n]`` floats, the statistics.
      base: ``[..., n]`` floats, the same shape as p.
      max_iterations: Newton steps, an integer.
      return_info: also return how the iteration ended; then nothing is raised if it did not converge.

    Returns:
      q*, ``[..., n]``, in float32 or wider; with ``return_info`` the pair (q*, :class:`ProjectionInfo`), the residual
      in the units of :func:`i_projection`.

    Accuracy: as of :func:`i_projection`.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not fit; p > 0 where base is 0.

    Example:
      >>> import jax.numpy as jnp
      >>> p, base = jnp.array([0.5, 0.0, 0.5]), jnp.array([1.0, 2.0, 1.0])  # binomials
      >>> print(jnp.round(m_projection(p, jnp.array([[0.0, 1.0, 2.0]]), base), 4))
      [0.25 0.5  0.25]

    Source: G6; Amari and Nagaoka, Methods of Information Geometry (2000), §3.5.
    """
    (p, base), T = vectors(p=p, base=base), _statistics(T)
    _checks.same_shape("T", T.shape[1:], "of a row of p, after its first axis", p.shape[-1:], "give [k, n]")
    dtype = _checks.compute_dtype(p, T)
    p, T, base = p.astype(dtype), T.astype(dtype), base.astype(dtype)
    moments = times(p.reshape(-1, p.shape[-1]), T.T).reshape(*p.shape[:-1], T.shape[0])
    point, info = _by_row(base, T, moments, max_iterations)
    inside = ~jnp.any((p != 0) & (base == 0), axis=-1)
    remedy = "p must be a distribution, and 0 where base is; or raise max_iterations"
    info = info._replace(converged=info.converged & inside)
    point, info = settled(point, info, raises=not return_info, remedy=remedy)
    return (point, info) if return_info else point


def _statistics(T: ArrayLike) -> Array:
    array = _checks.floating("T", T)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"T has shape {array.shape}, wanted [k, n], k, n >= 1; for one statistic use t[None, :]")
    return array


def _by_row(q: Array, T: Array, b: Array, max_iterations: int) -> tuple[Array, ProjectionInfo]:
    if _checks.integer("max_iterations", max_iterations) < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    row = jnp.vectorize(lambda q, b: _project(q, T, b, max_iterations), signature="(n),(k)->(n),(),(),()")
    point, *ending = row(q, b)
    return point, ProjectionInfo(*ending)


def _project(q: Array, T: Array, b: Array, max_iterations: int) -> tuple[Array, Array, Array, Array]:
    # Measured from one column of the support, constant rows are exactly 0 and offsets cost nothing; and no mixture of
    # the rows is constant, so that Φ is strictly convex once they are independent.
    size = lax.stop_gradient(jnp.max(jnp.where(q != 0, jnp.abs(T), 0), axis=1))
    size = jnp.where(size == 0, 1, size)
    origin = jnp.take(T, jnp.argmax(q), axis=1)
    T, b = (T - origin[:, None]) / size[:, None], (b - origin) / size
    whiten, norm_of_T = _whitening(*lax.stop_gradient((q, T)))
    statistics, moments = times(whiten, T), times(whiten, b[:, None])[:, 0]
    found = _newton(*lax.stop_gradient((q, statistics, moments)), max(T.shape), max_iterations)
    solution = _dual(None, q, statistics, moments, found.solution)
    p = _tilted(q, statistics, solution)[1]
    known_p, known_T, known_b = lax.stop_gradient((p, T, b))
    on_support = jnp.where(q != 0, known_T, 0)
    residual = jnp.max(jnp.abs(times(on_support, known_p[:, None])[:, 0] - known_b))
    converged = ~found.impossible & (found.residual <= found.allowed) & (residual <= (1 + norm_of_T) * found.allowed)
    return p, found.iterations, residual, converged


def _whitening(q: Array, T: Array) -> tuple[Array, Array]:
    """The matrix that makes rows of T orthonormal on the support (or 0), and the norm of T there.

    A constant: what is asked of p is the same in any basis of the row space, whose rank is taken to be kept.
    """
    left, singular, _ = jnp.linalg.svd(jnp.where(q != 0, T, 0), full_matrices=False)
    negligible = singular <= max(T.shape) * unit_roundoff(T.dtype) * (1 + singular[0])  # False for NaN: it stays
    scale = jnp.where(negligible, 1, singular)
    return jnp.where(negligible[:, None], 0, left.T / scale[:, None]), singular[0]


class _Newton(NamedTuple):
    solution: Array
    residual: Array
    allowed: Array
    impossible: Array
    iterations: Array


def _newton(q: Array, statistics: Array, moments: Array, extent: int, max_iterations: int) -> _Newton:
    """λ for orthonormal statistics, whose entries are at most 1: the norm of Tp - b and what rounding leaves of it."""
    u, support, rank = unit_roundoff(q.dtype), q != 0, len(moments)

    def advanced(state: _Newton) -> _Newton:
        newton = _step(q, statistics, moments, state.solution)
        low, high = _range(times(newton[None], statistics)[0], support)
        reach = jnp.where(high == low, 1, high - low)
        solution = state.solution + newton * jnp.where(high == low, 1, jnp.log1p(reach) / reach)

        exponents = times(solution[None], statistics)[0]
        p = _tilted(q, statistics, solution)[1]
        missing = moments - times(statistics, p[:, None])[:, 0]
        size = jnp.sum(jnp.abs(solution))
        # What p is off by: the sum over n, the exponential, and the rounding of its argument, a sum over λ.
        _, largest = _range(exponents, p != 0)
        centred = jnp.where(p == 0, 0, exponents - largest)
        allowed = 4 * u * (8 + extent + jnp.sum(p * jnp.abs(centred)) + size)
        # A plane between b and all columns, beyond rounding, is the proof that b is no mixture of them.
        inner = jnp.sum(solution * moments)
        doubt = 4 * rank * u * (size + jnp.sum(jnp.abs(solution * moments)))
        impossible = state.impossible | (inner - _range(exponents, support)[1] > doubt)
        return _Newton(solution, jnp.linalg.norm(missing), allowed, impossible, state.iterations + 1)

    def goes_on(state: _Newton) -> Array:  # not on NaN
        return (state.residual > state.allowed) & ~state.impossible & (state.iterations < max_iterations - 1)

    zero = jnp.zeros((), q.dtype)
    start = _Newton(jnp.zeros_like(moments), zero + jnp.inf, zero, jnp.zeros((), bool), jnp.int32(0))
    # Within rounding of the moments, λ may still be off by that over the least eigenvalue: one step more.
    return advanced(lax.while_loop(goes_on, advanced, start))


def _range(x: Array, where: Array) -> tuple[Array, Array]:
    return jnp.min(jnp.where(where, x, jnp.inf)), jnp.max(jnp.where(where, x, -jnp.inf))


def _tilted(q: Array, statistics: Array, solution: Array) -> tuple[Array, Array]:
    """R = p/q and p."""
    ratio = _ratio(None, q, times(solution[None], statistics)[0])
    return ratio, silencing(q, ratio)


def _solve(statistics: Array, p: Array, right_side: Array) -> Array:
    """A⁻¹ of it. A is lifted above its rounding error: larger than the true one, it keeps the descent."""
    centred = statistics - times(statistics, p[:, None])
    covariance = times(centred * p[None], centred.T)
    lift = max(statistics.shape) * unit_roundoff(p.dtype) * jnp.trace(covariance) + jnp.finfo(p.dtype).tiny ** 0.5
    return jnp.linalg.solve(covariance + lift * jnp.eye(len(covariance), dtype=p.dtype), right_side)


def _step(q: Array, statistics: Array, moments: Array, solution: Array, *, length: float = 1) -> Array:
    """Newton's step for Tp = b; or, of length 0, its derivative alone."""
    p = _tilted(q, statistics, solution)[1]
    missing = moments - times(statistics, p[:, None])[:, 0]
    return _solve(statistics, p, missing if length else missing - lax.stop_gradient(missing))


def _dual_forward(_: None, q: Array, statistics: Array, moments: Array, solution: Array) -> tuple[Array, Any]:
    # In the body of a loop that it has linearised, JAX drops the rule and differentiates this. Newton's steps double
    # the digits, in every variable that the arguments depend on as well: after two, third derivatives are right.
    once = lax.stop_gradient(solution)
    once = once + _step(q, statistics, moments, once, length=0)
    return once + _step(q, statistics, moments, once, length=0), (q, statistics, moments, solution)


def _dual_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array, Array, Array, Array]:
    q, statistics, moments, solution = residuals
    multipliers = _dual(None, q, statistics, moments, solution)
    ratio, p = _tilted(q, statistics, multipliers)
    w = _solve(statistics, p, cotangent)
    along = times(w[None], statistics)[0]
    centred = along - jnp.sum(p * along)
    in_statistics = -jnp.outer(w, p) - jnp.outer(multipliers, p * centred)
    return -ratio * centred, in_statistics, w, jnp.zeros_like(solution)


_dual = closed_form(_dual_forward, _dual_backward)


# r_i = e^{z_i}/⟨q, e^z⟩ is a function of q at q_i = 0 also, where log q has no derivative:
#     ∂r_i/∂q_j = -r_i r_j,        ∂r_i/∂z_j = r_i (δ_ij - q_j r_j).


def _ratio_forward(_: None, q: Array, z: Array) -> tuple[Array, tuple[Array, Array]]:
    largest = jnp.max(jnp.where(q == 0, -jnp.inf, jnp.log(q) + z))
    exponential = jnp.exp(z - jnp.where(jnp.isneginf(largest), jnp.nan, largest))
    return exponential / jnp.sum(silencing(q, exponential)), (q, z)


def _ratio_backward(_: None, residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    q, z = residuals
    ratio = _ratio(None, q, z)
    mean = jnp.sum(cotangent * ratio)
    return -mean * ratio, cotangent * ratio - mean * silencing(q, ratio)


_ratio = closed_form(_ratio_forward, _ratio_backward)
