"""Units of rounding, and distributions drawn in a given dtype."""

from typing import Any

import numpy as np


def unit(dtype: Any) -> float:
    """The unit roundoff u of a dtype: half the spacing of its numbers at 1."""
    return float(np.finfo(dtype).eps) / 2


def distribution(rng: np.random.Generator, n: int, dtype: Any, scale: float = 1.0) -> np.ndarray:
    """A distribution of n classes whose logits have the given standard deviation."""
    e = np.exp(scale * rng.normal(size=n))
    return (e / e.sum()).astype(dtype)
