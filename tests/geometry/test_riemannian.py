"""Items 5.11 and 5.12, and G8: curvature of the table's spaces, and the Fisher-Rao distance of Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb, ctx
from jax.scipy.special import polygamma

from lossjax.geometry.fisher import fisher_information
from lossjax.geometry.riemannian import gaussian_fisher_rao_distance, sectional_curvature
from lossjax.verify import assert_verified
from tests.support.floats import distribution, unit
from tests.support.one_mode import assert_same_in
from tests.support.quick import quick

# --- curvature -------------------------------------------------------------------------------------------------------


def fisher_metric(mean):
    return fisher_information(jnp.append(mean, 1 - jnp.sum(mean)), "mean")


@pytest.mark.parametrize("n", [3, pytest.param(4, marks=pytest.mark.slow), 6])
def test_the_simplex_has_constant_curvature_a_quarter(n):
    """Table 4.1.1 prints 'variable curvature'."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(n)
        points = np.stack([distribution(rng, n, np.float64)[:-1] for _ in range(10)])
        u, v = rng.normal(size=(2, 10, n - 1))
        curvature = quick(lambda *x: sectional_curvature(fisher_metric, *x))(points, u, v)
        assert float(jnp.max(jnp.abs(curvature - 0.25))) <= 1e-7
        assert float(jnp.ptp(curvature)) <= 1e-7


def test_spaces_of_known_curvature():
    with jax.enable_x64(True):
        x, u, v = np.array([0.4, 1.3]), np.array([1.0, 0.3]), np.array([-0.2, 0.5])
        curvature = quick(sectional_curvature, static_argnums=0)
        normal = curvature(lambda m: jnp.diag(jnp.array([1.0, 2.0])) / m[1] ** 2, x, u, v)
        np.testing.assert_allclose(normal, -0.5, rtol=1e-13)
        flat = curvature(lambda _: jnp.array([[2.0, 0.5], [0.5, 1.0]]), x, u, v)
        assert float(flat) == 0.0
        polar = curvature(lambda m: jnp.diag(jnp.stack([jnp.ones_like(m[0]), m[0] ** 2])), x, u, v)
        np.testing.assert_allclose(polar, 0.0, atol=1e-13)


def test_the_gamma_family_is_genuinely_variable():
    """The checker sees variation where there is some."""

    def gamma(m):
        shape, rate = m
        off = -1 / rate
        return jnp.array([[polygamma(1, shape), off], [off, shape / rate**2]])

    with jax.enable_x64(True):
        u, v = np.eye(2)
        curvature = quick(lambda x: sectional_curvature(gamma, x, u, v))
        got = [float(curvature(np.array([k, 1.7]))) for k in (0.5, 1.0, 2.0, 5.0)]
        np.testing.assert_allclose(got, [-0.4040, -0.4563, -0.4859, -0.4976], atol=5e-5)


def test_curvature_does_not_depend_on_the_basis_of_the_plane():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)

        def metric(x):
            return jnp.diag(1 + jnp.square(x)) + jnp.outer(jnp.sin(x), jnp.sin(x))

        x, u, v = rng.normal(size=(3, 4))
        curvature = quick(jax.value_and_grad(lambda x, u, v: sectional_curvature(metric, x, u, v)))
        first, slope = curvature(x, u, v)
        assert abs(float(first)) > 1e-3
        np.testing.assert_allclose(curvature(x, u + 2 * v, 3 * v - u)[0], first, rtol=1e-11)
        assert np.isnan(curvature(x, u, 2 * u)[0])
        assert np.isfinite(slope).all()


def test_curvature_refuses_what_is_no_metric():
    p = jnp.array([0.5, 0.5])
    with pytest.raises(ValueError, match=r"metric gives shape \(2,\).*return a matrix"):
        sectional_curvature(lambda x: x, p, p, p)


# --- Gaussians -------------------------------------------------------------------------------------------------------


def gaussians(rng, rows, apart, spread, dtype):
    """Means, scales over many orders of magnitude; the second ``apart`` scales away and e^±spread as wide."""
    mean, scale = rng.normal(size=rows), np.exp(3 * rng.normal(size=rows))
    other = mean + apart * scale * rng.normal(size=rows), scale * np.exp(spread * rng.normal(size=rows))
    return tuple(x.astype(dtype) for x in (mean, scale, *other))


def exact_gaussian(mean_p, scale_p, mean_q, scale_q):
    """The distance; its gradient in μ_p, σ_p, σ_q; and what the roundings of each are measured by."""
    m, s, other, r = (arb(float(x)) for x in (mean_p, scale_p, mean_q, scale_q))
    a, b, total = (m - other) / arb(2).sqrt(), s - r, s + r
    h, across, root = (a**2 + b**2).sqrt(), (a**2 + total**2).sqrt(), arb(2).sqrt()
    d = 2 * root * (h / 2 / (s * r).sqrt()).asinh()
    size = root * (abs(b) * total + a**2) / h / across
    return (
        (
            d,
            2 * a / h / across,
            root * (b * total - a**2) / h / across / s,
            -root * (b * total + a**2) / h / across / r,
        ),
        (d, abs(2 * a / h / across), size / s, size / r),
    )


@jax.jit
def distance_and_gradient(*args):
    gradient = jax.grad(lambda *a: jnp.sum(gaussian_fisher_rao_distance(*a)), (0, 1, 2, 3))
    return gaussian_fisher_rao_distance(*args), gradient(*args)


@pytest.mark.covering(2)
@pytest.mark.parametrize("apart", [1e-12, 1e-5, 0.1, 1.0, 10.0, 1e15])
@pytest.mark.parametrize("spread", [1e-6, 0.1, 10.0])
def test_distance_and_gradient_are_accurate(apart, spread, dtype):
    args = gaussians(np.random.default_rng(0), 20, apart, spread, dtype)
    d, (in_p, in_s, in_q, in_r) = distance_and_gradient(*args)
    np.testing.assert_array_equal(in_p, -in_q)
    with ctx.workprec(300):
        for row, given in enumerate(zip(*args, strict=True)):
            if given[:2] == given[2:]:
                continue
            got = (np.asarray(d)[row], *(np.asarray(g)[row] for g in (in_p, in_s, in_r)))
            for value, want, size in zip(got, *exact_gaussian(*given), strict=True):
                assert float(abs(arb(float(value)) - want)) <= 16 * unit(dtype) * float(size)
    # |∇d| = 1 in G⁻¹ = diag(σ², σ²/2), in p and in q: twice the roundings of two unit vectors, some 4u each
    apart = (args[0] != args[2]) | (args[1] != args[3])
    assert apart.sum() >= 10
    for scale, in_mean, in_scale in ((args[1], in_p, in_s), (args[3], in_q, in_r)):
        np.testing.assert_allclose((scale * in_mean) ** 2 + (scale * in_scale) ** 2 / 2, apart, atol=16 * unit(dtype))


def test_the_distance_is_the_length_of_the_metric():
    """Along a line of equal means ∫ √2 dσ/σ; and of nearby Gaussians √(Δμ² + 2Δσ²)/σ."""
    with jax.enable_x64(True):
        zero = np.zeros(3)
        scales = np.array([1e-3, 2.0, 50.0])
        d = gaussian_fisher_rao_distance(zero, scales, zero, 1.0)
        np.testing.assert_allclose(d, np.sqrt(2) * np.abs(np.log(scales)), rtol=1e-15)
        near = gaussian_fisher_rao_distance(np.array(0.3), 2.0, np.array(0.3 + 3e-9), 2.0 - 1e-9)
        np.testing.assert_allclose(near, np.sqrt(9 + 2) * 1e-9 / 2, rtol=1e-6)


def test_the_euclidean_form_is_no_distance():
    """The planted fault: √(Δμ² + 2Δσ²)/σ has no gradient of length 1 in the metric."""

    def straight(*args):
        mean_p, scale_p, mean_q, scale_q = args
        return jnp.sqrt((mean_p - mean_q) ** 2 + 2 * (scale_p - scale_q) ** 2) / scale_q

    with jax.enable_x64(True):
        in_mean, in_scale = jax.grad(straight, (0, 1))(0.3, 1.0, 1.0, 2.0)
        assert abs(float(in_mean**2 + in_scale**2 / 2) - 1) > 0.1


def test_no_square_overflows_or_vanishes(dtype):
    largest, tiny = float(np.finfo(dtype).max), float(np.finfo(dtype).tiny)
    mean, scale = np.array([0, 0, 0, 0], dtype), np.array([1, largest / 64, tiny * 8, tiny * 8], dtype)
    other = np.array([largest / 32, largest / 32, tiny * 64, largest / 32], dtype)
    d = np.asarray(gaussian_fisher_rao_distance(mean, scale, other, scale), np.float64)
    with ctx.workprec(300):
        want = [float(exact_gaussian(*row)[0][0]) for row in zip(mean, scale, other, scale, strict=True)]
    np.testing.assert_allclose(d, want, rtol=16 * unit(dtype))
    gradients = distance_and_gradient(mean, scale, other, scale)[1]
    assert np.isfinite(gradients[0]).all()
    lengths = (scale * gradients[0]) ** 2 + (scale * gradients[1]) ** 2 / 2
    np.testing.assert_allclose(lengths, 1, atol=16 * unit(dtype))


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_where_the_two_are_one(dtype):
    mean, scale = np.array([0.0, -3.0], dtype), np.array([1.0, 0.2], dtype)
    assert not np.any(gaussian_fisher_rao_distance(mean, scale, mean, scale))
    for gradient in distance_and_gradient(mean, scale, mean, scale)[1]:
        np.testing.assert_array_equal(gradient, np.zeros(2, dtype))


ARGS = tuple(np.array(x) for x in ([0.3, 1.0], [1.0, 2.0], [0.0, 3.0], [2.0, 0.5]))


def test_second_derivatives_are_those_of_the_formula():
    def plain(mean_p, scale_p, mean_q, scale_q):
        square = (mean_p - mean_q) ** 2 / 2 + (scale_p - scale_q) ** 2
        return 2 * jnp.sqrt(2.0) * jnp.arcsinh(jnp.sqrt(square / (scale_p * scale_q)) / 2)

    with jax.enable_x64(True):
        assert_same_in("reverse over reverse", gaussian_fisher_rao_distance, plain, ARGS)


@pytest.mark.parametrize(
    "checks", ["cotangent", pytest.param(("rule", "value", "gradient", "modes"), marks=pytest.mark.slow)], ids=str
)
def test_the_distance_is_verified(checks):
    """Its value and gradient are above in exact arithmetic, over many scales; and of second order in float64."""
    args = tuple(x.astype(np.float32) for x in ARGS)
    assert_verified(gaussian_fisher_rao_distance, *args, argnums=(0, 1, 2, 3), checks=checks)


def test_16_bit_is_computed_in_float32():
    args = [jnp.asarray(x, jnp.bfloat16) for x in ARGS]
    assert jax.eval_shape(gaussian_fisher_rao_distance, *args).dtype == jnp.float32
    assert {g.dtype for g in jax.eval_shape(distance_and_gradient, *args)[1]} == {jnp.dtype(jnp.bfloat16)}


def test_a_scale_of_many_means_gets_all_their_gradient():
    with jax.enable_x64(True):
        mean_p, mean_q = np.random.default_rng(0).normal(size=(2, 3, 4))
        slope = quick(jax.grad(lambda s: jnp.sum(gaussian_fisher_rao_distance(mean_p, s, mean_q, 0.7))))
        one, each = slope(1.3), slope(np.full((3, 4), 1.3))
        np.testing.assert_allclose(one, each.sum(), rtol=1e-14)
        rows = jax.vmap(lambda m, n: gaussian_fisher_rao_distance(m, 1.3, n, 0.7))(mean_p, mean_q)
        np.testing.assert_allclose(rows, gaussian_fisher_rao_distance(mean_p, 1.3, mean_q, 0.7), rtol=1e-15)


def test_scales_that_are_none():
    m = jnp.zeros(2)
    for wrong in (0.0, -1.0, jnp.array([1.0, -2.0])):
        with pytest.raises(ValueError, match="scale_p must be greater than 0"):
            gaussian_fisher_rao_distance(m, wrong, m, 1.0)

    def total(s):
        return gaussian_fisher_rao_distance(m, s, m + 1, 1.0)

    traced = jnp.array([-1.0, 0.0])
    assert np.isnan(jax.jit(total)(traced)).all()
    assert np.isnan(jax.jit(jax.grad(lambda s: jnp.sum(total(s))))(traced)).all()
    with pytest.raises(ValueError, match=r"mean_q has shape \(3,\), wanted \(2,\) of mean_p"):
        gaussian_fisher_rao_distance(m, 1.0, jnp.zeros(3), 1.0)
    with pytest.raises(ValueError, match=r"scale_q has shape \(3,\), wanted one that broadcasts to \(2,\)"):
        gaussian_fisher_rao_distance(m, 1.0, m, jnp.ones(3))
    with pytest.raises(TypeError, match="mean_p must be floating-point, got int32"):
        gaussian_fisher_rao_distance(jnp.arange(2), 1.0, m, 1.0)
