"""The function under check and its formula as programs that are executed exactly."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lossjax._core.versions import Jaxpr, body
from lossjax.verify import oracle, ulp
from lossjax.verify._check import compare as by
from lossjax.verify._check.inlining import has_custom_rules, inlined, inner_jaxprs
from lossjax.verify._check.inputs import generic
from lossjax.verify._check.problem import Arrays, Problem, is_float
from lossjax.verify._exact import UndecidedComparison, UnsupportedPrimitive
from lossjax.verify._exact.interpreter import interpret
from lossjax.verify._exact.tracing import by_definition

REFUSALS = (UndecidedComparison, UnsupportedPrimitive, NotImplementedError)
"""What an exact execution raises where it cannot be done: the question is then not judged."""

_BITS = 256


class Program:
    """A function traced once, to be executed exactly as often as wanted."""

    def __init__(self, function: Callable[..., Any], *examples: Any, wide: bool):
        self._wide = wide
        with x64(wide), by_definition():
            self.jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*examples)
        self._tree = jax.tree.structure(shapes)

    def __call__(self, *args: Any, looseness: float = 0) -> Any:
        """The outputs as balls. Floats may be given as balls too.

        With a ``looseness``, they hold what the program gives for any numbers that its constants may have been rounded
        from, in a dtype of this unit roundoff.
        """
        with x64(self._wide):
            leaves = jax.tree.leaves(args)
            try:
                results = interpret(self.jaxpr, leaves, _BITS, looseness=looseness)
            except UndecidedComparison:  # one more attempt only: what stays undecided is nearly always a tie
                results = interpret(self.jaxpr, leaves, 4 * _BITS, looseness=looseness)
            return jax.tree.unflatten(self._tree, results)


@contextlib.contextmanager
def x64(wide: bool) -> Iterator[None]:
    """Switch 64-bit mode on inside if ``wide``; otherwise leave it as the caller has set it."""
    if wide:
        with jax.enable_x64(True):
            yield
    else:
        yield


def widened(arrays: Sequence[Any]) -> Arrays:
    """The same arrays, those of floats in float64."""
    return tuple(np.asarray(a).astype(np.float64) if is_float(a) else a for a in arrays)


def narrowest(jaxpr: Jaxpr) -> Any:
    """The float dtype of fewest bits in a jaxpr, which is the one that its constants may be rounded to."""
    found = [np.dtype(np.float64)]
    for equation in body(jaxpr).eqns:
        avals: list[Any] = [getattr(v, "aval", None) for v in (*equation.invars, *equation.outvars)]
        found += [aval.dtype for aval in avals if is_float(aval)]
        found += [narrowest(inner) for inner in inner_jaxprs(equation.params)]
    return max(found, key=lambda dtype: float(jnp.finfo(dtype).eps))


def cotangents(shapes: Sequence[Any], random: np.random.Generator) -> Arrays:
    """Weights for outputs of these shapes: random, of either sign, and of so few bits that every dtype holds them."""
    return tuple(
        np.asarray(random.integers(32, 128, s.shape) / 64.0 * random.choice([-1, 1], s.shape)).astype(s.dtype)
        for s in shapes
    )


class Traced(NamedTuple):
    """A function and its pullback by its own rule, each traced once."""

    arrays: Arrays
    outputs: Arrays
    has_rules: bool
    cotangents: Arrays
    ruled: Program


def traced(one: Problem, seed: int, *, wide: bool) -> Traced | None:
    """The function as it is, or on float64 copies; None if it takes these and returns floats of another width."""
    arrays = widened(one.arrays) if wide else one.arrays
    with x64(wide):
        jaxpr, outputs = jax.make_jaxpr(one.values(one.fn), return_shape=True)(arrays)
        if wide and any(o.dtype != np.float64 for o in outputs):
            return None
        of_outputs = cotangents(outputs, np.random.default_rng(seed))
    ruled = Program(one.pullback(one.fn), arrays, of_outputs, wide=wide)
    return Traced(arrays, outputs, has_custom_rules(jaxpr), of_outputs, ruled)


class Pair:
    """Rule and formula as exact programs.

    They are those of float64 copies if the function takes them and ``wide`` allows it: its own rounded constants then
    lie below what is judged.
    """

    def __init__(self, one: Problem, reference: Callable[..., Any] | None, seed: int, *, wide: bool = True):
        self.one = one
        self.seed = seed
        of_copies = None
        with contextlib.suppress(Exception):  # whatever it raises, the function is then checked in its own dtype
            of_copies = traced(one, seed, wide=True) if wide else None
        self.wide = of_copies is not None
        found = of_copies or traced(one, seed, wide=False)
        assert found is not None
        self.arrays, self.outputs, self.has_rules, self.cotangents, self.ruled = found
        examples = self.arrays, self.cotangents
        truth = inlined(one.fn) if reference is None else reference
        self.undifferentiable = ""
        self.plain: Program | None = self.ruled
        if reference is not None or self.has_rules:
            self.plain = self._differentiated(truth, *examples)
        self.truth = truth
        self.by_reference = reference is not None
        self.approximate = False
        """Whether rule and formula were found to differ by less than a rounding of the arguments' own dtype."""
        self.tolerance = by.of(*(narrowest(p.jaxpr) for p in (self.ruled, self.plain) if p is not None))

    def _differentiated(self, truth: Callable[..., Any], *examples: Arrays) -> Program | None:
        """The pullback of the formula, in forward mode if it has no reverse mode (a loop); None if it has neither."""
        for pullback in (self.one.pullback, self.one.pullback_by_forward_mode):
            try:
                return Program(pullback(truth), *examples, wide=self.wide)
            except Exception as error:  # perhaps there is a custom rule because JAX cannot differentiate the formula
                first_line = next(iter(str(error).splitlines()), "")
                said = f"JAX cannot differentiate the formula ({type(error).__name__}: {first_line})"
                said += "; say what it should compute by `reference` (`--reference FILE:FUNCTION`)"
                self.undifferentiable = self.undifferentiable or said  # of reverse mode, which was asked for
        return None

    @property
    def roundoff(self) -> float:
        """That of the dtype that the function is given: what is smaller may be left out by a formula on purpose."""
        return max(ulp.unit_roundoff(a.dtype) for a in self.one.chosen(self.one.arrays)) if self.wide else 0.0

    @functools.cached_property
    def example(self) -> Arrays:
        """The example off all kinks and ties."""
        return generic(self.one, self.arrays, np.random.default_rng(self.seed + 4))

    @functools.cached_property
    def rows(self) -> int | None:
        """The length of a leading axis of outputs and arrays whose rows do not feel each other; None without one."""
        with x64(self.wide):
            return _independent_rows(self, self.example)

    def given(self, arrays: Arrays) -> Arrays:
        """These arrays in the dtype of the programs."""
        return widened(arrays) if self.wide else arrays

    def hang_on_constants(
        self, arrays: Arrays, weights: Arrays, wrong: Sequence[np.ndarray], *, rounded_to: float | None = None
    ) -> list[np.ndarray]:
        """Those of the wrong entries of the gradients that are right for other constants of the same floats.

        A rule that subtracts 2/√π from 2/√π is made of the roundings of both where nothing else is left: what it gives
        there is a matter of accuracy, and whether it is the right formula cannot be seen. The floats are those of the
        programs, or those of a dtype that has the unit roundoff ``rounded_to``.
        """
        looseness = self.tolerance.u if rounded_to is None else rounded_to
        try:
            assert self.plain is not None
            got, want = (program(arrays, weights, looseness=looseness)[1] for program in (self.ruled, self.plain))
        except REFUSALS:
            return [np.zeros_like(w) for w in wrong]
        with oracle.precision():
            meet = [np.vectorize(by.meet, otypes=[bool])(g, w) if np.size(w) else np.zeros(np.shape(w), bool)
                    for g, w in zip(got, want, strict=True)]  # fmt: skip
        return [w & m for w, m in zip(wrong, meet, strict=True)]


def as_floats(balls: Any) -> Any:
    """Their midpoints."""
    return np.vectorize(float, otypes=[float])(balls)


def exactly_or_compiled(function: Callable[[], Any], wide: bool) -> Any:
    """The results of a function without arguments as floats: exactly if that is possible, else compiled."""
    try:
        return jax.tree.map(as_floats, Program(function, wide=wide)())
    except REFUSALS:
        return jax.jit(function)()


def _independent_rows(pair: Pair, arrays: Arrays) -> int | None:
    """By pullbacks of the first and of the last row alone."""
    shapes = [o.shape for o in pair.outputs]
    moving = pair.one.chosen(arrays)
    if any(not shape or shape[0] != shapes[0][0] for shape in shapes) or shapes[0][0] < 2:
        return None
    rows = shapes[0][0]
    batched = [k for k, m in enumerate(moving) if np.ndim(m) and m.shape[0] == rows]
    if not batched:
        return None

    def pulled(arrays: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
        return exactly_or_compiled(lambda: pair.one.pullback(pair.one.fn)(arrays, cotangents), pair.wide)

    for row in {0, rows - 1}:
        of_row = tuple(np.where((np.arange(rows) == row).reshape(-1, *[1] * (np.ndim(w) - 1)), w, np.zeros_like(w))
                       for w in pair.cotangents)  # fmt: skip
        values, gradients = pulled(arrays, of_row)
        if any(np.delete(gradients[k], row, axis=0).any() for k in batched):
            return None
        if not any(gradients[k].any() for k in batched):  # the slopes of a rank, say, do not tell: its value does
            alike = list(arrays)
            for position in (pair.one.moving[k] for k in batched):
                alike[position] = np.repeat(np.asarray(arrays[position])[row : row + 1], rows, axis=0)
            among_alike, _ = pulled(tuple(alike), of_row)
            if not all(np.allclose(v[row], a[row], equal_nan=True) for v, a in zip(values, among_alike, strict=True)):
                return None
    return rows
