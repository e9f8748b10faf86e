"""Three tiers: the fast one, which ``make test`` runs; the documents; and everything, ``make test-all``.

A test marked ``covering`` keeps a part of its cases in the fast tier: every value of every parameter is met at least
once, the values of the shorter lists in turn; ``covering(2)`` meets every pair of values of two parameters. Its other
cases are marked ``slow``. Which they are depends on the lists alone, never on chance.

What lies in ``tests/documents`` and ``tests/plot`` is marked ``documents``: it reads the pages, draws the figures,
builds the site, and runs examples, docstrings, notebooks and the wheel, as a reader would. It proves no statement about
a loss.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import pytest

Case = Sequence[Hashable]


def covering(cases: Sequence[Case], strength: int = 1) -> set[int]:
    """Which of the cases to keep: each ``strength`` values that meet in one of them meet in one that is kept.

    Greedy: the case that brings the most that is new; of equals, the one whose values have been met least; the first.
    """
    parts = [list(itertools.combinations(enumerate(case), min(strength, len(case)))) for case in cases]
    missing = set(itertools.chain.from_iterable(parts))
    met: Counter[tuple[int, Hashable]] = Counter()
    kept: set[int] = set()

    def order(i: int) -> tuple[int, int, int]:
        """The first is taken. While cases are taken this only grows: what was first and has not grown is first."""
        return -sum(part in missing for part in parts[i]), sum(met[value] for value in enumerate(cases[i])), i

    waiting = [order(i) for i in range(len(cases))]
    heapq.heapify(waiting)
    while missing:
        first = heapq.heappop(waiting)
        i = first[-1]
        if (now := order(i)) != first:
            heapq.heappush(waiting, now)
            continue
        kept.add(i)
        missing.difference_update(parts[i])
        met.update(enumerate(cases[i]))
    return kept


def values(item: Any) -> Case:
    """The values of a test's parameters."""
    return [_identity(value) for _, value in sorted(item.callspec.params.items())]


def _identity(value: Any) -> Hashable:
    """What cannot be hashed is known by where it lies in memory; ``True`` is not 1."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value


DOCUMENTS = "tests/documents/", "tests/plot/"


def mark_documents(items: Iterable[pytest.Item]) -> None:
    """Mark the tests of what is written for readers."""
    for item in items:
        if item.nodeid.startswith(DOCUMENTS):
            item.add_marker(pytest.mark.documents)


def mark_slow(items: Iterable[pytest.Item]) -> None:
    """Mark what the fast tier leaves out of every test marked ``covering``."""
    marked = [item for item in items if item.get_closest_marker("covering")]
    for _, cases in itertools.groupby(marked, key=lambda item: item.nodeid.partition("[")[0]):
        group = list(cases)
        strength = next(group[0].iter_markers("covering")).args
        kept = covering([values(item) for item in group], *strength)
        for i, item in enumerate(group):
            if i not in kept:
                item.add_marker(pytest.mark.slow)
