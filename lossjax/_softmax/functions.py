"""The softmax family on the last axis, closed under differentiation.

In the symbols of ``row_statistics.py``, every order of differentiation meets only the functions below:

    d log_softmax(z)·g  ->  g - (Σg) p            = -slope(z, g)
    d softmax(z)·g      ->  p∘(g - <p, g>)        = J(p) g, symmetric

Reverse mode executes a backward pass as it is written; forward mode, and a derivative of reverse mode, execute its
transpose, and the transpose of an accurate expression may cancel. So the two expressions that are linear in a
cotangent, ``cross_entropy_slope`` and ``centered``, are written in sums and products of the accurate functions p and
p - e_i alone, such that the transpose of either one, operation by operation, is the other.

Two kinds of functions. ``softmax``, ``log_softmax`` and ``log_sum_exp`` start from the logits. Backward passes use the
rest, which take the row statistics of the forward pass as an argument (all that is saved beside the logits). The rules
of these give the total derivative in z, the statistics' part included, so the statistics enter with their gradient
stopped and have none of their own.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form, known_as, zeros_like
from lossjax._core.xla import is_finite
from lossjax._softmax import terms
from lossjax._softmax.fused_rows import Fused
from lossjax._softmax.kernels import with_kernels
from lossjax._softmax.row_statistics import (
    Plan,
    RowStatistics,
    p_minus_one_hot_of,
    p_of,
    row_statistics,
    surprisal,
)
from lossjax._softmax.row_sum import Arrays, are_cut, class_index, sum_over_classes
from lossjax._softmax.terms import Term
from lossjax._softmax.transform import AS_STORED, View
from lossjax.numerics import times

# --- from the logits -------------------------------------------------------------------------------------------------


def _softmax_forward(z: Array, dtype: Any) -> tuple[Array, Any]:
    # In the dtype of the logits, and so is its cotangent: made wider as a whole, that would be an array of its own.
    rows = row_statistics(z, plan=Plan.of(z, dtype, differentiated=True), dtype=dtype)
    return p_of(z, rows).astype(z.dtype), (z, rows.stopped())


def _softmax_backward(saved: Any, cotangent: Array) -> tuple[Array, None]:
    z, rows = saved
    dtype = rows.maximum.dtype
    if not are_cut((z, cotangent), dtype):
        return fisher_product(z, rows, cotangent.astype(dtype)), None
    value = _fisher_product_by_sums(*lax.stop_gradient((z, rows, cotangent)))
    return _fisher_product_of(value, z, rows, cotangent.astype(dtype)), None


def _log_softmax_forward(z: Array, dtype: Any) -> tuple[Array, Any]:
    rows = row_statistics(z, dtype=dtype)
    return -surprisal(z, rows), (z, rows.stopped())


def _log_softmax_backward(saved: Any, cotangent: Array) -> tuple[Array, None]:
    z, rows = saved
    return -cross_entropy_slope(z, rows, cotangent), None


def _log_sum_exp_forward(z: Array, dtype: Any) -> tuple[Array, Any]:
    rows = row_statistics(z, plan=Plan(empty=True), dtype=dtype)
    return (rows.maximum + rows.log_total())[..., 0], (z, rows.stopped())


def _log_sum_exp_backward(saved: Any, cotangent: Array) -> tuple[Array, None]:
    z, rows = saved
    return cotangent[..., None] * probabilities(z, rows), None


_OF_LOGARITHM = Fused(3, stored=True), Fused(4)
_softmax = closed_form(*with_kernels(_softmax_forward, _softmax_backward, held=5, fused=(Fused(1), Fused(2))))
_log_softmax = closed_form(*with_kernels(_log_softmax_forward, _log_softmax_backward, held=6, fused=_OF_LOGARITHM))
_log_sum_exp = closed_form(_log_sum_exp_forward, _log_sum_exp_backward)


def softmax(z: Array, dtype: Any = None) -> Array:
    """``p`` over the last axis, computed in this dtype, the logits' own by default, and rounded to theirs."""
    return _softmax(z, dtype or z.dtype)


def log_softmax(z: Array, dtype: Any = None) -> Array:
    """``log p`` in this dtype, accurate where p_k is near 1; so the function below."""
    return _log_softmax(z, dtype or z.dtype)


def log_sum_exp(z: Array, dtype: Any = None) -> Array:
    """``log Σ exp z``; -inf, with gradient 0, for a row of nothing but -inf."""
    return _log_sum_exp(z, dtype or z.dtype)


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


def _target_at_pivot_and_elsewhere(targets: Array, rows: RowStatistics) -> tuple[Array, Array]:
    return rows.at_pivot(targets), rows.sum(jnp.where(rows.is_pivot(targets), 0, targets))


_known_sums = known_as(_target_at_pivot_and_elsewhere)


def cross_entropy_slope(
    z: Array, rows: RowStatistics, targets: Array, sums: tuple[Array, Array] | None = None
) -> Array:
    """``(Σt) p - t``, the gradient of a cross-entropy with (unnormalised) target t; linear in t.

    ``sums`` are t_i and Σ_{j≠i} t_j, where they are known already.

    Written as  (Σ_{j≠i} t_j) p + t_i (p - e_i) - Σ_{j≠i} t_j e_j:  a one-hot target is as accurate as a label, and so
    is the transpose, which is minus :func:`centered`.
    """
    if sums is None:
        own, others = _target_at_pivot_and_elsewhere(targets, rows)
    else:
        own, others = _known_sums(sums, targets, rows)
    elsewhere = jnp.where(rows.is_pivot(z), 0, targets)
    return others * probabilities(z, rows) + own * p_minus_one_hot(z, rows) - elsewhere


def centered(z: Array, rows: RowStatistics, v: Array) -> Array:
    """``v - <p, v>``, the derivative of log p along v; linear in v.

    At the pivot it is  v_i (1 - p_i) - Σ_{j≠i} p_j v_j: what cancels where the pivot is nearly certain has been
    cancelled on paper. Each entry is within a few roundings of  |v_k| (1 - p_k) + Σ_{j≠k} p_j |v_j|, so that it is
    accurate in itself for a one-hot v. The transpose, as JAX forms it, is minus :func:`cross_entropy_slope`, as
    accurate.
    """
    return _centered(probabilities(z, rows), -p_minus_one_hot(z, rows), rows.is_pivot(z), v, rows.sum)


def centered_by(p: Array, v: Array) -> Array:
    """:func:`centered` for any distribution p over the last axis, given by its probabilities."""
    most_likely = jnp.argmax(p, axis=-1, keepdims=True)
    at_pivot = class_index(p, most_likely.dtype) == most_likely
    rest = sum_over_classes(jnp.where(at_pivot, 0, p))
    return _centered(p, rest, at_pivot, v, sum_over_classes)


def _centered(p: Array, complement: Array, at_pivot: Array, v: Array, total: Callable[[Array], Array]) -> Array:
    """``v - <p, v>``, given 1 - p at the pivot."""
    own, elsewhere = total(jnp.where(at_pivot, p * v, 0)), total(jnp.where(at_pivot, 0, p * v))
    return jnp.where(at_pivot, complement * v, v - own) - elsewhere


def fisher_product(z: Array, rows: RowStatistics, v: Array) -> Array:
    """``J(p) v = p∘(v - <p, v>)`` without the C×C matrix; its transpose, as JAX forms it, is J(p) as accurately.

    v is measured from its mean first. What the rounding of the mean leaves is removed by :func:`centered`, so that a
    number that all entries of v have in common, however large, is not felt.
    """
    p = probabilities(z, rows)
    return p * centered(z, rows, v - rows.sum(p * v))


def _weighed(entries: Any, rows: RowStatistics, mean: Array | None) -> Array:
    """``p_j (v_j - mean)``."""
    z, v, _ = entries
    v = v.astype(rows.maximum.dtype)
    return times(probabilities(z.astype(rows.maximum.dtype), rows), v if mean is None else v - mean)


def _fisher_product_by_sums(z: Array, rows: RowStatistics, v: Array) -> Array:
    """The value of :func:`fisher_product`, with no array beside z and v: its sums are sums of terms."""
    mean = terms.of_all(_weighed, (z, v), rows, None)
    own, elsewhere = (of(_weighed, (z, v), rows, mean) for of in (terms.of_pivot, terms.of_others))
    p, away = probabilities(z, rows), v.astype(rows.maximum.dtype) - mean
    complement = -p_minus_one_hot(z, rows)
    # The sums stand in the branches of a select, where XLA's CPU backend gives them to no library.
    return jnp.where(rows.is_pivot(z), p * (complement * away - elsewhere), p * (away - own - elsewhere))


def fisher_product_of(
    term: Term, arrays: Arrays, rows: RowStatistics, beside: Any, view: View = AS_STORED, mean: Array | None = None
) -> Array:
    """:func:`fisher_product` of v_k = term((*arrays_k, k), rows, beside), without an array of v, about a maximum i.

    v is measured from its value there:  p_k ((v_k - v_i) - Σ_{j≠i} p_j (v_j - v_i)),  and p is never subtracted from 1.
    What the rounding of the mean leaves is the mean of what is left, and is removed where v_k is close to it.

    Args:
      term: see ``terms.of_others``.
      arrays: the stored logits, and others.
      rows: their statistics.
      beside: what else the term needs.
      view: what the softmax sees of the logits.
      mean: the sum over j, if it is known.
    """
    z = view.of(arrays[0], rows.maximum.dtype).astype(rows.maximum.dtype)
    v = term((*arrays, rows.classes_of(z)), rows, beside)
    own = terms.of_pivot(term, arrays, rows, beside)
    if mean is None:
        mean = terms.of_others(_Weighed(term), arrays, rows, (own, None, view, beside))
    left = terms.of_others(_Weighed(term), arrays, rows, (own, mean, view, beside)) - rows.own / rows.total() * mean
    # A select: XLA's library of arithmetic on CPUs, which it does not go into, would be given an array of each operand.
    p = probabilities(z, rows)
    value = jnp.where(rows.is_pivot(z), -p * mean, times(p, ((v - own) - mean) - left))
    return _fisher_product_of(lax.stop_gradient(value), z, rows, jnp.where(is_finite(v), v, 0))


@dataclasses.dataclass(frozen=True)
class _Weighed:
    """``p_j ((v_j - v_i) - mean)``, of which impossible classes have no part."""

    term: Term

    def __call__(self, entries: Any, rows: RowStatistics, beside: Any) -> Array:
        own, mean, view, rest = beside
        p = probabilities(view.of(entries[0], rows.maximum.dtype).astype(rows.maximum.dtype), rows)
        distance = self.term(entries, rows, rest) - own
        return times(p, distance if mean is None else distance - mean)


_fisher_product_of = known_as(fisher_product)


def about_maximum(z: Array, rows: RowStatistics) -> RowStatistics:
    """The same row about its maximum: about a label, 1 - p would cancel at another class that is nearly certain."""
    if rows.of_maximum:
        return rows
    return row_statistics(z, plan=rows.plan).stopped().undefined_unless(~jnp.isnan(rows.rest[..., 0]))


def _probabilities_forward(z: Array, rows: RowStatistics) -> tuple[Array, Any]:
    return p_of(z, rows), (z, rows)


def _probabilities_backward(saved: Any, cotangent: Array) -> tuple[Array, Any]:
    z, rows = saved
    return fisher_product(z, about_maximum(z, rows), cotangent), zeros_like(rows)


def _log_probabilities_forward(z: Array, rows: RowStatistics) -> tuple[Array, Any]:
    return -surprisal(z, rows), (z, rows)


def _log_probabilities_backward(saved: Any, cotangent: Array) -> tuple[Array, Any]:
    z, rows = saved
    return -cross_entropy_slope(z, about_maximum(z, rows), cotangent), zeros_like(rows)


def _log_partition_forward(z: Array, rows: RowStatistics) -> tuple[Array, Any]:
    return rows.maximum + rows.log_total(), (z, rows)


def _log_partition_backward(saved: Any, cotangent: Array) -> tuple[Array, Any]:
    z, rows = saved
    each = cotangent if rows.over is None else lax.psum(cotangent, rows.over)  # every device has a copy of the output
    return each * probabilities(z, rows), zeros_like(rows)


def _p_minus_one_hot_forward(z: Array, rows: RowStatistics) -> tuple[Array, Any]:
    return p_minus_one_hot_of(z, rows), (z, rows)


_probabilities = closed_form(_probabilities_forward, _probabilities_backward)
_log_probabilities = closed_form(_log_probabilities_forward, _log_probabilities_backward)
_log_partition = closed_form(_log_partition_forward, _log_partition_backward)
_p_minus_one_hot = closed_form(_p_minus_one_hot_forward, _probabilities_backward)  # it differs from p by a constant
