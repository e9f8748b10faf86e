"""Each elementary function against the exact result, at and around every branch; and its derivative."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from lossjax import numerics
from lossjax.verify import oracle, ulp

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
Scalar = Callable[[arb], arb]
INFINITY, NAN = arb("inf"), arb("nan")


class Elementary(NamedTuple):
    """A function of one number: its truth, its derivative's, where its branches meet, and its domain."""

    truth: Scalar
    derivative: Scalar
    branches: tuple[float, ...]
    lowest: float = -np.inf
    units: float = 8
    derivative_units: float = 8
    highest: float = np.inf


def _psi(t: arb) -> arb:
    return INFINITY if t == -1 else t - t.log1p()


def _sigmoid(x: arb) -> arb:
    return 1 / (1 + (-x).exp())


FUNCTIONS: dict[str, Elementary] = {
    "xi": Elementary(lambda x: x.expm1() - x, arb.expm1, (-1, 0, 1, 2)),
    "psi": Elementary(_psi, lambda t: -INFINITY if t == -1 else t / (1 + t), (-1, -0.5, 0, 1.25), -1),
    "expm1": Elementary(arb.expm1, arb.exp, (-1, 0, 1)),
    "log1p": Elementary(
        lambda x: x.log1p() if x > -1 else -INFINITY, lambda x: 1 / (1 + x) if x > -1 else INFINITY,
        (-1, -0.5, -0.25, 0), -1, 4,
    ),
    "log2": Elementary(
        lambda x: x.log() / arb(2).log(), lambda x: 1 / (x * arb(2).log()),
        (math.sqrt(0.5), 1, math.sqrt(2), 2), 1e-37, 4,
    ),
    "log_odds": Elementary(
        lambda x: -INFINITY if x == -INFINITY else INFINITY if x == 0 else x - (-x.expm1()).log(),
        lambda x: INFINITY if x == 0 else -1 / x.expm1(), (-math.log(2),), highest=0,
    ),
    "softplus": Elementary(lambda x: x.exp().log1p(), _sigmoid, (0,)),
    "sigmoid": Elementary(_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x), (0,)),
}  # fmt: skip


def _around(points: tuple[float, ...], dtype: Any) -> np.ndarray:
    """The points, and their nearest 3 neighbours on either side."""
    found = []
    for point in points:
        below = above = dtype(point)
        found.append(below)
        for _ in range(3):
            below, above = np.nextafter(below, dtype(-np.inf)), np.nextafter(above, dtype(np.inf))
            found += [below, above]
    return np.array(found, dtype)


def _points(name: str, dtype: Any, random: np.random.Generator) -> np.ndarray:
    """Both signs over 12 decades, densely where the branches are, and far out."""
    kind = FUNCTIONS[name]
    far = 80.0 if dtype == np.float32 else 600.0
    decades = np.exp(random.uniform(np.log(1e-8), np.log(far), 400)) * np.where(random.uniform(size=400) < 0.5, -1, 1)
    x = np.concatenate([decades, random.uniform(-3, 3, 800), [far, -far, 0.0, 1e-30, -1e-30]]).astype(dtype)
    x = np.concatenate([x, _around(kind.branches, dtype)])
    x = x[np.abs(x) >= np.finfo(dtype).tiny] if kind.lowest > 0 else x
    return x[(x >= kind.lowest) & (x <= kind.highest)]


@DTYPES
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_derivative_on_every_branch(name: str, dtype: Any, random: np.random.Generator) -> None:
    kind, function = FUNCTIONS[name], getattr(numerics, name)
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        x = _points(name, dtype, random)
        value, pullback = jax.vjp(function, jnp.asarray(x))
        cotangent = random.uniform(0.5, 2, x.shape).astype(dtype)
        (slope,) = pullback(jnp.asarray(cotangent))
        assert value.dtype == slope.dtype == dtype
        exact = ulp.balls(x)
        for what, got, truth, units in (
            ("value", value, oracle.each(kind.truth, exact), kind.units),
            ("slope", slope, ulp.balls(cotangent) * oracle.each(kind.derivative, exact), kind.derivative_units),
        ):
            off = ulp.in_roundoffs(got, truth)
            at = int(np.argmax(off))
            assert off[at] <= units, (
                f"{what} of {name}({x[at]!r}) is off by {off[at]:.3g}u: {np.asarray(got)[at]!r}, want {truth[at]}"
            )


SPECIAL: dict[str, list[tuple[float, float, float]]] = {
    # name: [(x, value, derivative)]
    "xi": [(np.inf, np.inf, np.inf), (-np.inf, np.inf, -1), (0, 0, 0), (np.nan, np.nan, np.nan)],
    "psi": [(np.inf, np.inf, 1), (-1, np.inf, -np.inf), (0, 0, 0), (-2, np.nan, 2), (np.nan, np.nan, np.nan)],
    "expm1": [(np.inf, np.inf, np.inf), (-np.inf, -1, 0), (0, 0, 1)],
    "log1p": [(np.inf, np.inf, 0), (-1, -np.inf, np.inf), (0, 0, 1), (-2, np.nan, -1)],
    "log2": [(np.inf, np.inf, 0), (0, -np.inf, np.inf), (1, 0, 1 / math.log(2)), (-2, np.nan, -0.5 / math.log(2))],
    "log_odds": [(-np.inf, -np.inf, 1), (0, np.inf, np.inf), (1, np.nan, np.nan), (np.nan, np.nan, np.nan)],
    "softplus": [(np.inf, np.inf, 1), (-np.inf, 0, 0), (0, math.log(2), 0.5), (np.nan, np.nan, np.nan)],
    "sigmoid": [(np.inf, 1, 0), (-np.inf, 0, 0), (0, 0.5, 0.25), (np.nan, np.nan, np.nan)],
}


@DTYPES
@pytest.mark.parametrize("name", SPECIAL)
def test_limits(name: str, dtype: Any) -> None:
    """At infinities, poles and outside of the domain (there as jnp.log: the value is NaN, the slope its formula's)."""
    with jax.enable_x64(dtype == np.float64):
        for x, value, slope in SPECIAL[name]:
            got, pulled = jax.value_and_grad(getattr(numerics, name))(jnp.asarray(x, dtype))
            assert np.allclose(got, value, rtol=1e-6, atol=0, equal_nan=True), f"{name}({x}) = {got}, want {value}"
            assert np.allclose(pulled, slope, rtol=1e-6, atol=0, equal_nan=True), (
                f"slope at {x}: {pulled}, want {slope}"
            )


@DTYPES
def test_xi_and_psi_are_never_negative(dtype: Any, random: np.random.Generator) -> None:
    with jax.enable_x64(dtype == np.float64):
        x = np.exp(random.uniform(-90, 4, 20_000)).astype(dtype) * np.where(
            random.uniform(size=20_000) < 0.5, -1, 1
        ).astype(dtype)
        assert np.min(numerics.xi(jnp.asarray(x))) >= 0
        assert np.min(numerics.psi(jnp.asarray(x[x >= -1]))) >= 0


@pytest.mark.parametrize(("dtype", "most"), [(np.float32, 126), (np.float64, 1022)])
def test_log2_is_exact_at_every_power_of_two(dtype: Any, most: int) -> None:
    with jax.enable_x64(dtype == np.float64):
        k = np.arange(-most, most + 1)
        powers = np.ldexp(np.ones(k.size, dtype), k)
        for function in (numerics.log2, jax.jit(numerics.log2)):
            assert np.array_equal(function(jnp.asarray(powers)), k.astype(dtype))
        assert np.array_equal(numerics.log_base(jnp.asarray(powers), 2.0), k.astype(dtype))


@DTYPES
@pytest.mark.parametrize("base", [None, 2, 10, 1.5])
def test_log_base(base: float | None, dtype: Any, random: np.random.Generator) -> None:
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        x = np.exp(random.uniform(-80, 80, 300)).astype(dtype)
        unit = arb(1) if base is None else arb(base).log()
        off = ulp.in_roundoffs(numerics.log_base(jnp.asarray(x), base), oracle.log(ulp.balls(x)) / unit)
        assert off.max() <= (10 if dtype == np.float32 else 8)
        assert abs(arb(numerics.per_nat(base)) * unit - 1) < 2**-51


@DTYPES
def test_exact_difference_is_exact(dtype: Any, random: np.random.Generator) -> None:
    """difference + error == a - b as rational numbers, eagerly and inside a fusion."""
    with jax.enable_x64(dtype == np.float64), oracle.precision(2400):
        scale = np.exp(random.uniform(-30, 30, (2, 500)))
        a, b = (random.normal(size=(2, 500)) * scale).astype(dtype)
        b[:100] = (a[:100] * (1 + random.normal(size=100) * 1e-3)).astype(dtype)
        for function in (numerics.exact_difference, jax.jit(numerics.exact_difference)):
            difference, error = function(jnp.asarray(a), jnp.asarray(b))
            left, right = ulp.balls(difference) + ulp.balls(error), ulp.balls(a) - ulp.balls(b)
            assert all(x == y for x, y in zip(left, right, strict=True))
            assert np.any(np.asarray(error) != 0)


def test_exact_difference_of_special_numbers_has_no_error() -> None:
    a = jnp.float32([np.inf, -np.inf, np.inf, 3e38, np.nan, 1])
    b = jnp.float32([1, 1, np.inf, -3e38, 1, np.nan])
    difference, error = numerics.exact_difference(a, b)
    assert np.array_equal(difference, np.float32([np.inf, -np.inf, np.nan, np.inf, np.nan, np.nan]), equal_nan=True)
    assert not np.any(error)


def test_xlogy_at_0() -> None:
    """0·log 0 = 0; the slope in y is 0 where x is 0, that in x is log y."""
    x, y = jnp.float32([0, 0, 0, 2, 0.5, 0]), jnp.float32([0, 2, np.inf, 0, 0.25, 1])
    value, pullback = jax.vjp(numerics.xlogy, x, y)
    in_x, in_y = pullback(jnp.float32([1, 2, 3, 4, 5, 6]))
    assert np.array_equal(value, np.float32([0, 0, 0, -np.inf, 0.5 * np.log(np.float32(0.25)), 0]))
    assert np.allclose(in_x, [-np.inf, 2 * np.log(2), np.inf, -np.inf, 5 * np.log(0.25), 0], rtol=1e-6, atol=0)
    assert np.array_equal(in_y, np.float32([0, 0, 0, np.inf, 10, 0]))


@DTYPES
def test_xlogy(dtype: Any, random: np.random.Generator) -> None:
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        x, y = random.normal(size=(2, 300)).astype(dtype)
        y = np.exp(20 * y)
        value, pullback = jax.vjp(numerics.xlogy, jnp.asarray(x), jnp.asarray(y))
        g = random.uniform(0.5, 2, 300).astype(dtype)
        in_x, in_y = pullback(jnp.asarray(g))
        a, b, c = ulp.balls(x), ulp.balls(y), ulp.balls(g)
        assert ulp.in_roundoffs(value, oracle.xlogy(a, b)).max() <= 8
        assert ulp.in_roundoffs(in_x, c * oracle.log(b)).max() <= 8
        assert ulp.in_roundoffs(in_y, c * a / b).max() <= 4


@pytest.mark.parametrize(("x_shape", "y_shape"), [((5, 3), (3,)), ((3,), (5, 3)), ((5, 1), (1, 3)), ((), (4,))])
def test_xlogy_sums_the_cotangent_over_broadcast_axes(
    x_shape: tuple[int, ...], y_shape: tuple[int, ...], random: np.random.Generator
) -> None:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        x, y = (jnp.asarray(random.uniform(0.5, 2, s)) for s in (x_shape, y_shape))
        g = jnp.asarray(random.normal(size=np.broadcast_shapes(x_shape, y_shape)))
        got = jax.vjp(numerics.xlogy, x, y)[1](g)
        want = jax.vjp(lambda x, y: x * jnp.log(y), x, y)[1](g)
        for a, b in zip(got, want, strict=True):
            assert a.shape == b.shape
            assert np.allclose(a, b, rtol=1e-13, atol=1e-14)


def test_a_weight_of_0_silences_what_is_not_finite() -> None:
    got = numerics.times(jnp.float32([0, 0, 0, 0, 2, 1]), jnp.float32([np.inf, -np.inf, np.nan, 3, np.inf, np.nan]))
    assert np.array_equal(got, np.float32([0, 0, 0, 0, np.inf, np.nan]), equal_nan=True)


def test_both_tails_of_the_sigmoid_add_up() -> None:
    x = jnp.linspace(-80, 80, 1001, dtype=jnp.float32)
    assert np.max(np.abs(numerics.sigmoid(x) + numerics.sigmoid(-x) - 1)) <= 2 * 2.0**-24
    assert numerics.sigmoid(jnp.float32(-80)) > 0, "the left tail does not vanish with 1 - σ(80)"
    assert numerics.softplus(jnp.float32(-80)) > 0


@DTYPES
def test_log_factorial(dtype: Any) -> None:
    """Also beside its zeros, 0 and 1, where XLA's log-gamma has none of its digits."""
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        beside = [p + d for p in (0, 0.5, 1, 1.5, 2.5, 5.5) for d in (0, 1e-6, -1e-6) if p + d >= 0]
        t = np.concatenate([beside, np.arange(0, 9), np.geomspace(1e-30, 1e6, 300), np.linspace(0, 7, 400)]).astype(
            dtype
        )
        slope, value = jax.jit(jax.vmap(lambda t: jax.value_and_grad(numerics.log_factorial)(t)[::-1]))(t)
        exact = ulp.balls(t)
        truth = oracle.each(lambda x: (x + 1).lgamma() if x != 0 and x != 1 else arb(0), exact)
        assert ulp.in_roundoffs(value, truth).max() <= 16
        truth = oracle.each(lambda x: (x + 1).digamma(), exact)
        size = np.maximum(1, np.abs(truth.astype(float)))
        assert ulp.in_roundoffs(slope, truth, scale=size).max() <= 64


def test_unit_roundoff() -> None:
    assert [numerics.unit_roundoff(d) for d in (jnp.float32, jnp.float64, jnp.bfloat16)] == [
        2.0**-24,
        2.0**-53,
        2.0**-8,
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivative(name: str, random: np.random.Generator) -> None:
    """By central differences of the (proven) first: within 1e-6 relative, in float64."""
    kind, slope = FUNCTIONS[name], jax.jit(jax.grad(getattr(numerics, name)))
    seconds = (jax.jit(jax.grad(slope)), jax.jit(jax.jacfwd(slope)))
    with jax.enable_x64(True):
        for x in random.uniform(max(kind.lowest, -3) + 0.1, min(kind.highest, 3.1) - 0.1, 5):
            step = 1e-5
            numeric = (slope(x + step) - slope(x - step)) / (2 * step)
            for second in seconds:
                assert abs(second(x) - numeric) <= 1e-6 * (1 + abs(numeric))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.floats(-60, 60, width=32), st.floats(-60, 60, width=32))
def test_xi_and_psi_are_dual(x: float, t: float) -> None:
    """Fenchel-Young: ξ(x) + ξ*(t) >= x t with the conjugate ξ*(t) = (1 + t) log(1 + t) - t."""
    t = abs(t)
    conjugate = (1 + t) * float(numerics.log1p(jnp.float32(t))) - t
    assert float(numerics.xi(jnp.float32(x))) + conjugate >= x * t - 64 * 2.0**-24 * (abs(x) * t + 1 + t * 5)
