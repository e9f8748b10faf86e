"""Entropy and divergences of linear heads, whose logits are never stored."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.masks import hide
from lossjax._core.options import complete, with_options
from lossjax._core.reduction import CountedOptions, Reducer
from lossjax._rules import logit_divergences as rules
from lossjax._softmax.head import Rows
from lossjax._softmax.head_inputs import (
    BlockOptions,
    HeadLoss,
    LinearHeads,
    transform_of,
    transformed,
)
from lossjax._softmax.measures import BaseOption
from lossjax._softmax.options import TransformOptions
from lossjax._softmax.tokens import Asked, token_answers
from lossjax._softmax.transform import LogitTransform
from lossjax.losses.logit_divergences import js_divergence, mixture_of
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
      ``[...]`` or a scalar, in nats unless ``base`` is given, in float32 or wider.

    Accuracy: that of :func:`~lossjax.softmax_entropy` for the logits as computed. Products of 16-bit numbers are summed
    in float32, and so are the gradients of the blocks.

    Raises:
      TypeError: arguments that are not floats, hidden and weight of different dtypes, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, a chunk size that is not positive, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import linear_softmax_entropy
      >>> print(linear_softmax_entropy(jnp.ones((3, 2)), jnp.zeros((2, 8)), base=2))
      [3. 3. 3.]

    Source: §4.1.1, H(P).
    """
    return measured(entropy_of, LinearHeads.of(hidden, weight, bias), None, options)


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
      other_hidden: x', ``[..., H']`` floats, with the rows of ``hidden``.
      other_weight: W', ``[H', C]`` floats, of the dtype of ``other_hidden``, with the classes of ``weight``.
      bias: b, ``[C]`` floats; None stands for 0.
      other_bias: b', ``[C]`` floats; None stands for 0.
      **options: the options of :class:`LinearMeasureOptions`; temperature and softcap are those of both heads.

    Returns:
      ``[...]`` or a scalar, never negative, in nats unless ``base`` is given, in float32 or wider.

    Accuracy: that of :func:`~lossjax.softmax_kl_divergence` for the logits as computed. Products of 16-bit numbers are
    summed in float32, and so are the gradients of the blocks.

    Raises:
      TypeError: arguments that are not floats, hidden and weight of different dtypes, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, heads of different vocabularies, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import linear_softmax_kl_divergence
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> print(f"{linear_softmax_kl_divergence(x, W, x, W + 2**-10 * jnp.eye(2, 4))[0]:.5g}")
      1.1013e-07

    Source: theorem 4.1.6 as corrected; Hinton, Vinyals and Dean (2015).
    """
    heads = two_heads(hidden, weight, bias, other_hidden, other_weight, other_bias)
    return measured(kl_divergence_of, heads, None, options)


@with_options
def linear_softmax_js_divergence(
    hidden: ArrayLike,
    weight: ArrayLike,
    other_hidden: ArrayLike,
    other_weight: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    other_bias: ArrayLike | None = None,
    mixture: ArrayLike = 0.5,
    **options: Unpack[LinearMeasureOptions],
) -> Array:
    r"""Jensen-Shannon divergence of two linear heads, neither of whose logits are stored.

    .. math:: \textstyle\sum_k (\beta p_k \log \tfrac{p_k}{m_k} + (1 - \beta) q_k \log \tfrac{q_k}{m_k}), \quad
              m = \beta p + (1 - \beta) q, \quad p = \operatorname{softmax}(xW + b), \quad
              q = \operatorname{softmax}(x'W' + b')

    Domain: that of :func:`~lossjax.softmax_js_divergence` for the two rows of logits and β. The result lies between 0
    and the entropy of a coin that falls with β, which is log 2 for β = ½.

    Gradient: with g = p∘(a - Σ p a), a = β log(p/m), that in the logits, :math:`g W^\top` in x, :math:`x^\top g` in W,
    g in b, and likewise in x', W' and b', p and q exchanged: true in all of them. KL(p‖m) - KL(q‖m) in β.

    Args:
      hidden: x, ``[..., H]`` floats.
      weight: W, ``[H, C]`` floats, of the dtype of ``hidden``.
      other_hidden: x', ``[..., H']`` floats, with the rows of ``hidden``.
      other_weight: W', ``[H', C]`` floats, of the dtype of ``other_hidden``, with the classes of ``weight``.
      bias: b, ``[C]`` floats; None stands for 0.
      other_bias: b', ``[C]`` floats; None stands for 0.
      mixture: β, the weight of p in the mixture, a number in (0, 1). Any other raises; if that is known only when the
        program runs (of a traced array), the result is NaN, because a compiled program cannot raise.
      **options: the options of :class:`LinearMeasureOptions`; temperature and softcap are those of both heads.

    Returns:
      ``[...]`` or a scalar, never negative, in nats unless ``base`` is given, in float32 or wider.

    Accuracy: that of :func:`~lossjax.softmax_js_divergence` for the logits as computed. Products of 16-bit numbers are
    summed in float32, and so are the gradients of the blocks.

    Raises:
      TypeError: arguments that are not floats, hidden and weight of different dtypes, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, heads of different vocabularies, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import linear_softmax_js_divergence
      >>> x, W = jnp.ones((1, 1)), jnp.array([[200.0, 0.0]])
      >>> print(linear_softmax_js_divergence(x, W, -x, W, base=2))
      [1.]

    Source: Lin (1991); Agarwal et al. (2024).
    """
    heads = two_heads(hidden, weight, bias, other_hidden, other_weight, other_bias)
    return measured(js_divergence, heads, None, options, mixture_of(mixture, heads.dtype))


# --- what they share -------------------------------------------------------------------------------------------------


def entropy_of(over: str | None, z: Array) -> Array:
    """Of rows of logits whose classes are all here, or split over the devices of a mesh axis."""
    asked = Asked(z.dtype, over, entropy=True)
    # No tokens: spread over an explicit mesh as z is; or the same on all devices, as split logits are not.
    nothing = jnp.zeros((*z.shape[:-1], 0), jnp.int32) if over else jnp.zeros_like(z[..., :0], dtype=jnp.int32)
    entropy = token_answers(asked, z, nothing).entropy
    assert entropy is not None
    return entropy


def kl_divergence_of(over: str | None, u: Array, v: Array) -> Array:
    """Likewise."""
    return rules.kl_of_logits(u, v, over)


def two_heads(
    hidden: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    other_hidden: ArrayLike,
    other_weight: ArrayLike,
    other_bias: ArrayLike | None,
) -> LinearHeads:
    """Both heads, checked."""
    return LinearHeads.of(hidden, weight, bias).beside(LinearHeads.of(other_hidden, other_weight, other_bias, "other_"))


class Measured(NamedTuple):
    """A measure of rows of logits as the loss of heads; the terms are the transform, and the measure's own numbers."""

    measure: Callable[..., Array]
    dtype: Any

    def __call__(
        self, terms: tuple[LogitTransform, tuple[Array, ...]], logits: tuple[Array, ...], block: Rows
    ) -> tuple[Array]:
        """The measure, 0 in masked rows."""
        transform, numbers = terms
        rows = (transformed(transform, hide(block.valid, z), self.dtype) for z in logits)
        return (hide(block.valid, self.measure(*rows, *numbers)),)


def measured(
    measure: Callable[..., Array],
    heads: LinearHeads,
    over: str | None,
    options: LinearMeasureOptions,
    numbers: tuple[Array, ...] = (),
) -> Array:
    """A measure of the heads' logits, and of some numbers, reduced."""
    given = complete(LinearMeasureOptions, options)
    reducer, base = Reducer.of(heads.rows, given), checks.base(given["base"])
    transform = transform_of(given["temperature"], given["logit_softcap"], heads.dtype)
    of_logits = Measured(functools.partial(measure, over), heads.dtype)
    of_head = HeadLoss.of(of_logits, heads, (transform, numbers), (), reducer.valid, heads.dtype, options, over)
    return of_head.reduced(reducer, per_nat(base))
