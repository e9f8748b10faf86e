"""The sum of a head's losses, whose gradient is formed block by block, in the pass that forms the loss.

The last two products may leave out classes of no weight. With G = ∂/∂(logits) of a block of rows, a group of classes in
which every entry of G is below ε adds at most

    ε Σ_k |W_hk|   to a row's ∂/∂x_h        ε Σ_rows |x_h|   to ∂/∂W_hk         (k over the classes left out)
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form, known_as
from lossjax._core.masks import hide
from lossjax._core.platform import by_platform
from lossjax._core.sharding import on_one_device, same_on_all, varying_alike
from lossjax._softmax import blocks
from lossjax._softmax.head import Gradients, Head, Rows, Shared, in_blocks, pull_back, row_outputs

GROUP = 2048
"""Classes that are multiplied, or left out, together: enough to be worth a matrix product of their own. On a CPU a
product to be added to a sum is an array beside the sum, so it is formed by groups to be small; on a GPU or TPU the
addition is a part of the product, and all classes are one group unless some may be left out."""


def _one_pass(head: Head, size: int, group: int, shared: Shared, rows: Rows, weights: Array) -> tuple[Array, Gradients]:
    """The losses of all rows; and the gradients of their weighted sum."""

    def in_logits(block: Rows, weights: Array) -> tuple[Array, tuple[tuple[Array, ...], Shared, Any]]:
        # The products x W are formed inside, so that XLA may write the gradient over them.
        products, rest = head.products(shared, block), shared._replace(weight=())

        def losses_of(products: tuple[Array, ...], rest: Shared, own: Any) -> Array:
            return head.outputs(products, rest, block.with_floats(own))[0]

        losses, pullback = jax.vjp(losses_of, products, rest, block.floats())
        return losses, pullback(varying_alike(losses, weights))

    def step(gradient: Shared, of_block: tuple[Rows, Array]) -> tuple[Shared, tuple[Array, Any, Any]]:
        block, weights = of_block
        losses, (in_products, in_rest, in_own) = in_logits(block, weights)
        # A NaN among the entries of the gradient, which a maximum may not show, is in these.
        sound = jnp.isfinite(jnp.sum(losses) + jnp.sum(weights))
        in_weight, in_hidden = [], []
        for sum_so_far, x, in_product, weight in zip(
            gradient.weight, block.hidden, in_products, shared.weight, strict=True
        ):
            factors = lax.stop_gradient((hide(block.valid, x), in_product, weight))
            in_w, in_x = _add_products(head, group, sum_so_far, *factors, sound)
            in_weight.append(in_w)
            in_hidden.append(hide(block.valid, in_x).astype(x.dtype))
        # In the dtype of the loss: a sum over many blocks in 16 bits would stand still.
        rest = jax.tree.map(lambda total, more: total + more.astype(head.dtype), gradient._replace(weight=()), in_rest)
        return rest._replace(weight=tuple(in_weight)), (losses, tuple(in_hidden), in_own)

    zeros = varying_alike(shared.weight, jax.tree.map(lambda a: jnp.zeros_like(a, head.dtype), shared))
    cut, cut_rows = in_blocks(rows, size)
    in_shared, (losses, in_hidden, in_own) = lax.scan(step, zeros, (cut_rows, cut.apply(weights)))
    return same_on_all(cut.undo(losses), head.over), (in_shared, *blocks.undo(cut, (in_hidden, in_own)))


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
    sums = lax.fori_loop(0, groups, lambda i, sums: add_if_large(i * group, group, sums), sums)
    return add_if_large(classes - left, left, sums) if left else sums


def _weights(head: Head, rows: Rows) -> Array:
    if rows.weights is None:
        return rows.ones(head.dtype)
    return same_on_all(hide(rows.valid, rows.weights), head.over).astype(head.dtype)


def _summed_value(head: Head, shared: Shared, rows: Rows) -> tuple[Array, None]:
    losses, *_ = row_outputs(head, shared, rows._replace(weights=None))
    return jnp.sum(_weights(head, rows) * losses), None


def _summed_forward(head: Head, shared: Shared, rows: Rows) -> tuple[Array, Any]:
    classes, weights = shared.weight[0].shape[1], _weights(head, rows)
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


def _differentiable(head: Head, shared: Shared, rows: Rows, weights: Array) -> tuple[Array, Gradients]:
    """What :func:`_one_pass` forms, by the way that can be differentiated again."""
    outputs, (in_shared, in_hidden, in_own) = pull_back(
        head, shared, rows, weights, lambda outputs, weights: (weights, *map(jnp.zeros_like, outputs[1:]))
    )
    return outputs[0], (jax.tree.map(lambda g: g.astype(head.dtype), in_shared), in_hidden, in_own)


_known = known_as(_differentiable)


def _summed_backward(saved: Any, cotangent: Array) -> tuple[None, Shared, Rows]:
    head, shared, rows, formed = saved
    losses, gradients = _known(formed, head, shared, rows, _weights(head, rows))
    in_shared, in_hidden, in_own = jax.tree.map(lambda g: cotangent.astype(g.dtype) * g, gradients)
    # Forward mode transposes this: what a masked tangent holds is not felt.
    in_hidden, in_own = jax.tree.map(functools.partial(hide, rows.valid), (in_hidden, in_own))
    in_weights = None
    if rows.weights is not None:
        in_weights = on_one_device(hide(rows.valid, cotangent * losses), head.over)
    return None, in_shared, Rows(in_hidden, in_own, None, in_weights)


summed_loss = closed_form(_summed_forward, _summed_backward, value=_summed_value)
"""(head, shared, rows) -> the sum of the losses of all rows, each times its weight."""
