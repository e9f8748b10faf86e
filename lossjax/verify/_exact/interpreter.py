"""The interpreter: walks a jaxpr, and hands each equation with its values to what executes it."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flint import arb
from jax.extend.core import Literal

from lossjax._core.versions import Jaxpr, body, constants
from lossjax.verify._exact import complexes, kernels
from lossjax.verify._exact.bits import read_for_their_sign, sign_bits
from lossjax.verify._exact.choices import Choices
from lossjax.verify._exact.context import Context
from lossjax.verify._exact.dispatch import executor, value_of
from lossjax.verify._exact.rules import NonNegative, Unknown, is_balls, to_array
from lossjax.verify.oracle import precision as at_precision

__all__ = ["interpret"]


def interpret(
    jaxpr: Jaxpr,
    args: Sequence[Any],
    bits: int,
    *,
    round_conversions: bool = False,
    run_callbacks: bool = False,
    choices: Choices | None = None,
) -> list[Any]:
    """The outputs of a jaxpr at one precision; UndecidedComparison where it does not suffice and nothing chooses."""
    with at_precision(bits):
        context = Context(bits, round_conversions, _run, choices, run_callbacks=run_callbacks)
        values = [value_of(context, a, v.aval) for a, v in zip(args, body(jaxpr).invars, strict=True)]
        results = context.run(jaxpr, values)
        return [_returned(r) if is_balls(r) else r for r in results]


def _returned(result: Any) -> Any:
    """A result as the caller has it: Arb's own balls, in memory of its own; an error where one is unknown."""
    if complexes.is_complex(result):
        return complexes.given(result)
    entries = result.ravel().tolist()
    for entry in entries:
        if type(entry) is Unknown:
            raise entry.error
    return to_array([arb(v) if type(v) is NonNegative else v for v in entries], result.shape)


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
    values = {key: value_of(context, literal.val, literal.aval) for key, literal in plan.literals.items()}
    pairs = zip(constants(jaxpr), body(jaxpr).constvars, strict=True)
    return values | {variable: value_of(context, constant, variable.aval) for constant, variable in pairs}


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
    of_sign = read_for_their_sign(program)
    for equation in reversed(program.eqns):
        results = [v in needed for v in equation.outvars]
        if any(results) or any(map(kernels.is_ref, equation.invars)):
            execute = sign_bits if not of_sign.isdisjoint(equation.outvars) else executor(equation)
            steps.append(_Step(equation, [key(v) for v in equation.invars], results, execute))
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
    return _Plan(literals, steps[::-1], [key(v) for v in program.outvars])
