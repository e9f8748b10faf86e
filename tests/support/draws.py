"""How the arguments of the cases are drawn: families of numbers, in which the kinds of a signature take their part."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from lossjax.verify.signatures import KINDS

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


def _fractions(f: Family, random: np.random.Generator, dtype: Any, _: list[np.ndarray]) -> np.ndarray:
    """Three of ten are 0, three of ten are 1."""
    y = random.uniform(size=(f.rows, f.classes))
    return np.where(y < 0.3, 0, np.where(y > 0.7, 1, y)).astype(dtype)


def _vectors(f: Family, random: np.random.Generator, dtype: Any, _: list[np.ndarray]) -> np.ndarray:
    """Logits; every second row has a dominating entry, so that any two of these are nearly parallel."""
    x = f.logits(random, np.float64)
    x[::2, 0] *= 1000
    return x.astype(dtype)


def _other_logits(f: Family, random: np.random.Generator, dtype: Any, before: list[np.ndarray]) -> np.ndarray:
    """Close to the first at small scales, far apart at large ones."""
    step = random.normal(size=before[0].shape) * min(f.scale, 3.0) * 0.1
    return (before[0].astype(np.float64) + step).astype(dtype)


def _log_probabilities(f: Family, random: np.random.Generator, dtype: Any, before: list[np.ndarray]) -> np.ndarray:
    """Of likely and unlikely tokens; the second close to the first at small scales, and never e^88 apart."""
    if not before:
        return -random.exponential(f.scale, (f.rows, f.classes)).astype(dtype)
    first = before[0].astype(np.float64)
    step = first * np.expm1(random.normal(size=first.shape) * min(f.scale, 1.0))
    return (first + np.clip(step, -60, np.minimum(60, -first / 2))).astype(dtype)


BY_KIND: dict[str, Callable[[Family, np.random.Generator, Any, list[np.ndarray]], np.ndarray]] = {
    **dict.fromkeys(("logits", "scores", "log rates"), lambda f, random, dtype, _: f.logits(random, dtype)),
    "vectors": _vectors,
    "other logits": _other_logits,
    "labels": lambda f, random, _, before: f.labels(random, before[0]).astype(np.int32),
    **dict.fromkeys(("distributions", "probabilities"), lambda f, random, dtype, _: f.probabilities(random, dtype)),
    "other probabilities": lambda f, random, dtype, before: f.probabilities(
        random, dtype, near=before[0] if f.scale < 1 else None
    ),
    "tokens": lambda f, random, _, before: f.labels(random, before[0]).astype(np.int32),
    "fractions": _fractions,
    "log likelihoods": lambda f, random, dtype, _: _log_probabilities(f, random, dtype, []),
    "other log likelihoods": _log_probabilities,
}
"""The kinds that a family says something of, given the arguments before; ``KINDS`` draws the others."""


def arguments_of(*kinds: str) -> Draw:
    """How arguments of these kinds are drawn."""

    def drawn(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
        random = f.random()
        args: list[np.ndarray] = []
        for kind in kinds:
            if kind in BY_KIND:
                args.append(BY_KIND[kind](f, random, dtype, args))
            else:
                usual = KINDS[kind].draw(random, (f.rows, f.classes))
                args.append(usual if KINDS[kind].integer else usual.astype(dtype))
        return tuple(args)

    return drawn


labelled = arguments_of("logits", "labels")
with_targets = arguments_of("logits", "distributions")


def and_weights(draw: Draw) -> Draw:
    """A further argument: one weight per class."""
    return lambda f, dtype: (*draw(f, dtype), f.random().uniform(0.5, 2, f.classes).astype(dtype))


def and_signed_weights(draw: Draw) -> Draw:
    """A further argument: one weight per logit, below 0 and small at the least logit of a row."""

    def drawn(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
        z, *rest = draw(f, dtype)
        b = f.random().uniform(0.5, 2, z.shape)
        least = np.arange(f.classes) == np.argmin(z.astype(np.float64), -1)[:, None]
        return z, *rest, np.where(least, -b / 4, b).astype(dtype)

    return drawn


def and_numbers(draw: Draw, *numbers: float) -> Draw:
    """Further arguments: these numbers."""
    return lambda f, dtype: (*draw(f, dtype), *(np.asarray(n, dtype) for n in numbers))


def and_tunable(draw: Draw) -> Draw:
    """The options of a softmax loss that are differentiated: weights, z-loss, softcap, temperature."""
    return and_numbers(and_weights(draw), 1e-2, 4.0, 1.7)
