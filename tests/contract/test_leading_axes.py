"""Rows with several leading axes, such as [batch, time, classes], are the same rows."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.cases import CASES, OPTION_CASES, Case
from tests.support.draws import Family
from tests.support.quick import quick
from tests.support.transformations import cotangent_for, floats, moving

BATCH, TIME = 2, 3
LONG = {"float32": 28, "bfloat16": 200}
"""Numbers of classes from which on a CPU sums, compares and looks for the maximum of a row by pieces."""
MASK_OF_ENTRIES = "logsumexp", "mean"
"""How the names of cases begin whose mask is not one of results."""


def apart(array: np.ndarray) -> np.ndarray:
    """One leading axis as two."""
    return array.reshape(BATCH, TIME, *array.shape[1:]) if array.shape[:1] == (BATCH * TIME,) else array


def value_and_gradients(case: Case, args: list[np.ndarray], where: np.ndarray | None) -> list[np.ndarray]:
    """The loss, masked, and its gradients, with one leading axis again."""
    masked: dict[str, Any] = {} if where is None else {"where": jnp.asarray(where)}

    def everything(*args: jax.Array) -> list[jax.Array]:
        loss = functools.partial(case.loss, **masked)
        output, pullback = jax.vjp(moving(loss, args, case.argnums), *floats(args, case.argnums))
        return [output, *pullback(cotangent_for(output.reshape(-1)).reshape(output.shape))]

    return [np.asarray(x) for x in quick(everything)(*args)]


AS_OTHERS = (
    "labels, smoothing", "labels, smoothing over others", "labels, weights", "labels, z-loss", "labels, softcap",
    "labels, temperature", "labels, all", "targets, smoothing", "focal, gamma", "focal, targets", "poly, targets",
    "JS, mixture", "softmax_focal_loss", "poly_cross_entropy", "sigmoid_focal_loss", "sigmoid, pos_weight",
    "cosine_distance", "jeffreys_divergence", "token_log_probs", "multiclass_perceptron_loss", "preference.simpo_loss",
    "preference.cpo_loss", "preference.orpo_loss", "smooth_l1_loss", "pseudo_huber_loss", "laplace_nll", "hinge_loss",
    "perceptron_loss", "poisson, full",
)  # fmt: skip
"""Their steps are those of others: of focal labels and of targets with all options, of generalized targets, of JS; and
neighbours' in their files, or, entry by entry, without an axis."""


@pytest.mark.covering
@pytest.mark.parametrize("dtype", LONG)
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.name in AS_OTHERS else [])
        for case in (*CASES, *OPTION_CASES)
    ],
)
def test_two_leading_axes_are_as_one(case: Case, dtype: str) -> None:
    """With a mask of rows, where the loss has one, and rows that are long enough to be summed by pieces."""
    args = [np.asarray(a) for a in case.draw(Family("long", rows=BATCH * TIME, classes=LONG[dtype]), np.float32)]
    args = [a.astype(dtype) if i in case.argnums else a for i, a in enumerate(args)]
    shape = jax.eval_shape(case.loss, *args).shape or (BATCH * TIME,)
    shape = args[0].shape if case.name.startswith(MASK_OF_ENTRIES) else shape
    kept = np.arange(np.prod(shape)).reshape(shape) % 4 != 1
    options = inspect.signature(case.loss).parameters
    where = kept if {"where", "more"} & set(options) else None  # `bound` hides the names of options
    flat = value_and_gradients(case, args, where)
    cube = value_and_gradients(case, [apart(a) for a in args], None if where is None else apart(where))
    for got, want in zip(cube, flat, strict=True):
        assert got.size == want.size
        np.testing.assert_array_equal(got.reshape(want.shape), want)
