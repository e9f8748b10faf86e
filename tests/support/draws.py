"""How the arguments of the cases are drawn."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

Draw = Callable[["Family", Any], tuple[np.ndarray, ...]]


@dataclasses.dataclass(frozen=True)
class Family:
    """A way of drawing inputs that something might go wrong with. Shapes are few: each is compiled for."""

    name: str
    rows: int = 7
    classes: int = 5
    scale: float = 1.0
    offset: float = 0.0
    ties: bool = False
    confident: bool = False

    def random(self) -> np.random.Generator:
        return np.random.default_rng(list(self.name.encode()))

    def logits(self, random: np.random.Generator, dtype: Any) -> np.ndarray:
        z = random.normal(size=(self.rows, self.classes)) * self.scale + self.offset
        if self.ties:
            z = np.round(z)
        return z.astype(dtype)

    def labels(self, random: np.random.Generator, logits: np.ndarray) -> np.ndarray:
        if self.confident:
            return np.argmax(logits.astype(np.float64), axis=-1)
        return random.integers(0, self.classes, self.rows)

    def probabilities(self, random: np.random.Generator, dtype: Any, near: np.ndarray | None = None) -> np.ndarray:
        """Dirichlet rows, sparse ones for a large scale; or rows at a relative distance 1e-3·scale from ``near``."""
        if near is not None:
            step = 1 + 1e-3 * self.scale * random.uniform(-1, 1, near.shape)
            p = near.astype(np.float64) * step
        else:
            p = random.dirichlet(np.full(self.classes, 1 / self.scale), size=self.rows)
        return (p / p.sum(-1, keepdims=True)).astype(dtype)


FAMILIES = (
    Family("normal"),
    Family("two classes", classes=2, rows=11),
    Family("one class", classes=1, rows=3),
    Family("one row", rows=1, classes=13),
    Family("small", scale=1e-3),
    Family("wide", scale=20.0),
    Family("confident", scale=20.0, confident=True),
    Family("offset", scale=3.0, offset=1e4),
    Family("negative offset", scale=3.0, offset=-1e4, confident=True),
    Family("ties", scale=1.5, ties=True, confident=True),
    Family("many", classes=257, rows=2, scale=4.0),
)


def labelled(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    z = f.logits(random, dtype)
    return z, f.labels(random, z).astype(np.int32)


def with_targets(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    return f.logits(random, dtype), f.probabilities(random, dtype)


def one_logits(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    return (f.logits(f.random(), dtype),)


def two_logits(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    """Close to each other at small scales, far apart at large ones."""
    random = f.random()
    z = f.logits(random, dtype)
    step = random.normal(size=z.shape) * min(f.scale, 3.0) * 0.1
    return z, (z.astype(np.float64) + step).astype(dtype)


def binary(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    z = f.logits(random, dtype)
    y = random.uniform(size=z.shape)
    return z, np.where(y < 0.3, 0, np.where(y > 0.7, 1, y)).astype(dtype)


def one_p(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    return (f.probabilities(f.random(), dtype),)


def two_p(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    p = f.probabilities(random, dtype)
    return p, f.probabilities(random, dtype, near=p if f.scale < 1 else None)


def regression(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    return f.logits(random, dtype), f.logits(random, dtype)


def gaussian(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    return (*(f.logits(random, dtype) for _ in range(2)), random.normal(size=(f.rows, f.classes)).astype(dtype))


def plus_or_minus(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    """Scores, and targets -1 and 1."""
    random = f.random()
    z = f.logits(random, dtype)
    return z, np.where(random.uniform(size=z.shape) < 0.5, -1, 1).astype(dtype)


def zero_or_one(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    """Logits, and integer labels 0 and 1."""
    random = f.random()
    z = f.logits(random, dtype)
    return z, random.integers(0, 2, z.shape).astype(np.int32)


def counts(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    z = f.logits(random, dtype)
    return z, random.poisson(3, z.shape).astype(dtype)


def and_entries(draw: Draw, *ranges: tuple[float, float]) -> Draw:
    """A further argument an entry, uniform between the two numbers, for each range."""

    def drawn(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
        random = np.random.default_rng(1)
        return *draw(f, dtype), *(random.uniform(*one, (f.rows, f.classes)).astype(dtype) for one in ranges)

    return drawn


def and_weights(draw: Draw) -> Draw:
    return lambda f, dtype: (*draw(f, dtype), f.random().uniform(0.5, 2, f.classes).astype(dtype))


def and_positive(draw: Draw) -> Draw:
    return lambda f, dtype: (*draw(f, dtype), f.random().uniform(0.5, 2, (f.rows, f.classes)).astype(dtype))


def and_numbers(draw: Draw, *numbers: float) -> Draw:
    return lambda f, dtype: (*draw(f, dtype), *(np.asarray(n, dtype) for n in numbers))


def and_tunable(draw: Draw) -> Draw:
    return and_numbers(and_weights(draw), 1e-2, 4.0, 1.7)
