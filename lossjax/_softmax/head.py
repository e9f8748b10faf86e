"""The rule of the linear head's cross-entropy; ``linear.py`` holds what people call.

The logits x W + b of a large vocabulary are the largest array in training. Here they exist for a block of rows at a
time. Two paths:

* Summed over rows, the loss is one number, and its cotangent only scales the gradient. So the gradient is formed where
  the logits are, in the same pass: three matrix products in all (logits, ∂/∂x, ∂/∂W), as with stored logits. Only a
  derivative of the gradient makes them again.
* One loss a row: the rows' cotangents are not known in that pass. The backward pass makes the logits again: four.

On the first path the last two products may leave out classes of no weight. With G = ∂/∂(logits) of a block of rows, a
group of classes in which every entry of G is below ε adds at most

    ε Σ_k |W_hk|   to a row's ∂/∂x_h        ε Σ_rows |x_h|   to ∂/∂W_hk         (k over the classes left out)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form, known_as
from lossjax._core.sharding import same_on_all, varying_alike
from lossjax._softmax.cross_entropy import LogitTransform, Options, SoftmaxInputs, softmax_losses

GROUP = 2048
"""Classes that are multiplied, or left out, together: enough to be worth a product of their own."""


class Head(NamedTuple):
    """Static: the options of the loss, and the ε below which a group's entries are left out, or None."""

    loss: Options
    skip_below: float | None


class Blocks(NamedTuple):
    """What belongs to rows, in blocks ``[blocks, rows, ...]``. Rows that fill up the last block are masked."""

    hidden: Array
    labels: Any
    valid: Array | None


class Shared(NamedTuple):
    """What all rows share: floats, or None."""

    weight: Array
    bias: Array | None = None
    class_weights: Array | None = None
    z_loss: Array | None = None
    transform: LogitTransform = LogitTransform(None, None)


def in_blocks(hidden: Array, labels: Array, valid: Array | None, size: int) -> Blocks:
    """Rows ``[N, ...]`` in blocks of this size, the last one filled up with masked rows."""
    count = hidden.shape[0]
    blocks = -(-count // size)
    missing = blocks * size - count
    if missing and valid is None:
        valid = jnp.ones(labels.shape, bool)

    def cut(array: Array) -> Array:
        filled = jnp.pad(array, ((0, missing), *[(0, 0)] * (array.ndim - 1)))
        return filled.reshape(blocks, size, *array.shape[1:])

    return Blocks(cut(hidden), cut(labels), None if valid is None else cut(valid))


def _matmul(options: Options, a: Array, b: Array) -> Array:
    """Products of 16-bit numbers are summed in the dtype of the loss."""
    return jnp.matmul(a, b, preferred_element_type=options.dtype).astype(options.dtype)


def _losses(
    options: Options, shared: Shared, product: Array, labels: Array, valid: Array | None
) -> tuple[Array, Array]:
    """(loss, log-sum-exp) of one block's rows, from x W."""
    logits = product if shared.bias is None else product + shared.bias.astype(options.dtype)[None]
    inputs = SoftmaxInputs(
        logits,
        labels,
        class_weights=shared.class_weights,
        z_loss=shared.z_loss,
        transform=shared.transform,
        valid=valid,
    )
    return softmax_losses(options, inputs)


def row_losses(options: Options, shared: Shared, blocks: Blocks) -> tuple[Array, Array]:
    """(loss, log-sum-exp) of every row, ``[blocks, rows]``; the backward pass makes each block's logits again."""

    @jax.checkpoint
    def of_block(block: Blocks) -> tuple[Array, Array]:
        return _losses(options, shared, _matmul(options, block.hidden, shared.weight), block.labels, block.valid)

    return lax.map(of_block, blocks)


def _summed_forward(head: Head, shared: Shared, blocks: Blocks) -> tuple[Array, Any]:
    options, dtype = head.loss, shared.weight.dtype

    def of_block(product: Array, shared: Shared, labels: Array, valid: Array | None) -> Array:
        return jnp.sum(_losses(options, shared, product, labels, valid)[0])

    def in_logits(block: Blocks) -> tuple[Array, tuple[Array, Shared]]:
        product = _matmul(options, block.hidden, shared.weight)
        rest = shared._replace(weight=jnp.zeros((), dtype))
        found = jax.value_and_grad(of_block, argnums=(0, 1))(product, rest, block.labels, block.valid)
        return varying_alike(product, found)

    def nothing(block: Blocks) -> tuple[Array, tuple[Array, Shared]]:
        shapes = jax.eval_shape(in_logits, block)
        return varying_alike(block.hidden, jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes))

    def step(gradient: Shared, indexed: tuple[Array, Blocks]) -> tuple[Shared, tuple[Array, Array]]:
        index, block = indexed
        # Always true. What is the same in each pass of a loop, an index and a zero for every logit among it, JAX moves
        # out of it; not out of a conditional. The product is within, so that XLA may write over it.
        loss, (in_product, in_shared) = lax.cond(index >= 0, in_logits, nothing, block)
        sound = jnp.isfinite(loss)  # XLA's maximum of many numbers is not NaN for a NaN among them
        factors = lax.stop_gradient((block.hidden, in_product, shared.weight))
        in_weight, in_hidden = _add_products(head, gradient.weight, *factors, sound)
        # In the dtype of the loss: a sum over many blocks in 16 bits would stand still.
        gradient = jax.tree.map(lambda sum_so_far, more: sum_so_far + more.astype(options.dtype), gradient, in_shared)
        return gradient._replace(weight=in_weight), (loss, in_hidden.astype(dtype))

    zeros = varying_alike(shared.weight, jax.tree.map(lambda a: jnp.zeros(a.shape, options.dtype), shared))
    gradient, (losses, in_hidden) = lax.scan(step, zeros, (jnp.arange(blocks.labels.shape[0]), blocks))
    formed = lax.stop_gradient((gradient, in_hidden))
    return same_on_all(jnp.sum(losses), options.over), (head, shared, blocks, formed)


def _add_products(
    head: Head, in_weight: Array, hidden: Array, in_logits: Array, weight: Array, may_skip: Array
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
        small = may_skip & (jnp.max(jnp.abs(entries)) < threshold)
        # A loop of one pass or none: for a conditional XLA copies the sums. The products are of the loop's own index;
        # others would be moved out of it, and formed always.
        return lax.fori_loop(first, jnp.where(small, first, first + 1), lambda i, sums: add(i, size, sums), sums)

    classes = weight.shape[1]
    size = _group_size(classes, skipping=threshold is not None)
    groups, left = divmod(classes, size)
    sums = in_weight, varying_alike(in_logits, jnp.zeros(hidden.shape, options.dtype))
    if groups == 1:
        sums = add_if_large(0, size, sums)
    else:
        # Of a loop whose length it knows, JAX would move out what depends on the index alone: the weights, by groups.
        count = lax.optimization_barrier(jnp.int32(groups))
        sums = lax.fori_loop(0, count, lambda i, sums: add_if_large(i * size, size, sums), sums)
    return add_if_large(classes - left, left, sums) if left else sums


def _group_size(classes: int, *, skipping: bool) -> int:
    """On a GPU or TPU the sum is part of the product; on a CPU the product is an array beside it, kept small."""
    return min(GROUP, classes) if skipping or jax.default_backend() == "cpu" else classes


def _contract(options: Options, a: Array, b: Array, axis: int) -> Array:
    dimensions = (((axis,), (axis,)), ((), ()))
    return lax.dot_general(a, b, dimensions, preferred_element_type=options.dtype).astype(options.dtype)


def _gradients(head: Head, shared: Shared, blocks: Blocks) -> tuple[Shared, Array]:
    """The gradients that the forward pass forms on its way, by the path that can be differentiated again."""

    def total(shared: Shared, hidden: Array) -> Array:
        return jnp.sum(row_losses(head.loss, shared, blocks._replace(hidden=hidden))[0])

    in_shared, in_hidden = jax.grad(total, argnums=(0, 1))(shared, blocks.hidden)
    return jax.tree.map(lambda g: g.astype(head.loss.dtype), in_shared), in_hidden


_precomputed_gradients = known_as(_gradients)


def _summed_backward(saved: Any, cotangent: Array) -> tuple[None, Shared, Blocks]:
    head, shared, blocks, formed = saved
    known = _precomputed_gradients(formed, head, shared, blocks)
    in_shared, in_hidden = jax.tree.map(lambda g: cotangent.astype(g.dtype) * g, known)
    return None, in_shared, Blocks(in_hidden, None, None)


summed_loss = closed_form(_summed_forward, _summed_backward)
"""(head, shared, blocks) -> the sum of the losses of all rows."""
