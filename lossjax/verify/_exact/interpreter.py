"""The interpreter: walks a jaxpr, and hands each equation with its values to what executes it."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flint import arb
from jax.extend.core import Literal

from lossjax._core.versions import Jaxpr, body, called, constants
from lossjax.verify._exact import complexes, kernels
from lossjax.verify._exact.bits import read_in_part
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
    looseness: float = 0,
) -> list[Any]:
    """The outputs of a jaxpr at one precision; UndecidedComparison where it does not suffice and nothing chooses.

    With a ``looseness``, a constant that fills the significand of its dtype is any number that it may have been rounded
    from, in its dtype or in one of this unit roundoff.
    """
    with at_precision(bits):
        context = Context(bits, round_conversions, _run, choices, run_callbacks=run_callbacks, looseness=looseness)
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
    """One equation, with all that does not depend on the numbers, which stand in numbered places."""

    equations: tuple[Any, ...]
    """The calls in which it stands, from the outermost, and the equation itself."""
    execute: Callable[[Context, Any, list[Any], list[bool]], list[Any]]
    operands: list[int]
    results: list[int]
    needed: list[bool]
    """Which results are used."""
    last: list[int]
    """The places that nothing reads afterwards."""


class _Plan(NamedTuple):
    """A jaxpr made ready to be executed many times."""

    size: int
    """How many places there are. The first hold the constants of the jaxpr, the next its arguments."""
    given: list[tuple[int, Any, Any]]
    """What else is known before any argument: the place, the value, its type."""
    steps: list[_Step]
    outputs: list[int]


_plans: weakref.WeakKeyDictionary[Any, dict[Any, _Plan]] = weakref.WeakKeyDictionary()
_executors: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()


def _run(context: Context, jaxpr: Jaxpr, args: Sequence[Any], wanted: Sequence[bool] | None = None) -> list[Any]:
    """Interpret a jaxpr on values; outputs that are not ``wanted`` may be None."""
    program = body(jaxpr)
    plans = _plans.setdefault(program, {})
    which = None if wanted is None else tuple(wanted)
    plan = plans.get(which)
    if plan is None:
        plan = plans[which] = _plan(program, which)
    values = list(context.once(("given", which), jaxpr, lambda: _given(context, jaxpr, plan)))
    first = len(program.constvars)
    values[first : first + len(args)] = args
    for equations, execute, operands, results, needed, last in plan.steps:
        found = context.executing(equations, execute, [values[place] for place in operands], needed)
        for place, value in zip(results, found, strict=True):
            values[place] = value
        for place in last:
            values[place] = None
        context.forget()
    return [values[place] for place in plan.outputs]


def _given(context: Context, jaxpr: Jaxpr, plan: _Plan) -> list[Any]:
    """All places, with the values that are known before any argument: of constants and literals."""
    values: list[Any] = [None] * plan.size
    own = zip(constants(jaxpr), body(jaxpr).constvars, strict=True)
    for place, value, aval in [*((k, value, v.aval) for k, (value, v) in enumerate(own)), *plan.given]:
        values[place] = context.constant(value_of(context, value, aval), aval.dtype)
    return values


def _plan(program: Any, wanted: Sequence[bool] | None) -> _Plan:
    """The equations that a wanted output depends on, also those inside calls, and which of their results are needed."""
    size = len(program.constvars) + len(program.invars)
    layout = _Layout(size)
    outputs = layout.of(program, range(size), ())
    read = {place for k, place in enumerate(outputs) if wanted is None or wanted[k]}
    steps = []
    for step in reversed(layout.steps):
        needed = [place in read for place in step.results]
        if any(needed) or any(map(kernels.is_ref, step.equations[-1].invars)):
            unread = {*step.operands, *step.results} - read
            last = [place for place in unread if place >= size and place not in layout.known]
            steps.append(step._replace(needed=needed, last=last))
            read.update(step.operands)
    given = [(place, *known) for place, known in layout.known.items() if place in read]
    return _Plan(layout.size, given, steps[::-1], outputs)


class _Layout:
    """Where each number of a program stands: calls are laid out in place of their equation, each time anew."""

    def __init__(self, size: int):
        self.size = size
        self.known: dict[int, tuple[Any, Any]] = {}
        """The place of each literal, and of each constant of a call: its value and type."""
        self.steps: list[_Step] = []

    def of(self, program: Any, given: Sequence[int], calls: tuple[Any, ...]) -> list[int]:
        """Lay out a program whose constants and arguments stand in the given places; where its outputs stand."""
        places: dict[Any, int] = dict(zip((*program.constvars, *program.invars), given, strict=True))

        def place(atom: Any) -> int:
            return self._new(atom.val, atom.aval) if isinstance(atom, Literal) else places[atom]

        for equation, execute in zip(program.eqns, _executors_of(program), strict=True):
            operands = [place(atom) for atom in equation.invars]
            equations = (*calls, equation)
            if execute is None:
                inside = called(equation)
                own = zip(constants(inside), body(inside).constvars, strict=True)
                held = [self._new(value, variable.aval) for value, variable in own]
                results = self.of(body(inside), [*held, *operands], equations)
            else:
                results = [self._new() for _ in equation.outvars]
                self.steps.append(_Step(equations, execute, operands, results, [], []))
            places.update(zip(equation.outvars, results, strict=True))
        return [place(atom) for atom in program.outvars]

    def _new(self, *known: Any) -> int:
        if known:
            self.known[self.size] = (known[0], known[1])
        self.size += 1
        return self.size - 1


def _executors_of(program: Any) -> list[Callable[..., Any] | None]:
    """How each equation of a program is executed; None for a call."""
    found = _executors.get(program)
    if found is None:
        partly = read_in_part(program)
        found = _executors[program] = [
            partly[equation.outvars[0]] if equation.outvars and equation.outvars[0] in partly else executor(equation)
            for equation in program.eqns
        ]
    return found
