"""``lossjax.optax`` stands in for ``optax.losses``: the same names, signatures, dtypes and values on usual data."""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax.losses as theirs
import pytest

from lossjax import optax as ours
from tests.support.quick import quick

PUBLIC = [name for name in vars(theirs) if not name.startswith("_")]


# --- the same names, signatures, dtypes ------------------------------------------------------------------------------


def test_every_name_is_there() -> None:
    assert {*ours.OWN, *ours.REEXPORTED} == set(PUBLIC)
    assert set(PUBLIC) <= set(dir(ours))
    assert all(callable(getattr(ours, name)) for name in PUBLIC)
    assert all(getattr(ours, name) is getattr(theirs, name) for name in ours.REEXPORTED)
    assert all(getattr(ours, name).__module__ == "lossjax.optax" for name in ours.OWN)
    with pytest.raises(AttributeError, match="has 'nothing'"):
        _ = ours.nothing


@pytest.mark.parametrize("name", ours.OWN)
def test_same_signature(name: str) -> None:
    def shape(function: Callable[..., Any]) -> list[tuple[Any, ...]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert shape(getattr(ours, name)) == shape(getattr(theirs, name))
    assert inspect.getdoc(getattr(ours, name))


def draw(name: str, dtype: Any = np.float32, other: Any = np.float32, shape: tuple[int, ...] = (4, 5)) -> list[Any]:
    """Two arguments that suit the function."""
    random = np.random.default_rng(0)
    first = jnp.asarray(random.normal(size=shape) * 2, dtype)
    if name in ("hinge_loss", "perceptron_loss"):
        return [first, jnp.asarray(np.where(random.uniform(size=shape) < 0.5, -1, 1), other)]
    if name == "sparsemax_loss":
        return [first, jnp.asarray(random.integers(0, 2, shape))]
    if name.startswith("multiclass") or name.endswith("integer_labels"):
        return [first, jnp.asarray(random.integers(0, shape[-1], shape[:-1]))]
    if "softmax" in name or "poly" in name:
        return [first, jnp.asarray(random.dirichlet(np.ones(shape[-1]), shape[:-1]), other)]
    if "sigmoid" in name:
        return [first, jnp.asarray(random.uniform(size=shape), other)]
    if "kl" in name:
        q = random.dirichlet(np.ones(shape[-1]), shape[:-1])
        p = random.dirichlet(np.ones(shape[-1]), shape[:-1])
        return [jnp.asarray(np.log(q), dtype), jnp.asarray(np.log(p) if "log_targets" in name else p, other)]
    return [first, jnp.asarray(random.normal(size=shape), other)]


def call(library: Any, name: str, *args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(library, name)(*args, **options)


@pytest.mark.parametrize("name", ours.OWN)
def test_same_dtype(name: str) -> None:
    """Each dtype in either place: narrow beside itself, the other narrow one, a wide one; wide both; and integers."""
    narrow, other_narrow, wide = jnp.bfloat16, jnp.float16, jnp.float32
    pairs = (
        (narrow, narrow),
        (narrow, other_narrow),
        (narrow, wide),
        (wide, narrow),
        (wide, wide),
        (other_narrow, jnp.int32),
    )
    for dtype, other in pairs:
        args = draw(name, dtype, other)
        if other == jnp.int32 and (name == "poly_loss_cross_entropy" or "kl" in name or "cosine" in name):
            continue  # optax refuses these
        wanted, got = jax.eval_shape(lambda *a: [call(library, name, *a) for library in (theirs, ours)], *args)
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), (dtype, other)


AXES = [name for name in ours.OWN if "axis" in inspect.signature(getattr(theirs, name)).parameters]


def agree(name: str, args: list[Any], options: dict[str, Any]) -> None:
    """Value and gradients within what optax's own rounding explains in float64: 1e-12 of the largest entry.

    Where optax's gradient is NaN (in the targets under a mask) ours is finite.
    """

    def outcome(library: Any, *moved: Any) -> tuple[Any, ...]:
        floats = tuple(i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.floating))

        def total(*a: Any) -> tuple[jax.Array, jax.Array]:
            out = call(library, name, *a, **options)
            return jnp.sum(out * jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)), out

        (_, value), gradients = jax.value_and_grad(total, floats, has_aux=True)(*moved)
        return value, *gradients

    both = quick(lambda *moved: [outcome(library, *moved) for library in (ours, theirs)])(*args)
    for got, want in zip(*both, strict=True):
        assert got.shape == want.shape
        assert np.isfinite(got).all()
        compared = jnp.where(jnp.isnan(want), got, want)
        np.testing.assert_allclose(got, compared, rtol=0, atol=1e-12 * max(1.0, float(jnp.max(jnp.abs(compared)))))


@pytest.mark.parametrize("name", [n if n not in AXES else pytest.param(n, marks=pytest.mark.slow) for n in ours.OWN])
def test_same_values_and_gradients_on_ordinary_data(name: str) -> None:
    """(Of a function that has an axis the next test asks more.)"""
    with jax.enable_x64(True):
        agree(name, draw(name, np.float64, np.float64), {})


@pytest.mark.covering
@pytest.mark.parametrize("axis", [0, 1, (0, 2), None], ids=str)
@pytest.mark.parametrize("name", AXES)
def test_same_along_any_axis(name: str, axis: Any) -> None:
    labels = {"0": (4, 5), "1": (3, 5), "(0, 2)": (4,)}
    with jax.enable_x64(True):
        args = draw(name, np.float64, np.float64, shape=(3, 4, 5))
        if name.endswith("integer_labels"):
            if axis is None:
                pytest.skip("optax refuses it, and so do we")
            args[1] = jnp.arange(np.prod(labels[str(axis)])).reshape(labels[str(axis)]) % 3
        agree(name, args, {"axis": axis})


@pytest.mark.parametrize("name", [n for n in AXES if not n.endswith("integer_labels")])
def test_same_under_a_mask_of_entries(name: str) -> None:
    mask = jnp.asarray(np.random.default_rng(1).uniform(size=(4, 5)) < 0.7).at[:, 0].set(True)
    with jax.enable_x64(True):
        agree(name, draw(name, np.float64, np.float64), {"where": mask})


OUTWARD = {
    "softmax_cross_entropy_with_integer_labels": {}, "multiclass_hinge_loss": {}, "multiclass_perceptron_loss": {},
    "poly_loss_cross_entropy": {"epsilon": (2, 1)}, "huber_loss": {"delta": (4, 1)},
    "sigmoid_focal_loss": {"gamma": (4, 1), "alpha": (3,)}, "cosine_similarity": {"epsilon": (4, 1)},
    "cosine_distance": {"epsilon": (2, 1, 1)},
}  # fmt: skip
"""Functions whose labels, or array-valued options of these shapes, broadcast with the rows."""


@pytest.mark.parametrize("name", OUTWARD)
def test_labels_and_options_broadcast_as_optax_has_it(name: str) -> None:
    """Logits [2, 1, 3] with labels [1, 4] make [2, 4]; an option may be one number a row, or an entry."""
    with jax.enable_x64(True):
        first, second = draw(name, np.float64, np.float64, shape=(2, 4, 3))
        args = [first[:, :1], second[:1] % 3 if second.ndim == 2 else second]
        random = np.random.default_rng(1)
        options = {o: jnp.asarray(random.uniform(0.1, 0.9, shape)) for o, shape in OUTWARD[name].items()}
        agree(name, args, options)
        for option, value in options.items():

            def total(library: Any, x: jax.Array, option: str = option) -> jax.Array:
                return jnp.sum(call(library, name, *args, **{**options, option: x}))

            of_both = quick(
                lambda x, total=total: [jax.grad(functools.partial(total, each))(x) for each in (theirs, ours)]
            )
            wanted, got = of_both(value)
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * max(1.0, float(jnp.max(jnp.abs(wanted)))))


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "safe_softmax_cross_entropy"])
def test_labels_of_any_sign(name: str) -> None:
    """One-hot labels times an advantage: optax's loss is linear in its labels, and ours is with it."""
    with jax.enable_x64(True):
        z, t = draw(name, np.float64, np.float64)
        agree(name, [z, t - 0.3], {})


@pytest.mark.parametrize("v", [10.0, 20.0, 88.0, 89.0])
@pytest.mark.parametrize("name", ["kl_divergence", "kl_divergence_with_log_targets"])
def test_log_predictions_that_are_not_normalised(name: str, v: float) -> None:
    """Their mass may cancel everything else, or overflow: the value is Σ t (log t - a) all the same."""
    a, t = jnp.array([v, 0.0]), jnp.array([0.5, 0.5])
    args = (a, jnp.log(t) if "log_targets" in name else t)
    value, slopes = jax.value_and_grad(getattr(ours, name), (0, 1))(*args)
    np.testing.assert_allclose(value, -np.log(2) - v / 2, rtol=4 * 2.0**-24)
    np.testing.assert_allclose(slopes[0], -t)
    assert np.isfinite(slopes[1]).all()


def test_broadcasting_targets_as_optax_does() -> None:
    z = draw("squared_error")[0]
    targets = {
        "huber_loss": z[:1], "log_cosh": z[0], "hinge_loss": jnp.float32(1), "softmax_cross_entropy": jnp.eye(5)[2],
        "sigmoid_focal_loss": 1,
    }  # fmt: skip
    without = ("squared_error", "l2_loss", "huber_loss", "log_cosh")

    def every(library: Any) -> list[jax.Array]:
        with_targets = [call(library, name, z, target) for name, target in targets.items()]
        return [*with_targets, *(call(library, name, z) for name in without)]

    for got, want in zip(quick(lambda: every(ours))(), quick(lambda: every(theirs))(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
