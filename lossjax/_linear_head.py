"""The rule of the linear head's cross-entropy; ``linear.py`` holds what people call.

The logits x W + b of a large vocabulary are the largest array in training. Here they exist for a block of rows at a
time. Two paths:

* Summed over rows, the loss is one number, and its cotangent only scales the gradient. So the gradient is formed where
  the logits are, in the same pass: three matrix products in all (logits, ∂/∂x, ∂/∂W), as with stored logits. Only a
  derivative of the gradient makes them again.
* One loss a row: the rows' cotangents are not known in that pass. The backward pass makes the logits again: four.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._autodiff import closed_form, known_as, varying_as
from lossjax._cross_entropy import Options, cross_entropy


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


def block_losses(
    options: Options, shared: Shared, hidden: Array, labels: Array, valid: Array | None
) -> tuple[Array, Array]:
    """(loss, log-sum-exp) of one block's rows. Products of 16-bit numbers are summed in the dtype of the loss."""
    logits = jnp.matmul(hidden, shared.weight, preferred_element_type=options.dtype).astype(options.dtype)
    if shared.bias is not None:
        logits = logits + shared.bias.astype(options.dtype)[None]
    return cross_entropy(
        options, logits, labels, shared.class_weights, None, shared.z_loss, shared.softcap, shared.temperature, valid
    )


def row_losses(options: Options, shared: Shared, rows: Rows) -> tuple[Array, Array]:
    """(loss, log-sum-exp) of every row, ``[blocks, rows]``; the backward pass makes each block's logits again."""

    @jax.checkpoint
    def of_block(block: Rows) -> tuple[Array, Array]:
        return block_losses(options, shared, *block)

    return lax.map(of_block, rows)


def summed_loss(options: Options, shared: Shared, rows: Rows) -> Array:
    """The sum over all rows."""
    return _summed(options, *shared, *rows)


def _summed_forward(options: Options, *args: Any) -> tuple[Array, Any]:
    shared, rows = Shared(*args[:-3]), Rows(*args[-3:])

    def of_block(shared: Shared, hidden: Array, labels: Array, valid: Array | None) -> Array:
        return jnp.sum(block_losses(options, shared, hidden, labels, valid)[0])

    def step(gradient: Shared, block: Rows) -> tuple[Shared, tuple[Array, Array]]:
        loss, (in_shared, in_hidden) = jax.value_and_grad(of_block, argnums=(0, 1))(shared, *block)
        # In the dtype of the loss: a sum over many blocks in 16 bits would stand still.
        gradient = jax.tree.map(lambda sum_so_far, more: sum_so_far + more.astype(options.dtype), gradient, in_shared)
        return gradient, (loss, in_hidden)

    zeros = jax.tree.map(lambda a: varying_as(a, jnp.zeros(a.shape, options.dtype)), shared)
    gradient, (losses, in_hidden) = lax.scan(step, zeros, rows)
    return jnp.sum(losses), (lax.stop_gradient((*gradient, in_hidden)), args)


def _gradients(options: Options, *args: Any) -> Any:
    """What the pass above forms on its way, by the path that can be differentiated again."""
    rows = Rows(*args[-3:])

    def total(shared: Shared, hidden: Array) -> Array:
        return jnp.sum(row_losses(options, shared, rows._replace(hidden=hidden))[0])

    in_shared, in_hidden = jax.grad(total, argnums=(0, 1))(Shared(*args[:-3]), rows.hidden)
    return *(None if g is None else g.astype(options.dtype) for g in in_shared), in_hidden


_known_gradients = known_as(_gradients)


def _summed_backward(options: Options, residuals: Any, cotangent: Array) -> tuple[Any, ...]:
    gradients, args = residuals
    known = _known_gradients(options, gradients, *args)
    return *(None if g is None else cotangent.astype(g.dtype) * g for g in known), None, None


_summed: Callable[..., Array] = closed_form(_summed_forward, _summed_backward)
