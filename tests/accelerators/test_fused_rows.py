"""Softmax, its logarithm and the entropy's gradient on a GPU: rows that stay on the chip, read from its programs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import lossjax
from lossjax._core import xla
from lossjax._softmax import fused_rows, row_statistics
from lossjax.accelerators import CHIPS, Chip, chips, compiled_for

pytestmark = pytest.mark.accelerators
ROWS = 8200
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "softmax": lossjax.softmax,
    "log_softmax": lossjax.log_softmax,
    "entropy": lossjax.softmax_entropy,
    "temperature": lambda z: lossjax.softmax(z, temperature=2.0),
    "three axes": lambda z: lossjax.log_softmax(z.reshape(4, -1, z.shape[-1])),
}


def chip_or_skip(name: str) -> Chip:
    missing = chips.lacking(CHIPS[name])
    if missing is not None:
        pytest.skip(missing)
    return CHIPS[name]


def moved(chip: Chip, name: str, classes: int, dtype: str) -> tuple[float, float, float]:
    """Bytes: of the value, of the gradient, and of a program that has both."""
    function = FUNCTIONS[name]
    z = jax.ShapeDtypeStruct((ROWS, classes), dtype)
    value = jax.eval_shape(function, z)

    def gradient(z: Any, cotangent: Any) -> Any:
        return jax.vjp(function, z)[1](cotangent)

    def both(z: Any, cotangent: Any) -> Any:
        found, pull_back = jax.vjp(function, z)
        return found, pull_back(cotangent)

    programs: Any = (function, z), (gradient, z, value), (both, z, value)
    first, second, third = (compiled_for(chip, *program).moved for program in programs)
    return first, second, third


@pytest.mark.parametrize(("classes", "dtype"), [(10, "bfloat16"), (1000, "float32"), (16_384, "bfloat16")])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", ["h100", "a100", "b200"])
def test_rows_are_read_once_and_written_once(name: str, function: str, classes: int, dtype: str) -> None:
    """By the value and by the gradient each, also where one program has both."""
    chip = chip_or_skip(name)
    if name != "h100" and classes != 1000:
        pytest.skip("other GPUs are asked for one kind of rows")
    z = jax.ShapeDtypeStruct((ROWS, classes), dtype)
    value = jax.eval_shape(FUNCTIONS[function], z)
    rows, logits = z.size // classes * 4, z.size * jnp.dtype(dtype).itemsize
    written = value.size * value.dtype.itemsize
    first, second, both = moved(chip, function, classes, dtype)
    assert second <= 1.01 * (2 * logits + written)
    if function != "entropy":  # whose value is a number a row, of a reading in parts
        assert first <= 1.01 * (logits + written)
        assert both <= 1.01 * (3 * logits + 2 * written)
    else:
        assert both - first <= 1.01 * (2 * logits + written + rows)


@pytest.mark.parametrize("classes", [10, 4096])
@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_no_more_than_jax_s_own(function: str, classes: int) -> None:
    chip = chip_or_skip("h100")
    z = jax.ShapeDtypeStruct((ROWS, classes), jnp.float32)
    theirs = compiled_for(chip, getattr(jax.nn, function), z)
    assert compiled_for(chip, FUNCTIONS[function], z).moved <= 1.01 * theirs.moved


def test_longer_rows_would_take_a_kernel_for_each_reduction(monkeypatch: pytest.MonkeyPatch) -> None:
    """So they keep the formula that reads them in parts."""
    chip = chip_or_skip("h100")
    kept = moved(chip, "softmax", 32_768, "float32")
    monkeypatch.setattr(fused_rows, "LONGEST_ROW", 32_768)
    jax.clear_caches()
    fused = moved(chip, "softmax", 32_768, "float32")
    jax.clear_caches()
    assert fused[0] > 1.5 * kept[0], "the limit can go up"


def _without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_rows, "one_kernel", lambda result: result)


def _with_is_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_statistics, "is_finite", jnp.isfinite)


def _not_known_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_rows, "known_anew", lambda x, _: xla.known_anew(x))


@pytest.mark.parametrize("naive_way", [_without_an_end, _with_is_finite, _not_known_anew])
def test_a_row_would_leave_the_chip(naive_way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The symptom that each of ``xla``'s ways round cures."""
    chip = chip_or_skip("h100")
    right = sum(moved(chip, "log_softmax", 1000, "float32"))
    naive_way(monkeypatch)
    jax.clear_caches()
    naive = sum(moved(chip, "log_softmax", 1000, "float32"))
    jax.clear_caches()
    assert naive > 1.15 * right, "it can go"


def test_a_looked_up_log_probability_would_be_formed_by_many_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The symptom that storing the result cures: a policy's gradient. (``token_log_probs`` forms no rows.)"""
    chip = chip_or_skip("h100")

    def loss(z: Any, actions: Any) -> Any:
        return -jnp.mean(jnp.take_along_axis(lossjax.log_softmax(z), actions[:, None], axis=-1))

    shapes = jax.ShapeDtypeStruct((ROWS, 1000), jnp.float32), jax.ShapeDtypeStruct((ROWS,), jnp.int32)
    right = compiled_for(chip, jax.value_and_grad(loss), *shapes).moved
    in_one_kernel = fused_rows.in_one_kernel
    monkeypatch.setattr(
        fused_rows, "in_one_kernel", lambda kinds, how, *given: in_one_kernel(kinds, how._replace(stored=False), *given)
    )
    jax.clear_caches()
    naive = compiled_for(chip, jax.value_and_grad(loss), *shapes).moved
    jax.clear_caches()
    assert naive > 1.15 * right, "it can go"
