"""What a rule is: how a primitive is executed on balls, which of its parameters it reads, and how it refuses."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from flint import acb, arb

from lossjax.verify.ulp import Balls

ZERO, ONE, INF, NEG_INF, NAN = arb(0), arb(1), arb("inf"), arb("-inf"), arb("nan")

_JAX = os.path.dirname(jax.__file__)
_LOSSJAX = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_HERE = os.path.dirname(os.path.abspath(__file__))


class UndecidedComparison(ArithmeticError):
    """A decision that hangs on two numbers no precision tried could tell apart, such as x > log(exp(x))."""


class UnsupportedPrimitive(NotImplementedError):
    """A JAX primitive with no exact meaning here."""


class Unknown(arb):
    """A number that may be anything, infinite or NaN: a logarithm of a ball about 0, say.

    It reads as NaN to Arb, so arithmetic carries it along; an output or a decision that hangs on it is an error. A
    branch of ``jnp.where`` that is not taken does no harm.
    """

    error: Exception


class NonNegative(arb):
    """A ball about 0 of a number that is certainly not negative, as a square is; Arb's balls cannot end at 0."""


def nonnegative(ball: arb) -> arb:
    """A ball of a number that is known not to be negative."""
    return ball if ball >= 0 or not ball.is_finite() else NonNegative(ball)


def is_nonnegative(ball: arb) -> bool:
    """Whether a number is certainly not negative."""
    return type(ball) is NonNegative or bool(ball >= 0)


class Complex:
    """One complex number of an array: a pair of balls, so that each part may be exact, infinite or unknown."""

    __slots__ = ("imag", "real")

    def __init__(self, real: arb, imag: arb):
        self.real, self.imag = real, imag

    def ball(self) -> acb:
        """The number as Arb has it; an error if it hangs on one that is unknown."""
        for part in (self.real, self.imag):
            if type(part) is Unknown:
                raise part.error
        return acb(self.real, self.imag)


class Operation(NamedTuple):
    """A real function and what becomes of it where Arb gives no finite ball."""

    fast: Callable[..., arb | None]
    """The function; None where the operands' balls leave it undecided."""
    edge: Callable[..., arb | None] | None = None
    """Called with operands that are not NaN where ``fast`` gave no finite ball; None: undecided."""
    commutes: bool = False


class Rule(NamedTuple):
    """How a primitive is executed, and which of its parameters say what the result is."""

    execute: Callable[..., Any]
    """``execute(context, params, *values)``, giving one array or, for several results, a list."""
    reads: frozenset[str] | None
    """The parameters that it reads, the only ones it is given; None: the primitive hands on what it gets, and its
    parameters say where to."""

    def parameters(self, given: dict[str, Any]) -> dict[str, Any]:
        """Those of an equation's parameters that the rule reads."""
        return {name: value for name, value in given.items() if self.reads is not None and name in self.reads}

    def stranger(self, given: dict[str, Any]) -> str | None:
        """The name of a parameter that the rule does not read and that may change the result; None if there is none."""
        if self.reads is None:
            return None
        unread = (name for name in given if name not in self.reads and name not in _NO_MATTER)
        return next((name for name in unread if given[name] is not None or name not in _OPTIONAL), None)


RULES: dict[str, Rule] = {}
"""By the name of the primitive."""

_NO_MATTER = frozenset({
    "accuracy", "precision", "preferred_element_type",  # of roundings, which are not made here
    "sharding", "out_sharding", "unroll", "_split_transpose", "linear", "branches_platforms", "weak_type",
    "memory_space", "use_magma",
    "indices_are_sorted", "is_stable",  # what JAX leaves open otherwise
    "computation",  # the function of which ``jaxpr`` is the program
    "num_consts", "num_carry", "ft_in", "ft_out",  # of scan, which tells its operands apart by their shapes
})  # fmt: skip
"""Parameters that say where, or how quickly, or to how many digits a result is computed, but not what it is."""
_OPTIONAL = frozenset({"out_dtype"})
"""Parameters that change nothing where they are None."""

R = TypeVar("R", bound=Callable[..., Any])


def rule(*names: str, reads: Sequence[str] | None = ()) -> Callable[[R], R]:
    """Register a function as the rule of these primitives, with the parameters that it reads (see ``Rule``)."""

    def register(function: R) -> R:
        for name in names:
            RULES[name] = Rule(function, None if reads is None else frozenset(reads))
        return function

    return register


def is_balls(value: Any) -> bool:
    """Whether a value of the interpreter is floating-point."""
    return isinstance(value, np.ndarray) and value.dtype == object


def to_array(entries: Sequence[Any], shape: Sequence[int]) -> Balls:
    """An object array; numpy's own constructor would look into the entries."""
    result = np.empty(len(entries), dtype=object)
    result[:] = entries
    return result.reshape(tuple(shape))


def place(equations: Sequence[Any]) -> str:
    """The user's line that the last of these equations comes from, ``file.py:12 (function)``.

    That is the innermost frame outside JAX and lossjax, of the equation or of the calls it stands in (JAX keeps only
    the frames up to the next call); where all is lossjax's own, the innermost of its lines.
    """
    own = None
    for equation in reversed(equations):
        for frame in getattr(equation.source_info.traceback, "frames", ()):
            if frame.file_name.startswith(_HERE):
                break
            if frame.file_name.startswith((_JAX, "<frozen")):
                continue
            line = f"{os.path.basename(frame.file_name)}:{frame.line_num} ({frame.function_name})"
            if not frame.file_name.startswith(_LOSSJAX):
                return line
            own = own or line
    return own or "an unknown line"
