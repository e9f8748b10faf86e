"""Entropy and divergences of linear heads, and any loss of a linear head's logits, which are never stored."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.masks import hide
from lossjax._core.options import complete, with_options
from lossjax._core.reduction import CountedOptions, Reducer
from lossjax._rules import logits as rules
from lossjax._softmax.cross_entropy import LogitTransform
from lossjax._softmax.head import Head, Rows, any_outputs
from lossjax._softmax.head_inputs import (
    BlockOptions,
    HeadLoss,
    LinearHeads,
    checked_precision,
    transform_of,
    transformed,
)
from lossjax._softmax.inputs import TransformOptions
from lossjax._softmax.measures import BaseOption
from lossjax._softmax.tokens import Asked, token_answers
from lossjax.numerics import per_nat


class LinearMeasureOptions(BaseOption, CountedOptions, TransformOptions, BlockOptions, total=False):
    """The options of a measure of information of linear heads."""


@with_options
def linear_softmax_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    **options: Unpack[LinearMeasureOptions],
) -> Array:
    r"""Shannon entropy of the softmax of a linear head whose logits are never stored.

    .. math:: H = \textstyle\sum_k p_k (m - z_k) + \log \textstyle\sum_j e^{z_j - m}, \quad z = xW + b,
              \quad m = \max z

    Domain: that of :func:`~lossjax.softmax_entropy` for the logits xW + b. The entropy is never negative.

    Gradient: with :math:`g_k = p_k ((m - z_k) - \sum_j p_j (m - z_j))`, :math:`g W^\top` in x, :math:`x^\top g` in W
    and g in b, summed over rows. With ``reduction`` "sum" or "mean" the forward pass forms the gradient too.

    Args:
      hidden: x, ``[..., H]`` floats.
      weight: W, ``[H, C]`` floats, of the dtype of ``hidden``.
      bias: b, ``[C]`` floats; None stands for 0.
      **options: the options of :class:`LinearMeasureOptions`.

    Returns:
      ``[...]`` or a scalar, in nats unless ``base``, in float32 or wider.

    Accuracy: that of :func:`~lossjax.softmax_entropy` for the logits as computed. Products of 16-bit numbers are summed
    in float32, and so are the gradients of the blocks.

    Raises:
      TypeError: arguments that are not floats, hidden and weight of different dtypes, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, a chunk size that is not positive, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> print(linear_softmax_entropy(jnp.ones((3, 2)), jnp.zeros((2, 8)), base=2))
      [3. 3. 3.]

    Source: §4.1.1, H(P).
    """
    return measured(_entropy, LinearHeads.of(hidden, weight, bias), None, options)


@with_options
def linear_softmax_kl_divergence(
    hidden: ArrayLike,
    weight: ArrayLike,
    other_hidden: ArrayLike,
    other_weight: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    other_bias: ArrayLike | None = None,
    **options: Unpack[LinearMeasureOptions],
) -> Array:
    r"""Kullback-Leibler divergence of two linear heads, neither of whose logits are stored.

    .. math:: \textstyle\sum_k p_k\, \xi(d_k), \quad d = \log q - \log p, \quad \xi(x) = e^x - 1 - x, \quad
              p = \operatorname{softmax}(xW + b), \quad q = \operatorname{softmax}(x'W' + b')

    The first head weighs the logarithms, as in :func:`~lossjax.softmax_kl_divergence`. A teacher as the first head,
    and the student as the second, is the usual distillation (forward KL); exchange the two for the reverse. The widths
    H and H' of the two may differ.

    Domain: that of :func:`~lossjax.softmax_kl_divergence` for the two rows of logits.

    Gradient: with g = -p∘(d - Σ p d) and g' = q - p those in the logits, :math:`g W^\top` in x, :math:`x^\top g` in W,
    g in b, and likewise in x', W' and b': true in all of them. What is not differentiated costs nothing
    (``jax.lax.stop_gradient`` a teacher).

    Args:
      hidden: x, ``[..., H]`` floats.
      weight: W, ``[H, C]`` floats, of the dtype of ``hidden``.
      other_hidden: x', ``[..., H']`` floats, of the same rows.
      other_weight: W', ``[H', C]`` floats, of the dtype of ``other_hidden``, with the same classes.
      bias: b, ``[C]`` floats; None stands for 0.
      other_bias: b', ``[C]`` floats; None stands for 0.
      **options: the options of :class:`LinearMeasureOptions`; temperature and softcap are those of both heads.

    Returns:
      ``[...]`` or a scalar, never negative, in nats unless ``base``, in float32 or wider.

    Accuracy: that of :func:`~lossjax.softmax_kl_divergence` for the logits as computed. Products of 16-bit numbers are
    summed in float32, and so are the gradients of the blocks.

    Raises:
      TypeError: arguments that are not floats, hidden and weight of different dtypes, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, heads of different vocabularies, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> print(f"{linear_softmax_kl_divergence(x, W, x, W + 2**-10 * jnp.eye(2, 4))[0]:.5g}")
      1.0272e-07

    Source: theorem 4.1.6 as corrected; Hinton, Vinyals and Dean (2015).
    """
    other = LinearHeads.of(other_hidden, other_weight, other_bias, "other_")
    return measured(_kl_divergence, LinearHeads.of(hidden, weight, bias).beside(other), None, options)


@with_options
def linear_softmax_js_divergence(
    hidden: ArrayLike,
    weight: ArrayLike,
    other_hidden: ArrayLike,
    other_weight: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    other_bias: ArrayLike | None = None,
    **options: Unpack[LinearMeasureOptions],
) -> Array:
    r"""Jensen-Shannon divergence of two linear heads, neither of whose logits are stored.

    .. math:: \tfrac12 \textstyle\sum_k (p_k \log \tfrac{p_k}{m_k} + q_k \log \tfrac{q_k}{m_k}), \quad
              m = \tfrac12 (p + q), \quad p = \operatorname{softmax}(xW + b), \quad
              q = \operatorname{softmax}(x'W' + b')

    Domain: that of :func:`~lossjax.softmax_js_divergence` for the two rows of logits. The result lies between 0 and
    log 2.

    Gradient: with g = p∘(a - Σ p a), a = ½ log(p/m), that in the logits, :math:`g W^\top` in x, :math:`x^\top g` in W,
    g in b, and likewise in x', W' and b', p and q exchanged: true in all of them.

    Args:
      hidden: x, ``[..., H]`` floats.
      weight: W, ``[H, C]`` floats, of the dtype of ``hidden``.
      other_hidden: x', ``[..., H']`` floats, of the same rows.
      other_weight: W', ``[H', C]`` floats, of the dtype of ``other_hidden``, with the same classes.
      bias: b, ``[C]`` floats; None stands for 0.
      other_bias: b', ``[C]`` floats; None stands for 0.
      **options: the options of :class:`LinearMeasureOptions`; temperature and softcap are those of both heads.

    Returns:
      ``[...]`` or a scalar, never negative, in nats unless ``base``, in float32 or wider.

    Accuracy: that of :func:`~lossjax.softmax_js_divergence` for the logits as computed. Products of 16-bit numbers are
    summed in float32, and so are the gradients of the blocks.

    Raises:
      TypeError: arguments that are not floats, hidden and weight of different dtypes, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, heads of different vocabularies, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> x, W = jnp.ones((1, 1)), jnp.array([[200.0, 0.0]])
      >>> print(linear_softmax_js_divergence(x, W, -x, W, base=2))
      [1.]

    Source: Lin (1991); Agarwal et al. (2024).
    """
    other = LinearHeads.of(other_hidden, other_weight, other_bias, "other_")
    return measured(_js_divergence, LinearHeads.of(hidden, weight, bias).beside(other), None, options)


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
      TypeError: arguments that are not floats, hidden and weight of different dtypes.
      ValueError: shapes that do not fit, a result that has not one entry per row, a chunk size that is not positive.

    Example:
      >>> import jax.numpy as jnp, lossjax
      >>> x, W = jnp.ones((3, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> def focal(logits, labels):
      ...     return lossjax.softmax_focal_loss(logits, labels)
      >>> [f"{loss:.4f}" for loss in linear_loss(focal, x, W, jnp.array([0, 1, 3]))]
      ['0.5287', '0.5287', '0.5287']

    Source: Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025.
    """
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


# --- what they share -------------------------------------------------------------------------------------------------


def _entropy(over: str | None, z: Array) -> Array:
    asked = Asked(z.dtype, over, entropy=True)
    nothing = jnp.zeros((*z.shape[:-1], 0), jnp.int32)
    entropy = token_answers(asked, z, nothing).entropy
    assert entropy is not None
    return entropy


def _kl_divergence(over: str | None, u: Array, v: Array) -> Array:
    return rules.kl_of_logits(u, v)


def _js_divergence(over: str | None, u: Array, v: Array) -> Array:
    return rules.js_divergence(u, v)


class Measured(NamedTuple):
    """A measure of rows of logits as the loss of heads; the terms are the transform."""

    measure: Callable[..., Array]
    dtype: Any

    def __call__(self, transform: LogitTransform, logits: tuple[Array, ...], block: Rows) -> tuple[Array]:
        """The measure, 0 in masked rows."""
        rows = (transformed(transform, hide(block.valid, z), self.dtype) for z in logits)
        return (hide(block.valid, self.measure(*rows)),)


def measured(
    measure: Callable[..., Array], heads: LinearHeads, over: str | None, options: LinearMeasureOptions
) -> Array:
    """A measure of the heads' logits, reduced."""
    given = complete(LinearMeasureOptions, options)
    reducer, base = Reducer.of(heads.rows, given), checks.base(given["base"])
    transform = transform_of(given["temperature"], given["logit_softcap"], heads.dtype)
    of_logits = Measured(functools.partial(measure, over), heads.dtype)
    of_head = HeadLoss.of(of_logits, heads, transform, (), reducer.valid, heads.dtype, options, over)
    return of_head.reduced(reducer, per_nat(base))
