"""What counts as equal: arrays of balls (or of floats) compared entry by entry."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from flint import arb

from lossjax.verify import oracle
from lossjax.verify.ulp import Balls


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What two exact executions may differ by: the constants in both programs are rounded to ``u``.

    A constant that is off by u moves an entry by about u of the terms it is made of, and the coefficients of a series
    that ends where it no longer matters by a few u: 2^13 u of the entry leaves room for terms that cancel a little
    or a long series, 8u of the largest entry for those that cancel much. (A wrong rule is off by far more.)
    """

    u: float
    of_entry: float
    of_largest: float


WIDE = Tolerance(2.0**-53, 2.0**-40, 2.0**-50)
NARROW = Tolerance(2.0**-24, 2.0**-16, 2.0**-21)
"""For functions that do not take float64: their constants are rounded to float32."""
HALF = Tolerance(2.0**-8, 2.0**-4, 2.0**-5)
"""For functions that take 16-bit floats only."""


def of(*dtypes: Any) -> Tolerance:
    """The tolerance for programs whose constants are rounded to these dtypes: the narrowest one decides."""
    eps = max(float(jnp.finfo(dtype).eps) for dtype in dtypes)
    return WIDE if eps < 2.0**-50 else NARROW if eps < 2.0**-20 else HALF


@dataclasses.dataclass
class Comparison:
    """How far one array of balls is from another."""

    units: np.ndarray
    """The difference in u of the larger of the two entries; 0 where the balls overlap."""
    wrong: np.ndarray
    """True where the difference exceeds what is allowed."""
    judged: np.ndarray
    """False where the truth is NaN or infinite, so that there is nothing to compare with."""
    unsure: int = 0
    """How many entries hang on what the constants of the programs were rounded from."""

    def drop(self, where: np.ndarray) -> None:
        """Take these entries for not judged."""
        self.judged &= ~where
        self.wrong &= ~where
        self.units[where] = 0

    def worst(self, where: np.ndarray, tolerance: Tolerance) -> float:
        """The largest difference at these entries, relative to the larger of the two."""
        return float(np.max(self.units, initial=0, where=where)) * tolerance.u


def compare(got: Balls, want: Balls, tolerance: Tolerance) -> Comparison:
    """Compare each entry with its truth."""
    sizes = [float(abs(w).abs_upper()) for w in want.ravel().tolist() if w.is_finite()]
    floor = tolerance.of_largest * max(sizes, default=0.0)
    units, wrong, judged = [], [], []
    with oracle.precision():
        for g, w in zip(got.ravel().tolist(), want.ravel().tolist(), strict=True):
            judged.append(bool(w.is_finite()))
            if g is w or not w.is_finite() or (g.is_finite() and g.overlaps(w)):
                units.append(0.0)
                wrong.append(False)
                continue
            if not g.is_finite():
                units.append(float("inf"))
                wrong.append(True)
                continue
            size = max(float(abs(g).abs_upper()), float(abs(w).abs_upper()))
            distance = float((g - w).abs_lower())
            units.append(distance / size / tolerance.u if size else 0.0)
            wrong.append(distance > max(tolerance.of_entry * size, floor))
    each = [np.array(x, of).reshape(want.shape) for x, of in ((units, float), (wrong, bool), (judged, bool))]
    return Comparison(units=each[0], wrong=each[1], judged=each[2])


def meet(a: arb, b: arb) -> bool:
    """Whether two finite balls may hold the same number."""
    return bool(a.is_finite() and b.is_finite() and a.overlaps(b))


def dot(a: Any, b: Any) -> tuple[arb, float]:
    """``Σ aᵢ bᵢ`` over tuples of arrays of balls, and the sum of the absolute terms."""
    total, size = arb(0), 0.0
    for x, y in zip(a, b, strict=True):
        for p, q in zip(np.ravel(x).tolist(), np.ravel(y).tolist(), strict=True):
            total += p * q
            size += abs(float((p * q).mid())) if (p * q).is_finite() else 0.0
    return total, size


def text(ball: arb) -> str:
    """The middle of a ball, written with twelve digits."""
    return ball.str(12, radius=False) if ball.is_finite() else str(ball)


def first(wrong: np.ndarray, units: np.ndarray) -> tuple[int, ...]:
    """The index of the worst wrong entry."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(np.where(wrong, units, -1))), units.shape))


def largest(a: Any) -> float:
    """The largest absolute value among the finite entries; 0 if there are none."""
    a = np.abs(np.asarray(a).astype(np.float64))
    return float(np.max(a, initial=0, where=np.isfinite(a)))


def off(got: Any, want: Any, floor: float) -> float:
    """The largest difference over the largest entry; entries whose truth is NaN do not count."""
    got, want = (np.asarray(x).astype(np.float64) for x in (got, want))
    if got.shape != want.shape:
        return float("inf")
    with np.errstate(all="ignore"):
        gap = np.where(np.isnan(want) | (got == want), 0.0, np.abs(got - want))
    worst = float(np.max(np.where(np.isnan(gap), np.inf, gap), initial=0))
    scale = max(largest(want), floor)
    return worst / scale if scale else worst
