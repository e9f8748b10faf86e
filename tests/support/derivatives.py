"""Derivatives of first and second order in every mode against those that JAX finds in the plain formula."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.support.quick import quick


class Derivatives(NamedTuple):
    """Of ``function`` at ``args``, with a cotangent w of its values and a tangent t of its arguments, both random."""

    value: Any
    gradient: Any
    """∇⟨w, f⟩, in every argument."""
    pushed: Any
    """f′t, by forward mode."""
    second: tuple[Any, ...]
    """∇²⟨w, f⟩ t: forward over reverse, reverse over reverse, reverse over forward."""
    curvature: Any
    """⟨t, f″t⟩ by forward over forward."""


def drawn(function: Callable[..., Any], args: tuple[Any, ...], seed: int = 0) -> tuple[Any, tuple[Any, ...]]:
    """A cotangent of the function's values, and a tangent of each argument, both random."""
    rng = np.random.default_rng(seed)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype)  # noqa: E731
    tangents = tuple(draw(jnp.asarray(a)) for a in args)
    return jax.tree.map(draw, jax.eval_shape(function, *args)), tangents


def derivatives(function: Callable[..., Any], args: tuple[Any, ...], seed: int = 0) -> Derivatives:
    """All of them; to be traced, since one compiled program is cheaper than seven."""
    every = tuple(range(len(args)))
    weights, tangents = drawn(function, args, seed)

    def total(*a: Any) -> Any:
        return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, weights, function(*a)))

    def pushed(f: Callable[..., Any], *a: Any) -> Any:
        return jax.jvp(f, a, tangents)[1]

    def along(*a: Any) -> Any:
        return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, tangents, slope(*a)))

    slope = jax.grad(total, every)
    second = (
        pushed(slope, *args),
        jax.grad(along, every)(*args),
        jax.grad(lambda *a: pushed(total, *a), every)(*args),
    )
    curvature = pushed(lambda *a: pushed(function, *a), *args)
    return Derivatives(function(*args), slope(*args), pushed(function, *args), second, curvature)


def assert_same_derivatives(
    ours: Callable[..., Any],
    plain: Callable[..., Any],
    args: tuple[Any, ...],
    first: float = 1e-12,
    second: float = 1e-11,
) -> None:
    """Compare, relatively to the largest entry of each array; the tolerances are those of each order."""
    got, want = quick(lambda *a: (derivatives(ours, a), derivatives(plain, a)))(*args)

    def close(got: Any, want: Any, tolerance: float) -> None:
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, float(np.max(np.abs(b)))))

    close(got[:3], want[:3], first)
    close(got.curvature, want.curvature, second)
    for product in got.second:
        close(product, want.second[0], second)
