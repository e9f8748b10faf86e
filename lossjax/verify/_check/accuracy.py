"""How accurate value and gradient are as computed, measured against the same programs executed exactly.

An input known to one rounding leaves the result uncertain by ``Σᵢ |∂out/∂xᵢ|·|xᵢ|·u``, and the result is rounded
itself, by ``|out|·u``. The sum of the two is one unit: an error of c units is that of a program which rounds inputs and
result c times and is exact between (Higham calls it mixed stability). The derivatives are rows of the exact Jacobian
of the output, or of the gradient. Where a kink lies within a rounding of the inputs, no derivative says how much a
rounding may change; there the exact results at several roundings of the inputs are compared instead.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lossjax.verify import oracle, ulp
from lossjax.verify._check.certificate import Row
from lossjax.verify._check.family import Family, affordable, shown
from lossjax.verify._check.problem import Arrays
from lossjax.verify._check.programs import REFUSALS, Pair, Program, cotangents
from lossjax.verify._check.rounding import errors, in_units
from lossjax.verify.tables import number
from lossjax.verify.ulp import Balls

_MOST_ENTRIES = 60_000
_ASKED = 4.0
"""Where the error exceeds this many units of the result alone, the share of the inputs is computed too."""
_BATCH = 8
_MOST_DERIVATIVES = 40_000
"""The largest Jacobian (rows times columns) computed for one array of results; else the results around it decide."""
_AROUND = 8
_FACTOR = 2.0
"""The worst rounding is taken to change a result by this times the largest change over some random roundings."""
_MOST_FAILURES = 3
GROUPS = ("value", "gradient")
_Entries = tuple[int, list[tuple[int, ...]]]
"""Which array of a group, and entries of it."""


@dataclasses.dataclass
class _Worst:
    """The largest errors that have been found for one row of the certificate so far."""

    units: float = 0.0
    raw: float = 0.0
    raw_in: str = ""
    judged: int = 0
    failures: list[tuple[float, str]] = dataclasses.field(default_factory=list)


class Judge:
    """Computes results, executes them exactly, and says how much of an error roundings of the inputs explain."""

    def __init__(self, pair: Pair, reference: Callable[..., Any] | None, ulps: float, seed: int):
        one = self.one = pair.one
        outputs = one.shapes(one.arrays)
        self.random = np.random.default_rng(seed + 3)
        self.cotangents = cotangents(outputs, self.random)
        self.truth = one.pullback(reference or one.fn)
        self.exact = Program(self.truth, one.arrays, self.cotangents, wide=False)
        size = sum(np.size(one.arrays[i]) for i in one.floats)
        values = min(math.prod(o.shape) for o in outputs)
        gradients = min(np.size(one.arrays[i]) for i in one.moving)
        # A sum of n terms in any sensible order is off by about √n u of its terms (Higham and Mary, 2019).
        self.allowed = tuple(
            max(ulps, math.sqrt(size / max(results, 1))) for results in (values, min(values, gradients))
        )
        self.by_row = _have_rows(pair)
        """Whether a result feels the inputs of its own row alone: one seed for an entry of each is then enough."""

    def computed(self, arrays: Arrays, cotangents: Arrays) -> tuple[list[Any], list[Any]]:
        """Values (called plainly, and as differentiated) and gradients in floating point."""
        outputs, gradients = self.one.compiled_pullback(arrays, cotangents)
        return [*self.one.compiled_values(arrays), *outputs], list(gradients)

    @functools.cached_property
    def _mixes(self) -> bool:
        """Whether an output feels other entries of its row than its own: then a single one of them is a question."""
        pulled = self.one.compiled_pullback(self.one.arrays, self._picked([0] * len(self.cotangents)))[1]
        shapes = {c.shape for c in self.cotangents if c.ndim and c.shape[-1] > 1}
        return any(g.shape in shapes and np.asarray(g)[..., 1:].any() for g in pulled)

    def _picked(self, at: Sequence[Any]) -> Arrays:
        """Cotangents that are 1 at these places of each row of an output, and 0 elsewhere."""
        return tuple(
            (np.arange(c.shape[-1]) == np.asarray(a)[..., None]).astype(c.dtype) * np.ones_like(c) if c.ndim else c
            for c, a in zip(self.cotangents, at, strict=True)
        )

    def one_hot(self, arrays: Arrays) -> Arrays | None:
        """Cotangents of one output per row, in turn the largest and the smallest; None for a function of entries.

        They are what a policy gradient gives to log-probabilities; with weights of either sign for all outputs, the
        small gradient of a confident row drowns.
        """
        if not self._mixes:
            return None
        places = []
        for value in self.one.compiled_values(arrays):
            wide = np.asarray(value).astype(np.float64)
            if not wide.ndim or not wide.shape[-1]:
                places.append(0)
                continue
            even = np.arange(math.prod(wide.shape[:-1])).reshape(wide.shape[:-1]) % 2 == 0
            places.append(np.where(even, wide.argmax(-1), wide.argmin(-1)))
        return self._picked(places)

    @functools.cached_property
    def _rows(self) -> Program | None:
        """``(float inputs, cotangents, all inputs, seeds) -> seeds · ∂(outputs, gradients)``; None if impossible."""
        one = self.one

        def rows(floats: Arrays, cotangents: Arrays, arrays: Arrays, seeds: tuple[Arrays, Arrays]) -> Any:
            def of_floats(floats: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
                full = list(arrays)
                for position, array in zip(one.floats, floats, strict=True):
                    full[position] = array
                return self.truth(tuple(full), cotangents)

            return jax.vmap(jax.vjp(of_floats, floats, cotangents)[1])(seeds)

        floats = tuple(one.arrays[i] for i in one.floats)
        try:
            return Program(rows, floats, self.cotangents, one.arrays, self._seeds(0, ()), wide=False)
        except Exception:  # without a second derivative, the exact results around the inputs decide
            return None

    def _seeds(self, group: int, picked: Sequence[_Entries]) -> tuple[Arrays, Arrays]:
        """For each place of a batch, cotangents that pick out the entries ``picked[b]`` of one array of a group."""
        results = self.one.shapes(self.one.arrays), self.one.chosen(self.one.arrays)
        seeds = tuple(tuple(np.zeros((_BATCH, *r.shape), r.dtype) for r in of_group) for of_group in results)
        for b, (k, indices) in enumerate(picked):
            for index in indices:
                seeds[group][k][b, *index] = 1
        return seeds[0], seeds[1]

    def explained(self, arrays: Arrays, cotangents: Arrays, group: int, wanted: Mapping[int, Any]) -> dict[int, Any]:
        """What one rounding of every input may change in each wanted entry of the arrays of a group.

        ``wanted`` has the array's place and which of its entries; the answer has the same places, or fewer where that
        is not known.
        """
        floats = tuple(arrays[i] for i in self.one.floats)
        inputs = sum(map(np.size, (*floats, *cotangents)))
        known = {k: which for k, which in wanted.items() if int(which.sum()) * inputs <= _MOST_DERIVATIVES}
        if not known or self._rows is None:
            return {}
        sizes = [np.abs(a.astype(np.float64)) * ulp.unit_roundoff(a.dtype) for a in (*floats, *cotangents)]
        changes = {k: np.zeros(which.shape) for k, which in known.items()}
        picked = [(k, indices) for k, which in known.items() for indices in self._together(which)]
        for start in range(0, len(picked), _BATCH):
            batch = picked[start : start + _BATCH]
            try:
                rows = self._rows(floats, cotangents, arrays, self._seeds(group, batch))
            except (*REFUSALS, jax.errors.TracerArrayConversionError):  # JAX cannot differentiate every rule twice
                return {}
            for b, (k, indices) in enumerate(batch):
                parts = [_sizes(row[b]) * size for row, size in zip((*rows[0], *rows[1]), sizes, strict=True)]
                for index in indices:
                    own = [part[index[0]] for part in parts] if self.by_row else parts
                    changes[k][index] = sum(float(np.sum(part)) for part in own)
        return changes

    def _together(self, wanted: Any) -> list[list[tuple[int, ...]]]:
        """The wanted entries, in parts that one seed each picks out: one entry of every row, or one alone."""
        indices = [tuple(int(i) for i in index) for index in np.argwhere(wanted)]
        if not self.by_row:
            return [[index] for index in indices]
        of_rows = [list(entries) for _, entries in itertools.groupby(indices, key=lambda index: index[0])]
        return [[index for index in part if index] for part in itertools.zip_longest(*of_rows, fillvalue=())]

    def around(self, arrays: Arrays, cotangents: Arrays, exact: tuple[Arrays, Arrays]) -> tuple[list[Any], list[Any]]:
        """How far the exact value of each output and gradient moves over some roundings of the inputs."""
        changes = [[np.zeros(b.shape) for b in group] for group in exact]
        for _ in range(_AROUND):
            moved = list(arrays)
            for i in self.one.floats:
                a = arrays[i].astype(np.float64)
                step = self.random.uniform(0.5, 1, a.shape) * self.random.choice([-1, 1], a.shape)
                with np.errstate(invalid="ignore"):
                    moved[i] = ulp.balls(a * (1 + step * ulp.unit_roundoff(arrays[i].dtype)))
            for group, now, before in zip(changes, self.exact(tuple(moved), cotangents), exact, strict=True):
                for k, (n, b) in enumerate(zip(now, before, strict=True)):
                    group[k] = np.maximum(group[k], _FACTOR * _distance(n, b))
        return changes[0], changes[1]


def _have_rows(pair: Pair) -> bool:
    """Whether every array of floats has a row for each row of the results, and these do not feel each other."""
    arrays = [pair.one.arrays[i] for i in pair.one.floats]
    try:
        return pair.rows is not None and all(a.ndim and a.shape[0] == pair.rows for a in arrays)
    except Exception:  # a failure of the function at its own example belongs to other rows
        return False


def _sizes(balls: Any) -> Any:
    found = np.asarray(balls, object)
    return np.array([float(abs(b).abs_upper()) if b.is_finite() else 0.0 for b in found.ravel()]).reshape(found.shape)


def _distance(a: Balls, b: Balls) -> Any:
    with oracle.precision():
        gaps = [
            float(abs(x - y).abs_upper()) if x.is_finite() and y.is_finite() else 0.0
            for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
        ]
    return np.array(gaps).reshape(b.shape)


def check_accuracy(
    pair: Pair,
    families: Sequence[Family],
    reference: Callable[..., Any] | None,
    wanted: Sequence[str],
    ulps: float,
    seed: int,
) -> list[Row]:
    """The rows ``value`` and ``gradient``, those that are wanted."""
    tried = affordable(pair.one, [f for f in families if f.regular], _MOST_ENTRIES)
    judge = Judge(pair, reference, ulps, seed)
    worst = {name: _Worst() for name in GROUPS if name in wanted}
    refused = []
    for family in tried:
        try:
            exact = judge.exact(family.arrays, judge.cotangents)
            computed = judge.computed(family.arrays, judge.cotangents)
            for name, so_far in worst.items():
                group = GROUPS.index(name)
                _judge(judge, family, judge.cotangents, exact, computed[group], group, so_far)
            single = judge.one_hot(family.arrays) if "gradient" in worst else None
            if single is not None:
                of_one = family._replace(name=f"{family.name}, cotangent of one output")
                exact, gradients = judge.exact(family.arrays, single), judge.computed(family.arrays, single)[1]
                _judge(judge, of_one, single, exact, gradients, 1, worst["gradient"])
        except (*REFUSALS, ArithmeticError) as error:
            refused.append(f"{family.name}: {error}")
    return [_row(name, found, len(tried), refused, judge.allowed[GROUPS.index(name)]) for name, found in worst.items()]


def _row(name: str, worst: _Worst, tried: int, refused: list[str], allowed: float) -> Row:
    if not worst.judged:
        why = refused[0] if refused else "nowhere finite"
        return Row(name, None, statement=f"not judged: {why}")
    detail = f"u of the result and of what a rounding of the inputs changes, over {tried - len(refused)} inputs"
    detail += f"; raw {number(worst.raw)} ulp" + (f" ({worst.raw_in})" if worst.raw else "")
    detail += f"; {len(refused)} not judged ({refused[0]})" if refused else ""
    failures = list(dict.fromkeys(line for _, line in sorted(worst.failures, key=lambda f: -f[0])))
    return Row(name, not failures, worst.units, allowed, detail, tuple(failures[:_MOST_FAILURES]))


def _judge(
    judge: Judge,
    family: Family,
    cotangents: Arrays,
    exact: tuple[Arrays, Arrays],
    computed: list[Any],
    group: int,
    worst: _Worst,
) -> None:
    """Judge value or gradient at one set of inputs, and note the errors in ``worst``."""
    around: tuple[list[Any], list[Any]] | None = None
    allowed = judge.allowed[group]
    truths = [exact[group][k % len(exact[group])] for k in range(len(computed))]
    found = [errors(got, truth) for got, truth in zip(computed, truths, strict=True)]
    high = [~skip & (in_units(error, scale) > min(allowed, _ASKED)) for error, scale, skip in found]
    asked: dict[int, Any] = {}
    for k, which in enumerate(high):
        if which.any():
            asked[k % len(exact[group])] = which | asked.get(k % len(exact[group]), False)
    explanations = judge.explained(family.arrays, cotangents, group, asked)
    for place, (got, truth, (error, scale, skip)) in enumerate(zip(computed, truths, found, strict=True)):
        k = place % len(exact[group])
        worst.judged += int((~skip).sum())
        raw = np.where(skip | (ulp.relative_to(truth) < ulp.smallest_normal(got.dtype)), 0, in_units(error, scale))
        if float(np.max(raw, initial=0)) / 2 > worst.raw:
            worst.raw, worst.raw_in = float(np.max(raw)) / 2, family.name
        units = np.where(skip, 0.0, in_units(error, scale))
        explained = explanations.get(k)
        if explained is not None:
            explained = np.where(high[place], explained, 0)
            units = np.where(skip, 0.0, in_units(error, scale + explained))
        if (units > allowed).any():
            around = around or judge.around(family.arrays, cotangents, exact)
            change = around[group][k] if explained is None else np.maximum(explained, around[group][k])
            units = np.where(skip, 0.0, in_units(error, scale + change))
        largest = float(np.max(units, initial=0))
        worst.units = max(worst.units, largest)
        if largest > allowed:
            at = tuple(int(i) for i in np.unravel_index(int(np.argmax(units)), units.shape))
            what = f"output {k}" if group == 0 else f"gradient of {judge.one.names[judge.one.moving[k]]}"
            off = f"off by {number(raw[at] / 2)} ulp and" if raw[at] else "off by"
            line = (
                f"{what} at {list(at)}: got {np.asarray(got)[at]!s}, want {truth[at].str(9, radius=False)}, "
                f"{off} {number(largest)}u with the inputs' share (allowed {number(allowed)}; inputs {family.name!r}: "
                f"{shown(judge.one, family.arrays, at[0] if at else None)})"
            )
            worst.failures.append((largest, line))
