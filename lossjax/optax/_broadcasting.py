"""How the arguments of ``lossjax.optax`` broadcast and mix dtypes: as optax's do."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks

Axes = int | tuple[int, ...] | None


def _promoted(*arrays: Array) -> Any:
    """The dtype that optax's arithmetic would end in, also under strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*arrays)


def together(prediction: ArrayLike, target: ArrayLike | None, name: str = "predictions") -> tuple[Array, Array, Any]:
    """Both as floats of one shape, and the result's dtype. A missing target is 0; integers follow the prediction."""
    first = checks.floating(name, prediction)
    second = jnp.zeros((), first.dtype) if target is None else jnp.asarray(target)
    dtype = _promoted(first, second)
    if not jnp.issubdtype(second.dtype, jnp.floating):
        second = second.astype(first.dtype)
    with jax.numpy_rank_promotion("allow"):
        first, second = jnp.broadcast_arrays(first, second)
    return first, second, dtype


def all_axes(axis: Axes, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim)) if axis is None else checks.axes("axis", axis, ndim)


def same_shapes(first: ArrayLike, second: ArrayLike | None) -> None:
    if second is not None:
        shape = jnp.shape(first)
        checks.same_shape("targets", jnp.shape(second), "of the predictions", shape, "reshape one of the two")


def labels_of_rows(labels: ArrayLike, shape: Sequence[int]) -> Array:
    array = checks.integer_labels("labels", labels)
    checks.broadcastable("labels", array.shape, shape)
    return jnp.broadcast_to(array, tuple(shape))


def mask_of_entries(where: ArrayLike, shape: Sequence[int], row_axes: tuple[int, ...] = ()) -> Array:
    """The mask, of the whole shape: given so (or broadcasting to it), or without the class axes."""
    mask = jnp.asarray(where) != 0
    if row_axes and mask.ndim != len(shape):
        mask = jnp.expand_dims(mask, row_axes)
    checks.broadcastable("where", mask.shape, shape)
    return jnp.broadcast_to(mask, tuple(shape))
