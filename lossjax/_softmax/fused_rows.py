"""A formula of whole rows in the form of which XLA's GPU compiler makes one kernel.

Of a softmax that compiler (XLA, through Triton) makes a kernel that has whole rows in its registers: they are read
once, and the softmax is written once. It does the same of every formula of rows in which

* all reductions go over the classes and have one operand: the index of a maximum is the least index of an entry that
  equals it, and a logit at an index a masked sum;
* no operation is one that the kernel has not (``xla.is_finite``);
* the end is a reduction that is combined with what was reduced (``xla.one_kernel``);
* no other kernel wants what is formed on the way: each has its logits multiplied by a 1 of its own
  (``xla.known_anew``).

So nothing is written by hand: the rule's own formula is traced with that in mind (``rows_on_chip("compiler")``). Its
exponentials are those of the GPU's library, with their argument reduced, as elsewhere.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jax import Array, lax

from lossjax._core.plain import rules_off
from lossjax._core.versions import FUSED_ROWS
from lossjax._core.whole_rows import Formula, Kind, rows_on_chip
from lossjax._core.xla import known_anew, one_kernel

LONGEST_ROW = 16_384
"""Classes. Of twice as many the compiler makes a kernel for each reduction."""


class Fused(NamedTuple):
    """What a kernel's formula has to itself."""

    number: int
    """No other formula's: two that are made of the same logits share nothing."""
    stored: bool = False
    """Whether the result is stored whatever is made of it. Of a result that is not, the compiler may form the entries
    that are looked up, or a sum over them, by all the reductions that it takes: a log-probability is looked up. (A
    probability too. But with a temperature the result is rounded to the logits' 16 bits, after it would be stored.)
    """


def are_possible(kinds: Sequence[Kind], shapes: Sequence[Any]) -> bool:
    """Whether the compiler takes rows of these shapes whole."""
    short = (kind != "classes" or shape.shape[-1] <= LONGEST_ROW for kind, shape in zip(kinds, shapes, strict=True))
    return FUSED_ROWS and all(short)


def in_one_kernel(kinds: Sequence[Kind], how: Fused, formula: Formula, *arrays: Array) -> tuple[Array, ...]:
    """``formula(*arrays)``, whose results are ``[..., C]``."""
    anew = [known_anew(x, how.number) if kind == "classes" else x for kind, x in zip(kinds, arrays, strict=True)]
    with rows_on_chip("compiler"), rules_off():
        results = tuple(map(one_kernel, formula(*anew)))
    return lax.optimization_barrier(results) if how.stored else results
