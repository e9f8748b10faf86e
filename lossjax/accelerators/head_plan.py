"""A linear head on paper: how many rows it takes at a time on a chip, what that holds, and what bounds its time."""

import dataclasses
import math
from typing import Any, Literal

import jax.numpy as jnp

from lossjax._softmax.head_inputs import chunk_size_of
from lossjax.accelerators.chips import chip_named

PASSES_OVER_LOGITS = 5
"""How often a block's logits are read or written between the products: once from the first, twice for the row's
statistics and the gradient, which is written, and once by each of the other two."""


@dataclasses.dataclass(frozen=True)
class HeadPlan:
    """What a head does with N rows of width H and C classes on a chip, from the chip's peak and bandwidth alone.

    Attributes:
      chip: its name.
      rows: N.
      hidden: H.
      classes: C.
      chunk_size: the rows of a block.
      blocks: how many blocks there are.
      logits_bytes: the logits of a block, in float32 or wider.
      slope_bytes: the sum of the weight's gradient over blocks, in float32 or wider.
      products_ms: the three matrix products, at the chip's peak in bfloat16.
      slope_ms: reading and writing that sum once a block.
      logits_ms: reading and writing the blocks' logits.
      enough_rows: from how many rows of a block on the product of the weight's gradient takes longer than its sum is
        read and written.
    """

    chip: str
    rows: int
    hidden: int
    classes: int
    chunk_size: int
    blocks: int
    logits_bytes: int
    slope_bytes: int
    products_ms: float
    slope_ms: float
    logits_ms: float
    enough_rows: int

    @property
    def milliseconds(self) -> float:
        """The time on paper: a third of the products waits for the sum of the weight's gradient, if that is slower."""
        return self.products_ms * 2 / 3 + max(self.products_ms / 3, self.slope_ms) + self.logits_ms

    @property
    def bound(self) -> Literal["products", "memory"]:
        """What takes more of the time."""
        return "products" if self.milliseconds < 2 * self.products_ms else "memory"

    def __str__(self) -> str:
        waits = "less than its product" if self.chunk_size >= self.enough_rows else "its product waits for it"
        blocks = f"{self.blocks} block{'s' * (self.blocks > 1)}"
        return "\n".join(
            (
                f"{self.chip}: {blocks} of {self.chunk_size} rows, on paper {self.milliseconds:.1f} ms",
                f"products: {self.products_ms:.1f} ms",
                f"logits of a block: {_mebibytes(self.logits_bytes)}, over all blocks {self.logits_ms:.1f} ms",
                f"sum of the weight's gradient: {_mebibytes(self.slope_bytes)}, {self.slope_ms:.1f} ms, {waits}",
                f"a block of {self.enough_rows} rows keeps the chip busy; bound by {self.bound}",
            )
        )


def plan_head(
    rows: int,
    hidden: int,
    classes: int,
    *,
    chip: str = "h100",
    dtype: Any = jnp.bfloat16,
    chunk_size: int | Literal["auto"] = "auto",
) -> HeadPlan:
    r"""Say what the chunk size of a linear head costs on a chip, value and gradients of a sum or mean.

    A block of R rows takes 6 R H C operations in three products. One of them, the weight's gradient, is added to a sum
    of H C numbers of float32, which is read and written: 8 H C bytes against 2 R H C operations. So R has to be

    .. math:: R \ge 4 \, \frac{\text{operations a second}}{\text{bytes a second}}

    or that product waits for the memory. More rows gain nothing and hold more logits.

    Args:
      rows: N, the number of rows.
      hidden: H, the width of the hidden states.
      classes: C, the number of classes.
      chip: one of :data:`lossjax.accelerators.CHIPS`.
      dtype: the dtype of hidden states and weight.
      chunk_size: the rows of a block, or ``"auto"``, which is :func:`~lossjax.losses.linear_head.auto_chunk_size`.

    Returns:
      The plan, whose ``str`` says it in five lines. When a program is lowered no more is known of the chip than its
      kind (CPU, GPU, TPU), so ``"auto"`` is the same on all GPUs and TPUs.

    Raises:
      NotPossible: an unknown chip.
      TypeError: a chunk size that is neither a whole number nor "auto".
      ValueError: a size that is less than 1.

    Example:
      >>> from lossjax.accelerators import plan_head
      >>> print(plan_head(8192, 4096, 131072, chip="v5e"))
      v5e: 8 blocks of 1024 rows, on paper 160.2 ms
      products: 134.0 ms
      logits of a block: 512 MiB, over all blocks 26.2 ms
      sum of the weight's gradient: 2,048 MiB, 42.0 ms, less than its product
      a block of 963 rows keeps the chip busy; bound by products
      >>> plan_head(8192, 4096, 131072, chip="v5e", chunk_size=256).bound
      'memory'

    Source: docs/accelerators.md.
    """
    of = chip_named(chip)
    if min(rows, hidden, classes) < 1:
        raise ValueError(f"wanted at least one row, one hidden state and one class, got {rows}, {hidden}, {classes}")
    size = chunk_size_of(chunk_size, rows, classes, dtype).otherwise
    blocks, width = -(-rows // size), max(jnp.dtype(dtype).itemsize, 4)
    return HeadPlan(
        chip, rows, hidden, classes, size, blocks,
        logits_bytes=width * size * classes,
        slope_bytes=width * hidden * classes,
        products_ms=1e3 * 6 * rows * hidden * classes / of.flops,
        slope_ms=1e3 * blocks * 2 * width * hidden * classes / of.bandwidth,
        logits_ms=1e3 * PASSES_OVER_LOGITS * width * rows * classes / of.bandwidth,
        enough_rows=math.ceil(width * of.flops / of.bandwidth),
    )  # fmt: skip


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
