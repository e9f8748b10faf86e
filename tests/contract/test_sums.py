"""No sum over classes is taken one after the other: not of constants, which XLA sums while compiling, nor of many."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax.verify.samples import bound, loss_of
from lossjax.verify.signatures import SIGNATURES
from tests.support.cases import CASE
from tests.support.quick import quick

CLASSES, MANY = 5003, 2**20 - 3


def argument(kind: str, classes: int, dtype: str) -> jax.Array:
    """All classes but one are alike, so that what is lost at each of them is lost on one side."""
    x = {"labels": [7], "tokens": [7], "listed classes": [[7, 11]], "listed probabilities": [[0.3, 0.4]]}.get(kind)
    if x is not None:
        return jnp.asarray(x, dtype if "probabilities" in kind else jnp.int32)
    logits = kind in ("logits", "other logits", "vectors")
    row = np.full((1, classes), 0.125 if kind == "vectors" else 0.0 if logits else 0.1 / classes)
    row[0, 3 if kind.startswith("other") else 7] += 0.9
    return jnp.asarray(row, dtype)


def everything(loss: Callable[..., jax.Array], argnums: tuple[int, ...], args: tuple[jax.Array, ...]) -> list[Any]:
    """The value and its gradients."""

    def of(*floats: jax.Array) -> jax.Array:
        given = dict(zip(argnums, floats, strict=True))
        return loss(*(given.get(i, a) for i, a in enumerate(args)))

    point = [args[i] for i in argnums]
    value, pullback = jax.vjp(of, *point)
    return [value, *pullback(jnp.ones_like(value))]


def assert_constants_change_nothing(name: str, loss: Callable[..., jax.Array]) -> None:
    """With constant arguments and with others, both within what each is promised to be off."""
    kinds, argnums = SIGNATURES[name].arguments, tuple(i for i in SIGNATURES[name].argnums if i < 2)
    with jax.enable_x64(True):
        args = tuple(argument(kind, CLASSES, "float64") for kind in kinds)
        known = quick(lambda: everything(loss, argnums, args))()
        later = quick(lambda args: everything(loss, argnums, args))(args)
    for got, want in zip(known, later, strict=True):
        np.testing.assert_allclose(got, want, rtol=2 * CASE[name].units * 2.0**-53, atol=0)


OF_ROWS = [
    name for name, signature in SIGNATURES.items() if signature.arguments[0] in ("logits", "probabilities", "vectors")
]


AS_OTHERS = (
    "token_log_probs", "log_softmax", "softmax_kl_divergence", "poly_cross_entropy", "generalized_cross_entropy",
    "multiclass_perceptron_loss", "jeffreys_divergence", "cosine_similarity",
    "softmax_cross_entropy_with_sparse_targets",
)  # fmt: skip
"""Their sums are those of another loss."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in AS_OTHERS else []) for n in OF_ROWS])
def test_constants_are_summed_as_other_numbers_are(name: str) -> None:
    assert_constants_change_nothing(name, bound(loss_of(name)))


def test_a_sum_that_is_computed_while_compiling_is_caught() -> None:
    def entropy(p: jax.Array) -> jax.Array:
        return jnp.sum(-p * jnp.log(p), axis=-1)

    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_constants_change_nothing("entropy", entropy)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_constant_losses_are_summed_as_other_numbers_are(reduction: str) -> None:
    with jax.enable_x64(True):
        errors = jnp.full(50257, 0.3)
        got = float(jax.jit(lambda: lossjax.squared_error(errors, errors * 0, reduction=reduction))())
    truth = math.fsum([0.3 * 0.3] * (50257 if reduction == "sum" else 1))
    assert abs(got - truth) <= 8 * 2.0**-53 * truth


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_million_classes(dtype: str) -> None:
    """Each within its own units: log C, 1/C, and what follows from them, as the program in float64 gives them."""
    names = ("softmax_cross_entropy", "softmax_entropy", "entropy", "cross_entropy")

    def run(rows: dict[str, tuple[jax.Array, ...]]) -> dict[str, list[Any]]:
        return {name: everything(loss_of(name), SIGNATURES[name].argnums, args) for name, args in rows.items()}

    rows = {name: tuple(argument(kind, MANY, dtype) for kind in SIGNATURES[name].arguments) for name in names}
    found = jax.jit(run)(rows)
    with jax.enable_x64(True):
        truth = jax.jit(run)(jax.tree.map(lambda x: x.astype(jnp.float64), rows))
    for name in names:
        for got, want in zip(found[name], truth[name], strict=True):
            unit = max(float(jnp.finfo(got.dtype).eps) / 2, 2.0**-24)
            np.testing.assert_allclose(np.asarray(got, float), want, rtol=CASE[name].units * unit, atol=0, err_msg=name)
