"""From one loss per row to the result: masks, row weights, and none | sum | mean."""

import math
from typing import Literal

import jax.numpy as jnp
from jax import Array

Reduction = Literal["none", "sum", "mean"]


def reduce(losses: Array, how: str, *, where: Array | None = None, weights: Array | None = None) -> Array:
    """Reduce the losses of rows; masked rows count as exactly 0 whatever they hold.

    Args:
      losses: one loss per row, any shape.
      how: "none", "sum" or "mean" (checked by ``checks.reduction``).
      where: boolean, of the shape of ``losses``; None counts every row.
      weights: row weights that ``losses`` already contains; "mean" divides by their sum over the counted rows.

    Returns:
      The losses (masked ones 0), their sum, or their mean. A mean over nothing, or over weights that sum to 0, is 0
      with zero gradient.
    """
    if where is not None:
        losses = jnp.where(where, losses, 0)
    if how == "none":
        return losses
    total = jnp.sum(losses)
    return total if how == "sum" else mean_of(total, losses.shape, where=where, weights=weights)


def mean_of(total: Array, shape: tuple[int, ...], *, where: Array | None = None, weights: Array | None = None) -> Array:
    """The mean of losses of this shape, whose masked and weighted sum is known; the options are those of ``reduce``."""
    if where is None and weights is None:
        count = math.prod(shape)
        return total / count if count else total
    counted = jnp.ones(shape, total.dtype) if weights is None else weights.astype(total.dtype)
    if where is not None:
        counted = jnp.where(where, counted, 0)
    mass = jnp.sum(counted)
    return jnp.where(mass == 0, 0, total / jnp.where(mass == 0, 1, mass))
