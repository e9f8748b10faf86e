"""What a checker of gradients must ask: each planted fault is right wherever an easier question would look.

And what it must not hold against a right function.
"""

import functools
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
from lossjax.verify._check import Certificate, check
from lossjax.verify._exact import UnsupportedPrimitive, control, exact

_RANDOM = np.random.default_rng(11)
Z = _RANDOM.normal(size=(5, 7)).astype(np.float32)
V = _RANDOM.normal(size=(5, 7)).astype(np.float32)
Y = np.array([0, 3, 6, 2, 2], np.int32)
ROWS = np.float32([1, 2])
MESH = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))


def ruled(formula: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """A formula with a backward pass ``(arguments, cotangent) -> gradients``."""
    made = jax.custom_vjp(formula)
    made.defvjp(lambda *args: (formula(*args), args), backward)
    return made


def sine(slope: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., Any]:
    """The sine with a pullback ``slope(x, g)``."""
    return ruled(jnp.sin, lambda kept, g: (slope(kept[0], g),))


def right(x: jax.Array, g: jax.Array) -> jax.Array:
    return g * jnp.cos(x)


def weighted(z: jax.Array, m: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(m, z**2, 0), axis=-1)


def scaled(z: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.sum(w[:, None] * z**2, axis=-1)


def power(x: jax.Array, n: jax.Array) -> jax.Array:
    return x**2 * n.astype(x.dtype)


def squares(z: jax.Array) -> jax.Array:
    return jnp.sum(z**2, axis=-1)


def of_signs(z: jax.Array, s: jax.Array) -> jax.Array:
    """A margin loss that is undefined for labels other than -1 and 1."""
    return jnp.log1p(jnp.exp(-s * z)) * jnp.where(jnp.abs(s) == 1, 1, jnp.nan)


def of_probabilities(z: jax.Array, t: jax.Array) -> jax.Array:
    """A cross-entropy that is undefined for negative targets."""
    loss = jnp.sum(t * (jax.nn.logsumexp(z, axis=-1, keepdims=True) - z), axis=-1)
    return jnp.where(jnp.any(t < 0, axis=-1), jnp.nan, loss)


OWN = jnp.linspace(0.5, 2.5, 7)
"""Weights that a function has written down."""


def one_hot_loss(z: jax.Array, y: jax.Array) -> jax.Array:
    hot = jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype)
    return jax.nn.logsumexp(z, axis=-1) - jnp.sum(hot * z, axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def switched(x: jax.Array, upwards: bool) -> jax.Array:
    return x**2 if upwards else -(x**2)


switched.defvjp(lambda x, upwards: (switched(x, upwards), x), lambda upwards, x, g: (g * x * (2 if upwards else -3),))


@jax.custom_vjp
def cancelling_log_softmax(z: jax.Array) -> jax.Array:
    """Right in exact arithmetic; ``g - p Σg`` loses the gradient of a confident label."""
    return z - jax.nn.logsumexp(z, axis=-1, keepdims=True)


cancelling_log_softmax.defvjp(
    lambda z: (cancelling_log_softmax(z), jax.nn.softmax(z)),
    lambda p, g: (g - p * jnp.sum(g, axis=-1, keepdims=True),),
)


def first_row_only(kept: Any, g: jax.Array) -> Any:
    (z,) = kept
    return ((g[:, None] if z.shape[0] > 1 else 2 * g[:, None]) * 2 * z,)


def of_five_rows(kept: Any, g: jax.Array) -> Any:
    (z,) = kept
    return (10.0 / z.shape[0] * g[:, None] * z,)


def whole_blocks_only(kept: Any, g: Any) -> Any:
    """Rows beyond the last whole block of four are taken for padding."""
    (z,) = kept
    return ((2 * g[:, None] * z).at[z.shape[0] // 4 * 4 :].set(0),)


def padded(z: jax.Array) -> jax.Array:
    """Columns filled up to whole blocks of seven, with zeros that are no logits."""
    return jnp.pad(z, ((0, 0), (0, -z.shape[1] % 7)))


def of_a_row_too_many(kept: Any, g: jax.Array) -> Any:
    """Rows filled up to whole blocks of five with copies of the last, which the weights' gradient then has too."""
    x, w = kept
    rows = ((0, -x.shape[0] % 5), (0, 0))
    slope = jnp.pad(g, rows, mode="edge") / jnp.cosh(jnp.pad(x, rows, mode="edge") @ w) ** 2
    return (slope @ w.T)[: x.shape[0]], jnp.pad(x, rows, mode="edge").T @ slope


def root(x: jax.Array) -> jax.Array:
    return jnp.sqrt(1 + x**2)


def powers(x: jax.Array, n: jax.Array) -> jax.Array:
    return jnp.sum(jnp.exp(n.astype(x.dtype) * jnp.tanh(x)))


FAULTS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "wrong in float32 alone": (
        sine(lambda x, g: right(x, g) * (3 if x.dtype == jnp.float32 else 1)), (Z,), "rule: in float32"),
    "wrong in bfloat16 alone": (
        sine(lambda x, g: right(x, g) * (3 if x.dtype == jnp.bfloat16 else 1)),
        (Z.astype(jnp.bfloat16),), "rule: in bfloat16"),
    "with a static argument": (switched, (Z, False), "rule"),
    "static under jit": (jax.jit(switched, static_argnums=1), (Z, False), "rule"),
    "the gradient of one confident output": (cancelling_log_softmax, (Z,), "gradient"),
    "a clipped cotangent": (sine(lambda x, g: right(x, jnp.clip(g, -100, 100))), (Z,), "cotangent"),
    "a tiny cotangent": (sine(lambda x, g: right(x, jnp.where(jnp.abs(g) < 1e-3, 0, g))), (Z,), "cotangent"),
    "no cotangent": (sine(lambda x, g: jnp.where(g == 0, jnp.cos(x), right(x, g))), (Z,), "cotangent"),
    "a mask that hides something": (
        ruled(weighted, lambda kept, g: (2 * g[:, None] * kept[0], None)), (Z, np.ones((5, 7), bool)), "rule"),
    "weights that are not one": (
        ruled(scaled, lambda kept, g: (2 * g[:, None] * kept[0], g * squares(kept[0]))),
        (Z, np.ones(5, np.float32)), "rule"),
    "weights of zero": (
        ruled(scaled, lambda kept, g: (2 * (g * jnp.where(kept[1] == 0, 1, kept[1]))[:, None] * kept[0], None)),
        (Z, np.ones(5, np.float32)), "rule"),
    "an integer above ten": (
        ruled(power, lambda kept, g: (
            2 * g * kept[0] * jnp.minimum(kept[1], 10).astype(g.dtype), None)),
        (Z[0], np.arange(7, dtype=np.int32)), "rule"),
    "a batch of one": (ruled(squares, first_row_only), (Z,), "modes: other batch sizes"),
    "a batch size written down": (ruled(squares, of_five_rows), (Z,), "modes: other batch sizes"),
    "a block that is not full": (ruled(squares, whole_blocks_only), (Z[:4],), "modes: other batch sizes"),
    "a batch size written down in a mean": (
        ruled(lambda z: jnp.mean(z**2), lambda kept, g: (2 / 35 * g * kept[0],)), (Z,), "rule: other sizes"),
    "a block of columns that is not full": (
        ruled(lambda z: jax.nn.logsumexp(z, axis=-1), lambda kept, g: (
            g[:, None] * jax.nn.softmax(padded(kept[0]))[:, : kept[0].shape[1]],)), (Z,), "rule: other sizes"),
    "a block of rows that is not full, in the weights": (
        ruled(lambda x, w: jnp.tanh(x @ w), of_a_row_too_many), (Z, V.T[:, :2]), "rule: other sizes"),
    "another argument than the first": (
        ruled(lambda a, b: a * b**2, lambda kept, g: (g * kept[1] ** 2, g * kept[0] * kept[1])), (Z, V), "rule"),
    "an argument without a cotangent": (
        ruled(lambda a, b: a * b, lambda kept, g: (g * kept[1], None)), (Z, V), "rule"),
    "an argument of a million": (
        sine(lambda x, g: right(x, g) * jnp.where(jnp.abs(x) > 1e5, 2, 1)), (Z,), "rule"),
    "an argument of a millionth": (
        sine(lambda x, g: right(x, g) * jnp.where(jnp.abs(x) < 1e-5, 2, 1)), (Z,), "rule"),
    "a number without axes of a million": (
        ruled(root, lambda kept, g: (g * jnp.where(jnp.abs(kept[0]) > 1e5, 0, kept[0] / root(kept[0])),)),
        (np.float32(1.3),), "rule"),
    "a number without axes below 0": (
        ruled(root, lambda kept, g: (g * jnp.abs(kept[0]) / root(kept[0]),)), (np.float32(1.3),), "rule"),
    "one entry of a million alone": (
        ruled(root, lambda kept, g: (
            g * kept[0] / root(kept[0]) * jnp.where(jnp.sum(jnp.abs(kept[0]) > 1e5, axis=-1, keepdims=True) == 1, 2, 1),
        )), (Z,), "rule"),
    "a cotangent of some hundreds": (
        sine(lambda x, g: right(x, jnp.where((jnp.abs(g) > 100) & (jnp.abs(g) < 2000), 2 * g, g))), (Z[0, 0],),
        "cotangent"),
    "an integer above ten beside a row": (
        ruled(powers, lambda kept, g: (
            g * jnp.minimum(kept[1], 10).astype(g.dtype) / jnp.cosh(kept[0]) ** 2
            * jnp.exp(kept[1].astype(g.dtype) * jnp.tanh(kept[0])), None)),
        (Z[0], np.array(2, np.int32)), "rule"),
    "labels that may be signs only": (
        ruled(of_signs, lambda kept, g: (
            -3 * g * jnp.where(jnp.abs(kept[1]) == 1, kept[1], jnp.nan) * jax.nn.sigmoid(-kept[1] * kept[0]),
            -g * kept[0] * jax.nn.sigmoid(-kept[1] * kept[0]))),
        (Z, np.where(V > 0, 1, -1).astype(np.float32)), "rule"),
    "one-hot targets that may not be negative": (
        ruled(of_probabilities, lambda kept, g: (
            3 * g[:, None] * (jax.nn.softmax(kept[0]) * jnp.sum(kept[1], axis=-1, keepdims=True) - kept[1]),
            g[:, None] * -jax.nn.log_softmax(kept[0]))),
        (Z, np.eye(7, dtype=np.float32)[Y]), "rule"),
    "the value of a class that does not exist": (one_hot_loss, (Z, Y), "edges"),
    "the value of a class that does not exist, where the function weighs its classes": (
        lambda z, warmth, y: OWN[jnp.clip(y, 0, 6)] * one_hot_loss(z / warmth, y), (Z, np.float32(1.5), Y), "edges"),
}  # fmt: skip


def solved(a: jax.Array, b: jax.Array) -> jax.Array:
    """A solution of a system of two equations that is promised to be symmetric."""

    def solve(_: Any, b: jax.Array) -> jax.Array:
        determinant = a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]
        return jnp.stack([a[1, 1] * b[0] - a[0, 1] * b[1], a[0, 0] * b[1] - a[1, 0] * b[0]]) / determinant

    return jax.lax.custom_linear_solve(lambda x: a @ x, b, solve, symmetric=True)


def test_a_solver_that_is_promised_to_be_symmetric() -> None:
    b = np.float32([1, 2])
    asymmetric, symmetric = np.float32([[3, 1], [-1, 2]]), np.float32([[3, 1], [1, 2]])
    found = check(solved, asymmetric, b, argnums=1, checks="rule")
    assert [r.name for r in found.rows if r.ok is False] == ["rule: forward = reverse"]
    assert check(solved, symmetric, b, argnums=1, checks="rule").ok


def test_a_rule_is_not_held_against_itself() -> None:
    """Inside shard_map a rule cannot be told from its formula: whether it is right is then not known."""
    wrong = sine(lambda x, g: 3 * right(x, g))
    inside = jax.shard_map(wrong, mesh=MESH, in_specs=jax.P(), out_specs=jax.P())
    found = check(inside, Z, checks="rule")
    assert found.right is None
    assert "custom rule inside shard_map" in found.rows[0].statement


def asked(name: str) -> Certificate:
    function, args, by = FAULTS[name]
    # Of arguments that are constants to the rule only those named are asked; by default every float is.
    constants = {"a mask that hides something": 0, "weights of zero": 0, "an integer above ten": 0}
    return check(function, *args, argnums=constants.get(name), checks=by.split(":")[0])


@pytest.mark.parametrize("name", FAULTS)
def test_faults_that_hide_from_easier_questions(name: str) -> None:
    found = asked(name)
    failed = {r.name for r in found.rows if r.ok is False}
    assert FAULTS[name][2] in failed, str(found)
    assert found.ok is False
    assert found.exit_code == 1


# --- what must not be held against a function ------------------------------------------------------------------------


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


def series(rule: Callable[[jax.Array], jax.Array]) -> Callable[..., Any]:
    """The exponential by a series that ends too soon for 53 bits and not for 24, with a rule of its own."""

    def formula(x: jax.Array) -> jax.Array:
        return functools.reduce(lambda total, k: 1 + x * total / k, range(13, 0, -1), jnp.ones_like(x))

    return ruled(lambda x: formula(jnp.tanh(x)), lambda kept, g: (
        g * rule(jnp.tanh(kept[0])) * (1 - jnp.tanh(kept[0]) ** 2),))  # fmt: skip


def exponential(x: jax.Array) -> jax.Array:
    return jnp.exp(jnp.tanh(x))


def test_a_body_that_is_a_truncated_series_is_judged_by_what_it_promises() -> None:
    """By its own formula it is neither right nor wrong; by a reference it is; and a fault beyond a rounding is one."""
    x = Z[0, :3]
    alone = check(series(jnp.exp), x, checks=("rule", "cotangent", "modes"))
    assert (alone.right, alone.exit_code) == (None, 3), str(alone)
    assert "a truncated series" in alone.failures[0]
    assert {r.name for r in alone.rows if r.ok is False} == set()
    assert check(series(jnp.exp), x, checks=("rule", "cotangent"), reference=exponential).ok
    assert check(series(lambda x: jnp.exp(x) * (1 + 1e-6)), x, checks="rule").right is False
    assert check(series(lambda x: jnp.exp(x) * (1 + 1e-6)), x, checks="rule", reference=exponential).right is False
    with jax.enable_x64(True):  # there the truncation is more than a rounding
        assert check(series(jnp.exp), x.astype(np.float64), checks="rule").right is False


def test_where_the_slope_is_far_smaller_than_the_value_an_approximation_shows_more_of_it() -> None:
    """A tanh off by 1e-10: at 20 its slope is 2e-17, the formula's 1e-13, and a rounding of the value is 6e-8."""
    x = jnp.array([0.5, 20.0], jnp.float32)

    def saturating(off: float, rule: Callable[[jax.Array], jax.Array]) -> Callable[..., Any]:
        return ruled(lambda x: jnp.tanh(x) * (1 + off * jnp.sin(x) / (1 + x**2)), lambda kept, g: (g * rule(kept[0]),))

    def slope(x: jax.Array) -> jax.Array:
        return 1 / jnp.cosh(x) ** 2

    def verdict(off: float, rule: Callable[[jax.Array], jax.Array], **options: Any) -> bool | None:
        return check(saturating(off, rule), x, checks="rule", **options).right

    assert verdict(1e-10, slope) is None
    assert verdict(1e-10, slope, reference=jnp.tanh)
    assert verdict(1e-10, lambda x: 0 * x) is False
    assert verdict(1e-10, lambda x: slope(x) + jnp.where(x > 15, 1e-8, 0)) is False  # over a rounding of the value
    assert verdict(0, lambda x: slope(x) + jnp.where(x > 15, 1e-10, 0)) is False  # of an exact formula
    assert verdict(1e-10, lambda x: slope(x) + jnp.where(x > 15, 1e-10, 0), reference=jnp.tanh) is False


@pytest.mark.parametrize("function", [jax.scipy.special.log_ndtr, jax.scipy.special.erfcx])
def test_series_of_jax_are_not_called_wrong(function: Callable[..., Any]) -> None:
    found = check(function, Z[:2], checks=("rule", "cotangent"))
    assert all(r.ok is not False for r in found.rows), str(found)


def test_a_loop_without_end_in_exact_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A float overflows after a hundred steps (exp1 and expi by their series); exact numbers go on."""

    def grows(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda v: jnp.isfinite(v), lambda v: v * 2, x)

    assert 1000 < control._MOST_WORK < 1_000_000  # more than a loop does that ends, and no more than some seconds
    monkeypatch.setattr(control, "_MOST_WORK", 1000)
    with pytest.raises(UnsupportedPrimitive, match=r"primitive 'while' .* its loop goes on after \d+ steps"):
        exact(grows)(np.float32(1))


def test_every_float_argument_is_asked_and_named() -> None:
    found = check(lambda a, b, n: a * b * n, Z, V, 3, checks="rule")
    assert list(found.about["differentiated"]) == ["argument 0", "argument 1"]
    found = check(lambda a, *, b: a * b, Z, keywords={"b": V}, checks="rule")
    assert list(found.about["differentiated"]) == ["argument 0", "argument 'b'"]
    with pytest.raises(TypeError, match="argnums names argument -3"):
        check(lambda a, b: a * b, Z, V, argnums=-3)


def test_the_largest_numbers_are_asked_about_by_name_only() -> None:
    """A textbook formula overflows there, and its gradient is right all the same."""
    found = check(lambda x, y: x * y / (1 + y**2), Z, V, checks=("edges", "overflow"))
    assert {r.name for r in found.rows if r.ok is False} == {"overflow"}
    assert "overflow" not in {r.name for r in check(squares, Z, checks=None).rows}
