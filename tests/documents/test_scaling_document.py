"""What docs/scaling.md says of programs is what compiled programs say."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from lossjax import (
    linear_softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    vocab_parallel_linear_softmax_cross_entropy,
    vocab_parallel_softmax_cross_entropy,
)
from tests.support.compiled import collectives, text_of
from tests.support.paths import ROOT

DOCUMENT = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
ROWS, HIDDEN, CLASSES = 24, 7, 66
CLASS, SHARED, LAST = P("class"), P(), P(None, "class")

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "none, or `ignore_index`, `logit_softcap`, `temperature`": [
        {},
        {"ignore_index": 3, "logit_softcap": 30.0, "temperature": 2.0},
    ],
    "`z_loss`": [{"z_loss": 1e-3}],
    "`label_smoothing`": [{"label_smoothing": 0.1}, {"label_smoothing": 0.1, "smoothing": "others"}],
    "`class_weights`": [{"class_weights": True}],
    '`class_weights`, and `reduction="mean"`': [{"class_weights": True, "reduction": "mean"}],
    "soft targets": [{"soft": True}],
}


def mesh(axis: str = "class") -> jax.sharding.Mesh:
    return jax.make_mesh((2,), (axis,), axis_types=(AxisType.Auto,))


def split(fn: Callable[..., Any], *specs: Any, **options: Any) -> Callable[..., Any]:
    return jax.shard_map(fn, mesh=mesh(), in_specs=specs, out_specs=SHARED, **options)


def numbers_a_row(fn: Callable[..., Any], *arguments: Any) -> int:
    """What crosses devices, in numbers a row; one or two in all, a sum's or a mask's, may come with it."""
    moved = collectives(text_of(fn, *arguments))
    assert {name for name, _ in moved} == {"all-reduce"}
    count, in_all = divmod(sum(size for _, size in moved), ROWS)
    assert in_all <= 2
    return count


def floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


LABELS = jax.ShapeDtypeStruct((ROWS,), jnp.int32)


def documented() -> dict[str, tuple[int, int]]:
    table = DOCUMENT.split("<!-- numbers a row -->")[1].split("<!-- end of numbers a row -->")[0]
    return {
        name: (int(a), int(b)) for name, a, b in re.findall(r"^\| (.+?) \| (\d+) \| (\d+) \|$", table, re.MULTILINE)
    }


def test_every_line_of_the_table_is_counted() -> None:
    assert list(documented()) == list(OPTIONS)


@pytest.mark.parametrize(("line", "options"), [(line, o) for line, given in OPTIONS.items() for o in given])
def test_numbers_a_row(line: str, options: dict[str, Any]) -> None:
    soft, weighted = (options.get(name, False) for name in ("soft", "class_weights"))
    options = {name: value for name, value in options.items() if name not in ("soft", "class_weights")}

    def loss(z: Any, y: Any, weights: Any) -> Any:
        given = {"reduction": "sum"} | options | ({"class_weights": weights} if weighted else {})
        return vocab_parallel_softmax_cross_entropy(z, y, axis_name="class", **given)

    sharded = split(loss, LAST, LAST if soft else SHARED, CLASS)
    arguments = floats(ROWS, CLASSES), floats(ROWS, CLASSES) if soft else LABELS, floats(CLASSES)
    counted = numbers_a_row(sharded, *arguments), numbers_a_row(jax.value_and_grad(sharded), *arguments)
    assert counted == documented()[line]


@pytest.mark.parametrize("blocks", [1, 4])
@pytest.mark.parametrize(("reduction", "beside"), [("sum", 1), ("none", 0)])
def test_the_head(reduction: str, beside: int, blocks: int) -> None:
    """Three numbers a row, in each block; and once the hidden states' gradient, and of a sum each row's loss."""

    def loss(x: Any, W: Any, y: Any) -> Any:
        options = {"axis_name": "class", "reduction": reduction, "chunk_size": ROWS // blocks}
        return jnp.sum(vocab_parallel_linear_softmax_cross_entropy(x, W, y, **options))

    sharded = jax.value_and_grad(split(loss, SHARED, LAST, SHARED), (0, 1))
    *in_block, at_once = collectives(text_of(sharded, floats(ROWS, HIDDEN), floats(HIDDEN, CLASSES), LABELS))
    assert sum(size for _, size in in_block) == 3 * ROWS // blocks
    assert at_once == ("all-reduce", (HIDDEN + beside) * ROWS)


@pytest.mark.parametrize("a_device", [96, 125, 2048])
def test_by_the_compiler_three_numbers_cross(a_device: int) -> None:
    """Of the value, and with its gradient. Nothing where rows are split."""
    classes = a_device * mesh().size

    def on(spec: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((ROWS, classes), jnp.float32, sharding=NamedSharding(mesh(), spec))

    def loss(z: Any) -> Any:
        return softmax_cross_entropy_with_integer_labels(z, np.arange(ROWS), reduction="sum")

    for form in (loss, jax.value_and_grad(loss)):
        assert numbers_a_row(form, on(LAST)) == 3
        assert numbers_a_row(form, on(CLASS)) == 0


def test_by_the_compiler_the_blocks_of_the_head_gather_nothing() -> None:
    x, W = (
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh(), spec))
        for shape, spec in (((ROWS, HIDDEN), CLASS), ((HIDDEN, CLASSES), SHARED))
    )

    def loss(x: Any, W: Any) -> Any:
        return linear_softmax_cross_entropy(x, W, np.arange(ROWS), reduction="sum", chunk_size=ROWS // 3)

    moved = {name for name, _ in collectives(text_of(jax.value_and_grad(loss, (0, 1)), x, W))}
    assert moved == {"all-reduce"}


def test_without_check_vma_it_is_refused() -> None:
    def loss(x: Any, W: Any) -> Any:
        return vocab_parallel_linear_softmax_cross_entropy(x, W, jnp.arange(ROWS), axis_name="class", reduction="sum")

    unchecked = split(loss, SHARED, LAST, check_vma=False)
    with pytest.raises(ValueError, match="would return wrong gradients; call it with check_vma=True"):
        unchecked(jnp.ones((ROWS, HIDDEN)), jnp.ones((HIDDEN, CLASSES)))


@pytest.mark.parametrize(("told", "dtype"), [("nothing", "f32"), ("of the cast weight", "bf16"), ("before", "f32")])
def test_the_dtype_in_which_devices_sum_the_gradient_of_a_weight(told: str, dtype: str) -> None:
    def loss(x: Any, W: Any) -> Any:
        W = jax.lax.pcast(W, "class", to="varying") if told == "before" else W
        x, W = x.astype(jnp.bfloat16), W.astype(jnp.bfloat16)
        W = jax.lax.pcast(W, "class", to="varying") if told == "of the cast weight" else W
        labels = jnp.zeros(len(x), int)
        return jax.lax.psum(linear_softmax_cross_entropy(x, W, labels, reduction="sum"), "class")

    program = jax.make_jaxpr(jax.grad(split(loss, CLASS, SHARED), 1))(floats(ROWS, HIDDEN), floats(HIDDEN, CLASSES))
    assert re.findall(rf":(\w+)\[{HIDDEN},{CLASSES}\]\S* = psum\w*\[axes=\('class',\)", str(program)) == [dtype]
