"""The interpreter: walks a jaxpr, hands balls to the rules, and what has no floats in it to numpy or JAX."""

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from lossjax._core.versions import CALLS, Jaxpr, body, called, constants, is_jaxpr, shape_of
from lossjax.verify._exact import (
    bits,
    complexes,
    control,
    convolutions,
    elementwise,
    factorizations,
    fourier,
    linear,
    ordering,
    reductions,
    spectra,
    structural,
    windows,
)
from lossjax.verify._exact.choices import Choices
from lossjax.verify._exact.context import Context
from lossjax.verify._exact.rules import RULES, Unknown, is_balls
from lossjax.verify.oracle import precision as at_precision

__all__ = ["covered", "interpret"]

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
    reductions,
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
    "shard_map": "it is one device's view; give it the function inside",
    "pure_callback": "it calls outside JAX",
    "io_callback": "it calls outside JAX",
}


_ANY_NUMBERS = frozenset({
    *control.LOOPS, *factorizations.NAMES, *linear.NAMES, *spectra.NAMES, "gather", "empty2", "sort",
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


def interpret(
    jaxpr: Jaxpr,
    args: Sequence[Any],
    bits: int,
    *,
    round_conversions: bool = False,
    choices: Choices | None = None,
) -> list[Any]:
    """The outputs of a jaxpr at one precision; UndecidedComparison where it does not suffice and nothing chooses."""
    with at_precision(bits):
        context = Context(bits, round_conversions, _run, choices)
        values = [_value(context, a, v.aval) for a, v in zip(args, body(jaxpr).invars, strict=True)]
        results = context.run(jaxpr, values)
        for result in filter(is_balls, results):
            for entry in result.ravel().tolist():
                if type(entry) is Unknown:
                    raise entry.error
        # Copies, because a result must not share its memory with another.
        return [complexes.given(r) if complexes.is_complex(r) else np.array(r) if is_balls(r) else r for r in results]


_is = functools.cache(jnp.issubdtype)
"""``jnp.issubdtype`` remembered, because it is asked about every variable of every equation."""


def _value(context: Context, array: Any, aval: Any) -> Any:
    """An argument or constant, exactly: balls for floats, numpy for the rest, JAX's own for random keys."""
    dtype = aval.dtype
    if _is(dtype, jnp.floating):
        return context.balls(array if is_balls(array) else np.asarray(array).astype(dtype))
    if _is(dtype, jax.dtypes.extended):
        return array
    if _is(dtype, jnp.complexfloating):
        return complexes.taken(context, array)
    return np.asarray(array) if dtype == jax.dtypes.float0 else np.asarray(array).astype(dtype)


class _Step(NamedTuple):
    """One equation, with all that does not depend on the numbers."""

    equation: Any
    operands: list[Any]
    """Keys of the environment: variables, and for each literal the object itself, by its identity."""
    needed: list[bool]
    """Which results are used."""
    execute: Callable[[Context, Any, list[Any], list[bool]], list[Any]]


class _Plan(NamedTuple):
    """A jaxpr made ready to be executed many times."""

    literals: dict[int, Any]
    steps: list[_Step]
    outputs: list[Any]


_plans: weakref.WeakKeyDictionary[Any, dict[Any, _Plan]] = weakref.WeakKeyDictionary()


def _run(context: Context, jaxpr: Jaxpr, args: Sequence[Any], wanted: Sequence[bool] | None = None) -> list[Any]:
    """Interpret a jaxpr on values; outputs that are not ``wanted`` may be None."""
    program = body(jaxpr)
    plans = _plans.setdefault(program, {})
    which = None if wanted is None else tuple(wanted)
    plan = plans.get(which)
    if plan is None:
        plan = plans[which] = _plan(program, which)
    environment = dict(context.once(("given", which), jaxpr, lambda: _given(context, jaxpr, plan)))
    environment.update(zip(program.invars, args, strict=True))
    for equation, operands, needed, execute in plan.steps:
        results = context.executing(equation, execute, [environment[key] for key in operands], needed)
        environment.update(zip(equation.outvars, results, strict=True))
        context.forget()
    return [environment[key] if wanted is None or wanted[i] else None for i, key in enumerate(plan.outputs)]


def _given(context: Context, jaxpr: Jaxpr, plan: _Plan) -> dict[Any, Any]:
    """The values that are known before any argument: of the constants and of the literals."""
    values = {key: _value(context, literal.val, literal.aval) for key, literal in plan.literals.items()}
    pairs = zip(constants(jaxpr), body(jaxpr).constvars, strict=True)
    return values | {variable: _value(context, constant, variable.aval) for constant, variable in pairs}


def _plan(program: Any, wanted: Sequence[bool] | None) -> _Plan:
    """The equations that a wanted output depends on, each with which of its results are needed."""
    literals: dict[int, Any] = {}

    def key(atom: Any) -> Any:
        if not isinstance(atom, Literal):
            return atom
        literals[id(atom)] = atom
        return id(atom)

    needed = {v for i, v in enumerate(program.outvars) if not isinstance(v, Literal) and (wanted is None or wanted[i])}
    steps = []
    of_sign = bits.read_for_their_sign(program)
    for equation in reversed(program.eqns):
        results = [v in needed for v in equation.outvars]
        if any(results):
            execute = bits.sign_bits if not of_sign.isdisjoint(equation.outvars) else _executor(equation)
            steps.append(_Step(equation, [key(v) for v in equation.invars], results, execute))
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
    return _Plan(literals, steps[::-1], [key(v) for v in program.outvars])


def _executor(equation: Any) -> Callable[[Context, Any, list[Any], list[bool]], list[Any]]:
    """How an equation is executed: as a call, or by a rule."""
    name = equation.primitive.name
    if name in CALLS:
        return _call
    variables = (*equation.invars, *equation.outvars)
    complex_numbers = any(_is(getattr(v.aval, "dtype", bool), jnp.complexfloating) for v in variables)
    floating = any(_is(getattr(v.aval, "dtype", bool), jnp.inexact) for v in equation.outvars)
    if name == "bitcast_convert_type" and _is(equation.invars[0].aval.dtype, jnp.floating):
        return bits.bits_of
    exactly = (floating and name != "bitcast_convert_type") or name in control.LOOPS
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
    return None if _uses(program, primitive.name) else program


def _uses(program: Jaxpr, name: str) -> bool:
    """Whether a primitive stands anywhere in a program."""
    for equation in body(program).eqns:
        inner = [p for v in equation.params.values() for p in (v if isinstance(v, tuple | list) else (v,))]
        if equation.primitive.name == name or any(_uses(p, name) for p in inner if is_jaxpr(p)):
            return True
    return False


def _refusing(why: str) -> Callable[..., Any]:
    def refuse(context: Context, params: Any, *values: Any) -> Any:
        raise context.unsupported(why)

    return refuse


def _call(context: Context, equation: Any, values: list[Any], needed: list[bool]) -> list[Any]:
    return _run(context, context.once("called", equation, lambda: called(equation)), values, needed)


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
        return [_value(context, r, v.aval) for r, v in zip(results, equation.outvars, strict=True)]
    results = rule(context, params, *values)
    return list(results) if equation.primitive.multiple_results else [results]


def _without_floats(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    """Integers, booleans and random keys: by numpy where that is the same and quick, else by JAX itself."""
    primitive, params = equation.primitive, equation.params
    name = primitive.name
    if all(isinstance(v, np.ndarray) for v in values):
        results: list[Any] = []
        if name in structural.MOVES or name in ("iota", "convert_element_type"):
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
