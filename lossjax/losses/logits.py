"""What a row of logits says by itself: §4.1.6, and the entropy of §4.1.1 without leaving the logits."""

from typing import Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.options import complete, with_options
from lossjax._core.plain import with_plain
from lossjax._rules import entropy as rules
from lossjax._softmax import functions
from lossjax.losses.information import MeasureOptions
from lossjax.numerics import per_nat


def _last(array: Array, axis: int) -> Array:
    return jnp.moveaxis(array, axis, -1).astype(checks.compute_dtype(array))


@with_plain
def softmax(logits: ArrayLike, *, axis: int = -1) -> Array:
    r"""The probabilities of a row of logits.

    .. math:: p_j = e^{z_j - m} / \textstyle\sum_k e^{z_k - m}, \quad m = \max z

    Domain: any real logits; a logit of -inf has probability 0, a single +inf has probability 1. A row that holds NaN,
    two +inf, or nothing but -inf is NaN.

    Gradient: J(p) = diag(p) - p pᵀ, applied without the matrix; each of its rows sums to 0, up to rounding.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      axis: the class axis.

    Returns:
      Probabilities, of the shape and dtype of the logits (computed in float32 for 16-bit logits). The map is onto the
      open simplex, and not one to one: softmax(z + a) = softmax(z).

    Accuracy: 8u relative in every entry (plus the smallest normal number), at every scale, offset and gap.

    Raises:
      TypeError: logits that are not floats.
      ValueError: an axis that does not exist or holds no class.

    Example:
      >>> import jax.numpy as jnp
      >>> print(softmax(jnp.array([1000.0, 1000.0, -jnp.inf])))
      [0.5 0.5 0. ]

    Source: §4.1.6.
    """
    logits = checks.floating("logits", logits)
    (one,) = checks.one_class_axis(logits, "logits", axis)
    return jnp.moveaxis(functions.softmax(_last(logits, one)), -1, one).astype(logits.dtype)


@with_plain
def log_softmax(logits: ArrayLike, *, axis: int = -1) -> Array:
    r"""The log-probabilities of a row of logits.

    .. math:: \log p_k = -\left[(m - z_k) + \log(1 + \textstyle\sum_{j \ne i} e^{z_j - m})\right], \quad z_i = m

    Domain: that of :func:`softmax`; the log-probability of a logit of -inf is -inf.

    Gradient: g - (Σg) p for a cotangent g, without cancellation where p_k is near 1.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      axis: the class axis.

    Returns:
      Log-probabilities in nats, of the shape of the logits, in float32 or wider.

    Accuracy: 8u relative in every entry; the entry of a certain class does not round to 0.

    Raises:
      TypeError: logits that are not floats.
      ValueError: an axis that does not exist or holds no class.

    Example:
      >>> import jax.numpy as jnp
      >>> [f"{entry:.5g}" for entry in log_softmax(jnp.array([50.0, 0.0]))]
      ['-1.9287e-22', '-50']

    Source: §4.1.6, equation (4.1.5).
    """
    logits = checks.floating("logits", logits)
    (one,) = checks.one_class_axis(logits, "logits", axis)
    return jnp.moveaxis(functions.log_softmax(_last(logits, one)), -1, one)


@with_plain
def logsumexp(logits: ArrayLike, *, axis: int = -1) -> Array:
    r"""The log-partition function of the categorical family.

    .. math:: A(z) = \log \textstyle\sum_j e^{z_j} = m + \log(1 + \textstyle\sum_{j \ne i} e^{z_j - m})

    Domain: that of :func:`softmax`; a row of nothing but -inf is NaN, for it has no gradient.

    Gradient: softmax(z).

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      axis: the class axis.

    Returns:
      ``[...]`` in nats, in float32 or wider.

    Accuracy: 8u·max(|m|, |A - m|), the larger of the two terms: where they cancel, the result is small beside them.

    Raises:
      TypeError: logits that are not floats.
      ValueError: an axis that does not exist or holds no class.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{logsumexp(jnp.array([1000.0, 1000.0])):.3f}")
      1000.693

    Source: equation (4.1.5).
    """
    logits = checks.floating("logits", logits)
    (one,) = checks.one_class_axis(logits, "logits", axis)
    return functions.log_sum_exp(_last(logits, one))


@with_plain
@with_options
def softmax_entropy(logits: ArrayLike, **options: Unpack[MeasureOptions]) -> Array:
    r"""Shannon entropy of ``softmax(logits)``.

    .. math:: H = \textstyle\sum_k p_k (m - z_k) + \log \textstyle\sum_j e^{z_j - m}

    Domain: that of :func:`softmax`; impossible classes contribute nothing. The entropy is never negative.

    Gradient: p_k ((m - z_k) - Σ_j p_j (m - z_j)).

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      **options: the options of :class:`MeasureOptions`.

    Returns:
      ``[...]`` in nats unless ``base``, in float32 or wider.

    Accuracy: 33u (67u where a gap reaches 16).

    Raises:
      TypeError: logits that are not floats.
      ValueError: an axis that does not exist or holds no class, a base not greater than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> print(softmax_entropy(jnp.zeros(8), base=2))
      3.0

    Source: §4.1.1, H(P).
    """
    given = complete(MeasureOptions, options)
    logits = checks.floating("logits", logits)
    (one,) = checks.one_class_axis(logits, "logits", given["axis"])
    return rules.entropy(_last(logits, one)) * per_nat(checks.base(given["base"]))
