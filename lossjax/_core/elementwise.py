"""What every elementwise loss shares: its arguments checked, masked and broadcast, and the call of the rule."""

import functools
from collections.abc import Callable
from typing import Any, Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.domains import REALS, Domain
from lossjax._core.masks import hide
from lossjax._core.reduction import CountedOptions, Reducer
from lossjax._core.xla import unstored_nan_unless


class EntryOptions(CountedOptions, total=False):
    """The options of an elementwise loss."""


def pair(name: str, predictions: ArrayLike, targets: ArrayLike, *, other: str = "targets") -> tuple[Array, Array]:
    """Predictions and targets (or what else they are called), checked to be floats of one shape."""
    prediction, target = checks.floating(name, predictions), checks.floating(other, targets)
    checks.same_shape(other, target.shape, f"of {name}", prediction.shape, "reshape one; nothing broadcasts here")
    return prediction, target


def elementwise(
    rule: Callable[..., Array],
    prediction: Array,
    target: Array,
    parameters: dict[str, Array],
    domain: Domain = REALS,
    **options: Unpack[EntryOptions],
) -> Array:
    """``rule(dtype, prediction, target, *parameters)``, entry by entry, masked and reduced.

    Masked entries are replaced before the rule by 0 (parameters by 1), so that what they hold reaches no arithmetic.
    An entry whose target lies outside the domain, or whose parameter is NaN, is NaN in value and gradient.
    """
    shape = prediction.shape
    reducer = Reducer.of(shape, options)
    for name, parameter in parameters.items():
        checks.broadcastable(name, parameter.shape, shape)
    dtype = checks.compute_dtype(prediction, target, *parameters.values())
    valid = reducer.valid
    per_entry = [hide(valid, jnp.broadcast_to(p.astype(dtype), shape), 1) for p in parameters.values()]
    losses = rule(dtype, hide(valid, prediction), hide(valid, target), *per_entry)
    if per_entry:
        losses = unstored_nan_unless(~functools.reduce(jnp.logical_or, map(jnp.isnan, per_entry)), losses)
    return reducer(domain.of_targets(losses, target, valid))


def difference(dtype: Any, prediction: Array, target: Array) -> Array:
    """``prediction - target``, rounded once."""
    return prediction.astype(dtype) - target.astype(dtype)
