"""Two rows of logits beside each other: what is known of each class, and sums over the classes.

With p = softmax u and q = softmax v, divergences are sums over the classes of functions of p, q and d = log q - log p.
What has to be known is d. The gaps to the two maxima, with their rounding errors, are exact, and

    d = (gap_v - gap_u) - log(Σ e^gap_v / Σ e^gap_u).

In rows that are close this cancels. So let i be a most probable class under p, the pivot, and w the difference v - u
measured from its value at i:

    d = w - c,     c = log Σ p e^w = log1p(Σ_{j≠i} p_j (e^{w_j} - 1)) = log(p_i/q_i)

which is as accurate as w is, and is used where |c| < ½.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lossjax._core import checks
from lossjax._core.platform import by_platform
from lossjax._core.xla import written_down
from lossjax._softmax.row_statistics import Plan, RowStatistics, logit_at, row_statistics
from lossjax._softmax.row_sum import are_short, of_each_class, sum_of_others
from lossjax.numerics import exact_difference, times, xi_series


class Pair(NamedTuple):
    """A few numbers per row, with the class axis kept as 1: all that a backward pass needs beside the logits."""

    rows_u: RowStatistics
    rows_v: RowStatistics
    at_pivot: "Exact"
    """gap_v - gap_u at the pivot of u."""
    shift: Array
    """c where the row is close, log(Σ e^gap_v / Σ e^gap_u) elsewhere: d is what is left of the gaps' difference."""
    close: Array
    """Whether the gaps' difference is measured from the pivot, as w is. Then |c| < ½."""

    def undefined(self) -> Array:
        """Whether one of the rows is no row of logits, one boolean per row."""
        return jnp.isnan(self.rows_u.rest + self.rows_v.rest)


class Exact(NamedTuple):
    """A number and its rounding error."""

    rounded: Array
    error: Array

    def __sub__(self, other: "Exact") -> "Exact":
        return Exact(self.rounded - other.rounded, self.error - other.error)

    def value(self) -> Array:
        return self.rounded + self.error


def _gap(z: Array, maximum: Array) -> Exact:
    """``z - max z``, which is 0 at a maximum, infinite or not."""
    largest = float(jnp.finfo(maximum.dtype).max)
    wide = z.astype(maximum.dtype)
    # A select, which keeps a NaN: inside a fusion XLA's CPU backend may answer it with the other operand of a minimum.
    return Exact(*exact_difference(jnp.where(wide > largest, largest, wide), jnp.clip(maximum, -largest, largest)))


class Class(NamedTuple):
    """Of one class, or of many: its two probabilities, and its gaps."""

    p: Array
    q: Array
    gap_u: Exact
    gap_v: Exact
    excluded: Array
    """Whether it is possible under p and impossible under q."""

    def w(self, pair: Pair) -> Array:
        return ((self.gap_v - self.gap_u) - pair.at_pivot).value()

    def d(self, pair: Pair) -> Array:
        origin = Exact(*(jnp.where(pair.close, part, 0) for part in pair.at_pivot))
        return ((self.gap_v - self.gap_u) - origin).value() - pair.shift


@jax.jit
def class_of(u: Array, v: Array, rows_u: RowStatistics, rows_v: RowStatistics) -> Class:
    """What is known of the classes with these logits; jitted, so that JAX traces it once for all sums over them."""
    gap_u, gap_v = _gap(u, rows_u.maximum), _gap(v, rows_v.maximum)
    p, q = _probability(gap_u, rows_u), _probability(gap_v, rows_v)
    excluded = _impossible(v, rows_v) & ~_impossible(u, rows_u) | jnp.isneginf(gap_v.rounded) & (p > 0)
    return Class(p, q, gap_u, gap_v, excluded)


def _probability(gap: Exact, rows: RowStatistics) -> Array:
    exponential = jnp.exp(gap.rounded)
    return (exponential + exponential * gap.error) * (1 / rows.total())  # one division a row: they are slow


def _impossible(z: Array, rows: RowStatistics) -> Array:
    """Whether p is 0: under a finite maximum at -inf, under a maximum of +inf at everything else."""
    largest = float(jnp.finfo(rows.maximum.dtype).max)
    return z <= jnp.where(jnp.isposinf(rows.maximum), largest, -jnp.inf).astype(z.dtype)


def where_near(x: Array, high: float) -> tuple[Array, Array]:
    """Whether x lies where the series of ξ is good, and x there, 0 elsewhere."""
    near = (x > -1) & (x < high)
    return near, jnp.where(near, x, 0)


def rows_of(over: str | None, z: Array, dtype: Any, about: Array | None = None) -> RowStatistics:
    """What is known of a row, about a maximum, or about the class of another row's pivot."""
    return row_statistics(z, None if about is None else about[..., 0], plan=Plan(over), dtype=dtype)


def pair_of(rows_u: RowStatistics, rows_v: RowStatistics, v_there: Array) -> tuple[Pair, Class]:
    """What the two rows are, but for c, and the pivot among their classes; ``v_there`` is the logit of v at it."""
    pivot = class_of(rows_u.pivot_logit, v_there, rows_u, rows_v)
    at_pivot = pivot.gap_v - pivot.gap_u
    total = jnp.log(rows_v.total() / rows_u.total())
    close = jnp.abs(total - at_pivot.value()) < 0.5
    at_pivot = Exact(*(jnp.where(jnp.isfinite(at_pivot.rounded), part, 0) for part in at_pivot))
    return stored_on_chips((Pair(rows_u, rows_v, at_pivot, total, close), pivot))


def stored_on_chips(numbers: Any) -> Any:
    """A few numbers a row, which a program for a GPU or TPU stores before arrays are made of them."""
    return by_platform(numbers, accelerator=written_down, otherwise=_as_they_are)


def _as_they_are(numbers: Any) -> Any:
    return numbers


def compare(over: str | None, u: Array, v: Array) -> tuple[Pair, Class]:
    """What the two rows are, and the pivot among their classes."""
    dtype = checks.compute_dtype(u, v)
    rows_u, rows_v = (rows_of(over, z, dtype) for z in (u, v))
    pair, pivot = pair_of(rows_u, rows_v, logit_there(v, rows_u))
    grown = sum_over_others(_growth, pair.rows_u, (u, v), (pair, odds(pivot, pair.close)))
    c = jnp.log1p(jnp.where(pair.close, grown, 0))
    return pair._replace(shift=jnp.where(pair.close, c, pair.shift)), pivot


def odds(pivot: Class, close: Array) -> Array:
    """``p_i/q_i`` where the rows are close, 1 elsewhere."""
    return jnp.where(close, pivot.p / jnp.where(close, pivot.q, 1), 1)


def logit_there(z: Array, rows: RowStatistics) -> Array:
    """The logit of another row at the pivot of this one, class axis kept."""
    found = logit_at(z, rows.pivot, rows.over)
    return found if rows.over is None else jax.lax.psum(found, rows.over)


def sum_over_others(term: Any, rows: RowStatistics, arrays: tuple[Array, ...], numbers: Any) -> Array:
    """The sum of the terms of all classes, on all devices, but the pivot."""
    total = sum_of_others(term, rows.pivot, arrays, stored_on_chips(numbers))
    return total if rows.over is None else jax.lax.psum(total, rows.over)


def sums_over_others(
    terms: Sequence[tuple[Any, Any]], rows: RowStatistics, arrays: tuple[Array, ...], reduce: Any
) -> tuple[Array, ...]:
    """Several sums over all classes but the pivot in one reduction, of which a GPU or TPU makes one reading.

    Args:
      terms: pairs of a term and its numbers, as :func:`sum_over_others` takes them.
      rows: of the array whose pivot is left out; all classes on one device.
      arrays: as in :func:`sum_over_others`.
      reduce: as ``lax.reduce``.
    """
    is_pivot = rows.is_pivot(arrays[0])
    each = tuple(jnp.where(is_pivot, 0, term(*arrays, written_down(numbers))) for term, numbers in terms)
    starts = tuple(jnp.zeros((), term.dtype) for term in each)
    found = reduce(each, starts, _added, (arrays[0].ndim - 1,))
    return tuple(total[..., None] for total in found)


def _added(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(one + other for one, other in zip(a, b, strict=True))


def _growth(u: Array, v: Array, rows: tuple[Pair, Array]) -> Array:
    """``p (e^w - 1)``, where e^w is q/p over its value at the pivot."""
    pair, ratio = rows
    one = class_of(u, v, pair.rows_u, pair.rows_v)
    near, w = where_near(one.w(pair), 1)
    return jnp.where(near, one.p * (w + xi_series(w, 1)), one.q * ratio - one.p)


def stopped(pair: Pair) -> Pair:
    return jax.tree.map(jax.lax.stop_gradient, pair)


@dataclasses.dataclass(frozen=True)
class _FromPivots:
    """What ``shares`` says of each class, measured from its values at the two pivots."""

    shares: Callable[..., tuple[Array, Array]]

    def __call__(self, u: Array, v: Array, classes: Array, rows: Any) -> tuple[Array, Array]:
        numbers, origins = rows
        pair = numbers[0]
        measured = self.shares(class_of(u, v, pair.rows_u, pair.rows_v), *numbers)
        pivots = pair.rows_u.pivot, pair.rows_v.pivot
        a, b = (jnp.where(classes == i, 0, x - at) for i, x, at in zip(pivots, measured, origins, strict=True))
        return a, b


def _weighted(z: Array, share: Array, rows: RowStatistics) -> Array:
    return times(_probability(_gap(z, rows.maximum), rows), share)


def _about_means(u: Array, v: Array, a: Array, b: Array, rows: Any) -> tuple[Array, Array]:
    pair, mean_a, mean_b = rows
    return _weighted(u, a - mean_a, pair.rows_u), _weighted(v, b - mean_b, pair.rows_v)


@dataclasses.dataclass(frozen=True)
class _WeightedFromPivots:
    """``p a`` or ``q b``, with a and b formed anew."""

    of: _FromPivots
    which: int

    def __call__(self, u: Array, v: Array, classes: Array, rows: Any) -> Array:
        pair = rows[0][0]
        z, of_row = ((u, pair.rows_u), (v, pair.rows_v))[self.which]
        return _weighted(z, self.of(u, v, classes, rows)[self.which], of_row)


@dataclasses.dataclass(frozen=True)
class _AboutMeansFromPivots:
    """Both slopes, with a and b formed anew."""

    of: _FromPivots

    def __call__(self, u: Array, v: Array, classes: Array, rows: Any) -> tuple[Array, Array]:
        of_pivots, means = rows
        return _about_means(u, v, *self.of(u, v, classes, of_pivots), (of_pivots[0][0], *means))


def slopes_of_shares(
    shares: Callable[..., tuple[Array, Array]], u: Array, v: Array, pair: Pair, *more: Array
) -> tuple[Array, Array]:
    """``p∘(a - <p, a>)`` and ``q∘(b - <q, b>)`` with ``(a, b) = shares(class, pair, *more)`` of each class.

    <p, a> is measured from the value of a at the pivot of u, and <q, b> from that of b at the pivot of v. Two passes
    over the classes want each share: a CPU stores it, where the gradient will be, for there logarithms cost more than
    memory; GPU and TPU form it twice.
    """
    rows_u, rows_v = pair.rows_u, pair.rows_v
    numbers = (pair, *more)
    at_u = class_of(rows_u.pivot_logit, logit_there(v, rows_u), rows_u, rows_v)
    at_v = class_of(logit_there(u, rows_v), rows_v.pivot_logit, rows_u, rows_v)
    origins = shares(at_u, *numbers)[0], shares(at_v, *numbers)[1]
    measured, arrays, of_pivots = _FromPivots(shares), (u, v, rows_u.classes_of(u)), (numbers, origins)
    if are_short(arrays):  # class by class a stored share would be two arrays, with the classes first and last
        return _slopes_formed_twice(measured, arrays, of_pivots)
    twice, once = (functools.partial(form, measured) for form in (_slopes_formed_twice, _slopes_formed_once))
    kept = functools.partial(once, keep=jax.lax.optimization_barrier)
    return by_platform(arrays, of_pivots, cpu=kept, accelerator=twice, otherwise=once)


def _slopes_formed_twice(measured: _FromPivots, arrays: tuple[Array, ...], of_pivots: Any) -> tuple[Array, Array]:
    pair = of_pivots[0][0]
    each = (_WeightedFromPivots(measured, which) for which in (0, 1))
    means = [sum_over_others(of, r, arrays, of_pivots) for of, r in zip(each, (pair.rows_u, pair.rows_v), strict=True)]
    return of_each_class(_AboutMeansFromPivots(measured), arrays, stored_on_chips((of_pivots, means)))


def _slopes_formed_once(
    measured: _FromPivots, arrays: tuple[Array, ...], of_pivots: Any, keep: Callable[..., Any] = _as_they_are
) -> tuple[Array, Array]:
    pair, (u, v, classes) = of_pivots[0][0], arrays
    a, b = keep(measured(u, v, classes, of_pivots))
    mean_a = sum_over_others(_weighted, pair.rows_u, (u, a), pair.rows_u)
    mean_b = sum_over_others(_weighted, pair.rows_v, (v, b), pair.rows_v)
    return _about_means(u, v, a, b, (pair, mean_a, mean_b))
