"""Softmax, log-softmax, log-sum-exp, entropy and divergence of logits: closeness, bases, dtypes, refusals, bounds."""

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
from lossjax._rules import logit_divergences
from lossjax.verify import oracle, ulp
from tests.support.quick import quick

INF, NAN = np.inf, np.nan
U = 2.0**-24
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
UNARY: dict[str, Callable[..., jax.Array]] = {
    name: getattr(lossjax, name) for name in ("softmax", "log_softmax", "logsumexp", "softmax_entropy")
}


def _pulled(f: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, tuple[jax.Array, ...]]]:
    """The value, and the cotangents of all arguments."""

    def of(g: jax.Array, *args: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        value, pullback = jax.vjp(f, *args)
        return value, pullback(g)

    return jax.jit(of)


pulled_divergence = _pulled(lossjax.softmax_kl_divergence)


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


def test_bases(random: np.random.Generator) -> None:
    bases = 2, 10, 1.5
    z, v = (jnp.asarray(random.normal(size=(4, 3)), jnp.float32) for _ in range(2))
    nats, *others = jax.jit(
        lambda z, v: [
            (lossjax.softmax_entropy(z, **o), lossjax.softmax_kl_divergence(z, v, **o))
            for o in ({}, *({"base": base} for base in bases))
        ]
    )(z, v)
    for base, found in zip(bases, others, strict=True):
        for got, want in zip(found, nats, strict=True):
            assert np.allclose(got * np.float32(math.log(base)), want, rtol=4 * U, atol=0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dtypes_of_the_results(dtype: Any) -> None:
    z, wide = (jax.ShapeDtypeStruct((2, 3), d) for d in (dtype, jnp.float32))
    found = {name: jax.eval_shape(function, z).dtype for name, function in UNARY.items()}
    assert found.pop("softmax") == dtype
    assert set(found.values()) == {jnp.dtype(jnp.float32)}
    assert jax.eval_shape(lossjax.softmax_kl_divergence, z, wide).dtype == jnp.float32


Z = jnp.zeros((2, 3), jnp.float32)
KL = lossjax.softmax_kl_divergence


@pytest.mark.parametrize(("call", "error", "message"), [
    *[(lambda f=f: f(Z.astype(jnp.int32)), TypeError, r"logits must be .* got int32\[2, 3\]") for f in UNARY.values()],
    *[(lambda f=f: f(jnp.zeros((2, 0))), ValueError, r"logits has .*\(2, 0\) with no class") for f in UNARY.values()],
    *[(lambda f=f: f(Z, axis=2), ValueError, "axis=2 does not exist") for f in UNARY.values()],
    *[(lambda f=f: f(Z, where=Z[0] > 0), ValueError, r"where has shape \(3,\), wanted \(2") for f in UNARY.values()],
    *[(lambda f=f: f(Z, temperature=0), ValueError, "temperature must be greater than 0") for f in UNARY.values()],
    (lambda: lossjax.logsumexp(Z, b=Z[:, 0]), ValueError, r"b has shape \(2,\), wanted one that broadcasts to \(2, "),
    (lambda: lossjax.logsumexp(Z, b=Z > 0), TypeError, "b must be floating-point, got bool"),
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


@pytest.mark.parametrize("classes", [4, 4099])
def test_the_sum_of_nothing_is_0(classes: int) -> None:
    """Its logarithm is -inf, with a gradient of 0 in every order; a NaN among the -inf is another thing."""
    z = jnp.full((3, classes), -jnp.inf).at[0, 1].set(2).at[2, classes // 2].set(jnp.nan)

    @quick
    def found(z: jax.Array) -> Any:
        gradient = jax.grad(lambda z: jnp.sum(lossjax.logsumexp(z)))
        return lossjax.logsumexp(z), gradient(z), jax.jvp(gradient, (z,), (jnp.ones_like(z),))[1], lossjax.softmax(z)

    value, *of_classes, p = found(z)
    assert np.array_equal(value, [2, -INF, NAN], equal_nan=True)
    for slope in of_classes:
        assert np.isfinite(slope[:2]).all()
        assert not slope[1].any()
        assert np.isnan(slope[2]).any()
    assert np.isnan(p[1:]).all(), "a softmax of nothing is undefined, unless a mask says so"


STEADY = settings(deadline=None, max_examples=30, derandomize=True)
LOGITS = arrays.arrays(np.float32, (3, 4), elements=st.floats(-80, 80, width=32))
STEPS = arrays.arrays(np.float32, (3, 4), elements=st.floats(-1, 1, width=32))
divergence = jax.jit(jax.value_and_grad(lambda u, v: jnp.sum(KL(u, v)), (0, 1)))
measures = jax.jit(lambda z: (lossjax.softmax_entropy(z), lossjax.softmax(z), lossjax.log_softmax(z)))


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


@pytest.mark.parametrize("loss", [lossjax.softmax_kl_divergence, lossjax.softmax_js_divergence])
def test_a_class_without_weight_is_not_excluded_by_a_gap_out_of_range(loss: Callable[..., jax.Array]) -> None:
    """Finite logits 6e38 apart: the class has no weight under p, so it may not make the divergence infinite."""
    u, v = jnp.asarray([0.0, 0.0, 3e38]), jnp.asarray([0.0, -3e38, 3e38])
    value, gradients = quick(jax.value_and_grad(loss, (0, 1)))(u, v)
    assert value == 0
    np.testing.assert_array_equal(gradients, np.zeros((2, 3)))
    # Where it has all the weight, the divergence is out of range itself.
    far = lossjax.softmax_kl_divergence(jnp.asarray([3e38, -3e38]), jnp.asarray([-3e38, 3e38]))
    assert far == jnp.inf


@pytest.mark.parametrize(
    "loss",
    [lossjax.softmax_kl_divergence, lossjax.softmax_js_divergence],
    ids=["KL", "JS"],
)
def test_divergences_of_many_confident_rows(loss: Any, random: np.random.Generator) -> None:
    """Of 32,768 rows none is beyond the 33u of the docstring; the program in float64 is the truth of float32."""
    scale = np.repeat([2.0, 5.0, 10.0, 5.0], 2**13)[:, None]
    apart = np.tile([1e-3, 0.1, 1.0, 10.0], 2**13)[:, None]
    first = random.normal(size=(2**15, 10)) * scale
    first[:, 3] += 10
    first = first.astype(np.float32)
    second = (first + random.normal(size=first.shape) * apart).astype(np.float32)
    value = jax.jit(loss)(first, second)
    with jax.enable_x64(True):
        truth = jax.jit(loss)(first.astype(np.float64), second.astype(np.float64))
    np.testing.assert_allclose(np.asarray(value, float), truth, rtol=33 * 2.0**-24, atol=20 * 130 * 2.0**-126)


def _half_apart(random: np.random.Generator, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows about where KL measures d another way: log(p/q) at the pivot, and the mean of w, are about a half."""
    u = random.normal(size=(4000, classes)).astype(np.float32)
    pivot = np.arange(4000), np.argmax(u, axis=-1)
    v = u - random.uniform(0.2, 1.3, size=(4000, 1))
    v[:2000] += random.normal(size=(2000, classes)) / 4
    v[pivot] = u[pivot] + random.uniform(-0.1, 0.1, size=4000)
    return u, v.astype(np.float32)


def _errors_half_apart(classes: int, random: np.random.Generator) -> list[float]:
    """The largest errors of KL and its two gradients, in units of 2^-24 of the value, and of a row's largest entry."""
    u, v = _half_apart(random, classes)

    def logs(z: np.ndarray) -> np.ndarray:
        gaps = z.astype(np.longdouble) - np.max(z, axis=-1, keepdims=True)
        return gaps - np.log(np.sum(np.exp(gaps), axis=-1, keepdims=True))

    d = logs(v) - logs(u)
    p, q = np.exp(logs(u)), np.exp(logs(v))
    kl = np.sum(p * (np.expm1(d) - d), axis=-1)
    exact = kl[:, None], -p * (d - np.sum(p * d, axis=-1, keepdims=True)), q - p
    value, slopes = jax.jit(_pulled(lossjax.softmax_kl_divergence))(jnp.ones(len(u)), u, v)
    found = map(np.asarray, (value[:, None], *slopes))
    pairs = zip(found, exact, strict=True)
    return [float(np.max(np.abs(f - e) / np.max(np.abs(e), axis=-1, keepdims=True))) / U for f, e in pairs]


@pytest.mark.parametrize("classes", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 10)), 13, 100])
def test_kl_of_rows_that_are_half_apart(classes: int, random: np.random.Generator) -> None:
    assert max(_errors_half_apart(classes, random)) <= 33  # as the docstring promises


def test_a_wrong_scale_of_rows_half_apart_is_noticed(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The odds at the pivot scale q where d is measured from the mean, in classes where d is not small."""
    monkeypatch.setattr(logit_divergences, "odds", lambda pivot, close: jnp.ones_like(pivot.p))
    jax.clear_caches()
    try:
        assert max(_errors_half_apart(5, random)) > 33
    finally:
        jax.clear_caches()
