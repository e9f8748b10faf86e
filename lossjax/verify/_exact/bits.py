"""Rules of what depends on how a number is stored: the next float, the sign bit, all bits of a float."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flint import arb
from jax.extend.core import Literal

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.rules import Unknown, rule
from lossjax.verify.ulp import Balls

_SHIFTS = ("shift_right_arithmetic", "shift_right_logical")


def floats_of(context: Context, x: Balls, dtype: Any) -> np.ndarray:
    """The numbers in this dtype; a refusal if one is not among its numbers, since a rounding would have made it one."""
    entries = x.ravel().tolist()
    if all(v.is_exact() or not (v.is_finite() or type(v) is Unknown) for v in entries):
        found = np.array([float(v) for v in entries], np.float64).reshape(x.shape).astype(dtype)
        wide = found.astype(np.float64).ravel().tolist()
        if all(arb(f) == v or (f != f and v.is_nan()) for f, v in zip(wide, entries, strict=True)):
            return found
    raise context.unsupported(f"its result depends on a rounding to {jnp.dtype(dtype).name} that is not made here")


@rule("nextafter")
def _nextafter(context: Context, params: Any, x: Balls, towards: Balls) -> Balls:
    dtype = context.equation.outvars[0].aval.dtype
    x, towards = np.broadcast_arrays(x, towards)
    return context.balls(np.nextafter(floats_of(context, x, dtype), floats_of(context, towards, dtype)))


def bits_of(context: Context, equation: Any, values: list[Any], needed: list[bool]) -> list[Any]:
    """``bitcast_convert_type`` of floats to anything: of numbers that are floats."""
    given, wanted = equation.invars[0].aval.dtype, equation.params["new_dtype"]
    stored = floats_of(context, values[0], given).view(wanted)
    return [context.balls(stored) if jnp.issubdtype(wanted, jnp.floating) else stored]


def sign_bits(context: Context, equation: Any, values: list[Any], needed: list[bool]) -> list[Any]:
    """The same where nothing but the sign is read: all bits of a negative number are set, none of another's."""
    signs = []
    for v in values[0].ravel().tolist():
        if not (v < 0 or v >= 0):
            raise context.undecided(v)
        signs.append(bool(v < 0))
    negative = np.array(signs, bool).reshape(values[0].shape)
    wanted = np.dtype(equation.params["new_dtype"])
    return [np.where(negative, ~np.zeros((), wanted), np.zeros((), wanted))]


def read_for_their_sign(program: Any) -> set[Any]:
    """The results of bitcasts of which the program keeps the sign bit alone, by a shift that leaves no other."""
    uses: dict[Any, list[Any]] = {}
    for equation in program.eqns:
        for atom in equation.invars:
            if not isinstance(atom, Literal):
                uses.setdefault(atom, []).append(equation)
    outputs = {v for v in program.outvars if not isinstance(v, Literal)}
    return {
        e.outvars[0]
        for e in program.eqns
        if e.primitive.name == "bitcast_convert_type"
        and e.outvars[0] not in outputs
        and all(_leaves_the_sign(use, e.outvars[0]) for use in uses.get(e.outvars[0], []))
    }


def _leaves_the_sign(equation: Any, variable: Any) -> bool:
    if equation.primitive.name not in _SHIFTS or equation.invars[0] is not variable:
        return False
    by = equation.invars[1]
    return isinstance(by, Literal) and int(np.asarray(by.val)) == 8 * np.dtype(variable.aval.dtype).itemsize - 1
