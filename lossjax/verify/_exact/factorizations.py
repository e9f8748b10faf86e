"""Rules of the factorizations that LAPACK computes in finitely many steps, with its choices of pivots and signs."""

from typing import Any

import numpy as np
from flint import arb

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.matrices import (
    Matrix,
    adjoint,
    conjugate,
    each_matrix,
    identity,
    real,
    squared_size,
)
from lossjax.verify._exact.ordering import position
from lossjax.verify._exact.rules import ZERO, rule, to_array
from lossjax.verify._exact.unary import absolute
from lossjax.verify.ulp import Balls

NAMES = ("lu", "qr", "geqrf", "householder_product", "ormqr", "hessenberg", "tridiagonal")
"""These rules serve complex numbers too."""


def _size(v: Any) -> arb:
    """By which LAPACK compares pivots: |x|, or |x| + |y| for x + iy."""
    return absolute(v) if isinstance(v, arb) else absolute(v.real) + absolute(v.imag)


def lu(context: Context, a: Matrix) -> tuple[Matrix, list[int], list[int]]:
    """Both factors in one matrix, the row that each step took, and the permutation of the rows."""
    a, steps = a.copy(), min(a.shape)
    pivots, order = [], list(range(len(a)))
    for k in range(steps):
        row = k + position(context, [_size(v) for v in a[k:, k]], 1)
        pivots.append(row)
        a[[k, row]] = a[[row, k]]
        order[k], order[row] = order[row], order[k]
        if a[k, k] == 0:
            continue  # so is all below it
        if _size(a[k, k]).contains(0):
            raise context.undecided(_size(a[k, k]))
        for i in range(k + 1, len(a)):
            a[i, k] = factor = a[i, k] / a[k, k]
            a[i, k + 1 :] = a[i, k + 1 :] - factor * a[k, k + 1 :]
    return a, pivots, order


@rule("lu", reads=[])
def _lu(context: Context, params: Any, a: Balls) -> list[Any]:
    return each_matrix(context, lambda a: lu(context, a), a)


# --- Householder's reflections ---------------------------------------------------------------------------------------


def _reflector(context: Context, column: list[Any]) -> tuple[Any, Any, list[Any]]:
    """β, τ and v with v₀ = 1, such that ``(1 - τ v vᴴ)ᴴ`` makes the column (β, 0, …); β has the other sign than it."""
    first, rest = column[0], column[1:]
    tail, imaginary = squared_size(rest), ZERO if isinstance(first, arb) else first.imag
    if tail == 0 and imaginary == 0:
        return first, arb(0), [arb(1), *rest]
    if not (tail > 0 or imaginary != 0):
        raise context.undecided(tail)
    norm, up = squared_size(column).sqrt(), real(first)
    if not (up >= 0 or up < 0):
        raise context.undecided(up)
    beta = -norm if up >= 0 else norm
    return beta, (beta - first) / beta, [arb(1), *(v / (first - beta) for v in rest)]


def _reflect(a: Matrix, factor: Any, v: list[Any]) -> None:
    """``a - factor v vᴴ a``, in place."""
    if factor == 0 or not a.size:
        return
    along = to_array(v, (len(v),))
    projected = to_array([conjugate(w) for w in v], (len(v),)) @ a
    a -= np.outer(factor * along, projected)


def _triangle(context: Context, a: Matrix, pivoting: bool = False) -> tuple[Matrix, list[Any], list[int]]:
    """R with the reflectors below it, their τ, and the order of the columns."""
    a, taus, order = a.copy(), [], list(range(a.shape[1]))
    for k in range(min(a.shape)):
        if pivoting:
            chosen = k + position(context, [squared_size(a[k:, j]) for j in range(k, a.shape[1])], 1)
            a[:, [k, chosen]] = a[:, [chosen, k]]
            order[k], order[chosen] = order[chosen], order[k]
        a[k, k], tau, v = _reflector(context, a[k:, k].tolist())
        a[k + 1 :, k] = to_array(v[1:], (len(v) - 1,))
        _reflect(a[k:, k + 1 :], conjugate(tau), v)
        taus.append(tau)
    return a, taus, order


def _multiplied(a: Matrix, taus: Any, c: Matrix, adjoint_of_it: bool = False) -> Matrix:
    """``Q c`` or ``Qᴴ c``, where Q is the product of the reflections below the diagonal of a."""
    c, steps = c.copy(), list(enumerate(taus))
    for k, tau in steps if adjoint_of_it else steps[::-1]:
        _reflect(c[k:], conjugate(tau) if adjoint_of_it else tau, [arb(1), *a[k + 1 :, k].tolist()])
    return c


def _upper(a: Matrix) -> Matrix:
    """The matrix with 0 below its diagonal."""
    return np.where(np.tri(len(a), a.shape[1], -1, dtype=bool), to_array([ZERO], ()), a)


@rule("geqrf", reads=[])
def _geqrf(context: Context, params: Any, a: Balls) -> list[Any]:
    return each_matrix(context, lambda a: _triangle(context, a)[:2], a)


@rule("householder_product", reads=[])
def _householder_product(context: Context, params: Any, a: Balls, taus: Balls) -> Any:
    return each_matrix(context, lambda a, taus: [_multiplied(a, taus, identity(len(a))[:, : a.shape[1]])], a, taus)[0]


@rule("ormqr", reads=["left", "transpose"])
def _ormqr(context: Context, params: Any, a: Balls, taus: Balls, c: Balls) -> Any:
    """``Q c``, ``Qᴴ c``, ``c Q`` or ``c Qᴴ``; from the right by the adjoint."""
    left, transposed = params["left"], params["transpose"]

    def compute(a: Matrix, taus: Any, c: Matrix) -> list[Matrix]:
        if left:
            return [_multiplied(a, taus, c, transposed)]
        return [adjoint(_multiplied(a, taus, adjoint(c), not transposed))]

    return each_matrix(context, compute, a, taus, c)[0]


@rule("qr", reads=["pivoting", "full_matrices"])
def _qr(context: Context, params: Any, a: Balls) -> list[Any]:
    def compute(a: Matrix) -> list[Any]:
        packed, taus, order = _triangle(context, a, params["pivoting"])
        size = len(a) if params["full_matrices"] else min(a.shape)
        q = _multiplied(packed, taus, identity(len(a))[:, :size])
        return [q, _upper(packed)[:size], *([order] if params["pivoting"] else [])]

    return each_matrix(context, compute, a)


def _hessenberg_form(context: Context, a: Matrix) -> tuple[Matrix, list[Any]]:
    a, taus = a.copy(), []
    for k in range(len(a) - 1):
        a[k + 1, k], tau, v = _reflector(context, a[k + 1 :, k].tolist())
        a[k + 2 :, k] = to_array(v[1:], (len(v) - 1,))
        _reflect(a[k + 1 :, k + 1 :], conjugate(tau), v)
        right = adjoint(a[:, k + 1 :])
        _reflect(right, conjugate(tau), v)
        a[:, k + 1 :] = adjoint(right)
        taus.append(tau)
    return a, taus


@rule("hessenberg", reads=[])
def _hessenberg(context: Context, params: Any, a: Balls) -> list[Any]:
    return each_matrix(context, lambda a: _hessenberg_form(context, a), a)


@rule("tridiagonal", reads=["lower"])
def _tridiagonal(context: Context, params: Any, a: Balls) -> list[Any]:
    """Of a symmetric matrix, of which the lower triangle is read and overwritten."""
    if not params["lower"]:
        raise context.unsupported("its rule does not know the upper triangle")

    def compute(a: Matrix) -> list[Any]:
        strict = np.tri(len(a), k=-1, dtype=bool)
        form, taus = _hessenberg_form(context, np.where(strict.T, adjoint(a), a))
        packed = np.where(strict.T, a, form)
        diagonals = ([real(v) for v in np.diagonal(form, -k)] for k in (0, 1))
        return [packed, *diagonals, taus]

    return each_matrix(context, compute, a)
