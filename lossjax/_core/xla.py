"""Ways round a compiler: each is named for its effect, and says what goes wrong without it, and on which versions.

For every function here ``tests/core/test_xla.py`` has a test that shows the symptom, and that fails on the first
version of JAX that does not have it: then the function can go.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core.masks import nan_unless
from lossjax._core.sharding import varying_alike

R = TypeVar("R")

LITTLE_EFFORT = {"xla_backend_optimization_level": "0"}
"""Options for ``jax.jit`` that make XLA compile without LLVM's optimisation, for programs that run once."""

# --- a NaN that is kept ----------------------------------------------------------------------------------------------
# `jnp.maximum(x, 0)` promises NaN for NaN. Inside a sum XLA's CPU backend (JAX 0.10 to 0.12) answers 0 instead, in
# whatever order the operands are; and `jnp.max` of more than some thousand numbers loses a NaN among them. A select
# keeps what it is told to keep.


def at_least(x: Array, bound: ArrayLike) -> Array:
    """``max(x, bound)``, NaN for NaN; where the two are equal its derivative is the bound's."""
    return jnp.where((x > bound) | jnp.isnan(x), x, bound)


def at_most(x: Array, bound: ArrayLike) -> Array:
    """``min(x, bound)``, NaN for NaN; where the two are equal its derivative is the bound's."""
    return jnp.where((x < bound) | jnp.isnan(x), x, bound)


def between(x: Array, low: ArrayLike, high: ArrayLike) -> Array:
    """X cut off at both ends, NaN for NaN."""
    return at_least(at_most(x, high), low)


def largest(x: Array) -> Array:
    """The maximum over the last axis, which is kept as 1; NaN for a row that has one."""
    return nan_unless(~jnp.any(jnp.isnan(x), axis=-1, keepdims=True), jnp.max(x, axis=-1, keepdims=True))


# --- constants that stay apart ---------------------------------------------------------------------------------------


def less_constant(x: Array, high: float, low: float) -> Array:
    """``(x - high) - low``, in this order.

    XLA (JAX 0.10; 0.12 does not) adds the two constants first. But of a constant given in two parts, the first
    of which x - high holds exactly, the second is what counts where the two nearly cancel. A select by x hides it.
    """
    return (x - high) - jnp.where(jnp.isnan(x), x, low)


# --- loops whose bodies stay whole -----------------------------------------------------------------------------------


def not_hoisted(function: Callable[..., R], index: Array, *arguments: Any) -> R:
    """``function(*arguments)``, in the body of a loop that counts with ``index``.

    JAX (0.10 to 0.12) moves out of a loop whatever is the same in every pass: for a loss, an index and a zero per logit
    of a block, which then stay in memory while the loop runs. It does not move anything out of a conditional. So the
    function is called in a conditional whose condition, that the index is not negative, always holds.
    """

    def nothing(*arguments: Any) -> R:
        shapes = jax.eval_shape(function, *arguments)
        zeros = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype, out_sharding=like.sharding), shapes)
        return varying_alike(arguments, zeros)

    def whole(*arguments: Any) -> R:
        return varying_alike(arguments, function(*arguments))

    return lax.cond(index >= 0, whole, nothing, *arguments)


def repeat(count: int, body: Callable[[Any, R], R], carry: R) -> R:
    """``body(i, carry)`` for i from 0 to count - 1, in a loop whose length JAX does not know.

    Out of a loop whose length it knows, JAX (0.10 to 0.12) moves what depends on the index alone, as one array for all
    passes: slices of a weight, say, which are then a copy of the weight. The barrier hides the length.
    """
    return lax.fori_loop(0, lax.optimization_barrier(jnp.int32(count)), body, carry)
