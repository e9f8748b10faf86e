"""What a claim is: a statement of the chapter, and a check that measures it.

The chapter is section 4.1, "Basic loss functions from the viewpoints of probability and geometry", of a textbook whose
chapter 4 is "The mathematics of loss functions".

A claim's check is a function of a :class:`Trial`. The trial knows the dtype, and collects one measurement after the
other, each with what is allowed. Where the chapter is wrong, the claim carries the correction; the check then proves
the corrected statement, and shows that the printed one fails (``Trial.refuted``).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lossjax._core.findings import Finding

Verdict = Literal["holds", "needs conditions", "imprecise", "wrong"]
DTYPES = ("float32", "float64")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One number that was measured, and its limit."""

    what: str
    measured: float
    allowed: float
    refutes: bool = False
    """True: at least ``allowed`` is wanted, which refutes the printed statement. False: at most that."""
    ok: bool = dataclasses.field(init=False)
    """Whether the number is within its limit; a NaN never is."""

    def __post_init__(self) -> None:
        ok = self.measured >= self.allowed if self.refutes else self.measured <= self.allowed
        object.__setattr__(self, "ok", ok)  # the class is frozen

    @property
    def strain(self) -> float:
        """Measured over allowed (inverted for a refutation): 1 is the limit; inf for a NaN."""
        over, under = (self.allowed, self.measured) if self.refutes else (self.measured, self.allowed)
        if math.isnan(over) or math.isnan(under):
            return math.inf
        if over == 0:
            return 0.0
        return over / under if under else math.inf


class Trial:
    """Collects the measurements of one claim in one dtype."""

    def __init__(self, dtype: str) -> None:
        self.dtype = jnp.dtype(dtype)
        self.u = float(jnp.finfo(self.dtype).eps) / 2
        self.tiny = float(jnp.finfo(self.dtype).tiny)
        self.random = np.random.default_rng(41)
        self.measurements: list[Measurement] = []

    def array(self, values: Any) -> jax.Array:
        """Values as a JAX array of the trial's dtype."""
        return jnp.asarray(np.asarray(values, np.float64), self.dtype)

    def normal(self, *shape: int, scale: float = 1.0, offset: float = 0.0) -> jax.Array:
        """Gaussian numbers from the trial's own seed."""
        return self.array(self.random.normal(size=shape) * scale + offset)

    def simplex(self, *shape: int, concentration: float = 1.0) -> jax.Array:
        """Probabilities along the last axis from the trial's own seed (Dirichlet)."""
        return self.array(self.random.dirichlet(np.full(shape[-1], concentration), size=shape[:-1]))

    def at_most(self, what: str, measured: Any, allowed: float) -> None:
        """The measured number must not exceed its limit."""
        self.measurements.append(Measurement(what, float(measured), float(allowed)))

    def exactly(self, what: str, got: Any, want: Any) -> None:
        """Every entry equal (infinities too); what is measured is the number of entries that differ."""
        got, want = np.asarray(got), np.asarray(want)
        chex.assert_equal_shape([got, want])
        self.at_most(what, np.sum(got != want), 0)

    def close(self, what: str, got: Any, want: Any, units: float, *, scale: Any = None) -> None:
        """Shapes and dtypes equal, all finite, and |got - want| at most ``units``·u·scale (default |want|).

        ``want`` may be a numpy float64 array standing for a more exact truth.
        """
        chex.assert_equal_shape([np.asarray(got), np.asarray(want)])
        chex.assert_tree_all_finite((got, want))
        chex.assert_type(got, self.dtype)
        exact = np.asarray(want, np.longdouble)
        size = np.abs(exact) if scale is None else np.asarray(scale, np.longdouble)
        difference = np.abs(np.asarray(got, np.longdouble) - exact)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(difference <= self.tiny, 0, difference / (size * self.u))
        self.at_most(f"{what}, in u", np.max(ratio, initial=0), units)

    def refuted(self, what: str, measured: Any, at_least: float) -> None:
        """The printed statement fails by at least this much."""
        self.measurements.append(Measurement(what, float(measured), float(at_least), refutes=True))

    def happens(self, what: str, condition: Any, *, refutes: bool = False) -> None:
        """A fact without a size (an infinity, a NaN, an order): 1 if it was seen, and 1 is wanted."""
        if refutes:
            self.refuted(what, bool(condition), 1.0)
        else:
            self.at_most(f"{what} (0 = seen)", not condition, 0.0)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement, its verdict, its correction, and its check."""

    name: str
    section: str
    statement: str
    verdict: Verdict
    correction: str | None
    check: Callable[[Trial], None]

    def run(self, dtype: str) -> "Result":
        """Check the claim in one dtype; an assertion that fails, or any other error, is a measurement that fails."""
        # A check may broadcast as numpy does, whatever the caller has set for their own code.
        with jax.enable_x64(dtype == "float64"), jax.numpy_rank_promotion("allow"):
            trial = Trial(dtype)
            try:
                self.check(trial)
            except Exception as error:
                trial.measurements.append(Measurement(f"{type(error).__name__}: {error}", math.inf, 0.0))
        found = tuple(trial.measurements) or (Measurement("the check measured nothing", math.inf, 0.0),)
        return Result(
            self.name,
            all(one.ok for one in found),
            _tightest(found).measured,
            _tightest(found).allowed,
            self.statement,
            section=self.section,
            dtype=dtype,
            verdict=self.verdict,
            correction=self.correction,
            measurements=found,
        )


Figure = Measurement
"""The former name of :class:`Measurement`."""


@dataclasses.dataclass(frozen=True)
class Result(Finding):
    """What a claim's check found in one dtype; ``measured`` and ``allowed`` are those of the tightest measurement."""

    section: str = ""
    dtype: str = ""
    verdict: Verdict = "holds"
    correction: str | None = None
    measurements: tuple[Measurement, ...] = ()

    @property
    def tightest(self) -> Measurement:
        """The measurement to show."""
        return _tightest(self.measurements)


def _tightest(measurements: Sequence[Measurement]) -> Measurement:
    """One that fails, else the distance nearest its limit, else the weakest refutation."""
    return max(measurements, key=lambda one: (not one.ok, not one.refutes, one.strain))


def claim(
    name: str, *, section: str, statement: str, verdict: Verdict = "holds", correction: str | None = None
) -> Callable[[Callable[[Trial], None]], Claim]:
    """Make a claim of its check. A verdict other than "holds" needs the correction.

    Args:
      name: "4.1.1" for a theorem, "(4.1.1)" for an equation, "Table 4.1.1", else the claim's number, "1.1".
      section: of the chapter, "4.1.1" to "4.1.7".
      statement: as the chapter makes it, in one line.
      verdict: whether it holds as stated.
      correction: what holds, and what the check proves, if not.

    Raises:
      ValueError: a verdict other than "holds" without a correction.
    """
    if (verdict == "holds") != (correction is None):
        raise ValueError(f"claim {name}: a correction goes with every verdict but 'holds', got {verdict!r}")
    return lambda check: Claim(name, section, statement, verdict, correction, check)


SECTIONS = ("4.1", "4.1.1", "4.1.2", "4.1.3", "4.1.4", "4.1.5", "4.1.6", "4.1.7")


def claims() -> tuple[Claim, ...]:
    """All claims in the chapter's order."""
    from lossjax.verify._claims import (
        bregman,
        categorical,
        divergence,
        fisher,
        floating_point,
        gaussian,
        information,
        isomorphism,
        noise,
        projection,
        softmax,
        summary,
    )

    rooms = (
        information, divergence, gaussian, noise, categorical, projection, bregman, fisher, softmax, floating_point,
        isomorphism, summary,
    )  # fmt: skip
    return tuple(sorted((c for room in rooms for c in room.CLAIMS), key=lambda c: SECTIONS.index(c.section)))
