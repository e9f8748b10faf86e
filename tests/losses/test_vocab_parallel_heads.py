"""Heads whose classes are split over devices: value and every derivative are those of all logits."""

import functools
import itertools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

import lossjax
from tests.support import heads
from tests.support.compiled import collectives
from tests.support.quick import quick

ROWS, WIDTH, CLASSES = 5, 3, 8
NAMES = (
    "softmax_entropy", "softmax_kl_divergence", "softmax_js_divergence", "token_log_probs", "token_statistics",
    "softmax_cross_entropy_with_sparse_targets",
)  # fmt: skip
LISTED = jnp.array([[0, 7], [3, 4], [4, 3], [6, 1], [2, 5]])
"""Tokens of both devices, the first of the second one among them."""
KEPT = jnp.array([True, True, False, True, True])


def arguments(name: str) -> tuple[list[jax.Array], list[P]]:
    """The floats that a head is called with, and how they are split."""
    random = np.random.default_rng(4)
    shapes, specs = [(ROWS, WIDTH), (WIDTH, CLASSES), (CLASSES,)], [P(), P(None, "class"), P("class")]
    if "divergence" in name:
        shapes, specs = shapes * 2, specs * 2
    arrays = [jnp.asarray(random.normal(size=shape)) for shape in shapes]
    if "js" in name:  # the mixture
        arrays, specs = [*arrays, jnp.asarray(0.3)], [*specs, P()]
    if "sparse" in name:
        arrays, specs = [*arrays, jnp.asarray(random.dirichlet(np.ones(3), ROWS)[:, :2])], [*specs, P()]
    return arrays, specs


def evaluated(
    name: str, function: Callable[..., Any], of_heads: list[Any], more: tuple[jax.Array, ...]
) -> list[jax.Array]:
    """The results, those that are floats, of a function of one or two heads and of what rows have of their own."""
    numbers = {"mixture": more[0]} if "js" in name else {}
    own = (LISTED,) if "token" in name else (LISTED, *more) if "sparse" in name else ()
    found = function(*of_heads, *own, where=KEPT, **numbers)
    return [part for part in jax.tree.leaves(found) if part.dtype != bool]


def called(name: str, x: jax.Array, w: jax.Array, b: jax.Array, *more: jax.Array, **options: Any) -> list[jax.Array]:
    """Of the head whose classes are split over devices."""
    of_heads, options = [x, w], options | {"bias": b, "chunk_size": 2, "temperature": 1.5}
    if "divergence" in name:
        of_heads, options["other_bias"], more = [*of_heads, *more[:2]], more[2], more[3:]
    if "sparse" in name:
        options["tail"] = True
    function = getattr(lossjax, f"vocab_parallel_linear_{name}")
    return evaluated(name, functools.partial(function, **options), of_heads, more)


FORMULAS: dict[str, Callable[..., Any]] = {
    "softmax_entropy": heads.of_rows(heads.entropy_of_rows),
    "softmax_kl_divergence": heads.of_rows(heads.kl_of_rows),
    "softmax_js_divergence": heads.of_rows(heads.js_of_rows),
    "softmax_cross_entropy_with_sparse_targets": heads.of_rows(heads.sparse_of_rows),
    "token_statistics": heads.statistics_of_rows,
    "token_log_probs": lambda a, **options: heads.statistics_of_rows(a, **options)[0],
}


def of_logits(name: str, x: jax.Array, w: jax.Array, b: jax.Array, *more: jax.Array, **options: Any) -> list[jax.Array]:
    """The textbook's formula of all logits."""
    a = {"hidden": x, "weight": w, "bias": b, "classes": LISTED, "temperature": 1.5}
    if "divergence" in name:
        a |= dict(zip(("other_hidden", "other_weight", "other_bias", "mixture"), more, strict=False))
    if "sparse" in name:
        a["probabilities"] = more[0]
    if options.get("reduction") == "mean":
        a["normalizer"] = jnp.sum(KEPT, dtype=x.dtype)
    return jax.tree.leaves(FORMULAS[name](a, where=KEPT, **options))


def weighed(results: list[jax.Array]) -> jax.Array:
    return jnp.sum(jnp.stack([jnp.sum(jnp.cos(jnp.arange(1.0, 1 + p.size)) * jnp.ravel(p)) for p in results]))


def over_two(function: Callable[..., Any], specs: list[P]) -> Callable[..., Any]:
    mesh = jax.make_mesh((2,), ("class",), axis_types=(AxisType.Auto,))
    return jax.shard_map(function, mesh=mesh, in_specs=tuple(specs), out_specs=P())


CASES = [(name, how) for name in NAMES for how in ("none", "mean") if how == "none" or "token" not in name]


IN_ROWS = "softmax_entropy", "token_log_probs", "token_statistics"
"""Asked for each row's result in the fast tier; the others, whose programs are larger so, for the mean."""


@pytest.mark.parametrize(("name", "how"), [
    case if (case[1] == "none") == (case[0] in IN_ROWS) else pytest.param(*case, marks=pytest.mark.slow)
    for case in CASES
])  # fmt: skip
def test_it_is_the_function_of_the_logits(name: str, how: str) -> None:
    """Value, gradients, forward mode and forward over reverse, in float64, a row masked.

    Entropy and log-probabilities are parts of the token statistics, whose second derivatives theirs are.
    It is held against the formula of one device's logits, which the head on one device is too, by ``test_heads.py``.
    """
    options = {} if "token" in name else {"reduction": how}
    with jax.enable_x64(True):
        arrays, specs = arguments(name)
        along = [jnp.asarray(np.random.default_rng(5).normal(size=a.shape)) for a in arrays]

        def derivatives(function: Callable[..., Any]) -> Any:
            slopes = jax.value_and_grad(function, tuple(range(len(arrays))))
            if name in ("softmax_entropy", "token_log_probs"):
                return slopes(*arrays)
            return jax.jvp(slopes, tuple(arrays), tuple(along))

        def split(*floats: Any) -> Any:
            return weighed(called(name, *floats, axis_name="class", **options))

        def whole(*floats: Any) -> Any:
            return weighed(of_logits(name, *floats, **options))

        got = quick(lambda: derivatives(over_two(split, specs)))()
        want = quick(lambda: derivatives(whole))()
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            size = max(1.0, float(jnp.max(jnp.abs(w))))
            np.testing.assert_allclose(g, w, rtol=0, atol=256 * CLASSES * 2.0**-53 * size)


IN_BATCHES = (
    ("softmax_kl_divergence", "none", "arrays", jnp.bfloat16), ("token_statistics", "none", "cotangents", jnp.float16),
    ("softmax_cross_entropy_with_sparse_targets", "mean", "cotangents", jnp.bfloat16),
)  # fmt: skip
"""What is batched is the engine's sum over the devices: of one and of two heads, of rows and of their sum."""


@pytest.mark.parametrize(("name", "how", "batch", "dtype"), [
    case if case in IN_BATCHES else pytest.param(*case, marks=pytest.mark.slow)
    for of, batch, dtype in itertools.product(CASES, ("arrays", "cotangents"), (jnp.float16, jnp.bfloat16))
    for case in [(*of, batch, dtype)]
])  # fmt: skip
def test_gradients_in_batches_of_sixteen_bits(name: str, how: str, batch: str, dtype: Any) -> None:
    """By two cotangents, or of two sets of arrays: each is the gradient alone, bit by bit."""
    options = {} if "token" in name else {"reduction": how}
    drawn, specs = arguments(name)
    narrow = 6 if "divergence" in name else 3
    arrays = [a.astype(dtype if i < narrow else jnp.float32) for i, a in enumerate(drawn)]

    def of(arrays: list[jax.Array], scale: jax.Array) -> jax.Array:
        def split(*floats: Any) -> Any:
            return weighed(called(name, *floats, axis_name="class", **options))

        return scale * over_two(split, specs)(*arrays)

    gradient = jax.grad(of)
    want = quick(gradient)(arrays, jnp.float32(1))
    if batch == "cotangents":
        got = quick(jax.vmap(gradient, (None, 0)))(arrays, jnp.ones(2))
    else:
        got = quick(jax.vmap(gradient, (0, None)))([jnp.stack([a, a]) for a in arrays], jnp.float32(1))
    for g, w in zip(got, want, strict=True):
        assert g.dtype == w.dtype
        assert np.array_equal(g, np.stack([w] * 2))


def test_a_token_of_no_device_is_nan() -> None:
    arrays, specs = arguments("token_log_probs")
    tokens = jnp.array([0, CLASSES, -1, 7, 4])

    def split(x: Any, w: Any, b: Any) -> Any:
        return lossjax.vocab_parallel_linear_token_statistics(x, w, tokens, bias=b, axis_name="class")

    found = quick(over_two(split, specs))(*arrays)
    assert np.isnan(found.log_probs).tolist() == [False, True, True, False, False]
    logits = np.asarray(arrays[0] @ arrays[1] + arrays[2][None])
    inside = np.isin(tokens, np.arange(CLASSES))
    chosen = np.take_along_axis(logits, np.clip(tokens, 0, CLASSES - 1)[:, None], 1)[:, 0]
    np.testing.assert_array_equal(found.is_top, inside & (chosen == np.max(logits, axis=1)))


def test_what_crosses_the_devices_does_not_grow_with_the_classes() -> None:
    """A few numbers a row, and the sum for the hidden states."""

    def moved(classes: int) -> list[tuple[str, int]]:
        def split(x: Any, w: Any, y: Any, v: Any) -> Any:
            return lossjax.vocab_parallel_linear_softmax_kl_divergence(x, w, y, v, axis_name="class", reduction="sum")

        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((ROWS, WIDTH), (WIDTH, classes))] * 2
        specs = [P(), P(None, "class")] * 2
        program = quick(jax.value_and_grad(over_two(split, specs), (0, 1, 2, 3))).lower(*shapes).compile()
        return collectives(program.as_text() or "")

    small, large = moved(64), moved(1024)
    assert small == large
    assert {name for name, _ in small} == {"all-reduce"}
    assert all(size <= 2 * ROWS * max(WIDTH, 8) for _, size in small)


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "token_log_probs", "softmax_kl_divergence", "loss"])
def test_sixteen_bit_gradients_are_summed_over_devices_in_float32(name: str) -> None:
    """Those in the hidden states over the classes' devices, that in the weight over the rows'; unless one asks."""
    mesh = AbstractMesh((2, 2), ("data", "class"), axis_types=(AxisType.Auto,) * 2)
    specs = P("data"), P(None, "class"), P("data")
    shapes = ((8, WIDTH), jnp.bfloat16), ((WIDTH, CLASSES), jnp.bfloat16), ((8,), jnp.int32)
    given = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]

    def sums(in_16_bits: bool) -> set[str]:
        def mean(x: jax.Array, w: jax.Array, labels: jax.Array) -> jax.Array:
            if in_16_bits:
                x, w = jax.lax.pcast(x, "class", to="varying"), jax.lax.pcast(w, "data", to="varying")
            others = (x, w) if "divergence" in name else (labels,)
            of_part = functools.partial(lossjax.vocab_parallel_softmax_cross_entropy, axis_name="class")
            function = getattr(lossjax, f"vocab_parallel_linear_{name}")
            function = functools.partial(function, of_part) if name == "loss" else function
            losses = function(x, w, *others, axis_name="class", chunk_size=2)
            return jax.lax.pmean(jnp.mean(losses), "data")

        program = jax.value_and_grad(jax.shard_map(mean, mesh=mesh, in_specs=specs, out_specs=P()), (0, 1))
        text = jax.jit(program).trace(*given).lower(lowering_platforms=("cpu",)).as_text()
        return set(re.findall(r"all_reduce.*?\) : \(tensor<([^>]*)>\)", text, re.S))

    found = sums(False)
    assert {f"4x{WIDTH}xf32", f"{WIDTH}x{CLASSES // 2}xf32"} <= found
    assert not any("bf16" in kind for kind in found)
    assert {f"4x{WIDTH}xbf16", f"{WIDTH}x{CLASSES // 2}xbf16"} <= sums(True)


def test_a_name_that_is_no_axis() -> None:
    x, w = jnp.ones((2, 3)), jnp.ones((3, 4))
    with pytest.raises(ValueError, match="axis_name 'class' is no mesh axis here"):
        lossjax.vocab_parallel_linear_softmax_entropy(x, w, axis_name="class")
    with pytest.raises(ValueError, match="axis_name 'class' is no mesh axis here"):
        lossjax.vocab_parallel_linear_loss(jnp.sum, x, w, axis_name="class")


def test_a_user_s_loss_joins_the_devices_parts_itself() -> None:
    """With its gradient in every float it is that loss of all logits."""

    def of_part(logits: jax.Array, labels: jax.Array) -> jax.Array:
        entropy = lossjax.vocab_parallel_softmax_cross_entropy(logits, labels, axis_name="class")
        return entropy**2 + jax.lax.psum(jnp.sum(logits**2, axis=-1), "class")

    def of_all(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return lossjax.softmax_cross_entropy_with_integer_labels(logits, labels) ** 2 + jnp.sum(logits**2, axis=-1)

    labels = jnp.array([0, 3, 7, 5, 4])

    def total(
        linear_loss: Callable[..., Any], loss: Callable[..., Any], x: jax.Array, w: jax.Array, b: jax.Array
    ) -> jax.Array:
        losses = linear_loss(loss, x, w, labels, bias=b, chunk_size=2)
        return jnp.sum(losses * jnp.arange(1, ROWS + 1, dtype=losses.dtype))

    with jax.enable_x64(True):
        arrays, specs = arguments("softmax_entropy")
        over_devices = functools.partial(lossjax.vocab_parallel_linear_loss, axis_name="class")
        split = over_two(functools.partial(total, over_devices, of_part), specs)
        got = quick(jax.value_and_grad(split, (0, 1, 2)))(*arrays)
        want = quick(jax.value_and_grad(functools.partial(total, lossjax.linear_loss, of_all), (0, 1, 2)))(*arrays)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=0, atol=64 * CLASSES * 2.0**-53 * np.abs(w).max())
