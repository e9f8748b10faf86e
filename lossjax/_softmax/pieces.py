"""Which rows a CPU cuts into pieces, and how: the pieces are added elementwise in one loop, by ``row_sum.py``."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lossjax._core import sharding

# How rows are cut, measured on two CPU cores by `python benchmarks/row_sum.py` (JAX 0.10.2):
SHORT_ROW = 20
"""Up to this many classes of 32 bits or more the pieces are single entries: the whole sum is one loop."""
FEW_CLASSES = 12
"""Up to this many classes of several arrays are taken one by one; of more, LLVM has a loop to vectorise (`lossjax bench
--suite divergences` at other shapes)."""
SHORT_NARROW_ROW = 192
"""LLVM makes slow loops of short pieces of 16-bit logits: rows below this width are summed whole."""
TRIPLES = range(6, 13)
"""These 16-bit rows are the exception: pieces of three are fast."""
MOST_PIECES = 12
"""Of twice as many pieces XLA stores a wider copy of 16-bit logits, and compiles for twice as long."""
LANES = 16
"""Piece widths are multiples of this many entries, which LLVM vectorises in every dtype."""
SHORTEST_BLOCK = 96
"""A partitioner that splits the classes unseen, into 2ⁿ parts of at least this many, must not find a block on two
devices; so rows are halved into blocks until the blocks are about this short."""


def pieces_of(z: Array, dtype: Any) -> tuple[int, int] | None:
    """Into how many blocks to cut a row, and the width of the pieces that are added of each; None: not at all.

    The terms of the sum are of ``dtype``.
    """
    classes, devices, narrow = z.shape[-1], sharding.split_count(z), z.dtype != dtype
    if not isinstance(classes, int):  # a symbolic dimension of jax.export
        return None
    if devices == 1 and classes <= SHORT_ROW and not narrow:
        return 1, 1
    if narrow and classes < SHORT_NARROW_ROW:
        return (1, 3) if devices == 1 and classes in TRIPLES else None
    blocks = devices
    while classes % (2 * blocks) == 0 and classes // (2 * blocks) >= SHORTEST_BLOCK:
        blocks *= 2
    length = classes // blocks
    width = min(length, LANES * -(-length // (LANES * MOST_PIECES)))
    return None if width == length else (blocks, width)


def cut(arrays: tuple[Any, ...], dtype: Any) -> tuple[int, int, list[tuple[int, int, int]]]:
    """How many blocks a row has, their length, and of each piece of a block: its first new entry, start and width."""
    classes = arrays[0].shape[-1]
    blocks, width = pieces_of(arrays[0], dtype) or (1, classes)
    length = classes // blocks
    # the last piece overlaps the one before
    return blocks, length, [(first, min(first, length - width), width) for first in range(0, length, width)]


def part_of(whole: Any, start: int, width: int) -> Any:
    """These entries of each block, of a pytree of arrays."""
    return jax.tree.map(lambda array: array[..., start : start + width], whole)


def floating_apart(arrays: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The arrays of floating-point numbers, and the others, with None in place of the rest."""
    is_real = [array is not None and jnp.issubdtype(array.dtype, jnp.floating) for array in arrays]
    each = list(zip(arrays, is_real, strict=True))
    return tuple(a if real else None for a, real in each), tuple(None if real else a for a, real in each)
