"""What is asked of some tokens (classes) of a row of logits: their log-probabilities, beside what the row itself is.

With p = softmax(z) and statistics about the maximum, for the tokens c_1, …, c_K of a row, the log-sum-exp A and the
entropy H,

    log p_c = -[(m - z_c) + log Σ e^(z - m)]            ∂(Σ_k g_k log p_{c_k})/∂z = t - (Σt) p,   t = Σ_k g_k e_{c_k}
    A = m + log Σ e^(z - m)                             ∂A/∂z = p
    H = Σ p (m - z) + log Σ e^(z - m)                   ∂H/∂z = J(p) (m - z)

Every log-probability is minus a sum of two numbers that are not negative, and so is minus the entropy. All other
classes together, the tail, have the probability r = Σ_{j∉S} p_j, S the tokens, and

    log r = -log(1 + Σ_{j∈S} e^z_j / Σ_{j∉S} e^z_j)     ∂log r/∂z_j = -p_j in S,  π_j (1 - r) outside,   π = p/r

in which nothing is subtracted from 1.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._core import sharding
from lossjax._core.autodiff import closed_form, known_as
from lossjax._core.masks import nan_unless
from lossjax._core.platform import by_platform
from lossjax._softmax import functions
from lossjax._softmax.row_statistics import Plan, RowStatistics, gap, logit_at, row_statistics, surprisal
from lossjax._softmax.row_sum import class_count, class_index, shifted_exponential, sum_of_others
from lossjax.numerics import times

FEW_TOKENS = 16
"""Of a row: to compare an entry with so many tokens takes a chip about as long as to move it and its 16-bit gradient, 6
bytes: some 50 operations (``accelerators.chips``: a v5e 7 ps, an H100 2 ps)."""


class Asked(NamedTuple):
    """Static: the dtype to compute in, the mesh axis of the classes, and whether entropy and tail are wanted."""

    dtype: Any
    over: str | None = None
    entropy: bool = False
    tail: bool = False


class Answers(NamedTuple):
    """Of each row; None where it was not asked for."""

    log_probs: Array
    """``[..., K]``."""
    logsumexp: Array
    is_top: Array
    """``[..., K]``, 1 where no class is more likely than the token, else 0."""
    entropy: Array | None
    tail: Array | None
    """log r."""


class _Tokens(NamedTuple):
    """The tokens' indices among the classes that are held here."""

    places: Array
    over: str | None

    @classmethod
    def of(cls, tokens: Array, z: Array, over: str | None) -> "_Tokens":
        first = 0 if over is None else lax.axis_index(over).astype(tokens.dtype) * z.shape[-1]
        return cls(tokens - first, over)

    def entries(self, x: Array) -> Array:
        """Of x ``[..., C]`` the tokens' entries, ``[..., K]``."""
        if self.over is None and sharding.split_count(x) == 1:
            return logit_at(x, self.places)
        columns = [logit_at(x, self.places[..., k : k + 1], self.over) for k in range(self.places.shape[-1])]
        found = jnp.concatenate(columns, axis=-1)
        return found if self.over is None else lax.psum(found, self.over)

    def added(self, values: Array, to: Array) -> Array:
        """The array ``[..., C]`` with values ``[..., K]`` added at the tokens."""
        return self._one_way(_Tokens._scattered, _Tokens._compared, values, to)

    def _scattered(self, values: Array, to: Array) -> Array:
        return self._by_row(lambda row, index, values: row.at[index].add(values, mode="drop"), to, values)

    def _compared(self, values: Array, to: Array) -> Array:
        for k, is_token in enumerate(self._each(to)):
            to = to + jnp.where(is_token, values[..., k : k + 1], 0)
        return to

    def mask(self, like: Array) -> Array:
        """Whether an entry is a token's, a boolean for every entry."""
        return self._one_way(_Tokens._scattered_mask, _Tokens._compared_mask, like)

    def _scattered_mask(self, like: Array) -> Array:
        nothing = class_index(like, jnp.int32) < 0
        return self._by_row(
            lambda row, index, yes: row.at[index].set(yes, mode="drop"), nothing, self.places == self.places
        )

    def _compared_mask(self, like: Array) -> Array:
        return functools.reduce(jnp.logical_or, self._each(like), class_index(like, jnp.int32) < 0)

    def _each(self, like: Array) -> list[Array]:
        """For each of the K tokens, whether an entry is this one's."""
        index = class_index(like, self.places.dtype)
        return [index == self.places[..., k : k + 1] for k in range(self.places.shape[-1])]

    def _one_way(self, scattered: Callable[..., Array], compared: Callable[..., Array], *arrays: Array) -> Array:
        """Of two that come to the same. A GPU or TPU stores what it scatters into, in float32, and reads it again."""
        count, over = self.places.shape[-1], self.over
        if count == 1:
            return compared(self, *arrays)

        def of(way: Callable[..., Array]) -> Callable[..., Array]:
            return lambda places, *arrays: way(_Tokens(places, over), *arrays)

        on_chips = of(compared) if count <= FEW_TOKENS else None
        return by_platform(self.places, *arrays, otherwise=of(scattered), accelerator=on_chips)

    def is_pivot(self, rows: RowStatistics, classes: int) -> Array:
        """Whether a token is its row's pivot, ``[..., K]``."""
        found = (self.places == rows.pivot.astype(self.places.dtype)) & (self.places >= 0) & (self.places < classes)
        return found if self.over is None else lax.psum(found.astype(jnp.int32), self.over) > 0

    def _by_row(self, function: Callable[..., Array], *arrays: Array) -> Array:
        classes = arrays[0].shape[-1]
        here = (self.places >= 0) & (self.places < classes)  # an index below 0 would be counted from the end
        row = function
        for _ in self.places.shape[:-1]:
            row = jax.vmap(row)
        return row(arrays[0], jnp.where(here, self.places, classes), *arrays[1:])


def _entropy_term(z: Array, maximum: Array) -> Array:
    return times(shifted_exponential(z, maximum), gap(z, maximum))


@known_as
def _entropy_slope(z: Array, rows: RowStatistics) -> Array:
    """``J(p) (m - z)``."""
    distance = rows.maximum - z
    return functions.fisher_product(z, rows, jnp.where(jnp.isfinite(distance), distance, 0))


def _log_probs_slope(z: Array, rows: RowStatistics, named: _Tokens, p: Array, values: Array) -> Array:
    """``t - (Σt) p`` of the values t at the tokens; linear in them.

    As ``functions.cross_entropy_slope``, whose transpose is accurate, without t as an array: the entry at the pivot is
    apart.
    """
    is_pivot = named.is_pivot(rows, z.shape[-1])
    elsewhere = jnp.where(is_pivot, 0, values)
    own = jnp.sum(jnp.where(is_pivot, values, 0), axis=-1, keepdims=True)
    dense = jnp.sum(elsewhere, axis=-1, keepdims=True) * p + own * functions.p_minus_one_hot(z, rows)
    return named.added(elsewhere, -dense)


def _without(z: Array, is_token: Array) -> Array:
    """The logits of the tail."""
    return jnp.where(is_token, -jnp.inf, z)


def _log_tail(at: Array, rows: RowStatistics, rest: RowStatistics) -> Array:
    """``log r``, from the tokens' logits; class axis kept.

    Where the tail is far below the maximum, its share of the whole sum is a power of e that is not formed.
    """
    distance = gap(rest.maximum, rows.maximum)
    near = distance < 32
    listed = jnp.sum(shifted_exponential(at, rows.maximum), axis=-1, keepdims=True)
    beside = rest.total() * shifted_exponential(jnp.where(near, rest.maximum, rows.maximum), rows.maximum)
    return -jnp.where(near, jnp.log1p(listed / beside), distance + (rows.log_total() - rest.log_total()))


def _forward(asked: Asked, z: Array, tokens: Array) -> tuple[Answers, Any]:
    over, dtype = asked.over, asked.dtype
    named = _Tokens.of(tokens, z, over)
    in_range = jnp.all((tokens >= 0) & (tokens < class_count(z, over)), axis=-1)
    rows = row_statistics(z, plan=Plan(over), dtype=dtype).undefined_unless(in_range)
    # The maximum is fetched as the tokens are: two equal logits are equal then, whatever a fusion does to them.
    pivots = jnp.broadcast_to(rows.pivot, (*tokens.shape[:-1], 1)).astype(tokens.dtype)
    found = _Tokens(jnp.concatenate([named.places, pivots], axis=-1), over).entries(z)
    at, top = found[..., :-1].astype(dtype), found[..., -1:].astype(dtype)
    log_total = rows.log_total()
    log_probs = -surprisal(at, rows)
    entropy = tail = rest = mean = None
    if asked.entropy:
        expected = sum_of_others(_entropy_term, rows.pivot, (z,), rows.maximum)
        expected = expected if over is None else lax.psum(expected, over)
        # The pivot's own term is 0, but not its derivative: the maximum is a constant.
        mean = (expected + _entropy_term(rows.pivot_logit, rows.maximum)) / rows.total()
        entropy = (mean + log_total)[..., 0]
        mean = lax.stop_gradient(mean)
    if asked.tail:
        is_token = named.mask(z)
        rest = row_statistics(_without(z, is_token), plan=Plan(over, empty=True), dtype=dtype)
        tail = (nan_unless(~jnp.isnan(rows.rest), _log_tail(at, rows, rest)))[..., 0]
        rest = rest.stopped()
    is_top = lax.stop_gradient(jnp.where((at == top) & ~jnp.isnan(rows.rest), 1.0, 0.0).astype(dtype))
    answers = Answers(log_probs, (rows.maximum + log_total)[..., 0], is_top, entropy, tail)
    return answers, (asked, z, tokens, rows.stopped(), rest, mean)


def _backward(saved: Any, cotangents: Answers) -> tuple[None, Array, None]:
    asked, z, tokens, rows, rest, mean = saved
    wide, named = z.astype(asked.dtype), _Tokens.of(tokens, z, asked.over)
    p = functions.probabilities(wide, rows)
    in_z = cotangents.logsumexp[..., None] * p
    if tokens.shape[-1]:
        in_z = in_z + _log_probs_slope(wide, rows, named, p, cotangents.log_probs)
    if cotangents.entropy is not None:
        # The largest class, whose distance is 0, has no part in the mean: nothing is subtracted from 1.
        slope = lax.stop_gradient(times(p, gap(z, rows.maximum) - mean))
        in_z = in_z + cotangents.entropy[..., None] * _entropy_slope(slope, wide, rows)
    if cotangents.tail is not None:
        is_token = named.mask(wide)
        conditional = functions.probabilities(_without(wide, is_token), rest)
        listed = jnp.sum(named.entries(p), axis=-1, keepdims=True)
        in_z = in_z + cotangents.tail[..., None] * jnp.where(is_token, -p, conditional * listed)
    return None, in_z, None


token_answers = closed_form(_forward, _backward)
"""(asked, logits [..., C], tokens [..., K]) -> what is asked of them; a row with a token that is no class is NaN."""
