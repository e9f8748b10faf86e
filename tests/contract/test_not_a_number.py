"""A NaN in a large argument is one in the value, the sum, and the gradient.

XLA's CPU backend loses it in a minimum or a maximum, alone or inside a sum, from some thousand numbers on: small
arguments cannot fail here.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax import geometry
from lossjax._core import xla
from lossjax.verify import samples
from tests.support.cases import CASE, OF_EACH_FILE

SHAPES = ((6, 4096), (6, 4099), (4096, 7))
ROW = 1


def lost(
    loss: Callable[..., Any],
    arguments: tuple[np.ndarray, ...],
    positions: tuple[int, ...] = (0,),
    *,
    bias: bool = True,
) -> list[str]:
    """In what a NaN in one of these arguments does not show, or shows where it does not belong.

    A loop that also sums is compiled as another program than one that only writes: both are asked. The gradient is that
    in a prediction: in a target that the loss is linear in, the slope is free of it. Its sum is what a bias would
    receive, and is asked with ``bias``. For the other arguments the sum is asked alone: the program of the value is
    the same.
    """
    value = jax.jit(loss)  # inside another program it is not traced again
    total = jax.jit(lambda *a: jnp.sum(value(*a)))
    gradient = jax.grad(lambda *a: jnp.sum(value(*a)))
    written = jax.jit(lambda *a: (value(*a), gradient(*a)))
    summed = jax.jit(lambda *a: jnp.sum(gradient(*a)))
    found = []
    for position in positions:
        spoiled = [jnp.asarray(a) for a in arguments]
        width = arguments[position].shape[1]
        spoiled[position] = spoiled[position].at[ROW, min(width // 2 + 3, width - 1)].set(jnp.nan)
        wrong = [] if np.isnan(total(*spoiled)) else ["sum"]
        if position == 0:
            values, slopes = map(np.isnan, written(*spoiled))
            rows = values.reshape(values.shape[0], -1).any(1) if values.ndim else values
            if not values.any() or np.sum(rows) != 1:
                wrong.append("value")
            bad = slopes.any(1)
            if not bad[ROW] or bad.sum() != 1:
                wrong.append("gradient")
            if bias and not np.isnan(summed(*spoiled)):
                wrong.append("sum of the gradient")
        found += [f"argument {position}: {what}" for what in wrong]
    return found


LOSING = frozenset({"max", "min", "clamp", "reduce_max", "reduce_min", "cummax", "cummin", "argmax", "argmin", "sort"})
"""What XLA may lose a NaN in. A select keeps what it is told to keep."""
WITHOUT = frozenset(
    {
        "cross_entropy", "entropy", "gaussian_nll", "hinge_loss", "huber_loss", "laplace_nll", "log_cosh",
        "mean_squared_error", "perceptron_loss", "poisson_nll", "pseudo_huber_loss", "quantile_loss",
        "self_information", "smooth_l1_loss", "sparsemax_loss", "squared_error", "policy.clipped_loss",
        "policy.sampled_kl", "preference.ipo_loss",
    }
)  # fmt: skip
"""The losses without any such operation."""
AS_ANOTHER = frozenset(
    {
        "token_log_probs", "poly_cross_entropy", "multiclass_perceptron_loss", "cosine_similarity",
        "preference.simpo_loss", "preference.cpo_loss", "softmax_focal_loss", "jeffreys_divergence",
    }
)  # fmt: skip
"""Of their rules, and of how they look for a maximum, another loss of the same file is asked."""
FAST = [name for name in samples.names() if name not in WITHOUT | AS_ANOTHER] + ["huber_loss"]


def test_these_have_nothing_to_lose_it_in() -> None:
    """Value and gradient of every loss are searched, through all inner programs."""

    def operations(jaxpr: Any) -> set[str]:
        found = {e.primitive.name for e in jaxpr.eqns if any(v.aval.dtype.kind == "f" for v in e.outvars)}
        for value in jax.tree.leaves(
            [list(e.params.values()) for e in jaxpr.eqns], is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            found |= operations(inner) if hasattr(inner, "eqns") else set()
        return found

    for name in samples.names():
        drawn = samples.sample(name, np.float32, SHAPES[0])

        def total(*args: jax.Array, loss: Callable[..., Any] = drawn.loss) -> jax.Array:
            return jnp.sum(loss(*args))

        if name in WITHOUT:
            program = jax.make_jaxpr(jax.value_and_grad(total))(*drawn.arguments)
            assert not operations(program.jaxpr) & LOSING, f"{name} is no longer one of those: ask it below"
    assert operations(jax.make_jaxpr(jax.jit(lambda x: jnp.maximum(x, 0)))(1.0).jaxpr) & LOSING


@pytest.mark.covering
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(n, marks=pytest.mark.slow) for n in samples.names() if n not in FAST)]
)
def test_no_loss_loses_it(name: str, shape: tuple[int, int]) -> None:
    """The sum of its gradient in the fast tier of one loss of each file of rules."""
    drawn = samples.sample(name, np.float32, shape)
    floats = tuple(i for i in drawn.argnums if np.issubdtype(drawn.arguments[i].dtype, np.floating))
    assert lost(drawn.loss, drawn.arguments, floats, bias=CASE[name] in OF_EACH_FILE) == []


@pytest.mark.covering
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_nor_does_the_gradient_of_a_softmax(dtype: str, shape: tuple[int, int]) -> None:
    with jax.enable_x64(dtype == "float64"):
        logits = np.random.default_rng(0).normal(size=shape)
        labels = jnp.full(shape[0], 2)
        loss = lossjax.softmax_cross_entropy_with_integer_labels

        def total(z: Any) -> Any:
            return jnp.sum(loss(z, labels))

        for place in (0, 2, shape[1] // 2 + 3, shape[1] - 1):
            spoiled = logits.copy()
            spoiled[ROW, place] = np.nan
            z = jnp.asarray(spoiled, dtype)
            assert np.flatnonzero(np.isnan(jax.jit(loss)(z, labels))).tolist() == [ROW]
            gradient = np.isnan(jax.jit(jax.grad(total))(z).astype(jnp.float32))
            assert gradient[ROW].all()
            assert gradient.sum() == shape[1]


@pytest.mark.parametrize("project", [geometry.project_to_simplex], ids=lambda f: f.__name__)
def test_nor_a_projection(project: Callable[..., Any]) -> None:
    y = jnp.zeros(SHAPES[0]).at[ROW, 77].set(jnp.nan)
    rows = np.isnan(jax.jit(lambda y: jnp.sum(project(y), axis=-1))(y))
    assert np.flatnonzero(rows).tolist() == [ROW]


def test_a_loss_that_loses_it_is_found() -> None:
    """The check itself: a hinge whose NaN is 0, and one whose NaN is everywhere."""
    arguments = (np.ones((6, 8), np.float32),)
    every = [f"argument 0: {what}" for what in ("sum", "value", "gradient", "sum of the gradient")]
    assert lost(lambda s: jnp.nan_to_num(jnp.maximum(1 - s, 0)), arguments) == every
    assert lost(lambda s: s * jnp.sum(s), arguments) == every[1:3]
    assert lost(lambda s: jnp.where(s <= 1, 0, s), arguments) == every[2:]
    assert lost(lambda s: s * s, arguments) == []
    assert lost(lambda s, t: s * s + jnp.nan_to_num(t), arguments * 2, (0, 1)) == ["argument 1: sum"]


def test_the_bounds() -> None:
    x = jnp.array([-2.0, 0.0, 1.0, 3.0, jnp.inf, -jnp.inf, jnp.nan])
    np.testing.assert_array_equal(xla.at_least(x, 1.0), np.maximum(x, 1))
    np.testing.assert_array_equal(xla.at_most(x, 1.0), np.minimum(x, 1))
    np.testing.assert_array_equal(xla.between(x, -1.0, 1.0), np.clip(x, -1, 1))
    long = jnp.tile(jnp.arange(4096.0), (3, 1)).at[1, 5].set(jnp.nan)
    np.testing.assert_array_equal(jax.jit(xla.largest)(long), [[4095], [np.nan], [4095]])
