"""The rules of matrices, windows, convolutions, Fourier transforms and complex numbers do what JAX does, for
parameters drawn at random."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import acb
from jax import lax

from lossjax.verify._exact import UndecidedComparison, UnsupportedPrimitive, exact, exact_jaxpr
from tests.support.beside_jax import assert_as_jax
from tests.support.equations import Families, numbers, shape_of, some

FAMILIES = Families()
family = FAMILIES.family


def flip(random: np.random.Generator) -> bool:
    return bool(random.random() < 0.5)


def complex_numbers(random: np.random.Generator, shape: Any) -> np.ndarray:
    return numbers(random, shape) + 1j * numbers(random, shape)


def matrices(random: np.random.Generator, rows: int, columns: int, batch: Any = ()) -> Any:
    """Real or complex, of full rank, with singular values apart."""
    a = random.normal(size=(*batch, rows, columns)) + 2 * np.eye(rows, columns)
    return a + 1j * random.normal(size=a.shape) if flip(random) else a


# --- windows ---------------------------------------------------------------------------------------------------------


def _window(random: np.random.Generator, rank: int) -> tuple[Any, ...]:
    """Sizes, strides, padding (negative too), and both dilations."""
    sizes, strides, base, window = (tuple(random.integers(1, 4, rank).tolist()) for _ in range(4))
    padding = [tuple(random.integers(-1, 3, 2).tolist()) for _ in range(rank)]
    return sizes, strides, padding, base, window


@family(16, 16)
def window_reductions(random: np.random.Generator) -> Any:
    shape = tuple(random.integers(3, 7, random.integers(1, 4)).tolist())
    window = _window(random, len(shape))
    start, combine = [(0.0, lax.add), (-np.inf, lax.max), (np.inf, lax.min), (1.0, lax.mul),
                      (0.0, lambda a, b: a + b + a * b)][random.integers(5)]  # fmt: skip
    return lambda x: lax.reduce_window(x, start, combine, *window), (numbers(random, shape) / 8,)


@family(8, 16)
def window_places(random: np.random.Generator) -> Any:
    shape = tuple(random.integers(4, 7, random.integers(1, 3)).tolist())
    (sizes, strides, padding, *_), down = _window(random, len(shape)), flip(random)
    padding = [(max(low, 0), max(high, 0)) for low, high in padding]

    def program(x: Any, t: Any) -> Any:
        def pooled(x: Any) -> Any:
            return lax.reduce_window(
                x, np.inf if down else -np.inf, lax.min if down else lax.max, sizes, strides, padding
            )

        back = jax.vjp(pooled, x)[1]
        return jax.jvp(pooled, (x,), (t,)), back(jnp.cos(pooled(x) * 0 + 1))

    return program, (numbers(random, shape), random.normal(size=shape))


@family(16, 64)
def convolutions(random: np.random.Generator) -> Any:
    rank, features, batches = int(random.integers(0, 3)), *random.permutation([1, random.integers(1, 3)]).tolist()
    ins, outs = int(random.integers(1, 3)), int(random.integers(1, 3)) * features * batches
    letters = "XYZ"[:rank]
    spec = tuple("".join(random.permutation(list(a + letters))) for a in ("NC", "OI", "NC"))
    sizes, strides, padding, left, right = _window(random, rank)
    space = random.integers(3, 6, rank).tolist()
    lengths = {"N": 2 * batches, "C": ins * features, **dict(zip(letters, space, strict=True))}
    kernel = {"O": outs, "I": ins, **dict(zip(letters, sizes, strict=True))}
    return (
        lambda x, k: lax.conv_general_dilated(
            x, k, strides, padding, left, right, spec, feature_group_count=features, batch_group_count=batches
        ),
        (numbers(random, [lengths[c] for c in spec[0]]), numbers(random, [kernel[c] for c in spec[1]])),
    )


# --- complex numbers -------------------------------------------------------------------------------------------------


@family(12, 64)
def transforms(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    kind = random.choice([jnp.fft.fftn, jnp.fft.ifftn, jnp.fft.rfftn, jnp.fft.irfftn, jnp.fft.hfft, jnp.fft.ihfft])
    real = kind in (jnp.fft.rfftn, jnp.fft.ihfft)
    last = int(random.integers(1, 6)) if kind in (jnp.fft.hfft, jnp.fft.ihfft) else None
    axes = some(random, len(shape), 1) if last is None else -1
    return (
        lambda z: kind(z, last, axes),
        ((numbers if real else complex_numbers)(random, shape),),
    )


@family(5, 1e3)
def of_complex_numbers(random: np.random.Generator) -> Any:
    shape = shape_of(random, 2, 3)
    axis, power = int(random.integers(len(shape))), int(random.integers(-3, 4))
    axes, reverse = some(random, len(shape), 1), flip(random)
    function = random.choice([jnp.exp, jnp.sin, jnp.tan, jnp.sinh, jnp.tanh, jnp.log, jnp.sqrt, jnp.arctan, jnp.expm1,
                              jnp.log1p, jax.nn.sigmoid, jnp.arcsinh])  # fmt: skip
    away = numbers(random, shape) + 1j * (numbers(random, shape) % 1 + 0.25)  # from branch cuts and poles
    return lambda z, a: (
        function(a / 4), a**power, jnp.power(a, z / 8), z / a, z * z.conj(), z == lax.complex(z.real, 0 * z.real),
        jnp.abs(z), jnp.angle(a),
        jnp.sum(z, axes), jnp.prod(z / 2, axes), lax.cumsum(z, axis, reverse=reverse),
        lax.cumprod(z / 2, axis, reverse=reverse), jnp.sort(z, axis), jnp.sign(a), z.imag,
        jnp.tensordot(z, a, ((axis,), (axis,))), z.at[0].add(a[0]), z.at[0].apply(jnp.exp),
        z.at[0].multiply(a[0]), jnp.where(z.real > 0, z, a),
        jnp.take(z, 9, axis, mode="fill"), lax.scan(lambda c, v: (c * 0.5 + v, c), a[0], z), jnp.pad(z, 1),
    ), (complex_numbers(random, shape), away)  # fmt: skip


# --- matrices --------------------------------------------------------------------------------------------------------


@family(10, 1e4, whole=True)
def systems(random: np.random.Generator) -> Any:
    size, batch, columns = int(random.integers(1, 4)), shape_of(random, 0, 2), int(random.integers(1, 4))
    left, lower, transposed, unit, conjugated = (flip(random) for _ in range(5))
    draw = numbers if flip(random) else complex_numbers
    a = draw(random, (*batch, size, size)) / 8 + 3 * np.eye(size)
    b = draw(random, (*batch, size, columns) if left else (*batch, columns, size))
    return (
        lambda a, b: (
            lax.linalg.triangular_solve(
                a, b, left_side=left, lower=lower, transpose_a=transposed, unit_diagonal=unit, conjugate_a=conjugated
            ),
            lax.linalg.cholesky(a @ jnp.swapaxes(a.conj(), -1, -2)),
        ),
        (a, b),
    )


@family(8, 1e4, whole=True)
def factorizations(random: np.random.Generator) -> Any:
    rows, columns = random.integers(1, 5, 2).tolist()
    a = matrices(random, rows, columns, shape_of(random, 0, 1))
    full, pivoting, left, transposed = (flip(random) for _ in range(4))
    c = matrices(random, *((rows, 2) if left else (2, rows)), a.shape[:-2]).real
    square = matrices(random, rows, rows, a.shape[:-2])
    tall = rows >= columns

    def program(a: Any, c: Any, square: Any) -> Any:
        packed, taus = jnp.linalg.qr(a, mode="raw")
        packed = jnp.swapaxes(packed, -1, -2)
        return (
            lax.linalg.lu(a), lax.linalg.qr(a, full_matrices=full, pivoting=pivoting), lax.linalg.hessenberg(square),
            lax.linalg.householder_product(packed, taus) if tall else (),
            lax.linalg.ormqr(packed, taus, c.astype(a.dtype), left=left, transpose=transposed) if tall else (),
            lax.linalg.tridiagonal(square.real + jnp.swapaxes(square.real, -1, -2)) if rows > 1 else (),
            lax.linalg.symmetric_product(a.real, square.real, alpha=0.5, beta=2.0, symmetrize_output=True),
        )  # fmt: skip

    return program, (a, c, square)


@family(6, 1e4, whole=True)
def spectra(random: np.random.Generator) -> Any:
    rows, columns = random.integers(1, 5, 2).tolist()
    a, lower, full = matrices(random, rows, columns, shape_of(random, 0, 1)), flip(random), flip(random)
    square = a @ np.swapaxes(a.conj(), -1, -2) + np.diag(np.arange(rows))

    def program(a: Any, square: Any) -> Any:
        return (
            lax.linalg.eigh(square, lower=lower, symmetrize_input=False), jnp.linalg.eigvalsh(square),
            lax.linalg.svd(a, full_matrices=full), lax.linalg.svd(a, compute_uv=False),
            lax.linalg.eig(square + jnp.triu(square)),
        )  # fmt: skip

    return program, (a, square)


@family(8, 1e4, whole=True)
def schur_forms(random: np.random.Generator) -> Any:
    """Of real matrices with and without pairs of complex eigenvalues, of complex, symmetric and triangular ones."""
    size = int(random.integers(1, 6))
    a = random.normal(size=(*shape_of(random, 0, 1), size, size))
    kind, vectors = int(random.integers(4)), flip(random)
    a = [a, a + 1j * random.normal(size=a.shape), a + np.swapaxes(a, -1, -2), np.triu(a)][kind]
    return (
        lambda a: (
            lax.linalg.schur(a), lax.linalg.schur(a.astype(complex), compute_schur_vectors=vectors),
            jax.scipy.linalg.rsf2csf(*jax.scipy.linalg.schur(a)) if a.ndim == 2 else (),
        ),
        (a,),
    )  # fmt: skip


@family(8, 64)
def ragged_products(random: np.random.Generator) -> Any:
    """Groups of rows, some empty and some beyond the last; along a free axis or along one that is summed; batched."""
    groups, rows, columns, batch = 3, *random.integers(2, 6, 3).tolist()
    sizes = random.multinomial(int(random.integers(0, rows + 1)), [1 / 3] * 3).astype(np.int32)
    summed, batched = flip(random), flip(random)
    left = numbers(random, (rows, columns) if not batched else (batch, rows, columns))
    first = int(batched)
    batches = ((0,), (0,)) if batched else ((), ())
    if summed:
        right, sums, own = numbers(random, (*left.shape[:first], rows, 2)), ((first,), (first,)), ()
    else:
        right, sums, own = (
            numbers(random, (groups, *left.shape[:first], 2, columns)),
            ((first + 1,), (first + 2,)),
            (0,),
        )
        batches = ((0,), (1,)) if batched else batches
    dimensions = lax.RaggedDotDimensionNumbers((sums, batches), (first,), own)
    return lambda a, b, n: lax.ragged_dot_general(a, b, n, dimensions), (left, right, sizes)


@family(6, 1e4, whole=True)
def bands(random: np.random.Generator) -> Any:
    size = int(random.integers(1, 5))
    below, above = np.append(0, random.normal(size=size - 1)), np.append(random.normal(size=size - 1), 0)
    middle, b = random.normal(size=size) + 4, random.normal(size=(size, 2))
    triangle = np.triu(random.normal(size=(size, size)), 1) + 2 * np.eye(size)
    return (
        lambda below, middle, above, b, r: (
            lax.linalg.tridiagonal_solve(below, middle, above, b),
            jnp.triu(lax.linalg.cholesky_update(r, b[:, 0])),
        ),
        (below, middle, above, b, triangle),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_any_parameters(name: str) -> None:
    assert_as_jax(FAMILIES, name)


def test_vectors_of_a_multiple_eigenvalue_are_undecided() -> None:
    """They are no function of the matrix; its values are."""
    a = np.diag(np.float32([2, 1, 2]))
    assert [float(v) for v in exact(jnp.linalg.eigvalsh)(a)] == pytest.approx([1, 2, 2], abs=1e-30)
    assert [float(v) for v in exact(jnp.linalg.svdvals)(a)] == pytest.approx([2, 2, 1], abs=1e-30)
    for function in (jnp.linalg.eigh, jnp.linalg.svd):
        with pytest.raises(UndecidedComparison, match="is undecided at 4096 bits"):
            exact(function)(a)


def test_a_schur_form_that_is_not_unique_is_undecided() -> None:
    """Of a multiple eigenvalue, and of a rotation, of which any basis is as good; a triangular matrix is its own."""
    schur = jax.scipy.linalg.schur
    for a in (np.float32([[2, 1, 0], [1, 2, 0], [0, 0, 3]]), np.float32([[0, -2], [2, 0]])):
        with pytest.raises(UndecidedComparison, match="is undecided at 4096 bits"):
            exact(schur)(a)
    t, z = exact(schur)(np.float32([[2, 1], [0, 2]]))
    assert (t.tolist(), z.tolist()) == ([[2, 1], [0, 2]], [[1, 0], [0, 1]])
    with pytest.raises(UnsupportedPrimitive, match="sort_eig_vals"):
        exact(lambda a: jax.lax.linalg.schur(a, sort_eig_vals=True))(a)


def test_a_square_root_of_a_matrix() -> None:
    a = np.float32([[2, 1, 0], [1, 3, 1], [0, 1, 2]])
    root = exact(jax.scipy.linalg.sqrtm)(a)
    assert all(v.overlaps(w) for v, w in zip((root @ root).ravel(), a.astype(float).ravel().tolist(), strict=True))


def test_eigenvalues_that_are_one_float_are_in_order() -> None:
    """1 - 10⁻³⁰, 1 and 1 + 10⁻³⁰: no precision of a float tells them apart, and a ball must be of the right one."""
    with jax.enable_x64(True):
        for off in (1e-30, -1e-30):
            a = np.array([[1, off, 0], [off, 1, 0], [0, 0, 1]])
            for values in (exact(jnp.linalg.eigvalsh)(a), exact(jnp.linalg.svdvals)(a)[::-1]):
                assert [float((v - 1) * 10**30) for v in values] == pytest.approx([-1, 0, 1], abs=1e-9)


def test_the_padding_of_a_window_counts_on_some_platforms_only() -> None:
    x = np.float32([1, 2, 3])
    with pytest.raises(UnsupportedPrimitive, match="platforms differ on whether its initial value counts"):
        exact(lambda x: lax.reduce_window(x, 1.0, lax.add, (2,), (1,), "SAME"))(x)
    inside = exact(lambda x: lax.reduce_window(x, 1.0, lax.add, (2,), (1,), "VALID"))(x)
    assert inside.tolist() == [4, 6]


def test_complex_balls_are_taken_and_given() -> None:
    z = np.empty(2, object)
    z[:] = [acb(0, 1), acb(1, 2)]
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(lambda z: (z * z, z.real))(np.complex128([1j, 1 + 2j]))
    square, real = exact_jaxpr(jaxpr, [z])
    assert square.tolist() == [acb(-1, 0), acb(-3, 4)]
    assert real.tolist() == [0, 1]


def test_what_is_beside_an_infinity_or_on_a_branch_cut() -> None:
    """IEEE 754 does not say what a complex product with an infinity is; a logarithm on its cut is that from above."""
    with pytest.raises(UndecidedComparison, match=r"^div of"):
        exact(lambda x: lax.complex(x, x) / lax.complex(x - x, x - x))(np.float32(1))
    root = exact(lambda x: jnp.sqrt(lax.complex(x, 0 * x)))(np.float32(-4))[()]
    assert root == acb(0, 2)
    assert exact(lambda x: jnp.abs(lax.complex(x, x)))(np.float32(np.inf))[()] == np.inf


def test_groups_of_more_rows_than_there_are_have_no_meaning() -> None:
    product = exact(lambda a, b: lax.ragged_dot(a, b, np.int32([2, 1])))
    with pytest.raises(UnsupportedPrimitive, match="its groups are of 3 entries, and there are 1"):
        product(np.ones((1, 3), np.float32), np.ones((2, 3, 2), np.float32))
