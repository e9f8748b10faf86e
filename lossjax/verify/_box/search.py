"""Bisection: the box that has the worst bound is halved, across the argument that moves the result most."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from flint import arb
from numpy.typing import NDArray

from lossjax.verify._box.enclosure import Numbers, Point, Problem
from lossjax.verify._exact.rules import UndecidedComparison

_SMALLEST = 2.0**-20
"""A box of this share of every edge that still cannot be executed is named undecided."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a function returns on a box. Every number is certain; float64 numbers are rounded outward."""

    lower: Numbers
    """No result lies below, for any argument of the box outside the ``undecided`` parts; one number per result."""
    upper: Numbers
    """No result lies above."""
    least: Numbers
    """The least result that was met, at ``least_at``; the true least lies between ``lower`` and it."""
    greatest: Numbers
    """The greatest result that was met."""
    least_at: tuple[Point, ...]
    """For each result, in order, the arguments that gave the least."""
    greatest_at: tuple[Point, ...]
    """For each result, in order, the arguments that gave the greatest."""
    undecided: tuple[tuple[Point, Point, str], ...]
    """The parts of the box of which nothing is said: lower corner, upper corner, and why."""
    boxes: int
    """How many parts were executed."""

    @property
    def width(self) -> float:
        """The most that any of the bounds may be off."""
        return float(np.max(np.maximum(self.least - self.lower, self.upper - self.greatest), initial=0.0))


def _down(x: arb) -> float:
    """The greatest float64 that is certainly not above the ball."""
    near = float(x.lower())
    return near if arb(near) <= x.lower() else math.nextafter(near, -math.inf)


def _up(x: arb) -> float:
    return -_down(-x)


@dataclasses.dataclass(eq=False)
class _Box:
    low: Point
    high: Point
    lower: Numbers
    upper: Numbers
    moves: NDArray[np.float64]
    why: str = ""
    """Why nothing is known of it, if nothing is."""


class Search:
    """Bisection: halves the box that has the worst bound, until no bound is off by more than the width."""

    def __init__(self, problem: Problem, width: float, most_boxes: int, met: Callable[[Point], list[arb] | None]):
        self.problem, self.width, self.most = problem, width, most_boxes
        self.met = met
        """What is found at a point: for each result a ball that holds one that there is; None where none is known."""
        count = math.prod(problem.shape)
        self.least, self.greatest = np.full(count, np.inf), np.full(count, -np.inf)
        self.least_at, self.greatest_at = [problem.lower] * count, [problem.upper] * count
        self.boxes: list[_Box] = []
        self.given_up: list[_Box] = []
        self.done = 0

    def run(self) -> Bounds:
        """Search until the width, or the number of boxes, is reached."""
        problem = self.problem
        for corner in (problem.lower, problem.upper):
            self._visit(corner)
        self._add(problem.lower, problem.upper)
        while self.done < self.most and (chosen := self._worst()) is not None:
            box, result = chosen
            self.boxes.remove(box)
            self._halve(box, result)
        known = [box for box in self.boxes if not box.why]
        nothing = np.full(len(self.least), np.inf)
        ends = [  # a result may have been met at the edge of a part that is undecided
            np.minimum(np.min([box.lower for box in known], axis=0), self.least) if known else -nothing,
            np.maximum(np.max([box.upper for box in known], axis=0), self.greatest) if known else nothing,
            self.least,
            self.greatest,
        ]
        unknown = (*self.given_up, *(box for box in self.boxes if box.why))
        lower, upper, least, greatest = (end.reshape(problem.shape) for end in ends)
        return Bounds(
            lower,
            upper,
            least,
            greatest,
            tuple(self.least_at),
            tuple(self.greatest_at),
            tuple((box.low, box.high, box.why) for box in unknown),
            self.done,
        )

    def _worst(self) -> tuple[_Box, int] | None:
        """The box to halve, and the result it is halved for; None where every bound is good enough."""
        unknown = [box for box in self.boxes if box.why]
        if unknown:
            return max(unknown, key=self._share), 0
        if not self.boxes:
            return None
        lowers, uppers = np.array([box.lower for box in self.boxes]), np.array([box.upper for box in self.boxes])
        below, above = self.least - lowers.min(0), uppers.max(0) - self.greatest
        side, at = (below, lowers.argmin(0)) if below.max() >= above.max() else (above, uppers.argmax(0))
        result = int(side.argmax())
        return None if side[result] <= self.width else (self.boxes[at[result]], result)

    def _share(self, box: _Box) -> float:
        """The greatest share of an edge of the whole that the box has."""
        whole = zip(box.low, box.high, self.problem.lower, self.problem.upper, strict=True)
        return max(float(np.max((b - a) / np.where(d > c, d - c, 1))) for a, b, c, d in whole)

    def _halve(self, box: _Box, result: int) -> None:
        """Across the entry that moves the result most; a box too small for that is given up."""
        if self._share(box) <= _SMALLEST:
            self.given_up.append(box)
            return
        ends = np.cumsum([0, *(a.size for a in box.low)])
        entry = int(np.argmax(box.moves[result]))
        argument = int(np.searchsorted(ends, entry, side="right")) - 1
        place = np.unravel_index(entry - ends[argument], box.low[argument].shape)
        low, high = [a.copy() for a in box.low], [a.copy() for a in box.high]
        middle = low[argument][place] + (high[argument][place] - low[argument][place]) / 2
        high[argument][place] = low[argument][place] = middle
        self._add(box.low, tuple(high))
        self._add(tuple(low), box.high)

    def _add(self, low: Point, high: Point) -> None:
        """Execute a box, and visit its middle."""
        self.done += 1
        self._visit(tuple(a + (b - a) / 2 for a, b in zip(low, high, strict=True)))
        try:
            found, moves = self.problem.enclosures(low, high)
        except UndecidedComparison as error:
            edges = np.concatenate([(b - a).ravel() for a, b in zip(low, high, strict=True)])
            none = np.zeros(len(self.least))
            self.boxes.append(_Box(low, high, none, none, np.stack([edges] * len(none)), str(error)))
        else:
            lower, upper = np.array([_down(x) for x in found]), np.array([_up(x) for x in found])
            self.boxes.append(_Box(low, high, lower, upper, moves))

    def _visit(self, point: Point) -> None:
        """Take note of the results at one point."""
        for k, found in enumerate(self.met(point) or ()):
            if _up(found) < self.least[k]:
                self.least[k], self.least_at[k] = _up(found), point
            if _down(found) > self.greatest[k]:
                self.greatest[k], self.greatest_at[k] = _down(found), point
