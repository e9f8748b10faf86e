"""A reduced loss is the same, on a platform whose kernel forms the gradient in the forward pass and on the others."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax._softmax import options as softmax_options
from lossjax._softmax import reduced
from tests.support.quick import quick

LABELS = lossjax.softmax_cross_entropy_with_integer_labels
TARGETS = lossjax.softmax_cross_entropy
ROWS, CLASSES = 9, 37

Arrays = dict[str, Any]


@pytest.fixture(scope="module", params=["elsewhere", "on a TPU"])
def platform(request: pytest.FixtureRequest) -> Iterator[str]:
    """A CPU takes the formulas for a TPU, in which the formula stands in the kernel's place.

    Of the whole module: what was traced for the other platform has to be forgotten, and that is dear.
    """

    def for_tpu(*arguments: Any, otherwise: Callable[..., Any], tpu: Callable[..., Any]) -> Any:
        return tpu(*arguments)

    if request.param == "elsewhere":
        yield "elsewhere"
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reduced, "by_platform", for_tpu)
        jax.clear_caches()
        yield "on a TPU"
    jax.clear_caches()


def given(random: np.random.Generator, dtype: str = "float32") -> Arrays:
    """Arguments with a NaN in every row that is masked, weights of both signs, and a number for every option."""
    z = random.normal(size=(ROWS, CLASSES)) * np.geomspace(0.1, 30, ROWS)[:, None]
    where = np.arange(ROWS) % 4 != 1
    z[~where] = np.nan
    return {
        "logits": jnp.asarray(z, dtype),
        "where": jnp.asarray(where),
        "weights": jnp.asarray(random.normal(size=ROWS), jnp.float32),
        "normalizer": jnp.float32(3.7),
        "class_weights": jnp.asarray(random.uniform(0.5, 2, CLASSES), jnp.float32),
        "label_smoothing": jnp.float32(0.1),
        "z_loss": jnp.float32(1e-3),
        "logit_softcap": jnp.float32(20),
        "temperature": jnp.float32(1.3),
    }


def labels_of(random: np.random.Generator) -> jax.Array:
    return jnp.asarray(random.integers(0, CLASSES, ROWS), jnp.int32)


def targets_of(random: np.random.Generator, dtype: str = "float32") -> jax.Array:
    return jnp.asarray(random.dirichlet(np.ones(CLASSES), ROWS), dtype)


PLAIN = ("logits", "where", "weights")
ALL = tuple(given(np.random.default_rng()))


def loss_of(second: jax.Array, reduction: str) -> Callable[[Arrays], jax.Array]:
    """Of a dictionary of arguments, times a number, as losses often are."""
    loss: Any = LABELS if jnp.issubdtype(second.dtype, jnp.integer) else TARGETS

    def scaled(arguments: Arrays) -> jax.Array:
        filled = dict(arguments)
        logits, targets = filled.pop("logits"), filled.pop("targets", second)
        return -2.5 * loss(logits, targets, reduction=reduction, **filled)

    return scaled


def row_by_row(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], *arguments: Any) -> Any:
    """The same by the rule of the losses of rows, which every other test is about."""
    with monkeypatch.context() as other:
        other.setattr(softmax_options, "has_a_kernel", lambda *_: False)
        return quick(lambda *arguments: function(*arguments))(*arguments)


def assert_close(found: Any, wanted: Any, dtype: str = "float32") -> None:
    """Within a few roundings of the largest entry."""
    u = 2.0**-24 if dtype == "float32" else 2.0**-8

    def check(path: Any, ours: jax.Array, right: jax.Array) -> None:
        wide = np.asarray(right, np.float64)
        atol = 16 * u * np.max(np.abs(wide), initial=0)
        np.testing.assert_allclose(np.asarray(ours, np.float64), wide, rtol=0, atol=atol, err_msg=str(path))

    jax.tree_util.tree_map_with_path(check, found, wanted)


@pytest.mark.covering(2)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [PLAIN, ALL], ids=["plain", "all"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("kind", ["labels", "distributions"])
def test_value_and_all_gradients(
    kind: str, reduction: str, options: tuple[str, ...], dtype: str, platform: str,
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    arguments = {name: x for name, x in given(random, dtype).items() if name in options}
    second = labels_of(random) if kind == "labels" else targets_of(random, dtype)
    loss = loss_of(second, reduction)
    if kind == "distributions":
        arguments["targets"] = second
    where = arguments.pop("where")

    def both(moved: Arrays) -> Any:
        return jax.value_and_grad(lambda moved: loss(moved | {"where": where}))(moved)

    found = quick(both)(arguments)
    assert_close(found, row_by_row(monkeypatch, both, arguments), dtype)
    assert all(np.all(np.isfinite(np.asarray(one, np.float32))) for one in jax.tree.leaves(found))


SECOND = [
    pytest.param("elsewhere", "labels", "forward over reverse"),
    pytest.param("elsewhere", "distributions", "reverse over reverse", marks=pytest.mark.slow),
    pytest.param("on a TPU", "labels", "reverse over forward"),
    pytest.param("on a TPU", "distributions", "reverse over reverse"),
]
"""Labels and distributions have one rule: each of them meets another way to its second derivatives. Forward over
reverse is asked of a loop on both platforms, below."""


def second_derivative(loss: Callable[[Arrays], jax.Array], moved: Arrays, along: Arrays, mode: str) -> Any:
    """With what has been found on the way to it."""
    if mode == "forward over reverse":
        return jax.jvp(jax.grad(loss), (moved,), (along,))
    if mode == "reverse over reverse":
        return jax.vjp(jax.grad(loss), moved)[1](along)[0]
    return jax.value_and_grad(lambda moved: jax.jvp(loss, (moved,), (along,))[1])(moved)


@pytest.mark.parametrize(("platform", "kind", "mode"), SECOND, indirect=["platform"])
def test_second_derivatives_in_all_arguments(
    kind: str, mode: str, platform: str, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mixed ones too: the logits' gradient and the others' come of two rules, each of which feels both."""
    arguments = given(random)
    where = arguments.pop("where")
    second = labels_of(random) if kind == "labels" else targets_of(random)
    if kind == "distributions":
        arguments["targets"] = second
    along = {name: jnp.asarray(random.normal(size=x.shape), x.dtype) for name, x in arguments.items()}
    loss = loss_of(second, "mean")

    def derivative(moved: Arrays, along: Arrays) -> Any:
        return second_derivative(lambda moved: loss(moved | {"where": where}), moved, along, mode)

    assert_close(quick(derivative)(arguments, along), row_by_row(monkeypatch, derivative, arguments, along))


def test_transformations(platform: str, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    z = jnp.asarray(random.normal(size=(4, ROWS, CLASSES)), jnp.float32)
    labels = jnp.asarray(random.integers(0, CLASSES, (4, ROWS)), jnp.int32)
    temperatures = jnp.linspace(0.5, 2, 4)

    def loss(z: jax.Array, labels: jax.Array, temperature: Any = 1.0) -> jax.Array:
        return LABELS(z, labels, temperature=temperature, reduction="mean")

    def in_a_loop(z: jax.Array, temperature: Any = 1.0) -> jax.Array:
        def add(total: jax.Array, one: Any) -> Any:
            return total + loss(*one, temperature) ** 2, None

        return jax.lax.scan(add, jnp.float32(0), (z, labels))[0]

    def transformed(z: jax.Array) -> Any:
        gradient, at = jax.grad(loss), (z, jnp.float32(1.3))
        found = {
            "of a number": jax.vmap(gradient)(z, labels, temperatures),
            "gradient and Hessian of a loop": jax.jvp(jax.grad(in_a_loop), (z,), (z,)),
            "and in a number": jax.jvp(jax.grad(in_a_loop, 1), at, (z, jnp.float32(1))),
        }
        if platform == "elsewhere":  # where it is a rule like any other
            return found
        return found | {
            "vmap": jax.vmap(gradient)(z, labels),
            "of the labels alone, then of the logits": jax.vmap(jax.vmap(gradient, (None, 0)), (1, None), out_axes=1)(
                z.swapaxes(0, 1), labels
            ),
            "remat": jax.grad(jax.checkpoint(loss))(z[0], labels[0]),
            "axes in front": gradient(z, labels),
            "one row": gradient(z[0, :1], labels[0, :1]),
        }

    assert_close(quick(transformed)(z), row_by_row(monkeypatch, transformed, z))


def test_a_label_outside_of_its_range_is_nan(platform: str, random: np.random.Generator) -> None:
    z = jnp.asarray(random.normal(size=(3, CLASSES)), jnp.float32)
    for labels in (np.array([0, 1, CLASSES]), np.array([-1, 0, 1]), np.array([0, 1, 2**31 + 2], np.uint32)):
        value, in_logits = quick(jax.value_and_grad(lambda z, labels=labels: LABELS(z, labels, reduction="sum")))(z)
        assert jnp.isnan(value)
        assert jnp.isnan(in_logits).all(axis=1).any()


@pytest.mark.parametrize("weights", [None, np.zeros(3, np.float32)], ids=["masked", "of no weight"])
def test_nothing_over_nothing_is_nothing(platform: str, weights: Any) -> None:
    """Where no row of any batch counts, their common count is 0, and so are value and gradient."""
    z, labels = jnp.ones((3, CLASSES)), jnp.zeros(3, jnp.int32)
    options = {"where": jnp.zeros(3, bool)} if weights is None else {"weights": weights}
    losses = [
        functools.partial(LABELS, labels=labels, reduction="mean", **options, **normalizer)
        for normalizer in ({}, {"normalizer": 0.0})
    ]
    for value, in_logits in quick(lambda z: [jax.value_and_grad(loss)(z) for loss in losses])(z):
        assert value == 0
        assert not in_logits.any()


def test_something_over_nothing_is_not_a_number(platform: str) -> None:
    loss = functools.partial(LABELS, labels=jnp.zeros(3, jnp.int32), reduction="sum", normalizer=0.0)
    value, in_logits = quick(jax.value_and_grad(loss))(jnp.ones((3, CLASSES)))
    assert jnp.isinf(value)
    assert not jnp.isfinite(in_logits).any()
