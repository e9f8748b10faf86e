"""Every public loss, one line each: how to draw its arguments, and what is true of them.

``draw(family, dtype)`` gives the arguments; ``truth(cotangent, *args)`` in ball arithmetic gives the value and one
cotangent a differentiable argument, each with the scale its error is measured against (None: the truth itself).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flint import arb

import lossjax
from lossjax._autodiff import plain_of
from lossjax.verify import oracle
from lossjax.verify.ulp import Balls

Truth = list[tuple[Balls, Balls | None]]
Draw = Callable[["Family", Any], tuple[np.ndarray, ...]]


@dataclasses.dataclass(frozen=True)
class Family:
    """A way of drawing inputs that something might go wrong with."""

    name: str
    rows: int = 7
    classes: int = 5
    scale: float = 1.0
    offset: float = 0.0
    ties: bool = False
    confident: bool = False

    def random(self) -> np.random.Generator:
        return np.random.default_rng(list(self.name.encode()))

    def logits(self, random: np.random.Generator, dtype: Any) -> np.ndarray:
        z = random.normal(size=(self.rows, self.classes)) * self.scale + self.offset
        if self.ties:
            z = np.round(z)
        return z.astype(dtype)

    def labels(self, random: np.random.Generator, logits: np.ndarray) -> np.ndarray:
        if self.confident:
            return np.argmax(logits.astype(np.float64), axis=-1)
        return random.integers(0, self.classes, self.rows)

    def probabilities(self, random: np.random.Generator, dtype: Any, near: np.ndarray | None = None) -> np.ndarray:
        """Dirichlet rows, sparse ones for a large scale; or rows at a relative distance 1e-3·scale from ``near``."""
        if near is not None:
            step = 1 + 1e-3 * self.scale * random.uniform(-1, 1, near.shape)
            p = near.astype(np.float64) * step
        else:
            p = random.dirichlet(np.full(self.classes, 1 / self.scale), size=self.rows)
        return (p / p.sum(-1, keepdims=True)).astype(dtype)


FAMILIES = (
    Family("normal"),
    Family("two classes", classes=2, rows=11),
    Family("one class", classes=1, rows=3),
    Family("one row", rows=1, classes=13),
    Family("small", scale=1e-3),
    Family("wide", scale=20.0, rows=9),
    Family("confident", scale=20.0, rows=9, confident=True),
    Family("offset", scale=3.0, offset=1e4),
    Family("negative offset", scale=3.0, offset=-1e4, confident=True),
    Family("ties", scale=1.5, ties=True, confident=True),
    Family("many", classes=257, rows=2, scale=4.0),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One loss with one set of options."""

    name: str
    loss: Callable[..., jax.Array]
    draw: Callable[[Family, Any], tuple[np.ndarray, ...]]
    argnums: tuple[int, ...]
    truth: Callable[..., Truth] | None = None
    units: float = 8.0
    """The error allowed, in u of the scale."""
    families: tuple[Family, ...] = FAMILIES
    per_row: bool = True
    """One output a row: the leading axis can be mapped over and split over devices."""

    @property
    def plain(self) -> Callable[..., jax.Array]:
        """The loss with its rules off."""
        return plain_of(self.loss)


# --- arguments -------------------------------------------------------------------------------------------------------


def labelled(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    z = f.logits(random, dtype)
    return z, f.labels(random, z).astype(np.int32)


def with_targets(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    return f.logits(random, dtype), f.probabilities(random, dtype)


def one_logits(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    return (f.logits(f.random(), dtype),)


def two_logits(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    """Close to each other at small scales, far apart at large ones."""
    random = f.random()
    z = f.logits(random, dtype)
    step = random.normal(size=z.shape) * min(f.scale, 3.0) * 0.1
    return z, (z.astype(np.float64) + step).astype(dtype)


def binary(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    z = f.logits(random, dtype)
    y = random.uniform(size=z.shape)
    return z, np.where(y < 0.3, 0, np.where(y > 0.7, 1, y)).astype(dtype)


def one_p(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    return (f.probabilities(f.random(), dtype),)


def two_p(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    p = f.probabilities(random, dtype)
    return p, f.probabilities(random, dtype, near=p if f.scale < 1 else None)


def regression(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    return f.logits(random, dtype), f.logits(random, dtype)


def gaussian(f: Family, dtype: Any) -> tuple[np.ndarray, ...]:
    random = f.random()
    return (*(f.logits(random, dtype) for _ in range(2)), random.normal(size=(f.rows, f.classes)).astype(dtype))


def and_weights(draw: Draw) -> Draw:
    return lambda f, dtype: (*draw(f, dtype), f.random().uniform(0.5, 2, f.classes).astype(dtype))


def and_positive(draw: Draw) -> Draw:
    return lambda f, dtype: (*draw(f, dtype), f.random().uniform(0.5, 2, (f.rows, f.classes)).astype(dtype))


def and_numbers(draw: Draw, *numbers: float) -> Draw:
    return lambda f, dtype: (*draw(f, dtype), *(np.asarray(n, dtype) for n in numbers))


def and_tunable(draw: Draw) -> Draw:
    return and_numbers(and_weights(draw), 1e-2, 4.0, 1.7)


def bound(loss: Callable[..., Any], *names: str, **options: Any) -> Callable[..., jax.Array]:
    """The loss with options fixed, and those in ``names`` as further arguments; its plain form likewise."""

    def of(function: Callable[..., Any]) -> Callable[..., jax.Array]:
        return lambda *args: function(*args[:2], **dict(zip(names, args[2:], strict=True)), **options)

    result = of(loss)
    result.plain = of(plain_of(loss))  # pyright: ignore[reportFunctionMemberAccess]  # functions take attributes
    return result


# --- truths ----------------------------------------------------------------------------------------------------------


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


# --- the losses ------------------------------------------------------------------------------------------------------

PROBABILITIES = tuple(f for f in FAMILIES if f.offset == 0 and not f.ties and f.scale <= 4)

CASES = (
    Case("softmax_cross_entropy_with_integer_labels", lossjax.softmax_cross_entropy_with_integer_labels, labelled, (0,), of_labels),
    Case("softmax_cross_entropy", lossjax.softmax_cross_entropy, with_targets, (0, 1), of_targets, 13),
    Case("sigmoid_cross_entropy", lossjax.sigmoid_cross_entropy, binary, (0, 1), of_binary),
    Case("softmax", lossjax.softmax, one_logits, (0,), of_softmax, 16),
    Case("log_softmax", lossjax.log_softmax, one_logits, (0,), of_log_softmax, 13),
    Case("logsumexp", lossjax.logsumexp, one_logits, (0,), of_logsumexp),
    Case("softmax_entropy", lossjax.softmax_entropy, one_logits, (0,), of_entropy_of_logits, 33),
    Case("softmax_kl_divergence", lossjax.softmax_kl_divergence, two_logits, (0, 1), of_kl_of_logits, 33),
    Case("self_information", lossjax.self_information, one_p, (0,), of_self_information, 10, PROBABILITIES),
    Case("entropy", lossjax.entropy, one_p, (0,), of_entropy, 16, PROBABILITIES),
    Case("cross_entropy", lossjax.cross_entropy, two_p, (0, 1), of_cross_entropy, 32, PROBABILITIES),
    Case("kl_divergence", lossjax.kl_divergence, two_p, (0, 1), of_kl, 33, PROBABILITIES),
    Case("jeffreys_divergence", lossjax.jeffreys_divergence, two_p, (0, 1), of_jeffreys, 33, PROBABILITIES),
    Case("js_divergence", lossjax.js_divergence, two_p, (0, 1), of_js, 33, PROBABILITIES),
    Case("squared_error", lossjax.squared_error, regression, (0, 1), of_squared_error, 3),
    Case("mean_squared_error", lossjax.mean_squared_error, regression, (0, 1), of_mean_squared_error, 16, per_row=False),
    Case("gaussian_nll", bound(lossjax.gaussian_nll, "log_variance"), gaussian, (0, 1, 2), of_gaussian, 8),
)  # fmt: skip

_LABEL = lossjax.softmax_cross_entropy_with_integer_labels
_TARGET = lossjax.softmax_cross_entropy
_ALL = {"label_smoothing": 0.1, "reduction": "mean", "ignore_index": 2}
_TUNABLE = ("class_weights", "z_loss", "logit_softcap", "temperature")

OPTION_CASES = (
    Case("labels, smoothing", bound(_LABEL, label_smoothing=0.1), labelled, (0,)),
    Case("labels, smoothing over others", bound(_LABEL, label_smoothing=0.2, smoothing="others"), labelled, (0,)),
    Case("labels, weights", bound(_LABEL, "class_weights"), and_weights(labelled), (0, 2), per_row=False),
    Case("labels, z-loss", bound(_LABEL, "z_loss"), and_numbers(labelled, 1e-2), (0, 2), per_row=False),
    Case("labels, softcap", bound(_LABEL, "logit_softcap"), and_numbers(labelled, 4.0), (0, 2), per_row=False),
    Case("labels, temperature", bound(_LABEL, "temperature"), and_numbers(labelled, 1.7), (0, 2), per_row=False),
    Case("labels, all", bound(_LABEL, *_TUNABLE, **_ALL), and_tunable(labelled), (0, 2, 3, 4, 5), per_row=False),
    Case("targets, smoothing", bound(_TARGET, label_smoothing=0.1), with_targets, (0, 1)),
    Case("targets, all", bound(_TARGET, *_TUNABLE, label_smoothing=0.1, reduction="mean"), and_tunable(with_targets), (0, 1, 2, 3, 4, 5), per_row=False),
    Case("sigmoid, pos_weight", bound(lossjax.sigmoid_cross_entropy, "pos_weight", label_smoothing=0.1), and_numbers(binary, 2.5), (0, 1, 2), per_row=False),
    Case("mean squared error, weights", bound(lossjax.mean_squared_error, "weights"), and_positive(regression), (0, 1, 2), per_row=False),
)  # fmt: skip
"""Options, whose truth has no oracle of its own here: rule against plain formula, and every transformation."""
