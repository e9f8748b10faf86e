"""What a rounding of the inputs changes: of all rows at once the same as of one entry after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax.verify._check import check
from lossjax.verify._check.accuracy import GROUPS, Judge
from lossjax.verify._check.problem import problem
from lossjax.verify._check.programs import Pair

_RANDOM = np.random.default_rng(11)
Z = _RANDOM.normal(size=(3, 4)).astype(np.float32)
SCALE = np.float32(1.5)


def entropy(z: jax.Array) -> jax.Array:
    log = jax.nn.log_softmax(z)
    return -jnp.sum(jnp.exp(log) * log, axis=-1)


def judged(fn: Callable[..., Any], *arguments: Any) -> Judge:
    return Judge(Pair(problem(fn, arguments), None, 0), None, 8, 0)


@pytest.mark.parametrize("group", range(len(GROUPS)), ids=GROUPS)
def test_of_all_rows_at_once_as_of_one_after_the_other(group: int) -> None:
    """Some entries of each row, another number in each; every row has a scale of its own, or a mixed-up one passes."""
    scaled = Z * np.array([[1], [3], [9]], np.float32)
    together, singly = judged(entropy, scaled), judged(entropy, scaled)
    assert together.by_row
    singly.by_row = False
    wanted = np.array([True, False, True]) if group == 0 else np.tri(3, 4, 1, bool)
    got, want = (one.explained((scaled,), one.cotangents, group, {0: wanted})[0] for one in (together, singly))
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert (got[wanted] > 0).all()
    assert not got[~wanted].any()


@pytest.mark.parametrize(
    ("fn", "arguments"),
    [
        (lambda z: entropy(z) - jnp.mean(entropy(z)), (Z,)),  # rows feel each other
        (lambda z, scale: entropy(scale * z), (Z, SCALE)),  # rows share an argument
        (lambda z: jnp.sum(entropy(z)), (Z,)),
    ],
    ids=["a mean", "a shared argument", "a sum"],
)
def test_rows_that_are_no_rows_of_their_own_are_taken_one_by_one(fn: Callable[..., Any], arguments: Any) -> None:
    assert not judged(fn, *arguments).by_row


def test_cancellation_is_no_fault_of_the_function_and_a_lost_digit_is() -> None:
    """1 - cos x near 0: what a rounding of x changes is small, so the error of the subtraction is seen."""
    x = np.full((3, 4), 1e-3, np.float32)
    assert check(lambda x: 2 * jnp.sin(x / 2) ** 2, x, checks="value").ok
    assert check(lambda x: 1 - jnp.cos(x), x, checks="value").ok is False
