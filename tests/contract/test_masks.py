"""A masked row counts for exactly nothing, whatever it holds: value, both gradients, and the Hessian, bit by bit.

A loss for each way that masks and options meet. Of every loss ``test_edges.py`` asks what a mask hides, and
``test_properties.py`` that a mask is a removal.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
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
    """Bitwise: value, both gradients and the Hessian are those of a harmless row; the masked part is exactly 0.

    Of the Hessian a product with a direction through all rows, and one with a direction through the masked rows alone.
    """
    z, y = _data(random, np.float32)
    loss, where = LOSSES[name], jnp.asarray(KEEP)
    along = np.cos(np.arange(z.size, dtype=z.dtype)).reshape(z.shape)
    directions = jnp.asarray(np.stack([along, np.where(KEEP[:, None], 0, along)]))

    def products(z: jax.Array, y: jax.Array) -> jax.Array:
        of = jax.vmap(lambda t: jax.jvp(lambda z: jax.grad(loss)(z, y, where), (z,), (t,))[1])
        return of(directions)

    both = quick(lambda z, y: (jax.value_and_grad(loss, (0, 1))(z, y, where), products(z, y)))
    want = both(jnp.asarray(z), jnp.asarray(y))
    for bad in (np.nan, np.inf, -np.inf, 3e38):
        z, y = (np.where(KEEP[:, None], a, np.float32(bad)) for a in (z, y))
        got = both(jnp.asarray(z), jnp.asarray(y))
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert np.isfinite(w).all()
            assert np.array_equal(g, w), f"rows of {bad} are felt"
        (_, (in_z, in_y)), hessian = got
        assert np.any(hessian[0])
        assert not np.any(in_z[~KEEP])
        assert not np.any(in_y[~KEEP])
        assert not np.any(hessian[:, ~KEEP])
        assert not np.any(hessian[1])
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
