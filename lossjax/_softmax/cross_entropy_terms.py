"""What the softmax cross-entropies are given, and the term of each class that they sum.

The symbols are those of ``cross_entropy.py``.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._core.autodiff import known_as
from lossjax._core.domains import AMOUNTS, Domain
from lossjax._softmax import functions, terms
from lossjax._softmax.curves import Curve
from lossjax._softmax.row_statistics import RowStatistics
from lossjax._softmax.row_sum import class_count, shown, sum_over_classes
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

    def shares(self, options: Options) -> tuple[Array, Array] | None:
        """Of label smoothing."""
        if self.smoothing is None:
            return None
        return options.smoothing(self.smoothing).shares(class_count(self.logits, options.over))

    def of_rows(self, options: Options, rows: RowStatistics, mass: Array | None = None) -> "OfRows":
        """What there is of each row; ``mass`` is Σt, if it is known already."""
        shares = self.shares(options)
        if shares is None:
            return OfRows(self.view, self.parameter)
        if not options.labelled:
            if mass is None:
                mass = terms.of_all(_target, (self.targets,), rows, self.view)
            else:
                mass = _known_mass(mass, self.targets, self.view.valid, options.dtype, rows.over)
        return OfRows(self.view, self.parameter, mass, *shares)


def _target(entries: Any, rows: RowStatistics, view: View) -> Array:
    return shown(entries[0], view.valid).astype(rows.maximum.dtype)


def _mass(targets: Array, valid: Array | None, dtype: Any, over: str | None) -> Array:
    return sum_over_classes(shown(targets, valid).astype(dtype), over)


_known_mass = known_as(_mass)


class OfRows(NamedTuple):
    """What the terms of a row have in common."""

    view: View
    parameter: Array | None
    mass: Array | None = None
    """Σt of a distribution that is smoothed."""
    at_label: Array | None = None
    each: Array | None = None
    """The shares of label smoothing: of the label, and of each other class."""


@dataclasses.dataclass(frozen=True)
class Term:
    """The term of a class, as ``of_others`` and ``of_pivot`` of ``terms.py`` call it: v_k times F, or one of its
    derivatives.
    """

    options: Options
    of: Literal["value", "slope", "in_parameter"]

    def __call__(self, entries: Any, rows: RowStatistics, beside: OfRows) -> Array:
        logits, targets, weights, _ = entries
        dtype = self.options.dtype
        # The pivot's logit is known of the row: over devices another look at it would be another sum over them.
        z = rows.pivot_logit if rows.asked else beside.view.of(logits, dtype).astype(dtype)
        term = self.of_curve(z, rows, beside.parameter)
        if weights is not None:
            term = times(weights, term)
        share = self.share(z, targets, rows, beside)
        return term if share is None else times(share, term)

    def of_curve(self, z: Array, rows: RowStatistics, parameter: Array | None) -> Array:
        curve = self.options.curve
        if curve.is_identity and self.of == "slope":
            return jnp.ones_like(z)
        surprisal = -functions.log_probabilities(z, rows)
        if curve.is_identity:
            return surprisal
        return getattr(curve, self.of)(surprisal, functions.probabilities(z, rows), parameter)

    def share(self, z: Array, targets: Array | None, rows: RowStatistics, beside: OfRows) -> Array | None:
        """t_k, smoothed; None for the 1 of a label."""
        if targets is None:
            if beside.at_label is None or beside.each is None:
                return None
            return jnp.where(rows.is_pivot(z), beside.at_label, beside.each)
        t = shown(targets, beside.view.valid).astype(z.dtype)
        if beside.at_label is None or beside.each is None or beside.mass is None:
            return t
        return (beside.at_label - beside.each) * t + beside.each * beside.mass
