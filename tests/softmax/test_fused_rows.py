"""The form of a rule's rows of which a GPU's compiler makes one kernel, executed on a CPU: its digits and its edges.

That it becomes one kernel is read from compiled programs, in ``tests/accelerators/test_fused_rows.py``.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import mlir

import lossjax
from lossjax._core import whole_rows
from lossjax._softmax import fused_rows, row_sum
from lossjax.verify import oracle, ulp
from tests.support.truths import TRUTHS

ELSEWHERE = whole_rows._known_lowered


FUNCTIONS: dict[str, Callable[..., jax.Array]] = {
    "softmax": lossjax.softmax,
    "log_softmax": lossjax.log_softmax,
    "entropy": lossjax.softmax_entropy,
}


@jax.jit(static_argnums=0)
def value_and_pullback(name: str, z: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    value, pull_back = jax.vjp(FUNCTIONS[name], z)
    return value, pull_back(cotangent)[0]


EDGES = np.array(
    [
        [0, 1, 2, 3], [np.inf, 1, 2, 3], [np.inf, np.inf, 0, 1], [-np.inf] * 4, [-np.inf, 3, -np.inf, -np.inf],
        [np.nan, 1, 2, 0], [2, 2, 2, 2], [3e38, -3e38, 1, 0], [1, 3, 3, 1], [0, -0.0, 0, -0.0], [-np.inf, 0, 0, -200],
        [np.nan, np.inf, 0, 0], [1e-40, -1e-40, 0, 0],
    ],
    np.float32,
)  # fmt: skip

EDGE_CASES = [(name, classes, dtype) for name in FUNCTIONS for classes in (1, 4) for dtype in ("float32", "bfloat16")]


def at_edges(name: str, classes: int, dtype: str) -> tuple[jax.Array, jax.Array]:
    z = jnp.asarray(EDGES[:, :classes], dtype)
    shape = jax.eval_shape(FUNCTIONS[name], z)
    return value_and_pullback(name, z, jnp.asarray(np.linspace(-1, 2, shape.size).reshape(shape.shape), shape.dtype))


@pytest.fixture(scope="module")
def edges_on_a_cpu() -> dict[Any, tuple[jax.Array, jax.Array]]:
    """By the formula for a CPU."""
    return {case: at_edges(*case) for case in EDGE_CASES}


@pytest.fixture(scope="module", autouse=True)
def _on_a_gpu(edges_on_a_cpu: Any) -> Iterator[None]:
    """A CPU takes the formula in the form that a GPU is given. What was lowered before would be found as it was."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fused_rows, "FUSED_ROWS", True)
        jax.clear_caches()
        mlir.register_lowering(whole_rows._known, whole_rows._lowered_on("cuda", ELSEWHERE), platform="cpu")
        yield
    mlir.register_lowering(whole_rows._known, ELSEWHERE, platform="cpu")
    jax.clear_caches()


@pytest.mark.parametrize(("name", "classes", "dtype"), EDGE_CASES)
def test_edges(name: str, classes: int, dtype: str, edges_on_a_cpu: Any) -> None:
    """±inf, NaN, ties, rows of nothing and of one class: as the formula for a CPU has them."""
    case = name, classes, dtype
    for ours, right in zip(at_edges(*case), edges_on_a_cpu[case], strict=True):
        tolerance = 4 * float(jnp.finfo(right.dtype).eps)
        np.testing.assert_allclose(*(np.asarray(x, np.float32) for x in (ours, right)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0), (5, 1e4), (9, -3), (1, 0)])
@pytest.mark.parametrize("cotangents", ["one-hot", "dense"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_digits(name: str, cotangents: str, scale: float, offset: float, random: np.random.Generator) -> None:
    """What the docstrings promise, of every entry: of one that is nearly certain, and of the others beside it."""
    z = (random.normal(size=(13, 37)) * scale + offset).astype(np.float32)
    z[3, 5] += 15
    value = jax.eval_shape(FUNCTIONS[name], jax.ShapeDtypeStruct(z.shape, z.dtype))
    g = random.normal(size=value.shape).astype(np.float32)
    if cotangents == "one-hot" and value.ndim == z.ndim:
        g = np.where(np.arange(37) == z.argmax(axis=-1, keepdims=True), g, 0)
    found = value_and_pullback(name, jnp.asarray(z), jnp.asarray(g))
    judged = TRUTHS[f"softmax_{name}" if name == "entropy" else name]
    with oracle.precision():
        truth = judged.truth(ulp.balls(g), ulp.balls(z))
        for ours, (right, size) in zip(found, truth, strict=True):
            assert ulp.in_roundoffs(ours, right, scale=size).max() <= judged.units


def test_a_row_without_its_maximum_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits that a compiler computes twice, and rounds apart, may have no entry that equals their maximum."""
    largest = jnp.max
    monkeypatch.setattr(row_sum.jnp, "max", lambda z, **how: largest(z, **how) * np.float32(1 + 2.0**-23))
    z = jnp.asarray(np.random.default_rng(0).normal(size=(5, 7)), jnp.float32)
    value, slope = value_and_pullback("log_softmax", z, jnp.ones_like(z))
    assert np.all(np.isnan(value))
    assert np.all(np.isnan(slope))


@pytest.mark.parametrize("classes", [7, 16_384, 16_385])
def test_rows_that_are_too_long_keep_their_formula(classes: int) -> None:
    z = jax.ShapeDtypeStruct((3, classes), jnp.float32)

    def anew(*platforms: str, function: Any = lossjax.softmax) -> int:
        return jax.jit(function).trace(z).lower(lowering_platforms=platforms).as_text().count("optimization_barrier")

    short = int(classes <= 16_384)
    assert anew("cuda") == short
    assert anew("cuda", "tpu") == short
    assert anew("tpu") == 0
    assert anew("cuda", function=lossjax.logsumexp) == 0
