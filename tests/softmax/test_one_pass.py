"""The formula for chips, run on a CPU: its accuracy on rows made to hurt it, its edges, and every loss made of it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import lossjax
from lossjax._rules import logit_divergences
from lossjax._softmax import one_pass, one_reading, row_statistics, row_sum
from tests.support.compiled import collectives
from tests.support.quick import FUSED_AS_FOR_USERS, quick

U = {"float32": 2.0**-24, "float64": 2.0**-53}
LEVELS = 14
CLASSES = 2**LEVELS


def in_a_tree(parts: Any, start: Any, combine: Any, axes: Any) -> tuple[jax.Array, ...]:
    """As ``lax.reduce``, in the order of a tree; the CPU's own order is a running sum, which no chip's is."""
    classes = parts[0].shape[-1]
    steps = (classes - 1).bit_length()
    filled = tuple(
        jnp.concatenate([p, jnp.full((*p.shape[:-1], 2**steps - classes), first, p.dtype)], axis=-1)
        for p, first in zip(parts, start, strict=True)
    )
    found = lax.fori_loop(
        0, steps, lambda i, so_far: combine(so_far, tuple(jnp.roll(p, -(2**i), axis=-1) for p in so_far)), filled
    )
    return tuple(p[..., 0] for p in found)


@jax.jit(static_argnums=2)
def in_each_way(z: jax.Array, label: jax.Array, dtype: Any, weights: Any) -> Any:
    """About a label, from three operands and from one, and about the maximum."""
    ways = (label, {}), (label, {"one_operand": True}), (None, {})
    return tuple(one_pass.statistics(z, index, dtype, weights, in_a_tree, **how) for index, how in ways)


def hard_rows(random: np.random.Generator) -> np.ndarray:
    steps = np.arange(CLASSES)
    return np.stack(
        [
            steps / 125.0 - 60,  # each of eight references for a while
            (steps % 1000) / 30.0 - 20,  # a saw, through three of them
            random.normal(size=CLASSES) * 8,
            random.normal(size=CLASSES) + 1e4,
            -np.abs(random.normal(size=CLASSES)) * 1e-3,  # sums of nearly equal terms
            np.full(CLASSES, 7.99),
            np.where(steps == 9_999, 30.0, -50.0),  # all but one far below
        ]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_hard_rows_are_summed_accurately(dtype: str, random: np.random.Generator) -> None:
    """Within 3ε + 2u, as derived, 3ε more for the way to the maximum, and one rounding a level of the tree; weighted
    gaps within 2u, and three roundings a level: of two additions, and of the sum of the weights.
    """
    wide = "float64" if dtype == "float64" else "float32"
    u, epsilon = U[wide], 2 * U[wide]
    with jax.enable_x64(dtype == "float64"):
        z = jnp.asarray(hard_rows(random), dtype)
        label = jnp.full((len(z), 1), 131, jnp.int32)
        weights = np.ones_like(z, wide), np.where(random.random(z.shape) < 0.1, random.random(z.shape), 0).astype(wide)
        found = in_each_way(z, label, jnp.dtype(wide), weights)
        exact = np.asarray(z.astype(wide)).astype(np.longdouble)
    maximum = exact.max(axis=1, keepdims=True)
    terms = np.exp(exact - maximum)
    for pivot, logit, m, rest, gaps in found:
        at = np.asarray(pivot)
        np.testing.assert_array_equal(m, maximum)
        np.testing.assert_array_equal(logit, np.take_along_axis(exact, at, 1))
        truth = np.where(np.arange(CLASSES) == at, 0, terms).sum(axis=1, keepdims=True)
        error = np.abs(np.asarray(rest).astype(np.longdouble) - truth) / truth
        assert np.all(error <= 6 * epsilon + (4 + LEVELS) * u), error / u
        for v, one in zip(weights, gaps, strict=True):
            others = np.where(np.arange(CLASSES) == at, 0, v.astype(np.longdouble))
            for got, want in (
                (one.total, (others * (maximum - exact)).sum(axis=1, keepdims=True)),
                (one.others, others.sum(axis=1, keepdims=True)),
            ):
                error = np.abs(np.asarray(got).astype(np.longdouble) - want) / np.where(want, want, 1)
                assert np.all(error <= (2 + 3 * LEVELS) * u), error / u
            np.testing.assert_array_equal(one.own, np.take_along_axis(v, at, 1))
    assert np.all(np.asarray(found[2][0])[:, 0] == exact.argmax(axis=1))


def test_a_reference_that_changes_with_every_class_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch, random: np.random.Generator
) -> None:
    """The planted fault: with the plain maximum as reference, a slowly rising row collects an error at each class."""
    z = jnp.asarray(hard_rows(random)[:1] * 30, jnp.float32)
    exact = np.asarray(z).astype(np.longdouble)
    truth = np.exp(exact - exact.max()).sum() - 1

    def error() -> float:
        rest = one_pass.statistics(z, None, jnp.dtype("float32"))[3]
        return float(abs(float(rest[0, 0]) - truth) / truth / U["float32"])

    right = error()
    monkeypatch.setattr(one_pass, "GRID", 2.0**-20)
    assert error() > 2 * right


def test_the_faintest_class_is_counted() -> None:
    """A gap of up to 87 has an exponential that is a normal number, at whatever reference the maximum is."""
    gaps = np.linspace(60, 87, 300)
    read = jax.jit(lambda z: one_pass.statistics(z, None, z.dtype), compiler_options=FUSED_AS_FOR_USERS)
    for top in (0.0, 7.9, 8.0, -8.1, 15.9, 100.0):
        z = jnp.asarray(np.stack([np.full(300, top), top - gaps], axis=1), jnp.float32)
        rest = read(z)[3][:, 0]
        exact = np.asarray(z).astype(np.longdouble)
        np.testing.assert_allclose(np.asarray(rest), np.exp(exact[:, 1] - exact[:, 0]), rtol=8 * U["float32"])


_I, _N = np.inf, np.nan
EDGES = np.array(
    [
        [_I, 1, 2, -_I], [1, _I, _I, 0], [_I, _I, _I, _I], [-_I, -_I, -_I, -_I], [-_I, 3, -_I, -_I],
        [_N, 5, 1, 0], [1, 2, _N, 0],
        [0, 0, 0, _N], [_I, _N, 0, 0], [-_I, -_I, _N, -_I], [3e38, -3e38, 1, 0], [-3e38, -_I, -3.3e38, -_I],
        [2, 2, 2, 2],
        [0, -0.0, 0, -0.0], [1, 3, 3, 1], [1e-40, -1e-40, 0, 0], [88, -88, 0, 1e-30], [-1e4, -1e4, 1e4, 1e4],
    ],
    np.float32,
)  # fmt: skip


def statistics_of(formula: Callable[..., Any], z: np.ndarray, label: Any, weights: tuple[np.ndarray, ...] = ()) -> Any:
    plan = row_statistics.ONE_DEVICE
    return jax.jit(lambda z: formula(plan, jnp.dtype("float32"), z, weights, label))(z)


@pytest.mark.parametrize("label", [None, 0, 1, 3, -1, 4])
def test_edges_are_those_of_the_definition(label: int | None) -> None:
    """±inf, NaN, ties, rows of nothing; a label at every place and at none; and rows of one class."""
    for rows in (EDGES, EDGES[:, :1]):
        index = None if label is None else jnp.full((len(rows), 1), label, jnp.int32)

        def passes(*arguments: Any) -> Any:
            return row_statistics._in_passes(row_sum.DEFINITION, *arguments)

        want = statistics_of(passes, rows, index)
        lost = np.isnan(want[2]) | np.isnan(want[3])  # any NaN marks the row; row_statistics makes it undefined
        here = slice(None) if label is None or 0 <= label < rows.shape[1] else slice(0)
        for one_operand in (False, True):
            got = statistics_of(functools.partial(row_statistics._in_one_pass, one_operand=one_operand), rows, index)
            np.testing.assert_array_equal(np.isnan(got[2]) | np.isnan(got[3]), lost)
            for i, (a, b) in enumerate(zip(got[:4], want[:4], strict=True)):
                kept = (~lost)[here] if i in (0, 1) else ~lost
                a, b = (np.asarray(x)[here] if i in (0, 1) else np.asarray(x) for x in (a, b))
                np.testing.assert_allclose(a[kept], b[kept], rtol=16 * U["float32"], atol=1e-37)


@pytest.mark.parametrize("label", [None, 0, 3])
def test_an_edge_counts_by_its_weight(label: int | None) -> None:
    """An infinite gap by a weight that is not 0; a NaN among the weights is seen in their sum."""
    index = None if label is None else jnp.full((len(EDGES), 1), label, jnp.int32)
    v = np.broadcast_to(np.float32([0, 1, 2, 0]), EDGES.shape)
    pivot, _, maximum, rest, (gaps, invalid) = statistics_of(
        row_statistics._in_one_pass, EDGES, index, (v, np.where(v == 2, np.nan, v))
    )
    defined = ~np.isnan(np.asarray(maximum + rest))[:, 0]
    others = np.where(np.arange(4) == np.asarray(pivot), 0, v)[defined]
    z, m = EDGES[defined], np.asarray(maximum)[defined]
    with np.errstate(invalid="ignore", over="ignore"):
        want = np.where((z == m) | (others == 0), 0, others * (m - z)).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(gaps.total)[defined], want, rtol=8 * U["float32"], atol=1e-37)
    np.testing.assert_array_equal(np.asarray(gaps.others)[defined], others.sum(axis=1, keepdims=True))
    assert np.all(np.isnan(np.asarray(invalid.own + invalid.others)))


@pytest.fixture
def chips_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the seam. What is traced stays in JAX's caches: so each test has shapes of its own."""

    def for_chips(*arguments: Any, accelerator: Callable[..., Any], **_: Any) -> Any:
        return accelerator(*arguments)

    for module in (row_statistics, one_reading, logit_divergences):
        monkeypatch.setattr(module, "by_platform", for_chips)


LABELS = np.arange(12) * 3
LOSSES: dict[str, Callable[[Any], Any]] = {
    "labels": lambda z: lossjax.softmax_cross_entropy_with_integer_labels(z, LABELS[: len(z)]),
    "options": lambda z: lossjax.softmax_cross_entropy_with_integer_labels(
        z, LABELS[: len(z)], label_smoothing=0.1, z_loss=1e-3, ignore_index=9, temperature=2.0, logit_softcap=20.0
    ),
    "distributions": lambda z: lossjax.softmax_cross_entropy(z, jax.nn.softmax(-z)),
    "smoothed distributions": lambda z: lossjax.softmax_cross_entropy(
        z, 3 * jax.nn.softmax(-z), label_smoothing=0.1, class_weights=np.arange(37.0)
    ),
    "focal": lambda z: lossjax.softmax_focal_loss(z, LABELS[: len(z)]),
    "softmax": lambda z: lossjax.softmax(z)[:, 5],
    "log_softmax": lambda z: lossjax.log_softmax(z)[:, 5],
    "logsumexp": lossjax.logsumexp,
    "entropy": lossjax.softmax_entropy,
    "KL": lambda z: lossjax.softmax_kl_divergence(z, 0.9 * jnp.cos(z)),
}


TWICE = ("options", "focal", "log_softmax", "entropy", "KL")
"""Of labels, of a curve, of a row's statistics alone, of a sum over the classes, and of two arrays."""


def test_every_loss_through_the_seam(random: np.random.Generator, request: pytest.FixtureRequest) -> None:
    """Value, gradient and, for a loss of each kind, the gradient's derivative are those of the formula for a CPU, in
    float64.
    """

    @quick
    def everything(z: Any) -> Any:
        def of(name: str, loss: Any) -> Any:
            def total(z: Any) -> Any:
                return jnp.sum(loss(z) * jnp.cos(jnp.arange(float(len(z)))))

            gradient = jax.grad(total)
            if name in TWICE:
                return loss(z), *jax.jvp(gradient, (z,), (jnp.sin(z),))
            return loss(z), gradient(z)

        return {name: of(name, loss) for name, loss in LOSSES.items()}

    with jax.enable_x64(True):
        z = jnp.asarray(random.normal(size=(12, 37)) * 4)
        want = everything(z)
        request.getfixturevalue("chips_formula")
        got = everything(z[:11])  # another shape: traced again
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b[:11], rtol=1e-10, atol=1e-12, err_msg=str(path))


@pytest.mark.usefixtures("chips_formula")
def test_classes_over_devices(random: np.random.Generator) -> None:
    """By ``shard_map`` and by both kinds of mesh: as on one device, and nothing of the logits' size crosses."""
    mesh = jax.make_mesh((2,), ("devices",), axis_types=(AxisType.Auto,))
    z = np.concatenate([random.normal(size=(11, 38)).astype(np.float32) * 5, np.float32(EDGES.repeat(10, 1)[:, 2:])])
    z[15, 3], z[16, 30] = np.inf, np.inf
    for plan_index in (None, jnp.full((len(z), 1), 21, jnp.int32)):
        weights = np.broadcast_to(np.float32(1 + np.arange(38) % 3), z.shape)
        want = one_pass.statistics(jnp.asarray(z), plan_index, jnp.dtype("float32"), (weights,))

        def parts(z: Any, given: Any = plan_index, weights: Any = weights) -> Any:
            here = None if given is None else given - 19 * lax.axis_index("devices")
            plan = row_statistics.Plan(over="devices")
            here_too = lax.dynamic_slice_in_dim(jnp.asarray(weights), 19 * lax.axis_index("devices"), 19, 1)
            return row_statistics._in_one_pass(plan, jnp.dtype("float32"), z, (here_too,), here)[1:]

        over = jax.shard_map(parts, mesh=mesh, in_specs=P(None, "devices"), out_specs=P(), check_vma=False)
        got = quick(over)(z)
        lost, lost_here = (np.isnan(np.asarray(found[-3]) + np.asarray(found[-2])) for found in (want, got))
        np.testing.assert_array_equal(lost_here, lost)
        lost = lost | np.isneginf(want[2])  # of a row of nothing there is no gap
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want[1:]), strict=True):
            np.testing.assert_allclose(np.asarray(a)[~lost], np.asarray(b)[~lost], rtol=64 * U["float32"], atol=1e-37)


@pytest.mark.usefixtures("chips_formula")
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["automatic", "explicit"])
@pytest.mark.parametrize("name", ["labels", "KL"])
def test_a_mesh_that_splits_the_classes_gathers_nothing(kind: AxisType, name: str, random: np.random.Generator) -> None:
    mesh = jax.make_mesh((2,), ("devices",), axis_types=(kind,))
    z = np.float32(random.normal(size=(11, 42)))
    loss = LOSSES[name]
    want = loss(z)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(z, NamedSharding(mesh, P(None, "devices")))
        program = quick(loss).lower(sharded).compile()
        np.testing.assert_allclose(program(sharded), want, rtol=32 * U["float32"])
        assert all(size <= 8 * len(z) for _, size in collectives(program.as_text() or ""))
