"""Arrays over several devices: what ``jax.shard_map`` takes to vary between them, and what an explicit mesh splits."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec


def alike(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inside ``jax.shard_map``, give all floating-point arrays the same varying mesh axes; None stays.

    A cotangent must vary over the same axes as its argument. ``lax.pcast`` makes a replicated argument (class weights,
    say) a varying one, and the transpose of ``lax.pcast`` sums the devices' cotangents. It does so in float32 at least:
    16-bit sums of hundreds of devices lose digits. Who wants those, for they are half as many bytes, casts by
    ``lax.pcast`` before the call.
    """
    union = frozenset().union(*(varying_axes(a) for a in arrays))
    if not union:
        return arrays
    return tuple(_varying_over(union, a) if jnp.issubdtype(a.dtype, jnp.inexact) else a for a in arrays)


def varying_alike(references: Any, arrays: Any) -> Any:
    """Make the arrays vary over every mesh axis that a reference varies over, as a loop or a branch requires."""
    axes = frozenset().union(*map(varying_axes, jax.tree.leaves(references)))
    return jax.tree.map(lambda array: _varying_over(axes, array), arrays)


def varies_over(array: Any, axis_name: str) -> bool:
    """Whether ``jax.shard_map`` takes the array to differ between the devices along a mesh axis."""
    return axis_name in varying_axes(array)


def on_one_device(x: Array, over: str | None) -> Array:
    """Return x on device 0 of the mesh axis and zero on the others; x itself where there is no such axis.

    This is for a number that is the same on every device and is about to be summed over them: otherwise the sum would
    count it once per device.
    """
    return x if over is None else jnp.where(lax.axis_index(over) == 0, x, jnp.zeros_like(x))


def same_on_all(x: Array, over: str | None) -> Array:
    """Return x, which is the same on all devices, in a form in which ``jax.shard_map`` can see that it is.

    A sum over devices is known to be the same on all of them, so x is summed, counted on one device only.
    """
    return x if over is None else lax.psum(on_one_device(x, over), over)


def split_count(z: Array) -> int:
    """The number of devices that an explicit mesh splits the last axis over: JAX refuses a gather along it."""
    sharding = jax.typeof(z).sharding
    names = sharding.spec[-1] if len(sharding.spec) == z.ndim else None
    if names is None:
        return 1
    return math.prod(sharding.mesh.shape[name] for name in (names if isinstance(names, tuple) else (names,)))


def split_as(array: Array, shape: tuple[Any, ...], names: tuple[Any, ...]) -> Array:
    """The array in another shape; if an explicit mesh splits it, then its first axes over the mesh axes named."""
    sharding = jax.typeof(array).sharding
    if not any(sharding.spec):
        return array.reshape(shape)
    return lax.reshape(array, shape, out_sharding=NamedSharding(sharding.mesh, PartitionSpec(*names)))


def _varying_over(axes: frozenset[str], array: Any) -> Any:
    missing = axes - varying_axes(array)
    if not missing:
        return array
    narrow = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4
    wide = jnp.float32 if narrow else array.dtype
    return lax.pcast(array.astype(wide), tuple(sorted(missing)), to="varying").astype(array.dtype)


def varying_axes(argument: Any) -> frozenset[str]:
    manual = getattr(jax.typeof(argument), "manual_axis_type", None)
    return frozenset() if manual is None else manual.varying


def is_first_with(here: Array, maximum: Array, over: str) -> Array:
    """Whether this is the first device to hold the maximum.

    An equality that decides: so the barrier, which makes the number that was sent the number that is compared.
    """
    devices = lax.axis_size(over)
    candidate = jnp.where(lax.optimization_barrier(here) == maximum, lax.axis_index(over), devices)
    return lax.axis_index(over) == lax.pmin(candidate, over)
