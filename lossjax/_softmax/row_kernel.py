"""A formula of whole rows, executed on a TPU where the rows lie: each is read once, and its results are written once.

XLA makes of a softmax and its gradient several loops over the rows, and between two of them the rows leave the chip. A
kernel has a block of whole rows in the chip's own memory (VMEM), and may go over them as often as it likes. So it has
no formula of its own: it executes the rule's, whatever the options, on a block of rows in place of all of them.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from lossjax._core.plain import rules_off
from lossjax._core.whole_rows import Formula, Kind, rows_on_chip

WORDS = 8
"""Rows of 32-bit numbers that a register holds, and so the least that a block has; of 16-bit numbers twice as many."""
LANES = 128
"""Classes that a register holds."""
SHORT_ROWS = 2**20
"""Bytes, in 32 bits, of a block of short rows: enough for a step of the kernel to be worth its start."""
MOST_ROWS = 256
SHORTEST_ROW = 4096
"""Bytes. A number for each row takes as much memory as 128 of them, in the layout that a kernel wants. Of shorter rows
these, and what brings them into the layout, are more than a second reading of the logits."""
LARGEST = 2**29
"""Bytes of logits. The kernel writes beside the logits, which XLA's formula may write over if nobody else wants them:
of larger ones a second array is dearer than a second reading."""
VMEM = 60 * 2**20
"""Bytes of VMEM that each generation from v5e on has to spare; v5p and 7x have 64 MiB, v5e and v6e 128."""


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How the rows are cut into blocks."""

    rows: int
    at_once: int
    """Rows of a block that are computed with at once."""
    buffers: int
    """Of each array: with 2, one block is moved while the other is computed with."""
    needed: int
    """Bytes of VMEM."""

    @classmethod
    def of(cls, classes: int, itemsizes: Sequence[int], held: int, room: int) -> "Blocks | None":
        """The blocks of rows of so many classes, or None where not even the least of them have room.

        Args:
          classes: of a row.
          itemsizes: of the arrays ``[..., C]`` that the kernel reads or writes.
          held: how many arrays of 32 bits, of the size of what is computed with at once, the formula holds.
          room: bytes of VMEM.
        """
        least, width = WORDS * 4 // min(itemsizes), LANES * math.ceil(classes / LANES)
        rows = max(least, min(MOST_ROWS, SHORT_ROWS // (4 * width) // least * least))
        at_once = rows if rows > least else WORDS  # the program is as long as the arrays that it computes with
        for buffers in (2, 1):
            needed = width * (buffers * rows * sum(itemsizes) + held * 4 * at_once) + 2**20
            if needed <= room:
                return cls(rows, at_once, buffers, needed)
        return None


def room() -> int:
    """Bytes of VMEM: of the chip that this process has, or, where it has none, of every one from v5e on."""
    try:
        return pltpu.get_tpu_info().vmem_capacity_bytes * 15 // 16
    except (ValueError, NotImplementedError, RuntimeError):
        return VMEM


def in_blocks_if_possible(kinds: Sequence[Kind], held: int, formula: Formula, *arrays: Array) -> tuple[Array, ...]:
    """``formula(*arrays)``, by :func:`in_blocks` where the rows are long enough, and not too long for the chip."""
    results = jax.eval_shape(formula, *arrays)
    of_classes = [x for x, kind in zip(arrays, kinds, strict=True) if kind == "classes"]
    classes = of_classes[0].shape[-1]
    itemsizes = [x.dtype.itemsize for x in (*of_classes, *(one for one in results if one.shape[-1:] == (classes,)))]
    blocks = Blocks.of(classes, itemsizes, held, room())
    short = classes * of_classes[0].dtype.itemsize < SHORTEST_ROW
    if blocks is None or short or not 0 < of_classes[0].nbytes <= LARGEST:
        return formula(*arrays)
    return in_blocks(formula, kinds, arrays, blocks)


def in_blocks(
    formula: Formula, kinds: Sequence[Kind], arrays: Sequence[Array], blocks: Blocks, *, interpret: Any = False
) -> tuple[Array, ...]:
    """``formula(*arrays)``, by a kernel that takes a block of rows at a time.

    Args:
      formula: see ``whole_rows.formed``. In the kernel its logits are in float32.
      kinds: of the arrays.
      arrays: its arguments.
      blocks: how the rows are cut.
      interpret: as in ``pl.pallas_call``: how to execute the kernel without a TPU.
    """
    results = jax.eval_shape(formula, *arrays)
    front = next(x.shape[:-1] for x, kind in zip(arrays, kinds, strict=True) if kind == "classes")
    count, given = math.prod(front), list(zip(arrays, kinds, strict=True))

    def kernel(*refs: Any) -> None:
        inputs, outputs = refs[: len(given)], refs[len(given) :]

        def compute(first: int) -> None:
            here = pl.ds(first, blocks.at_once)
            seen = (
                _seen(ref[...] if kind == "shared" else ref[here, :], x, kind)
                for ref, (x, kind) in zip(inputs, given, strict=True)
            )
            with rows_on_chip(), rules_off():
                found = formula(*seen)
            for ref, one in zip(outputs, found, strict=True):
                ref[here, :] = one.reshape(blocks.at_once, -1).astype(ref.dtype)

        parts = [functools.partial(compute, first) for first in range(0, blocks.rows, blocks.at_once)]
        if len(parts) == 1:
            parts[0]()
        else:  # each by itself, or the compiler holds the arrays of all; and from a known row, which a 7x demands
            lax.fori_loop(0, len(parts), lambda i, _: lax.switch(i, parts), None)

    def cut(width: int, *, shared: bool = False) -> pl.BlockSpec:
        if shared:
            return pl.BlockSpec((1, width), lambda i: (0, 0))
        single = blocks.buffers == 1 and width > 1
        return pl.BlockSpec((blocks.rows, width), lambda i: (i, 0), pipeline_mode=pl.Buffered(1) if single else None)

    stored = [_stored(x, kind, count) for x, kind in given]
    varying = getattr(jax.typeof(arrays[0]), "manual_axis_type", None)  # inside ``jax.shard_map``
    widths = [math.prod(one.shape[len(front) :]) for one in results]
    found = pl.pallas_call(
        kernel,
        grid=(pl.cdiv(count, blocks.rows),),
        in_specs=[cut(x.shape[1], shared=kind == "shared") for x, kind in zip(stored, kinds, strict=True)],
        out_specs=[cut(width) for width in widths],
        out_shape=[
            jax.ShapeDtypeStruct((count, width), one.dtype, manual_axis_type=varying)
            for width, one in zip(widths, results, strict=True)
        ],
        compiler_params=pltpu.CompilerParams(
            vmem_limit_bytes=blocks.needed * 5 // 4, dimension_semantics=("parallel",)
        ),
        interpret=interpret,
        name="lossjax_whole_rows",
    )(*stored)
    return tuple(array.reshape(one.shape) for array, one in zip(found, results, strict=True))


def _stored(x: Array, kind: Kind, count: int) -> Array:
    """An argument as the kernel is given it: a matrix."""
    x = x.astype(jnp.int32) if x.dtype == bool else x
    return x.reshape(1, -1) if kind == "shared" else x.reshape(count, -1)


def _seen(block: Array, x: Array, kind: Kind) -> Array:
    """A block of an argument as the formula wants it. No TPU compares 16-bit numbers."""
    block = block != 0 if x.dtype == bool else block
    if kind == "shared":
        return block.reshape(x.shape) if x.ndim else block[0, 0]
    return block[:, 0] if kind == "rows" else block.astype(jnp.float32)
