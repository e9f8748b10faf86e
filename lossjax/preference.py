"""Losses of preferences between two answers, from the log-probabilities of the answers."""

from typing import Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.elementwise import EntryOptions, elementwise, pair
from lossjax._core.options import with_options
from lossjax._core.plain import with_plain
from lossjax._rules import preference as rules

__all__ = ["cpo_loss", "dpo_loss", "ipo_loss", "kto_loss", "orpo_loss", "simpo_loss"]


def _references(chosen: ArrayLike, rejected: ArrayLike) -> dict[str, Array]:
    return {
        "reference_chosen": checks.number_or_array("reference_chosen", chosen),
        "reference_rejected": checks.number_or_array("reference_rejected", rejected),
    }


@with_plain
@with_options
def dpo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    label_smoothing: ArrayLike = 0.0,
    **options: Unpack[EntryOptions],
) -> Array:
    r"""Direct preference optimisation: a logistic regression on the margin relative to a reference.

    .. math:: L = (1 - \varepsilon)\, s(-\beta h) + \varepsilon\, s(\beta h), \quad
              h = (c - c_0) - (r - r_0), \quad s(x) = \log(1 + e^x)

    Domain: real numbers; β > 0, ε in [0, 1].

    Gradient: β (ε - σ(-βh)) in ``chosen`` and in ``reference_rejected``, the negative of it in ``rejected`` and
    ``reference_chosen``; h (ε - σ(-βh)) in β; βh in ε.

    Args:
      chosen: c, ``[...]`` floats, the log-probabilities of the answers that were preferred: each the sum over its
        tokens (:func:`lossjax.policy.sequence_log_probs`).
      rejected: r, ``[...]`` floats of the shape of ``chosen``, those of the answers that were not.
      reference_chosen: c₀, floats that broadcast to the shape of ``chosen``, the log-probabilities of the same answers
        under the reference; 0 for none.
      reference_rejected: r₀, floats that broadcast to the shape of ``chosen``, the same for the rejected answers.
      beta: β, how strongly the margin counts: the larger, the nearer to the reference.
      label_smoothing: ε, the probability that a preference is the wrong way round.
      **options: the options of :class:`EntryOptions`, one entry per pair of answers.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 8u of the two terms; h is rounded once, whatever the four log-probabilities have in common.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a β that is not positive, an ε outside [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.preference import dpo_loss
      >>> loss = dpo_loss(jnp.array([-12.0, -40.0]), jnp.array([-12.0, -900.0]), -12.0, -12.0)
      >>> [f"{x:.5g}" for x in loss]
      ['0.69315', '4.4738e-38']

    Source: Rafailov et al. (2023); the smoothing: Mitchell (2023).
    """
    preferred, other = pair("chosen", chosen, rejected, other="rejected")
    parameters = _references(reference_chosen, reference_rejected) | {
        "beta": checks.positive("beta", beta),
        "label_smoothing": checks.nonnegative("label_smoothing", label_smoothing, at_most=1),
    }
    return elementwise(rules.dpo, preferred, other, parameters, **options)


@with_plain
@with_options
def ipo_loss(
    chosen: ArrayLike,
    rejected: ArrayLike,
    reference_chosen: ArrayLike,
    reference_rejected: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    **options: Unpack[EntryOptions],
) -> Array:
    r"""Identity preference optimisation: the relative margin is drawn to 1/(2β), and not to infinity.

    .. math:: L = \left(h - \frac{1}{2\beta}\right)^2, \quad h = (c - c_0) - (r - r_0)

    Domain: real numbers; β > 0.

    Gradient: 2(h - 1/(2β)) in ``chosen`` and in ``reference_rejected``, the negative of it in ``rejected`` and
    ``reference_chosen``; (h - 1/(2β))/β² in β.

    Args:
      chosen: c, ``[...]`` floats, the log-probabilities of the answers that were preferred; the authors take
        means over the tokens.
      rejected: r, ``[...]`` floats of the shape of ``chosen``, those of the answers that were not.
      reference_chosen: c₀, floats that broadcast to the shape of ``chosen``, the log-probabilities of the same answers
        under the reference; 0 for none.
      reference_rejected: r₀, floats that broadcast to the shape of ``chosen``, the same for the rejected answers.
      beta: β, the regularisation.
      **options: the options of :class:`EntryOptions`, one entry per pair of answers.

    Returns:
      The loss, a pure number, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 8u of the terms of the difference.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a β that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.preference import ipo_loss
      >>> print(ipo_loss(jnp.array([-2.0]), jnp.array([-5.0]), -3.0, -4.0, beta=0.25))
      [0.]

    Source: Azar et al. (2023).
    """
    preferred, other = pair("chosen", chosen, rejected, other="rejected")
    parameters = _references(reference_chosen, reference_rejected) | {"beta": checks.positive("beta", beta)}
    return elementwise(rules.ipo, preferred, other, parameters, **options)


@with_plain
@with_options
def kto_loss(
    log_probs: ArrayLike,
    reference_log_probs: ArrayLike,
    *,
    desirable: ArrayLike,
    reference_kl: ArrayLike = 0.0,
    beta: ArrayLike = 0.1,
    **options: Unpack[EntryOptions],
) -> Array:
    r"""Kahneman-Tversky optimisation: single answers, each desirable or not, without pairs.

    .. math:: L = 1 - \sigma(\pm\beta(\log p - \log p_0 - K)) = \sigma(\mp\beta(\log p - \log p_0 - K))

    Domain: real numbers; β > 0. The upper sign is for desirable answers.

    Gradient: with g = β σ(x) σ(-x), x the argument of σ: -g or +g in ``log_probs``, the negative of it in
    ``reference_log_probs`` and K; -x σ(x) σ(-x)/β in β. The authors stop the gradient in K: pass it through
    ``jax.lax.stop_gradient``.

    Args:
      log_probs: ``[...]`` floats, the log-probability of each answer.
      reference_log_probs: ``[...]`` floats of the shape of ``log_probs``, those under the reference.
      desirable: ``[...]`` booleans.
      reference_kl: K, the divergence from the reference that answers are judged against: floats that broadcast to the
        shape of ``log_probs``.
      beta: β, how fast the value saturates.
      **options: the options of :class:`EntryOptions`, one entry per pair of answers.

    Returns:
      The loss, a number from 0 to 1, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 8u and that of x, the argument of σ, also where σ saturates.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a β that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.preference import kto_loss
      >>> answers = jnp.array([-3.0, -3.0]), jnp.array([-5.0, -5.0])
      >>> print(kto_loss(*answers, desirable=jnp.array([True, False]), beta=0.5))
      [0.26894143 0.7310586 ]

    Source: Ethayarajh et al. (2024).
    """
    log_p, reference = pair("log_probs", log_probs, reference_log_probs, other="reference_log_probs")
    is_desirable = checks.mask("desirable", desirable, log_p.shape)
    if is_desirable is None:
        raise TypeError("desirable must be booleans, one per answer, got None")
    parameters = {
        "desirable": jnp.where(is_desirable, jnp.ones_like(log_p), -1),
        "reference_kl": checks.number_or_array("reference_kl", reference_kl),
        "beta": checks.positive("beta", beta),
    }
    return elementwise(rules.kto, log_p, reference, parameters, **options)


@with_plain
@with_options
def cpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: ArrayLike = 0.1, **options: Unpack[EntryOptions]
) -> Array:
    r"""Contrastive preference optimisation: the margin without a reference, and the likelihood of the chosen answer.

    .. math:: L = s(-\beta(c - r)) - c, \quad s(x) = \log(1 + e^x)

    Domain: real numbers, c <= 0 for log-probabilities; β > 0.

    Gradient: -βσ(-β(c - r)) - 1 in ``chosen``, βσ(-β(c - r)) in ``rejected``, -(c - r) σ(-β(c - r)) in β.

    Args:
      chosen: c, ``[...]`` floats, the log-probabilities of the answers that were preferred.
      rejected: r, ``[...]`` floats of the shape of ``chosen``, those of the answers that were not.
      beta: β, how strongly the margin counts.
      **options: the options of :class:`EntryOptions`, one entry per pair of answers.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 8u: for c <= 0 it is a sum of non-negative terms.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a β that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.preference import cpo_loss
      >>> print(cpo_loss(jnp.array([-2.0]), jnp.array([-2.0])))
      [2.6931472]

    Source: Xu et al. (2024).
    """
    preferred, other = pair("chosen", chosen, rejected, other="rejected")
    return elementwise(rules.cpo, preferred, other, {"beta": checks.positive("beta", beta)}, **options)


@with_plain
@with_options
def simpo_loss(
    chosen: ArrayLike, rejected: ArrayLike, *, beta: ArrayLike, margin: ArrayLike, **options: Unpack[EntryOptions]
) -> Array:
    r"""Simple preference optimisation: the mean log-probabilities shall differ by a margin; no reference.

    .. math:: L = s(m - \beta(c - r)), \quad s(x) = \log(1 + e^x)

    Domain: real numbers; β > 0.

    Gradient: with g = σ(m - β(c - r)): -βg in ``chosen``, βg in ``rejected``, -(c - r) g in β, g in the margin.

    Args:
      chosen: c, ``[...]`` floats, the log-probabilities of the answers that were preferred: the means over their
        tokens (:func:`lossjax.policy.sequence_log_probs` with ``mean=True``).
      rejected: r, ``[...]`` floats of the shape of ``chosen``, those of the answers that were not.
      beta: β, the scale of the difference.
      margin: m, by how much the scaled difference shall exceed 0.
      **options: the options of :class:`EntryOptions`, one entry per pair of answers.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 8u and that of the argument of s.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a β that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.preference import simpo_loss
      >>> print(simpo_loss(jnp.array([-1.0]), jnp.array([-2.0]), beta=2.0, margin=2.0))
      [0.6931472]

    Source: Meng et al. (2024).
    """
    preferred, other = pair("chosen", chosen, rejected, other="rejected")
    parameters = {"beta": checks.positive("beta", beta), "margin": checks.number_or_array("margin", margin)}
    return elementwise(rules.simpo, preferred, other, parameters, **options)


@with_plain
@with_options
def orpo_loss(chosen: ArrayLike, rejected: ArrayLike, *, weight: ArrayLike, **options: Unpack[EntryOptions]) -> Array:
    r"""Odds ratio preference optimisation: the likelihood of the chosen answer, and the ratio of the odds.

    .. math:: L = -c + w\, s(-o), \quad o = \left(c - \log(1 - e^c)\right) - \left(r - \log(1 - e^r)\right)

    Domain: c, r <= 0, logarithms of probabilities; NaN elsewhere, in value and gradient, and where both are 0.

    Gradient: -1 - wσ(-o)/(1 - e^c) in ``chosen``, wσ(-o)/(1 - e^r) in ``rejected``, s(-o) in w.

    Args:
      chosen: c, ``[...]`` floats, the log-probabilities of the answers that were preferred: the means over their
        tokens (:func:`lossjax.policy.sequence_log_probs` with ``mean=True``).
      rejected: r, ``[...]`` floats of the shape of ``chosen``, those of the answers that were not.
      weight: w, how much the odds count beside the likelihood.
      **options: the options of :class:`EntryOptions`, one entry per pair of answers.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 16u of the two terms, also for c or r near 0, where the log-odds are large.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a negative weight.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.preference import orpo_loss
      >>> print(orpo_loss(jnp.array([-1e-7]), jnp.array([-1e-7]), weight=1.0))
      [0.6931473]

    Source: Hong et al. (2024).
    """
    preferred, other = pair("chosen", chosen, rejected, other="rejected")
    return elementwise(rules.orpo, preferred, other, {"weight": checks.nonnegative("weight", weight)}, **options)
