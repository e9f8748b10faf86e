"""§4.1.3: cross-entropy as the likelihood of class labels."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax.verify import oracle
from lossjax.verify._claims._measures import ROWS, cross_entropy, dyadic, entropy, kl, measure, softmax, table
from lossjax.verify._claims._tools import compiled
from lossjax.verify.claim import Claim, Trial, claim
from lossjax.verify.ulp import balls

_loss = lossjax.softmax_cross_entropy_with_integer_labels
_of_labels = compiled(_loss, static_argnames="reduction")
_of_targets = compiled(lossjax.softmax_cross_entropy)
_label_slope = compiled(jax.grad(lambda z, y: _loss(z, y, reduction="sum")))
_target_slope = compiled(jax.grad(lambda z, p: lossjax.softmax_cross_entropy(z, p, reduction="sum")))


def _labelled(trial: Trial, rows: int, classes: int, scale: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels."""
    return (
        np.asarray(trial.normal(rows, classes, scale=scale)),
        trial.random.integers(0, classes, size=rows).astype(np.int32),
    )


@claim("3.1", section="4.1.3", statement="Cross-entropy H(P, Q) = -Σ p log q = H(P) + KL(P‖Q).")
def decomposition(trial: Trial) -> None:
    """Value and both sides, in nats and bits, at zeros and infinities; the bound; the gradient; from logits."""
    p, q = dyadic(trial, ROWS, 7), dyadic(trial, ROWS, 7)
    with oracle.precision():
        truth = (-oracle.total(oracle.xlogy(balls(p), balls(q)))).astype(float)
    both = measure(cross_entropy, p, q)
    trial.close("-Σ p log q", both, truth, 32)
    trial.close("H(P) + KL(P‖Q)", measure(entropy, p) + measure(kl, p, q), truth, 32)
    in_bits = measure(entropy, p, base=2) + measure(kl, p, q, base=2)
    trial.close("in bits", measure(cross_entropy, p, q, base=2), in_bits, 32)
    trial.happens("H(P, Q) > H(P)", np.all(both > measure(entropy, p)))
    beside = p + np.asarray(trial.array([2.0**-12, -(2.0**-12), 0, 0, 0, 0, 0]))  # sums to 1 still
    excess = measure(entropy, p) - measure(cross_entropy, p, beside)
    trial.at_most("H(P) less H(P, Q), Q beside P, in u", np.max(excess) / trial.u, 16)
    trial.close("H(P, P) = H(P)", measure(cross_entropy, p, p), measure(entropy, p), 4)
    slope = compiled(jax.grad(lambda q: jnp.sum(lossjax.cross_entropy(p, q))))(q)
    textbook = compiled(jax.grad(lambda q: -jnp.sum(p * jnp.log(q))))(q)
    trial.close("gradient -p/q", slope, textbook, 4)
    first = table(trial, [0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1])
    second = table(trial, [1, 0, 0], [0.25, 0.75, 0], [0, 0, 1])
    values = measure(cross_entropy, first, second)
    trial.exactly("impossible under Q: both sides +∞", [values[0], measure(kl, first, second)[0]], [np.inf, np.inf])
    trial.close("impossible under both: no contribution", values[1], -math.log(0.25 * 0.75) / 2, 8)
    trial.exactly("certain under both: 0", values[2], 0)
    z = np.asarray(trial.normal(ROWS, 7, scale=3.0))
    # Rounding softmax costs each log q 8u, and Σp = 1 of them are summed.
    of_softmax = measure(cross_entropy, p, np.asarray(softmax(z)))
    trial.close("from logits", _of_targets(z, p), of_softmax, 33, scale=np.maximum(of_softmax, 1))


@claim("3.2", section="4.1.3", statement="With P fixed, minimising cross-entropy is minimising KL(P‖Q).")
def same_minimum(trial: Trial) -> None:
    """One minimiser on a grid in any base, one gradient in the logits; and what happens if P is not fixed."""
    thirds = [(a, b, 20 - a - b) for a in range(1, 19) for b in range(1, 20 - a)]
    grid = np.asarray(trial.array(np.array(thirds) / 20))
    for p in np.asarray(trial.simplex(5, 3)):
        repeated = np.repeat(p[None], len(grid), axis=0)
        best = np.argmin(measure(kl, repeated, grid))
        for base in (None, 2):
            nearest = np.argmin(measure(cross_entropy, repeated, grid, base=base))
            trial.exactly("arg min over Q" + (" in bits" if base else ""), nearest, best)
    p, z = dyadic(trial, ROWS, 7), np.asarray(trial.normal(ROWS, 7, scale=3.0))

    def textbook(z: jax.Array, of_p: float) -> jax.Array:
        q = jnp.exp(z) / jnp.sum(jnp.exp(z), axis=-1, keepdims=True)
        return jnp.sum(p * (of_p * jnp.log(p) - jnp.log(q)))

    slopes = compiled(jax.grad(textbook))
    of_kl, of_entropy = slopes(z, trial.dtype.type(1)), slopes(z, trial.dtype.type(0))
    trial.exactly("gradients of the textbook expressions", of_kl, of_entropy)
    ours = _target_slope(z, p)
    through_kl = compiled(jax.grad(lambda z: jnp.sum(lossjax.kl_divergence(p, lossjax.softmax(z)))))(z)
    size = np.asarray(softmax(z)) + p
    trial.close("gradient of the library's, textbook", ours, of_entropy, 64, scale=size)
    # KL's slope in q is 1 - p/q, whose 1 the softmax's derivative cancels: Σ(1 - p/q)q adds a few u of every q.
    trial.close("gradient of the library's, through KL", ours, through_kl, 64, scale=size)
    moving = trial.simplex(ROWS, 7, concentration=0.3)
    trial.exactly("P moving along with Q: KL(P‖P)", measure(kl, moving, moving), np.zeros(ROWS))
    trial.refuted("the range of H(P, P), which has other minimisers", np.ptp(measure(cross_entropy, moving, moving)), 1)


@claim(
    "3.3", section="4.1.3", verdict="imprecise",
    statement="A sample is classified correctly with probability p̂_y.",
    correction="p̂_y is the probability the model gives the label; an arg max decision is right or wrong, 1 or 0.",
)  # fmt: skip
def probability_of_correctness(trial: Trial) -> None:
    """exp(-loss) is p̂_y, the accuracy of a classifier that draws its answer; arg max has another."""
    z = np.asarray(trial.normal(ROWS, 7))
    y = np.argmax(z + trial.random.gumbel(size=z.shape), axis=-1).astype(np.int32)  # drawn from p̂: a perfect model
    p = np.asarray(softmax(z))
    of_label, losses = p[np.arange(ROWS), y], np.asarray(_of_labels(z, y))
    trial.close("exp(-L) = p̂_y", np.exp(-losses), of_label, 16, scale=of_label * np.maximum(losses, 1))
    drawn = np.argmax(z.astype(float) + trial.random.gumbel(size=(1000, ROWS, 7)), axis=-1) == y
    spread = np.sqrt(np.sum(of_label * (1 - of_label)) / 1000)
    error = abs(np.sum(np.mean(drawn, axis=0)) - np.sum(of_label.astype(float)))
    trial.at_most("answers drawn from p̂: right as often as Σ p̂_y says, in standard errors", error / spread, 5)
    right = np.argmax(z, axis=-1) == y
    trial.refuted("largest distance of p̂_y from arg max's right or wrong", np.max(np.abs(right - of_label)), 0.74)
    trial.refuted("accuracy of arg max less the mean of p̂_y", np.mean(right) - np.mean(of_label), 0.05)


@claim("3.4", section="4.1.3", statement="The samples being independent, the likelihood is Π p̂_y.")
def likelihood(trial: Trial) -> None:
    """Over all 81 label sequences of four samples the likelihoods sum to 1, and marginals come back."""
    z = np.asarray(trial.normal(4, 3, scale=3.0))
    sequences = np.array(list(itertools.product(range(3), repeat=4)), np.int32)
    losses = np.asarray(_of_labels(np.broadcast_to(z, (81, 4, 3)), sequences))
    likelihoods = np.exp(-np.sum(losses, axis=-1))
    p = np.asarray(softmax(z))
    products = np.prod(p[np.arange(4), sequences], axis=-1)
    size = products * np.maximum(np.sum(losses, axis=-1), 1)
    trial.close("exp(-Σ L) = Π p̂_y", likelihoods, products, 64, scale=size)
    trial.close("all data sets together", np.sum(likelihoods), 1.0, 64)
    first = np.array([np.sum(likelihoods[sequences[:, 0] == k]) for k in range(3)], likelihoods.dtype)
    trial.close("the first sample's law", first, p[0], 64)


@claim("3.5", section="4.1.3", statement="min -Σ log p̂_y is max Σ log p̂_y, the log-likelihood.")
def negative_log_likelihood(trial: Trial) -> None:
    """Value and gradient against exact arithmetic and the textbook's; one optimum; the product underflows."""
    for rows, scale in ((1, 1.0), (2, 30.0), (50, 1e-3), (ROWS, 3.0)):
        z, y = _labelled(trial, ROWS, 7, scale)
        with oracle.precision():
            truth, slope = oracle.softmax_cross_entropy(balls(z[:rows]), oracle.one_hot(y[:rows], 7))
            total = float(np.sum(truth))
        trial.close(f"-Σ log p̂_y, N = {rows}", np.sum(np.asarray(_of_labels(z, y))[:rows]), total, 16)
        trial.close("its gradient p̂ - e_y", np.asarray(_label_slope(z, y))[:rows], slope.astype(float), 8)

    def log_likelihood(z: jax.Array) -> jax.Array:
        picked = jnp.sum(jnp.where(np.arange(7) == y[:, None], z, 0), axis=-1)
        return jnp.sum(picked - jnp.log(jnp.sum(jnp.exp(z), axis=-1)))

    textbook = compiled(jax.grad(log_likelihood))(z)
    trial.close("minus the gradient of the textbook's ℓ", _label_slope(z, y), -textbook, 16, scale=1)
    heat = np.linspace(0.05, 2, 40)
    values = np.array([np.sum(np.asarray(_of_labels((z * h).astype(z.dtype), y)), dtype=float) for h in heat])
    wide = z.astype(float)
    log_p = [np.sum(h * wide[np.arange(ROWS), y] - np.log(np.sum(np.exp(h * wide), axis=-1))) for h in heat]
    trial.exactly("temperature of least loss = of largest likelihood", np.argmin(values), np.argmax(log_p))
    products = np.prod(np.tile(np.asarray(softmax(z))[np.arange(ROWS), y], 10))
    trial.exactly("the likelihood of 1430 samples underflows, its logarithm does not", products, 0)


@claim(
    "4.1.2", section="4.1.3", verdict="needs conditions",
    statement="Cross-entropy is the negative log-likelihood: minimising one is maximising the other.",
    correction="For hard labels, the mean as NLL/N; not if soft, smoothed or weighted; inf may not be attained.",
)  # fmt: skip
def cross_entropy_is_likelihood(trial: Trial) -> None:
    """Hard labels, counts; then labels smoothed and weighted, and data that a line separates."""
    z, y = _labelled(trial, ROWS, 7)
    one_hot = np.eye(7, dtype=z.dtype)[y]
    losses, total = np.asarray(_of_labels(z, y)), np.asarray(_of_labels(z, y, reduction="sum"))
    trial.close("Σ CE(e_y, p̂) = -ℓ", np.sum(np.asarray(_of_targets(z, one_hot))), total, 16)
    trial.close("mean CE = -ℓ/N", _of_labels(z, y, reduction="mean"), total / trial.dtype.type(ROWS), 16)
    trial.close("CE(e_y, p̂) = -log p̂_y, each", _of_targets(z, one_hot), losses, 8)
    # N draws with counts k: the exact coefficient N!/Πk! and the float probabilities q as they are.
    q = dyadic(trial, ROWS, 5)
    counts = np.array([trial.random.multinomial(64, row) for row in q.astype(float)])
    coefficients = [math.factorial(64) // math.prod(map(math.factorial, row)) for row in counts.tolist()]
    with oracle.precision():
        pmf = [c * np.prod(balls(row) ** k) for c, row, k in zip(coefficients, q, counts, strict=True)]
        nll = np.array([float(-mass.log()) for mass in pmf])
    entropies = 64 * measure(cross_entropy, trial.array(counts / 64), q)
    nll += [math.log(c) for c in coefficients]
    trial.close("64 H(k/64, q) = -log pmf(k; q) + log(64!/Πk!)", entropies, nll, 32)
    # Smoothing: z = log of the smoothed target is the optimum, and what is left there is its entropy.
    target = np.asarray(trial.array([0.92, 0.02, 0.02, 0.02, 0.02]))
    label = np.int32(0)
    smoothed = compiled(
        jax.value_and_grad(lambda z: lossjax.softmax_cross_entropy_with_integer_labels(z, label, label_smoothing=0.1))
    )
    least, slope = smoothed(np.log(target))
    trial.close("the smoothed optimum: H(target) = .38967", least, measure(entropy, target[None])[0], 32)
    trial.close("its slope is 0", slope, np.zeros(5), 32, scale=1)
    trial.refuted("smoothed loss at its minimum (-ℓ can reach 0)", least, 0.3896)
    # Weights: at the likeliest constant prediction, the frequencies k/N, the weighted loss still has a slope.
    frequencies = np.bincount(y, minlength=7) / ROWS
    constant = np.asarray(trial.array(np.broadcast_to(np.log(frequencies), (ROWS, 7))))
    weights = np.asarray(trial.array(np.arange(1, 8)))
    weighted = compiled(jax.grad(lambda z: _loss(z, y, class_weights=weights, reduction="mean")))
    of_likelihood = np.sum(np.asarray(_label_slope(constant, y)), axis=0)
    trial.close("slope of -ℓ at the frequencies", of_likelihood, np.zeros(7), 32, scale=ROWS * frequencies)
    trial.refuted("slope of the weighted loss there", np.max(np.abs(np.sum(weighted(constant), axis=0))), 0.05)
    # x = 1, 2, 3 with y = 1: the larger w the likelier, and no w is the likeliest.
    w = np.array([1.0, 10.0, 30.0, 80.0])
    wx = np.asarray(trial.array(w[:, None] * [1.0, 2.0, 3.0])).ravel()
    parts = np.asarray(compiled(lossjax.sigmoid_cross_entropy)(wx, np.ones_like(wx))).reshape(4, 3)
    values, wanted = np.sum(parts, axis=-1), np.sum(np.log1p(np.exp(-w[:, None] * [1.0, 2.0, 3.0])), axis=-1)
    trial.close("separable data, w = 1, 10, 30, 80: .489, 4.5e-5, …", values, wanted, 16)
    falling = np.all(np.diff(values) < 0)
    trial.happens("inf NLL = 0 is approached and not attained", falling and values[-1] > 0, refutes=True)


CLAIMS: tuple[Claim, ...] = (
    decomposition, same_minimum, probability_of_correctness, likelihood, negative_log_likelihood,
    cross_entropy_is_likelihood,
)  # fmt: skip
