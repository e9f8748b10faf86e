"""Rules of ``shard_map`` and of the collectives in it: every device's program is interpreted, one at a time.

Each device has a thread, of which one runs. It waits in a collective until the others have come there, so that loops,
branches and calls may hold collectives as they like.
"""

import functools
import itertools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.pairs import BINARY
from lossjax.verify._exact.rules import RULES, ZERO, is_balls, rule, to_array

NAMES = frozenset({
    "shard_map", "psum", "psum_invariant", "pmax", "pmin", "all_gather", "all_gather_invariant", "reduce_scatter",
    "all_to_all", "ppermute", "axis_index",
})  # fmt: skip
"""These are executed by their rules also where there is no float among the operands."""


class _Mesh:
    """The devices of one ``shard_map``, and what they tell each other."""

    def __init__(self, sizes: dict[str, int]):
        self.sizes = sizes
        self.places = list(itertools.product(*map(range, sizes.values())))
        self.told: list[Any] = [None] * len(self.places)
        self.turn, self.together = threading.Lock(), threading.Barrier(len(self.places))

    def index(self, place: Sequence[int], names: Sequence[str]) -> int:
        """The number of a device along these axes."""
        found = 0
        for name in names:
            found = found * self.sizes[name] + place[list(self.sizes).index(name)]
        return found

    def share(self, names: Sequence[str]) -> int:
        """How many devices lie along these axes."""
        return int(np.prod([self.sizes[name] for name in names], dtype=int))


class _Device:
    """One device, as its interpretation sees it."""

    def __init__(self, mesh: _Mesh, number: int):
        self.mesh, self.number, self.place = mesh, number, mesh.places[number]

    def wait(self) -> None:
        """Until all devices have come here; meanwhile others have the turn."""
        self.mesh.turn.release()
        try:
            self.mesh.together.wait()
        finally:
            self.mesh.turn.acquire()

    def exchanged(self, value: Any, names: Sequence[str]) -> list[Any]:
        """The value of each device along these axes."""
        self.mesh.told[self.number] = value
        self.wait()
        others = [name for name in self.mesh.sizes if name not in names]
        index = self.mesh.index
        group = [k for k, p in enumerate(self.mesh.places) if index(p, others) == index(self.place, others)]
        found = [self.mesh.told[k] for k in sorted(group, key=lambda k: index(self.mesh.places[k], names))]
        self.wait()  # before anyone tells something else
        return found


def _axes_of(params: Any) -> tuple[Any, ...]:
    """The names of axes of devices; and, in JAX 0.12, the numbers of axes of the operand that vmap has named so."""
    axes = params["axes"] if "axes" in params else params["axis_name"]
    return tuple(axes) if isinstance(axes, tuple | list) else (axes,)


def _named(context: Context, params: Any) -> tuple[_Device, tuple[str, ...]]:
    """This device, and the axes of a collective."""
    names = [name for name in _axes_of(params) if not isinstance(name, int)]
    device = context.device
    if device is None or not all(name in device.mesh.sizes for name in names):
        raise context.unsupported(f"the axes {names} are not those of a shard_map that is executed")
    if params.get("axis_index_groups") is not None:
        raise context.unsupported("its rule does not know the parameter 'axis_index_groups'")
    return device, tuple(names)


# --- collectives -----------------------------------------------------------------------------------------------------

_ALONG = ["axes", "axis_name", "axis_index_groups", "axis_size", "tiled"]
_COMBINED = {"psum": "add", "psum_invariant": "add", "pmax": "max", "pmin": "min"}
_OF_INTEGERS: dict[str, Any] = {"add": np.add, "max": np.maximum, "min": np.minimum}
_WITHIN = {"add": "reduce_sum", "max": "reduce_max", "min": "reduce_min"}


def _combined(context: Context, name: str, values: list[Any]) -> Any:
    if is_balls(values[0]):
        return functools.reduce(functools.partial(context.apply, name, BINARY[name]), values)
    return functools.reduce(_OF_INTEGERS[name], values)


def _combined_within(context: Context, name: str, value: Any, axes: tuple[int, ...]) -> Any:
    """Along axes of one operand."""
    if not axes or not is_balls(value):
        return _OF_INTEGERS[name].reduce(value, axes, value.dtype) if axes else value
    return RULES[_WITHIN[name]].execute(context, {"axes": axes}, value)


def _reduction(name: str) -> Any:
    def reduce(context: Context, params: Any, *values: Any) -> Any:
        axes = _axes_of(params)
        within = tuple(axis for axis in axes if isinstance(axis, int))
        results = [_combined_within(context, name, v, within) for v in values]
        if len(within) < len(axes):
            device, names = _named(context, params)
            results = [_combined(context, name, device.exchanged(v, names)) for v in results]
        return results if context.equation.primitive.multiple_results else results[0]

    return reduce


for _name, _operation in _COMBINED.items():
    rule(_name, reads=_ALONG)(_reduction(_operation))


@rule("axis_index", reads=["axis_name"])
def _axis_index(context: Context, params: Any) -> np.ndarray:
    device, names = _named(context, params)
    return np.asarray(device.mesh.index(device.place, names), context.equation.outvars[0].aval.dtype)


@rule("all_gather", "all_gather_invariant", reads=[*_ALONG, "all_gather_dimension"])
def _all_gather(context: Context, params: Any, x: Any) -> Any:
    device, names = _named(context, params)
    join = np.concatenate if params["tiled"] else np.stack
    return join(device.exchanged(x, names), axis=params["all_gather_dimension"])


def _part(x: np.ndarray, axis: int, count: int, k: int, tiled: bool) -> np.ndarray:
    """The k-th of so many parts along an axis, which has just as many entries if it is not tiled."""
    part = np.split(x, count, axis)[k]
    return part if tiled else np.squeeze(part, axis)


@rule("reduce_scatter", reads=[*_ALONG, "scatter_dimension"])
def _reduce_scatter(context: Context, params: Any, x: Any) -> Any:
    device, names = _named(context, params)
    total, k = _combined(context, "add", device.exchanged(x, names)), device.mesh.index(device.place, names)
    return _part(total, params["scatter_dimension"], device.mesh.share(names), k, params["tiled"])


@rule("all_to_all", reads=[*_ALONG, "split_axis", "concat_axis"])
def _all_to_all(context: Context, params: Any, x: Any) -> Any:
    """Tiled or not: without tiles the operand has an axis of length 1 for those of the others."""
    device, names = _named(context, params)
    count, k = device.mesh.share(names), device.mesh.index(device.place, names)
    parts = [_part(v, params["split_axis"], count, k, tiled=True) for v in device.exchanged(x, names)]
    result = np.concatenate(parts, axis=params["concat_axis"])
    if result.shape != context.equation.outvars[0].aval.shape:
        raise context.unsupported("its rule does not know the parameter 'tiled'")
    return result


@rule("ppermute", reads=[*_ALONG, "perm"])
def _ppermute(context: Context, params: Any, x: Any) -> Any:
    """What a device sends; 0 where nothing is sent to."""
    device, names = _named(context, params)
    found, k = device.exchanged(x, names), device.mesh.index(device.place, names)
    sources = [source for source, target in params["perm"] if target == k]
    if sources:
        return found[sources[0]]
    return to_array([ZERO] * x.size, x.shape) if is_balls(x) else np.zeros_like(x)


# --- shard_map -------------------------------------------------------------------------------------------------------


def _axes(spec: Any, axis: int) -> tuple[str, ...]:
    """The names along an axis of an array."""
    names = spec[axis] if axis < len(spec) else None
    return () if names is None else names if isinstance(names, tuple) else (names,)


def _region(mesh: _Mesh, spec: Any, shape: Sequence[int], place: Sequence[int]) -> tuple[slice, ...]:
    """Where a device's block lies in an array of this shape."""
    region = []
    for axis, length in enumerate(shape):
        names = [name for name in _axes(spec, axis) if name in mesh.sizes]
        size, k = length // mesh.share(names), mesh.index(place, names)
        region.append(slice(k * size, (k + 1) * size))
    return tuple(region)


@rule("shard_map", reads=["jaxpr", "mesh", "in_specs", "out_specs", "check_vma", "newly_manual_axes", "manual_axes"])
def _shard_map(context: Context, params: Any, *values: Any) -> list[Any]:
    if context.device is not None:
        raise context.unsupported("its rule does not know one inside another")
    if context.choices is not None:
        raise context.unsupported("its devices' comparisons have no order in which a box could leave them open")
    manual = params.get("newly_manual_axes", params.get("manual_axes"))
    mesh = _Mesh({name: size for name, size in params["mesh"].shape.items() if name in manual})
    results: list[Any] = [None] * len(mesh.places)
    problems: list[BaseException] = []

    def run(number: int) -> None:
        inside = context.of_device(_Device(mesh, number))
        blocks = [
            v[(*_region(mesh, spec, v.shape, mesh.places[number]), ...)] if isinstance(v, np.ndarray) else v
            for v, spec in zip(values, params["in_specs"], strict=True)
        ]
        with mesh.turn:
            try:
                results[number] = inside.run(params["jaxpr"], blocks)
            except threading.BrokenBarrierError:
                pass  # another device has the problem
            except BaseException as problem:
                problems.append(problem)
                mesh.together.abort()

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(mesh.places))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return [
        _assembled(mesh, [r[k] for r in results], spec, variable.aval)
        for k, (spec, variable) in enumerate(zip(params["out_specs"], context.equation.outvars, strict=True))
    ]


def _assembled(mesh: _Mesh, blocks: list[Any], spec: Any, aval: Any) -> Any:
    """The array of which these are the devices' blocks; where a block is on several, they promise to be the same."""
    if not isinstance(blocks[0], np.ndarray):
        return blocks[0]
    result = np.empty(aval.shape, blocks[0].dtype)
    for place, block in zip(mesh.places, blocks, strict=True):
        result[(*_region(mesh, spec, aval.shape, place), ...)] = block
    return result
