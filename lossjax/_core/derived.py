"""A value that is already formed, together with the arrays that it is a function of, and with its derivative in them.

To be differentiated, a number must be computed from what it depends on. Some numbers here are not: what a forward pass
has summed with row statistics that are held constant, what a backward pass has by a shorter way, what a kernel formed.
``with_derivative`` returns such a value as it is, and says what its derivative is.

It is a primitive, and no rule around a function that returns the value: in the body of a loop that it has linearised
once already, JAX 0.10 drops such a rule, and evaluates the function instead. The value would then be taken for a
constant, or for a function of what it was formed from: a wrong third derivative, in silence.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from lossjax._core import batches, sharding
from lossjax._core.whole_rows import rows_are_on_chip

Move = Any
"""A tangent; None where there is none, which is a zero."""

Derivative = Callable[[tuple[Any, ...], tuple[Move, ...]], Sequence[Any] | None]
"""``(arrays, their tangents) -> tangents of the value``, linear in the tangents; None if these are all zero."""

PRIMITIVE = core.Primitive("with_derivative")
PRIMITIVE.multiple_results = True


def with_derivative(value: Any, arrays: Sequence[Any], derivative: Derivative, *, added: bool = False) -> Any:
    """Return ``value``, a pytree, whose derivative in ``arrays`` is given.

    Args:
      value: a pytree.
      arrays: all that the derivative depends on; it must not close over others.
      derivative: it is called only where one of the arrays has a tangent.
      added: whether the value's own tangent, from what it was formed of, is felt as well.

    In a kernel it is the value alone: nothing is differentiated there, and Pallas knows no primitive of ours.
    """
    if rows_are_on_chip():
        return value
    leaves, tree = jax.tree.flatten(value)
    found = PRIMITIVE.bind(*leaves, *arrays, derivative=derivative, added=added, results=len(leaves))
    return tree.unflatten(found)


def is_moving(tangent: Any) -> bool:
    """Whether there is a tangent: not None, nor one of JAX's zeros, nor that of an integer."""
    return not (tangent is None or isinstance(tangent, SymbolicZero | ad.Zero) or tangent.dtype == jax.dtypes.float0)


def _values(*given: Any, results: int, **_: Any) -> list[Any]:
    return list(given[:results])


def _differentiated(given: Any, moves: Any, *, derivative: Derivative, added: bool, results: int) -> Any:
    found = PRIMITIVE.bind(*given, derivative=derivative, added=added, results=results)
    arrays, of_arrays = tuple(given[results:]), tuple(move if is_moving(move) else None for move in moves[results:])
    pushed = derivative(arrays, of_arrays) if any(map(is_moving, of_arrays)) else None
    terms = [*([moves[:results]] if added else []), *([pushed] if pushed is not None else [])]
    return found, [_total(value, parts) for value, *parts in zip(found, *terms, strict=True)]


def _total(value: Any, moves: Sequence[Move]) -> Any:
    """The sum of those that there are, each varying over devices as the value does."""
    there = [sharding.varying_alike(value, move) for move in moves if is_moving(move)]
    return sum(there[1:], there[0]) if there else ad.Zero(jax.typeof(value).to_tangent_aval())


def _batched(axis: Any, given: Any, places: Any, *, derivative: Derivative, results: int, added: bool) -> Any:
    """The value is batched as a whole; an array may be without a batch, and so is its tangent then."""
    bind = functools.partial(PRIMITIVE.bind, results=results, added=added)
    if all(place is None for place in places):
        return bind(*given, derivative=derivative), [None] * results
    moved, fronts = batches.in_front(given, places)
    values = [
        batching.bdim_at_front(value, front, axis.size, axis.explicit_mesh_axis)
        for value, front in zip(moved[:results], fronts[:results], strict=True)
    ]
    of_batch = batches.mapped(derivative, axis, (fronts[results:], fronts[results:]))
    return bind(*values, *moved[results:], derivative=of_batch), [0] * results


PRIMITIVE.def_impl(_values)
PRIMITIVE.def_abstract_eval(_values)
ad.primitive_jvps[PRIMITIVE] = _differentiated
batching.fancy_primitive_batchers[PRIMITIVE] = _batched
mlir.register_lowering(PRIMITIVE, mlir.lower_fun(_values, multiple_results=True))
