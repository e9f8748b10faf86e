"""Whether a function works under every transformation of JAX: each is held against what it means, off all kinks.

A transformation makes one program of another. Both are executed exactly: nothing needs to be compiled, and they can
only differ if the transformation is wrong. ``jit`` and ``shard_map`` are about the machine, so what they make is
compiled and compared to within roundings; and so is a program that has no exact meaning.
"""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossjax._core.xla import LITTLE_EFFORT
from lossjax.verify._check import compare as by
from lossjax.verify._check.certificate import Row
from lossjax.verify._check.inlining import uses
from lossjax.verify._check.point import Subject
from lossjax.verify._check.problem import BEYOND_JAX, Problem, is_key
from lossjax.verify._check.programs import (
    REFUSALS,
    Pair,
    Program,
    as_floats,
    cotangents,
    x64,
)
from lossjax.verify._check.transformations import MODES, Mode, Skipped
from lossjax.verify.tables import number

_GONE = (jax.errors.TracerArrayConversionError, jax.errors.UnexpectedTracerError)
_OF_THE_MACHINE = ("jit", "shard_map")
_BY_THE_FORMULA = ("hessian", "reverse over reverse", "scan, second derivative")
NOT_AVAILABLE = "not available"


def _subject(one: Problem, pair: Pair, seed: int) -> Subject:
    """The function near the example, in float64 if it takes that."""
    tangents = cotangents(one.chosen(pair.example), np.random.default_rng(seed + 6))
    # JAX's own arrays, for they are constants of whatever is traced from here on.
    given = tuple(a if is_key(a) else jnp.asarray(a) for a in pair.example)
    return Subject(one, pair, given, pair.cotangents, tangents)


def check_modes(one: Problem, pair: Pair, seed: int) -> list[Row]:
    """One row a transformation, ``modes: jvp`` and so on."""
    with x64(pair.wide):
        about = _subject(one, pair, seed)
        with contextlib.suppress(Exception):  # what fails here will fail in a row of its own, which reports it
            _ = about.sizes  # computed now, because it cannot be while something is traced
        return [_row(name, about) for name in MODES]


def _row(name: str, about: Subject) -> Row:
    title, mode = f"modes: {name}", MODES[name]
    tolerance = about.pair.tolerance
    if name in _BY_THE_FORMULA and about.pair.approximate:
        return Row(
            title, None, statement="not judged: the formula is an approximation, and so is its second derivative"
        )
    try:
        got, want, exactly = _executed(mode, about, exactly=name not in _OF_THE_MACHINE)
    except Skipped as reason:
        return Row(title, None, statement=f"skipped: {reason}")
    except jax.errors.JaxRuntimeError as error:
        if "allback" not in str(error):
            return _raised(title, error)
        return Row(title, None, statement="not judged: the function refuses the arguments that it was tried with")
    except Exception as error:  # whatever JAX or the function raises is the finding
        cannot = _beyond_jax(str(error), about)
        return Row(title, None, statement=f"{NOT_AVAILABLE}: {cannot}") if cannot else _raised(title, error)
    pairs = list(zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True))
    if exactly:
        allowed = tolerance.of_entry / tolerance.u
        found = [by.compare(g, w, tolerance) for g, w in pairs]
        ok = not any(c.wrong.any() for c in found)
        worst = max((float(np.max(c.units, initial=0)) for c in found), default=0.0)
        detail = f"{mode.meaning}, exactly, in u"
        wrong = [f"off by {number(worst)}u, allowed {number(allowed)}u"]
    else:
        # Cancellation amplifies roundings. A wrong transformation is off by far more than 2^23 of them.
        allowed = {by.WIDE: 2.0**-30, by.NARROW: 2.0**-10, by.HALF: 2.0**-3}[tolerance]
        floor = 2.0**-10 * max((by.largest(w) for _, w in pairs), default=0)
        worst = max((by.off(g, w, floor) for g, w in pairs), default=0)
        ok = worst <= allowed
        detail = f"{mode.meaning}, computed, relative to the largest entry"
        wrong = [f"off by {number(worst)} of the largest entry, allowed {number(allowed)}"]
    return Row(title, ok, worst, allowed, detail, () if ok else (f"{wrong[0]}: {mode.meaning}",))


def _executed(mode: Mode, about: Subject, *, exactly: bool) -> tuple[Any, Any, bool]:
    """What the transformation gives, what that must equal, and whether both were executed exactly."""
    wide = about.pair.wide
    if exactly:
        try:
            return Program(lambda: mode.given(about), wide=wide)(), about.exactly(mode.meant), True
        except REFUSALS:
            got, want = jax.jit(lambda: (mode.given(about), mode.meant(about)), compiler_options=LITTLE_EFFORT)()
            return got, want, False
    got = mode.given(about)
    try:
        return got, jax.tree.map(as_floats, about.exactly(mode.meant)), False
    except REFUSALS:
        return got, jax.jit(lambda: mode.meant(about))(), False


def _beyond_jax(said: str, about: Subject) -> str:
    """What an error of JAX means where it says that JAX cannot do this for any function of a kind; else nothing."""
    for words, meaning in BEYOND_JAX.items():
        if words in said:
            return meaning
    # JAX loses count of a kernel's arguments where some of them have no tangent, and says so in words about its lists.
    if said.startswith(("safe_map() argument", "safe_zip() argument")) and uses(
        jax.make_jaxpr(about.both_of)(about.arrays), ("pallas_call",)
    ):
        return "JAX differentiates a kernel forward in all of its arguments or not at all"
    return ""


def _raised(title: str, error: Exception) -> Row:
    first_line = next((line for line in str(error).splitlines() if line.strip()), "")
    cause = "; does a rule close over an argument? Hand it to the rule as one" if isinstance(error, _GONE) else ""
    return Row(title, False, float("inf"), 0, f"{type(error).__name__}: {first_line}{cause}")
