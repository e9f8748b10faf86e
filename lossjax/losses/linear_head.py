"""Cross-entropy of a linear head whose logits are never stored."""

import math
from typing import Annotated, Any, Literal, Unpack, cast, overload

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.options import Option, complete, with_options
from lossjax._softmax.curves import CROSS_ENTROPY
from lossjax._softmax.head import ChunkSize, CrossEntropy, Head, Rows, Shared, row_outputs, summed_loss
from lossjax._softmax.inputs import LogitLoss, VocabOptions

_BLOCK_BYTES = {"cpu": 50 * 2**20, "gpu": 2**29, "tpu": 2**29}
"""Bytes of logits in one block: enough rows to keep the matrix products busy, and few beside the logits not stored.

On a CPU: `lossjax bench --suite head`. On GPU and TPU, on paper: a block of R rows reads and writes the sum of the
weight's gradient once, which takes less time than its products only from R of about 1000 on.
"""

_ROWS_OF_UNKNOWN: dict[Literal["cpu", "gpu"], int] = {"cpu": 256, "gpu": 1024}
"""Rows of a block where ``jax.export`` has a symbol for the number of rows or of classes: a block is filled up to so
many."""


def auto_chunk_size(
    rows: int, classes: int, dtype: Any = jnp.float32, *, platform: Literal["cpu", "gpu", "tpu"] = "cpu"
) -> int:
    r"""How many rows :func:`linear_softmax_cross_entropy` takes at a time by default.

    .. math:: \min(N, \max(8, \text{budget}/(C \cdot \text{bytes})))

    Args:
      rows: N, the number of rows.
      classes: C, the number of classes.
      dtype: the dtype of the logits; 16-bit heads have logits in float32.
      platform: the kind of chip that the program is compiled for.

    Returns:
      A number of rows; the budget is 50 MiB of logits on a CPU, 512 on a GPU or TPU.

    Example:
      >>> auto_chunk_size(2048, 50304), auto_chunk_size(2048, 50304, platform="gpu")
      (256, 2048)

    Source: measured on 2 CPU cores at 50304 classes: blocks of 128 rows cost 1.4, of 192 rows 1.1, of 256 rows 1.03 of
    stored logits.
    """
    width = max(jnp.dtype(dtype).itemsize, 4)
    most = max(8, _BLOCK_BYTES[platform] // max(classes * width, 1) // 8 * 8)
    blocks = -(-max(rows, 1) // most)
    return max(1, min(rows, -(-rows // blocks // 8) * 8))


class HeadOptions(VocabOptions, total=False):
    """The options of a linear head: those of the loss of its logits, and how the logits are formed."""

    chunk_size: Annotated[
        int | Literal["auto"],
        Option(
            "auto",
            'at most so many rows per block, or "auto": :func:`~lossjax.losses.linear_head.auto_chunk_size`. It '
            "changes memory and speed, not the result (except for the order of sums, all in float32 or wider); more "
            "rows than there are means all of them.",
        ),
    ]
    skip_below: Annotated[
        float | Literal["auto"] | None,
        Option(
            None,
            'ε, or "auto" for the roundoff of the sums (6e-8 in float32). A block of rows and 2048 classes in which '
            "every entry of ∂L/∂z is below ε is left out of the products for x and W, which saves up to two of the "
            "three once most probabilities are that small. The price is an error of at most "
            ":math:`\\varepsilon \\sum_k |W_{hk}|` per row in ∂L/∂x_h and of at most :math:`\\varepsilon \\sum |x_h|` "
            "over rows in ∂L/∂W_hk, L the sum of the weighted losses; all else, second derivatives included, is "
            'exact. Only with ``reduction`` "sum" or "mean", and without ``return_logsumexp``.',
        ),
    ]


@overload
def linear_softmax_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = ...,
    return_logsumexp: Literal[False] = ...,
    **options: Unpack[HeadOptions],
) -> Array: ...
@overload
def linear_softmax_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = ...,
    return_logsumexp: Literal[True],
    **options: Unpack[HeadOptions],
) -> tuple[Array, Array]: ...
@overload
def linear_softmax_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = ...,
    return_logsumexp: bool,
    **options: Unpack[HeadOptions],
) -> Array | tuple[Array, Array]: ...
@with_options
def linear_softmax_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    return_logsumexp: bool = False,
    **options: Unpack[HeadOptions],
) -> Array | tuple[Array, Array]:
    r"""Softmax cross-entropy of the logits xW + b, which exist for only one block of rows at a time.

    .. math:: L = -\log \operatorname{softmax}(xW + b)_c

    Domain: that of :func:`~lossjax.softmax_cross_entropy_with_integer_labels` for the logits xW + b.

    Gradient: :math:`(\hat p - e_c) W^\top` in x, :math:`x^\top(\hat p - e_c)` in W, :math:`\hat p - e_c` in b, summed
    over rows; true in every other float argument. With ``reduction`` "sum" or "mean" the forward pass forms the
    gradient too, with three matrix products in all; with "none", or with ``return_logsumexp``, the backward pass makes
    the logits again, a fourth product.

    Args:
      hidden: x, ``[..., H]`` floats.
      weight: W, ``[H, C]`` floats, of the dtype of ``hidden``.
      labels: ``[...]`` integers in [0, C).
      bias: b, ``[C]`` floats; None stands for 0.
      return_logsumexp: also return the log-sum-exp of the logits after softcap and temperature, 0 for masked rows.
      **options: the options of :class:`HeadOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider; with ``return_logsumexp`` a pair.

    Accuracy: that of :func:`~lossjax.softmax_cross_entropy_with_integer_labels` for the logits as computed. Products of
    16-bit numbers are summed in float32, and so are the gradients of the blocks.

    Raises:
      TypeError: arguments that are not floats (labels: integers), hidden and weight of different dtypes.
      ValueError: shapes that do not fit, a chunk size that is not positive, an option out of its range, ``skip_below``
        where the gradient is not formed in the forward pass.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> x, W = jnp.ones((3, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> y = jnp.array([0, 1, 3])
      >>> [f"{loss:.4f}" for loss in linear_softmax_cross_entropy(x, W, y)]
      ['1.1427', '1.1427', '1.1427']
      >>> gradient = jax.grad(linear_softmax_cross_entropy, argnums=1)(x, W, y, reduction="sum")
      >>> [f"{g:.3f}" for g in gradient[0]]
      ['-0.043', '-0.043', '0.129', '-0.043']

    Source: theorem 4.1.5 through the chain rule; Wijmans et al., Cut your losses in large-vocabulary language models,
    ICLR 2025.
    """
    return linear_head(hidden, weight, labels, bias=bias, return_logsumexp=return_logsumexp, **options)


def linear_head(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None,
    return_logsumexp: bool,
    over: str | None = None,
    **options: Unpack[HeadOptions],
) -> Array | tuple[Array, Array]:
    """The cross-entropy of a linear head whose classes are all here, or split over the devices of a mesh axis.

    With ``over``, the name of that axis, weight, bias and class weights are those of the classes that this device
    holds.
    """
    chunk_size, skip_below, of_logits = _split(**options)
    x, w = checks.floating("hidden", hidden), checks.floating("weight", weight)
    if x.ndim < 1 or w.ndim != 2 or w.shape[0] != x.shape[-1]:
        raise ValueError(
            f"hidden has shape {x.shape} and weight {w.shape}, wanted [..., H] and [H, C]; transpose the weight if it "
            "is [C, H]"
        )
    if x.dtype != w.dtype:
        raise TypeError(f"hidden is {x.dtype} and weight {w.dtype}, wanted one dtype; cast one of them")
    b = None if bias is None else checks.floating("bias", bias)
    if b is not None:
        checks.same_shape("bias", b.shape, "(one number per class)", w.shape[1:], "give a bias for every class")
    rows = x.shape[:-1]
    # The options are those of the row-wise loss, checked against logits that are never made.
    stand_in = jnp.broadcast_to(jnp.zeros((), x.dtype), (*rows, w.shape[1]))
    given = LogitLoss.of(stand_in, labels, "labels", over=over, **of_logits)
    static = given.rule_options(CROSS_ENTROPY)
    reducer, of_row = given.reducer, given.row_weights()
    shared = Shared(w, b, given.inputs()._replace(logits=None, targets=None, valid=None))
    of_rows = Rows(x, given.targets, reducer.valid)
    summed = reducer.how != "none" and not return_logsumexp
    if skip_below is not None and not summed:
        raise ValueError(
            'skip_below wants reduction="sum" or "mean" and no return_logsumexp: otherwise the gradient is not formed '
            "block by block with the loss; drop it, or reduce the loss here"
        )
    size = _chunk_size(chunk_size, math.prod(rows), w.shape[1], given.dtype)
    threshold = _threshold(skip_below, given.dtype)
    head = Head(CrossEntropy(static), given.dtype, over, size, threshold)
    if summed:
        total = summed_loss(head, shared, of_rows._replace(weights=reducer.weights))
        return reducer.of_total(total, rows, of_row)
    losses, lse = row_outputs(head, shared, of_rows)
    loss = reducer(losses, of_row)
    return (loss, lse) if return_logsumexp else loss


def _split(**options: Unpack[HeadOptions]) -> tuple[int | str, float | str | None, VocabOptions]:
    """How the logits are formed (chunk size and threshold), and the options of the loss of the logits."""
    given = complete(HeadOptions, options)
    chunk_size, skip_below = given.pop("chunk_size"), given.pop("skip_below")
    return chunk_size, skip_below, cast(VocabOptions, given)


def _threshold(skip_below: float | str | None, dtype: Any) -> float | None:
    if skip_below == "auto":
        return float(jnp.finfo(dtype).eps) / 2
    if skip_below is None:
        return None
    if isinstance(skip_below, str) or not 0 <= float(skip_below) < math.inf:
        raise ValueError(f"skip_below must be None, 'auto' or a finite number >= 0, got {skip_below!r}")
    return float(skip_below)


def _chunk_size(chunk_size: int | str, rows: int, classes: int, dtype: Any) -> ChunkSize:
    if chunk_size == "auto":
        known = classes if isinstance(classes, int) else 1
        most = {"cpu": rows, "gpu": rows} if isinstance(rows, int) and known is classes else _ROWS_OF_UNKNOWN
        cpu, gpu = (max(1, auto_chunk_size(most[p], known, dtype, platform=p)) for p in ("cpu", "gpu"))
        return ChunkSize(cpu, gpu)
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool):
        raise TypeError(f"chunk_size must be 'auto' or a Python integer, got {chunk_size!r}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1 row, got {chunk_size}")
    size = min(chunk_size, max(rows, 1)) if isinstance(rows, int) else chunk_size
    return ChunkSize(size, size)
