"""§4.1.2: what squared error does not assume about the noise, and when noise is Gaussian."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from lossjax.numerics import softplus
from lossjax.verify._claims._tools import compiled
from lossjax.verify._claims.gaussian import LOG_TWO_PI, each_nll, error_slope
from lossjax.verify.claim import Claim, Trial, claim


@claim(
    "2.8", section="4.1.2", verdict="wrong",
    statement="Using MSE is assuming that the noise is Gaussian.",
    correction="Gaussian noise makes MSE the likelihood; MSE finds E[y|x] under any noise of finite variance.",
)  # fmt: skip
def noise_need_not_be_gaussian(trial: Trial) -> None:
    """Four laws of noise, one line found; and the logistic law, whose likelihood is another loss."""
    n, theta = 100_000, np.asarray(trial.array([1, -2]))
    x = trial.random.uniform(-2, 2, size=n)
    mean = 1 - 2 * x
    noises = {
        "exponential": trial.random.exponential(size=n) - 1,
        "uniform": trial.random.uniform(-1, 1, size=n),
        "Laplace": trial.random.laplace(size=n),
        "0/1 targets": (trial.random.uniform(size=n) < (mean + 3) / 8) - (mean + 3) / 8,
    }
    scores = np.stack([np.ones(n), x], axis=-1)
    for what, noise in noises.items():
        slope = np.asarray(error_slope(theta, trial.array(x), trial.array(mean + noise)), np.float64)
        spread = 2 * np.sqrt(np.mean((noise[:, None] * scores) ** 2, axis=0) / n)
        trial.at_most(f"∇MSE at E[y|x], {what}, in standard errors", np.max(np.abs(slope) / spread), 5)
        away = np.asarray(error_slope(theta + trial.dtype.type(0.1), trial.array(x), trial.array(mean + noise)))
        trial.happens("a tenth away it rises", np.all(away - slope > 0.1))
    skew = np.mean(noises["exponential"] ** 3)
    trial.refuted("the skewness of noise under which MSE is consistent (Gaussian: 0)", skew, 1.5)
    # Logistic noise: the likeliest centre of (0, 6) is the mean, that of (0, 0, 6) is not; the Gaussian's always is.
    nll = compiled(jax.grad(lambda c, y: jnp.sum((y - c) + 2 * softplus(c - y))))
    pair, triple = np.asarray(trial.array([0, 6, 6])), np.asarray(trial.array([0, 0, 6]))
    trial.at_most("slope at the mean of (0, 6), in u", abs(float(nll(trial.array(3.0), pair[:2]))) / trial.u, 8)
    low, high = 0.0, 6.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if 2 * math.tanh(middle / 2) < math.tanh(3 - middle / 2) else (low, middle)
    trial.at_most("the likeliest centre of (0, 0, 6) less 1.0794", abs(low - 1.0794), 1e-4)
    trial.at_most("its slope, in u", abs(float(nll(trial.array(low), triple))) / trial.u, 16)
    trial.refuted("its distance from the mean", 2 - low, 0.92)


@claim(
    "2.9", section="4.1.2", verdict="needs conditions",
    statement="The sum of many independent random factors tends to a Gaussian (central limit theorem).",
    correction="Normalised, and with no factor dominating (Lindeberg); not for Cauchy factors.",
)  # fmt: skip
def central_limit(trial: Trial) -> None:
    """Characteristic functions of sums of uniforms; a mean of Cauchy numbers; one factor with 9/10 of the variance."""
    t = np.asarray(trial.array(np.linspace(0.01, 6, 600)))
    gaussian = np.exp(-t * t / 2)
    for m in (10, 100):
        frequency = t * trial.dtype.type(math.sqrt(3 / m))
        of_sum = (np.sin(frequency) / frequency) ** m
        # Excess kurtosis -6/5: the characteristic functions differ by e^(-t²/2) t⁴/20m + O(1/m²), at most .108/m.
        trial.at_most(f"{m} uniforms: m times the distance", m * np.max(np.abs(of_sum - gaussian)), 0.12)
    nll = each_nll(*(trial.array(a) for a in (np.zeros(4000), trial.random.uniform(-1, 1, (4000, 48)).sum(-1) / 4,
                                               np.zeros(4000))))  # fmt: skip
    wanted = (LOG_TWO_PI + 1) / 2
    trial.at_most("sums of 48 uniforms: mean Gaussian NLL less ½ log 2πe, in standard errors",
                  abs(np.mean(np.asarray(nll, np.float64)) - wanted) / math.sqrt(0.5 / 4000), 5)  # fmt: skip
    # The minimiser of MSE is the mean. That of N Cauchy numbers is as spread as one of them: half lie within 1.
    for n in (10, 1000):
        means = trial.random.standard_cauchy(size=(2000, n)).mean(axis=-1)
        share = np.mean(np.abs(means) < 1)  # its standard error is .011
        trial.at_most(f"share of means of {n} Cauchy numbers within 1, less ½", abs(share - 0.5), 0.055)
    trial.refuted("median size of means of 1000 Cauchy numbers (.02 for Gaussian ones)", np.median(np.abs(means)), 0.8)
    dominated = np.cos(trial.dtype.type(math.sqrt(0.9)) * t) * np.exp(-t * t / 20)
    trial.refuted("one sign with 9/10 of the variance: distance", np.max(np.abs(dominated - gaussian)), 0.5)


CLAIMS: tuple[Claim, ...] = (noise_need_not_be_gaussian, central_limit)
