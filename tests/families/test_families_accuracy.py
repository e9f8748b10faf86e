"""Exponential families (G4): losses and divergences against the textbook formulas, executed exactly; all certified."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax.families import canonical_nll, deviance, kl_divergence
from lossjax.verify import assert_verified, exact, ulp
from tests.families.test_families import FAMILIES, NEGATIVE, WITH_DEVIANCE, harder, naturals, observations
from tests.support.floats import unit
from tests.support.one_mode import assert_same_in
from tests.support.quick import quick

Formula = Callable[..., Any]


class Book(NamedTuple):
    """A(z) and half the deviance of y from m, as they are printed, with no regard to floating point."""

    log_partition: Formula
    half_deviance: Formula | None = None


def gaussian(variance: float) -> Book:
    return Book(lambda z: variance * z**2 / 2, lambda y, m: (y - m) ** 2 / (2 * variance))


def gamma(k: float) -> Book:
    return Book(lambda z: -k * jnp.log(-z), lambda y, m: k * (y / m - 1 - jnp.log(y / m)))


def negative_binomial(r: float) -> Book:
    return Book(
        lambda z: -r * jnp.log(1 - jnp.exp(z)),
        lambda y, m: y * jnp.log(y / m) - (y + r) * jnp.log((y + r) / (m + r)),
    )


BOOKS = {
    "gaussian": gaussian(1.0),
    "gaussian 2.5": gaussian(2.5),
    "bernoulli": Book(
        lambda z: jnp.log(1 + jnp.exp(z)), lambda y, m: y * jnp.log(y / m) + (1 - y) * jnp.log((1 - y) / (1 - m))
    ),
    "poisson": Book(jnp.exp, lambda y, m: y * jnp.log(y / m) - y + m),
    "exponential": gamma(1.0),
    "gamma 2.5": gamma(2.5),
    "negative binomial 3": negative_binomial(3.0),
    "negative binomial 0.7": negative_binomial(0.7),
    "inverse gaussian": Book(lambda z: -jnp.sqrt(-2 * z), lambda y, m: (y - m) ** 2 / (2 * m**2 * y)),
    "categorical": Book(
        lambda z: jnp.log(jnp.sum(jnp.exp(z), axis=-1)), lambda y, m: jnp.sum(y * jnp.log(y / m) - y + m, axis=-1)
    ),
    "gaussian pair": Book(lambda z: -(z[..., 0] ** 2) / (4 * z[..., 1]) - jnp.log(-2 * z[..., 1]) / 2),
}


@pytest.fixture(params=[harder(n) for n in BOOKS])
def name(request):
    return request.param


def mean_of(name: str, z: Any) -> Any:
    """∇A of the book."""
    return jax.grad(lambda z: jnp.sum(BOOKS[name].log_partition(z)))(z)


def inner(name: str, a: Any, b: Any) -> Any:
    return jnp.sum(a * b, axis=-1) if name in ("categorical", "gaussian pair") else a * b


def textbook_nll(name: str, z: Any, y: Any) -> Any:
    if name == "categorical":  # -Σ y log p̂, whose slope in y is -log p̂: that is -z on the simplex
        return jnp.sum(y * (BOOKS[name].log_partition(z)[..., None] - z), axis=-1)
    statistic = jnp.stack([y, y * y], axis=-1) if name == "gaussian pair" else y
    return BOOKS[name].log_partition(z) - inner(name, z, statistic)


def textbook_deviance(name: str, m: Any, y: Any) -> Any:
    half = BOOKS[name].half_deviance
    assert half is not None
    return 2 * half(y, m)


def textbook_kl(name: str, p: Any, q: Any) -> Any:
    """The definition, A(q) - A(p) - ⟨∇A(p), q - p⟩."""
    phi = BOOKS[name].log_partition
    return phi(q) - phi(p) - inner(name, mean_of(name, p), q - p)


def sizes(formula: Formula, *args: Any) -> np.ndarray:
    """Exact numbers as floats."""
    return ulp.relative_to(exact(formula)(*args))


def off(computed: Any, formula: Formula, args: Any, size: Any = None) -> float:
    """The largest error in u of the size (default: of the exact result itself)."""
    return off_truth(computed, exact(formula)(*args), size)


def off_truth(computed: Any, truth: Any, size: Any = None) -> float:
    return float(np.max(ulp.in_roundoffs(computed, truth, scale=size)))


def gradients_of(function: Formula, *args: Any) -> Any:
    return jax.grad(lambda *a: jnp.sum(function(*a)), tuple(range(len(args))))(*args)


@functools.cache
def truths(textbook: Formula, name: str) -> Formula:
    """The value of a textbook's formula and its two gradients, exactly; traced once for all data of one shape."""

    def three(a: Any, b: Any) -> list[Any]:
        of_pair = functools.partial(textbook, name)
        return [of_pair(a, b), *gradients_of(of_pair, a, b)]

    return exact(three)


@functools.partial(jax.jit, static_argnums=(0, 1))
def both(function: Formula, family: Any, a: Any, b: Any) -> list[Any]:
    """The value and its gradients, compiled once for all data of one shape."""
    return [function(family, a, b), *gradients_of(functools.partial(function, family), a, b)]


# --- the loss --------------------------------------------------------------------------------------------------------


ROWS = 19


def drawn(name: str, scale: float, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Parameters near 0 for small scales, over many powers of e for large ones; targets likewise."""
    random = np.random.default_rng(int(1000 * scale))
    if name == "categorical":
        y = random.dirichlet(np.full(7, 0.5), ROWS)
        y[:7] = np.eye(7)
        return (3 * scale * random.normal(size=(ROWS, 7))).astype(dtype), y.astype(dtype)
    if name == "gaussian pair":
        sigma = np.exp(scale * random.normal(size=ROWS))
        mean, y = 3 * scale * random.normal(size=(2, ROWS)) * sigma
        return np.stack([mean / sigma**2, -0.5 / sigma**2], axis=-1).astype(dtype), y.astype(dtype)
    size = np.exp(scale * random.normal(size=ROWS)) if scale >= 1 else scale * random.uniform(0.1, 3, ROWS)
    z = -size if name in NEGATIVE else 3 * scale * random.normal(size=ROWS)
    y = np.exp(scale * random.normal(size=ROWS))
    if name.startswith("gaussian"):
        y = y - 1.5
    if name == "bernoulli":
        y = random.uniform(size=ROWS)
        y[:12] = np.arange(12) % 2
    if name in ("poisson", "negative binomial 3"):
        y = np.floor(y)
    return z.astype(dtype), y.astype(dtype)


def magnitudes(name: str, z: Any, y: Any) -> list[Any]:
    """What the errors of value, ∂z and ∂y are measured by: the result where no term is negative, else the terms."""
    if name == "bernoulli":
        share = sizes(lambda z, y: (1 - y) * mean_of(name, z) + y * mean_of(name, -z), z, y)
        return [None, share, None]
    if name == "categorical":
        return [None, sizes(lambda z, y: jnp.sum(y, -1, keepdims=True) * mean_of(name, z) + y, z, y), None]
    if name == "gaussian pair":
        a, b = (np.float64(part) for part in (z[:, 0], z[:, 1]))
        mean, variance, y = a / (-2 * b), -0.5 / b, np.float64(y)
        terms = [np.abs(mean) + np.abs(y), mean**2 + variance + y**2]
        value = mean**2 / (2 * variance) + np.abs(np.log(variance)) / 2 + np.abs(a * y) + np.abs(b * y * y)
        return [value, np.stack(terms, axis=-1), (np.abs(mean) + np.abs(y)) / variance]
    value = sizes(BOOKS[name].log_partition, z) + np.abs(np.float64(z) * y)
    return [value, sizes(lambda z: mean_of(name, z), z) + np.abs(y), None]


@pytest.mark.covering(2)
@pytest.mark.parametrize("scale", [1e-3, pytest.param(0.1, marks=pytest.mark.slow), 1.0, 4.0])
def test_the_loss_and_its_gradient_are_accurate(name, dtype, scale):
    """8u of the terms, or of the loss; a categorical gradient 13u, as its terms (Σt)p̂ and t cancel."""
    family, (z, y) = FAMILIES[name], drawn(name, scale, dtype)
    computed = both(canonical_nll, family, z, y)
    wanted = truths(textbook_nll, name)(z, y)
    for k, (got, truth, size) in enumerate(zip(computed, wanted, magnitudes(name, z, y), strict=True)):
        assert off_truth(got, truth, size) <= (13 if name == "categorical" and k == 1 else 8), k


def test_a_naive_loss_is_not_accurate():
    """The planted fault: the textbook formula in floats, where p̂ is nearly 1 and z nearly 0."""
    z, y = np.float32([20, 30]), np.float32([1, 1])
    assert off(textbook_nll("bernoulli", z, y), lambda z, y: textbook_nll("bernoulli", z, y), (z, y)) > 1e3
    z = np.float32([-1e-4, -1e-3])
    phi = BOOKS["negative binomial 3"].log_partition
    assert off(phi(z), phi, (z,)) > 8
    assert off(FAMILIES["negative binomial 3"].log_partition(z), phi, (z,)) <= 8


# --- the divergences -------------------------------------------------------------------------------------------------

SEPARATIONS = [1.0, pytest.param(0.1, marks=pytest.mark.slow), 1e-3, 1e-6, 1e3, -1e3]
"""Relative (on R: absolute) distances; the last two say that the second member lies a factor 10³ above, or below."""
PAIRS = 13


def means(name: str, separation: float, dtype: Any, count: int = 41) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of means, none of them equal, always as many: each shape is compiled for."""
    random = np.random.default_rng(int(abs(separation) * 1e6))
    shape = (count, 5) if name == "categorical" else (count,)
    base, step = np.exp(2 * random.normal(size=shape)), random.uniform(-2, 2, shape)
    factor = np.exp(separation * step) if abs(separation) < 10 else 1e3 ** np.sign(separation) * np.exp(step)
    if name.startswith("gaussian"):
        m, y = step, step + (separation * base if abs(separation) < 10 else separation)
    elif name == "bernoulli":  # odds apart by that factor, small and large ones
        m, y = (odds / (1 + odds) for odds in (base**2, base**2 * factor))
    elif name == "categorical":
        factor = factor if abs(separation) < 10 else np.where(np.arange(5) % 2, 1e3, 1)
        m, y = (p / p.sum(-1, keepdims=True) for p in (base, base * factor))
    else:
        m, y = base, base * factor
    m, y = m.astype(dtype), y.astype(dtype)
    apart = (m != y).reshape(count, -1).all(-1)
    if name == "bernoulli":
        apart &= (m < 1) & (y < 1)
    assert apart.sum() >= PAIRS
    return m[apart][:PAIRS], y[apart][:PAIRS]


@pytest.mark.covering(2)
@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("name", [harder(n) for n in WITH_DEVIANCE])
def test_deviances_are_accurate(name, dtype, separation):
    """16u, near y = μ and far apart; the gradients -2(y - μ)/V(μ) and twice the difference of θ likewise."""
    family, (m, y) = FAMILIES[name], means(name, separation, dtype)
    wanted = truths(textbook_deviance, name)(m, y)
    for k, (got, truth) in enumerate(zip(both(deviance, family, m, y), wanted, strict=True)):
        assert off_truth(got, truth) <= 16, k


def parameters(name: str, separation: float, dtype: Any, count: int = 41) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of natural parameters."""
    random = np.random.default_rng(int(abs(separation) * 1e6) + 1)
    shape = (count, 5) if name == "categorical" else (count,)
    base, step = random.normal(size=shape), random.uniform(-2, 2, shape)
    near = abs(separation) < 10
    if name == "gaussian pair":
        sigma = np.exp(2 * base)
        p = np.stack([step / sigma, -0.5 / sigma**2], axis=-1)
        factors = random.uniform(-0.9, 2, p.shape)
        q = p * (1 + separation * factors) if near else p * 1e3 ** np.sign(separation) * np.exp(factors)
    elif name in NEGATIVE:
        p = -np.exp(1.5 * base)
        q = p * (np.exp(separation * step) if near else 1e3 ** np.sign(separation) * np.exp(step))
        if name.startswith("negative"):  # where e^z is a normal number in float32 too
            p, q = np.maximum(p, -40), np.maximum(q, -80)
    else:
        p = 3 * base
        far = {"poisson": 20, "bernoulli": 60, "categorical": 12}.get(name, 1e3) * np.sign(separation)
        q = p + (separation * step if near else far * np.abs(step))
    p, q = p.astype(dtype), q.astype(dtype)
    apart = (p != q).reshape(count, -1).all(-1)
    assert apart.sum() >= PAIRS
    return p[apart][:PAIRS], q[apart][:PAIRS]


def kl_magnitudes(name: str, p: Any, q: Any) -> list[Any]:
    """What the errors of value, ∂p and ∂q are measured by (default: the results)."""
    p, q = np.float64(p), np.float64(q)
    if name == "categorical":
        softmax = sizes(lambda p: mean_of(name, p), p)
        w = q - p
        spread = softmax * np.abs(w - np.sum(softmax * w, -1, keepdims=True)).max(-1, keepdims=True)
        return [None, spread, sizes(lambda p, q: mean_of(name, q) - mean_of(name, p), p, q) + spread]
    if name != "gaussian pair":
        return [None, None, None]
    (m, v), (n, w) = ((z[:, 0] / (-2 * z[:, 1]), -0.5 / z[:, 1]) for z in (p, q))
    ratio, step = q[:, 1] / p[:, 1], np.abs(q[:, 1] - p[:, 1])
    close = np.abs(q[:, 0] - p[:, 0]) + 2 * np.abs(m) * step
    x = np.where((ratio > 0.5) & (ratio < 2), close, np.abs(q[:, 0]) + np.abs(p[:, 0] * ratio))
    value = sizes(lambda p, q: textbook_kl(name, p, q), p, q) * (1 + (np.abs(m) + np.abs(n)) / np.sqrt(w))
    in_p = np.stack([v * x, 2 * np.abs(m) * v * x + 2 * v * v * step], axis=-1)
    in_q = np.stack([w * x, w * x * (np.abs(m) + np.abs(n)) + 2 * v * w * step], axis=-1)
    return [value, in_p, in_q]


@pytest.mark.covering(2)
@pytest.mark.parametrize("separation", SEPARATIONS)
def test_kl_divergences_are_accurate(name, dtype, separation):
    """32u, near p = q and far apart; the gradients -∇²A(p)(q - p) and ∇A(q) - ∇A(p) likewise."""
    family, (p, q) = FAMILIES[name], parameters(name, separation, dtype)
    computed = both(kl_divergence, family, p, q)
    wide = {"bernoulli": 67, "categorical": 67}.get(name, 32) if abs(separation) > 10 else 32
    wanted = truths(textbook_kl, name)(p, q)
    for k, (got, truth, size) in enumerate(zip(computed, wanted, kl_magnitudes(name, p, q), strict=True)):
        assert off_truth(got, truth, size) <= wide, k


def in_pieces(function: Formula, family: Any, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """``both`` of many rows by the program for PAIRS rows, which the tests of accuracy have compiled."""
    pieces = [both(function, family, a[i : i + PAIRS], b[i : i + PAIRS]) for i in range(0, len(a), PAIRS)]
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


@pytest.mark.covering
def test_never_negative_and_zero_at_equality(name, dtype):
    family, u, count = FAMILIES[name], unit(dtype), 24 * PAIRS
    pairs = [(kl_divergence, naturals(name, dtype, count))]
    if name in WITH_DEVIANCE:
        pairs.append((deviance, observations(name, dtype, count)))
    for divergence, x in pairs:
        value, *gradients = in_pieces(divergence, family, x, x)
        np.testing.assert_array_equal(value, np.zeros(count, dtype))
        for gradient in gradients:
            np.testing.assert_array_equal(gradient, np.zeros_like(x))
        for step in (8 * u, 1e-3, 0.05):
            moved = (x * (1 + step * np.random.default_rng(2).uniform(-1, 1, x.shape))).astype(dtype)
            value = in_pieces(divergence, family, x, moved)[0]
            assert np.all(value >= 0)
            apart = (moved != x).reshape(count, -1).any(-1)
            if step >= 1e-3:
                assert np.all(value[apart] > 0)


def test_the_textbook_is_negative_near_equality():
    """The planted fault: what the test above would find in the definitions."""
    step = np.float32(1 + 2.0**-20 * np.random.default_rng(2).uniform(-1, 1, 501))
    for name in ("bernoulli", "negative binomial 0.7"):
        x, formula = observations(name, np.float32, 501), BOOKS[name].half_deviance
        assert formula is not None
        assert np.mean(np.asarray(formula(x * step, x)) < 0) > 0.1
    z = naturals("bernoulli", np.float32, 501)
    assert np.mean(np.asarray(textbook_kl("bernoulli", z, z * step)) < 0) > 0.1


def test_curvature_at_equality_is_the_fisher_information(name):
    """G7: KL ≈ ½ ⟨dz, ∇²A dz⟩ in either argument; the deviance ≈ (y - μ)²/V. Along a direction with Σ|v| = 1."""
    with jax.enable_x64(True):
        family, z = FAMILIES[name], naturals(name, np.float64, 5)
        variance = np.asarray(quick(family.variance)(z))
        scale = np.abs(variance).reshape(5, -1).max(axis=1).reshape(5, *[1] * (z.ndim - 1))
        with_deviance = name in WITH_DEVIANCE and name != "categorical"
        v = np.random.default_rng(6).uniform(-1, 1, z.shape) if z.ndim > 1 else np.ones(5)
        v /= np.abs(v).reshape(5, -1).sum(axis=1).reshape(scale.shape)

        def bent(divergence: Formula, at: Any) -> list[Any]:
            slopes = [
                jax.grad(lambda x: jnp.sum(divergence(family, x, at))),
                jax.grad(lambda x: jnp.sum(divergence(family, at, x))),
            ]
            return [jax.jvp(slope, (at,), (v,))[1] for slope in slopes]

        def measured(z: Any, m: Any) -> tuple[list[Any], list[Any]]:
            return bent(kl_divergence, z), bent(deviance, m) if with_deviance else []

        of_kl, of_deviance = quick(measured)(z, quick(family.mean)(z))
        wanted = np.einsum("bij,bj->bi", variance, v) if z.ndim > 1 else variance * v
        for product in of_kl:
            np.testing.assert_array_less(np.abs(product - wanted), 64 * 2.0**-53 * scale + 0 * wanted)
        for bend in of_deviance:
            np.testing.assert_allclose(bend, 2 / variance, rtol=64 * 2.0**-53)


OF_NUMBERS = ("bernoulli", "poisson", "negative binomial 3", "inverse gaussian")
"""Families of one number with rules of their own: -1 is a parameter, and ½ a mean, of all of them."""


def of_numbers(function: Formula) -> Formula:
    """A divergence of each of them, in one array."""
    return lambda a, b: jnp.stack([function(name, a, b) for name in OF_NUMBERS])


def second(which: str) -> tuple[str, Formula, Formula, tuple[Any, Any]]:
    """In which mode, of what, of which formula, and where: apart, as at equality not all of a second derivative is."""
    random = np.random.default_rng(8)
    of_kl = lambda name, p, q: kl_divergence(FAMILIES[name], p, q)  # noqa: E731
    of_deviance = lambda name, m, y: deviance(FAMILIES[name], m, y)  # noqa: E731
    if which == "deviances":
        args = random.uniform(0.2, 0.4, 3), random.uniform(0.5, 0.8, 3)
        return "reverse over reverse", of_numbers(of_deviance), of_numbers(textbook_deviance), args
    if which == "divergences":
        args = -random.uniform(0.5, 1, 3), -random.uniform(1.5, 2, 3)
        return "forward over reverse", of_numbers(of_kl), of_numbers(textbook_kl), args
    args = naturals("gaussian pair", np.float64, 3), naturals("gaussian pair", np.float64, 3, seed=4)
    ours, textbook = (functools.partial(f, "gaussian pair") for f in (of_kl, textbook_kl))
    return "reverse over forward", ours, textbook, args


@pytest.mark.parametrize("which", ["divergences", "deviances", "a divergence of pairs"])
def test_second_derivatives_are_those_of_the_textbook(which):
    with jax.enable_x64(True):
        assert_same_in(*second(which), first=1e-11, second=1e-10)


# --- certified -------------------------------------------------------------------------------------------------------


ACCURACY, MODES = ("rule", "value", "gradient"), ("modes", "edges")
OF_THEIR_OWN = ("bernoulli", "poisson", "negative binomial 3", "inverse gaussian", "gaussian pair")
"""Families that have a rule, or a divergence with one. The others are these with another parameter, or are made of
arithmetic alone."""


def certified(names: Iterable[str], standing: str) -> Any:
    """What is asked of whom; in the fast tier the modes of one, and the cotangents of all with rules of their own. That
    value and gradients are right and accurate is above, for all of them, in exact arithmetic. Of categorical
    divergences, ``softmax_kl_divergence``, not all is asked again here."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        ("name", "checks"),
        [pytest.param(name, ("cotangent",), marks=() if name in OF_THEIR_OWN else slow) for name in names]
        + [pytest.param(name, ACCURACY if name != "categorical" else ("rule",), marks=slow) for name in names]
        + [
            pytest.param(name, MODES, marks=() if name == standing else slow) for name in names if name != "categorical"
        ],
        ids=lambda x: x if isinstance(x, str) else x[0],
    )


@certified(BOOKS, standing="gaussian pair")
def test_the_loss_is_certified(name, checks):
    z, y = naturals(name, np.float32, 3), observations(name, np.float32, 3)
    assert_verified(lambda z, y: canonical_nll(FAMILIES[name], z, y), z, y, argnums=(0, 1), checks=checks)


@certified(BOOKS, standing="inverse gaussian")
def test_the_divergence_is_certified(name, checks):
    p, q = naturals(name, np.float32, 3), naturals(name, np.float32, 3, seed=4)
    assert_verified(lambda p, q: kl_divergence(FAMILIES[name], p, q), p, q, argnums=(0, 1), checks=checks)


@certified(WITH_DEVIANCE, standing="poisson")
def test_the_deviance_is_certified(name, checks):
    m = np.asarray(FAMILIES[name].mean(naturals(name, np.float32, 3)))
    y = observations(name, np.float32, 3)
    assert_verified(lambda m, y: deviance(FAMILIES[name], m, y), m, y, argnums=(0, 1), checks=checks)
