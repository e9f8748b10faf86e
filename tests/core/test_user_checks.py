"""A check that only checkify makes: it is heard under every transformation, and no program without checkify has it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.experimental import checkify

from lossjax._core import checks
from lossjax._core.user_checks import Wrong, none_wrong
from tests.support.quick import quick

Z = np.ones((4, 3), np.float32)
GOOD, BAD = np.int32([0, 1, 2, 2]), np.int32([0, 1, 7, 2])
COUNTED = np.array([True, True, True, False])
HIDDEN = np.array([True, True, False, True])


def loss(z: Array, labels: Array, counted: Array | None = None) -> Array:
    labels = checks.labels_in_range(labels, z.shape[-1], counted)
    return -jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(z), labels[..., None], axis=-1, mode="clip"))


def over_rows(z: Array, labels: Array) -> Array:
    return lax.scan(lambda total, row: (total + loss(row[0][None], row[1][None]), None), jnp.float32(0), (z, labels))[0]


def on_two_devices(z: Array, labels: Array) -> Array:
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.P("rows")
    summed = jax.shard_map(
        lambda z, labels: lax.psum(loss(z, labels), "rows"), mesh=mesh, in_specs=(rows, rows), out_specs=jax.P()
    )
    return jax.jit(summed)(z, labels)


@jax.custom_vjp
def ruled(z: Array, labels: Array) -> Array:
    return loss(z, labels)


ruled.defvjp(lambda z, labels: (loss(z, labels), (z, labels)), lambda saved, cotangent: (cotangent * saved[0], None))

# What the error says: the label, and its row among those that the loss sees at once.
PROGRAMS: dict[str, tuple[Callable[..., Any], str]] = {
    "alone": (loss, "row 2"),
    "jit": (jax.jit(loss), "row 2"),
    "grad": (jax.grad(loss), "row 2"),
    "jit of grad": (jax.jit(jax.grad(loss)), "row 2"),
    "jvp": (lambda z, labels: jax.jvp(lambda z: loss(z, labels), (z,), (z,))[1], "row 2"),
    "hessian": (jax.hessian(loss), "row 2"),
    "checkpoint": (jax.grad(jax.checkpoint(loss)), "row 2"),
    "labels closed over": (lambda z, labels: jax.jit(lambda z: loss(z, BAD if labels is BAD else GOOD))(z), "row 2"),
    "vmap": (jax.vmap(loss), "row 0"),
    "vmap of vmap": (lambda z, labels: jax.vmap(jax.vmap(loss))(z[None], labels[None]), "row 0"),
    "vmap over the mask": (
        lambda z, labels: jax.vmap(loss, (None, None, 0))(z, labels, jnp.stack([HIDDEN, COUNTED])), "row 2",
    ),
    "grad of vmap": (jax.grad(lambda z, labels: jnp.sum(jax.vmap(loss)(z, labels))), "row 0"),
    "scan": (over_rows, "row 0"),
    "grad of scan": (jax.grad(over_rows), "row 0"),
    "while": (lambda z, labels: lax.fori_loop(0, z.shape[0], lambda _, c: c + loss(z, labels), 0.0), "row 2"),
    "cond": (lambda z, labels: lax.cond(labels[0] == 0, loss, lambda *_: jnp.float32(0), z, labels), "row 2"),
    "custom_vjp": (ruled, "row 2"),
    "grad of custom_vjp": (jax.grad(ruled), "row 2"),
    "shard_map": (on_two_devices, "row 0"),
    "grad of shard_map": (jax.grad(on_two_devices), "row 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_heard_under_every_transformation(name: str) -> None:
    function, row = PROGRAMS[name]
    checked = checkify.checkify(function)
    checked = checked if "closed over" in name else quick(checked)  # which looks at the labels themselves
    assert f"label 7 in {row} is outside the 3 classes" in str(checked(Z, BAD)[0].get())
    assert checked(Z, GOOD)[0].get() is None


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_program_without_checkify_has_it(name: str) -> None:
    """Not an effect, which export refuses and which keeps a loss that nobody uses; and not one operation."""
    function, _ = PROGRAMS[name]
    program = jax.jit(function).trace(Z, BAD)
    assert not program.jaxpr.effects
    lowered = program.lower().as_text()
    assert not any(operation in lowered for operation in ("custom_call @", "token", "stablehlo.or"))


def test_it_compiles_to_nothing() -> None:
    def as_given(labels: Array) -> Array:
        return labels + 1

    def checked(labels: Array) -> Array:
        return checks.labels_in_range(labels, 3, None) + 1

    checked.__name__ = as_given.__name__
    assert jax.jit(checked).lower(BAD).as_text() == jax.jit(as_given).lower(BAD).as_text()
    # A check that is part of the program would be seen here.
    checkified = jax.jit(lambda labels: checkify.checkify(checked)(labels)[1])
    assert checkified.lower(BAD).as_text() != jax.jit(as_given).lower(BAD).as_text()


def test_floats_keep_their_derivative() -> None:
    def root(x: Array) -> Array:
        return jnp.sqrt(none_wrong(Wrong("root of {value} at {row}", lambda x: x < 0), x))

    assert np.array_equal(jax.grad(lambda x: jnp.sum(root(x)))(jnp.float32([4, 16])), [0.25, 0.125])
    error, _ = checkify.checkify(jax.vmap(root))(jnp.float32([4, -2]))
    assert "root of -2.0 at 0" in str(error.get())
    assert "root of -2.0 at 1" in str(checkify.checkify(root)(jnp.float32([4, -2]))[0].get())


def test_equal_checks_are_traced_once() -> None:
    """The check of 20 losses costs the tracing of one."""
    seen = []

    def wrong(x: Array) -> Array:
        seen.append(x)
        return x < 0

    def many(x: Array) -> Array:
        for _ in range(20):
            x = none_wrong(Wrong("{value} {row}", wrong), x) + 1
        return x

    jax.eval_shape(many, jnp.float32([1, 2]))
    assert len(seen) == 1
