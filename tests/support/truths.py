"""What the losses of logits and of probabilities are, and their gradients, in ball arithmetic.

``truth(cotangent, *arguments)`` gives the value, and one cotangent for each differentiable argument; each with the
scale that its error is measured against (None: the truth itself). ``@truth_of(name)`` says which loss it is the truth
of: that makes the loss a case of the contract (``tests/support/cases.py``).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from flint import arb

from lossjax.verify import oracle
from lossjax.verify.ulp import Balls

Truth = list[tuple[Balls, Balls | None]]
TruthOf = TypeVar("TruthOf", bound=Callable[..., Truth])


class Judged(NamedTuple):
    """What is true of one loss, and how far it may be off."""

    truth: Callable[..., Truth]
    units: float
    """The error allowed, in u of the scale."""
    options: Mapping[str, Any]
    """The options under which this is the truth."""


TRUTHS: dict[str, Judged] = {}
"""Every public loss, by name."""


def truth_of(name: str, units: float = 8, **options: Any) -> Callable[[TruthOf], TruthOf]:
    """Register the truth of the loss of this name, with these options."""

    def register(truth: TruthOf) -> TruthOf:
        TRUTHS[name] = Judged(truth, units, options)
        return truth

    return register


@truth_of("softmax_cross_entropy_with_integer_labels")
def of_labels(g: Balls, z: Balls, labels: np.ndarray) -> Truth:
    value, gradient = oracle.softmax_cross_entropy(z, oracle.one_hot(labels, z.shape[-1]))
    return [(value, None), (g[..., None] * gradient, None)]


@truth_of("softmax_cross_entropy", units=13)
def of_targets(g: Balls, z: Balls, t: Balls) -> Truth:
    value, gradient = oracle.softmax_cross_entropy(z, t)
    gk, p = g[..., None], oracle.softmax(z)
    return [(value, None), (gk * gradient, abs(gk) * slope_terms(p, t)), (gk * -oracle.log(p), None)]


def slope_terms(p: Balls, t: Balls) -> Balls:
    """``p_k Σ_{j≠k} |t_j| + (1 - p_k) |t_k|``: what (Σt) p - t consists of once t_k p_k has been cancelled on paper."""
    size = abs(t)
    return (oracle.total(size)[..., None] - size) * p + (1 - p) * size


def centered_terms(p: Balls, v: Balls) -> Balls:
    """``(1 - p_k) |v_k| + Σ_{j≠k} p_j |v_j|``, likewise of v - <p, v>."""
    size = abs(v)
    return (1 - p) * size + (oracle.total(p * size)[..., None] - p * size)


@truth_of("token_log_probs")
def of_tokens(g: Balls, z: Balls, tokens: np.ndarray) -> Truth:
    value, gradient = oracle.softmax_cross_entropy(z, oracle.one_hot(tokens, z.shape[-1]))
    return [(-value, None), (-g[..., None] * gradient, None)]


@truth_of("softmax_cross_entropy_with_sparse_targets", units=16)
def of_sparse_targets(g: Balls, z: Balls, classes: np.ndarray, q: Balls) -> Truth:
    t = np.full(z.shape, arb(0), object)
    np.put_along_axis(t, classes, q, -1)
    [value, in_z, (in_t, _)] = of_targets(g, z, t)
    return [value, in_z, (np.take_along_axis(in_t, classes, -1), None)]


def of_tail(g: Balls, z: Balls, classes: np.ndarray, q: Balls) -> Truth:
    """With one bin for the classes that are not listed; 1 - Σq is rounded as a sum is."""
    gk, p = g[..., None], oracle.softmax(z)
    listed = np.zeros(z.shape, bool)
    np.put_along_axis(listed, classes, True, -1)
    rest = oracle.total(np.where(listed, arb(0), p))[..., None]
    missing = 1 - oracle.total(q)[..., None]
    t = np.where(listed, arb(0), missing * p / rest)
    np.put_along_axis(t, classes, q, -1)
    surprisals, of_rest = -oracle.log(np.take_along_axis(p, classes, -1)), -oracle.log(rest)
    value = oracle.total(q * surprisals) + (missing * of_rest)[..., 0]
    return [
        (value, value + of_rest[..., 0]),
        (gk * (p - t), abs(gk) * (slope_terms(p, t) + np.where(listed, arb(0), p / rest) * (1 - rest))),
        (gk * (surprisals - of_rest), abs(gk) * (surprisals + of_rest)),
    ]


@truth_of("sigmoid_cross_entropy")
def of_binary(g: Balls, z: Balls, y: Balls) -> Truth:
    value, gradient = oracle.sigmoid_cross_entropy(z, y)
    s = 1 / (1 + oracle.exp(-z))
    return [(value, None), (g * gradient, abs(g) * ((1 - y) * s + y * (1 - s))), (-g * z, None)]


@truth_of("softmax", units=16)
def of_softmax(g: Balls, z: Balls) -> Truth:
    p = oracle.softmax(z)
    mean = oracle.total(p * g)[..., None]
    return [(p, None), (p * (g - mean), p * centered_terms(p, g))]


@truth_of("log_softmax", units=13)
def of_log_softmax(g: Balls, z: Balls) -> Truth:
    p = oracle.softmax(z)
    mass = oracle.total(g)[..., None]
    return [(oracle.log(p), None), (g - mass * p, slope_terms(p, g))]


@truth_of("logsumexp")
def of_logsumexp(g: Balls, z: Balls) -> Truth:
    value = oracle.log_sum_exp(z)
    top = np.max(z.astype(float), axis=-1)
    scale = abs(np.vectorize(arb, otypes=[object])(top)) + abs(value)
    return [(value, scale), (g[..., None] * oracle.softmax(z), None)]


def of_weighted_sum(g: Balls, z: Balls, b: Balls) -> Truth:
    """log Σ b e^z, for a sum that may be a difference of larger ones: by their ratio the errors grow."""
    terms = b * oracle.exp(z)
    total, size = oracle.total(terms), oracle.total(abs(terms))
    largest = np.argmax(np.vectorize(lambda t: float(abs(t).log().mid()), otypes=[float])(terms), axis=-1)[..., None]
    ends = (np.take_along_axis(x, largest, -1)[..., 0] for x in (abs(z), abs(oracle.log(abs(b)))))
    ratio = size / total
    share, quotient = (g[..., None] * x / total[..., None] for x in (terms, oracle.exp(z)))
    return [
        (oracle.log(total), sum(ends, ratio)),
        (share, abs(share) * ratio[..., None]),
        (quotient, abs(quotient) * ratio[..., None]),
    ]


@truth_of("softmax_entropy", units=33)
def of_entropy_of_logits(g: Balls, z: Balls) -> Truth:
    p = oracle.softmax(z)
    value = oracle.entropy(p)
    gap = -oracle.log(p)
    return [
        (value, None),
        (g[..., None] * p * (gap - value[..., None]), abs(g)[..., None] * p * (gap + value[..., None])),
    ]


@truth_of("softmax_kl_divergence", units=33)
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


@truth_of("self_information", units=10)
def of_self_information(g: Balls, p: Balls) -> Truth:
    return [(-oracle.log(p), None), (-g / p, None)]


@truth_of("entropy", units=16)
def of_entropy(g: Balls, p: Balls) -> Truth:
    value = oracle.entropy(p)
    gradient = -(oracle.log(p) + 1)
    return [
        (value, oracle.each(lambda h: h.max(arb(1)), value)),
        (g[..., None] * gradient, abs(g[..., None]) * (abs(gradient) + 2)),
    ]


@truth_of("cross_entropy", units=32)
def of_cross_entropy(g: Balls, p: Balls, q: Balls) -> Truth:
    gk = g[..., None]
    return [(-oracle.total(oracle.xlogy(p, q)), None), (-gk * oracle.log(q), None), (-gk * p / q, None)]


@truth_of("kl_divergence", units=33)
def of_kl(g: Balls, p: Balls, q: Balls) -> Truth:
    gk = g[..., None]
    return [(oracle.kl_divergence(p, q), None), (gk * oracle.log(p / q), None), (gk * (q - p) / q, None)]


@truth_of("jeffreys_divergence", units=33)
def of_jeffreys(g: Balls, p: Balls, q: Balls) -> Truth:
    gk = g[..., None]
    ratio = oracle.log(p / q)
    in_p, in_q = ratio + (p - q) / p, -ratio + (q - p) / q
    return [(oracle.total((p - q) * ratio), None), (gk * in_p, None), (gk * in_q, None)]


@truth_of("js_divergence", units=33)
def of_js(g: Balls, p: Balls, q: Balls) -> Truth:
    gk, m = g[..., None] / 2, (p + q) / 2
    value = (oracle.kl_divergence(p, m) + oracle.kl_divergence(q, m)) / 2
    return [(value, None), (gk * oracle.log(p / m), None), (gk * oracle.log(q / m), None)]


@truth_of("softmax_js_divergence", units=33)
def of_js_of_logits(g: Balls, u: Balls, v: Balls) -> Truth:
    return of_mixed_js(g, u, v, arb(0.5))[:3]


def of_mixed_js(g: Balls, u: Balls, v: Balls, mixture: Any) -> Truth:
    """About βp + (1 - β)q, β one number."""
    beta = mixture[()] if isinstance(mixture, np.ndarray) else mixture
    p, q = oracle.softmax(u), oracle.softmax(v)
    m = beta * p + (1 - beta) * q
    log_p, log_q = oracle.log(p / m), oracle.log(q / m)
    of_p, of_q = oracle.total(p * log_p), oracle.total(q * log_q)
    w = v - u
    spread = each_max(abs(w - oracle.total(p * w)[..., None]))[..., None]
    gk, a, b = g[..., None], beta * log_p, (1 - beta) * log_q
    in_u, in_v = p * (a - oracle.total(p * a)[..., None]), q * (b - oracle.total(q * b)[..., None])
    return [
        (beta * of_p + (1 - beta) * of_q, None),
        (gk * in_u, abs(gk) * p * spread),
        (gk * in_v, abs(gk) * q * spread),
        (np.array(sum(g * (of_p - of_q))), np.array(sum(abs(g) * (of_p + of_q)))),
    ]


@truth_of("softmax_brier_score", units=24)
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


@truth_of("sigmoid_focal_loss", units=32)
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
