"""The edges of every loss: the lines written in ``tests/support/edges.py``, and what follows from its signature."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax.verify.samples import sample
from lossjax.verify.signatures import SIGNATURES
from tests.support.cases import CASE, OF_EACH_FILE
from tests.support.contract import gradients
from tests.support.edges import MATRIX, Lines, faults, groups, pulled, takes
from tests.support.limits import INF, NAN
from tests.support.quick import quick

WIDE = (
    "softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy", "sigmoid_cross_entropy", "log_softmax",
    "logsumexp", "entropy", "kl_divergence", "js_divergence",
)  # fmt: skip
"""The losses whose lines are asked in float64 too: one of each way to treat what is not finite."""
ASKED = [(line, np.float32) for line in MATRIX] + [
    (line, np.float64) for line in MATRIX if line.name in WIDE and not line.names
]


@pytest.mark.parametrize(
    ("line", "dtype"),
    [
        pytest.param(line, dtype, id=f"{line.name}{line.options or ''}{line.names or ''}-{dtype.__name__}")
        for line, dtype in ASKED
    ],
)
def test_edges(line: Lines, dtype: Any) -> None:
    """The edges of one width in one batch: a row feels neither the rows beside it nor what a mask hides.

    Compiled with little effort: a value must not hang on operations that an optimising compiler fuses. Optimised
    programs are asked for their edges by the certificates.
    """
    found: list[str] = []
    masks = takes(line.name, "where")

    def run(args: tuple[jax.Array, ...], where: jax.Array) -> tuple[jax.Array, ...]:
        return pulled(line, args, **({"where": where} if masks else {}))

    with jax.enable_x64(dtype == np.float64):
        for rows, args in groups(line, dtype):
            compiled = quick(run)
            whole = [np.asarray(x) for x in compiled(args, jnp.ones(len(rows), bool))]
            found += faults(line, rows, whole)
            for start in (0, 1) if masks else ():
                kept = np.arange(len(rows)) % 2 == start
                for got, want in zip(map(np.asarray, compiled(args, jnp.asarray(kept))), whole, strict=True):
                    assert not got[~kept].any(), f"{line.name}: masked rows have {got}"
                    assert np.array_equal(got[kept], want[kept], equal_nan=True)
    assert not found, "\n".join(found)


EAGER = ("softmax_cross_entropy_with_integer_labels", "sigmoid_cross_entropy", "kl_divergence")


@pytest.mark.parametrize(
    "line", {line.name: line for line in MATRIX if line.name in EAGER}.values(), ids=lambda x: x.name
)
def test_edges_without_jit(line: Lines) -> None:
    """Operation by operation, where no fusion helps or hurts. Few losses stand for all: eager runs are slow."""
    rows, args = groups(line)[0]
    assert not faults(line, rows, [np.asarray(x) for x in pulled(line, args)])


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if CASE[n] in OF_EACH_FILE else [pytest.mark.slow]) for n in SIGNATURES]
)
def test_edges_that_follow_from_the_signature(name: str) -> None:
    """A NaN anywhere makes its row NaN and no other; a mask hides it; without rows, or with none left, a mean is 0.

    ``make verify`` asks of every loss what it makes of a NaN, of a mask, and of a row beside others.
    """
    case, drawn = CASE[name], sample(name, np.float32, (3, 4))
    masks, means = takes(name, "where") and case.per_row, takes(name, "reduction")

    def run(args: tuple[jax.Array, ...], where: jax.Array) -> Any:
        def of(**options: Any) -> Any:
            value, _, slopes = gradients(lambda *a: case.loss(*a, **options), case, args)
            return value, *slopes

        every = jnp.broadcast_to(where.reshape(-1, *[1] * (len(entries) - 1)), (len(where), *entries[1:]))
        of_rows = of(where=every) if masks else of()
        return of_rows, of(where=jnp.zeros_like(every), reduction="mean") if means else ()

    entries = jax.eval_shape(case.loss, *drawn.arguments).shape if case.per_row else (3,)
    compiled, good = quick(run), tuple(map(jnp.asarray, drawn.arguments))
    every, without_first = jnp.ones(3, bool), jnp.arange(3) > 0
    usual, nothing = compiled(good, every)
    assert all(np.isfinite(x).all() for x in usual)
    assert not any(np.any(x) for x in nothing)
    for position in case.argnums:
        bad = tuple(a.at[0, 0].set(jnp.nan) if i == position else a for i, a in enumerate(good))
        spoiled, nothing = compiled(bad, every)
        assert not any(np.any(x) for x in nothing), f"{name}: a mean over nothing is {nothing}"
        if not case.per_row:
            assert np.isnan(spoiled[0])
            continue
        for k, (got, want) in enumerate(zip(spoiled, usual, strict=True)):
            assert np.isnan(got[0]).any() or k > 1, f"{name}: NaN in argument {position} does not show in result {k}"
            assert np.array_equal(got[1:], want[1:]), f"{name}: NaN in argument {position} is felt in other rows"
        if masks:
            for got, want in zip(compiled(bad, without_first)[0], usual, strict=True):
                assert not got[0].any()
                assert np.array_equal(got[1:], want[1:])
    of_rows, nothing = compiled(tuple(a[:0] for a in good), every[:0])
    assert not any(np.any(x) for x in (*of_rows, *nothing)), f"{name} of no rows is {of_rows}, its mean {nothing}"


@pytest.mark.parametrize("name", [n for n in SIGNATURES if CASE[n] not in OF_EACH_FILE])
def test_no_rows_can_be_traced(name: str) -> None:
    """Value and gradients: there is nothing to compute."""
    case, drawn = CASE[name], sample(name, np.float32, (3, 4))
    none = [a[:0] for a in drawn.arguments]
    value, _, slopes = jax.eval_shape(lambda *args: gradients(case.loss, case, args), *none)
    assert value.size == 0 or not case.per_row
    assert [x.shape for x in slopes] == [none[i].shape for i in case.argnums]


def test_mean_squared_error() -> None:
    none, far = jnp.zeros((0, 2)), jnp.float32([INF, NAN, 1])
    loss = jax.value_and_grad(lossjax.mean_squared_error, (0, 1))
    assert loss(none, none)[0] == 0
    value, slopes = loss(far[::2], jnp.zeros(2))
    assert value == INF
    assert np.array_equal(slopes, [[INF, 1], [-INF, -1]])
    assert np.isnan(loss(far, far)[0])
    for kept, want, slope in (([False] * 3, 0, 0), ([False, False, True], 1, 2)):
        value, slopes = loss(far, jnp.zeros(3), where=jnp.array(kept))
        assert value == want
        assert np.array_equal(slopes, [[0, 0, slope], [0, 0, -slope]])
    value, slopes = loss(far[2:], jnp.full(1, 3.0), weights=jnp.zeros(1))
    assert value == 0
    assert not np.any(slopes)


def test_a_planted_fault_is_caught() -> None:
    """The textbook log of softmax, at the edges of the cross-entropy."""
    line = MATRIX[0]

    def naive(z: jax.Array, c: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(jnp.log(jax.nn.softmax(z, -1)), c[:, None], -1, mode="clip")[:, 0]

    rows, args = groups(line)[0]
    value, slope = quick(lambda z: (naive(z, args[1]), jax.grad(lambda z: jnp.sum(naive(z, args[1])))(z)))(args[0])
    caught = faults(line, rows, [np.asarray(value), np.asarray(slope)])
    for edge in ("([1, inf, 2], 0)", "([1, 2, -inf], 2)", "([1, 2, 3], -1)", "([1, 2, 3], 3)"):
        assert any(edge in fault for fault in caught), edge
