"""The row statistics: exact differences, and what the compiler makes of them."""

import functools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax._softmax import row_statistics as row_statistics_module
from lossjax._softmax import row_sum
from lossjax._softmax.pieces import pieces_of
from lossjax._softmax.row_statistics import row_statistics
from lossjax._softmax.row_sum import (
    _by_pieces,
    difference_error,
    of_each_class,
    shifted_exponential,
    sum_of_others,
    whole_sum_of_others,
)
from tests.support.quick import quick

UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
FAINTEST = {np.float32: 87, np.float64: 708}


def maxima(random: np.random.Generator, dtype: Any) -> list[Any]:
    """Of both signs and many sizes; next to powers of two, where a bit is lost; beyond where every gap is exact."""
    drawn = [s * 10.0 ** random.uniform(-9, 4) for s in (1, -1) for _ in range(40)]
    powers = [s * 2.0**k for s in (1, -1) for k in range(-20, 13)]
    nearby = [power * (1 + side * 2 * UNIT[dtype]) for power in powers for side in (-1, 0, 1)]
    return [dtype(m) for m in (*drawn, *nearby, 0.0)]


def below(m: Any, random: np.random.Generator, dtype: Any) -> np.ndarray:
    """Logits from the maximum to where the exponential is 0; tiny ones, and neighbours of m/2, 0 and -m among them."""
    gaps = np.concatenate([10.0 ** random.uniform(-9, 2, 60), random.uniform(0, FAINTEST[dtype], 60)])
    small = 10.0 ** random.uniform(-25, 1, 40) * random.choice([-1, 1], 40)
    near = np.array([m / 2, -m, 0.0, m]) * (1 + UNIT[dtype] * np.array([[-4], [0], [4]]))
    z = np.concatenate([float(m) - gaps, small, near.ravel()]).astype(dtype)
    return z[(z <= m) & (z >= float(m) - FAINTEST[dtype])]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_error_of_a_difference_is_exact(dtype: Any, random: np.random.Generator) -> None:
    """To 2^-15 of a roundoff (2Gu, as derived), where the difference alone is off by up to half a gap of roundoffs."""
    with jax.enable_x64(dtype == np.float64):
        function = jax.jit(lambda z, m: (z - m, difference_error(z, m)))
        plain = worst = Fraction(0)
        for m in maxima(random, dtype):
            z = below(m, random, dtype)
            padded = np.full(256, m, dtype)
            padded[: len(z)] = z
            difference, error = (np.asarray(a, np.float64) for a in function(padded, m))
            for logit, d, e in zip(padded, difference, error, strict=True):
                exact = Fraction(float(logit)) - Fraction(float(m)) - Fraction(d)
                plain = max(plain, abs(exact))
                worst = max(worst, abs(exact - Fraction(e)))
        assert plain > 16 * UNIT[dtype]
        assert worst <= 2.0**-15 * UNIT[dtype]


def test_exponentials_at_the_edges() -> None:
    """Exactly 1 at the maximum, whatever it is; 0 at -inf; NaN for NaN."""
    infinity, largest = jnp.inf, float(jnp.finfo(jnp.float32).max)
    for m in (0.0, -3.7, 12.3, 1e4, -1e30, largest, -largest, infinity):
        z = jnp.array([m, -infinity, jnp.nan], jnp.float32)
        own, never, undefined = shifted_exponential(z, jnp.float32(m))
        assert own == 1
        assert never == 0
        assert jnp.isnan(undefined)


def test_the_value_and_its_derivative_go_two_ways_to_one_number(random: np.random.Generator) -> None:
    """Pieces without stored exponentials, or one array of them: within the 4u that either is from the truth."""
    z = jnp.asarray(random.normal(size=(5, 6144)) * 4, jnp.float32)
    labels = jnp.asarray([0, 511, 512, 6143, 77])
    loss = lossjax.softmax_cross_entropy_with_integer_labels
    alone = jax.jit(loss)(z, labels)
    with_gradient = jax.jit(jax.vmap(jax.value_and_grad(loss)))(z, labels)[0]
    np.testing.assert_allclose(with_gradient, alone, rtol=8 * 2.0**-24)


@pytest.mark.parametrize("what", ["value", "gradient"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_long_rows_need_no_array_of_their_size(dtype: str, what: str) -> None:
    """Of a value alone, an eighth of it; beside a gradient some numbers a row. Of 16 bits no wider copy is made."""
    rows, classes = 256, 16384
    room = {"value": rows * classes // 8, "gradient": 0}[what] + 32 * rows

    def loss(z: Any, labels: Any) -> Any:
        return lossjax.softmax_cross_entropy_with_integer_labels(z, labels, reduction="mean")

    function = loss if what == "value" else jax.value_and_grad(loss)
    shapes = jax.ShapeDtypeStruct((rows, classes), dtype), jax.ShapeDtypeStruct((rows,), "int32")
    analysis = quick(function).lower(*shapes).compile().memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes <= 4 * room


@pytest.mark.covering(2)
@pytest.mark.parametrize("formula", [_by_pieces, whole_sum_of_others])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("classes", [1, 2, 10, 20, 21, 97, 191, 192, 195, 1000, 1187, 50257])
def test_a_sum_has_every_class_once(
    classes: int, dtype: Any, formula: Callable[..., jax.Array], random: np.random.Generator
) -> None:
    """By pieces on a CPU, at their ends and overlaps too; without the pivot, or whole if that is no class."""
    z = jnp.asarray(random.normal(size=classes), dtype)
    exact = np.exp(np.asarray(z, np.float64))
    maximum = jnp.max(z, keepdims=True).astype(jnp.float32)[None]
    summed = jax.jit(functools.partial(formula, shifted_exponential))
    for pivot in {0, 8, classes // 2, classes - 9, classes - 1, -1, classes} - set(range(-9, -1)):
        left_out = exact[pivot] if 0 <= pivot < classes else 0.0
        found = summed(np.array([[pivot]], np.int32), (z[None],), maximum)
        scaled = float(found[0, 0]) * np.exp(float(z.max()))
        assert abs(scaled - (exact.sum() - left_out)) <= 8 * 2.0**-24 * exact.sum(), pivot


def _product(u: jax.Array, v: jax.Array, of_row: jax.Array) -> jax.Array:
    return u.astype(of_row.dtype) * v * of_row


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("classes", [1, 2, 5, 12])
def test_short_rows_of_two_arrays_are_taken_class_by_class(
    classes: int, dtype: Any, random: np.random.Generator
) -> None:
    """On a CPU, in a loop over the classes: without the pivot, or whole if that is no class; and of each, its term."""
    u, v = (jnp.asarray(random.normal(size=(9, classes)), kind) for kind in (dtype, jnp.float32))
    of_row = jnp.asarray(random.normal(size=(9, 1)), jnp.float32)
    pivot = (jnp.arange(9, dtype=jnp.int32) % (classes + 2) - 1)[:, None]
    exact = np.asarray(u, np.float64) * np.asarray(v, np.float64) * np.asarray(of_row, np.float64)
    others = np.arange(classes) != np.asarray(pivot)
    summed = jax.jit(functools.partial(sum_of_others, _product)).lower(pivot, (u, v), of_row).compile()
    each = jax.jit(functools.partial(of_each_class, _product)).lower((u, v), of_row).compile()
    room = (classes + 2) * 2.0**-24 * np.sum(np.abs(exact), axis=-1)  # two roundings a term, one an addition
    assert (np.abs(summed(pivot, (u, v), of_row)[:, 0] - np.sum(exact, axis=-1, where=others)) <= room).all()
    np.testing.assert_allclose(each((u, v), of_row), exact, rtol=2.01 * 2.0**-24)
    texts = [program.as_text() or "" for program in (summed, each)]
    assert classes == 1 or all(" while(" in text for text in texts)  # XLA unrolls a loop of one pass


def test_on_an_automatic_mesh_no_block_lies_on_two_devices() -> None:
    for classes in (192, 1000, 32000, 32768, 50304, 128256, 151936):
        blocks, _ = pieces_of(jnp.zeros((1, classes)), jnp.dtype("float32")) or (0, 0)
        for devices in (2, 4, 8, 16, 32, 64, 128, 256):
            if classes % devices == 0 and classes // devices >= 96:
                assert blocks % devices == 0


def _lowered(platform: str, classes: int = 1000) -> str:
    """The program of a loss for one platform, as text, traced on this machine."""
    loss = lossjax.softmax_cross_entropy_with_integer_labels
    shapes = jax.ShapeDtypeStruct((3, classes), jnp.float32), jax.ShapeDtypeStruct((3,), jnp.int32)
    return jax.jit(loss).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()


def test_the_formula_is_chosen_where_a_program_is_lowered() -> None:
    """For a TPU a program has no pieces, whichever machine traces it, and one lowered for a CPU has them."""
    pieces = [_lowered(platform).count("_with_piece") for platform in ("cpu", "tpu", "cuda")]
    assert pieces[0] > 0
    assert pieces[1:] == [0, 0]


def test_asking_the_process_for_its_backend_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: a formula chosen while tracing is the same for all platforms."""

    def by_backend(*arguments: Any, cpu: Callable[..., Any], accelerator: Callable[..., Any], **_: Any) -> Any:
        return (cpu if jax.default_backend() == "cpu" else accelerator)(*arguments)

    monkeypatch.setattr(row_statistics_module, "by_platform", by_backend)
    assert _lowered("tpu", classes=1001).count("_with_piece") > 0


def test_statistics_of_narrow_logits_are_wide() -> None:
    z = jnp.asarray([[1.0, 2.5, -3.0]], jnp.bfloat16)
    narrow, wide = row_statistics(z, dtype=jnp.dtype("float32")), row_statistics(z.astype(jnp.float32))
    for a, b in zip(jax.tree.leaves(narrow), jax.tree.leaves(wide), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def maxima_found(
    index_of: Callable[[jax.Array], jax.Array], classes: int, dtype: str, random: np.random.Generator
) -> bool:
    """Whether every index is one of a maximum: at each place of a row, and of several equal ones the first."""
    alone = np.full((classes, classes), -1.5)
    np.fill_diagonal(alone, 2.0)
    ties = np.round(random.normal(size=(64, classes)))
    rows = jnp.asarray(np.concatenate([alone, ties, np.full((1, classes), -np.inf)]), dtype)
    found = np.asarray(jax.jit(index_of)(rows))[:, 0]
    return bool(np.array_equal(found, np.argmax(np.asarray(rows, np.float64), axis=-1)))


@pytest.mark.covering
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("classes", [21, 97, 192, 257, 1000])
def test_the_index_of_a_maximum_at_every_place(classes: int, dtype: str, random: np.random.Generator) -> None:
    assert maxima_found(row_sum._argmax_by_pieces, classes, dtype, random)
    assert maxima_found(row_sum.ON_CPU.index_of_maximum, classes, dtype, random)


def test_a_lost_place_would_be_noticed(random: np.random.Generator) -> None:
    """An index that forgets the last class of a row, as one that is wrong at the end of a block would."""
    assert not maxima_found(lambda z: row_sum._argmax_by_pieces(z[..., :-1]), 257, "float32", random)
