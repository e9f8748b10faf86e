"""The kernel that reads rows once, executed by JAX's interpreter of TPU kernels: it gives its formula's numbers."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from lossjax._core.packed import Packed
from lossjax._softmax import reduced, row_kernel
from lossjax._softmax.cross_entropy_terms import Options, SoftmaxInputs
from lossjax._softmax.curves import CROSS_ENTROPY
from lossjax._softmax.row_kernel import Blocks
from lossjax._softmax.transform import LogitTransform

ON_ONE_CORE = pltpu.InterpretParams(out_of_bounds_reads="raise", uninitialized_memory="nan")
ON_TWO_CORES = pltpu.InterpretParams(
    detect_races=True, out_of_bounds_reads="raise", uninitialized_memory="nan", num_cores_or_threads=2
)
"""Four times as dear: it interprets a kernel operation by operation. How rows go to cores depends on no formula."""
CUTS = {
    "one block at a time": Blocks(rows=8, at_once=8, buffers=2, needed=0),
    "half a block at once": Blocks(rows=16, at_once=8, buffers=2, needed=0),
    "one buffer": Blocks(rows=16, at_once=16, buffers=1, needed=0),
}


def number(value: float) -> jax.Array:
    return jnp.asarray(value, jnp.float32)


SMOOTHED: dict[str, Any] = {"smoothing": number(0.1)}
CAPPED: dict[str, Any] = {"transform": LogitTransform(number(30.0), number(1.7)), "z_loss": number(1e-3)}
CASES: dict[str, tuple[bool, dict[str, Any]]] = {
    "labels": (True, {}),
    "labels, smoothed": (True, SMOOTHED),
    "labels, capped": (True, CAPPED),
    "labels, all": (True, SMOOTHED | CAPPED | {"class_weights": True, "valid": True}),
    "distributions": (False, {}),
    "distributions, all": (False, SMOOTHED | CAPPED | {"class_weights": True, "valid": True}),
}


def operands(
    random: np.random.Generator, rows: tuple[int, ...], classes: int, dtype: str, case: str
) -> tuple[Any, list[Any]]:
    """The formula, and what it is given, of rows that are far from each other in scale and offset."""
    labelled, given = CASES[case]
    scale = np.geomspace(1e-3, 300, int(np.prod(rows))).reshape(*rows, 1)
    z = jnp.asarray(random.normal(size=(*rows, classes)) * scale + 50 * random.normal(size=(*rows, 1)), dtype)
    labels = jnp.asarray(random.integers(0, classes, rows), jnp.int32)
    targets = labels if labelled else jnp.asarray(random.dirichlet(np.ones(classes), rows), dtype)
    filled = dict(given)
    if "class_weights" in given:
        filled["class_weights"] = jnp.asarray(random.uniform(0, 2, classes), jnp.float32)
    if "valid" in given:
        filled["valid"] = jnp.asarray(random.uniform(size=rows) < 0.7)
        z = jnp.where(filled["valid"][..., None], z, jnp.nan)
    options = Options(jnp.dtype("float32"), CROSS_ENTROPY, labelled)
    inputs = SoftmaxInputs(z, targets, **filled)
    coefficients = jnp.asarray(random.normal(size=rows), jnp.float32)
    formula = reduced._LossAndGradient(Packed.of((options, inputs, coefficients)).structure)
    return formula, reduced._operands(options, inputs, coefficients)


def by_kernel(formula: Any, given: list[Any], blocks: Blocks, cores: Any = ON_ONE_CORE) -> list[np.ndarray]:
    arrays, kinds = zip(*given, strict=True)
    found = jax.jit(lambda *arrays: row_kernel.in_blocks(formula, kinds, arrays, blocks, interpret=cores))(*arrays)
    return [np.asarray(one, np.float64) for one in found]


def by_formula(formula: Any, given: list[Any]) -> list[np.ndarray]:
    return [np.asarray(one, np.float64) for one in jax.jit(formula)(*(one.array for one in given))]


def assert_alike(kernel: list[np.ndarray], formula: list[np.ndarray], given: list[Any]) -> None:
    """Within the roundings of another order of additions, 8u of the row's largest entry, and of the dtype's own."""
    for ours, wanted, like in zip(kernel, formula, (given[-1].array, given[0].array), strict=True):
        assert ours.shape == wanted.shape
        u = max(2.0**-24, float(jnp.finfo(like.dtype).eps) / 4)
        largest = np.max(np.abs(wanted), axis=-1, keepdims=True) if wanted.ndim > given[-1].array.ndim else wanted
        assert np.all(np.abs(ours - wanted) <= 8 * u * np.abs(largest) + 1e-37)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_the_kernel_gives_the_formulas_numbers(case: str, dtype: str, random: np.random.Generator) -> None:
    """Rows that fill no block, classes that fill no register, and NaN in every masked row."""
    formula, given = operands(random, (3, 7), 261, dtype, case)
    assert_alike(by_kernel(formula, given, CUTS["one buffer"]), by_formula(formula, given), given)


@pytest.mark.covering
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("classes", [1, 10, 128, 1000])
def test_however_the_rows_are_cut(cut: str, classes: int, random: np.random.Generator) -> None:
    formula, given = operands(random, (37,), classes, "float32", "labels")
    assert_alike(by_kernel(formula, given, CUTS[cut], ON_TWO_CORES), by_formula(formula, given), given)


def test_a_label_that_is_no_class_is_nan_in_its_row_alone(random: np.random.Generator) -> None:
    formula, given = operands(random, (9,), 261, "float32", "labels")
    rows = np.array([2, 4, 7])
    labels = given[1].array.at[rows].set(jnp.array([-1, 261, 2**31 - 1], jnp.int32))
    given[1] = given[1]._replace(array=labels)
    losses, in_logits = by_kernel(formula, given, CUTS["one block at a time"])
    lost = np.isin(np.arange(9), rows)
    np.testing.assert_array_equal(np.isnan(losses), lost)
    np.testing.assert_array_equal(np.isnan(in_logits), lost[:, None] | np.zeros((9, 261), bool))


def test_infinite_logits_are_those_of_the_formula(random: np.random.Generator) -> None:
    formula, given = operands(random, (9,), 261, "float32", "labels")
    z = given[0].array.at[0, :5].set(-jnp.inf).at[1, 7].set(jnp.inf).at[2, :2].set(jnp.inf).at[3].set(-jnp.inf)
    given[0] = given[0]._replace(array=z.at[4, 0].set(jnp.nan))
    kernel, wanted = by_kernel(formula, given, CUTS["one block at a time"]), by_formula(formula, given)
    for ours, one in zip(kernel, wanted, strict=True):
        np.testing.assert_allclose(ours, one, rtol=1e-6)  # NaN where the formula has NaN
    assert np.isnan(wanted[0]).sum() == 3


def test_a_block_that_two_cores_write_is_noticed(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The interpreter's check for races is on: every step of this kernel works on the first block."""
    formula, given = operands(random, (16,), 130, "float32", "labels")
    right = pl.BlockSpec
    monkeypatch.setattr(pl, "BlockSpec", lambda shape, _, **how: right(shape, lambda i: (0, 0), **how))
    try:
        by_kernel(formula, given, CUTS["one block at a time"], ON_TWO_CORES)
        noticed = "RACE" in "".join(capfd.readouterr())  # JAX 0.10 says so; 0.12 raises
    except Exception as error:
        noticed = "ace" in str(error)
    assert noticed


def test_a_formula_that_mixes_rows_would_differ(random: np.random.Generator) -> None:
    formula, given = operands(random, (19,), 130, "float32", "labels")

    def mixed(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        losses, in_logits = formula(*arrays)
        return losses + jnp.sum(arrays[-1]), in_logits

    with pytest.raises(AssertionError):
        assert_alike(by_kernel(mixed, given, CUTS["one block at a time"]), by_formula(mixed, given), given)


def test_blocks_fill_the_memory_and_no_more() -> None:
    """Twice a block of each array and what the formula holds; one buffer where two have no room; none beyond."""
    room = row_kernel.VMEM
    of = functools.partial(Blocks.of, held=5, room=room)
    assert of(1000, (4, 4)) == Blocks(256, 256, 2, 1024 * (2 * 256 * 8 + 5 * 4 * 256) + 2**20)
    assert of(131072, (2, 2)) == Blocks(16, 8, 2, 131072 * (2 * 16 * 4 + 5 * 4 * 8) + 2**20)
    assert of(262144, (4, 4)) == Blocks(8, 8, 1, 262144 * (8 * 8 + 5 * 4 * 8) + 2**20)
    assert of(400_000, (4, 4)) is None
    for classes in (1, 129, 4096, 50257, 200_000):
        for sizes in ((4, 4), (2, 2), (2, 4, 2)):
            blocks = of(classes, sizes)
            assert blocks is None or (blocks.needed <= room and blocks.rows % blocks.at_once == 0)
