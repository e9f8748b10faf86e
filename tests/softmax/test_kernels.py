"""Rules whose passes a TPU executes by kernels: the kernels' numbers, and the rule made of them."""

import functools
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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", PASSES)
def test_kernels_give_the_formulas_numbers(name: str, dtype: str, random: np.random.Generator) -> None:
    """Both passes, in rows that fill no block; within the roundings of sums in another order."""
    forward, backward, static, count = PASSES[name]
    logits = near_and_far(random, dtype)[:count]
    given = Packed.of((*static, *logits, *(() if static else (FLOAT32,))))
    value = kernels._Value(forward, given.structure)
    output = jax.eval_shape(value, *given.arrays)[0]
    cotangent = jnp.asarray(random.normal(size=output.shape), output.dtype)
    slopes = [kernels._Gradient(forward, backward, given.structure, which) for which in range(count)]
    kinds = ["classes"] * count
    of_cotangent = "classes" if output.ndim == 3 else "rows"
    blocks = Blocks(rows=16, at_once=8, buffers=2, needed=0)
    for formula, arrays, each in (
        (value, given.arrays, kinds),
        *((slope, (*given.arrays, cotangent), [*kinds, of_cotangent]) for slope in slopes),
    ):
        (ours,) = row_kernel.in_blocks(formula, each, arrays, blocks, interpret=pltpu.InterpretParams())
        (wanted,) = jax.jit(formula)(*arrays)
        u = max(2.0**-24, float(jnp.finfo(wanted.dtype).eps) / 2)
        wide, found = np.asarray(wanted, np.float64), np.asarray(ours, np.float64)
        finite = np.isfinite(wide)  # a log-probability is -inf where the class is impossible
        np.testing.assert_array_equal(found[~finite], wide[~finite])
        wide, found = np.where(finite, wide, 0), np.where(finite, found, 0)
        largest = np.max(np.abs(wide), axis=-1, keepdims=True) if wide.ndim == 3 else np.abs(wide)
        assert np.all(np.abs(found - wide) <= 40 * u * largest + 1e-37), name


@pytest.fixture
def on_a_tpu() -> Iterator[None]:
    """A CPU takes the kernel's formula, of the kernel's operands, where a TPU takes the kernel."""
    jax.clear_caches()  # of what was compiled without
    mlir.register_lowering(whole_rows._known, whole_rows._formed_lowered, platform="cpu")
    yield
    mlir.register_lowering(whole_rows._known, whole_rows._known_lowered, platform="cpu")
    jax.clear_caches()


LOSSES: dict[str, Callable[..., jax.Array]] = {
    "KL": lossjax.softmax_kl_divergence,
    "JS": lossjax.softmax_js_divergence,
    "softmax": lambda u, v: jnp.vdot(lossjax.softmax(u, temperature=1.5), v),
    "log_softmax": lambda u, v: jnp.vdot(lossjax.log_softmax(u), v),
    "entropy": lambda u, v: lossjax.softmax_entropy(u) * lossjax.softmax_entropy(v),
}


def derivatives(name: str, u: jax.Array, v: jax.Array, along: Any) -> dict[str, Any]:
    def loss(u: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(LOSSES[name](u, v) ** 2)

    def in_a_loop(u: jax.Array, v: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda total, one: (total + loss(*one), None), jnp.float32(0), (u, v))[0]

    gradient = jax.grad(loss, (0, 1))
    first = {
        "value and gradient": jax.value_and_grad(loss, (0, 1))(u, v),
        "forward": jax.jvp(loss, (u, v), along),
        "vmap": jax.vmap(gradient, (0, None))(u, v[0]),
    }
    if name not in ("log_softmax", "entropy"):  # of two rules, one for each kind of result, all is asked
        return first
    return first | {
        "forward over reverse": jax.jvp(gradient, (u, v), along),
        "reverse over reverse": jax.vjp(gradient, u, v)[1](along),
        "Hessian of a loop": jax.jvp(jax.grad(in_a_loop), (u, v), along),
    }


@pytest.mark.parametrize("name", LOSSES)
def test_the_rule_is_the_same(name: str, random: np.random.Generator, request: pytest.FixtureRequest) -> None:
    u, v, *along = (jnp.asarray(random.normal(size=(2, 3, 11)), jnp.float32) for _ in range(4))
    wanted = quick(functools.partial(derivatives, name))(u, v, tuple(along))
    request.getfixturevalue("on_a_tpu")
    found = quick(functools.partial(derivatives, name))(u, v, tuple(along))

    def close(path: Any, ours: jax.Array, right: jax.Array) -> None:
        scale = float(jnp.max(jnp.abs(right)))
        np.testing.assert_allclose(ours, right, rtol=0, atol=1e-5 * scale, err_msg=str(path))

    jax.tree_util.tree_map_with_path(close, found, wanted)


@pytest.mark.usefixtures("on_a_tpu")
def test_a_kernel_that_is_wrong_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the comparison above: in the value, and in the gradient."""
    z = jnp.arange(6.0).reshape(2, 3)
    total = lambda z: jnp.sum(lossjax.softmax_entropy(z))  # noqa: E731
    wanted = lossjax.softmax_entropy.plain(z), jax.grad(lambda z: jnp.sum(lossjax.softmax_entropy.plain(z)))(z)
    for which in (kernels._Value, kernels._Gradient):
        right = which.__call__
        monkeypatch.setattr(which, "__call__", lambda self, *a, right=right: tuple(2 * x for x in right(self, *a)))
    np.testing.assert_allclose(jax.jit(lossjax.softmax_entropy)(z), 2 * wanted[0], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.grad(total))(z), 2 * wanted[1], rtol=1e-5)


def kernels_in(function: Callable[..., Any], *shapes: Any) -> int:
    return jax.jit(function).trace(*shapes).lower(lowering_platforms=("tpu",)).as_text().count("tpu_custom_call")


@pytest.mark.parametrize("name", ["softmax", "softmax_entropy", "softmax_kl_divergence"])
def test_no_kernel_stands_for_a_plain_formula(name: str) -> None:
    loss, z = getattr(lossjax, name), jax.ShapeDtypeStruct((64, 4096), jnp.float32)
    rows = [z, z] if "divergence" in name else [z]
    assert kernels_in(loss, *rows) == 1
    assert kernels_in(loss.plain, *rows) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_where_they_stand(dtype: str) -> None:
    """One for a value, and one for each gradient, of which XLA drops what nobody wants."""
    z = jax.ShapeDtypeStruct((64, 4096), dtype)
    for name in ("KL", "JS"):
        assert kernels_in(LOSSES[name], z, z) == 1
        of_both = jax.value_and_grad(lambda u, v, name=name: LOSSES[name](u, v).sum(), (0, 1))
        of_one = jax.value_and_grad(lambda u, v, name=name: LOSSES[name](u, v).sum())
        assert (kernels_in(of_both, z, z), kernels_in(of_one, z, z)) == (3, 2)
    for function in (lossjax.softmax, lossjax.log_softmax, lossjax.softmax_entropy):
        assert kernels_in(function, z) == 1
    in_batches = jax.ShapeDtypeStruct((2, *z.shape), dtype)
    assert kernels_in(jax.vmap(lossjax.softmax), in_batches) == 1
    assert kernels_in(jax.vmap(jax.grad(lambda z: lossjax.softmax_entropy(z).sum())), in_batches) == 1
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    split = jax.ShapeDtypeStruct(z.shape, dtype, sharding=NamedSharding(mesh, P("x")))
    assert kernels_in(lossjax.softmax, split) == 0
    assert kernels_in(lossjax.softmax, jax.ShapeDtypeStruct((4096,), dtype)) == 0
