"""The rule of the linear head's cross-entropy; ``losses/linear_head.py`` holds the public function.

The logits x W + b of a large vocabulary are the largest array in training. Here they exist for a block of rows at a
time. There are two paths:

* Summed over rows, the loss is one number, and its cotangent only scales the gradient. So the gradient is formed where
  the logits are, in the same pass, with three matrix products in all (logits, ∂/∂x, ∂/∂W), as with stored logits. Only
  a derivative of the gradient makes the logits again.
* With one loss per row, the rows' cotangents are not known in that pass. The backward pass makes the logits again,
  which is a fourth product.

On the first path the last two products may leave out classes of no weight. With G = ∂/∂(logits) of a block of rows, a
group of classes in which every entry of G is below ε adds at most

    ε Σ_k |W_hk|   to a row's ∂/∂x_h        ε Σ_rows |x_h|   to ∂/∂W_hk         (k over the classes left out)
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core import xla
from lossjax._core.autodiff import closed_form, known_as
from lossjax._core.platform import by_platform
from lossjax._core.sharding import same_on_all, varying_alike
from lossjax._softmax.cross_entropy import LogitTransform, Options, SoftmaxInputs, softmax_losses

GROUP = 2048
"""Classes that are multiplied, or left out, together: enough to be worth a matrix product of their own. On a CPU a
product to be added to a sum is an array beside the sum, so it is formed by groups to be small; on a GPU or TPU the
addition is a part of the product, and all classes are one group unless some may be left out."""


class ChunkSize(NamedTuple):
    """Rows per block: on a CPU, and on a GPU or TPU."""

    cpu: int
    otherwise: int


class Head(NamedTuple):
    """Static: the options of the loss, the rows per block, and the ε below which entries are left out, or None."""

    loss: Options
    chunk_size: ChunkSize
    skip_below: float | None


class Rows(NamedTuple):
    """What each row has of its own, ``[N, ...]``, or ``[blocks, rows, ...]`` once cut into blocks.

    As a cotangent it has None for the labels and the mask.
    """

    hidden: Array
    labels: Any
    valid: Array | None

    def in_blocks(self, size: int) -> "Rows":
        """The rows in blocks of this size, the last one filled up with masked rows."""
        count = self.hidden.shape[0]
        blocks = -(-count // size)
        missing = blocks * size - count
        valid = self.valid
        if missing and valid is None:
            valid = jnp.ones(self.labels.shape, bool)

        def cut(array: Array) -> Array:
            filled = jnp.pad(array, ((0, missing), *[(0, 0)] * (array.ndim - 1)))
            return filled.reshape(blocks, size, *array.shape[1:])

        return jax.tree.map(cut, Rows(self.hidden, self.labels, valid))


def without_blocks(array: Array, count: int) -> Array:
    """``[blocks, rows, ...]`` as ``[N, ...]``, without the rows that fill up the last block."""
    return array.reshape(-1, *array.shape[2:])[:count]


class Shared(NamedTuple):
    """What all rows share: floats, or None."""

    weight: Array
    bias: Array | None = None
    class_weights: Array | None = None
    z_loss: Array | None = None
    transform: LogitTransform = LogitTransform(None, None)


def _matmul(options: Options, a: Array, b: Array) -> Array:
    """The product a b. Products of 16-bit numbers are summed in the dtype of the loss."""
    return jnp.matmul(a, b, preferred_element_type=options.dtype).astype(options.dtype)


def _contract(options: Options, a: Array, b: Array, axis: int) -> Array:
    """The product of a and b that sums over this axis of both, in the dtype of the loss."""
    dimensions = (((axis,), (axis,)), ((), ()))
    return lax.dot_general(a, b, dimensions, preferred_element_type=options.dtype).astype(options.dtype)


def _losses(options: Options, shared: Shared, product: Array, block: Rows) -> tuple[Array, Array]:
    """(loss, log-sum-exp) of one block's rows, from x W."""
    logits = product if shared.bias is None else product + shared.bias.astype(options.dtype)[None]
    inputs = SoftmaxInputs(
        logits,
        block.labels,
        class_weights=shared.class_weights,
        z_loss=shared.z_loss,
        transform=shared.transform,
        valid=block.valid,
    )
    return softmax_losses(options, inputs)


def row_losses(options: Options, shared: Shared, rows: Rows, size: int) -> tuple[Array, Array]:
    """(loss, log-sum-exp) of every row, ``[N]``; the backward pass makes each block's logits again."""

    @jax.checkpoint
    def of_block(block: Rows) -> tuple[Array, Array]:
        return _losses(options, shared, _matmul(options, block.hidden, shared.weight), block)

    loss, lse = lax.map(of_block, rows.in_blocks(size))
    count = rows.hidden.shape[0]
    return without_blocks(loss, count), without_blocks(lse, count)


def _summed_forward(head: Head, shared: Shared, rows: Rows) -> tuple[Array, Any]:
    classes = shared.weight.shape[1]
    grouped, whole = min(GROUP, classes), classes if head.skip_below is None else min(GROUP, classes)
    total, formed = by_platform(
        shared,
        rows,
        cpu=functools.partial(_one_pass, head, head.chunk_size.cpu, grouped),
        otherwise=functools.partial(_one_pass, head, head.chunk_size.otherwise, whole),
    )
    return total, (head, shared, rows, lax.stop_gradient(formed))


def _one_pass(head: Head, size: int, group: int, shared: Shared, rows: Rows) -> tuple[Array, tuple[Shared, Array]]:
    """The sum of all rows' losses, and its gradients in what they share and in their hidden states."""
    options, dtype = head.loss, shared.weight.dtype

    def of_block(product: Array, shared: Shared, block: Rows) -> Array:
        return jnp.sum(_losses(options, shared, product, block)[0])

    def in_logits(block: Rows) -> tuple[Array, tuple[Array, Shared]]:
        product = _matmul(options, block.hidden, shared.weight)
        rest = shared._replace(weight=jnp.zeros((), dtype))
        return jax.value_and_grad(of_block, argnums=(0, 1))(product, rest, block)

    def step(gradient: Shared, indexed: tuple[Array, Rows]) -> tuple[Shared, tuple[Array, Array]]:
        index, block = indexed
        # The product x W is formed inside, so that XLA may write the gradient over it.
        loss, (in_product, in_shared) = xla.not_hoisted(in_logits, index, block)
        sound = jnp.isfinite(loss)  # a NaN among the entries of the gradient, which a maximum may not show, is in it
        factors = lax.stop_gradient((block.hidden, in_product, shared.weight))
        in_weight, in_hidden = _add_products(head, group, gradient.weight, *factors, sound)
        # In the dtype of the loss: a sum over many blocks in 16 bits would stand still.
        gradient = jax.tree.map(lambda sum_so_far, more: sum_so_far + more.astype(options.dtype), gradient, in_shared)
        return gradient._replace(weight=in_weight), (loss, in_hidden.astype(dtype))

    zeros = varying_alike(shared.weight, jax.tree.map(lambda a: jnp.zeros(a.shape, options.dtype), shared))
    blocks = rows.in_blocks(size)
    gradient, (losses, in_hidden) = lax.scan(step, zeros, (jnp.arange(blocks.labels.shape[0]), blocks))
    total = same_on_all(jnp.sum(losses), options.over)
    return total, (gradient, without_blocks(in_hidden, rows.hidden.shape[0]))


def _add_products(
    head: Head, group: int, in_weight: Array, hidden: Array, in_logits: Array, weight: Array, may_skip: Array
) -> tuple[Array, Array]:
    """``in_weight + xᵀG`` and ``G Wᵀ``, in the dtype of the loss, by groups of classes."""
    options, threshold = head.loss, head.skip_below

    def add(first: Any, size: int, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        of_logits, of_weight, so_far = (
            lax.dynamic_slice_in_dim(array, first, size, 1) for array in (in_logits, weight, sums[0])
        )
        narrow = of_logits.astype(weight.dtype)
        more = so_far + _contract(options, hidden, narrow, 0)
        in_weight = lax.dynamic_update_slice_in_dim(sums[0], more, first, 1)
        return in_weight, sums[1] + _contract(options, narrow, of_weight, 1)

    def add_if_large(first: Any, size: int, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        if threshold is None:
            return add(first, size, sums)
        entries = lax.dynamic_slice_in_dim(in_logits, first, size, 1)
        large = ~(may_skip & (jnp.max(jnp.abs(entries)) < threshold))
        return lax.cond(large, lambda sums: add(first, size, sums), lambda sums: sums, sums)

    classes = weight.shape[1]
    groups, left = divmod(classes, group)
    sums = in_weight, varying_alike(in_logits, jnp.zeros(hidden.shape, options.dtype))
    if groups == 1:
        sums = add_if_large(0, group, sums)
    else:
        sums = xla.repeat(groups, lambda i, sums: add_if_large(i * group, group, sums), sums)
    return add_if_large(classes - left, left, sums) if left else sums


def _gradients(head: Head, shared: Shared, rows: Rows) -> tuple[Shared, Array]:
    """The gradients that the forward pass forms on its way, by the path that can be differentiated again."""

    def total(shared: Shared, hidden: Array) -> Array:
        return jnp.sum(row_losses(head.loss, shared, rows._replace(hidden=hidden), head.chunk_size.cpu)[0])

    in_shared, in_hidden = jax.grad(total, argnums=(0, 1))(shared, rows.hidden)
    return jax.tree.map(lambda g: g.astype(head.loss.dtype), in_shared), in_hidden


_precomputed_gradients = known_as(_gradients)


def _summed_backward(saved: Any, cotangent: Array) -> tuple[None, Shared, Rows]:
    head, shared, rows, formed = saved
    gradients = _precomputed_gradients(formed, head, shared, rows)
    in_shared, in_hidden = jax.tree.map(lambda g: cotangent.astype(g.dtype) * g, gradients)
    return None, in_shared, Rows(in_hidden, None, None)


summed_loss = closed_form(_summed_forward, _summed_backward)
"""(head, shared, rows) -> the sum of the losses of all rows."""
