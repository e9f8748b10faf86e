"""Where the formula has a kink: is what the rule says a legal subgradient?

At a tie, the derivative of the plain formula is one choice among many and the rule's may be another. Both are judged
by the points around: there rule and formula must agree, and the rule's choice must lie between the gradients around,
entry by entry and in every direction in which those do not vary (the entries of a maximum's gradient sum to 1,
whichever is chosen).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lossjax.verify import oracle, ulp
from lossjax.verify._check.compare import Comparison, Tolerance, compare
from lossjax.verify._check.inputs import within
from lossjax.verify._check.problem import Arrays, Problem
from lossjax.verify._exact.rules import NAN
from lossjax.verify.ulp import Balls

_STEP = 2.0**-30
_SLACK = 2.0**-16
"""How much a gradient may change within a step, in units of the largest around: enough for curvatures up to 2^14."""
_COLUMNS = 12
_RANDOM = 10

Pull = Callable[[Arrays], tuple[Arrays, Arrays]]


def legal(
    one: Problem,
    arrays: Arrays,
    ruled: Pull,
    plain: Pull,
    got: Arrays,
    found: list[Comparison],
    tolerance: Tolerance,
    random: np.random.Generator,
) -> list[np.ndarray]:
    """For each differentiated array: the wrong entries that are no subgradient either.

    Args:
      one: the problem.
      arrays: where rule and formula differ.
      ruled: the exact values and gradients by the rule.
      plain: the exact values and gradients by the formula.
      got: the rule's gradients there.
      found: how they compare with the formula's.
      tolerance: between rule and formula around.
      random: for the directions.
    """
    columns = _columns(found)
    around: list[Arrays] = []
    with oracle.precision():
        for moved in _moved(one, arrays, _designs(columns, random), random, one.moving):
            agree, by_formula = _agreed(ruled, plain, moved, tolerance)
            if not agree:
                return [c.wrong for c in found]
            around.append(by_formula)
        bad = _illegal(got, around, found)
        if len(one.moving) == 1 or not any(b.any() for b in bad):
            return bad
        # One argument may sit where the function jumps in it (a label 0 in float): the others are then moved alone.
        for i in one.moving:
            for moved in _moved(one, arrays, _designs([], random), random, (i,)):
                agree, by_formula = _agreed(ruled, plain, moved, tolerance)
                around += [by_formula] if agree else []
        return _illegal(got, around, found)


def _agreed(ruled: Pull, plain: Pull, moved: Arrays, tolerance: Tolerance) -> tuple[bool, Arrays]:
    """Whether rule and formula agree at a point, and the formula's gradients; NaN where it has no finite value."""
    by_rule, (values, slopes) = ruled(moved)[1], plain(moved)
    nothing: Any = NAN
    by_formula = tuple(np.where(undefined(values, w), nothing, w) for w in slopes)
    pairs = zip(by_rule, by_formula, strict=True)
    return not any(compare(g, w, tolerance).wrong.any() for g, w in pairs), by_formula


def _illegal(got: Arrays, around: list[Arrays], found: list[Comparison]) -> list[np.ndarray]:
    return [_outside(g, [a[k] for a in around], c.wrong) for k, (g, c) in enumerate(zip(got, found, strict=True))]


def undefined(values: Arrays, like: np.ndarray) -> np.ndarray:
    """True where the formula has no finite value in that row, and so no derivative that could be compared with."""
    lost = np.zeros(like.shape, bool)
    for value in values:
        bad = np.array([not v.is_finite() for v in value.ravel().tolist()], bool).reshape(value.shape)
        if bad.ndim and lost.ndim and len(bad) == len(lost):
            lost[bad.any(axis=tuple(range(1, bad.ndim)))] = True
        elif bad.any():
            lost[...] = True
    return lost


def _columns(found: list[Comparison]) -> list[int]:
    """Positions along the last axis where something differs, a few."""
    columns: set[int] = set()
    for c in found:
        if c.wrong.ndim:
            columns |= set(np.nonzero(c.wrong)[-1].tolist())
    return sorted(columns)[:_COLUMNS]


def _designs(columns: list[int], random: np.random.Generator) -> list[Any]:
    """Directions: all together, along the columns, and anywhere."""
    designs: list[Any] = [lambda a, s=s: np.full(a.shape, s) for s in (1.0, -1.0)]
    designs += [lambda a, s=s, c=c: s * _column(a, c) for c in columns for s in (1.0, -1.0)]
    return designs + [lambda a: random.choice([-1.0, 1.0], a.shape)] * _RANDOM


def _moved(
    one: Problem, arrays: Arrays, designs: list[Any], random: np.random.Generator, which: Sequence[int]
) -> Iterator[Arrays]:
    """The inputs a step away, those named; never exactly in a direction, so that no tie within them is kept.

    Signs and probabilities stay such: where a function is undefined for others, nothing around could be judged.
    """
    of = one.kinds
    for design in designs:
        moved = list(arrays)
        for i in which:
            a = np.asarray(arrays[i]).astype(np.float64)
            size = np.where(a == 0, np.max(np.abs(a), initial=0) or 1.0, np.abs(a))
            direction = within(of[i], a, design(a) + random.uniform(-0.3, 0.3, a.shape))
            with np.errstate(invalid="ignore"):
                moved[i] = ulp.balls(a + _STEP * size * direction)
        yield tuple(moved)


def _column(a: np.ndarray, at: int) -> np.ndarray:
    if not a.ndim:
        return np.ones(())
    return np.broadcast_to(np.where(np.arange(a.shape[-1]) == at, 1.0, 0.0), a.shape).copy()


def _outside(got: Balls, around: list[Balls], wrong: np.ndarray) -> np.ndarray:
    if not wrong.any():
        return wrong
    numbers = np.array([[float(v.mid()) if v.is_finite() else np.nan for v in g.ravel().tolist()] for g in around])
    finite = np.where(np.isfinite(numbers), numbers, 0.0)
    slack = _SLACK * np.max(np.abs(finite), initial=0)
    low = np.min(np.where(np.isfinite(numbers), numbers, np.inf), axis=0) - slack
    high = np.max(np.where(np.isfinite(numbers), numbers, -np.inf), axis=0) + slack
    here = np.array([float(v.mid()) if v.is_finite() else np.inf for v in got.ravel().tolist()])
    # Where no gradient around is finite, the point is on the edge of the domain and cannot be judged.
    around_it = np.isfinite(numbers).any(axis=0)
    bad = wrong.ravel() & around_it & ~((low <= here) & (here <= high))
    bad |= _off_the_plane(here, numbers, wrong, slack)
    return bad.reshape(wrong.shape)


def _off_the_plane(here: np.ndarray, around: np.ndarray, wrong: np.ndarray, slack: float) -> np.ndarray:
    """True for rows whose gradient is not an affine combination of the gradients around."""
    width = wrong.shape[-1] if wrong.ndim else 1
    bad = np.zeros(wrong.size, bool)
    for row in np.split(np.arange(wrong.size), max(wrong.size // width, 1)):
        of_row = row[wrong.ravel()[row]]
        points = around[:, of_row]
        points = points[np.isfinite(points).all(axis=1)]
        if not of_row.size or len(points) < 2 * of_row.size + 2 or not np.isfinite(here[of_row]).all():
            continue
        origin = points.mean(axis=0)
        spread = (points - origin).T
        basis, sizes, _ = np.linalg.svd(spread, full_matrices=False)
        plane = basis[:, sizes > slack * np.sqrt(len(points))]
        away = (here[of_row] - origin) - plane @ (plane.T @ (here[of_row] - origin))
        bad[of_row] = np.max(np.abs(away)) > 4 * slack * np.sqrt(len(points))
    return bad
