"""Rules of rows of logits that a kernel executes on a chip: each pass reads its rows once and writes its results once.

A rule's forward pass needs a row several times, for its maximum, for the sum about it, and for what is made of the two.
Where a kernel has the row on the chip (on a TPU ``row_kernel.py``, on a GPU ``fused_rows.py``), the forward pass is one
reading, and so is the backward pass, in which the kernel forms anew what the forward pass knew of the row: it saves
nothing for that.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from lossjax._core.packed import Packed, Structure
from lossjax._core.plain import rules_are_off
from lossjax._core.platform import KERNELS
from lossjax._core.whole_rows import Kind, Operand, known
from lossjax._softmax import fused_rows
from lossjax._softmax.fused_rows import Fused

Forward = Callable[..., tuple[Array, Any]]
Backward = Callable[..., tuple[Any, ...]]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Of a formula, on the platforms that have one; a ``whole_rows.Kernel``."""

    held: int
    """How many arrays of float32 the formula holds at once, of the size of what it is given."""
    fused: Fused | None = None
    """Given where XLA's GPU compiler makes one kernel of the formula."""

    def on(self, platform: str, kinds: Sequence[Kind], shapes: Sequence[Any]) -> Callable[..., Any] | None:
        """How this platform forms the formula; see ``whole_rows.Kernel``."""
        if platform == "tpu":
            from lossjax._softmax.row_kernel import in_blocks_if_possible  # Pallas takes as long to import as JAX

            return functools.partial(in_blocks_if_possible, kinds, self.held)
        if self.fused is not None and fused_rows.are_possible(kinds, shapes):
            return functools.partial(fused_rows.in_one_kernel, kinds, self.fused)
        return None


@dataclasses.dataclass(frozen=True)
class _Value:
    """A forward pass without what it saves."""

    forward: Forward
    structure: Structure

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        return (self.structure.called(self.forward, arrays)[0],)


@dataclasses.dataclass(frozen=True)
class _Gradient:
    """A backward pass for one of the arrays, with the forward pass in front; its cotangent is the last argument.

    Of one array: a kernel writes all that it forms, whether it is wanted or not.
    """

    forward: Forward
    backward: Backward
    structure: Structure
    which: int

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        *given, cotangent = arrays

        def pulled_back(*args: Any) -> tuple[Any, ...]:
            return self.backward(self.forward(*args)[1], cotangent)

        found = self.structure.called(pulled_back, given)
        return (self.structure.leaves_of(found)[self.which].astype(given[self.which].dtype),)


def with_kernels(
    forward: Forward, backward: Backward, *, held: int, fused: tuple[Fused | None, Fused | None] = (None, None)
) -> tuple[Forward, Backward]:
    """The passes of a rule of logits, with a kernel for each on a platform that has one.

    Args:
      forward: ``(*args) -> (output, saved)``, as ``closed_form`` takes it, of arrays ``[..., C]`` and of static
        arguments; the output is ``[..., C]`` or ``[...]``.
      backward: ``(saved, cotangent) -> cotangents``.
      held: how many arrays of float32 either of them holds at once, as TPUs' compiler reports it.
      fused: of the forward and of the backward pass, see :class:`Kernel`.
    """

    def forward_with_kernel(*args: Any) -> tuple[Array, Any]:
        output, saved = forward(*args)
        given = Packed.of(args)
        if _may_have_a_kernel(given, output):
            operands = [Operand(x, "classes") for x in given.arrays]
            (output,) = known([output], _Value(forward, given.structure.on(KERNELS)), Kernel(held, fused[0]), operands)
        return output, (saved, args)

    def backward_with_kernel(both: Any, cotangent: Array) -> tuple[Any, ...]:
        saved, args = both
        given, found = Packed.of(args), backward(saved, cotangent)
        if not _may_have_a_kernel(given, cotangent):
            return found
        kind: Kind = "classes" if cotangent.ndim == given.arrays[0].ndim else "rows"
        operands = [*(Operand(x, "classes") for x in given.arrays), Operand(cotangent, kind)]
        slopes = zip(given.structure.leaves_of(found), given.arrays, strict=True)
        each = []
        for which, (slope, x) in enumerate(slopes):
            formula = _Gradient(forward, backward, given.structure.on(KERNELS), which)
            each += known([slope.astype(x.dtype)], formula, Kernel(held, fused[1]), operands)
        return given.structure.filled(each)

    return forward_with_kernel, backward_with_kernel


def _may_have_a_kernel(given: Packed, output: Array) -> bool:
    """Whether these are rows on one device, in dtypes that every chip has, of a rule that is not its plain formula."""
    on_devices = any(isinstance(leaf, str) for leaf in given.structure.leaves)  # the mesh axis of the classes
    narrow = all(x.dtype in (jnp.float32, jnp.bfloat16) for x in (*given.arrays, output))
    return narrow and not on_devices and given.arrays[0].ndim > 1 and not rules_are_off()
