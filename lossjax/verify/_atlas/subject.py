"""One function as programs of many points: as compiled, and executed exactly.

A program gives, for each point, the float entries of the value and their derivatives in every float entry of the
arguments.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flint import arb
from numpy.typing import NDArray

from lossjax.verify import oracle, ulp
from lossjax.verify._atlas import domains
from lossjax.verify._atlas.domains import Points
from lossjax.verify._exact import UndecidedComparison, exact_jaxpr

BITS = 512
"""Of exact execution: sums of numbers from 2^-60 to 2^60, and their squares, keep 80 bits more than enough."""
TOGETHER = 64
"""How many points are executed exactly at a time."""
_STEP = arb(2) ** -100
"""The relative distance of the arguments by which a derivative is taken as a difference quotient."""


class Entry(NamedTuple):
    """One number of a function's result: which part it belongs to, and its name."""

    part: str
    name: str


class Subject:
    """One function with the kinds of its arguments, as programs of many points."""

    def __init__(
        self,
        function: Callable[..., Any],
        words: Sequence[str],
        dtype: Any,
        reference: Callable[..., Any] | None = None,
    ) -> None:
        """Trace the function; without derivatives if JAX has none of it."""
        self.words, self.dtype = tuple(words), dtype
        self.kinds = domains.kinds_of(words)
        self.moving = tuple(i for i, kind in enumerate(self.kinds) if not kind.integer)
        self._function, self._meant = function, reference or function
        self.differentiable = True
        one = tuple(a[0] for a in domains.points(words, TOGETHER, dtype, np.random.default_rng(0)))
        try:
            shapes = jax.eval_shape(self._numbers(function), *one)
        except Exception:
            self.differentiable = False
            shapes = jax.eval_shape(self._numbers(function), *one)
        self.entries = self._named(shapes[0].shape[0])
        self._compiled = jax.jit(jax.vmap(self._numbers(function)))
        self._jaxprs: dict[int, Any] = {}
        written = str(jax.make_jaxpr(self._meant)(*one))
        self.reach = domains.NEAR if any(name in written for name in domains.SLOW) else domains.FAR

    def _numbers(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``arguments of one point -> (entries of the value, their derivatives in each argument)``."""

        def value(*args: Any) -> Any:
            leaves = [jnp.ravel(x) for x in jax.tree.leaves(function(*args)) if jnp.issubdtype(x.dtype, jnp.floating)]
            return jnp.concatenate(leaves)

        if not self.differentiable or not self.moving:
            return lambda *args: (value(*args), ())
        return lambda *args: (value(*args), jax.jacrev(value, self.moving)(*args))

    def _named(self, outputs: int) -> tuple[Entry, ...]:
        many = outputs > 1
        values = [Entry("value", f"value[{i}]" if many else "value") for i in range(outputs)]
        if not self.differentiable:
            return tuple(values)
        slopes = [
            Entry("gradient", f"d{f'[{i}]' if many else ''}/d{j}{list(at) if at else ''}")
            for j in self.moving
            for i in range(outputs)
            for at in np.ndindex(self.kinds[j].shape)
        ]
        return (*values, *slopes)

    @staticmethod
    def _columns(results: Any) -> NDArray[Any]:
        value, slopes = results
        return np.concatenate([np.asarray(x).reshape(len(value), -1) for x in (value, *slopes)], axis=1)

    def computed(self, points: Points) -> NDArray[Any]:
        """What the compiled program gives, in float64: ``[points, entries]``."""
        return np.asarray(self._columns(self._compiled(*points)), np.float64)

    def exactly(self, points: Points, bits: int = BITS) -> NDArray[Any]:
        """The truth, ``[points, entries]`` of balls; NaN where a comparison is undecided."""
        count = len(points[0])
        padded = -count % TOGETHER if count > 1 else 0
        points = tuple(np.concatenate([a, a[:1].repeat(padded, axis=0)]) for a in points)
        parts = [self._executed(tuple(a[i : i + TOGETHER] for a in points), bits) for i in range(0, count, TOGETHER)]
        return np.concatenate(parts)[:count]

    def _executed(self, points: Points, bits: int) -> NDArray[Any]:
        count = len(points[0])
        if count not in self._jaxprs:
            shown = [
                jax.ShapeDtypeStruct(a.shape, np.int32 if kind.integer else self.dtype)
                for a, kind in zip(points, self.kinds, strict=True)
            ]
            self._jaxprs[count] = jax.make_jaxpr(jax.vmap(self._numbers(self._meant)))(*shown)
        try:
            value, *slopes = exact_jaxpr(self._jaxprs[count], points, bits)
        except (UndecidedComparison, ZeroDivisionError):
            if count > 1:
                singly = [tuple(a[i : i + 1] for a in points) for i in range(count)]
                return np.concatenate([self._executed(one, bits) for one in singly])
            return np.array([[arb("nan")] * len(self.entries)], object)
        found = self._columns((value, slopes))
        if bits < 4096:
            for i in (i for i in range(count) if not all(map(narrow, found[i]))):
                found[i] = self._executed(tuple(a[i : i + 1] for a in points), 4096)[0]
        return found

    def moved(self, points: Points) -> tuple[NDArray[Any], NDArray[Any]]:
        """The truth where one float entry of the arguments is a little larger, then smaller.

        Of shape ``[2·n, points, entries]``; the other array, ``[2·n, points]``, holds by how much it is.
        """
        truths, sizes = [], []
        exactly = [a if k.integer else ulp.balls(a) for a, k in zip(points, self.kinds, strict=True)]
        with oracle.precision(BITS):
            for i in self.moving:
                for at in np.ndindex(self.kinds[i].shape):
                    place = (slice(None), *at)
                    step = oracle.each(lambda x: _STEP * (abs(x) if x != 0 else 1), exactly[i][place])
                    for sign in (1, -1):
                        other = [a.copy() for a in exactly]
                        other[i][place] = exactly[i][place] + sign * step
                        truths.append(self.exactly(tuple(other)))
                        sizes.append(sign * step)
        return np.array(truths, object), np.array(sizes, object)


def narrow(ball: arb) -> bool:
    """Whether a truth is known well enough to judge by."""
    return not ball.is_finite() or ball.rel_accuracy_bits() >= 80 or float(ball.rad()) <= 1e-60
