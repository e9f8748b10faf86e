"""The softmax family's statistics: any pivot will do, and no entry is found by comparing logits."""

import math
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax._softmax import functions
from lossjax._softmax.row_statistics import row_statistics
from lossjax.verify import oracle, ulp

DTYPES = (np.float32, np.float64)


def logits(random: np.random.Generator, dtype: type, scale: float = 5.0) -> np.ndarray:
    return (random.normal(size=(13, 9)) * scale).astype(dtype)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pivot", [0, 4, 8])
def test_probabilities_do_not_depend_on_the_pivot(random: np.random.Generator, dtype: type, pivot: int) -> None:
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        z = logits(random, dtype)
        rows = row_statistics(jnp.asarray(z), jnp.full(13, pivot))
        truth = oracle.softmax(ulp.balls(z))
        assert ulp.in_roundoffs(functions.probabilities(jnp.asarray(z), rows), truth).max() <= 8
        hot = oracle.one_hot(np.full(13, pivot), 9)
        assert ulp.in_roundoffs(functions.p_minus_one_hot(jnp.asarray(z), rows), truth - hot).max() <= 8


@pytest.mark.covering
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0), (1, 0), (5, 1e4), (40, 0), (40, -1e4)])
def test_values_are_within_eight_roundings(
    random: np.random.Generator, dtype: type, scale: float, offset: float
) -> None:
    """What the docstrings of softmax and log_softmax promise, every entry."""
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        z = (random.normal(size=(13, 9)) * scale + offset).astype(dtype)
        truth = oracle.softmax(ulp.balls(z))
        assert ulp.in_roundoffs(lossjax.softmax(jnp.asarray(z)), truth).max() <= 8
        assert ulp.in_roundoffs(lossjax.log_softmax(jnp.asarray(z)), oracle.log(truth)).max() <= 8


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_a_rounding_off_cost_a_rounding(random: np.random.Generator, dtype: type) -> None:
    """A fusion may compute the logits twice: the statistics of a neighbouring float must still serve."""
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        z = logits(random, dtype)
        nearby = np.nextafter(z, np.asarray(np.inf, dtype))
        rows = row_statistics(jnp.asarray(nearby))
        assert not np.any(z.max(-1, keepdims=True) == np.asarray(rows.maximum))
        truth = oracle.softmax(ulp.balls(z))
        # each logit moved by at most 2u|z|, and so each exponent and the sum
        allowed = 8 + 4 * float(np.abs(z).max())
        assert ulp.in_roundoffs(functions.probabilities(jnp.asarray(z), rows), truth).max() <= allowed
        v = jnp.asarray(random.normal(size=z.shape).astype(dtype))
        assert bool(jnp.all(jnp.isfinite(functions.fisher_product(jnp.asarray(z), rows, v))))


@pytest.mark.covering
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.1, 5.0, 40.0])
def test_the_fisher_product_of_a_confident_row_does_not_cancel(
    random: np.random.Generator, dtype: type, scale: float
) -> None:
    """Against J(p) v in balls; the errors are measured against Σ p_k |v_j - v_k|, the terms that make an entry."""
    with jax.enable_x64(dtype == np.float64), oracle.precision():
        z, v = logits(random, dtype, scale), random.normal(size=(13, 9)).astype(dtype)
        p, exact = oracle.softmax(ulp.balls(z)), ulp.balls(v)
        truth = p * (exact - oracle.total(p * exact)[..., None])
        terms = p * oracle.total(abs(exact[..., :, None] - exact[..., None, :]) * p[..., None, :])
        # p: 8u; v measured from the pivot, the product, the sum of at most C - 1 terms, the difference: 4u more, and
        # the reference costs an entry that is not the pivot its own distance to it.
        reference = np.argmax(z, -1)[:, None]
        distance = p * abs(exact - np.take_along_axis(exact, reference, -1))
        rows = row_statistics(jnp.asarray(z))
        got = functions.fisher_product(jnp.asarray(z), rows, jnp.asarray(v))
        size = ulp.relative_to(terms) + ulp.relative_to(distance) * 2
        flushed = 9 * ulp.smallest_normal(dtype) * 2 * float(np.abs(v).max())  # probabilities flushed to zero
        assert ulp.in_roundoffs(got, truth, scale=size, negligible=flushed).max() <= 24


@pytest.mark.parametrize(
    "row", [[np.nan, 0.0, 1.0], [np.inf, np.inf, 0.0], [-np.inf, -np.inf, -np.inf]], ids=["nan", "two inf", "nothing"]
)
def test_undefined_rows_are_nan_and_only_they(row: list[float]) -> None:
    z = jnp.asarray([row, [1.0, 2.0, 3.0]])
    p = functions.softmax(z)
    assert bool(jnp.all(jnp.isnan(p[0])))
    assert bool(jnp.all(jnp.isfinite(p[1])))


def test_one_infinity_is_certain() -> None:
    z = jnp.asarray([[np.inf, 0.0, -np.inf]])
    np.testing.assert_array_equal(functions.softmax(z), [[1.0, 0.0, 0.0]])
    rows = row_statistics(z, jnp.asarray([1]))
    np.testing.assert_array_equal(functions.p_minus_one_hot(z, rows), [[1.0, -1.0, 0.0]])


MANY = 50257


@pytest.mark.covering
@pytest.mark.parametrize(("loss", "smoothing"), [
    (lambda z, t: lossjax.softmax_cross_entropy(z, t), 0.0),
    (lambda z, t: lossjax.softmax_cross_entropy(z, t, label_smoothing=0.125), 0.125),
    (lambda z, t: -jnp.vdot(lossjax.log_softmax(z), t), 0.0),
], ids=["soft targets", "smoothed", "log_softmax"])  # fmt: skip
def test_no_sum_over_the_classes_goes_from_one_to_the_next(
    loss: Callable[..., jax.Array], smoothing: float, dtype: np.dtype
) -> None:
    """Of many tied classes, with targets that XLA knows while it compiles: a running sum of them would be 180u off.

    The gradient (Σt) p - t is promised to 13u of its terms, and log₂(C)/2 more for a sum in pairs.
    """
    targets = np.full(MANY, 0.1 / MANY, dtype)
    targets[3] += 0.9
    constant = jnp.asarray(targets)
    gradient = np.asarray(jax.jit(jax.grad(lambda z: loss(z, constant)))(jnp.zeros(MANY, dtype)))
    mean, spread = sum(map(Fraction, targets.tolist())) / MANY, Fraction(smoothing)
    for entry in (0, 3):
        smoothed = (1 - spread) * Fraction(targets[entry].item()) + spread * mean
        off = abs(Fraction(gradient[entry].item()) - (mean - smoothed)) / (mean + smoothed)
        assert off <= (13 + math.log2(MANY) / 2) * float(np.finfo(dtype).eps) / 2
