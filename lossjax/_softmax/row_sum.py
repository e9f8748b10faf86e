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
from lossjax._core.whole_rows import compiler_makes_the_kernel
from lossjax._core.xla import closed_off, total
from lossjax._softmax.pieces import FEW_CLASSES, SHORT_ROW, cut, floating_apart, part_of, pieces_of

Arrays = tuple[Any, ...]
"""Arrays of one entry per class, or None in place of one."""


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


def sum_of_others(term: Callable[..., Array], index: Array, arrays: Arrays, rows: Any) -> Array:
    """``Σ_{j≠i} term(arrays_j, rows)``, with the class axis kept; nothing of the arrays' size is stored.

    Args:
      term: an elementwise function of one array for each of ``arrays``, and of the rows' numbers: ``term(*arrays,
        rows)``. It is traced once for each function: give one that is defined at the top of a module, or that is equal
        to another of the same meaning.
      index: the class i to leave out, ``[..., 1]``; the whole sum for an index that is not a class.
      arrays: ``[..., C]``, the first of them of the dtype of the term or narrower; of the others some may have a size
        of 1 in place of the rows, and some may be None.
      rows: a pytree of arrays ``[..., 1]``, or of numbers, in the dtype of the term.
    """
    form = _form_on_cpu(arrays, jax.eval_shape(term, *arrays, rows).dtype)
    if form is whole_sum_of_others:
        return form(term, index, arrays, rows)
    cpu, otherwise = (functools.partial(function, term) for function in (form, whole_sum_of_others))
    return by_platform(index, arrays, rows, cpu=cpu, otherwise=otherwise)


def _form_on_cpu(arrays: Arrays, dtype: Any) -> Callable[..., Array]:
    """The form of the sum of these rows' terms, of this dtype, that is fastest on a CPU."""
    if are_cut(arrays, dtype):
        return _by_pieces
    return _class_by_class if are_short(arrays) else whole_sum_of_others


def are_short(arrays: Arrays) -> bool:
    """Whether a CPU takes these rows, of several arrays, class by class."""
    first, *more = arrays
    return bool(more) and pieces_of(first, first.dtype) == (1, 1) and first.shape[-1] <= FEW_CLASSES


def are_cut(arrays: Arrays, dtype: Any) -> bool:
    """Whether a CPU sums terms of these rows, of this dtype, by pieces."""
    # Of several arrays that an explicit mesh splits, XLA gathers what the pieces share.
    first, *more = arrays
    if pieces_of(first, dtype) is None or are_short(arrays):
        return False
    return not (more and sharding.split_count(first) > 1)


def whole_sum_of_others(term: Callable[..., Array], index: Array, arrays: Arrays, rows: Any) -> Array:
    """The sum as one masked reduction, which GPU and TPU compile to one loop together with everything in it.

    On a CPU the terms are stored. That pays where they are wanted once more: then one array of them serves both.
    """
    is_left_out = class_index(arrays[0], index.dtype) == index
    return sum_over_classes(jnp.where(is_left_out, 0, term(*arrays, rows)))


def largest_of(term: Callable[..., Array], arrays: Arrays, rows: Any) -> Array:
    """``max_j term(arrays_j, rows)``, as :func:`sum_of_others` is the sum. A NaN may be lost."""
    if not _is_compared_by_pieces(arrays[0]):
        return _whole_largest(term, arrays, rows)
    cpu, otherwise = (functools.partial(function, term) for function in (_largest_by_pieces, _whole_largest))
    return by_platform(arrays, rows, cpu=cpu, otherwise=otherwise)


def _is_compared_by_pieces(z: Array) -> bool:
    # Of what an explicit mesh splits, XLA would gather the pieces.
    return sharding.split_count(z) == 1 and pieces_of(z, z.dtype) is not None and z.shape[-1] > SHORT_ROW


def _whole_largest(term: Callable[..., Array], arrays: Arrays, rows: Any) -> Array:
    return jnp.max(term(*arrays, rows), axis=-1, keepdims=True)


def _largest_by_pieces(term: Callable[..., Array], arrays: Arrays, rows: Any) -> Array:
    arrays, rows = lax.optimization_barrier((arrays, rows))  # as in a sum; and pieces in common would be stored, too
    blocks, length, pieces = cut(arrays, arrays[0].dtype)
    whole = jax.tree.map(lambda array: array.reshape(*array.shape[:-1], blocks, length), arrays)
    rows = jax.tree.map(lambda row: row[..., None] if row.ndim else row, rows)
    each = [term(*part_of(whole, start, width), rows) for _, start, width in pieces]
    # By selects, which XLA's library of arithmetic does not take: it would be given an array of each piece's terms.
    largest = functools.reduce(lambda a, b: jnp.where(b > a, b, a), each)
    return jnp.max(largest, axis=(-2, -1))[..., None]


def _by_pieces(term: Callable[..., Array], index: Array, arrays: Arrays, rows: Any) -> Array:
    """The same sum in a form that XLA's CPU backend compiles to one loop.

    XLA's CPU backend (JAX 0.10 to 0.12) gives every reduction to a library that passes over a row once per operation
    and cannot take a select into a pass. The ten operations of an exact exponential then cost more than the exponential
    itself, and the mask costs an array of the exponentials. In a loop that LLVM compiles, all operations of an entry
    happen at once. So each row is cut into pieces, and the pieces are added elementwise in one such loop; the addition
    stands inside the mask's select, where the library does not find it. What is left for the library to sum is one
    piece per block, an eighth to a twelfth of the row.
    """
    dtype = jax.eval_shape(term, *arrays, rows).dtype
    # What two sums have in common, their exponentials, masks or pieces, would be computed once, and stored.
    # (Not so the indices of the classes, which are formed where they are used, and are an array behind a barrier.)
    real, rest = floating_apart(arrays)
    index, real, rows = lax.optimization_barrier((index, real, rows))
    arrays = tuple(rest if one is None else one for one, rest in zip(real, rest, strict=True))
    blocks, length, pieces = cut(arrays, dtype)
    whole = jax.tree.map(lambda array: array.reshape(*array.shape[:-1], blocks, length), arrays)
    size = lax.full_like(index, length)
    # An index that is not a class is in no block, or at a negative place.
    number, within = lax.div(index, size)[..., None], lax.rem(index, size)[..., None]
    rows = jax.tree.map(lambda row: row[..., None] if row.ndim else row, rows)
    added = jnp.zeros_like(whole[0][..., : pieces[0][-1]], dtype)
    for first, start, width in pieces:
        piece = part_of(whole, start, width)
        added = _with_piece(term, added, piece, number, within - start, rows, skip_first=first - start)
    return closed_off(sum_over_classes(jnp.sum(added, axis=-1)), index)


def _class_by_class(term: Callable[..., Array], index: Array, arrays: Arrays, rows: Any) -> Array:
    """The same sum in a loop over the classes, of many short rows at once.

    Short rows leave LLVM no loop that is worth vectorising, and pieces of one entry of several arrays a program that is
    too long. Here a pass adds one class of all rows.
    """
    none = jnp.zeros_like(index, jax.eval_shape(term, *arrays, rows).dtype)

    def with_class(added: Array, number: Array) -> tuple[Array, None]:
        return jnp.where(index == number, added, added + term(*_class_at(number, arrays), rows)), None

    return lax.scan(with_class, none, jnp.arange(arrays[0].shape[-1], dtype=index.dtype))[0]


def _class_at(number: Array, arrays: Arrays) -> Arrays:
    return jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, number, 1, -1), arrays)


def of_each_class(terms: Callable[..., Any], arrays: Arrays, rows: Any) -> Any:
    """``terms(*arrays, rows)``, a pytree of arrays ``[..., C]``, each entry of which is one class's."""
    if not are_short(arrays):
        return terms(*arrays, rows)
    cpu, otherwise = (functools.partial(function, terms) for function in (_each_class_by_itself, _all_classes_at_once))
    return by_platform(arrays, rows, cpu=cpu, otherwise=otherwise)


def _all_classes_at_once(terms: Callable[..., Any], arrays: Arrays, rows: Any) -> Any:
    return terms(*arrays, rows)


def _each_class_by_itself(terms: Callable[..., Any], arrays: Arrays, rows: Any) -> Any:
    each = lax.map(lambda number: terms(*_class_at(number, arrays), rows), jnp.arange(arrays[0].shape[-1]))
    return jax.tree.map(lambda x: jnp.moveaxis(x[..., 0], 0, -1), each)


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


def shown(z: Array, valid: Array | None) -> Array:
    """The logits, 0 in the rows that do not count; ``valid`` is ``[..., 1]``, or None if every row counts."""
    return z if valid is None else jnp.where(valid, z, 0)


def _shown_wide(z: Array, valid: Array | None) -> Array:
    """In 32 bits or more: XLA's CPU backend stores 16-bit pieces that are compared."""
    x = shown(z, valid)
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def _maximum(z: Array, valid: Array | None) -> Array:
    return jnp.max(shown(z, valid), axis=-1, keepdims=True)


def _maximum_on_cpu(z: Array, valid: Array | None) -> Array:
    if valid is None or not _is_compared_by_pieces(z):
        return _maximum(z, valid)
    return _largest_by_pieces(_shown_wide, (z,), valid).astype(z.dtype)


def _argmax(z: Array, valid: Array | None = None) -> Array:
    z = shown(z, valid)
    if not compiler_makes_the_kernel():
        return jnp.argmax(z, axis=-1, keepdims=True)
    here = class_index(z, jnp.int32)
    equal = z == jnp.max(z, axis=-1, keepdims=True)
    return jnp.min(jnp.where(equal, here, NO_CLASS), axis=-1, keepdims=True)


NO_CLASS = 2**31 - 1
"""The index of the maximum of a row that has no entry equal to it: one with NaN, or computed twice."""


def _argmax_by_pieces(z: Array, valid: Array | None = None) -> Array:
    """The same in a form that XLA's CPU backend vectorises.

    Its own argmax (JAX 0.10 to 0.12) goes from entry to entry, and takes seven times as long as the exponentials of a
    row. So this is the least index at which a logit equals the maximum. The barrier makes the logits that are compared
    those that the maximum was taken of; without it, a row whose logits are computed twice may have none that is equal.
    """
    blocks, length, pieces = cut((z,), z.dtype)
    z = lax.optimization_barrier(z)
    maximum = _shown_wide(_maximum_on_cpu(z, valid), None)[..., None]
    valid_blocks = None if valid is None else valid[..., None]
    whole = z.reshape(*z.shape[:-1], blocks, length)
    least = jnp.full_like(whole[..., : pieces[0][-1]], z.shape[-1] - 1, jnp.int32)
    here = class_index(least, jnp.int32) + length * class_index(least, jnp.int32, -2)
    for _, start, width in pieces:
        is_maximum = (_shown_wide(whole[..., start : start + width], valid_blocks) == maximum) & (here + start < least)
        least = jnp.where(is_maximum, here + start, least)
    return jnp.min(least, axis=(-2, -1))[..., None].astype(jax.eval_shape(_argmax, z, valid).dtype)


class Reductions(NamedTuple):
    """The reductions of a row of logits that a CPU has a form of its own for."""

    sum_of_others: Callable[..., Array]
    """As the function of this name."""
    maximum: Callable[[Array, Array | None], Array]
    """The maximum over the last axis, which is kept as 1, of the logits as :func:`shown`; a NaN may be lost."""
    index_of_maximum: Callable[..., Array]
    """The index of that maximum; any class for a row with NaN."""


def _sum_on_cpu(term: Callable[..., Array], index: Array, arrays: Arrays, rows: Any) -> Array:
    return _form_on_cpu(arrays, jax.eval_shape(term, *arrays, rows).dtype)(term, index, arrays, rows)


def _argmax_on_cpu(z: Array, valid: Array | None = None) -> Array:
    return (_argmax if pieces_of(z, z.dtype) is None or z.shape[-1] <= SHORT_ROW else _argmax_by_pieces)(z, valid)


ON_CPU = Reductions(_sum_on_cpu, _maximum_on_cpu, _argmax_on_cpu)
DEFINITION = Reductions(whole_sum_of_others, _maximum, _argmax)
