"""Any loss of a linear head's logits, which are never stored."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core.platform import ALL, traced_for
from lossjax._core.sharding import alike
from lossjax._softmax.head import Head, Rows, any_outputs
from lossjax._softmax.head_inputs import LinearHeads, checked_precision
from lossjax.losses.vocab_parallel import mesh_axis


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

    Classes over devices: :func:`~lossjax.vocab_parallel_linear_loss`.

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
      >>> from lossjax import linear_loss
      >>> x, W = jnp.ones((3, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> def focal(logits, labels):
      ...     return lossjax.softmax_focal_loss(logits, labels)
      >>> [f"{loss:.4f}" for loss in linear_loss(focal, x, W, jnp.array([0, 1, 3]))]
      ['0.5300', '0.5300', '0.5300']

    Source: Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025.
    """
    return _of_head("linear_loss", loss, hidden, weight, bias, row_arguments, chunk_size, precision)


def vocab_parallel_linear_loss(
    loss: Callable[..., Any],
    hidden: ArrayLike,
    weight: ArrayLike,
    *row_arguments: ArrayLike,
    axis_name: str,
    bias: ArrayLike | None = None,
    chunk_size: Any = "auto",
    precision: lax.PrecisionLike = None,
) -> Any:
    r"""Any loss of the logits of a linear head where each device holds the weights of its own classes.

    .. math:: \operatorname{loss}(x W_d + b_d, a_1, a_2, \ldots) \text{ on device } d

    The loss is given this device's part of the logits of a block of rows, and joins the parts itself: by
    :func:`~lossjax.vocab_parallel_softmax_cross_entropy`, say, or by :func:`jax.lax.psum` and :func:`jax.lax.pmax` over
    the mesh axis. The first class held here is number ``jax.lax.axis_index(axis_name) * C/D``.

    Domain: that of the loss.

    Gradient: that of :func:`~lossjax.linear_loss`; in what is equal on all devices the sum over them, which
    ``jax.shard_map`` forms (with ``check_vma=True``, its default), once for all blocks, and in float32 or wider.

    Args:
      loss: ``loss(logits, *row_arguments)``, as for :func:`~lossjax.linear_loss`, of the logits ``[r, C/D]``.
      hidden: x, ``[..., H]`` floats, equal on all devices.
      weight: W, ``[H, C/D]`` floats of the dtype of ``hidden``, the columns of the classes held here.
      *row_arguments: arrays, or pytrees of arrays, whose first axes are those of the rows: ``[..., *any]``.
      axis_name: the name of the mesh axis along which the D devices lie.
      bias: b, ``[C/D]`` floats, those of the classes held here; None stands for 0.
      chunk_size: at most so many rows per block, or "auto":
        :func:`~lossjax.losses.linear_head.auto_chunk_size`.
      precision: that of the matrix products, as in :func:`jax.numpy.matmul`.

    Returns:
      What the loss returns, of all rows: a pytree of ``[..., *any]``.

    Accuracy: that of the loss for the logits as computed. Products of 16-bit numbers are summed in float32.

    Raises:
      TypeError: a loss that is no function, arguments that are not floats, hidden and weight of different dtypes.
      ValueError: a name that is no mesh axis here, ``check_vma=False``, shapes that do not fit, a result that has not
        one entry per row, a chunk size that is not positive.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> from lossjax import vocab_parallel_linear_loss
      >>> mesh = jax.make_mesh((1,), ("classes",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
      >>> def result(x, W):
      ...     def largest_of(logits):
      ...         return jax.lax.pmax(jnp.max(logits, axis=-1), "classes")
      ...     return vocab_parallel_linear_loss(largest_of, x, W, axis_name="classes")
      >>> sharded = jax.shard_map(result, mesh=mesh, in_specs=(P(), P(None, "classes")), out_specs=P())
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> sharded(x, W)
      Array([1.], dtype=float32)

    Source: Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025; Shoeybi et al., Megatron-LM
    (2019), §3.
    """
    over, name = mesh_axis(axis_name), "vocab_parallel_linear_loss"
    return _of_head(name, loss, hidden, weight, bias, row_arguments, chunk_size, precision, over)


def _of_head(
    name: str,
    loss: Callable[..., Any],
    hidden: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    row_arguments: tuple[Any, ...],
    chunk_size: Any,
    precision: lax.PrecisionLike,
    over: str | None = None,
) -> Any:
    if not callable(loss):
        raise TypeError(f"loss must be a function of logits, got {loss!r}; {name}(loss, hidden, weight)")
    heads = LinearHeads.of(hidden, weight, bias)
    for leaf in jax.tree.leaves(row_arguments):
        if jnp.shape(leaf)[: len(heads.rows)] != tuple(heads.rows):
            raise ValueError(
                f"a row argument has shape {jnp.shape(leaf)}, wanted {(*heads.rows, '...')}; its first axes are those "
                "of the rows: close over what all rows share"
            )
    # What is the same on some devices is made to vary here, where its gradient is summed over them once, in 32 bits.
    # JAX would do so where a block meets what varies: for each block, in 16 bits.
    own = jax.tree.map(jnp.asarray, row_arguments)
    parts, structure = jax.tree.flatten((heads, own))
    varying = () if over is None else (lax.axis_index(over),)
    heads, own = jax.tree.unflatten(structure, alike((*varying, *parts))[len(varying) :])
    size = heads.block_rows(chunk_size)
    head = Head(_Users(loss), heads.dtype, None, size, checked_precision(precision))
    return any_outputs(head, heads.shared(()), Rows(heads.hidden, own, None))


class _Users(NamedTuple):
    """A user's loss as the loss of a head; a block's own are the row arguments."""

    loss: Callable[..., Any]

    def __call__(self, terms: Any, logits: tuple[Array, ...], block: Rows) -> Any:
        with traced_for(ALL):  # it may be jitted, and JAX keeps what it has traced of it
            results = self.loss(logits[0], *block.own)
        rows = logits[0].shape[0]
        for leaf in jax.tree.leaves(results):
            if jnp.shape(leaf)[:1] != (rows,):
                raise ValueError(
                    f"the loss returned an array of shape {jnp.shape(leaf)} for {rows} rows, wanted one entry per row "
                    "first; reduce the result of linear_loss, not the loss within"
                )
        return results
