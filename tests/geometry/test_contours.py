"""Contours of entropy: the wanted entropy in exact arithmetic, the implicit function's derivatives, what has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx

from lossjax.geometry.contours import _bisection, entropy_contour
from lossjax.verify import assert_verified
from tests.geometry.test_fisher_rao import dtype, unit
from tests.support.quick import quick

__all__ = ["dtype"]  # the fixture

contour = jax.jit(entropy_contour)
quickly = quick(entropy_contour)
slopes = quick(jax.jacrev(entropy_contour, (0, 1)))
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


@pytest.mark.covering
@pytest.mark.parametrize("n", [2, 3, 7, 33, 257])
def test_the_entropy_is_the_wanted_one(n, dtype):
    rng = np.random.default_rng(n)
    tried = 0
    with ctx.workprec(400):
        for share in SHARES:
            for d in directions(rng, n, dtype):
                ties = int((d == d.max()).sum())
                wanted = dtype.type(np.log(ties) + share * (np.log(n) - np.log(ties)))
                if not np.log(dtype.type(ties)) < wanted <= np.log(dtype.type(n)):
                    continue  # the share is lost beside log m
                tried += 1
                p = np.asarray(contour(wanted, d))
                entropy, variance = exact_entropy(p)
                allowed = 8 * unit(dtype) * (float(wanted) + variance)
                assert float(abs(entropy - arb(float(wanted)))) <= allowed
                assert np.all(np.diff(p[np.argsort(d)]) >= 0)  # along the ray: the order of d
    assert tried >= 16


@pytest.mark.covering
@pytest.mark.parametrize("n", [2, 3, 7, 33])
def test_near_uniform_the_deficit_is_known_as_well_as_log_n(n, dtype):
    """log n - H = D to 33u but for the rounding of log n; the 8u of each entry move it by 8u √(2D)."""
    rng = np.random.default_rng(n)
    u = unit(dtype)
    with ctx.workprec(400):
        for deficit in (1e-2, 1e-4, 1e-6):
            d = rng.normal(size=n).astype(dtype)
            wanted = dtype.type(np.log(n) - deficit)
            want = arb(n).log() - arb(float(wanted))
            got = arb(n).log() - exact_entropy(np.asarray(contour(wanted, d)))[0]
            allowed = 4 * u * np.log(n) + 33 * u * deficit + 8 * u * np.sqrt(2 * deficit)
            assert float(abs(got - want)) <= allowed


def test_bisection_alone_is_not_enough():
    """The planted fault: its 2^-20 is thousands of units in float64."""
    with jax.enable_x64(True), ctx.workprec(200):
        gaps, wanted = np.array([[0, 0.4, 1]]), np.array([[0.5]])
        t = np.asarray(_bisection(wanted, gaps)) * (1 + 2.0**-20)
        entropy, variance = exact_entropy(np.asarray(jax.nn.softmax(-t * gaps))[0])
        assert float(abs(entropy - arb(0.5))) > 1000 * unit(np.float64) * (0.5 + variance)
        solved = exact_entropy(np.asarray(entropy_contour(0.5, -gaps[0])))[0]
        assert float(abs(solved - arb(0.5))) <= 8 * unit(np.float64) * (0.5 + variance)


def test_the_ends(dtype):
    d = np.array([3, 1, 0], dtype)
    np.testing.assert_array_equal(quickly(np.log(3), d), np.full(3, 1 / 3, dtype))
    np.testing.assert_array_equal(quickly(np.log(3) * (1 + 2 * unit(dtype)), d), np.full(3, 1 / 3, dtype))
    tied = np.array([2, 2, 0], dtype)
    for entropy, direction in ((1.2, d), (0.0, d), (-1.0, d), (np.nan, d), (0.69, tied), (0.5, np.ones(3, dtype))):
        assert np.isnan(quickly(entropy, direction)).all()
    assert np.isnan(quickly(0.5, np.array([np.inf, 0, 1], dtype))).all()
    assert np.isnan(quickly(0.5, np.array([-np.inf, 0, 1], dtype))).all()
    np.testing.assert_array_equal(quickly(np.log(3), np.ones(3, dtype)), np.full(3, 1 / 3, dtype))
    np.testing.assert_array_equal(quickly(0, np.ones(1, dtype)), np.ones(1, dtype))
    nearly = np.asarray(quickly(np.log(2) + 1e-3, tied))
    assert nearly[0] == nearly[1] > nearly[2] > 0
    in_entropy, in_direction = slopes(dtype.type(np.log(3)), d)
    assert in_entropy[0] == -np.inf
    np.testing.assert_allclose(in_direction[0], np.zeros(3), atol=unit(dtype))
    assert np.isnan(slopes(dtype.type(0), d)[1][0]).all()


def test_origin_and_unit_of_the_direction_do_not_matter():
    d = np.array([3, 1, 0.5, 0], np.float32)
    p = quickly(0.8, d)
    np.testing.assert_array_equal(quickly(0.8, d * 2.0**60), p)
    np.testing.assert_array_equal(quickly(0.8, d * 2.0**-100), p)
    np.testing.assert_array_equal(quickly(0.8, d + 1024), p)


def test_derivatives_are_those_of_the_implicit_function():
    """Of first order by the formula of the docstring, of second order by differences of the first."""
    with jax.enable_x64(True):
        h, d = np.array(0.7), np.array([1.3, -0.4, 0.2, 0.9])
        in_h, in_d = slopes(h, d)
        p = np.asarray(contour(h, d))
        t = (np.log(p[0]) - np.log(p[1])) / (d[0] - d[1])
        J = np.diag(p) - np.outer(p, p)
        V = d @ J @ d
        dt_dh, dt_dd = -1 / (t * V), -t * (J @ d) / V
        np.testing.assert_allclose(in_h, J @ d * dt_dh, rtol=1e-12)
        np.testing.assert_allclose(in_d, t * J + np.outer(J @ d, dt_dd), atol=1e-13)
        forward = quick(jax.jacfwd(entropy_contour, 1))(h, d)
        np.testing.assert_allclose(forward, in_d, atol=1e-14)
        # Neither the sum nor the entropy moves with the direction; nor does anything with its scale or offset.
        surprisal = -np.log(p)
        np.testing.assert_allclose(surprisal @ in_d, np.zeros(4), atol=1e-13)
        np.testing.assert_allclose(surprisal @ in_h, 1, rtol=1e-12)
        np.testing.assert_allclose(in_d @ np.stack([d, np.ones(4)], 1), np.zeros((4, 2)), atol=1e-13)

        step, eps = np.array([0.3, 0.1, -0.2, 0.4]), 1e-5
        differences = (slopes(h, d + eps * step)[1] - slopes(h, d - eps * step)[1]) / (2 * eps)
        for mode in (jax.jacfwd, jax.jacrev):
            second = quick(mode(jax.jacrev(entropy_contour, 1), 1))(h, d) @ step
            np.testing.assert_allclose(second, differences, atol=1e-8)


@pytest.mark.parametrize(
    "checks", ["cotangent", pytest.param("rule", marks=pytest.mark.slow), pytest.param("modes", marks=pytest.mark.slow)]
)
def test_it_is_verified_exactly(checks):
    """The loop, the rule and the modes, in ball arithmetic, where the loop takes its time."""
    args = jnp.array([0.5]), jnp.array([[0.0, 0.3, 1.0]])
    assert_verified(entropy_contour, *args, argnums=(0, 1), checks=checks)


def test_batches_are_loops(dtype):
    rng = np.random.default_rng(0)
    d, h = rng.normal(size=(4, 2, 5)).astype(dtype), rng.uniform(0.3, 1.5, (4, 2)).astype(dtype)
    whole = quickly(h, d)
    rows = np.array([[quickly(a, b) for a, b in zip(x, y, strict=True)] for x, y in zip(h, d, strict=True)])
    np.testing.assert_allclose(whole, rows, rtol=16 * unit(dtype) * 8)
    np.testing.assert_allclose(quick(jax.vmap(entropy_contour))(h, d), whole, rtol=16 * unit(dtype) * 8)
    np.testing.assert_array_equal(quickly(0.7, d), quickly(jnp.full((4, 2), 0.7, d.dtype), d))
    weights = rng.normal(size=d.shape).astype(dtype)

    def total(h, d):
        return jnp.sum(entropy_contour(h, d) * weights)

    tangents = rng.normal(size=h.shape).astype(dtype), rng.normal(size=d.shape).astype(dtype)
    pushed = quick(lambda h, d: jax.jvp(total, (h, d), tangents)[1])(h, d)
    pulled = quick(jax.grad(total, (0, 1)))(h, d)
    terms = [np.asarray(g * t, np.float64) for g, t in zip(pulled, tangents, strict=True)]
    size = sum(np.abs(x).sum() for x in terms)
    assert abs(float(pushed) - sum(x.sum() for x in terms)) <= 64 * unit(dtype) * size


def test_16_bit_is_computed_in_float32():
    d = jnp.array([0.5, 2.0, 1.0], jnp.bfloat16)
    assert entropy_contour(0.8, d).dtype == jnp.float32
    assert jax.grad(lambda d: entropy_contour(0.8, d)[0])(d).dtype == jnp.bfloat16


def test_errors_say_what_came_and_what_to_do():
    d = jnp.array([0.5, 0.2])
    with pytest.raises(ValueError, match=r"entropy has shape \(2\), wanted \(\) \(one number a row\)"):
        entropy_contour(d, d)
    with pytest.raises(TypeError, match="entropy must be a real number, got complex64"):
        entropy_contour(1j, d)
    with pytest.raises(TypeError, match="direction must be floating-point, got int32"):
        entropy_contour(0.5, jnp.array([1, 2]))
