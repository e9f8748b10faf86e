"""How the arguments of ``lossjax.optax`` broadcast and mix dtypes: as optax's do."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks

Axes = int | tuple[int, ...] | None


def promoted(*arrays: Any) -> Any:
    """The dtype that optax's arithmetic would end in, also under strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*arrays)


def together(prediction: ArrayLike, target: ArrayLike | None, name: str = "predictions") -> tuple[Array, Array, Any]:
    """Both as floats of one shape, and the result's dtype. A missing target is 0; integers follow the prediction."""
    first = checks.floating(name, prediction)
    second = jnp.zeros((), first.dtype) if target is None else jnp.asarray(target)
    dtype = promoted(first, second)
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


def with_labels(scores: Array, labels: ArrayLike, where: Array | None = None) -> tuple[Array, Array, Array | None]:
    """Scores (and a mask of their entries) with one label per row; rows and labels broadcast with each other."""
    array = checks.integer_labels("labels", labels)
    try:
        rows = jnp.broadcast_shapes(scores.shape[:-1], array.shape)
    except ValueError as error:
        raise ValueError(
            f"labels has shape {array.shape}, wanted one that broadcasts with {scores.shape[:-1]} of the rows; "
            "give one label per row"
        ) from error
    every = (*rows, scores.shape[-1])
    with jax.numpy_rank_promotion("allow"):
        kept = None if where is None else jnp.broadcast_to(where, every)
        return jnp.broadcast_to(scores, every), jnp.broadcast_to(array, rows), kept


def with_options(first: Array, second: Array, **options: ArrayLike | None) -> tuple[Array, Array, dict[str, Any]]:
    """Both of one shape with which the arrays among the options broadcast."""
    arrays = {name: jnp.asarray(value) for name, value in options.items() if value is not None and jnp.ndim(value)}
    with jax.numpy_rank_promotion("allow"):
        first, second, *wide = jnp.broadcast_arrays(first, second, *arrays.values())
    return first, second, {**options, **dict(zip(arrays, wide, strict=True))}


def mask_of_entries(where: ArrayLike, shape: Sequence[int], row_axes: tuple[int, ...] = ()) -> Array:
    """The mask, of the whole shape: given so (or broadcasting to it), or without the class axes."""
    mask = jnp.asarray(where) != 0
    if row_axes and mask.ndim != len(shape):
        mask = jnp.expand_dims(mask, row_axes)
    checks.broadcastable("where", mask.shape, shape)
    return jnp.broadcast_to(mask, tuple(shape))


def number_of_vectors(epsilon: ArrayLike, shape: tuple[int, ...], axes: tuple[int, ...]) -> ArrayLike:
    """An ε as optax takes it, which broadcasts with the vectors' norms, each axis of theirs kept as 1."""
    if not jnp.ndim(epsilon):
        return epsilon
    norms = tuple(1 if i in axes else size for i, size in enumerate(shape))
    checks.broadcastable("epsilon", jnp.shape(epsilon), norms)
    return jnp.squeeze(jnp.broadcast_to(epsilon, norms), axes)


def loss_of_vectors(
    loss: Callable[..., Array],
    predictions: ArrayLike,
    targets: ArrayLike,
    epsilon: ArrayLike,
    axis: Axes,
    where: ArrayLike | None,
    *,
    nothing: float,
) -> Array:
    """A cosine as optax has it; ``nothing`` is that of vectors of which a mask leaves no entry.

    To optax they are zero vectors, whose distance is 1. To lossjax they do not count, and contribute 0.
    """
    first, second, dtype = together(predictions, targets)
    axes = all_axes(axis, first.ndim)
    call = functools.partial(loss, first, second, epsilon=number_of_vectors(epsilon, first.shape, axes), axis=axes)
    if where is None:
        return call().astype(dtype)
    kept = mask_of_entries(where, first.shape)
    return jnp.where(jnp.any(kept, axis=axes), call(where=kept), nothing).astype(dtype)
