"""What a whole box of arguments leaves open: one execution for every way in which its comparisons may come out.

A program with the answers of its comparisons written into it has no branches. The paths of a box are these programs:
whatever a program returns for an argument in the box, one of its paths returns for it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Choices:
    """The answers of one path: ``given`` by the place of each open question in the order of execution."""

    def __init__(self, given: dict[int, Any]):
        self.given = given
        self.open: dict[int, Sequence[Any]] = {}
        """The possible answers of each open question."""
        self._asked = 0

    def settled(self, answer: T | None, possible: Sequence[T]) -> T:
        """The answer of this path: the one given, the only possible one, or the first."""
        place, self._asked = self._asked, self._asked + 1
        if place not in self.given:
            if answer is not None:
                return answer
            self.given[place] = possible[0]
        self.open[place] = possible
        return self.given[place]


def paths(most: int) -> Iterator[Choices]:
    """Every path, as each is executed before the next is asked for: depth first, at most ``most``.

    Raises:
      OverflowError: there are more.
    """
    given: dict[int, Any] | None = {}
    for _ in range(most):
        path = Choices(given)
        yield path
        given = _next(path)
        if given is None:
            return
    raise OverflowError(f"more than {most} ways through the program")


def _next(path: Choices) -> dict[int, Any] | None:
    """The answers up to the last question with an answer that is still to be tried, with that answer."""
    for place in sorted(path.open, reverse=True):
        left = path.open[place][path.open[place].index(path.given[place]) + 1 :]
        if left:
            return {**{k: v for k, v in path.given.items() if k < place}, place: left[0]}
    return None
