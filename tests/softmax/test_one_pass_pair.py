"""KL of logits by two readings, as chips take it, run on a CPU: its accuracy, its edges, what the guess is worth."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax._rules import logit_divergences
from lossjax._softmax import one_pass_pair, row_statistics
from tests.softmax.test_one_pass import EDGES, U, in_a_tree

CLASSES = 2**13 + 5
F32 = jnp.dtype("float32")


def in_two_readings(u: np.ndarray, v: np.ndarray) -> Any:
    """Traced anew, for what a test has planted."""
    return jax.jit(lambda u, v: logit_divergences._kl_in_two_readings(F32, u, v, in_a_tree))(u, v)


def pairs(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Rows whose pivot changes often or never, close ones and far ones, with offsets and masks."""
    steps = np.arange(CLASSES)
    noise = random.normal(size=CLASSES)
    wide = random.normal(size=CLASSES) * 5
    rows = [
        (steps / 100.0 - 40, steps / 100.0 - 40 + 1e-3 * noise),  # a new pivot at each class
        (-steps / 100.0, 30 + 1.01 * (-steps / 100.0)),
        (wide, wide + 1e-5 * noise),
        (wide, wide + 1e-2 * noise - 150),
        (np.float32(wide) + 1e4, np.float32(wide) - 1e4),
        (wide, -wide),
        (noise, noise + np.where(steps == 77, 9, 0)),  # one class that q alone knows
        (np.where(steps == 4000, 25, noise), noise),  # and one that p does
        (np.where(steps % 3, wide, -1e9), np.where(steps % 3, wide + 0.1 * noise, -1e9)),
        (np.where(steps % 3, wide, np.finfo(np.float32).min), 1.1 * wide),
        (np.where(steps % 5, wide, -np.inf), np.where(steps % 7, wide + noise, -30)),
        (np.zeros(CLASSES), 1e-3 * noise),
    ]
    return tuple(np.stack(each).astype(np.float32) for each in zip(*rows, strict=True))


def truths(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """KL and <p, w> in long doubles, by the sum of non-negative terms."""
    wide = [z.astype(np.longdouble) for z in (u, v)]
    logs = [z - z.max(1, keepdims=True) for z in wide]
    log_p, log_q = (z - np.log(np.exp(z).sum(1, keepdims=True)) for z in logs)
    p = np.exp(log_p)
    d = np.where(p > 0, log_q - np.where(p > 0, log_p, 0), 0)
    series = sum(d**k / math.factorial(k) for k in range(2, 12))
    terms = np.where(p > 0, p * np.where(np.abs(d) < 1e-2, series, np.expm1(d) - d), np.exp(log_q))
    at = u.argmax(1)[:, None]
    w = np.where(p > 0, (wide[1] - wide[0]), 0)
    return terms.sum(1), (p * (w - np.take_along_axis(w, at, 1))).sum(1)


def test_it_is_accurate_in_any_order(random: np.random.Generator) -> None:
    """Within 16u, as the formula of passes is, and one rounding for each of a tree's levels."""
    u, v = pairs(random)
    want, _ = truths(u, v)
    value = np.asarray(in_two_readings(u, v).value)[:, 0]
    equal = want == 0
    assert list(np.flatnonzero(equal)) == [4]
    assert value[4] == 0
    error = np.abs(value - want)[~equal] / want[~equal]
    assert np.all(error <= (16 + 14) * U["float32"]), error / U["float32"]


def test_a_guess_costs_digits_and_never_the_truth(monkeypatch: pytest.MonkeyPatch, random: np.random.Generator) -> None:
    """With a guess that is off by η: more than the rows' own differences, or less. X and ψ are about η²/2 then, each
    within 8u, so that KL is within 8u η²/KL beside its own 30u.
    """
    right = row_statistics.rows_of_pair
    u, v = (np.tile(z[[2, 3, 5, 7]], (3, 1)) for z in pairs(random))
    want, _ = truths(u, v)
    wrong = np.repeat(np.float32([0.1, 1e-3, 0]), 4)

    def guessed(*given: Any) -> Any:
        *rows, guess = right(*given)
        return *rows, guess + wrong[:, None]

    monkeypatch.setattr(logit_divergences, "rows_of_pair", guessed)
    error = np.abs(np.asarray(in_two_readings(u, v).value)[:, 0] - want)
    assert np.all(error <= U["float32"] * (30 * want + 8 * wrong.astype(float) ** 2)), error / want / U["float32"]


def test_the_guess_is_near(random: np.random.Generator) -> None:
    """The value feels u times the square of its error: within 16u of KL."""
    u, v = pairs(random)
    rows_u, _, guess = jax.jit(lambda u, v: row_statistics.rows_of_pair(u, v, F32, in_a_tree))(u, v)
    kl, mean = truths(u, v)
    finite = np.abs(np.asarray(guess)[:, 0]) < 1e3
    assert finite.sum() >= len(u) - 2
    error = np.abs(np.asarray(guess)[:, 0] - mean)[finite]
    assert np.all(error**2 <= 16 * kl[finite]), error**2 / kl[finite]
    assert np.all(np.asarray(rows_u.pivot)[:, 0] == u.argmax(1))


def test_a_pivot_that_is_not_handed_on_is_noticed(monkeypatch: pytest.MonkeyPatch, random: np.random.Generator) -> None:
    """The planted fault: where parts meet, the smaller maximum does not join the second row's sum."""
    u, v = pairs(random)
    want, _ = truths(u, v)

    def forgets(z: jax.Array) -> jax.Array:
        return jnp.zeros_like(z)

    monkeypatch.setattr(one_pass_pair, "term", forgets)
    found = in_two_readings(u, v)
    assert np.mean(np.abs(np.asarray(found.value)[:, 0] - want) <= 1e-2 * want) < 0.5


def test_edges_are_those_of_the_passes() -> None:
    """±inf and NaN in either row, ties, rows of nothing, equal rows; and rows of one class."""
    for rows in (EDGES, EDGES[:, :1]):
        u, v = (np.repeat(rows, len(rows), 0), np.tile(rows, (len(rows), 1)))
        passes = functools.partial(logit_divergences._kl_in_passes, None, F32)
        readings = functools.partial(logit_divergences._kl_in_two_readings, F32)
        want, got = (jax.jit(formula)(u, v) for formula in (passes, readings))
        lost = np.asarray(want.pair.undefined())
        np.testing.assert_array_equal(np.asarray(got.pair.undefined()), lost)
        np.testing.assert_array_equal(np.isposinf(got.value)[~lost], np.isposinf(want.value)[~lost])
        for a, b in ((got.value, want.value), (got.mean, want.mean)):
            np.testing.assert_allclose(np.asarray(a)[~lost], np.asarray(b)[~lost], rtol=32 * U["float32"], atol=1e-37)
