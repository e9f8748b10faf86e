"""Squared errors and the Gaussian likelihood: edges, invariances, refusals, and theorem 4.1.1."""

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

from lossjax import gaussian_nll, mean_squared_error, squared_error
from lossjax.verify import oracle, ulp
from tests.support.quick import quick

INF, NAN = np.inf, np.nan
U = 2.0**-24
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def test_squared_error_at_its_edges() -> None:
    prediction, target = jnp.float32([2e19, 3e38, INF, NAN, 1, -0.0, INF]), jnp.float32([0, -3e38, 1, 1, 1, 0, INF])
    value, pullback = jax.vjp(squared_error, prediction, target)
    assert np.array_equal(value, np.float32([INF, INF, INF, NAN, 0, 0, NAN]), equal_nan=True)
    g = jnp.float32([1, 1, 1, 1, 5, 7, 1])
    in_prediction, in_target = pullback(g)
    assert np.array_equal(in_prediction, np.float32([4e19, INF, INF, NAN, 0, 0, NAN]), equal_nan=True)
    assert np.array_equal(in_target, -in_prediction, equal_nan=True)


@DTYPES
@pytest.mark.parametrize("offset", [2.0**12, -(2.0**13)])
def test_a_common_offset_is_not_felt(offset: float, dtype: Any, random: np.random.Generator) -> None:
    """Bitwise, where the offset costs the data no digit."""
    with jax.enable_x64(dtype == np.float64):
        a, b, s = (jnp.asarray(np.round(random.normal(size=(5, 3)) * 256) / 256, dtype) for _ in range(3))
        losses = (
            lambda a, b: jnp.sum(squared_error(a, b) * s),
            lambda a, b: mean_squared_error(a, b, weights=jnp.abs(s)),
            lambda a, b: jnp.sum(gaussian_nll(a, b, log_variance=s)),
        )
        of_all = jax.jit(lambda a, b: [jax.value_and_grad(loss, (0, 1))(a, b) for loss in losses])
        here, there = (of_all(a + o, b + o) for o in (0, offset))
        for x, y in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
            assert np.array_equal(x, y)


@DTYPES
@pytest.mark.covering(2)
@pytest.mark.parametrize("size", [1, 2, 50, 1000])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_weighted_mean(size: int, scale: float, dtype: Any, random: np.random.Generator) -> None:
    """Σ w (ŷ - y)²/Σ w, and its gradients in all three, against the exact result."""
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        a, b = (random.normal(size=(2, size)) * scale).astype(dtype)
        w = random.uniform(0.5, 2, size).astype(dtype)
        of_three = jax.value_and_grad(lambda a, b, w: mean_squared_error(a, b, weights=w), (0, 1, 2))
        value, pulled = jax.jit(of_three)(a, b, w)
        d, v = ulp.balls(a) - ulp.balls(b), ulp.balls(w)
        mass = oracle.total(v)
        mean = oracle.total(v * d * d) / mass
        truths = (2 * v * d / mass, -2 * v * d / mass, (d * d - mean) / mass)
        scales = (None, None, ulp.relative_to((d * d + mean) / mass))
        assert ulp.in_roundoffs(value, np.asarray(mean, dtype=object)).max() <= 16
        for got, truth, size_ in zip(pulled, truths, scales, strict=True):
            assert ulp.in_roundoffs(got, truth, scale=size_).max() <= 16


def test_equal_weights_are_no_weights_and_0_leaves_out() -> None:
    a, b = jnp.float32([1, 2, 7]), jnp.float32([1.5, 0, 0])
    assert mean_squared_error(a, b, weights=jnp.full(3, 2.0, jnp.float32)) == mean_squared_error(a, b)
    assert mean_squared_error(a, b, weights=jnp.float32([1, 1, 0])) == 2.125
    assert mean_squared_error(a, b, where=jnp.array([True, True, False])) == 2.125
    where, weights = jnp.array([True, True, False]), jnp.float32([1, 1, NAN])
    value, slope = jax.value_and_grad(lambda w: mean_squared_error(a, b, where=where, weights=jnp.where(where, w, 5)))(
        weights
    )
    assert value == 2.125
    assert np.isfinite(slope).all()


# --- Gaussian likelihood ---------------------------------------------------------------------------------------------


def test_a_density_may_be_above_1() -> None:
    """σ = 0.01, no error: log σ + ½ log 2π = -3.686."""
    got = gaussian_nll(jnp.float32([0]), jnp.float32([0]), log_variance=2 * math.log(0.01))
    assert abs(float(got[0]) - (math.log(0.01) + HALF_LOG_2PI)) <= 8 * U * (abs(math.log(0.01)) + HALF_LOG_2PI)


@DTYPES
@pytest.mark.parametrize("s", [-80.0, -30.0, -1.0, 0.0, 2.5, 60.0])
def test_variances_over_60_decades(s: float, dtype: Any, random: np.random.Generator) -> None:
    """8u of the three terms, where e^-s alone would leave the range (s = -80: errors of 1e-17)."""
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        error = (random.normal(size=40) * math.exp(s / 2)).astype(dtype)
        mean, target, spread = error, np.zeros(40, dtype), np.full(40, s, dtype)
        value, pullback = jax.vjp(
            lambda m, t, s: gaussian_nll(m, t, log_variance=s), *map(jnp.asarray, (mean, target, spread))
        )
        g = random.uniform(0.5, 2, 40).astype(dtype)
        in_mean, in_target, in_s = pullback(jnp.asarray(g))
        truth, slope, slope_s = oracle.gaussian_nll(*map(ulp.balls, (mean, target, spread)))
        square = (ulp.balls(mean) - ulp.balls(target)) * slope
        terms = ulp.relative_to((square + abs(ulp.balls(spread)) + 2) / 2)
        assert ulp.in_roundoffs(value, truth, scale=terms).max() <= 8
        assert ulp.in_roundoffs(in_mean, ulp.balls(g) * slope).max() <= 8
        assert np.array_equal(in_target, -in_mean)
        assert (
            ulp.in_roundoffs(in_s, ulp.balls(g) * slope_s, scale=ulp.relative_to(ulp.balls(g) * (1 + square) / 2)).max()
            <= 8
        )


def test_the_slope_in_a_shared_variance_is_the_sum() -> None:
    mean, target = jnp.float32([[1, 2], [3, 5], [0, 1]]), jnp.float32([[0, 2], [1, 1], [4, 1]])
    for shape in ((), (1, 2), (3, 1), (2,)):
        s = jnp.zeros(shape, jnp.float32) + 0.5
        slope = jax.grad(lambda s: gaussian_nll(mean, target, log_variance=s, reduction="sum"))(s)
        single = 0.5 * (1 - np.square(np.asarray(mean - target)) * math.exp(-0.5))
        for axis in range(2 - len(shape)):
            single = single.sum(axis, keepdims=True)
        for axis, size in enumerate((1,) * (2 - len(shape)) + shape):
            single = single.sum(axis, keepdims=True) if size == 1 else single
        assert slope.shape == shape
        assert np.allclose(slope, single.reshape(shape), rtol=16 * U)


@pytest.mark.covering
@pytest.mark.parametrize("size", [1, 2, 50, 1000])
@pytest.mark.parametrize("sigma", [1e-3, 1.0, 1e3])
def test_the_likelihood_is_an_affine_function_of_the_squared_error(
    size: int, sigma: float, random: np.random.Generator
) -> None:
    """Theorem 4.1.1: -log likelihood = N·MSE/(2σ²) + (N/2) log 2πσ², and so for the gradients in the mean."""
    with jax.enable_x64(True):
        mean, target = (jnp.asarray(random.normal(size=size) * sigma) for _ in range(2))
        s = 2 * math.log(sigma)
        value, slope = jax.value_and_grad(lambda m: gaussian_nll(m, target, log_variance=s, reduction="sum"))(mean)
        squared, direction = jax.value_and_grad(lambda m: mean_squared_error(m, target))(mean)
        terms = (size * squared / (2 * sigma**2), size / 2 * (math.log(2 * math.pi) + s))
        assert abs(value - sum(terms)) <= 32 * 2.0**-53 * sum(map(abs, terms))
        assert np.allclose(slope, direction * size / (2 * sigma**2), rtol=64 * 2.0**-53, atol=0)


def test_the_hessian_of_mean_and_variance_is_indefinite() -> None:
    """det = -½ r² e^-2s < 0: not convex jointly."""
    with jax.enable_x64(True):
        of = quick(jax.hessian(lambda x: gaussian_nll(x[0], jnp.float64(0), log_variance=x[1])))
        for error, s in ((0.5, 0.0), (2.0, 1.0), (-3.0, -2.0)):
            hessian = of(jnp.float64([error, s]))
            assert np.isclose(np.linalg.det(hessian), -0.5 * error**2 * math.exp(-2 * s), rtol=1e-12)


def test_gaussian_edges() -> None:
    value = gaussian_nll(
        jnp.float32([INF, NAN, 0, 0]), jnp.float32([0, 0, NAN, 0]), log_variance=jnp.float32([0, 0, 0, NAN])
    )
    assert np.array_equal(value, np.float32([INF, NAN, NAN, NAN]), equal_nan=True)
    value, pullback = jax.vjp(lambda m: gaussian_nll(m, jnp.float32([0]), log_variance=-170.0), jnp.float32([1e-37]))
    assert np.isfinite(value).all(), "e^170 overflows float32, e^85 does not"
    assert np.isfinite(pullback(jnp.float32([1]))[0]).all()


@DTYPES
@pytest.mark.parametrize("s", [-170.0, -180.0, -500.0])
def test_no_error_at_a_vanishing_variance(s: float, dtype: Any) -> None:
    """The domain is all real numbers: where μ = y nothing is left of the third term, however large e^(-s/2)."""
    with jax.enable_x64(dtype == np.float64):
        one = jnp.asarray([1], dtype)
        value, pullback = jax.vjp(lambda m, s: gaussian_nll(m, one, log_variance=s), one, jnp.asarray([s], dtype))
        assert np.allclose(value, HALF_LOG_2PI + s / 2, rtol=1e-6)
        assert np.array_equal(np.concatenate(pullback(one)), [0, 0.5])


# --- refusals --------------------------------------------------------------------------------------------------------

A = jnp.zeros((4, 3), jnp.float32)


@pytest.mark.parametrize(("call", "error", "message"), [
    (
        lambda: squared_error(A, A[:, :1]),
        ValueError, r"targets has shape \(4, 1\), wanted \(4, 3\) of predictions; .*nothing broadcasts",
    ),
    (
        lambda: squared_error(A.astype(jnp.int32), A),
        TypeError, r"predictions must be floating-point, got int32\[4, 3\]; .*astype",
    ),
    (lambda: squared_error(A, A > 0), TypeError, r"targets must be floating-point, got bool\[4, 3\]"),
    (lambda: mean_squared_error(A[:, 0], A[:, :1]), ValueError, r"targets has shape \(4, 1\), wanted \(4,\)"),
    (lambda: mean_squared_error(A, A, where=jnp.ones((4, 3), jnp.int32)), TypeError, "where must be boolean"),
    (lambda: mean_squared_error(A, A, where=jnp.ones(4, bool)), ValueError, r"where has shape \(4,\), wanted \(4, 3\)"),
    (
        lambda: mean_squared_error(A, A, weights=jnp.ones(4, jnp.float32)),
        ValueError, r"weights has shape \(4,\), wanted \(4, 3\)",
    ),
    (lambda: mean_squared_error(A, A, weights=A > 0), TypeError, "weights must be floating-point"),
    (lambda: gaussian_nll(A, A[0]), ValueError, r"targets has shape \(3,\), wanted \(4, 3\) of mean"),
    (
        lambda: gaussian_nll(A, A, log_variance=A[:, 0]),
        ValueError, r"log_variance has shape \(4,\), wanted one that broadcasts to \(4, 3\)",
    ),
    (lambda: gaussian_nll(A[0], A[0], log_variance=A), ValueError, r"log_variance has shape \(4, 3\)"),
    (lambda: gaussian_nll(A, A, log_variance=jnp.bool_(1)), TypeError, "log_variance must be floating-point"),
    (
        lambda: gaussian_nll(A, A, reduction="avg"), ValueError, "reduction must be one of",
    ),
    (lambda: gaussian_nll(A, A, where=A), TypeError, "where must be boolean"),
])  # fmt: skip
def test_refusals(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [("bfloat16", "float32", "float32"), ("float16", "float16", "float32"), ("float32", "float64", "float64")],
)
def test_dtypes_mix_under_strict_promotion(first: str, second: str, result: str) -> None:
    with jax.enable_x64(True):
        a, b = A.astype(first), A.astype(second) + 1
        for loss in (
            squared_error,
            gaussian_nll,
            mean_squared_error,
            lambda a, b: gaussian_nll(a, b, log_variance=b),
            lambda a, b: mean_squared_error(a, b, weights=b),
        ):

            def pulled(a: jax.Array, b: jax.Array, loss: Any = loss) -> Any:
                value, pullback = jax.vjp(loss, a, b)
                return value, pullback(jnp.ones_like(value))

            value, gradients = jax.eval_shape(pulled, a, b)
            assert value.dtype == result
            assert [g.dtype for g in gradients] == [a.dtype, b.dtype]


# --- what always holds -----------------------------------------------------------------------------------------------

STEADY = settings(deadline=None, max_examples=30, derandomize=True)
DATA = arrays.arrays(np.float32, (4, 3), elements=st.floats(-1000, 1000, width=32))
means = jax.jit(jax.value_and_grad(lambda a, b, where: mean_squared_error(a, b, where=where), (0, 1)))


@STEADY
@given(DATA, DATA, arrays.arrays(np.bool_, (4, 3)))
def test_a_mask_removes_entries(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> None:
    value, (in_a, in_b) = means(a, b, where)
    kept = np.square((a - b).astype(np.float64))[where]
    want = kept.mean() if kept.size else 0.0
    assert value >= 0
    assert abs(float(value) - want) <= 16 * U * want + 1e-36
    assert not np.any(in_a[~where])
    assert np.array_equal(in_a, -in_b)


@STEADY
@given(DATA)
def test_the_mean_is_the_best_constant(y: np.ndarray) -> None:
    """The gradient of the mean squared error vanishes at the mean."""
    best = np.broadcast_to(y.mean(dtype=np.float64).astype(np.float32), y.shape)
    _, (slope, _) = means(best, y, np.ones_like(y, bool))
    assert abs(np.asarray(slope, np.float64).sum()) <= 16 * U * (
        np.abs(y).max() + np.abs(np.asarray(slope, np.float64)).sum()
    )
