"""The heads of post-training as problems: each beside stored logits, and beside the way it is written by hand."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array

import lossjax
from lossjax.accelerators.suite import optax_js_divergence, optax_kl_divergence
from lossjax.bench.losses import Pass

Reduction = Literal["mean", "none"]
BY_HAND = 256
"""Rows of a block, where a block's logits are made again by ``jax.checkpoint``."""
TOP = 8
"""How many classes a sparse target names."""


@dataclasses.dataclass(frozen=True)
class HeadLoss:
    """A loss of linear heads: its mean, or the sum of its rows with weights that are known only afterwards."""

    loss: str
    rows: int
    hidden: int
    classes: int
    dtype: str = "float32"
    reduction: Reduction = "mean"
    what: Pass = "value_and_grad"
    kind = "heads"

    @property
    def name(self) -> str:
        """The name that tables show."""
        sizes = f"({self.rows}, {self.hidden}, {self.classes}) {self.dtype}"
        return f"{self.loss}, {self.reduction}, {self.what} {sizes}"

    @property
    def heads(self) -> int:
        """How many heads the loss has."""
        return 2 if self.loss in ("KL", "JS") else 1

    def data(self) -> tuple[Array, ...]:
        """Hidden states and weight of each head, weights of the rows, and tokens."""
        keys = jax.random.split(jax.random.key(0), 6)
        arrays = []
        for x, w in (keys[:2], keys[2:4])[: self.heads]:
            hidden = jax.random.normal(x, (self.rows, self.hidden), jnp.float32)
            weight = jax.random.normal(w, (self.hidden, self.classes), jnp.float32) / self.hidden**0.5
            arrays += [hidden.astype(self.dtype), weight.astype(self.dtype)]
        weights = jax.random.normal(keys[4], (self.rows,), jnp.float32)
        return *arrays, weights, jax.random.randint(keys[5], (self.rows,), 0, self.classes)

    def argnums(self) -> tuple[int, ...]:
        """The positions of the arguments to differentiate."""
        return tuple(range(2 * self.heads))

    def truth(self, *_: Array) -> None:
        """None, because the rounding of the logits would hide every other error."""
        return

    def step(self, of_rows: Callable[..., Array], mean: Callable[..., Array] | None = None) -> Callable[..., Any]:
        """What is timed: ``of_rows(*floats, tokens)``, or ``mean`` of it, with its gradient if that is asked for."""

        def total(*data: Array) -> Array:
            *floats, weights, tokens = data
            if self.reduction == "none":
                return jnp.sum(weights * of_rows(*floats, tokens))
            return jnp.mean(of_rows(*floats, tokens)) if mean is None else mean(*floats, tokens)

        return total if self.what == "forward" else jax.value_and_grad(total, self.argnums())


def _log_probs(z: Array, tokens: Array) -> Array:
    return -optax.softmax_cross_entropy_with_integer_labels(z, tokens)


def _entropy(z: Array, _: Array) -> Array:
    log_p = jax.nn.log_softmax(z)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def _divergence(u: Array, v: Array, _: Array) -> Array:
    return optax_kl_divergence(u, v)


def _jensen_shannon(u: Array, v: Array, _: Array) -> Array:
    return optax_js_divergence(u, v)


def _listed(tokens: Array, classes: int) -> tuple[Array, Array]:
    """A teacher's top k of each row: classes, equally likely."""
    top = min(TOP, classes)
    listed = (tokens[:, None] + jnp.arange(top)[None] * (classes // top)) % classes
    return listed, jnp.full(listed.shape, 1 / top)


def _sparse(z: Array, tokens: Array) -> Array:
    listed, probabilities = _listed(tokens, z.shape[-1])
    return -jnp.sum(probabilities * jnp.take_along_axis(jax.nn.log_softmax(z), listed, axis=-1), axis=-1)


OF_LOGITS: dict[str, Callable[..., Array]] = {
    "log-probabilities": _log_probs, "entropy": _entropy, "sparse targets": _sparse, "KL": _divergence,
    "JS": _jensen_shannon,
}  # fmt: skip
"""What is usually written."""


def stored(problem: HeadLoss) -> Callable[..., Any]:
    """With all logits in memory."""

    def of_rows(*data: Array) -> Array:
        *floats, tokens = data
        logits = [jnp.matmul(x, w) for x, w in zip(floats[::2], floats[1::2], strict=True)]
        return OF_LOGITS[problem.loss](*logits, tokens)

    return problem.step(of_rows)


def by_hand(problem: HeadLoss) -> Callable[..., Any]:
    """A loop over blocks of rows, each rematerialised in the backward pass."""

    def of_rows(*data: Array) -> Array:
        *floats, tokens = data
        hidden, weights = floats[::2], floats[1::2]

        @jax.checkpoint
        def of_block(block: Any) -> Array:
            rows, tokens = block
            return OF_LOGITS[problem.loss](*[jnp.matmul(x, w) for x, w in zip(rows, weights, strict=True)], tokens)

        size = min(BY_HAND, problem.rows)
        blocks = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), (hidden, tokens))
        return jax.lax.map(of_block, blocks).reshape(-1)

    return problem.step(of_rows)


def ours(problem: HeadLoss) -> Callable[..., Any]:
    """By lossjax."""
    if problem.loss == "log-probabilities":  # a mean of them is a cross-entropy, whose cotangents are known
        return problem.step(
            lossjax.linear_token_log_probs,
            lambda x, w, tokens: -lossjax.linear_softmax_cross_entropy(x, w, tokens, reduction="mean"),
        )
    if problem.loss == "sparse targets":
        sparse = lossjax.linear_softmax_cross_entropy_with_sparse_targets
        return problem.step(
            lambda x, w, tokens: sparse(x, w, *_listed(tokens, problem.classes)),
            lambda x, w, tokens: sparse(x, w, *_listed(tokens, problem.classes), reduction="mean"),
        )
    function = OF_HIDDEN[problem.loss]
    return problem.step(lambda *data: function(*data[:-1]), lambda *data: function(*data[:-1], reduction="mean"))


OF_HIDDEN: dict[str, Callable[..., Any]] = {
    "entropy": lossjax.linear_softmax_entropy, "KL": lossjax.linear_softmax_kl_divergence,
    "JS": lossjax.linear_softmax_js_divergence,
}  # fmt: skip
"""Ours, of those that want nothing but heads."""


def suite(rows: int, hidden: int, classes: int) -> list[HeadLoss]:
    """Every loss: its mean and its rows, forward and with the gradient, in both widths."""
    return [
        HeadLoss(loss, rows, hidden, classes, dtype, reduction, what)
        for loss in OF_LOGITS for reduction in ("mean", "none") for dtype in ("float32", "bfloat16")
        for what in ("forward", "value_and_grad") if what == "value_and_grad" or reduction == "mean"
    ]  # fmt: skip
