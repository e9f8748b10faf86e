"""How many rows a linear head takes at a time, which is the size of the block of logits that it holds."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

_BLOCK_BYTES = {"cpu": 50 * 2**20, "gpu": 2**29, "tpu": 2**29}
"""Bytes of logits in one block: enough rows to keep the matrix products busy, and few beside the logits not stored.

On a CPU: `lossjax bench --suite head`."""

_BLOCK_BYTES_OF_NARROW = 32 * 2**20
"""On a CPU, of heads of 16 bits. There the sum of the weight's gradient, in float32, is an array beside the gradient,
and a block is held twice: with that sum, so much is a sixth of what stored logits take (`lossjax bench --suite heads`).
"""

_FEWEST_ROWS = {"cpu": 8, "gpu": 1024, "tpu": 1024}
"""Rows that a block has whatever the budget. On GPU and TPU, on paper: a block reads and writes the sum of the weight's
gradient once, which takes less time than the product that is added to it only from about 1000 rows on
(:func:`lossjax.accelerators.plan_head`)."""

_ROWS_OF_UNKNOWN: dict[Literal["cpu", "gpu"], int] = {"cpu": 256, "gpu": 1024}
"""Rows of a block where ``jax.export`` has a symbol for the number of rows or of classes: a block is filled up to so
many."""


_BLOCK_BYTES_OF_VALUE = 16 * 2**20
"""On a CPU, where no gradient is formed. There is no sum that a block of few rows reads and writes as a whole."""


class ChunkSize(NamedTuple):
    """Rows per block: on a CPU, and on a GPU or TPU; and on a CPU where no gradient is formed."""

    cpu: int
    otherwise: int
    cpu_value: int

    @property
    def with_gradient(self) -> tuple[int, int]:
        """On a CPU, and otherwise."""
        return self.cpu, self.otherwise

    @property
    def without(self) -> tuple[int, int]:
        """The same where no gradient is formed."""
        return self.cpu_value, self.otherwise


def auto_chunk_size(
    rows: int, classes: int, dtype: Any = jnp.float32, *, platform: Literal["cpu", "gpu", "tpu"] = "cpu"
) -> int:
    r"""How many rows a linear head takes at a time by default.

    .. math:: \min(N, \max(\text{fewest}, \text{budget}/(C \cdot \text{bytes})))

    Args:
      rows: N, the number of rows.
      classes: C, the number of classes.
      dtype: the dtype of the hidden states and the weight; 16-bit heads have logits in float32.
      platform: the kind of chip that the program is compiled for.

    Returns:
      A number of rows; the budget is 50 MiB of logits on a CPU (32 in 16 bits), 512 on a GPU or TPU, and the fewest are
      8 and 1024.

    Example:
      >>> from lossjax.losses.linear_head import auto_chunk_size
      >>> auto_chunk_size(2048, 50304), auto_chunk_size(2048, 50304, platform="gpu")
      (256, 2048)

    Source: measured on 2 CPU cores at 50304 classes: blocks of 128 rows cost 1.4, of 192 rows 1.1, of 256 rows 1.03 of
    stored logits. For a chip :func:`lossjax.accelerators.plan_head` says what the size holds and what bounds the time.
    """
    size = jnp.dtype(dtype).itemsize
    budget = _BLOCK_BYTES_OF_NARROW if platform == "cpu" and size < 4 else _BLOCK_BYTES[platform]
    return _filling(budget, rows, classes, max(size, 4), _FEWEST_ROWS[platform])


def _filling(budget: int, rows: int, classes: int, size: int, fewest: int) -> int:
    """Rows of equal blocks, with as many as this budget has room for."""
    most = max(fewest, budget // max(classes * size, 1) // 8 * 8)
    blocks = -(-max(rows, 1) // most)
    return max(1, min(rows, -(-rows // blocks // 8) * 8))


def chunk_size_of(chunk_size: int | str, rows: int, classes: int, dtype: Any) -> ChunkSize:
    """The rows of a block, on a CPU and otherwise, for an option that is a number or "auto"."""
    if chunk_size == "auto":
        known = classes if isinstance(classes, int) else 1
        most = {"cpu": rows, "gpu": rows} if isinstance(rows, int) and known is classes else _ROWS_OF_UNKNOWN
        cpu, gpu = (max(1, auto_chunk_size(most[p], known, dtype, platform=p)) for p in ("cpu", "gpu"))
        width = max(jnp.dtype(dtype).itemsize, 4)
        value = _filling(_BLOCK_BYTES_OF_VALUE, most["cpu"], known, width, _FEWEST_ROWS["cpu"])
        return ChunkSize(cpu, gpu, min(cpu, max(1, value)))
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool):
        raise TypeError(f"chunk_size must be 'auto' or a Python integer, got {chunk_size!r}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1 row, got {chunk_size}")
    size = min(chunk_size, max(rows, 1)) if isinstance(rows, int) else chunk_size
    return ChunkSize(size, size, size)
