"""Fit Gaussian likelihoods to real data: squared error as a likelihood (4.1.1) and as a projection (4.1.3).

Linear models of how diabetes progressed in 442 patients: with a fixed variance, with one learned variance, and with a
variance that depends on the patient. `lossjax.gaussian_nll` serves all three. The theorems that tie it to the mean
squared error, and that to orthogonal projection, are then measured on the fitted models; at the end the losses and
their gradients are checked against exact arithmetic, at the residuals of the last model.

    python examples/02_regression_diabetes.py

Needs `pip install ".[examples]"` in a clone of lossjax; takes about ten seconds on a laptop.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from _accuracy import (
    gaussian_nll_errors,
    report_errors,
    report_theorems,
    squared_error_errors,
    table,
)
from _training import minimise, progress_with_loss
from jax import Array
from jax.typing import ArrayLike
from rich.console import Console
from sklearn.datasets import load_diabetes

import lossjax
from lossjax import geometry

jax.config.update("jax_enable_x64", True)  # the theorems are equalities, which float64 shows to 13 digits and more

# An intercept and ten features of unit variance; the progression in units of its own standard deviation.
features, progression = (np.asarray(array) for array in load_diabetes(return_X_y=True))
N, FIXED = len(progression), np.log(0.25)  # the fixed log σ² may be any: the fitted mean does not depend on it
X = jnp.column_stack([jnp.ones(N), features * np.sqrt(N)])
y = jnp.asarray(progression / np.std(progression))
START = jnp.zeros(X.shape[1])


def mse(weights: Array) -> Array:
    return lossjax.mean_squared_error(X @ weights, y)


def nll(weights: Array, log_variance: ArrayLike) -> Array:
    return lossjax.gaussian_nll(X @ weights, y, log_variance=log_variance, reduction="mean")


def theorems(by_mse: Array, by_nll: Array, jointly: Array, log_variance: Array) -> Iterator[tuple[str, Array, float]]:
    """What the theorems say of these fits, by how much they miss it, and how much may be rounding or the optimizer."""
    # Not only at the optimum: one hundred arbitrary weights.
    anywhere, precision = jax.random.normal(jax.random.key(0), (100, X.shape[1])), np.exp(-FIXED)
    likelihood, slope = jax.vmap(jax.value_and_grad(lambda weights: -N * nll(weights, FIXED)))(anywhere)
    error, error_slope = (N / 2 * precision * a for a in jax.vmap(jax.value_and_grad(mse))(anywhere))
    affine = -N / 2 * (np.log(2 * np.pi) + FIXED) - error
    yield "4.1.1  log-likelihood = -N/2 log 2πσ² - N/2σ² MSE", likelihood / affine - 1, 1e-13
    yield "4.1.1  its gradient = -N/2σ² gradient of MSE", (slope + error_slope) / jnp.max(abs(slope)), 1e-13
    yield "4.1.1  σ² fixed: the minimiser is that of MSE", by_nll - by_mse, 1e-9
    yield "4.1.1  σ² learned: the minimiser is that of MSE", jointly - by_mse, 1e-9
    yield "4.1.1  σ² learned: it becomes the MSE", jnp.exp(log_variance) - mse(by_mse), 1e-9

    predictions, residual, center = X @ by_mse, y - X @ by_mse, jnp.mean(y)
    cosines = X.T @ residual / (np.sqrt(N) * jnp.linalg.norm(residual))
    total, explained, left = (jnp.sum(v**2) for v in (y - center, predictions - center, residual))
    yield "4.1.3  predictions = orthogonal projection of y", predictions - geometry.orthogonal_projection(X, y), 1e-9
    yield "4.1.3  weights = least squares", by_mse - geometry.least_squares(X, y), 1e-9
    yield "4.1.3  residual ⟂ every column (cosines are 0)", cosines, 1e-9
    yield "4.1.3  Pythagoras: SST = SSR + SSE", (explained + left) / total - 1, 1e-9
    r_squared = geometry.r_squared(predictions, y)
    yield f"4.1.3  R² = SSR / SST (it is {r_squared:.4f})", r_squared - explained / total, 1e-9


def main() -> None:
    console = Console(highlight=False)
    with progress_with_loss(console) as progress:
        (by_mse,) = minimise(progress, "mean squared error", mse, START)
        (by_nll,) = minimise(progress, "variance fixed", lambda weights: nll(weights, FIXED), START)
        jointly, common = minimise(progress, "variance learned", nll, START, jnp.zeros(()))
        weights, spread = minimise(progress, "variance by patient", lambda w, v: nll(w, X @ v), by_mse, START)
    mean, log_variance = X @ weights, X @ spread

    fits = table("Three likelihoods", "variance", "parameters", "log-likelihood", "AIC")
    for name, parameters, likelihood in (
        ("fixed", by_nll.size, -N * nll(by_nll, FIXED)),
        ("learned", jointly.size + 1, -N * nll(jointly, common)),
        ("by patient", weights.size + spread.size, -N * nll(weights, log_variance)),
    ):
        fits.add_row(name, str(parameters), f"{likelihood:.2f}", f"{2 * (parameters - likelihood):.1f}")
    console.print("", fits, "", sep="\n")

    report_theorems(console, "The theorems, on these fits", theorems(by_mse, by_nll, jointly, common))
    # Where residuals can vanish the likelihood has no bound, and a fit can run away, say to here:
    runaway = jnp.array([1e-165]), jnp.array([0.0]), jnp.array([-760.0])
    rows = [*squared_error_errors(mean, y), *gaussian_nll_errors("", mean, y, log_variance)]
    rows += gaussian_nll_errors("runaway fit: ", *runaway)
    console.print()
    report_errors(console, "The losses of the last fit, against exact arithmetic", rows)
    console.print(
        "On these data every form is accurate. In a runaway fit (here log σ² = -760) the\n"
        "textbook's σ² underflows to 0, and it returns only NaN or ±inf (inf above)."
    )


if __name__ == "__main__":
    main()
