"""The sums of a cross-entropy over all classes, made of what one reading of the logits gives (``one_pass.py``).

With L the log-sum-exp about the maximum m, -log p_k = (m - z_k) + L, and for any weights v

    Σ_{k≠i} v_k (-log p_k) = Σ_{k≠i} v_k (m - z_k) + L Σ_{k≠i} v_k:

two sums that are known as soon as the row has been read, all of whose terms are of one sign.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.domains import REALS, Domain
from lossjax._core.masks import nan_unless
from lossjax._core.platform import by_platform
from lossjax._core.sharding import varying_alike
from lossjax._softmax.one_pass import WeightedGaps
from lossjax._softmax.row_statistics import RowStatistics
from lossjax.numerics import times

Shares = tuple[Array, Array] | None
"""Of label smoothing, what becomes of the label's 1, and what each other class is given."""


class OfDistribution(NamedTuple):
    """What is summed of a row whose target is a distribution, with the class axis kept as 1."""

    loss: Array | None
    """``Σ_k v_k F(-log p_k)``, NaN where the target lies outside its domain. A backward pass does not want it."""
    own: Array
    """``v_i F'(-log p_i)``, i the pivot, NaN likewise."""
    others: Array
    """``Σ_{k≠i} v_k F'(-log p_k)``."""
    mass: Array | None
    """``Σ_k t_k``, where t is smoothed."""

    def saved(self) -> "OfDistribution":
        """What a backward pass wants, as constants to a derivative: it says itself what they are sums of."""
        return jax.tree.map(lax.stop_gradient, self._replace(loss=None))


def weights_of_label(z: Array, class_weights: Array | None, dtype: Any) -> tuple[Array, ...]:
    """The weights of the gaps that a smoothed label wants."""
    return (_or_ones(z, class_weights, dtype),)


def weights_of_distribution(
    targets: Array, class_weights: Array | None, dtype: Any, domain: Domain, *, smoothed: bool
) -> tuple[Array, ...]:
    """The weights of the gaps that a distribution t wants, with class weights w.

    A smoothed one is (a - e) t + e Σt with the shares a and e: it wants those of w∘t and of w, and Σt.
    """
    t = targets.astype(dtype)
    if domain is not REALS:
        t = nan_unless(domain.contains(t), t)
    weighted = t if class_weights is None else times(class_weights, t)
    if not smoothed:
        return (weighted,)
    return (weighted, _or_ones(t, class_weights, dtype), *(() if class_weights is None else (t,)))


def _or_ones(z: Array, class_weights: Array | None, dtype: Any) -> Array:
    return jnp.ones_like(z, dtype) if class_weights is None else jnp.broadcast_to(class_weights, z.shape)


def of_smoothed_label(gaps: tuple[WeightedGaps, ...], rows: RowStatistics, each: Array, *_: Any) -> Array:
    """``Σ_{k≠c} e w_k (-log p_k)``; e multiplies before a sum of large gaps can overflow."""
    return times(each, gaps[0].total) + times(each, gaps[0].others) * rows.log_total()


def of_distribution(gaps: tuple[WeightedGaps, ...], rows: RowStatistics, shares: Shares, *_: Any) -> OfDistribution:
    """The cross-entropy's sums of a distribution, from the gaps of :func:`weights_of_distribution`."""
    inside = ~jnp.isnan(gaps[-1].own + gaps[-1].others)
    (total, own, others), mass = gaps[0], None
    if shares is not None:
        at_label, each = shares
        inside = inside & ~jnp.isnan(own + others)
        given = gaps[2 % len(gaps)]
        mass = given.own + given.others
        spread = each * mass
        total, own, others = (
            times(at_label - each, kept) + times(spread, shared) for kept, shared in zip(gaps[0], gaps[1], strict=True)
        )
    loss = total + times(own + others, rows.log_total())
    return OfDistribution(nan_unless(inside, loss), nan_unless(inside, own), others, mass)


def by_reading(
    gaps: tuple[WeightedGaps, ...],
    rows: RowStatistics,
    *arguments: Any,
    once: Callable[..., Any],
    passes: Callable[..., Any],
) -> Any:
    """``once(gaps, rows, …)`` where the platform has read the rows once, ``passes(gaps, rows, …)`` elsewhere.

    Where the classes are on several devices, either is the same on all of them, but ``jax.shard_map`` no longer sees it
    of what is chosen: the caller says so of what it makes of it (``same_on_all``).
    """
    if not gaps:
        return passes(gaps, rows, *arguments)

    def alike(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: varying_alike(given, function(*given))

    return by_platform(gaps, rows, *arguments, otherwise=alike(passes), accelerator=alike(once))
