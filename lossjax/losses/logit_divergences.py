"""How far two rows of logits are apart: the divergences of §4.1.1 without leaving the logits."""

from typing import Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.options import with_options
from lossjax._core.plain import with_plain
from lossjax._rules import logits as rules
from lossjax._rules.logits import kl_of_logits
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
      ``[...]`` or a scalar, in nats unless ``base``, in float32 or wider.

    Accuracy: 33u (67u where a gap reaches 16). A temperature rounds the logits once more.

    Raises:
      TypeError: logits that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an axis that does not exist or holds no class, a base not greater than 1, a
        temperature that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{softmax_kl_divergence(jnp.array([1.0, 0.0]), jnp.array([1.0 + 2**-10, 0.0])):.5g}")
      9.3738e-08

    Source: theorem 4.1.6 as corrected: KL(softmax u‖softmax v) is the Bregman divergence of log-sum-exp from v to u.
    """
    u, v, given = _pair(logits_p, logits_q, options)
    return given.from_nats(kl_of_logits(u, v))


@with_plain
@with_options
def softmax_js_divergence(logits_p: ArrayLike, logits_q: ArrayLike, **options: Unpack[LogitMeasureOptions]) -> Array:
    r"""Jensen-Shannon divergence of ``p = softmax(logits_p)`` and ``q = softmax(logits_q)``.

    .. math:: \tfrac12 \textstyle\sum_k \left[p_k\, \psi(\tfrac{q_k - p_k}{2 p_k})
              + q_k\, \psi(\tfrac{p_k - q_k}{2 q_k})\right], \quad \psi(t) = t - \log(1 + t),
              \quad \tfrac{q_k - p_k}{p_k} = e^{d_k} - 1, \quad d = \log q - \log p

    Every term is non-negative: the result is never negative, and as accurate for close distributions as for distant
    ones.

    Domain: that of :func:`softmax` for both logits. The result lies between 0 and log 2, for any two distributions.

    Gradient: p∘(a - Σ p a) in ``logits_p`` with a = ½ log(p/m), m = (p + q)/2, and with p and q exchanged in
    ``logits_q``.

    Args:
      logits_p: ``[..., C]`` floats.
      logits_q: ``[..., C]`` floats of the shape of ``logits_p``.
      **options: the options of :class:`LogitMeasureOptions`.

    Returns:
      ``[...]`` or a scalar, in nats unless ``base``, in float32 or wider.

    Accuracy: 33u (67u where a gap reaches 16). A temperature rounds the logits once more.

    Raises:
      TypeError: logits that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an axis that does not exist or holds no class, a base not greater than 1, a
        temperature that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> print(softmax_js_divergence(jnp.array([200.0, 0.0]), jnp.array([0.0, 200.0]), base=2))
      1.0

    Source: Lin (1991); §4.1.1.
    """
    u, v, given = _pair(logits_p, logits_q, options)
    return given.from_nats(rules.js_divergence(None, u, v))


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
