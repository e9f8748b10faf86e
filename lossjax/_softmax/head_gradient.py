"""The gradients of a head, formed block by block, each in the pass that makes its logits.

The last two products may leave out classes of no weight. With G = ∂/∂(logits) of a block of rows, a group of classes in
which every entry of G is below ε adds at most

    ε Σ_k |W_hk|   to a row's ∂/∂x_h        ε Σ_rows |x_h|   to ∂/∂W_hk         (k over the classes left out)
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.masks import hide
from lossjax._core.platform import by_platform
from lossjax._core.sharding import varying_alike
from lossjax._core.xla import sliced
from lossjax._softmax import blocks
from lossjax._softmax.head import Gradients, Head, Known, Outputs, Rows, Shared, in_blocks, with_known

GROUP = 2048
"""Classes that are multiplied, or left out, together: enough to be worth a matrix product of their own. On a CPU a
product to be added to a sum is an array beside the sum, so it is formed by groups to be small; on a GPU or TPU the
addition is a part of the product, and all classes are one group unless some may be left out."""


def one_pass(
    head: Head,
    shared: Shared,
    rows: Rows,
    cotangents: Any,
    of: Callable[[Outputs], Any] = lambda outputs: outputs,
    known: Known | tuple[()] = (),
) -> tuple[Any, Gradients]:
    """The results of all rows, and the gradients by their cotangents.

    ``of`` picks the results that are wanted, for which there are cotangents. ``known`` is what the pull-back of all
    results has to know of the rows, if it has been formed.
    """
    classes = shared.weight[0].shape[1]
    grouped = GROUP if isinstance(classes, int) and classes > GROUP else classes
    whole = classes if head.skip_below is None else grouped
    return by_platform(
        shared,
        rows,
        cotangents,
        known,
        cpu=functools.partial(_by_blocks, head, of, head.chunk_size.cpu, grouped),
        otherwise=functools.partial(_by_blocks, head, of, head.chunk_size.otherwise, whole),
    )


def _by_blocks(
    head: Head,
    of: Callable[[Outputs], Any],
    size: int,
    group: int,
    shared: Shared,
    rows: Rows,
    cotangents: Any,
    known: Known,
) -> tuple[Any, Gradients]:
    cut, cut_rows = in_blocks(rows, size)
    # Of rows that fill up a block nothing is known.
    given = blocks.apply(cut, known) if cut.is_even else []

    def in_logits(block: Rows, cotangents: Any, known: Known) -> tuple[Any, tuple[tuple[Array, ...], Shared, Any]]:
        # The products x W are formed inside, so that XLA may write the gradient over them.
        outputs, pullback = head.linearized(shared, block, of)
        pullback = with_known(pullback, known) if known else pullback
        return outputs, pullback(jax.tree.map(varying_alike, outputs, cotangents))

    def step(gradient: Shared, of_block: tuple[Rows, Any, Known]) -> tuple[Shared, tuple[Any, Any, Any]]:
        block, cotangents, known = of_block
        outputs, (in_products, in_rest, in_own) = in_logits(block, cotangents, known)
        # A NaN among the entries of the gradient, which a maximum may not show, is in these.
        sound = jnp.isfinite(sum(map(jnp.sum, jax.tree.leaves((outputs, cotangents)))))
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
        return rest._replace(weight=tuple(in_weight)), (outputs, tuple(in_hidden), in_own)

    zeros = varying_alike(shared.weight, jax.tree.map(lambda a: jnp.zeros_like(a, head.dtype), shared))
    in_shared, of_rows = lax.scan(step, zeros, (cut_rows, blocks.apply(cut, cotangents), given))
    outputs, in_hidden, in_own = blocks.undo(cut, of_rows)
    return outputs, (in_shared, in_hidden, in_own)


def _add_products(
    head: Head, group: int, in_weight: Array, hidden: Array, in_logits: Array, weight: Array, may_skip: Array
) -> tuple[Array, Array]:
    """``in_weight + xᵀG`` and ``G Wᵀ``, in the dtype of the loss, by groups of classes."""
    threshold = head.skip_below
    # Where no class may be left out and G is not narrowed, all of G Wᵀ is one product, which takes no array beside its
    # factors and is quicker than its groups.
    at_once = threshold is None and in_logits.dtype == weight.dtype

    def add(first: Any, size: int, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        of_logits, of_weight, so_far = (sliced(array, first, size, 1) for array in (in_logits, weight, sums[0]))
        narrow = of_logits.astype(weight.dtype)
        more = so_far + head.contract(hidden, narrow, 0, so_far)
        in_weight = lax.dynamic_update_slice_in_dim(sums[0], more, first, 1)
        return in_weight, sums[1] if at_once else sums[1] + head.contract(narrow, of_weight, 1, hidden)

    def add_if_large(first: Any, size: int, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        if threshold is None:
            return add(first, size, sums)
        entries = lax.dynamic_slice_in_dim(in_logits, first, size, 1)
        large = ~(may_skip & (jnp.max(jnp.abs(entries)) < threshold))
        return lax.cond(large, lambda sums: add(first, size, sums), lambda sums: sums, sums)

    none_yet = jnp.zeros_like(hidden, head.dtype)
    in_hidden = head.contract(in_logits, weight, 1, hidden) if at_once else varying_alike(in_logits, none_yet)
    sums = in_weight, in_hidden
    classes = weight.shape[1]
    if group == classes:
        return add_if_large(0, classes, sums)
    groups, left = divmod(classes, group)
    sums = lax.fori_loop(0, groups, lambda i, sums: add_if_large(i * group, group, sums), sums)
    return add_if_large(classes - left, left, sums) if left else sums
