"""§4.1.2: mean squared error as the likelihood of Gaussian noise."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax.verify import oracle
from lossjax.verify._claims._tools import compiled
from lossjax.verify.claim import Claim, Trial, claim
from lossjax.verify.ulp import balls

SPREADS = (1e-3, 1.0, 1e3)
LOG_TWO_PI = math.log(2 * math.pi)


def _each_nll(mean: Any, y: Any, s: Any) -> jax.Array:
    return lossjax.gaussian_nll(mean, y, log_variance=s)


_squared = compiled(lossjax.mean_squared_error)
_squared_slope = compiled(jax.grad(lossjax.mean_squared_error))
each_nll = compiled(_each_nll)


def line(theta: Any, x: Any) -> jax.Array:
    """A model linear in its parameters."""
    return theta[0] + theta[1] * x


def wave(theta: Any, x: Any) -> jax.Array:
    """A model that is not."""
    return theta[0] + jnp.sin(theta[1] * x)


def _log_likelihood(theta: jax.Array, x: Any, y: Any, s: Any, model: Any = line) -> jax.Array:
    return -lossjax.gaussian_nll(model(theta, x), y, log_variance=s, reduction="sum")


def _line_error(theta: jax.Array, x: Any, y: Any, model: Any = line) -> jax.Array:
    return lossjax.mean_squared_error(model(theta, x), y)


_likelihood_slope = compiled(jax.grad(_log_likelihood))
error_slope = compiled(jax.grad(_line_error))
# Values and gradients at many parameters.
_likelihoods = compiled(
    jax.vmap(jax.value_and_grad(_log_likelihood), in_axes=(0, None, None, None, None)), static_argnums=4
)
_errors = compiled(jax.vmap(jax.value_and_grad(_line_error), in_axes=(0, None, None, None)), static_argnums=3)


def _data(trial: Trial, n: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and targets on the line 1 - 2x with Gaussian noise."""
    x = np.asarray(trial.array(trial.random.uniform(-2, 2, size=n)))
    return x, np.asarray(trial.array(1 - 2.0 * x + spread * trial.random.normal(size=n)))


def _wide(*arrays: Any) -> list[np.ndarray]:
    return [np.asarray(a, np.float64) for a in arrays]


@claim("2.1", section="4.1.2", statement="MSE = (1/N) Σ (y - f(x; θ))².")
def mean_squared_error(trial: Trial) -> None:
    """Value and gradient at four sizes and three scales; nothing, and overflow."""
    for n, scale in zip((1, 2, 50, 1000), (1e3, *SPREADS), strict=True):
        y = np.asarray(trial.normal(n, scale=scale, offset=3.0))
        f = np.asarray(trial.array(y + scale * trial.random.normal(size=n)))
        with oracle.precision():
            r = balls(f) - balls(y)
            truth, slope = float(oracle.total(r * r).item() / n), (2 * r / n).astype(float)
        trial.close(f"value, N = {n}", _squared(f, y), truth, 16)
        trial.close("gradient (2/N)(f - y)", _squared_slope(f, y), slope, 4)
        if n == 50:
            textbook = compiled(jax.grad(lambda f, y: jnp.mean((y - f) ** 2)))(f, y)
            trial.close("gradient of the textbook expression", _squared_slope(f, y), textbook, 4)
    nothing = np.asarray(trial.array([]))
    trial.exactly("a mean over nothing", lossjax.mean_squared_error(nothing, nothing), 0)
    large = math.sqrt(float(jnp.finfo(trial.dtype).max)) * 2  # 3.7e19 in float32
    trial.exactly("overflow", _squared(trial.array([large, large]), trial.array([1, -1])), np.inf)


@claim("2.2", section="4.1.2", statement="The density of y is p(y|x; θ) = (2πσ²)^(-1/2) exp(-(y - f)²/2σ²).")
def density(trial: Trial) -> None:
    """Its logarithm and gradients, its integral, and its size: a density may exceed 1, a probability may not."""
    s = np.asarray(trial.array(np.repeat([2 * math.log(spread) for spread in SPREADS], 401)))
    steps = np.tile(np.linspace(-12, 12, 401), 3)
    spread = np.exp(s.astype(float) / 2)
    mean, zero = np.asarray(trial.array(5 * spread)), np.zeros_like(s)
    y = np.asarray(trial.array(5 * spread + steps * spread))
    with oracle.precision():
        truth, in_mean, in_s = (t.astype(float) for t in oracle.gaussian_nll(balls(mean), balls(y), balls(s)))
    size = (LOG_TWO_PI + np.abs(s) + steps**2) / 2
    values = np.asarray(each_nll(mean, y, s))
    trial.close("-log p", values, truth, 16, scale=size)

    def textbook(mean: jax.Array, y: jax.Array, s: jax.Array) -> jax.Array:
        variance = jnp.exp(s)
        return jnp.sum(jnp.log(2 * jnp.pi * variance) / 2 + (y - mean) ** 2 / (2 * variance))

    ours = compiled(jax.grad(lambda *args: jnp.sum(_each_nll(*args)), argnums=(0, 2)))(mean, y, s)
    theirs = compiled(jax.grad(textbook, argnums=(0, 2)))(mean, y, s)
    trial.close("gradient in f", ours[0], in_mean, 16, scale=np.abs(in_mean) + trial.tiny)
    trial.close("gradient in log σ²", ours[1], in_s, 16, scale=1 + steps**2)
    trial.close("gradient in f, textbook", ours[0], theirs[0], 16, scale=np.abs(in_mean) + trial.tiny)
    trial.close("gradient in log σ², textbook", ours[1], theirs[1], 16, scale=1 + steps**2)
    # Sums of equal steps integrate a Gaussian to e^(-2π²σ²/h²): exactly, at h = .06σ.
    integrals = np.sum(np.exp(-values.astype(float)).reshape(3, 401), axis=-1) * 0.06 * spread[::401]
    trial.at_most("its integral less 1, in u", np.max(np.abs(integrals - 1)) / trial.u, 64)
    peak = each_nll(zero[:1], zero[:1], np.asarray(trial.array([2 * math.log(0.01)])))
    trial.close("-log p at σ = .01: -3.686", peak, [(LOG_TWO_PI + 2 * math.log(0.01)) / 2], 16)
    far = np.asarray(trial.array([20.0 if trial.dtype == jnp.float32 else 40.0]))
    trial.exactly("the density itself underflows, and its logarithm does not",
                  [np.exp(-(far**2) / 2), each_nll(0 * far, far, 0 * far) < 1e3], [[0], [1]])  # fmt: skip


@claim(
    "(4.1.1)", section="4.1.2", verdict="imprecise",
    statement="For an i.i.d. sample the likelihood is L(θ) = Π p(y_i | x_i; θ).",
    correction="Given x the y_i are independent, not identically distributed; in floats only its logarithm exists.",
)  # fmt: skip
def likelihood(trial: Trial) -> None:
    """The product against the sum of logarithms; where it underflows; where the y_i depend or share one law."""
    x, y = _data(trial, 50)
    zero = trial.dtype.type(0)
    theta = np.asarray(trial.array([0.9, -2.1]))
    log_likelihood = _likelihoods(theta[None], x, y, zero, line)[0][0]
    r = y - (theta[0] + theta[1] * x)
    product = np.prod(np.exp(-(r**2) / 2) / np.sqrt(2 * np.pi, dtype=r.dtype))
    # The logarithm of a product of 50 densities with 3 roundings each (and r²/2 times u in each exponent).
    trial.close("log Π p = Σ log p, N = 50", np.log(product), log_likelihood, 64)
    n = 300 if trial.dtype == jnp.float32 else 2000
    x, y = _data(trial, n)
    grid = np.asarray(trial.array(list(itertools.product(np.linspace(0, 2, 9), np.linspace(-3, -1, 9)))))
    densities = np.exp(-((y - grid[:, :1] - grid[:, 1:] * x) ** 2) / 2) / np.sqrt(2 * np.pi, dtype=y.dtype)
    trial.refuted("parameters for which the product underflows to 0", np.sum(np.prod(densities, axis=-1) == 0), 81)
    best = grid[np.argmax(_likelihoods(grid, x, y, zero, line)[0])]
    trial.exactly("arg max of the logarithm, on a grid", best, grid[np.argmin(_errors(grid, x, y, line)[0])])
    # One law for all y_i, the best of them, explains far less than p(y_i|x_i): (N/2) log(var y/σ²).
    wide = y.astype(float)
    one_law = -n / 2 * (math.log(2 * math.pi * wide.var()) + 1)
    of_line = float(_likelihoods(np.asarray(trial.array([[1, -2]])), x, y, zero, line)[0][0])
    trial.refuted("nats a number lost by identical distribution", (of_line - one_law) / n, 0.5)
    # Two residuals of 1 with correlation .9: the density less the product.
    joint = -math.log(2 * math.pi) - math.log(1 - 0.81) / 2 - 1 / 1.9
    pair = float(-jnp.sum(each_nll(np.zeros_like(y[:2]), np.ones_like(y[:2]), np.zeros_like(y[:2]))))
    trial.refuted("nats between density and product where the y_i depend", joint - pair, 1.3)


@claim("2.4", section="4.1.2", statement="log L(θ) = -(N/2) log(2πσ²) - (1/2σ²) Σ (y - f)².")
def log_likelihood(trial: Trial) -> None:
    """At four sizes and three spreads, for a line and a wave."""
    theta = np.asarray(trial.array([0.9, -2.1]))
    for (n, spread), model in zip(itertools.product((1, 2, 50, 1000), SPREADS), itertools.cycle((line, wave))):
        x, y = _data(trial, n, spread)
        s = trial.dtype.type(2 * math.log(spread))
        f = np.asarray(theta[0] + theta[1] * x if model is line else theta[0] + np.sin(theta[1] * x))
        got = -jnp.sum(each_nll(f, y, np.broadcast_to(s, y.shape)))
        wide_y, wide_f, wide_s = _wide(y, f, s)
        misfit = np.sum((wide_y - wide_f) ** 2) * np.exp(-wide_s) / 2
        want = -n / 2 * (LOG_TWO_PI + wide_s) - misfit
        trial.close(f"N = {n}, σ = {spread:g}", got, want, 32, scale=n / 2 * (LOG_TWO_PI + abs(wide_s)) + misfit)


@claim(
    "2.5", section="4.1.2", verdict="needs conditions",
    statement="Maximising the log-likelihood is minimising Σ (y - f)², that is MSE.",
    correction="For one σ² common to all: ℓ = -(N/2) log 2πσ² - (N/2σ²) MSE, affine and falling, not proportional.",
)  # fmt: skip
def same_optimum(trial: Trial) -> None:
    """The affine law, the gradients and the optimum on a grid, for a line and a wave; unequal variances."""
    grid = np.asarray(trial.array(list(itertools.product(np.linspace(-1, 2, 21), np.linspace(-3, 2, 21)))))
    for model, spread in ((line, 1.0), (wave, 1e-3), (line, 1e3)):
        x, y = _data(trial, 50, spread)
        s = trial.dtype.type(2 * math.log(spread))
        values, ours = (np.asarray(a) for a in _likelihoods(grid, x, y, s, model))
        errors, of_error = (np.asarray(a) for a in _errors(grid, x, y, model))
        trial.exactly("arg max ℓ = arg min MSE", np.argmax(values), np.argmin(errors))
        weight = 25 * np.exp(-s.astype(float))
        law = -25 * (LOG_TWO_PI + float(s)) - weight * errors.astype(float)
        size = 25 * (LOG_TWO_PI + abs(float(s))) + weight * errors.astype(float)
        trial.close("ℓ = -(N/2) log 2πσ² - (N/2σ²) MSE", values, law, 32, scale=size)
        # The terms of the gradient, |f - y| times |∂f/∂θ| <= 2, at the likeliest point they cancel.
        f = np.asarray(model(grid.T[:, :, None], x))
        terms = 4 * weight * np.mean(np.abs(f.astype(float) - y), axis=-1)[:, None]
        trial.close("∇ℓ = -(N/2σ²) ∇MSE", ours, -weight * of_error.astype(float), 64, scale=terms)
        if spread == 1:
            ratio = values / errors
            trial.refuted("'proportional': over the grid ℓ/MSE varies by a factor", ratio.min() / ratio.max(), 2)
    # Variances 1 and 1/100: the likelihood prefers the second target, the squared error neither.
    y, s = np.asarray(trial.array([0, 1])), np.asarray(trial.array([0, -math.log(100)]))
    slope = compiled(jax.grad(lambda c: jnp.sum(_each_nll(jnp.full_like(y, c), y, s))))
    best, middle = trial.dtype.type(100 / 101), trial.dtype.type(0.5)
    trial.at_most("slope of the likelihood at .990099, in u", abs(float(slope(best))) / trial.u, 64)
    trial.at_most("slope of MSE at .5", abs(float(jnp.sum(_squared_slope(np.full_like(y, middle), y)))), 0)
    trial.refuted("slope of the likelihood at the least MSE", abs(float(slope(middle))), 49)


@claim(
    "2.6", section="4.1.2", verdict="needs conditions",
    statement="The constant -(N/2) log(2πσ²) and the factor 1/2σ² do not move the optimum.",
    correction="Not without a penalty; beside a prior or penalty λ‖θ‖²/2 the factor is the trade-off σ²λ.",
)  # fmt: skip
def constants(trial: Trial) -> None:
    """Least squares at three variances, and ridge, whose optimum follows the variance."""
    x, y = _data(trial, 20, 2.0)
    wide_x, wide_y = _wide(x, y)
    design = np.stack([np.ones_like(wide_x), wide_x], axis=-1)
    penalised = compiled(jax.grad(lambda t, s: -_log_likelihood(t, x, y, s) + jnp.sum(t * t) / 2))
    plain, ridges = np.linalg.solve(design.T @ design, design.T @ wide_y), []
    for variance in (0.1, 1.0, 10.0):
        s = trial.dtype.type(math.log(variance))
        ridge = np.linalg.solve(design.T @ design + variance * np.eye(2), design.T @ wide_y)
        ridges.append(ridge)
        # The terms of the gradients, whose cancellation the optimum is.
        size = np.sum(np.abs(design) * (np.abs(design) @ np.abs(plain) + np.abs(wide_y))[:, None], axis=0) / variance
        slope = _likelihood_slope(trial.array(plain), x, y, s)
        trial.close(f"∇ℓ = 0 at least squares, σ² = {variance:g}", slope, np.zeros(2), 16, scale=size)
        slope = penalised(trial.array(ridge), s)
        trial.close(f"slope with the prior, at the ridge of σ²λ = {variance:g}", slope, np.zeros(2), 16, scale=size)
        trial.refuted("the prior's slope at least squares", np.max(np.abs(penalised(trial.array(plain), s))), 0.5)
    trial.refuted("distance between the optima of σ² = .1 and 10", np.max(np.abs(ridges[0] - ridges[2])), 0.2)


@claim(
    "4.1.1", section="4.1.2", verdict="needs conditions",
    statement="Where p(y|x; θ) is N(f(x; θ), σ²), minimising MSE is maximising the log-likelihood.",
    correction="y_i|x_i independent, one σ² > 0 free of θ and x; if σ² is learned too, unless MSE = 0 can be reached.",
)  # fmt: skip
def squared_error_is_gaussian_likelihood(trial: Trial) -> None:
    """One optimum for both and for the joint problem in (θ, σ²); unbounded at MSE = 0; σ that depends on θ."""
    offsets = np.array(list(itertools.product(np.linspace(-1, 1, 17), np.linspace(-1, 1, 17))))
    for spread in (1e-3, 1e3, 1.0):  # of the noise and of the grid: else float32 loses ℓ's differences in its constant
        x, y = _data(trial, 1000, spread)
        s, grid = trial.dtype.type(2 * math.log(spread)), np.asarray(trial.array([1, -2] + spread * offsets))
        errors = np.asarray(_errors(grid, x, y, line)[0])
        best = np.argmax(_likelihoods(grid, x, y, s, line)[0])
        trial.exactly(f"arg max ℓ = arg min MSE, σ = {spread:g}", best, np.argmin(errors))
    profile = compiled(jax.vmap(jax.value_and_grad(_log_likelihood, argnums=3), in_axes=(0, None, None, 0)))
    learned, slopes = (np.asarray(a) for a in profile(grid, x, y, np.log(errors)))
    trial.exactly("arg max of ℓ with σ² = MSE(θ)", np.argmax(learned), np.argmin(errors))
    law = -500 * (np.log(2 * np.pi * errors.astype(float)) + 1)
    # Rounding log MSE costs N/2 · u|log MSE|, which is less than 1.5u of the law.
    trial.close("ℓ = -(N/2) (log(2π MSE) + 1)", learned, law, 32)
    trial.close("∂ℓ/∂ log σ² = 0 at σ² = MSE", slopes, np.zeros(len(grid)), 64, scale=500)
    higher, lower = (np.asarray(profile(grid, x, y, np.log(errors * trial.dtype.type(f)))[0]) for f in (1.5, 0.5))
    trial.happens("any other σ² is less likely", np.all(learned > higher) and np.all(learned > lower))
    # Data on the line itself: ℓ at MSE = σ² = tiny², N = 10, and without bound.
    small = 1e-30 if trial.dtype == jnp.float32 else 1e-300
    residual, s = trial.array(np.full(10, math.sqrt(small))), trial.array(np.full(10, math.log(small)))
    nats = -float(jnp.sum(each_nll(residual, 0 * residual, s)))
    wanted = -5 * (math.log(2 * math.pi * small) + 1)
    # e^(-s/2) and the residual: the exponent is rounded by u|s|/2, which (r/σ)² doubles.
    trial.at_most(f"ℓ at MSE = {small:g} over {wanted:.1f}, less 1, in u", abs(nats / wanted - 1) / trial.u, 32)
    trial.refuted("ℓ where MSE = 0 can be reached", nats, 330)
    # y ~ N(θ, θ²): θ² + θ mean(y) = mean(y²), the squared error's answer is the mean 2.
    y = np.asarray(trial.array([1, 2, 3]))
    slope = compiled(jax.grad(lambda t: jnp.sum(_each_nll(t * jnp.ones_like(y), y, 2 * jnp.log(t) * jnp.ones_like(y)))))
    best = math.sqrt(1 + 14 / 3) - 1
    trial.at_most("σ = θ: slope of the likelihood at 1.3805, in u", abs(float(slope(trial.array(best)))) / trial.u, 64)
    trial.refuted("σ = θ: slope of the likelihood at the least MSE", float(slope(trial.array(2.0))), 0.5)


CLAIMS: tuple[Claim, ...] = (
    mean_squared_error, density, likelihood, log_likelihood, same_optimum, constants,
    squared_error_is_gaussian_likelihood,
)  # fmt: skip
