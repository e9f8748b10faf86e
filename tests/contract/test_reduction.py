"""Masks, weights and means: a masked row counts for exactly nothing, whatever it holds.

That a mean over nothing is 0 is asked of every loss in ``test_edges.py``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lossjax
from lossjax._core.reduction import Reducer
from tests.support.quick import quick

ROWS, CLASSES = 5, 3
KEEP = np.array([True, False, True, True, False])
Masked = Callable[[jax.Array, jax.Array, jax.Array | None], jax.Array]


def _labels(z: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.arange(z.shape[0], dtype=jnp.int32) % CLASSES


def _by_label(reduction: str, **options: float) -> Masked:
    return lambda z, y, where: lossjax.softmax_cross_entropy_with_integer_labels(
        z, _labels(z, y), where=where, reduction=reduction, **options
    )


def _by_target(reduction: str, **options: float) -> Masked:
    return lambda z, y, where: lossjax.softmax_cross_entropy(z, y, where=where, reduction=reduction, **options)


def _entries(where: jax.Array | None) -> jax.Array | None:
    """The mask of rows as one of entries."""
    return None if where is None else jnp.broadcast_to(where[:, None], (where.shape[0], CLASSES))


def _sigmoid(reduction: str) -> Masked:
    return lambda z, y, where: lossjax.sigmoid_cross_entropy(z, y, where=_entries(where), reduction=reduction)


def _gaussian(reduction: str) -> Masked:
    return lambda z, y, where: lossjax.gaussian_nll(z, y, log_variance=y, where=_entries(where), reduction=reduction)


LOSSES: dict[str, Masked] = {
    "labels, mean": _by_label("mean"),
    "labels, options": _by_label("mean", label_smoothing=0.1, z_loss=0.01, logit_softcap=5.0, temperature=1.5),
    "targets, options": _by_target("mean", label_smoothing=0.1, z_loss=0.01, logit_softcap=5.0, temperature=1.5),
    "sigmoid, sum": _sigmoid("sum"),
    "gaussian, mean": _gaussian("mean"),
    "squared": lambda z, y, where: lossjax.mean_squared_error(z, y, where=_entries(where)),
    "squared, weights": lambda z, y, where: lossjax.mean_squared_error(
        z, y, where=_entries(where), weights=jnp.arange(1, z.size + 1, dtype=z.dtype).reshape(z.shape)
    ),
}  # fmt: skip
EVERY = pytest.mark.parametrize("name", LOSSES)


def _data(random: np.random.Generator, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    return random.normal(size=(ROWS, CLASSES)).astype(dtype), random.dirichlet(np.ones(CLASSES), ROWS).astype(dtype)


@EVERY
def test_what_a_masked_row_holds_is_not_felt(name: str, random: np.random.Generator) -> None:
    """Bitwise: value, both gradients and the Hessian are those of a harmless row; the masked part is exactly 0."""
    z, y = _data(random, np.float32)
    loss, where = LOSSES[name], jnp.asarray(KEEP)
    both = quick(lambda z, y: (jax.value_and_grad(loss, (0, 1))(z, y, where), jax.hessian(loss)(z, y, where)))
    want = both(jnp.asarray(z), jnp.asarray(y))
    for bad in (np.nan, np.inf, -np.inf, 3e38):
        z, y = (np.where(KEEP[:, None], a, np.float32(bad)) for a in (z, y))
        got = both(jnp.asarray(z), jnp.asarray(y))
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert np.isfinite(w).all()
            assert np.array_equal(g, w), f"rows of {bad} are felt"
        (_, (in_z, in_y)), hessian = got
        assert not np.any(in_z[~KEEP])
        assert not np.any(in_y[~KEEP])
        assert not np.any(hessian[~KEEP])
        assert not np.any(np.asarray(hessian)[:, :, ~KEEP])
        assert np.any(in_z[KEEP])


@EVERY
def test_masking_rows_is_removing_them(name: str, random: np.random.Generator) -> None:
    with jax.enable_x64(True):
        z, y = _data(random, np.float64)
        # Not the shorter array: labels and weights go by the row's index here. A mask of one row leaves that row.
        loss = quick(LOSSES[name])
        masked = loss(jnp.asarray(z), jnp.asarray(y), jnp.asarray(KEEP))
        singles = [
            loss(jnp.asarray(z), jnp.asarray(y), jnp.asarray(np.arange(ROWS) == i)) for i in np.flatnonzero(KEEP)
        ]
        weights = np.ones(3)
        if name == "squared, weights":
            weights = np.arange(1, z.size + 1).reshape(z.shape).sum(-1)[KEEP].astype(float)
        total = sum(float(s) * w for s, w in zip(singles, weights, strict=True))
        want = total if name.endswith("sum") else total / weights.sum()
        assert abs(float(masked) - want) <= 32 * 2.0**-53 * abs(want)


def test_a_mean_whose_weights_sum_to_0_is_0_with_zero_gradient(random: np.random.Generator) -> None:
    z, y = (jnp.asarray(a) for a in _data(random, np.float32))

    def by_class(z: jax.Array, weights: jax.Array) -> jax.Array:
        return lossjax.softmax_cross_entropy_with_integer_labels(
            z, jnp.zeros(ROWS, jnp.int32), class_weights=weights, reduction="mean"
        )

    def by_entry(z: jax.Array, weights: jax.Array) -> jax.Array:
        return lossjax.mean_squared_error(z, y, weights=weights)

    for loss, weights in ((by_class, jnp.float32([0, 1, 2])), (by_entry, jnp.zeros_like(z))):
        value, gradient = jax.value_and_grad(loss, (0, 1))(z, weights)
        assert value == 0
        assert not np.any(gradient[0])
        assert np.isfinite(gradient[1]).all()


def test_weights_divide_the_mean_by_their_counted_sum() -> None:
    losses, weights = jnp.float32([2, 6, jnp.nan]), jnp.float32([1, 3, 5])
    where = jnp.array([True, True, False])
    assert Reducer("mean", where)(losses, own_weights=weights) == 2
    assert Reducer("sum", where)(losses, own_weights=weights) == 8
    assert Reducer("mean", where)(losses) == 4
    assert np.array_equal(Reducer("none", where)(losses), [2, 6, 0])
    assert np.isnan(Reducer("mean")(losses)), "an unmasked NaN is not hidden"
    assert Reducer("mean")(losses[:2]) == 4


def test_a_mean_of_weights_has_the_true_gradient_in_them() -> None:
    """d/dw (Σ w l / Σ w) = (l - mean)/Σw."""
    losses, weights = jnp.float32([1, 2, 6]), jnp.float32([0.5, 1, 2])
    gradient = jax.grad(lambda w: Reducer("mean")(w * losses, own_weights=w))(weights)
    mean = np.sum(np.asarray(losses) * np.asarray(weights)) / 3.5
    assert np.allclose(gradient, (np.asarray(losses) - mean) / 3.5, rtol=8 * 2.0**-24, atol=0)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    st.lists(st.booleans(), min_size=7, max_size=7),
    st.lists(st.floats(-50, 50, width=32), min_size=7, max_size=7),
)
def test_a_mask_is_a_removal(keep: list[bool], losses: list[float]) -> None:
    kept = np.float64(losses)[keep]
    for how, want in (("sum", kept.sum()), ("mean", kept.mean() if kept.size else 0.0)):
        got = float(Reducer(how, jnp.array(keep))(jnp.float32(losses)))
        assert abs(got - want) <= 8 * 2.0**-24 * np.abs(kept).sum()


@pytest.mark.parametrize("where", [None, jnp.array([True, False, True, True, True])])
def test_a_mean_of_large_losses_is_one(where: jax.Array | None) -> None:
    """Their sum overflows, their mean does not; and no digit of a usual mean changes."""
    large, zeros = jnp.full(5, 1.5e19), jnp.zeros(5)
    value, slope = jax.value_and_grad(lossjax.squared_error)(large, zeros, where=where, reduction="mean")
    kept = 5 if where is None else 4
    np.testing.assert_allclose(value, 2.25e38, rtol=2.0**-22)
    np.testing.assert_allclose(jnp.max(slope), 3e19 / kept, rtol=2.0**-22)
    usual = jnp.float32([0.1, 0.7, -3.3, 5.1, 1e-3])
    assert lossjax.squared_error(usual, zeros, reduction="mean") == jnp.sum(usual * usual) / jnp.float32(5)
