"""Rules of linear algebra: triangular systems, Cholesky factors, and solvers that bring their own program."""

from typing import Any

import numpy as np
from flint import acb, acb_mat, arb, arb_mat

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.matrices import Matrix, adjoint, conjugate, each_matrix, real, squared_size
from lossjax.verify._exact.rules import NAN, ONE, ZERO, rule, to_array
from lossjax.verify.ulp import Balls


@rule("custom_linear_solve", reads=["const_lengths", "jaxprs"])
def _custom_linear_solve(context: Context, params: Any, *values: Any) -> list[Any]:
    """The program's own way of solving; that it solves, or is symmetric, is promised and not taken for granted."""
    lengths, programs = params["const_lengths"], params["jaxprs"]
    start = lengths.matvec + lengths.vecmat
    right_sides = values[start + lengths.solve + lengths.transpose_solve :]
    return context.run(programs.solve, [*values[start : start + lengths.solve], *right_sides])


NAMES = ("custom_linear_solve", "triangular_solve", "cholesky", "tridiagonal_solve", "symmetric_product")
"""These rules serve complex numbers too."""


@rule("triangular_solve", reads=["left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal"])
def _triangular_solve(context: Context, params: Any, a: Balls, b: Balls) -> Balls:
    """``op(a) x = b`` or ``x op(a) = b``; the other triangle of a is not read."""

    def solution(a: Matrix, b: Matrix) -> list[Matrix]:
        read = np.tri(len(a), dtype=bool) if params["lower"] else np.tri(len(a), dtype=bool).T
        a = a.copy()
        a[~read] = ZERO
        if params["unit_diagonal"]:
            np.fill_diagonal(a, ONE)
        if params["conjugate_a"]:
            a = adjoint(a).T
        if params["transpose_a"] == params["left_side"]:  # the transposed system is solved from the left as well
            a = a.T
        return [solved(context, a, b) if params["left_side"] else solved(context, a, b.T).T]

    return each_matrix(context, solution, a, b)[0]


def solved(context: Context, a: Matrix, b: Matrix) -> Matrix:
    """The solution of ``a x = b``."""
    if not b.size:
        return b
    entries = [*a.ravel().tolist(), *b.ravel().tolist()]
    matrix: Any = acb_mat if any(isinstance(v, acb) for v in entries) else arb_mat
    left, right = (matrix(*m.shape, m.ravel().tolist()) for m in (a, b))
    try:
        return to_array(left.solve(right).entries(), b.shape)
    except ZeroDivisionError:
        raise context.undecided(next((real(v) for v in np.diag(a) if v.contains(0)), real(a[0, 0]))) from None


@rule("cholesky", reads=[])
def _cholesky(context: Context, params: Any, a: Balls) -> Balls:
    """The lower factor from the lower triangle; NaN where a pivot is certainly not positive, as LAPACK gives up."""

    def factor(a: Matrix) -> list[Matrix]:
        result = to_array([ZERO] * a.size, a.shape)
        for j in range(len(a)):
            pivot = real(a[j, j]) - squared_size(result[j, :j])
            if pivot <= 0:
                return [to_array([NAN] * a.size, a.shape)]
            if not pivot > 0:
                raise context.undecided(pivot)
            result[j, j] = root = pivot.sqrt()
            others = [conjugate(v) for v in result[j, :j]]
            for i in range(j + 1, len(a)):
                result[i, j] = (a[i, j] - sum((x * y for x, y in zip(result[i, :j], others, strict=True)), ZERO)) / root
        return [result]

    return each_matrix(context, factor, a)[0]


@rule("cholesky_update", reads=[])
def _cholesky_update(context: Context, params: Any, r: Balls, w: Balls) -> Balls:
    """The upper factor of ``rᵀr + w wᵀ`` by rotations, each of which keeps the sign of r's diagonal."""

    def rotated(r: Matrix, w: Any) -> list[Matrix]:
        r, w = r.copy(), w.copy()
        for k in range(len(r)):
            if not r[k, k] > 0:
                raise context.unsupported("the diagonal of the factor is not positive")
            length = squared_size([r[k, k], w[k]]).sqrt()
            c, s = r[k, k] / length, w[k] / length
            r[k, k:], w[k:] = c * r[k, k:] + s * w[k:], c * w[k:] - s * r[k, k:]
        return [r]

    return each_matrix(context, rotated, r, w)[0]


@rule("symmetric_product", reads=["alpha", "beta"])
def _symmetric_product(context: Context, params: Any, a: Balls, c: Balls) -> Balls:
    """``alpha a aᵀ + beta c``."""
    alpha, beta = arb(params["alpha"]), arb(params["beta"])
    return each_matrix(context, lambda a, c: [alpha * (a @ a.T) + beta * c], a, c)[0]


@rule("tridiagonal_solve", reads=["perturb_singular"])
def _tridiagonal_solve(context: Context, params: Any, below: Balls, middle: Balls, above: Balls, b: Balls) -> Balls:
    """The first entry below and the last above stand outside the matrix."""
    if params["perturb_singular"]:
        raise context.unsupported("its rule does not know the parameter 'perturb_singular'")

    def solution(b: Matrix, below: Any, middle: Any, above: Any) -> list[Matrix]:
        a = to_array([ZERO] * len(b) ** 2, (len(b), len(b)))
        for k in range(len(b)):
            a[k, k] = middle[k]
            if k:
                a[k, k - 1], a[k - 1, k] = below[k], above[k - 1]
        return [solved(context, a, b)]

    return each_matrix(context, solution, b, below, middle, above)[0]
