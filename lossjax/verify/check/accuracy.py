"""How accurate are value and gradient as computed? In u against their exact selves, less what the inputs explain.

An input known to one rounding leaves the result uncertain by ``Σᵢ |∂out/∂xᵢ|·|xᵢ|·u``: no program can be blamed for an
error of that size. It is computed exactly from the Jacobian of the output, or of the gradient; and where a kink lies
within a rounding, from the exact results around.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flint import arb

from lossjax.verify import oracle, ulp
from lossjax.verify.check.certificate import Row
from lossjax.verify.check.inputs import Family, shown
from lossjax.verify.check.problem import Arrays, Problem, Program, cotangents
from lossjax.verify.check.rule import REFUSALS, affordable
from lossjax.verify.report import number
from lossjax.verify.ulp import Balls

_MOST_ENTRIES = 60_000
_LARGEST_JACOBIAN = 60_000
_AROUND = 8
_FACTOR = 2.0
"""The largest change over some random roundings, times this, stands for the worst rounding."""
_MOST_FAILURES = 3


@dataclasses.dataclass
class _Worst:
    """The worst of a row so far."""

    beyond: float = 0.0
    raw: float = 0.0
    raw_in: str = ""
    judged: int = 0
    failures: list[tuple[float, str]] = dataclasses.field(default_factory=list)


class _Judge:
    """Computes, executes exactly, and tells what the inputs explain."""

    def __init__(self, one: Problem, reference: Callable[..., Any] | None, seed: int):
        self.one = one
        outputs = one.shapes(one.arrays)
        self.random = np.random.default_rng(seed + 3)
        self.cotangents = cotangents(outputs, self.random)
        self.truth = one.pullback(reference or one.fn)
        self.exact = Program(self.truth, one.arrays, self.cotangents, wide=False)
        size = max(sum(np.size(one.arrays[i]) for i in one.floats), 1)
        self.long = float(np.sqrt(size) / 2)
        """Sums of n terms, in any sensible order, err by some √n u/2 of the terms (Higham and Mary, 2019)."""

    def computed(self, arrays: Arrays) -> tuple[list[Any], list[Any]]:
        """Values (called plainly, and as differentiated) and gradients in floating point."""
        outputs, gradients = self.one.compiled[1](arrays, self.cotangents)
        return [*self.one.compiled[0](arrays), *outputs], list(gradients)

    @functools.cached_property
    def jacobian(self) -> Program | None:
        """``∂(outputs, gradients)/∂(float inputs, cotangents)``, executed exactly; None if too large or impossible."""
        one = self.one
        inputs = sum(np.size(one.arrays[i]) for i in one.floats) + sum(map(np.size, self.cotangents))
        results = sum(np.size(one.arrays[i]) for i in one.moving) + sum(map(np.size, self.cotangents))
        if inputs * results > _LARGEST_JACOBIAN:
            return None

        def of_floats(floats: Arrays, cotangents: Arrays, arrays: Arrays) -> Any:
            full = list(arrays)
            for position, array in zip(one.floats, floats, strict=True):
                full[position] = array
            return self.truth(tuple(full), cotangents)

        floats = tuple(one.arrays[i] for i in one.floats)
        for mode in (jax.jacrev, jax.jacfwd):
            try:
                return Program(mode(of_floats, argnums=(0, 1)), floats, self.cotangents, one.arrays, wide=False)
            except Exception:  # no second derivative in this mode: then from the results around
                continue
        return None

    def explained(self, arrays: Arrays) -> tuple[list[Any], list[Any]] | None:
        """For each output and gradient, absolutely: what one rounding of every input may change."""
        if self.jacobian is None:
            return None
        floats = tuple(arrays[i] for i in self.one.floats)
        try:
            found = self.jacobian(floats, self.cotangents, arrays)
        except REFUSALS:
            return None
        sizes = [np.abs(a.astype(np.float64)) * ulp.unit_roundoff(a.dtype) for a in (*floats, *self.cotangents)]
        return tuple([_change(parts, sizes) for parts in group] for group in found)  # pyright: ignore[reportReturnType]

    def around(self, arrays: Arrays, exact: tuple[Arrays, Arrays]) -> tuple[list[Any], list[Any]]:
        """For each output and gradient: how far the exact results move over some roundings of the inputs."""
        changes = [[np.zeros(b.shape) for b in group] for group in exact]
        for _ in range(_AROUND):
            moved = list(arrays)
            for i in self.one.floats:
                a = arrays[i].astype(np.float64)
                step = self.random.uniform(0.5, 1, a.shape) * self.random.choice([-1, 1], a.shape)
                with np.errstate(invalid="ignore"):
                    moved[i] = ulp.balls(a * (1 + step * ulp.unit_roundoff(arrays[i].dtype)))
            for group, now, before in zip(changes, self.exact(tuple(moved), self.cotangents), exact, strict=True):
                for k, (n, b) in enumerate(zip(now, before, strict=True)):
                    group[k] = np.maximum(group[k], _distance(n, b))
        return changes[0], changes[1]


def _change(parts: Any, sizes: Sequence[Any]) -> Any:
    """``Σ |J|·|x|·u`` over all inputs; ``parts`` is ``(∂/∂ arrays, ∂/∂ cotangents)``."""
    total: Any = 0.0
    for jacobian, size in zip([*parts[0], *parts[1]], sizes, strict=True):
        magnitude = np.array([_size(v) for v in jacobian.ravel().tolist()]).reshape(jacobian.shape)
        total = total + np.tensordot(magnitude, size, size.ndim)
    return total


def _size(ball: arb) -> float:
    return float(abs(ball).abs_upper()) if ball.is_finite() else 0.0


def _distance(a: Balls, b: Balls) -> Any:
    with oracle.precision():
        gaps = [
            float(abs(x - y).abs_upper()) if x.is_finite() and y.is_finite() else 0.0
            for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
        ]
    return np.array(gaps).reshape(b.shape)


def check_accuracy(
    one: Problem,
    families: Sequence[Family],
    reference: Callable[..., Any] | None,
    wanted: Sequence[str],
    ulps: float,
    seed: int,
) -> list[Row]:
    """The rows ``value`` and ``gradient``, those that are wanted."""
    tried = affordable(one, [f for f in families if f.regular], _MOST_ENTRIES)
    judge = _Judge(one, reference, seed)
    worst = {"value": _Worst(), "gradient": _Worst()}
    refused = []
    for family in tried:
        try:
            exact = judge.exact(family.arrays, judge.cotangents)
            values, gradients = judge.computed(family.arrays)
            _judge(judge, family, exact, values, gradients, worst, wanted, ulps)
        except (*REFUSALS, ArithmeticError) as error:
            refused.append(f"{family.name}: {error}")
    rows = []
    for name in ("value", "gradient"):
        if name in wanted:
            rows.append(_row(name, worst[name], len(tried), refused, ulps))
    return rows


def _row(name: str, worst: _Worst, tried: int, refused: list[str], ulps: float) -> Row:
    if not worst.judged:
        why = refused[0] if refused else "nowhere finite"
        return Row(name, None, detail=f"not judged: {why}")
    detail = (
        f"u beyond what a rounding of the inputs and the length of sums explain, over {tried - len(refused)} inputs"
    )
    detail += f"; raw {number(worst.raw)} ulp" + (f" ({worst.raw_in})" if worst.raw else "")
    detail += f"; {len(refused)} not judged ({refused[0]})" if refused else ""
    failures = list(dict.fromkeys(line for _, line in sorted(worst.failures, key=lambda f: -f[0])))
    return Row(name, not failures, worst.beyond, ulps, detail, tuple(failures[:_MOST_FAILURES]))


def _judge(
    judge: _Judge,
    family: Family,
    exact: tuple[Arrays, Arrays],
    values: list[Any],
    gradients: list[Any],
    worst: dict[str, _Worst],
    wanted: Sequence[str],
    ulps: float,
) -> None:
    outputs = len(exact[0])
    explained: tuple[list[Any], list[Any]] | None = None
    around: tuple[list[Any], list[Any]] | None = None
    for name, group, computed in (("value", 0, values), ("gradient", 1, gradients)):
        if name not in wanted:
            continue
        for k, got in enumerate(computed):
            k %= outputs if group == 0 else len(computed)
            truth, so_far = exact[group][k], worst[name]
            error, scale, skip = _errors(got, truth)
            so_far.judged += int((~skip).sum())
            raw = np.where(skip | (ulp.relative_to(truth) < ulp.smallest_normal(got.dtype)), 0, _divided(error, scale))
            if float(np.max(raw, initial=0)) / 2 > so_far.raw:
                so_far.raw, so_far.raw_in = float(np.max(raw)) / 2, family.name
            beyond = _beyond(error, scale, 0.0, judge.long, skip)
            if np.max(beyond, initial=0) > ulps:
                explained = explained or judge.explained(family.arrays) or judge.around(family.arrays, exact)
                beyond = _beyond(error, scale, explained[group][k], judge.long, skip)
            if np.max(beyond, initial=0) > ulps:
                around = around or judge.around(family.arrays, exact)
                change = np.maximum(explained[group][k], _FACTOR * around[group][k])  # pyright: ignore[reportOptionalSubscript]
                beyond = _beyond(error, scale, change, judge.long, skip)
            largest = float(np.max(beyond, initial=0))
            so_far.beyond = max(so_far.beyond, largest)
            if largest > ulps:
                at = tuple(int(i) for i in np.unravel_index(int(np.argmax(beyond)), beyond.shape))
                what = f"output {k}" if group == 0 else f"gradient of {judge.one.names[judge.one.moving[k]]}"
                line = (
                    f"{what} at {list(at)} is off by {number(raw[at] / 2)} ulp ({number(largest)}u unexplained, "
                    f"allowed {ulps:g}): got {np.asarray(got)[at]!s}, want {truth[at].str(9, radius=False)} (inputs "
                    f"{family.name!r}: {shown(judge.one, family.arrays, at[0] if at else None)})"
                )
                so_far.failures.append((largest, line))


def _errors(got: Any, truth: Balls) -> tuple[Any, Any, Any]:
    """Absolute errors beyond what flushing to zero costs, u of the truth, and which entries are not judged."""
    import jax.numpy as jnp

    got = np.asarray(got)
    largest = float(jnp.finfo(got.dtype).max)
    negligible = 4 * (1 + max(got.shape, default=1)) * ulp.smallest_normal(got.dtype)
    size = ulp.relative_to(truth)
    skip = np.array([not t.is_finite() for t in truth.ravel().tolist()]).reshape(truth.shape) | (size > largest / 2)
    settled = truth.copy()
    settled[skip] = arb(0)
    error = ulp.errors(np.where(skip, np.zeros_like(got), got), settled)
    return np.maximum(error - negligible, 0), size * ulp.unit_roundoff(got.dtype), skip


def _divided(error: Any, scale: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, error / scale)


def _beyond(error: Any, scale: Any, explained: Any, long: float, skip: Any) -> Any:
    """What is left of an error, in u of the truth. The inputs' share counts for every term of a long sum."""
    rest = np.maximum(error - (1 + long) * np.asarray(explained) - long * scale, 0)
    return np.where(skip, 0.0, _divided(rest, scale))
