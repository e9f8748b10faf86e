"""How a row is summed: the exponential of an exact difference, and the sum of a row's exponentials without one class.

Nothing here knows of losses, labels or derivatives; ``row_statistics.py`` says what the sums are for.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core import sharding


def class_index(z: Array, dtype: Any, axis: int = -1) -> Array:
    """The index of each entry's class among those held here. Compare with it: a sharded axis must not be gathered."""
    alike = jax.typeof(z).sharding  # where the mesh is explicit, an array of the same shape must be sharded alike
    return lax.broadcasted_iota(dtype, z.shape, axis % z.ndim, out_sharding=alike)


def class_count(z: Array, over: str | None) -> int:
    """On all devices."""
    return z.shape[-1] if over is None else z.shape[-1] * lax.axis_size(over)


def sum_over_classes(x: Array, over: str | None = None) -> Array:
    """Class axis kept."""
    total = jnp.sum(x, axis=-1, keepdims=True)
    return total if over is None else lax.psum(total, over)


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


def sum_without(z: Array, index: Array, maximum: Array, *, reused: bool = False) -> Array:
    """``Σ_{j≠i} exp(z_j - m)``, class axis kept; the whole sum for an index that is no class.

    XLA's CPU backend leaves a sum to a library that goes over a row once for each operation of an entry, and knows no
    select: the ten of an exact exponential cost more than the exponential, and the mask an array of them all. Its own
    loops have every operation of an entry at once. So pieces of a row are added in one such loop, the addition within
    the mask's select, where the library does not find it; and the library sums what is left, an eighth to a twelfth.
    """
    blocks, width = _pieces(z.shape[-1], sharding.split_count(z), z.dtype != maximum.dtype)
    length = z.shape[-1] // blocks
    if reused or width == length:
        return sum_over_classes(others(z, index, maximum))
    whole = z.reshape(*z.shape[:-1], blocks, length)
    size = lax.full_like(index, length)
    # What is no class is in no block, or at a negative place.
    number, within = lax.div(index, size)[..., None], lax.rem(index, size)[..., None]
    total = jnp.zeros_like(whole[..., :width], maximum.dtype)
    for first in range(0, length, width):
        start = min(first, length - width)  # the last piece overlaps the one before
        piece = whole[..., start : start + width]
        total = _with_piece(total, piece, number, within - start, maximum[..., None], known=first - start)
    return sum_over_classes(jnp.sum(total, axis=-1))


@functools.partial(jax.jit, static_argnames="known")
def _with_piece(total: Array, piece: Array, number: Array, within: Array, maximum: Array, *, known: int) -> Array:
    """One more of each block's pieces, less its first entries if they are known. Compiled, so as to be traced once."""
    place = class_index(piece, within.dtype)
    apart = (class_index(piece, number.dtype, -2) == number) & (place == within)
    apart = apart | (place < known) if known else apart
    return jnp.where(apart, total, total + shifted_exponential(piece, maximum))


def _pieces(classes: int, devices: int, narrow: bool) -> tuple[int, int]:
    """Into how many blocks to cut a row, and the width of the pieces that are added of each; its length, if none are.

    The blocks are so many that none lies on two devices, whether an explicit mesh says how many there are or a
    partitioner splits the classes unseen, into 2ⁿ parts of 96 or more. Twelve pieces at most: of twice as many XLA
    stores a wider copy of 16-bit logits, and compiles for twice as long.
    """
    if jax.default_backend() != "cpu":  # elsewhere the sum and all that is in it are one loop
        return 1, classes
    if devices == 1 and classes <= 20 and not narrow:
        return 1, 1
    if narrow and classes < 192:  # LLVM makes slow loops of short pieces of 16 bits, but for three numbers
        return 1, 3 if devices == 1 and 6 <= classes <= 12 else classes
    blocks = devices
    while classes % (2 * blocks) == 0 and classes // (2 * blocks) >= 96:
        blocks *= 2
    length = classes // blocks
    return blocks, min(length, 16 * -(-length // 192))
