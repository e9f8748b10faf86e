"""The softmax family on the last axis, closed under differentiation.

In the symbols of ``row_statistics.py``, every order of differentiation meets only the functions below:

    d log_softmax(z)·g  ->  g - (Σg) p            = -slope(z, g)
    d softmax(z)·g      ->  p∘(g - <p, g>)        = J(p) g, symmetric
    d slope(z, t)       ->  (Σt) J(p)  in z,  <u, p> - u  in t,   where slope(z, t) = (Σt) p - t

Two kinds of functions. ``softmax``, ``log_softmax`` and ``log_sum_exp`` start from the logits. Backward passes use the
rest, which take the row statistics of the forward pass as an argument (all that is saved beside the logits). The rules
of these give the total derivative in z, the statistics' part included, so the statistics enter with their gradient
stopped and have none of their own.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form, zeros_like
from lossjax._softmax.row_statistics import Plan, RowStatistics, p_minus_one_hot_of, p_of, row_statistics, surprisal

# --- from the logits -------------------------------------------------------------------------------------------------


def _softmax_forward(z: Array) -> tuple[Array, Any]:
    rows = row_statistics(z, plan=Plan(reused=True))
    return p_of(z, rows), (z, rows.stopped())


def _softmax_backward(saved: Any, cotangent: Array) -> tuple[Array]:
    z, rows = saved
    return (fisher_product(z, rows, cotangent),)


def _log_softmax_forward(z: Array) -> tuple[Array, Any]:
    rows = row_statistics(z)
    return -surprisal(z, rows), (z, rows.stopped())


def _log_softmax_backward(saved: Any, cotangent: Array) -> tuple[Array]:
    z, rows = saved
    return (-cross_entropy_slope(z, rows, cotangent),)


def _log_sum_exp_forward(z: Array) -> tuple[Array, Any]:
    rows = row_statistics(z)
    return (rows.maximum + rows.log_total())[..., 0], (z, rows.stopped())


def _log_sum_exp_backward(saved: Any, cotangent: Array) -> tuple[Array]:
    z, rows = saved
    return (cotangent[..., None] * probabilities(z, rows),)


softmax = closed_form(_softmax_forward, _softmax_backward)
"""``p``, over the last axis."""
log_softmax = closed_form(_log_softmax_forward, _log_softmax_backward)
"""``log p``, over the last axis, accurate where p_k is near 1."""
log_sum_exp = closed_form(_log_sum_exp_forward, _log_sum_exp_backward)
"""``log Σ exp z`` over the last axis."""


# --- from the logits and their row statistics ------------------------------------------------------------------------


def probabilities(z: Array, rows: RowStatistics) -> Array:
    """``p``; gradient J(p) g."""
    return _probabilities(z, rows.stopped())


def log_probabilities(z: Array, rows: RowStatistics) -> Array:
    """``log p``; gradient -slope(z, g)."""
    return _log_probabilities(z, rows.stopped())


def log_partition(z: Array, rows: RowStatistics) -> Array:
    """The log-sum-exp, with the class axis kept; gradient p."""
    return _log_partition(z, rows.stopped())


def p_minus_one_hot(z: Array, rows: RowStatistics) -> Array:
    """``p - e_i`` with e_i the one-hot of the pivot: theorem 4.1.5's gradient, where the pivot is the label."""
    return _p_minus_one_hot(z, rows.stopped())


def cross_entropy_slope(z: Array, rows: RowStatistics, targets: Array) -> Array:
    """``(Σt) p - t``, the gradient of a cross-entropy with (unnormalised) target t.

    At the pivot it is  ((Σ_{j≠i} t_j) own - t_i rest)/total: what cancels in (Σt) p_i - t_i has been cancelled on
    paper, and a one-hot target is as accurate as a label.
    """
    return _cross_entropy_slope(z, rows.stopped(), targets)


def fisher_product(z: Array, rows: RowStatistics, v: Array) -> Array:
    """``J(p) v = p∘(v - <p, v>)`` without the C×C matrix.

    v is measured from its value at the pivot, so that a confident row does not subtract two nearby numbers there.
    """
    p = probabilities(z, rows)
    relative = v - rows.at_pivot(v)
    return p * (relative - rows.sum(p * relative))


def _probabilities_forward(z: Array, rows: RowStatistics) -> tuple[Array, Any]:
    return p_of(z, rows), (z, rows)


def _probabilities_backward(saved: Any, cotangent: Array) -> tuple[Array, Any]:
    z, rows = saved
    return fisher_product(z, rows, cotangent), zeros_like(rows)


def _log_probabilities_forward(z: Array, rows: RowStatistics) -> tuple[Array, Any]:
    return -surprisal(z, rows), (z, rows)


def _log_probabilities_backward(saved: Any, cotangent: Array) -> tuple[Array, Any]:
    z, rows = saved
    return -cross_entropy_slope(z, rows, cotangent), zeros_like(rows)


def _log_partition_forward(z: Array, rows: RowStatistics) -> tuple[Array, Any]:
    return rows.maximum + rows.log_total(), (z, rows)


def _log_partition_backward(saved: Any, cotangent: Array) -> tuple[Array, Any]:
    z, rows = saved
    each = cotangent if rows.over is None else lax.psum(cotangent, rows.over)  # every device has a copy of the output
    return each * probabilities(z, rows), zeros_like(rows)


def _p_minus_one_hot_forward(z: Array, rows: RowStatistics) -> tuple[Array, Any]:
    return p_minus_one_hot_of(z, rows), (z, rows)


def _cross_entropy_slope_forward(z: Array, rows: RowStatistics, targets: Array) -> tuple[Array, Any]:
    at_pivot = rows.is_pivot(z)
    mass = rows.sum(targets)
    elsewhere = rows.sum(jnp.where(at_pivot, 0, targets))
    own = (elsewhere * rows.own - targets * rows.rest) / rows.total()
    return jnp.where(at_pivot, own, mass * p_of(z, rows) - targets), (z, rows, targets)


def _cross_entropy_slope_backward(saved: Any, cotangent: Array) -> tuple[Array, Any, Array]:
    z, rows, targets = saved
    mass = rows.sum(targets)
    expected = rows.sum(probabilities(z, rows) * cotangent)
    return mass * fisher_product(z, rows, cotangent), zeros_like(rows), expected - cotangent


_probabilities = closed_form(_probabilities_forward, _probabilities_backward)
_log_probabilities = closed_form(_log_probabilities_forward, _log_probabilities_backward)
_log_partition = closed_form(_log_partition_forward, _log_partition_backward)
_p_minus_one_hot = closed_form(_p_minus_one_hot_forward, _probabilities_backward)  # it differs from p by a constant
_cross_entropy_slope = closed_form(_cross_entropy_slope_forward, _cross_entropy_slope_backward)
