"""The operations on two real numbers, with IEEE 754's values at infinities and zeros, and the comparisons."""

from collections.abc import Callable
from typing import Any

from flint import arb

from lossjax.verify._exact.rules import (
    INF,
    NAN,
    NEG_INF,
    ONE,
    ZERO,
    NonNegative,
    Operation,
    is_nonnegative,
    nonnegative,
)
from lossjax.verify._exact.unary import HALF, certain, sign, squared, truncated


def _infinite(x: arb) -> bool:
    return not x.is_finite()


def _add(a: arb, b: arb) -> arb:
    if b is ZERO:
        return a
    if type(a) is NonNegative or type(b) is NonNegative:
        return b if a is ZERO else _signed(a + b, is_nonnegative(a) and is_nonnegative(b))
    return b if a is ZERO else a + b


def _signed(ball: arb, certainly: bool) -> arb:
    return nonnegative(ball) if certainly else ball


def _add_edge(a: arb, b: arb) -> arb | None:
    if _infinite(a) and _infinite(b):
        return a if a == b else NAN
    return a if _infinite(a) else b if _infinite(b) else None


def _sub(a: arb, b: arb) -> arb:
    # The same object stands for the same number, so the difference is 0 however wide the ball.
    if b is ZERO:
        return a
    return ZERO if a is b and a.is_finite() else a - b


def _mul(a: arb, b: arb) -> arb:
    if a is ONE:
        return b
    if b is ONE:
        return a
    if a is b:
        return squared(a)
    if type(a) is NonNegative or type(b) is NonNegative:
        return _signed(a * b, is_nonnegative(a) and is_nonnegative(b))
    return a * b


def _mul_edge(a: arb, b: arb) -> arb | None:
    if not (_infinite(a) or _infinite(b)):
        return None
    of_a, of_b = sign(a), sign(b)
    if of_a is None or of_b is None:
        return None
    return NAN if of_a is ZERO or of_b is ZERO else INF * of_a * of_b


def _div(a: arb, b: arb) -> arb:
    if b is ONE:
        return a
    if type(a) is NonNegative:
        return _signed(a / b, bool(b > 0))
    return ONE if a is b and a.is_finite() and not a.contains(0) else a / b


def _div_edge(a: arb, b: arb) -> arb | None:
    if _infinite(b):
        return NAN if _infinite(a) else ZERO
    if b == 0:
        return None if (up := sign(a)) is None else NAN if up is ZERO else INF * up  # no zero is negative here
    return _mul_edge(a, b) if _infinite(a) else None


def larger(a: arb, b: arb) -> arb:
    """The maximum of two numbers: one of them where that is certain, else a ball that holds it."""
    if a is b or a >= b:
        return a
    return b if b >= a else a.max(b)


def smaller(a: arb, b: arb) -> arb:
    """The minimum of two numbers: one of them where that is certain, else a ball that holds it."""
    if a is b or a <= b:
        return a
    return b if b <= a else a.min(b)


def _remainder(x: arb, y: arb) -> arb | None:
    """The remainder of a division as C's ``fmod`` has it, with the sign of x."""
    if not (x.is_finite() and y.is_finite()):
        return NAN if x.is_nan() or y.is_nan() or _infinite(x) else x
    if y == 0:
        return NAN
    ratio = x / y
    turns = truncated(ratio) if ratio.is_finite() else None
    return None if turns is None else x - turns * y


def _power(x: arb, y: arb) -> arb | None:
    """C's pow: 1 for x = 1 or y = 0 even at NaN; NaN for a negative x and a y that is no integer."""
    if y == 0 or x == 1:
        return ONE
    if x.is_nan() or y.is_nan():
        return NAN
    if _infinite(y):
        return _power_at_infinity(abs(x), y)
    odd = y.is_integer() and not (y * HALF).is_integer()
    if _infinite(x) or x == 0:
        if not (y > 0 or y < 0):
            return None
        size = INF if (y > 0) == _infinite(x) else ZERO
        return -size if x < 0 and odd else size
    if x < 0 and not y.is_integer():
        return None if y.contains_integer() else NAN
    return certain(x**y)


def _power_at_infinity(size: arb, y: arb) -> arb | None:
    if size == 1:
        return ONE
    if size > 1:
        return INF if y > 0 else ZERO
    return (ZERO if y > 0 else INF) if size < 1 else None


def _arctangent(y: arb, x: arb) -> arb | None:
    if x.is_nan() or y.is_nan():
        return NAN
    if _infinite(x) and _infinite(y):
        return arb.pi() * (arb(1) if x > 0 else arb(3)) / 4 * (1 if y > 0 else -1)
    if x == NEG_INF and not (y >= 0 or y < 0):
        return None
    return certain(arb.atan2(y, x))


BINARY: dict[str, Operation] = {
    "add": Operation(_add, _add_edge, commutes=True),
    "sub": Operation(_sub, lambda a, b: _add_edge(a, -b)),
    "mul": Operation(_mul, _mul_edge, commutes=True),
    "div": Operation(_div, _div_edge),
    "max": Operation(larger, commutes=True),
    "min": Operation(smaller, commutes=True),
    "rem": Operation(_remainder),
    "pow": Operation(_power),
    "atan2": Operation(_arctangent),
}
BINARY["add_any"] = BINARY["add"]


# --- comparisons: True, False, or None where the balls leave it open -------------------------------------------------


def equal(a: arb, b: arb) -> bool | None:
    """``a == b``: identical objects are equal."""
    if a is b:
        return not a.is_nan()
    if a == b:
        return True
    return False if a != b or a.is_nan() or b.is_nan() else None


def less(a: arb, b: arb) -> bool | None:
    """``a < b``."""
    if a < b:
        return True
    if type(a) is NonNegative and b <= 0:
        return False
    return False if a is b or a >= b or a.is_nan() or b.is_nan() else None


def less_equal(a: arb, b: arb) -> bool | None:
    """``a <= b``."""
    if a <= b or (type(b) is NonNegative and a <= 0):
        return True
    if a is b:
        return not a.is_nan()
    return False if a > b or a.is_nan() or b.is_nan() else None


COMPARISONS: dict[str, Callable[[Any, Any], bool | None]] = {
    "eq": equal,
    "ne": lambda a, b: None if (same := equal(a, b)) is None else not same,
    "lt": less,
    "le": less_equal,
    "gt": lambda a, b: less(b, a),
    "ge": lambda a, b: less_equal(b, a),
}
