"""Complex numbers: a pair of balls to a number, so that what is exact, infinite or unknown stays so in each part.

What moves numbers about does not look at them. Sums and products work on the parts; other functions are Arb's.
A result beside an infinity is refused, since IEEE 754 does not say what it is. There is no signed zero: on a branch cut
the value is the one from above (``sqrt(-1) = i``).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import acb

from lossjax.verify._exact import convolutions, elementwise, reductions, windows
from lossjax.verify._exact.context import Context
from lossjax.verify._exact.pairs import BINARY, equal
from lossjax.verify._exact.rules import INF, NAN, NEG_INF, ONE, RULES, ZERO, Complex, Rule, Unknown, is_balls, to_array
from lossjax.verify._exact.unary import UNARY
from lossjax.verify.ulp import Balls

COMPLEX: dict[str, Rule] = {}
"""By the name of the primitive: the rules for equations with a complex operand or result."""

# Imported for the rules of real numbers that they register.
_REAL = (convolutions, elementwise, reductions, windows)


def complex_rule(*names: str, reads: Any = ()) -> Callable[[Any], Any]:
    """Register a function as the rule of these primitives for complex numbers."""

    def register(function: Any) -> Any:
        for name in names:
            COMPLEX[name] = Rule(function, frozenset(reads))
        return function

    return register


def is_complex(x: Any) -> bool:
    """Whether an array holds complex numbers."""
    return is_balls(x) and x.size > 0 and type(x.flat[0]) is Complex


def parts(x: Balls) -> tuple[Balls, Balls]:
    """The real and the imaginary parts; of real numbers too."""
    if not is_complex(x):
        return x, to_array([ZERO] * x.size, x.shape)
    entries = x.ravel().tolist()
    return to_array([v.real for v in entries], x.shape), to_array([v.imag for v in entries], x.shape)


def joined(real: Balls, imag: Balls) -> Balls:
    """The complex numbers with these parts."""
    return to_array(list(map(Complex, real.ravel().tolist(), imag.ravel().tolist())), real.shape)


def taken(context: Context, array: Any) -> Balls:
    """An argument: complex numbers of numpy, or balls of Arb."""
    array = np.asarray(array)
    if array.dtype != object:
        array = array.astype(np.complex128)
        return joined(context.balls(array.real), context.balls(array.imag))
    entries = [v if isinstance(v, Complex) else of_ball(context, acb(v)) for v in array.ravel().tolist()]
    return to_array(entries, array.shape)


def of_ball(context: Context, value: acb) -> Complex:
    """A finite ball of Arb as a pair."""
    return Complex(*(context.intern(v) if v.is_exact() and v.is_finite() else v for v in (value.real, value.imag)))


def given(x: Balls) -> Balls:
    """A result, as Arb's complex balls."""
    return to_array([v.ball() for v in x.ravel().tolist()], x.shape)


# --- part by part ----------------------------------------------------------------------------------------------------


def _of_parts(name: str) -> Callable[..., Balls]:
    """A function that is linear over the reals in all that it is given in balls."""

    def apply(context: Context, params: Any, *values: Any) -> Any:
        both = [parts(v) if is_balls(v) else (v, v) for v in values]
        return joined(*(RULES[name].execute(context, params, *side) for side in zip(*both, strict=True)))

    return apply


_LINEAR = ("add", "sub", "neg", "add_any", "reduce_sum", "cumsum", "reduce_window_sum")
for _name in _LINEAR:
    complex_rule(_name, reads=RULES[_name].reads)(_of_parts(_name))


def _bilinear(name: str) -> Callable[..., Balls]:
    def apply(context: Context, params: Any, left: Any, right: Any) -> Balls:
        def product(a: Balls, b: Balls) -> Balls:
            return RULES[name].execute(context, params, context.balls(a), context.balls(b))

        (a, b), (c, d) = parts(context.balls(left)), parts(context.balls(right))
        minus, plus = BINARY["sub"], BINARY["add"]
        return joined(
            context.apply("sub", minus, product(a, c), product(b, d)),
            context.apply("add", plus, product(a, d), product(b, c)),
        )

    return apply


for _name in ("mul", "dot_general", "conv_general_dilated"):
    complex_rule(_name, reads=RULES[_name].reads)(_bilinear(_name))


@complex_rule("real")
def _real(context: Context, params: Any, x: Balls) -> Balls:
    return parts(x)[0]


@complex_rule("imag")
def _imag(context: Context, params: Any, x: Balls) -> Balls:
    return parts(x)[1]


@complex_rule("complex")
def _complex(context: Context, params: Any, real: Balls, imag: Balls) -> Balls:
    return joined(*np.broadcast_arrays(real, imag))


@complex_rule("conj", reads=["input_dtype"])
def _conj(context: Context, params: Any, x: Balls) -> Balls:
    real, imag = parts(x)
    return joined(real, context.apply("neg", UNARY["neg"], imag))


@complex_rule("convert_element_type", reads=["new_dtype"])
def _convert(context: Context, params: Any, x: Any) -> Any:
    dtype = np.dtype(params["new_dtype"])
    if context.round_conversions:
        raise context.unsupported("conversions of complex numbers are not rounded")
    if dtype.kind == "c":
        return x if is_complex(x) else joined(*parts(context.balls(x)))
    if dtype == np.bool_:
        raise context.unsupported("a complex number is made a truth value")
    return RULES["convert_element_type"].execute(context, params, parts(x)[0])


def _compared(context: Context, x: Balls, y: Balls) -> np.ndarray:
    x, y = np.broadcast_arrays(x, y)
    answers = []
    for a, b in zip(x.ravel().tolist(), y.ravel().tolist(), strict=True):
        sides = [equal(p, q) for p, q in ((a.real, b.real), (a.imag, b.imag))]
        if False not in sides and None in sides:
            raise context.undecided(a.real, b.real, a.imag, b.imag)
        answers.append(all(sides))
    return np.array(answers, bool).reshape(x.shape)


@complex_rule("eq")
def _eq(context: Context, params: Any, x: Balls, y: Balls) -> np.ndarray:
    return _compared(context, x, y)


@complex_rule("ne")
def _ne(context: Context, params: Any, x: Balls, y: Balls) -> np.ndarray:
    return ~_compared(context, x, y)


# --- Arb's -----------------------------------------------------------------------------------------------------------


def of_arb(context: Context, function: Callable[..., acb], *values: Complex) -> Complex:
    """A function of complex numbers by Arb, NaN where an operand is; unknown beside an infinity or at a pole."""
    sides = [side for v in values for side in (v.real, v.imag)]
    if unknown := next((side for side in sides if type(side) is Unknown), None):
        return Complex(unknown, unknown)
    if any(side.is_nan() for side in sides):
        return Complex(NAN, NAN)
    if all(side.is_finite() for side in sides):
        result = function(*(acb(v.real, v.imag) for v in values))
        if result.is_finite():
            return of_ball(context, result)
    doubtful = context.unknown(*sides)
    return Complex(doubtful, doubtful)


def _entrywise(function: Callable[..., acb]) -> Callable[..., Balls]:
    def apply(context: Context, params: Any, *values: Any) -> Balls:
        arrays = np.broadcast_arrays(*(joined(*parts(v)) for v in values))
        rows = zip(*(a.ravel().tolist() for a in arrays), strict=True)
        return to_array([of_arb(context, function, *row) for row in rows], arrays[0].shape)

    return apply


def _sign(z: acb) -> acb:
    return acb(0) if z == 0 else z / abs(z)


def _power(z: acb, w: acb) -> acb:
    if z == 0:
        return acb(1) if w == 0 else acb(0) if w.real > 0 else acb("nan")
    return z**w


for _name, _function in {
    "div": lambda a, b: a / b, "exp": acb.exp, "exp2": lambda z: acb(2) ** z, "expm1": acb.expm1, "log": acb.log,
    "log1p": acb.log1p, "sqrt": acb.sqrt, "rsqrt": acb.rsqrt, "sin": acb.sin, "cos": acb.cos, "tan": acb.tan,
    "sinh": acb.sinh, "cosh": acb.cosh, "tanh": acb.tanh, "asin": acb.asin, "acos": acb.acos, "atan": acb.atan,
    "asinh": acb.asinh, "acosh": acb.acosh, "atanh": acb.atanh, "logistic": lambda z: 1 / (1 + (-z).exp()),
    "square": lambda z: z * z, "sign": _sign, "pow": _power,
}.items():  # fmt: skip
    complex_rule(_name)(_entrywise(_function))


@complex_rule("integer_pow", reads=["y"])
def _integer_pow(context: Context, params: Any, x: Balls) -> Balls:
    return _entrywise(lambda z: z ** params["y"])(context, params, x)


@complex_rule("abs")
def _abs(context: Context, params: Any, x: Balls) -> Balls:
    """As C's hypot has it, an infinity beside NaN is infinite too."""
    real, imag = parts(x)
    squares = (context.apply("square", UNARY["square"], side) for side in (real, imag))
    result = context.apply("sqrt", UNARY["sqrt"], context.apply("add", BINARY["add"], *squares))
    for where, v in np.ndenumerate(x):
        if any(side in (INF, NEG_INF) for side in (v.real, v.imag)):
            result[where] = INF
    return result


@complex_rule("reduce_prod", reads=["axes"])
def _reduce_prod(context: Context, params: Any, x: Balls) -> Balls:
    axes = tuple(params["axes"])
    flat = np.moveaxis(x, axes, range(len(axes))).reshape(-1, *(n for i, n in enumerate(x.shape) if i not in axes))
    total = joined(*(to_array([v] * math.prod(flat.shape[1:]), flat.shape[1:]) for v in (ONE, ZERO)))
    for k in range(len(flat)):
        total = COMPLEX["mul"].execute(context, {}, total, flat[k : k + 1].reshape(flat.shape[1:]))
    return total


@complex_rule("cumprod", reads=["axis", "reverse"])
def _cumprod(context: Context, params: Any, x: Balls) -> Balls:
    return reductions.scanned(params, x, lambda total, entry: COMPLEX["mul"].execute(context, {}, total, entry))
