"""Equations drawn at random: each family is one program, compiled once, and executed exactly beside."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tests.support.exactness import compared

Draw = Callable[[np.random.Generator], tuple[Callable[..., Any], tuple[Any, ...]]]


class Families(dict[str, tuple[Draw, int, float, bool]]):
    """Name: what draws a function and its arguments, how many are drawn, the roundoffs that JAX is allowed, and whether
    those are of an array's largest entry."""

    def family(self, draws: int, units: float = 0, *, whole: bool = False) -> Callable[[Draw], Draw]:
        """Register what draws equations of one kind."""

        def register(draw: Draw) -> Draw:
            self[draw.__name__] = draw, draws, units, whole
            return draw

        return register

    def program(self, name: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """All equations of a family as one program, and its arguments."""
        draw, draws, *_ = self[name]
        random = np.random.default_rng(sum(map(ord, name)))
        drawn = [draw(random) for _ in range(draws)]
        functions = [function for function, _ in drawn]

        def program(args: Any) -> Any:
            return [function(*given) for function, given in zip(functions, args, strict=True)]

        return program, ([args for _, args in drawn],)

    def compare(self, name: str) -> None:
        """All equations of a family by JAX and in exact arithmetic."""
        program, args = self.program(name)
        _, _, units, whole = self[name]
        compared(jax.jit(program), args, units, whole=whole)


def shape_of(random: np.random.Generator, least: int = 1, most: int = 4) -> tuple[int, ...]:
    return tuple(random.integers(1, 5, random.integers(least, most + 1)).tolist())


def numbers(random: np.random.Generator, shape: Any) -> np.ndarray:
    """Small multiples of an eighth, with ties, so that sums and products of a few are exact."""
    return random.integers(-12, 13, shape) / 8.0


def with_special(random: np.random.Generator, shape: Any) -> np.ndarray:
    return np.where(random.random(shape) < 0.8, numbers(random, shape), random.choice([np.inf, -np.inf, np.nan], shape))


def some(random: np.random.Generator, of: int, least: int = 0) -> tuple[int, ...]:
    """Some of the first so many integers, in any order."""
    return tuple(random.permutation(of)[: random.integers(least, of + 1)].tolist())


def ordered(chosen: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(chosen))
