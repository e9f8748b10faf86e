"""Heads whose logits are not stored: each is the row-wise function of the logits, in every derivative."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from tests.support.heads import (
    CASES,
    CLASSES,
    HEADS,
    MASK,
    NEVER_REDUCED,
    ROWS,
    Arrays,
    drawn,
    options_of,
    total,
)
from tests.support.quick import quick


@pytest.mark.covering
@pytest.mark.parametrize(("name", "how"), CASES)
def test_it_is_the_function_of_the_logits(name: str, how: str) -> None:
    """Value, gradient in every float, forward mode, and a Hessian's product, by blocks of three rows, some masked.

    In float64. Both sides sum the same terms in another order: of C classes, H products, N rows, in three derivatives.
    """
    with jax.enable_x64(True):
        a, options = drawn(), options_of(name, how)
        random = np.random.default_rng(7)
        along = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), a)

        def everything(function: Callable[..., Any], more: Arrays) -> Any:
            def of(a: Arrays) -> Any:
                found = function(a, **options, **more)
                return total(found), found

            (value, gradient), pushed = jax.jvp(jax.value_and_grad(of, has_aux=True), (a,), (along,))
            return value, gradient, pushed, jax.jvp(of, (a,), (along,))[1]

        of_head, stored = HEADS[name]
        got = quick(lambda: everything(of_head, {"chunk_size": 3}))()
        want = quick(lambda: everything(stored, {}))()
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            size = max(1.0, float(jnp.max(jnp.abs(w))))
            np.testing.assert_allclose(g, w, rtol=0, atol=256 * CLASSES * 2.0**-53 * size)


@pytest.mark.covering
@pytest.mark.parametrize(("name", "how"), [case for case in CASES if case[0] != "any loss"])
def test_what_a_masked_row_holds_is_not_felt(name: str, how: str) -> None:
    """Exactly, in value and gradient; and a tail, a second head and a row's probabilities are masked too."""
    a, options = drawn(np.float32), options_of(name, how)
    of = quick(jax.value_and_grad(lambda a: total(HEADS[name][0](a, chunk_size=3, **options))))

    def holding(bad: float) -> Any:
        own = {n: a[n] for n in ("hidden", "other_hidden", "probabilities", "weights")}
        return of(a | {n: jnp.where(MASK.reshape(*ROWS, *[1] * (x.ndim - 2)), x, bad) for n, x in own.items()})

    want = holding(0.0)
    assert all(np.isfinite(w).all() for w in jax.tree.leaves(want))
    for bad in (np.nan, np.inf):
        for got, w in zip(jax.tree.leaves(holding(bad)), jax.tree.leaves(want), strict=True):
            assert np.array_equal(got, w)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", HEADS)
def test_sixteen_bits_are_summed_in_thirty_two(name: str, dtype: Any) -> None:
    """The gradient is that of the same numbers in float32, rounded: once, and once where it is multiplied."""
    narrow = ("hidden", "weight", "bias", "other_hidden", "other_weight", "other_bias")
    a = drawn(np.float32)
    a |= {n: a[n].astype(dtype) for n in narrow}
    options = {} if name in NEVER_REDUCED else {"reduction": "mean"}

    def of(a: Arrays) -> Any:
        return total(HEADS[name][0](a, chunk_size=3, **options))

    found = quick(jax.value_and_grad(of))(a)
    wide = quick(jax.value_and_grad(of))({n: x.astype(jnp.float32) for n, x in a.items()})
    u = float(jnp.finfo(dtype).eps) / 2
    for n, g in found[1].items():
        assert g.dtype == a[n].dtype
        size = float(jnp.max(jnp.abs(wide[1][n])))
        np.testing.assert_allclose(g.astype(jnp.float32), wide[1][n], rtol=0, atol=4 * u * size + 2.0**-18)
    assert found[0].dtype == jnp.float32
    np.testing.assert_allclose(found[0], wide[0], rtol=2.0**-18, atol=2.0**-18)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(("name", "how"), CASES)
def test_gradients_in_batches_of_sixteen_bits(name: str, how: str, dtype: Any) -> None:
    """By two cotangents, and of two sets of arrays: each is the gradient alone, bit by bit."""
    narrow = ("hidden", "weight", "bias", "other_hidden", "other_weight", "other_bias")
    a = drawn(np.float32)
    moving = {n: a[n].astype(dtype) for n in narrow}

    def of(moving: Arrays, scale: jax.Array) -> Any:
        return scale * total(HEADS[name][0](a | moving, chunk_size=3, **options_of(name, how)))

    gradient, one = jax.grad(of), jnp.float32(1)
    want = quick(gradient)(moving, one)
    pairs = jax.tree.map(lambda x: jnp.stack([x, x]), moving)
    for got in (
        quick(jax.vmap(gradient, (None, 0)))(moving, jnp.ones(2)),
        quick(jax.vmap(gradient, (0, None)))(pairs, one),
    ):
        for n, g in got.items():
            assert np.array_equal(g, np.stack([want[n]] * 2)), n


def test_heads_of_different_vocabularies_are_refused() -> None:
    x, w = jnp.ones((2, 3)), jnp.ones((3, 5))
    for function in (lossjax.linear_softmax_kl_divergence, lossjax.linear_softmax_js_divergence):
        with pytest.raises(ValueError, match="other_weight has 4 classes and weight 5, wanted the same vocabulary"):
            function(x, w, x, w[:, :4])
        with pytest.raises(ValueError, match="other_hidden has shape"):
            function(x, w, x[:1], w)
        with pytest.raises(TypeError, match="other_hidden is bfloat16 and other_weight float32"):
            function(x, w, x.astype(jnp.bfloat16), w)


def test_what_a_head_refuses() -> None:
    x, w = jnp.ones((2, 3)), jnp.ones((3, 5))
    with pytest.raises(ValueError, match=r"precision must be one that jax.numpy.matmul takes, got 'exactly'"):
        lossjax.linear_softmax_entropy(x, w, precision="exactly")
    with pytest.raises(ValueError, match="wanted one entry per row"):
        lossjax.linear_loss(jnp.sum, x, w)
    with pytest.raises(ValueError, match="a row argument has shape"):
        lossjax.linear_loss(lambda z, a: a, x, w, jnp.ones(3))
    with pytest.raises(ValueError, match=r"tokens has shape \(3,\), wanted \(2,\) or \(2, 'K'\)"):
        lossjax.linear_token_log_probs(x, w, jnp.zeros(3, int))
    with pytest.raises(TypeError, match="loss must be a function of logits, got 3"):
        lossjax.linear_loss(3, x, w)
    for mixture, error, says in (
        (0, ValueError, "mixture must be greater than 0"), (1.0, ValueError, "mixture must be less than 1"),
        (1.5, ValueError, "mixture must be at most 1"), ("half", TypeError, "mixture must be"),
        (jnp.ones(2) / 2, TypeError, "mixture must be a real scalar"),
    ):  # fmt: skip
        with pytest.raises(error, match=says):
            lossjax.linear_softmax_js_divergence(x, w, x, w, mixture=mixture)
    with pytest.raises(ValueError, match="chunk_size must be at least 1 row"):
        lossjax.linear_softmax_entropy(x, w, chunk_size=0)


# --- what no other loss has ------------------------------------------------------------------------------------------


def test_tokens_and_classes_that_are_none_make_their_row_nan() -> None:
    """In value and gradient, and no other row; repeated classes and probabilities that are none too."""
    a = drawn(np.float32)
    x, w = a["hidden"][0], a["weight"]
    tokens = jnp.array([0, -1, CLASSES, 3, 6])
    pairs = jnp.array([[0, 1], [2, 2], [CLASSES, 1], [3, 4], [5, 6]])
    q = jnp.array([[0.5, 0.2], [0.5, 0.2], [0.5, 0.2], [0.5, -0.1], [0.9, 0.2]])

    def of(function: Callable[..., Any], *own: Any) -> Any:
        losses, pullback = jax.vjp(lambda x: function(x, w, *own, chunk_size=2), x)
        return np.isnan(losses), np.isnan(pullback(jnp.ones_like(losses))[0])

    sparse = functools.partial(lossjax.linear_softmax_cross_entropy_with_sparse_targets, tail=True)
    for (value, slope), bad in (
        (of(lossjax.linear_token_log_probs, tokens), [0, 1, 1, 0, 0]), (of(sparse, pairs, q), [0, 1, 1, 1, 1]),
    ):  # fmt: skip
        assert value.tolist() == [bool(b) for b in bad]
        assert np.array_equal(slope.any(-1), value)
        assert np.array_equal(slope.all(-1), value)


def test_a_user_s_loss_sees_no_row_that_is_none() -> None:
    """What fills up the last block are copies of a row: a gradient that is infinite at 0 stays finite."""
    a, scores = drawn(np.float32), jnp.arange(1.0, 11).reshape(ROWS)

    def of(x: jax.Array, scores: jax.Array) -> jax.Array:
        loss = lambda z, s: jnp.sqrt(s) * jnp.max(z, -1)  # noqa: E731
        return jnp.sum(lossjax.linear_loss(loss, x, a["weight"], scores, chunk_size=3))

    slopes = jax.grad(of, (0, 1))(a["hidden"], scores)
    assert all(np.isfinite(s).all() for s in slopes)
    assert np.all(slopes[1] != 0)
