"""Heads whose logits are not stored, each beside the row-wise function of the logits that it is."""

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
    rows = a["hidden"].shape[:-1]
    every = np.broadcast_to(np.arange(CLASSES), (*rows, CLASSES))
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


def two_stored(function: Callable[..., Any], *more: str) -> Callable[..., Any]:
    return lambda a, **options: function(
        logits_of(a), logits_of(a, "other_"), **{n: a[n] for n in (*REDUCED, *more) if n in a}, **options
    )


def sparse(a: Arrays, **options: Any) -> Any:
    return lossjax.linear_softmax_cross_entropy_with_sparse_targets(
        a["hidden"], a["weight"], listed(a), a["probabilities"], tail=True, **picked(a, "bias", *REDUCED), **options
    )


def sparse_stored(a: Arrays, **options: Any) -> Any:
    reduced = {n: a[n] for n in REDUCED if n in a}
    return lossjax.softmax_cross_entropy_with_sparse_targets(
        logits_of(a), listed(a), a["probabilities"], tail=True, **reduced, **options
    )


def statistics(a: Arrays, **options: Any) -> Any:
    found = lossjax.linear_token_statistics(a["hidden"], a["weight"], listed(a), **picked(a, "bias"), **options)
    return found[:3]


def statistics_stored(a: Arrays, **options: Any) -> Any:
    return lossjax.token_statistics(logits_of(a), listed(a), **options)[:3]


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
        lambda a, **o: lossjax.softmax_entropy(logits_of(a), **{n: a[n] for n in REDUCED if n in a}, **o),
    ),
    "kl": (two(lossjax.linear_softmax_kl_divergence), two_stored(lossjax.softmax_kl_divergence)),
    "js": (two(lossjax.linear_softmax_js_divergence, "mixture"), two_stored(lossjax.softmax_js_divergence, "mixture")),
    "sparse targets": (sparse, sparse_stored),
    "token statistics": (statistics, statistics_stored),
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
