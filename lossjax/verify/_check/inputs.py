"""Variations of the example: other scales, offsets, ties, gaps and labels, all within the domain that it suggests."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lossjax.verify._check.discrete import GAP, of_flags, of_labels, of_whole_numbers, with_gap
from lossjax.verify._check.family import Family
from lossjax.verify._check.labels import labels_of
from lossjax.verify._check.problem import Arrays, Problem

OFFSET = 1e4


def variations(one: Problem, seed: int) -> list[Family]:
    """The example as given, followed by its variations."""
    random = np.random.default_rng(seed)
    of = one.kinds
    families = [Family("as given", one.arrays)]

    def add(name: str, change: Any, *, regular: bool = True) -> None:
        by = {
            i: changed for i in one.moving if (changed := change(one.arrays[i].astype(np.float64), of[i])) is not None
        }
        if by:
            families.append(Family(name, one.replaced(one.arrays, by), regular))

    def scale(factor: float, *, regular: bool = True) -> None:
        add(f"scaled by {factor:g}", lambda a, k: _scaled(a, k, factor), regular=regular)

    add("fresh", lambda a, k: _fresh(a, k, random))
    labels = labels_of(one)
    families += [*of_labels(one, labels), *of_flags(one, random), *of_whole_numbers(one, labels, random)]
    for factor in (1e-3, 10.0, 30.0):
        scale(factor)
    for shift in (OFFSET, -OFFSET):
        add(f"offset {shift:+g}", lambda a, k, s=shift: a + s if a.ndim and _shifts(k, s) else None)
    add("ties", lambda a, k: np.round(a) if k == "any" and a.ndim else None)
    add("ties at halves", lambda a, k: np.round(a) / 2 if k == "any" and a.ndim else None)
    add("all equal", lambda a, k: np.full_like(a, 1.0) if k in ("any", "positive") and a.ndim else None, regular=False)
    add("zero", lambda a, k: np.zeros_like(a) if k == "any" and a.ndim else None, regular=False)
    add("sharp", lambda a, k: _sharp(a, k))
    for factor in (1e-6, 1e6):
        scale(factor, regular=False)
        add(f"numbers without axes scaled by {factor:g}", lambda a, k, f=factor: a * f
            if not a.ndim and k in ("any", "positive") else None, regular=False)  # fmt: skip
    add("numbers without axes negated", lambda a, k: -a if not a.ndim and k == "any" else None, regular=False)
    add("one entry of a million", lambda a, k: _one_large(a) if k == "any" and a.ndim else None, regular=False)
    add("one entry of zero", lambda a, k: _one_zero(a) if k == "any" and a.ndim else None, regular=False)
    if labels is None:
        add("gaps", lambda a, k: with_gap(a, random.integers(0, a.shape[-1], a.shape[:-1]), -1, GAP)
            if k == "any" and a.ndim and a.shape[-1] > 1 else None)  # fmt: skip
    families += _others(one, of, random)
    return [f for f in families if _finite_as(one, f)]


def _finite_as(one: Problem, family: Family) -> bool:
    """Whether no number has been lost to overflow: a narrow dtype holds no 10^6."""
    pairs = [(one.arrays[i], family.arrays[i]) for i in one.floats]
    return all(np.isfinite(b.astype(np.float64)).all() or not np.isfinite(a.astype(np.float64)).all() for a, b in pairs)


def _fresh(a: Any, k: str, random: np.random.Generator) -> Any:
    if not a.ndim:
        return a * random.choice([0.5, 2.0])
    if k == "any":
        spread = float(np.std(a[np.isfinite(a)])) if np.isfinite(a).any() else 0.0
        return random.normal(size=a.shape) * (spread or 1.0)
    if k == "simplex":
        return random.dirichlet(np.ones(a.shape[-1]), a.shape[:-1])
    if k == "unit":
        shuffled = random.permutation(a.ravel()).reshape(a.shape)
        return shuffled if np.ptp(a) else shuffled * random.uniform(0.25, 1, a.shape)  # weights that are all 1, say
    if k == "signs":
        return random.choice([-1.0, 1.0], a.shape)
    return random.permutation(a.ravel()).reshape(a.shape) * random.uniform(0.5, 2, a.shape)


def _scaled(a: Any, k: str, factor: float) -> Any:
    if not a.ndim:
        return None
    if k in ("any", "positive"):
        return a * factor
    return a * factor if k == "unit" and factor < 1 else None


def _shifts(k: str, shift: float) -> bool:
    return k == "any" or (k == "positive" and shift > 0)


def _one_large(a: Any) -> Any:
    """A copy in which the last entry of each row is a million, of the sign it has."""
    return np.where(np.arange(a.shape[-1]) == a.shape[-1] - 1, np.copysign(1e6, a), a)


def _one_zero(a: Any) -> Any:
    """A copy in which the middle entry of each row is 0: a product without it is not the product divided by it."""
    return np.where(np.arange(a.shape[-1]) == a.shape[-1] // 2, 0, a)


def _sharp(a: Any, k: str) -> Any:
    """The same probabilities, moved towards 0 and 1."""
    if k == "unit":
        return a**4
    if k != "simplex":
        return None
    return a**4 / np.sum(a**4, axis=-1, keepdims=True)


def _others(one: Problem, of: Sequence[str], random: np.random.Generator) -> list[Family]:
    """Variations of what is not differentiated; and probabilities whose rows have other sums than 1, or sum to 0."""
    kept = [i for i in one.floats if i not in one.moving and one.arrays[i].ndim]
    families = []
    if kept:
        by = {i: _fresh(one.arrays[i].astype(np.float64), of[i], random) for i in kept}
        families.append(Family("others fresh", one.replaced(one.arrays, by)))
        scaled = {i: a * random.choice([0.0, 1.0], a.shape) for i, a in by.items() if of[i] in ("unit", "positive")}
        if scaled:
            families.append(Family("others partly zero", one.replaced(one.arrays, scaled), regular=False))
    rows = [i for i in one.floats if of[i] == "simplex"]
    if rows:
        by = {}
        for i in rows:
            factors = random.uniform(0.5, 1, (*one.arrays[i].shape[:-1], 1))
            by[i] = one.arrays[i].astype(np.float64) * factors
        families.append(Family("sums other than 1", one.replaced(one.arrays, by), regular=False))
        zeros = {
            i: b * (np.arange(b.shape[0]) > 0).reshape(-1, *[1] * (b.ndim - 1))
            for i, b in by.items()
            if b.ndim > 1 and i not in one.moving  # for an array that is differentiated, 0 is the edge of its domain
        }
        if zeros:
            families.append(Family("a row of zeros", one.replaced(one.arrays, zeros), regular=False))
    return families


def generic(one: Problem, arrays: Arrays, random: np.random.Generator) -> Arrays:
    """The example moved a little, so that it lies on no kink and has no tie; what lies in [0, 1] stays there.

    Signs stay what they are, and so do the sums of probabilities, since a function may be undefined for other numbers.
    """
    moved, of = {}, one.kinds
    for i in one.moving:
        a = np.asarray(arrays[i]).astype(np.float64)
        size = np.max(np.abs(a), initial=0, where=np.isfinite(a)) or 1.0
        step = within(of[i], a, 2.0**-6 * random.uniform(-1, 1, a.shape))
        if is_symmetric(a):  # a function may read one half of it
            step = (step + step.swapaxes(-1, -2)) / 2
        moved[i] = np.where(a == 0, size * np.abs(step), a * (1 + step))
        if of[i] == "simplex":  # a function may refuse others
            moved[i] *= np.sum(a, axis=-1, keepdims=True) / np.sum(moved[i], axis=-1, keepdims=True)
    return one.replaced(arrays, moved)


def is_symmetric(a: Any) -> bool:
    """Whether it is a symmetric matrix, or a stack of such."""
    return a.ndim > 1 and a.shape[-1] == a.shape[-2] > 1 and np.array_equal(a, a.swapaxes(-1, -2))


def within(k: str, a: Any, step: Any) -> Any:
    """The step of relative size turned so that numbers of this kind keep it: a function may be undefined for others."""
    if k == "signs":
        return np.zeros_like(step)
    if k in ("unit", "simplex"):
        return np.where(a == 0, np.abs(step), -np.abs(step))
    return np.where(a == 0, np.abs(step), step) if k == "positive" else step
