"""Masks: what masked rows hold must not reach any arithmetic, or its NaN would reach a gradient."""

import jax.numpy as jnp
from jax import Array


def hide(where: Array | None, array: Array, fill: float = 0) -> Array:
    """Replace what masked rows hold.

    Args:
      where: one boolean per row (or per entry), True where the row counts; None if every row does.
      array: of the shape of ``where``, with any axes behind it.
      fill: what masked rows hold afterwards.
    """
    if where is None:
        return array
    return jnp.where(where.reshape(where.shape + (1,) * (array.ndim - where.ndim)), array, fill)
