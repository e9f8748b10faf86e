"""The information measures, compiled once for the claims of §4.1 and §4.1.1, and tables of distributions.

Numpy computes the printed formulas in the trial's dtype, JAX the library's functions. Compiling takes nearly all of the
time, hence there is one shape of table for (nearly) every call of a measure: ``measure`` pads smaller tables.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax.verify._claims._tools import compiled
from lossjax.verify.claim import Trial

ROWS, OUTCOMES = 143, 7  # 143 · 7 = 1001 = the numbers that self-information is asked about


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return compiled(function, static_argnames="base")


def _summed(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda *args: jnp.sum(function(*args))


softmax = compiled(lossjax.softmax)
information, entropy, cross_entropy = map(_compiled, (lossjax.self_information, lossjax.entropy, lossjax.cross_entropy))
kl, js, jeffreys = map(_compiled, (lossjax.kl_divergence, lossjax.js_divergence, lossjax.jeffreys_divergence))
entropy_slope = compiled(jax.grad(_summed(lossjax.entropy)))
kl_slopes = compiled(jax.grad(_summed(lossjax.kl_divergence), argnums=(0, 1)))


def measure(function: Callable[..., Any], *tables: Any, **options: Any) -> np.ndarray:
    """A measure of each row of distributions; up to 7 outcomes (or 128) are padded with impossible ones."""
    rows, outcomes = np.shape(tables[0])
    width = OUTCOMES if outcomes <= OUTCOMES else 128
    blocks = -(-rows // ROWS)
    padded = [np.pad(np.asarray(table), ((0, 0), (0, width - outcomes))) for table in tables]
    repeated = [np.resize(table, (blocks, ROWS, width)) for table in padded]
    return np.concatenate([np.asarray(function(*block, **options)) for block in zip(*repeated, strict=True)])[:rows]


def dyadic(trial: Trial, rows: int, outcomes: int, bits: int = 12) -> np.ndarray:
    """Distributions of positive multiples of 2^-bits: in float32 as on paper, they sum to 1 exactly."""
    weights = trial.random.dirichlet(np.ones(outcomes), size=rows)
    return np.asarray(trial.array((trial.random.multinomial(2**bits - outcomes, weights) + 1) / 2**bits))


def table(trial: Trial, *rows: list[float]) -> np.ndarray:
    """Distributions that are written out, as an array of the trial's dtype."""
    return np.asarray(trial.array(rows))


def refuses(function: Callable[..., Any], *args: Any, **options: Any) -> bool:
    """Whether the call raises ValueError."""
    try:
        function(*args, **options)
    except ValueError:
        return True
    return False
