"""What the losses of logits take beside their arguments and gradient: no array of the logits' size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import lossjax

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

LOSSES: dict[str, Callable[..., Any]] = {
    "labels": lambda z, y, t: lossjax.softmax_cross_entropy_with_integer_labels(z, y),
    "labels, where": lambda z, y, t: lossjax.softmax_cross_entropy_with_integer_labels(z, y, where=ALL["where"]),
    "labels, all": lambda z, y, t: lossjax.softmax_cross_entropy_with_integer_labels(z, y, **ALL),
    "targets": lambda z, y, t: lossjax.softmax_cross_entropy(z, t),
    "targets, smoothed": lambda z, y, t: lossjax.softmax_cross_entropy(z, t, label_smoothing=0.1, z_loss=1e-4),
    "focal, labels": lambda z, y, t: lossjax.softmax_focal_loss(z, y),
    "focal, targets": lambda z, y, t: lossjax.softmax_focal_loss(z, t, class_weights=ALL["class_weights"]),
    "poly": lambda z, y, t: lossjax.poly_cross_entropy(z, y, logit_softcap=30.0),
    "generalized": lambda z, y, t: lossjax.generalized_cross_entropy(z, y, where=ALL["where"]),
    "brier, labels": lambda z, y, t: lossjax.softmax_brier_score(z, y, where=ALL["where"]),
    "brier, targets": lambda z, y, t: lossjax.softmax_brier_score(z, t),
    "entropy": lambda z, y, t: lossjax.softmax_entropy(z),
    "divergence of": lambda z, y, t: lossjax.softmax_kl_divergence(z, t),
    "divergence from": lambda z, y, t: lossjax.softmax_kl_divergence(t, z),
    "Jensen-Shannon": lambda z, y, t: lossjax.softmax_js_divergence(z, t),
}


def beside_the_gradient(loss: Callable[..., Any], dtype: str) -> float:
    """The temporary memory of value and gradient, in units of float32 logits."""
    z = jax.ShapeDtypeStruct((ROWS, CLASSES), dtype)
    step = jax.value_and_grad(lambda z, y, t: jnp.sum(loss(z, y, t)))
    analysis = jax.jit(step).lower(z, jax.ShapeDtypeStruct((ROWS,), jnp.int32), z).compile().memory_analysis()
    if analysis is None:
        pytest.skip("this backend does not say how much memory a program takes")
    return analysis.temp_size_in_bytes / (4 * ROWS * CLASSES)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", LOSSES)
def test_no_array_of_the_size_of_the_logits(name: str, dtype: str) -> None:
    """Sums over the classes are formed by pieces of an eighth or less of a row, at most three of them at a time."""
    assert beside_the_gradient(LOSSES[name], dtype) < 0.5


def test_an_array_of_the_size_of_the_logits_is_noticed() -> None:
    """Of soft targets, as they are usually written."""
    assert beside_the_gradient(lambda z, y, t: optax.softmax_cross_entropy(z, t), "float32") > 0.9
