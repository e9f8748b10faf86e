"""Rules of linear algebra: triangular systems, Cholesky factors, and solvers that bring their own program."""

from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb, arb_mat

from lossjax.verify._exact.context import NAN, ONE, ZERO, Context, rule, to_array
from lossjax.verify.ulp import Balls


@rule("custom_linear_solve", reads=["const_lengths", "jaxprs"])
def _custom_linear_solve(context: Context, params: Any, *values: Any) -> list[Any]:
    """The program's own way of solving; that it solves, or is symmetric, is promised and not taken for granted."""
    lengths, programs = params["const_lengths"], params["jaxprs"]
    start = lengths.matvec + lengths.vecmat
    right_sides = values[start + lengths.solve + lengths.transpose_solve :]
    return context.run(programs.solve, [*values[start : start + lengths.solve], *right_sides])


def _for_each_matrix(compute: Callable[..., Balls], *arrays: Balls) -> Balls:
    """A function of matrices, for each place of the batch before the last two axes."""
    batch = arrays[0].shape[:-2]
    results = [compute(*(a[where] for a in arrays)) for where in np.ndindex(batch)]
    if not results:
        return np.empty((*batch, *arrays[-1].shape[-2:]), dtype=object)
    return np.stack(results).reshape(*batch, *results[0].shape)


def _all_finite(*arrays: Balls) -> bool:
    return all(v.is_finite() for a in arrays for v in a.ravel().tolist())


@rule("triangular_solve", reads=["left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal"])
def _triangular_solve(context: Context, params: Any, a: Balls, b: Balls) -> Balls:
    """``op(a) x = b`` or ``x op(a) = b``; the other triangle of a is not read."""

    def solved(a: Balls, b: Balls) -> Balls:
        read = np.tril(np.ones(a.shape, bool)) if params["lower"] else np.triu(np.ones(a.shape, bool))
        a = a.copy()
        a[~read] = ZERO
        if params["unit_diagonal"]:
            np.fill_diagonal(a, ONE)
        if params["transpose_a"] == params["left_side"]:  # the transposed system is solved from the left as well
            a = a.T
        flipped = b if params["left_side"] else b.T
        found = _solved(context, a, flipped)
        return found if params["left_side"] else found.T

    return _for_each_matrix(solved, a, b)


def _solved(context: Context, a: Balls, b: Balls) -> Balls:
    if not b.size:
        return b
    if not _all_finite(a, b):
        raise context.unsupported("a matrix or a right side is not finite")
    matrix = arb_mat(len(a), len(a), a.ravel().tolist())
    try:
        return to_array(matrix.solve(arb_mat(len(b), b.size // len(b), b.ravel().tolist())).entries(), b.shape)
    except ZeroDivisionError:
        raise context.undecided(next((v for v in np.diag(a) if v.contains(0)), a[0, 0])) from None


@rule("cholesky", reads=[])
def _cholesky(context: Context, params: Any, a: Balls) -> Balls:
    """The lower factor from the lower triangle; NaN where a pivot is certainly not positive, as LAPACK gives up."""

    def factor(a: Balls) -> Balls:
        result = to_array([ZERO] * a.size, a.shape)
        for j in range(len(a)):
            pivot = a[j, j] - sum((v * v for v in result[j, :j]), ZERO)
            if pivot <= 0 or pivot.is_nan():
                return to_array([NAN] * a.size, a.shape)
            if not pivot > 0:
                raise context.undecided(pivot)
            result[j, j] = root = pivot.sqrt()
            for i in range(j + 1, len(a)):
                result[i, j] = (a[i, j] - sum(_products(result[i, :j], result[j, :j]), ZERO)) / root
        return result

    return _for_each_matrix(factor, a)


def _products(a: Balls, b: Balls) -> list[arb]:
    return [x * y for x, y in zip(a, b, strict=True)]
