"""Losses of a policy gradient: functions of the log-probabilities of the tokens that were drawn."""

from typing import Literal, Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.elementwise import EntryOptions, difference, elementwise, pair
from lossjax._core.masks import hide
from lossjax._core.options import with_options
from lossjax._core.plain import with_plain
from lossjax._rules import policy as rules

__all__ = ["clipped_loss", "sampled_kl", "sequence_log_probs"]


def _k1(dtype: object, log_p: Array, log_q: Array) -> Array:
    return difference(dtype, log_p, log_q)


def _k2(dtype: object, log_p: Array, log_q: Array) -> Array:
    return jnp.square(difference(dtype, log_p, log_q)) / 2


_ESTIMATORS = {"k1": _k1, "k2": _k2, "k3": rules.k3}


@with_plain
@with_options
def sampled_kl(
    log_probs: ArrayLike,
    reference_log_probs: ArrayLike,
    *,
    kind: Literal["k1", "k2", "k3"] = "k3",
    **options: Unpack[EntryOptions],
) -> Array:
    r"""An estimate of KL(policy ‖ reference) from tokens that the policy drew, elementwise.

    .. math:: k_1 = -x, \quad k_2 = x^2/2, \quad k_3 = e^x - 1 - x = \xi(x), \quad
              x = \log q - \log p

    with p the policy's probability of the token and q the reference's. In expectation over the policy's tokens k1 and
    k3 are the divergence. k1 varies most, and may be negative; k2 is biased, by little where the two are close; k3 is
    unbiased and never negative. Differentiated through the log-probabilities of tokens already drawn, only k2 has the
    gradient of the divergence in expectation; k1's is 0, and k3's is that of KL(reference ‖ policy).

    Domain: all real numbers; a log-probability of -inf gives the limits.

    Gradient: 1, -x and :math:`1 - e^x` in ``log_probs`` for k1, k2 and k3; the negative of it in the reference.

    Args:
      log_probs: ``[...]`` floats, the log-probabilities of the tokens under the policy.
      reference_log_probs: ``[...]`` floats of the shape of ``log_probs``, those under the reference.
      kind: "k1", "k2" or "k3".
      **options: the options of :class:`EntryOptions`.

    Returns:
      The estimates in nats, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 16u, also where the two are close: :math:`e^x - 1 - x` as it is usually written has no digit left from
    :math:`|x| = 10^{-4}` on, and may be negative there.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an unknown kind.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.policy import sampled_kl
      >>> log_probs, reference = jnp.array([-1.0, -2.0]), jnp.array([-1.0001, -3.0])
      >>> [f"{estimate:.4g}" for estimate in sampled_kl(log_probs, reference)]
      ['5.001e-09', '0.3679']

    Source: Schulman, "Approximating KL divergence" (2020); the gradients: Tang and Munos (2025).
    """
    if not isinstance(kind, str) or kind not in _ESTIMATORS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, _ESTIMATORS))}, got {kind!r}")
    log_p, log_q = pair("log_probs", log_probs, reference_log_probs, other="reference_log_probs")
    return elementwise(_ESTIMATORS[kind], log_p, log_q, {}, **options)


@with_plain
@with_options
def clipped_loss(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike,
    advantages: ArrayLike,
    *,
    clip: tuple[ArrayLike, ArrayLike] = (0.2, 0.2),
    level: Literal["token", "sequence"] = "token",
    **options: Unpack[EntryOptions],
) -> Array:
    r"""The clipped surrogate of PPO and GRPO (per token), or of GSPO (per sequence).

    .. math:: L = -\min\left(r A,\ \mathrm{clip}(r, 1 - a, 1 + b)\,A\right), \quad
              r = e^{\log p - \log p_{\mathrm{old}}}

    At the level of sequences, r is e to the mean of log p - log p_old over the unmasked tokens of the last axis.

    Domain: real log-probabilities and advantages; a, b >= 0.

    Gradient: -A r in log p, its negative in log p_old; 0 where the ratio has passed the bound in the advantage's favour
    (r > 1 + b for A > 0, r < 1 - a for A < 0). At the bound itself it is -A r, as in the papers' min. In the advantages
    it is minus the ratio or bound that counts; in b it is -A, and in a it is A, where that bound counts.

    Args:
      log_probs: ``[...]`` floats, the log-probabilities of the tokens under the policy; ``[..., T]`` for sequences.
      old_log_probs: ``[...]`` floats of the same shape, those under the policy that drew the tokens.
      advantages: A, floats that broadcast to the shape of ``log_probs``; for sequences, to its shape without the last
        axis.
      clip: the two widths (a, b), numbers or arrays.
      level: "token" for a loss per token, "sequence" for a loss per sequence.
      **options: the options of :class:`EntryOptions`; ``where`` has one boolean per token at both levels, and a
        sequence without tokens counts as masked.

    Returns:
      The losses in units of the advantage, ``[...]``, per sequence ``[...]`` without the last axis, or a scalar, in
      float32 or wider.

    Accuracy: 8u, and the rounding of the mean for sequences.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a clip that is not two widths >= 0, an unknown level.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.policy import clipped_loss
      >>> old = jnp.log(jnp.array([0.5, 0.5, 0.5]))
      >>> loss = clipped_loss(jnp.log(jnp.array([0.5, 0.9, 0.9])), old, jnp.array([1.0, 1.0, -1.0]))
      >>> [f"{x:.4g}" for x in loss]
      ['-1', '-1.2', '1.8']

    Source: Schulman et al. (2017), Shao et al. (2024), Zheng et al. (2025).
    """
    if not isinstance(level, str) or level not in ("token", "sequence"):
        raise ValueError(f"level must be 'token' or 'sequence', got {level!r}")
    log_p, log_old = pair("log_probs", log_probs, old_log_probs, other="old_log_probs")
    advantage = checks.floating("advantages", advantages)
    try:
        below, above = clip
    except (TypeError, ValueError):  # no pair: JAX's own message names no argument
        raise ValueError(f"clip must be two widths (below, above), got {clip!r}") from None
    if level == "sequence" and log_p.ndim == 0:
        raise ValueError("log_probs must have an axis of tokens, got a scalar")
    below, above = (checks.nonnegative(f"clip[{side}]", width) for side, width in enumerate((below, above)))
    if level == "sequence":
        dtype = checks.compute_dtype(log_p, log_old, advantage, below, above)
        valid = checks.mask("where", options.get("where"), log_p.shape)
        ratios = hide(valid, log_p).astype(dtype) - hide(valid, log_old).astype(dtype)
        log_p, options["where"] = _mean_of_sequences(ratios, valid)
        log_old = jnp.zeros_like(log_p)
    parameters = {"advantages": advantage, "clip[0]": below, "clip[1]": above}
    return elementwise(rules.clipped, log_p, log_old, parameters, **options)


def sequence_log_probs(log_probs: ArrayLike, *, where: ArrayLike | None = None, mean: bool = False) -> Array:
    r"""The log-probability of each sequence: the sum of those of its tokens, or their mean.

    Domain: all real numbers.

    Gradient: 1 for each unmasked token, or 1/(number of unmasked tokens) for the mean.

    Args:
      log_probs: ``[..., T]`` floats, the log-probabilities of the tokens.
      where: ``[..., T]`` booleans; a False token contributes exactly 0 to value and gradient, whatever it holds.
      mean: whether to divide by the number of unmasked tokens; a sequence without tokens gives 0.

    Returns:
      ``[...]`` nats, in float32 or wider.

    Accuracy: that of a sum of T terms of one sign, (4 + log₂ T) u.

    Raises:
      TypeError: log-probabilities that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.policy import sequence_log_probs
      >>> tokens = jnp.array([[-1.0, -2.0, jnp.nan], [-0.5, -0.25, -0.25]])
      >>> print(sequence_log_probs(tokens, where=jnp.array([[True, True, False], [True, True, True]])))
      [-3. -1.]

    Source: the chain rule of probability; the mean as in Meng et al. (2024) and Zheng et al. (2025).
    """
    tokens = checks.floating("log_probs", log_probs)
    if tokens.ndim == 0:
        raise ValueError("log_probs must have an axis of tokens, got a scalar")
    valid = checks.mask("where", where, tokens.shape)
    tokens = hide(valid, tokens).astype(checks.compute_dtype(tokens))
    return _mean_of_sequences(tokens, valid)[0] if checks.flag("mean", mean) else jnp.sum(tokens, axis=-1)


def _mean_of_sequences(tokens: Array, valid: Array | None) -> tuple[Array, Array]:
    """The mean over the unmasked tokens of the last axis (0 if there are none), and whether there are any."""
    counted = jnp.ones_like(tokens, dtype=bool) if valid is None else valid
    count = jnp.sum(counted, axis=-1, dtype=tokens.dtype)
    return jnp.sum(tokens, axis=-1) / jnp.maximum(count, 1), count > 0
