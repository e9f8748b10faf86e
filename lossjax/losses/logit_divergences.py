"""How far two rows of logits are apart: the divergences of §4.1.1 without leaving the logits."""

from typing import Any, Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.masks import nan_unless
from lossjax._core.options import with_options
from lossjax._core.plain import with_plain
from lossjax._rules import logit_divergences as rules
from lossjax._rules import logit_mixtures
from lossjax._rules.logit_divergences import kl_of_logits
from lossjax._softmax.measures import LogitMeasureOptions, Measure


@with_plain
@with_options
def softmax_kl_divergence(logits_p: ArrayLike, logits_q: ArrayLike, **options: Unpack[LogitMeasureOptions]) -> Array:
    r"""Kullback-Leibler divergence KL(p‖q) of ``p = softmax(logits_p)`` from ``q = softmax(logits_q)``.

    .. math:: \textstyle\sum_k p_k\, \xi(d_k), \quad d = \log q - \log p, \quad \xi(x) = e^x - 1 - x

    Every term is non-negative: the result is never negative, exactly 0 for equal logits, and as accurate for close
    distributions as for distant ones.

    Domain: that of :func:`softmax` for both logits. A class that is impossible under p contributes nothing; a class
    that is possible under p and impossible under q makes the result +inf.

    Gradient: -p∘(d - Σ p d) in ``logits_p``, q - p in ``logits_q``.

    Args:
      logits_p: ``[..., C]`` floats, the logits of the distribution that weighs the logarithms.
      logits_q: ``[..., C]`` floats of the shape of ``logits_p``.
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
      >>> from lossjax import softmax_kl_divergence
      >>> print(f"{softmax_kl_divergence(jnp.array([1.0, 0.0]), jnp.array([1.0 + 2**-10, 0.0])):.5g}")
      9.3738e-08

    Source: theorem 4.1.6 as corrected: KL(softmax u‖softmax v) is the Bregman divergence of log-sum-exp from v to u.
    """
    u, v, given = _pair(logits_p, logits_q, options)
    return given.from_nats(kl_of_logits(u, v))


@with_plain
@with_options
def softmax_js_divergence(
    logits_p: ArrayLike,
    logits_q: ArrayLike,
    *,
    mixture: ArrayLike = 0.5,
    **options: Unpack[LogitMeasureOptions],
) -> Array:
    r"""Jensen-Shannon divergence of ``p = softmax(logits_p)`` and ``q = softmax(logits_q)``.

    .. math:: \beta\, \mathrm{KL}(p \| m) + (1 - \beta)\, \mathrm{KL}(q \| m), \quad m = \beta p + (1 - \beta) q

    With ψ(t) = t - log(1 + t) and d = log q - log p it is the sum over the classes of

    .. math:: \beta p_k\, \psi((1 - \beta)(e^{d_k} - 1)) + (1 - \beta) q_k\, \psi(\beta(e^{-d_k} - 1))

    Every term is non-negative: the result is never negative, and as accurate for close distributions as for distant
    ones. Divided by β it tends to KL(p‖q) as β → 0, divided by 1 - β to KL(q‖p) as β → 1.

    Domain: that of :func:`softmax` for both logits, and β in (0, 1). The result lies between 0 and the entropy of a
    coin that falls with β (log 2 for β = ½), for any two distributions.

    Gradient: p∘(a - Σ p a) in ``logits_p`` with a = β log(p/m), q∘(b - Σ q b) in ``logits_q`` with
    b = (1 - β) log(q/m), and KL(p‖m) - KL(q‖m) in β.

    Args:
      logits_p: ``[..., C]`` floats.
      logits_q: ``[..., C]`` floats of the shape of ``logits_p``.
      mixture: β, the weight of p in the mixture, a number in (0, 1). Any other raises; if that is known only when the
        program runs (of a traced array), the result is NaN, because a compiled program cannot raise.
      **options: the options of :class:`LogitMeasureOptions`.

    Returns:
      ``[...]`` or a scalar, in nats unless ``base`` is given, in float32 or wider.

    Accuracy: 33u (67u where a gap reaches 16). A temperature rounds the logits once more.

    Raises:
      TypeError: logits that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an axis that does not exist or holds no class, a base not greater than 1, a
        temperature that is not positive, a mixture that is not in (0, 1).

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import softmax_js_divergence
      >>> print(softmax_js_divergence(jnp.array([200.0, 0.0]), jnp.array([0.0, 200.0]), base=2))
      1.0

    Source: Lin (1991); §4.1.1; with a mixture as in Agarwal et al. (2024).
    """
    u, v, given = _pair(logits_p, logits_q, options)
    return given.from_nats(js_divergence(None, u, v, *mixture_of(mixture, checks.compute_dtype(u, v))))


def mixture_of(mixture: ArrayLike, dtype: Any) -> tuple[Array, ...]:
    """β, checked; nothing for ½, whose formula is half the work."""
    weight = checks.number("mixture", mixture, dtype, positive=True, at_most=1.0)
    if checks.is_known(mixture, 0.5):
        return ()
    if checks.is_known(mixture, 1):
        raise ValueError("mixture must be less than 1, got 1.0: the divergence is 0 there; see softmax_kl_divergence")
    return (nan_unless((weight > 0) & (weight < 1), weight),)


def js_divergence(over: str | None, u: Array, v: Array, *mixture: Array) -> Array:
    """Of rows of logits whose classes are all here, or split over the devices of a mesh axis."""
    return logit_mixtures.js_divergence(over, u, v, *mixture) if mixture else rules.js_divergence(over, u, v)


def _pair(logits_p: ArrayLike, logits_q: ArrayLike, options: LogitMeasureOptions) -> tuple[Array, Array, Measure]:
    """Both logits checked and masked, the classes last, and their options; 16 bits are widened where they are used."""
    first = checks.floating("logits_p", logits_p)
    second = checks.floating("logits_q", logits_q)
    checks.same_shape("logits_q", second.shape, "of logits_p", first.shape, "give two logits per class")
    given, dtype = Measure.of("logits_p", first, options), checks.compute_dtype(first, second)
    temperature = options.get("temperature", 1.0)
    first, second = (z if jnp.finfo(z.dtype).bits == 16 else z.astype(dtype) for z in (first, second))
    u, v = (given.classes.logits(z, temperature, dtype) for z in (first, second))
    return given.classes.defined(u), given.classes.defined(v), given
