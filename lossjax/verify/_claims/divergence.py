"""§4.1.1: Kullback-Leibler divergence and the simplex."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax.verify import oracle
from lossjax.verify._claims._measures import (
    OUTCOMES,
    ROWS,
    dyadic,
    entropy,
    jeffreys,
    js,
    kl,
    kl_slopes,
    measure,
    refuses,
    softmax,
    table,
)
from lossjax.verify._claims._tools import compiled
from lossjax.verify.claim import Claim, Trial, claim
from lossjax.verify.ulp import balls


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

    slopes, wanted = kl_slopes(p, q), compiled(jax.grad(textbook, argnums=(0, 1)))(p, q)
    trial.close("gradient in p", slopes[0], wanted[0], 16, scale=1 - np.log(p) - np.log(q))
    trial.close("gradient in q", slopes[1], wanted[1], 16, scale=1 + p / q)
    q = np.full((ROWS, OUTCOMES), 0.25, p.dtype)
    p = np.linspace(0.125, 0.5, q.size).astype(p.dtype).reshape(q.shape)
    with oracle.precision():
        truth = oracle.log(balls(p) / balls(q)).astype(float)
    trial.close("gradient log(p/q) in p, within a factor of 2", kl_slopes(p, q)[0], truth, 8)
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
    pq, qr, pr = (np.sqrt(measure(kl, x, y)) for x, y in ((p, q), (q, r), (p, r)))
    trial.happens("√KL breaks it on some of the same triples", np.mean(pr > pq + qr) > 0.02)
    trial.exactly("JS is symmetric", measure(js, q, p), measure(js, p, q))
    with oracle.precision():
        first, second = balls(p[:ROWS]), balls(q[:ROWS])
        middle = (first + second) / 2
        truth = (oracle.kl_divergence(first, middle) + oracle.kl_divergence(second, middle)) / 2
    trial.close("JS", measure(js, p[:ROWS], q[:ROWS]), truth.astype(float), 33)


@claim(
    "1.13", section="4.1.1",
    statement="Distributions form the simplex, of dimension n-1: n = 2 a segment, n = 3 a triangle.",
)  # fmt: skip
def simplex(trial: Trial) -> None:
    """Softmax lands on it with a derivative of rank n-1, differences of its points span n-1 dimensions, its corners."""
    slopes = compiled(jax.vmap(jax.jacobian(lossjax.softmax)))
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
    hessian = compiled(jax.hessian(lossjax.entropy))(inside)
    trial.close("Hessian -diag(1/p)", hessian, -np.diag(1 / inside.astype(float)), 8, scale=1 / inside)


CLAIMS: tuple[Claim, ...] = (
    kullback_leibler, gibbs_inequality, asymmetry, no_metric, simplex, strict_concavity,
)  # fmt: skip
