"""The two rules of a head: the results of every row, and the sum of the losses, whose gradient is formed with it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form, known_as
from lossjax._core.masks import hide
from lossjax._core.platform import by_platform
from lossjax._core.sharding import on_one_device, same_on_all
from lossjax._softmax.head import (
    Gradients,
    Head,
    Known,
    Outputs,
    Rows,
    Shared,
    in_blocks,
    outputs_and_known,
    outputs_by_block,
    pull_back,
)
from lossjax._softmax.head_gradient import one_pass


def _wide(head: Head, gradients: Gradients) -> Gradients:
    """With what is summed over blocks in the dtype of the sums."""
    in_shared, in_hidden, in_own = gradients
    return jax.tree.map(lambda g: g.astype(head.dtype), in_shared), in_hidden, in_own


def _each_value(head: Head, shared: Shared, rows: Rows) -> tuple[Outputs, None]:
    def of_blocks(size: int, shared: Shared, rows: Rows) -> Outputs:
        cut, cut_rows = in_blocks(rows, size)
        return outputs_by_block(head, cut, lambda: shared, cut_rows)

    cpu, otherwise = (functools.partial(of_blocks, size) for size in head.chunk_size.without)
    return by_platform(shared, rows, cpu=cpu, otherwise=otherwise), None


def _each_forward(head: Head, shared: Shared, rows: Rows) -> tuple[Outputs, Any]:
    def of_blocks(size: int, shared: Shared, rows: Rows) -> tuple[Outputs, Known]:
        cut, cut_rows = in_blocks(rows, size)
        return outputs_and_known(head, cut, shared, cut_rows)

    cpu, otherwise = (functools.partial(of_blocks, size) for size in head.chunk_size.with_gradient)
    outputs, known = by_platform(shared, rows, cpu=cpu, otherwise=otherwise)
    return outputs, (head, shared, rows, lax.stop_gradient(known))


@known_as
def _gradients_of_rows(head: Head, shared: Shared, rows: Rows, cotangents: Outputs) -> Gradients:
    return _wide(head, pull_back(head, shared, rows, cotangents)[1])


def _each_backward(saved: Any, cotangents: Outputs) -> tuple[None, Shared, Rows]:
    head, shared, rows, known = saved
    formed = lax.stop_gradient(one_pass(head, shared, rows, cotangents, known=known)[1])
    in_shared, in_hidden, in_own = _gradients_of_rows(formed, head, shared, rows, cotangents)
    return None, in_shared, Rows(in_hidden, in_own, None)


row_outputs = closed_form(_each_forward, _each_backward, value=_each_value)
"""(head, shared, rows) -> the results of every row, without weights."""


def _weights(head: Head, rows: Rows) -> Array:
    if rows.weights is None:
        return rows.ones(head.dtype)
    return same_on_all(hide(rows.valid, rows.weights), head.over).astype(head.dtype)


def _summed_value(head: Head, shared: Shared, rows: Rows) -> tuple[Array, None]:
    losses, *_ = row_outputs(head, shared, rows._replace(weights=None))
    return jnp.sum(_weights(head, rows) * losses), None


def _first(outputs: Outputs) -> Array:
    return outputs[0]


def _summed_forward(head: Head, shared: Shared, rows: Rows) -> tuple[Array, Any]:
    weights = _weights(head, rows)
    losses, gradients = one_pass(head, shared, rows, weights, _first)
    losses = same_on_all(losses, head.over)
    return jnp.sum(weights * losses), (head, shared, rows, lax.stop_gradient((losses, gradients)))


@known_as
def _losses_and_gradients(head: Head, shared: Shared, rows: Rows, weights: Array) -> tuple[Array, Gradients]:
    outputs, gradients = pull_back(
        head, shared, rows, weights, lambda outputs, weights: (weights, *map(jnp.zeros_like, outputs[1:]))
    )
    return outputs[0], _wide(head, gradients)


def _summed_backward(saved: Any, cotangent: Array) -> tuple[None, Shared, Rows]:
    head, shared, rows, formed = saved
    losses, gradients = _losses_and_gradients(formed, head, shared, rows, _weights(head, rows))
    in_shared, in_hidden, in_own = jax.tree.map(lambda g: cotangent.astype(g.dtype) * g, gradients)
    # Forward mode transposes this: what a masked tangent holds is not felt.
    in_hidden, in_own = jax.tree.map(functools.partial(hide, rows.valid), (in_hidden, in_own))
    in_weights = None
    if rows.weights is not None:
        in_weights = on_one_device(hide(rows.valid, cotangent * losses), head.over)
    return None, in_shared, Rows(in_hidden, in_own, None, in_weights)


summed_loss = closed_form(_summed_forward, _summed_backward, value=_summed_value)
"""(head, shared, rows) -> the sum of the losses of all rows, each times its weight."""
