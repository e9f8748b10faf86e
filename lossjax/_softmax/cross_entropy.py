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

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax._core.domains import AMOUNTS, REALS, Domain
from lossjax._core.masks import hide, nan_unless
from lossjax._core.sharding import on_one_device, same_on_all
from lossjax._softmax import functions
from lossjax._softmax.curves import Curve
from lossjax._softmax.row_statistics import (
    Plan,
    RowStatistics,
    labelled_rows,
    row_statistics,
)
from lossjax._softmax.row_sum import class_count, largest_of, shown, sum_over_classes
from lossjax._softmax.smoothing import Smoothing
from lossjax._softmax.transform import LogitTransform, View
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

    @property
    def view(self) -> View:
        """What the softmax sees of the logits."""
        return View(None if self.valid is None else self.valid[..., None], self.transform)

    def entries(self, options: Options) -> tuple[Array, Array | None, Array | None]:
        """What there is of each class: logits, distributions, and class weights as an array of one row."""
        w = self.class_weights
        weights = None if w is None else w.reshape((1,) * (self.logits.ndim - 1) + w.shape)
        return self.logits, None if options.labelled else self.targets, weights

    def of_rows(self, options: Options, rows: RowStatistics) -> "_OfRows":
        """What there is of each row."""
        mass, shares = None, (None, None)
        if self.smoothing is not None:
            shares = options.smoothing(self.smoothing).shares(class_count(self.logits, rows.over))
            if not options.labelled:
                targets = (self.targets,)
                mass = rows.sum_of_others(_target, targets, self.view) + rows.of_pivot(_target, targets, self.view)
        return _OfRows(self.view, self.parameter, mass, *shares)


class _OfRows(NamedTuple):
    view: View
    parameter: Array | None
    mass: Array | None
    """Σt of a distribution that is smoothed."""
    at_label: Array | None
    each: Array | None
    """The shares of label smoothing: of the label, and of each other class."""


@dataclasses.dataclass(frozen=True)
class _Term:
    """The term of a class, as ``RowStatistics.sum_of_others`` and ``of_pivot`` call it: v_k times F, or one of its
    derivatives.
    """

    options: Options
    of: Literal["value", "slope", "in_parameter"]

    def __call__(self, entries: Any, rows: RowStatistics, beside: _OfRows) -> Array:
        logits, targets, weights, _ = entries
        dtype, curve = self.options.dtype, self.options.curve
        z = beside.view.of(logits, dtype).astype(dtype)
        p, surprisal = functions.probabilities(z, rows), -functions.log_probabilities(z, rows)
        term = getattr(curve, self.of)(surprisal, p, beside.parameter)
        if weights is not None:
            term = times(weights, term)
        share = self.share(z, targets, rows, beside)
        return term if share is None else times(share, term)

    def share(self, z: Array, targets: Array | None, rows: RowStatistics, beside: _OfRows) -> Array | None:
        """t_k, smoothed; None for the 1 of a label."""
        if targets is None:
            if beside.at_label is None or beside.each is None:
                return None
            return jnp.where(rows.is_pivot(z), beside.at_label, beside.each)
        t = shown(targets, beside.view.valid).astype(z.dtype)
        if beside.at_label is None or beside.each is None or beside.mass is None:
            return t
        return (beside.at_label - beside.each) * t + beside.each * beside.mass


def _target(entries: Any, rows: RowStatistics, view: View) -> Array:
    return shown(entries[0], view.valid).astype(rows.maximum.dtype)


def _label_weight(options: Options, inputs: SoftmaxInputs, rows: RowStatistics) -> Array | None:
    """ω: the class weight of each row's label, or None where every row counts alike."""
    if inputs.class_weights is None or not options.labelled:
        return None
    return rows.of_pivot(lambda entries, *_: entries[2], inputs.entries(options), ())


def _or_nan(options: Options, inputs: SoftmaxInputs, per_row: Array) -> Array:
    """One number per row, NaN where a target lies outside the domain; of labels, the row's statistics know.

    The smallest target decides. Making each of the others NaN would cost a fifth of the time of value and gradient, for
    the loops of XLA's CPU backend (JAX 0.10 to 0.12) then go number by number.
    """
    if options.labelled or options.domain is REALS:
        return per_row
    smallest = -largest_of(_negated, (lax.stop_gradient(inputs.targets),), inputs.view.valid)
    outside = sum_over_classes((~options.domain.contains(smallest)).astype(options.dtype), options.over)
    return nan_unless(outside == 0, per_row)


def _negated(targets: Array, valid: Array | None) -> Array:
    return -shown(targets, valid)


def _forward(
    options: Options, inputs: SoftmaxInputs, *, differentiated: bool = True
) -> tuple[tuple[Array, Array], Any]:
    valid, x, view = inputs.valid, inputs.logits, inputs.view
    plan = Plan.of(x, options.dtype, options.over, differentiated=differentiated)
    if options.labelled:
        rows = labelled_rows(x, hide(valid, inputs.targets), plan, options.dtype, view)
    else:
        rows = row_statistics(x, plan=plan, dtype=options.dtype, view=view)
    entries, beside, value = inputs.entries(options), inputs.of_rows(options, rows), _Term(options, "value")
    loss = rows.of_pivot(value, entries, beside)
    if beside.each is not None or not options.labelled:
        loss = same_on_all(loss, rows.over) + rows.sum_of_others(value, entries, beside)
    lse = rows.maximum + rows.log_total()
    if inputs.z_loss is not None:  # λ ω lse²
        label_weight = _label_weight(options, inputs, rows)
        loss = loss + same_on_all(inputs.z_loss * _weighted(label_weight, lse * lse), rows.over)
    loss = _or_nan(options, inputs, loss)
    loss = nan_unless(~jnp.isnan(rows.rest), loss)  # a zero weight must not silence an undefined row
    output = (hide(valid, loss[..., 0]), hide(valid, lse[..., 0]))
    return output, (options, inputs, rows.stopped())


def _weighted(weight: Array | None, value: Array) -> Array:
    return value if weight is None else times(weight, value)


def _backward(saved: Any, cotangents: tuple[Array, Array]) -> tuple[None, SoftmaxInputs]:
    options, inputs, rows = saved
    valid, parameter = inputs.valid, inputs.parameter
    in_loss, in_lse = (hide(valid, c)[..., None] for c in cotangents)
    in_loss = _or_nan(options, inputs, in_loss)
    entries, beside = inputs.entries(options), inputs.of_rows(options, rows)
    slope, of_parameter = _Term(options, "slope"), _Term(options, "in_parameter")
    x = hide(valid, inputs.logits.astype(options.dtype))
    z = inputs.view.of(inputs.logits, options.dtype).astype(options.dtype)
    p, is_pivot = functions.probabilities(z, rows), rows.is_pivot(z)
    # (Σs) p - s, with the pivot's share apart, and Σ_k v_k ∂F/∂θ. The cotangent multiplies the slope and does not go
    # into it: this pass is transposed, and what the slope's transpose subtracts is larger than the result.
    own, in_p, elsewhere = in_loss * rows.of_pivot(slope, entries, beside), in_lse, jnp.zeros_like(in_lse)
    in_parameter = in_loss * on_one_device(rows.of_pivot(of_parameter, entries, beside), rows.over)
    if beside.each is not None or not options.labelled:
        elsewhere = in_loss * jnp.where(is_pivot, 0, slope((*entries, None), rows, beside))
        in_p = in_p + in_loss * rows.sum_of_others(slope, entries, beside)
        others = jnp.where(is_pivot, 0, of_parameter((*entries, None), rows, beside))
        in_parameter = in_parameter + in_loss * jnp.sum(others, axis=-1, keepdims=True)
    in_z_loss, lse, label_weight = None, functions.log_partition(z, rows), _label_weight(options, inputs, rows)
    if inputs.z_loss is not None:  # 2λω lse p, and ω lse²
        in_weighted = in_loss if label_weight is None else in_loss * label_weight
        in_p = in_p + 2 * in_weighted * inputs.z_loss * lse
        in_z_loss = jnp.sum(hide(valid, on_one_device(in_weighted * lse * lse, rows.over)))
    # The sums stand in the branches of a select: elsewhere XLA's CPU backend (JAX 0.10 to 0.12) gives them to a library
    # of arithmetic, with an array for each operand.
    at_pivot = own * functions.p_minus_one_hot(z, rows) + times(p, in_p)
    in_z = jnp.where(is_pivot, at_pivot, times(p, own + in_p) - elsewhere)
    in_z = hide(valid, in_z)

    in_targets = in_class_weights = in_smoothing = None
    weights = entries[2]
    if not options.labelled or weights is not None or inputs.smoothing is not None:
        surprisals = -functions.log_probabilities(z, rows)
        values = hide(valid, in_loss * options.curve.value(surprisals, p, parameter))  # F(l_k), which is ∂/∂v_k
        in_distribution = _weighted(weights, values)  # w∘F(l), which is ∂/∂ of the smoothed target
        given = (
            is_pivot.astype(options.dtype) if options.labelled else _target((inputs.targets, None), rows, inputs.view)
        )
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
                of_weights = of_weights + jnp.where(is_pivot, in_loss * inputs.z_loss * lse * lse, 0)
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


softmax_losses = closed_form(_forward, _backward, value=functools.partial(_forward, differentiated=False))
"""(options, inputs) -> (loss, log-sum-exp) of each row."""
