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

OF_ROWS = "hidden", "other_hidden", "probabilities", "weights"
NARROW = "hidden", "weight", "bias", "other_hidden", "other_weight", "other_bias"


def holding(a: Arrays, bad: tuple[float, ...]) -> Arrays:
    """The same arrays, but for what masked rows hold: these numbers in turn."""
    wrong = np.resize(bad, MASK.shape)
    shaped = lambda rows, x: rows.reshape(*ROWS, *[1] * (x.ndim - 2))  # noqa: E731
    return a | {n: jnp.where(shaped(MASK, a[n]), a[n], shaped(wrong, a[n]).astype(a[n].dtype)) for n in OF_ROWS}


@pytest.mark.covering
@pytest.mark.parametrize(("name", "how"), CASES)
def test_it_is_the_function_of_the_logits(name: str, how: str) -> None:
    """Value, gradient in every float, forward mode, and a Hessian's product, by blocks of six rows, some masked.

    What masked rows and their tangents hold is no number, and is not felt: of the hidden states, of a second head's, of
    probabilities and of weights. In float64. There are ten rows, in two sequences: two of the second block's are none.
    Both sides sum the same terms in another order: of C classes, H products, N rows, in three derivatives.

    The second derivatives of the entropy are those of the token statistics, and of the mixtures' divergence, whose
    program is the largest, ``test_vocab_parallel_heads.py`` asks; those of the engine are the same for all.
    """
    with jax.enable_x64(True):
        a, options = drawn(), options_of(name, how)
        random = np.random.default_rng(7)
        along = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), a)

        def everything(function: Callable[..., Any], form: Arrays, a: Arrays, along: Arrays) -> Any:
            def of(a: Arrays) -> Any:
                found = function(a, **options, **form)
                return total(found), found

            slopes = jax.value_and_grad(of, has_aux=True)
            if name in ("entropy", "js"):
                return slopes(a), jax.jvp(of, (a,), (along,))[1]
            return jax.jvp(slopes, (a,), (along,)), jax.jvp(of, (a,), (along,))[1]

        of_head, stored = HEADS[name]
        given = (holding(x, (np.nan, np.inf, -np.inf)) if "where" in options else x for x in (a, along))
        got = quick(functools.partial(everything, of_head, {"chunk_size": 6}))(*given)
        want = quick(functools.partial(everything, stored, {}))(a, along)
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            size = max(1.0, float(jnp.max(jnp.abs(w))))
            np.testing.assert_allclose(g, w, rtol=0, atol=256 * CLASSES * 2.0**-53 * size)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("batch", ["cotangents", "arrays"])
@pytest.mark.parametrize(("name", "how"), CASES)
def test_gradients_of_sixteen_bits(name: str, how: str, batch: str, dtype: Any) -> None:
    """They are those of the same numbers in float32, rounded: once, and once where they are multiplied.

    By two cotangents, or of two sets of arrays, each is the gradient alone, bit by bit.
    """
    a, options = drawn(np.float32), {} if name in NEVER_REDUCED else {"reduction": how}
    moving = {n: a[n].astype(dtype) for n in NARROW}
    of_head, stored = HEADS[name]

    def of(moving: Arrays, scale: jax.Array, function: Callable[..., Any] = of_head, size: Any = 6) -> Any:
        form = {} if size is None else {"chunk_size": size}
        return scale * total(function(a | moving, **options, **form))

    one = jnp.float32(1)
    value, alone = quick(jax.value_and_grad(of))(moving, one)
    wide, truth = quick(jax.value_and_grad(functools.partial(of, function=stored, size=None)))(
        {n: x.astype(jnp.float32) for n, x in moving.items()}, one
    )
    u = float(jnp.finfo(dtype).eps) / 2
    for n, g in alone.items():
        assert g.dtype == dtype
        size = float(jnp.max(jnp.abs(truth[n])))
        np.testing.assert_allclose(g.astype(jnp.float32), truth[n], rtol=0, atol=4 * u * size + 2.0**-18)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, wide, rtol=2.0**-18, atol=2.0**-18)
    gradient = jax.grad(of)
    if batch == "cotangents":
        got = quick(jax.vmap(gradient, (None, 0)))(moving, jnp.ones(2))
    else:
        got = quick(jax.vmap(gradient, (0, None)))({n: jnp.stack([x, x]) for n, x in moving.items()}, one)
    for n, g in got.items():
        assert np.array_equal(g, np.stack([alone[n]] * 2)), n


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
        def pulled(x: jax.Array) -> Any:
            losses, pullback = jax.vjp(lambda x: function(x, w, *own, chunk_size=2), x)
            return jnp.isnan(losses), jnp.isnan(pullback(jnp.ones_like(losses))[0])

        return jax.tree.map(np.asarray, quick(pulled)(x))

    sparse = functools.partial(lossjax.linear_softmax_cross_entropy_with_sparse_targets, tail=True)
    for (value, slope), bad in (
        (of(lossjax.linear_token_log_probs, tokens), [0, 1, 1, 0, 0]), (of(sparse, pairs, q), [0, 1, 1, 1, 1]),
    ):  # fmt: skip
        assert value.tolist() == [bool(b) for b in bad]
        assert np.array_equal(slope.any(-1), value)
        assert np.array_equal(slope.all(-1), value)


def test_a_user_s_loss_sees_no_row_that_is_none() -> None:
    """What fills up the last block are copies of a row: a length, whose gradient is NaN at 0, has one in the weight."""
    a, scores = drawn(np.float32), jnp.arange(1.0, 11).reshape(ROWS)

    def of(x: jax.Array, w: jax.Array, scores: jax.Array) -> jax.Array:
        loss = lambda z, s: jnp.sqrt(s) * jnp.sqrt(jnp.sum(z * z, -1))  # noqa: E731
        return jnp.sum(lossjax.linear_loss(loss, x, w, scores, chunk_size=6))

    slopes = quick(jax.grad(of, (0, 1, 2)))(a["hidden"], a["weight"], scores)
    assert all(np.isfinite(s).all() for s in slopes)
    assert np.all(slopes[2] != 0)
