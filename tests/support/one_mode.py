"""Value, gradient and one product of second order, against those that JAX finds in the plain formula.

A rule tells its second derivatives once, whichever mode asks for them. So the modes of second order are spread over the
functions of a room, and each function is asked in one of them; ``tests.support.derivatives`` asks in all of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.support.derivatives import drawn
from tests.support.differences import central
from tests.support.quick import quick

MODES = ("forward over reverse", "reverse over reverse", "reverse over forward", "forward over forward")


def found_in(mode: str, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """f, ∇⟨w, f⟩ and ∇²⟨w, f⟩ t, or t∇²f t where both modes are forward ones; w and t are random."""
    every = tuple(range(len(args)))
    weights, tangents = drawn(function, args)

    def pushed(f: Callable[..., Any], *a: Any) -> Any:
        return jax.jvp(f, a, tangents)[1]

    def total(*a: Any) -> Any:
        return jnp.vdot(weights, function(*a))

    slope = jax.grad(total, every)
    if mode == "forward over reverse":
        first, second = jax.jvp(slope, args, tangents)
    elif mode == "reverse over reverse":
        first, pull = jax.vjp(slope, *args)
        second = pull(tangents)
    elif mode == "reverse over forward":
        first, second = slope(*args), jax.grad(lambda *a: pushed(total, *a), every)(*args)
    else:
        first, second = slope(*args), pushed(lambda *a: pushed(function, *a), *args)
    return function(*args), first, second


def assert_same_in(
    mode: str,
    ours: Callable[..., Any],
    plain: Callable[..., Any],
    args: tuple[Any, ...],
    first: float = 1e-12,
    second: float = 1e-11,
) -> None:
    """Compare, relatively to the largest entry of each array; the tolerances are those of each order."""
    assert mode in MODES
    got, want = quick(lambda *a: (found_in(mode, ours, a), found_in(mode, plain, a)))(*args)
    for a, b, tolerance in zip(got, want, (first, first, second), strict=True):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * max(1.0, float(np.max(np.abs(y)))))


def assert_derivative_along(path: Callable[..., Any], amplification: float) -> None:
    """Of a path its derivative at 0, forward, against differences: both are one program, which knows each from JAX.

    As ``tests.support.differences.assert_central_differences``, whose tolerance this is.
    """
    both = quick(lambda t: jax.jvp(path, (t,), (1.0,)))
    want = central(lambda t: both(t)[0], (np.float64(0.0),), 0)
    np.testing.assert_allclose(both(np.float64(0.0))[1], want, atol=1e-9 * amplification * (1 + np.abs(want).max()))
