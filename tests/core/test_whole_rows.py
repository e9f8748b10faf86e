"""What is known of rows, and a kernel that stands for it on a TPU alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax._core.whole_rows import Operand, formed, known

ROWS, CLASSES = 3, 5


def squares(x: jax.Array, scale: jax.Array) -> tuple[jax.Array]:
    return (scale * jnp.sum(x * x, axis=-1),)


def wrong(formula: Callable[..., Any], *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """What anybody can tell from its formula."""
    return tuple(7 * result for result in formula(*arrays))


@dataclasses.dataclass(frozen=True)
class OnTPU:
    """A kernel for this platform alone."""

    def on(self, platform: str, *_: Any) -> Any:
        return wrong if platform == "tpu" else None


def of_rows(x: jax.Array, scale: jax.Array) -> jax.Array:
    (result,) = squares(x, scale)
    return known([result], squares, OnTPU(), [Operand(x, "classes"), Operand(scale, "shared")])[0]


def has_the_kernel(function: Callable[..., Any], *arguments: Any, platform: str = "tpu") -> bool:
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    return "dense<7.0" in text


@pytest.fixture
def x(random: np.random.Generator) -> jax.Array:
    return jnp.asarray(random.normal(size=(2, ROWS, CLASSES)), jnp.float32)


TWO = jnp.float32(2)


def test_the_kernel_stands_for_it_on_a_tpu_alone(x: jax.Array) -> None:
    np.testing.assert_array_equal(of_rows(x, TWO), squares(x, TWO)[0])
    assert has_the_kernel(of_rows, x, TWO)
    assert not has_the_kernel(of_rows, x, TWO, platform="cpu")
    assert not has_the_kernel(of_rows, x, TWO, platform="cuda")


def test_its_derivatives_are_those_of_what_is_known(x: jax.Array, random: np.random.Generator) -> None:
    along = jnp.asarray(random.normal(size=x.shape), x.dtype), jnp.float32(0.3)

    def everything(function: Callable[..., Any]) -> Any:
        total = lambda x, scale: jnp.sum(jnp.sin(function(x, scale)))  # noqa: E731
        gradient = jax.grad(total, (0, 1))
        looped = lambda x: jax.lax.scan(lambda s, row: (s + total(row, TWO), None), jnp.float32(0), x)[0]  # noqa: E731
        return [
            gradient(x, TWO),
            jax.jvp(total, (x, TWO), along),
            jax.jvp(gradient, (x, TWO), along),
            jax.grad(jax.checkpoint(total))(x, TWO),
            jax.jvp(jax.grad(looped), (x,), along[:1]),
        ]

    found, wanted = everything(of_rows), everything(lambda x, scale: squares(x, scale)[0])
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_batches_have_one_kernel_but_not_of_what_rows_share(x: jax.Array) -> None:
    scales = jnp.arange(1.0, 3)
    over_rows, over_scales = jax.vmap(of_rows, (0, None)), jax.vmap(of_rows, (None, 0))
    np.testing.assert_array_equal(over_rows(x, TWO), squares(x, TWO)[0])
    np.testing.assert_array_equal(over_scales(x, scales), [squares(x, scale)[0] for scale in scales])
    assert has_the_kernel(over_rows, x, TWO)
    assert not has_the_kernel(over_scales, x, scales)
    (at_rest,) = squares(x[0], TWO)
    nobody_s = jax.vmap(
        lambda x: known([at_rest], squares, OnTPU(), [Operand(x, "classes"), Operand(TWO, "shared")])[0]
    )
    np.testing.assert_array_equal(nobody_s(x), [at_rest, at_rest])


def formed_of_rows(x: jax.Array, scale: jax.Array) -> jax.Array:
    return formed(squares, OnTPU(), [Operand(x, "classes"), Operand(scale, "rows")], [scale])[0]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("operation", [of_rows, formed_of_rows])
def test_any_axis_may_be_mapped(operation: Callable[..., Any], axis: int, x: jax.Array) -> None:
    """Of arrays and of what is known of them; a formula that is executed meets it in front."""
    scale = TWO if operation is of_rows else jnp.broadcast_to(TWO, x.shape[1 - axis : 2 - axis])
    mapped = jax.vmap(operation, (axis, None), out_axes=axis)
    np.testing.assert_array_equal(mapped(x, scale), squares(x, TWO)[0])
    assert has_the_kernel(mapped, x, scale)


def test_it_is_linear_in_what_is_known(x: jax.Array) -> None:
    operands = [Operand(x, "classes"), Operand(TWO, "shared")]
    shape = jax.ShapeDtypeStruct(x.shape[:-1], x.dtype)
    transpose = jax.linear_transpose(lambda rows: known([rows], squares, OnTPU(), operands)[0], shape)
    cotangent = jnp.arange(6.0).reshape(shape.shape)
    np.testing.assert_array_equal(transpose(cotangent)[0], cotangent)
