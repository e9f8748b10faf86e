"""§4.1 and §4.1.1: what a loss assumes, self-information and entropy."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax.verify import oracle
from lossjax.verify._claims._measures import (
    OUTCOMES,
    ROWS,
    entropy,
    entropy_slope,
    information,
    kl,
    measure,
    refuses,
    softmax,
    table,
)
from lossjax.verify._claims._tools import compiled
from lossjax.verify.claim import Claim, Trial, claim
from lossjax.verify.ulp import balls


@claim(
    "0.1", section="4.1", verdict="imprecise",
    statement="Regression assumes Gaussian data, classification discrete data.",
    correction="Squared error does only if read as the likelihood of y given x; |r| is Laplace's.",
)  # fmt: skip
def data_assumption(trial: Trial) -> None:
    """Two regressions and a classification fitted to y = (0, 0, 1), and a sample of 101."""
    grid = np.asarray(trial.array(np.arange(-24, 73) / 48))  # holds 0 and the float nearest to 1/3
    y = np.asarray(trial.array([0, 0, 1]))
    squared = compiled(jax.vmap(lambda c: lossjax.mean_squared_error(jnp.full_like(y, c), y)))(grid)
    laplace = np.sum(np.abs(y - grid[:, None]), axis=-1)
    mean, median = grid[np.argmin(squared)], grid[np.argmin(laplace)]
    trial.exactly("arg min of squared error: the mean", mean, trial.array(1 / 3))
    trial.exactly("arg min of the Laplace likelihood: the median", median, 0)
    trial.refuted("two regressions, two answers", mean - median, 0.333)
    # The logit of 1/3: to 0/1 targets squared error gives cross-entropy's answer, with no Gaussian in sight.
    logit = trial.array(-math.log(2))
    slope = compiled(jax.grad(lambda z: lossjax.sigmoid_cross_entropy(jnp.full_like(y, z), y, reduction="sum")))(logit)
    trial.at_most("slope of the cross-entropy at 1/3, in u", abs(slope) / trial.u, 8)
    sample = np.asarray(trial.normal(101, scale=3.0, offset=-7.0))
    nearest = sample[np.argmin(np.sum(np.abs(sample - sample[:, None]), axis=-1))]
    trial.exactly("Laplace fit to 101 numbers", nearest, np.median(sample))


@claim(
    "0.2", section="4.1", verdict="imprecise",
    statement="A loss defines a metric on the space of parameters.",
    correction="A divergence of outputs; at second order JᵀGJ on parameters, which has length 0 on a kernel.",
)  # fmt: skip
def parameter_metric(trial: Trial) -> None:
    """The Hessian of a linear softmax classifier: Gauss-Newton, semidefinite, and with its kernel counted."""
    x, labels, weight = trial.normal(5, 3), np.array([2, 0, 3, 1, 1], np.int32), trial.normal(3, 4, scale=2.0)

    def loss(weight: jax.Array) -> jax.Array:
        logits = jnp.matmul(x, weight, precision="highest")
        return lossjax.softmax_cross_entropy_with_integer_labels(logits, labels, reduction="sum")

    hessian = np.asarray(compiled(jax.hessian(loss))(weight)).reshape(12, 12)
    inputs = np.asarray(x, np.float64)
    p = np.asarray(softmax(trial.array(inputs @ np.asarray(weight, np.float64))), np.float64)
    form = p[:, :, None] * np.eye(4) - p[:, :, None] * p[:, None, :]
    pulled_back = np.einsum("ni,nj,ncd->icjd", inputs, inputs, form).reshape(12, 12)
    trial.close("Hessian = JᵀGJ", hessian, pulled_back, 64, scale=np.max(np.abs(pulled_back)))
    trial.at_most("G·1 = 0, in u", np.max(np.abs(form.sum(axis=-1))) / trial.u, 8)
    lengths = np.linalg.eigvalsh(hessian.astype(np.float64))
    trial.at_most("a negative squared length, in u", max(-lengths.min() / lengths.max(), 0) / trial.u, 64)
    # Three inputs and three independent differences of logits: 9 of the 12 directions are felt.
    felt = np.sum(lengths > 64 * trial.u * lengths.max())
    trial.exactly("directions that are felt", felt, 9)
    trial.refuted("directions of length 0", 12 - felt, 1)
    steps = np.asarray(trial.array(trial.random.integers(-999, 999, size=(5, 4)) / 256))
    trial.exactly("logits a distance apart, outputs equal", softmax(steps + 8), softmax(steps))


@claim(
    "1.1", section="4.1.1", verdict="needs conditions",
    statement="The self-information of an event of probability p is I = -log_b p = log_b(1/p).",
    correction="For 0 ≤ p ≤ 1 and b > 1, I(0) = +∞; a base below 1 turns the sign.",
)  # fmt: skip
def self_information(trial: Trial) -> None:
    """Exact in bits at powers of two, to the last places elsewhere, additive, and refused where it is undefined."""
    powers = np.arange(1001) % (120 if trial.dtype == jnp.float32 else 1001)
    trial.exactly("bits of 2^-k", information(trial.array(np.ldexp(1.0, -powers)), base=2), powers)
    rare, common = 10.0 ** -trial.random.uniform(0, 37, 700), 1 - 10.0 ** -trial.random.uniform(1, 6, 301)
    p = np.sort(np.asarray(trial.array(np.concatenate([rare, common]))))
    units = 10 if trial.dtype == jnp.float32 else 8
    with oracle.precision():
        nats, ten = -oracle.log(balls(p)), oracle.log(balls(10.0))
        hartleys, slope = (nats / ten).astype(float), (-1 / balls(p) / ten).astype(float)
    trial.close("nats", information(p), nats.astype(float), units)
    trial.close("hartleys", information(p, base=10), hartleys, units)
    gradient = compiled(jax.grad(lambda p: jnp.sum(lossjax.self_information(p, base=10))))(p)
    trial.close("its slope -1/(p ln b)", gradient, slope, 4)
    trial.happens("I is decreasing", np.all(np.diff(information(p)) <= 0))
    a, b = (np.asarray(trial.array(trial.random.integers(1, 2**11, size=1001) / 2**11)) for _ in range(2))
    both = np.asarray(information(a)) + np.asarray(information(b))  # of the product, which is exact
    trial.close("I(ab) = I(a) + I(b)", information(a * b), both, 4)
    ends = np.asarray(information(np.resize(table(trial, [0.0, 1.0, -0.1, 1.5]), 1001)))[:4]
    trial.exactly("impossible, and certain", ends[:2], [np.inf, 0.0])
    trial.happens("no information outside [0, 1]", np.all(np.isnan(ends[2:])))
    trial.refuted("base 1/2: I(1/4) is -2", math.log(0.25) / math.log(0.5), 2)
    trial.happens("bases 1/2, 1, 0 refused", all(refuses(information, p, base=b) for b in (0.5, 1.0, 0.0)))


@claim("1.2", section="4.1.1", statement="The base of the logarithm is the unit: b = 2 bits, b = e nats.")
def units_of_information(trial: Trial) -> None:
    """Entropies and divergences in bits and hartleys, back in nats."""
    p, q = trial.simplex(ROWS, 7, concentration=0.5), trial.simplex(ROWS, 7)
    trial.exactly("one fair coin is one bit", measure(entropy, table(trial, [0.5, 0.5]), base=2), [1])
    for base in (2, 10):
        # A term: two products a side (4u), the constant twice (2u), both logarithms (2u, log2 3.3u); sums of 7 by
        # pairs (3u a side): 17u where all meet.
        in_nats = measure(entropy, p, base=base) * trial.dtype.type(math.log(base))
        trial.close(f"H in base {base}, times ln {base}", in_nats, measure(entropy, p), 17)
    in_nats = measure(kl, p, q, base=2) * trial.dtype.type(math.log(2))
    trial.close("KL in bits, times ln 2", in_nats, measure(kl, p, q), 4)


@claim(
    "1.3", section="4.1.1", verdict="imprecise",
    statement="The rarer an event, the more information; a certain one brings almost none.",
    correction="A certain event brings exactly none.",
)  # fmt: skip
def certain_event(trial: Trial) -> None:
    """Strictly decreasing in p, to exactly 0 and not to -0."""
    likely = 1 - 2 * trial.u
    p = trial.array(np.concatenate([10.0 ** -np.arange(37.0, 3.0, -1), np.arange(1, 966) / 966, [likely, 1]]))
    values = np.asarray(information(p))
    trial.happens("every step is down", np.all(np.diff(values) < 0))
    trial.close("an event of 1 - 2u: 2u + 2u²", values[-2], -math.log1p(-2 * trial.u), 4)
    trial.happens("a certain event: exactly +0", values[-1] == 0 and not np.signbit(values[-1]), refutes=True)


@claim(
    "1.4", section="4.1.1", verdict="needs conditions",
    statement="Shannon entropy is H = -Σ p log p = Σ p log(1/p).",
    correction="With 0·log 0 = 0 (as printed a zero gives NaN) and distinct outcomes.",
)  # fmt: skip
def shannon_entropy(trial: Trial) -> None:
    """Both printed forms, zeros, the gradient, and an outcome listed twice."""
    p = np.asarray(trial.simplex(ROWS, 7))
    with oracle.precision():
        truth = oracle.entropy(balls(p)).astype(float)
    size = np.maximum(truth, 1)
    trial.close("H", measure(entropy, p), truth, 16, scale=size)
    trial.close("-Σ p log p", -np.sum(p * np.log(p), axis=-1), measure(entropy, p), 16, scale=size)
    trial.close("Σ p log(1/p)", np.sum(p * np.log(1 / p), axis=-1), measure(entropy, p), 16, scale=size)
    uniform = trial.array([[0.5**k] * 2**k + [0] * (128 - 2**k) for k in range(8)])
    trial.exactly("2^k outcomes: k bits", measure(entropy, uniform, base=2), np.arange(8))
    textbook = compiled(jax.grad(lambda p: -jnp.sum(p * jnp.log(p))))(p)
    trial.close("its gradient -log p - 1", entropy_slope(p), textbook, 16, scale=1 - np.log(p))
    holes = table(trial, [1, 0, 0], [0.5, 0.5, 0])
    trial.exactly("a zero costs nothing", measure(entropy, holes, base=2), [0, 1])
    trial.exactly("slope at 0: +∞", measure(entropy_slope, holes)[:, 2], [np.inf, np.inf])
    with np.errstate(divide="ignore", invalid="ignore"):
        literal = -np.sum(holes * np.log(holes), axis=-1)
    trial.happens("as printed, a zero gives NaN", np.all(np.isnan(literal)), refutes=True)
    once, twice = measure(entropy, table(trial, [0.5, 0.5, 0], [0.25, 0.25, 0.5]), base=2)
    trial.refuted("bits too many where one outcome is listed twice", twice - once, 0.5)


@claim(
    "1.5", section="4.1.1", verdict="needs conditions",
    statement="Entropy is the expected self-information.",
    correction="Over the possible outcomes: the infinite information of an impossible one does not count.",
)  # fmt: skip
def expected_information(trial: Trial) -> None:
    """The weighted sum, and the mean over 200000 draws."""
    p = np.asarray(trial.simplex(ROWS, 7))
    expected, each = measure(entropy, p), np.asarray(information(p.ravel())).reshape(p.shape)
    trial.close("Σ p I(p)", np.sum(p * each, axis=-1), expected, 16, scale=np.maximum(expected, 1))
    weights, values, draws = p[0].astype(float), each[0].astype(float), 200_000
    counts = trial.random.multinomial(draws, weights / weights.sum())
    spread = math.sqrt(weights @ (values - weights @ values) ** 2 / draws)
    trial.at_most("mean of draws, in standard errors", abs(counts @ values / draws - expected[0]) / spread, 5)
    coin = table(trial, [0.5, 0.5, 0])
    with np.errstate(invalid="ignore"):
        literal = np.sum(coin[0] * np.asarray(information(np.resize(coin, 1001)))[:3])
    trial.happens("0·∞ as printed: NaN", np.isnan(literal), refutes=True)
    trial.exactly("the entropy: 1 bit", measure(entropy, coin, base=2), [1])


@claim("1.6", section="4.1.1", statement="H(P) ≥ 0, and H(P) = 0 exactly where P is degenerate.")
def entropy_is_nonnegative(trial: Trial) -> None:
    """Never negative, 0 at the vertices, and away from them at least 1 - max p."""
    for concentration in (0.02, 1.0):
        p = np.asarray(trial.simplex(7 * ROWS, 5, concentration=concentration))
        values = measure(entropy, p)
        # A probability rounded one step above 1 would have an entropy of -u; none is drawn here.
        trial.at_most("the most negative", max(-values.min(), 0), 0)
        # H >= -log max p >= 1 - max p: only a certain outcome leaves no entropy.
        trial.at_most("1 - max p less H, in u", np.max(1 - np.max(p, axis=-1) - values) / trial.u, 16)
    for n in (1, 2, 3, 17):
        trial.exactly(f"{n} vertices", measure(entropy, trial.array(np.eye(n))), np.zeros(n))
    edge = table(trial, *([1 - 2.0**-k, 2.0**-k] for k in (1, 5, 10, 20)))
    with oracle.precision():
        truth = oracle.entropy(balls(edge)).astype(float)
    trial.close("nearly degenerate", measure(entropy, edge), truth, 16)


@claim("1.7", section="4.1.1", statement="Entropy is largest at the uniform distribution.")
def entropy_at_uniform(trial: Trial) -> None:
    """H ≤ log n, the gap is KL(p‖uniform), and at the uniform distribution the gradient points nowhere."""
    for n in (2, 3, 7, 100):
        uniform = table(trial, [1 / n] * n)
        trial.close(f"H = log {n}", measure(entropy, uniform), [math.log(n)], 4)
        near = uniform * (1 + 1e-3 * trial.random.normal(size=(40, n)))
        p = np.concatenate([trial.simplex(100, n), trial.array(near / near.sum(axis=-1, keepdims=True))])
        # n rounded probabilities may sum to a few u too much, which is worth as many u·log n.
        gap = math.log(n) - measure(entropy, p).astype(float)
        trial.at_most(f"H - log {n}, in u log n", np.max(-gap) / (trial.u * math.log(n)), 4)
        if n <= OUTCOMES:
            from_uniform = measure(kl, p, np.repeat(uniform, len(p), axis=0))
            trial.close(f"KL(p‖uniform) = log {n} - H", from_uniform, gap, 32, scale=math.log(n))
    slope = measure(entropy_slope, table(trial, [1 / 7] * 7))
    trial.exactly("the gradient has no direction", slope, np.full_like(slope, slope[0, 0]))


@claim(
    "1.8", section="4.1.1", verdict="needs conditions",
    statement="The more uniform a distribution, the larger its entropy.",
    correction="In the order of majorisation; a lower peak, or being nearer to uniform, is not enough.",
)  # fmt: skip
def more_uniform(trial: Trial) -> None:
    """Transfers from rich to poor, and two pairs where uniformity by another measure lowers the entropy."""
    p = np.asarray(trial.simplex(3 * ROWS, 6, concentration=0.5), np.float64)
    share, moved = trial.random.uniform(0, 0.5, size=len(p)), p.copy()
    moved[:, 0] += share * (p[:, 1] - p[:, 0])
    moved[:, 1] += share * (p[:, 0] - p[:, 1])
    before, after = measure(entropy, trial.array(p)), measure(entropy, trial.array(moved))
    trial.at_most("entropy lost by a transfer, in u", np.max(before - after) / trial.u, 8)
    trial.at_most("share of transfers that gain nothing", np.mean(before >= after), 0.1)
    high, low = measure(entropy, table(trial, [0.5, 0.25, 0.25], [0.48, 0.48, 0.04]))
    trial.refuted("entropy lost with a lower peak", high - low, 0.2)
    far, near = measure(entropy, table(trial, [0.68, 0.16, 0.16], [0.5, 0.5, 0]))  # |p - 1/3|² is .180, .167
    trial.refuted("entropy lost nearer to uniform", far - near, 0.15)


CLAIMS: tuple[Claim, ...] = (
    data_assumption, parameter_metric,
    self_information, units_of_information, certain_event, shannon_entropy, expected_information,
    entropy_is_nonnegative, entropy_at_uniform, more_uniform,
)  # fmt: skip
