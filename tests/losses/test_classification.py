"""What the cross-entropies accept, refuse and keep; and what always holds of them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lossjax import sigmoid_cross_entropy, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from lossjax._core.plain import plain_of, with_plain
from tests.support.quick import quick

LABEL, TARGET, BINARY = softmax_cross_entropy_with_integer_labels, softmax_cross_entropy, sigmoid_cross_entropy
Z = jnp.float32([[1, 2, 4], [0, -1, 3]])
T = jnp.float32([[0.5, 0.5, 0], [0, 0.25, 0.75]])
LABELS = jnp.int32([0, 2])


def _pulled(loss: Callable[..., jax.Array], *args: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    value, pullback = jax.vjp(loss, *args)
    return value, pullback(jnp.ones_like(value))


# --- shapes, axes and dtypes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [(), (2, 1, 3)])
def test_any_leading_shape(leading: tuple[int, ...], random: np.random.Generator) -> None:
    with jax.enable_x64(True):
        z = jnp.asarray(random.normal(size=(*leading, 5)))
        t = jnp.asarray(random.dirichlet(np.ones(5), leading))
        labels = jnp.asarray(random.integers(0, 5, leading))
        flat, t_flat, labels_flat = z.reshape(-1, 5), t.reshape(-1, 5), labels.reshape(-1)
        for loss, second, second_flat in ((LABEL, labels, labels_flat), (TARGET, t, t_flat)):
            got = quick(loss)(z, second)
            assert got.shape == leading
            assert np.allclose(got.ravel(), quick(loss)(flat, second_flat), rtol=8 * 2.0**-53, atol=0)


@pytest.mark.parametrize("axis", [pytest.param(0, marks=pytest.mark.slow), -2, (2, 0), (-1, 1, 0)])
def test_the_class_axis_may_be_any_or_several(axis: int | tuple[int, ...], random: np.random.Generator) -> None:
    """Value and gradient are those of the logits with the classes moved last and flattened in the order given."""
    with jax.enable_x64(True):
        z, t = jnp.asarray(random.normal(size=(3, 4, 5))), jnp.asarray(random.uniform(size=(3, 4, 5)))
        several = tuple(a % 3 for a in (axis if isinstance(axis, tuple) else (axis,)))
        rest = [a for a in range(3) if a not in several]
        order, shape = (*rest, *several), tuple(z.shape[a] for a in rest)

        def last(x: jax.Array) -> jax.Array:
            return x.transpose(order).reshape(*shape, -1)

        labels = jnp.asarray(random.integers(0, last(z).shape[-1], shape))
        weights = jnp.asarray(random.uniform(0.5, 2, last(z).shape[-1]))
        for loss, second, moved in ((LABEL, labels, labels), (TARGET, t, last(t))):
            g = jnp.asarray(random.normal(size=shape))
            got, want = quick(
                lambda z, f=loss, s=second, m=moved, g=g: (
                    jax.value_and_grad(lambda z: jnp.sum(f(z, s, axis=axis, class_weights=weights) * g))(z),
                    jax.value_and_grad(lambda z: jnp.sum(f(last(z), m, class_weights=weights) * g))(z),
                )
            )(z)
            assert jax.eval_shape(functools.partial(loss, axis=axis), z, second).shape == shape
            assert np.allclose(got[0], want[0], rtol=1e-14, atol=1e-13)
            assert np.allclose(got[1], want[1], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64"])
def test_label_dtypes(dtype: str, random: np.random.Generator) -> None:
    """200 classes do not fit an int8, nor does a class index computed in it."""
    with jax.enable_x64(True):
        z = jnp.asarray(random.normal(size=(6, 200)), jnp.float32)
        labels = random.integers(0, 127 if dtype == "int8" else 200, 6)
        both = quick(jax.value_and_grad(lambda z, c: LABEL(z, c, reduction="sum", ignore_index=-100)))
        want, got = both(z, jnp.int32(labels)), both(z, jnp.asarray(labels, dtype))
        assert got[0] == want[0]
        assert np.array_equal(got[1], want[1])


def test_labels_may_be_numpy_or_lists() -> None:
    assert np.array_equal(LABEL(np.asarray(Z), np.asarray(LABELS)), LABEL(Z, LABELS))
    assert np.array_equal(LABEL(Z, [0, 2]), LABEL(Z, LABELS))  # jnp.asarray takes lists


@pytest.mark.parametrize(("first", "second", "result"), [
    ("bfloat16", "float32", "float32"), ("float16", "bfloat16", "float32"), ("float64", "float16", "float64"),
])  # fmt: skip
def test_dtypes_mix_under_strict_promotion(first: str, second: str, result: str) -> None:
    """The result has the wider dtype, at least float32; each gradient its argument's."""
    with jax.enable_x64(True):
        z, t, w = Z.astype(first), T.astype(second), jnp.ones(3, second)
        for loss, args in (
            (TARGET, (z, t)), (BINARY, (z, t)), (lambda z, w: LABEL(z, LABELS, class_weights=w), (z, w)),
            (lambda z, t: TARGET(z, t, label_smoothing=0.1, z_loss=0.1, temperature=2.0, logit_softcap=9), (z, t)),
            (lambda z, t: BINARY(z, t, pos_weight=t, label_smoothing=0.1), (z, t)),
        ):  # fmt: skip
            value, pulled = jax.eval_shape(lambda *a, f=loss: _pulled(f, *a), *args)
            assert value.dtype == result
            assert [g.dtype for g in pulled] == [a.dtype for a in args]
        both = quick(functools.partial(_pulled, TARGET))
        (value, pulled), (want, slopes) = both(z, t), both(z.astype("float64"), t.astype("float64"))
        assert np.allclose(value, want, rtol=1e-6)
        assert all(
            np.allclose(g.astype("float64"), s, rtol=1e-2, atol=1e-3) for g, s in zip(pulled, slopes, strict=True)
        )


# --- jit, closures, what is kept -------------------------------------------------------------------------------------


def test_options_may_be_closed_over_or_traced(random: np.random.Generator) -> None:
    z, labels = jnp.asarray(random.normal(size=(7, 3)), jnp.float32), jnp.asarray(random.integers(0, 3, 7), jnp.int32)
    weights, temperature = jnp.float32([0.5, 1, 2]), jnp.float32(1.7)

    def loss(z: jax.Array, w: jax.Array, t: jax.Array, lam: jax.Array, cap: jax.Array) -> jax.Array:
        return LABEL(z, labels, class_weights=w, temperature=t, z_loss=lam, logit_softcap=cap, reduction="mean")

    traced = quick(jax.grad(loss, (0, 1, 2, 3, 4)))(z, weights, temperature, jnp.float32(0.1), jnp.float32(5))
    closed = quick(jax.grad(lambda z: loss(z, weights, temperature, 0.1, 5)))(z)
    assert np.allclose(traced[0], closed, rtol=1e-6, atol=1e-8)
    assert all(np.all(np.isfinite(g)) and np.any(g) for g in traced)
    mapped = quick(jax.vmap(loss, (None, None, 0, None, None)))
    tempered = mapped(z, weights, jnp.float32([0.5, 1, 2]), jnp.float32(0), jnp.float32(5))
    assert np.allclose(tempered[1], quick(lambda z: loss(z, weights, 1.0, 0.0, 5.0))(z), rtol=1e-6)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mean": {"reduction": "mean", "ignore_index": -100},
    "all": {
        "label_smoothing": 0.1, "z_loss": 1e-4, "logit_softcap": 30.0, "temperature": 1.3,
        "class_weights": np.ones(257, np.float32),
    },
}  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
def test_nothing_but_numbers_a_row_is_kept_beside_the_logits(options: str) -> None:
    """Residuals of the pullback: the arguments (16-bit as they are), class weights, and a few numbers a row.

    At most 6; of a smoothed distribution 8: the five statistics of the row, and three sums of its target, without which
    the backward pass would read the row and the target once more.
    """
    rows, classes = 64, 257
    z, labels = jnp.ones((rows, classes), jnp.bfloat16), jnp.zeros(rows, jnp.int32)
    t = jnp.ones((rows, classes), jnp.bfloat16)
    for make in (jax.vjp, lambda f, z: quick(lambda z: jax.vjp(f, z))(z)):
        _, pullback = make(lambda z: LABEL(z, labels, **OPTIONS[options]), z)
        spent = sum(x.nbytes for x in jax.tree.leaves(pullback))
        assert spent <= z.nbytes + 4 * (6 * rows + classes + 16), f"{spent} bytes kept, the logits have {z.nbytes}"
    rest = {k: v for k, v in OPTIONS[options].items() if k != "ignore_index"}
    _, pullback = jax.vjp(lambda z: TARGET(z, t, **rest), z)
    assert sum(x.nbytes for x in jax.tree.leaves(pullback)) <= 2 * z.nbytes + 4 * (8 * rows + classes + 16)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}], ids=str)
def test_labels_are_not_spread_over_the_classes(options: dict[str, Any]) -> None:
    """No one-hot array: a sum over the classes takes an eighth of the row, and label smoothing is one more sum."""
    rows, classes = 64, 8192
    shapes = jax.ShapeDtypeStruct((rows, classes), jnp.float32), jax.ShapeDtypeStruct((rows,), jnp.int32)
    analysis = quick(lambda z, labels: LABEL(z, labels, **options)).lower(*shapes).compile().memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes <= (1 + len(options)) * 4 * rows * classes / 8 + 64 * 4 * rows


@pytest.mark.covering
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"label_smoothing": 0.1, "z_loss": 1e-4}], ids=str)
def test_a_gradient_is_the_only_array_of_the_logits_size(options: dict[str, Any], dtype: str) -> None:
    """Value and gradient take what the sums over the classes take, an eighth of a row in float32 each."""
    rows, classes = 64, 8192

    def loss(z: jax.Array, labels: jax.Array) -> jax.Array:
        return LABEL(z, labels, reduction="mean", **options)

    shapes = jax.ShapeDtypeStruct((rows, classes), dtype), jax.ShapeDtypeStruct((rows,), "int32")
    analysis = quick(jax.value_and_grad(loss)).lower(*shapes).compile().memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes <= 2 * 4 * rows * classes / 8 + 64 * 4 * rows


@pytest.mark.parametrize("how", ["uniform", "others"])
def test_label_smoothing_is_an_argument(how: str) -> None:
    """Traced, with its gradient and a Hessian's product, also where it is 1; one program for all; NaN outside [0, 1].

    Forward mode; and forward over reverse where all classes get a share, reverse over reverse where only the others do.
    """
    traced = []

    def loss(z: jax.Array, targets: jax.Array, amount: jax.Array) -> jax.Array:
        traced.append(amount)
        shared: dict[str, Any] = {"label_smoothing": amount, "smoothing": how}
        weights = jnp.asarray([1, 2, 3], z.dtype)
        return LABEL(z, LABELS, **shared) + TARGET(z, targets, class_weights=weights, **shared)

    program = jax.jit(loss)
    values = [float(jnp.sum(program(Z, T, amount))) for amount in (0.1, 0.2, 1.0, 1.5, -0.1)]
    assert len(traced) == 1
    assert np.isfinite(values).tolist() == [True] * 3 + [False] * 2
    # Eager or not, each of six terms is within 13u of itself, and none is negative.
    np.testing.assert_allclose(values[0], float(jnp.sum(loss(Z, T, jnp.float32(0.1)))), rtol=26 * 2.0**-24)
    each = jax.vmap(loss, (None, None, 0))
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        args = Z.astype(jnp.float64), T.astype(jnp.float64), jnp.asarray([0.0, 0.3, 1.0])
        along = tuple(jnp.asarray(random.normal(size=a.shape)) for a in args)
        cotangents = jnp.asarray(random.normal(size=(3, len(LABELS))))

        def derivatives(of: Callable[..., jax.Array]) -> Any:
            def total(*args: jax.Array) -> jax.Array:
                return jnp.vdot(cotangents, of(*args))

            slope = jax.value_and_grad(total, (0, 1, 2))
            if how == "uniform":
                return jax.jvp(of, args, along), jax.jvp(slope, args, along)
            along_slope = jax.grad(lambda *a: sum(map(jnp.vdot, along, slope(*a)[1])), (0, 1, 2))
            return jax.jvp(of, args, along), slope(*args), along_slope(*args)

        plain = plain_of(with_plain(lambda *a: each(*a)))
        got, want = quick(lambda: (derivatives(each), derivatives(plain)))()
    for one, truth in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, truth, rtol=0, atol=1e-11 * max(1.0, float(np.max(np.abs(truth)))))


@pytest.mark.covering
@pytest.mark.parametrize("what", ["value", "value and gradient"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_temporary_memory(dtype: str, what: str) -> None:
    """At most twice the logits in float32."""

    def loss(z: jax.Array, labels: jax.Array) -> jax.Array:
        return LABEL(z, labels, reduction="mean")

    z, labels = jax.ShapeDtypeStruct((512, 4099), dtype), jax.ShapeDtypeStruct((512,), "int32")
    analysis = quick(loss if what == "value" else jax.value_and_grad(loss)).lower(z, labels).compile().memory_analysis()
    assert analysis is not None
    spent = analysis.temp_size_in_bytes / (512 * 4099 * 4)
    assert spent <= 2.1, f"{spent:.2f} times the logits"


# --- what always holds (the rest is in tests/contract/test_symmetries.py) --------------------------------------------

STEADY = settings(deadline=None, max_examples=25, derandomize=True)


binary = quick(jax.value_and_grad(lambda z, y: jnp.sum(BINARY(z, y))))
two_classes = quick(jax.value_and_grad(lambda z, t: jnp.sum(TARGET(z, t))))


@STEADY
@given(
    arrays.arrays(np.float32, (4, 3), elements=st.floats(-100, 100, width=32)),
    arrays.arrays(np.float32, (4, 3), elements=st.floats(0, 1, width=32)),
)
def test_the_binary_loss_is_two_class_softmax(z: np.ndarray, y: np.ndarray) -> None:
    pair, t = np.stack([z, np.zeros_like(z)], -1), np.stack([y, 1 - y], -1)
    (value, slope), (want, pulled) = binary(z, y), two_classes(pair, t)
    assert value >= 0
    assert abs(float(value - want)) <= 64 * 2.0**-24 * float(want) + 1e-36
    assert np.allclose(slope, pulled[..., 0], rtol=0, atol=32 * 2.0**-24)
