"""The kernel that reads whole rows once, by the compiler of every TPU."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import lossjax
from lossjax._softmax import row_kernel
from lossjax.accelerators import CHIPS, Facts, NotPossible, chips, compiled_for

pytestmark = pytest.mark.accelerators

TPUS = ("v5e", "v5p", "v6e", "7x")
ALL: dict[str, Any] = {
    "label_smoothing": 0.1, "z_loss": 1e-3, "logit_softcap": 30.0, "temperature": 2.0, "ignore_index": -100,
}  # fmt: skip


def chip_or_skip(name: str) -> chips.Chip:
    missing = chips.lacking(CHIPS[name])
    if missing is not None:
        pytest.skip(missing)
    return CHIPS[name]


def compiled(chip: chips.Chip, rows: int, classes: int, dtype: str, loss: Callable[..., Any], *more: Any) -> Facts:
    logits = jax.ShapeDtypeStruct((rows, classes), dtype)
    return compiled_for(chip, jax.value_and_grad(loss), logits, *(more or (jax.ShapeDtypeStruct((rows,), jnp.int32),)))


def units(facts: Facts, rows: int, classes: int, dtype: str) -> float:
    return facts.moved / (rows * classes * jnp.dtype(dtype).itemsize)


def labelled(**options: Any) -> Callable[..., Any]:
    return lambda z, y: lossjax.softmax_cross_entropy_with_integer_labels(z, y, reduction="mean", **options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "classes"), [(1001, 4096), (1001, 50257), (333, 131072), (100, 262144)])
@pytest.mark.parametrize("name", TPUS)
def test_labels_are_one_reading_and_one_writing(name: str, rows: int, classes: int, dtype: str) -> None:
    """Any number of rows, classes that fill no register, up to 2^18 of them.

    In memory a number a row is 128 of them, and rows are a multiple of 16.
    """
    found = compiled(chip_or_skip(name), rows, classes, dtype, labelled())
    filled = -(-rows // 16) * 16 / rows
    padding = 10 * 128 * 4 / (classes * jnp.dtype(dtype).itemsize)
    assert units(found, rows, classes, dtype) < 2.02 * filled + padding
    assert found.temporary < 4 * 128 * 4 * (rows + 8)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [{}, ALL], ids=["plain", "all"])
@pytest.mark.parametrize("kind", ["labels", "distributions"])
def test_what_the_formula_holds_has_room(
    kind: str, options: dict[str, Any], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest rows that a block is made for compile on the chips with the least memory, and with no more than that.

    That is where the estimate of what the formula holds at once is tight.
    """
    chip, rows, classes = chip_or_skip("v5p"), 112, 131072
    loss, more, least = labelled(**options), [], 2.1
    if kind == "distributions":
        rest = {name: option for name, option in options.items() if name != "ignore_index"}
        more, least = [jax.ShapeDtypeStruct((rows, classes), dtype)], 3.1
        loss = lambda z, t: lossjax.softmax_cross_entropy(z, t, reduction="mean", **rest)  # noqa: E731
    made = []
    right = row_kernel.Blocks.of

    def of(*arguments: Any) -> Any:
        made.append(right(*arguments))
        return made[-1]

    jax.clear_caches()
    monkeypatch.setattr(row_kernel.Blocks, "of", of)
    assert units(compiled(chip, rows, classes, dtype, loss, *more), rows, classes, dtype) < least
    assert 0.6 * row_kernel.VMEM < made[-1].needed <= row_kernel.VMEM


def test_an_estimate_that_is_too_small_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A formula that is said to hold nothing is given no room, and its program does not fit."""
    chip = chip_or_skip("v5p")
    right = row_kernel.Blocks.of
    jax.clear_caches()
    monkeypatch.setattr(row_kernel.Blocks, "of", lambda classes, sizes, _, room: right(classes, sizes, 0, room))
    with pytest.raises(NotPossible, match="too large"):
        compiled(chip, 100, 131072, "float32", labelled(**ALL))


@pytest.mark.parametrize("name", ["v5e", "7x"])
def test_logits_of_a_product_are_read_once_less(name: str) -> None:
    """Of a product and its two gradients, beside the formula's program; the kernel writes a second array."""
    chip, rows, width, classes = chip_or_skip(name), 4096, 1024, 32768
    shapes = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((rows, width), (width, classes))]
    labels = jax.ShapeDtypeStruct((rows,), jnp.int32)

    def facts(loss: Callable[..., Any]) -> tuple[float, float]:
        found = compiled_for(chip, jax.grad(lambda x, w, y: loss(x @ w, y), (0, 1)), *shapes, labels)
        return units(found, rows, classes, "bfloat16"), found.temporary / (rows * classes * 2)

    (moved, arrays), (by_formula, one) = (
        facts(labelled()),
        facts(lambda z, y: jnp.mean(lossjax.softmax_cross_entropy_with_integer_labels(z, y))),
    )
    print(f"{name}: {moved:.1f} moved, the formula {by_formula:.1f}; {arrays:.1f} arrays, the formula {one:.1f}")
    assert moved < by_formula - 0.7
    assert arrays < one + 1.1


def test_larger_logits_are_not_held_twice() -> None:
    chip = chip_or_skip("v5e")
    found = compiled(chip, 8192, 65536, "bfloat16", labelled())
    assert units(found, 8192, 65536, "bfloat16") > 2.9


def kl(u: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.mean(lossjax.softmax_kl_divergence(u, v))


def js(u: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.mean(lossjax.softmax_js_divergence(u, v))


def pulled_back(z: jax.Array, cotangent: jax.Array) -> jax.Array:
    return jax.vjp(lossjax.softmax, z)[1](cotangent)[0]


PASSES: dict[str, tuple[Callable[..., Any], int, float]] = {
    "KL": (kl, 2, 2), "KL, one gradient": (jax.value_and_grad(kl, 1), 2, 5), "KL, both": (jax.grad(kl, (0, 1)), 2, 6),
    "JS": (js, 2, 2), "JS, one gradient": (jax.value_and_grad(js), 2, 5),
    "softmax": (lossjax.softmax, 1, 2), "softmax, pulled back": (pulled_back, 2, 3),
    "log_softmax": (lossjax.log_softmax, 1, 2), "entropy": (lambda z: jnp.mean(lossjax.softmax_entropy(z)), 1, 1),
}  # fmt: skip
"""Of functions of logits: the pass, how many arrays it has, and how many it reads and writes."""


@pytest.mark.parametrize("name", ["v5e", "7x"])
@pytest.mark.parametrize("case", PASSES)
def test_functions_of_logits_read_once_and_write_once(case: str, name: str) -> None:
    function, count, least = PASSES[case]
    logits = jax.ShapeDtypeStruct((1024, 32768), jnp.float32)
    found = compiled_for(chip_or_skip(name), function, *[logits] * count)
    assert units(found, 1024, 32768, "float32") < least + 0.1
    assert found.temporary < 0.1 * 1024 * 32768 * 4
