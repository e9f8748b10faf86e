"""Whether a custom rule is the derivative of its formula; both are executed exactly, so that nothing is rounded."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lossjax.verify import oracle, ulp
from lossjax.verify._check import compare as by
from lossjax.verify._check.certificate import Row
from lossjax.verify._check.family import Family, affordable, shown
from lossjax.verify._check.inlining import uses
from lossjax.verify._check.inputs import generic
from lossjax.verify._check.problem import Problem
from lossjax.verify._check.programs import REFUSALS, Pair, Program, cotangents
from lossjax.verify._check.sizes import resized
from lossjax.verify._check.trial import Trial, blamed, tried, truncations

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
    chosen = affordable(one, families, _MOST_ENTRIES)
    empty = not any(np.size(a) for a in one.chosen(one.arrays))
    refused: list[str] = []
    trials: list[Trial] = []
    random = np.random.default_rng(seed)
    for family in chosen:
        try:
            trials.append(tried(one, pair, family, random))
        except REFUSALS as error:
            refused.append(f"{family.name}: {error}")
    found = [(c, bad) for t in trials for c, bad in zip(t.of_gradients, t.wrong, strict=True)]
    judged = sum(int(c.judged.sum()) for c, _ in found)
    unsure = sum(c.unsure for c, _ in found)
    skipped = sum(int((~c.judged).sum()) - c.unsure for c, _ in found)
    kinked = sum(int((c.wrong & ~bad).sum()) for c, bad in found)
    worst = max((float(np.max(np.where(c.wrong & ~bad, 0, c.units), initial=0)) for c, bad in found), default=0.0)
    if not judged and (refused or not empty):
        nowhere = "what is there hangs on rounded constants" if unsure else "the formula's derivative is nowhere finite"
        why = refused[0] if refused else nowhere
        return [Row(name, None, statement=f"not judged: {why}")]
    detail = (
        f"{'the reference' if reference else 'the plain formula'} differentiated, both exactly, "
        f"{'float64' if pair.wide else 'own dtype'}: {len(trials)} inputs, {judged} entries agree "
        f"to {worst:.2g}u"
    )
    left_out = truncations(trials, pair)
    failures, program = blamed([t for t in trials if t not in left_out], one, pair, _again(reference, pair, seed))
    if failures or left_out:
        detail = detail.replace("agree to", "agree only to")
    for count, what in (
        (kinked, "subgradients at kinks"), (skipped, "skipped where the formula's is not finite"),
        (unsure, "skipped that hang on the rounding of a constant"),
    ):  # fmt: skip
        detail += f"; {count} {what}" if count else ""
    if len(chosen) < len(families):
        detail += f"; {len(chosen)} of {len(families)} inputs, for their size"
    detail += f"; {len(refused)} not judged ({refused[0]})" if refused else ""
    allowed = pair.tolerance.of_entry / pair.tolerance.u
    ok: bool | None = not failures
    if left_out and not failures:
        pair.approximate, ok = True, True if pair.by_reference else None
        detail = f"{truncated(max(t.off for t in left_out), pair)}; {detail}"
    rows = [Row(name, ok, worst, allowed, detail, tuple(failures[:_MOST_FAILURES]), program)]
    return rows if adjoint is None else [*rows, adjoint]


def _again(reference: Callable[..., Any] | None, pair: Pair, seed: int) -> Callable[[Problem], Pair]:
    """The pair of rule and formula for arguments of other shapes."""
    return functools.partial(Pair, reference=reference, seed=seed, wide=pair.wide)


def truncated(off: float, pair: Pair) -> str:
    """The words for a difference that is below a rounding of the function's own dtype, of every entry or its value."""
    if pair.by_reference:
        return f"an approximation: off by up to {off:.1e} of an entry, less than a rounding of its dtype"
    of = "its dtype" if off <= pair.roundoff else "the value in its dtype"
    return (
        f"not judged: off the formula's derivative by up to {off:.1e} of an entry, less than a rounding of {of}: "
        f"is the formula an approximation (a truncated series)? Say what is meant by reference="
    )


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
    names, blocks, program = [], 0, ""
    for size in resized(pair, reference, seed):
        try:
            trial = tried(size.one, size.pair, size.family, np.random.default_rng(seed))
        except REFUSALS:
            continue
        if size.whole_blocks:
            blocks += 1
            continue
        names.append(size.family.name)
        if not truncations([trial], size.pair):
            lines, shown = blamed([trial], size.one, size.pair, _again(reference, pair, seed))
            failures += lines
            program = program or shown
    if not names and not blocks:
        return []
    said = f"; not judged for {blocks} at which the kernel's value is another: is it for whole blocks only?"
    detail = f"as the rule, for {', '.join(names) or 'none'}{said if blocks else ''}"
    ok = not failures if names else None
    return [Row("rule: other sizes", ok, float(len(failures)), 0, detail, tuple(failures[:_MOST_FAILURES]), program)]
