"""Information measures of probabilities: §4.1.1. Those of logits are in ``logits`` and ``logit_divergences``."""

from typing import Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.domains import AMOUNTS, FRACTIONS, Domain
from lossjax._core.masks import hide, nan_unless
from lossjax._core.options import with_options
from lossjax._core.plain import with_plain
from lossjax._core.reduction import Reducer
from lossjax._rules import probabilities as rules
from lossjax._rules.probabilities import relative_entropy
from lossjax._softmax.measures import InformationOptions, Measure, MeasureOptions
from lossjax.numerics import log_base, xlogy

PROBABILITIES = Domain(lambda p: (p >= 0) & (p <= 1 + 4 * float(jnp.finfo(p.dtype).eps)), "in [0, 1]")
"""Rounding may carry a probability of 1 a few ulps too far."""


@with_plain
@with_options
def self_information(p: ArrayLike, **options: Unpack[InformationOptions]) -> Array:
    r"""The information of an event of probability p.

    .. math:: I = -\log_b p

    Domain: p in [0, 1]; the information is +inf at 0, exactly 0 at 1, and NaN outside.

    Gradient: -1/(p ln b).

    Args:
      p: ``[...]`` floats.
      **options: the options of :class:`InformationOptions`.

    Returns:
      ``[...]`` or a scalar, in nats unless ``base`` is given, in float32 or wider.

    Accuracy: 8u in float64 and 10u in float32; exact for base 2 at powers of two.

    Raises:
      TypeError: p that is not floating-point, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a base not greater than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import self_information
      >>> print(self_information(jnp.array([1.0, 0.25, 0.0]), base=2))
      [ 0.  2. inf]

    Source: §4.1.1, I(x).
    """
    probability = _probabilities("p", p)
    base, reducer = checks.base(options.get("base")), Reducer.of(probability.shape, options)
    probability = FRACTIONS.named("p", hide(reducer.valid, probability, 1))
    defined = probability + nan_unless(FRACTIONS.contains(probability), jnp.zeros_like(probability))
    return reducer(0 - log_base(defined, base))  # 0 - log 1 is 0, not -0


@with_plain
@with_options
def entropy(p: ArrayLike, **options: Unpack[MeasureOptions]) -> Array:
    r"""Shannon entropy, the expected self-information.

    .. math:: H(p) = -\textstyle\sum_i p_i \log_b p_i

    Domain: p in [0, 1], summing to 1 along ``axis`` (this is not checked); 0·log 0 = 0. An entry outside [0, 1] makes
    the result NaN. It lies between 0 (one certain outcome) and log n (the uniform distribution).

    Gradient: -(log p_i + 1), +inf at 0.

    Args:
      p: ``[..., n]`` floats (the axis of outcomes is ``axis``).
      **options: the options of :class:`MeasureOptions`.

    Returns:
      ``[...]`` or a scalar, in nats unless ``base`` is given, in float32 or wider.

    Accuracy: 16u·max(1, H); exact in bits where every p is a power of two.

    Raises:
      TypeError: p that is not floating-point, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an axis that does not exist or is empty, a base not greater than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import entropy
      >>> print(entropy(jnp.array([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]]), base=2))
      [2. 0.]

    Source: §4.1.1, H(X).
    """
    probability = _probabilities("p", p)
    given = Measure.of("p", probability, options)
    kept = given.outcomes("p", probability, PROBABILITIES)
    return given.reducer(given.total(0 - rules.plogp(given.base, kept), PROBABILITIES, kept))


@with_plain
@with_options
def cross_entropy(p: ArrayLike, q: ArrayLike, **options: Unpack[MeasureOptions]) -> Array:
    r"""Cross-entropy of q relative to p, both probabilities (for logits: :func:`lossjax.softmax_cross_entropy`).

    .. math:: H(p, q) = -\textstyle\sum_i p_i \log_b q_i = H(p) + \mathrm{KL}(p\|q)

    Domain: entries in [0, 1]; any other entry makes the result NaN. 0·log 0 = 0; the result is +inf where p_i > 0 =
    q_i.

    Gradient: -log q_i in p, -p_i/q_i in q (0 where p_i is 0).

    Args:
      p: ``[..., n]`` floats, the distribution that weighs the logarithms.
      q: ``[..., n]`` floats of the shape of ``p``.
      **options: the options of :class:`MeasureOptions`.

    Returns:
      ``[...]`` or a scalar, in nats unless ``base`` is given, in float32 or wider.

    Accuracy: 32u.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an axis that does not exist or is empty, a base not greater than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import cross_entropy
      >>> print(f"{cross_entropy(jnp.array([0.5, 0.5, 0.0]), jnp.array([0.25, 0.75, 0.0])):.5f}")
      0.83699

    Source: §4.1.3, H(P, Q).
    """
    weight, model, given = _measured_pair(p, q, options, PROBABILITIES)
    return given.from_nats(given.total(0 - xlogy(weight, model), PROBABILITIES, weight, model))


@with_plain
@with_options
def kl_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[MeasureOptions]) -> Array:
    r"""Kullback-Leibler divergence of p from q: the Bregman divergence of negative entropy (theorem 4.1.4).

    .. math:: \mathrm{KL}(p\|q) = \textstyle\sum_i \left(p_i \log_b \frac{p_i}{q_i} + \frac{q_i - p_i}{\ln b}\right)
              = \textstyle\sum_i p_i \log_b \frac{p_i}{q_i} \quad\text{if } \sum p = \sum q

    Each term is non-negative and computed without cancellation, so that the result is never negative, exactly 0 for
    p = q, and accurate for close distributions.

    Domain: p, q >= 0; a negative entry makes the result NaN. An outcome with p_i = 0 contributes q_i, and one with
    p_i > 0 = q_i makes the result +inf.

    Gradient: log(p_i/q_i) in p, 1 - p_i/q_i in q; where p_i = q_i = 0 it is 0 in p (the limit along p = q)
    and 1 in q.

    Args:
      p: ``[..., n]`` floats, the distribution that weighs the logarithms.
      q: ``[..., n]`` floats of the shape of ``p``.
      **options: the options of :class:`MeasureOptions`.

    Returns:
      ``[...]`` or a scalar, in nats unless ``base`` is given, in float32 or wider.

    Accuracy: 33u, relative to the result itself.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an axis that does not exist or is empty, a base not greater than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import kl_divergence
      >>> p = jnp.array([0.5, 0.5])
      >>> print(f"{kl_divergence(p, jnp.array([0.75, 0.25])):.5f}", kl_divergence(p, p))
      0.14384 0.0

    Source: §4.1.1, theorem 4.1.4 and equation (4.1.3) with the doubled term removed.
    """
    first, second, given = _measured_pair(p, q, options, AMOUNTS)
    return given.from_nats(given.total(relative_entropy(first, second), AMOUNTS, first, second))


@with_plain
@with_options
def jeffreys_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[MeasureOptions]) -> Array:
    r"""Jeffreys divergence, the symmetric sum of both Kullback-Leibler divergences.

    .. math:: J(p, q) = \mathrm{KL}(p\|q) + \mathrm{KL}(q\|p) = \textstyle\sum_i (p_i - q_i) \log_b (p_i/q_i)

    Domain: p, q >= 0; a negative entry makes the result NaN. It is +inf where exactly one of p_i, q_i is 0.

    Gradient: log(p_i/q_i) + 1 - q_i/p_i in p, and with p and q exchanged in q.

    Args:
      p: ``[..., n]`` floats.
      q: ``[..., n]`` floats of the shape of ``p``.
      **options: the options of :class:`MeasureOptions`.

    Returns:
      ``[...]`` or a scalar, in nats unless ``base`` is given, in float32 or wider.

    Accuracy: 33u, relative to the result itself.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an axis that does not exist or is empty, a base not greater than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import jeffreys_divergence
      >>> print(f"{jeffreys_divergence(jnp.array([0.5, 0.5]), jnp.array([0.75, 0.25])):.5f}")
      0.27465

    Source: Jeffreys (1946); §4.1.1 (asymmetry of KL).
    """
    first, second, given = _measured_pair(p, q, options, AMOUNTS)
    both = relative_entropy(first, second) + relative_entropy(second, first)
    return given.from_nats(given.total(both, AMOUNTS, first, second))


@with_plain
@with_options
def js_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[MeasureOptions]) -> Array:
    r"""Jensen-Shannon divergence: the mean divergence from the midpoint. Its square root is a metric.

    .. math:: \mathrm{JS}(p, q) = \tfrac12 \mathrm{KL}(p\|m) + \tfrac12 \mathrm{KL}(q\|m), \quad m = (p + q)/2

    Domain: p, q >= 0; a negative entry makes the result NaN. It lies between 0 and log 2, for any two distributions.

    Gradient: ½ log(p_i/m_i) in p, ½ log(q_i/m_i) in q.

    Args:
      p: ``[..., n]`` floats.
      q: ``[..., n]`` floats of the shape of ``p``.
      **options: the options of :class:`MeasureOptions`.

    Returns:
      ``[...]`` or a scalar, in nats unless ``base`` is given, in float32 or wider.

    Accuracy: 33u, relative to the result itself.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an axis that does not exist or is empty, a base not greater than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import js_divergence
      >>> print(js_divergence(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), base=2))
      1.0

    Source: Lin (1991); §4.1.1.
    """
    first, second, given = _measured_pair(p, q, options, AMOUNTS)
    return given.from_nats(given.total(rules.jensen_shannon(first, second), AMOUNTS, first, second))


def _probabilities(name: str, value: ArrayLike) -> Array:
    array = checks.floating(name, value, remedy="divide counts by their sum")
    return array.astype(checks.compute_dtype(array))


def _measured_pair(p: ArrayLike, q: ArrayLike, options: MeasureOptions, domain: Domain) -> tuple[Array, Array, Measure]:
    """Both, the outcomes last, with their options."""
    first, second = checks.floating("p", p), checks.floating("q", q)
    checks.same_shape("q", second.shape, "of p", first.shape, "give two probabilities per outcome")
    given, dtype = Measure.of("p", first, options), checks.compute_dtype(first, second)
    first, second = (given.outcomes(name, x.astype(dtype), domain) for name, x in (("p", first), ("q", second)))
    return first, second, given
