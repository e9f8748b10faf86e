"""Ways round a compiler: each is named for its effect, and says what goes wrong without it, and on which versions.

For every function here ``tests/core/test_xla.py`` has a test that shows the symptom, and that fails on the first
version of JAX that does not have it: then the function can go.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from lossjax._core.masks import nan_unless
from lossjax._core.platform import by_platform
from lossjax._core.sharding import varying_axes
from lossjax._core.whole_rows import compiler_makes_the_kernel

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


def unstored_nan_unless(defined: Array, array: Array) -> Array:
    """:func:`nan_unless` of booleans of the array's shape, by a factor that a program for a GPU does not store.

    What two kernels want and is as dear as a root, XLA's GPU compiler (JAX 0.12) computes once: the value and the
    gradient of a loss of two arrays then write one more and read it (seen for a B200, and for an H100 in 16 bits).
    There the factor is not ±√1, but 1 or 0 ∞.
    """
    return by_platform(defined, array, otherwise=nan_unless, accelerator=_nan_unless_by_infinity)


def _nan_unless_by_infinity(defined: Array, array: Array) -> Array:
    return array * (1 + 0 * jnp.where(defined, 1.0, jnp.inf).astype(array.dtype))


# --- constants that stay apart ---------------------------------------------------------------------------------------


def less_constant(x: Array, high: float, low: float) -> Array:
    """``(x - high) - low``, in this order.

    XLA (JAX 0.10; 0.12 does not) adds the two constants first. But of a constant given in two parts, the first
    of which x - high holds exactly, the second is what counts where the two nearly cancel. A select by x hides it.
    """
    return (x - high) - jnp.where(jnp.isnan(x), x, low)


# --- a sum whose terms stay what they are ----------------------------------------------------------------------------


def total(x: Array, *, axis: int | None = -1, keepdims: bool = False) -> Array:
    """The sum over the last axis, or with ``axis=None`` of everything.

    XLA's CPU backend takes two kinds of sums one term after the other, or 16 at a time. In float64 it computes the sum
    of a constant while it compiles (JAX 0.10 to 0.12). And products of one row alone it sums as a dot product (JAX
    0.10), also in float32. Of 50,000 numbers one of which is large, either loses hundreds of units, where other sums
    lose two or three. What a number is added to that is known later alone, is neither.

    (The same of a tangent is up to JAX, which forms its sum.)
    """
    return jnp.sum(x + lax.optimization_barrier(jnp.zeros((), x.dtype)), axis=axis, keepdims=keepdims)


def closed_off(of_row: Array, index: Array) -> Array:
    """A sum over the classes, such that XLA's CPU backend stores no operand of the arithmetic that is done with it.

    It gives a sum, together with that arithmetic, to a library that stores each operand in an array of the row's size
    (JAX 0.10 to 0.12). The library cannot take a select, here one by an index that no row has.
    """
    if compiler_makes_the_kernel():
        return of_row
    return jnp.where(index == jnp.iinfo(index.dtype).min, 0, of_row)


# --- a few numbers a row ---------------------------------------------------------------------------------------------


def written_down(numbers: Any) -> Any:
    """A few numbers a row, which stand in memory before anything is made of them. Two things go wrong without it.

    Of exponentials that two sums want, or a sum and a result, XLA's GPU backend (JAX 0.10 to 0.12) stores an array of
    the logits' size, and reads it twice, where each has room for exponentials of its own. Made of numbers that have
    been written down each by itself, they are not known to be the same.

    And it puts the formulas of such numbers into each loop that uses them, one inside the other: it compiles for
    minutes.

    Behind one barrier ``jax.shard_map`` takes all numbers to vary where one does. So those that vary alike have one.
    """
    leaves, structure = jax.tree.flatten(numbers)
    axes = [varying_axes(leaf) for leaf in leaves]
    for kind in dict.fromkeys(axes):
        alike = [i for i, found in enumerate(axes) if found == kind]
        for i, leaf in zip(alike, lax.optimization_barrier([leaves[i] for i in alike]), strict=True):
            leaves[i] = leaf
    return jax.tree.unflatten(structure, leaves)


def known_anew(x: Array, number: int = 0) -> Array:
    """The same numbers, which XLA does not know to be the same: what is made of them, it computes, and does not store.

    By another number they are others again: equal barriers are one.

    What a forward and a backward pass both make of their arguments, XLA's GPU backend (JAX 0.10 to 0.12) computes once
    where it takes it to be dear, such as a softcap's tanh or a binary focal loss's exponentials, and stores an array of
    the arguments' size. Made of what is another number as far as it knows, there are two, and each is computed where it
    is used.
    """
    power = lax.optimization_barrier(jnp.asarray(2.0**number, x.dtype))
    return x * (power * 2.0**-number)


def known_anew_on_chips(x: Array) -> Array:
    """:func:`known_anew` in programs for GPU and TPU. On a CPU it would cost half as much again, and cure nothing."""
    return by_platform(x, otherwise=_as_it_is, accelerator=known_anew)


def _as_it_is(x: Array) -> Array:
    return x


# --- one kernel of whole rows ----------------------------------------------------------------------------------------
# XLA's GPU compiler (JAX 0.12) makes one kernel of a softmax, which has its rows on the chip: each is read once, and
# the result is written once. It looks for a reduction that is combined with what was reduced, as the last thing that is
# done, and takes into the kernel what stands in front, reductions of the same rows included.


def one_kernel(result: Array) -> Array:
    """The same ``[..., C]``, with such an end, if it has none: no number of a row exceeds the row's maximum."""
    largest_of_row = jnp.max(result, axis=-1, keepdims=True)
    return jnp.where(result > largest_of_row, 0, result)


def is_finite(x: Array) -> Array:
    """``jnp.isfinite``, which no such kernel has."""
    return jnp.abs(x) < jnp.inf if compiler_makes_the_kernel() else jnp.isfinite(x)


# --- a slice of 16-bit numbers ---------------------------------------------------------------------------------------


def sliced(x: Array, first: ArrayLike, size: int, axis: int) -> Array:
    """``lax.dynamic_slice_in_dim``, of which no derivative is taken.

    XLA's CPU backend (JAX 0.10; 0.12 does not) makes 16-bit numbers wider before it slices them, all of the array, and
    the slice narrow again; in a loop that is a second, larger array. The bits it slices as they are.
    """
    if x.dtype.itemsize != 2:
        return lax.dynamic_slice_in_dim(x, first, size, axis)
    bits = lax.dynamic_slice_in_dim(lax.bitcast_convert_type(x, jnp.uint16), first, size, axis)
    return lax.bitcast_convert_type(bits, x.dtype)


# --- a product of 16-bit numbers, in batches -------------------------------------------------------------------------


def contracted(a: Array, b: Array, axis: int, layout: NamedSharding, **how: Any) -> Array:
    """The product of two matrices that sums over this axis of both, laid out so; ``how`` goes to ``lax.dot_general``.

    Of 16-bit numbers with results in 32, XLA's CPU backend (JAX 0.10 to 0.12) does not execute aᵀb where ``jax.vmap``
    gives b a batch and a none. So it is (bᵀa)ᵀ, with the factor first that may have a batch alone, which is b.
    """
    dims = (((axis,), (axis,)), ((), ()))
    if axis == 1:
        return lax.dot_general(a, b, dims, out_sharding=layout, **how)
    rows, columns = (*layout.spec, None, None)[:2]
    turned = NamedSharding(layout.mesh, PartitionSpec(columns, rows))
    return lax.dot_general(b, a, dims, out_sharding=turned, **how).T
