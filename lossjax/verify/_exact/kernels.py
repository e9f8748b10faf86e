"""Rules of hand-written kernels (Pallas) and of arrays that are written into.

A kernel is executed block by block in the order of its grid, as JAX's own interpreter of kernels does. What a block
holds outside its array, and an output before it is written, is unknown: a result that hangs on it is an error.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossjax._core.versions import body
from lossjax.verify._exact.context import Context
from lossjax.verify._exact.pairs import BINARY
from lossjax.verify._exact.rules import NAN, Unknown, is_balls, rule, to_array


class Ref:
    """An array that is read and written in place."""

    def __init__(self, value: np.ndarray):
        self.value = value


def is_ref(variable: Any) -> bool:
    """Whether a variable of a program stands for such an array, so that its equation may have an effect."""
    return hasattr(variable.aval, "inner_aval")


NAMES = frozenset({
    "get", "swap", "addupdate", "program_id", "pallas_call", "new_ref", "freeze", "multiple_of",
})  # fmt: skip
"""These are executed by their rules also where there is no float among the operands."""


# --- reading and writing ---------------------------------------------------------------------------------------------


def _view(context: Context, ref: Ref, tree: Any, rest: Sequence[Any]) -> np.ndarray:
    """The part of the array that an equation names, with no axis for those that it indexes."""
    view = ref.value
    for transform in jax.tree.unflatten(tree, rest):
        if not hasattr(transform, "indices"):
            raise context.unsupported(f"its rule does not know the view {type(transform).__name__}")
        index = [_along(context, i, n) for i, n in zip(transform.indices, view.shape, strict=True)]
        view = view[(*index, ...)]
    return view


def _along(context: Context, index: Any, length: int) -> Any:
    if hasattr(index, "size") and hasattr(index, "stride"):
        start, size, stride = int(index.start), index.size, index.stride
        last = start + (size - 1) * stride
        found: Any = slice(start, last + 1, stride)
    elif np.ndim(index) == 0:
        found = start = last = int(index)
    else:
        raise context.unsupported("its rule does not know arrays of indices")
    if start < 0 or last >= length:
        raise context.unsupported(f"the places {start} to {last} are outside an axis of length {length}")
    return found


@rule("get", reads=["tree"])
def _get(context: Context, params: Any, ref: Ref, *rest: Any) -> np.ndarray:
    return _view(context, ref, params["tree"], rest).copy()


@rule("swap", reads=["tree"])
def _swap(context: Context, params: Any, ref: Ref, value: np.ndarray, *rest: Any) -> np.ndarray:
    view = _view(context, ref, params["tree"], rest)
    before = view.copy()
    view[...] = value
    return before


@rule("addupdate", reads=["tree"])
def _addupdate(context: Context, params: Any, ref: Ref, value: np.ndarray, *rest: Any) -> list[Any]:
    view = _view(context, ref, params["tree"], rest)
    view[...] = context.apply("add", BINARY["add"], view, value) if is_balls(view) else view + value
    return []


@rule("new_ref", reads=["kind", "pin"])
def _new_ref(context: Context, params: Any, value: np.ndarray) -> Ref:
    return Ref(np.array(value))


@rule("freeze", reads=[])
def _freeze(context: Context, params: Any, ref: Ref) -> np.ndarray:
    return ref.value.copy()


@rule("multiple_of", reads=None)
def _multiple_of(context: Context, params: Any, value: Any) -> Any:
    return value


# --- kernels ---------------------------------------------------------------------------------------------------------


@rule("program_id", reads=["axis"])
def _program_id(context: Context, params: Any) -> np.ndarray:
    return np.asarray(context.grids[-1][params["axis"]], np.int32)


def _unknown(context: Context, dtype: Any) -> Any:
    """A number of which nothing is known; as an integer, what JAX's interpreter of kernels puts there."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return np.zeros((), dtype)[()] if dtype == np.bool_ else np.asarray(np.iinfo(dtype).min, dtype)[()]
    result = Unknown(NAN)
    result.error = context.unsupported("its result depends on what lies outside an array, or was not written")
    return result


def _filled(context: Context, shape: Sequence[int], dtype: Any) -> np.ndarray:
    value = _unknown(context, dtype)
    if isinstance(value, Unknown):
        return to_array([value] * int(np.prod(shape, dtype=int)), shape)
    return np.full(tuple(shape), value, dtype)


def _uninitialised(context: Context, aval: Any) -> Ref:
    inner = getattr(aval, "inner_aval", aval)
    if not hasattr(inner, "dtype") or not (inner.dtype == np.bool_ or jnp.issubdtype(inner.dtype, jnp.number)):
        raise context.unsupported(f"its rule does not know {inner}")
    return Ref(_filled(context, inner.shape, inner.dtype))


class _Blocks:
    """An operand or a result of a kernel, in blocks."""

    def __init__(self, context: Context, array: np.ndarray, mapping: Any, dtype: Any):
        self.shape, self.program = array.shape, mapping.index_map_jaxpr
        self.sizes, self.steps, self.dropped = [], [], []
        for axis, block in enumerate(mapping.block_shape):
            kind, size = type(block).__name__, getattr(block, "block_size", block)
            if kind == "Squeezed" or block is None:
                size, kind = 1, "Blocked"
                self.dropped.append(axis)
            if kind not in ("Blocked", "int"):
                raise context.unsupported(f"its rule does not know blocks of kind {kind}")
            self.sizes.append(size)
            self.steps.append(size)
        whole = [-(-n // size) * size for n, size in zip(array.shape, self.sizes, strict=True)]
        self.array = _filled(context, whole, dtype)
        self.array[tuple(map(slice, array.shape))] = array

    def at(self, context: Context, index: Sequence[Any]) -> np.ndarray:
        """The block of a place of the grid, as a view."""
        starts = context.run(self.program, index)
        places = [int(s) * step for s, step in zip(starts, self.steps, strict=True)]
        if any(p < 0 or p + size > n for p, size, n in zip(places, self.sizes, self.array.shape, strict=True)):
            raise context.unsupported(f"the block at {places} lies outside an array of shape {self.shape}")
        block = self.array[tuple(slice(p, p + size) for p, size in zip(places, self.sizes, strict=True))]
        return block[(*(0 if axis in self.dropped else slice(None) for axis in range(block.ndim)), ...)]

    def whole(self) -> np.ndarray:
        """The array without what is outside it."""
        return self.array[tuple(map(slice, self.shape))]


@rule(
    "pallas_call",
    reads=[
        "jaxpr", "grid_mapping", "input_output_aliases", "debug", "interpret", "compiler_params", "cost_estimate",
        "out_avals", "backend", "metadata", "name", "name_and_src_info", "mesh",
    ],
)  # fmt: skip
def _pallas_call(context: Context, params: Any, *values: Any) -> list[Any]:
    mapping, variables = params["grid_mapping"], context.equation.outvars
    if mapping.num_dynamic_grid_bounds:
        raise context.unsupported("its rule does not know grids whose size is computed")
    indices = [Ref(np.array(v)) for v in values[: mapping.num_index_operands]]
    values = values[mapping.num_index_operands :]
    aliases = {result: operand for operand, result in params["input_output_aliases"]}
    starts = [
        values[aliases[k] - len(indices)] if k in aliases else _filled(context, v.aval.shape, v.aval.dtype)
        for k, v in enumerate(variables)
    ]
    dtypes = [v.aval.dtype for v in (*context.equation.invars[len(indices) :], *variables)]
    mappings = mapping.block_mappings
    blocks = [_Blocks(context, a, m, d) for a, m, d in zip([*values, *starts], mappings, dtypes, strict=True)]
    scratch = [_uninitialised(context, v.aval) for v in body(params["jaxpr"]).invars[len(indices) + len(blocks) :]]
    kept = [axis for axis in range(len(mapping.grid)) if axis not in mapping.vmapped_dims]
    for place in itertools.product(*map(range, mapping.grid)):
        index = [*(np.asarray(i, np.int32) for i in place), *indices]
        refs = [Ref(b.at(context, index)) for b in blocks]
        context.grids.append([place[a] for a in kept])
        try:
            context.run(params["jaxpr"], [*indices, *refs, *scratch])
        finally:
            context.grids.pop()
    return [b.whole() for b in blocks[len(values) :]]
