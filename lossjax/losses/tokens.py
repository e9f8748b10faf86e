"""Log-probabilities of tokens, and what else reinforcement learning asks of a row: of logits, and of a linear head."""

from typing import Annotated, Any, NamedTuple, TypedDict, Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.masks import hide
from lossjax._core.options import Option, complete, with_options
from lossjax._core.plain import with_plain
from lossjax._softmax.head import Rows
from lossjax._softmax.head_inputs import BlockOptions, HeadLoss, LinearHeads, transform_of, transformed
from lossjax._softmax.options import AxisOption, TransformOptions, classes_last
from lossjax._softmax.tokens import Answers, Asked, token_answers
from lossjax._softmax.transform import LogitTransform


class RowMaskOption(TypedDict, total=False):
    """Which rows are asked about their tokens, however many tokens each has."""

    where: Annotated[
        ArrayLike | None,
        Option(
            None,
            "``[...]`` booleans, one per row; a False row contributes exactly 0 (of booleans, False) to every result "
            "and every gradient, whatever it holds.",
        ),
    ]


class TokenOptions(AxisOption, RowMaskOption, TransformOptions, total=False):
    """The options of what is asked of tokens."""


class LinearTokenOptions(RowMaskOption, TransformOptions, BlockOptions, total=False):
    """The options of what is asked of tokens of a linear head."""


class TokenStatistics(NamedTuple):
    """What :func:`token_statistics` returns: of each token, and of its row."""

    log_probs: Array
    """``[...]`` or ``[..., K]``, the log-probabilities of the tokens in nats: never positive."""
    entropy: Array
    """``[...]``, the entropy of the row in nats: never negative."""
    logsumexp: Array
    """``[...]``, the log-sum-exp of the row's logits after softcap and temperature."""
    is_top: Array
    """``[...]`` or ``[..., K]`` booleans: whether no class is more likely than the token."""


@with_options
def token_statistics(logits: ArrayLike, tokens: ArrayLike, **options: Unpack[TokenOptions]) -> TokenStatistics:
    r"""Log-probabilities of given tokens, and entropy and log-sum-exp of their rows, in one pass.

    .. math:: \log p_c = z_c - A, \quad A = \log \textstyle\sum_j e^{z_j},
              \quad H = -\textstyle\sum_j p_j \log p_j

    Domain: that of :func:`~lossjax.log_softmax` for the logits. A row with a token outside [0, C) is NaN, and so is
    its gradient.

    Gradient: :math:`e_c - p` of a log-probability, p of the log-sum-exp, :math:`p_k ((m - z_k) - \sum_j p_j (m -
    z_j))` of the entropy (m the maximum); none of ``is_top``.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      tokens: ``[...]`` integers in [0, C), one token of each row; or ``[..., K]``, K tokens of each.
      **options: the options of :class:`TokenOptions`.

    Returns:
      A :class:`TokenStatistics` in float32 or wider: ``log_probs`` and ``is_top`` of the shape of the tokens,
      ``entropy`` and ``logsumexp`` ``[...]``.

    Accuracy: 8u for log-probabilities of up to 1000 classes (beyond, log2(C)/2 u more), also where a token is nearly
    certain; 33u for the entropy (67u where a gap reaches 16). A temperature rounds the logits once more.

    Raises:
      TypeError: logits that are not floats, tokens that are not integers, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, an axis that does not exist, a temperature or softcap that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import token_statistics
      >>> found = token_statistics(jnp.array([[40.0, 0.0], [0.0, 0.0]]), jnp.array([0, 1]))
      >>> [f"{x:.4g}" for x in found.log_probs], [f"{x:.4g}" for x in found.entropy], found.is_top.tolist()
      (['-4.248e-18', '-0.6931'], ['1.742e-16', '0.6931'], [True, True])

    Source: §4.1.6, equation (4.1.5); §4.1.1, H(P).
    """
    return statistics_of(*_of_logits(logits, tokens, options, entropy=True))


@with_plain
@with_options
def token_log_probs(logits: ArrayLike, tokens: ArrayLike, **options: Unpack[TokenOptions]) -> Array:
    r"""Log-probabilities of given tokens: the cross-entropies of the tokens as labels, negated.

    .. math:: \log p_c = -\left[(m - z_c) + \log \textstyle\sum_j e^{z_j - m}\right], \quad m = \max z

    Domain: that of :func:`~lossjax.log_softmax` for the logits. A row with a token outside [0, C) is NaN, and so is
    its gradient.

    Gradient: :math:`e_c - p`.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      tokens: ``[...]`` integers in [0, C), one token of each row; or ``[..., K]``, K tokens of each.
      **options: the options of :class:`TokenOptions`.

    Returns:
      Nats, never positive, of the shape of the tokens, in float32 or wider.

    Accuracy: 8u for up to 1000 classes (beyond, log2(C)/2 u more), also where a token is nearly certain. A temperature
    rounds the logits once more.

    Raises:
      TypeError: logits that are not floats, tokens that are not integers, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, an axis that does not exist, a temperature or softcap that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import token_log_probs
      >>> print(f"{token_log_probs(jnp.array([40.0, 0.0]), jnp.array(0)):.4g}")
      -4.248e-18

    Source: §4.1.6, equation (4.1.5).
    """
    return log_probs_of(*_of_logits(logits, tokens, options, entropy=False))


@with_options
def linear_token_statistics(
    hidden: ArrayLike,
    weight: ArrayLike,
    tokens: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    **options: Unpack[LinearTokenOptions],
) -> TokenStatistics:
    r"""Log-probabilities of tokens, entropy and log-sum-exp of a linear head whose logits are never stored.

    .. math:: \log p_c = z_c - A, \quad A = \log \textstyle\sum_j e^{z_j},
              \quad H = -\textstyle\sum_j p_j \log p_j, \quad z = xW + b

    Domain: that of :func:`token_statistics` for the logits xW + b.

    Gradient: with g that of :func:`token_statistics` in the logits, :math:`g W^\top` in x, :math:`x^\top g` in W and
    g in b, summed over rows. The backward pass makes the logits again, block by block.

    Args:
      hidden: x, ``[..., H]`` floats.
      weight: W, ``[H, C]`` floats, of the dtype of ``hidden``.
      tokens: ``[...]`` integers in [0, C), one token of each row; or ``[..., K]``, K tokens of each.
      bias: b, ``[C]`` floats; None stands for 0.
      **options: the options of :class:`LinearTokenOptions`.

    Returns:
      A :class:`TokenStatistics` in float32 or wider.

    Accuracy: that of :func:`token_statistics` for the logits as computed. Products of 16-bit numbers are summed in
    float32, and so are the gradients of the blocks.

    Raises:
      TypeError: arguments that are not floats (tokens: integers), hidden and weight of different dtypes.
      ValueError: shapes that do not fit, a chunk size that is not positive, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import linear_token_statistics
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> found = linear_token_statistics(x, W, jnp.array([[0, 2]]))
      >>> [f"{x:.4f}" for x in found.log_probs[0]], f"{found.entropy[0]:.4f}", found.is_top.tolist()
      (['-1.1427', '-3.1427'], '1.2291', [[True, False]])

    Source: §4.1.6; Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025.
    """
    return statistics_of(*linear_answers(hidden, weight, tokens, bias, options, Asked(None, entropy=True)))


@with_options
def linear_token_log_probs(
    hidden: ArrayLike,
    weight: ArrayLike,
    tokens: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    **options: Unpack[LinearTokenOptions],
) -> Array:
    r"""Log-probabilities of tokens under a linear head whose logits are never stored.

    .. math:: \log p_c = -\left[(m - z_c) + \log \textstyle\sum_j e^{z_j - m}\right], \quad z = xW + b,
              \quad m = \max z

    Domain: that of :func:`token_log_probs` for the logits xW + b.

    Gradient: :math:`(e_c - p) W^\top` in x, :math:`x^\top (e_c - p)` in W, :math:`e_c - p` in b, summed over rows.
    The backward pass makes the logits again: four matrix products in all. Where what becomes of the log-probabilities
    is a weighted sum, with weights known beforehand (a policy gradient's advantages),
    ``linear_softmax_cross_entropy(…, weights=-weights, reduction="sum")`` has the same gradient with three.

    Args:
      hidden: x, ``[..., H]`` floats.
      weight: W, ``[H, C]`` floats, of the dtype of ``hidden``.
      tokens: ``[...]`` integers in [0, C), one token of each row; or ``[..., K]``, K tokens of each.
      bias: b, ``[C]`` floats; None stands for 0.
      **options: the options of :class:`LinearTokenOptions`.

    Returns:
      Nats, never positive, of the shape of the tokens, in float32 or wider.

    Accuracy: that of :func:`token_log_probs` for the logits as computed. Products of 16-bit numbers are summed in
    float32, and so are the gradients of the blocks.

    Raises:
      TypeError: arguments that are not floats (tokens: integers), hidden and weight of different dtypes.
      ValueError: shapes that do not fit, a chunk size that is not positive, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import linear_token_log_probs
      >>> x, W = jnp.ones((3, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> [f"{x:.4f}" for x in linear_token_log_probs(x, W, jnp.array([0, 1, 2]))]
      ['-1.1427', '-1.1427', '-3.1427']

    Source: §4.1.6; Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025.
    """
    return log_probs_of(*linear_answers(hidden, weight, tokens, bias, options, Asked(None)))


# --- what they share -------------------------------------------------------------------------------------------------


class TokenQuestion(NamedTuple):
    """What is asked of tokens, as a loss of a head's logits; a block's own are the tokens, the terms the transform."""

    asked: Asked

    def __call__(self, transform: LogitTransform, logits: tuple[Array, ...], block: Rows) -> Answers:
        """The answers, 0 in masked rows."""
        tokens = hide(block.valid, block.own)
        z = transformed(transform, hide(block.valid, logits[0]), self.asked.dtype)
        return _hidden(block.valid, token_answers(self.asked, z, tokens))


def linear_answers(
    hidden: ArrayLike, weight: ArrayLike, tokens: ArrayLike, bias: ArrayLike | None, options: Any, asked: Asked
) -> tuple[Answers, bool]:
    """The answers, and whether there is one token per row (``[..., 1]``)."""
    heads, given = LinearHeads.of(hidden, weight, bias), complete(LinearTokenOptions, options)
    valid, one, asked_of = checked_tokens(tokens, heads.rows, heads.class_count(asked.over), given["where"])
    transform = transform_of(given["temperature"], given["logit_softcap"], heads.dtype)
    question = TokenQuestion(asked._replace(dtype=heads.dtype))
    of_head = HeadLoss.of(question, heads, transform, asked_of, valid, heads.dtype, options, asked.over)
    return of_head.of_rows(), one


def _of_logits(logits: ArrayLike, tokens: ArrayLike, options: TokenOptions, *, entropy: bool) -> tuple[Answers, bool]:
    given, array = complete(TokenOptions, options), checks.floating("logits", logits)
    z, dtype = classes_last(array, checks.class_axis(array, "logits", given["axis"])), checks.compute_dtype(array)
    valid, one, asked_of = checked_tokens(tokens, z.shape[:-1], z.shape[-1], given["where"])
    transform = transform_of(given["temperature"], given["logit_softcap"], dtype)
    z = transformed(transform, hide(valid, z), dtype)
    answers = token_answers(Asked(dtype, entropy=entropy), z, hide(valid, asked_of))
    return _hidden(valid, answers), one


def log_probs_of(answers: Answers, one: bool) -> Array:
    """The log-probabilities, of the shape of the tokens."""
    return answers.log_probs[..., 0] if one else answers.log_probs


def statistics_of(answers: Answers, one: bool) -> TokenStatistics:
    """The public result."""
    assert answers.entropy is not None
    log_probs, is_top = (x[..., 0] if one else x for x in (answers.log_probs, answers.is_top > 0))
    return TokenStatistics(log_probs, answers.entropy, answers.logsumexp, is_top)


def checked_tokens(
    tokens: ArrayLike, rows: tuple[Any, ...], classes: Any, where: ArrayLike | None, name: str = "tokens"
) -> tuple[Array | None, bool, Array]:
    """The rows that count, whether each row has one token, and the tokens as ``[..., K]``."""
    array = checks.as_array(name, tokens, "integer class indices")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name} must be integer class indices, got {array.dtype}; convert with .astype(jnp.int32)")
    if array.ndim not in (len(rows), len(rows) + 1) or array.shape[: len(rows)] != tuple(rows):
        raise ValueError(
            f"{name} has shape {array.shape}, wanted {tuple(rows)} or {(*rows, 'K')}; give one token, or K, per row"
        )
    array = array.astype(jnp.int32) if jnp.iinfo(array.dtype).bits < 32 else array
    one, valid = array.ndim == len(rows), checks.mask("where", where, rows)
    array = array[..., None] if one else array
    counted = None if valid is None else jnp.broadcast_to(valid[..., None], array.shape)
    return valid, one, checks.labels_in_range(array, classes, counted)


def _hidden(valid: Array | None, answers: Answers) -> Answers:
    """The answers, 0 in masked rows; None stays."""
    return Answers(*(None if x is None else hide(valid, x) for x in answers))  # pyright: ignore[reportArgumentType]
