"""Any loss of a linear head's logits, which are never stored."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._softmax.head import Head, Rows, any_outputs
from lossjax._softmax.head_inputs import LinearHeads, checked_precision


def linear_loss(
    loss: Callable[..., Any],
    hidden: ArrayLike,
    weight: ArrayLike,
    *row_arguments: ArrayLike,
    bias: ArrayLike | None = None,
    chunk_size: Any = "auto",
    precision: lax.PrecisionLike = None,
) -> Any:
    r"""Any loss of the logits of a linear head, a block of rows at a time: the logits are never stored.

    .. math:: \operatorname{loss}(xW + b, a_1, a_2, \ldots)

    Domain: that of the loss.

    Gradient: JAX's own of the loss, through the logits: in x, W and b, in the row arguments, and in whatever the loss
    closes over, in every mode and order. The logits of each block are made again for it. The gradients of the blocks in
    W and b are summed in float32 or wider; those in what the loss closes over, in its own dtype.

    Classes over devices: inside :func:`jax.shard_map`, with each device's part of W and b, the loss is given each
    device's part of the logits, and joins them itself, as
    :func:`~lossjax.vocab_parallel_softmax_cross_entropy` does, or by :func:`jax.lax.psum`.

    Args:
      loss: ``loss(logits, *row_arguments)``, a JAX function of the logits ``[r, C]`` of some rows (in float32 or
        wider), and of those rows of the row arguments. It returns a pytree of arrays ``[r, ...]``, each row's by
        itself. The last block is filled up with copies of the last row, whose results are dropped.
      hidden: x, ``[..., H]`` floats.
      weight: W, ``[H, C]`` floats, of the dtype of ``hidden``.
      *row_arguments: arrays, or pytrees of arrays, whose first axes are those of the rows: ``[..., *any]``.
      bias: b, ``[C]`` floats; None stands for 0.
      chunk_size: at most so many rows per block, or "auto":
        :func:`~lossjax.losses.linear_head.auto_chunk_size`.
      precision: that of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
      What the loss returns, of all rows: a pytree of ``[..., *any]``.

    Accuracy: that of the loss for the logits as computed. Products of 16-bit numbers are summed in float32.

    Raises:
      TypeError: a loss that is no function, arguments that are not floats, hidden and weight of different dtypes.
      ValueError: shapes that do not fit, a result that has not one entry per row, a chunk size that is not positive.

    Example:
      >>> import jax.numpy as jnp, lossjax
      >>> x, W = jnp.ones((3, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> def focal(logits, labels):
      ...     return lossjax.softmax_focal_loss(logits, labels)
      >>> [f"{loss:.4f}" for loss in linear_loss(focal, x, W, jnp.array([0, 1, 3]))]
      ['0.5300', '0.5300', '0.5300']

    Source: Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025.
    """
    if not callable(loss):
        raise TypeError(f"loss must be a function of logits, got {loss!r}; linear_loss(loss, hidden, weight)")
    heads = LinearHeads.of(hidden, weight, bias)
    for leaf in jax.tree.leaves(row_arguments):
        if jnp.shape(leaf)[: len(heads.rows)] != tuple(heads.rows):
            raise ValueError(
                f"a row argument has shape {jnp.shape(leaf)}, wanted {(*heads.rows, '...')}; its first axes are those "
                "of the rows: close over what all rows share"
            )
    own = jax.tree.map(jnp.asarray, row_arguments)
    size = heads.block_rows(chunk_size, heads.dtype)
    head = Head(_Users(loss), heads.dtype, None, size, checked_precision(precision))
    return any_outputs(head, heads.shared(()), Rows(heads.hidden, own, None))


class _Users(NamedTuple):
    """A user's loss as the loss of a head; a block's own are the row arguments."""

    loss: Callable[..., Any]

    def __call__(self, terms: Any, logits: tuple[Array, ...], block: Rows) -> Any:
        results = self.loss(logits[0], *block.own)
        rows = logits[0].shape[0]
        for leaf in jax.tree.leaves(results):
            if jnp.shape(leaf)[:1] != (rows,):
                raise ValueError(
                    f"the loss returned an array of shape {jnp.shape(leaf)} for {rows} rows, wanted one entry per row "
                    "first; reduce the result of linear_loss, not the loss within"
                )
        return results
