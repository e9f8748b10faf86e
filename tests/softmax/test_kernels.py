"""Rules whose passes a TPU executes by kernels: the kernels' numbers, and the rule made of them."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from jax.interpreters import mlir
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import lossjax
from lossjax._core import whole_rows
from lossjax._core.packed import Packed
from lossjax._core.plain import rules_off
from lossjax._rules import entropy, logit_divergences
from lossjax._softmax import functions, kernels, row_kernel
from lossjax._softmax.row_kernel import Blocks
from tests.support.quick import quick

FLOAT32 = jnp.dtype("float32")
PASSES: dict[str, tuple[Any, Any, tuple[Any, ...], int]] = {
    "KL": (logit_divergences._kl_divergence_forward, logit_divergences._kl_divergence_backward, (None,), 2),
    "JS": (logit_divergences._js_divergence_forward, logit_divergences._js_divergence_backward, (None,), 2),
    "softmax": (functions._softmax_forward, functions._softmax_backward, (), 1),
    "log_softmax": (functions._log_softmax_forward, functions._log_softmax_backward, (), 1),
    "entropy": (entropy._entropy_forward, entropy._entropy_backward, (), 1),
}
"""The passes of a rule, its static arguments in front, and how many arrays of logits it has."""


def near_and_far(random: np.random.Generator, dtype: str) -> list[jax.Array]:
    """Two arrays of logits: rows that nearly agree, rows that do not, an impossible class, one that is certain."""
    u = random.normal(size=(3, 7, 261)) * np.geomspace(0.01, 60, 7)[:, None]
    v = u + random.normal(size=u.shape) * np.geomspace(1e-4, 30, 7)[::-1, None]
    u[0, 3, 5] = v[0, 3, 5] = -np.inf
    u[1, 2, 0] = 200
    return [jnp.asarray(z, dtype) for z in (u, v)]


@pytest.mark.covering
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", PASSES)
def test_kernels_give_the_formulas_numbers(name: str, dtype: str, random: np.random.Generator) -> None:
    """Both passes, in rows that fill no block; within the roundings of sums in another order.

    One kernel executes the formulas of all three or two kernels of a rule, which have the forward pass in common: to
    compile one is what costs. How a block is cut is asked in ``test_row_kernel.py``.
    """
    forward, backward, static, count = PASSES[name]
    logits = near_and_far(random, dtype)[:count]
    given = Packed.of((*static, *logits, *(() if static else (FLOAT32,))))
    value = kernels._Value(forward, given.structure)
    output = jax.eval_shape(value, *given.arrays)[0]
    cotangent = jnp.asarray(random.normal(size=output.shape), output.dtype)
    slopes = [kernels._Gradient(forward, backward, given.structure, which) for which in range(count)]
    kinds = [*["classes"] * count, "classes" if output.ndim == 3 else "rows"]
    blocks = Blocks(rows=16, at_once=16, buffers=2, needed=0)

    def formula(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(itertools.chain(value(*arrays[:-1]), *(slope(*arrays) for slope in slopes)))

    def both(*arrays: jax.Array) -> tuple[tuple[jax.Array, ...], ...]:
        by_kernel = row_kernel.in_blocks(formula, kinds, arrays, blocks, interpret=pltpu.InterpretParams())
        return by_kernel, formula(*arrays)

    for ours, wanted in zip(*quick(both)(*given.arrays, cotangent), strict=True):
        u = max(2.0**-24, float(jnp.finfo(wanted.dtype).eps) / 2)
        wide, found = np.asarray(wanted, np.float64), np.asarray(ours, np.float64)
        finite = np.isfinite(wide)  # a log-probability is -inf where the class is impossible
        np.testing.assert_array_equal(found[~finite], wide[~finite])
        wide, found = np.where(finite, wide, 0), np.where(finite, found, 0)
        largest = np.max(np.abs(wide), axis=-1, keepdims=True) if wide.ndim == 3 else np.abs(wide)
        assert np.all(np.abs(found - wide) <= 40 * u * largest + 1e-37), name


@pytest.fixture
def on_a_tpu() -> Iterator[None]:
    """A CPU takes the kernel's formula, of the kernel's operands, where a TPU takes the kernel.

    That is settled when a program is lowered: one that was lowered before, for another test, would be found as it was.
    """
    mlir.register_lowering(whole_rows._known, whole_rows._formed_lowered, platform="cpu")
    yield
    mlir.register_lowering(whole_rows._known, whole_rows._known_lowered, platform="cpu")


LOSSES: dict[str, Callable[..., jax.Array]] = {
    "KL": lossjax.softmax_kl_divergence,
    "JS": lossjax.softmax_js_divergence,
    "softmax": lambda u, v: jnp.vdot(lossjax.softmax(u, temperature=1.5), v),
    "log_softmax": lambda u, v: jnp.vdot(lossjax.log_softmax(u), v),
    "entropy": lambda u, v: lossjax.softmax_entropy(u) * jnp.sum(v, axis=-1),
}


def derivatives(name: str, u: jax.Array, v: jax.Array, along: Any) -> dict[str, Any]:
    def loss(u: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(LOSSES[name](u, v) ** 2)

    def in_a_loop(u: jax.Array, v: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda total, one: (total + loss(*one), None), jnp.float32(0), (u, v))[0]

    both = jax.value_and_grad(loss, (0, 1))
    if name == "KL":  # of a rule of two arrays
        return {"vmap": jax.vmap(both, (0, None))(u, v[0])}
    first = {"value and gradient": both(u, v)}
    if name == "log_softmax":  # the result of this rule has classes, that of the next has none
        gradient = jax.grad(loss, (0, 1))
        return first | {
            "forward": jax.jvp(loss, (u, v), along),
            "vmap": jax.vmap(gradient, (0, None))(u, v[0]),
            "reverse over reverse": jax.vjp(gradient, u, v)[1](along),
        }
    if name == "entropy":
        return first | {
            "vmap": jax.vmap(jax.grad(loss), (0, None))(u, v[0]),
            "Hessian of a loop": jax.jvp(jax.grad(in_a_loop), (u, v), along),
        }
    return first


@pytest.mark.usefixtures("on_a_tpu")
@pytest.mark.parametrize("name", LOSSES)
def test_the_rule_is_the_same(name: str, random: np.random.Generator) -> None:
    """As JAX has it of the formula, which has no kernel."""
    u, v, *along = (jnp.asarray(random.normal(size=(2, 3, 11)), jnp.float32) for _ in range(4))

    def by_rule_and_by_formula(*arguments: Any) -> Any:
        by_rule = derivatives(name, *arguments)
        with rules_off():
            return by_rule, derivatives(name, *arguments)

    found, wanted = quick(by_rule_and_by_formula)(u, v, tuple(along))

    def close(path: Any, ours: jax.Array, right: jax.Array) -> None:
        scale = float(jnp.max(jnp.abs(right)))
        np.testing.assert_allclose(ours, right, rtol=0, atol=1e-5 * scale, err_msg=str(path))

    jax.tree_util.tree_map_with_path(close, found, wanted)


@pytest.mark.usefixtures("on_a_tpu")
def test_a_kernel_that_is_wrong_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the comparison above: in the value, and in the gradient."""
    z = np.arange(6, dtype=np.float32).reshape(2, 3)
    total = lambda z: jnp.sum(lossjax.softmax_entropy(z))  # noqa: E731
    log_p = z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    value = -np.sum(np.exp(log_p) * log_p, axis=1)
    gradient = -np.exp(log_p) * (log_p + value[:, None])
    for which in (kernels._Value, kernels._Gradient):
        right = which.__call__
        monkeypatch.setattr(which, "__call__", lambda self, *a, right=right: tuple(2 * x for x in right(self, *a)))
    found = jax.jit(lambda z: (lossjax.softmax_entropy(z), jax.grad(total)(z)))(z)
    np.testing.assert_allclose(found[0], 2 * value, rtol=1e-6)
    np.testing.assert_allclose(found[1], 2 * gradient, rtol=1e-5)


def kernels_in(function: Callable[..., Any], *shapes: Any) -> int:
    return jax.jit(function).trace(*shapes).lower(lowering_platforms=("tpu",)).as_text().count("tpu_custom_call")


@pytest.mark.parametrize("name", ["softmax", "softmax_entropy", "softmax_kl_divergence"])
def test_no_kernel_stands_for_a_plain_formula(name: str) -> None:
    loss, z = getattr(lossjax, name), jax.ShapeDtypeStruct((64, 4096), jnp.float32)
    rows = [z, z] if "divergence" in name else [z]
    assert kernels_in(loss, *rows) == 1
    assert kernels_in(loss.plain, *rows) == 0


@pytest.mark.parametrize(("dtype", "name"), [("float32", "KL"), ("bfloat16", "JS")])
def test_where_they_stand(dtype: str, name: str) -> None:
    """One for a value, and one for each gradient, of which XLA drops what nobody wants."""
    z = jax.ShapeDtypeStruct((64, 4096), dtype)
    of_both = jax.value_and_grad(lambda u, v: LOSSES[name](u, v).sum(), (0, 1))
    of_one = jax.value_and_grad(lambda u, v: LOSSES[name](u, v).sum())
    assert (kernels_in(of_both, z, z), kernels_in(of_one, z, z)) == (3, 2)
    assert kernels_in(lambda z: [f(z) for f in (lossjax.softmax, lossjax.log_softmax, lossjax.softmax_entropy)], z) == 3
    in_batches = jax.ShapeDtypeStruct((2, *z.shape), dtype)
    assert kernels_in(jax.vmap(lossjax.softmax), in_batches) == 1
    assert kernels_in(jax.vmap(jax.grad(lambda z: lossjax.softmax_entropy(z).sum())), in_batches) == 1
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    split = jax.ShapeDtypeStruct(z.shape, dtype, sharding=NamedSharding(mesh, P("x")))
    assert kernels_in(lossjax.softmax, split) == 0
    assert kernels_in(lossjax.softmax, jax.ShapeDtypeStruct((4096,), dtype)) == 0
