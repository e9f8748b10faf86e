"""``token_statistics`` is what its parts are: log-probabilities, entropy, log-sum-exp, and whether it is a maximum."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax._softmax import tokens
from tests.support.quick import quick

INF, NAN = np.inf, np.nan
LOGITS = np.array([
    [0.3, -1.2, 2.0, 0.1], [1.0, 1.0, 1.0, 1.0], [40.0, 0.0, -3.0, 0.0], [-1e4, 1e4, 0.0, 1e4], [-INF, 0.0, -INF, 1.0],
    [INF, 0.0, 1.0, 2.0], [NAN, 0.0, 1.0, 2.0], [0.5, 0.25, -0.5, 3.0], [1.5, -2.0, 0.0, 0.5], [9.0, 8.0, 7.0, 6.0],
])  # fmt: skip
TOKENS = np.array([[2, 0], [3, 1], [0, 2], [1, 3], [3, 0], [0, 1], [1, 2], [4, 0], [-1, 3], [0, 3]], np.int32)
UNDEFINED = np.array([False] * 6 + [True] * 3 + [False])
"""Rows with a NaN, or a token that is no class."""
MASK = np.arange(10) != 9


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_statistics_are_the_functions_of_their_parts(dtype: Any) -> None:
    """In value and gradient: within twice the bound of each, of two programs, NaN and infinities included."""
    with jax.enable_x64(dtype == jnp.float64):
        z, tokens, where = jnp.asarray(LOGITS, dtype), jnp.asarray(TOKENS), jnp.asarray(MASK)
        options = {"where": where, "temperature": 0.7, "logit_softcap": None}

        def together(z: Any) -> Any:
            found = lossjax.token_statistics(z, tokens, **options)
            first = lossjax.token_statistics(z, tokens[:, 0], **options)
            return (found.log_probs, first.log_probs, found.entropy, found.logsumexp), (found.is_top, first.is_top)

        def apart(z: Any) -> Any:
            scaled = z.astype(dtype if dtype == jnp.float64 else jnp.float32) / 0.7
            known = jnp.where(UNDEFINED, NAN, 0).astype(scaled.dtype)
            log_probs = lossjax.token_log_probs(z, tokens, **options)
            entropy = lossjax.softmax_entropy(scaled, where=where) + jnp.where(where, known, 0)
            lse = jnp.where(where, lossjax.logsumexp(scaled, axis=-1) + known, 0)
            return log_probs, log_probs[:, 0], entropy, lse

        def with_slopes(function: Any, z: Any) -> Any:
            values, pullback = jax.vjp(function, z)
            ones = [jax.tree.map(jnp.zeros_like, values)] * len(values)
            each = [(*zeros[:k], jnp.ones_like(values[k]), *zeros[k + 1 :]) for k, zeros in enumerate(ones)]
            return values, [pullback(g)[0] for g in each]

        got, tops = quick(lambda z: (with_slopes(lambda z: together(z)[0], z), together(z)[1]))(z)
        want = quick(lambda z: with_slopes(apart, z))(z)
    u = float(jnp.finfo(want[0][0].dtype).eps) / 2
    for name, value, other in zip(("log-probs", "one", "entropy", "lse"), got[0], want[0], strict=True):
        np.testing.assert_allclose(value, other, rtol=66 * u, atol=0, err_msg=name)
        assert np.isnan(np.asarray(value)[UNDEFINED]).all()
        assert not np.asarray(value)[~MASK].any()
    u = max(u, float(jnp.finfo(dtype).eps) / 2)
    for name, slope, other in zip(("log-probs", "one", "entropy", "lse"), got[1], want[1], strict=True):
        slope, other = (np.asarray(s, np.float64) for s in (slope, other))
        assert np.isnan(slope[UNDEFINED]).all(), name
        assert not slope[~MASK].any(), name
        np.testing.assert_allclose(slope[~UNDEFINED], other[~UNDEFINED], rtol=66 * u, atol=66 * u, err_msg=name)
    largest = np.nanmax(LOGITS, axis=-1, keepdims=True)
    inside = np.take_along_axis(LOGITS, np.clip(TOKENS, 0, 3), -1) == largest
    expected = inside & ~UNDEFINED[:, None] & MASK[:, None]
    assert np.array_equal(tops[0], expected)
    assert np.array_equal(tops[1], expected[:, 0])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_tokens_are_compared_on_chips_as_they_are_scattered_elsewhere(count: int) -> None:
    """Also where one is no class, or another device's, or named twice, and where a number is NaN."""
    random = np.random.default_rng(3)
    places = jnp.asarray([[1, 4, 0], [6, 2, 5], [-1, 3, 6], [7, -8, 2], [2, 2, 5]])[:, :count]
    named = tokens._Tokens(places, None)
    to, values = jnp.asarray(random.normal(size=(5, 7))), jnp.asarray(random.normal(size=(5, count)))
    values = values if count == 0 else values.at[1, 0].set(np.nan)
    np.testing.assert_array_equal(named._compared(values, to), named._scattered(values, to))
    np.testing.assert_array_equal(named._compared_mask(to), named._scattered_mask(to))
    assert named._compared_mask(to).sum() == sum(len(set(row) & set(range(7))) for row in places.tolist())
