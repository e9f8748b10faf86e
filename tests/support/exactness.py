"""What a program gives in exact arithmetic beside what JAX computes of it in float64."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flint import arb

from lossjax.verify import oracle, ulp
from lossjax.verify._exact import exact


def agree(truth: Any, computed: Any, units: float) -> None:
    """The same special values and integers, and else within so many roundoffs."""
    computed = np.asarray(computed)
    if truth.dtype != object:
        np.testing.assert_array_equal(truth, computed)
        assert truth.dtype == computed.dtype
        return
    assert truth.shape == computed.shape
    assert all(type(entry) is arb for entry in truth.ravel())
    with oracle.precision():
        errors = ulp.in_roundoffs(computed, truth)
    assert np.max(errors, initial=0) <= units, (errors, truth, computed)


def compared(function: Callable[..., Any], args: tuple[Any, ...], units: float) -> None:
    """Exact and computed results have one structure and agree."""
    with jax.enable_x64(True):
        args = jax.tree.map(jnp.asarray, args)
        results, expected = exact(function)(*args), function(*args)
        assert jax.tree.structure(results) == jax.tree.structure(expected)
        for truth, computed in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
            agree(truth, computed, units)
