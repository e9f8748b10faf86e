"""A linear head: any loss of a row's logits, a block of rows at a time; ``losses/linear_head.py`` has the public one.

The logits x W + b of a large vocabulary are the largest array in training. Here they exist for a block of rows at a
time. When the gradient is formed depends on what is known of the rows' cotangents:

* Summed over rows, with weights or without, the loss is one number, and its cotangent only scales the gradient. So the
  gradient is formed where the logits are, in the same pass, with three matrix products in all (logits, ∂/∂x, ∂/∂W), as
  with stored logits.
* With one result per row, the rows' cotangents are not known in that pass. The backward pass makes the logits again,
  which is a fourth product.

Either way the gradients of the blocks are summed in the dtype of the loss, whatever the dtype of W. A derivative of the
gradient makes the logits again.

The last two products may leave out classes of no weight. With G = ∂/∂(logits) of a block of rows, a group of classes in
which every entry of G is below ε adds at most

    ε Σ_k |W_hk|   to a row's ∂/∂x_h        ε Σ_rows |x_h|   to ∂/∂W_hk         (k over the classes left out)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec

from lossjax._core import xla
from lossjax._core.autodiff import closed_form, known_as
from lossjax._core.masks import hide
from lossjax._core.platform import by_platform
from lossjax._core.sharding import on_one_device, same_on_all, varying_alike
from lossjax._softmax import blocks
from lossjax._softmax.blocks import Cut
from lossjax._softmax.cross_entropy import Options, SoftmaxInputs, softmax_losses

GROUP = 2048
"""Classes that are multiplied, or left out, together: enough to be worth a matrix product of their own. On a CPU a
product to be added to a sum is an array beside the sum, so it is formed by groups to be small; on a GPU or TPU the
addition is a part of the product, and all classes are one group unless some may be left out."""

Outputs = tuple[Array, ...]
"""Results of each row, ``[...]``; the first one is the loss."""


class ChunkSize(NamedTuple):
    """Rows per block: on a CPU, and on a GPU or TPU."""

    cpu: int
    otherwise: int


class Rows(NamedTuple):
    """What each row has of its own, ``[*rows, ...]``, or ``[rows of a block, ...]``; as a cotangent None for the rest.

    ``weights`` multiply the losses where they are summed.
    """

    hidden: Array
    targets: Any
    valid: Array | None
    weights: Array | None = None

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.hidden.shape[:-1]

    def ones(self, dtype: Any) -> Array:
        """A one for each row, spread over an explicit mesh as the hidden states are."""
        split = jax.typeof(self.hidden).sharding
        return jnp.ones(self.shape, dtype, out_sharding=NamedSharding(split.mesh, PartitionSpec(*split.spec[:-1])))


class Shared(NamedTuple):
    """What all rows share: floats, or None; ``terms`` is a pytree of what the loss wants beside the logits."""

    weight: Array
    bias: Array | None
    terms: Any


class CrossEntropy(NamedTuple):
    """The softmax cross-entropies as a loss of logits; the terms are the inputs of their rule that rows share."""

    options: Options

    def __call__(self, terms: SoftmaxInputs, logits: Array, block: Rows) -> Outputs:
        """(loss, log-sum-exp)."""
        inputs = terms._replace(logits=logits, targets=block.targets, valid=block.valid)
        return softmax_losses(self.options, inputs)


class Head(NamedTuple):
    """Static: the loss of the logits, the dtype to compute in, the mesh axis of the classes, the rows per block, and
    the ε below which entries are left out, or None.
    """

    loss: Callable[[Any, Array, Rows], Outputs]
    dtype: Any
    over: str | None
    chunk_size: ChunkSize
    skip_below: float | None = None

    def product(self, shared: Shared, block: Rows) -> Array:
        """``x W``, of unmasked rows: no other row's number may reach a sum. 16-bit products are summed in 32 bits."""
        hidden = hide(block.valid, block.hidden)
        return jnp.matmul(hidden, shared.weight, preferred_element_type=self.dtype).astype(self.dtype)

    def outputs(self, product: Array, shared: Shared, block: Rows) -> Outputs:
        """The results of a block's rows, from x W."""
        logits = product if shared.bias is None else product + shared.bias.astype(self.dtype)[None]
        return self.loss(shared.terms, logits, block)

    def contract(self, a: Array, b: Array, axis: int, like: Array) -> Array:
        """The product of a and b that sums over this axis of both, in the dtype of the loss, laid out as ``like``."""
        return lax.dot_general(
            a,
            b,
            (((axis,), (axis,)), ((), ())),
            preferred_element_type=self.dtype,
            out_sharding=jax.typeof(like).sharding,
        ).astype(self.dtype)


def _in_blocks(rows: Rows, size: int) -> tuple[Cut, Rows]:
    """The rows in blocks; those that fill up the last one are masked."""
    cut = Cut.of(rows.shape, size, jax.typeof(rows.hidden).sharding.spec[: len(rows.shape)])
    if rows.valid is None and not cut.is_even:
        rows = rows._replace(valid=rows.ones(bool))
    return cut, blocks.apply(cut, rows)


def _outputs(head: Head, size: int, shared: Callable[[], Shared], rows: Rows) -> Outputs:
    """The results of all rows, each block's logits made once; a derivative makes them again, block by block.

    ``shared`` is called for each block: what it closes over, in whatever dtype, is what the blocks' gradients are
    summed in.
    """

    @jax.checkpoint
    def of_block(block: Rows) -> Outputs:
        here = shared()
        return head.outputs(head.product(here, block), here, block)

    cut, cut_rows = _in_blocks(rows, size)
    return blocks.undo(cut, lax.map(of_block, cut_rows))


def _one_pass(
    head: Head, size: int, group: int, shared: Shared, rows: Rows, weights: Array
) -> tuple[Array, tuple[Shared, Array]]:
    """The losses of all rows; and the gradients of their weighted sum in what they share and in their hidden states."""
    dtype = shared.weight.dtype

    def in_logits(block: Rows, weights: Array) -> tuple[Array, tuple[Array, Shared]]:
        # The product x W is formed inside, so that XLA may write the gradient over it.
        product = head.product(shared, block)
        rest = shared._replace(weight=jnp.zeros((), dtype))
        losses, pullback = jax.vjp(lambda product, rest: head.outputs(product, rest, block)[0], product, rest)
        return losses, pullback(varying_alike(losses, weights))

    def step(gradient: Shared, indexed: tuple[Array, Rows, Array]) -> tuple[Shared, tuple[Array, Array]]:
        index, block, weights = indexed
        losses, (in_product, in_shared) = xla.not_hoisted(in_logits, index, block, weights)
        # A NaN among the entries of the gradient, which a maximum may not show, is in these.
        sound = jnp.isfinite(jnp.sum(losses) + jnp.sum(weights))
        hidden = hide(block.valid, block.hidden)
        factors = lax.stop_gradient((hidden, in_product, shared.weight))
        in_weight, in_hidden = _add_products(head, group, gradient.weight, *factors, sound)
        # In the dtype of the loss: a sum over many blocks in 16 bits would stand still.
        gradient = jax.tree.map(lambda sum_so_far, more: sum_so_far + more.astype(head.dtype), gradient, in_shared)
        return gradient._replace(weight=in_weight), (losses, hide(block.valid, in_hidden).astype(dtype))

    zeros = varying_alike(shared.weight, jax.tree.map(lambda a: jnp.zeros_like(a, head.dtype), shared))
    cut, cut_rows = _in_blocks(rows, size)
    indexed = jnp.arange(cut.blocks), cut_rows, cut.apply(weights)
    gradient, (losses, in_hidden) = lax.scan(step, zeros, indexed)
    return same_on_all(cut.undo(losses), head.over), (gradient, cut.undo(in_hidden))


def _add_products(
    head: Head, group: int, in_weight: Array, hidden: Array, in_logits: Array, weight: Array, may_skip: Array
) -> tuple[Array, Array]:
    """``in_weight + xᵀG`` and ``G Wᵀ``, in the dtype of the loss, by groups of classes."""
    threshold = head.skip_below

    def add(first: Any, size: int, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        of_logits, of_weight, so_far = (
            lax.dynamic_slice_in_dim(array, first, size, 1) for array in (in_logits, weight, sums[0])
        )
        narrow = of_logits.astype(weight.dtype)
        more = so_far + head.contract(hidden, narrow, 0, so_far)
        in_weight = lax.dynamic_update_slice_in_dim(sums[0], more, first, 1)
        return in_weight, sums[1] + head.contract(narrow, of_weight, 1, hidden)

    def add_if_large(first: Any, size: int, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        if threshold is None:
            return add(first, size, sums)
        entries = lax.dynamic_slice_in_dim(in_logits, first, size, 1)
        large = ~(may_skip & (jnp.max(jnp.abs(entries)) < threshold))
        return lax.cond(large, lambda sums: add(first, size, sums), lambda sums: sums, sums)

    sums = in_weight, varying_alike(in_logits, jnp.zeros_like(hidden, head.dtype))
    classes = weight.shape[1]
    if group == classes:
        return add_if_large(0, classes, sums)
    groups, left = divmod(classes, group)
    sums = xla.repeat(groups, lambda i, sums: add_if_large(i * group, group, sums), sums)
    return add_if_large(classes - left, left, sums) if left else sums


# --- the results of every row ----------------------------------------------------------------------------------------


def _each_forward(head: Head, shared: Shared, rows: Rows) -> tuple[Outputs, Any]:
    outputs = by_platform(
        shared,
        rows,
        cpu=lambda shared, rows: _outputs(head, head.chunk_size.cpu, lambda: shared, rows),
        otherwise=lambda shared, rows: _outputs(head, head.chunk_size.otherwise, lambda: shared, rows),
    )
    return outputs, (head, shared, rows)


def _pullback(head: Head, shared: Shared, rows: Rows) -> tuple[Outputs, Callable[[Outputs], tuple[Shared, Array]]]:
    """The results of every row, and from their cotangents the gradients in what they share and in hidden states.

    All of this can be differentiated again, so its program has one block size, whatever the chip.
    """

    def outputs(shared: Shared, hidden: Array) -> Outputs:
        wide = jax.tree.map(lambda a: a.astype(head.dtype), shared)

        def here() -> Shared:
            return jax.tree.map(lambda a, wide: wide.astype(a.dtype), shared, wide)

        return _outputs(head, head.chunk_size.cpu, here, rows._replace(hidden=hidden))

    found, pullback = jax.vjp(outputs, shared, rows.hidden)
    return found, lambda cotangents: pullback(cotangents)


def _each_backward(saved: Any, cotangents: Outputs) -> tuple[None, Shared, Rows]:
    head, shared, rows = saved
    in_shared, in_hidden = _pullback(head, shared, rows)[1](cotangents)
    return None, in_shared, Rows(in_hidden, None, None)


row_outputs = closed_form(_each_forward, _each_backward)
"""(head, shared, rows) -> the results of every row, without weights."""


# --- the sum of the losses -------------------------------------------------------------------------------------------


def _weights(head: Head, rows: Rows) -> Array:
    if rows.weights is None:
        return rows.ones(head.dtype)
    return same_on_all(hide(rows.valid, rows.weights), head.over).astype(head.dtype)


def _summed_value(head: Head, shared: Shared, rows: Rows) -> tuple[Array, None]:
    (losses, *_), _ = _each_forward(head, shared, rows)
    return jnp.sum(_weights(head, rows) * losses), None


def _summed_forward(head: Head, shared: Shared, rows: Rows) -> tuple[Array, Any]:
    classes, weights = shared.weight.shape[1], _weights(head, rows)
    grouped = GROUP if isinstance(classes, int) and classes > GROUP else classes
    whole = classes if head.skip_below is None else grouped
    formed = by_platform(
        shared,
        rows,
        weights,
        cpu=functools.partial(_one_pass, head, head.chunk_size.cpu, grouped),
        otherwise=functools.partial(_one_pass, head, head.chunk_size.otherwise, whole),
    )
    return jnp.sum(weights * formed[0]), (head, shared, rows, lax.stop_gradient(formed))


def _differentiable(head: Head, shared: Shared, rows: Rows, weights: Array) -> tuple[Array, tuple[Shared, Array]]:
    """What :func:`_one_pass` forms, by the way that can be differentiated again."""
    outputs, pullback = _pullback(head, shared, rows)
    in_shared, in_hidden = pullback((weights, *map(jnp.zeros_like, outputs[1:])))
    return outputs[0], (jax.tree.map(lambda g: g.astype(head.dtype), in_shared), in_hidden)


_known = known_as(_differentiable)


def _summed_backward(saved: Any, cotangent: Array) -> tuple[None, Shared, Rows]:
    head, shared, rows, formed = saved
    losses, gradients = _known(formed, head, shared, rows, _weights(head, rows))
    in_shared, in_hidden = jax.tree.map(lambda g: cotangent.astype(g.dtype) * g, gradients)
    in_hidden = hide(rows.valid, in_hidden)  # forward mode transposes this: what a masked tangent holds is not felt
    in_weights = None
    if rows.weights is not None:
        in_weights = on_one_device(hide(rows.valid, cotangent * losses), head.over)
    return None, in_shared, Rows(in_hidden, None, None, in_weights)


summed_loss = closed_form(_summed_forward, _summed_backward, value=_summed_value)
"""(head, shared, rows) -> the sum of the losses of all rows, each times its weight."""
