"""Sharded logits under plain ``jax.jit``, on automatic and explicit meshes: right, and never gathered."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import lossjax
from tests.support.compiled import collectives, text_of
from tests.support.quick import quick

ROWS = 6
LABELS = np.array([0, 5, 9, 15, 8, 7])
OF_A_ROW = 4
"""So many numbers of a row may cross at once."""


def soft(classes: int) -> np.ndarray:
    return np.random.default_rng(5).dirichlet(np.ones(classes), ROWS).astype(np.float32)


LOSSES: dict[str, Callable[[Any], Any]] = {
    "labels": lambda z: lossjax.softmax_cross_entropy_with_integer_labels(z, LABELS, reduction="sum"),
    "labels, options": lambda z: lossjax.softmax_cross_entropy_with_integer_labels(
        z, LABELS, label_smoothing=0.1, smoothing="others", z_loss=1e-3, ignore_index=9, temperature=2, reduction="mean"
    ),
    "distributions": lambda z: lossjax.softmax_cross_entropy(z, soft(z.shape[-1]), reduction="sum"),
    "focal": lambda z: lossjax.softmax_focal_loss(z, LABELS, reduction="sum"),
    "poly": lambda z: lossjax.poly_cross_entropy(z, LABELS, reduction="sum"),
    "Brier": lambda z: lossjax.softmax_brier_score(z, LABELS, reduction="sum"),
    "log-sum-exp": lambda z: jnp.sum(lossjax.logsumexp(z)),
    "log-softmax": lambda z: jnp.sum(lossjax.log_softmax(z) * soft(z.shape[-1])),
    "entropy": lambda z: jnp.sum(lossjax.softmax_entropy(z)),
}


def mesh(kind: AxisType) -> jax.sharding.Mesh:
    return jax.make_mesh((2,), ("devices",), axis_types=(kind,))


def on_mesh(z: np.ndarray, kind: AxisType, spec: Any) -> jax.Array:
    return jax.device_put(z, NamedSharding(mesh(kind), spec))


@pytest.mark.covering(2)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["automatic", "explicit"])
@pytest.mark.parametrize("spec", [P(None, "devices"), P("devices", None)], ids=["classes", "rows"])
@pytest.mark.parametrize("name", LOSSES)
def test_as_on_one_device(name: str, spec: Any, kind: AxisType, random: np.random.Generator) -> None:
    """Value and gradient, the gradient sharded as the logits are, nothing of the logits' size crossing."""
    loss = LOSSES[name]
    classes = 2560 if name in ("labels", "distributions", "log-sum-exp") else 386  # in many blocks, or in two
    z = np.float32(random.normal(size=(ROWS, classes)) * 3)
    value, gradient = quick(jax.value_and_grad(loss))(z)
    with jax.set_mesh(mesh(kind)):
        sharded = on_mesh(z, kind, spec)
        program = quick(jax.value_and_grad(loss)).lower(sharded).compile()
        got, got_gradient = program(sharded)
        moved = collectives(program.as_text() or "")
    u = 2.0**-24
    np.testing.assert_allclose(got, value, rtol=32 * u)
    np.testing.assert_allclose(got_gradient, gradient, rtol=32 * u, atol=32 * u * float(jnp.max(jnp.abs(gradient))))
    assert got_gradient.sharding.is_equivalent_to(sharded.sharding, 2)
    assert all(size <= ROWS * OF_A_ROW for _, size in moved), moved
    if spec[0] is not None:
        assert all(size <= 2 for _, size in moved), moved


def test_labels_that_an_explicit_mesh_splits(random: np.random.Generator) -> None:
    z = np.float32(random.normal(size=(2, ROWS, 34)))
    labels = np.stack([LABELS, LABELS[::-1]])
    want = lossjax.softmax_cross_entropy_with_integer_labels(z, labels)
    with jax.set_mesh(mesh(AxisType.Explicit)):
        spec = P(None, "devices")
        got = quick(lossjax.softmax_cross_entropy_with_integer_labels)(
            on_mesh(z, AxisType.Explicit, spec), on_mesh(labels, AxisType.Explicit, spec)
        )
    np.testing.assert_allclose(got, want, rtol=16 * 2.0**-24)


def test_a_gather_of_the_logits_would_be_seen(random: np.random.Generator) -> None:
    """What the test above is worth: a sort along the classes needs all of them on one device."""
    with jax.set_mesh(mesh(AxisType.Auto)):
        sharded = on_mesh(np.float32(random.normal(size=(ROWS, 34))), AxisType.Auto, P(None, "devices"))
        moved = collectives(text_of(lambda z: jnp.sum(jnp.sort(z, axis=-1) * jnp.arange(34.0)[None]), sharded))
    assert max(size for _, size in moved) >= ROWS * 17
