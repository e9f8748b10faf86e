"""Arguments and functions that the checker of gradients is asked about by several files."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_RANDOM = np.random.default_rng(11)
Z = _RANDOM.normal(size=(5, 7)).astype(np.float32)
V = _RANDOM.normal(size=(5, 7)).astype(np.float32)
Y = np.array([0, 3, 6, 2, 2], np.int32)
MESH = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))


def ruled(formula: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """A formula with a backward pass ``(arguments, cotangent) -> gradients``."""
    made = jax.custom_vjp(formula)
    made.defvjp(lambda *args: (formula(*args), args), backward)
    return made


def sine(slope: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., Any]:
    """The sine with a pullback ``slope(x, g)``."""
    return ruled(jnp.sin, lambda kept, g: (slope(kept[0], g),))


def right(x: jax.Array, g: jax.Array) -> jax.Array:
    return g * jnp.cos(x)


def squares(z: jax.Array) -> jax.Array:
    return jnp.sum(z**2, axis=-1)


OWN = jnp.linspace(0.5, 2.5, 7)
"""Weights that a function has written down."""


def one_hot_loss(z: jax.Array, y: jax.Array) -> jax.Array:
    hot = jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype)
    return jax.nn.logsumexp(z, axis=-1) - jnp.sum(hot * z, axis=-1)
