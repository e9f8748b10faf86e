"""One box: the function traced for it, and a ball around all that it returns there."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flint import arb
from numpy.typing import NDArray

from lossjax._core.versions import Jaxpr
from lossjax.verify._check.inlining import inlined
from lossjax.verify._exact.choices import Choices, paths
from lossjax.verify._exact.interpreter import interpret
from lossjax.verify._exact.rules import UndecidedComparison
from lossjax.verify.ulp import balls

_BITS = 128
_MOST_PATHS = 64
"""Ways through the program that are executed for one box, before it is halved instead."""

_AROUND = 2.0**-40
"""So much of the whole box's edges is around a point."""

Numbers = NDArray[np.float64]
Point = tuple[Numbers, ...]


@dataclasses.dataclass(frozen=True)
class Problem:
    """The traced function, and the box."""

    value: Jaxpr
    slope: Jaxpr | None
    """Value and Jacobian of the formula in one program; None where JAX cannot differentiate it forward."""
    shape: tuple[int, ...]
    fixed: dict[int, Any]
    """The arguments that do not vary, by position."""
    lower: Point
    upper: Point

    @staticmethod
    def of(fn: Callable[..., Any], lower: Any, upper: Any) -> "Problem":
        lows, highs = (corner if isinstance(corner, tuple) else (corner,) for corner in (lower, upper))
        if len(lows) != len(highs):
            raise ValueError(f"lower has {len(lows)} arguments, upper {len(highs)}")
        fixed: dict[int, Any] = {}
        corners: list[tuple[Numbers, Numbers]] = []
        for i, (low, high) in enumerate(zip(lows, highs, strict=True)):
            a, b = np.asarray(low), np.asarray(high)
            if a.shape != b.shape:
                raise ValueError(f"argument {i}: lower has shape {a.shape}, upper {b.shape}")
            if np.array_equal(a, b):
                fixed[i] = low
                continue
            a, b = a.astype(np.float64), b.astype(np.float64)
            if not (np.isfinite(a) & np.isfinite(b) & (a <= b)).all():
                raise ValueError(f"argument {i}: wanted finite corners with lower <= upper, got {a} and {b}")
            corners.append((a, b))
        if not corners:
            raise ValueError("lower and upper are the same: a box has an argument that varies")

        def of_moving(*moving: Any) -> Any:
            rest = iter(moving)
            return fn(*(fixed[i] if i in fixed else next(rest) for i in range(len(lows))))

        given = [jnp.asarray(a, jnp.result_type(float)) for a, _ in corners]
        value = jax.make_jaxpr(of_moving)(*given)
        out = jax.eval_shape(of_moving, *given)
        if not hasattr(out, "shape") or not jnp.issubdtype(out.dtype, jnp.floating):
            raise TypeError(f"the function returns {jax.tree.map(str, out)}, wanted one float array")
        return Problem(
            value, _slope(of_moving, given), tuple(out.shape), fixed, *map(tuple, zip(*corners, strict=True))
        )

    def enclosures(self, low: Point, high: Point) -> tuple[list[arb], NDArray[np.float64]]:
        """For each result a ball that holds it over the box; and how far each entry moves each result there.

        Raises:
          UndecidedComparison: some result may be anything.
        """
        if self.slope is not None:
            try:
                return _united(functools.partial(self._by_slope, low, high))
            except UndecidedComparison:
                pass  # the derivative may be infinite where the value is not
        return _united(functools.partial(self._by_value, low, high))

    def _by_slope(self, low: Point, high: Point, path: Choices) -> tuple[list[arb], NDArray[np.float64]]:
        """By the value at the middle and the slope over the box, along one way through the program."""
        box, middle = _hulls(low, high), [balls(a + (b - a) / 2) for a, b in zip(low, high, strict=True)]
        assert self.slope is not None
        whole, *jacobian = interpret(self.slope, box, _BITS, choices=path)
        centre = interpret(self.slope, middle, _BITS, choices=Choices(dict(path.given)))[0].ravel().tolist()
        away = [x - m for b, c in zip(box, middle, strict=True) for x, m in zip(b.ravel(), c.ravel(), strict=True)]
        rows = np.concatenate([j.reshape(len(centre), -1) for j in jacobian], axis=1).tolist()
        terms = [[slope * x for slope, x in zip(row, away, strict=True)] for row in rows]
        means = [functools.reduce(arb.__add__, row, c) for c, row in zip(centre, terms, strict=True)]
        found = [_meet(a, b) for a, b in zip(whole.ravel().tolist(), means, strict=True)]
        return found, np.asarray([[float(term.rad()) for term in row] for row in terms])

    def _by_value(self, low: Point, high: Point, path: Choices) -> tuple[list[arb], NDArray[np.float64]]:
        found = interpret(self.value, _hulls(low, high), _BITS, choices=path)[0].ravel().tolist()
        edges = np.concatenate([(b - a).ravel() for a, b in zip(low, high, strict=True)])
        return found, np.broadcast_to(edges, (len(found), edges.size))

    def at(self, point: Point) -> list[arb] | None:
        """The results at one point; None where they are not finite, or undecided."""
        try:
            results = interpret(self.value, [balls(p) for p in point], _BITS)[0].ravel().tolist()
        except UndecidedComparison:
            return None
        return results if all(r.is_finite() for r in results) else None

    def around(self, point: Point) -> list[arb] | None:
        """Balls that hold the results at the point and all around it; None where some of that is undecided."""
        steps = [(b - a) * _AROUND for a, b in zip(self.lower, self.upper, strict=True)]
        low = tuple(np.maximum(p - step, a) for p, step, a in zip(point, steps, self.lower, strict=True))
        high = tuple(np.minimum(p + step, b) for p, step, b in zip(point, steps, self.upper, strict=True))
        try:
            return self.enclosures(low, high)[0]
        except UndecidedComparison:
            return None


def _slope(fn: Callable[..., Any], given: Sequence[Any]) -> Jaxpr | None:
    plain = inlined(fn, through=("stop_gradient",))

    def both(*args: Any) -> Any:
        return plain(*args), *jax.jacfwd(plain, tuple(range(len(args))))(*args)

    try:
        return jax.make_jaxpr(both)(*given)
    except Exception:  # a derivative may be refused in any way; bounds without it are wider, and as certain
        return None


def _united(along: Callable[[Choices], tuple[list[arb], NDArray[np.float64]]]) -> tuple[list[arb], NDArray[np.float64]]:
    """The hull of what is found along every way through the program."""
    found: list[arb] = []
    moves = np.zeros(())
    try:
        for path in paths(_MOST_PATHS):
            more, moved = along(path)
            found = [a.union(b) for a, b in zip(found or more, more, strict=True)]
            moves = np.maximum(moves, moved)
    except OverflowError as error:
        raise UndecidedComparison(str(error)) from error
    if bad := [x for x in found if not x.is_finite()]:
        raise UndecidedComparison(f"the result is {bad[0]}")
    return found, moves


def _hulls(low: Point, high: Point) -> list[Any]:
    """Balls that hold every number between the corners."""
    arrays = []
    for a, b in zip(low, high, strict=True):
        hull = np.empty(a.size, object)
        hull[:] = [arb(x).union(arb(y)) for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)]
        arrays.append(hull.reshape(a.shape))
    return arrays


def _meet(a: arb, b: arb) -> arb:
    """The numbers that lie in both balls; one of them where the other says nothing."""
    if not a.is_finite() or not b.is_finite():
        return b if b.is_finite() else a
    return a.intersection(b)
