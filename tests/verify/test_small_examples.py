"""Faults that the example given hides: it is square, one row, full, or lacks the label or the zero that shows them.

Each with the rule that is right for the same formula, which no question may accuse.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax.verify._check import check
from tests.support.judged import V, Z, ruled

SQUARE = Z[:4, :4]
LABELS = np.array([2, 2, 2, 2], np.int32)


class Fault(NamedTuple):
    """A formula, its rule with one number or array changed, and an example that hides it."""

    formula: Callable[..., Any]
    backward: Callable[[Any, Any, Any], Any]
    """Of what was kept, the cotangent, and whether the rule is to be right."""
    args: tuple[Any, ...]
    by: str = "rule"
    argnums: int | None = 0


def cross_entropy(z: jax.Array, labels: jax.Array) -> jax.Array:
    each = jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, labels[:, None], axis=-1)[:, 0]
    return jnp.mean(each)


def slope(z: jax.Array, labels: jax.Array) -> jax.Array:
    return jax.nn.softmax(z) - jax.nn.one_hot(labels, z.shape[-1], dtype=z.dtype)


def ignoring(mark: int) -> Callable[..., jax.Array]:
    def formula(z: jax.Array, labels: jax.Array) -> jax.Array:
        shown = labels != mark
        each = jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, jnp.where(shown, labels, 0)[:, None], -1)[:, 0]
        return jnp.sum(jnp.where(shown, each, 0)) / jnp.sum(shown).astype(z.dtype)

    return formula


def ignoring_backward(mark: int, count_all: bool) -> Callable[..., Any]:
    def backward(kept: Any, g: jax.Array, right: bool) -> Any:
        z, labels = kept
        shown = labels != mark
        each = slope(z, jnp.where(shown, labels, 0))
        if not right and not count_all:
            return g * each / jnp.sum(shown).astype(z.dtype), None
        count = jnp.sum(shown).astype(z.dtype) if right else z.shape[0]
        return g * jnp.where(shown[:, None], each, 0) / count, None

    return backward


def attention(q: jax.Array, k: jax.Array) -> jax.Array:
    return jax.nn.softmax(q @ k.T / np.sqrt(q.shape[-1]).astype(q.dtype), axis=-1)


def attention_backward(kept: Any, g: jax.Array, right: bool) -> Any:
    q, k = kept
    p = attention(q, k)
    scores = p * (g - jnp.sum(g * p, axis=-1, keepdims=True))
    root = np.sqrt(q.shape[-1] if right else q.shape[0]).astype(q.dtype)
    return scores @ k / root, scores.T @ q / root


def of_lengths(x: jax.Array, lengths: jax.Array) -> jax.Array:
    inside = jnp.arange(x.shape[-1])[None] < lengths[:, None]
    return jnp.mean(jnp.sum(jnp.where(inside, x**2, 0), axis=-1) / lengths.astype(x.dtype))


def of_lengths_backward(kept: Any, g: jax.Array, right: bool) -> Any:
    x, lengths = kept
    each = 2 * g * x / lengths[:, None].astype(x.dtype) / x.shape[0]
    return jnp.where(jnp.arange(x.shape[-1])[None] < lengths[:, None], each, 0) if right else each, None


def within_segments(q: jax.Array, segments: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(segments[:, None] == segments[None], jnp.sin(q @ q.T), 0))


def within_segments_backward(kept: Any, g: jax.Array, right: bool) -> Any:
    q, segments = kept
    each = jnp.cos(q @ q.T)
    each = jnp.where(segments[:, None] == segments[None], each, 0) if right else each
    return 2 * g * each @ q, None


def product_backward(kept: Any, g: jax.Array, right: bool) -> Any:
    (x,) = kept
    if right:
        return (g * jax.grad(jnp.prod)(x),)
    return (g * jnp.where(x == 0, 0, jnp.prod(x) / jnp.where(x == 0, 1, x)),)


def taken(table: jax.Array, at: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sin(table[at]))


def taken_backward(kept: Any, g: jax.Array, right: bool) -> Any:
    table, at = kept
    slopes = g * jnp.cos(table[at])
    if not right:
        slopes = jnp.where(at[:, None] < 0, 0, slopes)
    return jax.linear_transpose(lambda t: t[at], table)(slopes)[0], None


FAULTS: dict[str, Fault] = {
    "the count of the other axis, of a square": Fault(
        lambda x: jnp.sum(jnp.mean(x**2, axis=0)),
        lambda kept, g, right: (2 * g * kept[0] / kept[0].shape[0 if right else 1],), (SQUARE,), "rule: other sizes"),
    "the count of the classes, which are as many as the rows": Fault(
        cross_entropy, lambda kept, g, right: (g * slope(*kept) / kept[0].shape[0 if right else 1], None),
        (SQUARE, np.array([0, 2, 1, 3], np.int32)), "rule: other sizes"),
    "the length of another axis under the root": Fault(
        attention, attention_backward, (SQUARE, V[:4, :4]), "rule: other sizes", None),
    "a bias of one row": Fault(
        lambda x, b: x + b[None], lambda kept, g, right: (g, jnp.sum(g, axis=0) if right else g[0]),
        (Z[:1, :4], V[0, :4]), "rule: other sizes", None),
    "a mean of one row": Fault(
        cross_entropy, lambda kept, g, right: (g * slope(*kept) / (kept[0].shape[0] if right else 1), None),
        (Z[:1], LABELS[:1]), "rule: other sizes"),
    "lengths that are all full": Fault(
        of_lengths, of_lengths_backward, (Z[:3, :5], np.full(3, 5, np.int32))),
    "segments that are all the first": Fault(
        within_segments, within_segments_backward, (SQUARE, np.zeros(4, np.int32))),
    "an index from the end": Fault(taken, taken_backward, (Z, np.array([1, 3, 0], np.int32))),
    "padding that the example has none of": Fault(ignoring(-100), ignoring_backward(-100, False), (SQUARE, LABELS)),
    "the number of the rows that count": Fault(ignoring(-1), ignoring_backward(-1, True), (SQUARE, LABELS)),
    "a class that the example has none of": Fault(
        cross_entropy, lambda kept, g, right: (
            g * slope(*kept) / kept[0].shape[0] * jnp.where((kept[1] == 0) & (not right), 0, 1)[:, None], None),
        (Z[:4, :5], LABELS)),
    "one class of many": Fault(
        cross_entropy, lambda kept, g, right: (
            g * slope(*kept) / kept[0].shape[0] * jnp.where((kept[1] == 30) & (not right), 0, 1)[:, None], None),
        (np.tile(Z, (2, 5))[:8, :32], np.full(8, 2, np.int32))),
    "one factor of zero": Fault(lambda x: jnp.prod(x), product_backward, (Z[0, :5],)),
    "a flag that is False": Fault(
        lambda x, flag: jnp.sum(jnp.where(flag, 2 * x, x)),
        lambda kept, g, right: (g * jnp.where(kept[1] & right, 2, 1) * jnp.ones_like(kept[0]), None),
        (Z[0], np.array(False))),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_the_example_hides_is_found_and_the_right_rule_is_not_accused(name: str) -> None:
    fault = FAULTS[name]
    wrong, right = (
        check(ruled(fault.formula, lambda kept, g, is_right=is_right: fault.backward(kept, g, is_right)), *fault.args,
              argnums=fault.argnums, checks=("rule", "cotangent"))
        for is_right in (False, True)
    )  # fmt: skip
    assert {r.name for r in wrong.rows if r.ok is False} >= {fault.by}, str(wrong)
    assert right.right is True, str(right)


def test_lengths_of_eight_bits() -> None:
    """The largest has none above it."""
    full = np.full(3, 255, np.uint8)
    brightness = ruled(
        lambda x, pixels: jnp.sum(x * pixels.astype(x.dtype)), lambda kept, g: (g * kept[1].astype(g.dtype), None)
    )
    assert check(brightness, Z[0, :3], full, argnums=0, checks="rule").right is True


def test_complex_numbers_are_not_passed_over() -> None:

    def backward(kept: Any, g: jax.Array) -> Any:
        return g * jnp.abs(kept[1]).astype(g.dtype), None

    product = ruled(lambda x, z: x * jnp.abs(z).astype(x.dtype), backward)
    z = np.complex64([1, 2j, -3])
    with pytest.raises(TypeError, match="argument 1 is complex64, and real numbers are differentiated"):
        check(product, np.float32([1, 2, 3]), z)
    assert check(product, np.float32([1, 2, 3]), z, argnums=0, checks="rule").right is True


def test_a_loop_that_ends_at_the_example_alone_is_not_started_elsewhere() -> None:
    """Newton's root of a negative number goes on for ever, and a compiled program cannot be stopped."""

    def newton(a: jax.Array) -> jax.Array:
        def step(state: Any) -> Any:
            return 0.5 * (state[0] + a / state[0]), state[0]

        return jax.lax.while_loop(lambda s: jnp.max(jnp.abs(s[0] - s[1])) > 1e-6, step, (a + 1, a + 2))[0]

    for factor, verdict in ((0.5, True), (0.75, False)):
        root = ruled(newton, lambda kept, g, factor=factor: (factor * g / newton(kept[0]),))
        found = check(root, np.float32([0.75, 1.5, 2.0]), reference=jnp.sqrt, checks=("rule", "value", "edges"))
        assert found.right is verdict, str(found)


def test_a_row_without_a_value_leaves_no_gradient_to_be_wrong() -> None:
    """A mask that hides all of a row: its softmax is NaN, and so may be the gradients that it is a part of."""

    def masked(q: jax.Array, k: jax.Array, mask: jax.Array) -> jax.Array:
        return jax.nn.softmax(jnp.where(mask, q @ k.T, -jnp.inf), axis=-1)

    def backward(kept: Any, g: jax.Array) -> Any:
        q, k, _ = kept
        p = masked(*kept)
        scores = p * (g - jnp.sum(g * p, axis=-1, keepdims=True))
        return scores @ k, scores.T @ q, None

    triangle = np.tril(np.ones((4, 4), bool))
    assert check(ruled(masked, backward), SQUARE, V[:4, :4], triangle, checks="rule").right is True
