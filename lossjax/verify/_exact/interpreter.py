"""The interpreter: walks a jaxpr, hands balls to the rules, and what has no floats in it to numpy or JAX."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from lossjax._core.versions import CALLS, Jaxpr, body, called, constants
from lossjax.verify._exact import control, elementwise, ordering, reductions, structural
from lossjax.verify._exact.context import RULES, Context, Unknown, is_balls
from lossjax.verify.oracle import precision as at_precision

__all__ = ["covered", "interpret"]

_RULE_MODULES = (control, elementwise, ordering, reductions, structural)

_INTEGER = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "max": np.maximum, "min": np.minimum,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
}  # fmt: skip
"""Where numpy is JAX on integers and booleans; the rest JAX does itself, at the price of compiling it."""

_REFUSED = {
    "nextafter": "the next number depends on a rounding that is not made here",
    "bitcast_convert_type": "exact numbers have no bits",
    "shard_map": "it is one device's view; give it the function inside",
    "pure_callback": "it calls outside JAX",
    "io_callback": "it calls outside JAX",
    "conv_general_dilated": "there is no rule for convolutions; write it as a matrix product",
}


def covered() -> tuple[str, ...]:
    """The names of the JAX primitives that :func:`exact` executes on floats, sorted.

    Those of integers, booleans and random keys are not listed: JAX executes them.

    Returns:
      Names as they stand in a jaxpr.

    Example:
      >>> "dot_general" in covered()
      True
    """
    return tuple(sorted({*RULES, *CALLS}))


def interpret(jaxpr: Jaxpr, args: Sequence[Any], bits: int, *, round_conversions: bool = False) -> list[Any]:
    """The outputs of a jaxpr at one precision; UndecidedComparison where it does not suffice."""
    with at_precision(bits):
        context = Context(bits, round_conversions, _run)
        values = [_value(context, a, v.aval) for a, v in zip(args, body(jaxpr).invars, strict=True)]
        results = context.run(jaxpr, values)
        for result in filter(is_balls, results):
            for entry in result.ravel().tolist():
                if type(entry) is Unknown:
                    raise entry.error
    return [np.array(r) if is_balls(r) else r for r in results]  # no view of another's


_is = functools.cache(jnp.issubdtype)
"""Asked of every equation's every variable."""


def _value(context: Context, array: Any, aval: Any) -> Any:
    """An argument or constant, exactly: balls for floats, numpy for the rest, JAX's own for random keys."""
    dtype = aval.dtype
    if _is(dtype, jnp.floating):
        return context.balls(array if is_balls(array) else np.asarray(array).astype(dtype))
    if _is(dtype, jax.dtypes.extended):
        return array
    if _is(dtype, jnp.complexfloating):
        raise NotImplementedError(f"a complex array {aval.str_short()} cannot be executed exactly: balls are real")
    return np.asarray(array) if dtype == jax.dtypes.float0 else np.asarray(array).astype(dtype)


def _run(context: Context, jaxpr: Jaxpr, args: Sequence[Any], wanted: Sequence[bool] | None = None) -> list[Any]:
    """Interpret a jaxpr on values; outputs that are not ``wanted`` may be None."""
    program = body(jaxpr)
    environment: dict[Any, Any] = dict(
        zip(program.constvars, context.once("constants", jaxpr, lambda: _constants(context, jaxpr)), strict=True)
    )
    environment.update(zip(program.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return _value(context, atom.val, atom.aval) if isinstance(atom, Literal) else environment[atom]

    for equation, needed in context.once(("alive", *(wanted or ())), program, lambda: _alive(program, wanted)):
        with context.executing(equation):
            results = _step(context, equation, [read(atom) for atom in equation.invars], needed)
        environment.update(zip(equation.outvars, results, strict=True))
        context.forget()
    return [read(atom) if wanted is None or wanted[i] else None for i, atom in enumerate(program.outvars)]


def _constants(context: Context, jaxpr: Jaxpr) -> list[Any]:
    return [_value(context, c, v.aval) for c, v in zip(constants(jaxpr), body(jaxpr).constvars, strict=True)]


def _alive(jaxpr: Any, wanted: Sequence[bool] | None) -> list[tuple[Any, list[bool]]]:
    """The equations that a wanted output depends on, each with which of its results are needed."""
    needed = {v for i, v in enumerate(jaxpr.outvars) if not isinstance(v, Literal) and (wanted is None or wanted[i])}
    alive = []
    for equation in reversed(jaxpr.eqns):
        results = [v in needed for v in equation.outvars]
        if any(results):
            alive.append((equation, results))
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
    return alive[::-1]


def _step(context: Context, equation: Any, values: list[Any], needed: list[bool]) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if name in CALLS:
        return _run(context, context.once("called", equation, lambda: called(equation)), values, needed)
    for aval in (v.aval for v in (*equation.invars, *equation.outvars)):
        if _is(getattr(aval, "dtype", bool), jnp.complexfloating):
            raise context.unsupported("balls are real numbers, and it is complex")
    floating = any(_is(getattr(v.aval, "dtype", bool), jnp.floating) for v in equation.outvars)
    rule = RULES.get(name)
    if (
        not any(map(is_balls, values))
        and not (floating and name != "bitcast_convert_type")
        and name not in control.LOOPS
    ):
        results = _without_floats(context, equation, values)
        # The bits of floats made of integers, as random numbers are.
        return [_value(context, r, v.aval) for r, v in zip(results, equation.outvars, strict=True)]
    if rule is None:
        raise context.unsupported(_REFUSED.get(name, "there is no rule for it"))
    results = rule(context, params, *values)
    return list(results) if equation.primitive.multiple_results else [results]


def _without_floats(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    """Integers, booleans and random keys: by numpy where that is the same and quick, else by JAX itself."""
    primitive, params = equation.primitive, equation.params
    name = primitive.name
    if all(isinstance(v, np.ndarray) for v in values):
        results: list[Any] = []
        if name in structural.MOVES or name in ("iota", "convert_element_type"):
            given = RULES[name](context, params, *values)
            results = list(given) if primitive.multiple_results else [given]
        elif name in _INTEGER:
            with np.errstate(over="ignore"):
                results = [np.asarray(_INTEGER[name](*values))]
        if results and all(r.dtype == v.aval.dtype for r, v in zip(results, equation.outvars, strict=True)):
            return results
    given = primitive.bind(*(jnp.asarray(v) if isinstance(v, np.ndarray) else v for v in values), **params)
    return list(given) if primitive.multiple_results else [given]
