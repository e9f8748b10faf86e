"""The rule of the softmax cross-entropies and their kin, every option included.

With z the logits after softcap and temperature, p = softmax(z), l_k = -log p_k, v = w∘t the weighted target, and F a
function of the surprisal (``curves.py``; F(l) = l for the cross-entropy),

    loss = Σ_k v_k F(l_k) + λ ω lse²
    ∂loss/∂z   = (Σs) p - s + 2λω lse p,     s = v∘F'(l)          (∂l_k/∂z = p - e_k,  ∂lse/∂z = p)
    ∂loss/∂v_k = F(l_k)        ∂loss/∂λ = ω lse²        ∂loss/∂ω = λ lse²        ∂loss/∂θ = Σ_k v_k ∂F/∂θ

so that every one of these losses has the gradient of a cross-entropy with an effective target s. For an integer label
c, t = hit·e_c + spread·1 never exists as an array: the first part needs F at the label alone, and its share of
(Σs) p - s, which is s_c (p - e_c), is ``residual_at_pivot``; without smoothing there is no second part.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import closed_form
from lossjax._softmax import functions, row_statistics
from lossjax._softmax.curves import Shape
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

    def apply(self, targets: Array, over: str | None = None) -> Array:
        """Smoothed distributions of the same mass. Linear, and its own transpose."""
        if not self.amount:
            return targets
        hit, spread = self.label_parts(row_statistics.class_count(targets, over))
        return hit * targets + spread * row_statistics.sum_over_classes(targets, over)


class Scale(NamedTuple):
    """Softcap c and temperature T, each an array or None:  z = c·tanh(x/c)/T."""

    softcap: Array | None
    temperature: Array | None

    def apply(self, x: Array) -> Array:
        z = x if self.softcap is None else self.softcap * jnp.tanh(x / self.softcap)
        return z if self.temperature is None else z / self.temperature

    def derivatives(self, x: Array) -> tuple[Array, Array | None, Array | None]:
        """z, dz/dx and d²z/dx²; None for a slope of 1, and for no curvature."""
        slope = bend = None
        if self.softcap is not None:
            a = x / self.softcap
            slope, _ = _softcap_slopes(a)
            bend = -2 * jnp.tanh(a) * slope / self.softcap
        if self.temperature is not None:
            slope = (1 if slope is None else slope) / self.temperature
            bend = None if bend is None else bend / self.temperature
        return self.apply(x), slope, bend

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


def _visible(valid: Array | None, array: Array, fill: float = 0) -> Array:
    """The array with masked rows replaced: what they hold must not reach any arithmetic."""
    if valid is None:
        return array
    return jnp.where(valid.reshape(valid.shape + (1,) * (array.ndim - valid.ndim)), array, fill)


def _along_classes(weights: Array | None, z: Array) -> Array | None:
    """Class weights [C] with as many dimensions as the logits."""
    return None if weights is None else weights.reshape((1,) * (z.ndim - 1) + weights.shape)


def _optional(weight: Array | None, value: Array) -> Array:
    return value if weight is None else times(weight, value)


class Options(NamedTuple):
    """Static: the dtype to compute in, the smoothing, F, whether targets are labels, the mesh axis classes are over."""

    dtype: Any
    smoothing: Smoothing
    shape: Shape
    labelled: bool
    over: str | None = None

    def target(self, hot: Array, targets: Array) -> Array:
        """The smoothed target distributions, as the gradient in the class weights wants them."""
        if self.labelled:
            hit, spread = self.smoothing.label_parts(row_statistics.class_count(hot, self.over))
            return jnp.where(hot, hit + spread, spread).astype(self.dtype)
        return self.smoothing.apply(targets.astype(self.dtype), self.over)

    def parts(self, hot: Array, targets: Array, of_class: Array | None) -> tuple[float, Array | float | None]:
        """(hit, everywhere): the weighted target is hit·w_c·e_c + everywhere, where None is nothing."""
        hit, spread = self.smoothing.label_parts(row_statistics.class_count(hot, self.over))
        if not self.labelled or (spread and hit <= 0):  # a negative hit would be subtracted again
            return 0.0, _optional(of_class, self.target(hot, targets))
        if not spread:
            return hit, None
        return hit, spread if of_class is None else spread * of_class


def _forward(
    options: Options,
    logits: Array,
    targets: Array,
    weights: Array | None,
    parameter: Array | None,
    z_loss: Array | None,
    softcap: Array | None,
    temperature: Array | None,
    valid: Array | None,
    *,
    differentiated: bool = True,
) -> tuple[tuple[Array, Array], Any]:
    x, seen = _visible(valid, logits), _visible(valid, targets)
    z = Scale(softcap, temperature).apply(x.astype(options.dtype))
    given = x if softcap is None and temperature is None else z
    # Long rows of 16-bit gradients have no room for exponentials of 32.
    roomy = logits.dtype == options.dtype or logits.shape[-1] <= 1024
    plan = row_statistics.Plan(options.over, stored=differentiated and roomy)
    if options.labelled:
        rows = row_statistics.labelled_rows(given, seen, plan, options.dtype)
    else:
        rows = row_statistics.row_statistics(given, plan=plan, dtype=options.dtype)
    of_class = _along_classes(weights, z)
    hot = rows.is_pivot(z)
    of_row = None if of_class is None or not options.labelled else rows.at_pivot(jnp.broadcast_to(of_class, z.shape))
    hit, everywhere = options.parts(hot, seen, of_class)
    loss = jnp.zeros_like(rows.rest)
    if hit:
        at_label = options.shape.value(row_statistics.surprisal(rows.logit, rows), rows.own / rows.total(), parameter)
        loss = hit * _optional(of_row, at_label)
    if everywhere is not None:
        values = options.shape.value(row_statistics.surprisal(z, rows), row_statistics.p_of(z, rows), parameter)
        weighted = times(everywhere, values) if isinstance(everywhere, Array) else everywhere * values
        loss = loss + rows.sum(weighted)
    lse = rows.maximum + rows.log_total()
    if z_loss is not None:
        loss = loss + rows.shared(z_loss * _optional(of_row, lse * lse))
    loss = jnp.where(jnp.isnan(rows.rest), jnp.nan, loss)  # a zero weight must not silence an undefined row
    output = (_visible(valid, loss[..., 0]), _visible(valid, lse[..., 0]))
    return output, (logits, targets, weights, parameter, z_loss, softcap, temperature, valid, rows.stopped())


def _backward(options: Options, residuals: Any, cotangents: tuple[Array, Array]) -> tuple[Any, ...]:
    logits, targets, weights, parameter, z_loss, softcap, temperature, valid, rows = residuals
    scale, shape = Scale(softcap, temperature), options.shape
    x = _visible(valid, logits.astype(options.dtype))
    z = scale.apply(x)
    in_loss, in_lse = (_visible(valid, c)[..., None] for c in cotangents)
    hot = rows.is_pivot(z)
    of_class = _along_classes(weights, z)
    of_row = None if of_class is None or not options.labelled else rows.at_pivot(jnp.broadcast_to(of_class, z.shape))

    p, surprisal = functions.probabilities(z, rows), -functions.log_probabilities(z, rows)
    of_rows = in_loss if of_row is None else in_loss * of_row
    seen = _visible(valid, targets)
    hit, everywhere = options.parts(hot, seen, of_class)
    in_z, in_each = jnp.zeros_like(z), jnp.zeros_like(in_loss)
    if hit:
        at_label = rows.at_pivot(surprisal), rows.at_pivot(p), parameter
        in_z = hit * of_rows * shape.slope(*at_label) * functions.residual_at_pivot(z, rows)
        in_each = rows.once(hit * of_rows * shape.in_parameter(*at_label))
    if everywhere is not None:
        # The cotangent stays outside: the rule is transposed, and residual's transpose in its target would cancel.
        effective = everywhere * shape.slope(surprisal, p, parameter)
        in_z = in_z + in_loss * functions.residual(z, rows, effective)
        each = times(jnp.asarray(everywhere, z.dtype), shape.in_parameter(surprisal, p, parameter))
        in_each = in_each + in_loss * jnp.sum(each, axis=-1, keepdims=True)
    in_parameter = None if parameter is None else jnp.sum(_visible(valid, in_each))
    in_z = in_z + in_lse * p
    in_z_loss = None
    if z_loss is not None:
        lse = functions.log_partition(z, rows)
        in_z = in_z + 2 * of_rows * z_loss * times(p, lse)
        in_z_loss = jnp.sum(_visible(valid, rows.once(of_rows * lse * lse)))
    in_z = _visible(valid, in_z)

    in_target = in_weights = None
    if not options.labelled or weights is not None:
        values = _visible(valid, in_loss * shape.value(surprisal, p, parameter))
        if not options.labelled:
            in_target = _visible(valid, options.smoothing.apply(_optional(of_class, values), options.over))
        if weights is not None:
            of_weights = times(options.target(hot, seen), values)
            if options.labelled and z_loss is not None:
                lse = functions.log_partition(z, rows)
                of_weights = of_weights + jnp.where(hot, in_loss * z_loss * lse * lse, 0)
            in_weights = jnp.sum(_visible(valid, of_weights), axis=tuple(range(z.ndim - 1)))
    in_x, in_softcap, in_temperature = scale.pullback(x, in_z)
    return in_x, in_target, in_weights, in_parameter, in_z_loss, in_softcap, in_temperature, None


cross_entropy = closed_form(_forward, _backward, value=functools.partial(_forward, differentiated=False))
"""(options, logits, targets, weights, parameter, z_loss, softcap, temperature, valid) -> (loss, lse), of each row."""
