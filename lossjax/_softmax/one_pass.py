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

An infinity is its own reference, and a term of 1 about it: under a maximum of +inf every other +inf counts 1, and a
finite number 0. Under one of -inf there is nothing, and the sum is made 0 in the end.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._softmax.row_sum import DEFINITION, class_index, shifted_exponential

GRID = 16.0
"""References are multiples of this."""
SCALE = 2.0**24
"""Sums are this many times as large."""

Parts = tuple[Array, ...]


def _reference(z: Array) -> Array:
    return jnp.floor(z * (1 / GRID) + 0.5) * GRID


def _term(z: Array) -> Array:
    """``exp(z - R)`` times the scale; 1 for an infinity, about itself."""
    reference = _reference(z)
    return jnp.exp(jnp.where(z == reference, 0, z - reference)) * SCALE


def _together(r1: Array, s1: Array, r2: Array, s2: Array) -> Array:
    """The sum of two sums about their references, about the larger one."""
    # A chip's exp of 0 need not be 1, and two infinities have no difference.
    decay = jnp.where(r1 == r2, 1, jnp.exp(-0.5 * jnp.abs(r1 - r2)))
    far, near = jnp.where(r1 < r2, s1, s2), jnp.where(r1 < r2, s2, s1)
    return near + far * decay * decay


def _about_label(a: Parts, b: Parts) -> Parts:
    """Two parts as one: (maximum, sum without the label, the label's logit or 0)."""
    (m1, s1, z1), (m2, s2, z2) = a, b
    return jnp.maximum(m1, m2), _together(_reference(m1), s1, _reference(m2), s2), z1 + z2


def _about_maximum(a: Parts, b: Parts) -> Parts:
    """Two parts as one: (maximum, sum without it, its index)."""
    (m1, s1, i1), (m2, s2, i2) = a, b
    first = (m1 > m2) | ((m1 == m2) & (i1 < i2))
    joins = _term(jnp.where(first, m2, m1))
    s1, s2 = jnp.where(first, s1, s1 + joins), jnp.where(first, s2 + joins, s2)
    total = _together(_reference(m1), s1, _reference(m2), s2)
    return jnp.where(first, m1, m2), total, jnp.where(first, i1, i2)


def statistics(z: Array, index: Array | None, dtype: Any, reduce: Any = lax.reduce) -> tuple[Array, ...]:
    """(pivot i, its logit, maximum m, ``Σ_{j≠i} exp(z_j - m)``) of each row, with the class axis kept as 1.

    Args:
      z: logits ``[..., C]``.
      index: the pivot, ``[..., 1]``; of one that is no class the logit is 0, and nothing is left out of the sum. None
        for the first maximum.
      dtype: of the results, the logits' own or wider.
      reduce: how parts are reduced, as ``lax.reduce``: the order of the additions is the compiler's.
    """
    z = lax.stop_gradient(z).astype(dtype)
    start, axis = (jnp.asarray(-jnp.inf, dtype), jnp.zeros((), dtype)), (z.ndim - 1,)
    if index is None:
        none = jnp.asarray(jnp.iinfo(jnp.int32).max, jnp.int32)
        parts = z, jnp.zeros_like(z), class_index(z, jnp.int32)
        maximum, rest, pivot = (part[..., None] for part in reduce(parts, (*start, none), _about_maximum, axis))
        pivot, logit = pivot.astype(jax.eval_shape(DEFINITION.index_of_maximum, z).dtype), maximum
    else:
        is_label = class_index(z, index.dtype) == index
        parts = z, jnp.where(is_label, 0, _term(z)), jnp.where(is_label, z, 0)
        found = reduce(parts, (*start, jnp.zeros((), dtype)), _about_label, axis)
        maximum, rest, logit = (part[..., None] for part in found)
        pivot = index
    return pivot, logit, maximum, rest * _to_maximum(maximum) / SCALE


def _to_maximum(maximum: Array) -> Array:
    """``exp(R - m)``; 0 where m is -inf, about which nothing is summed."""
    largest = float(jnp.finfo(maximum.dtype).max)
    reference, ceiling = _reference(maximum), jnp.clip(maximum, -largest, largest)
    factor = shifted_exponential(jnp.minimum(reference, ceiling), jnp.maximum(reference, ceiling))
    return jnp.where(reference > ceiling, 1 / factor, factor)
