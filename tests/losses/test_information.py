"""The measures of §4.1.1: exact tables, singular points, closeness, bases, refusals, and their inequalities."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lossjax import cross_entropy, entropy, jeffreys_divergence, js_divergence, kl_divergence, self_information
from lossjax._softmax import measures
from lossjax.verify import oracle, ulp

INF, NAN = np.inf, np.nan
U = 2.0**-24
LOG2 = math.log(2)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TWO: dict[str, Callable[..., jax.Array]] = {
    "cross_entropy": cross_entropy, "kl_divergence": kl_divergence,
    "jeffreys_divergence": jeffreys_divergence, "js_divergence": js_divergence,
}  # fmt: skip
DIVERGENCES = {name: f for name, f in TWO.items() if name != "cross_entropy"}
EVERY: dict[str, Callable[..., jax.Array]] = {"entropy": entropy, **TWO}


def _call(name: str, p: Any, q: Any, **options: Any) -> jax.Array:
    return entropy(p, **options) if name == "entropy" else TWO[name](p, q, **options)


# --- 1.1 to 1.3: self-information ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "most"), [(np.float32, 119), (np.float64, 1000)])
def test_bits_of_powers_of_two_are_exact(dtype: Any, most: int) -> None:
    with jax.enable_x64(dtype == np.float64):
        k = np.arange(most + 1)
        p = np.ldexp(np.ones(most + 1, dtype), -k)
        got = np.asarray(self_information(jnp.asarray(p), base=2))
        assert np.array_equal(got, k.astype(dtype))
        assert not np.signbit(got).any(), "0 bits, not -0"


@DTYPES
@pytest.mark.parametrize("base", [None, 2, 10])
def test_self_information(base: float | None, dtype: Any, random: np.random.Generator) -> None:
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        p = np.concatenate(
            [np.exp(-np.exp(random.uniform(-12, 4, 300))), 1 - np.exp(random.uniform(-15, -1, 100))]
        ).astype(dtype)
        unit = oracle.log(ulp.balls([float(base or 1)]))[0] if base else 1
        got, pullback = jax.vjp(lambda p: self_information(p, base=base), jnp.asarray(p))
        g = random.uniform(0.5, 2, p.shape).astype(dtype)
        allowed = 10 if dtype == np.float32 else 8
        assert ulp.in_roundoffs(got, -oracle.log(ulp.balls(p)) / unit).max() <= allowed
        assert ulp.in_roundoffs(pullback(jnp.asarray(g))[0], -ulp.balls(g) / ulp.balls(p) / unit).max() <= 8


def test_self_information_at_its_ends() -> None:
    value, pullback = jax.vjp(self_information, jnp.float32([0, 1, 1.5, -0.5, NAN]))
    assert np.array_equal(value, np.float32([INF, 0, NAN, NAN, NAN]), equal_nan=True)
    assert not np.signbit(value[1])
    assert np.array_equal(pullback(jnp.float32([1, 2, 3, 4, 5]))[0][:2], [-INF, -2])


def test_information_of_independent_events_adds_up(random: np.random.Generator) -> None:
    p, q = (jnp.asarray(random.uniform(0.01, 1, 50), jnp.float32) for _ in range(2))
    total = self_information(p) + self_information(q)
    assert np.all(np.abs(self_information(p * q) - total) <= 8 * U * (total + 1))
    rising = jnp.linspace(0.001, 1, 1000, dtype=jnp.float32)
    assert np.all(np.diff(self_information(rising)) <= 0)


# --- 1.4 to 1.14: tables ---------------------------------------------------------------------------------------------

TABLE: dict[str, tuple[str, list[float], list[float], float]] = {
    # what: (measure, p, q, value)
    "certain": ("entropy", [1, 0, 0], [], 0),
    "certain, one outcome": ("entropy", [1], [], 0),
    "uniform": ("entropy", [0.25] * 4, [], 2 * LOG2),
    "cross, both certain": ("cross_entropy", [0, 1], [0, 1], 0),
    "cross, impossible under q": ("cross_entropy", [0.5, 0.5], [0, 1], INF),
    "cross, impossible under p": ("cross_entropy", [0, 1], [0.5, 0.5], LOG2),
    "equal and certain": ("kl_divergence", [0, 1, 0], [0, 1, 0], 0),
    "p certain": ("kl_divergence", [1, 0], [0.5, 0.5], LOG2),
    "q certain": ("kl_divergence", [0.5, 0.5], [1, 0], INF),
    "both impossible": ("kl_divergence", [0, 0, 1], [0, 0.5, 0.5], LOG2),
    "unnormalised": ("kl_divergence", [2, 0], [1, 3], 2 * LOG2 - 2 + 4),
    "asymmetry, there": ("kl_divergence", [0.5, 0.5], [0.9, 0.1], 0.5108256237659907),
    "asymmetry, back": ("kl_divergence", [0.9, 0.1], [0.5, 0.5], 0.3680642071684971),
    "symmetric Jeffreys": ("jeffreys_divergence", [0.5, 0.5], [0.9, 0.1], 0.8788898309344878),
    "Jeffreys, one impossible": ("jeffreys_divergence", [0.5, 0.5], [1, 0], INF),
    "Jeffreys, both impossible": ("jeffreys_divergence", [1, 0], [1, 0], 0),
    "disjoint": ("js_divergence", [1, 0], [0, 1], LOG2),
    "JS, one impossible": ("js_divergence", [0.5, 0.5], [1, 0], 0.75 * math.log(4 / 3)),
    "JS, both impossible": ("js_divergence", [0, 1], [0, 1], 0),
}  # fmt: skip


@pytest.mark.covering
@DTYPES
@pytest.mark.parametrize("name", TABLE)
def test_table(name: str, dtype: Any) -> None:
    measure, p, q, want = TABLE[name]
    with jax.enable_x64(dtype == np.float64):
        got = _call(measure, jnp.asarray(p, dtype), jnp.asarray(q, dtype))
        assert got.dtype == dtype
        # The decimal numbers of the table, .9 and .1, are themselves rounded.
        assert np.allclose(got, want, rtol=34 * np.finfo(dtype).eps / 2, atol=0), f"{got}, want {want}"


@pytest.mark.parametrize("k", [0, 1, 5, 10])
def test_bits_of_a_uniform_choice_are_exact(k: int) -> None:
    p = jnp.full((3, 2**k), 2.0**-k, jnp.float32)
    assert np.array_equal(entropy(p, base=2), [k, k, k])


def test_the_divergence_is_no_metric() -> None:
    """A triangle it fails, as does its root; and pairs for which it happens to be symmetric."""
    a, b, c = (jnp.float32(x) for x in ([0.5, 0.5], [0.75, 0.25], [0.9, 0.1]))
    assert kl_divergence(a, c) > kl_divergence(a, b) + kl_divergence(b, c)
    assert kl_divergence(a, c) ** 0.5 > kl_divergence(a, b) ** 0.5 + kl_divergence(b, c) ** 0.5
    assert js_divergence(a, c) ** 0.5 <= js_divergence(a, b) ** 0.5 + js_divergence(b, c) ** 0.5
    p, q = jnp.float32([0.3, 0.7]), jnp.float32([0.7, 0.3])
    assert abs(kl_divergence(p, q) - kl_divergence(q, p)) <= 2 * U


@pytest.mark.parametrize("name", ["entropy", "cross_entropy"])
def test_a_probability_above_1_gives_NaN_but_not_one_of_rounding(name: str) -> None:
    assert np.isnan(_call(name, jnp.float32([1.5, 0]), jnp.float32([0.5, 0.5])))
    assert np.isfinite(_call(name, jnp.float32([1 + 2 * U, 0]), jnp.float32([0.5, 0.5])))


# --- closeness, bases, axes ------------------------------------------------------------------------------------------


@pytest.mark.covering(2)
@DTYPES
@pytest.mark.parametrize("step", [1e-5, 1e-1, 1e-3])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_close_distributions(name: str, step: float, dtype: Any, random: np.random.Generator) -> None:
    """33u of the result itself, where the textbook sum has lost every digit or its sign."""
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        p = random.dirichlet(np.ones(7), 40).astype(dtype)
        q = (p * (1 + random.normal(size=p.shape) * step)).astype(dtype)
        a, b = ulp.balls(p), ulp.balls(q)
        m = (a + b) / 2
        truth = {
            "kl_divergence": oracle.kl_divergence(a, b),
            "jeffreys_divergence": oracle.total((a - b) * oracle.log(a / b)),
            "js_divergence": (oracle.kl_divergence(a, m) + oracle.kl_divergence(b, m)) / 2,
        }[name]
        got = DIVERGENCES[name](jnp.asarray(p), jnp.asarray(q))
        assert ulp.in_roundoffs(got, truth).max() <= 33


@pytest.mark.covering
@pytest.mark.parametrize("base", [2, 10, 1.5])
@pytest.mark.parametrize("name", EVERY)
def test_bases(name: str, base: float, random: np.random.Generator) -> None:
    p, q = (jnp.asarray(random.dirichlet(np.ones(5), 4), jnp.float32) for _ in range(2))
    (got, slope), (nats, natural) = (
        jax.jit(jax.value_and_grad(lambda p, o=o: jnp.sum(_call(name, p, q, **o))))(p) for o in ({"base": base}, {})
    )
    assert abs(got * math.log(base) - nats) <= 16 * U * (1 + abs(nats))
    assert np.allclose(slope * np.float32(math.log(base)), natural, rtol=8 * U, atol=8 * U)


P = jnp.full((2, 3), 0.25, jnp.float32)


@pytest.mark.parametrize(("call", "error", "message"), [
    (
        lambda: self_information(jnp.int32([1])),
        TypeError, r"p must be .* got int32\[1\]; divide counts by their sum",
    ),
    (lambda: entropy(jnp.int32([1, 2])), TypeError, r"p must be floating-point, got int32\[2\]"),
    (lambda: self_information(P, base=1), ValueError, "base must be greater than 1"),
    *[(lambda n=n, b=b: _call(n, P, P, base=b), ValueError, "base must be") for n in EVERY for b in (0.5, 1, -2)],
    *[(lambda n=n: _call(n, P, P, axis=2), ValueError, "axis=2 does not exist") for n in EVERY],
    *[(lambda n=n: _call(n, P[:, :0], P[:, :0]), ValueError, r"p has shape \(2, 0\) with no class") for n in EVERY],
    *[(lambda f=f: f(P, P[0]), ValueError, r"q has shape \(3,\), wanted \(2, 3\) of p; give") for f in TWO.values()],
    *[(lambda f=f: f(P, P > 0), TypeError, r"q must be floating-point, got bool") for f in TWO.values()],
])  # fmt: skip
def test_refusals(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# --- inequalities ----------------------------------------------------------------------------------------------------

STEADY = settings(deadline=None, max_examples=30, derandomize=True)
COUNTS = arrays.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32, allow_subnormal=False) | st.just(0.0))
every = jax.jit(lambda p, q: {name: _call(name, p, q) for name in EVERY})


def _normalised(counts: np.ndarray) -> np.ndarray:
    counts = counts.astype(np.float64) + (counts.sum(-1, keepdims=True) == 0)
    return (counts / counts.sum(-1, keepdims=True)).astype(np.float32)


@STEADY
@given(COUNTS, COUNTS)
def test_bounds_and_symmetries(first: np.ndarray, second: np.ndarray) -> None:
    p, q = _normalised(first), _normalised(second)
    there, back = every(p, q), every(q, p)
    tiny = 1e-36
    assert np.all(there["entropy"] >= -8 * U)
    assert np.all(there["entropy"] <= math.log(4) * (1 + 16 * U))
    assert np.all(there["cross_entropy"] >= there["entropy"] * (1 - 32 * U) - 16 * U)
    for name in DIVERGENCES:
        assert np.all(there[name] >= 0), name
        assert np.array_equal(every(p, p)[name], np.zeros(3)), name
    assert np.all(there["js_divergence"] <= LOG2 * (1 + 33 * U))
    for name in ("jeffreys_divergence", "js_divergence"):
        assert np.allclose(there[name], back[name], rtol=66 * U, atol=tiny), name
    distance = np.abs(p.astype(np.float64) - q).sum(-1)
    assert np.all(np.asarray(there["kl_divergence"], np.float64) * (1 + 33 * U) + 8 * U >= distance**2 / 2), "Pinsker"


@STEADY
@given(COUNTS, st.permutations(range(4)))
def test_outcomes_may_be_renamed(counts: np.ndarray, order: list[int]) -> None:
    p = _normalised(counts)
    q = _normalised(counts[:, ::-1] + np.float32(0.1))
    here, there = every(p, q), every(p[:, order], q[:, order])
    for name in EVERY:
        assert np.allclose(here[name], there[name], rtol=66 * U, atol=16 * U), name


@STEADY
@given(COUNTS, st.floats(0, 1))
def test_mixing_raises_entropy(counts: np.ndarray, share: float) -> None:
    """Robin Hood: taking from a richer outcome and giving to a poorer one does not lower the entropy."""
    p = _normalised(counts)
    mixed = p.copy()
    mixed[:, 0], mixed[:, 1] = (
        (1 - share / 2) * p[:, 0] + share / 2 * p[:, 1],
        share / 2 * p[:, 0] + (1 - share / 2) * p[:, 1],
    )
    assert np.all(every(mixed, mixed)["entropy"] >= every(p, p)["entropy"] - 16 * U)


@pytest.mark.parametrize("check", [measures._checked_beside, measures._checked_within])
def test_a_row_with_an_outcome_outside_its_domain_is_nan_and_so_is_its_slope(check: Callable[..., jax.Array]) -> None:
    """As a CPU checks it, and as GPU and TPU do; an infinite term, and one of -inf, are no fault."""
    terms = jnp.asarray([[0.5, 0.25, 1], [1, 2, 3], [np.inf, 0, 1], [1, 1, -np.inf]])
    inside = jnp.asarray([[True, True, True], [True, False, True], [True] * 3, [True] * 3])
    value, pull_back = jax.vjp(lambda terms: check(terms, inside), terms)
    np.testing.assert_array_equal(value, [1.75, np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(pull_back(jnp.arange(4.0))[0], [[0] * 3, [np.nan] * 3, [2] * 3, [3] * 3])
    along = jax.jvp(lambda terms: check(terms, inside), (terms,), (jnp.ones_like(terms),))[1]
    np.testing.assert_array_equal(along, [3, np.nan, 3, 3])
