"""How far floats are from exact results, but for what flushing to zero costs."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from flint import arb

from lossjax.verify import ulp
from lossjax.verify.ulp import Balls


def errors(got: Any, truth: Balls) -> tuple[Any, Any, Any]:
    """Absolute errors beyond what flushing to zero costs, u of the truth, and which entries are not judged.

    XLA's CPU backend flushes what is smaller than the smallest normal number to zero. Such a number may enter a sum a
    few times; or it is a probability that is multiplied by its own logarithm, whose size is at most that of the
    smallest normal number's. The hardware keeps subnormal numbers of float16: there only what is below the smallest
    of these is lost.
    """
    got = np.asarray(got)
    largest = float(jnp.finfo(got.dtype).max)
    kept = float(jnp.finfo(got.dtype).smallest_subnormal)
    smallest = kept if got.dtype == np.float16 else ulp.smallest_normal(got.dtype)
    negligible = (4 * (1 + max(got.shape, default=1)) - math.log(smallest)) * smallest
    size = ulp.relative_to(truth)
    lost = np.array([not t.is_finite() for t in truth.ravel().tolist()], bool).reshape(truth.shape)
    skip = lost | (size > largest / 2)
    settled = truth.copy()
    settled[skip] = arb(0)
    error = ulp.errors(np.where(skip, np.zeros_like(got), got), settled)
    return np.maximum(error - negligible, 0), size * ulp.unit_roundoff(got.dtype), skip


def in_units(error: Any, scale: Any) -> Any:
    """The errors in units of the scale, 0 where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, error / scale)
