"""What a row of logits says by itself: §4.1.6, and §4.1.1's entropy without leaving the logits."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.plain import with_plain
from lossjax._rules import entropy as rules
from lossjax._softmax import functions
from lossjax.numerics import per_nat


def _last(array: Array, axis: int) -> Array:
    return jnp.moveaxis(array, axis, -1).astype(checks.compute_dtype(array))


@with_plain
def softmax(logits: ArrayLike, *, axis: int = -1) -> Array:
    r"""The probabilities of a row of logits.

    .. math:: p_j = e^{z_j - m} / \textstyle\sum_k e^{z_k - m}, \quad m = \max z

    Domain: any real logits; -inf has probability 0, one +inf has 1. A row with NaN, with two +inf, or with nothing
    but -inf is NaN.

    Gradient: J(p) = diag(p) - p pᵀ, applied without the matrix; every row of it sums to 0 to rounding.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      axis: the class axis.

    Returns:
      Probabilities, the logits' shape and dtype (computed in float32 for 16-bit logits). Onto the open simplex, and
      not one to one: softmax(z + a) = softmax(z).

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

    Domain: as :func:`softmax`; a logit of -inf has -inf.

    Gradient: g - (Σg) p for a cotangent g, without cancellation where p_k is near 1.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      axis: the class axis.

    Returns:
      Log-probabilities in nats, the logits' shape, in float32 or wider.

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

    Domain: as :func:`softmax`; a row of nothing but -inf is NaN (its gradient has no value).

    Gradient: softmax(z).

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      axis: the class axis.

    Returns:
      ``[...]`` in nats, in float32 or wider.

    Accuracy: 8u·max(|m|, |A - m|): where the two terms cancel, the result is small beside them.

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
def softmax_entropy(logits: ArrayLike, *, axis: int = -1, base: float | None = None) -> Array:
    r"""Shannon entropy of ``softmax(logits)``.

    .. math:: H = \textstyle\sum_k p_k (m - z_k) + \log \textstyle\sum_j e^{z_j - m}

    Domain: as :func:`softmax`; impossible classes contribute nothing. Never negative.

    Gradient: p_k ((m - z_k) - Σ_j p_j (m - z_j)).

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      axis: the class axis.
      base: of the logarithm, greater than 1; None = nats, 2 = bits.

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
    logits = checks.floating("logits", logits)
    (one,) = checks.one_class_axis(logits, "logits", axis)
    return rules.entropy(None, _last(logits, one)) * per_nat(checks.base(base))
