"""One set of arguments to try, and the words for it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lossjax.verify._check.problem import Arrays, Problem, is_key


class Family(NamedTuple):
    """One set of arguments to try, with a name for the report."""

    name: str
    arrays: Arrays
    regular: bool = True
    """False for arguments (all equal, very large, targets of another sum) where rules must be right but accuracy is
    not asked."""


def affordable(one: Problem, families: Sequence[Family], entries: int) -> list[Family]:
    """As many of the families as the size of the arrays leaves time for, the example among them."""
    size = max(sum(np.size(a) for a in one.arrays), 1)
    return list(families[: max(1, entries // size)])


def shown(one: Problem, arrays: Arrays, row: int | None = None) -> str:
    """The arguments in numbers: all of them if they are few, else those of the row in question."""
    parts = []
    for name, array in zip(one.names, arrays, strict=True):
        a = None if is_key(array) or not hasattr(array, "__array__") else np.asarray(array)
        if a is None:
            parts.append(f"{name} = {array}")
            continue
        whole = a.size <= 12 or row is None or a.ndim == 0 or row >= a.shape[0]
        part = a if whole else a[row]
        text = np.array2string(part, precision=9, separator=", ", threshold=24, max_line_width=10**6)
        text = " ".join(text.split())
        parts.append(f"{name}{'' if whole else f'[{row}]'} = {text} ({a.dtype}{list(a.shape)})")
    return "; ".join(parts)
