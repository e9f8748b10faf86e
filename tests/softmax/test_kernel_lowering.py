"""Where a kernel stands in a program for a TPU, read from the lowered program: no chip and no compiler is needed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import lossjax

LABELS = lossjax.softmax_cross_entropy_with_integer_labels
Shape = jax.ShapeDtypeStruct
CLASSES = 4096


def gradient(*arguments: Any, **options: Any) -> Any:
    return jax.value_and_grad(lambda z, y, *w: LABELS(z, y, **{"reduction": "mean"} | options))(*arguments)


def kernels(function: Callable[..., Any], *shapes: Any, platforms: tuple[str, ...] = ("tpu",)) -> int:
    text = jax.jit(function).trace(*shapes).lower(lowering_platforms=platforms).as_text()
    return text.count("tpu_custom_call")


def shapes(*rows: int, dtype: str = "float32", classes: int = CLASSES) -> tuple[Any, Any]:
    return Shape((*rows, classes), dtype), Shape(rows, jnp.int32)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [(64,), (4, 16), (7,)])
def test_a_reduced_loss_with_its_gradient_is_one_kernel(rows: tuple[int, ...], dtype: str) -> None:
    assert kernels(gradient, *shapes(*rows, dtype=dtype)) == 1
    assert kernels(gradient, *shapes(*rows, dtype=dtype), platforms=("cpu", "tpu", "cuda")) == 1
    assert kernels(gradient, *shapes(*rows, dtype=dtype), platforms=("cpu",)) == 0


def test_distributions_have_one_too() -> None:
    z, _ = shapes(64)
    assert kernels(jax.grad(lambda z, t: lossjax.softmax_cross_entropy(z, t, reduction="sum")), z, z) == 1
    optax_like = jax.grad(lambda z, t: lossjax.optax.safe_softmax_cross_entropy(z, t).mean())
    assert kernels(optax_like, z, z) == 0  # reduced by somebody else, with cotangents that are known too late


def test_what_has_no_kernel_keeps_its_formula() -> None:
    z, y = shapes(64)
    assert kernels(lambda z, y: LABELS(z, y, reduction="mean"), z, y) == 0  # a value alone is one reading as it is
    assert kernels(jax.grad(lambda z, y: LABELS(z, y).sum()), z, y) == 0
    assert kernels(gradient, *shapes(64, dtype="float16")) == 0
    assert kernels(gradient, *shapes(64, classes=1000)) == 0  # too short to be worth it
    assert kernels(gradient, *shapes(64, classes=2_000_000)) == 0  # too long for the chip
    assert kernels(gradient, *shapes(0)) == 0
    focal = jax.grad(lambda z, y: lossjax.softmax_focal_loss(z, y, reduction="mean"))
    assert kernels(focal, z, y) == 0


def test_the_environment_may_forbid_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSJAX_KERNELS", "off")
    assert kernels(lambda z, y: gradient(z, y), *shapes(96)) == 0
    monkeypatch.setenv("LOSSJAX_KERNELS", "on")
    jax.clear_caches()
    assert kernels(lambda z, y: gradient(z, y), *shapes(96)) == 1


def test_through_transformations() -> None:
    many = shapes(4, 16)
    assert kernels(jax.vmap(gradient), *many) == 1
    assert kernels(lambda z, y: jax.lax.scan(lambda c, one: (c, gradient(*one)), 0, (z, y)), *many) == 1
    assert kernels(jax.grad(jax.checkpoint(lambda z, y: LABELS(z, y, reduction="mean"))), *many) == 1
    a_number_each = jax.vmap(lambda z, y, t: gradient(z, y, temperature=t))
    assert kernels(a_number_each, *many, Shape((4,), jnp.float32)) == 0


def test_in_programs_of_64_bits() -> None:
    with jax.enable_x64(True):
        assert kernels(gradient, Shape((64, CLASSES), jnp.float32), Shape((64,), jnp.int64)) == 1
        assert kernels(gradient, *shapes(64, dtype="float64")) == 0


@pytest.fixture
def mesh() -> jax.sharding.Mesh:
    return jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))


def test_only_a_program_of_one_device_has_kernels(mesh: jax.sharding.Mesh) -> None:
    """XLA lays a formula over devices; it would gather what it gives to a kernel."""
    z, y = shapes(64)
    for split in (P("x"), P(None, "x")):
        on_mesh = Shape(z.shape, z.dtype, sharding=NamedSharding(mesh, split))
        assert kernels(gradient, on_mesh, y) == 0
    explicit = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(explicit):
        on_mesh = Shape(z.shape, z.dtype, sharding=NamedSharding(explicit, P("x")))
        of_labels = Shape(y.shape, y.dtype, sharding=NamedSharding(explicit, P("x")))
        assert kernels(gradient, on_mesh, of_labels) == 0


def test_a_device_of_a_shard_map_has_its_own(mesh: jax.sharding.Mesh) -> None:
    def mean(z: jax.Array, y: jax.Array) -> jax.Array:
        return jax.lax.pmean(LABELS(z, y, reduction="mean"), "x")

    each = jax.shard_map(mean, mesh=mesh, in_specs=(P("x"), P("x")), out_specs=P())
    on_mesh = [Shape(one.shape, one.dtype, sharding=NamedSharding(mesh, P("x"))) for one in shapes(64)]
    assert kernels(jax.value_and_grad(each), *on_mesh) == 1


def test_an_exported_program_holds_it_and_runs_elsewhere() -> None:
    program = jax.export.export(jax.jit(gradient), platforms=("cpu", "tpu", "cuda"))(*shapes(64))
    again = jax.export.deserialize(program.serialize())
    assert again.mlir_module().count("tpu_custom_call") == 1
    value, in_logits = again.call(jnp.zeros((64, CLASSES)), jnp.zeros(64, jnp.int32))
    assert abs(value - jnp.log(CLASSES)) < 1e-6
    assert in_logits.shape == (64, CLASSES)


def test_a_program_of_unknown_sizes_has_none() -> None:
    n, c = jax.export.symbolic_shape("n, c")
    unknown = Shape((n, c), jnp.float32), Shape((n,), jnp.int32)
    program = jax.export.export(jax.jit(gradient), platforms=("tpu",))(*unknown)
    assert "tpu_custom_call" not in program.mlir_module()
