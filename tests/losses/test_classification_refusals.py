"""What the cross-entropies refuse, by name and with the remedy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax import sigmoid_cross_entropy, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from tests.support.quick import quick

LABEL, TARGET, BINARY = softmax_cross_entropy_with_integer_labels, softmax_cross_entropy, sigmoid_cross_entropy
Z = jnp.float32([[1, 2, 4], [0, -1, 3]])
T = jnp.float32([[0.5, 0.5, 0], [0, 0.25, 0.75]])
LABELS = jnp.int32([0, 2])

SHARED_REFUSALS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "smoothing below 0": ({"label_smoothing": -0.1}, ValueError, "label_smoothing must be at least 0, got -0.1"),
    "smoothing above 1": ({"label_smoothing": 1.1}, ValueError, "label_smoothing must be at most 1.*, got 1.1"),
    "smoothing NaN": ({"label_smoothing": float("nan")}, ValueError, "label_smoothing .* nan"),
    "unknown smoothing": ({"smoothing": "all"}, ValueError, "smoothing must be 'uniform' .* 'others' .* got 'all'"),
    "temperature 0": ({"temperature": 0.0}, ValueError, "temperature must be greater than 0, got 0.0"),
    "temperature below 0": ({"temperature": -2}, ValueError, "temperature must be greater than 0, got -2.0"),
    "softcap 0": ({"logit_softcap": 0.0}, ValueError, "logit_softcap must be greater than 0"),
    "softcap below 0": ({"logit_softcap": -30.0}, ValueError, "logit_softcap must be greater than 0"),
    "z-loss below 0": ({"z_loss": -1e-4}, ValueError, "z_loss must be at least 0, got -0.0001"),
    "weights below 0": (
        {"class_weights": np.float32([1, -1, 1])}, ValueError, "class_weights must be at least 0, got .*-1.0",
    ),
    "too few weights": (
        {"class_weights": np.float32([1, 1])}, ValueError, r"class_weights has shape \(2,\), wanted \(3,\)",
    ),
    "integer weights": (
        {"class_weights": np.int32([1, 1, 1])}, TypeError, r"class_weights must be floating-point, got int32\[3\]",
    ),
    "a mask of integers": (
        {"where": np.int32([1, 0])}, TypeError, "where must be boolean .* got int32; write where != 0",
    ),
    "a mask of entries": ({"where": np.ones((2, 3), bool)}, ValueError, r"where has shape \(2, 3\), wanted \(2,\)"),
    "unknown reduction": (
        {"reduction": "batchmean"}, ValueError, "reduction must be one of 'none', 'sum', 'mean', got 'batchmean'",
    ),
    "axis beyond": ({"axis": 2}, ValueError, "axis=2 does not exist among 2 dimensions"),
    "axis twice": ({"axis": (0, 0)}, ValueError, r"axis=\(0, 0\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHARED_REFUSALS)
@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
def test_an_option_out_of_its_range_is_refused(name: str, jitted: bool) -> None:
    options, error, message = SHARED_REFUSALS[name]
    for loss, second in ((LABEL, LABELS), (TARGET, T)):

        def call(z: jax.Array, loss: Callable[..., jax.Array] = loss, second: jax.Array = second) -> jax.Array:
            return loss(z, second, **options)

        with pytest.raises(error, match=message):
            (quick(call) if jitted else call)(Z)


ARGUMENT_REFUSALS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "float labels": (
        lambda: LABEL(Z, jnp.float32([0, 1])),
        TypeError, r"labels must be integer class indices, got float32\[2\]; .*softmax_cross_entropy",
    ),
    "boolean labels": (lambda: LABEL(Z, jnp.array([True, False])), TypeError, r"labels must be integer .* bool\[2\]"),
    "one-hot labels": (
        lambda: LABEL(Z, jnp.int32([[1, 0, 0], [0, 0, 1]])), ValueError, r"labels has shape \(2, 3\), wanted \(2,\)",
    ),
    "a column of labels": (lambda: LABEL(Z, LABELS[:, None]), ValueError, r"labels has shape \(2, 1\), wanted \(2,\)"),
    "integer logits": (
        lambda: LABEL(Z.astype(jnp.int32), LABELS),
        TypeError, r"logits must be floating-point, got int32\[2, 3\]; .*astype",
    ),
    "integer logits, targets": (lambda: TARGET(Z.astype(jnp.int32), T), TypeError, r"logits must be floating-point"),
    "integer logits, binary": (lambda: BINARY(Z.astype(jnp.int32), T), TypeError, r"logits must be floating-point"),
    "boolean logits": (lambda: LABEL(Z > 0, LABELS), TypeError, r"logits must be floating-point, got bool\[2, 3\]"),
    "integer targets": (
        lambda: TARGET(Z, LABELS),
        TypeError, "targets must be floating-point, .*softmax_cross_entropy_with_integer_labels",
    ),
    "boolean targets": (
        lambda: BINARY(Z, Z > 0), TypeError, r"targets must be floating-point, got bool\[2, 3\]; .*astype",
    ),
    "other targets": (lambda: TARGET(Z, T[:1]), ValueError, r"targets has shape \(1, 3\), wanted \(2, 3\)"),
    "other targets, binary": (lambda: BINARY(Z, T[0]), ValueError, r"targets has shape \(3,\), wanted \(2, 3\)"),
    "no class": (
        lambda: LABEL(jnp.zeros((2, 0)), LABELS), ValueError, r"logits has shape \(2, 0\) with no class along -1",
    ),
    "no class, targets": (lambda: TARGET(jnp.zeros((2, 0)), jnp.zeros((2, 0))), ValueError, "no class"),
    "a scalar": (lambda: LABEL(jnp.float32(1), jnp.int32(0)), ValueError, "logits is a scalar"),
    "a negative positive weight": (lambda: BINARY(Z, T, pos_weight=-1.0), ValueError, "pos_weight must be at least 0"),
    "a positive weight that does not fit": (
        lambda: BINARY(Z, T, pos_weight=np.ones(2, np.float32)), ValueError, r"pos_weight has shape \(2,\)",
    ),
    "binary smoothing": (lambda: BINARY(Z, T, label_smoothing=2), ValueError, "label_smoothing must be at most 1, got"),
    "binary reduction": (
        lambda: BINARY(Z, T, reduction="avg"), ValueError, "reduction must be one of",
    ),
    "binary mask": (
        lambda: BINARY(Z, T, where=np.ones(2, bool)), ValueError, r"where has shape \(2,\), wanted \(2, 3\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENT_REFUSALS)
def test_an_argument_that_does_not_fit_is_refused(name: str) -> None:
    call, error, message = ARGUMENT_REFUSALS[name]
    with pytest.raises(error, match=message):
        call()
