"""Divergences of log-probabilities: the rule behind ``lossjax.optax``'s Kullback-Leibler losses.

For a prediction q = e^a and a target t, with d = a - log t and ξ(d) = e^d - 1 - d >= 0,

    t (log t - a) = -t d = t ξ(d) + (t - q)            (at t = 0: 0 = q + (0 - q))

so that the divergence is a sum of non-negative terms plus the difference of the masses, Σt - Σq. Between two rounded
distributions that difference is nothing but rounding: where it is no larger than the rounding of the inputs, it is left
out, and the result is never negative. Where the masses do differ, q may be so large that it cancels or overflows, and
-Σ t d is as accurate: its error is u Σ t|d|. The derivative is that of Σ t (log t - a):  -t in a, and 1 - d in t, which
is t (1 - d) in log t.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax._core.masks import hide
from lossjax._core.xla import total
from lossjax.numerics import times, unit_roundoff, xi


class LogOptions(NamedTuple):
    """Static options.

    Attributes:
      dtype: the dtype to compute in.
      log_targets: whether the target is given by its logarithm.
      generalized: whether the difference of the masses counts: the generalised divergence has the terms q - t too.
    """

    dtype: Any
    log_targets: bool
    generalized: bool


class _Terms(NamedTuple):
    a: Array
    t: Array
    q: Array
    d: Array  # a - log t; 0 where t is 0

    @classmethod
    def of(cls, options: LogOptions, log_predictions: Array, targets: Array, kept: Array | None) -> "_Terms":
        a, given = log_predictions.astype(options.dtype), targets.astype(options.dtype)
        nothing = -jnp.inf if options.log_targets else 0
        if kept is not None:
            a, given = hide(kept, a, -jnp.inf), hide(kept, given, nothing)
        absent = given == nothing
        t = jnp.exp(given) if options.log_targets else given
        log_t = given if options.log_targets else jnp.log(jnp.where(absent, 1, given))
        d = jnp.where(absent, 0, jnp.where(absent, 0, a) - jnp.where(absent, 0, log_t))
        return cls(a, t, jnp.exp(a), d)


def _forward(options: LogOptions, log_predictions: Array, targets: Array, kept: Array | None) -> tuple[Array, Any]:
    a, t, q, d = _Terms.of(options, log_predictions, targets, kept)
    # Where d is large, e^d may overflow and t vanish. There t ξ(d) is formed as q - t - t d.
    near = jnp.abs(d) < 1
    apart = q - t - times(t, d)
    terms = jnp.where(t == 0, q, jnp.where(near, t * xi(jnp.where(near, d, 0)), apart))
    divergence = total(terms)
    if not options.generalized:
        surplus = total(t - q)
        size = 8 * unit_roundoff(options.dtype) * (1 + jnp.abs(jnp.where(q > 0, a, 0)))
        rounding = total(8 * unit_roundoff(options.dtype) * jnp.abs(t) + size * q)
        same_mass = jnp.isfinite(surplus) & (jnp.abs(surplus) <= rounding)
        direct = total(-times(t, d))
        divergence = jnp.where(same_mass, divergence + (surplus - lax.stop_gradient(surplus)), direct)
    return divergence, (options, log_predictions, targets, kept)


def _backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array, None]:
    options, log_predictions, targets, kept = saved
    a, t, q, d = _Terms.of(options, log_predictions, targets, kept)
    in_a = q - t if options.generalized else -t
    # At a target of exactly 0 the slope of t log t is -inf. There the slope of -t a alone is given.
    in_t = jnp.where(t == 0, -a, -d) if options.generalized else jnp.where(t == 0, -a, 1 - d)
    if options.log_targets:
        in_t = times(t, in_t)
    g = cotangent[..., None]
    return None, g * hide(kept, in_a), g * hide(kept, in_t), None


log_divergence = closed_form(_forward, _backward)
"""``(options, log_predictions, targets, kept or None) ->`` the divergence over the last axis."""
