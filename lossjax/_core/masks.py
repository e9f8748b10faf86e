"""Masks: what masked rows hold must not reach any arithmetic, or its NaN would reach a gradient."""

import functools

import jax
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


@functools.partial(jax.jit, inline=True)  # called by itself it is one program, and not eight
def nan_unless(defined: Array, array: Array) -> Array:
    """The array, NaN in the rows that are not defined.

    By a product, so that every derivative there is NaN too. The factor is √1 or √-1. Written as a NaN it would stop a
    program under ``jax_debug_nans`` in which every row is defined, and XLA's CPU backend (JAX 0.10) takes 0/0 for 0.
    The product stands inside a select: what ends in a product, that backend would give to a library together with the
    sum over the rows that follows, and store each of its operands (a mean of ten classes then takes six times as long).

    Args:
      defined: one boolean per row (or per entry).
      array: floats of the shape of ``defined``, with any axes behind it.
    """
    defined = defined.reshape(defined.shape + (1,) * (array.ndim - defined.ndim))
    factor = jnp.sqrt(jnp.where(defined, 1.0, -1.0).astype(array.dtype))
    # An explicit mesh may split the array and not the booleans, of which a select wants the same.
    return jnp.where(defined | jnp.zeros_like(array, bool), array, array * factor)
