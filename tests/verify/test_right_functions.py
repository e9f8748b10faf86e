"""What a checker of gradients must not hold against a right function."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jaxtyping import Float, Int

import lossjax
from lossjax.verify._check import check
from tests.support.judged import MESH, OWN, V, Y, Z, right, ruled, sine, squares

ROWS = np.float32([1, 2])


def penalty(z: jax.Array, y: jax.Array) -> jax.Array:
    def loss(v: jax.Array) -> jax.Array:
        return lossjax.softmax_cross_entropy_with_integer_labels(v, y, reduction="sum")

    return jnp.sum(jax.grad(loss)(z) ** 2, axis=-1)


def sharpness_aware(z: jax.Array, y: jax.Array) -> jax.Array:
    def loss(v: jax.Array) -> jax.Array:
        return jnp.sum(lossjax.softmax_cross_entropy_with_integer_labels(v, y))

    return loss(z + 0.05 * jax.grad(loss)(z))


@jax.tree_util.register_pytree_node_class
class Module:
    """What a library makes of a layer: arrays and functions in one pytree."""

    def __init__(self, weight: Any, activation: Any, size: int) -> None:
        self.weight, self.activation, self.size = weight, activation, size

    def tree_flatten(self) -> Any:
        return (self.weight, self.activation, self.size), None

    @classmethod
    def tree_unflatten(cls, _: Any, leaves: Any) -> "Module":
        return cls(*leaves)


def layer(module: Module, x: jax.Array) -> jax.Array:
    return jnp.sum(module.activation(x @ module.weight), axis=-1) / module.size


Y64 = Y.astype(np.int64)
GENTLE = ("rule", "cotangent", "modes", "edges")


def kernel(scale: float, rows: int = 1) -> Callable[..., Any]:
    """The sine of so many rows at a time by a Pallas kernel over a grid, with a rule ``scale`` times too steep."""

    def sines(x_ref: Any, o_ref: Any) -> None:
        o_ref[...] = jnp.sin(x_ref[...])

    def call(x: jax.Array) -> jax.Array:
        block = pl.BlockSpec((rows, x.shape[1]), lambda i: (i, 0))
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return pl.pallas_call(
            sines, out_shape=shape, grid=(x.shape[0] // rows,), in_specs=[block], out_specs=block, interpret=True
        )(x)

    return ruled(call, lambda kept, g: (scale * right(kept[0], g),))


def test_a_kernel_over_a_grid_is_held_against_its_reference() -> None:
    """By itself it cannot be judged, because JAX does not differentiate it: that is no failure."""
    alone = check(kernel(1), Z, checks=GENTLE)
    assert alone.ok is None, str(alone)
    assert all(r.ok is not False for r in alone.rows), str(alone)
    assert check(kernel(1), Z, checks="rule", reference=jnp.sin).right
    assert check(kernel(3), Z, checks="rule", reference=jnp.sin).right is False


def test_a_kernel_for_whole_blocks_of_rows_is_not_held_to_other_sizes() -> None:
    """It leaves the rows beyond unwritten; a fault at its own size is one all the same."""
    found = check(kernel(1, 2), Z[:4], checks=("rule", "modes"), reference=jnp.sin)
    assert found.ok, str(found)
    assert found.right
    assert check(kernel(1, 2), Z[:4], checks="modes").ok
    assert check(kernel(3, 2), Z[:4], checks="rule", reference=jnp.sin).right is False


def test_a_kernel_that_drops_rows_is_not_judged_there() -> None:
    """A sum over whole blocks has another value for other numbers of rows, and says nothing about its rule."""

    def sums(x_ref: Any, o_ref: Any) -> None:
        start = jnp.where(pl.program_id(0) == 0, jnp.zeros_like(o_ref[...]), o_ref[...])
        o_ref[...] = start + jnp.sum(x_ref[...] ** 2, axis=0)

    def call(x: jax.Array) -> jax.Array:
        shape = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
        block, all_of_it = pl.BlockSpec((2, x.shape[1]), lambda i: (i, 0)), pl.BlockSpec(x.shape[1:], lambda i: (0,))
        return pl.pallas_call(
            sums, out_shape=shape, grid=(x.shape[0] // 2,), in_specs=[block], out_specs=all_of_it, interpret=True
        )(x)

    summed = ruled(call, lambda kept, g: (2 * g[None] * kept[0],))
    found = check(summed, Z[:4, :3], checks="rule", reference=lambda x: jnp.sum(x**2, axis=0))
    assert found.ok, str(found)


def test_what_jax_cannot_do_for_a_backward_kernel_is_not_held_against_it() -> None:
    """Its slope and its cotangent are two arguments of a kernel, and a Hessian has a tangent for the first alone."""

    def slopes(x_ref: Any, g_ref: Any, o_ref: Any) -> None:
        o_ref[...] = g_ref[...] * jnp.cos(x_ref[...])

    def backward(kept: Any, g: jax.Array) -> tuple[jax.Array]:
        shape = jax.ShapeDtypeStruct(g.shape, g.dtype)
        return (pl.pallas_call(slopes, out_shape=shape, interpret=True)(kept[0], g),)

    by_kernels = check(ruled(jnp.sin, backward), Z[0], checks="modes")
    assert by_kernels.ok is not False, str(by_kernels)
    row = next(r for r in by_kernels.rows if r.name == "modes: hessian")
    assert row.ok is None
    assert "forward in all of its arguments" in row.statement

    def tangent(primals: Any, tangents: Any) -> Any:
        raise ValueError("safe_map() argument 1 is longer than argument 0")

    cosine = jax.custom_jvp(jnp.cos)
    cosine.defjvp(tangent)
    by_hand = check(ruled(jnp.sin, lambda kept, g: (g * cosine(kept[0]),)), Z[0], checks="modes")
    assert by_hand.ok is False, "without a kernel the same words are a fault"


def typed(x: Any, y: Any) -> jax.Array:
    """Arguments looked at as jaxtyping does: NumPy's arrays are not JAX's."""
    assert isinstance(x, Float[jax.Array, "rows columns"])
    assert isinstance(y, Int[jax.Array, "rows"])
    return squares(x) * (1 + y).astype(x.dtype)


def typed_rule(kept: Any, g: Any) -> Any:
    assert isinstance(kept[0], Float[jax.Array, "rows columns"])
    assert isinstance(g, Float[jax.Array, "rows"])
    return (2 * g[:, None] * kept[0],)


HONEST: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "a random key": (
        lambda z, key: jnp.sum(z * jax.random.uniform(key, z.shape, z.dtype)), (Z[:2, :2], jax.random.key(0)), {}),
    "two rows with data of their own": (lambda z: squares(z) * ROWS, (Z[:2],), {}),
    "three rows with data of their own": (lambda z: squares(z) * jnp.float32([1, 2, 3]), (Z[:3],), {}),
    "no rows": (squares, (Z[:0],), {"checks": None}),
    "no columns": (lambda z: jnp.sum(z**2), (Z[:, :0],), {"checks": None}),
    "labels of numpy": (lambda z: z[np.arange(5), Y64] ** 2, (Z,), {"checks": ("rule", "modes")}),
    "a gradient penalty": (penalty, (Z[:2, :4], Y[:2]), {"checks": ("rule", "cotangent")}),
    "a sharpness-aware step": (sharpness_aware, (Z[:2, :4], Y[:2]), {"checks": ("rule", "cotangent")}),
    "a product with the Hessian": (
        lambda z, y, v: lossjax.softmax_cross_entropy_hvp(z, y, v), (Z[:2, :4], Y[:2], V[:2, :4]),
        {"checks": ("rule", "cotangent")}),
    "no forward mode": (sine(right), (Z,), {"checks": GENTLE}),
    "squares": (squares, (Z,), {"checks": GENTLE}),
    "a module": (layer, (Module(V.T[:3, :2], jax.nn.tanh, 3), Z[:2, :3]), {"checks": ("rule", "modes")}),
    "keywords": (
        lambda z, *, weights, smooth: jnp.sum(z**2 * weights) if smooth else jnp.sum(z), (Z,),
        {"keywords": {"weights": V, "smooth": True}, "checks": ("rule", "cotangent")}),
    "the last argument": (lambda k, z: k * squares(z), (2, Z), {"argnums": -1, "checks": "rule"}),
    "a shard_map inside": (
        lambda z: jax.shard_map(squares, mesh=MESH, in_specs=jax.P("i"), out_specs=jax.P("i"))(z), (Z,),
        {"checks": GENTLE}),
    "a sum over a shard_map of one device": (
        jax.shard_map(lambda z: jax.lax.psum(jnp.sum(z**2), "i"), mesh=MESH, in_specs=jax.P("i"), out_specs=jax.P()),
        (Z,), {"checks": GENTLE}),
    "a mean of squares": (lambda z: jnp.mean(z**2), (Z,), {"checks": GENTLE}),
    "labels of a head, which select no entry of the features": (
        lambda x, w, y: jax.nn.logsumexp(x @ w, axis=-1) - jnp.take_along_axis(x @ w, y[:, None], axis=-1)[:, 0],
        (Z, np.ones((7, 12), np.float32) * np.arange(12, dtype=np.float32), Y), {"checks": ("rule", "edges")}),
    "rows of its own": (
        ruled(lambda z: jnp.sum((z - V) ** 2), lambda kept, g: (2 * g * (kept[0] - V),)), (Z,), {}),
    "an exponent, which is no label": (lambda z, n: jnp.sum(z**2) * n.astype(z.dtype), (Z[0], np.array(2, np.int32)), {
        "checks": GENTLE}),
    "exponents of entries that the function weighs": (
        lambda z, n: jnp.sum(OWN[None] * jnp.exp(n[:, None].astype(z.dtype) * jnp.tanh(z)), axis=-1), (Z, Y),
        {"checks": ("rule", "edges")}),
    "exponents of entries that the function weighs, with a number": (
        lambda z, scale, n: jnp.sum(OWN[None] * jnp.exp(n[:, None].astype(z.dtype) * jnp.tanh(z) / scale), axis=-1),
        (Z, np.float32(1.5), Y), {"checks": ("rule", "edges")}),
    "types of arrays": (typed, (Z, Y), {"checks": ("rule", "cotangent", "modes")}),
    "types of arrays in a rule": (ruled(squares, typed_rule), (Z,), {}),
    "no rows, and a rule": (ruled(squares, lambda kept, g: (2 * g[:, None] * kept[0],)), (Z[:0],), {"checks": "rule"}),
    "a layer of equinox": (
        lambda layer, x: jnp.sum(jax.vmap(layer)(x) ** 2, axis=-1), (eqx.nn.Linear(7, 2, key=jax.random.key(0)), Z),
        {"checks": ("rule", "modes")}),
    "a Python float": (lambda x: x**2, (3.0,), {"checks": "rule"}),
}  # fmt: skip


OF_SECOND_ORDER = ("a sharpness-aware step", "a product with the Hessian")
"""Gradients within a function, as in the gradient penalty, which stays in the fast tier."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in OF_SECOND_ORDER else ()) for n in HONEST]
)
def test_right_functions_are_not_accused(name: str) -> None:
    function, args, options = HONEST[name]
    found = check(function, *args, **{"checks": GENTLE} | options)
    assert found.ok, str(found)
    assert found.right
