"""Classes split over devices, by hand: the value and every derivative are those of the loss on one device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import lossjax
from lossjax import linear_softmax_cross_entropy, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from lossjax import vocab_parallel_linear_softmax_cross_entropy as parallel_head
from lossjax import vocab_parallel_softmax_cross_entropy as parallel_loss
from tests.support.compiled import collectives, text_of
from tests.support.quick import quick

ROWS, HIDDEN, CLASSES = 7, 5, 26
CLASS, SHARED = P("class"), P()
LAST = P(None, "class")

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "smoothing over all": {"label_smoothing": 0.1},
    "smoothing over others": {"label_smoothing": 0.3, "smoothing": "others"},
    "all smoothing": {"label_smoothing": 1.0, "smoothing": "others"},
    "masked": {"where": np.arange(ROWS) != 2},
}


def mesh() -> jax.sharding.Mesh:
    return jax.make_mesh((2,), ("class",), axis_types=(AxisType.Auto,))


def split(fn: Callable[..., Any], *specs: Any, out: Any = SHARED) -> Callable[..., Any]:
    return jax.shard_map(fn, mesh=mesh(), in_specs=specs, out_specs=out)


def data(random: np.random.Generator, dtype: str) -> dict[str, jax.Array]:
    soft = random.dirichlet(np.ones(CLASSES), ROWS)
    soft[1] = np.eye(CLASSES)[20]
    arrays = {
        "logits": random.normal(size=(ROWS, CLASSES)) * 5 + 30,
        "soft": soft,
        "class_weights": random.uniform(0.2, 2, CLASSES),
        "cotangent": random.uniform(0.2, 2, ROWS),  # positive: the weighed sum is as large as its terms
        "z_loss": 0.02,
        "logit_softcap": 40.0,
        "temperature": 1.3,
        "hidden": random.normal(size=(ROWS, HIDDEN)),
        "weight": random.normal(size=(HIDDEN, CLASSES)),
        "bias": random.normal(size=CLASSES),
    }
    ready = {name: jnp.asarray(value, dtype) for name, value in arrays.items()}
    return {**ready, "labels": jnp.asarray([0, 12, 13, 25, 4, 19, 13])}


def agree(got: Any, wanted: Any, u: float) -> None:
    """Both sum the same terms in another order: C·u of the largest entry, and the losses' own 16u."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=(CLASSES + 16) * u * max(1, float(jnp.max(jnp.abs(b)))))


@pytest.mark.covering
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["labels", "soft"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_value_and_every_gradient(kind: str, options: dict[str, Any], dtype: str, random: np.random.Generator) -> None:
    with jax.enable_x64(dtype == "float64"):
        given = data(random, dtype)
        targets = given[kind]
        floats = [given[n] for n in ("logits", "class_weights", "z_loss", "logit_softcap", "temperature", "cotangent")]

        def weighed(loss: Callable[..., Any]) -> Callable[..., Any]:
            def of(targets: Any, z: Any, weights: Any, z_loss: Any, cap: Any, T: Any, cotangent: Any) -> Any:
                losses, lse = loss(
                    z, targets, class_weights=weights, z_loss=z_loss, logit_softcap=cap, temperature=T,
                    return_logsumexp=True, **options,
                )  # fmt: skip
                return jnp.vdot(losses, cotangent) + jnp.vdot(cotangent**2, lse)

            return of

        whole = weighed(softmax_cross_entropy if kind == "soft" else softmax_cross_entropy_with_integer_labels)
        part = weighed(lambda *args, **kwargs: parallel_loss(*args, axis_name="class", **kwargs))
        sharded = split(part, LAST if kind == "soft" else SHARED, LAST, CLASS, *[SHARED] * 4)
        argnums = tuple(range(0 if kind == "soft" else 1, 7))
        u = float(jnp.finfo(dtype).eps) / 2
        got = quick(jax.value_and_grad(sharded, argnums))(targets, *floats)
        agree(got, quick(jax.value_and_grad(whole, argnums))(targets, *floats), 4 * u)


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_derivatives_of_every_order(kind: str, random: np.random.Generator) -> None:
    """Forward mode, and forward over reverse or reverse over reverse, in all arguments at once; z-loss included."""
    given = data(random, "float32")
    floats = [given[n] for n in ("logits", "class_weights", "z_loss", "temperature")]
    along = [jnp.asarray(random.normal(size=a.shape), a.dtype) for a in floats]
    cotangent = given["cotangent"]

    def weighed(loss: Callable[..., Any]) -> Callable[..., Any]:
        def of(targets: Any, z: Any, weights: Any, z_loss: Any, T: Any) -> Any:
            losses = loss(z, targets, class_weights=weights, z_loss=z_loss, temperature=T, label_smoothing=0.1)
            return jnp.vdot(losses, cotangent)

        return of

    whole = weighed(softmax_cross_entropy if kind == "soft" else softmax_cross_entropy_with_integer_labels)
    part = weighed(lambda *args, **kwargs: parallel_loss(*args, axis_name="class", **kwargs))
    sharded = split(part, LAST if kind == "soft" else SHARED, LAST, CLASS, SHARED, SHARED)

    def orders(fn: Callable[..., Any]) -> Any:
        of = lambda *floats: fn(given[kind], *floats)  # noqa: E731
        gradient = jax.grad(of, (0, 1, 2, 3))
        first = jax.jvp(of, floats, along)[1]
        if kind == "soft":
            return first, jax.jvp(gradient, floats, along)[1]
        return first, jax.grad(lambda *f: sum(map(jnp.vdot, gradient(*f), along)), (0, 1, 2, 3))(*floats)

    agree(quick(lambda: orders(sharded))(), quick(lambda: orders(whole))(), 2.0**-20)


@pytest.mark.parametrize("reduction", ["none", pytest.param("sum", marks=pytest.mark.slow), "mean"])
def test_head(reduction: str, random: np.random.Generator) -> None:
    """It is held against stored logits on one device, whose program is a third of the head's."""
    given = data(random, "float32")
    floats = [given[n] for n in ("hidden", "weight", "bias", "class_weights", "temperature", "cotangent")]
    labels = given["labels"]

    def weighed(loss: Callable[..., Any]) -> Callable[..., Any]:
        def of(x: Any, W: Any, b: Any, weights: Any, T: Any, cotangent: Any) -> Any:
            losses = loss(
                x, W, labels, bias=b, class_weights=weights, temperature=T, reduction=reduction, ignore_index=4,
                label_smoothing=0.1,
            )  # fmt: skip
            return jnp.vdot(losses, cotangent) if reduction == "none" else losses * cotangent[0]

        return of

    def stored(x: Any, W: Any, labels: Any, *, bias: Any, **options: Any) -> Any:
        return softmax_cross_entropy_with_integer_labels(x @ W + bias[None], labels, **options)

    part = weighed(lambda *args, **kwargs: parallel_head(*args, axis_name="class", chunk_size=3, **kwargs))
    sharded = split(part, SHARED, LAST, CLASS, CLASS, SHARED, SHARED)
    whole = weighed(stored)
    argnums = tuple(range(6))
    along = [jnp.asarray(random.normal(size=a.shape), a.dtype) for a in floats]

    def derivatives(fn: Callable[..., Any]) -> Any:
        return jax.jvp(jax.value_and_grad(fn, argnums), floats, along)

    agree(quick(lambda: derivatives(sharded))(), quick(lambda: derivatives(whole))(), 2.0**-22)


def test_rows_over_devices_too() -> None:
    """The rows split over the same devices as nothing else: the head's sum inside a data-parallel shard_map."""
    x, W = jnp.ones((4, 3)), jnp.eye(3, 5)
    labels = jnp.array([0, 1, 2, 4])

    def step(x: Any, labels: Any, W: Any) -> Any:
        loss = linear_softmax_cross_entropy(x, W, labels, reduction="sum", chunk_size=1)
        return jax.lax.psum(loss, "class")

    sharded = split(step, P("class"), P("class"), SHARED)
    got = quick(jax.value_and_grad(sharded, (0, 2)))(x, labels, W)
    wanted = quick(
        jax.value_and_grad(lambda x, y, W: softmax_cross_entropy_with_integer_labels(x @ W, y, reduction="sum"), (0, 2))
    )
    agree(got, wanted(x, labels, W), 2.0**-23)


def test_confident_rows_keep_their_digits() -> None:
    """A gap of 60 between devices: loss and p - 1 are e^-60, not the 0 of a subtraction."""
    z = jnp.zeros((2, 4)).at[:, 3].set(60.0)
    labels = jnp.array([3, 0])
    loss = split(lambda z, y: parallel_loss(z, y, axis_name="class"), LAST, SHARED)

    def both(z: jax.Array) -> Any:
        value, pullback = jax.vjp(lambda z: loss(z, labels), z)
        return value, pullback(jnp.ones(2))[0]

    value, gradient = quick(both)(z)
    want = 3 * np.exp(-60.0)
    np.testing.assert_allclose(value, [want, 60.0], rtol=1e-6)
    np.testing.assert_allclose(gradient[0], [*[np.exp(-60.0)] * 3, -want], rtol=1e-5)


BAD = {
    "label below": ([-1, 3], None),
    "label above": ([8, 3], None),
    "two infinities, one a device": ([0, 3], (0, [0, 5], np.inf)),
    "nothing left": ([0, 3], (0, slice(None), -np.inf)),
    "NaN on the other device": ([0, 3], (0, 6, np.nan)),
}


@quick
def value_and_slopes_of_two_rows(z: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    loss = split(lambda z, y: parallel_loss(z, y, axis_name="class"), LAST, SHARED)
    value, pullback = jax.vjp(lambda z: loss(z, labels), z)
    return value, pullback(jnp.ones(2))[0]


@pytest.mark.parametrize(("labels", "put"), BAD.values(), ids=BAD)
def test_bad_rows_are_nan(labels: list[int], put: tuple[int, Any, float] | None) -> None:
    z = np.zeros((2, 8), np.float32)
    if put is not None:
        z[put[0], put[1]] = put[2]
    value, gradient = value_and_slopes_of_two_rows(jnp.asarray(z), jnp.asarray(labels))
    assert np.isnan(value[0])
    assert np.isnan(gradient[0]).all()
    np.testing.assert_allclose(value[1], np.log(8), rtol=1e-6)


def test_infinite_logits() -> None:
    """A class of -inf is out on any device; one +inf is certain on any device."""
    z = jnp.array([[0.0, -jnp.inf, 0.0, 0.0], [0.0, 0.0, jnp.inf, 0.0], [0.0, 0.0, jnp.inf, 0.0]])
    loss = split(lambda z, y: parallel_loss(z, y, axis_name="class"), LAST, SHARED)
    labels = jnp.array([3, 2, 0])
    np.testing.assert_array_equal(loss(z, labels), softmax_cross_entropy_with_integer_labels(z, labels))


def test_ties_across_devices_have_one_pivot() -> None:
    z, t = jnp.zeros((1, 6)), jnp.full((1, 6), 1 / 6)
    loss = split(lambda z, t: parallel_loss(z, t, axis_name="class"), LAST, LAST)
    value, gradient = quick(jax.value_and_grad(lambda z: loss(z, t)[0]))(z)
    np.testing.assert_allclose(value, np.log(6), rtol=3e-7)
    np.testing.assert_allclose(gradient, np.zeros((1, 6)), atol=3e-8)


def test_what_crosses_the_devices_does_not_grow_with_the_classes() -> None:
    """Read from the compiled program: no collective moves more than a few numbers a row."""

    def moved(classes: int) -> list[tuple[str, int]]:
        loss = split(lambda z, y: parallel_loss(z, y, axis_name="class", reduction="sum"), LAST, SHARED)
        spec = jax.ShapeDtypeStruct((4, classes), jnp.float32)
        labels = jax.ShapeDtypeStruct((4,), jnp.int32)
        return collectives(text_of(jax.value_and_grad(loss), spec, labels))

    small, large = moved(64), moved(8192)
    assert small == large
    assert {name for name, _ in small} == {"all-reduce"}
    assert sum(size for _, size in small) <= 5 * 4


def test_errors_say_what_to_do() -> None:
    z, y = jnp.zeros((2, 4)), jnp.array([0, 1])
    with pytest.raises(ValueError, match=r"axis_name 'class' is no mesh axis here \(there are \[\]\)"):
        parallel_loss(z, y, axis_name="class")
    with pytest.raises(ValueError, match=r"axis_name 'vocab' is no mesh axis here .*'class'"):
        split(lambda z, y: parallel_loss(z, y, axis_name="vocab"), LAST, SHARED)(z, y)
    with pytest.raises(ValueError, match="axis_name 'vocab'"):
        parallel_head(jnp.ones((2, 3)), jnp.ones((3, 4)), y, axis_name="vocab")
    head = split(lambda x, W: parallel_head(x, W, y, axis_name="class", chunk_size=0), SHARED, LAST)
    with pytest.raises(ValueError, match="chunk_size must be at least 1"):
        head(jnp.ones((2, 3)), jnp.ones((3, 4)))
    assert lossjax.vocab_parallel_softmax_cross_entropy is parallel_loss
