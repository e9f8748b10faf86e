"""What the losses and their gradients are, in ball arithmetic.

``truth(cotangent, *arguments)`` gives the value and one cotangent a differentiable argument, each with the scale its
error is measured against (None: the truth itself).
"""

import numpy as np
from flint import arb

from lossjax.verify import oracle
from lossjax.verify.ulp import Balls

Truth = list[tuple[Balls, Balls | None]]


def of_labels(g: Balls, z: Balls, labels: np.ndarray) -> Truth:
    value, gradient = oracle.softmax_cross_entropy(z, oracle.one_hot(labels, z.shape[-1]))
    return [(value, None), (g[..., None] * gradient, None)]


def of_targets(g: Balls, z: Balls, t: Balls) -> Truth:
    value, gradient = oracle.softmax_cross_entropy(z, t)
    gk = g[..., None]
    expected = oracle.total(t)[..., None] * oracle.softmax(z) + t
    surprise = -oracle.log(oracle.softmax(z))
    return [(value, None), (gk * gradient, abs(gk) * expected), (gk * surprise, None)]


def of_binary(g: Balls, z: Balls, y: Balls) -> Truth:
    value, gradient = oracle.sigmoid_cross_entropy(z, y)
    s = 1 / (1 + oracle.exp(-z))
    return [(value, None), (g * gradient, abs(g) * ((1 - y) * s + y * (1 - s))), (-g * z, None)]


def of_softmax(g: Balls, z: Balls) -> Truth:
    p = oracle.softmax(z)
    mean = oracle.total(p * g)[..., None]
    return [(p, None), (p * (g - mean), p * (abs(g) + oracle.total(p * abs(g))[..., None]))]


def of_log_softmax(g: Balls, z: Balls) -> Truth:
    p = oracle.softmax(z)
    mass = oracle.total(g)[..., None]
    return [(oracle.log(p), None), (g - mass * p, abs(g) + oracle.total(abs(g))[..., None] * p)]


def of_logsumexp(g: Balls, z: Balls) -> Truth:
    value = oracle.log_sum_exp(z)
    top = np.max(z.astype(float), axis=-1)
    scale = abs(np.vectorize(arb, otypes=[object])(top)) + abs(value)
    return [(value, scale), (g[..., None] * oracle.softmax(z), None)]


def of_entropy_of_logits(g: Balls, z: Balls) -> Truth:
    p = oracle.softmax(z)
    value = oracle.entropy(p)
    gap = -oracle.log(p)
    return [
        (value, None),
        (g[..., None] * p * (gap - value[..., None]), abs(g)[..., None] * p * (gap + value[..., None])),
    ]


def of_kl_of_logits(g: Balls, u: Balls, v: Balls) -> Truth:
    value, in_u, in_v = oracle.softmax_kl_divergence(u, v)
    p = oracle.softmax(u)
    w = v - u
    spread = each_max(abs(w - oracle.total(p * w)[..., None]))[..., None]
    gk = g[..., None]
    return [(value, None), (gk * in_u, abs(gk) * p * spread), (gk * in_v, abs(gk) * (abs(in_v) + p * spread))]


def each_max(x: Balls) -> Balls:
    result = x[..., 0]
    for k in range(1, x.shape[-1]):
        result = oracle.each(lambda a, b: a.max(b), result, x[..., k])
    return result


def of_self_information(g: Balls, p: Balls) -> Truth:
    return [(-oracle.log(p), None), (-g / p, None)]


def of_entropy(g: Balls, p: Balls) -> Truth:
    value = oracle.entropy(p)
    gradient = -(oracle.log(p) + 1)
    return [
        (value, oracle.each(lambda h: h.max(arb(1)), value)),
        (g[..., None] * gradient, abs(g[..., None]) * (abs(gradient) + 2)),
    ]


def of_cross_entropy(g: Balls, p: Balls, q: Balls) -> Truth:
    gk = g[..., None]
    return [(-oracle.total(oracle.xlogy(p, q)), None), (-gk * oracle.log(q), None), (-gk * p / q, None)]


def of_kl(g: Balls, p: Balls, q: Balls) -> Truth:
    gk = g[..., None]
    return [(oracle.kl_divergence(p, q), None), (gk * oracle.log(p / q), None), (gk * (q - p) / q, None)]


def of_jeffreys(g: Balls, p: Balls, q: Balls) -> Truth:
    gk = g[..., None]
    ratio = oracle.log(p / q)
    in_p, in_q = ratio + (p - q) / p, -ratio + (q - p) / q
    return [(oracle.total((p - q) * ratio), None), (gk * in_p, None), (gk * in_q, None)]


def of_js(g: Balls, p: Balls, q: Balls) -> Truth:
    gk, m = g[..., None] / 2, (p + q) / 2
    value = (oracle.kl_divergence(p, m) + oracle.kl_divergence(q, m)) / 2
    return [(value, None), (gk * oracle.log(p / m), None), (gk * oracle.log(q / m), None)]


def of_squared_error(g: Balls, prediction: Balls, target: Balls) -> Truth:
    d = prediction - target
    return [(d * d, None), (2 * g * d, None), (-2 * g * d, None)]


def of_mean_squared_error(g: Balls, prediction: Balls, target: Balls) -> Truth:
    d = prediction - target
    n = arb(d.size)
    return [(np.asarray(np.sum(d * d) / n, dtype=object), None), (2 * g * d / n, None), (-2 * g * d / n, None)]


def of_gaussian(g: Balls, mean: Balls, target: Balls, s: Balls) -> Truth:
    value, in_mean, in_s = oracle.gaussian_nll(mean, target, s)
    square = (mean - target) * in_mean
    return [
        (value, (arb(2).log() + arb.pi().log() + abs(s) + square) / 2),
        (g * in_mean, None), (-g * in_mean, None), (g * in_s, abs(g) * (1 + square) / 2),
    ]  # fmt: skip


def of_js_of_logits(g: Balls, u: Balls, v: Balls) -> Truth:
    p, q = oracle.softmax(u), oracle.softmax(v)
    m = (p + q) / 2
    a, b = oracle.log(p / m) / 2, oracle.log(q / m) / 2
    value = oracle.total(p * a + q * b)
    w = v - u
    spread = each_max(abs(w - oracle.total(p * w)[..., None]))[..., None]
    gk = g[..., None]
    in_u, in_v = p * (a - oracle.total(p * a)[..., None]), q * (b - oracle.total(q * b)[..., None])
    return [(value, None), (gk * in_u, abs(gk) * p * spread), (gk * in_v, abs(gk) * q * spread)]


def of_brier(g: Balls, z: Balls, targets: Balls) -> Truth:
    """For labels and for distributions; the error is that of the terms p(r - r_m), m the most probable class."""
    labelled = targets.ndim < z.ndim
    t = oracle.one_hot(targets, z.shape[-1]) if labelled else targets
    p = oracle.softmax(z)
    r = p - t
    top = np.argmax(z.astype(float), axis=-1)[..., None]
    apart = abs(r - np.take_along_axis(r, top, axis=-1))
    gk = g[..., None]
    in_z = 2 * gk * p * (r - oracle.total(p * r)[..., None])
    scale = 2 * abs(gk) * p * (apart + oracle.total(p * apart)[..., None])
    if labelled:
        return [(oracle.total(r * r), None), (in_z, scale)]
    size = abs(r) + p + t
    rough = 2 * abs(gk) * p * (p + t + oracle.total(p * (p + t))[..., None])
    value = (oracle.total(r * r), oracle.total(abs(r) * size))
    return [value, (in_z, scale + rough), (-2 * gk * r, 2 * abs(gk) * (p + t))]


def of_sigmoid_focal(g: Balls, z: Balls, y: Balls) -> Truth:
    """At γ = 2, without α."""
    s, n = 1 / (1 + oracle.exp(-z)), 1 / (1 + oracle.exp(z))
    b = -y * oracle.log(s) - (1 - y) * oracle.log(n)
    c = y * n + (1 - y) * s
    in_z, in_z_scale = (1 - y) * s - y * n, (1 - y) * s + y * n
    slope = 2 * s * n * b / c
    return [
        (c * c * b, None),
        (g * c * c * (in_z + (1 - 2 * y) * slope), abs(g) * c * c * (in_z_scale + abs(1 - 2 * y) * slope)),
        (g * c * c * (-z + 2 * (n - s) * b / c), abs(g) * c * c * (abs(z) + 2 * abs(n - s) * b / c)),
    ]


def of_huber(g: Balls, prediction: Balls, target: Balls, delta: Balls) -> Truth:
    r = prediction - target
    inner = oracle.each(lambda a, d: a.min(d), abs(r), delta)
    clipped = oracle.each(lambda a, d: a if abs(a) <= d else (d if a > 0 else -d), r, delta)
    value = inner * inner / 2 + delta * (abs(r) - inner)
    return [(value, None), (g * clipped, None), (-g * clipped, None), (g * (abs(r) - inner), abs(g) * abs(r))]


def of_log_cosh(g: Balls, prediction: Balls, target: Balls) -> Truth:
    r = prediction - target
    value = oracle.each(lambda x: abs(x) + (1 + (-2 * abs(x)).exp()).log() - arb(2).log(), r)
    slope = oracle.each(lambda x: x.tanh(), r)
    return [(value, None), (g * slope, None), (-g * slope, None)]


def of_quantile(g: Balls, prediction: Balls, target: Balls, level: Balls) -> Truth:
    r = prediction - target
    slope = oracle.each(lambda x, t: arb(0) if x == 0 else (1 - t if x > 0 else -t), r, level)
    return [(slope * r, None), (g * slope, None), (-g * slope, None), (-g * r, None)]


def of_laplace(g: Balls, location: Balls, target: Balls, s: Balls) -> Truth:
    r, precision = location - target, oracle.exp(-s)
    sign = oracle.each(lambda x: arb(0) if x == 0 else (arb(1) if x > 0 else arb(-1)), r)
    share = abs(r) * precision
    return [
        (arb(2).log() + s + share, arb(2).log() + abs(s) + share),
        (g * sign * precision, None), (-g * sign * precision, None), (g * (1 - share), abs(g) * (1 + share)),
    ]  # fmt: skip


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
        (g * (in_nu + slope), abs(g) * (abs(in_nu) + q / nu + 1 / nu)),
        (g * (1 - (nu + 1) * q), abs(g) * (1 + (nu + 1) * q)),
    ]  # fmt: skip


def of_poisson(g: Balls, z: Balls, t: Balls) -> Truth:
    rate = oracle.exp(z)
    return [(rate - t * z, rate + abs(t * z)), (g * (rate - t), abs(g) * (rate + t)), (-g * z, None)]


def of_cosine(g: Balls, a: Balls, b: Balls) -> Truth:
    """The similarity: errors are absolute, the gradient's in units of 1/length."""
    length_a, length_b = (oracle.each(lambda x: x.sqrt(), oracle.total(x * x))[..., None] for x in (a, b))
    unit_a, unit_b = a / length_a, b / length_b
    cosine = oracle.total(unit_a * unit_b)
    gk, one, ck = g[..., None], oracle.each(lambda _: arb(1), cosine), cosine[..., None]
    in_a, in_b = gk * (unit_b - ck * unit_a) / length_a, gk * (unit_a - ck * unit_b) / length_b
    return [(cosine, one), (in_a, abs(gk) / length_a + 0 * a), (in_b, abs(gk) / length_b + 0 * b)]


def of_cosine_distance(g: Balls, a: Balls, b: Balls) -> Truth:
    """Its error goes with the root of the distance."""
    (cosine, _), *pulled = of_cosine(-g, a, b)
    distance = 1 - cosine
    return [(distance, oracle.each(lambda d: d.max(arb(0)).sqrt() + arb(2) ** -60, distance)), *pulled]


def of_hinge(g: Balls, score: Balls, y: Balls, *, margin: int = 1) -> Truth:
    missing = margin - score * y
    active = oracle.each(lambda m: arb(1) if m > 0 else arb(0), missing)
    return [(active * missing, None), (-g * active * y, None), (-g * active * score, None)]


def of_perceptron(g: Balls, score: Balls, y: Balls) -> Truth:
    return of_hinge(g, score, y, margin=0)


def of_sparsemax(g: Balls, z: Balls, labels: np.ndarray) -> Truth:
    sign = oracle.each(lambda y: arb(2 * int(y) - 1), labels)
    m = z * sign
    value = oracle.each(lambda x: -x if x <= -1 else (arb(0) if x >= 1 else (1 - x) ** 2 / 4), m)
    slope = oracle.each(lambda x: arb(1) if x <= -1 else (arb(0) if x >= 1 else (1 - x) / 2), m)
    return [(value, None), (-g * slope * sign, None)]


def _behind(g: Balls, z: Balls, labels: np.ndarray, margin: int) -> Truth:
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


def of_multiclass_hinge(g: Balls, z: Balls, labels: np.ndarray) -> Truth:
    return _behind(g, z, labels, 1)


def of_multiclass_perceptron(g: Balls, z: Balls, labels: np.ndarray) -> Truth:
    return _behind(g, z, labels, 0)


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
