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

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._autodiff import closed_form, known_as, varying_alike
from lossjax._cross_entropy import Options, cross_entropy
from lossjax._rows import shared_number

GROUP = 1024
"""Classes that are left out together: enough to be worth a product of their own."""


class Head(NamedTuple):
    """Static: the options of the loss, and the ε below which a group's entries are left out, or None."""

    loss: Options
    skip_below: float | None


class Rows(NamedTuple):
    """What belongs to rows, in blocks ``[blocks, rows, ...]``. Rows that fill up the last one are masked."""

    hidden: Array
    labels: Array
    valid: Array | None


class Shared(NamedTuple):
    """What all rows share: floats, or None."""

    weight: Array
    bias: Array | None
    class_weights: Array | None
    z_loss: Array | None
    softcap: Array | None
    temperature: Array | None


def in_blocks(hidden: Array, labels: Array, valid: Array | None, size: int) -> Rows:
    """Rows ``[N, ...]`` in blocks of this size, the last one filled up with masked rows."""
    count = hidden.shape[0]
    blocks = -(-count // size)
    missing = blocks * size - count
    if missing and valid is None:
        valid = jnp.ones(labels.shape, bool)

    def cut(array: Array) -> Array:
        filled = jnp.pad(array, ((0, missing), *[(0, 0)] * (array.ndim - 1)))
        return filled.reshape(blocks, size, *array.shape[1:])

    return Rows(cut(hidden), cut(labels), None if valid is None else cut(valid))


def _matmul(options: Options, a: Array, b: Array) -> Array:
    """Products of 16-bit numbers are summed in the dtype of the loss."""
    return jnp.matmul(a, b, preferred_element_type=options.dtype).astype(options.dtype)


def _losses(
    options: Options, shared: Shared, product: Array, labels: Array, valid: Array | None
) -> tuple[Array, Array]:
    """(loss, log-sum-exp) of one block's rows, from x W."""
    logits = product if shared.bias is None else product + shared.bias.astype(options.dtype)[None]
    return cross_entropy(
        options, logits, labels, shared.class_weights, None, shared.z_loss, shared.softcap, shared.temperature, valid
    )


def row_losses(options: Options, shared: Shared, rows: Rows) -> tuple[Array, Array]:
    """(loss, log-sum-exp) of every row, ``[blocks, rows]``; the backward pass makes each block's logits again."""

    @jax.checkpoint
    def of_block(block: Rows) -> tuple[Array, Array]:
        return _losses(options, shared, _matmul(options, block.hidden, shared.weight), block.labels, block.valid)

    return lax.map(of_block, rows)


def summed_loss(head: Head, shared: Shared, rows: Rows) -> Array:
    """The sum over all rows."""
    return _summed(head, *shared, *rows)


def _summed_forward(head: Head, *args: Any) -> tuple[Array, Any]:
    options, shared, rows = head.loss, Shared(*args[:-3]), Rows(*args[-3:])
    dtype = shared.weight.dtype

    def of_block(product: Array, shared: Shared, labels: Array, valid: Array | None) -> Array:
        return jnp.sum(_losses(options, shared, product, labels, valid)[0])

    def in_logits(product: Array, labels: Array, valid: Array | None) -> tuple[Array, tuple[Array, Shared]]:
        rest = shared._replace(weight=jnp.zeros((), dtype))
        return varying_alike(product, jax.value_and_grad(of_block, argnums=(0, 1))(product, rest, labels, valid))

    def nothing(product: Array, labels: Array, valid: Array | None) -> tuple[Array, tuple[Array, Shared]]:
        shapes = jax.eval_shape(in_logits, product, labels, valid)
        return varying_alike(product, jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes))

    def step(gradient: Shared, indexed: tuple[Array, Rows]) -> tuple[Shared, tuple[Array, Array]]:
        index, block = indexed
        product = _matmul(options, block.hidden, shared.weight)
        # Always true. Out of the body of a loop XLA moves what is the same each time, an index and a zero for every
        # logit among it; not out of a conditional.
        loss, (in_product, in_shared) = lax.cond(index >= 0, in_logits, nothing, product, block.labels, block.valid)
        sound = jnp.isfinite(loss)  # XLA's maximum of many numbers is not NaN for a NaN among them
        in_weight, in_hidden = _add_products(head, gradient.weight, block.hidden, in_product, shared.weight, sound)
        # In the dtype of the loss: a sum over many blocks in 16 bits would stand still.
        gradient = jax.tree.map(lambda sum_so_far, more: sum_so_far + more.astype(options.dtype), gradient, in_shared)
        return gradient._replace(weight=in_weight), (loss, in_hidden.astype(dtype))

    zeros = varying_alike(shared.weight, jax.tree.map(lambda a: jnp.zeros(a.shape, options.dtype), shared))
    gradient, (losses, in_hidden) = lax.scan(step, zeros, (jnp.arange(rows.labels.shape[0]), rows))
    return shared_number(jnp.sum(losses), options.over), (lax.stop_gradient((*gradient, in_hidden)), args)


def _add_products(
    head: Head, in_weight: Array, hidden: Array, in_logits: Array, weight: Array, may_skip: Array
) -> tuple[Array, Array]:
    """``in_weight + xᵀG`` and ``G Wᵀ``, in the dtype of the loss."""
    options, threshold, narrow = head.loss, head.skip_below, in_logits.astype(weight.dtype)
    if threshold is None:
        return in_weight + _contract(options, hidden, narrow, 0), _contract(options, narrow, weight, 1)

    def add_group(sums: tuple[Array, Array], first: Any, size: int) -> tuple[Array, Array]:
        of_weight, of_hidden = sums
        of_group = [lax.dynamic_slice_in_dim(a, first, size, 1) for a in (narrow, weight, of_weight)]

        def products() -> tuple[Array, Array]:
            return _contract(options, hidden, of_group[0], 0), _contract(options, of_group[0], of_group[1], 1)

        def nothing() -> tuple[Array, Array]:
            shapes = jax.eval_shape(products)
            return varying_alike(narrow, jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes))

        entries = lax.dynamic_slice_in_dim(in_logits, first, size, 1)
        small = may_skip & (jnp.max(jnp.abs(entries)) < threshold)
        more_of_weight, more_of_hidden = lax.cond(small, nothing, products)
        of_weight = lax.dynamic_update_slice_in_dim(of_weight, of_group[2] + more_of_weight, first, 1)
        return of_weight, of_hidden + more_of_hidden

    size = min(GROUP, weight.shape[1])
    groups, left = divmod(weight.shape[1], size)
    sums = in_weight, varying_alike(narrow, jnp.zeros(hidden.shape, options.dtype))
    sums = lax.fori_loop(0, groups, lambda i, sums: add_group(sums, i * size, size), sums)
    return add_group(sums, groups * size, left) if left else sums


def _contract(options: Options, a: Array, b: Array, axis: int) -> Array:
    dimensions = (((axis,), (axis,)), ((), ()))
    return lax.dot_general(a, b, dimensions, preferred_element_type=options.dtype).astype(options.dtype)


def _gradients(head: Head, *args: Any) -> Any:
    """What the pass above forms on its way, by the path that can be differentiated again."""
    rows = Rows(*args[-3:])

    def total(shared: Shared, hidden: Array) -> Array:
        return jnp.sum(row_losses(head.loss, shared, rows._replace(hidden=hidden))[0])

    in_shared, in_hidden = jax.grad(total, argnums=(0, 1))(Shared(*args[:-3]), rows.hidden)
    return *(None if g is None else g.astype(head.loss.dtype) for g in in_shared), in_hidden


_known_gradients = known_as(_gradients)


def _summed_backward(head: Head, residuals: Any, cotangent: Array) -> tuple[Any, ...]:
    gradients, args = residuals
    known = _known_gradients(head, gradients, *args)
    return *(None if g is None else cotangent.astype(g.dtype) * g for g in known), None, None


_summed: Callable[..., Array] = closed_form(_summed_forward, _summed_backward)
