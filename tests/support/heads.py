"""Heads whose logits are not stored, each beside the textbook's formula of the logits.

The formulas are those of a page: JAX differentiates them by itself, which is a tenth of the program that a loss of this
library is, and what is computed twice is computed in two ways.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax

ROWS, WIDTH, OTHER, CLASSES = (2, 5), 3, 2, 7
Arrays = dict[str, Any]


def drawn(dtype: Any = np.float64) -> Arrays:
    """Two heads, what rows have of their own, and options; the last four are scalars."""
    random = np.random.default_rng(5)
    shapes = {
        "hidden": (*ROWS, WIDTH), "weight": (WIDTH, CLASSES), "bias": (CLASSES,),
        "other_hidden": (*ROWS, OTHER), "other_weight": (OTHER, CLASSES), "other_bias": (CLASSES,), "weights": ROWS,
    }  # fmt: skip
    arrays = {name: random.normal(size=shape) for name, shape in shapes.items()}
    arrays["probabilities"] = random.dirichlet(np.ones(3), ROWS)[..., :2]
    arrays |= {"temperature": np.float64(1.3), "logit_softcap": np.float64(4.0), "normalizer": np.float64(7.0)}
    arrays["mixture"] = np.float64(0.2)
    return {name: jnp.asarray(array, dtype) for name, array in arrays.items()}


def listed(a: Arrays) -> jax.Array:
    """Two distinct classes of each row: those given, or some."""
    if "classes" in a:
        return a["classes"]
    rows, classes = a["hidden"].shape[:-1], a["weight"].shape[-1]
    every = np.broadcast_to(np.arange(classes), (*rows, classes))
    return jnp.asarray(np.random.default_rng(6).permuted(every, axis=-1)[..., :2])


MASK = np.arange(10).reshape(ROWS) % 4 > 0
REDUCED = ("weights", "normalizer")


def logits_of(a: Arrays, prefix: str = "") -> jax.Array:
    z = jnp.matmul(a[f"{prefix}hidden"], a[f"{prefix}weight"])
    z = z + jnp.broadcast_to(a[f"{prefix}bias"], z.shape)
    z = z if "logit_softcap" not in a else a["logit_softcap"] * jnp.tanh(z / a["logit_softcap"])
    return z if "temperature" not in a else z / a["temperature"]


def picked(a: Arrays, *names: str) -> Arrays:
    return {name: a[name] for name in (*names, "temperature", "logit_softcap") if name in a}


def two(function: Callable[..., Any], *more: str) -> Callable[..., Any]:
    def of(a: Arrays, **options: Any) -> Any:
        pairs = (a[f"{prefix}{name}"] for prefix in ("", "other_") for name in ("hidden", "weight"))
        return function(*pairs, **picked(a, "bias", "other_bias", *REDUCED, *more), **options)

    return of


def of_rows(formula: Callable[[Arrays], jax.Array]) -> Callable[..., jax.Array]:
    """The formula of every row, reduced: "mean" divides by the normalizer."""

    def of(a: Arrays, where: Any = True, reduction: str = "none") -> jax.Array:
        losses = formula(a)
        losses = jnp.where(where, losses * a["weights"] if "weights" in a else losses, 0)
        losses = losses / a["normalizer"] if "normalizer" in a else losses
        return losses if reduction == "none" else jnp.sum(losses)

    return of


def log_p(a: Arrays, prefix: str = "") -> jax.Array:
    return jax.nn.log_softmax(logits_of(a, prefix))


def entropy_of_rows(a: Arrays) -> jax.Array:
    return -jnp.sum(jnp.exp(log_p(a)) * log_p(a), -1)


def kl_of_rows(a: Arrays) -> jax.Array:
    return jnp.sum(jnp.exp(log_p(a)) * (log_p(a) - log_p(a, "other_")), -1)


def js_of_rows(a: Arrays) -> jax.Array:
    shares = a["mixture"], 1 - a["mixture"]
    logs = log_p(a), log_p(a, "other_")
    between = jnp.log(sum(share * jnp.exp(log) for share, log in zip(shares, logs, strict=True)))
    terms = [share * jnp.exp(log) * (log - between) for share, log in zip(shares, logs, strict=True)]
    return jnp.sum(terms[0] + terms[1], -1)


def sparse_of_rows(a: Arrays) -> jax.Array:
    classes, q, logs = listed(a), a["probabilities"], log_p(a)
    listed_here = jnp.any(jax.nn.one_hot(classes, logs.shape[-1], dtype=bool), -2)
    tail = jax.nn.logsumexp(jnp.where(listed_here, -jnp.inf, logs), -1)
    return -jnp.sum(q * jnp.take_along_axis(logs, classes, -1), -1) - (1 - jnp.sum(q, -1)) * tail


def sparse(a: Arrays, **options: Any) -> Any:
    return lossjax.linear_softmax_cross_entropy_with_sparse_targets(
        a["hidden"], a["weight"], listed(a), a["probabilities"], tail=True, **picked(a, "bias", *REDUCED), **options
    )


def statistics(a: Arrays, **options: Any) -> Any:
    found = lossjax.linear_token_statistics(a["hidden"], a["weight"], listed(a), **picked(a, "bias"), **options)
    return found[:3]


def statistics_of_rows(a: Arrays, where: Any = True) -> tuple[jax.Array, ...]:
    log_probs = jnp.take_along_axis(log_p(a), listed(a), -1)
    kept = jnp.broadcast_to(jnp.asarray(where), log_probs.shape[:-1])
    found = log_probs, entropy_of_rows(a), jax.nn.logsumexp(logits_of(a), -1)
    return tuple(jnp.where(kept.reshape(*kept.shape, *[1] * (x.ndim - kept.ndim)), x, 0) for x in found)


def users_loss(z: jax.Array, classes: jax.Array, q: jax.Array) -> Any:
    """With a scalar and a vector of each row."""
    log_p = lossjax.log_softmax(z)
    return {"loss": -jnp.sum(q * jnp.take_along_axis(log_p, classes, -1), -1), "pair": log_p[..., :2] ** 2}


def users(a: Arrays, **options: Any) -> Any:
    cap, temperature = a["logit_softcap"], a["temperature"]  # closed over

    def loss(z: jax.Array, classes: jax.Array, q: jax.Array) -> Any:
        return users_loss(cap * jnp.tanh(z / cap) / temperature, classes, q)

    return lossjax.linear_loss(loss, a["hidden"], a["weight"], listed(a), a["probabilities"], bias=a["bias"], **options)


HEADS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "entropy": (
        lambda a, **o: lossjax.linear_softmax_entropy(a["hidden"], a["weight"], **picked(a, "bias", *REDUCED), **o),
        of_rows(entropy_of_rows),
    ),
    "kl": (two(lossjax.linear_softmax_kl_divergence), of_rows(kl_of_rows)),
    "js": (two(lossjax.linear_softmax_js_divergence, "mixture"), of_rows(js_of_rows)),
    "sparse targets": (sparse, of_rows(sparse_of_rows)),
    "token statistics": (statistics, statistics_of_rows),
    "any loss": (users, lambda a, **o: users_loss(logits_of(a), listed(a), a["probabilities"])),
}
NEVER_REDUCED = ("token statistics", "any loss")
CASES = [(name, how) for name in HEADS for how in ("none", "mean") if how == "none" or name not in NEVER_REDUCED]


def total(results: Any) -> jax.Array:
    """A sum in which every result has a weight of its own."""
    parts = [jnp.ravel(part) for part in jax.tree.leaves(results)]
    weighed = [jnp.sum(jnp.cos(jnp.arange(1.0, 1 + part.size, dtype=part.dtype)) * part) for part in parts]
    return jnp.sum(jnp.stack(weighed))


def options_of(name: str, how: str) -> Arrays:
    masked = {} if name == "any loss" else {"where": jnp.asarray(MASK)}
    return masked if name in NEVER_REDUCED else masked | {"reduction": how}
