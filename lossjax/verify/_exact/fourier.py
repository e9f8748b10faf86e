"""The rule of the discrete Fourier transform."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import acb

from lossjax.verify._exact import complexes
from lossjax.verify._exact.context import Context
from lossjax.verify._exact.rules import Complex, to_array
from lossjax.verify.ulp import Balls

_FORWARD, _INVERSE, _OF_REAL, _TO_REAL = range(4)
"""By ``jax.lax.FftType``."""


def _along_the_last(context: Context, x: Balls, transform: Callable[[list[acb]], list[acb]]) -> Balls:
    """A function of each line along the last axis; what hangs on an infinity or NaN in the line is unknown."""
    lines = x.reshape(-1, x.shape[-1]).tolist() if x.size else []
    results = [_transformed(context, line, transform) for line in lines]
    length = len(results[0]) if results else 0
    return to_array([v for line in results for v in line], (*x.shape[:-1], length))


def _transformed(context: Context, line: list[Complex], transform: Callable[[list[acb]], list[acb]]) -> list[Complex]:
    sides = [side for v in line for side in (v.real, v.imag)]
    found = [complexes.of_ball(context, v) for v in transform([acb(v.real, v.imag) for v in line])]
    if all(side.is_finite() for side in sides):
        return found
    doubtful = context.unknown(*(side for side in sides if not side.is_finite()))
    return [Complex(doubtful, doubtful)] * len(found)


@complexes.complex_rule("fft", reads=["fft_type", "fft_lengths"])
def _fft(context: Context, params: Any, x: Balls) -> Balls:
    """Over the last axes, the last first for real input, and last for real output."""
    kind, lengths = int(params["fft_type"]), params["fft_lengths"]
    axes = list(range(-len(lengths), 0))
    if 0 in x.shape:
        raise context.unsupported("an array without entries")
    if kind == _OF_REAL:
        half = _along_the_last(context, complexes.joined(*complexes.parts(x)), lambda v: acb.dft(v)[: len(v) // 2 + 1])
        return _over(context, half, axes[:-1], acb.dft)
    if kind == _TO_REAL:
        whole = _over(context, x, axes[:-1], _inverse)
        return complexes.parts(_along_the_last(context, whole, functools.partial(_real_again, length=lengths[-1])))[0]
    return _over(context, x, axes, acb.dft if kind == _FORWARD else _inverse)


def _over(context: Context, x: Balls, axes: list[int], transform: Callable[[list[acb]], list[acb]]) -> Balls:
    for axis in axes:
        x = np.moveaxis(_along_the_last(context, np.moveaxis(x, axis, -1), transform), -1, axis)
    return x


def _inverse(line: list[acb]) -> list[acb]:
    return acb.dft(line, inverse=True)


def _real_again(line: list[acb], length: int) -> list[acb]:
    """The inverse of a half spectrum; the imaginary parts of its ends count for nothing."""
    mirrored = [v.conjugate() for v in line[1 : (length + 1) // 2]]
    ends = {0, length // 2} if length % 2 == 0 else {0}
    half = [acb(v.real) if i in ends else v for i, v in enumerate(line[: length // 2 + 1])]
    return [acb(v.real) for v in _inverse(half + mirrored[::-1])]
