"""Leaving out classes of no weight: the gradient is off by no more than is promised, and nothing else is."""

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from lossjax import linear_softmax_cross_entropy, vocab_parallel_linear_softmax_cross_entropy
from lossjax._softmax.head_gradient import GROUP
from tests.support.quick import quick

ROWS, WIDTH, CLASSES = 13, 6, 2 * GROUP + 301
BLOCKS = 4
"""Of at most four rows."""
LEFT_OUT = slice(GROUP, None)
"""Labels and probability are in the first group; the second and what is left over are the tail."""


def arguments(dtype: Any = np.float64, tail: float = -12.0) -> tuple[jax.Array, ...]:
    """Tail classes have logits of about ``tail``: each a probability between e^-16 and e^-20 of the head's, at -12."""
    random = np.random.default_rng(3)
    hidden = random.normal(size=(ROWS, WIDTH))
    hidden[:, 0] = 1
    weight = random.normal(size=(WIDTH, CLASSES)) / 4
    weight[0, LEFT_OUT] += tail
    labels = random.integers(0, GROUP, ROWS)
    return jnp.asarray(hidden, dtype), jnp.asarray(weight, dtype), jnp.asarray(labels)


@functools.cache
def program(skip_below: Any, *options: tuple[str, float]) -> Callable[..., Any]:
    """Value and gradients; one program for all tests that leave out the same."""

    def loss(x: Any, w: Any, b: Any, labels: Any) -> Any:
        return linear_softmax_cross_entropy(
            x, w, labels, bias=b, reduction="sum", chunk_size=4, skip_below=skip_below, **dict(options)
        )

    return quick(jax.value_and_grad(loss, (0, 1, 2)))


def gradients(skip_below: Any, *args: jax.Array, **options: float) -> tuple[Any, tuple[np.ndarray, ...]]:
    x, w, labels = args
    value, found = program(skip_below, *options.items())(x, w, jnp.zeros(CLASSES, w.dtype), labels)
    return value, tuple(np.asarray(g) for g in found)


@pytest.mark.parametrize("threshold", [1e-6, 1e-3])
def test_the_error_is_within_the_bound_and_only_where_it_is_promised(threshold: float) -> None:
    with jax.enable_x64(True):
        x, w, labels = arguments()
        value, exact = gradients(None, x, w, labels)
        same, found = gradients(threshold, x, w, labels)
        assert same == value
        np.testing.assert_array_equal(found[2], exact[2])  # the bias has no product
        in_x, in_w = (np.abs(a - b) for a, b in zip(found, exact, strict=True) if a.ndim == 2)
        sums = 64 * 2.0**-53  # the products of groups are summed in another order
        assert np.all(in_x <= threshold * np.abs(w[:, LEFT_OUT]).sum(1) + sums)
        assert np.all(in_w[:, LEFT_OUT] <= threshold * np.abs(x).sum(0)[:, None])
        assert np.all(in_w[:, :GROUP] <= sums)
        assert np.all(found[1][:, LEFT_OUT] == 0)  # they were left out
        assert np.abs(exact[1][:, LEFT_OUT]).max() > 0
        assert in_x.max() > sums


def test_a_group_with_one_large_entry_is_kept_whole() -> None:
    with jax.enable_x64(True):
        x, w, labels = arguments()
        labels = labels.at[ROWS - 1].set(CLASSES - 1)
        of_its_block = slice((ROWS - 1) % BLOCKS, None, BLOCKS)
        _, found = gradients(1e-3, x, w, labels)
        _, of_that_block = gradients(None, x[of_its_block], w, labels[of_its_block])
        last = slice(2 * GROUP, None)
        np.testing.assert_allclose(found[1][:, last], of_that_block[1][:, last], rtol=0, atol=64 * 2.0**-53)
        assert np.all(found[1][:, GROUP : 2 * GROUP] == 0)


def test_automatic_leaves_out_what_rounding_would() -> None:
    """In float32 a probability below 2^-24; at logits of -40 all of the tail."""
    x, w, labels = arguments(np.float32, tail=-40.0)
    value, exact = gradients(None, x, w, labels)
    same, found = gradients("auto", x, w, labels)
    assert same == value
    assert np.all(found[1][:, LEFT_OUT] == 0)
    assert np.any(exact[1][:, LEFT_OUT] != 0)
    np.testing.assert_allclose(found[0], exact[0], rtol=0, atol=64 * 2.0**-24)
    _, kept = gradients("auto", *arguments(np.float32, tail=0.0))
    assert np.all(np.any(kept[1][:, LEFT_OUT] != 0, axis=0))


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"z_loss": 0.1, "temperature": 2.0}])
def test_the_criterion_is_the_gradient_not_the_probability(options: dict[str, Any]) -> None:
    """Smoothing asks something of every class, and none of them may be left out for its small probability."""
    with jax.enable_x64(True):
        args = arguments()
        _, exact = gradients(None, *args, **options)
        _, found = gradients(1e-6, *args, **options)
        bound = 1e-6 * np.abs(args[0]).sum(0)[:, None]
        assert np.all(np.abs(found[1] - exact[1]) <= bound + 64 * 2.0**-53)
        assert np.any(found[1][:, LEFT_OUT] != 0)


def test_an_undefined_row_is_not_left_out() -> None:
    x, w, labels = arguments(np.float32)
    value, found = gradients(1e-3, x, w, labels.at[1].set(CLASSES))
    assert np.isnan(value)
    assert np.isnan(found[0][1]).all()
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[0][5:]).all()


def test_second_derivatives_are_exact() -> None:
    with jax.enable_x64(True):
        x, w, labels = arguments()
        direction = jnp.asarray(np.random.default_rng(4).normal(size=x.shape))

        def product(skip_below: Any) -> Any:
            def loss(x: Any) -> Any:
                return linear_softmax_cross_entropy(x, w, labels, reduction="mean", chunk_size=4, skip_below=skip_below)

            return quick(lambda x: jax.jvp(jax.grad(loss), (x,), (direction,))[1])(x)

        np.testing.assert_allclose(product(1e-3), product(None), rtol=0, atol=1e-15)


def test_on_several_devices_each_leaves_out_its_own() -> None:
    mesh = jax.make_mesh((2,), ("class",), axis_types=(AxisType.Auto,))
    x, w, labels = arguments(np.float32)
    w, b = w[:, : 2 * GROUP], jnp.zeros(2 * GROUP)

    def split(skip_below: Any) -> Callable[..., Any]:
        def loss(x: Any, w: Any, b: Any) -> Any:
            return vocab_parallel_linear_softmax_cross_entropy(
                x, w, labels, bias=b, axis_name="class", reduction="sum", chunk_size=4, skip_below=skip_below
            )

        specs = P(), P(None, "class"), P("class")
        return quick(jax.value_and_grad(jax.shard_map(loss, mesh=mesh, in_specs=specs, out_specs=P()), (0, 1)))

    value, exact = split(None)(x, w, b)
    same, found = split(1e-3)(x, w, b)
    assert same == value
    assert np.all(found[1][:, GROUP:] == 0)
    assert np.any(exact[1][:, GROUP:] != 0)
    np.testing.assert_allclose(found[1][:, :GROUP], exact[1][:, :GROUP], rtol=0, atol=64 * 2.0**-24)


def test_what_is_left_out_is_not_computed() -> None:
    """The products stand in the branch of a conditional, in a computation of their own."""
    args = arguments(np.float32)

    def conditionals(skip_below: Any) -> int:
        def loss(x: Any, w: Any) -> Any:
            return linear_softmax_cross_entropy(x, w, args[2], reduction="sum", chunk_size=4, skip_below=skip_below)

        text = quick(jax.grad(loss, (0, 1))).lower(*args[:2]).compile().as_text() or ""
        product = re.compile(rf"f32\[{WIDTH},{GROUP}\]\S* dot\(")
        around = [body.count(" while(") for body in text.split("\n\n") if product.search(body)]
        assert around == [0]
        return text.count(" conditional(")

    assert conditionals("auto") > conditionals(None)


def test_refusals() -> None:
    x, w, labels = arguments(np.float32)
    for skip_below in (-1.0, float("nan"), float("inf"), "always"):
        with pytest.raises(ValueError, match="skip_below must be None, 'auto' or a finite number >= 0"):
            linear_softmax_cross_entropy(x, w, labels, reduction="sum", skip_below=skip_below)
    with pytest.raises(ValueError, match='skip_below wants reduction="sum" or "mean"'):
        linear_softmax_cross_entropy(x, w, labels, skip_below="auto")
    with pytest.raises(ValueError, match="skip_below wants"):
        linear_softmax_cross_entropy(x, w, labels, reduction="mean", return_logsumexp=True, skip_below=0.1)
