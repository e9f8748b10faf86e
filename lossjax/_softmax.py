"""The softmax family on the last axis: a few row statistics, and the functions that call for nothing else.

Leave one class i, the pivot, out of the sum. With m = max z, E_j = exp(z_j - m), own = E_i and rest = Σ_{j≠i} E_j,

    p_j = E_j/(own + rest)      p_i - 1 = -rest/(own + rest)      -log p_k = (m - z_k) + log1p((own - 1) + rest)

hold whichever class the pivot is, and cancel nowhere if it is the label (then its p - 1 is what is wanted) or a
maximum (then no other p exceeds 1/2, and own = 1). The pivot is an index, never the test "z equals its maximum": logits
that a fusion computes twice may differ in their last bit, and a test that no entry passes would lose the row.

The derivatives form a closed family, so that every order of differentiation meets only the functions below:

    d log_softmax(z)·g  ->  g - (Σg) p            = -residual(z, g)
    d softmax(z)·g      ->  p∘(g - <p, g>)        = J(p) g, symmetric
    d residual(z, t)    ->  (Σt) J(p)  in z,  <u, p> - u  in t,   where residual(z, t) = (Σt) p - t

Two kinds of functions. ``softmax``, ``log_softmax`` and ``log_sum_exp`` start from the logits. Backward passes use the
rest, which take the row statistics of the forward pass as arguments (the only residuals beside the logits). The rules
of these give the total derivative in z, the statistics' part included, so the statistics enter with their gradient
stopped and have none of their own.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from lossjax._autodiff import closed_form
from lossjax.numerics import two_difference


class Rows(NamedTuple):
    """Per-row statistics, class axis kept as 1: the pivot and its logit, the maximum, the parts of Σ exp(z - m)."""

    pivot: Array
    logit: Array
    maximum: Array
    own: Array
    rest: Array

    def total(self) -> Array:
        """Σ exp(z - m)."""
        return self.own + self.rest

    def log_total(self) -> Array:
        """Its logarithm: to full relative accuracy if the pivot is a maximum, to u absolute otherwise."""
        return jnp.log1p((self.own - 1) + self.rest)

    def is_pivot(self, z: Array) -> Array:
        return lax.broadcasted_iota(self.pivot.dtype, z.shape, z.ndim - 1) == self.pivot

    def stopped(self) -> "Rows":
        return Rows(self.pivot, *(lax.stop_gradient(part) for part in self[1:]))


def shifted_exponential(z: Array, maximum: Array) -> Array:
    """``exp(z - maximum)``, exactly 1 at the maximum (infinite or not).

    The rounding error e of the difference is folded back in, exp(d + e) = exp(d)(1 + e) to e² < u: without it an
    entry with a gap of g is off by g·u.

    Infinities have no rounding error, and a select in this loop keeps XLA's CPU backend from fusing it into a sum. So
    the logits are clamped instead, to between the maximum and a floor so far below it that the exponential is 0.
    """
    largest = float(jnp.finfo(z.dtype).max)
    ceiling = jnp.clip(maximum, -largest, largest)
    floor = jnp.maximum(ceiling - jnp.maximum(1e4, jnp.abs(ceiling) * 2.0**-12), -largest)
    difference, error = two_difference(jnp.minimum(jnp.maximum(z, floor), ceiling), ceiling)
    exponential = jnp.exp(difference)
    return exponential + exponential * error


def row_statistics(z: Array, pivot: Array | None = None) -> Rows:
    """The statistics of each row, about the class indices ``pivot`` (shape of the rows), or about a maximum.

    A row with NaN, with two +inf, or with nothing but -inf has NaN for its parts.
    """
    index = jnp.argmax(z, axis=-1, keepdims=True) if pivot is None else pivot[..., None]
    maximum = jnp.max(z, axis=-1, keepdims=True)
    logit, rest = _sum_without(z, index, maximum)
    own = shifted_exponential(logit, maximum)
    # With a maximum of +inf every finite entry has E = 0, so that own + rest counts the infinities.
    defined = jnp.isfinite(maximum) | (jnp.isposinf(maximum) & (own + rest == 1))
    return Rows(index, logit, maximum, *(jnp.where(defined, part, jnp.nan) for part in (own, rest)))


def _sum_without(z: Array, index: Array, maximum: Array) -> tuple[Array, Array]:
    """``z_i`` and ``Σ_{j≠i} exp(z_j - m)``, class axis kept; (0, the whole sum) for an index that is no class.

    A long row is summed in blocks: all of them without a mask, which XLA's CPU backend would neither vectorise nor
    fuse, and the pivot's block once more with one, to replace its sum.
    """
    block = _block_size(z.shape[-1])
    if block is None:
        here = lax.broadcasted_iota(index.dtype, z.shape, z.ndim - 1) == index
        return _sum(jnp.where(here, z, 0)), _sum(jnp.where(here, 0, shifted_exponential(z, maximum)))
    blocks = z.reshape(*z.shape[:-1], z.shape[-1] // block, block)
    sums = jnp.sum(shifted_exponential(blocks, maximum[..., None]), axis=-1)
    which = lax.broadcasted_iota(index.dtype, sums.shape, sums.ndim - 1) == index // block
    own_block = jnp.take_along_axis(blocks, (index // block)[..., None], axis=-2, mode="clip")[..., 0, :]
    at_pivot, without = _sum_without(own_block, index - index // block * block, maximum)
    return at_pivot, _sum(jnp.where(which, without, sums))


def _sum(x: Array) -> Array:
    return jnp.sum(x, axis=-1, keepdims=True)


@functools.cache
def _block_size(classes: int) -> int | None:
    """A divisor of the class count between 128 and 1024, the nearest to 512; None for short rows, or without one."""
    divisors = [d for d in range(128, 1025) if classes % d == 0] if classes > 1024 else []
    return min(divisors, key=lambda d: abs(d - 512), default=None)


def gaps(z: Array, rows: Rows) -> Array:
    """``m - z_k``; 0 at the maximum, infinite or not.

    Without a select, for the reason above: under a maximum of +inf the gap to the largest number is lifted to infinity.
    """
    largest = float(jnp.finfo(z.dtype).max)
    ceiling = jnp.clip(rows.maximum, -largest, largest)
    gap = ceiling - jnp.minimum(z, ceiling)
    lift = jnp.minimum(gap, 1) * jnp.where(jnp.isposinf(rows.maximum), largest, 0)
    return gap + lift + lift


def surprisal(z: Array, rows: Rows) -> Array:
    """``-log p_k`` of the logits z (all, or the pivot's): the sum of two non-negative terms; a formula, not a rule."""
    return gaps(z, rows) + rows.log_total()


def p_of(z: Array, rows: Rows) -> Array:
    """``p``, a formula (rules use :func:`probabilities`)."""
    return shifted_exponential(z, rows.maximum) / rows.total()


def one_pivot_off(z: Array, rows: Rows) -> Array:
    """``p - e_i``, a formula (rules use :func:`residual_at_pivot`)."""
    return jnp.where(rows.is_pivot(z), -rows.rest / rows.total(), p_of(z, rows))


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
    rows = row_statistics(z)
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
    return _probabilities(None, z, *rows.stopped())


def log_probabilities(z: Array, rows: Rows) -> Array:
    """``log p``; gradient -residual(z, g)."""
    return _log_probabilities(None, z, *rows.stopped())


def log_partition(z: Array, rows: Rows) -> Array:
    """The log-sum-exp, with the class axis kept; gradient p."""
    return _log_partition(None, z, *rows.stopped())


def residual_at_pivot(z: Array, rows: Rows) -> Array:
    """``p - e_i`` with e_i the one-hot of the pivot: theorem 4.1.5's gradient, where the pivot is the label."""
    return _residual_at_pivot(None, z, *rows.stopped())


def residual(z: Array, rows: Rows, targets: Array) -> Array:
    """``(Σt) p - t``, the gradient of a cross-entropy with (unnormalised) target t.

    At the pivot it is  ((Σ_{j≠i} t_j) own - t_i rest)/total: what cancels in (Σt) p_i - t_i has been cancelled on
    paper, and a one-hot target is as accurate as a label.
    """
    return _residual(None, z, *rows.stopped(), targets)


def fisher_product(z: Array, rows: Rows, v: Array) -> Array:
    """``J(p) v = p∘(v - <p, v>)`` without the C×C matrix.

    v is measured from its value at the pivot, so that a confident row does not subtract two nearby numbers there.
    """
    p = probabilities(z, rows)
    relative = v - jnp.sum(jnp.where(rows.is_pivot(z), v, 0), axis=-1, keepdims=True)
    return p * (relative - jnp.sum(p * relative, axis=-1, keepdims=True))


def _with_no_own_derivative(rows: Rows, *cotangents: Array) -> tuple[Array | None, ...]:
    """The cotangents of (z, *rows, *others): z's is total, the statistics have none left."""
    in_z, *others = cotangents
    return in_z, None, *(jnp.zeros_like(part) for part in rows[1:]), *others


def _probabilities_forward(_: None, z: Array, *statistics: Array) -> tuple[Array, Any]:
    rows = Rows(*statistics)
    return p_of(z, rows), (z, rows)


def _probabilities_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array | None, ...]:
    z, rows = residuals
    return _with_no_own_derivative(rows, fisher_product(z, rows, cotangent))


def _log_probabilities_forward(_: None, z: Array, *statistics: Array) -> tuple[Array, Any]:
    rows = Rows(*statistics)
    return -surprisal(z, rows), (z, rows)


def _log_probabilities_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array | None, ...]:
    z, rows = residuals
    return _with_no_own_derivative(rows, -residual(z, rows, cotangent))


def _log_partition_forward(_: None, z: Array, *statistics: Array) -> tuple[Array, Any]:
    rows = Rows(*statistics)
    return rows.maximum + rows.log_total(), (z, rows)


def _log_partition_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array | None, ...]:
    z, rows = residuals
    return _with_no_own_derivative(rows, cotangent * probabilities(z, rows))


def _residual_at_pivot_forward(_: None, z: Array, *statistics: Array) -> tuple[Array, Any]:
    rows = Rows(*statistics)
    return one_pivot_off(z, rows), (z, rows)


def _residual_forward(_: None, z: Array, *statistics_and_targets: Array) -> tuple[Array, Any]:
    *statistics, targets = statistics_and_targets
    rows = Rows(*statistics)
    at_pivot = rows.is_pivot(z)
    mass = jnp.sum(targets, axis=-1, keepdims=True)
    elsewhere = jnp.sum(jnp.where(at_pivot, 0, targets), axis=-1, keepdims=True)
    own = (elsewhere * rows.own - targets * rows.rest) / rows.total()
    return jnp.where(at_pivot, own, mass * p_of(z, rows) - targets), (z, rows, targets)


def _residual_backward(_: None, residuals: Any, cotangent: Array) -> tuple[Array | None, ...]:
    z, rows, targets = residuals
    mass = jnp.sum(targets, axis=-1, keepdims=True)
    expected = jnp.sum(probabilities(z, rows) * cotangent, axis=-1, keepdims=True)
    return _with_no_own_derivative(rows, mass * fisher_product(z, rows, cotangent), expected - cotangent)


_probabilities = closed_form(_probabilities_forward, _probabilities_backward)
_log_probabilities = closed_form(_log_probabilities_forward, _log_probabilities_backward)
_log_partition = closed_form(_log_partition_forward, _log_partition_backward)
_residual_at_pivot = closed_form(_residual_at_pivot_forward, _probabilities_backward)  # differs from p by a constant
_residual = closed_form(_residual_forward, _residual_backward)
