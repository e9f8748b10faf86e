r"""Dykstra's alternation: the point of an intersection of closed convex sets C_i nearest to y, and its derivatives.

Let P_i project onto C_i. The point x is the nearest exactly if y - x is a sum of normals p_i to the sets at x. With
w_i = x + p_i, and m sets:

    P_i(w_i) = x  for every i,        (1 - m) x + Σ w_i = y                                                         (1)

The alternation solves this for one w_i after the other, while the other increments p_j are kept: it is coordinate
ascent on the dual problem. A cycle changes the increment p_i by what two successive sets disagree on. So increments
that do not change mean that one point lies in all sets. The increments of disjoint sets change forever.

Derivative.  A projection is the gradient of a convex function, ½‖w‖² - ½ dist(w, C)², and 1-Lipschitz: its derivative
D_i at w_i is symmetric, 0 ⪯ D_i ⪯ I. Let ė_i be the change of P_i(w_i) due to the arrays that P_i captures. Then

    ẋ - D_i ẇ_i = ė_i,        (1 - m) ẋ + Σ ẇ_i = ẏ                                                                 (2)

This is (1) for the maps w ↦ D_i w + ė_i, so the same alternation solves it. ẋ is unique, because it minimises the
strictly convex ½‖v - ẏ‖² + Σ ½⟨v, (D_i⁺ - I) v⟩ on ∩ (ė_i + range D_i). And (2), a linear map from (ẋ, ẇ) to (ẏ, ė),
is symmetric, so the pullback solves (2) as well: the cotangents (x̄, w̄) on the right give (ȳ, ē) on the left. The
cotangent of a captured array is the sum of the pullbacks of the ē_i by the P_i.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer, eval_jaxpr
from jax.typing import ArrayLike

from lossjax._core import checks, versions
from lossjax._core.autodiff import closed_form
from lossjax.geometry._vectors import norm, vectors
from lossjax.numerics import unit_roundoff


class ProjectionInfo(NamedTuple):
    """How an iteration ended, with one entry per row.

    Attributes:
      iterations: ``[...]`` integers, the cycles or steps made.
      residual: ``[...]``, how far the point is from meeting its conditions, in units that the function documents.
      converged: ``[...]`` booleans; where False the point is NaN.
    """

    iterations: Array
    residual: Array
    converged: Array


Projection = Callable[[Array], Array]
"""From a vector ``[n]`` to the nearest vector of a closed convex set, ``[n]``."""


@overload
def project_convex(
    y: ArrayLike,
    projections: Sequence[Projection],
    *,
    max_iterations: int = ...,
    tolerance: float | None = ...,
    return_info: Literal[False] = ...,
) -> Array: ...
@overload
def project_convex(
    y: ArrayLike,
    projections: Sequence[Projection],
    *,
    max_iterations: int = ...,
    tolerance: float | None = ...,
    return_info: Literal[True],
) -> tuple[Array, ProjectionInfo]: ...
def project_convex(
    y: ArrayLike,
    projections: Sequence[Projection],
    *,
    max_iterations: int = 10_000,
    tolerance: float | None = None,
    return_info: bool = False,
) -> Array | tuple[Array, ProjectionInfo]:
    r"""The point nearest to y in the intersection of convex sets, by Dykstra's alternation of their projections.

    .. math:: x = \arg\min \{ \|x - y\| : x \in C_1 \cap \dots \cap C_m \}

    Domain: finite y, and closed convex sets with a common point, which is inside those sets that are not polyhedra.
    An iteration that does not converge, as for disjoint sets, raises; if that is known only when the program runs (of
    a traced array), the result is NaN, because a compiled program cannot raise.

    Gradient: true in y, and in the arrays that the projections capture, to any order to which the projections can be
    differentiated. It is found by alternating their derivatives, and is NaN where that does not converge.

    Args:
      y: ``[..., n]`` floats.
      projections: functions from ``[n]`` to ``[n]``, each a projection onto a closed convex set (for other functions
        the derivatives are wrong). Under ``jax.jit`` they are compiled once; otherwise, once per function object.
      max_iterations: cycles through all sets, an integer.
      tolerance: the iteration ends when two successive sets disagree on the point by no more than this much of the
        largest of ‖y‖ and the ‖w_i‖, the vectors projected. Default 16 m u, with m sets: what rounding may leave.
      return_info: also return how the iteration ended; then nothing is raised if it did not converge.

    Returns:
      The projection, ``[..., n]``, in float32 or wider, exactly in the last of the sets; with ``return_info`` the pair
      (projection, :class:`ProjectionInfo`). Its residual is the distance to the farthest set, in units of the largest
      of ‖y‖ and ‖w_i‖.

    Accuracy: within tolerance·scale/(1 - r), r the factor by which a cycle reduces the error: for two subspaces, the
    squared cosine of the angle between them.

    Raises:
      TypeError: y that is not floating-point.
      ValueError: no projection, one that changes shape or dtype; an iteration that does not converge.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import project_to_box, project_to_simplex
      >>> from lossjax.geometry import project_convex
      >>> capped = [lambda v: project_to_box(v, 0.0, 0.5), project_to_simplex]
      >>> print(jnp.round(project_convex(jnp.array([2.0, 1.0, 0.75]), capped), 5))
      [0.5   0.375 0.125]

    Source: §4.1.4; Dykstra (1983); Boyle and Dykstra (1986); the rule for stopping, Birgin and Raydan (2005).
    """
    (y,) = vectors(y=y)
    if not projections:
        raise ValueError("projections is empty, wanted at least one function; without a set the nearest point is y")
    if checks.integer("max_iterations", max_iterations) < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    limit = None if tolerance is None else checks.static_nonnegative("tolerance", tolerance)
    among, captured = _sets(projections, y, max_iterations, limit)
    by_row = jnp.vectorize(lambda row: tuple(_nearest(among, row, captured)), signature="(n)->(n),(),(),()")
    point, *ending = by_row(y)
    remedy = "the sets may be disjoint; or raise max_iterations or tolerance"
    point, info = settled(point, ProjectionInfo(*ending), raises=not return_info, remedy=remedy)
    return (point, info) if return_info else point


def settled(point: Array, info: ProjectionInfo, *, raises: bool, remedy: str) -> tuple[Array, ProjectionInfo]:
    """Make rows that did not converge NaN, with NaN gradients; or raise ValueError if it is asked for and known."""
    failed = ~info.converged & jnp.isfinite(info.residual)
    if raises and checks.is_concrete(failed) and np.any(np.asarray(failed)):
        worst = float(np.max(np.asarray(info.residual)[np.asarray(failed)]))
        raise ValueError(f"no convergence in {np.count_nonzero(failed)} rows (residual {worst:.3g}); {remedy}")
    sound = jnp.where(info.converged, jnp.ones_like(info.residual), jnp.nan)
    return point * sound[..., None], info


@dataclasses.dataclass(frozen=True)
class _Sets:
    """Static data: the projections as functions of a point and of their captured arrays, and when to stop."""

    projections: tuple[Callable[..., Array], ...]
    sizes: tuple[int, ...]
    max_iterations: int
    tolerance: float

    def at(self, captured: Sequence[Array]) -> list[Projection]:
        """The projections as functions of a point alone."""
        arrays = iter(captured)
        own = [tuple(next(arrays) for _ in range(size)) for size in self.sizes]
        return [lambda w, p=p, a=a: p(w, *a) for p, a in zip(self.projections, own, strict=True)]


class _Nearest(NamedTuple):
    """The projection of one vector, and how its iteration ended: see :class:`ProjectionInfo`."""

    point: Array
    iterations: Array
    residual: Array
    converged: Array


class _State(NamedTuple):
    solution: Array  # [m + 1, n]: x in the first row, the w_i below it.
    increments: Array
    change: Array
    scale: Array
    iterations: Array


def _sets(
    projections: Sequence[Projection], y: Array, max_iterations: int, tolerance: float | None
) -> tuple[_Sets, list[Array]]:
    """The static data, and the traced arrays that the projections capture, as arguments."""
    functions, sizes, captured = [], [], []
    vector = jax.ShapeDtypeStruct(y.shape[-1:], y.dtype)
    for index, projection in enumerate(projections):
        traced: versions.Jaxpr = jax.make_jaxpr(projection)(vector)
        if [(out.shape, out.dtype) for out in traced.out_avals] != [(vector.shape, vector.dtype)]:
            raise ValueError(f"projection {index} gives {traced.out_avals} for {vector}, wanted the same")
        constants = versions.constants(traced)
        traces = any(isinstance(array, Tracer) for array in constants)
        functions.append(_with_arguments(traced) if traces else projection)
        sizes.append(len(constants) if traces else 0)
        captured += constants if traces else []
    # Once converged, a projection that is within 8u of the truth and the two sums around it move a point by 10u of its
    # size. So a cycle through m sets moves it by 10mu at most.
    each = 16 * len(functions) * unit_roundoff(y.dtype) if tolerance is None else tolerance
    return _Sets(tuple(functions), tuple(sizes), max_iterations, each), captured


def _with_arguments(traced: versions.Jaxpr) -> Callable[..., Array]:
    def projection(w: Array, *captured: Array) -> Array:
        return eval_jaxpr(versions.body(traced), captured, w)[0]

    return projection


def _nearest(among: _Sets, y: Array, captured: Sequence[Array]) -> _Nearest:
    """The projection of one vector."""
    projections = among.at(lax.stop_gradient(list(captured)))
    found = _alternate(projections, lax.stop_gradient(y), among)
    point = _settled(among, y, found.solution, *captured)[0]
    apart = jnp.max(jnp.stack([norm(found.solution[0] - project(found.solution[0])) for project in projections]))
    residual = jnp.where(jnp.isfinite(found.change), apart / jnp.where(found.scale == 0, 1, found.scale), jnp.nan)
    return _Nearest(point, found.iterations, residual, _at_rest(found, among))


def _alternate(maps: Sequence[Projection], start: Array, among: _Sets) -> _State:
    """Solve equation (1) of the module's docstring, for any maps in the place of the P_i."""

    def cycle(state: _State) -> _State:
        # The sum of the increments is subtracted afresh, so that rounding does not accumulate over cycles.
        x, images, points = start - jnp.sum(state.increments, axis=0), [], []
        change = jnp.zeros_like(state.change)
        for map_, increment in zip(maps, state.increments, strict=True):
            w, before = x + increment, x
            x = map_(w)
            points.append(w)
            images.append(x)
            change = jnp.maximum(change, norm(x - before))
        solution = jnp.stack([x, *points])
        increments = solution[1:] - jnp.stack(images)
        scale = jnp.maximum(norm(start), jnp.max(norm(solution[1:])))
        return _State(solution, increments, change, scale, state.iterations + 1)

    def goes_on(state: _State) -> Array:
        moving = state.change > among.tolerance * state.scale  # NaN ends the iteration.
        return moving & (state.iterations < among.max_iterations)

    zeros, zero = jnp.zeros((1 + len(maps), *start.shape), start.dtype), jnp.zeros((), start.dtype)
    first = _State(zeros, zeros[1:], zero + jnp.inf, zero, jnp.int32(0))
    return lax.while_loop(goes_on, cycle, first)


def _at_rest(state: _State, among: _Sets) -> Array:
    return jnp.isfinite(state.change) & (state.change <= among.tolerance * state.scale)


def _solve(among: _Sets, solution: Array, captured: Sequence[Array], right_side: Array) -> Array:
    """Solve equation (2) at a solution of (1): from ẏ above the ė_i (rows of one array) to ẋ above the ẇ_i."""
    derivatives = [jax.linearize(p, w)[1] for p, w in zip(among.at(captured), solution[1:], strict=True)]

    def matrix(unknown: Array) -> Array:
        x, *points = unknown
        images = [derivative(w) for derivative, w in zip(derivatives, points, strict=True)]
        return jnp.stack([(1 - len(points)) * x + sum(points), *(x - image for image in images)])

    def solve(_: Any, right_side: Array) -> Array:
        start, *moved = right_side
        found = _alternate(
            [lambda w, d=d, e=e: d(w) + e for d, e in zip(derivatives, moved, strict=True)], start, among
        )
        return found.solution * jnp.where(_at_rest(found, among), jnp.ones_like(found.scale), jnp.nan)

    return lax.custom_linear_solve(matrix, right_side, solve, symmetric=True)


def _images(among: _Sets, solution: Array, captured: Sequence[Array]) -> Array:
    return jnp.stack([project(w) for project, w in zip(among.at(captured), solution[1:], strict=True)])


def _newton(among: _Sets, y: Array, solution: Array, captured: Sequence[Array]) -> Array:
    """A step of Newton's method for (1) of length 0: it changes the derivative, not the value."""
    x, *points = solution
    images = _images(among, solution, captured)
    missing = jnp.stack([y - (1 - len(points)) * x - sum(points), *(image - x for image in images)])
    return solution + _solve(among, solution, captured, missing - lax.stop_gradient(missing))


def _settled_forward(among: _Sets, y: Array, solution: Array, *captured: Array) -> tuple[Array, Any]:
    # In the body of a loop that JAX (0.10 to 0.12) has linearised, it drops the rule and differentiates this function.
    # Each Newton step doubles the order to which the derivatives are right: after two, they are right up to the third.
    once = _newton(among, y, lax.stop_gradient(solution), captured)
    return _newton(among, y, once, captured), (among, y, solution, captured)


def _settled_backward(saved: Any, cotangent: Array) -> tuple[Any, ...]:
    among, y, solution, captured = saved
    settled = _settled(among, y, solution, *captured)
    in_y, *in_images = _solve(among, settled, captured, cotangent)
    pulled = jax.vjp(lambda *captured: _images(among, settled, captured), *captured)[1](jnp.stack(in_images))
    given = (g if jnp.issubdtype(a.dtype, jnp.inexact) else None for a, g in zip(captured, pulled, strict=True))
    return None, in_y, jnp.zeros_like(solution), *given


_settled = closed_form(_settled_forward, _settled_backward)
