"""A batch is a loop over its rows."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tests.support.floats import unit
from tests.support.quick import quick


def assert_batches_are_loops(
    functions: Callable[..., Any] | tuple[Callable[..., Any], ...], args: tuple[Any, ...], units: float
) -> None:
    """Compare two leading axes with one that is mapped, and with both mapped: the function then sees single rows.

    Differences may be so many u of the largest entry, or of 1. All functions are one program.
    """
    each = functions if isinstance(functions, tuple) else (functions,)
    found = quick(lambda *a: [(f(*a), jax.vmap(f)(*a), jax.vmap(jax.vmap(f))(*a)) for f in each])(*args)
    for whole, *others in found:
        size = max(1.0, float(np.max(np.abs(whole))))
        for other in others:
            np.testing.assert_allclose(whole, other, rtol=0, atol=units * unit(whole.dtype) * size)
