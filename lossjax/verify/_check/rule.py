"""Whether a custom rule is the derivative of its formula; both are executed exactly, so that nothing is rounded."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lossjax.verify import oracle, ulp
from lossjax.verify._check import compare as by
from lossjax.verify._check.certificate import Row
from lossjax.verify._check.hints import hint, unsummed
from lossjax.verify._check.inlining import uses
from lossjax.verify._check.inputs import Family, affordable, generic, shown
from lossjax.verify._check.kinks import legal, undefined
from lossjax.verify._check.problem import Arrays, Problem
from lossjax.verify._check.programs import REFUSALS, Pair, Program, cotangents
from lossjax.verify._check.shrinking import shrunk
from lossjax.verify._check.sizes import resized

_MOST_ENTRIES = 120_000
_MOST_FAILURES = 3
_NO_FORWARD_MODE = ("custom_lin",)
"""What JAX leaves in a program where a ``custom_vjp`` was asked for its tangent: it cannot be run."""


def check_rule(
    one: Problem,
    families: Sequence[Family],
    reference: Callable[..., Any] | None,
    pair: Pair,
    seed: int,
    *,
    name: str = "rule",
) -> list[Row]:
    """The rows ``rule`` (of this name) and ``rule: forward = reverse``."""
    adjoint = _adjoint(one, pair, seed)
    if reference is None and not pair.has_rules:
        row = Row("rule", True, statement="no custom rule in it: JAX differentiates the formula itself")
        return [row] if adjoint is None else [row, adjoint]
    if pair.plain is None:
        row = Row(name, None, statement=f"not judged: {pair.undifferentiable}")
        return [row] if adjoint is None else [row, adjoint]
    tried = affordable(one, families, _MOST_ENTRIES)
    worst, skipped, kinked, judged, unsure, truncation = 0.0, 0, 0, 0, 0, 0.0
    empty = not any(np.size(a) for a in one.chosen(one.arrays))
    failures: list[str] = []
    refused: list[str] = []
    before: list[Arrays] = []
    again = functools.partial(Pair, reference=reference, seed=seed, wide=pair.wide)
    program = ""
    random = np.random.default_rng(seed)
    for family in tried:
        arrays = pair.given(family.arrays)
        try:
            (got_values, want_values), pairs, found, illegal = _judged(one, pair, arrays, random)
        except REFUSALS as error:
            refused.append(f"{family.name}: {error}")
            continue
        judged += sum(int(c.judged.sum()) for c in found)
        unsure += sum(c.unsure for c in found)
        skipped += sum(int((~c.judged).sum()) - c.unsure for c in found)
        kinked += sum(int((c.wrong & ~bad).sum()) for c, bad in zip(found, illegal, strict=True))
        for c, bad in zip(found, illegal, strict=True):
            worst = max(worst, float(np.max(np.where(c.wrong & ~bad, 0, c.units), initial=0)))
        values = [by.compare(g, w, pair.tolerance) for g, w in zip(got_values, want_values, strict=True)]
        wrong = [*illegal, *(c.wrong for c in values)]
        off = [c.worst(bad, pair.tolerance) for c, bad in zip((*found, *values), wrong, strict=True)]
        if 0 < max(off) <= pair.roundoff:
            truncation = max(truncation, *off)
            continue
        if not failures and any(bad.any() for bad in illegal):
            program = shrunk(one, pair, arrays, again, _wrong)
        failures += _gradient_failures(one, family, pairs, found, illegal, before, None if failures else pair)
        before.append(tuple(want for _, want in pairs))
        failures += _value_failures(one, family, got_values, want_values, values)
    if not judged and (refused or not empty):
        nowhere = "what is there hangs on rounded constants" if unsure else "the formula's derivative is nowhere finite"
        why = refused[0] if refused else nowhere
        return [Row(name, None, statement=f"not judged: {why}")]
    detail = (
        f"{'the reference' if reference else 'the plain formula'} differentiated, both exactly, "
        f"{'float64' if pair.wide else 'own dtype'}: {len(tried) - len(refused)} inputs, {judged} entries agree "
        f"to {worst:.2g}u"
    )
    if failures:
        detail = detail.replace("agree to", "agree only to")
    for count, what in (
        (kinked, "subgradients at kinks"), (skipped, "skipped where the formula's is not finite"),
        (unsure, "skipped that hang on the rounding of a constant"),
    ):  # fmt: skip
        detail += f"; {count} {what}" if count else ""
    if len(tried) < len(families):
        detail += f"; {len(tried)} of {len(families)} inputs, for their size"
    detail += f"; {len(refused)} not judged ({refused[0]})" if refused else ""
    allowed = pair.tolerance.of_entry / pair.tolerance.u
    ok: bool | None = not failures
    if truncation and not failures:
        pair.approximate, ok = True, True if pair.by_reference else None
        detail = f"{truncated(truncation, pair)}; {detail}"
    rows = [Row(name, ok, worst, allowed, detail, tuple(failures[:_MOST_FAILURES]), program)]
    return rows if adjoint is None else [*rows, adjoint]


def _judged(
    one: Problem, pair: Pair, arrays: Arrays, random: np.random.Generator
) -> tuple[tuple[Arrays, Arrays], list[Any], list[by.Comparison], list[np.ndarray]]:
    """Values, gradients by rule and formula in pairs, how they compare, and where they differ but for a kink."""
    assert pair.plain is not None
    got_values, got = pair.ruled(arrays, pair.cotangents)
    want_values, want = pair.plain(arrays, pair.cotangents)
    pairs = list(zip(got, want, strict=True))
    found = [by.compare(g, w, pair.tolerance) for g, w in pairs]
    for c in found:
        c.drop(undefined(want_values, c.judged))
    illegal = [c.wrong for c in found]
    if any(c.wrong.any() for c in found):
        ruled, plain = (lambda moved, p=p: p(moved, pair.cotangents) for p in (pair.ruled, pair.plain))
        illegal = legal(one, arrays, ruled, plain, got, found, pair.tolerance, random)
    if any(bad.any() for bad in illegal):
        illegal = _but_for_constants(pair, arrays, found, illegal)
    return (got_values, want_values), pairs, found, illegal


def _but_for_constants(
    pair: Pair, arrays: Arrays, found: list[by.Comparison], illegal: list[np.ndarray]
) -> list[np.ndarray]:
    """The wrong entries that stay wrong whatever the constants were rounded from; the others are not judged."""
    unsure = pair.hang_on_constants(arrays, pair.cotangents, illegal)
    for c, where in zip(found, unsure, strict=True):
        c.drop(where)
        c.unsure += int(where.sum())
    return [bad & ~where for bad, where in zip(illegal, unsure, strict=True)]


def _wrong(one: Problem, pair: Pair, arrays: Arrays) -> str:
    """Which gradient is wrong for these arguments, got and wanted; empty where none is."""
    _, pairs, found, illegal = _judged(one, pair, pair.given(arrays), np.random.default_rng(0))
    for position, (got, want), c, bad in zip(one.moving, pairs, found, illegal, strict=True):
        if bad.any():
            at = by.first(bad, c.units)
            return f"{one.names[position]} at {list(at)}: got {by.text(got[at])}, want {by.text(want[at])}"
    return ""


def truncated(off: float, pair: Pair) -> str:
    """The words for a difference that is below a rounding of the function's own dtype, in every entry."""
    if pair.by_reference:
        return f"an approximation: off by up to {off:.1e} of an entry, less than a rounding of its dtype"
    return (
        f"not judged: off the formula's derivative by up to {off:.1e} of an entry, less than a rounding of its dtype: "
        f"is the formula an approximation (a truncated series)? Say what is meant by reference="
    )


def _gradient_failures(
    one: Problem,
    family: Family,
    pairs: Any,
    found: Any,
    illegal: Any,
    before: Sequence[Arrays],
    pair: Pair | None = None,
) -> list[str]:
    """One line for each argument with a wrong gradient; ``before`` are the right ones of the inputs before.

    ``pair`` has the formula, if a part of a sum is to be told from it.
    """
    lines = []
    for k, (position, (got, want), c, bad) in enumerate(zip(one.moving, pairs, found, illegal, strict=True)):
        if not bad.any():
            continue
        at = by.first(bad, c.units)
        lengths = {n for array in one.arrays for n in array.shape} - set(want.shape)
        cause = hint(got, want, (earlier[k] for earlier in before), sorted(lengths))
        if not cause and pair is not None:
            cause = _part_of_a_sum(one, pair, pair.given(family.arrays), position, got)
        lines.append(
            f"gradient of {one.names[position]} at {list(at)}: got {by.text(got[at])}, want {by.text(want[at])} "
            f"({int(bad.sum())} of {bad.size} entries wrong; inputs {family.name!r}: "
            f"{shown(one, family.arrays, at[0] if at else None)})" + (f"; {cause}" if cause else "")
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


def _value_failures(one: Problem, family: Family, got: Any, want: Any, found: Any) -> list[str]:
    lines = []
    for k, (g, w, c) in enumerate(zip(got, want, found, strict=True)):
        if c.wrong.any():
            at = by.first(c.wrong, c.units)
            lines.append(
                f"value of output {k} at {list(at)} under the rule: got {by.text(g[at])}, want {by.text(w[at])} "
                f"(inputs {family.name!r}: {shown(one, family.arrays, at[0] if at else None)})"
            )
    return lines


def _adjoint(one: Problem, pair: Pair, seed: int) -> Row | None:
    """The row for ⟨u, Jv⟩ = ⟨Jᵀu, v⟩; None for a function without forward mode, which ``modes`` reports."""
    random = np.random.default_rng(seed + 1)
    arrays = generic(one, pair.arrays, random)
    tangents = cotangents([arrays[i] for i in one.moving], random)
    try:
        forward = Program(one.pushforward(one.fn), arrays, tangents, wide=pair.wide)
    except Exception:  # a rule without forward mode may raise anything
        return None
    name = "rule: forward = reverse"
    if uses(forward.jaxpr, _NO_FORWARD_MODE):
        return None
    try:
        _, pushed = forward(arrays, tangents)
        _, pulled = pair.ruled(arrays, pair.cotangents)
    except REFUSALS as error:
        return Row(name, None, statement=f"not judged: {error}")
    with oracle.precision():
        left, size = by.dot([ulp.balls(c) for c in pair.cotangents], pushed)
        right, also = by.dot(pulled, [ulp.balls(t) for t in tangents])
        if not (left.is_finite() and right.is_finite()):
            return Row(name, None, statement="not judged: not finite at the example")
        size = max(size, also)
        gap = 0.0 if left.overlaps(right) or not size else float((left - right).abs_lower()) / size
    ok = gap <= pair.tolerance.of_entry
    line = f"⟨u, Jv⟩ = {by.text(left)}, ⟨Jᵀu, v⟩ = {by.text(right)} (inputs: {shown(one, arrays)})"
    u = pair.tolerance.u
    return Row(name, ok, gap / u, pair.tolerance.of_entry / u, "⟨u, Jv⟩ = ⟨Jᵀu, v⟩, exactly, in u of the terms",
               () if ok else (line,))  # fmt: skip


def check_sizes(reference: Callable[..., Any] | None, pair: Pair, seed: int) -> list[Row]:
    """The row ``rule: other sizes``: is the rule the derivative of the formula there too? None where there is none."""
    failures: list[str] = []
    tried, blocks, program = [], 0, ""
    for size in resized(pair, reference, seed):
        arrays = size.pair.given(size.family.arrays)
        try:
            (got_values, want_values), pairs, found, illegal = _judged(
                size.one, size.pair, arrays, np.random.default_rng(seed)
            )
        except REFUSALS:
            continue
        if size.whole_blocks:
            blocks += 1
            continue
        tried.append(size.family.name)
        values = [by.compare(g, w, size.pair.tolerance) for g, w in zip(got_values, want_values, strict=True)]
        off = [
            c.worst(bad, size.pair.tolerance)
            for c, bad in zip((*found, *values), (*illegal, *(c.wrong for c in values)), strict=True)
        ]
        if 0 < max(off, default=0.0) <= size.pair.roundoff:
            continue
        if not failures and any(bad.any() for bad in illegal):
            again = functools.partial(Pair, reference=reference, seed=seed, wide=pair.wide)
            program = shrunk(size.one, size.pair, arrays, again, _wrong)
        failures += _gradient_failures(size.one, size.family, pairs, found, illegal, ())
        failures += _value_failures(size.one, size.family, got_values, want_values, values)
    if not tried and not blocks:
        return []
    said = f"; not judged for {blocks} at which the kernel's value is another: is it for whole blocks only?"
    detail = f"as the rule, for {', '.join(tried) or 'none'}{said if blocks else ''}"
    ok = not failures if tried else None
    return [Row("rule: other sizes", ok, float(len(failures)), 0, detail, tuple(failures[:_MOST_FAILURES]), program)]
