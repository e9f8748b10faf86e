"""§4.1.7: what the chapter says of both losses again."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax import geometry
from lossjax.verify._claims._tools import exact_softmax, gradient, measured, wide
from lossjax.verify.claim import Claim, Trial, claim


@claim(
    "7.1",
    section="4.1.7",
    statement="Under Gaussian noise the log-likelihood is proportional to the mean squared error",
    verdict="wrong",
    correction="It is affine with negative slope: ℓ = −(N/2) log 2πσ² − (N/2σ²)·MSE",
)
def likelihood_is_affine(trial: Trial) -> None:
    """The affine law for several σ, its gradient, and the ratio, which is no constant."""
    y = trial.normal(50)
    predictions = trial.array(wide(y) + np.linspace(0.2, 3, 9)[:, None] * trial.random.normal(size=(9, 50)))
    log_variances = trial.array(2 * np.log([0.1, 1, 30]))

    def measure(predictions: jax.Array, log_variances: jax.Array) -> Any:
        def likelihood(f: jax.Array, log_variance: jax.Array) -> jax.Array:
            return -lossjax.gaussian_nll(f, y, log_variance=log_variance, reduction="sum")

        error = jax.vmap(jax.value_and_grad(lambda f: lossjax.mean_squared_error(f, y)))(predictions)
        each = jax.vmap(jax.vmap(jax.value_and_grad(likelihood), (0, None)), (None, 0))
        return error, each(predictions, log_variances)

    (error, error_slope), (values, slopes) = measured(measure, predictions, log_variances)
    exact = np.mean((wide(predictions) - wide(y)) ** 2, axis=-1)
    for value, slope, log_variance in zip(values, slopes, wide(log_variances), strict=True):
        sigma = f"σ = {float(np.exp(log_variance / 2)):.2g}"
        constant, factor = -25 * (np.log(2 * np.pi) + log_variance), -25 * np.exp(-log_variance)
        size = np.abs(constant) + np.abs(factor) * exact
        trial.close(f"affine law, {sigma}", value, constant + factor * exact, 32, scale=size)
        trial.close(f"∇ℓ = -(N/2σ²)∇MSE, {sigma}", slope, factor * wide(error_slope), 64)
        trial.happens(f"decreasing in MSE, {sigma}", np.all(np.diff(value[np.argsort(error)]) < 0), refutes=True)
        trial.refuted(f"spread of ℓ/MSE, {sigma}", np.ptp(value / error), 10)


@claim(
    "7.2",
    section="4.1.7",
    statement="The decomposition of the error by orthogonal projection is the geometric basis of R²",
    verdict="needs conditions",
    correction="It needs 1 ∈ col X (an intercept); without one only ‖y‖² = ‖ŷ‖² + ‖e‖² holds, and R² can be negative",
)
def coefficient_of_determination(trial: Trial) -> None:
    """SST = SSR + SSE with an intercept, at every offset; R² = -16.357 without; the uncentred form always."""
    columns = wide(trial.normal(40, 3))
    for offset in (0, 1e3):
        X = trial.array(np.concatenate([np.ones((40, 1)), columns], axis=1))
        y = trial.array(columns @ [1, -2, 0.5] + wide(trial.normal(40, offset=offset)))

        def measure(X: jax.Array, y: jax.Array) -> Any:
            fitted = geometry.orthogonal_projection(X, y)
            return fitted, geometry.r_squared(fitted, y)

        fitted, share = measured(measure, X, y)
        middle = np.mean(wide(y))
        total, explained, left = (np.sum(a**2) for a in (wide(y) - middle, fitted - middle, wide(y) - fitted))
        # With ŷ off by δ the sums differ by 2⟨ŷ - ȳ, δ⟩ to first order, relatively by 2‖δ‖/√SST, ‖δ‖ ≤ 32u‖y‖.
        units = 64 * float(np.sqrt(np.sum(wide(y) ** 2) / total))
        trial.at_most(f"SST = SSR + SSE, {offset:g}, in u", abs(total - explained - left) / total / trial.u, units)
        trial.close(f"R² = SSR/SST, {offset:g}", share, explained / total, units)
        correlation = np.corrcoef(np.asarray(y, np.float64), fitted.astype(np.float64))[0, 1]
        trial.close(f"R² = corr(y, ŷ)², {offset:g}", share, np.float64(correlation**2), units)
        trial.happens(f"0 ≤ R² ≤ 1, {offset:g}", 0 <= share <= 1)
        # With ŷ off by δ the sums differ by 2⟨ŷ, e⟩, at most 2‖δ‖‖y‖; half of what P may be off, ‖δ‖ ≤ 32u‖y‖.
        uncentered = np.sum(wide(fitted) ** 2) + left
        whole = np.sum(wide(y) ** 2)
        trial.at_most(f"‖y‖² = ‖ŷ‖² + ‖e‖², {offset:g}, in u", abs(uncentered - whole) / whole / trial.u, 64)
    X, y = trial.array([[1], [2], [3]]), trial.array([10, 11, 12])
    fitted, share, constant = measured(lambda X, y: (*measure(X, y), geometry.r_squared(y, jnp.ones_like(y))), X, y)
    trial.close("no intercept: R²", share, 1 - np.float64(365 - 68**2 / 14) / 2, 64, scale=34)
    trial.refuted("no intercept: minus R²", -share, 16.35)
    sums = np.sum((wide(fitted) - 11) ** 2 + (wide(y) - fitted) ** 2)
    trial.refuted("no intercept: SSR + SSE over SST = 2", sums / 2, 43.4)
    trial.happens("SST = 0: R² is NaN", np.isnan(constant))


@claim(
    "7.3",
    section="4.1.7",
    statement="On the simplex, cross-entropy corresponds to the KL divergence",
    verdict="imprecise",
    correction="Up to the constant H(P), which is 0 for one-hot P: CE = H(P) + KL",
)
def cross_entropy_and_divergence(trial: Trial) -> None:
    """Their difference is H(P), zero for labels only; their gradients in the logits agree always."""
    z, p = trial.normal(20, 9, scale=2), trial.simplex(20, 9, concentration=2.0)
    one_hot = trial.array(np.eye(9)[np.arange(20) % 9])

    def measure(z: jax.Array, p: jax.Array, one_hot: jax.Array) -> Any:
        q = lossjax.softmax(z)
        parts = lossjax.cross_entropy(p, q), lossjax.entropy(p), lossjax.kl_divergence(p, q)
        functions = lossjax.cross_entropy, lossjax.kl_divergence
        slopes = [gradient(lambda z, f=f: f(p, lossjax.softmax(z)))(z) for f in functions]
        return parts, slopes, lossjax.softmax_cross_entropy(z, one_hot), lossjax.kl_divergence(one_hot, q)

    (cross, entropy, divergence), slopes, of_labels, of_one_hot = measured(measure, z, p, one_hot)
    trial.close("CE = H(P) + KL", cross, wide(entropy) + divergence, 32)
    trial.refuted("CE less KL for soft targets, at least", np.min(cross - divergence), 0.4)
    # KL from probabilities sees the logits through q, of which 1 is known to u.
    trial.close("CE = KL for labels", of_one_hot, wide(of_labels), 16, scale=1 + of_labels)
    for name, slope in zip(("CE", "KL"), slopes, strict=True):
        trial.close(f"gradient of {name} in the logits", slope, exact_softmax(z) - wide(p), 32, scale=1)


CLAIMS: tuple[Claim, ...] = (
    likelihood_is_affine,
    coefficient_of_determination,
    cross_entropy_and_divergence,
)
