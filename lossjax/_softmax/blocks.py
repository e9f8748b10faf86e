"""How rows are cut into blocks, so that rows that are spread over devices stay where they are.

A block takes every k-th row, k the number of blocks. Where the rows lie on D devices, each with a run of them, a block
has rows of every device, and as many of each if D divides the rows of a block. So nothing but a transposition is needed
to cut, and XLA's partitioner does that on each device alone. A block of consecutive rows would lie on one device, and
all others would have to be sent it.

Rows of several dimensions, ``[batch, time]``, are cut along the last one where a block has room for one row of each
sequence. Rows that fill up the last block then are added to every sequence, and none has to move to another device.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lossjax._core.sharding import split_as


class Cut(NamedTuple):
    """Rows of this shape as ``blocks`` blocks, each with ``each`` rows of each of ``runs`` runs of equal length."""

    shape: tuple[Any, ...]
    runs: Any
    each: Any
    blocks: Any
    names: tuple[Any, Any]

    @classmethod
    def of(cls, shape: tuple[Any, ...], size: int, names: tuple[Any, ...] = ()) -> "Cut":
        """The cut with at most ``size`` rows in a block.

        ``names`` are those of the mesh axes that an explicit mesh splits the axes of the rows over.
        """
        runs = math.prod(shape[:-1])
        if not isinstance(runs, int) or not 0 < runs <= size:
            runs = 1
        length = math.prod(shape) if runs == 1 else shape[-1]
        most = size // runs
        blocks = -(-length // most)
        first, last = (names[0], names[-1]) if names else (None, None)
        split = (None, first) if runs == 1 else (first, last)
        if not isinstance(length, int):  # a symbolic dimension of jax.export
            return cls(shape, runs, most, blocks, split)
        # Twice as many blocks, if need be, that the last one needs no filling.
        blocks = next((count for count in range(max(blocks, 1), 2 * blocks) if length % count == 0), blocks)
        return cls(shape, runs, -(-length // max(blocks, 1)), blocks, split)

    @property
    def filled(self) -> Any:
        """How many rows are added to each run."""
        return self.each * self.blocks - self._length

    @property
    def is_even(self) -> bool:
        """Whether no row has to be added."""
        return isinstance(self.filled, int) and self.filled == 0

    @property
    def _length(self) -> Any:
        return math.prod(self.shape) if self.runs == 1 else self.shape[-1]

    def apply(self, array: Array, *, copies: bool = False) -> Array:
        """``[*rows, ...]`` as ``[blocks, rows of a block, ...]``, filled up with zeros, or copies of each last row."""
        (one, other), rest = self.names, array.shape[len(self.shape) :]
        by_run = split_as(array, (self.runs, self._length, *rest), (one, other))
        if not self.is_even:
            widths = (0, 0), (0, self.filled), *[(0, 0)] * len(rest)
            by_run = jnp.pad(by_run, widths, mode="edge" if copies else "constant")
        apart = split_as(by_run, (self.runs, self.each, self.blocks, *rest), (one, other))
        return split_as(jnp.moveaxis(apart, 2, 0), (self.blocks, self.runs * self.each, *rest), (None, one or other))

    def undo(self, array: Array) -> Array:
        """``[blocks, rows of a block, ...]`` as ``[*rows, ...]``, without the rows that filled up."""
        (one, other), rest = self.names, array.shape[2:]
        apart = split_as(array, (self.blocks, self.runs, self.each, *rest), (None, one, other))
        by_run = split_as(jnp.moveaxis(apart, 0, 2), (self.runs, self.each * self.blocks, *rest), (one, other))
        names = (other,) if self.runs == 1 else (one, *[None] * (len(self.shape) - 2), other)
        return split_as(by_run[:, : self._length], (*self.shape, *rest), names)


def apply(cut: Cut, tree: Any, *, copies: bool = False) -> Any:
    """Every array of the pytree, cut."""
    return jax.tree.map(lambda array: cut.apply(array, copies=copies), tree)


def undo(cut: Cut, tree: Any) -> Any:
    """Every array of the pytree, whole again."""
    return jax.tree.map(cut.undo, tree)
