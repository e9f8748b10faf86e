"""Contours of entropy: the wanted entropy in exact arithmetic, the implicit function's derivatives, what has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx

from lossjax.geometry.contours import _bisection, _time, entropy_contour
from lossjax.verify import assert_verified
from tests.support.floats import unit
from tests.support.quick import quick

contour = jax.jit(entropy_contour)
quickly = quick(entropy_contour)
SIZES = [2, 257]
SHARES = (1 - 1e-6, 1 - 1e-3, 0.9, 0.5, 0.1, 1e-3, 1e-8, 1e-20)
"""Where between log m and log n."""


def directions(rng, n, dtype):
    """Of every scale and offset, with ties, with gaps of several scales, with all but one entry tied."""
    yield (rng.normal(size=n) * 10 ** rng.uniform(-3, 3) + 5 * rng.normal()).astype(dtype)
    yield np.round(1.5 * rng.normal(size=n)).astype(dtype)
    yield (-np.abs(rng.normal(size=n)) * 10.0 ** rng.integers(-6, 6, n)).astype(dtype)
    yield -np.eye(n, dtype=dtype)[0]


def exact_entropy(p):
    """Of p/Σp, with the variance of log p, and of its deficit log n - H."""
    entries = [arb(float(x)) for x in p]
    total = sum(entries, arb(0))
    entries = [x / total for x in entries if x != 0]
    entropy = -sum((x * x.log() for x in entries), arb(0))
    variance = sum((x * (x.log() + entropy) ** 2 for x in entries), arb(0))
    return entropy, float(variance)


ROWS = 32
"""How many contours a program solves: a row more or less would be another program."""


def solve(entropies, directions, solver=contour):
    """The contours of up to ROWS rows, by one program for each number of classes."""
    d = np.stack(directions)
    h = np.asarray(entropies, d.dtype)
    missing = ROWS - len(d)
    padded = np.pad(h, (0, missing), mode="edge"), np.pad(d, ((0, missing), (0, 0)), mode="edge")
    return np.asarray(solver(*padded))[: len(d)]


@pytest.mark.covering
@pytest.mark.parametrize("n", SIZES)
def test_the_entropy_is_the_wanted_one(n, dtype):
    rng = np.random.default_rng(n)
    rows = []
    for share in SHARES:
        for d in directions(rng, n, dtype):
            ties = int((d == d.max()).sum())
            wanted = dtype.type(np.log(ties) + share * (np.log(n) - np.log(ties)))
            if np.log(dtype.type(ties)) < wanted <= np.log(dtype.type(n)):  # the share is not lost beside log m
                rows.append((wanted, d))
    assert len(rows) >= 16
    with ctx.workprec(400):
        for p, (wanted, d) in zip(solve(*zip(*rows, strict=True)), rows, strict=True):
            entropy, variance = exact_entropy(p)
            allowed = 8 * unit(dtype) * (float(wanted) + variance)
            assert float(abs(entropy - arb(float(wanted)))) <= allowed
            assert np.all(np.diff(p[np.argsort(d)]) >= 0)  # along the ray: the order of d


@pytest.mark.covering
@pytest.mark.parametrize("n", SIZES)
def test_near_uniform_the_deficit_is_known_as_well_as_log_n(n, dtype):
    """log n - H = D to 33u but for the rounding of log n; the 8u of each entry move it by 8u √(2D)."""
    rng = np.random.default_rng(n)
    u, deficits = unit(dtype), (1e-2, 1e-4, 1e-6)
    wanted = [dtype.type(np.log(n) - deficit) for deficit in deficits]
    found = solve(wanted, [rng.normal(size=n).astype(dtype) for _ in deficits])
    with ctx.workprec(400):
        for p, entropy, deficit in zip(found, wanted, deficits, strict=True):
            want = arb(n).log() - arb(float(entropy))
            got = arb(n).log() - exact_entropy(p)[0]
            allowed = 4 * u * np.log(n) + 33 * u * deficit + 8 * u * np.sqrt(2 * deficit)
            assert float(abs(got - want)) <= allowed


def test_bisection_alone_is_not_enough():
    """The planted fault: its 2^-20 is thousands of units in float64."""
    with jax.enable_x64(True), ctx.workprec(200):
        gaps, wanted = np.array([[0, 0.4, 1]]), np.array([[0.5]])
        t = np.asarray(quick(_bisection)(wanted, gaps)) * (1 + 2.0**-20)
        entropy, variance = exact_entropy(np.asarray(jax.nn.softmax(-t * gaps))[0])
        assert float(abs(entropy - arb(0.5))) > 1000 * unit(np.float64) * (0.5 + variance)
        solved = exact_entropy(solve([0.5], -gaps, quickly)[0])[0]
        assert float(abs(solved - arb(0.5))) <= 8 * unit(np.float64) * (0.5 + variance)


def test_the_ends(dtype):
    d, tied, equal = (np.array(x, dtype) for x in ([3, 1, 0], [2, 2, 0], [1, 1, 1]))
    top = np.log(3)
    uniform = [(top, d), (top * (1 + 2 * unit(dtype)), d), (top, equal)]
    nowhere = [(1.2, d), (0, d), (-1, d), (np.nan, d), (0.69, tied), (0.5, equal)]
    infinite = [(0.5, np.array([bad, 0, 1], dtype)) for bad in (np.inf, -np.inf)]
    rows = [*uniform, *nowhere, *infinite, (np.log(2) + 1e-3, tied)]
    *found, nearly = solve(*zip(*rows, strict=True), quickly)
    for p in found[: len(uniform)]:
        np.testing.assert_array_equal(p, np.full(3, 1 / 3, dtype))
    assert np.isnan(found[len(uniform) :]).all()
    assert nearly[0] == nearly[1] > nearly[2] > 0


def test_one_class_has_no_entropy():
    np.testing.assert_array_equal(quickly(np.float32(0), np.ones(1, np.float32)), np.ones(1))


def test_origin_and_unit_of_the_direction_do_not_matter():
    d = np.array([3, 1, 0.5], np.float32)
    first, *others = solve([0.8] * 4, [d, d * 2.0**60, d * 2.0**-100, d + 1024], quickly)
    for p in others:
        np.testing.assert_array_equal(p, first)


STEP = np.array([0.3, 0.1, -0.2, 0.4])


@quick
def derivatives(h, d):
    """The contour; its derivatives in both arguments; that in the direction forward; and the second, along STEP."""

    def found(d):
        p, pull = jax.vjp(entropy_contour, h, d)
        return p, jax.vmap(pull)(np.eye(4))

    (p, slopes), (forward, (_, second)) = jax.jvp(found, (d,), (STEP,))
    return p, slopes, forward, second


def test_derivatives_are_those_of_the_implicit_function():
    """Of first order by the formula of the docstring, of second order by differences of the first."""
    with jax.enable_x64(True):
        h, d = np.array(0.7), np.array([1.3, -0.4, 0.2, 0.9])
        p, (in_h, in_d), forward, second = (jax.tree.map(np.asarray, x) for x in derivatives(h, d))
        t = (np.log(p[0]) - np.log(p[1])) / (d[0] - d[1])
        J = np.diag(p) - np.outer(p, p)
        V = d @ J @ d
        dt_dh, dt_dd = -1 / (t * V), -t * (J @ d) / V
        np.testing.assert_allclose(in_h, J @ d * dt_dh, rtol=1e-12)
        np.testing.assert_allclose(in_d, t * J + np.outer(J @ d, dt_dd), atol=1e-13)
        np.testing.assert_allclose(forward, in_d @ STEP, atol=1e-14)
        # Neither the sum nor the entropy moves with the direction; nor does anything with its scale or offset.
        surprisal = -np.log(p)
        np.testing.assert_allclose(surprisal @ in_d, np.zeros(4), atol=1e-13)
        np.testing.assert_allclose(surprisal @ in_h, 1, rtol=1e-12)
        np.testing.assert_allclose(in_d @ np.stack([d, np.ones(4)], 1), np.zeros((4, 2)), atol=1e-13)

        eps = 1e-5
        after, before = (np.asarray(derivatives(h, d + sign * eps * STEP)[1][1]) for sign in (1, -1))
        differences = (after - before) / (2 * eps)
        np.testing.assert_allclose(second, differences, atol=1e-8)


def test_derivatives_at_the_ends():
    with jax.enable_x64(True):
        d = np.array([3.0, 1, 0, 2])
        in_entropy, in_direction = derivatives(np.log(4), d)[1]
        assert in_entropy[0] == -np.inf
        np.testing.assert_allclose(in_direction[0], np.zeros(4), atol=unit(np.float64))
        assert np.isnan(derivatives(np.float64(0), d)[1][1][0]).all()


@pytest.mark.slow
def test_the_rule_is_linear_in_its_cotangent():
    """In ball arithmetic, whatever its size. The time is all that has a rule; the bisection before it has no slope."""
    wanted, gaps = np.array([[0.5]], np.float32), np.array([[0.0, 0.3, 1.0]], np.float32)
    near = np.asarray(quick(_bisection)(wanted, gaps))
    assert_verified(lambda h, g: _time(h, g, near), wanted, gaps, argnums=(0, 1), checks="cotangent")


@pytest.mark.slow
@pytest.mark.parametrize("checks", ["cotangent", "rule", "modes"])
def test_it_is_verified_exactly(checks):
    """The loop, the rule and the modes, in ball arithmetic, where the loop takes its time."""
    args = jnp.array([0.5]), jnp.array([[0.0, 0.3, 1.0]])
    assert_verified(entropy_contour, *args, argnums=(0, 1), checks=checks)


def test_batches_are_loops():
    """In float32: a batch is the same program in either width. Of its gradient every row has the formula."""
    rng = np.random.default_rng(0)
    d, h = rng.normal(size=(4, 2, 5)).astype(np.float32), rng.uniform(0.3, 1.5, (4, 2)).astype(np.float32)
    weights, tolerance = rng.normal(size=d.shape).astype(np.float32), 128 * unit(np.float32)

    @quick
    def found(h, d):
        whole, pull = jax.vjp(entropy_contour, h, d)
        pulled = jax.vmap(pull)(weights * np.float32([1, 2.0**60, 2.0**-60])[:, None, None, None])
        return whole, pulled, jax.vmap(jax.vmap(entropy_contour))(h, d)

    whole, scaled, rows = (jax.tree.map(np.asarray, x) for x in found(h, d))
    for of_one, of_huge, of_tiny in scaled:  # linear in the cotangent, whatever its size
        np.testing.assert_array_equal(of_huge * np.float32(2.0**-60), of_one)
        np.testing.assert_array_equal(of_tiny * np.float32(2.0**60), of_one)
    pulled = [x[0] for x in scaled]
    np.testing.assert_allclose(whole, rows, rtol=tolerance)
    assert jax.eval_shape(entropy_contour, np.float32(0.7), d).shape == d.shape  # one entropy for all rows

    wide, t = d.astype(np.float64), np.ptp(np.log(whole.astype(np.float64)), axis=-1) / np.ptp(d, axis=-1)

    def at(t):
        p = np.exp(t[..., None] * (wide - wide.max(-1, keepdims=True)))
        p /= p.sum(-1, keepdims=True)
        of_d, of_weights = (p * (x - np.sum(p * x, -1, keepdims=True)) for x in (wide, weights))
        return p, of_d, of_weights, np.sum(wide * of_d, -1)

    for _ in range(3):  # Newton's method, in float64
        p, *_, V = at(t)
        t -= (h + np.sum(p * np.log(p), -1)) / (t * V)
    _, of_d, of_weights, V = at(t)
    along = np.sum(weights * of_d, -1)
    wanted = -along / (t * V), t[..., None] * (of_weights - of_d * (along / V)[..., None])
    for got, want in zip(pulled, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=64 * unit(np.float32) * np.max(np.abs(want)))


def test_16_bit_is_computed_in_float32():
    d = jnp.array([0.5, 2.0, 1.0], jnp.bfloat16)
    assert jax.eval_shape(lambda d: entropy_contour(0.8, d), d).dtype == jnp.float32
    assert jax.eval_shape(jax.grad(lambda d: entropy_contour(0.8, d)[0]), d).dtype == jnp.bfloat16


def test_errors_say_what_came_and_what_to_do():
    d = jnp.array([0.5, 0.2])
    with pytest.raises(ValueError, match=r"entropy has shape \(2,\), wanted \(\) \(one number per row\)"):
        entropy_contour(d, d)
    with pytest.raises(TypeError, match="entropy must be a real number, got complex64"):
        entropy_contour(1j, d)
    with pytest.raises(TypeError, match="direction must be floating-point, got int32"):
        entropy_contour(0.5, jnp.array([1, 2]))
