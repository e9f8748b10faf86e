"""Checks of values that ``jax.experimental.checkify`` makes, and that cost nothing without it.

``checkify.debug_check`` alone would give every program that contains it an effect: such a program cannot be serialised
by ``jax.export``, XLA keeps a loss that nobody uses, and the check's own arithmetic is compiled. So the check is not a
part of the program but a parameter of one of its operations, an identity:

* Lowering, derivatives and evaluation see the identity. It has no effect and compiles to nothing.
* ``checkify`` takes any primitive with a parameter ``call_jaxpr`` for a call of that program. It makes of the program
  a function that carries errors along, and binds the primitive to it, as ``subfuns``; here that function is executed.
  (JAX 0.10 to 0.12: the last case of ``default_checkify_rule``.)

The result of the identity must be used in place of its operand; otherwise the operation is dropped, and the check too.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import checkify
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from lossjax._core.versions import Jaxpr


class _UnderCheckify(core.Primitive):
    """The first of its operands; ``checkify`` executes its parameter ``call_jaxpr`` on all of them."""

    multiple_results = True

    def bind(self, *values: Any, subfuns: tuple[Any, ...] = (), **params: Any) -> Any:
        if subfuns:  # the call_jaxpr as checkify has rewritten it: on its errors, and then these operands
            return subfuns[0].call_wrapped(*values)
        return super().bind(*values, **params)


_under_checkify = _UnderCheckify("under_checkify")
"""Its name is known to ``lossjax.verify``, which executes it as what it is without checkify."""


def _first(value: Any, *_: Any, call_jaxpr: Jaxpr) -> list[Any]:
    return [value]


def _pushed_forward(values: Any, tangents: Any, *, call_jaxpr: Jaxpr) -> tuple[Any, list[Any]]:
    return _under_checkify.bind(*values, call_jaxpr=call_jaxpr), [tangents[0]]


def _batched(values: Any, axes: Any, *, call_jaxpr: Jaxpr) -> tuple[Any, list[Any]]:
    mapped = jax.vmap(core.jaxpr_as_fun(call_jaxpr), in_axes=tuple(axes))

    def of_the_batch(*values: Array) -> Array:
        mapped(*values)
        return values[0]

    return _under_checkify.bind(*values, call_jaxpr=jax.jit(of_the_batch).trace(*values).jaxpr), [axes[0]]


_under_checkify.def_impl(_first)
_under_checkify.def_abstract_eval(_first)
mlir.register_lowering(_under_checkify, lambda _, value, *rest, call_jaxpr: [value])
ad.primitive_jvps[_under_checkify] = _pushed_forward
batching.primitive_batchers[_under_checkify] = _batched


class Wrong(NamedTuple):
    """What is wrong with an entry, and the error that says so. Equal ones are traced once."""

    message: str
    """With ``{value}`` and ``{row}``, the position of the entry in the flattened array, and the names of ``known``."""
    is_wrong: Callable[..., Array]
    """From the array, and ``known`` by name, to booleans of the array's shape."""
    known: tuple[tuple[str, Any], ...] = ()
    """Names and numbers."""


def none_wrong(wrong: Wrong, array: Array, counted: Array | None = None) -> Array:
    """``array``, to be used in its place; under ``checkify`` its first wrong entry that counts raises an error.

    Args:
      wrong: what no entry may be.
      array: of any shape and real dtype.
      counted: booleans of the array's shape, False at entries that may hold anything; None counts every entry.
    """
    if 0 in array.shape:
        return array
    values = (array,) if counted is None else (array, counted)
    [same] = _under_checkify.bind(*values, call_jaxpr=_checked.trace(wrong, *values).jaxpr)
    return same


@functools.partial(jax.jit, static_argnums=0)
def _checked(wrong: Wrong, array: Array, counted: Array | None = None) -> Array:
    """``array``, with the check of it. Only checkify executes this."""
    known = dict(wrong.known)
    bad = wrong.is_wrong(array, **known)
    if counted is not None:
        bad = bad & counted
    # Reductions only: a sharded array is neither gathered nor reshaped.
    sharding = jax.typeof(array).sharding
    position = jnp.zeros(array.shape, jnp.int32, out_sharding=sharding)
    for axis, size in enumerate(array.shape):
        position = position * size + lax.broadcasted_iota(jnp.int32, array.shape, axis, out_sharding=sharding)
    row = jnp.min(jnp.where(bad, position, jnp.iinfo(jnp.int32).max))
    value = jnp.sum(jnp.where(position == row, array, jnp.zeros_like(array)), dtype=array.dtype)
    numbers = {name: jnp.asarray(number) for name, number in known.items()}
    checkify.debug_check(~jnp.any(bad), wrong.message, value=value, row=row, **numbers)
    return array
