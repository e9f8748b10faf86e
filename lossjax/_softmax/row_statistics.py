"""What a softmax needs to know of a row: its statistics about one class, and the formulas made of them.

Leave one class i, the pivot, out of the sum. With m = max z, E_j = exp(z_j - m), own = E_i and rest = Σ_{j≠i} E_j,

    p_j = E_j/(own + rest)      p_i - 1 = -rest/(own + rest)      -log p_k = (m - z_k) + log1p((own - 1) + rest)

hold whichever class the pivot is, and cancel nowhere if it is the label (then its p - 1 is what is wanted) or a
maximum (then no other p exceeds 1/2, and own = 1). The pivot is an index, never the test "z equals its maximum": logits
that a fusion computes twice may differ in their last bit, and a test that no entry passes would lose the row.

The maximum is a constant to every derivative: all of the above holds with any number for m.

**Classes over devices.** Under ``shard_map`` a device may hold a part of each row. ``over`` is then the mesh axis that
the classes are split over. Everything above stands; a sum over the classes is a sum over that axis as well, a maximum
a maximum, and the pivot, counted from the first class held here, is outside the range of all devices but one.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax


class Plan(NamedTuple):
    """How the sums over the classes are formed.

    ``over`` is the mesh axis that the classes are split over. ``stored``: the exponentials are wanted twice, here and
    in :func:`p_of`, so XLA is to make one array of them (in a backward pass it becomes the gradient's own).
    """

    over: str | None = None
    stored: bool = False


ONE_DEVICE = Plan()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """Per-row statistics, class axis kept as 1: the pivot and its logit, the maximum, the parts of Σ exp(z - m)."""

    pivot: Array
    logit: Array
    maximum: Array
    own: Array
    rest: Array
    plan: Plan = dataclasses.field(default=ONE_DEVICE, metadata={"static": True})

    def __iter__(self) -> Iterator[Any]:
        return iter((self.pivot, self.logit, self.maximum, self.own, self.rest))

    @property
    def over(self) -> str | None:
        return self.plan.over

    def total(self) -> Array:
        """Σ exp(z - m)."""
        return self.own + self.rest

    def log_total(self) -> Array:
        """Its logarithm: to full relative accuracy if the pivot is a maximum, to u absolute otherwise."""
        return jnp.log1p((self.own - 1) + self.rest)

    def is_pivot(self, z: Array) -> Array:
        return class_index(z, self.pivot.dtype) == self.pivot

    def sum(self, x: Array) -> Array:
        """Over the classes, class axis kept."""
        return sum_over_classes(x, self.over)

    def at_pivot(self, x: Array) -> Array:
        """Of x, what stands at the pivot, class axis kept; exact, infinities included."""
        return self.sum(jnp.where(self.is_pivot(x), x, 0))

    def once(self, x: Array) -> Array:
        """What every device knows, where the devices' shares will be summed: x on one of them."""
        return x if self.over is None else _on_one_device(x, self.over)

    def shared(self, x: Array) -> Array:
        """The same x, where ``shard_map`` cannot know that all devices have the same."""
        return shared_number(x, self.over)

    def where(self, known: Array) -> "Rows":
        """NaN for the rows whose label is no class."""
        return dataclasses.replace(self, rest=jnp.where(known[..., None], self.rest, jnp.nan))

    def stopped(self) -> "Rows":
        return jax.tree.map(lambda part: lax.stop_gradient(part), self)


def _on_one_device(x: Array, over: str) -> Array:
    return jnp.where(lax.axis_index(over) == 0, x, jnp.zeros_like(x))


def shared_number(x: Array, over: str | None) -> Array:
    """See :meth:`Rows.shared`."""
    return x if over is None else lax.psum(_on_one_device(x, over), over)


def class_index(z: Array, dtype: Any, axis: int = -1) -> Array:
    """The index of each entry's class among those held here. Compare with it: a sharded axis must not be gathered."""
    sharding = jax.typeof(z).sharding  # where the mesh is explicit, an array of the same shape must be sharded alike
    return lax.broadcasted_iota(dtype, z.shape, axis % z.ndim, out_sharding=sharding)


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


def row_statistics(z: Array, pivot: Array | None = None, plan: Plan = ONE_DEVICE, dtype: Any = None) -> Rows:
    """The statistics of each row, about the class indices ``pivot`` (shape of the rows), or about a maximum.

    They are in ``dtype``, z's own by default. Logits of 16 bits are made wider where they are used, each time again:
    where several uses share one wider array, XLA stores it.

    A row with NaN, with two +inf, or with nothing but -inf has NaN for its parts.
    """
    over = plan.over
    largest_here = jnp.max(lax.stop_gradient(z), axis=-1, keepdims=True)
    maximum = (largest_here if over is None else lax.pmax(largest_here, over)).astype(dtype or z.dtype)
    if pivot is not None:
        index = pivot[..., None]
    else:
        index = jnp.argmax(z, axis=-1, keepdims=True)
        if over is not None:
            index = jnp.where(_is_first_with(largest_here.astype(maximum.dtype), maximum, over), index, -1)
    parts = _logit_at(z, index, over).astype(maximum.dtype), _sum_without(z, index, maximum, plan.stored)
    logit, rest = parts if over is None else lax.psum(parts, over)
    own = shifted_exponential(logit, maximum)
    # With a maximum of +inf every finite entry has E = 0, so that own + rest counts the infinities. XLA's maximum of a
    # long row may not be NaN for a NaN in it.
    defined = jnp.isfinite(maximum) | (jnp.isposinf(maximum) & (own + rest == 1))
    defined = defined & jnp.isfinite(rest) & ~jnp.isnan(logit)
    own, rest = (jnp.where(defined, part, jnp.nan) for part in (own, rest))
    return Rows(index, logit, maximum, own, rest, plan)


def labelled_rows(z: Array, labels: Array, plan: Plan = ONE_DEVICE, dtype: Any = None) -> Rows:
    """The statistics about the labels, NaN where a label is no class; over devices, labels count all classes."""
    over = plan.over
    first = 0 if over is None else lax.axis_index(over).astype(labels.dtype) * z.shape[-1]
    return row_statistics(z, labels - first, plan, dtype).where((labels >= 0) & (labels < class_count(z, over)))


def _is_first_with(here: Array, maximum: Array, over: str) -> Array:
    """Whether this is the first device to hold the maximum.

    An equality that decides: so the barrier, which makes the number that was sent the number that is compared.
    """
    devices = lax.axis_size(over)
    candidate = jnp.where(lax.optimization_barrier(here) == maximum, lax.axis_index(over), devices)
    return lax.axis_index(over) == lax.pmin(candidate, over)


def others(z: Array, index: Array, maximum: Array) -> Array:
    """:func:`shifted_exponential`, with 0 for the class of this index."""
    return jnp.where(class_index(z, index.dtype) == index, 0, shifted_exponential(z, maximum))


def _logit_at(z: Array, index: Array, over: str | None) -> Array:
    """``z_i``, class axis kept; where the classes are on several devices, 0 for an index that is no class here."""
    if over is not None or _split_over(z) > 1:
        return sum_over_classes(jnp.where(class_index(z, index.dtype) == index, z, 0))
    return jnp.take_along_axis(z, index, axis=-1, mode="clip")


def _sum_without(z: Array, index: Array, maximum: Array, stored: bool = False) -> Array:
    """``Σ_{j≠i} exp(z_j - m)``, class axis kept; the whole sum for an index that is no class.

    XLA's CPU backend leaves a sum to a library that goes over a row once for each operation of an entry, and knows no
    select: the ten of an exact exponential cost more than the exponential, and the mask an array of them all. Its own
    loops have every operation of an entry at once. So pieces of a row are added in one such loop, the addition within
    the mask's select, where the library does not find it; and the library sums what is left, an eighth to a twelfth.
    """
    blocks, width = _pieces(z.shape[-1], _split_over(z), z.dtype != maximum.dtype)
    length = z.shape[-1] // blocks
    if stored or width == length:
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


def _split_over(z: Array) -> int:
    """The number of devices that an explicit mesh splits the classes over: there a gather along them is refused."""
    sharding = jax.typeof(z).sharding
    names = sharding.spec[-1] if len(sharding.spec) == z.ndim else None
    if names is None:
        return 1
    return math.prod(sharding.mesh.shape[name] for name in (names if isinstance(names, tuple) else (names,)))


def gaps(z: Array, rows: Rows) -> Array:
    """``m - z_k``; 0 at the maximum, infinite or not.

    Without a select, which would keep XLA from summing these unstored: under a maximum of +inf the gap to the largest
    number is lifted to infinity.
    """
    largest = float(jnp.finfo(z.dtype).max)
    ceiling = jnp.clip(rows.maximum, -largest, largest)
    gap = ceiling - jnp.minimum(z, largest)
    gap = gap + lax.stop_gradient(jnp.maximum(-gap, 0))  # logits that are computed twice may exceed their maximum
    lift = jnp.minimum(gap, 1) * jnp.where(jnp.isposinf(rows.maximum), largest, 0)
    return gap + lift + lift


def surprisal(z: Array, rows: Rows) -> Array:
    """``-log p_k`` of the logits z (all, or the pivot's): the sum of two non-negative terms; a formula, not a rule."""
    return gaps(z, rows) + rows.log_total()


def p_of(z: Array, rows: Rows) -> Array:
    """``p``, a formula (rules use :func:`probabilities`)."""
    return jnp.where(rows.is_pivot(z), rows.own, others(z, rows.pivot, rows.maximum)) / rows.total()


def one_pivot_off(z: Array, rows: Rows) -> Array:
    """``p - e_i``, a formula (rules use :func:`residual_at_pivot`)."""
    total = rows.total()
    return jnp.where(rows.is_pivot(z), -rows.rest / total, others(z, rows.pivot, rows.maximum) / total)
