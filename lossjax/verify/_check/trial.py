"""Rule and formula executed at one input: what of it is wrong, what is an approximation's truncation, and the words."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lossjax.verify._check import compare as by
from lossjax.verify._check.family import Family, shown
from lossjax.verify._check.hints import hint, unsummed
from lossjax.verify._check.kinks import legal, undefined
from lossjax.verify._check.problem import Arrays, Problem
from lossjax.verify._check.programs import Pair, Program, as_floats
from lossjax.verify._check.shrinking import shrunk
from lossjax.verify.ulp import Balls


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """Gradients and values at one input, each as the rule gives it and as it should be, and how they compare."""

    family: Family
    gradients: list[tuple[Balls, Balls]]
    of_gradients: list[by.Comparison]
    wrong: list[np.ndarray]
    """The entries of each gradient that are wrong, and are no subgradient at a kink."""
    values: list[tuple[Balls, Balls]]
    of_values: list[by.Comparison]
    off: float
    """The largest difference of a wrong entry, relative to the entry; 0 where none is wrong."""


def tried(one: Problem, pair: Pair, family: Family, random: np.random.Generator) -> Trial:
    """Execute rule and formula at these inputs; a refusal is raised."""
    assert pair.plain is not None
    arrays = pair.given(family.arrays)
    got_values, got = pair.ruled(arrays, pair.cotangents)
    want_values, want = pair.plain(arrays, pair.cotangents)
    gradients = list(zip(got, want, strict=True))
    of_gradients = [by.compare(g, w, pair.tolerance) for g, w in gradients]
    nowhere = any(not v.is_finite() for value in want_values for v in value.ravel().tolist())
    for (gradient, _), c in zip(gradients, of_gradients, strict=True):
        c.drop(undefined(want_values, c.judged))
        if nowhere and pair.rows is None:  # a row without a value may be a part of every gradient: NaN says so
            c.drop(np.reshape([v.is_nan() for v in gradient.ravel().tolist()], c.judged.shape).astype(bool))
    wrong = [c.wrong for c in of_gradients]
    ruled, plain = (lambda moved, p=p: p(moved, pair.cotangents) for p in (pair.ruled, pair.plain))
    if any(bad.any() for bad in wrong):
        wrong = legal(one, arrays, ruled, plain, got, of_gradients, pair.tolerance, random)
    above = [bad & (c.units * pair.tolerance.u > pair.roundoff) for bad, c in zip(wrong, of_gradients, strict=True)]
    if any(bad.any() for bad in above) and pair.roundoff > pair.tolerance.of_entry:
        # Around the kink of an approximation rule and formula differ by what it leaves out.
        around = dataclasses.replace(pair.tolerance, of_entry=pair.roundoff)
        still = legal(one, arrays, ruled, plain, got, of_gradients, around, random)
        wrong = [bad & (kept | ~big) for bad, kept, big in zip(wrong, still, above, strict=True)]
    if any(bad.any() for bad in wrong):
        wrong = _but_for_constants(pair, arrays, of_gradients, wrong)
    values = list(zip(got_values, want_values, strict=True))
    of_values = [by.compare(g, w, pair.tolerance) for g, w in values]
    compared = zip((*of_gradients, *of_values), (*wrong, *(c.wrong for c in of_values)), strict=True)
    off = max((c.worst(bad, pair.tolerance) for c, bad in compared), default=0.0)
    return Trial(family, gradients, of_gradients, wrong, values, of_values, off)


def _but_for_constants(
    pair: Pair, arrays: Arrays, found: list[by.Comparison], illegal: list[np.ndarray]
) -> list[np.ndarray]:
    """The wrong entries that stay wrong whatever the constants were rounded from; the others are not judged."""
    unsure = pair.hang_on_constants(arrays, pair.cotangents, illegal)
    for c, where in zip(found, unsure, strict=True):
        c.drop(where)
        c.unsure += int(where.sum())
    return [bad & ~where for bad, where in zip(illegal, unsure, strict=True)]


def truncations(trials: Sequence[Trial], pair: Pair) -> list[Trial]:
    """The trials that differ by what an approximation leaves out: it shows in no digit of the arguments' own dtype.

    That is less than a rounding of each entry. Where no reference says what is meant, a slope that is far smaller than
    its value may be off by more of itself, though by less than a rounding of the value: if the formula is seen to be an
    approximation at some input, or by its constants, which may be those of the rule once rounded to that dtype.
    """
    below = [t for t in trials if 0 < t.off <= pair.roundoff]
    if pair.by_reference:
        return below
    small = [t for t in trials if t.off > pair.roundoff and _is_under_the_value(t, pair)]
    return below + small if below or any(_is_of_constants(t, pair) for t in small) else []


def _is_of_constants(trial: Trial, pair: Pair) -> bool:
    arrays = pair.given(trial.family.arrays)
    found = pair.hang_on_constants(arrays, pair.cotangents, trial.wrong, rounded_to=pair.roundoff)
    return all(np.array_equal(hangs, wrong) for hangs, wrong in zip(found, trial.wrong, strict=True))


def _is_under_the_value(trial: Trial, pair: Pair) -> bool:
    """Which value belongs to a slope is known of a function that takes arrays of one shape entry by entry."""
    if len(trial.values) != 1 or any(c.wrong.any() for c in trial.of_values):
        return False
    [(_, value)] = trial.values
    allowed = pair.roundoff * np.abs(as_floats(value) * pair.cotangents[0])
    moved = pair.one.chosen(trial.family.arrays)
    for (got, want), wrong, argument in zip(trial.gradients, trial.wrong, moved, strict=True):
        if want.shape != value.shape:
            return False
        moves = np.abs(as_floats(got - want)) * np.maximum(1, np.abs(np.asarray(argument, np.float64)))
        if not np.all(moves[wrong] <= allowed[wrong]):
            return False
    return True


def blamed(
    trials: Sequence[Trial], one: Problem, pair: Pair, again: Callable[[Problem], Pair]
) -> tuple[list[str], str]:
    """A line for all that is wrong, and a program in plain JAX that shows the first gradient that is.

    ``again`` makes the pair for other shapes.
    """
    lines: list[str] = []
    before: list[Arrays] = []
    for trial in trials:
        lines += _failures(trial, one, pair, before, first=not lines)
        before.append(tuple(want for _, want in trial.gradients))
    program = ""
    if shows := next((t for t in trials if any(bad.any() for bad in t.wrong)), None):
        program = shrunk(one, pair, pair.given(shows.family.arrays), again, _wrong)
    return lines, program


def _wrong(one: Problem, pair: Pair, arrays: Arrays) -> str:
    """Which gradient is wrong for these arguments, got and wanted; empty where none is."""
    trial = tried(one, pair, Family("", arrays), np.random.default_rng(0))
    each = zip(one.moving, trial.gradients, trial.of_gradients, trial.wrong, strict=True)
    for position, (got, want), c, bad in each:
        if bad.any():
            at = by.first(bad, c.units)
            return f"{one.names[position]} at {list(at)}: got {by.text(got[at])}, want {by.text(want[at])}"
    return ""


def _failures(trial: Trial, one: Problem, pair: Pair, before: Sequence[Arrays], *, first: bool) -> list[str]:
    """One line for each argument with a wrong gradient and each wrong value.

    ``before`` are the right gradients of the inputs before. The ``first`` time a part of a sum is looked for as well.
    """
    lines, family = [], trial.family
    each = zip(one.moving, trial.gradients, trial.of_gradients, trial.wrong, strict=True)
    for k, (position, (got, want), c, bad) in enumerate(each):
        if not bad.any():
            continue
        at = by.first(bad, c.units)
        lengths = {n for array in one.arrays for n in array.shape} - set(want.shape)
        cause = hint(got, want, (earlier[k] for earlier in before), sorted(lengths))
        if not cause and first:
            cause = _part_of_a_sum(one, pair, pair.given(family.arrays), position, got)
        lines.append(
            f"gradient of {one.names[position]} at {list(at)}: got {by.text(got[at])}, want {by.text(want[at])} "
            f"({int(bad.sum())} of {bad.size} entries wrong; inputs {family.name!r}: "
            f"{shown(one, family.arrays, at[0] if at else None)})" + (f"; {cause}" if cause else "")
        )
    for k, ((got, want), c) in enumerate(zip(trial.values, trial.of_values, strict=True)):
        if c.wrong.any():
            at = by.first(c.wrong, c.units)
            lines.append(
                f"value of output {k} at {list(at)} under the rule: got {by.text(got[at])}, want {by.text(want[at])} "
                f"(inputs {family.name!r}: {shown(one, family.arrays, at[0] if at else None)})"
            )
    return lines


def _part_of_a_sum(one: Problem, pair: Pair, arrays: Arrays, position: int, got: Any) -> str:
    """The hint that a sum over a broadcast axis is missing, if the formula takes the argument once for each place."""
    narrow = np.asarray(arrays[position])
    for shape in dict.fromkeys(np.shape(a) for a in arrays if np.shape(a)[1:] == narrow.shape):
        each = (*arrays[:position], np.broadcast_to(narrow, shape), *arrays[position + 1 :])
        try:
            plain = Program(one.pullback(pair.truth), each, pair.cotangents, wide=pair.wide)
            spread = plain(each, pair.cotangents)[1][one.moving.index(position)]
        except Exception:  # the function may refuse other shapes in any way
            continue
        if cause := unsummed(got, spread):
            return cause
    return ""
