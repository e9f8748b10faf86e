"""The linear head without logits: it equals the loss of the logits, in every mode, and does not store them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax.losses.linear_head import auto_chunk_size, linear_softmax_cross_entropy
from lossjax.verify import assert_verified
from tests.support.quick import quick

ROWS, WIDTH, CLASSES = (3, 7), 5, 11
U = 2.0**-24
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "smoothed": {"label_smoothing": 0.1, "z_loss": 0.01},
    "weighted": {"class_weights": np.linspace(0, 2, CLASSES, dtype=np.float32), "smoothing": "others",
                 "label_smoothing": 0.2},
    "capped": {"logit_softcap": 2.0, "temperature": 3.0},
    "ignoring": {"ignore_index": 3},
    "masked": {"where": np.arange(21).reshape(ROWS) % 3 > 0, "z_loss": 0.1},
}  # fmt: skip
CHUNKS: dict[str, tuple[Any, ...]] = {"none": (4,), "sum": (4, "auto"), "mean": (1, 5, 100)}


def arguments(dtype: Any = np.float32, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    hidden, weight, bias = (random.normal(size=s) for s in ((*ROWS, WIDTH), (WIDTH, CLASSES), (CLASSES,)))
    labels = random.integers(0, CLASSES, ROWS).astype(np.int32)
    return (*(jnp.asarray(a, dtype) for a in (hidden, weight, bias)), jnp.asarray(labels))


def head(labels: Any, **options: Any) -> Any:
    return lambda x, w, b: linear_softmax_cross_entropy(x, w, labels, bias=b, **options)


def with_logits(labels: Any, **options: Any) -> Any:
    def loss(x: Any, w: Any, b: Any) -> Any:
        logits = jnp.matmul(x, w, preferred_element_type=max(x.dtype, jnp.dtype(np.float32), key=lambda d: d.itemsize))
        shifted = logits + jnp.broadcast_to(b.astype(logits.dtype), logits.shape)
        return lossjax.softmax_cross_entropy_with_integer_labels(shifted, labels, **options)

    return loss


def close(got: Any, want: Any, units: float = 64, u: float = U) -> None:
    """Within some u of the largest entry: the products are summed in another order."""
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        scale = float(np.max(np.abs(np.asarray(w, np.float64)), initial=0)) + 1
        np.testing.assert_allclose(np.asarray(g, np.float64), np.asarray(w, np.float64), atol=units * u * scale, rtol=0)


@pytest.mark.parametrize("reduction", ["none", pytest.param("sum", marks=pytest.mark.slow), "mean"])
def test_it_is_the_loss_of_the_logits(reduction: str) -> None:
    """Value and gradients, the rows' cotangents not uniform, for blocks that fit and blocks that do not."""
    x, w, b, labels = arguments()
    u = jnp.asarray(np.random.default_rng(1).normal(size=ROWS if reduction == "none" else ()), jnp.float32)

    def both(loss: Any) -> Any:
        return jax.value_and_grad(lambda *a: jnp.sum(u * loss(*a)), (0, 1, 2))(x, w, b)

    def every(make: Any) -> dict[str, Any]:
        # What is inside a row's loss is the same under a mean, what is counted is not.
        inside = ("smoothed", "capped") if reduction == "mean" else ()
        asked = {name: options for name, options in OPTIONS.items() if name not in inside}
        return {name: make(name, options | {"reduction": reduction}) for name, options in asked.items()}

    def chunks(name: str) -> tuple[Any, ...]:
        return CHUNKS[reduction] if name == "masked" else (4,)

    got = quick(lambda: every(lambda n, o: [both(head(labels, **o, chunk_size=c)) for c in chunks(n)]))()
    want = quick(lambda: every(lambda n, o: both(with_logits(labels, **o))))()
    for name, found in got.items():
        for one in found:
            close(one, want[name])


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_gradients_in_the_options(reduction: str) -> None:
    x, w, b, labels = arguments()
    options = {"class_weights": jnp.linspace(0.5, 2, CLASSES), "z_loss": jnp.float32(0.1),
               "logit_softcap": jnp.float32(3.0), "temperature": jnp.float32(0.5)}  # fmt: skip
    got, want = (
        quick(jax.grad(lambda o, f=f, c=c: jnp.sum(f(labels, reduction=reduction, **o, **c)(x, w, b) ** 2)))(options)
        for f, c in ((head, {"chunk_size": 4}), (with_logits, {}))
    )
    close(got, want, 256)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_every_mode(reduction: str) -> None:
    """Reverse over reverse; forward mode and a batch of weights, or of a mean forward over reverse and recomputation.

    The rest is the same for every loss of a head: forward mode and forward over reverse are asked of all in
    ``test_heads.py``.
    """
    x, w, b, labels = arguments()
    v = jnp.asarray(np.random.default_rng(2).normal(size=w.shape), jnp.float32)
    options = {"reduction": reduction, "z_loss": 0.1}

    def modes(loss: Any) -> Any:
        def f(w: Any) -> Any:
            return jnp.sum(loss(x, w, b) ** 2)

        twice = jax.grad(lambda w: jnp.sum(jax.grad(f)(w) * v))(w)
        if reduction == "none":
            return (jax.jvp(f, (w,), (v,)), jax.vmap(jax.grad(f))(jnp.stack([w, w + v]))), (twice,)
        return (jax.grad(jax.checkpoint(f))(w),), (twice, jax.jvp(jax.grad(f), (w,), (v,))[1])

    got = quick(lambda: modes(head(labels, chunk_size=4, **options)))()
    want = quick(lambda: modes(with_logits(labels, **options)))()
    close(got[0], want[0], 256)
    close(got[1], want[1], 512)


def test_the_log_sum_exp_is_returned_and_differentiable() -> None:
    x, w, b, labels = arguments()
    options = {"return_logsumexp": True, "reduction": "mean", "ignore_index": 3}

    def both(f: Any) -> Any:
        def of(w: Any) -> Any:
            found = f(labels, **options)(x, w, b)
            return jnp.sum(found[1] ** 2), found

        return quick(jax.value_and_grad(of, has_aux=True))(w)

    (got, in_w), (want, truth) = map(both, (head, with_logits))
    close(got[1], want[1])
    close(in_w, truth, 256)


def test_sixteen_bits_are_summed_in_thirty_two() -> None:
    """The gradient is rounded once: it differs from the float32 one of the same numbers by a rounding of bfloat16."""
    x, w, b, labels = arguments(jnp.bfloat16)
    loss = lambda x, w, b: linear_softmax_cross_entropy(x, w, labels, bias=b, reduction="mean", chunk_size=4)  # noqa: E731
    both = quick(jax.value_and_grad(loss, (0, 1, 2)))
    value, got = both(x, w, b)
    wide, truth = both(*(a.astype(jnp.float32) for a in (x, w, b)))
    assert value.dtype == jnp.float32
    assert {g.dtype for g in got} == {jnp.dtype(jnp.bfloat16)}
    close(value, wide)
    close(got, truth, 2, 2.0**-9)


def test_float64() -> None:
    with jax.enable_x64(True):
        x, w, b, labels = arguments(np.float64)
        got, want = (
            quick(jax.value_and_grad(f(labels, reduction="mean"), (0, 1, 2)))(x, w, b) for f in (head, with_logits)
        )
        assert got[0].dtype == jnp.float64
        close(got, want, 64, 2.0**-53)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_the_rule_is_certified(reduction: str) -> None:
    x, w, b, labels = (np.asarray(a) for a in arguments())
    assert_verified(
        lambda x, w, b, y: linear_softmax_cross_entropy(x, w, y, bias=b, reduction=reduction, chunk_size=2),
        x[0, :3], w, b, labels[0, :3], argnums=(0, 1, 2), checks=("rule", "cotangent"),
    )  # fmt: skip


def test_logits_are_never_stored() -> None:
    """Temporary memory: of stored logits, at most a sixth; for twice the rows, what these have of their own more."""
    width, classes = 16, 8192

    def memory(rows: int, loss: Any) -> int:
        shapes = [jax.ShapeDtypeStruct(s, d) for s, d in (
            ((rows, width), jnp.float32), ((width, classes), jnp.float32), ((rows,), jnp.int32))]  # fmt: skip
        analysis = quick(jax.value_and_grad(loss, (0, 1))).lower(*shapes).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    def ours(x: Any, w: Any, y: Any) -> Any:
        return linear_softmax_cross_entropy(x, w, y, reduction="mean", chunk_size=64)

    def stored(x: Any, w: Any, y: Any) -> Any:
        return lossjax.softmax_cross_entropy_with_integer_labels(x @ w, y, reduction="mean")

    def by_row(x: Any, w: Any, y: Any) -> Any:
        """With cotangents that are not known beforehand."""
        return jnp.sum(linear_softmax_cross_entropy(x, w, y, chunk_size=64) ** 2)

    few, many = memory(2048, ours), memory(4096, ours)
    assert memory(2048, by_row) <= few + 4 * (64 + width) * classes  # one array of each kind more, whatever the rows
    assert 6 * few <= memory(2048, stored)
    assert few <= 1.2 * 4 * (2 * 64 * classes + width * classes)  # two arrays of a block's logits, the sum for W
    assert many <= few + 4 * 2048 * (width + 2)  # the hidden states' gradient, the labels, and the losses


def test_labels_out_of_range_and_padding() -> None:
    """A bad label makes its row NaN, and the padding of the last block reaches nothing."""
    x, w, b, labels = arguments()
    bad = labels.at[1, 2].set(CLASSES)
    losses = np.asarray(linear_softmax_cross_entropy(x, w, bad, bias=b, chunk_size=4))
    assert np.isnan(losses[1, 2])
    assert np.isnan(losses).sum() == 1
    in_x = jax.grad(lambda x: linear_softmax_cross_entropy(x, w, bad, bias=b, chunk_size=4, reduction="sum"))(x)
    assert np.isnan(in_x).any(-1).sum() == 1
    empty = linear_softmax_cross_entropy(x[:0], w, labels[:0], reduction="mean")
    assert float(empty) == 0
    hidden = linear_softmax_cross_entropy(x.at[0, 0].set(jnp.nan), w, labels, where=jnp.arange(21).reshape(ROWS) > 0)
    assert np.isfinite(hidden).all()


def test_errors() -> None:
    x, w, b, labels = arguments()
    with pytest.raises(ValueError, match=r"wanted \[..., H\] and \[H, C\]; transpose"):
        linear_softmax_cross_entropy(x, w.T, labels)
    with pytest.raises(TypeError, match="hidden is bfloat16 and weight float32"):
        linear_softmax_cross_entropy(x.astype(jnp.bfloat16), w, labels)
    with pytest.raises(ValueError, match=r"bias has shape \(5,\), wanted \(11,\)"):
        linear_softmax_cross_entropy(x, w, labels, bias=b[:5])
    with pytest.raises(ValueError, match="labels has shape"):
        linear_softmax_cross_entropy(x, w, labels[:2])
    with pytest.raises(ValueError, match="chunk_size must be at least 1 row, got 0"):
        linear_softmax_cross_entropy(x, w, labels, chunk_size=0)
    with pytest.raises(TypeError, match="chunk_size must be 'auto' or a Python integer"):
        linear_softmax_cross_entropy(x, w, labels, chunk_size=2.5)
    with pytest.raises(ValueError, match="label_smoothing"):
        linear_softmax_cross_entropy(x, w, labels, label_smoothing=2.0)


def test_the_automatic_size() -> None:
    for rows, classes in ((1, 10), (7, 50257), (2048, 50304), (10**6, 10), (100, 10**9)):
        size = auto_chunk_size(rows, classes)
        assert 1 <= size <= rows
        assert size * classes * 4 <= 50 * 2**20 or size <= 8 or jax.default_backend() != "cpu"
