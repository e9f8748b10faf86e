"""A formula of whole rows, with a place for a kernel: the same numbers, where a chip can form them in one reading.

A kernel is one program on one device, and the compiler does not see into it. So whether it may stand for the formula is
decided when the program is lowered, by what is known only then: the platform, and over how many devices XLA is to lay
the arrays. On several (but not inside ``jax.shard_map``, where a program is each device's own) the formula stays, which
XLA takes apart. To every transformation of JAX the two are one operation, which ``jax.vmap`` gives one more axis of
rows, and whose derivative is the formula's. (A primitive, and no ``custom_jvp``: in the body of a loop JAX 0.10 would
drop that one, and take the derivative of a kernel's result for 0.)
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Kind = Literal["classes", "rows", "shared"]
"""What an array has: ``[..., C]`` a number for each class of each row, ``[...]`` one for each row, or neither."""

_on_chip: contextvars.ContextVar[bool] = contextvars.ContextVar("lossjax_rows_are_on_chip", default=False)


@contextlib.contextmanager
def rows_on_chip() -> Iterator[None]:
    """While a kernel is traced: there a row is read as often as one likes, but not at a place that the data says."""
    token = _on_chip.set(True)
    try:
        yield
    finally:
        _on_chip.reset(token)


def rows_are_on_chip() -> bool:
    """Whether :func:`rows_on_chip` holds here."""
    return _on_chip.get()


class Operand(NamedTuple):
    """An argument of the formula, and its kind."""

    array: Array
    kind: Kind


def formed(
    formula: Callable[..., tuple[Array, ...]],
    kernel: Callable[..., tuple[Array, ...]],
    operands: Sequence[Operand],
    results_like: Sequence[int],
) -> tuple[Array, ...]:
    """``formula(*arrays)``, by the kernel where a program for one TPU is lowered.

    Args:
      formula: hashable; of these arrays, with any number of axes in front.
      kernel: hashable; of the formula, the kinds, and the arrays, whose sizes are known numbers. It may call the
        formula where it has no better way.
      operands: the arrays.
      results_like: for each result, which operand it has the shape, dtype and layout of.
    """
    arrays, kinds = zip(*operands, strict=True)
    return tuple(_formed.bind(*arrays, formula=formula, kernel=kernel, kinds=kinds, results_like=tuple(results_like)))


_formed = Primitive("lossjax_whole_rows")
_formed.multiple_results = True


@_formed.def_impl
def _(*arrays: Array, formula: Any, **_: Any) -> list[Array]:
    return list(formula(*arrays))


@_formed.def_abstract_eval
def _(*shapes: Any, results_like: tuple[int, ...], **_: Any) -> list[Any]:
    return [shapes[like].update(weak_type=False) for like in results_like]


def _batched(arrays: Sequence[Array], axes: Sequence[Any], *, formula: Any, kinds: Any, **how: Any) -> tuple[Any, Any]:
    mapped = [axis is not None for axis in axes]
    if any(here and kind == "shared" for here, kind in zip(mapped, kinds, strict=True)):
        in_axes = [axis if here else None for axis, here in zip(axes, mapped, strict=True)]
        found = jax.vmap(lambda *each: list(formula(*each)), in_axes)(*arrays)
    else:
        size = next(x.shape[axis] for x, axis, here in zip(arrays, axes, mapped, strict=True) if here)
        each = zip(arrays, axes, mapped, kinds, strict=True)
        found = _formed.bind(*(_with_axis(*one, size) for one in each), formula=formula, kinds=kinds, **how)
    return found, [0] * len(found)


def _with_axis(array: Array, axis: Any, mapped: bool, kind: Kind, size: int) -> Array:
    if mapped:
        return jnp.moveaxis(array, axis, 0)
    return array if kind == "shared" else jnp.broadcast_to(array, (size, *array.shape))


batching.primitive_batchers[_formed] = _batched


def _pushed(primals: Sequence[Any], tangents: Sequence[Any], *, formula: Any, **how: Any) -> tuple[Any, Any]:
    moving = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def of_moving(*moved: Any) -> list[Any]:
        full = list(primals)
        for place, array in zip(moving, moved, strict=True):
            full[place] = array
        return list(formula(*full))

    pushed = jax.jvp(of_moving, [primals[i] for i in moving], [tangents[i] for i in moving])[1]
    return _formed.bind(*primals, formula=formula, **how), pushed


ad.primitive_jvps[_formed] = _pushed


def _is_one_program(context: Any) -> bool:
    """Whether what is lowered here is executed as it stands, and not laid over devices by XLA."""
    axes = context.module_context.axis_context
    if hasattr(axes, "manual_axes"):
        return axes.manual_axes == frozenset(axes.mesh.axis_names)
    return getattr(axes, "num_devices", None) == 1


def _lowered(context: Any, *operands: Any, formula: Any, **_: Any) -> Any:
    return mlir.lower_fun(formula, multiple_results=True)(context, *operands)


def _lowered_for_tpu(context: Any, *operands: Any, formula: Any, kernel: Any, kinds: Any, **_: Any) -> Any:
    sizes = [size for shape in context.avals_in for size in shape.shape]
    if not (_is_one_program(context) and all(isinstance(size, int) for size in sizes)):
        return _lowered(context, *operands, formula=formula)

    def by_kernel(*arrays: Array) -> tuple[Array, ...]:
        return kernel(formula, kinds, *arrays)

    with jax.enable_x64(False):  # no kernel has a number of 64 bits, not even to count by
        return mlir.lower_fun(by_kernel, multiple_results=True)(context, *operands)


mlir.register_lowering(_formed, _lowered)
mlir.register_lowering(_formed, _lowered_for_tpu, platform="tpu")
