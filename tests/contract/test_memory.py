"""What the losses of logits take beside their arguments and gradient: no array of the logits' size."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lossjax
from tests.support.cases import CASES, Case
from tests.support.draws import Family
from tests.support.quick import quick

ROWS, CLASSES = 32, 8192

ALL: dict[str, Any] = {
    "label_smoothing": 0.1,
    "z_loss": 1e-4,
    "logit_softcap": 30.0,
    "temperature": 2.0,
    "class_weights": jnp.ones(CLASSES),
    "where": jnp.arange(ROWS) % 3 > 0,
    "weights": jnp.ones(ROWS),
    "reduction": "mean",
}

WEIGHTS = {"class_weights": ALL["class_weights"]}

LOSSES: dict[str, Callable[..., Any]] = {
    "softmax_cross_entropy_with_integer_labels": lambda loss, z, y, t: loss(z, y),
    "softmax_cross_entropy_with_integer_labels, where": lambda loss, z, y, t: loss(z, y, where=ALL["where"]),
    "softmax_cross_entropy_with_integer_labels, all": lambda loss, z, y, t: loss(z, y, **ALL),
    "softmax_cross_entropy": lambda loss, z, y, t: loss(z, t),
    "softmax_cross_entropy, smoothed": lambda loss, z, y, t: loss(z, t, label_smoothing=0.1, z_loss=1e-4),
    "softmax_cross_entropy, weights": lambda loss, z, y, t: loss(z, t, temperature=2.0, **WEIGHTS),
    "softmax_cross_entropy_with_sparse_targets": lambda loss, z, y, t: loss(z, y[..., None], t[..., :1]),
    "softmax_focal_loss": lambda loss, z, y, t: loss(z, y),
    "softmax_focal_loss, smoothed": lambda loss, z, y, t: loss(z, y, label_smoothing=0.1),
    "softmax_focal_loss, targets": lambda loss, z, y, t: loss(z, t, **WEIGHTS),
    "poly_cross_entropy": lambda loss, z, y, t: loss(z, y, logit_softcap=30.0),
    "poly_cross_entropy, smoothed": lambda loss, z, y, t: loss(z, y, label_smoothing=0.1),
    "generalized_cross_entropy": lambda loss, z, y, t: loss(z, y, where=ALL["where"]),
    "softmax_brier_score": lambda loss, z, y, t: loss(z, y, where=ALL["where"]),
    "softmax_brier_score, targets": lambda loss, z, y, t: loss(z, t),
    "softmax_entropy": lambda loss, z, y, t: loss(z),
    "softmax_kl_divergence": lambda loss, z, y, t: loss(z, t),
    "softmax_kl_divergence, of q": lambda loss, z, y, t: loss(t, z),
    "softmax_js_divergence": lambda loss, z, y, t: loss(z, t),
}
"""By its name, and what else it is given."""

WIDER = {"softmax_cross_entropy_with_sparse_targets"}
"""Of 16 bits their gradient is an array in float32 first, to which entries are added at the targets' places."""


def beside_the_gradient(loss: Callable[..., Any], dtype: str) -> float:
    """The temporary memory of value and gradient, in units of float32 logits."""
    z = jax.ShapeDtypeStruct((ROWS, CLASSES), dtype)
    step = jax.value_and_grad(lambda z, y, t: jnp.sum(loss(z, y, t)))
    analysis = quick(step).lower(z, jax.ShapeDtypeStruct((ROWS,), jnp.int32), z).compile().memory_analysis()
    if analysis is None:
        pytest.skip("this backend does not say how much memory a program takes")
    return analysis.temp_size_in_bytes / (4 * ROWS * CLASSES)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", LOSSES)
def test_no_array_of_the_size_of_the_logits(name: str, dtype: str) -> None:
    """Sums over the classes are formed by pieces of an eighth or less of a row, at most three of them at a time."""
    loss = getattr(lossjax, name.partition(",")[0])
    allowed = 1.5 if dtype == "bfloat16" and name in WIDER else 0.5
    assert beside_the_gradient(functools.partial(LOSSES[name], loss), dtype) < allowed


def test_every_softmax_loss_is_asked() -> None:
    losses = {name for name in lossjax.__all__ if name.startswith("softmax_")}
    losses -= {"softmax_cross_entropy_hvp"}  # its answer is as large as the logits
    assert {name.partition(",")[0] for name in LOSSES} >= losses


def test_an_array_of_the_size_of_the_logits_is_noticed() -> None:
    """Of soft targets, as they are usually written."""
    assert beside_the_gradient(lambda z, y, t: optax.softmax_cross_entropy(z, t), "float32") > 0.9


@pytest.mark.parametrize(("name", "dtype", "allowed"), [
    ("softmax", "float32", 0.5), ("log_softmax", "float32", 0.5), ("logsumexp", "float32", 0.5),
    ("softmax", "bfloat16", 1.5), ("log_softmax", "bfloat16", 1.5), ("logsumexp", "bfloat16", 0.5),
])  # fmt: skip
def test_nor_beside_the_gradient_of_a_function(name: str, dtype: str, allowed: float) -> None:
    """By any cotangent. In 16 bits the exponentials that the value is made of are one array, in float32."""

    def value_and_pullback(z: jax.Array, cotangent: jax.Array) -> Any:
        value, pullback = jax.vjp(getattr(lossjax, name), z)
        return value, pullback(cotangent)

    z = jax.ShapeDtypeStruct((ROWS, CLASSES), dtype)
    of_value = jax.eval_shape(getattr(lossjax, name), z)
    analysis = quick(value_and_pullback).lower(z, of_value).compile().memory_analysis()
    if analysis is None:
        pytest.skip("this backend does not say how much memory a program takes")
    assert analysis.temp_size_in_bytes / (4 * ROWS * CLASSES) < allowed


NUMBERS = 8192
"""A multiple of a vector's width."""

STORED = {
    "self_information": 2,
    "smooth_l1_loss": 2,
    "pseudo_huber_loss": 4,
    "policy.sampled_kl": 3,
    "preference.kto_loss": 2,
    "preference.orpo_loss": 5,
}
"""Losses of single numbers of whose mean more than the losses themselves is stored, and how many arrays."""


def is_of_numbers(case: Case) -> bool:
    """Whether each entry has a loss of its own."""
    arguments = case.draw(Family("shapes", rows=3, classes=2), np.float32)
    alone = jax.eval_shape(case.loss, *arguments).shape == arguments[0].shape
    return alone and not case.name.endswith("softmax")


def of_a_mean(case: Case, family: Family) -> float:
    """The temporary memory of the mean of a loss, in units of the array of the losses."""
    arguments = case.draw(family, np.float32)
    size = jax.eval_shape(case.loss, *arguments).size
    program = quick(lambda *arguments: jnp.mean(case.loss(*arguments)))
    analysis = program.lower(*arguments).compile().memory_analysis()
    if analysis is None:
        pytest.skip("this backend does not say how much memory a program takes")
    return analysis.temp_size_in_bytes / (4 * size)


@pytest.mark.parametrize("case", list(filter(is_of_numbers, CASES)), ids=lambda case: case.name)
def test_the_mean_of_losses_of_numbers_stores_the_losses(case: Case) -> None:
    """XLA's CPU backend sums what is stored. Arithmetic that ends in a sum it would store operand by operand."""
    assert of_a_mean(case, Family("numbers", rows=NUMBERS, classes=2)) < STORED.get(case.name, 1) + 0.1


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name.endswith(("labels", "softmax_focal_loss"))], ids=lambda case: case.name
)
def test_the_mean_of_short_rows_stores_few_numbers_a_row(case: Case) -> None:
    """The maximum, the label's logit, the sum, whether the row is defined, and the loss."""
    assert of_a_mean(case, Family("rows", rows=NUMBERS, classes=10)) < 5


@pytest.mark.parametrize(("loss", "numbers"), [("softmax_kl_divergence", 30), ("softmax_js_divergence", 45)])
def test_the_gradient_of_a_divergence_of_short_rows_stores_few_numbers_a_row(loss: str, numbers: int) -> None:
    """KL: what is known of the rows, 26 numbers, and less than optax stores of 10 classes. JS: a gradient beside it."""

    def usual(u: jax.Array, v: jax.Array) -> jax.Array:
        return optax.losses.kl_divergence_with_log_targets(jax.nn.log_softmax(v), jax.nn.log_softmax(u))

    z = jax.ShapeDtypeStruct((NUMBERS, 10), "float32")

    def stored(loss: Callable[..., Any]) -> float:
        step = jax.value_and_grad(lambda u, v: jnp.mean(loss(u, v)))
        analysis = quick(step).lower(z, z).compile().memory_analysis()
        if analysis is None:
            pytest.skip("this backend does not say how much memory a program takes")
        return analysis.temp_size_in_bytes / (4 * NUMBERS)

    assert stored(getattr(lossjax, loss)) < numbers
    assert stored(usual) > 30
