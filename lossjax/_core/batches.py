"""What the primitives defined here do alike under ``jax.vmap``."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

R = TypeVar("R")


def mapped(function: Callable[..., R], axis: Any, in_axes: Sequence[Any]) -> Callable[..., R]:
    """The function of a batch: ``jax.vmap`` along the axis that a batching rule is given.

    What the function calls, such as a sum over devices, finds the axis by the name that the first ``jax.vmap`` gave.
    """
    named = {} if axis.name is None or not isinstance(axis.name, str) else {"axis_name": axis.name}
    over = {"axis_size": axis.size, "spmd_axis_name": axis.spmd_name, **named}
    return jax.vmap(function, in_axes=tuple(in_axes), **over)


def in_front(arrays: Sequence[Any], places: Sequence[int | None]) -> tuple[list[Any], tuple[int | None, ...]]:
    """The arrays with the mapped axis, where there is one, in front; and where it is now."""
    moved = [
        array if place is None else jnp.moveaxis(array, place, 0) for array, place in zip(arrays, places, strict=True)
    ]
    return moved, tuple(None if place is None else 0 for place in places)
