"""Problems for the information projections, and how far their answers may be off."""

from typing import Any

import jax
import numpy as np

from lossjax import kl_divergence
from tests.support.floats import unit


def kl(p: Any, q: Any) -> Any:
    with jax.enable_x64(True):
        return np.asarray(kl_divergence(np.asarray(p, np.float64), np.asarray(q, np.float64)))


def problem(n: int, k: int, spread: float, dtype: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A base, statistics of very different scales, and a distribution whose moments are wanted."""
    rng = np.random.default_rng([n, k, seed])
    q = np.exp(spread * rng.normal(size=n))
    T = rng.normal(size=(k, n)) * 10.0 ** rng.integers(-6, 7, (k, 1))
    return (q / q.sum()).astype(dtype), T.astype(dtype), rng.dirichlet(np.ones(n))


def moments_of(T: np.ndarray, p: np.ndarray, dtype: Any) -> np.ndarray:
    return (T.astype(np.float64) @ p).astype(dtype)


def allowed(T: Any, q: Any, p: Any, dtype: Any) -> float:
    """The documented 4u(1 + s)(8 + max(k, n) + g), the exponents g of p = q e^z taken from p and q."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(p > 0, np.log(p / q), 0)
    k, n = T.shape
    return 4 * unit(dtype) * (1 + 2 * np.sqrt(k * n)) * (8 + max(k, n) + (1 + np.sqrt(n * k)) * np.ptp(z))
