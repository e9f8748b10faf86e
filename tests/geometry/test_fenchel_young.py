"""One definition, many losses: predictions, identities with the losses we have, accuracy, and the certificate."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb

import lossjax
from lossjax.geometry import (
    BernoulliEntropy,
    BurgEntropy,
    Exponential,
    Mahalanobis,
    NegativeEntropy,
    SquaredEuclidean,
    Tsallis,
    bregman_divergence,
    project_to_simplex,
)
from lossjax.geometry.fenchel_young import entmax, fenchel_young_loss
from lossjax.verify import assert_verified, oracle, ulp
from tests.support.floats import unit
from tests.support.one_mode import assert_same_in
from tests.support.quick import quick

compiled_entmax = jax.jit(entmax, static_argnums=1)
RANDOM = np.random.default_rng(0)
SIMPLEX = {"shannon": NegativeEntropy(), "1.2": Tsallis(1.2), "1.5": Tsallis(1.5), "2": Tsallis(2.0)}
IN_TURN = ["shannon", "1.2", "1.5", pytest.param("2", marks=pytest.mark.slow)]
"""Of 2 the loss is the sparsemax loss that has a name, to which it is held below."""


def rows(dtype: Any, scale: float = 2.0, shape: tuple[int, ...] = (5, 7)) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and distributions as targets."""
    scores = (RANDOM.normal(size=shape) * scale).astype(dtype)
    return scores, RANDOM.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(dtype)


def exact_entmax(alpha: float, scores: np.ndarray) -> list[arb]:
    """By bisection, to 150 bits."""
    s = [(arb(alpha) - 1) * arb(float(z)) for z in scores]
    beta = 1 / (arb(alpha) - 1)
    low, high = max(s) - 1, max(s)
    for _ in range(150):
        middle = ((low + high) / 2).mid()
        total = sum(((x - middle) ** beta for x in s if x > middle), arb(0))
        low, high = (middle, high) if total > 1 else (low, middle)
    return [(x - low) ** beta if x > low else arb(0) for x in s]


@pytest.mark.parametrize("alpha", [1.05, 1.5, 2.0])
@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0), (5.0, -1e4), (40.0, 3)])
def test_entmax_is_accurate(alpha: float, scale: float, offset: float, dtype: Any) -> None:
    scores = rows(dtype, scale)[0] + dtype.type(offset)
    got = np.asarray(compiled_entmax(scores, alpha), np.float64)
    with oracle.precision(160):
        want = np.array([[float(p.mid()) for p in exact_entmax(alpha, row)] for row in scores])
    assert np.max(np.abs(got - want)) <= 16 / (alpha - 1) * unit(dtype)
    assert np.max(np.abs(got.sum(-1) - 1)) <= 8 * unit(dtype)


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_entmax_at_the_ends(dtype: Any) -> None:
    scores = rows(dtype)[0]
    np.testing.assert_allclose(compiled_entmax(scores, 2.0), project_to_simplex(scores), atol=16 * unit(dtype), rtol=0)
    seen = np.array([1.0, 0.5, -3.0], dtype)
    hidden, certain, *bad = compiled_entmax(
        np.array([[1, -np.inf, 0.5, -3], [0, 30, 0, 0], [np.nan, 0, 1, 0], [np.inf, 0, 1, 0]], dtype), 1.5
    )
    assert hidden[1] == 0
    np.testing.assert_allclose(np.delete(hidden, 1), compiled_entmax(seen, 1.5), atol=4 * unit(dtype))
    assert np.array_equal(certain, [0, 1, 0, 0])
    assert np.isnan(bad).all()
    many = np.asarray(compiled_entmax(np.zeros(50257, dtype), 1.5))
    np.testing.assert_allclose(many, 1 / 50257, rtol=64 * unit(dtype))
    near = compiled_entmax(scores, 1.001), lossjax.softmax(scores)
    np.testing.assert_allclose(*near, atol=4e-3)  # p^(1/(α-1)) → softmax at the rate α - 1


def predicted(generator: Any, scores: Any) -> Any:
    """∇Ω* of the scores."""
    return entmax(scores, generator.alpha) if isinstance(generator, Tsallis) else lossjax.softmax(scores)


@functools.partial(jax.jit, static_argnums=0)
def loss_and_slopes(generator: Any, scores: Any, targets: Any, weight: Any) -> Any:
    """The prediction, the losses, and the slopes of their weighted sum in the scores and in the targets."""
    total = lambda z, y: jnp.sum(weight * fenchel_young_loss(generator, z, y))  # noqa: E731
    loss = fenchel_young_loss(generator, scores, targets)
    return predicted(generator, scores), loss, jax.grad(total, (0, 1))(scores, targets)


@pytest.mark.parametrize("name", IN_TURN)
def test_the_gradient_is_prediction_less_target(name: str, dtype: Any) -> None:
    scores, targets = rows(dtype)
    generator = SIMPLEX[name]
    weight = RANDOM.normal(size=5).astype(dtype)
    prediction, loss, (pulled, _) = loss_and_slopes(generator, scores, targets, weight)
    np.testing.assert_allclose(pulled, weight[:, None] * (prediction - targets), atol=16 * unit(dtype), rtol=0)
    assert (np.asarray(loss) > 0).all()
    # the definition, Ω*(z) = <p, z> - Ω(p)
    conjugate = np.sum(prediction * scores, -1) - generator.value(prediction)
    direct = conjugate + generator.value(targets) - np.sum(scores * targets, -1)
    np.testing.assert_allclose(loss, direct, atol=64 * unit(dtype) * 10, rtol=0)


@pytest.mark.parametrize("name", IN_TURN)
def test_zero_exactly_where_the_prediction_is_the_target(name: str, dtype: Any) -> None:
    scores, targets = rows(dtype, 0.3)
    one = np.ones(5, dtype)
    prediction = np.asarray(loss_and_slopes(SIMPLEX[name], scores, targets, one)[0])
    # the same gradient at y = p, from both sides of the duality
    _, loss, (_, in_targets) = loss_and_slopes(SIMPLEX[name], scores, prediction, one)
    assert np.min(loss) >= 0
    assert np.max(loss) <= 64 * unit(dtype) ** 2
    assert np.max(np.abs(in_targets), where=prediction > 0, initial=0) <= 64 * unit(dtype)
    assert np.min(in_targets) >= -64 * unit(dtype)  # beside the support it is the multiplier


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_the_losses_we_have(dtype: Any) -> None:
    scores, targets = rows(dtype)
    labels = np.arange(5, dtype=np.int32)
    hot, binary = np.eye(7, dtype=dtype)[labels], np.round(targets)
    u = unit(dtype)

    @quick
    def pairs(scores: Any, targets: Any, hot: Any, binary: Any) -> list[tuple[Any, Any, float, float]]:
        """Two names of one loss, and the units of rounding by which they may differ: of 1, and of the loss."""
        loss, shannon = fenchel_young_loss, NegativeEntropy()
        soft = lossjax.softmax_cross_entropy(scores, targets) - lossjax.entropy(targets)
        sigmoid = jnp.sum(lossjax.sigmoid_cross_entropy(scores, binary), -1)
        squared = 0.5 * jnp.sum(lossjax.squared_error(scores, targets), -1)
        cross_entropy = lossjax.softmax_cross_entropy_with_integer_labels(scores, labels)
        return [
            (loss(shannon, scores, hot), cross_entropy, 0, 16),
            (loss(shannon, scores, targets), soft, 64, 0),
            (loss(Tsallis(2.0), scores, hot), lossjax.multiclass_sparsemax_loss(scores, labels), 16, 16),
            (loss(SquaredEuclidean(), scores, targets), squared, 0, 8),
            (loss(BernoulliEntropy(), scores, binary), sigmoid, 0, 16),
        ]

    for got, want, absolute, relative in pairs(scores, targets, hot, binary):
        np.testing.assert_allclose(got, want, atol=float(absolute) * u, rtol=float(relative) * u)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_other_generators_are_divergences_from_the_prediction(dtype: Any) -> None:
    scores, targets = np.exp(rows(dtype)[0]), rows(dtype)[1] + dtype.type(0.1)
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]], dtype)

    @quick
    def of(generator: Any, z: Any, y: Any) -> Any:
        at = generator.conjugate_gradient(z)
        slope = jax.grad(lambda z: jnp.sum(fenchel_young_loss(generator, z, y)))(z)
        return at, slope, fenchel_young_loss(generator, z, y), bregman_divergence(generator, y, at)

    for generator, z, y in (
        (BurgEntropy(), -scores, targets), (Exponential(), scores, targets),
        (Mahalanobis(matrix), scores[:, :2], targets[:, :2]),
    ):  # fmt: skip
        at, gradient, loss, divergence = of(generator, z, y)
        np.testing.assert_array_equal(loss, divergence)
        np.testing.assert_allclose(gradient, at - y, atol=64 * unit(dtype) * float(jnp.max(jnp.abs(at)) + 1))


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_an_object_with_value_and_conjugate(dtype: Any) -> None:
    class Quartic:
        """Σ x⁴/4, whose conjugate is ¾ Σ |θ|^(4/3)."""

        def value(self, x: Any) -> Any:
            return jnp.sum(x**4, -1) / 4

        def conjugate(self, theta: Any) -> Any:
            return 0.75 * jnp.sum(jnp.abs(theta) ** (4 / 3), -1)

    z, y = np.array([8.0, 1.0], dtype), np.array([1.0, 1.0], dtype)
    loss, gradient = jax.jit(jax.value_and_grad(lambda z: fenchel_young_loss(Quartic(), z, y)))(z)
    np.testing.assert_allclose(loss, 12 + 0.75 + 0.5 - 9, rtol=64 * unit(dtype))
    np.testing.assert_allclose(gradient, [1, 0], atol=64 * unit(dtype))


@pytest.mark.parametrize("name", IN_TURN)
@pytest.mark.parametrize("scale", [1e-2, 30.0])
def test_accuracy_against_exact_arithmetic(name: str, scale: float, dtype: Any) -> None:
    scores, targets = rows(dtype, scale)
    targets[0] = np.eye(7)[2]
    generator = SIMPLEX[name]
    got = np.asarray(loss_and_slopes(generator, scores, targets, np.ones(5, dtype))[1], np.float64)
    with oracle.precision(160):
        for k, (z, y) in enumerate(zip(ulp.balls(scores), ulp.balls(targets), strict=True)):
            if not isinstance(generator, Tsallis):
                lse = sum((x.exp() for x in z), arb(0)).log()
                mass = sum(y, arb(0))  # of a rounded y: the form that does not change with a constant added to z
                want = sum((b * (b.log() + lse - x) for x, b in zip(z, y, strict=True) if b != 0), arb(0)) - mass + 1
            else:
                alpha = arb(generator.alpha)
                p = exact_entmax(float(alpha), scores[k])
                level = max(x - a ** (alpha - 1) / (alpha - 1) for x, a in zip(z, p, strict=True) if a > 0)
                want = arb(0)
                for x, b, a in zip(z, y, p, strict=True):
                    want += (b**alpha - a**alpha) / (alpha * (alpha - 1)) - a ** (alpha - 1) * (b - a) / (alpha - 1)
                    want += b * max(level - x, arb(0)) if a == 0 else arb(0)
            size = float(abs(want).mid())
            absolute = 16 / (generator.alpha - 1) if isinstance(generator, Tsallis) else 0
            assert abs(got[k] - float(want.mid())) <= unit(dtype) * (33 * size + absolute), (k, got[k], want)


def certified(name: str) -> tuple[Any, Any, Any]:
    """A generator, scores and targets."""
    scores = np.float32(np.random.default_rng(1).normal(size=(2, 3)) * 2)
    targets = np.float32(np.random.default_rng(2).dirichlet(np.ones(3), 2))
    return {**SIMPLEX, "bernoulli": BernoulliEntropy(), "squared": SquaredEuclidean()}[name], scores, targets


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        *(pytest.param(name, "cotangent") for name in ("shannon", "1.5", "squared")),
        *(pytest.param(name, "rule", marks=pytest.mark.slow) for name in ("shannon", "1.5", "squared")),
        pytest.param("bernoulli", ("rule", "cotangent"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_certified(name: str, checks: Any) -> None:
    """One generator of each kind. (Binary entropies are a simplex of two a score.)

    The rule, that the gradient is prediction less target and the derivative of it, is above and below in floats.
    """
    generator, scores, targets = certified(name)
    loss = lambda z, y: fenchel_young_loss(generator, z, y)  # noqa: E731
    assert_verified(loss, scores, targets, argnums=(0, 1), checks=checks)


@pytest.mark.parametrize("checks", ["rule", pytest.param(("cotangent", "modes"), marks=pytest.mark.slow)], ids=str)
def test_the_prediction_is_certified(checks: Any) -> None:
    generator, scores, _ = certified("1.5")
    # Classes beside the support are where powers have no derivatives.
    assert np.any(np.asarray(compiled_entmax(scores[1:], generator.alpha)) == 0)
    assert_verified(lambda z: entmax(z, generator.alpha), scores[1:], checks=checks)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shannon", "squared"])
def test_certified_in_every_mode(name: str) -> None:
    """Every transformation, loops and second derivatives included. (Of Tsallis's loss in a loop see below.)"""
    generator, scores, targets = certified(name)
    loss = lambda z, y: fenchel_young_loss(generator, z, y)  # noqa: E731
    assert_verified(loss, scores, targets, argnums=(0, 1), checks="modes")


@pytest.mark.parametrize(("name", "mode"), [("shannon", "forward over reverse"), ("1.5", "reverse over reverse")])
def test_second_derivatives_are_those_of_the_definition(name: str, mode: str) -> None:
    """Ω(y) + Ω*(z) - <z, y>, with Ω*(z) = <p, z> - Ω(p) at the p of the definition, which JAX differentiates."""
    generator = SIMPLEX[name]

    def plain(z: Any, y: Any) -> Any:
        if name == "shannon":
            return jnp.sum(y * jnp.log(y) - y * z, axis=-1) + jax.nn.logsumexp(z, axis=-1) - jnp.sum(y, -1) + 1
        # Of 1.5 and full support: p = (z/2 - τ)², and τ the smaller root of Σp = 1.
        half, n = z / 2, z.shape[-1]
        middle = jnp.mean(half, axis=-1, keepdims=True)
        spread = jnp.mean((half - middle) ** 2, axis=-1, keepdims=True)
        p = (half - middle + jnp.sqrt(1 / n - spread)) ** 2
        entropy = lambda x: jnp.sum(x**1.5 - x, axis=-1) / 0.75  # noqa: E731
        return entropy(y) + jnp.sum(p * z, axis=-1) - entropy(p) - jnp.sum(z * y, axis=-1)

    with jax.enable_x64(True):
        random = np.random.default_rng(3)
        on_simplex = lambda loss: lambda z, u: loss(z, jax.nn.softmax(u))  # noqa: E731  # off it the two differ
        ours = on_simplex(lambda z, y: fenchel_young_loss(generator, z, y))
        assert_same_in(mode, ours, on_simplex(plain), tuple(0.2 * random.normal(size=(2, 2, 3))))


@pytest.mark.parametrize("alpha", [1.2, pytest.param(1.5, marks=pytest.mark.slow)])
def test_second_derivatives_in_a_loop_beside_the_support(alpha: float) -> None:
    """In a loop that it has linearised JAX drops the rule of the loss; that of the divergence alone, whose slope in an
    entry that stays 0 is -∞, must not be what is left.
    """
    z, y = np.float32([3.0, 0.5, -2.0]), np.float32([0.5, 0.25, 0.25])
    assert entmax(z, alpha)[2] == 0

    def loss(z: Any, y: Any) -> Any:
        return fenchel_young_loss(Tsallis(alpha), z, y)

    def looped(z: Any, y: Any) -> Any:
        return jnp.sum(jax.lax.scan(lambda carry, row: (carry, loss(*row)), 0, (z[None], y[None]))[1] ** 2)

    def along(f: Any) -> Any:
        return quick(jax.grad(lambda z, y: jnp.vdot(jax.grad(f, 1)(z, y), y) + jax.grad(f)(z, y)[0], (0, 1)))(z, y)

    for got, want in zip(along(looped), along(lambda z, y: loss(z, y) ** 2), strict=True):
        np.testing.assert_allclose(got, want, rtol=256 * 2.0**-24 / (alpha - 1), atol=256 * 2.0**-24)


def test_a_forgotten_multiplier_is_caught() -> None:
    """Without <λ, y> the loss of a target outside the support is too small: the planted fault."""
    z, y = np.float32([[4.0, 0.0, -1.0]]), np.float32([[0.0, 0.0, 1.0]])
    only_divergence = bregman_divergence(Tsallis(2.0), y, entmax(z, 2.0))
    assert float(fenchel_young_loss(Tsallis(2.0), z, y)[0]) - float(only_divergence[0]) == 4.0


def test_edges_and_errors() -> None:
    z, y = jnp.array([1.0, 2.0, 0.0]), jnp.array([0.5, 0.5, 0.0])
    narrow = z.astype(jnp.bfloat16), y.astype(jnp.bfloat16)
    of_each = lambda z, y: [jax.value_and_grad(lambda z: fenchel_young_loss(g, z, y))(z) for g in SIMPLEX.values()]  # noqa: E731, B023
    for value, gradient in quick(of_each)(z, -y):
        assert np.isnan(value)
        assert np.isnan(gradient).any()
    for generator in SIMPLEX.values():
        assert jax.eval_shape(lambda z, y, g=generator: fenchel_young_loss(g, z, y), *narrow).dtype == jnp.float32
    far = fenchel_young_loss(NegativeEntropy(), jnp.array([0.0, 400.0]), jnp.array([1.0, 0.0]))
    assert float(far) == 400.0  # p̂ has underflowed
    with pytest.raises(TypeError, match=r"generator must have value and conjugate.*NegativeEntropy\(\)"):
        fenchel_young_loss("entropy", z, y)
    with pytest.raises(ValueError, match=r"alpha must lie in \(1, 2\].*got 3"):
        fenchel_young_loss(Tsallis(3.0), z, y)
    with pytest.raises(ValueError, match="targets has shape"):
        fenchel_young_loss(NegativeEntropy(), z, y[:2])
    with pytest.raises(TypeError, match="scores must be floating-point"):
        entmax(jnp.arange(3))
    with pytest.raises(TypeError, match="alpha must be a Python number"):
        entmax(z, jnp.array(1.5))
    with pytest.raises(ValueError, match="positive and not 1"):
        entmax(z, 1.0)
