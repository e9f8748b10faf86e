"""Kernels, references and the collectives of ``shard_map`` in exact arithmetic do what JAX does with them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb
from jax import lax
from jax.experimental import pallas as pl
from jax.ref import addupdate, freeze

from lossjax.verify._exact import UndecidedComparison, UnsupportedPrimitive, exact
from tests.support.equations import Families, numbers
from tests.support.exactness import compared

FAMILIES = Families()
family = FAMILIES.family


@family(8, 8)
def kernels(random: np.random.Generator) -> Any:
    """Blocks of any size, some beyond the array's end, some with an axis left out; results read, added to, written."""
    rows, columns = random.integers(2, 6, 2).tolist()
    block = int(random.integers(1, 4))
    left_out, batched = bool(random.random() < 0.5), bool(random.random() < 0.5)
    shape = (None, columns) if left_out else (block, columns)
    grid = (rows if left_out else -(-rows // block), 2)

    def kernel(x_ref: Any, y_ref: Any, out_ref: Any, last_ref: Any) -> None:
        place, again = pl.program_id(0), pl.program_id(1)
        last_ref[...] = y_ref[pl.ds(pl.multiple_of(again, 1), 1)]

        @pl.when(again == 0)
        def _() -> None:
            out_ref[...] = x_ref[...] * y_ref[0]

        @pl.when(again == 1)
        def _() -> None:
            def step(k: Any, total: Any) -> Any:
                out_ref[..., pl.ds(k, 1)] += total[..., None] * 0 + place.astype(x_ref.dtype)
                return total + out_ref[..., k]

            lax.fori_loop(0, columns, step, out_ref[..., 0])

    def program(x: Any, y: Any) -> Any:
        def called(x: Any, y: Any) -> Any:
            spec = pl.BlockSpec(shape, lambda i, j: (i, 0))
            return pl.pallas_call(
                kernel, grid=grid, in_specs=[spec, pl.BlockSpec((3,), lambda i, j: (0,))],
                out_specs=[spec, pl.BlockSpec((1,), lambda i, j: (0,))],
                out_shape=[jax.ShapeDtypeStruct((rows, columns), x.dtype), jax.ShapeDtypeStruct((1,), x.dtype)],
                interpret=True,
            )(x, y)  # fmt: skip

        return jax.vmap(called, (0, None))(x, y) if batched else called(x, y)

    return program, (numbers(random, (2, rows, columns) if batched else (rows, columns)), numbers(random, 3))


@family(8, 8)
def references(random: np.random.Generator) -> Any:
    shape = tuple(random.integers(2, 5, 2).tolist())
    rounds, row = int(random.integers(1, 4)), int(random.integers(shape[0]))

    def program(x: Any, n: Any) -> Any:
        total, count = jax.new_ref(x), jax.new_ref(n)

        def step(k: Any, carry: Any) -> Any:
            total[row] = total[row] * 0.5 + carry
            addupdate(total, (slice(None), slice(1, None)), jnp.ones((shape[0], shape[1] - 1), x.dtype))
            addupdate(count, (0,), 2)
            count[k] = count[k] + 1
            return carry + count[0].astype(x.dtype)

        return lax.fori_loop(0, rounds, step, 0.5), total[...], freeze(count)

    return program, (numbers(random, shape), random.integers(0, 5, 4))


@pytest.mark.parametrize("name", FAMILIES)
def test_any_parameters(name: str) -> None:
    FAMILIES.compare(name)


def test_what_a_kernel_leaves_unwritten_or_reads_outside_is_refused() -> None:
    def first_only(x_ref: Any, out_ref: Any) -> None:
        out_ref[0] = x_ref[0]

    def called(x: Any, block: int) -> Any:
        spec = pl.BlockSpec((block,), lambda i: (i,))
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return pl.pallas_call(first_only, out_shape=shape, grid=(1,), in_specs=[spec], out_specs=spec, interpret=True)(
            x
        )

    x = np.float32([1, 2, 3])
    assert exact(lambda x: called(x, 3)[0])(x)[()] == 1
    with pytest.raises(UnsupportedPrimitive, match="what lies outside an array, or was not written"):
        exact(lambda x: called(x, 3))(x)
    with pytest.raises(UnsupportedPrimitive, match="places 5 to 5 are outside an axis of length 3"):
        exact(lambda x, k: jax.new_ref(x)[k])(x, np.int32(5))


def test_collectives_of_several_devices() -> None:
    mesh = jax.make_mesh((1, 2), ("i", "j"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

    def body(v: Any, w: Any) -> Any:
        swapped = lax.ppermute(v, "j", [(0, 1), (1, 0)]), lax.ppermute(v, ("i", "j"), [(0, 1)])
        gathered = lax.all_gather(v, "j", axis=0, tiled=True), lax.all_gather(v, ("j", "i"), axis=1)
        spread = lax.psum_scatter(gathered[0], "j", tiled=True), lax.all_to_all(gathered[0], "j", 0, 0, tiled=True)
        number = lax.axis_index(("j", "i")) + 2
        looped = lax.fori_loop(0, 2, lambda k, c: c + lax.psum(c * c, "j") / 8, v)
        return (
            *swapped,
            *gathered,
            *spread,
            v * number.astype(v.dtype),
            looped,
            lax.pmax(v.sum(), ("i", "j")),
            lax.pmin(w, "j"),
        )

    whole = jax.P(("i", "j"))
    mapped = jax.shard_map(
        body, mesh=mesh, in_specs=(whole, jax.P("j")), check_vma=False,
        out_specs=(whole, whole, whole, whole, whole, whole, whole, whole, jax.P(), jax.P()),
    )  # fmt: skip
    compared(jax.jit(mapped), (np.arange(8.0) / 8, np.arange(4) - 2), 16)
    summed = jax.shard_map(lambda v: lax.psum(jnp.sin(v), "j"), mesh=mesh, in_specs=jax.P("j"), out_specs=jax.P())
    compared(jax.jit(jax.grad(lambda x: jnp.sum(summed(x) ** 2))), (np.arange(4.0) / 8,), 16)


def test_an_error_of_one_device_is_the_error() -> None:
    """The others, which wait for it in a collective, go on to nothing."""
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    mapped = jax.shard_map(
        lambda v: lax.psum(jnp.floor(jnp.log(jnp.exp(v))), "i"), mesh=mesh, in_specs=jax.P("i"), out_specs=jax.P()
    )
    with pytest.raises(UndecidedComparison, match=r"^floor of"):
        exact(mapped)(np.float32([0.5, 1]))


def test_a_sum_of_squares_is_not_negative() -> None:
    """A ball about 0 reaches below 0; that its number does not is known where it is a sum of squares."""
    zero = lambda x: jnp.log(jnp.exp(x)) - x  # noqa: E731
    norm = exact(lambda x: jnp.sqrt(jnp.sum(zero(x) ** 2)) + jnp.linalg.norm(zero(x)) + jnp.sqrt(zero(x) @ zero(x)))
    root = norm(np.float32([1, 2]))[()]
    assert type(root) is arb
    assert root.contains(0)
    assert float(root.rad()) < 1e-30
    assert exact(lambda x: jnp.all(jnp.abs(zero(x)) >= 0) & ~jnp.any(zero(x) ** 2 < 0))(np.float32([1, 2]))
    with pytest.raises(UndecidedComparison, match=r"^sqrt of"):
        exact(lambda x: jnp.sqrt(zero(x)))(np.float32(1))
