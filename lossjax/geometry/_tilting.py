r"""The distribution p = softmax(log q + Tᵀλ) whose moments Tp are b, and its derivatives in q, T and b.

**Newton's method.** λ minimises the convex function Φ(λ) = log⟨q, exp Tᵀλ⟩ - ⟨b, λ⟩, which has the gradient Tp - b and
the Hessian TJ(p)Tᵀ with J(p) = diag(p) - ppᵀ. Along a step d, the third derivative of φ(t) = Φ(λ + td) is a third
central moment of Tᵀd. It is at most R = max Tᵀd - min Tᵀd times the second derivative: |φ'''| ≤ Rφ''. For the Newton
step (and for the shorter step that a larger Hessian gives) φ'(0) = -δ and φ''(0) ≤ δ, and two integrations give

    φ(t) ≤ φ(0) - δt + δ (e^{Rt} - 1 - Rt)/R²,          least at t = log(1 + R)/R,

This t is a descent whatever R is, and it tends to the whole Newton step as R -> 0. A longer part of the step is taken
where φ' is still negative at its end: Φ is convex, so it has fallen all along that part. On the way to the edge of the
moments, where λ is infinite, every whole step divides the missing moment by e.

**Derivative.** Let u = Tᵀw, A = TJTᵀ and r_i = p_i/q_i = e^{(Tᵀλ)_i}/⟨q, exp Tᵀλ⟩. Differentiating Tp = b gives

    A dλ = db - dT p - TJ (dq/q + dTᵀλ),

so that the pullback of a cotangent c of λ, with w = A⁻¹c, is

    in b:   w
    in q:   -r∘(u - ⟨p, u⟩), which is right at q_i = 0 too
    in T:   -w pᵀ - λ (Ju)ᵀ
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax._softmax.functions import centered_by
from lossjax.geometry._pseudo_inverse import matmul
from lossjax.numerics import times, unit_roundoff


def tilted_to(q: Array, T: Array, b: Array, max_iterations: int) -> tuple[Array, Array, Array, Array]:
    """For one row: the distribution, the steps made, the residual, and whether the steps have converged."""
    # The columns are measured from one column of the support. Constant rows are then exactly 0, offsets lose nothing,
    # and no mixture of the rows is constant, so that Φ is strictly convex if the rows are independent.
    size = lax.stop_gradient(jnp.max(jnp.where(q != 0, jnp.abs(T), 0), axis=1))
    size = jnp.where(size == 0, 1, size)
    origin = jnp.take(T, jnp.argmax(q), axis=1)
    T, b = (T - origin[:, None]) / size[:, None], (b - origin) / size
    whiten, singular = _whitening(*lax.stop_gradient((q, T)))
    statistics, moments = matmul(whiten, T), matmul(whiten, b[:, None])[:, 0]
    given = _Problem(*lax.stop_gradient((q, T, b)), whiten, singular, *lax.stop_gradient((statistics, moments)))
    found = _newton(given, max_iterations)
    solution = _dual(q, statistics, moments, found.solution)
    p = _tilted(q, statistics, solution)[1]
    known_p, known_T, known_b = lax.stop_gradient((p, T, b))
    on_support = jnp.where(q != 0, known_T, 0)
    residual = jnp.max(jnp.abs(matmul(on_support, known_p[:, None])[:, 0] - known_b))
    converged = ~found.impossible & (found.residual <= found.allowed) & (residual <= (1 + singular[0]) * found.allowed)
    return p, found.iterations, residual, converged


def _whitening(q: Array, T: Array) -> tuple[Array, Array]:
    """The matrix that makes rows of T orthonormal on the support (or 0), and the singular values of T there.

    It is a constant to derivatives: the conditions on p are the same in any basis of the row space, and the rank of T
    is taken not to change.
    """
    left, singular, _ = jnp.linalg.svd(jnp.where(q != 0, T, 0), full_matrices=False)
    negligible = singular <= max(T.shape) * unit_roundoff(T.dtype) * (1 + singular[0])  # False for NaN.
    scale = jnp.where(negligible, 1, singular)
    return jnp.where(negligible[:, None], 0, left.T / scale[:, None]), singular


class _Problem(NamedTuple):
    """The data of one row: T and b in units of T's rows, and multiplied by ``whiten``."""

    q: Array
    T: Array
    b: Array
    whiten: Array
    singular: Array
    statistics: Array
    moments: Array


class _Newton(NamedTuple):
    solution: Array
    residual: Array
    allowed: Array
    impossible: Array
    iterations: Array


def _newton(given: _Problem, max_iterations: int) -> _Newton:
    """λ for orthonormal statistics, whose entries are at most 1, the norm of Tp - b, and what rounding leaves of it."""
    q, T, b, whiten, singular, statistics, moments = given
    u, support = unit_roundoff(q.dtype), q != 0
    # The data are known to within u. A combination of rows that nearly vanishes is known to fewer digits.
    known = jnp.where(singular > 0, jnp.minimum(1, singular), 1)
    inexact = 4 * u * (8 + max(T.shape))
    lengths = 0.5 ** jnp.arange(8, dtype=q.dtype)

    def advanced(state: _Newton) -> _Newton:
        newton = _step(q, statistics, moments, state.solution)
        along = matmul(newton[None], statistics)[0]
        # A plane that separates b from all columns by more than rounding proves that b is not a mixture of them.
        plane = matmul(newton[None], whiten)[0]
        beyond = jnp.sum(plane * b) - _range(matmul(plane[None], T)[0], support)[1]
        impossible = state.impossible | (beyond > inexact * jnp.sum(jnp.abs(plane) * (2 + jnp.abs(b))))

        def slope(length: Array) -> Array:
            p = _tilted(q, statistics, state.solution + length * newton)[1]
            return jnp.sum(p * along) - jnp.sum(newton * moments)

        # These parts of the step still descend at their end, by more than rounding.
        falling = jax.vmap(slope)(lengths) < -4 * u * jnp.sum(jnp.abs(newton) / known)
        low, high = _range(along, support)
        reach = jnp.where(high == low, 1, high - low)
        certain = jnp.where(high == low, 1, jnp.log1p(reach) / reach)
        solution = state.solution + newton * jnp.maximum(certain, jnp.max(jnp.where(falling, lengths, 0)))

        exponents = matmul(solution[None], statistics)[0]
        p = _tilted(q, statistics, solution)[1]
        missing = known * (moments - matmul(statistics, p[:, None])[:, 0])
        # p has the errors of the sum over n, of the exponential, and of its rounded argument, which is a sum over λ.
        _, largest = _range(exponents, p != 0)
        sizes = matmul(jnp.abs(solution)[None], jnp.abs(statistics))[0]
        centred = jnp.where(p == 0, 0, exponents - largest)
        size = jnp.minimum(jnp.sum(p * (jnp.abs(centred) + sizes)), -64 * math.log(u))
        allowed = inexact + 4 * u * size
        return _Newton(solution, jnp.linalg.norm(missing), allowed, impossible, state.iterations + 1)

    def goes_on(state: _Newton) -> Array:
        # A NaN residual ends the iteration.
        return (state.residual > state.allowed) & ~state.impossible & (state.iterations < max_iterations - 1)

    zero = jnp.zeros((), q.dtype)
    start = _Newton(jnp.zeros_like(moments), zero + jnp.inf, zero, jnp.zeros((), bool), jnp.int32(0))
    # When the moments are right to rounding, the error of λ may be that rounding divided by the least eigenvalue of
    # A. So one more step is made.
    return advanced(lax.while_loop(goes_on, advanced, start))


def _range(x: Array, where: Array) -> tuple[Array, Array]:
    return jnp.min(jnp.where(where, x, jnp.inf)), jnp.max(jnp.where(where, x, -jnp.inf))


def _tilted(q: Array, statistics: Array, solution: Array) -> tuple[Array, Array]:
    """The ratio p/q, and p."""
    ratio = _ratio(q, matmul(solution[None], statistics)[0])
    return ratio, times(q, ratio)


def _solve(statistics: Array, p: Array, right_side: Array, *, floor: float = 0) -> Array:
    """``A⁻¹`` times the right side, with A increased by its rounding error: a larger A keeps the step a descent.

    With ``floor`` = 1, A is increased by the rounding error of the right side too. Where one class of p is nearly
    certain, A alone would magnify that noise.
    """
    centred = statistics - matmul(statistics, p[:, None])
    covariance = matmul(centred * p[None], centred.T)
    u, tiny = unit_roundoff(p.dtype), float(jnp.finfo(p.dtype).tiny)
    lift = max(statistics.shape) * u * (jnp.trace(covariance) + floor) + tiny**0.5
    return jnp.linalg.solve(covariance + lift * jnp.eye(len(covariance), dtype=p.dtype), right_side)


def _step(q: Array, statistics: Array, moments: Array, solution: Array, *, length: float = 1) -> Array:
    """Newton's step for Tp = b. With ``length`` = 0 its value is 0, and only its derivative is that of the step."""
    p = _tilted(q, statistics, solution)[1]
    missing = moments - matmul(statistics, p[:, None])[:, 0]
    if length:
        return _solve(statistics, p, missing, floor=1)
    return _solve(statistics, p, missing - lax.stop_gradient(missing))


def _dual_forward(q: Array, statistics: Array, moments: Array, solution: Array) -> tuple[Array, Any]:
    # In the body of a loop that JAX (0.10 to 0.12) has linearised, it drops the rule and differentiates this function.
    # Each Newton step doubles the order to which the derivatives are right: after two, they are right up to the third.
    once = lax.stop_gradient(solution)
    once = once + _step(q, statistics, moments, once, length=0)
    return once + _step(q, statistics, moments, once, length=0), (q, statistics, moments, solution)


def _dual_backward(saved: Any, cotangent: Array) -> tuple[Array, Array, Array, Array]:
    q, statistics, moments, solution = saved
    multipliers = _dual(q, statistics, moments, solution)
    ratio, p = _tilted(q, statistics, multipliers)
    w = _solve(statistics, p, cotangent)
    along = matmul(w[None], statistics)[0]
    centred = centered_by(p, along)
    in_statistics = -jnp.outer(w, p) - jnp.outer(multipliers, p * centred)
    return -ratio * centred, in_statistics, w, jnp.zeros_like(solution)


_dual = closed_form(_dual_forward, _dual_backward)
"""``(q, statistics, moments, solution) -> λ``, given as ``solution``; its derivative is that of the equation Tp = b."""


# r_i = e^{z_i}/⟨q, e^z⟩ has a derivative in q at q_i = 0 too, where log q has none:
#
#     ∂r_i/∂q_j = -r_i r_j,        ∂r_i/∂z_j = r_i (δ_ij - q_j r_j).


def _ratio_forward(q: Array, z: Array) -> tuple[Array, tuple[Array, Array]]:
    largest = jnp.max(jnp.where(q == 0, -jnp.inf, jnp.log(q) + z))
    exponential = jnp.exp(z - jnp.where(jnp.isneginf(largest), jnp.nan, largest))
    return exponential / jnp.sum(times(q, exponential)), (q, z)


def _ratio_backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    q, z = saved
    ratio = _ratio(q, z)
    mean = jnp.sum(cotangent * ratio)
    return -mean * ratio, cotangent * ratio - mean * times(q, ratio)


_ratio = closed_form(_ratio_forward, _ratio_backward)
"""``(q, z) -> r``, where r = e^z/⟨q, e^z⟩."""
