"""How far a computed float is from the truth, in units of roundoff. The truth is a ball of python-flint."""

import math
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from lossjax.numerics import unit_roundoff

Balls = NDArray[np.object_]
"""A numpy array whose entries are ``flint.arb``."""


_ENOUGH_BITS = 80
"""A truth must be known to this many bits, well beyond float64, unless its error is below ``_NOTHING``."""
_NOTHING = 1e-60


def balls(floats: Any) -> Balls:
    """Floats as exact balls of radius 0, in an array of the same shape: every float is a rational number.

    Args:
      floats: anything numpy makes an array of, any float dtype.

    Returns:
      An object array of ``flint.arb``, infinities and NaN included.

    Example:
      >>> balls([0.5])[0] * 3 == arb("1.5")
      True
    """
    wide = np.asarray(floats).astype(np.float64)
    return np.array([arb(float(x)) for x in wide.ravel()], dtype=object).reshape(wide.shape)


def smallest_normal(dtype: Any) -> float:
    """The smallest positive normal number: below it, XLA's CPU backend flushes to zero."""
    import jax.numpy as jnp

    return float(jnp.finfo(dtype).tiny)


def errors(computed: Any, truth: Balls) -> NDArray[np.float64]:
    """``|computed - truth|`` as floats, rounded up; 0 if the ball of the truth holds the computed number.

    Equal infinities differ by 0, and so do two NaN; a special value differs from any other number by inf.

    Args:
      computed: floats of any dtype.
      truth: balls of the same shape.

    Returns:
      float64 of the same shape; inf where one of the two is infinite or NaN and the other is not the same.

    Raises:
      ValueError: shapes that differ.
      ArithmeticError: a ball too wide to judge by: more precision was needed.
    """
    computed = np.asarray(computed)
    if computed.shape != truth.shape:
        raise ValueError(f"computed has shape {computed.shape}, the truth {truth.shape}; compare like with like")
    values = computed.astype(np.float64).ravel()
    return np.array([_error(float(x), t) for x, t in zip(values, truth.ravel(), strict=True)]).reshape(computed.shape)


def _error(value: float, truth: arb) -> float:
    if truth.is_nan() or value != value:
        return 0.0 if truth.is_nan() and value != value else float("inf")
    if not truth.is_finite() or value in (float("inf"), float("-inf")):
        return 0.0 if not truth.is_finite() and arb(value) == truth else float("inf")
    if truth.rel_accuracy_bits() < _ENOUGH_BITS and float(truth.rad()) > _NOTHING:
        raise ArithmeticError(f"the truth is known only as {truth}; compute it with more precision")
    return 0.0 if truth.contains(arb(value)) else float((arb(value) - truth).abs_upper())


def relative_to(truth: Balls) -> NDArray[np.float64]:
    """``|truth|`` as floats (0 where it is not finite), the usual scale of an error."""
    scale = [float(abs(t).abs_upper()) if t.is_finite() else 0.0 for t in truth.ravel()]
    return np.array(scale).reshape(truth.shape)


def in_roundoffs(
    computed: Any, truth: Balls, *, scale: Any = None, negligible: float | None = None
) -> NDArray[np.float64]:
    """The error of each entry in units of ``u·scale``, less what flushing to zero may cost.

    An error of r such units is between r/2 and r ulps.

    Args:
      computed: floats; their dtype sets u.
      truth: balls of the same shape.
      scale: what the error is measured against; default ``|truth|``.
      negligible: an absolute error not counted; default the dtype's smallest normal number.

    Returns:
      float64 of the same shape, 0 where the error is negligible, inf where a special value is wrong.

    Example:
      >>> import numpy as np
      >>> float(in_roundoffs(np.float32([1 + 2.0**-23]), balls([1.0]))[0])
      2.0
    """
    computed = np.asarray(computed)
    scale = relative_to(truth) if scale is None else np.broadcast_to(np.asarray(scale, np.float64), truth.shape)
    floor = smallest_normal(computed.dtype) if negligible is None else negligible
    excess = np.maximum(errors(computed, truth) - floor, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        units = excess / (scale * unit_roundoff(computed.dtype))
    return np.where(excess == 0, 0.0, units)


def ulps(computed: Any, truth: Balls, *, at: Balls | None = None) -> NDArray[np.float64]:
    """The error of each entry in ulps: divided by the spacing of the dtype's numbers at the truth.

    An error of 8u·|truth| is between 4 and 8 ulps.

    Args:
      computed: floats; their dtype sets the spacing.
      truth: balls of the same shape.
      at: take the spacing at these magnitudes instead, such as a sum's largest terms where they cancel.

    Returns:
      float64 of the same shape, 0 where the error is at most the smallest normal number, inf where a special value
      is wrong.

    Example:
      >>> import numpy as np
      >>> ulps(np.float32([1 + 2.0**-23, 0.0, np.nan]), balls([1.0, 1.0, 1.0])).tolist()
      [1.0, 8388608.0, inf]
    """
    computed = np.asarray(computed)
    error = errors(computed, truth)
    where = np.broadcast_to(truth if at is None else at, truth.shape)
    spacing = np.array([_spacing(t, computed.dtype) for t in where.ravel()]).reshape(truth.shape)
    with np.errstate(over="ignore"):
        return np.where(error <= smallest_normal(computed.dtype), 0.0, error / spacing)


def _spacing(truth: arb, dtype: Any) -> float:
    """The gap from |truth| to the next number of the dtype above it; the narrower gap if the ball spans two."""
    step, tiny = 2 * unit_roundoff(dtype), smallest_normal(dtype)
    magnitude = truth.abs_lower() if truth.is_finite() else arb(0)
    if magnitude <= tiny:
        return tiny * step
    mantissa, exponent = magnitude.man_exp()
    return math.ldexp(step, int(mantissa).bit_length() - 1 + int(exponent))
