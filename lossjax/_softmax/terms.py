"""Sums over the classes of terms of a row's logits, and the term of its pivot, without an array of the terms.

A term is a function of the logit, and of what else there is of a class, that is written once for all classes. In
backward passes it may have rules in it (``functions.py``), which are about whole rows.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import known_as
from lossjax._core.plain import rules_are_off, rules_off
from lossjax._softmax import row_sum
from lossjax._softmax.row_statistics import RowStatistics
from lossjax._softmax.row_sum import Arrays

Term = Callable[[Any, RowStatistics, Any], Array]
"""An elementwise function of the entries of some arrays, of what is known of their rows, and of what else it needs."""


def of_others(term: Term, arrays: Arrays, rows: RowStatistics, beside: Any, known: Array | None = None) -> Array:
    """``Σ_{k≠i} term((*arrays_k, k), rows, beside)``, i the pivot, with the class axis kept.

    An array of the terms is formed only where a backward pass is differentiated, as the sum of such an array. See
    ``row_sum.sum_of_others`` for the arguments. A sum that is ``known`` from the forward pass is not formed again, but
    where it is differentiated.
    """
    return _not_stored(_other_terms, _all_other_terms, (term, arrays, rows, beside), known)


def of_pivot(term: Term, arrays: Arrays, rows: RowStatistics, beside: Any, known: Array | None = None) -> Array:
    """``term((*arrays_i, i), rows, beside)``, i the pivot, with the class axis kept; its derivative, likewise."""
    return _not_stored(_term_of_pivot, _masked_term_of_pivot, (term, arrays, rows, beside), known)


def of_all(term: Term, arrays: Arrays, rows: RowStatistics, beside: Any) -> Array:
    """``Σ_k term((*arrays_k, k), rows, beside)``, with the class axis kept; over devices in one sum over them."""
    if rows.over is not None:
        return rows.sum(term(_with_classes(arrays, rows), rows, beside))
    return of_pivot(term, arrays, rows, beside) + of_others(term, arrays, rows, beside)


def _not_stored(sparing: Any, storing: Any, given: tuple[Term, Arrays, RowStatistics, Any], known: Any) -> Array:
    """One number per row, formed without an array of the terms.

    In a backward pass its derivative is that of the other way to it, where the rules give the statistics' part. In a
    forward pass it is a formula, which JAX differentiates in the body of a loop (see ``closed_form``).
    """
    term, arrays, rows, beside = given
    if known is not None and rows.constant:
        return _derived_from(known, storing, *given)
    if rules_are_off():
        return storing(*given)
    if not rows.constant:
        return sparing(*given)
    value = sparing(term, *jax.tree.map(lambda leaf: lax.stop_gradient(leaf), (arrays, rows, beside)))
    return _derived_from(value, storing, *given)


_derived_from = known_as(lambda storing, *given: storing(*given))


@dataclasses.dataclass(frozen=True)
class _OfOthers:
    """A term as ``row_sum`` calls it. The sum leaves the pivot out, whatever the term is there."""

    term: Term

    def __call__(self, *given: Any) -> Array:
        *arrays, (rows, beside) = given
        with rules_off():  # a derivative that goes through here is the formula's
            return self.term(tuple(arrays), dataclasses.replace(rows, asked=False), beside)


def _with_classes(arrays: Arrays, rows: RowStatistics) -> Arrays:
    return (*arrays, rows.classes_of(arrays[0]))


def _other_terms(term: Term, arrays: Arrays, rows: RowStatistics, beside: Any) -> Array:
    if rows.over is not None:  # a sum over the devices, which is known to be the same on all
        return _all_other_terms(term, arrays, rows, beside)
    return row_sum.sum_of_others(_OfOthers(term), rows.pivot, _with_classes(arrays, rows), (rows, beside))


def _all_other_terms(term: Term, arrays: Arrays, rows: RowStatistics, beside: Any) -> Array:
    return rows.sum(jnp.where(rows.is_pivot(arrays[0]), 0, term(_with_classes(arrays, rows), rows, beside)))


def _term_of_pivot(term: Term, arrays: Arrays, rows: RowStatistics, beside: Any) -> Array:
    entries = jax.tree.map(rows.entry_at_pivot, arrays)
    with rules_off():
        return term((*entries, rows.pivot), dataclasses.replace(rows, asked=True), beside)


def _masked_term_of_pivot(term: Term, arrays: Arrays, rows: RowStatistics, beside: Any) -> Array:
    return rows.at_pivot(jnp.broadcast_to(term(_with_classes(arrays, rows), rows, beside), arrays[0].shape))
