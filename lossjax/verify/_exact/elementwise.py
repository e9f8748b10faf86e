"""Rules of the primitives that work entry by entry."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flint import arb

from lossjax._core.versions import shape_of
from lossjax.verify._exact import special_of_several
from lossjax.verify._exact.context import Context
from lossjax.verify._exact.pairs import BINARY, COMPARISONS, equal
from lossjax.verify._exact.rules import INF, NEG_INF, ZERO, Operation, Unknown, is_balls, rule
from lossjax.verify._exact.unary import ROUND, UNARY, halved, integer_power, integers_of, truncated
from lossjax.verify.ulp import Balls


def _elementwise(name: str, operation: Operation) -> Callable[..., Balls]:
    # Forward and backward passes compute the same sums by two primitives: one memory serves both.
    key = "add" if name == "add_any" else name

    def apply(context: Context, params: Any, *values: Any) -> Balls:
        return context.apply(key, operation, *map(context.balls, values))

    return apply


for _name, _operation in (UNARY | BINARY | special_of_several.TWO | special_of_several.THREE).items():
    rule(_name)(_elementwise(_name, _operation))


@rule("integer_pow", reads=["y"])
def _integer_pow(context: Context, params: Any, x: Balls) -> Balls:
    return context.apply(("integer_pow", params["y"]), integer_power(params["y"]), x)


@rule("polynomial")
def _polynomial(context: Context, params: Any, x: Balls, *coefficients: Balls) -> Balls:
    """By Horner's scheme, the constant term first; of complex numbers too."""
    equation = context.equation

    def horner(*given: Any) -> Any:
        x, *terms = (jnp.broadcast_to(v, equation.outvars[0].aval.shape) for v in given)
        return functools.reduce(lambda total, term: total * x + term, terms[::-1])

    program = context.once("horner", equation, lambda: jax.make_jaxpr(horner)(*map(shape_of, equation.invars)))
    return context.run(program, [x, *coefficients])[0]


@rule("round", reads=["rounding_method"])
def _round(context: Context, params: Any, x: Balls) -> Balls:
    method = int(params["rounding_method"])
    return context.apply(("round", method), ROUND[method], x)


@rule("clamp")
def _clamp(context: Context, params: Any, low: Balls, x: Balls, high: Balls) -> Balls:
    return context.apply("min", BINARY["min"], context.apply("max", BINARY["max"], low, x), high)


def decide(context: Context, test: Callable[..., bool | None], *values: arb) -> bool:
    """What the test says; an error if it cannot or if a value may be anything."""
    unknown = False
    for value in values:  # asked for every entry of every comparison: a generator takes three times as long
        unknown = unknown or type(value) is Unknown
    answer = None if unknown else test(*values)
    if answer is None or context.choices is not None:
        return context.settled(answer, (False, True), *values)
    return answer


def _comparison(test: Callable[[arb, arb], bool | None]) -> Callable[..., np.ndarray]:
    def compare(context: Context, params: Any, a: Any, b: Any) -> np.ndarray:
        a, b = np.broadcast_arrays(context.balls(a), context.balls(b))
        answers = [decide(context, test, x, y) for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)]
        return np.asarray(answers, dtype=bool).reshape(a.shape)

    return compare


for _name, _test in COMPARISONS.items():
    rule(_name)(_comparison(_test))


@rule("is_finite")
def _is_finite(context: Context, params: Any, x: Balls) -> np.ndarray:
    answers = [decide(context, arb.is_finite, v) for v in x.ravel().tolist()]
    return np.asarray(answers, dtype=bool).reshape(x.shape)


@rule("convert_element_type", reads=["new_dtype"])
def _convert(context: Context, params: Any, x: Any) -> np.ndarray:
    dtype = np.dtype(params["new_dtype"])
    if jnp.issubdtype(dtype, jnp.floating):
        return rounded(context, context.balls(x), dtype) if context.round_conversions else context.balls(x)
    if not is_balls(x):
        return np.asarray(x).astype(dtype)
    if dtype == np.bool_:
        entries = [not decide(context, equal, v, ZERO) for v in x.ravel().tolist()]
    else:
        information = jnp.iinfo(dtype)
        entries = [_integer(context, v, int(information.min), int(information.max)) for v in x.ravel().tolist()]
    return np.asarray(entries, dtype=dtype).reshape(x.shape)


def _integer(context: Context, x: arb, least: int, most: int) -> int:
    """Truncated towards 0; as XLA has it, NaN gives 0 and what is out of range the nearest integer."""
    if decide(context, arb.is_nan, x):
        return 0
    if x >= most or x <= least:
        return most if x > 0 else least
    if (whole := truncated(x)) is None:
        raise context.undecided(x)
    return min(max(whole, least), most)


@rule("reduce_precision", reads=["exponent_bits", "mantissa_bits"])
def _reduce_precision(context: Context, params: Any, x: Balls) -> Balls:
    if not context.round_conversions:
        return x
    bits, largest = params["mantissa_bits"], 2 ** (params["exponent_bits"] - 1)
    return _round_to(context, x, bits, 2 - largest, largest)


def rounded(context: Context, x: Balls, dtype: Any) -> Balls:
    """The nearest numbers of a dtype; unknown where a ball holds numbers that have another."""
    if dtype not in (np.float64, np.float32, np.float16, jnp.bfloat16):
        raise context.unsupported(f"rounding to {dtype}, which has no infinities")
    kind = jnp.finfo(dtype)
    return _round_to(context, x, kind.nmant, int(kind.minexp), int(kind.maxexp))


def _round_to(context: Context, x: Balls, bits: int, least: int, largest: int) -> Balls:
    """To nearest, with ``bits`` bits after the first, smallest normal ``2^least``, overflow at ``2^largest``."""
    nearest = functools.partial(_nearest, bits=bits, least=least, largest=largest)

    def fast(v: arb) -> arb | None:
        if not v.is_finite():
            return v
        if v.is_exact():
            return nearest(v)
        low = nearest(v.lower())
        return low if low == nearest(v.upper()) else None

    return context.apply(("round_to", bits, least, largest), Operation(fast), x)


def _nearest(x: arb, bits: int, least: int, largest: int) -> arb:
    """An exact number rounded to nearest, ties to even, subnormals kept."""
    if abs(x) <= arb(2) ** (least - bits - 1):
        return ZERO
    mantissa, exponent = integers_of(x)
    size = abs(mantissa)
    quantum = max(size.bit_length() - 1 + exponent, least) - bits
    if quantum > exponent:
        size, exponent = halved(size, quantum - exponent), quantum
    if size.bit_length() + exponent > largest:
        return INF if mantissa > 0 else NEG_INF
    return arb((size if mantissa > 0 else -size, exponent))
