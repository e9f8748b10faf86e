"""Rules of eigenvalues and singular values, enclosed by Arb.

Vectors are fixed up to a factor of size 1. Here they have length 1, and their product with the vector that JAX computes
of the same numbers, in the program's own dtype, is positive: the exact vector is the one that the computed one is near.
A multiple eigenvalue has values, but no vectors of its own; a program that asks for them is undecided.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from flint import acb, acb_mat, arb

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.matrices import Matrix, adjoint, conjugate, each_matrix, identity, real, squared_size
from lossjax.verify._exact.rules import rule, to_array
from lossjax.verify.ulp import Balls

NAMES = ("eig", "eigh", "svd")
"""These rules serve complex numbers too."""


def _arb_matrix(a: Matrix) -> acb_mat:
    rows, columns = a.shape
    return acb_mat(rows, columns, [acb(v) for v in a.ravel().tolist()])


def _of(matrix: acb_mat) -> Matrix:
    return to_array(matrix.entries(), (matrix.nrows(), matrix.ncols()))


def decomposed(context: Context, a: Matrix) -> tuple[list[acb], Matrix, Matrix]:
    """Simple eigenvalues, their left vectors as rows and their right vectors as columns."""
    try:
        values, left, right = _arb_matrix(a).eig(left=True, right=True)
    except ValueError:
        raise context.undecided(*(real(v) for v in np.diagonal(a))) from None
    return values, _of(left), _of(right)


def _real_values(context: Context, a: Matrix) -> list[arb]:
    """All eigenvalues of a Hermitian matrix, the multiple ones as often as they are."""
    try:
        values = _arb_matrix(a).eig(multiple=True)
    except ValueError:
        values = _by_discs(_arb_matrix(a))
    if not all(v.is_finite() for v in values):
        raise context.undecided(real(a[0, 0]))
    return [v.real for v in values]


def _by_discs(a: acb_mat) -> list[acb]:
    """Of a matrix with real eigenvalues, by Gershgorin's discs of one that is similar to it and almost diagonal.

    Intervals that overlap in a chain hold together as many eigenvalues as they are; each is given the whole chain.
    """
    vectors = a.eig(right=True, algorithm="approx")[1]
    try:
        almost = _of(vectors.inv() * a * vectors)
    except ZeroDivisionError:
        return [acb("nan")]
    discs = []
    for i, row in enumerate(almost.tolist()):
        radius = sum((abs(v).upper() for j, v in enumerate(row) if j != i), arb(0))
        discs.append((row[i].real - radius).union(row[i].real + radius))
    chains: list[tuple[arb, int]] = []
    for disc in sorted(discs, key=lambda d: _in_order(d.lower())):
        if chains and chains[-1][0].overlaps(disc):
            chains[-1] = chains[-1][0].union(disc), chains[-1][1] + 1
        else:
            chains.append((disc, 1))
    return [acb(chain) for chain, count in chains for _ in range(count)]


@functools.cmp_to_key
def _in_order(a: arb, b: arb) -> int:
    """The key of balls that do not overlap, exact numbers among them; as floats they could be equal."""
    return int(bool(a > b)) - int(bool(a < b))


def _ascending(values: list[arb]) -> list[arb]:
    """Balls of the numbers in order: the k-th smallest lies between the k-th smallest bounds."""
    lows, highs = (sorted((bound(v) for v in values), key=_in_order) for bound in (arb.lower, arb.upper))
    return [low.union(high) for low, high in zip(lows, highs, strict=True)]


def computed(context: Context, a: Matrix, **asked: Any) -> list[np.ndarray]:
    """What JAX computes for this matrix in the program's own dtype, by the equation's parameters and those asked."""
    dtype = context.equation.invars[0].aval.dtype
    rounded = np.array([complex(v) if isinstance(v, acb) else float(v) for v in a.ravel().tolist()]).reshape(a.shape)
    results = context.equation.primitive.bind(jnp.asarray(rounded.astype(dtype)), **context.equation.params | asked)
    return [np.asarray(r) for r in results]


def turned(context: Context, column: Any, near: np.ndarray, *, real_only: bool) -> list[Any]:
    """The multiple of a vector that has length 1 and a positive product with another."""
    column = list(column)
    if real_only:  # some multiple of it is real: by its largest entry
        largest = max(column, key=lambda v: float(abs(v).mid()))
        column = [(v / largest).real for v in column]
    product = sum((conjugate(acb(complex(n))) * v for n, v in zip(near.tolist(), column, strict=True)), acb(0))
    product = product.real if real_only else product
    if abs(product).contains(0):
        raise context.undecided(real(product))
    factor = squared_size(column).rsqrt() * (conjugate(product) / abs(product))
    return [v * factor for v in column]


def _no_subset(context: Context, params: Any) -> None:
    if params["subset_by_index"] is not None:
        raise context.unsupported("its rule does not know the parameter 'subset_by_index'")


def _hermitian(context: Context, a: Matrix, near: np.ndarray) -> tuple[list[arb], Matrix]:
    """Eigenvalues in ascending order, and vectors as columns near to these."""
    values, _, right = decomposed(context, a)
    order = sorted(range(len(a)), key=lambda i: _in_order(values[i].real))
    entries = a.ravel().tolist()
    real_only = all(isinstance(v, arb) for v in entries)
    columns = [turned(context, right[:, i], near[:, k], real_only=real_only) for k, i in enumerate(order)]
    return [values[i].real for i in order], to_array([v for c in columns for v in c], (len(a), len(a))).T


@rule("eigh", reads=["lower", "sort_eigenvalues", "subset_by_index", "algorithm"])
def _eigh(context: Context, params: Any, a: Balls) -> list[Any]:
    """Vectors and values, in ascending order (where JAX leaves the order open too)."""
    _no_subset(context, params)
    wanted = context.needed[0]

    def compute(a: Matrix) -> list[Any]:
        read = np.tri(len(a), dtype=bool) if params["lower"] else np.tri(len(a), dtype=bool).T
        a = np.where(read, a, adjoint(a))
        if not wanted:
            return [identity(len(a)), _ascending(_real_values(context, a))]
        values, vectors = _hermitian(context, a, computed(context, a)[0])
        return [vectors, values]

    return each_matrix(context, compute, a)


@rule(
    "eig", reads=["compute_left_eigenvectors", "compute_right_eigenvectors", "implementation", "enable_eigvec_derivs"]
)
def _eig(context: Context, params: Any, a: Balls) -> list[Any]:
    """Values in the order in which JAX computes them, as far as these tell which is which."""

    def compute(a: Matrix) -> list[Any]:
        near = computed(context, a)
        values, left, right = decomposed(context, a)
        order: list[int] = []
        for value in near[0].tolist():
            rest = [i for i in range(len(a)) if i not in order]
            order.append(min(rest, key=lambda i: abs(complex(values[i]) - value)))
        results: list[Any] = [[values[i] for i in order]]
        sides = [(params["compute_left_eigenvectors"], adjoint(left)), (params["compute_right_eigenvectors"], right)]
        for vectors in (v for asked, v in sides if asked):
            beside = near[len(results)]
            columns = [turned(context, vectors[:, i], beside[:, k], real_only=False) for k, i in enumerate(order)]
            results.append(to_array([v for c in columns for v in c], a.shape).T)
        return results

    return each_matrix(context, compute, a)


@rule("svd", reads=["full_matrices", "compute_uv", "subset_by_index", "algorithm"])
def _svd(context: Context, params: Any, a: Balls) -> list[Any]:
    """Singular values in descending order, and vectors of those that are simple and not 0."""
    _no_subset(context, params)

    def values_of(a: Matrix) -> list[arb]:
        wide = a if len(a) < a.shape[1] else adjoint(a)
        squares = _ascending(_real_values(context, wide @ adjoint(wide)))
        return [v.nonnegative_part().sqrt() for v in squares[::-1]]

    def compute(a: Matrix) -> list[Any]:
        if not params["compute_uv"]:
            return [values_of(a)]
        if not any(context.needed[1:]):
            sizes = [v.aval.shape[-2:] for v in context.equation.outvars[1:]]
            return [values_of(a), *(to_array([arb(0)] * (m * n), (m, n)) for m, n in sizes)]
        _, left, right = computed(context, a)
        if len(a) < a.shape[1]:
            values, v, u = _tall(context, adjoint(a), right.conj().T, left)
        else:
            values, u, v = _tall(context, a, left, right.conj().T)
        return [values, u, adjoint(v)]

    return each_matrix(context, compute, a)


def _tall(context: Context, a: Matrix, left: np.ndarray, right: np.ndarray) -> tuple[list[arb], Matrix, Matrix]:
    """Singular values of a tall matrix, left vectors and right vectors near to these."""
    size = a.shape[1]
    squares, v = _hermitian(context, adjoint(a) @ a, right[:, ::-1])
    values = [s.nonnegative_part().sqrt() for s in squares[::-1]]
    v = v[:, ::-1]
    if not all(s > 0 for s in values):
        raise context.undecided(next(s for s in values if not s > 0))
    u = (a @ v) / to_array(values, (size,))
    for k in range(size, left.shape[1]):  # what completes the basis, as near to the computed as it can be
        column = to_array([acb(complex(w)) if np.iscomplexobj(left) else arb(float(w)) for w in left[:, k]], (len(a),))
        rest = column - u @ (adjoint(u) @ column)
        length = squared_size(rest)
        if not length > 0:
            raise context.undecided(length)
        u = np.concatenate([u, (rest * length.rsqrt())[:, None]], axis=1)
    return values, u, v
