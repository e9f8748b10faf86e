"""The rules of the softmax cross-entropies, every option included; ``classification.py`` holds what people call.

With z the logits after softcap and temperature, p = softmax(z), l_k = -log p_k, and v = w∘t the weighted target,

    loss = Σ_k v_k l_k + λ ω lse²
    ∂loss/∂z   = (Σv) p - v + 2λω lse p          (v constant in z;  ∂lse/∂z = p)
    ∂loss/∂v_k = l_k        ∂loss/∂λ = ω lse²     ∂loss/∂ω = λ lse²

For an integer label c with smoothing, t = hit·e_c + spread·1, so v never exists as an array:

    loss = hit w_c l_c + spread Σ_k w_k l_k + …,     ∂loss/∂z = hit w_c (p - e_c) + spread ((Σw) p - w) + …

where p - e_c is ``residual_at_pivot``, without cancellation.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax import _softmax
from lossjax._autodiff import closed_form
from lossjax.numerics import times


class Smoothing(NamedTuple):
    """Label smoothing: amount ε, spread over all classes (ε/C) or over the other classes (ε/(C-1))."""

    amount: float
    over_others: bool

    def label_parts(self, classes: int) -> tuple[float, float]:
        """(hit, spread) with t = hit·e_c + spread·1."""
        sharers = classes - 1 if self.over_others else classes
        spread = self.amount / sharers if sharers else 0.0
        return 1 - self.amount - (spread if self.over_others else 0.0), spread

    def apply(self, targets: Array) -> Array:
        """Smoothed distributions of the same mass. Linear, and its own transpose."""
        hit, spread = self.label_parts(targets.shape[-1])
        return hit * targets + spread * jnp.sum(targets, axis=-1, keepdims=True) if self.amount else targets


class Scale(NamedTuple):
    """Softcap c and temperature T, each an array or None:  z = c·tanh(x/c)/T."""

    softcap: Array | None
    temperature: Array | None

    def apply(self, x: Array) -> Array:
        z = x if self.softcap is None else self.softcap * jnp.tanh(x / self.softcap)
        return z if self.temperature is None else z / self.temperature

    def pullback(self, x: Array, in_z: Array) -> tuple[Array, Array | None, Array | None]:
        """From the gradient in z those in x, c and T. An infinite logit has gradient 0 and adds nothing to T's."""
        in_softcap = in_temperature = None
        if self.temperature is not None:
            z = self.apply(x)
            in_temperature = -jnp.sum(in_z * jnp.where(jnp.isfinite(z), z, 0)) / self.temperature
            in_z = in_z / self.temperature
        if self.softcap is not None:
            slope, in_cap = _softcap_slopes(x / self.softcap)
            in_softcap = jnp.sum(in_z * in_cap)
            in_z = in_z * slope
        return in_z, in_softcap, in_temperature


def _softcap_slopes(a: Array) -> tuple[Array, Array]:
    """``sech² a`` and ``tanh a - a sech² a`` (odd, 2a³/3 near 0), without cancellation at either end."""
    decay = jnp.exp(-2 * jnp.abs(a))
    slope = 4 * decay / (1 + decay) ** 2
    # tanh a - a sech²a = sech²a (sinh 2a - 2a)/2; the series of sinh y - y where y = 2a is below 2.
    y = jnp.where(jnp.abs(a) < 1, 2 * a, 0)
    term = total = y * y * y / 6
    for k in range(2, 10):
        term = term * y * y / ((2 * k) * (2 * k + 1))
        total = total + term
    far = jnp.tanh(a) - times(slope, a)
    return slope, jnp.where(jnp.abs(a) < 1, slope * total / 2, far)


def _at(hot: Array, values: Array) -> Array:
    """``values`` at the label, class axis kept; exact, infinities included."""
    return jnp.sum(jnp.where(hot, values, 0), axis=-1, keepdims=True)


def _visible(valid: Array | None, array: Array, fill: float = 0) -> Array:
    """The array with masked rows replaced: what they hold must not reach any arithmetic."""
    if valid is None:
        return array
    return jnp.where(valid.reshape(valid.shape + (1,) * (array.ndim - valid.ndim)), array, fill)


def _along_classes(weights: Array | None, z: Array) -> Array | None:
    """Class weights [C] with as many dimensions as the logits."""
    return None if weights is None else weights.reshape((1,) * (z.ndim - 1) + weights.shape)


def _total(weights: Array | None, classes: int) -> Array | float:
    return float(classes) if weights is None else jnp.sum(weights)


def _optional(weight: Array | None, value: Array) -> Array:
    return value if weight is None else times(weight, value)


# --- integer labels --------------------------------------------------------------------------------------------------


class LabelOptions(NamedTuple):
    """Static options of the integer-label rule."""

    dtype: Any
    smoothing: Smoothing


def _label_forward(
    options: LabelOptions,
    logits: Array,
    labels: Array,
    weights: Array | None,
    z_loss: Array | None,
    softcap: Array | None,
    temperature: Array | None,
    valid: Array | None,
) -> tuple[tuple[Array, Array], Any]:
    z = Scale(softcap, temperature).apply(_visible(valid, logits.astype(options.dtype)))
    classes = z.shape[-1]
    labels = _visible(valid, labels)
    rows = _softmax.row_statistics(z, labels)
    known = ((labels >= 0) & (labels < classes))[..., None]
    rows = rows._replace(rest=jnp.where(known, rows.rest, jnp.nan))
    hot = rows.is_pivot(z)
    hit, spread = options.smoothing.label_parts(classes)
    of_class = _along_classes(weights, z)
    own = None if of_class is None else _at(hot, of_class)
    loss = hit * _optional(own, _softmax.surprisal(rows.logit, rows))
    if spread:
        everyone = _optional(of_class, _softmax.surprisal(z, rows))
        loss = loss + spread * jnp.sum(everyone, axis=-1, keepdims=True)
    lse = rows.maximum + rows.log_total()
    if z_loss is not None:
        loss = loss + z_loss * _optional(own, lse * lse)
    loss = jnp.where(jnp.isnan(rows.rest), jnp.nan, loss)  # a zero weight must not silence an undefined row
    output = (_visible(valid, loss[..., 0]), _visible(valid, lse[..., 0]))
    return output, (logits, weights, z_loss, softcap, temperature, valid, rows.stopped())


def _label_backward(options: LabelOptions, residuals: Any, cotangents: tuple[Array, Array]) -> tuple[Any, ...]:
    logits, weights, z_loss, softcap, temperature, valid, rows = residuals
    scale = Scale(softcap, temperature)
    x = _visible(valid, logits.astype(options.dtype))
    z = scale.apply(x)
    in_loss, in_lse = (_visible(valid, c)[..., None] for c in cotangents)
    hot = rows.is_pivot(z)
    hit, spread = options.smoothing.label_parts(z.shape[-1])
    of_class = _along_classes(weights, z)
    own = None if of_class is None else _at(hot, of_class)
    weighted = in_loss if own is None else in_loss * own

    mass = in_lse + in_loss * (spread * _total(weights, z.shape[-1])) if spread else in_lse
    p = _softmax.probabilities(z, rows)
    in_z = hit * weighted * _softmax.residual_at_pivot(z, rows) + mass * p
    in_z_loss = None
    lse = _softmax.log_partition(z, rows)
    if z_loss is not None:
        in_z = in_z + 2 * weighted * z_loss * times(p, lse)
        in_z_loss = jnp.sum(weighted * lse * lse)
    if spread:
        in_z = in_z - in_loss * spread * (1 if of_class is None else of_class)
    in_z = _visible(valid, in_z)

    in_weights = None
    if weights is not None:
        target = jnp.where(hot, hit + spread, spread)
        of_row = in_loss * times(target, -_softmax.log_probabilities(z, rows))
        if z_loss is not None:
            of_row = of_row + jnp.where(hot, in_loss * z_loss * lse * lse, 0)
        in_weights = jnp.sum(_visible(valid, of_row), axis=tuple(range(z.ndim - 1)))
    in_x, in_softcap, in_temperature = scale.pullback(x, in_z)
    return in_x, None, in_weights, in_z_loss, in_softcap, in_temperature, None


label_cross_entropy = closed_form(_label_forward, _label_backward)


# --- distributions ---------------------------------------------------------------------------------------------------


class TargetOptions(NamedTuple):
    """Static options of the rule for distributions."""

    dtype: Any
    smoothing: Smoothing


def _target_forward(
    options: TargetOptions,
    logits: Array,
    targets: Array,
    weights: Array | None,
    z_loss: Array | None,
    softcap: Array | None,
    temperature: Array | None,
    valid: Array | None,
) -> tuple[tuple[Array, Array], Any]:
    z = Scale(softcap, temperature).apply(_visible(valid, logits.astype(options.dtype)))
    smoothed = options.smoothing.apply(_visible(valid, targets.astype(options.dtype)))
    rows = _softmax.row_statistics(z)
    weighted = _optional(_along_classes(weights, z), smoothed)
    loss = jnp.sum(times(weighted, _softmax.surprisal(z, rows)), axis=-1, keepdims=True)
    lse = rows.maximum + rows.log_total()
    if z_loss is not None:
        loss = loss + z_loss * lse * lse
    loss = jnp.where(jnp.isnan(rows.rest), jnp.nan, loss)  # a zero weight must not silence an undefined row
    output = (_visible(valid, loss[..., 0]), _visible(valid, lse[..., 0]))
    return output, (logits, targets, weights, z_loss, softcap, temperature, valid, rows.stopped())


def _target_backward(options: TargetOptions, residuals: Any, cotangents: tuple[Array, Array]) -> tuple[Any, ...]:
    logits, targets, weights, z_loss, softcap, temperature, valid, rows = residuals
    scale = Scale(softcap, temperature)
    x = _visible(valid, logits.astype(options.dtype))
    z = scale.apply(x)
    smoothed = options.smoothing.apply(_visible(valid, targets.astype(options.dtype)))
    in_loss, in_lse = (_visible(valid, c)[..., None] for c in cotangents)
    of_class = _along_classes(weights, z)

    p = _softmax.probabilities(z, rows)
    in_z = in_loss * _softmax.residual(z, rows, _optional(of_class, smoothed)) + in_lse * p
    in_z_loss = None
    if z_loss is not None:
        lse = _softmax.log_partition(z, rows)
        in_z = in_z + 2 * in_loss * z_loss * times(p, lse)
        in_z_loss = jnp.sum(in_loss * lse * lse)
    in_z = _visible(valid, in_z)

    in_weighted = _visible(valid, -in_loss * _softmax.log_probabilities(z, rows))
    in_targets = _visible(valid, options.smoothing.apply(_optional(of_class, in_weighted)))
    in_weights = None
    if weights is not None:
        in_weights = jnp.sum(times(smoothed, in_weighted), axis=tuple(range(z.ndim - 1)))
    in_x, in_softcap, in_temperature = scale.pullback(x, in_z)
    return in_x, in_targets, in_weights, in_z_loss, in_softcap, in_temperature, None


target_cross_entropy = closed_form(_target_forward, _target_backward)
