"""Rules of control flow: the jaxpr of a branch or a loop is interpreted as often as it runs."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from lossjax._core.versions import CALLS, Jaxpr, body, called
from lossjax.verify._exact.context import Context
from lossjax.verify._exact.rules import rule

LOOPS = ("scan", "while", "cond", "platform_index")
"""These are interpreted also where all operands are integers."""
_MANY_STEPS = 2000
_MOST_WORK, _MOST_OF_MANY = 5_000_000, 200_000
"""How many numbers a loop may compute that ends by what it computes: where a float overflows, exact numbers go on.

Of many steps it may compute fewer, for a step has its price whatever it computes.
"""


@rule("platform_index", reads=["platforms"])
def _platform_index(context: Context, params: Any) -> np.ndarray:
    """The index of the default formula of ``jax.lax.platform_dependent``: exact arithmetic has no platform."""
    platforms = params["platforms"]
    return np.asarray(platforms.index(None) if None in platforms else 0)


@rule("cond", reads=["branches"])
def _cond(context: Context, params: Any, which: Any, *values: Any) -> list[Any]:
    branches = params["branches"]
    return context.run(branches[min(max(int(which), 0), len(branches) - 1)], values)


@rule("while", reads=["cond_nconsts", "cond_jaxpr", "body_nconsts", "body_jaxpr"])
def _while(context: Context, params: Any, *values: Any) -> list[Any]:
    of_test, of_body = params["cond_nconsts"], params["body_nconsts"]
    test_constants, body_constants = values[:of_test], values[of_test : of_test + of_body]
    state = list(values[of_test + of_body :])
    each = context.once("numbers", params["body_jaxpr"], lambda: _numbers(params["body_jaxpr"]))
    steps, before = 0, context.work
    while np.any(going := np.asarray(context.run(params["cond_jaxpr"], [*test_constants, *state])[0])):
        if context.work - before > (_MOST_OF_MANY if steps > _MANY_STEPS else _MOST_WORK):
            raise context.unsupported(f"its loop goes on after {steps} steps")
        steps, context.work = steps + 1, context.work + each
        moved = context.run(params["body_jaxpr"], [*body_constants, *state])
        # Under vmap each row has a test of its own; a row whose test fails keeps its state.
        state = moved if going.all() else [_where(going, new, old) for new, old in zip(moved, state, strict=True)]
    return state


def _numbers(program: Jaxpr) -> int:
    """How many numbers a program computes, those of the loops in it aside: these count for themselves."""
    return sum(
        _numbers(called(equation)) if equation.primitive.name in CALLS else _results(equation)
        for equation in body(program).eqns
    )


def _results(equation: Any) -> int:
    return sum(getattr(v.aval, "size", 1) for v in equation.outvars)  # a token, of an effect, has none


def _where(rows: np.ndarray, new: Any, old: Any) -> Any:
    spread = rows.reshape(rows.shape + (1,) * (np.ndim(new) - rows.ndim))
    return np.where(spread, new, old) if isinstance(new, np.ndarray) else jnp.where(spread, new, old)


@rule("scan", reads=["jaxpr", "length", "reverse"])
def _scan(context: Context, params: Any, *values: Any) -> list[Any]:
    step_of, equation = params["jaxpr"], context.equation
    inside = body(step_of)
    # What is scanned over or stacked has one axis more outside the body than inside. (The counts are parameters of
    # the equation too, but versions of JAX name them differently.)
    scanned = _longer(equation.invars, inside.invars)
    of_state = len(equation.outvars) - _longer(equation.outvars, inside.outvars)
    of_constants = len(values) - scanned - of_state
    constants, state = values[:of_constants], list(values[of_constants : of_constants + of_state])
    sequences = values[of_constants + of_state :]
    steps = range(params["length"])
    rows: dict[int, list[Any]] = {}
    for step in reversed(steps) if params["reverse"] else steps:
        results = context.run(step_of, [*constants, *state, *(_at(s, step) for s in sequences)])
        state, rows[step] = results[:of_state], results[of_state:]
    stacked = [_stacked([rows[step][k] for step in steps], v.aval) for k, v in enumerate(inside.outvars[of_state:])]
    return [*state, *stacked]


def _longer(outside: Any, inside: Any) -> int:
    return sum(len(o.aval.shape) > len(i.aval.shape) for o, i in zip(outside, inside, strict=True))


def _at(sequence: Any, step: int) -> Any:
    """Entry ``step`` as an array, also of a one-dimensional object array."""
    if isinstance(sequence, np.ndarray):
        return sequence[step : step + 1].reshape(sequence.shape[1:])
    return sequence[step]


def _stacked(rows: list[Any], aval: Any) -> Any:
    if not rows:
        inexact = jnp.issubdtype(aval.dtype, jnp.inexact)
        return np.empty((0, *aval.shape), dtype=object if inexact else aval.dtype)
    if all(isinstance(row, np.ndarray) for row in rows):
        return np.stack(rows)
    return jnp.stack(rows)
