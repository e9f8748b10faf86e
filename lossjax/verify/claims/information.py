"""§4.1 and §4.1.1: what a loss assumes, self-information, entropy, Kullback-Leibler divergence, the simplex."""

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


def dyadic(trial: Trial, rows: int, outcomes: int, bits: int = 12) -> jax.Array:
    """Distributions of positive multiples of 2^-bits: in float32 as on paper, they sum to 1 exactly."""
    weights = trial.random.dirichlet(np.ones(outcomes), size=rows)
    return trial.array((trial.random.multinomial(2**bits - outcomes, weights) + 1) / 2**bits)


def refuses(function: Callable[..., Any], *args: Any, **options: Any) -> bool:
    """Whether the call raises ValueError."""
    try:
        function(*args, **options)
    except ValueError:
        return True
    return False


@claim(
    "0.1",
    section="4.1",
    statement="Regression assumes Gaussian data, classification assumes discrete data.",
    verdict="imprecise",
    correction="Squared error is Gaussian only when read as the likelihood of y given x; |r| is the Laplace law's.",
)
def data_assumption(trial: Trial) -> None:
    """Two regressions and a classification fitted to y = (0, 0, 1), and a sample of 101."""
    grid = trial.array(np.arange(-24, 73) / 48)  # holds 0 and the float nearest to 1/3
    y = trial.array([0, 0, 1])
    squared = jax.vmap(lambda c: lossjax.mean_squared_error(jnp.full_like(y, c), y))(grid)
    laplace = jnp.sum(jnp.abs(y - grid[:, None]) + math.log(2), axis=-1)
    trial.exactly("arg min of squared error: the mean", grid[jnp.argmin(squared)], trial.array(1 / 3))
    trial.exactly("arg min of the Laplace likelihood: the median", grid[jnp.argmin(laplace)], 0)
    trial.refuted("two regressions, two answers", grid[jnp.argmin(squared)] - grid[jnp.argmin(laplace)], 0.333)
    odds = trial.array(np.full(3, -math.log(2)))  # the logit of 1/3: on 0/1 targets squared error has the same answer
    slope = jax.grad(lambda z: jnp.sum(lossjax.sigmoid_cross_entropy(z * jnp.ones_like(y), y)))(odds[0])
    trial.at_most("slope of the cross-entropy at 1/3, in u", abs(slope) / trial.u, 8)
    sample = trial.normal(101, scale=3.0, offset=-7.0)
    losses = jnp.sum(jnp.abs(sample - sample[:, None]), axis=-1)
    trial.exactly("101 numbers", sample[jnp.argmin(losses)], np.median(np.asarray(sample)))


@claim(
    "0.2",
    section="4.1",
    statement="A loss defines a metric on the space of parameters.",
    verdict="imprecise",
    correction="A divergence of outputs; at second order JᵀGJ on parameters, which has length 0 on a kernel.",
)
def parameter_metric(trial: Trial) -> None:
    """The Hessian of a linear softmax classifier: Gauss-Newton, semidefinite, and with its kernel counted."""
    x, labels = trial.normal(2, 3), jnp.asarray([2, 0])
    weight = trial.normal(3, 4, scale=2.0)

    def loss(weight: jax.Array) -> jax.Array:
        logits = jnp.matmul(x, weight, precision="highest")
        return lossjax.softmax_cross_entropy_with_integer_labels(logits, labels, reduction="sum")

    hessian = np.asarray(jax.jit(jax.hessian(loss))(weight)).reshape(12, 12)
    inputs = np.asarray(x, np.float64)
    p = np.asarray(lossjax.softmax(trial.array(inputs @ np.asarray(weight, np.float64))), np.float64)
    form = p[:, :, None] * np.eye(4) - p[:, :, None] * p[:, None, :]
    pulled_back = np.einsum("ni,nj,ncd->icjd", inputs, inputs, form).reshape(12, 12)
    trial.close("Hessian = JᵀGJ", hessian, pulled_back, 64, scale=np.max(np.abs(pulled_back)))
    trial.at_most("G·1 = 0, in u", np.max(np.abs(form.sum(axis=-1))) / trial.u, 8)
    lengths = np.linalg.eigvalsh(hessian.astype(np.float64))
    least, limit = -lengths.min() / lengths.max(), 64 * trial.u
    trial.at_most("a negative squared length, in u", max(least, 0) / trial.u, 64)
    # Two inputs and three independent logit differences: 6 of the 12 directions are felt.
    trial.exactly("directions that are felt", np.sum(lengths > limit * lengths.max()), 6)
    trial.refuted("directions of length 0", np.sum(lengths <= limit * lengths.max()), 1)
    steps = trial.array(trial.random.integers(-999, 999, size=(5, 4)) / 256)
    trial.exactly("parameters a distance apart, outputs equal", lossjax.softmax(steps + 8), lossjax.softmax(steps))


@claim(
    "1.1",
    section="4.1.1",
    statement="The self-information of an event of probability p is I = -log_b p = log_b(1/p).",
    verdict="needs conditions",
    correction="For 0 ≤ p ≤ 1 and b > 1, with I(0) = +∞; a base below 1 turns the sign.",
)
def self_information(trial: Trial) -> None:
    """Exact in bits at powers of two, to the last places elsewhere, additive, and refused where it is undefined."""
    information = lossjax.self_information
    powers = np.arange(120 if trial.dtype == jnp.float32 else 1001)
    trial.exactly("bits of 2^-k", information(trial.array(np.ldexp(1.0, -powers)), base=2), powers)
    rare, common = 10.0 ** -trial.random.uniform(0, 37, 200), 1 - 10.0 ** -trial.random.uniform(1, 6, 100)
    p = trial.array(np.concatenate([rare, common]))
    units = 10 if trial.dtype == jnp.float32 else 8
    with oracle.precision():
        nats = -oracle.log(balls(p))
        hartleys = (nats / oracle.log(balls(10.0))).astype(float)
        slope = (-1 / balls(p) / oracle.log(balls(10.0))).astype(float)
    trial.close("nats", information(p), nats.astype(float), units)
    trial.close("hartleys", information(p, base=10), hartleys, units)
    gradient = jax.grad(lambda p: jnp.sum(information(p, base=10)))(p)
    trial.close("its slope -1/(p ln b)", gradient, slope, 4)
    a, b = (trial.array(trial.random.integers(1, 2**11, size=200) / 2**11) for _ in range(2))  # a·b is exact
    both = information(a) + information(b)
    trial.close("I(ab) = I(a) + I(b)", information(a * b), both, 4)
    trial.exactly("impossible, and certain", information(trial.array([0.0, 1.0])), [np.inf, 0.0])
    trial.happens("I is decreasing", jnp.all(jnp.diff(information(jnp.sort(p))) <= 0))
    trial.happens("no information outside [0, 1]", jnp.all(jnp.isnan(information(trial.array([-0.1, 1.5])))))
    trial.refuted("base 1/2: I(1/4) is -2", -information(trial.array(0.25)) / math.log(0.5), 2 - 8 * trial.u)
    trial.happens("bases 1/2, 1, 0 refused", all(refuses(information, p, base=b) for b in (0.5, 1.0, 0.0)))


@claim(
    "1.2",
    section="4.1.1",
    statement="The base of the logarithm is the unit: b = 2 bits, b = e nats.",
)
def units_of_information(trial: Trial) -> None:
    """Entropies and divergences in bits, hartleys and base 7, back in nats."""
    p, q = trial.simplex(300, 7, concentration=0.5), trial.simplex(300, 7)
    trial.exactly("one fair coin is one bit", lossjax.entropy(trial.array([0.5, 0.5]), base=2), 1)
    for base in (2, 7, 10):
        in_nats = lossjax.entropy(p, base=base) * math.log(base)
        trial.close(f"H in base {base}, times ln {base}", in_nats, lossjax.entropy(p), 4)
        in_nats = lossjax.kl_divergence(p, q, base=base) * math.log(base)
        trial.close(f"KL in base {base}, times ln {base}", in_nats, lossjax.kl_divergence(p, q), 4)


@claim(
    "1.3",
    section="4.1.1",
    statement="The rarer an event, the more information; a certain event brings almost none.",
    verdict="imprecise",
    correction="A certain event brings exactly none.",
)
def certain_event(trial: Trial) -> None:
    """Strictly decreasing in p, to exactly 0 and not to -0."""
    p = trial.array(np.concatenate([10.0 ** -np.arange(37.0, 3.0, -1), np.arange(1, 258) / 257]))
    values = np.asarray(lossjax.self_information(p))
    trial.at_most("the largest step up", np.max(np.diff(values)), 0)
    trial.happens("every step is down", np.all(np.diff(values) < 0))
    certain = np.asarray(lossjax.self_information(trial.array(1.0)))
    trial.happens("a certain event: exactly +0", certain == 0 and not np.signbit(certain), refutes=True)
    likeliest = 1 - 2 * trial.u  # of the floats below 1, two steps down
    trial.close(
        "an almost certain one: 2u + 2u²", lossjax.self_information(trial.array(likeliest)), -math.log1p(-2 * trial.u), 4
    )


@claim(
    "1.4",
    section="4.1.1",
    statement="Shannon entropy is H = -Σ p log p = Σ p log(1/p).",
    verdict="needs conditions",
    correction="With 0·log 0 = 0 (as printed a zero gives NaN) and distinct outcomes.",
)
def shannon_entropy(trial: Trial) -> None:
    """Both printed forms, zeros, the gradient, and outcomes counted twice."""
    p = trial.simplex(300, 7)
    with oracle.precision():
        truth = oracle.entropy(balls(p)).astype(float)
    size = np.maximum(truth, 1)
    trial.close("-Σ p log p", lossjax.entropy(p), truth, 16, scale=size)
    trial.close("Σ p log(1/p)", jnp.sum(p * jnp.log(1 / p), axis=-1), lossjax.entropy(p), 16, scale=size)
    trial.exactly("k bits, 2^k outcomes", [lossjax.entropy(trial.array(np.full(2**k, 0.5**k)), base=2) for k in range(8)],
                  np.arange(8))  # fmt: skip
    textbook = jax.grad(lambda p: -jnp.sum(p * jnp.log(p)))(p)
    gradient = jax.grad(lambda p: jnp.sum(lossjax.entropy(p)))
    trial.close("its gradient -log p - 1", gradient(p), textbook, 16, scale=1 + np.abs(np.log(p)))
    holes = trial.array([[1, 0, 0], [0.5, 0.5, 0]])
    trial.exactly("a zero costs nothing", lossjax.entropy(holes, base=2), [0, 1])
    trial.happens("as printed, a zero gives NaN", jnp.all(jnp.isnan(-jnp.sum(holes * jnp.log(holes), -1))), refutes=True)
    trial.exactly("slope at 0: +∞", gradient(holes)[:, 2], [np.inf, np.inf])
    twice = lossjax.entropy(trial.array([0.25, 0.25, 0.5]), base=2) - lossjax.entropy(trial.array([0.5, 0.5]), base=2)
    trial.refuted("bits too many where one outcome is listed twice", twice, 0.5)


@claim(
    "1.5",
    section="4.1.1",
    statement="Entropy is the expected self-information.",
    verdict="needs conditions",
    correction="Over the possible outcomes: the infinite information of an impossible one does not count.",
)
def expected_information(trial: Trial) -> None:
    """The weighted sum, and the mean over 200000 draws."""
    p = trial.simplex(300, 7)
    entropy, information = lossjax.entropy(p), lossjax.self_information(p)
    trial.close("Σ p I(p)", jnp.sum(p * information, axis=-1), entropy, 16, scale=np.maximum(entropy, 1))
    draws = 200_000
    weights, values = np.asarray(p[0], np.float64), np.asarray(information[0], np.float64)
    counts = trial.random.multinomial(draws, weights / weights.sum())
    spread = math.sqrt(weights @ (values - weights @ values) ** 2 / draws)
    trial.at_most("mean of draws, in standard errors", abs(counts @ values / draws - float(entropy[0])) / spread, 5)
    coin = trial.array([0.5, 0.5, 0])
    trial.happens("0·∞ as printed: NaN", jnp.isnan(jnp.sum(coin * lossjax.self_information(coin))), refutes=True)
    trial.exactly("the entropy: 1 bit", lossjax.entropy(coin, base=2), 1)


@claim(
    "1.6",
    section="4.1.1",
    statement="H(P) ≥ 0, and H(P) = 0 exactly where P is degenerate.",
)
def entropy_is_nonnegative(trial: Trial) -> None:
    """Never negative, 0 at the vertices, and away from them at least 1 - max p."""
    for concentration in (0.02, 1.0):
        p = trial.simplex(1000, 5, concentration=concentration)
        entropy = np.asarray(lossjax.entropy(p))
        trial.at_most("the most negative", max(-entropy.min(), 0), 0)
        # H >= -log max p >= 1 - max p: only a certain outcome leaves no entropy.
        trial.at_most("1 - max p over H, in excess", np.max(1 - np.max(p, axis=-1) - entropy), 16 * trial.u)
    for n in (1, 2, 3, 17):
        trial.exactly(f"{n} vertices", lossjax.entropy(trial.array(np.eye(n))), np.zeros(n))
    edge = trial.array([[1 - 2.0**-k, 2.0**-k] for k in (1, 5, 10, 20)])
    with oracle.precision():
        truth = oracle.entropy(balls(edge)).astype(float)
    trial.close("nearly degenerate", lossjax.entropy(edge), truth, 16)


@claim(
    "1.7",
    section="4.1.1",
    statement="Entropy is largest at the uniform distribution.",
)
def entropy_at_uniform(trial: Trial) -> None:
    """H ≤ log n, the gap is KL(p‖uniform), and the gradient at the uniform distribution has no direction."""
    for n in (2, 7, 100):
        uniform = trial.array(np.full(n, 1 / n))
        trial.close(f"log {n}", lossjax.entropy(uniform), math.log(n), 4)
        near = uniform * (1 + 1e-3 * trial.normal(100, n))
        p = jnp.concatenate([trial.simplex(100, n), near / jnp.sum(near, axis=-1, keepdims=True)])
        entropy = lossjax.entropy(p)
        # The sum of n rounded probabilities may exceed 1 by a few u, which is worth as many u·log n.
        trial.at_most(f"H - log {n}, in u log n", jnp.max(entropy - math.log(n)) / (trial.u * math.log(n)), 4)
        gap = lossjax.kl_divergence(p, jnp.broadcast_to(uniform, p.shape))
        trial.close(f"log {n} - H = KL(p‖uniform)", math.log(n) - entropy, gap, 32, scale=math.log(n))
        slope = jax.grad(lossjax.entropy)(uniform)
        trial.exactly("the gradient is constant", slope, jnp.full_like(slope, slope[0]))


@claim(
    "1.8",
    section="4.1.1",
    statement="The more uniform a distribution, the larger its entropy.",
    verdict="needs conditions",
    correction="In the order of majorisation; a lower peak, or being nearer to uniform, does not suffice.",
)
def more_uniform(trial: Trial) -> None:
    """Transfers from rich to poor, and two pairs where uniformity by another measure lowers the entropy."""
    p = np.asarray(trial.simplex(500, 6, concentration=0.5), np.float64)
    share, moved = trial.random.uniform(0, 0.5, size=500), p.copy()
    moved[:, 0] += share * (p[:, 1] - p[:, 0])
    moved[:, 1] += share * (p[:, 0] - p[:, 1])
    before, after = lossjax.entropy(trial.array(p)), lossjax.entropy(trial.array(moved))
    trial.at_most("entropy lost by a transfer, in u", jnp.max(before - after) / trial.u, 8)
    trial.at_most("share of transfers that gain nothing", jnp.mean(before >= after), 0.1)
    peak = lossjax.entropy(trial.array([[0.5, 0.25, 0.25], [0.48, 0.48, 0.04]]))
    trial.refuted("entropy lost with a lower peak", peak[0] - peak[1], 0.2)
    near = lossjax.entropy(trial.array([[0.68, 0.16, 0.16], [0.5, 0.5, 0]]))  # |p - 1/3|² is .180 and .167
    trial.refuted("entropy lost nearer to uniform", near[0] - near[1], 0.15)


@claim(
    "1.9",
    section="4.1.1",
    statement="KL(P‖Q) = Σ p log(p/q) = Σ p (log p - log q), on one probability space.",
    verdict="needs conditions",
    correction="On one set of outcomes, 0·log(0/q) = 0, +∞ where p > 0 = q; in [0, ∞]. At p = q = 0, NaN as printed.",
)
def kullback_leibler(trial: Trial) -> None:
    """The exact table, both printed forms, near and distant pairs, and the gradients."""
    first = trial.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0, 0, 1]])
    second = trial.array([[1, 0, 0], [0, 0.5, 0.5], [1, 0, 0], [0, 0.5, 0.5]])
    trial.exactly("the table, in bits", lossjax.kl_divergence(first, second, base=2), [0, 1, np.inf, 1])
    literal = jnp.sum(first * (jnp.log(first) - jnp.log(second)), axis=-1)
    trial.happens("p = q = 0 as printed: NaN", jnp.isnan(literal[0]), refutes=True)
    p, q = dyadic(trial, 300, 7), dyadic(trial, 300, 7)
    with oracle.precision():
        truth = oracle.total(oracle.xlogy(balls(p), balls(p) / balls(q))).astype(float)
    size = np.sum(np.abs(np.asarray(p * jnp.log(p / q), np.float64)), axis=-1)
    trial.close("KL", lossjax.kl_divergence(p, q), truth, 33)
    trial.close("Σ p log(p/q)", jnp.sum(p * jnp.log(p / q), axis=-1), truth, 16, scale=size + np.abs(truth))
    apart = np.sum(np.asarray(-p * (jnp.log(p) + jnp.log(q)), np.float64), axis=-1)
    trial.close("Σ p (log p - log q)", jnp.sum(p * (jnp.log(p) - jnp.log(q)), axis=-1), truth, 16, scale=apart)
    near = p * (1 + math.sqrt(trial.u) * trial.normal(300, 7))
    with oracle.precision():
        truth = oracle.kl_divergence(balls(p), balls(near)).astype(float)
    trial.close("KL of near distributions", lossjax.kl_divergence(p, near), truth, 33)

    def textbook(p: jax.Array, q: jax.Array) -> jax.Array:
        return jnp.sum(p * (jnp.log(p) - jnp.log(q)) - p + q)

    wanted = jax.grad(textbook, argnums=(0, 1))(p, q)
    gradients = jax.grad(lambda p, q: jnp.sum(lossjax.kl_divergence(p, q)), argnums=(0, 1))(p, q)
    trial.close("gradient in p", gradients[0], wanted[0], 16, scale=1 - np.log(p) - np.log(q))
    trial.close("gradient in q", gradients[1], wanted[1], 16, scale=1 + p / q)
    trial.happens("two sample spaces are refused", refuses(lossjax.kl_divergence, p, q[:, :6]))


@claim(
    "1.10",
    section="4.1.1",
    statement="Gibbs: KL(P‖Q) ≥ 0, and KL(P‖Q) = 0 exactly where P = Q.",
)
def gibbs_inequality(trial: Trial) -> None:
    """Never negative in floats either, positive for any two that differ, and at least ½‖p-q‖₁² (Pinsker)."""
    p = trial.simplex(1000, 5)
    near = p * (1 + math.sqrt(trial.u) * trial.normal(1000, 5))
    for what, q in (("distant", trial.simplex(1000, 5)), ("near", near)):
        divergence = lossjax.kl_divergence(p, q)
        trial.at_most(f"the most negative, {what}", jnp.maximum(-jnp.min(divergence), 0), 0)
        trial.exactly(f"{what} pairs at divergence 0", jnp.sum(divergence == 0), 0)
    naive = jnp.sum(p * (jnp.log(p) - jnp.log(near)), axis=-1)
    trial.happens("the printed sum, of near pairs, goes negative by rounding", jnp.mean(naive < 0) > 0.2)
    trial.exactly("equal pairs", lossjax.kl_divergence(p, p), np.zeros(1000))
    p, q = dyadic(trial, 300, 5), dyadic(trial, 300, 5)
    pinsker = jnp.sum(jnp.abs(p - q), axis=-1) ** 2 / 2
    trial.at_most("½‖p-q‖₁² over KL", jnp.max(pinsker / lossjax.kl_divergence(p, q)), 1 + 33 * trial.u)


@claim(
    "1.11",
    section="4.1.1",
    statement="KL is not symmetric: KL(P‖Q) ≠ KL(Q‖P).",
    verdict="wrong",
    correction="Not equal in general; equal wherever an exchange of outcomes exchanges P and Q, as (.3, .7), (.7, .3).",
)
def asymmetry(trial: Trial) -> None:
    """A pair that differs, one that differs by infinity, and pairs that do not differ."""
    kl = lossjax.kl_divergence
    p, q = trial.array([[0.5, 0.5], [0.9, 0.1]])
    with oracle.precision():
        truths = [oracle.kl_divergence(balls(a), balls(b)).item() for a, b in ((p, q), (q, p))]
    trial.close("(½, ½)‖(.9, .1): .510826", kl(p, q), float(truths[0]), 33)
    trial.close("(.9, .1)‖(½, ½): .368064", kl(q, p), float(truths[1]), 33)
    trial.at_most("the two differ by .142762", abs(float(kl(p, q) - kl(q, p)) - 0.142762), 1e-6)
    certain = trial.array([1, 0])
    trial.exactly("one way 1 bit, the other +∞", [kl(certain, p, base=2), kl(p, certain)], [1, np.inf])
    mirrored = trial.array([0.3, 0.7])
    equal = kl(mirrored, mirrored[::-1]) == kl(mirrored[::-1], mirrored)
    trial.happens("(.3, .7) and (.7, .3): equal", equal, refutes=True)
    p = trial.simplex(300, 6)
    q = p[:, jnp.asarray([1, 0, 3, 2, 4, 5])]
    trial.close("P and its outcomes exchanged", kl(p, q), kl(q, p), 33)
    q = trial.simplex(300, 6)
    trial.close("the symmetric sum", lossjax.jeffreys_divergence(p, q), kl(p, q) + kl(q, p), 33)


@claim(
    "1.12",
    section="4.1.1",
    statement="KL is a directed relative entropy, not a metric.",
)
def no_metric(trial: Trial) -> None:
    """The triangle inequality fails for KL and its root; the root of the Jensen-Shannon divergence keeps it."""
    points = trial.array([[0.5, 0.5], [0.75, 0.25], [0.9, 0.1]])
    a, b, c = lossjax.kl_divergence(points[jnp.asarray([0, 1, 0])], points[jnp.asarray([1, 2, 2])])
    trial.at_most("the way round over the direct way, KL", (a + b) / c, 0.463)
    trial.at_most("the way round over the direct way, √KL", (jnp.sqrt(a) + jnp.sqrt(b)) / jnp.sqrt(c), 0.956)
    p, q, r = trial.simplex(3, 3000, 4, concentration=0.5)
    js = [jnp.sqrt(lossjax.js_divergence(x, y)) for x, y in ((p, q), (q, r), (p, r))]
    # Three roots of at most .84, each within 17u.
    trial.at_most("√JS: direct way less the way round, in u", jnp.max(js[2] - js[0] - js[1]) / trial.u, 64)
    trial.exactly("JS is symmetric", lossjax.js_divergence(q, p), lossjax.js_divergence(p, q))


@claim(
    "1.13",
    section="4.1.1",
    statement="Distributions are the points of the simplex, of dimension n-1: a segment for n = 2, a triangle for n = 3.",
)
def simplex(trial: Trial) -> None:
    """Softmax lands on it with a derivative of rank n-1, and differences of its points span n-1 dimensions."""
    for n in (2, 3, 10):
        p = lossjax.softmax(trial.normal(4 * n, n, scale=2.0))
        trial.close(f"Σp = 1, n = {n}", jnp.sum(p, axis=-1), np.ones(4 * n), 8)
        trial.happens("p > 0", jnp.all(p > 0))
        differences = np.asarray(p, np.float64)[1:] - np.asarray(p, np.float64)[0]
        trial.exactly(f"dimension, n = {n}", np.linalg.matrix_rank(differences, tol=64 * trial.u), n - 1)
        slope = np.asarray(jax.jacobian(lossjax.softmax)(trial.normal(n)), np.float64)
        trial.exactly("rank of the derivative of softmax", np.linalg.matrix_rank(slope, tol=64 * trial.u), n - 1)
        corners = np.asarray(lossjax.softmax(trial.array(np.where(np.eye(n) > 0, 0, -np.inf))))
        trial.exactly("its corners are the certain outcomes", corners, np.eye(n))
        edges = corners[1:] - corners[0]
        volume = math.sqrt(np.linalg.det(edges @ edges.T))  # √n: length √2, twice the area √3/2, …
        trial.at_most("volume of the edges' parallelotope over √n, less 1", abs(volume / math.sqrt(n) - 1), 64 * trial.u)


@claim(
    "1.14",
    section="4.1.1",
    statement="Entropy is strictly concave on the simplex.",
)
def strict_concavity(trial: Trial) -> None:
    """1-strong concavity in ‖·‖₁ with boundary points, the gap as Jensen-Shannon, and the Hessian."""
    corners = trial.array(np.eye(6)[trial.random.integers(0, 6, size=200)])
    p = jnp.concatenate([trial.simplex(400, 6), trial.simplex(400, 6, concentration=0.1), corners])
    q = p[trial.random.permutation(1000)]
    entropy = lossjax.entropy
    t = trial.array(trial.random.uniform(size=(1000, 1)))
    middle = t * p + (1 - t) * q
    chord = t[:, 0] * entropy(p) + (1 - t[:, 0]) * entropy(q)
    strength = (t * (1 - t))[:, 0] * jnp.sum(jnp.abs(p - q), axis=-1) ** 2 / 2
    trial.at_most("below the chord plus ½t(1-t)‖p-q‖₁², in u", jnp.max(chord + strength - entropy(middle)) / trial.u, 16)
    trial.happens("the bound is more than rounding", jnp.mean(strength) > 0.01)
    gap = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    trial.close("the gap at the middle is JS", gap, lossjax.js_divergence(p, q), 32, scale=2)
    lowest = jnp.minimum(entropy(p), entropy(q))
    trial.at_most("level sets are convex, in u", jnp.max(lowest - entropy(middle)) / trial.u, 16)
    inside = jnp.asarray(dyadic(trial, 1, 6)[0])
    hessian = jax.hessian(entropy)(inside)
    trial.close("Hessian -diag(1/p)", hessian, -np.diag(1 / np.asarray(inside, np.float64)), 8, scale=1 / inside)


CLAIMS: tuple[Claim, ...] = (
    data_assumption,
    parameter_metric,
    self_information,
    units_of_information,
    certain_event,
    shannon_entropy,
    expected_information,
    entropy_is_nonnegative,
    entropy_at_uniform,
    more_uniform,
    kullback_leibler,
    gibbs_inequality,
    asymmetry,
    no_metric,
    simplex,
    strict_concavity,
)
