"""The rule of the softmax cross-entropies and their kin, every option included.

With z the logits after softcap and temperature, p = softmax(z), l_k = -log p_k, v = w∘t the weighted target, and F a
function of the surprisal (``curves.py``; F(l) = l for the cross-entropy),

    loss = Σ_k v_k F(l_k) + λ ω lse²
    ∂loss/∂z   = (Σs) p - s + 2λω lse p,     s = v∘F'(l)          (∂l_k/∂z = p - e_k,  ∂lse/∂z = p)
    ∂loss/∂v_k = F(l_k)        ∂loss/∂λ = ω lse²        ∂loss/∂ω = λ lse²        ∂loss/∂θ = Σ_k v_k ∂F/∂θ

so that every one of these losses has the gradient of a cross-entropy with an effective target s. For an integer label
c, t never exists as an array. Its entry at the label needs F at the label alone, and its share of (Σs) p - s, which is
s_c (p - e_c), is ``p_minus_one_hot``; the share of the other classes, (Σ_{k≠c} s_k) p - Σ_{k≠c} s_k e_k, is there with
label smoothing only.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form, known_as
from lossjax._core.domains import AMOUNTS, REALS, Domain
from lossjax._core.masks import hide, nan_unless
from lossjax._core.sharding import on_one_device, same_on_all
from lossjax._softmax import functions, one_reading
from lossjax._softmax.curves import Curve
from lossjax._softmax.one_reading import OfDistribution
from lossjax._softmax.row_statistics import (
    Plan,
    RowStatistics,
    labelled_rows_and_gaps,
    p_of,
    row_statistics_and_gaps,
    sum_of_other_surprisals,
    surprisal,
)
from lossjax._softmax.row_sum import class_count, sum_over_classes
from lossjax._softmax.smoothing import Smoothing
from lossjax._softmax.transform import LogitTransform
from lossjax.numerics import times


class Options(NamedTuple):
    """The static part: the dtype to compute in, F, the kind of target, its smoothing, the mesh axis of the classes, and
    what the entries of a distribution may be.
    """

    dtype: Any
    curve: Curve
    labelled: bool
    over_others: bool = False
    over: str | None = None
    domain: Domain = AMOUNTS

    def smoothing(self, amount: Array) -> Smoothing:
        """The label smoothing of this amount."""
        return Smoothing(amount.astype(self.dtype), self.over_others)


class SoftmaxInputs(NamedTuple):
    """The arrays of the rule, each [..., C], [...] or a scalar, or None where an option is at its default.

    As a cotangent, it holds the gradient in each of them.
    """

    logits: Array
    targets: Any
    class_weights: Array | None = None
    parameter: Array | None = None
    smoothing: Array | None = None
    z_loss: Array | None = None
    transform: LogitTransform = LogitTransform(None, None)
    valid: Array | None = None

    def weights_along(self, z: Array) -> Array | None:
        """The class weights [C] with as many dimensions as the logits."""
        w = self.class_weights
        return None if w is None else w.reshape((1,) * (z.ndim - 1) + w.shape)


def _weighted(weight: Array | None, value: Array) -> Array:
    return value if weight is None else times(weight, value)


def _label_weight(options: Options, weights: Array | None, z: Array, rows: RowStatistics) -> Array | None:
    """ω: the class weight of each row's label, or None where every row counts alike."""
    if weights is None or not options.labelled:
        return None
    return rows.at_pivot(jnp.broadcast_to(weights, z.shape))


def _given_distribution(options: Options, is_label: Array, targets: Array) -> Array:
    """The target as it was given: a distribution over the classes, or a label's one-hot."""
    return is_label.astype(options.dtype) if options.labelled else targets.astype(options.dtype)


def _distribution(options: Options, inputs: SoftmaxInputs, targets: Array, mass: Array | None = None) -> Array:
    """The smoothed target distributions; ``mass`` is their sum over the classes, if it is known."""
    given = targets.astype(options.dtype)
    if inputs.smoothing is None:
        return given
    mass = None if mass is None else _known_mass(mass, given, options.over)
    return options.smoothing(inputs.smoothing).apply(given, options.over, mass)


_known_mass = known_as(sum_over_classes)


def _or_nan(options: Options, targets: Array, per_row: Array) -> Array:
    """One number per row, NaN where a target lies outside the domain; of labels, the row's statistics know.

    The smallest target decides. Making each of the others NaN would cost a fifth of the time of value and gradient, for
    the loops of XLA's CPU backend (JAX 0.10 to 0.12) then go number by number.
    """
    if options.labelled or options.domain is REALS:
        return per_row
    smallest = jnp.min(lax.stop_gradient(targets), axis=-1, keepdims=True)
    outside = sum_over_classes((~options.domain.contains(smallest)).astype(options.dtype), options.over)
    return nan_unless(outside == 0, per_row)


def _forward(
    options: Options, inputs: SoftmaxInputs, *, differentiated: bool = True
) -> tuple[tuple[Array, Array], Any]:
    valid, curve = inputs.valid, options.curve
    x, targets = hide(valid, inputs.logits), hide(valid, inputs.targets)
    z = inputs.transform.apply(x.astype(options.dtype))
    # Storing the exponentials pays only where their array can become the gradient's buffer. A 16-bit gradient is half
    # as large, so for long rows the float32 exponentials would be a second, larger array: they are computed again.
    roomy = inputs.logits.dtype == options.dtype or inputs.logits.shape[-1] <= LONGEST_WIDE_ROW
    plan = Plan(options.over, reused=differentiated and roomy)
    given = x if inputs.transform.is_identity else z
    weights = inputs.weights_along(z)
    shares = None
    if inputs.smoothing is not None:
        shares = options.smoothing(inputs.smoothing).shares(class_count(z, options.over))
    wanted = _gap_weights(options, inputs, z, targets, weights)
    if options.labelled:
        rows, gaps = labelled_rows_and_gaps(given, targets, wanted, plan, options.dtype)
    else:
        rows, gaps = row_statistics_and_gaps(given, wanted, None, plan, options.dtype)
    label_weight, sums = _label_weight(options, weights, z, rows), None
    if options.labelled:  # v_c F(l_c), and Σ_{k≠c} v_k F(l_k)
        of_label = curve.value(surprisal(rows.pivot_logit, rows), rows.own / rows.total(), inputs.parameter)
        loss = _weighted(label_weight, of_label)
        if shares is not None:
            at_label, each = shares
            passes = functools.partial(_smoothed_label, curve)
            more = rows, each, given, z, weights, inputs.parameter
            elsewhere = one_reading.by_reading(gaps, *more, once=one_reading.of_smoothed_label, passes=passes)
            loss = same_on_all(times(at_label, loss) + elsewhere, rows.over)
    else:  # Σ_k v_k F(l_k)
        more = rows, shares, inputs, targets, z
        passes = functools.partial(_distribution_sums, options)
        sums = one_reading.by_reading(gaps, *more, once=one_reading.of_distribution, passes=passes)
        loss, sums = sums.loss, sums.stopped()
    lse = rows.maximum + rows.log_total()
    if inputs.z_loss is not None:  # λ ω lse²
        loss = loss + same_on_all(inputs.z_loss * _weighted(label_weight, lse * lse), rows.over)
    loss = nan_unless(~jnp.isnan(rows.rest), loss)  # a zero weight must not silence an undefined row
    output = (hide(valid, loss[..., 0]), hide(valid, lse[..., 0]))
    return output, (options, inputs, rows.stopped(), sums)


def _gap_weights(
    options: Options, inputs: SoftmaxInputs, z: Array, targets: Array, weights: Array | None
) -> tuple[Array, ...]:
    """The weights of the gaps that a platform sums which reads its rows once; none where a row's statistics suffice."""
    smoothed = inputs.smoothing is not None
    if not options.curve.is_identity:
        return ()
    if options.labelled:
        return one_reading.weights_of_label(z, weights) if smoothed else ()
    if options.over is not None:  # each of the sums would cross the devices once more, to be seen as the same on all
        return ()
    if smoothed and options.over_others:  # of what is left of t and what is spread one may be negative, and cancel
        return ()
    return one_reading.weights_of_distribution(z, targets, weights, options.domain, smoothed=smoothed)


def _smoothed_label(
    curve: Curve, _: Any, rows: RowStatistics, each: Array, given: Array, z: Array, weights: Any, parameter: Any
) -> Array:
    """``Σ_{k≠c} v_k F(l_k)`` of a smoothed label c, by passes over the rows."""
    if weights is None and curve.is_identity:
        return times(each, sum_of_other_surprisals(given, rows))
    # the share stands inside the sum, which overflows without it
    values = _weighted(weights, curve.value(surprisal(z, rows), p_of(z, rows), parameter))
    return rows.sum(jnp.where(rows.is_pivot(z), 0, times(each, values)))


def _distribution_sums(
    options: Options, _: Any, rows: RowStatistics, shares: Any, inputs: SoftmaxInputs, targets: Array, z: Array
) -> OfDistribution:
    """The sums of a distribution by passes over the rows."""
    values = options.curve.value(surprisal(z, rows), p_of(z, rows), inputs.parameter)
    v = _weighted(inputs.weights_along(z), _distribution(options, inputs, targets))
    loss, own = (_or_nan(options, targets, each) for each in (rows.sum(times(v, values)), rows.at_pivot(v)))
    mass = None if shares is None else rows.sum(targets.astype(options.dtype))
    return OfDistribution(loss, own, rows.sum(jnp.where(rows.is_pivot(z), 0, v)), mass)


def _backward(saved: Any, cotangents: tuple[Array, Array]) -> tuple[None, SoftmaxInputs]:
    options, inputs, rows, sums = saved
    valid, curve, parameter = inputs.valid, options.curve, inputs.parameter
    x, targets = hide(valid, inputs.logits.astype(options.dtype)), hide(valid, inputs.targets)
    z = inputs.transform.apply(x)
    in_loss, in_lse = (hide(valid, c)[..., None] for c in cotangents)
    if sums is not None:
        in_loss = nan_unless(~jnp.isnan(sums.own), in_loss)
    weights = inputs.weights_along(z)
    label_weight = _label_weight(options, weights, z, rows)
    in_weighted = in_loss if label_weight is None else in_loss * label_weight  # ω times the cotangent of the loss
    is_label = rows.is_pivot(z)
    p, surprisals = functions.probabilities(z, rows), -functions.log_probabilities(z, rows)
    slope, in_curve = curve.slope(surprisals, p, parameter), curve.in_parameter(surprisals, p, parameter)
    # (Σs) p - s, and Σ_k v_k ∂F/∂θ. The cotangent multiplies the slope and does not go into it: this pass is
    # transposed, and what the slope's transpose subtracts is larger than the result.
    if options.labelled:
        of_label = rows.at_pivot(surprisals), rows.at_pivot(p), parameter
        at_label = each = None
        in_own = in_weighted
        if inputs.smoothing is not None:
            at_label, each = options.smoothing(inputs.smoothing).shares(class_count(z, options.over))
            in_own = at_label * in_weighted
        # s_c (p - e_c)
        in_z = in_own * curve.slope(*of_label) * functions.p_minus_one_hot(z, rows)
        in_parameter = on_one_device(in_own * curve.in_parameter(*of_label), rows.over)
        if each is not None:  # (Σ_{k≠c} s_k) p - Σ_{k≠c} s_k e_k
            s = jnp.where(is_label, 0, _weighted(weights, slope))
            if weights is None and curve.is_identity:
                mass = jnp.asarray(class_count(z, options.over) - 1, z.dtype)
            else:
                mass = rows.sum(s)
            in_z = in_z + in_loss * each * (mass * p - s)
            elsewhere = jnp.where(is_label, 0, _weighted(weights, in_curve))
            in_parameter = in_parameter + in_loss * each * jnp.sum(elsewhere, axis=-1, keepdims=True)
    else:
        v = _weighted(weights, _distribution(options, inputs, targets, None if sums is None else sums.mass))
        known = (sums.own, sums.others) if sums is not None and curve.is_identity else None
        in_z = in_loss * functions.cross_entropy_slope(z, rows, v * slope, known)
        in_parameter = in_loss * jnp.sum(times(v, in_curve), axis=-1, keepdims=True)
    in_z = in_z + in_lse * p
    in_z_loss = None
    if inputs.z_loss is not None:  # 2λω lse p, and ω lse²
        lse = functions.log_partition(z, rows)
        in_z = in_z + 2 * in_weighted * inputs.z_loss * times(p, lse)
        in_z_loss = jnp.sum(hide(valid, on_one_device(in_weighted * lse * lse, rows.over)))
    in_z = hide(valid, in_z)

    in_targets = in_class_weights = in_smoothing = None
    if not options.labelled or weights is not None or inputs.smoothing is not None:
        values = hide(valid, in_loss * curve.value(surprisals, p, parameter))  # F(l_k), which is ∂/∂v_k
        in_distribution = _weighted(weights, values)  # w∘F(l), which is ∂/∂ of the smoothed target
        given = _given_distribution(options, is_label, targets)
        smoothed = given
        if inputs.smoothing is not None:  # the smoothing is its own transpose
            smoothing = options.smoothing(inputs.smoothing)
            smoothed = smoothing.apply(given, options.over)
            in_smoothing = jnp.sum(hide(valid, times(smoothing.slope(given, options.over), in_distribution)))
            in_distribution = smoothing.apply(in_distribution, options.over)
        if not options.labelled:
            in_targets = hide(valid, in_distribution)
        if weights is not None:  # t∘F(l), and λ lse² for the label's weight
            of_weights = times(smoothed, values)
            if options.labelled and inputs.z_loss is not None:
                lse = functions.log_partition(z, rows)
                of_weights = of_weights + jnp.where(is_label, in_loss * inputs.z_loss * lse * lse, 0)
            in_class_weights = jnp.sum(hide(valid, of_weights), axis=tuple(range(z.ndim - 1)))
    in_logits, in_transform = inputs.transform.pullback(x, in_z)
    return None, SoftmaxInputs(
        logits=in_logits,
        targets=in_targets,
        class_weights=in_class_weights,
        parameter=None if parameter is None else jnp.sum(hide(valid, in_parameter)),
        smoothing=in_smoothing,
        z_loss=in_z_loss,
        transform=in_transform,
        valid=None,
    )


LONGEST_WIDE_ROW = 1024
"""Up to this many classes the exponentials of 16-bit logits are stored in float32 for the backward pass."""

softmax_losses = closed_form(_forward, _backward, value=functools.partial(_forward, differentiated=False))
"""(options, inputs) -> (loss, log-sum-exp) of each row."""
