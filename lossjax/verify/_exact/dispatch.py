"""Which rule executes an equation: the primitive's, its own implementation, or JAX where there is no float in it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossjax._core.versions import CALLS, Jaxpr, body, called, shape_of
from lossjax.verify._exact import (
    bits,
    callbacks,
    complexes,
    control,
    convolutions,
    devices,
    elementwise,
    factorizations,
    fourier,
    kernels,
    linear,
    ordering,
    ragged,
    reductions,
    schur,
    spectra,
    structural,
    windows,
)
from lossjax.verify._exact.context import Context
from lossjax.verify._exact.rules import RULES, is_balls

_RULE_MODULES = (
    bits,
    complexes,
    control,
    convolutions,
    elementwise,
    factorizations,
    fourier,
    linear,
    ordering,
    ragged,
    reductions,
    schur,
    spectra,
    structural,
    windows,
)

_INTEGER = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "max": np.maximum, "min": np.minimum,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
}  # fmt: skip
"""Numpy's functions that do on integers and booleans what JAX does; other primitives JAX must compile and execute."""

_REFUSED = {
    "io_callback": "it calls outside JAX",
}


_ANY_NUMBERS = frozenset({
    *control.LOOPS, *factorizations.NAMES, *linear.NAMES, *schur.NAMES, *spectra.NAMES, "gather", "empty2", "sort",
    "iota", "polynomial", *reductions.SCATTERS,
})  # fmt: skip
"""Primitives outside ``structural.MOVES`` whose one rule serves complex numbers too."""


def covered() -> tuple[str, ...]:
    """The names of the JAX primitives that :func:`exact` executes on floats, sorted.

    Those of integers, booleans and random keys are not listed: JAX executes them.

    Returns:
      Names as they stand in a jaxpr.

    Example:
      >>> "dot_general" in covered()
      True
    """
    return tuple(sorted({*RULES, *complexes.COMPLEX, *CALLS}))


_is = functools.cache(jnp.issubdtype)
"""``jnp.issubdtype`` remembered, because it is asked about every variable of every equation."""


def value_of(context: Context, array: Any, aval: Any) -> Any:
    """An argument or constant, exactly: balls for floats, numpy for the rest, JAX's own for random keys."""
    dtype = aval.dtype
    if _is(dtype, jnp.floating):
        return context.balls(array if is_balls(array) else np.asarray(array).astype(dtype))
    if _is(dtype, jax.dtypes.extended):
        return array
    if _is(dtype, jnp.complexfloating):
        return complexes.taken(context, array)
    return np.asarray(array) if dtype == jax.dtypes.float0 else np.asarray(array).astype(dtype)


def executor(equation: Any) -> Callable[[Context, Any, list[Any], list[bool]], list[Any]] | None:
    """How an equation is executed; None for a call, of which the equations inside are."""
    name = equation.primitive.name
    if name in CALLS:
        return None
    variables = (*equation.invars, *equation.outvars)
    complex_numbers = any(_is(getattr(v.aval, "dtype", bool), jnp.complexfloating) for v in variables)
    floating = any(_is(getattr(v.aval, "dtype", bool), jnp.inexact) for v in equation.outvars)
    if name == "bitcast_convert_type" and _is(equation.invars[0].aval.dtype, jnp.floating):
        return bits.bits_of
    by_rule = name in control.LOOPS or name in callbacks.NAMES | devices.NAMES | kernels.NAMES
    exactly = (floating and name != "bitcast_convert_type") or by_rule
    rule = complexes.COMPLEX.get(name) if complex_numbers else RULES.get(name)
    if complex_numbers and rule is None and (name in structural.MOVES or name in _ANY_NUMBERS):
        rule = RULES[name]
    if rule is None and name in _REFUSED:
        return functools.partial(_by_rule, _refusing(_REFUSED[name]), {}, exactly)
    if rule is None:
        return functools.partial(_by_rule, _implemented, {}, exactly)
    if stranger := rule.stranger(equation.params):
        return functools.partial(_by_rule, _refusing(f"its rule does not know the parameter {stranger!r}"), {}, exactly)
    return functools.partial(_by_rule, rule.execute, rule.parameters(equation.params), exactly)


def _implemented(context: Context, params: Any, *values: Any) -> Any:
    """An unknown primitive by its own implementation, if that is a program of others."""
    equation = context.equation
    program = context.once("implemented", equation, lambda: _implementation(equation))
    if program is None:
        raise context.unsupported("there is no rule for it")
    results = context.run(program, values)
    return results if equation.primitive.multiple_results else results[0]


def _implementation(equation: Any) -> Jaxpr | None:
    """The implementation traced; None if it cannot be, or if it is the primitive itself, compiled."""
    primitive = equation.primitive

    def implemented(*values: Any) -> Any:
        return primitive.impl(*values, **equation.params)

    try:
        program = jax.make_jaxpr(implemented)(*map(shape_of, equation.invars))
    except Exception:  # an implementation that runs on numbers only may raise anything
        return None
    return None if _is_only(program, primitive.name) else program


def _is_only(program: Jaxpr, name: str) -> bool:
    """Whether a program is nothing but this primitive, at most inside calls."""
    equations = body(program).eqns
    if len(equations) != 1:
        return False
    if equations[0].primitive.name == name:
        return True
    return equations[0].primitive.name in CALLS and _is_only(called(equations[0]), name)


def _refusing(why: str) -> Callable[..., Any]:
    def refuse(context: Context, params: Any, *values: Any) -> Any:
        raise context.unsupported(why)

    return refuse


def _by_rule(
    rule: Callable[..., Any],
    params: dict[str, Any],
    exactly: bool,
    context: Context,
    equation: Any,
    values: list[Any],
    needed: list[bool],
) -> list[Any]:
    """By the rule of the primitive; without a float among operands and results, by numpy or JAX."""
    if not exactly and not any(map(is_balls, values)):
        results = _without_floats(context, equation, values)
        # Results may be floats that were made of integers bit by bit, as random numbers are.
        return [value_of(context, r, v.aval) for r, v in zip(results, equation.outvars, strict=True)]
    results = rule(context, params, *values)
    return list(results) if equation.primitive.multiple_results else [results]


def _without_floats(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    """Integers, booleans and random keys: by numpy where that is the same and quick, else by JAX itself."""
    primitive, params = equation.primitive, equation.params
    name = primitive.name
    if all(isinstance(v, np.ndarray) for v in values):
        results: list[Any] = []
        if name in structural.MOVES or name in ("iota", "convert_element_type", "gather", "empty2"):
            if RULES[name].stranger(params) is None:
                given = RULES[name].execute(context, RULES[name].parameters(params), *values)
                results = list(given) if primitive.multiple_results else [given]
        elif name in _INTEGER:
            with np.errstate(over="ignore"):
                results = [np.asarray(_INTEGER[name](*values))]
        if results and all(r.dtype == v.aval.dtype for r, v in zip(results, equation.outvars, strict=True)):
            return results
    given = primitive.bind(*(jnp.asarray(v) if isinstance(v, np.ndarray) else v for v in values), **params)
    return list(given) if primitive.multiple_results else [given]
