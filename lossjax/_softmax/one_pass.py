"""A row's statistics in one reading of its logits, for chips whose compiler fuses a reduction of several numbers.

With the maximum m known beforehand a row is read twice: for m, and for Σ exp(z - m). On a TPU or GPU the reading is
what a softmax costs. But two parts of a row, each with its own reference R and its sum S = Σ exp(z - R), make one:

    R = max(R₁, R₂)        S = S₁ e^(R₁ - R) + S₂ e^(R₂ - R)

which is associative. As a reduction of several numbers XLA fuses it, with everything elementwise in front of it, into
one pass. (Its CPU backend makes a slow, running sum of it, which is why a CPU does not use it.)

**The reference** R(z) of a logit is the logit rounded to a multiple of 16, and that of a part R of its maximum. So
references seldom change; they differ by multiples of 16, exactly; and of the two exponentials one is e⁰ = 1.

**The error** of a sum, in units u of the dtype, with ε the error of the chip's exp at an argument that is exact:

* A logit is at its own reference first. |z| <= 8 has R = 0, and z - 0 is exact; elsewhere R/2 <= z <= 2R, and z - R is
  exact (Sterbenz). So a term is within ε.
* A term whose part meets a larger reference is multiplied by e^(-8k) e^(-8k), an exact argument: within 2ε + 2u more.
  Where that happens twice, it has come down by e^-32; to be felt at all in the sum it would take 1/u such terms.
* All terms are positive. So the sum is within 3ε + 2u, and within ε where all references are equal, whatever the row
  looks like; and within the roundings of its additions, in whatever order the chip adds, as any sum.
* Sums are kept 2²⁴ times as large: a term of e^-8 that comes down by e^-80 is a number still. With that a class is in
  the sum up to a gap of 96, further than exp of the gap itself would be a normal number. And nothing overflows: a term
  is at most 2²⁴ e⁸, and 2²⁴ of them 8e17.
* Asked for is the sum about m: one more exponential, of R - m, whose rounding error is folded back in.

**The class left out.** A label's term is not added. Without a label the maximum's is not: each part keeps its maximum,
that one's index, and the sum of the others, and where two parts meet, the smaller maximum joins the sum. Of equal ones
the first stays.

**Weighted gaps.** A loss of distributions wants Σ v_k (m - z_k) as well, of given weights v. Each part keeps its sum A
about its own maximum, and its weight V = Σ v_k; where two parts meet, the one with the smaller maximum is the further
from the common one:

    A = A₁ + A₂ + V₁ (m₂ - m₁)        for m₁ <= m₂

So a gap is a sum of steps, all of one sign, each rounded once, and once more times the weight: for weights of one sign
nothing cancels, and A is within 2u beside the roundings of its additions and of those of V. A weight of 0 takes no
step, not even an infinite one. V is kept in two, the weight of the class left out and that of the others: a label takes
no part in the steps, a maximum as soon as it is none.

**One operand.** Of logits that it has to compute with something dear, such as a softcap's tanh, XLA's GPU backend
(JAX 0.12) stores an array as soon as two operands of the reduction are made of them. So there the logits are one
operand, and a class by itself has a mark in place of its sum, a number that no sum is: it is opened where it meets
another part.

An infinity is its own reference, and a term of 1 about it: under a maximum of +inf every other +inf counts 1, and a
finite number 0. Under one of -inf there is nothing, and the sum is made 0 in the end.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._softmax.row_sum import DEFINITION, class_index, shifted_exponential
from lossjax.numerics import times

GRID = 16.0
"""References are multiples of this."""
SCALE = 2.0**24
"""Sums are this many times as large."""
LABEL, OTHER = -2.0, -1.0
"""In place of a sum: the marks of a class that has met no other yet."""

Parts = tuple[Array, ...]


def reference(z: Array) -> Array:
    """R(z), the logit rounded to a multiple of 16."""
    return jnp.floor(z * (1 / GRID) + 0.5) * GRID


def term(z: Array) -> Array:
    """``exp(z - R)`` times the scale; 1 for an infinity, about itself."""
    own = reference(z)
    return jnp.exp(jnp.where(z == own, 0, z - own)) * SCALE


def together(r1: Array, s1: Array, r2: Array, s2: Array) -> Array:
    """The sum of two sums about their references, about the larger one."""
    # A chip's exp of 0 need not be 1, and two infinities have no difference.
    decay = jnp.where(r1 == r2, 1, jnp.exp(-0.5 * jnp.abs(r1 - r2)))
    far, near = jnp.where(r1 < r2, s1, s2), jnp.where(r1 < r2, s2, s1)
    return near + far * decay * decay


class WeightedGaps(NamedTuple):
    """Of a row, a class i left out and given weights v, with the class axis kept as 1."""

    total: Array
    """``Σ_{k≠i} v_k (m - z_k)``."""
    own: Array
    """``v_i``."""
    others: Array
    """``Σ_{k≠i} v_k``."""

    def left_out_if(self, condition: Array) -> "WeightedGaps":
        """The same where the condition holds; elsewhere with the class left out among the others, at a gap of 0."""
        own, joining = jnp.where(condition, self.own, 0), jnp.where(condition, 0, self.own)
        return WeightedGaps(self.total, own, self.others + joining)


def _further(m1: Array, m2: Array, v1: Array, v2: Array) -> Array:
    """What the weights of the part with the smaller maximum add to the gaps."""
    step = jnp.where(m1 == m2, 0, jnp.abs(m1 - m2))  # two infinities have no difference
    return times(jnp.where(m1 < m2, v1, v2), step)


def _about_label(a: Parts, b: Parts) -> Parts:
    """Two parts as one: (maximum, sum without the label, the label's logit or 0), and the weighted gaps."""
    (m1, s1, z1, *g1), (m2, s2, z2, *g2) = a, b
    gaps = [
        WeightedGaps(
            one.total + two.total + _further(m1, m2, one.others, two.others),
            one.own + two.own,
            one.others + two.others,
        )
        for one, two in zip(_each(g1), _each(g2), strict=True)
    ]
    total = together(reference(m1), s1, reference(m2), s2)
    return jnp.maximum(m1, m2), total, z1 + z2, *_flat(gaps)


def _about_maximum(a: Parts, b: Parts) -> Parts:
    """Two parts as one: (maximum, sum without it, its index), and the weighted gaps."""
    (m1, s1, i1, *g1), (m2, s2, i2, *g2) = a, b
    first = (m1 > m2) | ((m1 == m2) & (i1 < i2))
    joins = term(jnp.where(first, m2, m1))
    s1, s2 = jnp.where(first, s1, s1 + joins), jnp.where(first, s2 + joins, s2)
    total = together(reference(m1), s1, reference(m2), s2)
    gaps = []
    for one, two in zip(_each(g1), _each(g2), strict=True):
        kept, joining = jnp.where(first, one.own, two.own), jnp.where(first, two.own, one.own)
        further = _further(m1, m2, one.own + one.others, two.own + two.others)
        gaps.append(WeightedGaps(one.total + two.total + further, kept, one.others + two.others + joining))
    return jnp.where(first, m1, m2), total, jnp.where(first, i1, i2), *_flat(gaps)


def _flat(gaps: Sequence[WeightedGaps]) -> Parts:
    return tuple(array for one in gaps for array in one)


def _each(parts: Sequence[Array]) -> list[WeightedGaps]:
    return [WeightedGaps(*parts[i : i + 3]) for i in range(0, len(parts), 3)]


def _opened(part: Parts) -> Parts:
    """Of :func:`_about_label`: a part as it is, and a class by itself with its sum and its logit."""
    m, s, z, *gaps = part
    alone = jnp.where(s == LABEL, 0, term(m))
    return m, jnp.where(s < 0, alone, s), jnp.where(s == LABEL, m, z), *gaps


def _about_label_opened(a: Parts, b: Parts) -> Parts:
    return _about_label(_opened(a), _opened(b))


def statistics(
    z: Array,
    index: Array | None,
    dtype: Any,
    weights: tuple[Array, ...] = (),
    reduce: Any = lax.reduce,
    *,
    one_operand: bool = False,
) -> tuple[Any, ...]:
    """(pivot i, its logit, maximum m, ``Σ_{j≠i} exp(z_j - m)``, a tuple of :class:`WeightedGaps`) of each row.

    The class axis is kept as 1.

    Args:
      z: logits ``[..., C]``.
      index: the pivot, ``[..., 1]``; of one that is no class the logit is 0, and nothing is left out of the sum. None
        for the first maximum.
      dtype: of the results, the logits' own or wider.
      weights: ``[..., C]``, in any dtype; weighted gaps are formed of each.
      reduce: how parts are reduced, as ``lax.reduce``: the order of the additions is the compiler's.
      one_operand: whether only one operand of the reduction may be made of the logits.
    """
    z, weights = lax.stop_gradient((z, weights))
    z, weights = z.astype(dtype), tuple(weight.astype(dtype) for weight in weights)
    zero, axis = jnp.zeros((), dtype), (z.ndim - 1,)
    if index is None:
        start, first, combine = (
            jnp.asarray(jnp.iinfo(jnp.int32).max, jnp.int32),
            class_index(z, jnp.int32),
            _about_maximum,
        )
        terms, is_pivot = jnp.zeros_like(z), None
    else:
        is_pivot, start = class_index(z, index.dtype) == index, zero
        if one_operand:
            terms, first, combine = jnp.where(is_pivot, zero + LABEL, OTHER), jnp.zeros_like(z), _about_label_opened
        else:
            terms, first, combine = jnp.where(is_pivot, 0, term(z)), jnp.where(is_pivot, z, 0), _about_label
    gaps = [_gaps_of_one(weight, is_pivot) for weight in weights]
    parts = z, terms, first, *_flat(gaps)
    starts = jnp.asarray(-jnp.inf, dtype), zero, start, *[zero] * (3 * len(gaps))
    whole = tuple(reduce(parts, starts, combine, axis))
    if one_operand and index is not None:  # of one class alone, which XLA reduces to itself
        whole = _opened(whole)
    maximum, rest, found, *sums = (part[..., None] for part in whole)
    if index is None:
        pivot, logit = found.astype(jax.eval_shape(DEFINITION.index_of_maximum, z).dtype), maximum
    else:
        pivot, logit = index, found
    return pivot, logit, maximum, rest * to_maximum(maximum) / SCALE, tuple(_each(sums))


def _gaps_of_one(weight: Array, is_pivot: Array | None) -> WeightedGaps:
    """Of each class by itself, about its own logit; without a label every class is its own maximum."""
    nothing = jnp.zeros_like(weight)
    if is_pivot is None:
        return WeightedGaps(nothing, weight, nothing)
    return WeightedGaps(nothing, jnp.where(is_pivot, weight, 0), jnp.where(is_pivot, 0, weight))


def to_maximum(maximum: Array) -> Array:
    """``exp(R - m)``; 0 where m is -inf, about which nothing is summed."""
    largest = float(jnp.finfo(maximum.dtype).max)
    origin, ceiling = reference(maximum), jnp.clip(maximum, -largest, largest)
    factor = shifted_exponential(jnp.minimum(origin, ceiling), jnp.maximum(origin, ceiling))
    return jnp.where(origin > ceiling, 1 / factor, factor)
