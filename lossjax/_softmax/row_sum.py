"""How a row is summed: the exponential of an exact difference, and the sum of a row's exponentials without one class.

Nothing here knows of losses, labels or derivatives; ``row_statistics.py`` says what the sums are for.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core import sharding
from lossjax._core.platform import by_platform
from lossjax._core.xla import total


def class_index(z: Array, dtype: Any, axis: int = -1) -> Array:
    """The index of each entry's class among those held here. Compare with it: a sharded axis must not be gathered."""
    alike = jax.typeof(z).sharding  # where the mesh is explicit, an array of the same shape must be sharded alike
    return lax.broadcasted_iota(dtype, z.shape, axis % z.ndim, out_sharding=alike)


def class_count(z: Array, over: str | None) -> int:
    """On all devices."""
    return z.shape[-1] if over is None else z.shape[-1] * lax.axis_size(over)


def sum_over_classes(x: Array, over: str | None = None) -> Array:
    """Class axis kept. (Of more than one row XLA forms no dot product; what is added there would be stored.)"""
    one_row = all(size == 1 for size in x.shape[:-1])
    here = total(x, keepdims=True) if one_row else jnp.sum(x, axis=-1, keepdims=True)
    return here if over is None else lax.psum(here, over)


@jax.jit
def shifted_exponential(z: Array, maximum: Array) -> Array:
    """``exp(z - maximum)`` in the maximum's dtype, exactly 1 at the maximum (infinite or not).

    The rounding error e of the difference is folded back in, exp(d + e) = exp(d)(1 + e) to e² < u: without it an
    entry with a gap of g is off by g·u.

    Infinities have no rounding error. So the logits are cut off: at the largest number, and for the error at the lowest
    whose distance to the maximum is a number. (By selects, which keep a NaN: inside a fusion XLA's CPU backend may
    answer it with the other operand of a minimum.)
    """
    largest = float(jnp.finfo(maximum.dtype).max)
    ceiling = jnp.clip(maximum, -largest, largest)
    floor = jnp.maximum(ceiling, 0) - largest
    wide = z.astype(maximum.dtype)
    capped = jnp.where(wide > largest, largest, wide)
    lifted = jnp.where(capped < floor, floor, capped)
    exponential = jnp.exp(capped - ceiling)
    return exponential + exponential * difference_error(lifted, ceiling)


def difference_error(z: Array, maximum: Array) -> Array:
    """What the rounding leaves of z - m: e = (z - m) - d with d the rounded difference, for finite z <= m.

    Four operations an entry, where Knuth's two-sum has six, because what is known of the row is used once a row.
    With m = a + f,

        t = d + a = z - f - e        e = (z - t) - f.

    m <= 0: a = 0 and t = d. Since |z| >= |m|, z - d is exact (Dekker), and so is e.
    m > 0: a is m rounded down to a multiple of G, so that 0 <= f < G; and G is such that |d| < G/u for every entry
      whose exponential is not 0. If t is exact, then z - t = f + e is a sum of two small numbers, and what is missing
      of e is 2 G u at most. And t is exact: it is a multiple of the last bit of d, and of a size that has it.
      For z < 0, |t| <= |d|.  For z > m/2, d is exact, and t = z - f <= z has no bit below those of z.
      In between |t| <= z <= |d|.
    """
    info = jnp.finfo(z.dtype)
    reach = 2.0 ** math.ceil(math.log2(-2 * math.log(float(info.tiny))))  # twice the gap at which exp underflows
    grid = reach * float(info.eps) / 2
    above = jnp.maximum(maximum, 0)
    # From reach on the bits of m are multiples of G already.
    coarse = jnp.where(above < reach, jnp.floor(above / grid) * grid, above)
    return (z - ((z - maximum) + coarse)) - (maximum - coarse)


def others(z: Array, index: Array, maximum: Array) -> Array:
    """:func:`shifted_exponential`, with 0 for the class of this index."""
    return jnp.where(class_index(z, index.dtype) == index, 0, shifted_exponential(z, maximum))


def sum_of_others(term: Callable[..., Array], index: Array, arrays: tuple[Array, ...], rows: Any) -> Array:
    """``Σ_{j≠i} term(arrays_j, rows)``, with the class axis kept; nothing of the arrays' size is stored.

    Args:
      term: an elementwise function of one array for each of ``arrays``, and of the rows' numbers: ``term(*arrays,
        rows)``. It is traced once for each function object: give one that is defined at the top of a module.
      index: the class i to leave out, ``[..., 1]``; the whole sum for an index that is not a class.
      arrays: floats ``[..., C]``, of the dtype of the term or narrower.
      rows: a pytree of arrays ``[..., 1]``, in the dtype of the term.
    """
    if not _are_cut(term, arrays, rows):
        return _whole(term, index, arrays, rows)
    cpu, otherwise = (functools.partial(function, term) for function in (_by_pieces, _whole))
    return by_platform(index, arrays, rows, cpu=cpu, otherwise=otherwise)


def _are_cut(term: Callable[..., Array], arrays: tuple[Array, ...], rows: Any) -> bool:
    """Whether a CPU sums these rows by pieces."""
    dtype = jax.eval_shape(term, *arrays, rows).dtype
    # Of a short row's terms of several arrays, pieces make a program that is too long: KL and its gradient of
    # (65536, 10) take 1.2 times as long in float32, twice as long in bfloat16, and compile for twice as long.
    return _pieces(arrays[0], dtype) is not None and (len(arrays) == 1 or arrays[0].shape[-1] > SHORT_ROW)


def _whole(term: Callable[..., Array], index: Array, arrays: tuple[Array, ...], rows: Any) -> Array:
    """The sum as one masked reduction, which GPU and TPU compile to one loop together with everything in it."""
    is_left_out = class_index(arrays[0], index.dtype) == index
    return sum_over_classes(jnp.where(is_left_out, 0, term(*arrays, rows)))


def _by_pieces(term: Callable[..., Array], index: Array, arrays: tuple[Array, ...], rows: Any) -> Array:
    """The same sum in a form that XLA's CPU backend compiles to one loop.

    XLA's CPU backend (JAX 0.10 to 0.12) gives every reduction to a library that passes over a row once per operation
    and cannot take a select into a pass. The ten operations of an exact exponential then cost more than the exponential
    itself, and the mask costs an array of the exponentials. In a loop that LLVM compiles, all operations of an entry
    happen at once. So each row is cut into pieces, and the pieces are added elementwise in one such loop; the addition
    stands inside the mask's select, where the library does not find it. What is left for the library to sum is one
    piece per block, an eighth to a twelfth of the row.
    """
    dtype = jax.eval_shape(term, *arrays, rows).dtype
    # What two sums have in common, their exponentials or their masks, would be computed once, and stored.
    index, rows = lax.optimization_barrier((index, rows))
    classes = arrays[0].shape[-1]
    blocks, width = _pieces(arrays[0], dtype) or (1, classes)
    length = classes // blocks
    whole = [array.reshape(*array.shape[:-1], blocks, length) for array in arrays]
    size = lax.full_like(index, length)
    # An index that is not a class is in no block, or at a negative place.
    number, within = lax.div(index, size)[..., None], lax.rem(index, size)[..., None]
    rows = jax.tree.map(lambda row: row[..., None], rows)
    added = jnp.zeros_like(whole[0][..., :width], dtype)
    for first in range(0, length, width):
        start = min(first, length - width)  # the last piece overlaps the one before
        pieces = tuple(array[..., start : start + width] for array in whole)
        added = _with_piece(term, added, pieces, number, within - start, rows, skip_first=first - start)
    return sum_over_classes(jnp.sum(added, axis=-1))


@functools.partial(jax.jit, static_argnames=("term", "skip_first"))
def _with_piece(
    term: Callable[..., Array], added: Array, pieces: Any, number: Array, within: Array, rows: Any, *, skip_first: int
) -> Array:
    """Add one more piece of each block, without its first entries where they have been added before.

    It is jitted so that JAX traces it once for all pieces of one width.
    """
    place = class_index(added, within.dtype)
    apart = (class_index(added, number.dtype, -2) == number) & (place == within)
    apart = apart | (place < skip_first) if skip_first else apart
    return jnp.where(apart, added, added + term(*pieces, rows))


def _argmax(z: Array) -> Array:
    return jnp.argmax(z, axis=-1, keepdims=True)


def _argmax_by_pieces(z: Array) -> Array:
    """The same in a form that XLA's CPU backend vectorises.

    Its own argmax (JAX 0.10 to 0.12) goes from entry to entry, and takes seven times as long as the exponentials of a
    row. So this is the least index at which a logit equals the maximum. The barrier makes the logits that are compared
    those that the maximum was taken of; without it, a row whose logits are computed twice may have none that is equal.
    """
    classes = z.shape[-1]
    blocks, width = _pieces(z, z.dtype) or (1, classes)
    length = classes // blocks
    z = lax.optimization_barrier(z)
    maximum = jnp.max(z, axis=-1, keepdims=True)[..., None]
    whole = z.reshape(*z.shape[:-1], blocks, length)
    least = jnp.full_like(whole[..., :width], classes - 1, jnp.int32)
    here = class_index(least, jnp.int32) + length * class_index(least, jnp.int32, -2)
    for first in range(0, length, width):
        start = min(first, length - width)
        is_maximum = (whole[..., start : start + width] == maximum) & (here + start < least)
        least = jnp.where(is_maximum, here + start, least)
    return jnp.min(least, axis=(-2, -1))[..., None].astype(jax.eval_shape(_argmax, z).dtype)


class Reductions(NamedTuple):
    """The two reductions of a row of logits that a CPU has a form of its own for."""

    sum_of_others: Callable[..., Array]
    """As the function of this name."""
    index_of_maximum: Callable[[Array], Array]
    """The index of a maximum over the last axis, which is kept as 1; any class for a row with NaN."""

    def sum_without(self, z: Array, index: Array, maximum: Array, *, reused: bool = False) -> Array:
        """``Σ_{j≠i} exp(z_j - m)``, with the class axis kept; the whole sum for an index that is not a class.

        Args:
          z: logits ``[..., C]``, of the dtype of ``maximum`` or narrower.
          index: the class i to leave out, ``[..., 1]``.
          maximum: m, ``[..., 1]``.
          reused: whether the caller wants the exponentials once more: then one array of them serves both.
        """
        summed = _whole if reused else self.sum_of_others
        return summed(shifted_exponential, index, (z,), maximum)


def _sum_on_cpu(term: Callable[..., Array], index: Array, arrays: tuple[Array, ...], rows: Any) -> Array:
    return (_by_pieces if _are_cut(term, arrays, rows) else _whole)(term, index, arrays, rows)


def _argmax_on_cpu(z: Array) -> Array:
    return _argmax(z) if _pieces(z, z.dtype) is None or z.shape[-1] <= SHORT_ROW else _argmax_by_pieces(z)


ON_CPU = Reductions(_sum_on_cpu, _argmax_on_cpu)
DEFINITION = Reductions(_whole, _argmax)


# How rows are cut, measured on two CPU cores by `python benchmarks/row_sum.py` (JAX 0.10.2):
SHORT_ROW = 20
"""Up to this many classes of 32 bits or more the pieces are single entries: the whole sum is one loop."""
SHORT_NARROW_ROW = 192
"""LLVM makes slow loops of short pieces of 16-bit logits: rows below this width are summed whole."""
TRIPLES = range(6, 13)
"""These 16-bit rows are the exception: pieces of three are fast."""
MOST_PIECES = 12
"""Of twice as many pieces XLA stores a wider copy of 16-bit logits, and compiles for twice as long."""
LANES = 16
"""Piece widths are multiples of this many entries, which LLVM vectorises in every dtype."""
SHORTEST_BLOCK = 96
"""A partitioner that splits the classes unseen, into 2ⁿ parts of at least this many, must not find a block on two
devices; so rows are halved into blocks until the blocks are about this short."""


def _pieces(z: Array, dtype: Any) -> tuple[int, int] | None:
    """Into how many blocks to cut a row, and the width of the pieces that are added of each; None: not at all.

    The terms of the sum are of ``dtype``.
    """
    classes, devices, narrow = z.shape[-1], sharding.split_count(z), z.dtype != dtype
    if not isinstance(classes, int):  # a symbolic dimension of jax.export
        return None
    if devices == 1 and classes <= SHORT_ROW and not narrow:
        return 1, 1
    if narrow and classes < SHORT_NARROW_ROW:
        return (1, 3) if devices == 1 and classes in TRIPLES else None
    blocks = devices
    while classes % (2 * blocks) == 0 and classes // (2 * blocks) >= SHORTEST_BLOCK:
        blocks *= 2
    length = classes // blocks
    width = min(length, LANES * -(-length // (LANES * MOST_PIECES)))
    return None if width == length else (blocks, width)
