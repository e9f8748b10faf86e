"""Jacobians by central differences in float64: a truth that knows nothing of rules."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

STEP = 1e-4


def central(function: Callable[..., Any], args: tuple[Any, ...], argnum: int) -> np.ndarray:
    """The Jacobian in one argument, by differences of fourth order."""
    flat, columns = np.ravel(args[argnum]), []
    for direction in np.eye(flat.size):

        def at(steps: int, direction: np.ndarray = direction) -> np.ndarray:
            moved = (flat + steps * STEP * direction).reshape(np.shape(args[argnum]))
            return np.asarray(function(*args[:argnum], moved, *args[argnum + 1 :]))

        columns.append((8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * STEP))
    return np.stack(columns, axis=-1).reshape(columns[0].shape + np.shape(args[argnum]))


def assert_central_differences(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    amplification: float = 1.0,
    *,
    compiled: Callable[..., Any] = jax.jit,
    modes: tuple[Callable[..., Any], ...] = (jax.jacfwd, jax.jacrev),
) -> None:
    """Both modes, in every argument.

    Differences are off by 1e-16 of the fifth derivative (at most 1e6, say), and by 1.5u/1e-4 = 2e-12 of values of
    size 1: 1e-9 covers both, times what the function amplifies rounding by.
    """
    fast, every = compiled(function), tuple(range(len(args)))
    found = [compiled(mode(function, every))(*args) for mode in modes]
    for argnum in every:
        want = central(fast, args, argnum)
        for got in found:
            np.testing.assert_allclose(got[argnum], want, atol=1e-9 * amplification * (1 + np.abs(want).max()))
