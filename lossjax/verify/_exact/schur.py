"""The rule of Schur's form ``a = z t zᴴ``, enclosed by way of eigenvalues and their vectors.

z is unitary and t triangular, but that a real t has a block of two on its diagonal for each pair of complex
eigenvalues, with equal diagonal entries. This leaves open the order of the eigenvalues and a factor of size 1 of each
column of z: both are those that JAX computes of the same numbers. A multiple eigenvalue leaves more open, and so does
a block that is a multiple of a rotation; they are undecided. A triangular matrix is its own form, as it is for LAPACK.
"""

from typing import Any

import numpy as np
from flint import acb

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.matrices import Matrix, adjoint, each_matrix, identity, real
from lossjax.verify._exact.rules import ZERO, rule, to_array
from lossjax.verify._exact.spectra import computed, decomposed, turned
from lossjax.verify.ulp import Balls

NAMES = ("schur",)
"""These rules serve complex numbers too."""


@rule("schur", reads=["compute_schur_vectors", "sort_eig_vals", "select_callable"])
def _schur(context: Context, params: Any, a: Balls) -> list[Any]:
    if params["sort_eig_vals"]:
        raise context.unsupported("its rule does not know the parameter 'sort_eig_vals'")

    def compute(a: Matrix) -> list[Any]:
        below = np.tri(len(a), k=-1, dtype=bool)
        t, z = (a, identity(len(a))) if all(v == 0 for v in a[below]) else _form(context, a)
        return [t, z] if params["compute_schur_vectors"] else [t]

    return each_matrix(context, compute, a)


def _form(context: Context, a: Matrix) -> tuple[Matrix, Matrix]:
    """Both matrices, column by column: each vector less its share of those before it."""
    near_t, near_z = computed(context, a, compute_schur_vectors=True)
    values, _, right = decomposed(context, a)
    symmetric = all(v == w for v, w in zip(a.ravel().tolist(), adjoint(a).ravel().tolist(), strict=True))
    real_only = not np.iscomplexobj(near_t)
    z = to_array([], (len(a), 0))
    diagonal: list[Any] = []
    under = np.zeros(a.shape, bool)
    left = list(range(len(a)))
    while left:
        k = z.shape[1]
        of_two = real_only and bool(near_t[k + 1 : k + 2, k].any())
        near = near_t[k, k] + (1j * np.sqrt(-near_t[k, k + 1] * near_t[k + 1, k] + 0j) if of_two else 0)
        i = min(left, key=lambda i: abs(complex(values[i]) - near))
        # The conjugate of an eigenvalue of a real matrix is one too: no other ball can hold it, or one does.
        pair = [j for j in left if j != i and values[j].overlaps(values[i].conjugate())] if real_only else []
        if len(pair) != of_two:
            raise context.undecided(values[i].imag)
        column = right[:, i] - z @ (adjoint(z) @ right[:, i])
        columns = _standard(context, column, near_z[:, k : k + 2]) if of_two else [
            turned(context, column, near_z[:, k], real_only=real_only)]  # fmt: skip
        z = np.concatenate([z, *(to_array(c, (len(a), 1)) for c in columns)], axis=1)
        diagonal += [real(values[i]) if real_only or symmetric else values[i]] * len(columns)
        under[k + 1 : k + 2, k] = of_two
        left = [j for j in left if j not in (i, *pair)]
    t = adjoint(z) @ a @ z
    t[~under & (symmetric | np.tri(len(a), k=-1, dtype=bool))] = ZERO
    np.fill_diagonal(t, to_array(diagonal, (len(a),)))
    return t, z


def _standard(context: Context, column: Matrix, near: np.ndarray) -> list[list[Any]]:
    """The two columns of a block with equal diagonal entries: a complex vector's parts, where these are orthogonal.

    They are where the sum of its entries' squares is real, which fixes the vector's factor.
    """
    squares = sum((v * v for v in column.tolist()), acb(0))
    if squares.contains(0):
        raise context.undecided(squares.real)
    turn, squares = (acb(0, 1), -squares) if squares.real < 0 else (acb(1), squares)  # away from the cut of the root
    factor = turn * squares.rsqrt()
    whole = [v * factor for v in column.tolist()]
    parts = [[acb(v.real) for v in whole], [acb(v.imag) for v in whole]]
    parts.sort(key=lambda part: -_along(part, near[:, 0]))
    return [turned(context, part, near[:, k], real_only=True) for k, part in enumerate(parts)]


def _along(part: list[Any], near: np.ndarray) -> float:
    """The size of the cosine between two vectors."""
    numbers = np.array([float(v.real) for v in part])
    return float(abs(numbers @ near) / np.linalg.norm(numbers))
