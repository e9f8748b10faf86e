"""The real functions of one number that JAX's primitives stand for, with IEEE 754's values at infinities and poles.

Arb gives NaN both where a function has no value and where a ball leaves it open. The two must not be confused: each
operation names where it is NaN or infinite for certain, and everything else is undecided (None).
"""

import functools
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
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

HALF = arb(0.5)
_LONGEST = 100_000  # an integer of more bits is not written out


def certain(ball: arb) -> arb | None:
    """The ball, or None if Arb returned one that says nothing."""
    return ball if ball.is_finite() else None


def unary(
    fast: Callable[[arb], arb | None],
    top: arb,
    bottom: arb,
    poles: Sequence[tuple[float, arb]] = (),
    outside: Callable[[arb], bool] = lambda x: False,
) -> Operation:
    """A function of one number: its values at ±inf and at its poles, and where it is certainly NaN."""

    def edge(x: arb) -> arb | None:
        if x == INF:
            return top
        if x == NEG_INF:
            return bottom
        for at, value in poles:
            if x == at:
                return value
        return NAN if outside(x) else None

    return Operation(fast, edge)


def _periodic(method: Callable[[arb], arb]) -> Callable[[arb], arb]:
    return lambda x: method(x) if x.is_finite() else NAN  # Arb encloses sin(inf) by [-1, 1]


def _cbrt(x: arb) -> arb:
    if x >= 0:
        return x.root(3)
    if x < 0:
        return -(-x).root(3)
    if not x.is_finite():
        return NAN
    return (-(-x.lower()).root(3)).union(x.upper().root(3))


def _log2(x: arb) -> arb:
    if x > 0 and x.is_exact() and x.is_finite() and x.man_exp()[0] == 1:
        return arb(x.man_exp()[1])
    return x.log() / arb.const_log2()


def _logistic(x: arb) -> arb:
    if x > 0:
        return 1 / (1 + (-x).exp())
    weight = x.exp()
    return weight / (1 + weight)


def _lgamma(x: arb) -> arb:
    if x > 0 or not x.is_finite():
        return x.lgamma()
    return (arb.pi() / abs(x.sin_pi())).log() - (1 - x).lgamma()


def _lgamma_edge(x: arb) -> arb | None:
    return INF if not x.is_finite() or (x <= 0 and x.is_integer()) else None


def digamma_edge(x: arb) -> arb | None:
    """Digamma where Arb finds no number: NaN at its poles."""
    if x == INF:
        return INF
    if x == 0:
        return _digamma_at_zero()
    return NAN if x == NEG_INF or (x < 0 and x.is_integer()) else None


@functools.cache
def _digamma_at_zero() -> arb:
    """What the installed JAX says, since its versions differ: NaN, or the limit from the right."""
    return NAN if jnp.isnan(jax.lax.digamma(jnp.float32(0))) else NEG_INF


def _bessel(order: int) -> Callable[[arb], arb]:
    def scaled(x: arb) -> arb:
        if not x.is_finite():
            return NAN if x.is_nan() else ZERO
        if x > 0:
            return x.bessel_i(order, scaled=True)
        if x < 0:
            return (-x).bessel_i(order, scaled=True) * (-1) ** order
        return x.bessel_i(order) * (-abs(x)).exp()

    return scaled


def sign(x: arb) -> arb | None:
    """-1, 0 or 1."""
    if x > 0:
        return ONE
    if x < 0:
        return arb(-1)
    if x == 0:
        return ZERO
    return NAN if x.is_nan() else None


def absolute(x: arb) -> arb:
    """|x|, the same object where x is certainly not negative."""
    return x if is_nonnegative(x) else nonnegative(abs(x))


def squared(x: arb) -> arb:
    """x²."""
    return x * x if x.is_exact() else nonnegative(x * x)


def _sqrt(x: arb) -> arb:
    return nonnegative(ZERO.union(x.upper().sqrt())) if type(x) is NonNegative else x.sqrt()


def stepwise(step: Callable[[arb], arb]) -> Operation:
    """A nondecreasing step function, given on exact finite numbers; undecided where a ball straddles a step."""

    def fast(x: arb) -> arb | None:
        if not x.is_finite():
            return x
        if x.is_exact():
            return step(x)
        low = step(x.lower())
        return low if low == step(x.upper()) else None

    return Operation(fast)


def integers_of(x: arb) -> tuple[int, int]:
    """Mantissa and exponent of an exact number. (Arb's own ``abs`` and ``-`` round.)"""
    mantissa, exponent = x.man_exp()
    return int(mantissa), int(exponent)


def halved(number: int, times: int, *, ties_up: bool = False) -> int:
    """``number / 2^times`` rounded to nearest, ties to even or up; by integer arithmetic, so nothing else rounds."""
    whole, rest = divmod(number, 1 << times)
    twice = 2 * rest - (1 << times)
    return whole + (twice > 0 or (twice == 0 and (ties_up or whole % 2 == 1)))


def _halfway(x: arb, *, to_even: bool) -> arb:
    """The integer nearest to an exact number; halves go away from zero or to even."""
    if x.is_integer():
        return x
    if abs(x) < HALF:
        return ZERO
    mantissa, exponent = integers_of(x)
    whole = halved(abs(mantissa), -exponent, ties_up=not to_even)
    return arb(whole if mantissa > 0 else -whole)


def truncated(x: arb) -> int | None:
    """The integer part of a finite ball, towards 0; None where undecided or too long to write down."""
    if x.is_exact():
        return _integer_part(x)
    low, high = _integer_part(x.lower()), _integer_part(x.upper())
    return low if low == high else None


def _integer_part(x: arb) -> int | None:
    mantissa, exponent = integers_of(x)
    if exponent > _LONGEST:
        return None
    size = abs(mantissa) << exponent if exponent >= 0 else abs(mantissa) >> -exponent
    return size if mantissa >= 0 else -size


FLOOR, CEIL = stepwise(arb.floor), stepwise(arb.ceil)
ROUND = {
    0: stepwise(lambda x: _halfway(x, to_even=False)),
    1: stepwise(lambda x: _halfway(x, to_even=True)),
}
"""By ``lax.RoundingMethod``: away from zero, to even."""


def _beyond_one(x: arb) -> bool:
    return abs(x) > 1


UNARY: dict[str, Operation] = {
    "neg": Operation(lambda x: -x),
    "abs": Operation(absolute),
    "sign": Operation(sign),
    "floor": FLOOR,
    "ceil": CEIL,
    "square": Operation(squared, lambda x: INF if not x.is_finite() else None),
    "one_minus_square": unary(lambda x: 1 - x * x, NEG_INF, NEG_INF),
    "sqrt": unary(_sqrt, INF, NAN, outside=lambda x: x < 0),
    "rsqrt": unary(arb.rsqrt, ZERO, NAN, [(0, INF)], lambda x: x < 0),
    "cbrt": unary(_cbrt, INF, NEG_INF),
    "exp": unary(arb.exp, INF, ZERO),
    "exp2": unary(lambda x: arb(2) ** x, INF, ZERO),
    "expm1": unary(arb.expm1, INF, arb(-1)),
    "log": unary(arb.log, INF, NAN, [(0, NEG_INF)], lambda x: x < 0),
    "log2": unary(_log2, INF, NAN, [(0, NEG_INF)], lambda x: x < 0),
    "log1p": unary(arb.log1p, INF, NAN, [(-1, NEG_INF)], lambda x: x < -1),
    "logistic": unary(_logistic, ONE, ZERO),
    "sin": unary(_periodic(arb.sin), NAN, NAN),
    "cos": unary(_periodic(arb.cos), NAN, NAN),
    "tan": unary(arb.tan, NAN, NAN),
    "asin": unary(arb.asin, NAN, NAN, outside=_beyond_one),
    "acos": unary(arb.acos, NAN, NAN, outside=_beyond_one),
    "atan": Operation(arb.atan),
    "sinh": unary(arb.sinh, INF, NEG_INF),
    "cosh": unary(arb.cosh, INF, INF),
    "tanh": Operation(arb.tanh),
    "asinh": unary(arb.asinh, INF, NEG_INF),
    "acosh": unary(arb.acosh, INF, NAN, outside=lambda x: x < 1),
    "atanh": unary(arb.atanh, NAN, NAN, [(1, INF), (-1, NEG_INF)], _beyond_one),
    "lgamma": Operation(_lgamma, _lgamma_edge),
    "digamma": Operation(arb.digamma, digamma_edge),
    "erf": unary(arb.erf, ONE, arb(-1)),
    "erfc": unary(arb.erfc, ZERO, arb(2)),
    "erf_inv": unary(arb.erfinv, NAN, NAN, [(1, INF), (-1, NEG_INF)], _beyond_one),
    "bessel_i0e": Operation(_bessel(0)),
    "bessel_i1e": Operation(_bessel(1)),
}


def integer_power(exponent: int) -> Operation:
    """``x^n``; 1 for n = 0 even at NaN, +inf at 0 for n < 0."""
    odd = exponent % 2 == 1

    def edge(x: arb) -> arb | None:
        if not x.is_finite():
            return ZERO if exponent < 0 else NEG_INF if odd and x < 0 else INF
        return INF if x == 0 else None

    def power(x: arb) -> arb:
        if exponent == 0:
            return ONE
        found = x**exponent
        if exponent > 0 and not found.is_finite():  # Arb has no power of a ball whose middle is 0
            found = functools.reduce(operator.mul, [x] * exponent)
        return found if odd or exponent < 0 else nonnegative(found)

    return Operation(power, edge)
