"""Programs in exact arithmetic: what goes in and comes out, precision, derivatives, and what rounding is told apart."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx
from jax import lax

from lossjax.verify import oracle, ulp
from lossjax.verify._exact import UndecidedComparison, exact, exact_jaxpr
from tests.support.exactness import overlap

Z = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32) * 10


# --- what goes in and comes out --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, jnp.float8_e4m3fn])
def test_inputs_are_exact(dtype: type) -> None:
    x = np.asarray([0.1, 3.14159, -2.5e-3], np.float32).astype(dtype)
    for given in (x, jnp.asarray(x)):
        result = exact(lambda v: v * 1)(given)
        assert [float(v) for v in result] == [float(v) for v in x]
        assert all(v.is_exact() for v in result)


def test_integers_stay_integers_and_become_exact_floats() -> None:
    big = np.array([2**24 + 1, -7], np.int32)
    as_float, doubled, odd = exact(lambda i: (i.astype(jnp.float32), 2 * i, i % 2 == 1))(big)
    assert [int(float(v)) for v in as_float] == [2**24 + 1, -7]  # float32 would round the first
    np.testing.assert_array_equal(doubled, np.array([2**25 + 2, -14], np.int32))
    assert (doubled.dtype, odd.dtype) == (np.int32, bool)


def test_pytrees_keywords_and_scalars() -> None:
    result = exact(lambda tree, *, scale: {"a": tree["x"] * scale, "b": (tree["n"], None), "c": 1.5})(
        {"x": np.array([1, 2], np.float32), "n": 3}, scale=0.5
    )
    assert [float(v) for v in result["a"]] == [0.5, 1.0]
    assert int(result["b"][0]) == 3
    assert result["b"][1] is None
    assert (result["c"].shape, result["c"].dtype, float(result["c"][()])) == ((), object, 1.5)


def test_constants_are_the_floats_of_the_program() -> None:
    closed_over = np.array([0.1, 0.2], np.float32)
    result = exact(lambda x: x + closed_over + 0.1)(np.float32([0, 0]))
    expected = [float(c) + float(np.float32(0.1)) for c in closed_over]
    assert [float(v) for v in result] == expected
    assert float(exact(lambda x: x)(0.1)[()]) == float(np.float32(0.1))  # as JAX takes it
    with jax.enable_x64(True):
        assert float(exact(lambda x: x)(0.1)[()]) == 0.1


def test_a_jaxpr_takes_balls() -> None:
    closed = jax.make_jaxpr(lambda x: jnp.exp(x) + 1)(np.float32(0))
    with oracle.precision():
        third = np.asarray(arb(1) / 3, dtype=object)
    result = exact_jaxpr(closed, [third])[0][()]
    with oracle.precision():
        assert result.overlaps((arb(1) / 3).exp() + 1)
    assert not result.overlaps(arb(1 / 3).exp() + 1)


def test_more_precision_narrower_balls() -> None:
    radii = [float(exact(jnp.exp, bits)(np.float32(0.3))[()].rad()) for bits in (64, 128, 256, 512)]
    assert all(0 < b < a * 1e-15 for a, b in itertools.pairwise(radii))
    with pytest.raises(ValueError, match="at least 2 bits"):
        exact(jnp.exp, 1)(np.float32(0.3))


def test_precision_is_restored_also_after_errors() -> None:
    before = ctx.prec
    exact(jnp.exp, 300)(np.float32(1))
    assert ctx.prec == before
    with pytest.raises(UndecidedComparison):
        exact(lambda x: jnp.log(jnp.exp(x)) > x)(np.float32(1))
    assert ctx.prec == before


# --- derivatives and rules -------------------------------------------------------------------------------------------


@jax.custom_jvp
def doubled(x: jax.Array) -> jax.Array:
    return x * 2


doubled.defjvp(lambda primals, tangents: (doubled(*primals), tangents[0] * 7))


@jax.custom_vjp
def tripled(x: jax.Array) -> jax.Array:
    return x * 3


tripled.defvjp(lambda x: (tripled(x), x), lambda x, g: (g * x * 11,))


def test_custom_rules_are_followed() -> None:
    x = np.float32(0.5)
    both = exact(jax.value_and_grad(lambda x: doubled(x) + tripled(x)))(x)
    assert [float(v[()]) for v in both] == [2.5, 7 + 5.5]
    pushed = exact(lambda x: jax.jvp(doubled, (x,), (x,)))(x)
    assert [float(v[()]) for v in pushed] == [1.0, 3.5]
    assert [float(v) for v in exact(jax.vmap(jax.grad(tripled)))(np.float32([1, 2]))] == [11, 22]


def test_derivatives_of_derivatives() -> None:
    third = exact(jax.grad(jax.grad(jax.grad(jnp.tanh))))(np.float32(0.5))
    with oracle.precision():
        t = arb(0.5).tanh()
        overlap(third, np.asarray((1 - t**2) * (6 * t**2 - 2), dtype=object))


def test_a_call_repeated_for_another_of_its_results() -> None:
    both = jax.jit(lambda x: (jnp.sin(x), jnp.cos(x)))
    sine, cosine = exact(lambda x, y: (both(x)[0], both(y)[1]))(np.float32(1), np.float32(2))
    with oracle.precision():
        assert sine[()].overlaps(arb(1).sin())
        assert cosine[()].overlaps(arb(2).cos())


def test_numbers_that_are_gone_are_not_remembered() -> None:
    """Each step's scattered number replaces the last, whose identity Python gives to another."""

    def program(x: jax.Array) -> jax.Array:
        def step(c: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
            return c.at[0].multiply(v), jnp.cos(c[0])

        return lax.scan(step, jnp.exp(x[:2]), x)[1]

    x = np.linspace(0.9, 1.1, 200, dtype=np.float32)
    found = exact(program)(x)
    size = np.exp(float(x[0])) * np.cumprod(np.concatenate([[1.0], x[:-1].astype(float)]))
    np.testing.assert_allclose(np.vectorize(float)(found), np.cos(size), rtol=0, atol=1e-12)


def test_loops_run_as_often_as_they_decide() -> None:
    def root(x: jax.Array) -> jax.Array:
        return lax.while_loop(lambda y: jnp.abs(y * y - x) > 1e-30, lambda y: (y + x / y) / 2, x)

    result = exact(root)(np.float32(2))[()]
    with oracle.precision():
        assert abs(result - arb(2).sqrt()) < 1e-30


def test_random_bits_are_jaxs() -> None:
    key = jax.random.key(4)
    drawn = exact(lambda k: (jax.random.randint(k, (5,), 0, 99), jax.random.normal(k, (3,))))(key)
    np.testing.assert_array_equal(drawn[0], jax.random.randint(key, (5,), 0, 99))
    np.testing.assert_allclose(np.vectorize(float)(drawn[1]), jax.random.normal(key, (3,)), rtol=1e-5)
    again = exact(lambda k: jax.random.key_data(jax.random.split(k, 2)))(key)
    np.testing.assert_array_equal(again, jax.random.key_data(jax.random.split(key, 2)))


# --- conversions -----------------------------------------------------------------------------------------------------


def test_conversions_round_only_when_asked() -> None:
    x = np.float32([0.1, 1e-6, 70000, -3.3, 1e-9, 65519.99, 2.0**-24, np.inf, np.nan, 2.0**-25])
    program = lambda x: x.astype(jnp.float16)  # noqa: E731
    assert [float(v) for v in exact(program)(x)[:7]] == [float(v) for v in x[:7]]
    rounded = exact(program, round_conversions=True)(x)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(float)
    np.testing.assert_array_equal(np.vectorize(float)(rounded), expected)
    precise = exact(lambda x: lax.reduce_precision(x, 8, 7), round_conversions=True)(x)
    np.testing.assert_array_equal(np.vectorize(float)(precise), x.astype(jnp.bfloat16).astype(float))


def test_rounding_of_computed_values(random: np.random.Generator) -> None:
    x = random.normal(size=50).astype(np.float32)
    rounded = exact(lambda x: jnp.exp(x).astype(jnp.bfloat16), round_conversions=True)(x)
    np.testing.assert_array_equal(
        np.vectorize(float)(rounded), np.exp(x.astype(float)).astype(jnp.bfloat16).astype(float)
    )
    with pytest.raises(UndecidedComparison, match="convert_element_type"):
        exact(lambda x: jnp.log(jnp.exp(x)).astype(jnp.bfloat16), round_conversions=True)(1 + np.float32(2.0**-8))


# --- what it is for --------------------------------------------------------------------------------------------------


def test_cancellation_is_rounding_but_a_wrong_constant_is_not() -> None:
    labels = np.argmax(Z, axis=1)

    def naive(z: jax.Array) -> jax.Array:
        return jnp.log(jnp.exp(z).sum(1)) - z[jnp.arange(6), labels]

    def slightly_wrong(z: jax.Array) -> jax.Array:
        return jnp.log(jnp.exp(z).sum(1) + 1e-12) - z[jnp.arange(6), labels]

    with oracle.precision():
        truth = oracle.softmax_cross_entropy(ulp.balls(Z), oracle.one_hot(labels, 9))[0]
    cancelled = np.asarray(naive(Z))
    with oracle.precision():
        assert np.max(ulp.in_roundoffs(cancelled, truth)) > 100  # in float32 it is far off …
    overlap(exact(naive)(Z), truth)  # … and exactly it is right
    wrong = exact(slightly_wrong)(Z)
    assert not any(a.overlaps(b) for a, b in zip(wrong, truth, strict=True))


def test_compensation_terms_are_zero() -> None:
    def error_of_sum(a: jax.Array, b: jax.Array) -> jax.Array:
        s = a + b
        back = s - a
        return (a - (s - back)) + (b - back)

    assert float(error_of_sum(np.float32(1), np.float32(1e-9))) == float(np.float32(1e-9))
    assert exact(error_of_sum)(np.float32(1), np.float32(1e-9))[()] == 0


def test_few_bits_hold_exact_numbers_and_round_them_rightly() -> None:
    x = np.float32(2**23 + 1) + np.array([0, 0.5, -0.25], np.float32)
    whole = exact(lambda x: (jnp.floor(x), jnp.round(x), x.astype(jnp.int32), x % 2), precision=8)(x)
    assert [int(v) for v in whole[2]] == [int(v) for v in x]
    for found, expected in zip(whole, (np.floor(x), np.round(x), x.astype(np.int32), x % 2), strict=True):
        assert all(arb(v).contains(arb(float(e))) for v, e in zip(found.tolist(), expected, strict=True))


def test_there_is_no_overflow_and_no_signed_zero() -> None:
    assert float(exact(lambda x: jnp.log(jnp.exp(x)))(np.float32(1e4))[()]) == 1e4
    assert exact(lambda x: 1 / x)(np.float32(-0.0))[()] == arb("inf")
    assert exact(lambda x: jnp.exp(x) * jnp.exp(-x))(np.float32(-1e4))[()].contains(arb(1))


def test_a_loop_under_vmap_stops_row_by_row() -> None:
    """Each row halves until it is below 1: another number of steps for each."""

    def halved(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: x >= 1, lambda x: x / 2, x)

    got = exact(jax.vmap(halved))(jnp.array([0.75, 3.0, 100.0, 1.0]))
    assert [float(x) for x in got] == [0.75, 0.75, 0.78125, 0.5]
