"""The state of one interpretation: its precision, the numbers it has met, the present equation, and its errors.

Two balls that overlap may hold the same number or not: only identity tells. Hence numbers are kept unique as far as
that is cheap. Exact balls are interned by value, and a function of the same objects is the same object (``memo``), so
that ``x == max(x)`` is decided also where x was computed.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import jax.numpy as jnp
import numpy as np
from flint import arb

from lossjax.verify._exact.choices import Choices
from lossjax.verify._exact.rules import (
    INF,
    NAN,
    NEG_INF,
    ONE,
    ZERO,
    Operation,
    UndecidedComparison,
    Unknown,
    UnsupportedPrimitive,
    is_balls,
    is_nonnegative,
    nonnegative,
    place,
    to_array,
)
from lossjax.verify.ulp import Balls, unit_roundoff

_FIRST: dict[Any, arb] = {0: ZERO, 1: ONE, float("inf"): INF, float("-inf"): NEG_INF}
_MEMO_SIZE = _NUMBERS = 2**19  # how many operands are remembered between equations: about 100 MB at 256 bits

T = TypeVar("T")


class Context:
    """One interpretation at one precision."""

    def __init__(
        self,
        bits: int,
        round_conversions: bool,
        evaluate: Callable[..., list[Any]],
        choices: Choices | None = None,
        *,
        run_callbacks: bool = False,
        looseness: float = 0,
    ):
        self.bits = bits
        self.looseness = looseness
        """If not 0, a constant stands for all that it may have been rounded from, by at least this unit roundoff."""
        self.round_conversions = round_conversions
        self.run_callbacks = run_callbacks
        self._of_jaxprs: dict[Any, tuple[Any, Any]] = {}
        self._evaluate = evaluate
        self.choices = choices
        self._equations: list[Any] = []
        self.work = 0
        """How many numbers loops have computed that end by what they compute."""
        self.needed: list[bool] = []
        """Which results of the present equation are used."""
        self.device: Any = None
        """The device of a ``shard_map`` that this interpretation is of."""
        self.grids: list[list[int]] = []
        """Of the kernels being executed: the place in the grid."""
        self._numbers: dict[Any, arb] = dict(_FIRST)
        self._memo: dict[Any, dict[Any, Any]] = {}
        self._kept: list[Any] = []
        self._size = 0

    def run(self, closed: Any, args: Sequence[Any], wanted: Sequence[bool] | None = None) -> list[Any]:
        """Interpret a jaxpr; outputs that are not ``wanted`` may be None."""
        return self._evaluate(self, closed, args, wanted)

    def of_device(self, device: Any) -> "Context":
        """A state of its own for the program of one device, at the present equation."""
        inside = Context(self.bits, self.round_conversions, self._evaluate, run_callbacks=self.run_callbacks,
                         looseness=self.looseness)  # fmt: skip
        inside.device, inside._equations = device, list(self._equations)
        return inside

    @property
    def equation(self) -> Any:
        """The equation being executed, the innermost."""
        return self._equations[-1]

    def executing(
        self, equations: tuple[Any, ...], execute: Callable[..., T], values: list[Any], needed: list[bool]
    ) -> T:
        """``execute(self, equation, values, needed)``; meanwhile this is the equation, inside the calls before it."""
        self._equations.extend(equations)
        before, self.needed = self.needed, needed
        try:
            return execute(self, equations[-1], values, needed)
        finally:
            del self._equations[-len(equations) :]
            self.needed = before

    def once(self, what: Any, of: Any, compute: Callable[[], T]) -> T:
        """A result that depends on a jaxpr (or an equation) alone: computed once, however often that runs."""
        key = what, id(of)
        if key not in self._of_jaxprs:
            self._of_jaxprs[key] = of, compute()
        return self._of_jaxprs[key][1]

    # --- refusing ---

    def settled(self, answer: T | None, possible: Sequence[T], *values: Any) -> T:
        """The answer that a comparison of these values has; if they leave it open, that which is to be tried."""
        if any(type(value) is Unknown for value in values) or (answer is None and self.choices is None):
            raise self.undecided(*values)
        return cast("T", answer) if self.choices is None else self.choices.settled(answer, possible)

    def undecided(self, *values: Any) -> Exception:
        """The error that names the present equation and the values it cannot decide on."""
        for value in values:
            if type(value) is Unknown:
                return value.error
        name, line = self.equation.primitive.name, place(self._equations)
        shown = " and ".join(v.str(30, more=True) if isinstance(v, arb) else str(v) for v in values)
        return UndecidedComparison(f"{name} of {shown} is undecided at {self.bits} bits; {line}")

    def unsupported(self, why: str) -> UnsupportedPrimitive:
        """The error that names the present equation."""
        name = self.equation.primitive.name
        return UnsupportedPrimitive(f"primitive {name!r} cannot be executed exactly: {why}; {place(self._equations)}")

    def unknown(self, *values: arb) -> Unknown:
        """The number that the present equation leaves undecided."""
        result = Unknown(NAN)
        result.error = self.undecided(*values)
        return result

    # --- unique numbers ---

    def number(self, value: float) -> arb:
        """An int or a float, exactly; equal ones are one object."""
        if value != value:
            return NAN
        found = self._numbers.get(value)
        if found is None:
            found = self._numbers[value] = arb(value)
        return found

    def balls(self, array: Any) -> Balls:
        """Floats, integers or booleans as exact balls."""
        if is_balls(array):
            return array
        array = np.asarray(array)
        if array.dtype.kind not in "iub":
            array = array.astype(np.float64)  # float64 holds the numbers of every float dtype of JAX
        return to_array([self.number(v) for v in array.ravel().tolist()], array.shape)

    def constant(self, value: Any, dtype: Any) -> Any:
        """A constant of the program as it is; or, where it is not known what it was rounded from, as a ball."""
        if not (self.looseness and is_balls(value) and jnp.issubdtype(dtype, jnp.floating)):
            return value
        u = max(self.looseness, unit_roundoff(dtype))
        entries = [self._loosened(v, u) if is_rounded(float(v), dtype) else v for v in value.ravel().tolist()]
        return to_array(entries, value.shape)

    def _loosened(self, value: arb, u: float) -> arb:
        """The ball of what rounds to this number; for equal numbers one object."""
        key = "rounded", float(value)
        return self._numbers.setdefault(key, arb(value, abs(value) * u))

    def intern(self, exact: arb) -> arb:
        """The one object that stands for this exact finite ball."""
        near = float(exact)
        found = self._numbers.setdefault(near, exact)
        if found is exact or found == exact:
            return found
        return self._numbers.setdefault(exact.man_exp(), exact)

    def memo(self, key: Any, *kept: Sequence[arb]) -> dict[Any, Any]:
        """Results by the ids of operands. ``kept`` keeps these alive, since Python reuses the ids of dead objects."""
        self._kept.extend(kept)
        self._size += sum(map(len, kept))
        return self._memo.setdefault(key, {})

    def forget(self) -> None:
        """Between two equations: drop the memory if it has grown large."""
        if self._size > _MEMO_SIZE:
            self._memo.clear()
            self._kept.clear()
            self._size = 0
        if len(self._numbers) > _NUMBERS:
            self._numbers = dict(_FIRST)

    # --- functions entry by entry ---

    def apply(self, key: Any, operation: Operation, *arrays: Balls) -> Balls:
        """The operation on each entry, arrays broadcast; ``key`` names it in the memory."""
        shape = arrays[0].shape
        if any(a.shape != shape for a in arrays):
            shape = np.broadcast_shapes(*(a.shape for a in arrays))
        columns = [_entries(a, shape) for a in arrays]
        memo = self.memo(key, *columns)
        results = []
        identities = zip(*(map(id, column) for column in columns), strict=True)
        for identity, operands in zip(identities, zip(*columns, strict=True), strict=True):
            found = memo.get(identity)
            if found is None:
                if operation.commutes:
                    found = memo.get(identity[::-1])
                memo[identity] = found = self.one(operation, *operands) if found is None else found
            results.append(found)
        return to_array(results, shape)

    def one(self, operation: Operation, *operands: arb) -> arb:
        """The operation on scalars, with no memory."""
        result = operation.fast(*operands)
        if result is None or not result.is_finite():
            return self._settled(operation, result, operands)
        return self.intern(result) if result.is_exact() else result

    def _settled(self, operation: Operation, result: arb | None, operands: tuple[arb, ...]) -> arb:
        """The result for special values, and for a ball that reaches across the edge of the domain."""
        doubtful = None
        for operand in operands:
            if type(operand) is Unknown:
                doubtful = operand
            elif operand.is_nan():
                return NAN
        if doubtful is not None:
            return doubtful
        if result is not None and operation.edge is not None:
            result = operation.edge(*operands)
        if result is None:
            return self.unknown(*operands)
        return self.special(result, operands)

    def special(self, result: arb, operands: Sequence[arb]) -> arb:
        """The one object for ±inf or NaN; a ball of infinite radius is unknown."""
        if result.is_finite():
            return self.intern(result) if result.is_exact() else result
        if result.is_nan():
            return NAN
        if result == INF:
            return INF
        return NEG_INF if result == NEG_INF else self.unknown(*operands)

    def fold(self, key: str, operation: Operation, plain: Callable[[Any, Any], Any], entries: Sequence[arb]) -> arb:
        """``e₁ ∘ e₂ ∘ …``, at least one, of an operation whose order does not matter: equal multisets, one object.

        ``plain`` is the operation on finite numbers; special values are met one step at a time.
        """
        if len(entries) == 1:
            return entries[0]
        memo = self.memo((key, "fold"), entries)
        identity = tuple(sorted(map(id, entries)))
        result = memo.get(identity)
        if result is None:
            result = functools.reduce(plain, entries)
            if not result.is_finite():
                result = functools.reduce(functools.partial(self.one, operation), entries)
            elif result.is_exact():
                result = self.intern(result)
            elif not result >= 0 and all(map(is_nonnegative, entries)):  # of sums and products alike
                result = nonnegative(result)
            memo[identity] = result
        return result


def is_rounded(value: float, dtype: Any) -> bool:
    """Whether a constant fills more than two thirds of its significand: 2.5 is meant, the root of 2 was rounded."""
    if not math.isfinite(value) or not value:
        return False
    whole = int(math.frexp(value)[0] * 2**53)
    used = 53 - ((whole & -whole).bit_length() - 1)
    return 3 * used > 2 * (jnp.finfo(dtype).nmant + 1)


def _entries(array: Balls, shape: tuple[int, ...]) -> list[Any]:
    """The entries of an array broadcast to a shape, in order."""
    if array.shape == shape:
        return array.ravel().tolist()
    if array.size == 1:
        return array.ravel().tolist() * math.prod(shape)
    return np.broadcast_to(array, shape).ravel().tolist()
