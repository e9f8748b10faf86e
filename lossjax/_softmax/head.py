"""A linear head: any loss of a row's logits, a block of rows at a time; ``losses/`` has the public ones.

The logits x W + b of a large vocabulary are the largest array in training. Here they exist for a block of rows at a
time. A loss may want the logits of several heads, of as many classes (a divergence wants two): each has its hidden
states, its weight and its bias. When the gradient is formed depends on what is known of the rows' cotangents:

* Summed over rows, with weights or without, the loss is one number, and its cotangent only scales the gradient. So the
  gradient is formed where the logits are, in the same pass, with three matrix products in all (logits, ∂/∂x, ∂/∂W), as
  with stored logits.
* With one result per row, the rows' cotangents are not known in that pass. The backward pass makes the logits again,
  which is a fourth product, but not what the forward pass knows of each row, such as its maximum and its sums.

These are the two rules of ``head_rules.py``. Either way the gradients of the blocks are formed and added by
``head_gradient.py``, in the dtype of the loss, whatever the dtype of W. A derivative of the gradient is that of
:func:`pull_back` below, and makes the logits again.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec

from lossjax._core.masks import hide
from lossjax._core.platform import by_platform
from lossjax._core.xla import contracted
from lossjax._softmax import blocks
from lossjax._softmax.blocks import Cut
from lossjax._softmax.chunk_size import ChunkSize
from lossjax._softmax.cross_entropy import softmax_losses
from lossjax._softmax.cross_entropy_terms import Options, SoftmaxInputs

Outputs = Any
"""Results of each row, a pytree of ``[...]``; of a sum over rows a tuple, whose first entry is the loss."""


class Rows(NamedTuple):
    """What each row has of its own, ``[*rows, ...]``, or ``[rows of a block, ...]``; as a cotangent None for the rest.

    ``hidden`` are the hidden states of each head; ``own`` is a pytree of whatever else the loss wants of a row (labels,
    probabilities); ``weights`` multiply the losses where they are summed.
    """

    hidden: tuple[Array, ...]
    own: Any
    valid: Array | None
    weights: Array | None = None

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.hidden[0].shape[:-1]

    def ones(self, dtype: Any) -> Array:
        """A one for each row, spread over an explicit mesh as the hidden states are."""
        split = jax.typeof(self.hidden[0]).sharding
        return jnp.ones(self.shape, dtype, out_sharding=NamedSharding(split.mesh, PartitionSpec(*split.spec[:-1])))

    def floats(self) -> Any:
        """Those arrays of ``own`` that are differentiated, None in the place of the others."""
        return jax.tree.map(lambda a: a if jnp.issubdtype(a.dtype, jnp.inexact) else None, self.own)

    def with_floats(self, floats: Any) -> "Rows":
        """The same rows with other numbers in place of :meth:`floats`."""
        own = jax.tree.map(lambda mine, given: mine if given is None else given, self.own, floats)
        return self._replace(own=own)


class Shared(NamedTuple):
    """What all rows share: weight and bias (or None) of each head, and a pytree of what else the loss wants, floats."""

    weight: tuple[Array, ...]
    bias: tuple[Array | None, ...]
    terms: Any


class CrossEntropy(NamedTuple):
    """The softmax cross-entropies as a loss of logits; the terms are the inputs of their rule that rows share."""

    options: Options

    def __call__(self, terms: SoftmaxInputs, logits: tuple[Array, ...], block: Rows) -> Outputs:
        """(loss, log-sum-exp)."""
        inputs = terms._replace(logits=logits[0], targets=block.own, valid=block.valid)
        return softmax_losses(self.options, inputs)


class Head(NamedTuple):
    """Static: the loss of the logits, the dtype to compute in, the mesh axis of the classes, the rows per block, the
    precision of the products, and the ε below which entries are left out, or None.
    """

    loss: Callable[[Any, tuple[Array, ...], Rows], Outputs]
    dtype: Any
    over: str | None
    chunk_size: ChunkSize
    precision: Any = None
    skip_below: float | None = None

    def products(self, shared: Shared, block: Rows) -> tuple[Array, ...]:
        """``x W``, of unmasked rows: no other row's number may reach a sum. 16-bit products are summed in 32 bits."""
        return tuple(
            jnp.matmul(hide(block.valid, x), w, precision=self.precision, preferred_element_type=self.dtype).astype(
                self.dtype
            )
            for x, w in zip(block.hidden, shared.weight, strict=True)
        )

    def outputs(self, products: tuple[Array, ...], shared: Shared, block: Rows) -> Outputs:
        """The results of a block's rows, from x W."""
        logits = tuple(
            product if bias is None else product + bias.astype(self.dtype)[None]
            for product, bias in zip(products, shared.bias, strict=True)
        )
        return self.loss(shared.terms, logits, block)

    def linearized(
        self, shared: Shared, block: Rows, of: Callable[[Outputs], Any] = lambda outputs: outputs
    ) -> tuple[Any, Any]:
        """Those results of a block's rows that ``of`` picks, and their pull-back, a pytree of what it has to know.

        It makes of cotangents those in x W, in what rows share, and in the floats that rows have of their own.
        """
        products, rest = self.products(shared, block), shared._replace(weight=())

        def outputs_of(products: tuple[Array, ...], rest: Shared, own: Any) -> Outputs:
            return of(self.outputs(products, rest, block.with_floats(own)))

        return jax.vjp(outputs_of, products, rest, block.floats())

    def contract(self, a: Array, b: Array, axis: int, like: Array) -> Array:
        """The product of a and b that sums over this axis of both, in the dtype of the loss, laid out as ``like``."""
        how = {"precision": self.precision, "preferred_element_type": self.dtype}
        return contracted(a, b, axis, jax.typeof(like).sharding, **how).astype(self.dtype)


def any_outputs(head: Head, shared: Shared, rows: Rows) -> Outputs:
    """The results of all rows by a loss that JAX differentiates, whatever it closes over and returns.

    The last block is filled up with copies of the last row: of zeros a gradient might be NaN.
    """
    wide = jax.tree.map(lambda a: a.astype(head.dtype), shared)

    def of_blocks(size: int, wide: Shared, rows: Rows) -> Outputs:
        cut = Cut.of(rows.shape, size, jax.typeof(rows.hidden[0]).sharding.spec[: len(rows.shape)])
        return outputs_by_block(head, cut, lambda: _narrow(wide, shared), blocks.apply(cut, rows, copies=True))

    of_size = [functools.partial(of_blocks, size) for size in head.chunk_size.with_gradient]
    if head.chunk_size.cpu == head.chunk_size.otherwise:
        return of_size[0](wide, rows)
    return by_platform(wide, rows, cpu=of_size[0], otherwise=of_size[1])


def _narrow(wide: Shared, like: Shared) -> Shared:
    return jax.tree.map(lambda a, wide: wide.astype(a.dtype), like, wide)


def in_blocks(rows: Rows, size: int) -> tuple[Cut, Rows]:
    """The rows in blocks; those that fill up the last one are masked."""
    cut = Cut.of(rows.shape, size, jax.typeof(rows.hidden[0]).sharding.spec[: len(rows.shape)])
    if rows.valid is None and not cut.is_even:
        rows = rows._replace(valid=rows.ones(bool))
    return cut, blocks.apply(cut, rows)


def outputs_by_block(head: Head, cut: Cut, shared: Callable[[], Shared], rows: Rows) -> Outputs:
    """The results of all rows, given in blocks; a derivative makes each block's logits again.

    ``shared`` is called for each block: what it closes over, in whatever dtype, is what the blocks' gradients are
    summed in.
    """

    @jax.checkpoint
    def of_block(block: Rows) -> Outputs:
        here = shared()
        return head.outputs(head.products(here, block), here, block)

    return blocks.undo(cut, lax.map(of_block, rows))


MOST_OF_A_ROW = 16
"""How many numbers of a row an array may have that is kept for the backward pass."""

Known = list[Array | None]
"""What a pull-back has to know, None in place of what is made again."""


def known_of_rows(pullback: Any, rows: Any) -> Known:
    """What a block's pull-back has to know, and that is a few numbers for each of its rows."""

    def is_of_rows(shape: tuple[Any, ...]) -> bool:
        numbers = math.prod(shape[1:])
        return shape[:1] == (rows,) and isinstance(numbers, int) and numbers <= MOST_OF_A_ROW

    return [lax.stop_gradient(leaf) if is_of_rows(leaf.shape) else None for leaf in jax.tree.leaves(pullback)]


def with_known(pullback: Any, known: Known) -> Any:
    """The pull-back that is told what is known, so that XLA does not compute it again."""
    leaves, structure = jax.tree.flatten(pullback)
    told = [leaf if given is None else given for leaf, given in zip(leaves, known, strict=True)]
    return jax.tree.unflatten(structure, told)


def outputs_and_known(head: Head, cut: Cut, shared: Shared, rows: Rows) -> tuple[Outputs, Known]:
    """The results of all rows, given in blocks, and what their gradient has to know of them."""

    @jax.checkpoint
    def of_block(block: Rows) -> tuple[Outputs, Known]:
        outputs, pullback = head.linearized(shared, block)
        return outputs, known_of_rows(pullback, block.shape[0])

    return blocks.undo(cut, lax.map(of_block, rows))


Gradients = tuple[Shared, tuple[Array, ...], Any]
"""In what rows share, in the hidden states of each head, and in the floats that rows have of their own."""


def pull_back(
    head: Head,
    shared: Shared,
    rows: Rows,
    cotangents: Any,
    complete: Callable[[Outputs, Any], Outputs] = lambda outputs, cotangents: cotangents,
) -> tuple[Outputs, Gradients]:
    """The results of every row, and the gradients by their cotangents, in a form that can be differentiated again.

    ``complete`` makes the cotangents of all results from those that are known.
    """

    def of_blocks(size: int, shared: Shared, rows: Rows, cotangents: Any) -> tuple[Outputs, Gradients]:
        def outputs(shared: Shared, hidden: tuple[Array, ...], floats: Any) -> Outputs:
            wide = jax.tree.map(lambda a: a.astype(head.dtype), shared)
            cut, cut_rows = in_blocks(rows._replace(hidden=hidden).with_floats(floats), size)
            return outputs_by_block(head, cut, lambda: _narrow(wide, shared), cut_rows)

        found, pullback = jax.vjp(outputs, shared, rows.hidden, rows.floats())
        return found, pullback(complete(found, cotangents))

    cpu, otherwise = (functools.partial(of_blocks, size) for size in head.chunk_size.with_gradient)
    if head.chunk_size.cpu == head.chunk_size.otherwise:
        return cpu(shared, rows, cotangents)
    # The choice is outside the derivative, so that nothing of the formula not chosen is kept.
    return by_platform(shared, rows, cotangents, cpu=cpu, otherwise=otherwise)
