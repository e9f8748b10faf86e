"""§4.1 and §4.1.1: what a loss assumes, self-information, entropy, Kullback-Leibler divergence, the simplex.

The printed formulas are computed by numpy in the trial's dtype, the library's functions by JAX. Compiling takes all the
time there is, hence one table shape for (nearly) every call of a measure: ``measure`` pads smaller ones.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax.verify import oracle
from lossjax.verify.claim import Claim, Trial, claim
from lossjax.verify.ulp import balls

ROWS, OUTCOMES = 143, 7  # 143 · 7 = 1001 = the numbers that self-information is asked about


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, static_argnames="base")


def _summed(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda *args: jnp.sum(function(*args))


softmax = jax.jit(lossjax.softmax)
information, entropy, cross_entropy = map(_compiled, (lossjax.self_information, lossjax.entropy, lossjax.cross_entropy))
kl, js, jeffreys = map(_compiled, (lossjax.kl_divergence, lossjax.js_divergence, lossjax.jeffreys_divergence))
_entropy_slope = jax.jit(jax.grad(_summed(lossjax.entropy)))
_kl_slopes = jax.jit(jax.grad(_summed(lossjax.kl_divergence), argnums=(0, 1)))


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
    """Distributions written out."""
    return np.asarray(trial.array(rows))


def refuses(function: Callable[..., Any], *args: Any, **options: Any) -> bool:
    """Whether the call raises ValueError."""
    try:
        function(*args, **options)
    except ValueError:
        return True
    return False


@claim(
    "0.1", section="4.1", verdict="imprecise",
    statement="Regression assumes Gaussian data, classification discrete data.",
    correction="Squared error does only if read as the likelihood of y given x; |r| is Laplace's.",
)  # fmt: skip
def data_assumption(trial: Trial) -> None:
    """Two regressions and a classification fitted to y = (0, 0, 1), and a sample of 101."""
    grid = np.asarray(trial.array(np.arange(-24, 73) / 48))  # holds 0 and the float nearest to 1/3
    y = np.asarray(trial.array([0, 0, 1]))
    squared = jax.jit(jax.vmap(lambda c: lossjax.mean_squared_error(jnp.full_like(y, c), y)))(grid)
    laplace = np.sum(np.abs(y - grid[:, None]), axis=-1)
    mean, median = grid[np.argmin(squared)], grid[np.argmin(laplace)]
    trial.exactly("arg min of squared error: the mean", mean, trial.array(1 / 3))
    trial.exactly("arg min of the Laplace likelihood: the median", median, 0)
    trial.refuted("two regressions, two answers", mean - median, 0.333)
    # The logit of 1/3: to 0/1 targets squared error gives cross-entropy's answer, with no Gaussian in sight.
    logit = trial.array(-math.log(2))
    slope = jax.jit(jax.grad(lambda z: lossjax.sigmoid_cross_entropy(jnp.full_like(y, z), y, reduction="sum")))(logit)
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
    x, labels, weight = trial.normal(5, 3), np.int32([2, 0, 3, 1, 1]), trial.normal(3, 4, scale=2.0)

    def loss(weight: jax.Array) -> jax.Array:
        logits = jnp.matmul(x, weight, precision="highest")
        return lossjax.softmax_cross_entropy_with_integer_labels(logits, labels, reduction="sum")

    hessian = np.asarray(jax.jit(jax.hessian(loss))(weight)).reshape(12, 12)
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
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(lossjax.self_information(p, base=10))))(p)
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
    textbook = jax.jit(jax.grad(lambda p: -jnp.sum(p * jnp.log(p))))(p)
    trial.close("its gradient -log p - 1", _entropy_slope(p), textbook, 16, scale=1 - np.log(p))
    holes = table(trial, [1, 0, 0], [0.5, 0.5, 0])
    trial.exactly("a zero costs nothing", measure(entropy, holes, base=2), [0, 1])
    trial.exactly("slope at 0: +∞", measure(_entropy_slope, holes)[:, 2], [np.inf, np.inf])
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
    slope = measure(_entropy_slope, table(trial, [1 / 7] * 7))
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


@claim(
    "1.9", section="4.1.1", verdict="needs conditions",
    statement="KL(P‖Q) = Σ p log(p/q) = Σ p (log p - log q), on one probability space.",
    correction="On one set of outcomes, in [0, ∞]: 0·log(0/q) = 0, +∞ where p > 0 = q. Printed, 0/0 gives NaN.",
)  # fmt: skip
def kullback_leibler(trial: Trial) -> None:
    """The exact table, both printed forms, near and distant pairs, and the gradients."""
    first = table(trial, [1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 1])
    second = table(trial, [1, 0, 0], [0, 0.5, 0.5], [1, 0, 0], [0, 0.5, 0.5])
    trial.exactly("four pairs, in bits", measure(kl, first, second, base=2), [0, 1, np.inf, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        literal = np.sum(first * (np.log(first) - np.log(second)), axis=-1)
    trial.happens("p = q = 0 as printed: NaN", np.isnan(literal[0]), refutes=True)
    p, q = dyadic(trial, ROWS, 7), dyadic(trial, ROWS, 7)
    near = np.asarray(trial.array(p * (1 + math.sqrt(trial.u) * trial.random.normal(size=p.shape))))
    with oracle.precision():
        truth = oracle.total(oracle.xlogy(balls(p), balls(p) / balls(q))).astype(float)
        of_near = oracle.kl_divergence(balls(p), balls(near)).astype(float)
    trial.close("KL", measure(kl, p, q), truth, 33)
    trial.close("KL of near distributions", measure(kl, p, near), of_near, 33)
    ratio, difference = p * np.log(p / q), p * (np.log(p) - np.log(q))
    trial.close("Σ p log(p/q)", np.sum(ratio, axis=-1), truth, 16, scale=np.sum(np.abs(ratio), axis=-1))
    size = np.sum(-p * (np.log(p) + np.log(q)), axis=-1)
    trial.close("Σ p (log p - log q)", np.sum(difference, axis=-1), truth, 16, scale=size)

    def textbook(p: jax.Array, q: jax.Array) -> jax.Array:
        return jnp.sum(p * (jnp.log(p) - jnp.log(q)) - p + q)

    slopes, wanted = _kl_slopes(p, q), jax.jit(jax.grad(textbook, argnums=(0, 1)))(p, q)
    trial.close("gradient in p", slopes[0], wanted[0], 16, scale=1 - np.log(p) - np.log(q))
    trial.close("gradient in q", slopes[1], wanted[1], 16, scale=1 + p / q)
    q = np.full((ROWS, OUTCOMES), 0.25, p.dtype)
    p = np.linspace(0.125, 0.5, q.size).astype(p.dtype).reshape(q.shape)
    with oracle.precision():
        truth = oracle.log(balls(p) / balls(q)).astype(float)
    trial.close("gradient log(p/q) in p, within a factor of 2", _kl_slopes(p, q)[0], truth, 8)
    trial.happens("two sample spaces are refused", refuses(lossjax.kl_divergence, p, q[:, :6]))


@claim("1.10", section="4.1.1", statement="Gibbs: KL(P‖Q) ≥ 0, and KL(P‖Q) = 0 exactly where P = Q.")
def gibbs_inequality(trial: Trial) -> None:
    """Never negative in floats either, positive for any two that differ, and at least ½‖p-q‖₁² (Pinsker)."""
    p = np.asarray(trial.simplex(5 * ROWS, 5))
    near = np.asarray(trial.array(p * (1 + math.sqrt(trial.u) * trial.random.normal(size=p.shape))))
    for what, q in (("distant", trial.simplex(5 * ROWS, 5)), ("near", near)):
        divergence = measure(kl, p, q)
        trial.at_most(f"the most negative, {what}", max(-divergence.min(), 0), 0)
        trial.exactly(f"{what} pairs at divergence 0", np.sum(divergence == 0), 0)
    naive = np.sum(p * (np.log(p) - np.log(near)), axis=-1)
    trial.happens("the printed sum of near pairs goes negative by rounding", np.mean(naive < 0) > 0.2)
    trial.exactly("equal pairs", measure(kl, p, p), np.zeros(len(p)))
    p, q = dyadic(trial, 2 * ROWS, 5), dyadic(trial, 2 * ROWS, 5)
    pinsker = np.sum(np.abs(p - q), axis=-1) ** 2 / 2
    trial.at_most("½‖p-q‖₁² over KL", np.max(pinsker / measure(kl, p, q)), 1 + 33 * trial.u)


@claim(
    "1.11", section="4.1.1", verdict="wrong",
    statement="KL is not symmetric: KL(P‖Q) ≠ KL(Q‖P).",
    correction="Not equal in general; equal where swapping outcomes swaps P and Q, as for (.3, .7) and (.7, .3).",
)  # fmt: skip
def asymmetry(trial: Trial) -> None:
    """A pair that differs, one that differs by infinity, and pairs that do not differ."""
    p = table(trial, [0.5, 0.5], [0.9, 0.1], [1, 0], [0.3, 0.7])
    q = table(trial, [0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [0.7, 0.3])
    forward, backward = measure(kl, p, q), measure(kl, q, p)
    with oracle.precision():
        truth = oracle.kl_divergence(balls(p[:2]), balls(q[:2])).astype(float)
    trial.close("(½, ½) and (.9, .1): .510826, .368064", forward[:2], truth, 33)
    trial.at_most("the two differ by .142762", abs(float(forward[0]) - float(backward[0]) - 0.142762), 1e-6)
    trial.at_most("one way log 2", abs(forward[2] - math.log(2)), trial.u)
    trial.exactly("the other way +∞", backward[2], np.inf)
    trial.happens("(.3, .7) and (.7, .3): equal", forward[3] == backward[3], refutes=True)
    p, q = np.asarray(trial.simplex(ROWS, 6)), np.asarray(trial.simplex(ROWS, 6))
    swapped = p[:, [1, 0, 3, 2, 4, 5]]
    trial.close("P and its outcomes swapped", measure(kl, p, swapped), measure(kl, swapped, p), 33)
    trial.at_most("pairs at random that are symmetric", np.mean(measure(kl, p, q) == measure(kl, q, p)), 0)
    trial.close("both ways together", measure(jeffreys, p, q), measure(kl, p, q) + measure(kl, q, p), 33)


@claim("1.12", section="4.1.1", statement="KL is a directed relative entropy, not a metric.")
def no_metric(trial: Trial) -> None:
    """The triangle inequality fails for KL and its root; the root of the Jensen-Shannon divergence keeps it."""
    a, b, c = [0.5, 0.5], [0.75, 0.25], [0.9, 0.1]
    ab, bc, ac = measure(kl, table(trial, a, b, a), table(trial, b, c, c))
    trial.at_most("the way round over the direct way, KL", (ab + bc) / ac, 0.463)
    trial.at_most("the way round over the direct way, √KL", (np.sqrt(ab) + np.sqrt(bc)) / np.sqrt(ac), 0.956)
    p, q, r = np.asarray(trial.simplex(3, 14 * ROWS, 4, concentration=0.5))
    pq, qr, pr = (np.sqrt(measure(js, x, y)) for x, y in ((p, q), (q, r), (p, r)))
    # Three roots of at most .84, each within 17u.
    trial.at_most("√JS: direct way less the way round, in u", np.max(pr - pq - qr) / trial.u, 43)
    trial.exactly("JS is symmetric", measure(js, q, p), measure(js, p, q))
    with oracle.precision():
        ends = balls(p[:ROWS]), balls(q[:ROWS])
        middle = (ends[0] + ends[1]) / 2
        truth = sum(oracle.kl_divergence(end, middle) for end in ends) / 2
    trial.close("JS", measure(js, p[:ROWS], q[:ROWS]), truth.astype(float), 33)


@claim(
    "1.13", section="4.1.1",
    statement="Distributions form the simplex, of dimension n-1: n = 2 a segment, n = 3 a triangle.",
)  # fmt: skip
def simplex(trial: Trial) -> None:
    """Softmax lands on it with a derivative of rank n-1, differences of its points span n-1 dimensions, its corners."""
    slopes = jax.jit(jax.vmap(jax.jacobian(lossjax.softmax)))
    for n in (2, 3, 10):
        closed = np.where(np.arange(10) < n, 0.0, -np.inf)  # n classes out of ten
        z = np.asarray(trial.normal(20, 10, scale=2.0) + trial.array(closed))
        p, slope = np.asarray(softmax(z)), np.asarray(slopes(z), np.float64)
        trial.close(f"Σp = 1, n = {n}", np.sum(p, axis=-1), np.ones(20), 8)
        trial.happens("p > 0", np.all(p[:, :n] > 0))
        span = np.linalg.matrix_rank(p[1:].astype(float) - p[0].astype(float), tol=64 * trial.u)
        trial.exactly(f"dimension, n = {n}", span, n - 1)
        ranks = np.linalg.matrix_rank(slope / np.max(slope, axis=(1, 2), keepdims=True), tol=64 * trial.u)
        trial.exactly("rank of the derivative of softmax", ranks, np.full(20, n - 1))
        alone = np.where(np.eye(20, 10) > 0, 0, -np.inf)
        corners = np.asarray(softmax(trial.array(alone)))[:n, :n]
        trial.exactly("its corners are the certain outcomes", corners, np.eye(n))
        edges = (corners[1:] - corners[0]).astype(float)
        volume = math.sqrt(np.linalg.det(edges @ edges.T))  # the length √2, twice the area √3/2, …
        trial.at_most("volume over √n, less 1, in u", abs(volume / math.sqrt(n) - 1) / trial.u, 64)


@claim("1.14", section="4.1.1", statement="Entropy is strictly concave on the simplex.")
def strict_concavity(trial: Trial) -> None:
    """1-strong concavity in ‖·‖₁ with boundary points, the gap as Jensen-Shannon, and the Hessian."""
    corners = np.eye(6)[trial.random.integers(0, 6, size=ROWS)]
    inner, edge = trial.simplex(3 * ROWS, 6), trial.simplex(3 * ROWS, 6, concentration=0.1)
    p = np.concatenate([inner, edge, trial.array(corners)])
    q = p[trial.random.permutation(len(p))]
    t = np.asarray(trial.array(trial.random.uniform(size=(len(p), 1))))
    at_p, at_q, at_middle = measure(entropy, p), measure(entropy, q), measure(entropy, t * p + (1 - t) * q)
    chord = t[:, 0] * at_p + (1 - t[:, 0]) * at_q
    strength = (t * (1 - t))[:, 0] * np.sum(np.abs(p - q), axis=-1) ** 2 / 2
    trial.at_most("chord + ½t(1-t)‖p-q‖₁² less H, in u", np.max(chord + strength - at_middle) / trial.u, 16)
    trial.happens("the bound is more than rounding", np.median(strength) > 0.01)
    trial.at_most("level sets are convex, in u", np.max(np.minimum(at_p, at_q) - at_middle) / trial.u, 16)
    gap = measure(entropy, p / 2 + q / 2) - (at_p + at_q) / 2
    trial.close("the gap at the middle is JS", gap, measure(js, p, q), 32, scale=2)
    inside = dyadic(trial, 1, 6)[0]
    hessian = jax.jit(jax.hessian(lossjax.entropy))(inside)
    trial.close("Hessian -diag(1/p)", hessian, -np.diag(1 / inside.astype(float)), 8, scale=1 / inside)


CLAIMS: tuple[Claim, ...] = (
    data_assumption, parameter_metric,
    self_information, units_of_information, certain_event, shannon_entropy, expected_information,
    entropy_is_nonnegative, entropy_at_uniform, more_uniform, kullback_leibler, gibbs_inequality, asymmetry, no_metric,
    simplex, strict_concavity,
)  # fmt: skip
