"""A formula of whole rows, with a place for a kernel: the same numbers, where a chip can form them in one reading.

A kernel is one program on one device, whether it is written by hand (for a TPU) or made by the compiler of the formula
in a form that it takes whole (for a GPU). So whether it may stand for the formula is decided when the program is
lowered, by what is known only then: the platform, and over how many devices XLA is to lay the arrays. On several (but
not inside ``jax.shard_map``, where a program is each device's own) the formula stays, which XLA takes apart. To every
transformation of JAX the two are one operation, which ``jax.vmap`` gives one more axis of rows, and whose derivative is
the formula's. (A primitive, and no rule around the kernel: in the body of a loop JAX 0.10 would drop that one, and take
the derivative of a kernel's result for 0.)

There are two such operations. ``formed`` has the formula alone. ``known`` is given what the formula has formed, which
is its result and its derivative wherever no kernel stands for it, and which XLA drops where one does.
"""

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from lossjax._core.versions import KERNELS

Kind = Literal["classes", "rows", "shared"]
"""What an array has: ``[..., C]`` a number for each class of each row, ``[...]`` one for each row, or neither."""

Maker = Literal["hand", "compiler"]
"""Who makes the kernel: it is written by hand, or XLA makes it of the formula."""

_kernel_by: contextvars.ContextVar[Maker | None] = contextvars.ContextVar("lossjax_kernel_by", default=None)


@contextlib.contextmanager
def rows_on_chip(by: Maker = "hand") -> Iterator[None]:
    """While a kernel is traced: there a row is read as often as one likes, but not at a place that the data says."""
    token = _kernel_by.set(by)
    try:
        yield
    finally:
        _kernel_by.reset(token)


def rows_are_on_chip() -> bool:
    """Whether :func:`rows_on_chip` holds here."""
    return _kernel_by.get() is not None


def compiler_makes_the_kernel() -> bool:
    """Whether what is traced here is to become one kernel of XLA's GPU compiler."""
    return _kernel_by.get() == "compiler"


Formula = Callable[..., tuple[Array, ...]]


class Kernel(Protocol):
    """What stands for a formula, on the platforms that have it; hashable, for it is a static part of a program."""

    def on(
        self, platform: str, kinds: Sequence[Kind], shapes: Sequence[Any]
    ) -> Callable[..., tuple[Array, ...]] | None:
        """How this platform forms ``formula(*arrays)``, of arrays of these kinds and shapes, whose sizes are numbers: a
        function ``(formula, *arrays)``; None where it is to do without a kernel.
        """
        ...


class Operand(NamedTuple):
    """An argument of the formula, and its kind."""

    array: Array
    kind: Kind


def formed(formula: Formula, kernel: Kernel, operands: Sequence[Operand], like: Sequence[Array]) -> tuple[Array, ...]:
    """``formula(*arrays)``, by the kernel where a program for one chip is lowered.

    Args:
      formula: hashable; of these arrays, with any number of axes in front.
      kernel: which platforms have one.
      operands: the arrays.
      like: for each result, an array of its shape, dtype and layout, with rows; what it holds is not felt.
    """
    arrays, kinds = zip(*operands, strict=True)
    return tuple(_formed.bind(*arrays, *like, formula=formula, kernel=kernel, kinds=kinds))


def known(results: Sequence[Array], formula: Formula, kernel: Kernel, operands: Sequence[Operand]) -> tuple[Array, ...]:
    """``results``, which are ``formula(*arrays)``, by the kernel where a program for one chip is lowered.

    Args:
      results: with rows.
      formula: hashable; it is traced by the kernel alone.
      kernel: as in :func:`formed`.
      operands: as in :func:`formed`.
    """
    arrays, kinds = zip(*operands, strict=True)
    return tuple(_known.bind(*arrays, *results, formula=formula, kernel=kernel, kinds=kinds))


_formed = Primitive("lossjax_whole_rows")
_formed.multiple_results = True


@_formed.def_impl
def _(*given: Array, formula: Any, kinds: Sequence[Kind], **_: Any) -> list[Array]:
    return list(formula(*given[: len(kinds)]))


@_formed.def_abstract_eval
def _(*shapes: Any, kinds: Sequence[Kind], **_: Any) -> list[Any]:
    return [like.update(weak_type=False) for like in shapes[len(kinds) :]]


def _of_some(formula: Any, given: Sequence[Any], kinds: Sequence[Kind], moving: Sequence[int]) -> Callable[..., Any]:
    """The formula of the operands in these places alone."""

    def of_some(*moved: Any) -> list[Any]:
        full = list(given[: len(kinds)])
        for place, array in zip(moving, moved, strict=True):
            full[place] = array
        return list(formula(*full))

    return of_some


def _batched(given: Sequence[Array], axes: Sequence[Any], *, formula: Any, kinds: Any, **how: Any) -> tuple[Any, Any]:
    """One more axis of rows; of an array that all rows share, the formula of each."""
    mapped = [axis is not None for axis in axes]
    if any(here and kind == "shared" for here, kind in zip(mapped, kinds, strict=False)):
        moving = [i for i, here in enumerate(mapped[: len(kinds)]) if here]
        of_some = _of_some(formula, given, kinds, moving)
        found = jax.vmap(of_some, [axes[i] for i in moving])(*(given[i] for i in moving))
    else:
        found = _formed.bind(*_with_axes(given, axes, kinds), formula=formula, kinds=kinds, **how)
    return found, [0] * len(found)


def _with_axes(given: Sequence[Array], axes: Sequence[Any], kinds: Sequence[Kind]) -> list[Array]:
    """Each with the mapped axis in front, the results as well; what all rows share has none."""
    size = next(x.shape[axis] for x, axis in zip(given, axes, strict=True) if axis is not None)
    each = zip(given, axes, (*kinds, *["rows"] * (len(given) - len(kinds))), strict=True)
    return [_with_axis(*one, size) for one in each]


def _with_axis(array: Array, axis: Any, kind: str, size: int) -> Array:
    if axis is not None:
        return jnp.moveaxis(array, axis, 0)
    return array if kind == "shared" else jnp.broadcast_to(array, (size, *array.shape))


def _pushed(primals: Sequence[Any], tangents: Sequence[Any], *, formula: Any, kinds: Any, **how: Any) -> Any:
    moving = [i for i, tangent in enumerate(tangents[: len(kinds)]) if not isinstance(tangent, ad.Zero)]
    moved = [primals[i] for i in moving], [tangents[i] for i in moving]
    pushed = jax.jvp(_of_some(formula, primals, kinds, moving), *moved)[1]
    return _formed.bind(*primals, formula=formula, kinds=kinds, **how), pushed


def _transposed(cotangents: Sequence[Any], *given: Any, formula: Any, kinds: Any, **_: Any) -> list[Any]:
    moving = [i for i, x in enumerate(given[: len(kinds)]) if ad.is_undefined_primal(x)]
    shapes = [jax.ShapeDtypeStruct(given[i].aval.shape, given[i].aval.dtype) for i in moving]
    transpose = jax.linear_transpose(_of_some(formula, given, kinds, moving), *shapes)
    found: list[Any] = [None] * len(given)
    for place, cotangent in zip(moving, transpose([ad.instantiate_zeros(c) for c in cotangents]), strict=True):
        found[place] = cotangent
    return found


batching.primitive_batchers[_formed] = _batched
ad.primitive_jvps[_formed] = _pushed
ad.primitive_transposes[_formed] = _transposed


_known = Primitive("lossjax_known_rows")
_known.multiple_results = True


def _results(given: Sequence[Any], kinds: Sequence[Kind]) -> list[Any]:
    return list(given[len(kinds) :])


@_known.def_impl
def _(*given: Array, kinds: Sequence[Kind], **_: Any) -> list[Array]:
    return _results(given, kinds)


@_known.def_abstract_eval
def _(*shapes: Any, kinds: Sequence[Kind], **_: Any) -> list[Any]:
    return _results(shapes, kinds)


def _known_batched(given: Sequence[Array], axes: Sequence[Any], *, kinds: Any, **how: Any) -> tuple[Any, Any]:
    """No kernel, where an array is mapped that rows share, or where the results are not."""
    of_results = _results(axes, kinds)
    shared = any(axis is not None for axis, kind in zip(axes, kinds, strict=False) if kind == "shared")
    if shared or all(axis is None for axis in of_results):
        return _results(given, kinds), of_results
    found = _known.bind(*_with_axes(given, axes, kinds), kinds=kinds, **how)
    return found, [0] * len(found)


batching.primitive_batchers[_known] = _known_batched
ad.primitive_jvps[_known] = lambda given, moves, **how: (_known.bind(*given, **how), _results(moves, how["kinds"]))
ad.primitive_transposes[_known] = lambda moves, *given, kinds, **_: [*[None] * len(kinds), *moves]


def _are_wanted() -> bool:
    """Whether this version of JAX has kernels, and ``LOSSJAX_KERNELS=off`` in the environment does not forbid them."""
    return KERNELS and os.environ.get("LOSSJAX_KERNELS", "on") != "off"


def _is_one_program(context: Any) -> bool:
    """Whether what is lowered here is executed as it stands, and not laid over devices by XLA."""
    axes = context.module_context.axis_context
    if hasattr(axes, "manual_axes"):
        return axes.manual_axes == frozenset(axes.mesh.axis_names)
    return getattr(axes, "num_devices", None) == 1


def _formed_lowered(context: Any, *operands: Any, formula: Any, kinds: Sequence[Kind], **_: Any) -> Any:
    def by_formula(*given: Array) -> tuple[Array, ...]:
        return formula(*given[: len(kinds)])

    return mlir.lower_fun(by_formula, multiple_results=True)(context, *operands)


def _known_lowered(_: Any, *given: Any, kinds: Sequence[Kind], **__: Any) -> Any:
    return _results(given, kinds)


def _lowered_on(platform: str, elsewhere: Callable[..., Any]) -> Callable[..., Any]:
    """By the kernel, where this platform has one and the program may have it."""

    def lowered(context: Any, *operands: Any, formula: Any, kernel: Kernel, kinds: Sequence[Kind]) -> Any:
        sizes, by = [size for shape in context.avals_in for size in shape.shape], None
        if _are_wanted() and _is_one_program(context) and all(isinstance(size, int) for size in sizes):
            by = kernel.on(platform, kinds, context.avals_in[: len(kinds)])
        if by is None:
            return elsewhere(context, *operands, formula=formula, kinds=kinds)

        def by_kernel(*given: Array) -> tuple[Array, ...]:
            return by(formula, *given[: len(kinds)])

        with jax.enable_x64(False):  # no kernel has a number of 64 bits, not even to count by
            return mlir.lower_fun(by_kernel, multiple_results=True)(context, *operands)

    return lowered


for _primitive, _elsewhere in ((_formed, _formed_lowered), (_known, _known_lowered)):
    mlir.register_lowering(_primitive, _elsewhere)
    for _platform in ("tpu", "cuda"):
        mlir.register_lowering(_primitive, _lowered_on(_platform, _elsewhere), platform=_platform)
