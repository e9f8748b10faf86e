"""What a program gives in exact arithmetic beside what JAX computes of it in float64."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flint import acb, arb

from lossjax.verify import oracle, ulp
from lossjax.verify._exact import exact
from lossjax.verify.ulp import Balls

ROUNDOFF = 2.0**-53


def agree(truth: Any, computed: Any, units: float, *, whole: bool = False) -> None:
    """The same special values and integers, and else within so many roundoffs, of each entry or of the largest."""
    computed = np.asarray(computed)
    if computed.dtype.kind == "c":
        assert all(type(entry) is acb for entry in truth.ravel())
        for part in ("real", "imag"):
            side = np.empty(truth.shape, object)
            side.ravel()[:] = [getattr(entry, part) for entry in truth.ravel()]
            agree(side, getattr(computed, part), units, whole=True)
        return
    if truth.dtype != object:
        np.testing.assert_array_equal(truth, computed)
        assert truth.dtype == computed.dtype
        return
    assert truth.shape == computed.shape
    assert all(type(entry) is arb for entry in truth.ravel())
    with oracle.precision():
        errors = (
            ulp.errors(computed, truth) / ulp.relative_to(truth).max(initial=1) / ROUNDOFF
            if whole
            else (ulp.in_roundoffs(computed, truth))
        )
    assert np.max(errors, initial=0) <= units, (errors, truth, computed)


def compared(function: Callable[..., Any], args: tuple[Any, ...], units: float, *, whole: bool = False) -> None:
    """Exact and computed results have one structure and agree."""
    with jax.enable_x64(True):
        args = jax.tree.map(jnp.asarray, args)
        results, expected = exact(function)(*args), function(*args)
        assert jax.tree.structure(results) == jax.tree.structure(expected)
        for truth, computed in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
            agree(truth, computed, units, whole=whole)


def overlap(a: Balls, b: Balls, within: float = 1e-60) -> None:
    """The two hold common numbers, and are both that narrow."""
    assert a.shape == b.shape
    with oracle.precision():
        for x, y in zip(a.ravel(), b.ravel(), strict=True):
            assert x.overlaps(y), (x, y)
            assert (abs(x.rad()) + abs(y.rad())) <= within * max(abs(x.mid()), arb(1)), (x, y)
