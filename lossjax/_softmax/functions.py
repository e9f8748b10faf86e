"""The softmax family on the last axis, closed under differentiation.

In the symbols of ``_softmax/row_statistics.py``, every order of differentiation meets only the functions below:

    d log_softmax(z)·g  ->  g - (Σg) p            = -residual(z, g)
    d softmax(z)·g      ->  p∘(g - <p, g>)        = J(p) g, symmetric
    d residual(z, t)    ->  (Σt) J(p)  in z,  <u, p> - u  in t,   where residual(z, t) = (Σt) p - t

Two kinds of functions. ``softmax``, ``log_softmax`` and ``log_sum_exp`` start from the logits. Backward passes use the
rest, which take the row statistics of the forward pass as arguments (the only residuals beside the logits). The rules
of these give the total derivative in z, the statistics' part included, so the statistics enter with their gradient
stopped and have none of their own.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax._softmax.row_statistics import Plan, Rows, one_pivot_off, p_of, row_statistics, surprisal

# --- from the logits -------------------------------------------------------------------------------------------------


def softmax(z: Array) -> Array:
    """``p``, over the last axis."""
    return _softmax(None, z)


def log_softmax(z: Array) -> Array:
    """``log p``, over the last axis, accurate where p_k is near 1."""
    return _log_softmax(None, z)


def log_sum_exp(z: Array) -> Array:
    """``log Σ exp z`` over the last axis."""
    return _log_sum_exp(None, z)


def _softmax_forward(_: None, z: Array) -> tuple[Array, Any]:
    rows = row_statistics(z, plan=Plan(stored=True))
    return p_of(z, rows), (z, rows.stopped())


def _softmax_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array]:
    z, rows = residuals
    return (fisher_product(z, rows, cotangent),)


def _log_softmax_forward(_: None, z: Array) -> tuple[Array, Any]:
    rows = row_statistics(z)
    return -surprisal(z, rows), (z, rows.stopped())


def _log_softmax_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array]:
    z, rows = residuals
    return (-residual(z, rows, cotangent),)


def _log_sum_exp_forward(_: None, z: Array) -> tuple[Array, Any]:
    rows = row_statistics(z)
    return (rows.maximum + rows.log_total())[..., 0], (z, rows.stopped())


def _log_sum_exp_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array]:
    return (cotangent[..., None] * probabilities(*residuals),)


_softmax = closed_form(_softmax_forward, _softmax_backward)
_log_softmax = closed_form(_log_softmax_forward, _log_softmax_backward)
_log_sum_exp = closed_form(_log_sum_exp_forward, _log_sum_exp_backward)


# --- from the logits and their row statistics ------------------------------------------------------------------------


def probabilities(z: Array, rows: Rows) -> Array:
    """``p``; gradient J(p) g."""
    return _probabilities(rows.plan, z, *rows.stopped())


def log_probabilities(z: Array, rows: Rows) -> Array:
    """``log p``; gradient -residual(z, g)."""
    return _log_probabilities(rows.plan, z, *rows.stopped())


def log_partition(z: Array, rows: Rows) -> Array:
    """The log-sum-exp, with the class axis kept; gradient p."""
    return _log_partition(rows.plan, z, *rows.stopped())


def residual_at_pivot(z: Array, rows: Rows) -> Array:
    """``p - e_i`` with e_i the one-hot of the pivot: theorem 4.1.5's gradient, where the pivot is the label."""
    return _residual_at_pivot(rows.plan, z, *rows.stopped())


def residual(z: Array, rows: Rows, targets: Array) -> Array:
    """``(Σt) p - t``, the gradient of a cross-entropy with (unnormalised) target t.

    At the pivot it is  ((Σ_{j≠i} t_j) own - t_i rest)/total: what cancels in (Σt) p_i - t_i has been cancelled on
    paper, and a one-hot target is as accurate as a label.
    """
    return _residual(rows.plan, z, *rows.stopped(), targets)


def fisher_product(z: Array, rows: Rows, v: Array) -> Array:
    """``J(p) v = p∘(v - <p, v>)`` without the C×C matrix.

    v is measured from its value at the pivot, so that a confident row does not subtract two nearby numbers there.
    """
    p = probabilities(z, rows)
    relative = v - rows.at_pivot(v)
    return p * (relative - rows.sum(p * relative))


def _with_no_own_derivative(rows: Rows, *cotangents: Array) -> tuple[Array | None, ...]:
    """The cotangents of (z, *rows, *others): z's is total, the statistics have none left."""
    in_z, *others = cotangents
    _, *parts = rows
    return in_z, None, *(jnp.zeros_like(part) for part in parts), *others


def _probabilities_forward(plan: Plan, z: Array, *statistics: Any) -> tuple[Array, Any]:
    rows = Rows(*statistics, plan=plan)
    return p_of(z, rows), (z, rows)


def _probabilities_backward(_: Plan, residuals: Any, cotangent: Array) -> tuple[Array | None, ...]:
    z, rows = residuals
    return _with_no_own_derivative(rows, fisher_product(z, rows, cotangent))


def _log_probabilities_forward(plan: Plan, z: Array, *statistics: Any) -> tuple[Array, Any]:
    rows = Rows(*statistics, plan=plan)
    return -surprisal(z, rows), (z, rows)


def _log_probabilities_backward(_: Plan, residuals: Any, cotangent: Array) -> tuple[Array | None, ...]:
    z, rows = residuals
    return _with_no_own_derivative(rows, -residual(z, rows, cotangent))


def _log_partition_forward(plan: Plan, z: Array, *statistics: Any) -> tuple[Array, Any]:
    rows = Rows(*statistics, plan=plan)
    return rows.maximum + rows.log_total(), (z, rows)


def _log_partition_backward(_: Plan, residuals: Any, cotangent: Array) -> tuple[Array | None, ...]:
    z, rows = residuals
    each = cotangent if rows.over is None else lax.psum(cotangent, rows.over)  # every device has a copy of the output
    return _with_no_own_derivative(rows, each * probabilities(z, rows))


def _residual_at_pivot_forward(plan: Plan, z: Array, *statistics: Any) -> tuple[Array, Any]:
    rows = Rows(*statistics, plan=plan)
    return one_pivot_off(z, rows), (z, rows)


def _residual_forward(plan: Plan, z: Array, *statistics_and_targets: Any) -> tuple[Array, Any]:
    *statistics, targets = statistics_and_targets
    rows = Rows(*statistics, plan=plan)
    at_pivot = rows.is_pivot(z)
    mass = rows.sum(targets)
    elsewhere = rows.sum(jnp.where(at_pivot, 0, targets))
    own = (elsewhere * rows.own - targets * rows.rest) / rows.total()
    return jnp.where(at_pivot, own, mass * p_of(z, rows) - targets), (z, rows, targets)


def _residual_backward(_: Plan, residuals: Any, cotangent: Array) -> tuple[Array | None, ...]:
    z, rows, targets = residuals
    mass = rows.sum(targets)
    expected = rows.sum(probabilities(z, rows) * cotangent)
    return _with_no_own_derivative(rows, mass * fisher_product(z, rows, cotangent), expected - cotangent)


_probabilities = closed_form(_probabilities_forward, _probabilities_backward)
_log_probabilities = closed_form(_log_probabilities_forward, _log_probabilities_backward)
_log_partition = closed_form(_log_partition_forward, _log_partition_backward)
_residual_at_pivot = closed_form(_residual_at_pivot_forward, _probabilities_backward)  # differs from p by a constant
_residual = closed_form(_residual_forward, _residual_backward)
