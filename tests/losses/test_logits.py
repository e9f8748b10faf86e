"""Softmax, log-softmax, log-sum-exp, entropy and divergence of logits: edges, closeness, offsets, refusals."""

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

import lossjax
from lossjax.verify import oracle, ulp

INF, NAN = np.inf, np.nan
U = 2.0**-24
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
S1, S2 = 1 / (1 + np.e), np.e / (1 + np.e)
UNARY: dict[str, Callable[..., jax.Array]] = {
    name: getattr(lossjax, name) for name in ("softmax", "log_softmax", "logsumexp", "softmax_entropy")
}


def _pulled(f: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, tuple[jax.Array, ...]]]:
    """The value, and the cotangents of all arguments."""

    def of(g: jax.Array, *args: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        value, pullback = jax.vjp(f, *args)
        return value, pullback(g)

    return jax.jit(of)


PULLED = {name: _pulled(f) for name, f in UNARY.items()}
pulled_divergence = _pulled(lossjax.softmax_kl_divergence)
# name: (logits, softmax, log_softmax, logsumexp, softmax_entropy)
EDGES: dict[str, tuple[list[float], list[float], list[float], float, float]] = {
    "-inf": (
        [1, 2, -INF], [S1, S2, 0], [math.log(S1), math.log(S2), -INF], 2 + math.log1p(1 / math.e),
        S2 * math.log1p(1 / math.e) + S1 * math.log1p(math.e),
    ),
    "+inf": ([INF, 0, 1], [1, 0, 0], [0, -INF, -INF], INF, 0),
    "+inf and -inf": ([-INF, INF, 0], [0, 1, 0], [-INF, 0, -INF], INF, 0),
    "one finite": ([-INF, 3, -INF], [0, 1, 0], [-INF, 0, -INF], 3, 0),
    "all -inf": ([-INF] * 3, [NAN] * 3, [NAN] * 3, NAN, NAN),
    "two +inf": ([INF, 0, INF], [NAN] * 3, [NAN] * 3, NAN, NAN),
    "NaN": ([0, NAN, 1], [NAN] * 3, [NAN] * 3, NAN, NAN),
    "NaN and +inf": ([0, NAN, INF], [NAN] * 3, [NAN] * 3, NAN, NAN),
    "a tie": ([7, 7, 7], [1 / 3] * 3, [-math.log(3)] * 3, 7 + math.log(3), math.log(3)),
    "huge": ([3e38, 3e38, -3e38], [0.5, 0.5, 0], [-math.log(2), -math.log(2), -INF], 3e38, math.log(2)),
}  # fmt: skip


@DTYPES
@pytest.mark.parametrize("name", UNARY)
def test_values_at_the_edges(name: str, dtype: Any) -> None:
    with jax.enable_x64(dtype == np.float64):
        z = np.asarray([e[0] for e in EDGES.values()], dtype)
        column = 1 + list(UNARY).index(name)
        got = np.asarray(UNARY[name](jnp.asarray(z)))
        for edge, value in zip(EDGES, got, strict=True):
            want = np.asarray(EDGES[edge][column], dtype)
            if edge == "huge" and name == "log_softmax":
                want[2] = dtype(-6e38) if dtype == np.float64 else -INF
            assert np.allclose(value, want, rtol=16 * np.finfo(dtype).eps, atol=0, equal_nan=True), (
                f"{edge}: {value}, want {want}"
            )


@pytest.mark.parametrize("edge", EDGES)
def test_gradients_at_the_edges(edge: str) -> None:
    """Taken to their limits: finite where the row is defined, 0 at impossible classes, else NaN throughout."""
    z = jnp.float32(EDGES[edge][0])
    g = jnp.float32([2, -1, 3])
    p = np.asarray(EDGES[edge][1])
    of_log = np.nan_to_num(np.asarray(EDGES[edge][2]), neginf=0)
    wants = {
        "softmax": (g, p * (np.asarray(g) - np.nansum(p * np.asarray(g)))),
        "log_softmax": (g, np.asarray(g) - 4 * p),
        "logsumexp": (jnp.float32(1), p),
        "softmax_entropy": (jnp.float32(1), -p * (of_log - np.sum(p * of_log))),
    }
    for name, (cotangent, want) in wants.items():
        _, (got,) = PULLED[name](cotangent, z)
        assert np.allclose(got, want, rtol=16 * U, atol=8 * U, equal_nan=True), f"{name}: {got}, want {want}"


KL_EDGES: dict[str, tuple[list[float], list[float], float, list[float], list[float]]] = {
    # name: (u, v, KL, slope in u, slope in v)
    "equal": ([1, 2, 3], [1, 2, 3], 0, [0, 0, 0], [0, 0, 0]),
    "equal, one impossible": ([1, -INF], [1, -INF], 0, [0, 0], [0, 0]),
    "impossible under p": ([0, -INF], [0, 0], math.log(2), [0, 0], [-0.5, 0.5]),
    "impossible under q": ([0, 0], [0, -INF], INF, [-INF, INF], [0.5, -0.5]),
    "disjoint": ([0, -INF], [-INF, 0], INF, [0, 0], [-1, 1]),
    "p certain": ([INF, 0], [0, 0], math.log(2), [0, 0], [-0.5, 0.5]),
    "both certain of one": ([INF, 0], [INF, 1], 0, [0, 0], [0, 0]),
    "q certain": ([0, 0], [INF, 0], INF, [-INF, INF], [0.5, -0.5]),
    "p undefined": ([-INF, -INF], [0, 0], NAN, [NAN, NAN], [NAN, NAN]),
    "q NaN": ([0, 0], [0, NAN], NAN, [NAN, NAN], [NAN, NAN]),
    "q of two +inf": ([0, 0], [INF, INF], NAN, [NAN, NAN], [NAN, NAN]),
    "huge, equal": ([3e38, -3e38], [3e38, -3e38], 0, [0, 0], [0, 0]),
    "huge, opposite": ([3e38, -3e38], [-3e38, 3e38], INF, [0, 0], [-1, 1]),
    "far apart": ([0, 0], [-100, 100], 100 - math.log(2), [50, -50], [-0.5, 0.5]),
    "far apart, p confident": ([0, 100], [100, 0], 100, [0, 0], [1, -1]),
}


@pytest.mark.parametrize("name", KL_EDGES)
def test_divergence_at_the_edges(name: str) -> None:
    u, v, want, in_u, in_v = KL_EDGES[name]
    value, (got_u, got_v) = pulled_divergence(jnp.float32(1), jnp.float32(u), jnp.float32(v))
    assert np.allclose(value, want, rtol=33 * U, atol=0, equal_nan=True), f"value {value}, want {want}"
    assert np.allclose(got_v, in_v, rtol=33 * U, atol=1e-36, equal_nan=True), f"slope in v {got_v}, want {in_v}"
    assert np.allclose(got_u, in_u, rtol=33 * U, atol=1e-36, equal_nan=True), f"slope in u {got_u}, want {in_u}"


@DTYPES
@pytest.mark.parametrize("step", [1e-1, 1e-2, 1e-3, 1e-4, 1e-6])
def test_divergence_of_close_logits(step: float, dtype: Any, random: np.random.Generator) -> None:
    """33u of the result itself; by probabilities it is 1830 % off at 1e-4 in float32, and negative at times."""
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        u = (random.normal(size=(50, 16)) * 3).astype(dtype)
        v = (u + random.normal(size=u.shape) * step).astype(dtype)
        g = random.uniform(0.5, 2, 50).astype(dtype)
        got, (_, slope) = pulled_divergence(g, u, v)
        value, _, in_v = oracle.softmax_kl_divergence(ulp.balls(u), ulp.balls(v))
        assert ulp.in_roundoffs(got, value).max() <= 33
        assert np.min(got) >= 0
        p, w = oracle.softmax(ulp.balls(u)), ulp.balls(v) - ulp.balls(u)
        spread = np.abs(w - oracle.total(p * w)[:, None]).max(-1)[:, None]
        size = ulp.relative_to(ulp.balls(g)[:, None] * p * spread)
        assert ulp.in_roundoffs(slope, ulp.balls(g)[:, None] * in_v, scale=size).max() <= 67


@DTYPES
def test_a_huge_common_offset_is_not_felt(dtype: Any, random: np.random.Generator) -> None:
    """Offsets that the logits can bear without rounding change no bit, of the divergence each its own."""
    with jax.enable_x64(dtype == np.float64):
        z, v = (jnp.asarray(np.round(random.normal(size=(9, 5)) * 64) / 64, dtype) for _ in range(2))
        for offset in (2.0**16, -(2.0**17)):
            for name in ("softmax", "log_softmax", "softmax_entropy"):
                g = jnp.cos(jnp.arange(45, dtype=dtype)).reshape(9, 5)
                g = g[:, 0] if name == "softmax_entropy" else g
                here, there = (PULLED[name](g, x) for x in (z, z + offset))
                assert np.array_equal(here[0], there[0]), name
                assert np.array_equal(here[1][0], there[1][0]), name
            g = jnp.arange(1, 10, dtype=dtype)
            here, there, other = (pulled_divergence(g, *pair) for pair in ((z, v), (z + offset, v), (z, v + offset)))
            for a, b, c in zip(*(jax.tree.leaves(x) for x in (here, there, other)), strict=True):
                assert np.array_equal(a, b)
                assert np.array_equal(a, c)


@pytest.mark.parametrize("base", [2, 10, 1.5])
def test_bases(base: float, random: np.random.Generator) -> None:
    z, v = (jnp.asarray(random.normal(size=(4, 3)), jnp.float32) for _ in range(2))
    for got, nats in (
        (lossjax.softmax_entropy(z, base=base), lossjax.softmax_entropy(z)),
        (lossjax.softmax_kl_divergence(z, v, base=base), lossjax.softmax_kl_divergence(z, v)),
    ):
        assert np.allclose(got * np.float32(math.log(base)), nats, rtol=4 * U, atol=0)


@pytest.mark.parametrize("axis", [0, -2])
def test_the_axis_may_be_any(axis: int, random: np.random.Generator) -> None:
    z, v = (jnp.asarray(random.normal(size=(3, 4, 5)), jnp.float32) for _ in range(2))
    moved, other = (jnp.moveaxis(x, axis, -1) for x in (z, v))
    for function in UNARY.values():
        want, got = jax.jit(function)(moved), jax.jit(lambda z, f=function: f(z, axis=axis))(z)
        assert np.allclose(got, jnp.moveaxis(want, -1, axis) if got.ndim == 3 else want, rtol=16 * U, atol=0)
    assert np.allclose(jax.jit(lambda z, v: KL(z, v, axis=axis))(z, v), jax.jit(KL)(moved, other), rtol=66 * U, atol=0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dtypes_of_the_results(dtype: Any) -> None:
    z = jnp.zeros((2, 3), dtype)
    assert lossjax.softmax(z).dtype == dtype
    assert lossjax.log_softmax(z).dtype == lossjax.logsumexp(z).dtype == lossjax.softmax_entropy(z).dtype == jnp.float32
    assert lossjax.softmax_kl_divergence(z, jnp.zeros((2, 3), jnp.float32)).dtype == jnp.float32


Z = jnp.zeros((2, 3), jnp.float32)
KL = lossjax.softmax_kl_divergence


@pytest.mark.parametrize(("call", "error", "message"), [
    *[(lambda f=f: f(Z.astype(jnp.int32)), TypeError, r"logits must be .* got int32\[2, 3\]") for f in UNARY.values()],
    *[(lambda f=f: f(jnp.zeros((2, 0))), ValueError, r"logits has .*\(2, 0\) with no class") for f in UNARY.values()],
    *[(lambda f=f: f(Z, axis=2), ValueError, "axis=2 does not exist") for f in UNARY.values()],
    *[(lambda f=f: f(Z, axis=(0, 1)), ValueError, r"axis must be one integer .*\(0, 1\)") for f in UNARY.values()],
    (lambda: lossjax.logsumexp(jnp.float32(1)), ValueError, "logits is a scalar"),
    (lambda: lossjax.softmax_entropy(Z, base=1), ValueError, "base must be greater than 1"),
    (lambda: KL(Z, Z, base=0.5), ValueError, "base must be greater than 1"),
    (lambda: KL(Z, Z[:1]), ValueError, r"logits_q has shape \(1, 3\), wanted \(2, 3\) of logits_p"),
    (lambda: KL(Z, Z > 0), TypeError, r"logits_q must be floating-point, got bool"),
    (lambda: KL(Z.astype(jnp.int32), Z), TypeError, r"logits_p must be floating-point"),
])  # fmt: skip
def test_refusals(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


STEADY = settings(deadline=None, max_examples=30, derandomize=True)
LOGITS = arrays.arrays(np.float32, (3, 4), elements=st.floats(-80, 80, width=32))
STEPS = arrays.arrays(np.float32, (3, 4), elements=st.floats(-1, 1, width=32))
divergence = jax.jit(jax.value_and_grad(lambda u, v: jnp.sum(KL(u, v)), (0, 1)))
measures = jax.jit(lambda z: (lossjax.softmax_entropy(z), lossjax.softmax(z), lossjax.log_softmax(z)))


@STEADY
@given(LOGITS, LOGITS)
def test_the_divergence_is_never_negative(u: np.ndarray, v: np.ndarray) -> None:
    value, (in_u, in_v) = divergence(u, v)
    assert 0 <= value < INF
    size = np.abs(in_u).sum(-1) + np.abs(in_v).sum(-1) + np.ptp(v - u, axis=-1)
    assert np.all(np.abs(np.asarray(in_u, np.float64).sum(-1)) <= 67 * U * size)
    assert np.all(np.abs(np.asarray(in_v, np.float64).sum(-1)) <= 67 * U * size)


@STEADY
@given(LOGITS, STEPS, st.integers(1, 12))
def test_the_divergence_of_neighbours_is_never_negative(u: np.ndarray, step: np.ndarray, digits: int) -> None:
    v = u + step * np.float32(2.0**-digits)
    value, (_, in_v) = divergence(u, v)
    assert value >= 0
    itself, slopes = divergence(u, u)
    assert itself == 0
    assert not np.any(slopes[0])
    assert not np.any(slopes[1])
    assert np.all(np.isfinite(in_v))


@STEADY
@given(LOGITS)
def test_entropy_lies_between_0_and_log_n(z: np.ndarray) -> None:
    entropy, p, log_p = measures(z)
    assert np.all(entropy >= 0)
    assert np.all(entropy <= math.log(4) * (1 + 33 * U))
    assert np.all(np.abs(np.asarray(p, np.float64).sum(-1) - 1) <= 8 * U)
    assert np.all(log_p <= 0)
