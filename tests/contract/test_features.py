"""The feature table of the README, row by row: each "yes" of lossjax is a test here, and each test a row there."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax import softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from lossjax.geometry import softmax_fisher_vector_product
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (?P<feature>[^|]+?) +\| (?P<lossjax>[^|]+?) +\|", re.MULTILINE)
U = 2.0**-24

CHECKS: dict[str, Callable[[], None]] = {}


def feature(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(check: Callable[[], None]) -> Callable[[], None]:
        CHECKS[name] = check
        return check

    return register


def table() -> dict[str, str]:
    """Feature -> what lossjax's column says."""
    part = README.split("<!-- features -->")[1].split("<!-- end of features -->")[0]
    rows = {m["feature"]: m["lossjax"] for m in ROW.finditer(part)}
    rows.pop("feature")
    return {name: says for name, says in rows.items() if set(name) - set("-: ")}


def test_the_table_and_the_tests_are_in_step() -> None:
    assert {name for name, says in table().items() if says == "yes"} == set(CHECKS)
    assert set(table().values()) == {"yes"}


@pytest.mark.parametrize("name", CHECKS)
def test_feature(name: str) -> None:
    CHECKS[name]()


# --- the features ----------------------------------------------------------------------------------------------------

Z = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)) * 2, jnp.float32)
LABELS = jnp.asarray([0, 4, 2, 1, 3, 3])
HOT = jax.nn.one_hot(LABELS, 5)
LOG_P = jax.nn.log_softmax(Z)


def gradient(loss: Callable[..., jax.Array], *args: Any, **options: Any) -> jax.Array:
    return jax.grad(lambda z: loss(z, *args, **options).sum())(Z)


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got, want, rtol=64 * U, atol=64 * U)


def temporary_bytes(function: Callable[..., Any], *shapes: tuple[tuple[int, ...], Any]) -> int:
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    memory = jax.jit(function).lower(*arrays).compile().memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


@feature("integer labels, no one-hot in memory")
def _() -> None:
    close(softmax_cross_entropy_with_integer_labels(Z, LABELS), -jnp.sum(HOT * LOG_P, -1))
    rows, classes = 64, 8192
    used = temporary_bytes(
        softmax_cross_entropy_with_integer_labels, ((rows, classes), jnp.float32), ((rows,), jnp.int32)
    )
    assert used < rows * classes  # a quarter of one array of the logits' size


@feature("soft targets")
def _() -> None:
    targets = jax.nn.softmax(Z[::-1])
    close(softmax_cross_entropy(Z, targets), -jnp.sum(targets * LOG_P, -1))
    close(gradient(softmax_cross_entropy, targets), jax.nn.softmax(Z) - targets)


@feature("right gradient for targets that do not sum to 1")
def _() -> None:
    targets = HOT * jnp.asarray([0, 2, 1, 0.5, 0, 3]).reshape(6, 1)
    close(gradient(softmax_cross_entropy, targets), targets.sum(-1, keepdims=True) * jax.nn.softmax(Z) - targets)
    close(jax.grad(lambda t: softmax_cross_entropy(Z, t).sum())(targets), -LOG_P)


@feature("`ignore_index`, masks that hide anything")
def _() -> None:
    bad = Z.at[2].set(jnp.nan)
    labels = LABELS.at[2].set(-100)
    value, slope = jax.value_and_grad(
        lambda z: softmax_cross_entropy_with_integer_labels(z, labels, ignore_index=-100, reduction="mean")
    )(bad)
    kept = jnp.asarray([0, 1, 3, 4, 5])
    close(value, softmax_cross_entropy_with_integer_labels(Z[kept], LABELS[kept]).mean())
    assert (slope[2] == 0).all()
    assert (gradient(softmax_cross_entropy, HOT * jnp.nan, where=jnp.zeros(6, bool)) == 0).all()


@feature("class weights, with their gradient")
def _() -> None:
    weights = jnp.linspace(0.5, 2, 5, dtype=jnp.float32)

    def loss(w: jax.Array) -> jax.Array:
        return softmax_cross_entropy_with_integer_labels(Z, LABELS, class_weights=w, reduction="mean")

    def plain(w: jax.Array) -> jax.Array:
        return jnp.sum(w[LABELS] * -jnp.sum(HOT * LOG_P, -1)) / jnp.sum(w[LABELS])

    close(loss(weights), plain(weights))
    close(jax.grad(loss)(weights), jax.grad(plain)(weights))


@feature("label smoothing on integer labels, both conventions")
def _() -> None:
    for name, smoothed in (("uniform", 0.9 * HOT + 0.1 / 5), ("others", 0.9 * HOT + 0.1 / 4 * (1 - HOT))):
        got = softmax_cross_entropy_with_integer_labels(Z, LABELS, label_smoothing=0.1, smoothing=name)
        close(got, -jnp.sum(smoothed * LOG_P, -1))
    rows, classes = 64, 8192
    used = temporary_bytes(
        lambda z, y: softmax_cross_entropy_with_integer_labels(z, y, label_smoothing=0.1),
        ((rows, classes), jnp.float32), ((rows,), jnp.int32),
    )  # fmt: skip
    assert used < rows * classes  # a quarter of a one-hot array


@feature("z-loss, with its coefficient's gradient")
def _() -> None:
    squares = jnp.square(jax.nn.logsumexp(Z, -1))
    base = softmax_cross_entropy_with_integer_labels(Z, LABELS)
    close(softmax_cross_entropy_with_integer_labels(Z, LABELS, z_loss=0.1), base + 0.1 * squares)
    slope = jax.grad(lambda c: softmax_cross_entropy_with_integer_labels(Z, LABELS, z_loss=c).sum())(0.1)
    close(slope, squares.sum())


@feature("log-sum-exp returned, differentiable")
def _() -> None:
    def lse(z: jax.Array) -> jax.Array:
        return softmax_cross_entropy_with_integer_labels(z, LABELS, return_logsumexp=True)[1]

    close(lse(Z), jax.nn.logsumexp(Z, -1))
    close(jax.grad(lambda z: lse(z).sum())(Z), jax.nn.softmax(Z))


@feature("logit softcap and temperature, with their gradients")
def _() -> None:
    def own(cap: jax.Array, temperature: jax.Array) -> jax.Array:
        options: Any = {"logit_softcap": cap, "temperature": temperature}
        return softmax_cross_entropy_with_integer_labels(Z, LABELS, **options).sum()

    def plain(cap: jax.Array, temperature: jax.Array) -> jax.Array:
        return -jnp.sum(HOT * jax.nn.log_softmax(cap * jnp.tanh(Z / cap) / temperature))

    at = jnp.float32(3), jnp.float32(0.7)
    close(own(*at), plain(*at))
    close(jnp.stack(jax.grad(own, (0, 1))(*at)), jnp.stack(jax.grad(plain, (0, 1))(*at)))


@feature("reductions; a mean over nothing is 0")
def _() -> None:
    rows = softmax_cross_entropy_with_integer_labels(Z, LABELS)
    close(softmax_cross_entropy_with_integer_labels(Z, LABELS, reduction="sum"), rows.sum())
    close(softmax_cross_entropy_with_integer_labels(Z, LABELS, reduction="mean"), rows.mean())
    nothing = {"where": jnp.zeros(6, bool), "reduction": "mean"}
    assert softmax_cross_entropy_with_integer_labels(Z, LABELS, **nothing) == 0
    assert (gradient(softmax_cross_entropy_with_integer_labels, LABELS, **nothing) == 0).all()


@feature("any combination of these options")
def _() -> None:
    """By the plain formula of each piece, in the order that design fixes."""
    weights, mask = jnp.linspace(0.5, 2, 5, dtype=jnp.float32), (LABELS != 2).astype(jnp.float32)
    z = 4 * jnp.tanh(Z / 4) / 1.5
    targets = 0.9 * HOT + 0.02
    rows = -jnp.sum(weights.reshape(1, 5) * targets * jax.nn.log_softmax(z), -1)
    rows = rows + 0.01 * weights[LABELS] * jnp.square(jax.nn.logsumexp(z, -1))
    got = softmax_cross_entropy_with_integer_labels(
        Z.T, LABELS, axis=0, ignore_index=2, class_weights=weights, label_smoothing=0.1, z_loss=0.01, logit_softcap=4.0,
        temperature=1.5, reduction="mean",
    )  # fmt: skip
    close(got, jnp.sum(rows * mask) / jnp.sum(weights[LABELS] * mask))


@feature("focal, poly, generalised, Brier")
def _() -> None:
    p = jax.nn.softmax(Z)[jnp.arange(6), LABELS]
    close(lossjax.softmax_focal_loss(Z, LABELS), -((1 - p) ** 2) * jnp.log(p))
    close(lossjax.poly_cross_entropy(Z, LABELS), -jnp.log(p) + 2 * (1 - p))
    close(lossjax.generalized_cross_entropy(Z, LABELS), (1 - p**0.7) / 0.7)
    close(lossjax.softmax_brier_score(Z, LABELS), jnp.sum((jax.nn.softmax(Z) - HOT) ** 2, -1))


@feature("accuracy, entropy, KL and JS from logits")
def _() -> None:
    close(lossjax.accuracy(Z, LABELS), jnp.mean((jnp.argmax(Z, -1) == LABELS).astype(jnp.float32)))
    p, q = jax.nn.softmax(Z), jax.nn.softmax(Z[::-1])
    m = (p + q) / 2
    close(lossjax.softmax_entropy(Z), -jnp.sum(p * jnp.log(p), -1))
    close(lossjax.softmax_kl_divergence(Z, Z[::-1]), jnp.sum(p * jnp.log(p / q), -1))
    close(lossjax.softmax_js_divergence(Z, Z[::-1]), jnp.sum(p * jnp.log(p / m) + q * jnp.log(q / m), -1) / 2)


@feature("forward mode")
def _() -> None:
    loss = softmax_cross_entropy_with_integer_labels
    _, tangent = jax.jvp(lambda z: loss(z, LABELS), (Z,), (jnp.ones_like(Z).at[:, 0].set(0),))
    close(tangent, jnp.sum(gradient(loss, LABELS)[:, 1:], -1))


@feature("second order")
def _() -> None:
    hessian = jax.hessian(lambda z: softmax_cross_entropy_with_integer_labels(z, LABELS[0]))(Z[0])
    p = jax.nn.softmax(Z[0])
    close(hessian, jnp.diag(p) - jnp.outer(p, p))


@feature("residuals: a few numbers a row beside the logits")
def _() -> None:
    """What a pullback holds on to, counted."""
    rows, classes = 16, 4096
    z, labels = jnp.ones((rows, classes)), jnp.zeros(rows, int)
    _, pullback = jax.vjp(lambda z: softmax_cross_entropy_with_integer_labels(z, labels), z)
    held = sum(x.nbytes for x in jax.tree.leaves(pullback) if hasattr(x, "nbytes"))
    assert held <= z.nbytes + 64 * rows


@feature("few-ulp loss and label gradient")
def _() -> None:
    z = jnp.asarray([[30.0, 0.0, 1.0], [1e4 + 16, 1e4, 1e4 - 8]], jnp.float32)
    gaps = np.float64(z[:, :1]) - np.float64(z[:, 1:])
    truth = np.log1p(np.exp(-gaps).sum(-1))
    loss = softmax_cross_entropy_with_integer_labels
    np.testing.assert_allclose(loss(z, jnp.zeros(2, int)), truth, rtol=8 * U)
    slope = jax.grad(lambda z: loss(z, jnp.zeros(2, int)).sum())(z)
    np.testing.assert_allclose(slope[:, 0], np.expm1(-truth), rtol=8 * U)


@feature("16-bit logits lose nothing")
def _() -> None:
    for dtype in (jnp.bfloat16, jnp.float16):
        z = Z.astype(dtype)
        narrow, wide = (softmax_cross_entropy_with_integer_labels(x, LABELS) for x in (z, z.astype(jnp.float32)))
        assert narrow.dtype == jnp.float32
        assert (narrow == wide).all()


@feature("a label out of range is NaN, in value and gradient")
def _() -> None:
    labels = LABELS.at[1].set(5)
    assert np.isnan(softmax_cross_entropy_with_integer_labels(Z, labels)[1])
    slope = gradient(softmax_cross_entropy_with_integer_labels, labels)
    assert np.isnan(slope[1]).all()
    assert np.isfinite(slope[0]).all()


@feature("Hessian and Fisher products, no C×C matrix")
def _() -> None:
    v = Z[::-1]
    p = jax.nn.softmax(Z)
    want = p * (v - jnp.sum(p * v, -1, keepdims=True))
    close(lossjax.softmax_cross_entropy_hvp(Z, LABELS, v), want)
    close(softmax_fisher_vector_product(Z, v), want)


@feature("gradients proven in ulps against exact arithmetic")
def _() -> None:
    from lossjax.verify import exact, ulp

    def slopes(z: jax.Array) -> jax.Array:
        return jax.grad(lambda z: softmax_cross_entropy_with_integer_labels(z, LABELS).sum())(z)

    assert ulp.in_roundoffs(slopes(Z), exact(slopes)(Z)).max() <= 8


@feature("linear head fused, no logits in memory")
def _() -> None:
    """A sixth of the temporary memory, and the same gradients."""
    shapes = ((2048, 16), jnp.float32), ((16, 8192), jnp.float32), ((2048,), jnp.int32)

    def stored(x: Any, w: Any, y: Any) -> Any:
        return softmax_cross_entropy_with_integer_labels(x @ w, y, reduction="mean")

    def fused(x: Any, w: Any, y: Any) -> Any:
        return lossjax.linear_softmax_cross_entropy(x, w, y, reduction="mean", chunk_size=64)

    ours, theirs = (temporary_bytes(jax.value_and_grad(f, (0, 1)), *shapes) for f in (fused, stored))
    assert 6 * ours <= theirs
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(5, 7)), jnp.float32)
    close(*(jax.grad(f)(weight, Z, LABELS) for f in (lambda w, z, y: fused(z, w, y), lambda w, z, y: stored(z, w, y))))


@feature("classes of no weight skipped, the error bounded")
def _() -> None:
    """Half of the classes are left out of the products, and all that is left out is below the bound."""
    x = jnp.ones((4, 2))
    weight = jnp.concatenate([jnp.ones((2, 2048)), -6 * jnp.ones((2, 2048))], axis=1)

    def gradient(skip_below: float | None) -> Any:
        def total(w: Any) -> Any:
            return lossjax.linear_softmax_cross_entropy(x, w, LABELS[:4], reduction="sum", skip_below=skip_below)

        return jax.grad(total)(weight)

    exact, skipped = gradient(None), gradient(1e-6)
    assert jnp.all(exact[:, 2048:] > 0)
    assert jnp.all(skipped[:, 2048:] == 0)
    assert jnp.max(jnp.abs(skipped - exact)) <= 1e-6 * 4


@feature("classes over devices")
def _() -> None:
    mesh = jax.make_mesh((2,), ("classes",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    z, labels = jnp.concatenate([Z, Z[:, :1]], axis=1), LABELS
    split = jax.shard_map(
        lambda z, y: lossjax.vocab_parallel_softmax_cross_entropy(z, y, axis_name="classes"),
        mesh=mesh, in_specs=(spec(None, "classes"), spec()), out_specs=spec(),
    )  # fmt: skip
    whole = softmax_cross_entropy_with_integer_labels(z, labels)
    np.testing.assert_allclose(split(z, labels), whole, rtol=16 * U)
