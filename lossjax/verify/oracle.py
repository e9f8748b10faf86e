"""The textbook formulas in ball arithmetic, which the losses are checked against.

They are written as a textbook writes them, with no regard to floating point: at 256 bits they may cancel without harm,
and the balls enclose what is left of the error. Every function takes and returns object arrays of ``flint.arb`` (make
them with ``ulp.balls``); the class axis is the last. Infinite logits are taken to their limits.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import flint
import numpy as np
from flint import arb

from lossjax.verify.ulp import Balls

BITS = 256


@contextlib.contextmanager
def precision(bits: int = BITS) -> Iterator[None]:
    """Compute with ``bits`` bits inside."""
    before = flint.ctx.prec
    flint.ctx.prec = bits
    try:
        yield
    finally:
        flint.ctx.prec = before


def each(function: Callable[..., Any], *arrays: Balls) -> Balls:
    """Apply a scalar function entry by entry."""
    broadcast = np.broadcast_arrays(*arrays)
    flat = [function(*entries) for entries in zip(*(a.ravel() for a in broadcast), strict=True)]
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    return result.reshape(broadcast[0].shape)


def exp(x: Balls) -> Balls:
    """e^x, 0 at -inf."""
    return each(lambda v: arb(0) if v == arb("-inf") else v.exp(), x)


def log(x: Balls) -> Balls:
    """The natural logarithm, -inf at 0."""
    return each(lambda v: arb("-inf") if v == 0 else v.log(), x)


def xlogy(x: Balls, y: Balls) -> Balls:
    """x·log y with 0·log 0 = 0."""
    return each(lambda a, b: arb(0) if a == 0 else a * (arb("-inf") if b == 0 else b.log()), x, y)


def total(x: Balls) -> Balls:
    """The sum over the last axis."""
    return np.asarray(np.add.reduce(x, axis=-1), dtype=object)


def log_sum_exp(z: Balls) -> Balls:
    """``log Σ exp z``."""
    return log(total(exp(z)))


def softmax(z: Balls) -> Balls:
    """``exp z / Σ exp z``."""
    weights = exp(z)
    return weights / total(weights)[..., None]


def one_hot(labels: Any, classes: int) -> Balls:
    """Labels as distributions of exact balls."""
    hot = np.asarray(labels)[..., None] == np.arange(classes)
    return each(lambda h: arb(1) if h else arb(0), hot)


def softmax_cross_entropy(z: Balls, targets: Balls) -> tuple[Balls, Balls]:
    """Value ``Σ t (lse - z)`` and its gradient ``(Σt) p - t`` in the logits."""
    lse = log_sum_exp(z)[..., None]
    value = total(each(lambda t, d: arb(0) if t == 0 else t * d, targets, lse - z))
    return value, total(targets)[..., None] * softmax(z) - targets


def sigmoid_cross_entropy(z: Balls, targets: Balls) -> tuple[Balls, Balls]:
    """Value ``y log(1 + e^-z) + (1 - y) log(1 + e^z)`` and its gradient ``σ(z) - y``."""
    value = targets * log(1 + exp(-z)) + (1 - targets) * log(1 + exp(z))
    return value, 1 / (1 + exp(-z)) - targets


def entropy(p: Balls) -> Balls:
    """``-Σ p log p``."""
    return -total(xlogy(p, p))


def kl_divergence(p: Balls, q: Balls) -> Balls:
    """``Σ p log(p/q) - p + q``."""
    return total(xlogy(p, p) - xlogy(p, q) - p + q)


def softmax_kl_divergence(u: Balls, v: Balls) -> tuple[Balls, Balls, Balls]:
    """``KL(softmax u‖softmax v)`` and its gradients in u and v."""
    p, q = softmax(u), softmax(v)
    gap = log(p) - log(q)
    value = total(p * gap)
    return value, p * (gap - value[..., None]), q - p


def gaussian_nll(mean: Balls, targets: Balls, log_variance: Balls) -> tuple[Balls, Balls, Balls]:
    """Value, and gradients in the mean and the log-variance."""
    error = mean - targets
    precision_ = exp(-log_variance)
    value = ((2 * arb.pi()).log() + log_variance + error * error * precision_) / 2
    return value, error * precision_, (1 - error * error * precision_) / 2
