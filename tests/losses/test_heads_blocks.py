"""Heads by blocks: their size changes nothing but the order of sums, no logits are stored, no row moves."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax._softmax import head_gradient
from tests.support.heads import CASES, CLASSES, HEADS, NEVER_REDUCED, OTHER, WIDTH, Arrays, drawn, listed, total
from tests.support.quick import quick

# --- the size of blocks ----------------------------------------------------------------------------------------------


def shares_of_the_bound(name: str, dtype: Any, sizes: tuple[int, ...], rows: int = 384) -> dict[int, float]:
    """Of N rows, summed: how much each size of blocks takes of a bound of ∂W that no size of blocks enters.

    An entry of ∂/∂z is at most (1 + 2L)(p + q + t), with L the largest Σ|x||W|, which bounds every logit. The logits
    are off by H u L, what is made of them by 64u more; ∂W is a sum of N products, in 32 bits. With u' the roundoff of a
    narrower dtype, in which the factors of ∂W and ∂W are rounded, all of it is within

        (2u' + (N + 64 + 8 H L) u) Σ_rows |x| (1 + 2L)(p + q + t) + 2u' |∂W|.
    """
    u, random = 2.0**-24, np.random.default_rng(1)
    positive = {"hidden": (rows, WIDTH), "other_hidden": (rows, OTHER)}
    of_any_sign = {"weight": (WIDTH, CLASSES), "other_weight": (OTHER, CLASSES)}
    a = {n: jnp.asarray(random.uniform(0.5, 1.5, s), dtype) for n, s in positive.items()}
    a |= {n: jnp.asarray(random.normal(size=s), dtype) for n, s in of_any_sign.items()}
    a |= {n: jnp.zeros(CLASSES, dtype) for n in ("bias", "other_bias")}
    a["probabilities"] = jnp.asarray(random.dirichlet(np.ones(3), rows)[:, :2], jnp.float32)

    def slopes(function: Callable[..., Any], a: Arrays, **options: Any) -> Any:
        return quick(jax.grad(lambda w: jnp.sum(function(a | {"weight": w}, reduction="sum", **options))))(a["weight"])

    of_head, stored = HEADS[name]
    found = {size: np.float64(slopes(of_head, a, chunk_size=size)) for size in sizes}
    with jax.enable_x64(True):
        wide = {n: jnp.float64(x) for n, x in a.items()}
        exact = np.asarray(slopes(stored, wide))
        heads = [(np.asarray(wide[f"{n}hidden"]), np.asarray(wide[f"{n}weight"])) for n in ("", "other_")]
        masses = sum(np.array(jax.nn.softmax(x @ w, axis=-1)) for x, w in heads)
    np.add.at(masses, (np.arange(rows)[:, None], np.asarray(listed(a))), 1.0)
    reach = max(float(np.max(np.abs(x) @ np.abs(w))) for x, w in heads)
    terms = np.abs(heads[0][0]).T @ masses * (1 + 2 * reach)
    narrow = float(jnp.finfo(dtype).eps) / 2 if dtype == jnp.bfloat16 else 0.0
    allowed = (2 * narrow + (rows + 64 + 8 * WIDTH * reach) * u) * terms + 2 * narrow * np.abs(exact)
    return {size: float(np.max(np.abs(got - exact) / allowed)) for size, got in found.items()}


@pytest.mark.covering
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ["entropy", "kl", "sparse targets"])
def test_the_size_of_blocks_changes_nothing_but_the_order_of_sums(name: str, dtype: Any) -> None:
    assert max(shares_of_the_bound(name, dtype, (1, 7, 384)).values()) <= 1


@pytest.mark.parametrize("dtype", [pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.bfloat16])
def test_a_sum_over_blocks_in_sixteen_bits_is_seen(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands still: an entry of 256 times the next one's size does not feel it.

    The bound that allows most is that of bfloat16.
    """
    right = head_gradient._add_products

    def narrow(*args: Any) -> Any:
        in_weight, in_hidden = right(*args)
        return jax.lax.reduce_precision(in_weight, exponent_bits=8, mantissa_bits=7), in_hidden

    monkeypatch.setattr(head_gradient, "_add_products", narrow)
    try:
        assert shares_of_the_bound("sparse targets", dtype, (1,), rows=4096)[1] > 1
    finally:
        jax.clear_caches()


# --- memory, precision, refusals -------------------------------------------------------------------------------------


@pytest.mark.covering
@pytest.mark.parametrize(("name", "how"), [c for c in CASES if c[0] not in ("js", "any loss")])
def test_logits_are_never_stored(name: str, how: str) -> None:
    """Of the compiled value and gradient: a few arrays of a block, and one of each weight's size.

    The block's arrays are per head its logits, and what the loss makes of them: six at most in all of these losses.
    """
    rows, classes, size = 2048, 4096, 64
    shapes = {
        "hidden": (rows, WIDTH), "weight": (WIDTH, classes), "bias": (classes,), "other_hidden": (rows, OTHER),
        "other_weight": (OTHER, classes), "other_bias": (classes,), "weights": (rows,), "probabilities": (rows, 2),
    }  # fmt: skip
    a = {n: jax.ShapeDtypeStruct(shape, jnp.float32) for n, shape in shapes.items()}
    options = {} if name in NEVER_REDUCED else {"reduction": how}

    def of(a: Arrays) -> Any:
        return total(HEADS[name][0](a, chunk_size=size, **options))

    analysis = quick(jax.value_and_grad(of)).lower(a).compile().memory_analysis()
    assert analysis is not None
    heads = 2 if name == "kl" else 1
    block, weights = 4 * size * classes, 4 * classes * (WIDTH + OTHER + 2)
    assert analysis.temp_size_in_bytes <= 6 * heads * block + 3 * weights + 4 * rows * 32
    assert 6 * analysis.temp_size_in_bytes <= 4 * rows * classes * 2 * heads  # logits and their gradient


@pytest.mark.parametrize(("name", "how"), [
    ("entropy", "none"), ("kl", "mean"), ("any loss", "none"),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES if case[0] in ("js", "sparse targets")),
])  # fmt: skip
def test_the_precision_is_that_of_every_product(name: str, how: str) -> None:
    """The products are those of the engine: of a row's results, of a sum, of two heads, and of a user's loss."""
    a, options = drawn(np.float32), {} if name in NEVER_REDUCED else {"reduction": how}

    def products(precision: Any) -> list[bool]:
        def of(a: Arrays) -> Any:
            return total(HEADS[name][0](a, precision=precision, **options))

        text = str(jax.make_jaxpr(jax.value_and_grad(of))(a))
        return ["HIGHEST" in product[:300] for product in text.split("dot_general[")[1:]]

    assert len(products("highest")) >= 3
    assert all(products("highest"))
    assert not any(products(None))
