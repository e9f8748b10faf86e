"""How far one function's values and derivatives are from the truth, over many points, and where they are worst.

The worst points are varied and measured in turn, as a climber looks for the summit.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flint import arb
from numpy.typing import NDArray

from lossjax.numerics import unit_roundoff
from lossjax.verify import oracle, ulp
from lossjax.verify._atlas import domains
from lossjax.verify._atlas.domains import Points
from lossjax.verify._atlas.subject import BITS, TOGETHER, Subject, narrow
from lossjax.verify.ulp import Balls


class Peak(NamedTuple):
    """The worst that was found of one thing.

    Attributes:
      size: how bad it is, in the unit of what it is the worst of.
      arguments: where: the function's arguments.
      entry: which number of the result: ``value``, or ``d/d0`` for the derivative in argument 0, with indices.
      got: what came.
      want: what is true, as a float, where it has one.
    """

    size: float = 0.0
    arguments: tuple[Any, ...] = ()
    entry: str = ""
    got: float = 0.0
    want: float = 0.0


NOTHING = Peak()
"""No error was found."""


def negligible(dtype: Any) -> float:
    """An absolute error that is not counted: u of it is the smallest normal number, below which terms are 0.

    In float16, where that would be an eighth, it is the smallest normal number itself.
    """
    smallest = ulp.smallest_normal(dtype)
    return smallest / unit_roundoff(dtype) if smallest < 2.0**-100 else smallest


def _each(question: Callable[[arb], bool], truth: Balls) -> NDArray[np.bool_]:
    return np.array([question(t) for t in truth.ravel()], bool).reshape(truth.shape)


def _size(ball: arb) -> float:
    """Of a ball, as a float; inf where it is no number."""
    return float(abs(ball).abs_upper()) if ball.is_finite() else float("inf")


class Survey:
    """All that is known of one subject: points, results, and errors in ulps."""

    def __init__(self, subject: Subject, seed: int, seconds: float) -> None:
        self.subject = subject
        self._random = np.random.default_rng(seed)
        self._until = time.monotonic() + seconds
        self.points: Points = ()
        self.computed: NDArray[Any] = np.zeros((0, 0))
        self.truth: NDArray[Any] = np.zeros((0, 0), object)
        self.ulps: NDArray[Any] = np.zeros((0, 0))
        self.lost = np.zeros((0, 0), bool)

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Which truths are numbers."""
        return _each(arb.is_finite, self.truth)

    @property
    def undecided(self) -> NDArray[np.bool_]:
        """The points that exact execution could not decide, or that lie outside of the domain."""
        return np.asarray(_each(arb.is_nan, self.truth).all(axis=1))

    @property
    def in_time(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self._until

    def draw(self, count: int) -> None:
        """Measure points of all scales, as long as there is time."""
        drawn = domains.points(self.subject.words, count, self.subject.dtype, self._random, self.subject.reach)
        for start in range(0, count, TOGETHER):
            if start and not self.in_time:
                return
            self.add(tuple(a[start : start + TOGETHER] for a in drawn))

    def add(self, points: Points) -> None:
        """Measure these points."""
        computed, truth = self.subject.computed(points), self.subject.exactly(points)
        errors, lost = self._judged(computed, truth)
        if not self.points:
            self.points, self.computed, self.truth, self.ulps, self.lost = points, computed, truth, errors, lost
            return
        self.points = tuple(np.concatenate(pair) for pair in zip(self.points, points, strict=True))
        self.computed, self.truth, self.ulps, self.lost = (
            np.concatenate(pair)
            for pair in ((self.computed, computed), (self.truth, truth), (self.ulps, errors), (self.lost, lost))
        )

    def _judged(self, computed: NDArray[Any], truth: Balls) -> tuple[NDArray[Any], NDArray[Any]]:
        """Errors in ulps, 0 where the truth has no float; and where a finite truth came as infinity or NaN."""
        largest = float(jnp.finfo(self.subject.dtype).max)
        known = np.array([narrow(t) and t.is_finite() and _size(t) <= largest for t in truth.ravel()])
        known = known.reshape(truth.shape)
        lost = known & ~np.isfinite(computed)
        judged = known & ~lost
        zero = truth.copy()
        zero[~judged] = arb(0)
        got = np.where(judged, computed, 0).astype(self.subject.dtype)
        counted = ulp.errors(got, zero) > negligible(self.subject.dtype)
        return np.where(counted, ulp.ulps(got, zero), 0.0), lost

    def climb(self, rounds: int = 3) -> None:
        """Vary the worst points of value and gradient, and measure what comes of it."""
        for _ in range(rounds):
            if not self.in_time or not len(self.ulps):
                return
            worst = [i for part in ("value", "gradient") for i in self.worst(self.ulps, part, 4)]
            if not worst:
                return
            chosen = np.resize(np.array(worst), TOGETHER)
            self.add(
                tuple(
                    a[chosen]
                    if kind.integer
                    else domains.representable(
                        self._varied(np.asarray(a[chosen], np.float64), word), self.subject.dtype
                    )
                    for a, kind, word in zip(self.points, self.subject.kinds, self.subject.words, strict=True)
                )
            )

    def _varied(self, array: NDArray[Any], word: str) -> NDArray[Any]:
        if word in domains.WHOLE and "distribution" not in word:
            return array
        steps = self._random.normal(size=array.shape) * 2 ** self._random.uniform(-20, -1, array.shape)
        some = self._random.uniform(size=array.shape) < 0.5
        return np.minimum(array * (1 + some * steps), 1) if word == "unit" else array * (1 + some * steps)

    def of(self, part: str) -> NDArray[Any]:
        """Which columns belong to this part."""
        return np.array([entry.part == part for entry in self.subject.entries])

    def worst(self, sizes: NDArray[Any], part: str, count: int) -> list[int]:
        """The points where this part is worst, the worst first, those that are exact left out."""
        columns = sizes[:, self.of(part)]
        if not columns.size:
            return []
        of_points = columns.max(axis=1)
        order = np.argsort(-of_points, kind="stable")[:count]
        return [int(i) for i in order if of_points[i] > 0]

    def simplify(self, part: str) -> None:
        """Measure the worst points once more with arguments of few digits, which are easier to read."""
        worst = self.worst(self.ulps, part, 8)
        if worst and self.in_time:
            chosen, digits = np.repeat(worst, 4), np.tile(np.arange(1, 5), len(worst))
            points = []
            for array, word in zip(self.points, self.subject.words, strict=True):
                rounded = array[chosen].copy()
                for i, n in enumerate(digits):
                    if word not in domains.WHOLE:
                        rounded[i] = domains.of_digits(rounded[i], int(n))
                points.append(rounded)
            self.add(tuple(points))

    def units(self, part: str, above: float, most: int = 48) -> tuple[list[int], NDArray[Any]]:
        """At the worst points, errors in ``u (|entry| + what a rounding of the arguments changes in it)``.

        The change is Σ over the float entries of the arguments of |x ∂entry/∂x|, by difference quotients in exact
        arithmetic, the larger one of the two sides. Points within ``above`` ulps are left out. An error where the entry
        is 0 and stays 0 is infinitely many units: no rounding of the arguments could account for it.
        """
        chosen = [i for i in self.worst(self.ulps, part, most) if self.ulps[i, self.of(part)].max() > above]
        found = np.zeros((len(chosen), len(self.subject.entries)))
        if not chosen:
            return [], found
        points = tuple(a[chosen] for a in self.points)
        moved, sizes = self.subject.moved(points)
        u, floor = unit_roundoff(self.subject.dtype), negligible(self.subject.dtype)
        entries = np.concatenate([ulp.balls(a).reshape(len(chosen), -1) for a in self._floats(points)], axis=1)
        with oracle.precision(BITS):
            for row, i in enumerate(chosen):
                for column in np.flatnonzero(self.of(part) & (self.ulps[i] > 0)):
                    truth = self.truth[i, column]
                    slopes = [(t - truth) / s for t, s in zip(moved[:, row, column], sizes[:, row], strict=True)]
                    steepest = [max(map(_size, pair)) for pair in zip(slopes[::2], slopes[1::2], strict=True)]
                    scale = _size(truth) + sum(s * _size(x) for s, x in zip(steepest, entries[row], strict=True))
                    error = max(_size(arb(self.computed[i, column]) - truth) - floor, 0.0)
                    found[row, column] = error / (scale * u) if scale else np.inf if error else 0.0
        return chosen, found

    def _floats(self, points: Points) -> list[NDArray[Any]]:
        return [points[i] for i in self.subject.moving]

    def without_derivative(self, most: int = TOGETHER) -> list[Peak]:
        """Points where the derivative came as infinity or NaN, the chain rule gives none, and yet there is one.

        There the value is finite, and difference quotients in exact arithmetic agree on both sides.
        """
        values, slopes = self.of("value"), self.of("gradient")
        has_value = self.finite[:, values].all(axis=1, keepdims=True)
        suspect = ~self.finite & ~np.isfinite(self.computed) & slopes & has_value
        chosen = np.flatnonzero(suspect.any(axis=1))[:most]
        if not len(chosen):
            return []
        moved, sizes = self.subject.moved(tuple(a[chosen] for a in self.points))
        found, outputs = [], int(values.sum())
        with oracle.precision(BITS):
            for row, i in enumerate(chosen):
                for column in np.flatnonzero(suspect[i]):
                    output, place = self._output_and_place(int(column), outputs)
                    pair = [
                        (moved[2 * place + side, row, output] - self.truth[i, output]) / sizes[2 * place + side, row]
                        for side in (0, 1)
                    ]
                    if all(s.is_finite() for s in pair) and _size(pair[0] - pair[1]) <= 2.0**-40 * _size(pair[0]):
                        peak = self.described(int(i), int(column), float("inf"))
                        found.append(peak._replace(want=float(pair[0].mid())))
        return found

    def _output_and_place(self, column: int, outputs: int) -> tuple[int, int]:
        """Of a derivative's column, the entry of the value, and which float entry of the arguments it is in."""
        at, first = column - outputs, 0
        for i in self.subject.moving:
            size = int(np.prod(self.subject.kinds[i].shape, dtype=int))
            if at < outputs * size:
                return at // size, first + at % size
            at, first = at - outputs * size, first + size
        raise IndexError(column)

    def peak(self, sizes: NDArray[Any], points: Sequence[int], part: str, *, simplest: bool = False) -> Peak:
        """The worst of some sizes, whose rows belong to these points.

        Or the ``simplest``: of those within a quarter of the worst, the one whose arguments have the fewest digits.
        """
        masked = np.where(self.of(part), sizes, -1)
        if not masked.size or masked.max() <= 0:
            return NOTHING
        rows = np.flatnonzero(masked.max(axis=1) >= masked.max() / (4 if simplest else 1))
        row = min(rows, key=lambda r: (self._digits(points[int(r)]), -masked[r].max()))
        column = int(masked[row].argmax())
        return self.described(points[int(row)], column, float(masked[row, column]))

    def _digits(self, point: int) -> int:
        """How many digits the arguments of a point have, those of rows added up."""
        return sum(domains.digits(x, self.subject.dtype) for a in self._floats(self.points) for x in np.ravel(a[point]))

    def described(self, point: int, column: int, size: float) -> Peak:
        """What came at this point, and what is true."""
        arguments = tuple(
            np.asarray(a[point], np.float64 if a.dtype.kind != "i" else None).tolist() for a in self.points
        )
        return Peak(
            size, arguments, self.subject.entries[column].name, float(self.computed[point, column]),
            float(self.truth[point, column].mid()),
        )  # fmt: skip
