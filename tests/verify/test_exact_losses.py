"""Losses in exact arithmetic, lossjax's and optax's, against the textbook formulas in balls: value and gradient."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lossjax.verify import oracle, ulp
from lossjax.verify._exact import exact
from lossjax.verify.ulp import Balls
from tests.support.cases import CASES, Case
from tests.support.quick import quick

EXACT = (
    "softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy", "sigmoid_cross_entropy", "softmax",
    "log_softmax", "logsumexp", "softmax_entropy", "self_information", "entropy", "cross_entropy", "squared_error",
    "mean_squared_error",
)  # fmt: skip
"""Closed forms with no constant but integers. Others hold a rounded log 2π, or a series that ends: off by roundoffs."""

DRAWN = [
    (case, family)
    for case in CASES
    if case.truth is not None
    for family in case.families
    if family.name in ("normal", "ties", "confident")
]


def gap(found: Balls, truth: Balls) -> float:
    """The largest distance between two arrays of narrow balls, 0 where they overlap."""
    assert found.shape == truth.shape
    largest = 0.0
    for a, b in zip(found.ravel(), truth.ravel(), strict=True):
        assert a.is_finite()
        assert float(a.rad() + b.rad()) <= 1e-60 * max(float(abs(b.mid())), 1)
        largest = max(largest, 0.0 if a.overlaps(b) else float((a - b).abs_upper()))
    return largest


def value_and_pullback(function: Callable[..., Any], argnums: tuple[int, ...]) -> Callable[..., Any]:
    def program(cotangent: jax.Array, *args: Any) -> tuple[jax.Array, ...]:
        def of_floats(*floats: jax.Array) -> jax.Array:
            return function(*(dict(enumerate(args)) | dict(zip(argnums, floats, strict=True))).values())

        value, pullback = jax.vjp(of_floats, *(args[i] for i in argnums))
        return value, *pullback(cotangent)

    return program


@pytest.mark.covering
@pytest.mark.parametrize(("case", "family"), DRAWN, ids=lambda x: x.name)
def test_losses_compute_their_formulas(case: Case, family: Any) -> None:
    """Exactly, where they are closed forms; else to the roundoffs that their constants and series are written for."""
    assert case.truth is not None
    args = case.draw(family, np.float32)
    shape = jax.eval_shape(case.loss, *args).shape
    cotangent = np.random.default_rng(1).uniform(0.5, 2, shape).astype(np.float32)
    results = exact(value_and_pullback(case.loss, case.argnums))(cotangent, *args)
    with oracle.precision():
        balls = [ulp.balls(a) if jnp.issubdtype(a.dtype, jnp.floating) else np.asarray(a) for a in args]
        truths = case.truth(ulp.balls(cotangent), *balls)
        for found, (truth, scale) in zip(results, truths, strict=True):
            size = np.max(ulp.relative_to(truth if scale is None else scale), initial=0)
            allowed = 0 if case.name in EXACT else 2 * 2.0**-24 * size
            assert gap(found, truth) <= allowed, case.name


def test_every_closed_form_was_tried() -> None:
    assert set(EXACT) <= {case.name for case, _ in DRAWN}


# --- optax ---------------------------------------------------------------------------------------------------------

_RANDOM = np.random.default_rng(5)
Z = (_RANDOM.normal(size=(6, 9)) * 8).astype(np.float32)
T = _RANDOM.dirichlet(np.ones(9), 6).astype(np.float32)
LABELS = np.argmax(Z, axis=1).astype(np.int32)


def truth_with_labels(z: Balls) -> tuple[Balls, ...]:
    return oracle.softmax_cross_entropy(z, oracle.one_hot(LABELS, 9))


def truth_of_kl(z: Balls, t: Balls) -> tuple[Balls, ...]:
    """``Σ t (log t - z)`` for log-probabilities z."""
    return oracle.total(oracle.xlogy(t, t) - t * z), -t


OPTAX: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...], Callable[..., tuple[Balls, ...]]]] = {
    "integer labels": (
        lambda z: optax.softmax_cross_entropy_with_integer_labels(z, LABELS), (Z,), truth_with_labels,
    ),
    "targets": (optax.softmax_cross_entropy, (Z, T), oracle.softmax_cross_entropy),
    "binary": (optax.sigmoid_binary_cross_entropy, (Z, T), oracle.sigmoid_cross_entropy),
    "kl": (optax.kl_divergence, (Z, T), truth_of_kl),
    "squared": (optax.squared_error, (Z, T), lambda z, t: ((z - t) * (z - t), 2 * (z - t))),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTAX)
def test_optax_computes_its_formulas(name: str) -> None:
    """In float32 they cancel; in exact arithmetic nothing is wrong with them."""
    loss, args, of = OPTAX[name]
    shape = jax.eval_shape(loss, *args).shape
    found = exact(value_and_pullback(loss, (0,)))(np.ones(shape, np.float32), *args)
    with oracle.precision():
        for result, truth in zip(found, of(*map(ulp.balls, args)), strict=True):
            assert gap(result, truth) == 0


RUN: dict[str, Callable[[jax.Array], jax.Array]] = {
    "log_cosh": lambda z: optax.log_cosh(z),
    "huber": lambda z: optax.huber_loss(z, delta=2.0),
    "hinge": lambda z: optax.hinge_loss(z, 1.0),
    "cosine": lambda z: optax.cosine_distance(z, jnp.asarray(T, z.dtype)),
    "focal": lambda z: optax.sigmoid_focal_loss(z, jnp.asarray(T > 0.1, z.dtype), alpha=0.3),
    "poly": lambda z: optax.losses.poly_loss_cross_entropy(z, jnp.asarray(T, z.dtype)),
    "perceptron": lambda z: optax.losses.multiclass_perceptron_loss(z, LABELS),
    "sparsemax": lambda z: optax.losses.multiclass_sparsemax_loss(z, LABELS),
    "ranking": lambda z: optax.losses.ranking_softmax_loss(z, jnp.asarray(T, z.dtype)),
    "ctc": lambda z: optax.ctc_loss(
        z.reshape(1, 6, 9),
        jnp.zeros((1, 6), z.dtype),
        jnp.asarray([[1, 2, 2, 0]]),
        jnp.asarray([[0.0, 0, 0, 1]], z.dtype),
    ),
}


@pytest.mark.parametrize("name", RUN)
def test_more_of_optax_runs(name: str) -> None:
    """Value and gradient agree with float64 to 1e-11 of the largest entry."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        program = jax.value_and_grad(lambda z: RUN[name](z).sum())
        z = jnp.asarray(Z / 8, jnp.float64)
        for found, computed in zip(exact(program)(z), quick(program)(z), strict=True):
            wide = np.vectorize(float, otypes=[float])(found)
            np.testing.assert_allclose(wide, computed, rtol=0, atol=1e-11 * max(1, float(jnp.abs(computed).max())))


def test_a_batch_of_a_thousand_classes_takes_seconds() -> None:
    """64 x 1000 at 256 bits takes half a second; ten are allowed for a busy machine."""
    z = np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32) * 10
    labels = np.argmax(z, axis=1)
    start = time.perf_counter()
    loss = exact(lambda z: optax.softmax_cross_entropy_with_integer_labels(z, labels))(z)
    gradient = exact(jax.grad(lambda z: optax.softmax_cross_entropy_with_integer_labels(z, labels).sum()))(z)
    assert time.perf_counter() - start < 10
    assert (loss.shape, gradient.shape) == ((64,), (64, 1000))
    with oracle.precision():
        assert all(row.sum().contains(0) for row in gradient)
