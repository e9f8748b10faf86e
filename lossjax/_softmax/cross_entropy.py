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
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax._core.domains import REALS
from lossjax._core.masks import hide, nan_unless
from lossjax._core.sharding import on_one_device, same_on_all
from lossjax._softmax import functions, one_reading, terms
from lossjax._softmax.cross_entropy_terms import OfRows, Options, SoftmaxInputs, Term
from lossjax._softmax.one_reading import OfDistribution
from lossjax._softmax.plan import Plan
from lossjax._softmax.row_statistics import RowStatistics, labelled_rows_and_gaps, row_statistics_and_gaps
from lossjax._softmax.row_sum import class_count, largest_of, shown, sum_over_classes
from lossjax.numerics import times


def _label_weight(options: Options, inputs: SoftmaxInputs, rows: RowStatistics) -> Array | None:
    """ω: the class weight of each row's label, or None where every row counts alike."""
    if inputs.class_weights is None or not options.labelled:
        return None
    return terms.of_pivot(lambda entries, *_: entries[2], inputs.entries(options), rows, ())


def _or_nan(options: Options, inputs: SoftmaxInputs, per_row: Array) -> Array:
    """One number per row, NaN where a target lies outside the domain.

    The smallest target decides. Making each of the others NaN would cost a fifth of the time of value and gradient, for
    the loops of XLA's CPU backend (JAX 0.10 to 0.12) then go number by number.
    """
    if options.domain is REALS:
        return per_row
    smallest = -largest_of(_negated, (lax.stop_gradient(inputs.targets),), inputs.view.valid)
    outside = sum_over_classes((~options.domain.contains(smallest)).astype(options.dtype), options.over)
    return nan_unless(outside == 0, per_row)


def _negated(targets: Array, valid: Array | None) -> Array:
    return -shown(targets, valid)


def forward(options: Options, inputs: SoftmaxInputs, *, differentiated: bool = True) -> tuple[tuple[Array, Array], Any]:
    """The loss and the log-sum-exp of each row, and what :func:`backward` wants to know."""
    valid, x, view = inputs.valid, inputs.logits, inputs.view
    plan = Plan.of(x, options.dtype, options.over, differentiated=differentiated)
    entries, wanted, sums = inputs.entries(options), _gap_weights(options, inputs), None
    if options.labelled:  # v_c F(l_c), and Σ_{k≠c} v_k F(l_k)
        labels = hide(valid, inputs.targets)
        rows, gaps = labelled_rows_and_gaps(x, labels, wanted, plan, options.dtype, view)
        beside, value = inputs.of_rows(options, rows), Term(options, "value")
        loss = terms.of_pivot(value, entries, rows, beside)
        if beside.each is not None:
            passes, more = functools.partial(_smoothed_label, value), (rows, beside.each, entries, beside)
            loss = loss + one_reading.by_reading(gaps, *more, once=one_reading.of_smoothed_label, passes=passes)
            loss = same_on_all(loss, rows.over)
    else:  # Σ_k v_k F(l_k)
        rows, gaps = row_statistics_and_gaps(x, wanted, None, plan, options.dtype, view)
        passes, more = functools.partial(_distribution_sums, options), (rows, inputs.shares(options), inputs)
        sums = one_reading.by_reading(gaps, *more, once=one_reading.of_distribution, passes=passes)
        loss, sums = sums.loss, sums.saved()
    lse = rows.maximum + rows.log_total()
    if inputs.z_loss is not None:  # λ ω lse²
        label_weight = _label_weight(options, inputs, rows)
        loss = loss + same_on_all(inputs.z_loss * _weighted(label_weight, lse * lse), rows.over)
    loss = nan_unless(~jnp.isnan(rows.rest), loss)  # a zero weight must not silence an undefined row
    output = (hide(valid, loss[..., 0]), hide(valid, lse[..., 0]))
    return output, (options, inputs, rows.stopped(), sums)


def _gap_weights(options: Options, inputs: SoftmaxInputs) -> tuple[Array, ...]:
    """The weights of the gaps that a platform sums which reads its rows once; none where a row's statistics suffice."""
    smoothed = inputs.smoothing is not None
    if not options.curve.is_identity:
        return ()
    (x, targets, weights), dtype = inputs.entries(options), options.dtype
    if targets is None:
        return one_reading.weights_of_label(x, weights, dtype) if smoothed else ()
    if options.over is not None:  # each of the sums would cross the devices once more, to be seen as the same on all
        return ()
    if smoothed and options.over_others:  # of what is left of t and what is spread one may be negative, and cancel
        return ()
    targets = shown(targets, inputs.view.valid)
    return one_reading.weights_of_distribution(targets, weights, dtype, options.domain, smoothed=smoothed)


def _smoothed_label(value: Term, _: Any, rows: RowStatistics, each: Array, entries: Any, beside: OfRows) -> Array:
    """``Σ_{k≠c} v_k F(l_k)`` of a smoothed label c, by passes over the rows."""
    return terms.of_others(value, entries, rows, beside)


def _distribution_sums(
    options: Options, _: Any, rows: RowStatistics, shares: Any, inputs: SoftmaxInputs
) -> OfDistribution:
    """The sums of a distribution by passes over the rows."""
    given = inputs.entries(options), rows, inputs.of_rows(options, rows)
    value, slope = Term(options, "value"), Term(options, "slope")
    loss, own = terms.of_all(value, *given), terms.of_pivot(slope, *given)
    loss, own = (_or_nan(options, inputs, each) for each in (loss, own))
    return OfDistribution(loss, own, terms.of_others(slope, *given), given[-1].mass)


def _weighted(weight: Array | None, value: Array) -> Array:
    return value if weight is None else times(weight, value)


def backward(saved: Any, cotangents: tuple[Array, Array]) -> tuple[None, SoftmaxInputs]:
    """The gradient in everything that the rule is given."""
    options, inputs, rows, sums = saved
    inputs = inputs._replace(transform=inputs.transform.anew())
    valid, parameter = inputs.valid, inputs.parameter
    in_loss, in_lse = (hide(valid, c)[..., None] for c in cotangents)
    own = others = mass = None
    if sums is not None:
        own, others, mass = sums.own, sums.others, sums.mass
        in_loss = nan_unless(~jnp.isnan(own), in_loss)
    entries, beside = inputs.entries(options), inputs.of_rows(options, rows, mass)
    slope, of_parameter = Term(options, "slope"), Term(options, "in_parameter")
    every_class = beside.each is not None or not options.labelled
    x = hide(valid, inputs.logits.astype(options.dtype))
    z = inputs.view.of(inputs.logits, options.dtype).astype(options.dtype)
    p, is_pivot = functions.probabilities(z, rows), rows.is_pivot(z)
    # (Σs) p - s, with the pivot's share apart, and Σ_k v_k ∂F/∂θ. The cotangent multiplies the slope and does not go
    # into it: this pass is transposed, and what the slope's transpose subtracts is larger than the result.
    own, in_p, elsewhere = in_loss * terms.of_pivot(slope, entries, rows, beside, known=own), in_lse, None
    # Of a smoothed label all others have one share, whose sum takes no pass over the row, and crosses no devices.
    if beside.each is not None and options.labelled and options.curve.is_identity and entries[2] is None:
        others = beside.each * jnp.full_like(rows.rest, class_count(z, rows.over) - 1)
    if every_class:
        elsewhere = in_loss * jnp.where(is_pivot, 0, slope((*entries, None), rows, beside))
        in_p = in_p + in_loss * terms.of_others(slope, entries, rows, beside, known=others)
    in_parameter = None
    if parameter is not None:
        in_parameter = in_loss * on_one_device(terms.of_pivot(of_parameter, entries, rows, beside), rows.over)
        if every_class:
            others = jnp.where(is_pivot, 0, of_parameter((*entries, None), rows, beside))
            in_parameter = in_parameter + in_loss * jnp.sum(others, axis=-1, keepdims=True)
        in_parameter = jnp.sum(hide(valid, in_parameter))
    in_z_loss = lse = None
    if inputs.z_loss is not None:  # 2λω lse p, and ω lse²
        lse, label_weight = functions.log_partition(z, rows), _label_weight(options, inputs, rows)
        in_weighted = in_loss if label_weight is None else in_loss * label_weight
        in_p = in_p + 2 * in_weighted * inputs.z_loss * lse
        in_z_loss = jnp.sum(hide(valid, on_one_device(in_weighted * lse * lse, rows.over)))
    in_z = own * functions.p_minus_one_hot(z, rows) + times(p, in_p)
    if elsewhere is not None:
        # The sums stand in the branches of a select: elsewhere XLA's CPU backend (JAX 0.10 to 0.12) gives them to a
        # library of arithmetic, with an array for each operand.
        in_z = jnp.where(is_pivot, in_z, times(p, own + in_p) - elsewhere)
    in_z = hide(valid, in_z)

    in_targets = in_class_weights = in_smoothing = None
    weights = entries[2]
    if not options.labelled or weights is not None or inputs.smoothing is not None:
        surprisals = -functions.log_probabilities(z, rows)
        values = hide(valid, in_loss * options.curve.value(surprisals, p, parameter))  # F(l_k), which is ∂/∂v_k
        in_distribution = _weighted(weights, values)  # w∘F(l), which is ∂/∂ of the smoothed target
        given = is_pivot if options.labelled else shown(inputs.targets, inputs.view.valid)
        given = given.astype(options.dtype)
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
            if options.labelled and inputs.z_loss is not None and lse is not None:
                of_weights = of_weights + jnp.where(is_pivot, in_loss * inputs.z_loss * lse * lse, 0)
            in_class_weights = jnp.sum(hide(valid, of_weights), axis=tuple(range(z.ndim - 1)))
    in_logits, in_transform = inputs.transform.pullback(x, in_z)
    return None, SoftmaxInputs(
        logits=in_logits,
        targets=in_targets,
        class_weights=in_class_weights,
        parameter=in_parameter,
        smoothing=in_smoothing,
        z_loss=in_z_loss,
        transform=in_transform,
        valid=None,
    )


softmax_losses = closed_form(forward, backward, value=functools.partial(forward, differentiated=False))
"""(options, inputs) -> (loss, log-sum-exp) of each row."""
