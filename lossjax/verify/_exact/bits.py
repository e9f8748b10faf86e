"""Rules of what depends on how a number is stored: the next float, the sign bit, all bits of a float."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flint import arb
from jax.extend.core import Literal

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.elementwise import rounded
from lossjax.verify._exact.rules import Unknown, rule, to_array
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


def leading_bits(context: Context, equation: Any, values: list[Any], needed: list[bool]) -> list[Any]:
    """The same where the program cuts off the last bits of a number, and so splits it in two: of the nearest float.

    Both parts of the number are then in the program, the second by a subtraction, whatever the first is. So where a
    constant may be any of a ball, and all that is asked is whether two programs may agree, it is a float beside it.
    """
    dtype = equation.invars[0].aval.dtype
    entries = values[0].ravel().tolist()
    if context.looseness:
        entries = [v.mid() if isinstance(v, arb) and v.is_finite() else v for v in entries]
    nearest = rounded(context, to_array(entries, values[0].shape), dtype)
    for v in nearest.ravel().tolist():
        if type(v) is Unknown:
            raise v.error
    return bits_of(context, equation, [nearest], needed)


def read_in_part(program: Any) -> dict[Any, Callable[..., list[Any]]]:
    """Results of bitcasts of which the program keeps the sign, or the leading bits, alone; and how these are made."""
    uses: dict[Any, list[Any]] = {}
    for equation in program.eqns:
        for atom in equation.invars:
            if not isinstance(atom, Literal):
                uses.setdefault(atom, []).append(equation)
    outputs = {v for v in program.outvars if not isinstance(v, Literal)}
    found = {}
    for equation in program.eqns:
        if equation.primitive.name != "bitcast_convert_type" or equation.outvars[0] in outputs:
            continue
        bits = equation.outvars[0]
        used = uses.get(bits, [])
        if all(_leaves_the_sign(use, bits) for use in used):
            found[bits] = sign_bits
        elif all(_leaves_the_head(use) and outputs.isdisjoint(use.outvars) for use in used):
            parts = [back for use in used for back in uses.get(use.outvars[0], [])]
            if all(_is_back(part, equation) for part in parts):
                found[bits] = leading_bits
    return found


def _leaves_the_sign(use: Any, bits: Any) -> bool:
    """By a shift that leaves no other bit."""
    if use.primitive.name not in _SHIFTS or use.invars[0] is not bits:
        return False
    by = use.invars[1]
    return isinstance(by, Literal) and int(np.asarray(by.val)) == 8 * np.dtype(bits.aval.dtype).itemsize - 1


def _leaves_the_head(use: Any) -> bool:
    """By a mask of ones and then zeros."""
    mask = next((atom.val for atom in use.invars if isinstance(atom, Literal)), None)
    if use.primitive.name != "and" or mask is None:
        return False
    cut = ~np.asarray(mask)
    return not cut & (cut + 1)


def _is_back(part: Any, made_by: Any) -> bool:
    """Whether an equation makes a float of bits again, as that was of which they are."""
    return part.primitive.name == "bitcast_convert_type" and part.params["new_dtype"] == made_by.invars[0].aval.dtype
