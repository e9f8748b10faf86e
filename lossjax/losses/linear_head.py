"""Cross-entropy of a linear head whose logits are never stored."""

import math
from typing import Annotated, Any, Literal, Unpack, cast, overload

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.options import Option, with_options
from lossjax._softmax.chunk_size import auto_chunk_size
from lossjax._softmax.curves import CROSS_ENTROPY
from lossjax._softmax.head import CrossEntropy
from lossjax._softmax.head_inputs import BlockOptions, HeadLoss, LinearHeads
from lossjax._softmax.options import LogitLoss, VocabOptions

__all__ = ["HeadOptions", "auto_chunk_size", "linear_head", "linear_softmax_cross_entropy"]


class HeadOptions(VocabOptions, BlockOptions, total=False):
    """The options of a linear head: those of the loss of its logits, and how the logits are formed."""

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
      >>> from lossjax import linear_softmax_cross_entropy
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
    how = {name: options.pop(name) for name in ("chunk_size", "precision") if name in options}
    skip_below = options.pop("skip_below", None)
    heads = LinearHeads.of(hidden, weight, bias)
    # The options are those of the row-wise loss, checked against logits that are never made.
    stand_in = jnp.broadcast_to(jnp.zeros((), heads.dtype), (*heads.rows, heads.classes))
    given = LogitLoss.of(stand_in, labels, "labels", over=over, **cast(VocabOptions, options))
    loss, terms = CrossEntropy(given.rule_options(CROSS_ENTROPY)), given.inputs()
    terms = terms._replace(logits=None, targets=None, valid=None)
    reducer, of_row = given.reducer, given.row_weights()
    checks.flag("return_logsumexp", return_logsumexp)
    if skip_below is not None and (reducer.how == "none" or return_logsumexp):
        raise ValueError(
            'skip_below wants reduction="sum" or "mean" and no return_logsumexp: otherwise the gradient is not formed '
            "block by block with the loss; drop it, or reduce the loss here"
        )
    threshold = _threshold(skip_below, given.dtype)
    of_head = HeadLoss.of(
        loss, heads, terms, given.targets, reducer.valid, given.dtype, cast(BlockOptions, how), over, threshold
    )
    if not return_logsumexp:
        return of_head.reduced(reducer, own_weights=of_row)
    losses, lse = of_head.of_rows()
    return reducer(losses, of_row), lse


def _threshold(skip_below: float | str | None, dtype: Any) -> float | None:
    if skip_below == "auto":
        return float(jnp.finfo(dtype).eps) / 2
    if skip_below is None:
        return None
    if isinstance(skip_below, str) or not 0 <= float(skip_below) < math.inf:
        raise ValueError(f"skip_below must be None, 'auto' or a finite number >= 0, got {skip_below!r}")
    return float(skip_below)
