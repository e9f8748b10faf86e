"""Blocks of rows: how they are cut changes no number beyond the order of sums, and moves no row to another device."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from lossjax import (
    linear_softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    vocab_parallel_linear_softmax_cross_entropy,
)
from lossjax._softmax import chunk_size as chunk_sizes
from lossjax._softmax.blocks import Cut
from tests.support.compiled import collectives, text_of
from tests.support.quick import quick

Loss = Callable[..., Any]


@pytest.mark.covering
@pytest.mark.parametrize("shape", [(), (1,), (13,), (24,), (3, 7), (2, 3, 8), (40, 2), (0, 3), (3, 0)])
@pytest.mark.parametrize("size", [1, 2, 5, 8, 1000])
def test_a_cut_is_undone(shape: tuple[int, ...], size: int) -> None:
    cut, array = Cut.of(shape, size), jnp.arange(float(2 * np.prod(shape, dtype=int))).reshape(*shape, 2) + 1
    blocks, undone = quick(lambda array: (cut.apply(array), cut.undo(cut.apply(array))))(array)
    assert blocks.shape[1] <= size
    assert np.array_equal(undone, array)
    assert np.sum(np.all(blocks == 0, axis=-1)) == cut.runs * cut.filled
    assert cut.filled < max(cut.blocks, 1)


# --- a masked row is not felt ----------------------------------------------------------------------------------------

KEPT = np.array([[True, False, True, True, False], [True, True, True, True, False]])


def _drawn(dtype: Any = np.float64) -> list[jax.Array]:
    """Hidden states, weight, bias, a row's weight, normalizer; labels, -1 where masked."""
    random = np.random.default_rng(3)
    shapes = (*KEPT.shape, 4), (4, 6), (6,), KEPT.shape, ()
    floats = [jnp.asarray(random.normal(size=shape), dtype) for shape in shapes]
    return [*floats, jnp.asarray(np.where(KEPT, random.integers(0, 6, KEPT.shape), -1))]


MASKED: dict[str, dict[str, Any]] = {
    "one block": {"chunk_size": 100, "where": KEPT, "reduction": "none"},
    "blocks": {"chunk_size": 3, "where": KEPT, "reduction": "none", "z_loss": 0.1},
    "labels": {"chunk_size": 2, "ignore_index": -1, "reduction": "none", "logit_softcap": 3.0},
    "sum": {"chunk_size": 3, "ignore_index": -1, "reduction": "sum", "label_smoothing": 0.1},
    "mean": {"chunk_size": 3, "where": KEPT, "reduction": "mean", "class_weights": np.arange(6.0)},
    "skipping": {"chunk_size": 2, "where": KEPT, "reduction": "mean", "skip_below": 1e-3},
    "and the log-sum-exp": {"chunk_size": 2, "where": KEPT, "reduction": "mean", "return_logsumexp": True},
}


@pytest.mark.covering
@pytest.mark.parametrize("split", [False, True], ids=["one device", "classes over devices"])
@pytest.mark.parametrize("name", MASKED)
def test_what_a_masked_row_holds_is_not_felt(name: str, split: bool) -> None:
    """Exactly: value and gradients, forward mode and a Hessian's product, for NaN, infinity, and numbers too large."""
    x, w, b, weights, normalizer, labels = _drawn(np.float32)
    options = {k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in MASKED[name].items()}

    def on_one(x: Any, w: Any, b: Any, weights: Any, normalizer: Any, classes: Any) -> Any:
        return linear_softmax_cross_entropy(
            x, w, labels, bias=b, weights=weights, normalizer=normalizer, **options | classes
        )

    def on_each(x: Any, w: Any, b: Any, weights: Any, normalizer: Any, classes: Any) -> Any:
        return vocab_parallel_linear_softmax_cross_entropy(
            x, w, labels, bias=b, weights=weights, normalizer=normalizer, axis_name="class", **options | classes
        )

    classes = {k: options[k] for k in ("class_weights",) if k in options}
    loss: Loss = on_one
    if split:
        mesh = jax.make_mesh((2,), ("class",), axis_types=(AxisType.Auto,))
        specs = P(), P(None, "class"), P("class"), P(), P(), P("class")
        loss = jax.shard_map(on_each, mesh=mesh, in_specs=specs, out_specs=P())

    def total(*floats: Any) -> Any:
        parts = [part.ravel() for part in jax.tree.leaves(loss(*floats, classes))]
        return sum(jnp.sum(jnp.cos(jnp.arange(1.0, 1 + part.size)) * part) for part in parts)

    def everything(*floats: Any) -> Any:
        gradient, every = jax.value_and_grad(total, (0, 1, 2, 3, 4)), tuple(floats)
        return *jax.jvp(gradient, floats, every), jax.jvp(total, floats, every)[1]

    compiled = quick(everything)

    def holding(bad: float) -> Any:
        return compiled(jnp.where(KEPT[..., None], x, bad), w, b, jnp.where(KEPT, weights, bad), normalizer)

    want = jax.tree.leaves(holding(0))
    for bad in (np.nan, np.inf, -np.inf, 3e38):
        for got, w_ in zip(jax.tree.leaves(holding(bad)), want, strict=True):
            assert np.array_equal(got, w_), f"masked rows of {bad} are felt"
    assert all(np.isfinite(w_).all() for w_ in want)
    assert np.any(want[2])  # ∂W


# --- the size of blocks ----------------------------------------------------------------------------------------------

ROWS = 384


@pytest.mark.parametrize(("dtype", "sizes"), [(jnp.float32, (7, ROWS)), (jnp.bfloat16, (1, 7))])
def test_the_size_of_blocks_changes_nothing_but_the_order_of_sums(dtype: Any, sizes: tuple[int, ...]) -> None:
    """For every reduction, with cotangents that differ.

    Each entry of a row's logits is off by H·u of Σ|x||W|, the gradient in it by twice that and 32u of itself, and by
    u' = the roundoff of a narrower dtype that it is multiplied in. ∂W is a sum of N products, in 32 bits; it is then
    rounded to its dtype. So two ways to form it differ by at most

        2 (u' + (N + 32 + 2 H max Σ|x||W|) u) Σ_rows |x||G| + 2 u' |∂W|.

    All hidden states are positive, so that the terms of a sum do not cancel, and one in 16 bits would stand still.
    """
    random, width, classes = np.random.default_rng(0), 3, 5
    x = jnp.asarray(random.uniform(0.5, 1.5, (ROWS, width)), dtype)
    w = jnp.asarray(random.normal(size=(width, classes)), dtype)
    labels = jnp.asarray(random.integers(0, 2, ROWS))
    g = jnp.asarray(random.uniform(0.5, 1.5, ROWS), jnp.float32)

    def results(x: Any, w: Any, g: Any, size: int) -> list[Any]:
        def loss(**options: Any) -> Any:
            return linear_softmax_cross_entropy(x, w, labels, chunk_size=size, **options)

        losses, lse = loss(return_logsumexp=True)
        return [
            jnp.sum(g * loss()), jnp.sum(g * (losses + lse)), loss(reduction="sum"), loss(reduction="sum", weights=g),
            loss(reduction="mean", normalizer=1.0),
        ]  # fmt: skip

    def gradients(x: Any, w: Any, g: Any, size: int) -> Any:
        return jax.jacrev(lambda w: jnp.stack(results(x, w, g, size)))(w)

    found = {size: np.float64(quick(gradients, static_argnums=3)(x, w, g, size)) for size in sizes}
    wide = [np.asarray(a).astype(np.float64) for a in (x, w, g)]
    p = np.exp(wide[0] @ wide[1])
    p /= np.sum(p, axis=-1, keepdims=True)
    plain, weights = p - np.eye(classes)[labels], wide[2][:, None]
    in_logits = weights * plain, weights * (plain + p), plain, weights * plain, plain
    exact = np.stack([wide[0].T @ of_logits for of_logits in in_logits])
    terms = 1.5 * wide[0].T @ (np.abs(plain) + p)
    u, narrow = 2.0**-24, float(jnp.finfo(dtype).eps) / 2 if dtype == jnp.bfloat16 else 0.0
    logits = float(np.max(np.abs(wide[0]) @ np.abs(wide[1])))
    each = (narrow + (ROWS + 32 + 2 * width * logits) * u) * terms + narrow * np.abs(exact)
    for size, got in found.items():
        assert np.all(np.abs(got - exact) <= each), f"{size}: {np.max(np.abs(got - exact) / each)} of the bound"
    if dtype == jnp.bfloat16:  # what a sum in 16 bits would give
        standing = jax.lax.fori_loop(0, ROWS, lambda i, s: s + jnp.bfloat16(1), jnp.bfloat16(0))
        assert float(standing) < ROWS


# --- rows over devices -----------------------------------------------------------------------------------------------

WIDTH, CLASSES = 8, 32
CUTS = {
    "rows": ((32,), 8),
    "sequences, cut along time": ((4, 11), 12),
    "more sequences than a block has rows": ((16, 4), 8),
}


@pytest.mark.covering
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["automatic", "explicit"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_a_batch_that_is_sharded_stays_where_it_is(cut: Any, reduction: str, kind: AxisType) -> None:
    """Under plain ``jax.jit``: only sums cross (of ∂W, losses and counts), no hidden state and no gradient of one."""
    shape, size = cut
    random = np.random.default_rng(1)
    x = np.float32(random.normal(size=(*shape, WIDTH)))
    w = np.float32(random.normal(size=(WIDTH, CLASSES)))
    labels, where = random.integers(0, CLASSES, shape), random.random(shape) < 0.8

    def loss(x: Any, w: Any, labels: Any, where: Any) -> Any:
        losses = linear_softmax_cross_entropy(x, w, labels, where=where, chunk_size=size, reduction=reduction)
        return jnp.sum(losses * losses)

    want = quick(jax.value_and_grad(loss, (0, 1)))(jnp.asarray(x), jnp.asarray(w), labels, where)
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        by_row = NamedSharding(mesh, P("batch"))
        given = [jax.device_put(a, by_row) for a in (x, labels, where)]
        args = given[0], jax.device_put(w, NamedSharding(mesh, P())), *given[1:]
        program = quick(jax.value_and_grad(loss, (0, 1))).lower(*args).compile()
        got = program(*args)
        assert got[1][0].sharding.is_equivalent_to(given[0].sharding, x.ndim)
    for g, truth in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, truth, rtol=0, atol=64 * 2.0**-24 * max(1, np.max(np.abs(truth))))
    moved = collectives(program.as_text() or "")
    assert {name for name, _ in moved} == {"all-reduce"}, moved
    assert all(count <= WIDTH * CLASSES + 2 for _, count in moved), moved


def test_a_gather_of_hidden_states_would_be_seen() -> None:
    """What the test above is worth: blocks of consecutive rows, each of which lies on one device."""
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
    x = jax.device_put(jnp.ones((32, WIDTH)), NamedSharding(mesh, P("batch")))

    def consecutive(x: jax.Array) -> jax.Array:
        return jax.lax.map(lambda block: jnp.sum(jnp.sin(block) @ jnp.ones((WIDTH, CLASSES))), x.reshape(4, 8, WIDTH))

    moved = collectives(text_of(consecutive, x))
    assert any(name != "all-reduce" for name, _ in moved), moved


# --- sizes that are not known ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reduction", "take"), [("none", slice(1)), ("mean", slice(None))], ids=["none", "mean"])
def test_exported_with_sizes_that_are_not_known(reduction: str, take: slice) -> None:
    """One program for any batch, any number of classes, and any chip; serialised, and run: as with stored logits."""
    x, w, b, weights, _, labels = _drawn(np.float32)

    options = {"ignore_index": -1, "reduction": reduction, "z_loss": 0.1}

    def loss(x: Any, w: Any, b: Any, weights: Any, labels: Any) -> Any:
        losses = linear_softmax_cross_entropy(x, w, labels, bias=b, weights=weights, **options)
        return jnp.sum(losses * losses)

    def stored(x: Any, w: Any, b: Any, weights: Any, labels: Any) -> Any:
        losses = softmax_cross_entropy_with_integer_labels(x @ w + b[None, None], labels, weights=weights, **options)
        return jnp.sum(losses * losses)

    slopes = jax.value_and_grad(loss, (0, 1, 2, 3))
    names = "b, t, h", "h, c", "c", "b, t", "b, t"
    sizes = export.symbolic_args_specs((x, w, b, weights, labels), names)
    exported = export.export(jax.jit(slopes), platforms=("cpu", "tpu", "cuda"))(*sizes)
    program = export.deserialize(exported.serialize())
    args = x[take], w[:, :5], b[:5], weights[take], jnp.minimum(labels[take], 4)
    found, truth = quick(program.call)(*args), quick(jax.value_and_grad(stored, (0, 1, 2, 3)))(*args)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=64 * 2.0**-24 * max(1, np.max(np.abs(want))))


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_each_kind_of_chip_has_its_blocks_in_every_pass(reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, backward, and the derivative of the gradient: on a CPU blocks of 8 rows, on a GPU all 24 in one."""
    monkeypatch.setattr(chunk_sizes, "_BLOCK_BYTES", {"cpu": 0, "gpu": 0, "tpu": 0})
    random = np.random.default_rng(5)
    x, w, y = random.normal(size=(24, 5)), random.normal(size=(5, 6)), jnp.arange(24) % 6
    cotangent, direction = random.normal(size=24), random.normal(size=(5, 6))

    def all_passes(chunk_size: Any) -> Any:
        def total(w: jax.Array) -> jax.Array:
            losses: Any = linear_softmax_cross_entropy(jnp.asarray(x), w, y, chunk_size=chunk_size, reduction=reduction)
            return jnp.sum(losses * cotangent) if reduction == "none" else losses

        value, gradient = jax.value_and_grad(total)(jnp.asarray(w))
        return value, gradient, *jax.jvp(jax.grad(total), (jnp.asarray(w),), (jnp.asarray(direction),))

    traced = quick(lambda: all_passes("auto")).trace()
    for ours, cut in zip(traced.lower().compile()(), quick(lambda: all_passes(8))(), strict=True):
        assert np.array_equal(ours, cut), "on this CPU it is the program with 8 rows"

    def rows_of_products(platform: str) -> set[str]:
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
        return {side for line in products for side in re.findall(r"tensor<(\d+)x[56]xf(?:32|64)>", line)}

    on_cpu, on_gpu = map(rows_of_products, ("cpu", "cuda"))
    assert "8" in on_cpu
    assert "24" not in on_cpu
    assert "24" in on_gpu
    assert "8" not in on_gpu
