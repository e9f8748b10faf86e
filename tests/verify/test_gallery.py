"""Published wrong gradients: exact arithmetic tells each from its right twin, so does the checker, and the document
says so.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lossjax.verify import ulp
from lossjax.verify.exact import exact
from tests.verify.gallery import ENTRIES, Entry

entries = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def argnums(entry: Entry) -> tuple[int, ...]:
    return entry.argnums if isinstance(entry.argnums, tuple) else (entry.argnums,)


def of_floats(entry: Entry, function: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    """The function of its differentiated arguments, the others held."""

    def held(*floats):
        return function(*(dict(enumerate(args)) | dict(zip(argnums(entry), floats, strict=True))).values())

    return held


def pulled_back(entry: Entry, function: Callable[..., Any]) -> Callable[..., Any]:
    """The cotangents of the differentiated arguments, for a cotangent of the result with no two entries alike."""

    def program(*args):
        value, pullback = jax.vjp(of_floats(entry, function, args), *(args[i] for i in argnums(entry)))
        return pullback(jax.tree.map(lambda x: jnp.linspace(0.5, 2, x.size, dtype=x.dtype).reshape(x.shape), value))

    return program


def meant(entry: Entry) -> Callable[..., Any]:
    """The formula whose derivative is wanted, free of any custom rule."""
    return entry.reference or getattr(entry.right, "fun", entry.right)


def rounds_wrongly(entry: Entry) -> bool:
    """Right in exact arithmetic, wrong in floats."""
    return entry.caught_by == "gradient" and entry.reference is None


def distance(found: Any, truth: Any) -> float:
    """The largest difference between two tuples of arrays of balls."""
    pairs = [pair for a, b in zip(found, truth, strict=True) for pair in zip(a.ravel(), b.ravel(), strict=True)]
    return max(0.0 if a.overlaps(b) else float((a - b).abs_upper()) for a, b in pairs)


@entries
def test_exact_arithmetic_tells_the_twins_apart(entry: Entry) -> None:
    if entry.caught_by == "modes":
        programs = [jax.hessian(lambda z, f=f: jnp.sum(f(z, *entry.args[1:]))) for f in (entry.wrong, entry.right, meant(entry))]
        wrong, right, truth = ((exact(program)(entry.args[0]),) for program in programs)
    else:
        wrong, right, truth = (exact(pulled_back(entry, f))(*entry.args) for f in (entry.wrong, entry.right, meant(entry)))
    assert distance(right, truth) < 1e-60
    if rounds_wrongly(entry):
        assert distance(wrong, truth) < 1e-60
        errors = [
            max(float(np.max(ulp.in_roundoffs(x, t))) for x, t in zip(pulled_back(entry, f)(*entry.args), truth, strict=True))
            for f in (entry.wrong, entry.right)
        ]
        print(entry.name, errors)
        assert not errors[0] < 1e6
        assert errors[1] < 100
    else:
        print(entry.name, distance(wrong, truth))
        assert distance(wrong, truth) > 1e-5
