"""Exponential families: the losses of other names to the last bit; ends, refusals, masks, dtypes, transformations."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax import families
from lossjax.families import canonical_nll, deviance, kl_divergence
from tests.families.test_families import (
    FAMILIES,
    NEGATIVE,
    VECTORS,
    WITH_DEVIANCE,
    close,
    naturals,
    observations,
    weights,
)
from tests.support.quick import quick

NAN, INF = np.nan, np.inf
TO_THE_LEFT = [name for name in WITH_DEVIANCE if name not in (*VECTORS, "gaussian", "gaussian 2.5")]
"""Families whose observations have a least one."""
ALIKE = ("gaussian 2.5", "gamma 2.5", "negative binomial 0.7")
"""Of the class of another one, with another parameter."""


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.slow if n in ALIKE else ()) for n in FAMILIES])
def name(request):
    return request.param


# --- the same law ----------------------------------------------------------------------------------------------------


def value_and_gradients(loss: Callable[..., Any], *args: Any) -> list[Any]:
    value, pull = jax.vjp(loss, *args)
    return [value, *pull(weights(value))]


def assert_same_bits(a: Callable[..., Any], b: Callable[..., Any], *args: Any) -> None:
    got, want = (quick(lambda *x, f=f: value_and_gradients(f, *x))(*args) for f in (a, b))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


@pytest.mark.covering
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_the_losses_that_have_names_are_these_to_the_last_bit(dtype, scale):
    random = np.random.default_rng(9)
    z = (scale * random.normal(size=33)).astype(dtype)
    z[:4] = INF, -INF, 0, -0.0
    y = random.uniform(size=33).astype(dtype)
    y[2:12] = np.arange(10) % 2
    y[0], y[1] = 1, 0
    bernoulli, poisson, gaussian = families.Bernoulli(), families.Poisson(), families.Gaussian()
    assert_same_bits(lambda z, y: canonical_nll(bernoulli, z, y), lossjax.sigmoid_cross_entropy, z, y)
    assert_same_bits(lambda z, y: canonical_nll(poisson, z, y), lossjax.poisson_nll, z, np.floor(9 * y))
    finite = z[2:], y[2:]
    assert_same_bits(lambda m, y: deviance(gaussian, m, y), lossjax.squared_error, *finite)
    half = quick(jax.grad(lambda z: 0.5 * jnp.sum(lossjax.squared_error(z, finite[1]))))(finite[0])
    slope = quick(jax.grad(lambda z: jnp.sum(canonical_nll(gaussian, z, finite[1]))))(finite[0])
    np.testing.assert_array_equal(slope, half)
    rows = (scale * random.normal(size=(33, 7))).astype(dtype)
    rows[0, 2], rows[1, 3] = INF, -INF
    targets = random.dirichlet(np.ones(7), 33).astype(dtype)
    targets[:9] = np.eye(7)[np.arange(9) % 7]
    targets[0] = np.eye(7)[2]
    targets[9:11] = 0
    rows[10, :2] = INF  # no distribution, and a target of 0 does not silence it
    categorical = families.Categorical()
    # One rule in two programs, which a compiler may round apart: by no more than either may be off.
    u, p = np.finfo(dtype).eps / 2, np.nan_to_num(lossjax.softmax(rows))
    allowed = [33 * u, 13 * u * (targets.sum(axis=1, keepdims=True) * p + targets), 33 * u]
    losses = lambda z, t: canonical_nll(categorical, z, t), lossjax.softmax_cross_entropy
    found = [quick(lambda *x, loss=loss: value_and_gradients(loss, *x))(rows, targets) for loss in losses]
    for got, want, error, relative in zip(*found, allowed, (True, False, True), strict=True):
        scale = np.abs(np.nan_to_num(want, posinf=0)) if relative else np.max(np.abs(weights(want[:, 0])))
        assert np.all(np.nan_to_num(np.abs(got - want)) <= 2 * error * scale)
        np.testing.assert_array_equal(*(np.where(np.isfinite(x), 0, x) for x in (got, want)))


def test_the_last_bit_is_looked_at():
    """The planted fault: one rounding more."""
    z, y = np.linspace(-3, 3, 33, dtype=np.float32), np.full(33, 0.3, np.float32)
    with pytest.raises(AssertionError):
        assert_same_bits(lambda z, y: jax.nn.softplus(z) - y * z, lossjax.sigmoid_cross_entropy, z, y)


def test_the_gaussian_losses_differ_by_their_base_measure(dtype):
    random = np.random.default_rng(10)
    z, y = (3 * random.normal(size=(2, 33))).astype(dtype)
    size = (np.abs(z) + np.abs(y)) ** 2
    for variance in (1.0, 2.5):
        got = canonical_nll(families.Gaussian(variance), z, y) + jnp.square(y) / dtype.type(2 * variance)
        want = np.float64(lossjax.squared_error(dtype.type(variance) * z, y)) / (2 * variance)
        close(got, want, 8, variance * size)
    s = random.normal(size=33).astype(dtype)
    natural = jnp.stack([z * jnp.exp(-s), -0.5 * jnp.exp(-s)], axis=-1)
    got = canonical_nll(families.GaussianUnknownVariance(), natural, y)
    want = np.float64(lossjax.gaussian_nll(z, y, log_variance=s)) - 0.5 * math.log(2 * math.pi)
    close(got, want, 8, 1 + np.abs(s) + size * np.exp(-s))


# --- the ends of the domain ------------------------------------------------------------------------------------------


def everything(function: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """Value and gradients in all arguments."""
    return function(*args), jax.grad(lambda *a: jnp.sum(function(*a)), tuple(range(len(args))))(*args)


def assert_nan(function: Callable[..., Any], *args: Any) -> None:
    for result in jax.tree.leaves(quick(functools.partial(everything, function))(*args)):
        assert np.isnan(result).all(), result


def outside(name: str) -> list[Any]:
    """Natural parameters of nobody."""
    if name == "categorical":
        return [[0.0, NAN, 1.0]]
    if name == "gaussian pair":
        return [[1.0, 0.0], [1.0, 2.0], [NAN, -1.0], [1.0, NAN], [INF, -1.0], [1.0, -INF]]
    ends = [0.0, 0.5, INF] if name in NEGATIVE else [INF] if "gaussian" in name else []
    return [NAN, *ends, *([-INF] if ends and "binomial" not in name else [])]


def impossible(name: str) -> list[Any]:
    """Observations outside the hull."""
    if name == "categorical":
        return [[0.5, -0.5, 1.0], [0.5, NAN, 0.5]]
    return [NAN] + ([-0.5] if name in TO_THE_LEFT else []) + ([1.5] if name == "bernoulli" else [])


def test_outside_value_and_every_derivative_are_nan(name):
    """Of the loss, also the product of its Hessian with a vector; inside, all of them are finite."""
    family = FAMILIES[name]
    z, y = naturals(name, np.float32, 1)[0], observations(name, np.float32, 1)[0]
    if name == "categorical":
        z, y = z[:3], y[:3]
    bad, bad_y = np.asarray(outside(name), np.float32), np.asarray(impossible(name), np.float32)
    good = lambda a, rows: np.broadcast_to(a, (len(rows), *a.shape))  # noqa: E731
    loss = lambda z, y: canonical_nll(family, z, y)  # noqa: E731
    kl = lambda p, q: kl_divergence(family, p, q)  # noqa: E731
    assert not np.any(family.domain(bad))
    assert family.domain(z)
    moments = quick(lambda z: [everything(f, z) for f in (family.log_partition, family.mean, family.variance)])
    assert all(np.isnan(result).all() for result in jax.tree.leaves(moments(bad)))

    @quick
    def of_loss(z: Any, y: Any) -> Any:
        slope = jax.grad(lambda z: jnp.sum(loss(z, y)))
        return everything(loss, z, y), jax.jvp(slope, (z,), (jnp.ones_like(z),))[1]

    found = of_loss(np.concatenate([bad, good(z, bad_y), [z]]), np.concatenate([good(y, bad), bad_y, [y]]))
    for result in map(np.asarray, jax.tree.leaves(found)):
        assert np.isfinite(result[-1]).all(), result
    of_first_order, product = found
    for result in map(np.asarray, jax.tree.leaves(of_first_order)):
        assert np.isnan(result[:-1]).all(), result
    assert np.isnan(product[: len(bad)]).all()
    assert_nan(kl, np.concatenate([bad, good(z, bad)]), np.concatenate([good(z, bad), bad]))
    if name in WITH_DEVIANCE:
        good_m = good(np.asarray(quick(family.mean)(z)), bad_y)
        m, y = np.concatenate([good_m, bad_y]), np.concatenate([bad_y, good_m])
        assert_nan(lambda m, y: deviance(family, m, y), m, y)


def test_the_domain_is_told_of_each_member_of_a_batch():
    z = np.float32([[-1, 0, 1], [NAN, -INF, INF]])
    told = {name: np.asarray(FAMILIES[name].domain(z)).tolist() for name in ("exponential", "poisson", "gaussian")}
    assert told["exponential"] == [[True, False, False], [False, False, False]]
    assert told["poisson"] == [[True] * 3, [False, True, True]]
    assert told["gaussian"] == [[True] * 3, [False] * 3]
    assert np.asarray(FAMILIES["categorical"].domain(z)).tolist() == [True, False]
    assert np.asarray(FAMILIES["gaussian pair"].domain(z[:, :2])).tolist() == [False, False]


def test_targets_at_the_ends_of_the_hull(dtype):
    """What a mean loses against the least observation, in closed form, and its finite slope, even where it is +inf."""
    m = np.asarray([1e-3, 0.25, 0.75], dtype)
    zero, one, wide = 0 * m, 1 + 0 * m, np.float64(m)

    @jax.jit
    def found(m: Any, y: Any) -> Any:
        """For each family the deviances, their sum, and its slope in the means; all of them are one program."""
        results = {}
        for name in TO_THE_LEFT:
            value, slope = jax.value_and_grad(lambda m, n=name: jnp.sum(deviance(FAMILIES[n], m, y)))(m)
            results[name] = deviance(FAMILIES[name], m, y), value, slope
        return results

    table = {
        ("poisson", 0): (2 * wide, 2 + 0 * wide),
        ("bernoulli", 0): (-2 * np.log1p(-wide), 2 / (1 - wide)),
        ("bernoulli", 1): (-2 * np.log(wide), -2 / wide),
        ("negative binomial 3", 0): (6 * np.log1p(wide / 3), 6 / (wide + 3)),
        ("negative binomial 0.7", 0): (1.4 * np.log1p(wide / 0.7), 1.4 / (wide + 0.7)),
        ("exponential", 0): (INF + 0 * wide, 2 / wide),
        ("gamma 2.5", 0): (INF + 0 * wide, 5 / wide),
        ("inverse gaussian", 0): (INF + 0 * wide, 2 / wide**2),
    }
    at_end = found(m, zero), found(m, one)
    for (name, at), (value, slope) in table.items():
        each, total, in_mean = at_end[at][name]
        if np.isinf(value).any():
            assert total == INF
        else:
            close(each, value, 16)
            close(total, value.sum(), 24)
        close(in_mean, slope, 16)
    for each, *_ in found(zero, one).values():
        assert np.all(each == INF)  # a mean of 0 that sees an observation: the deviance grows beyond bounds towards it
    certain = found(zero, zero)
    for name in ("poisson", "bernoulli", "negative binomial 3"):  # certainty that proves right
        each, total, slope = certain[name]
        assert total == 0
        assert not np.any(each)
        assert np.isfinite(slope).all()
    assert np.isfinite(canonical_nll(families.InverseGaussian(), -one, zero)).all()


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_extremes_that_exist_are_computed(dtype):
    """No power, product or quotient on the way leaves the range before the result does."""
    far = dtype.type(1e30 if dtype == np.float32 else 1e300)
    with jax.debug_nans(True):
        log = math.log(float(far))
        gamma = families.Gamma(1.0)
        close(kl_divergence(gamma, -far, -1 / far), 2 * log - 1, 8, 2 * log)
        close(kl_divergence(gamma, -1 / far, -1 / far), 0.0, 0)
        pair = families.GaussianUnknownVariance()
        z = jnp.stack([1 / far, -0.5 / far])
        close(canonical_nll(pair, z, far / 4), (log + float(far) / 16) / 2, 8, log + float(far))
        close(kl_divergence(pair, z, z), 0.0, 0)
        square = dtype.type(1.75 * math.sqrt(np.finfo(dtype).max))  # ½z² and zy are too large, their difference is 0
        close(canonical_nll(families.Gaussian(), square, square / 2), 0.0, 0)
        count = families.NegativeBinomial(3.0)
        close(deviance(count, far, dtype.type(2)), 2 * (3 * log - 5 * math.log(5) + 2 * math.log(2)), 16)
        close(kl_divergence(count, dtype.type(-200), dtype.type(-0.5)), -3 * math.log(-math.expm1(-0.5)), 16)
        for name in ("poisson", "bernoulli"):
            low, high = -far, dtype.type(1)
            gradients = jax.grad(lambda p, q, n=name: kl_divergence(FAMILIES[n], p, q), (0, 1))(low, high)
            close(gradients[0], 0.0, 0)
            close(gradients[1], float(FAMILIES[name].mean(high)), 8)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "parameter"),
    [(families.Gamma, "shape"), (families.NegativeBinomial, "r"), (families.Gaussian, "noise_variance")],
)
def test_a_familys_own_parameter_is_a_positive_number(family, parameter):
    for bad in (0.0, -1.0, INF, NAN):
        with pytest.raises(ValueError, match=f"{parameter} of {family.__name__} must be positive and finite, got"):
            family(bad)
    for bad in (True, "2", None, jnp.float32(2), np.ones(2)):
        with pytest.raises(TypeError, match=f"{parameter} of {family.__name__} must be a Python number"):
            family(bad)
    with pytest.raises(TypeError, match=f"{parameter} of {family.__name__} must be a Python number, got .*[Tt]race"):
        jax.grad(lambda k: canonical_nll(family(k), jnp.float32(-1), jnp.float32(1)))(2.0)
    assert family(2) == family(2.0)


def test_refusals_name_the_argument():
    poisson, pair, x, whole = families.Poisson(), families.GaussianUnknownVariance(), jnp.ones(3), jnp.arange(3)
    for function in (canonical_nll, deviance, kl_divergence):
        for bad in (families.Poisson, "poisson", None):
            with pytest.raises(
                TypeError, match=r"family must be one of lossjax\.families, such as families\.Poisson\(\)"
            ):
                function(bad, x, x)
    for function, first, second in (
        (canonical_nll, "natural", "targets"),
        (deviance, "means", "targets"),
        (kl_divergence, "natural_p", "natural_q"),
    ):
        with pytest.raises(TypeError, match=f"^{first} must be floating-point, got int32"):
            function(poisson, whole, x)
        with pytest.raises(TypeError, match=f"^{second} must be floating-point, got int32"):
            function(poisson, x, whole)
        with pytest.raises(ValueError, match=rf"^{second} has shape \(2,\), wanted \(3,\) of {first}"):
            function(poisson, x, x[:2])
        with pytest.raises(ValueError, match=f"^{first} is a scalar, wanted at least the class axis"):
            function(families.Categorical(), x[0], x[0])
        with pytest.raises(ValueError, match=rf"^{first} has shape \(4, 0\) with no class"):
            function(families.Categorical(), jnp.ones((4, 0)), jnp.ones((4, 0)))
    with pytest.raises(ValueError, match=r"^natural has shape \(3,\), wanted \[\.\.\., 2\]: μ/σ² and -1/\(2σ²\)"):
        canonical_nll(pair, x, x)
    with pytest.raises(ValueError, match=r"^targets has shape \(4, 2\), wanted \(4,\) of natural's rows"):
        canonical_nll(pair, -jnp.ones((4, 2)), jnp.ones((4, 2)))
    with pytest.raises(TypeError, match="family must have a deviance; that of GaussianUnknownVariance"):
        deviance(pair, jnp.ones((4, 2)), jnp.ones(4))
    with pytest.raises(ValueError, match="reduction must be one of 'none', 'sum', 'mean', got 'average'"):
        canonical_nll(poisson, x, x, reduction="average")
    with pytest.raises(TypeError, match="where must be boolean"):
        canonical_nll(poisson, x, x, where=x)
    with pytest.raises(ValueError, match=r"where has shape \(2,\), wanted \(3,\)"):
        canonical_nll(poisson, x, x, where=jnp.array([True, False]))
    with pytest.raises(ValueError, match=r"where has shape \(4, 3\), wanted \(4,\)"):
        canonical_nll(families.Categorical(), jnp.ones((4, 3)), jnp.ones((4, 3)), where=jnp.ones((4, 3), bool))
    for method in (poisson.log_partition, poisson.mean, poisson.variance, poisson.domain):
        with pytest.raises(TypeError, match=r"^natural must be floating-point"):
            method(whole)
    with pytest.raises(TypeError, match=r"^targets must be floating-point"):
        poisson.sufficient_statistic(whole)
    for method in (pair.log_partition, pair.mean, pair.variance, pair.domain):
        with pytest.raises(ValueError, match=r"^natural has shape \(3,\), wanted \[\.\.\., 2\]"):
            method(x)


def test_families_are_static_values():
    assert families.Gamma(2.5) == families.Gamma(2.5) != families.Gamma(2.0)
    assert len({families.Poisson(), families.Poisson(), families.Exponential()}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(families.Gamma(2.5), "shape", 3.0)  # noqa: B010
    loss = quick(canonical_nll, static_argnums=0)
    assert loss(families.Gamma(2.0), jnp.float32(-1.0), jnp.float32(3.0)) == 3.0


# --- masks, reductions, dtypes, transformations ----------------------------------------------------------------------


def test_masked_entries_reach_nothing(name):
    family, kept = FAMILIES[name], np.array([True, False, True, False, True])
    z, y = naturals(name, np.float32, 5), observations(name, np.float32, 5)
    mean = jax.value_and_grad(lambda z, y: jnp.mean(canonical_nll(family, z, y)), (0, 1))
    plain = quick(mean)(z[kept], y[kept])

    @quick
    def masked(z: Any, y: Any) -> Any:
        mean = jax.value_and_grad(lambda z, y: canonical_nll(family, z, y, where=kept, reduction="mean"), (0, 1))
        return mean(z, y), canonical_nll(family, z, y, where=kept, reduction="sum")

    for of_nobody, debug in ((5, True), (NAN, False)):  # where none is given, none may be computed on the way
        z[~kept], y[~kept] = of_nobody, -of_nobody
        with jax.debug_nans(debug):
            losses, ((value, gradients), total) = canonical_nll(family, z, y, where=kept), masked(z, y)
        np.testing.assert_array_equal(losses[~kept], 0)
        close(value, plain[0], 8, 1 + np.abs(losses).max())
        for got, want in zip(gradients, plain[1], strict=True):
            np.testing.assert_array_equal(got[~kept], np.zeros_like(got[~kept]))
            close(got[kept], want, 8, np.abs(want) + 1)
        close(total, 3 * np.float64(value), 8, np.abs(losses).sum())


def test_a_mean_over_nothing_is_zero(name):
    family, z, y = FAMILIES[name], naturals(name, np.float32, 3), observations(name, np.float32, 3)
    nothing = np.zeros(3, bool)
    mean = jax.value_and_grad(lambda z: canonical_nll(family, z, y, where=nothing, reduction="mean"))
    value, gradient = quick(mean)(z)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(z))
    assert canonical_nll(family, z[:0], y[:0], reduction="mean") == 0
    assert canonical_nll(family, z[:0], y[:0]).shape == (0,)


PASSES_ON = {"broadcast_in_dim", "reshape", "copy"}
INNER_PROGRAMS = {"pjit", "jit", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint"}
NOT_ARITHMETIC = {"convert_element_type"} | PASSES_ON | INNER_PROGRAMS


def arithmetic_in(narrow: str, function: Callable[..., Any], *args: Any) -> set[str]:
    """Find the primitives, in inner programs too, that compute in the dtype of this short name."""
    program = str(jax.make_jaxpr(function)(*args))
    return set(re.findall(rf":{narrow}\[[\d,]*\](?:\{{[^}}]*\}})? = (\w+)", program)) - NOT_ARITHMETIC


@pytest.mark.covering
@pytest.mark.parametrize("narrow", [jnp.bfloat16, jnp.float16])
def test_narrow_inputs_are_computed_in_float32(name, narrow):
    """No operation of the value or of the gradients but the conversions has 16 bits; gradients come back in them."""
    family, short = FAMILIES[name], {jnp.bfloat16: "bf16", jnp.float16: "f16"}[narrow]
    z, y = (jnp.asarray(a, narrow) for a in (naturals(name, np.float32, 5), observations(name, np.float32, 5)))
    wide_y = y.astype(jnp.float32)
    functions = [(canonical_nll, z, y), (canonical_nll, z, wide_y), (kl_divergence, z, z)]
    if name in WITH_DEVIANCE:
        functions.append((deviance, y, y))
    for function, *args in functions:
        of = functools.partial(everything, functools.partial(function, family))
        value, gradients = jax.eval_shape(of, *args)
        assert value.dtype == jnp.float32
        assert [g.dtype for g in gradients] == [a.dtype for a in args]
        assert arithmetic_in(short, of, *args) == set()
    for method in (family.log_partition, family.mean, family.variance):
        assert jax.eval_shape(method, z).dtype == jnp.float32
        assert arithmetic_in(short, method, z) == set()


def test_arithmetic_in_16_bits_is_seen():
    """The planted fault: computed in 16 bits and then converted, within an inner program."""
    inner = jax.jit(lambda z, y: jnp.square(z - y))
    z = jnp.ones(5, jnp.bfloat16)
    assert arithmetic_in("bf16", lambda z, y: inner(z, y).astype(jnp.float32), z, z) == {"sub", "square"}


def test_any_leading_axes_jit_and_vmap(name):
    """All modes of differentiation, and ⟨u, Jv⟩ = ⟨Jᵀu, v⟩, are questions of the certificates in the room beside."""
    family = FAMILIES[name]
    z, y = naturals(name, np.float32, 15), observations(name, np.float32, 15)
    pairs: list[tuple[Any, Any, Any]] = [(canonical_nll, z, y), (kl_divergence, z, z[::-1].copy())]
    if name in WITH_DEVIANCE:
        pairs.append((deviance, observations(name, np.float32, 15, seed=5), y))
    for function, a, b in pairs:

        def every(a: Any, b: Any) -> tuple[Any, ...]:
            of = functools.partial(function, family)  # noqa: B023
            shaped = [x.reshape(3, 5, *x.shape[1:]) for x in (a, b)]
            return of(*shaped), jax.vmap(jax.vmap(of))(*shaped)

        value, mapped = quick(every)(jnp.asarray(a), jnp.asarray(b))
        assert value.shape == (3, 5)
        close(mapped, value, 4, np.abs(value) + 1)
        assert jax.eval_shape(functools.partial(function, family), a[0], b[0]).shape == ()
