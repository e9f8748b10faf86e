"""Rules that move numbers about and compute nothing: numpy's on any entries, or JAX's own on indices of them."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flint import arb
from jax.lax import GatherScatterMode

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.rules import NAN, ZERO, Complex, is_balls, rule, to_array

MOVES: set[str] = set()
"""Primitives whose rule serves integers and booleans too."""


def _moves(*names: str, reads: Sequence[str] | None = ()) -> Any:
    MOVES.update(names)
    return rule(*names, reads=reads)


@_moves(
    "copy", "copy_p", "stop_gradient", "name", "sharding_constraint", "layout_constraint", "reshard", "mesh_cast",
    "pvary", "pcast", "pbroadcast", "optimization_barrier", "device_put",
    reads=None,
)  # fmt: skip
def _same(context: Context, params: Any, *values: Any) -> Any:
    return list(values) if context.equation.primitive.multiple_results else values[0]


@_moves("under_checkify", reads=None)
def _under_checkify(context: Context, params: Any, value: Any, *rest: Any) -> Any:
    return [value]


@_moves("reshape", reads=["new_sizes", "dimensions"])
def _reshape(context: Context, params: Any, x: Any) -> Any:
    if params.get("dimensions") is not None:
        x = np.transpose(x, params["dimensions"])
    return x.reshape(params["new_sizes"])


@_moves("squeeze", reads=["dimensions"])
def _squeeze(context: Context, params: Any, x: Any) -> Any:
    return np.squeeze(x, axis=tuple(params["dimensions"]))


@_moves("expand_dims", reads=["dimensions"])
def _expand_dims(context: Context, params: Any, x: Any) -> Any:
    return np.expand_dims(x, tuple(params["dimensions"]))


@_moves("transpose", reads=["permutation"])
def _transpose(context: Context, params: Any, x: Any) -> Any:
    return np.transpose(x, params["permutation"])


@_moves("rev", reads=["dimensions"])
def _rev(context: Context, params: Any, x: Any) -> Any:
    return np.flip(x, params["dimensions"])


@_moves("broadcast_in_dim", reads=["shape", "broadcast_dimensions"])
def _broadcast_in_dim(context: Context, params: Any, x: Any, *dynamic: Any) -> Any:
    shape = params["shape"]
    narrow = [1] * len(shape)
    for axis, size in zip(params["broadcast_dimensions"], x.shape, strict=True):
        narrow[axis] = size
    result = np.empty(shape, x.dtype)  # quicker than a view, whose entries the next equation would copy
    result[...] = x.reshape(narrow)
    return result


@_moves("slice", reads=["start_indices", "limit_indices", "strides"])
def _slice(context: Context, params: Any, x: Any) -> Any:
    strides = params["strides"] or (1,) * x.ndim
    return x[tuple(map(slice, params["start_indices"], params["limit_indices"], strides))]


@_moves("concatenate", reads=["dimension"])
def _concatenate(context: Context, params: Any, *values: Any) -> Any:
    return np.concatenate(values, axis=params["dimension"])


@_moves("stack", reads=["axis"])
def _stack(context: Context, params: Any, *values: Any) -> Any:
    return np.stack(values, axis=params["axis"])


@_moves("unstack", reads=["axis"])
def _unstack(context: Context, params: Any, x: Any) -> list[Any]:
    along = np.moveaxis(x, params["axis"], 0)
    return [along[i : i + 1].reshape(along.shape[1:]) for i in range(len(along))]


@_moves("split", reads=["sizes", "axis"])
def _split(context: Context, params: Any, x: Any) -> list[Any]:
    return np.split(x, np.cumsum(params["sizes"])[:-1], axis=params["axis"])


@_moves("tile", reads=["reps"])
def _tile(context: Context, params: Any, x: Any) -> Any:
    return np.tile(x, params["reps"])


@_moves("select_n")
def _select_n(context: Context, params: Any, which: Any, *cases: Any) -> Any:
    if len(cases) == 2 and which.dtype == bool:
        return np.where(which, cases[1], cases[0])
    which = np.broadcast_to(which, cases[0].shape).astype(int)
    return np.take_along_axis(np.stack(cases), which[None], axis=0).reshape(which.shape)


@_moves("pad", reads=["padding_config"])
def _pad(context: Context, params: Any, x: Any, value: Any) -> Any:
    return padded(x, value, params["padding_config"])


def padded(x: np.ndarray, value: np.ndarray, config: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Padding is low, high and between entries; negative low and high cut entries off."""
    shape, sources, targets = [], [], []
    for size, (low, high, between) in zip(x.shape, config, strict=True):
        shape.append(max(low + high + size + max(size - 1, 0) * between, 0))
        at = np.arange(size) * (between + 1) + low
        inside = (at >= 0) & (at < shape[-1])
        sources.append(np.flatnonzero(inside))
        targets.append(at[inside])
    result = np.full(shape, value.ravel()[0], dtype=x.dtype)
    result[np.ix_(*targets)] = x[np.ix_(*sources)]
    return result


def _window(x: Any, sizes: Sequence[int], starts: Sequence[Any]) -> tuple[slice, ...]:
    """As JAX has it: a start is moved so that the window fits."""
    firsts = [min(max(int(start), 0), n - size) for start, n, size in zip(starts, x.shape, sizes, strict=True)]
    return tuple(slice(first, first + size) for first, size in zip(firsts, sizes, strict=True))


@_moves("dynamic_slice", reads=["slice_sizes"])
def _dynamic_slice(context: Context, params: Any, x: Any, *starts: Any) -> Any:
    return x[_window(x, params["slice_sizes"], starts)]


@_moves("dynamic_update_slice")
def _dynamic_update_slice(context: Context, params: Any, x: Any, update: Any, *starts: Any) -> Any:
    result = np.array(x)
    result[_window(x, update.shape, starts)] = update
    return result


@rule("iota", reads=["dtype", "shape", "dimension"])
def _iota(context: Context, params: Any, *dynamic: Any) -> Any:
    shape, axis = params["shape"], params["dimension"]
    along = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    whole = np.broadcast_to(along, shape)
    if not jnp.issubdtype(params["dtype"], jnp.inexact):
        return whole.astype(params["dtype"])
    return to_array([filling(v, params["dtype"]) for v in context.balls(whole).ravel().tolist()], shape)


@rule("empty2", reads=["dtype"])
def _empty(context: Context, params: Any, *dynamic: Any) -> Any:
    """What a loop's stacked results start from. Each is overwritten; a read before that would show as NaN."""
    if not jnp.issubdtype(params["dtype"], jnp.inexact):
        return np.zeros((), params["dtype"])
    return to_array([filling(NAN, params["dtype"])], ())


def filling(number: arb, dtype: Any) -> arb | Complex:
    """A real number as an entry of an array of this dtype."""
    return Complex(number, ZERO) if jnp.issubdtype(dtype, jnp.complexfloating) else number


@rule(
    "gather", reads=["dimension_numbers", "slice_sizes", "mode", "fill_value", "unique_indices", "indices_are_sorted"]
)
def _gather(context: Context, params: Any, x: Any, indices: Any) -> Any:
    """Entries from the places that are read; from outside, the fill value, which stands behind the last entry."""
    fill, aval = params["fill_value"], context.equation.outvars[0].aval
    if is_balls(x):
        number = filling(NAN if fill is None else context.number(float(fill)), aval.dtype)
        pool = to_array([*x.ravel().tolist(), number], (x.size + 1,))
    else:
        pool = np.append(x.ravel(), np.asarray(_outside(x.dtype) if fill is None else fill, x.dtype))
    places = places_read(context, params["dimension_numbers"], params["slice_sizes"], params["mode"], x, indices)
    return pool[places.ravel()].reshape(places.shape)


def _outside(dtype: Any) -> Any:
    """What a gather of integers or booleans reads outside, where nobody says: the least, or the largest unsigned."""
    if dtype == np.bool_:
        return True
    return np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max


def places_read(
    context: Context, numbers: Any, sizes: Sequence[int], mode: GatherScatterMode, x: Any, indices: Any
) -> np.ndarray:
    """The positions among the entries of ``x`` that a gather reads with these numbers; -1 for those outside."""
    of_batch, axes = indices.shape[:-1], range(x.ndim)
    starts = np.zeros((*of_batch, x.ndim), np.int64)
    starts[..., list(numbers.start_index_map)] = indices.clip(max=np.iinfo(np.int64).max)
    for axis, along in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
        starts[..., axis] = np.arange(of_batch[along]).reshape([-1 if k == along else 1 for k in range(len(of_batch))])
    last = np.subtract(x.shape, sizes)
    inside = ((starts >= 0) & (starts <= last)).all(axis=-1)
    if mode in (GatherScatterMode.CLIP, GatherScatterMode.PROMISE_IN_BOUNDS):
        starts, inside = np.clip(starts, 0, last), np.ones(of_batch, bool)
    elif mode != GatherScatterMode.FILL_OR_DROP:
        raise context.unsupported(f"its rule does not know the mode {mode}")
    steps = [math.prod(x.shape[axis + 1 :]) for axis in axes]
    places = np.where(inside, starts @ np.array(steps, np.int64), -1)
    kept = [axis for axis in axes if axis not in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)]
    for axis in kept:
        places = np.where(places[..., None] < 0, -1, places[..., None] + steps[axis] * np.arange(sizes[axis]))
    return np.moveaxis(places, range(len(of_batch), places.ndim), numbers.offset_dims)
