"""What the losses of scores are: errors, noise distributions, angles and margins, in ball arithmetic.

As in ``tests/support/truths.py``, which says what a truth gives.
"""

import numpy as np
from flint import arb

from lossjax.verify import oracle
from lossjax.verify.ulp import Balls
from tests.support.truths import TRUTHS, Truth, truth_of

__all__ = ("TRUTHS",)  # complete once this module has been loaded


@truth_of("squared_error", units=3)
def of_squared_error(g: Balls, prediction: Balls, target: Balls) -> Truth:
    d = prediction - target
    return [(d * d, None), (2 * g * d, None), (-2 * g * d, None)]


@truth_of("mean_squared_error", units=16)
def of_mean_squared_error(g: Balls, prediction: Balls, target: Balls) -> Truth:
    d = prediction - target
    n = arb(d.size)
    return [(np.asarray(np.sum(d * d) / n, dtype=object), None), (2 * g * d / n, None), (-2 * g * d / n, None)]


@truth_of("gaussian_nll", units=8)
def of_gaussian(g: Balls, mean: Balls, target: Balls, s: Balls) -> Truth:
    value, in_mean, in_s = oracle.gaussian_nll(mean, target, s)
    square = (mean - target) * in_mean
    return [
        (value, (arb(2).log() + arb.pi().log() + abs(s) + square) / 2),
        (g * in_mean, None), (-g * in_mean, None), (g * in_s, abs(g) * (1 + square) / 2),
    ]  # fmt: skip


@truth_of("huber_loss", units=8)
def of_huber(g: Balls, prediction: Balls, target: Balls, delta: Balls) -> Truth:
    r = prediction - target
    inner = oracle.each(lambda a, d: a.min(d), abs(r), delta)
    clipped = oracle.each(lambda a, d: a if abs(a) <= d else (d if a > 0 else -d), r, delta)
    value = inner * inner / 2 + delta * (abs(r) - inner)
    return [(value, None), (g * clipped, None), (-g * clipped, None), (g * (abs(r) - inner), abs(g) * abs(r))]


@truth_of("log_cosh", units=16)
def of_log_cosh(g: Balls, prediction: Balls, target: Balls) -> Truth:
    r = prediction - target
    value = oracle.each(lambda x: abs(x) + (1 + (-2 * abs(x)).exp()).log() - arb(2).log(), r)
    slope = oracle.each(lambda x: x.tanh(), r)
    return [(value, None), (g * slope, None), (-g * slope, None)]


@truth_of("quantile_loss", units=3)
def of_quantile(g: Balls, prediction: Balls, target: Balls, level: Balls) -> Truth:
    r = prediction - target
    slope = oracle.each(lambda x, t: arb(0) if x == 0 else (1 - t if x > 0 else -t), r, level)
    return [(slope * r, None), (g * slope, None), (-g * slope, None), (-g * r, None)]


@truth_of("laplace_nll", units=8)
def of_laplace(g: Balls, location: Balls, target: Balls, s: Balls) -> Truth:
    r, precision = location - target, oracle.exp(-s)
    sign = oracle.each(lambda x: arb(0) if x == 0 else (arb(1) if x > 0 else arb(-1)), r)
    share = abs(r) * precision
    return [
        (arb(2).log() + s + share, arb(2).log() + abs(s) + share),
        (g * sign * precision, None), (-g * sign * precision, None), (g * (1 - share), abs(g) * (1 + share)),
    ]  # fmt: skip


@truth_of("student_t_nll", units=16)
def of_student_t(g: Balls, location: Balls, target: Balls, nu: Balls, s: Balls) -> Truth:
    r = location - target
    w = r * r * oracle.exp(-2 * s) / nu
    spread, q = oracle.log(1 + w), w / (1 + w)
    half = oracle.each(lambda n: (n / 2).lgamma() - ((n + 1) / 2).lgamma() + (n * arb.pi()).log() / 2, nu)
    slope = oracle.each(lambda n: ((n / 2).digamma() - ((n + 1) / 2).digamma() + 1 / n) / 2, nu)
    in_location = (nu + 1) * oracle.each(lambda e, a: arb(0) if e == 0 else a / e, r, q)
    in_nu = (spread - (1 + 1 / nu) * q) / 2
    return [
        ((nu + 1) / 2 * spread + s + half, (nu + 1) / 2 * spread + abs(s) + abs(half) + 1),
        (g * in_location, None), (-g * in_location, None),
        (g * (in_nu + slope), abs(g) * ((spread - q) / 2 + q / nu / 2 + abs(slope))),
        (g * (1 - nu * w) / (1 + w), abs(g) * (1 + nu * w) / (1 + w)),
    ]  # fmt: skip


@truth_of("poisson_nll", units=8)
def of_poisson(g: Balls, z: Balls, t: Balls) -> Truth:
    rate = oracle.exp(z)
    return [(rate - t * z, rate + abs(t * z)), (g * (rate - t), abs(g) * (rate + t)), (-g * z, None)]


@truth_of("cosine_similarity", units=16)
def of_cosine(g: Balls, a: Balls, b: Balls) -> Truth:
    """The similarity: its error is absolute, the gradient's is what rounding one of the two vectors changes."""
    length_a, length_b = (oracle.each(lambda x: x.sqrt(), oracle.total(x * x))[..., None] for x in (a, b))
    unit_a, unit_b = a / length_a, b / length_b
    cosine = oracle.total(unit_a * unit_b)
    gk, one, ck = g[..., None], oracle.each(lambda _: arb(1), cosine), cosine[..., None]
    in_a, in_b = gk * (unit_b - ck * unit_a) / length_a, gk * (unit_a - ck * unit_b) / length_b
    shared = oracle.total(abs(unit_a * unit_b))[..., None] - abs(unit_a * unit_b)
    felt = [
        abs(gk) * (abs(other) * (1 - own * own) + abs(own) * shared) / length
        for own, other, length in ((unit_a, unit_b, length_a), (unit_b, unit_a, length_b))
    ]
    return [(cosine, one), (in_a, felt[0]), (in_b, felt[1])]


@truth_of("cosine_distance", units=16)
def of_cosine_distance(g: Balls, a: Balls, b: Balls) -> Truth:
    """Its error goes with the root of the distance."""
    (cosine, _), *pulled = of_cosine(-g, a, b)
    distance = 1 - cosine
    return [(distance, oracle.each(lambda d: d.max(arb(0)).sqrt() + arb(2) ** -60, distance)), *pulled]


@truth_of("hinge_loss", units=3)
def of_hinge(g: Balls, score: Balls, y: Balls, *, margin: int = 1) -> Truth:
    missing = margin - score * y
    active = oracle.each(lambda m: arb(1) if m > 0 else arb(0), missing)
    return [(active * missing, None), (-g * active * y, None), (-g * active * score, None)]


@truth_of("perceptron_loss", units=3)
def of_perceptron(g: Balls, score: Balls, y: Balls) -> Truth:
    return of_hinge(g, score, y, margin=0)


@truth_of("sparsemax_loss", units=3)
def of_sparsemax(g: Balls, z: Balls, labels: np.ndarray) -> Truth:
    sign = oracle.each(lambda y: arb(2 * int(y) - 1), labels)
    m = z * sign
    value = oracle.each(lambda x: -x if x <= -1 else (arb(0) if x >= 1 else (1 - x) ** 2 / 4), m)
    slope = oracle.each(lambda x: arb(1) if x <= -1 else (arb(0) if x >= 1 else (1 - x) / 2), m)
    return [(value, None), (-g * slope * sign, None)]


def behind(g: Balls, z: Balls, labels: np.ndarray, margin: int) -> Truth:
    """Ties go to the first rival."""
    value, in_z = np.empty(len(z), object), np.full(z.shape, arb(0), object)
    for row, c in enumerate(labels):
        rivals = [(z[row, j], -j) for j in range(z.shape[-1]) if j != c]
        best, index = max(rivals, key=lambda r: (float(r[0]), r[1]), default=(arb("-inf"), 0))
        value[row] = (margin + best - z[row, c]).max(arb(0)) if rivals else arb(0)
        if value[row] > 0:
            in_z[row, -index] += g[row]
            in_z[row, c] -= g[row]
    return [(value, None), (in_z, None)]


@truth_of("multiclass_hinge_loss", units=3)
def of_multiclass_hinge(g: Balls, z: Balls, labels: np.ndarray) -> Truth:
    return behind(g, z, labels, 1)


@truth_of("multiclass_perceptron_loss", units=3)
def of_multiclass_perceptron(g: Balls, z: Balls, labels: np.ndarray) -> Truth:
    return behind(g, z, labels, 0)


@truth_of("multiclass_sparsemax_loss", units=16)
def of_multiclass_sparsemax(g: Balls, z: Balls, labels: np.ndarray) -> Truth:
    """Errors are absolute: a probability of the projection is a difference of logits."""
    value, in_z = np.empty(len(z), object), np.empty(z.shape, object)
    for row, c in enumerate(labels):
        descending = sorted(z[row], key=float, reverse=True)
        sums = [(sum(descending[:k], arb(0)) - 1) / k for k in range(1, len(descending) + 1)]
        tau = [s for s, x in zip(sums, descending, strict=True) if x > s][-1]
        p = [(x - tau).max(arb(0)) for x in z[row]]
        support = [x for x in z[row] if x > tau]
        value[row] = sum(((x - z[row, c]) ** 2 - (tau - z[row, c]) ** 2 for x in support), arb(1)) / 2
        in_z[row] = [g[row] * (q - (1 if j == c else 0)) for j, q in enumerate(p)]
    scale = abs(g)[..., None] + 0 * in_z
    return [(value, oracle.each(lambda v: v.max(arb(1)), value)), (in_z, scale)]


@truth_of("smooth_l1_loss", units=8)
def of_smooth_l1(g: Balls, prediction: Balls, target: Balls, beta: Balls) -> Truth:
    r = prediction - target
    share = oracle.each(lambda a, b: (a / b).min(arb(1)), abs(r), beta)
    inner = oracle.each(lambda a, b: a.min(b), abs(r), beta)
    sign = oracle.each(lambda x: arb(0) if x == 0 else (arb(1) if x > 0 else arb(-1)), r)
    slope = g * share * sign
    return [(share * inner / 2 + abs(r) - inner, None), (slope, None), (-slope, None), (-g * share * share / 2, None)]


@truth_of("pseudo_huber_loss", units=16)
def of_pseudo_huber(g: Balls, prediction: Balls, target: Balls, delta: Balls) -> Truth:
    r = prediction - target
    h = oracle.each(lambda a, d: (1 + (a / d) ** 2).sqrt(), r, delta)
    slope = g * r / h
    return [(r * r / (1 + h), None), (slope, None), (-slope, None), (g * delta * (h - 1) ** 2 / h, None)]
