"""What a row of logits says by itself: §4.1.6, and the entropy of §4.1.1 without leaving the logits."""

from typing import Any, Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.options import complete, with_options
from lossjax._core.plain import with_plain
from lossjax._rules import entropy as rules
from lossjax._rules.weighted_sum import log_weighted_sum
from lossjax._softmax import functions
from lossjax._softmax.classes import Classes, FunctionOptions
from lossjax._softmax.measures import LogitMeasureOptions, Measure


def _prepared(logits: ArrayLike, options: FunctionOptions, *beside: Array | None) -> tuple[Array, Classes, Any]:
    """The logits, checked: the classes last, -inf where they do not count, over the temperature; the dtype of the sums.

    Without a temperature they are as narrow as they came: rows are made wider where they are used.
    """
    given, array = complete(FunctionOptions, options), checks.floating("logits", logits)
    classes, dtype = Classes.of("logits", array, given), checks.compute_dtype(array, *beside)
    return classes.logits(array, given["temperature"], dtype), classes, dtype


@with_plain
@with_options
def softmax(logits: ArrayLike, **options: Unpack[FunctionOptions]) -> Array:
    r"""The probabilities of a row of logits.

    .. math:: p_j = e^{z_j - m} / \textstyle\sum_k e^{z_k - m}, \quad m = \max z

    Domain: any real logits; a logit of -inf has probability 0, a single +inf has probability 1. A row that holds NaN,
    two +inf, or nothing but -inf is NaN; a row in which ``where`` leaves no class is 0.

    Gradient: J(p) = diag(p) - p pᵀ, applied without the matrix; each of its rows sums to 0, up to rounding. True
    gradient also in the temperature.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      **options: the options of :class:`FunctionOptions`.

    Returns:
      Probabilities, of the shape and dtype of the logits (computed in float32 for 16-bit logits). The map is onto the
      open simplex, and not one to one: softmax(z + a) = softmax(z).

    Accuracy: 8u relative in every entry (plus the smallest normal number), at every scale, offset and gap. A
    temperature rounds the logits once more.

    Raises:
      TypeError: logits that are not floats, a ``where`` that is not boolean.
      ValueError: an axis that does not exist or holds no class, shapes that do not agree, a temperature that is not
        positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import softmax
      >>> print(softmax(jnp.array([1000.0, 1000.0, -jnp.inf])))
      [0.5 0.5 0. ]
      >>> print(softmax(jnp.array([1.0, 1.0, jnp.nan]), where=jnp.array([True, True, False])))
      [0.5 0.5 0. ]

    Source: §4.1.6.
    """
    z, classes, dtype = _prepared(logits, options)
    p = classes.back(functions.softmax(classes.defined(z), dtype))
    return classes.only(p, 0).astype(jnp.result_type(logits))


@with_plain
@with_options
def log_softmax(logits: ArrayLike, **options: Unpack[FunctionOptions]) -> Array:
    r"""The log-probabilities of a row of logits.

    .. math:: \log p_k = -\left[(m - z_k) + \log(1 + \textstyle\sum_{j \ne i} e^{z_j - m})\right], \quad z_i = m

    Domain: that of :func:`softmax`; the log-probability of a logit of -inf, and of a class that does not count, is
    -inf.

    Gradient: g - (Σg) p for a cotangent g, without cancellation where p_k is near 1; what a cotangent holds at a class
    that does not count is not felt. True gradient also in the temperature.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      **options: the options of :class:`FunctionOptions`.

    Returns:
      Log-probabilities in nats, of the shape of the logits, in float32 or wider.

    Accuracy: 8u relative in every entry; the entry of a certain class does not round to 0. A temperature rounds the
    logits once more.

    Raises:
      TypeError: logits that are not floats, a ``where`` that is not boolean.
      ValueError: an axis that does not exist or holds no class, shapes that do not agree, a temperature that is not
        positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import log_softmax
      >>> [f"{entry:.5g}" for entry in log_softmax(jnp.array([50.0, 0.0]))]
      ['-1.9287e-22', '-50']

    Source: §4.1.6, equation (4.1.5).
    """
    z, classes, dtype = _prepared(logits, options)
    return classes.only(classes.back(functions.log_softmax(classes.defined(z), dtype)), -jnp.inf)


@with_plain
@with_options
def logsumexp(logits: ArrayLike, *, b: ArrayLike | None = None, **options: Unpack[FunctionOptions]) -> Array:
    r"""The log-partition function of the categorical family.

    .. math:: A(z) = \log \textstyle\sum_j b_j e^{z_j} = m + \log(1 + \textstyle\sum_{j \ne i} e^{z_j - m})
              \quad\text{for } b = 1

    Domain: any real logits; a row that holds NaN or two +inf is NaN. The sum of nothing (no class that counts, or
    nothing but -inf) is -inf, with gradient 0. With ``b`` the sum may be negative: then the result is NaN.

    Gradient: softmax(z); with ``b`` it is b∘Q in the logits and Q in ``b``, with :math:`Q_k = e^{z_k - A}`. True
    gradient also in the temperature.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      b: floats of any sign that multiply the exponentials: a scalar, or an array that broadcasts to the shape of the
        logits. None stands for 1. A term with a b of 0 counts as 0.
      **options: the options of :class:`FunctionOptions`.

    Returns:
      ``[...]`` in nats, in float32 or wider.

    Accuracy: 8u·max(|m|, |A - m|), the larger of the two terms: where they cancel, the result is small beside them.
    With ``b``, 16u of the largest of \|z_i\|, \|log \|b_i\|\| and Σ|b|eᶻ/\|Σ b eᶻ\|, with i the largest term.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: an axis that does not exist or holds no class, shapes that do not agree, a temperature that is not
        positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import logsumexp
      >>> print(f"{logsumexp(jnp.array([1000.0, 1000.0])):.3f}")
      1000.693
      >>> print(f"{logsumexp(jnp.array([3.0, 2.0]), b=jnp.array([1.0, -1.0])):.5f}")  # log(e^3 - e^2)
      2.54132

    Source: equation (4.1.5).
    """
    if b is None:
        z, _, dtype = _prepared(logits, options)
        return functions.log_sum_exp(z, dtype)
    weight = checks.floating("b", b)
    z, classes, dtype = _prepared(logits, options, weight)
    z = z.astype(dtype)
    checks.broadcastable("b", weight.shape, classes.shape)
    weight = classes.only(jnp.broadcast_to(weight.astype(z.dtype), classes.shape), 0)
    return log_weighted_sum(z, classes.last(weight))


@with_plain
@with_options
def softmax_entropy(logits: ArrayLike, **options: Unpack[LogitMeasureOptions]) -> Array:
    r"""Shannon entropy of ``softmax(logits)``.

    .. math:: H = \textstyle\sum_k p_k (m - z_k) + \log \textstyle\sum_j e^{z_j - m}

    Domain: that of :func:`softmax`; impossible classes contribute nothing. The entropy is never negative.

    Gradient: p_k ((m - z_k) - Σ_j p_j (m - z_j)).

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      **options: the options of :class:`LogitMeasureOptions`.

    Returns:
      ``[...]`` or a scalar, in nats unless ``base`` is given, in float32 or wider.

    Accuracy: 33u (67u where a gap reaches 16). A temperature rounds the logits once more.

    Raises:
      TypeError: logits that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an axis that does not exist or holds no class, a base not greater than 1, a
        temperature that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import softmax_entropy
      >>> print(softmax_entropy(jnp.zeros(8), base=2))
      3.0

    Source: §4.1.1, H(P).
    """
    array = checks.floating("logits", logits)
    given, dtype = Measure.of("logits", array, options), checks.compute_dtype(array)
    z = given.classes.logits(array, options.get("temperature", 1.0), dtype)
    return given.from_nats(rules.entropy(given.classes.defined(z), dtype))
