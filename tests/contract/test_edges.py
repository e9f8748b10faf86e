"""The edge matrix: what every loss and its gradients are at infinities, NaN, ties, zeros, and parameters' ends.

Numbers come from the mathematics: limits where they exist, NaN where they do not. H is near the largest float.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax

INF, NAN, LOG2, ROOT = math.inf, math.nan, math.log(2), 0.5 * math.log(2 * math.pi)
H = 0.875 * float(np.finfo(np.float32).max)
NO = None
"""Undefined: the value is NaN, and every gradient of that row has a NaN."""
Row = tuple[tuple[Any, ...], Any, tuple[Any, ...] | None]
"""Arguments; value; one gradient a differentiable argument."""


class Lines(NamedTuple):
    """The edges of one loss with one set of options."""

    name: str
    rows: list[Row]
    options: dict[str, Any] | None = None
    names: tuple[str, ...] = ()
    """The arguments that are passed by name, the last ones."""
    units: float = 16
    absolute: float = 0
    """What is allowed in u beside units·u of the number itself, where terms are subtracted."""


# --- the limits of a row of logits -----------------------------------------------------------------------------------

LOGITS: list[tuple[list[float], int]] = [
    ([1, 2, -INF], 0), ([1, 2, -INF], 2), ([-INF, 3, -INF], 1), ([-INF, -INF, -INF], 0), ([NAN, 1, 2], 0),
    ([1, NAN, -INF], 0), ([INF, NAN, 0], 0), ([INF, 1, 2], 0), ([1, INF, 2], 0), ([INF, -INF, 0], 1),
    ([INF, 1, INF], 0), ([INF, 1, INF], 1), ([INF, INF, INF], 1), ([0, -0.0, 0], 1), ([H, H, -H], 1), ([-H, -H, -H], 0),
    ([1, 2, 3], -1), ([1, 2, 3], 3), ([1, 2, 3], 2**31 - 1), ([88, -88, 0], 1), ([1e4, -1e4, 16.75], 0),
    ([H, -H, -INF], 0), ([H, -H, -INF], 1), ([H, 0, -INF], 1), ([-H, 0, -INF], 1), ([1e-40, 0, -INF], 0),
    ([H, H, -INF], 0),
    ([7], 0), ([H], 0), ([-H], 0), ([INF], 0), ([-INF], 0), ([NAN], 0), ([7], 1), ([7], -1),
]  # fmt: skip


def limit(z: Any) -> tuple[np.ndarray, np.ndarray]:
    """Surprisals and probabilities; NaN for a row with NaN, two +inf, or nothing but -inf."""
    row = np.asarray(z, np.float64)
    if np.isnan(row).any() or row.max() == -INF or (row == INF).sum() > 1:
        return row * NAN, row * NAN
    if row.max() == INF:
        return np.where(row == INF, 0, INF), np.where(row == INF, 1.0, 0.0)
    gap, top = row.max() - row, int(np.argmax(row))
    rest = np.exp(-np.delete(gap, top)).sum()
    return gap + np.log1p(rest), np.exp(-gap) / (1 + rest)


def dot(p: Any, x: Any) -> float:
    return float(np.sum(p * np.where(np.asarray(p) == 0, 0, x)))


def fisher(p: np.ndarray, v: Any) -> np.ndarray:
    """J(p) v; classes of probability 0 count as nothing."""
    return p * (np.where(p == 0, 0, v) - dot(p, v))


def less_one(p: np.ndarray, c: int) -> np.ndarray:
    """p - e_c."""
    return np.where(np.arange(len(p)) == c, -np.delete(p, c).sum(), p)


def of_logits(of: Callable[..., tuple[Any, ...]]) -> list[Row]:
    """``of(surprisals, p)`` gives the value and the gradient."""
    rows = [((z,), *limit(z)) for z, _ in LOGITS]
    return [(z, (out := of(h, p))[0], NO if np.isnan(p[0]) else out[1:]) for z, h, p in rows]


def of_labels(of: Callable[..., tuple[Any, Any]]) -> list[Row]:
    """``of(surprisals, p, label)`` gives value and gradient."""
    rows: list[Row] = []
    for z, c in LOGITS:
        h, p = limit(z)
        bad = not 0 <= c < len(z) or np.isnan(p[0])
        rows.append(((z, c), NAN, NO) if bad else ((z, c), (out := of(h, p, c))[0], (out[1],)))
    return rows


def of_targets(of: Callable[..., tuple[Any, Any, Any]]) -> list[Row]:
    """``of(surprisals, p, targets)`` gives value and both gradients."""
    rows: list[Row] = []
    for z, _ in LOGITS:
        n = len(z)
        for t in (np.zeros(n), np.eye(n)[0], np.linspace(0.25, 1, n), np.append(np.full(n - 1, 2.0), 0)):
            value, *slopes = of(*limit(z), t)
            rows.append(((z, t), value, NO if np.isnan(limit(z)[1][0]) else tuple(slopes)))
    return rows


def surprise(F: Callable[[float, float], tuple[float, float]]) -> list[Row]:
    """A loss F(h) of the label's surprisal: gradient F'(h) (p - e_c)."""
    return of_labels(lambda h, p, c: ((out := F(h[c], p[c]))[0], out[1] * less_one(p, c)))


def focal(gamma: float) -> list[Row]:
    def of(h: float, p: float) -> tuple[float, float]:
        m = -math.expm1(-h)
        return m**gamma * h, m**gamma * (1 + gamma * (0.0 if h == INF else h * p / m if m else 1.0))

    return surprise(of)


def cross_entropy(h: np.ndarray, p: np.ndarray, t: np.ndarray) -> tuple[Any, Any, Any]:
    return dot(t, h), less_one(p, 0) if t[0] == 1 and t.sum() == 1 else t.sum() * p - t, h


def brier(h: np.ndarray, p: np.ndarray, t: Any) -> tuple[Any, ...]:
    r = p - t if np.ndim(t) else less_one(p, t)
    return np.sum(r * r), 2 * fisher(p, r), -2 * r


def margins() -> dict[str, list[Row]]:
    """Rivals are the first largest; one class has none."""
    n, o, a, b = INF, [0, 0, 0], [1, -1, 0], [-1, 1, 0]
    table: list[Any] = [  # logits, label: value and gradient of hinge, perceptron, sparsemax
        ([1, 2, -n], 0, 2, b, 1, b, 1, b), ([1, 2, -n], 2, n, [0, 1, -1], n, [0, 1, -1], n, [0, 1, -1]),
        ([-n, 3, -n], 1, 0, o, 0, o, 0, o), ([n, 1, 2], 0, 0, o, 0, o, 0, o), ([1, n, 2], 0, n, b, n, b, n, b),
        ([n, -n, 0], 1, n, a, n, a, n, a), ([0, -0.0, 0], 1, 1, a, 0, o, 1 / 3, [1 / 3, -2 / 3, 1 / 3]),
        ([H, H, -H], 1, 1, a, 0, o, 0.25, [0.5, -0.5, 0]), ([H, -H, -n], 0, 0, o, 0, o, 0, o),
        ([H, 0, -n], 1, H, a, H, a, H, a), ([H, -H, -n], 1, n, a, n, a, n, a),
        ([7], 0, 0, [0], 0, [0], 0, [0]), ([H], 0, 0, [0], 0, [0], 0, [0]),
        *[(z, c, NAN, NO, NAN, NO, NAN, NO) for z, c in (
            ([-n] * 3, 0), ([n, 1, n], 0), ([NAN, 1, 2], 0), ([1, NAN, -n], 0), ([n, NAN, 0], 0), ([1, 2, 3], -1),
            ([1, 2, 3], 3), ([1, 2, 3], 2**31 - 1), ([7], 1), ([NAN], 0),
        )],
    ]  # fmt: skip
    names = ("multiclass_hinge_loss", "multiclass_perceptron_loss", "multiclass_sparsemax_loss")
    return {
        name: [((z, c), x[i], NO if x[i + 1] is NO else (x[i + 1],)) for z, c, *x in table]
        for name, i in zip(names, (0, 2, 4), strict=True)
    }


def divergences() -> dict[str, list[Row]]:
    """Of two rows of logits. Where q alone lacks a class, KL's slope in u is +inf there and -inf beside it."""
    n, (_, p3), (_, p2), third, zero = INF, limit([1, 2, 0]), limit([1, 2, -INF]), np.full(3, 1 / 3), np.zeros(3)
    m = np.log(np.divide(p2, (p2 + p3) / 2, where=p2 > 0, out=np.ones(3))) / 2, np.log(2 * p3 / (p2 + p3)) / 2
    js, slopes = dot(p2, m[0]) + dot(p3, m[1]), (fisher(p2, m[0]), fisher(p3, m[1]))
    nothing = (0, zero, zero, 0, zero, zero)
    table: list[Any] = [  # u, v: value and gradients of KL, of JS
        ([1, 2, -n], [1, 2, -n], *nothing), ([1, 2, -n], [1, 2, 0], -math.log1p(-p3[2]), zero, p3 - p2, js, *slopes),
        ([1, 2, 0], [1, 2, -n], n, [-n, -n, n], p2 - p3, js, *slopes[::-1]), ([n, 0, 0], [n, 1, 2], *nothing),
        ([n, 0, 0], [0, 0, 0], math.log(3), zero, less_one(third, 0), math.log(1.5) / 2 + LOG2 / 6, zero,
         fisher(third, np.array([-LOG2, LOG2, LOG2]) / 2)),
        ([5, 5, 5], [-7, -7, -7], *nothing), ([H, H, -n], [-H, -H, -n], *nothing), ([H, -H, -n], [H, -H, -n], *nothing),
        *[(u, v, kl, zero, [-1, 1, 0], LOG2, zero, zero) for u, v, kl in (
            ([H, -H, -n], [-H, H, -n], n), ([0, -n, -n], [-n, 0, -n], n), ([1e4, 0, -n], [0, 1e4, -n], 1e4),
            ([1e19, 0, -1e19], [0, 1e19, 0], 1e19), ([0, -H, -n], [-H, 0, -n], H),
        )],
        ([H], [-H], 0, [0], [0], 0, [0], [0]),
        *[(u, v, NAN, NO, NO, NAN, NO, NO) for u, v in (
            ([NAN, 0, 0], [0, 0, 0]), ([0, 0, 0], [0, NAN, 0]), ([-n] * 3, [0, 0, 0]), ([0, 0, 0], [n, n, 0]),
            ([0, 0, 88], [0, NAN, 0]),
        )],
    ]  # fmt: skip
    names = {"softmax_kl_divergence": 0, "softmax_js_divergence": 3}
    return {
        name: [((u, v), x[i], NO if x[i + 1] is NO else (x[i + 1], x[i + 2])) for u, v, *x in table]
        for name, i in names.items()
    }


def flat(*table: tuple[float, ...], arguments: int) -> list[Row]:
    """Lines of numbers: arguments, value, gradients; NaN for all if the value is."""
    return [(t[:arguments], t[arguments], NO if np.isnan(t[arguments]) else t[arguments + 1 :]) for t in table]


def regression(*table: tuple[float, ...], arguments: int) -> list[Row]:
    """Lines of numbers, and what no error has: NaN, and two equal infinities."""
    ends = (1.0,) * (arguments - 2)
    return flat(*table, (NAN, 0, *ends, NAN), (0, NAN, *ends, NAN), (INF, INF, *ends, NAN), arguments=arguments)


def probabilities(*rows: Row, slack: bool = True) -> list[Row]:
    """Two distributions, and what is none."""
    bad: list[Any] = [([NAN, 0], [1, 0]), ([1, 0], [1, NAN]), ([1, 0], [1, -1]), ([-1, 0], [1, 0]), ([0, 1], [NAN, 1])]
    return [*rows, (([1], [1]), 0, ([0], [0]) if slack else ([0], [-1])), *[(pair, NAN, NO) for pair in bad]]


def ramp(p: np.ndarray) -> np.ndarray:
    return np.arange(1.0, len(p) + 1)


def first(z: list[float], c: int) -> Row:
    bad = np.isnan(z).any() or not 0 <= c < len(z)
    return (z, c), NAN if bad else float(np.argmax(z) == c), ([0] * len(z),)


def hessian(rows: list[Row]) -> list[Row]:
    return [((z, c, ramp(z)), value, slopes) for (z, c), value, slopes in rows]


LOGPI, C1, G1 = math.log(math.pi), 0.5 - LOG2, 1.489384e18  # G1 = 1e-60 e^180
MATRIX = (
    Lines("softmax_cross_entropy_with_integer_labels", surprise(lambda h, p: (h, 1)), units=8),
    Lines("softmax_cross_entropy", of_targets(cross_entropy), units=33, absolute=64),
    Lines("softmax_focal_loss", focal(2.0), units=32), Lines("softmax_focal_loss", focal(0.0), {"gamma": 0.0}),
    Lines("poly_cross_entropy", surprise(lambda h, p: (h - 2 * math.expm1(-h), 1 + 2 * p))),
    Lines("poly_cross_entropy", surprise(lambda h, p: (h + math.expm1(-h), -math.expm1(-h))), {"epsilon": -1.0}),
    Lines("generalized_cross_entropy", surprise(lambda h, p: (-math.expm1(-0.7 * h) / 0.7, p**0.7)), units=24),
    Lines("generalized_cross_entropy", surprise(lambda h, p: (-math.expm1(-h), p)), {"q": 1.0}, units=24),
    Lines("softmax_brier_score", of_labels(lambda h, p, c: brier(h, p, c)[:2]), units=24),
    Lines("softmax_brier_score", of_targets(brier), {"axis": 1}, units=24, absolute=64),
    Lines("softmax", of_logits(lambda h, p: (p, fisher(p, ramp(p)))), absolute=48),
    Lines("log_softmax", of_logits(lambda h, p: (-h, ramp(p) - ramp(p).sum() * p)), absolute=96),
    Lines("logsumexp", [((z,), max(z) + min(limit(z)[0]),
        NO if np.isnan(limit(z)[1][0]) else (limit(z)[1],)) for z, _ in LOGITS]),
    Lines("softmax_entropy", of_logits(lambda h, p: (dot(p, h), fisher(p, h))), units=33, absolute=16),
    Lines("softmax_cross_entropy_hvp", hessian(of_labels(lambda h, p, c: (fisher(p, ramp(p)),) * 2)), absolute=48),
    Lines("accuracy", [first(*row) for row in LOGITS], {"reduction": "none"}),
    *[Lines(name, rows) for name, rows in margins().items()],
    *[Lines(name, rows, units=33, absolute=33) for name, rows in divergences().items()],
    Lines("sigmoid_cross_entropy", flat(
        (INF, 1, 0, 0, -INF), (INF, 0, INF, 1, -INF), (-INF, 0, 0, 0, INF), (-INF, 1, INF, -1, INF), (H, 0, H, 1, -H),
        (INF, 0.5, INF, 0.5, -INF), (H, 1, 0, 0, -H), (0, 0.5, LOG2, 0, 0), (NAN, 0, NAN), (NAN, 1, NAN), arguments=2)),
    Lines("sigmoid_cross_entropy", flat(
        (-INF, 1, 0, 0, 0, 0, INF), (5, 1, 0, 0, 0, -math.log1p(math.exp(5)), math.log1p(math.exp(-5))),
        (INF, 0, 0, INF, 1, -INF, 0), (INF, 1, 2, 0, 0, -INF, 0), (NAN, 0, 0, NAN), arguments=3),
        names=("pos_weight",)),
    Lines("sigmoid_focal_loss", flat(
        (INF, 1, 2, 0, 0, 0, 0), (-INF, 0, 2, 0, 0, 0, 0), (INF, 0, 2, INF, 1, -INF, 0), (-INF, 1, 2, INF, -1, INF, 0),
        (-H, 0, 2, 0, 0, 0, 0), (H, 0, 2, H, 1, -INF, 0), (INF, 1, 0, 0, 0, -INF, 0), (-INF, 1, 0, INF, -1, INF, 0),
        (0, 1, 0, LOG2, -0.5, 0, -LOG2 * LOG2), (NAN, 0, 2, NAN), (NAN, 1, 2, NAN), (0, NAN, 2, NAN), arguments=3),
        names=("gamma",)),
    Lines("squared_error", regression(
        (0, -0.0, 0, 0, 0), (INF, 0, INF, INF, -INF), (-INF, 0, INF, -INF, INF), (INF, -INF, INF, INF, -INF),
        (H, -H, INF, INF, -INF), (1e30, 0, INF, 2e30, -2e30), arguments=2)),
    Lines("huber_loss", regression(
        (0, 0, 1, 0, 0, 0, 0), (INF, 0, 1, INF, 1, -1, INF), (-INF, 0, 1, INF, -1, 1, INF), (H, -H, 1, INF, 1, -1, INF),
        (1, 0, 1, 0.5, 1, -1, 0), (3, 0, 1e-30, 3e-30, 1e-30, -1e-30, 3), (3, 0, H, 4.5, 3, -3, 0),
        (3, 0, INF, 4.5, 3, -3, 0), (2.5e19, 0, 2e19, 3e38, 2e19, -2e19, 5e18), arguments=3), names=("delta",)),
    Lines("log_cosh", regression(
        (0, 0, 0, 0, 0), (INF, 0, INF, 1, -1), (-INF, 0, INF, -1, 1), (H, -H, INF, 1, -1), (H, 0, H, 1, -1),
        (1e-30, 0, 0, 1e-30, -1e-30), arguments=2)),
    Lines("quantile_loss", regression(
        (0, 0, 0.5, 0, 0, 0, 0), (INF, 0, 0.5, INF, 0.5, -0.5, -INF), (-INF, 0, 0.5, INF, -0.5, 0.5, INF),
        (2, 0, 1, 0, 0, 0, -2), (2, 0, 0, 2, 1, -1, -2), (-2, 0, 1, 2, -1, 1, 2), (-2, 0, 0, 0, 0, 0, 2),
        (INF, 0, 1, 0, 0, 0, -INF), (-INF, 0, 0, 0, 0, 0, INF), (H, -H, 0.5, H, 0.5, -0.5, -INF), arguments=3),
        names=("level",)),
    Lines("gaussian_nll", regression(
        (0, 0, 0, ROOT, 0, 0, 0.5), (INF, 0, 0, INF, INF, -INF, -INF), (H, -H, 0, INF, INF, -INF, -INF),
        (0, 0, -1e4, ROOT - 5e3, 0, 0, 0.5), (1, 0, 1e4, ROOT + 5e3, 0, 0, 0.5), (0, 0, -INF, -INF, 0, 0, 0.5),
        (1, 0, INF, INF, 0, 0, 0.5), (1, 0, -INF, INF, INF, -INF, -INF), (1e-30, 0, -180, G1 / 2, INF, -INF, -G1 / 2),
        (1e38, 0, 180, ROOT + 90 + 5e15 / G1, 0, 0, 0.5 - 5e15 / G1), arguments=3), names=("log_variance",)),
    Lines("laplace_nll", regression(
        (0, 0, 0, LOG2, 0, 0, 1), (INF, 0, 0, INF, 1, -1, -INF), (-INF, 0, 0, INF, -1, 1, -INF),
        (H, -H, 0, INF, 1, -1, -INF), (0, 0, -1e4, LOG2 - 1e4, 0, 0, 1), (1, 0, 1e4, LOG2 + 1e4, 0, 0, 1),
        (0, 0, -INF, -INF, 0, 0, 1), (1, 0, INF, INF, 0, 0, 1), (1, 0, -INF, INF, INF, -INF, -INF),
        (1e-30, 0, -90, G1**0.5, INF, -INF, -(G1**0.5)),
        (1e38, 0, 90, LOG2 + 90 + 1e8 / G1**0.5, 0, 0, 1 - 1e8 / G1**0.5), arguments=3), names=("log_scale",)),
    Lines("student_t_nll", flat(
        (0, 0, 1, 0, LOGPI, 0, 0, C1, 1), (INF, 0, 1, 0, INF, 0, 0, INF, -1), (-INF, 0, 1, 0, INF, 0, 0, INF, -1),
        (1, 0, 1, -200, LOGPI + 200, 2, -2, 199 + C1, -1), (1, 0, 1, 200, LOGPI + 200, 0, 0, C1, 1),
        (H, -H, 1, 0, LOGPI + 2 * math.log(2 * H), 0, 0, math.log(2 * H) - 1 + C1, -1),
        (0, 0, 1, INF, INF, 0, 0, C1, 1),
        (1, 0, 1, -INF, INF, 2, -2, INF, -1), (NAN, 0, 1, 0, NAN), (INF, INF, 1, 0, NAN), arguments=4),
        names=("degrees_of_freedom", "log_scale")),
    Lines("poisson_nll", flat(
        (0, 0, 1, 1, 0), (-INF, 0, 0, 0, INF), (-INF, 1, INF, -1, INF), (INF, 0, INF, INF, -INF), (H, 2, INF, INF, -H),
        (INF, 1, INF, INF, -INF), (-H, 2, INF, -2, H), (NAN, 0, NAN), (0, -1, NAN), arguments=2)),
    Lines("poisson_nll", flat((0, 3, 1 + math.log(6), -2, 11 / 6 - np.euler_gamma), (0, -1, NAN), (NAN, 0, NAN),
        arguments=2), {"full": True}, units=64),
    Lines("hinge_loss", flat((INF, 1, 0, 0, 0), (-INF, 1, INF, -1, INF), (1, 1, 0, 0, 0), (0, 1, 1, -1, 0),
        (H, -1, H, 1, -H), (NAN, 1, NAN), arguments=2)),
    Lines("perceptron_loss", flat((INF, 1, 0, 0, 0), (-INF, 1, INF, -1, INF), (0, 1, 0, 0, 0), (-0.0, -1, 0, 0, 0),
        (H, -1, H, 1, -H), (NAN, 1, NAN), arguments=2)),
    Lines("sparsemax_loss", flat((INF, 1, 0, 0), (-INF, 1, INF, -1), (INF, 0, INF, 1), (1, 1, 0, 0), (-1, 1, 1, -1),
        (0, 1, 0.25, -0.5), (-H, 1, H, -1), (NAN, 1, NAN), (1, 2, NAN), (1, -1, NAN), arguments=2)),
    Lines("self_information", flat((0, INF, -INF), (-0.0, INF, -INF), (1, 0, -1), (0.5, LOG2, -2), (NAN, NAN),
        (1.5, NAN), (-0.5, NAN), (INF, NAN), arguments=1)),
    Lines("entropy", [
        (([0.5, 0.5],), LOG2, ([LOG2 - 1] * 2,)), (([1, 0],), 0, ([-1, INF],)), (([-0.0, 1],), 0, ([INF, -1],)),
        (([1],), 0, ([-1],)), *[((p,), NAN, NO) for p in ([NAN, 0.5], [-0.5, 1], [1.5, 0], [NAN])]]),
    Lines("cross_entropy", probabilities(
        (([0.5, 0.5, 0], [0.5, 0.5, 0]), LOG2, ([LOG2, LOG2, INF], [-1, -1, 0])), (([1, 0], [1, 0]),
        0, ([0, INF], [-1, 0])),
        (([1, 0], [0, 1]), INF, ([INF, 0], [-INF, 0])), (([0, 1], [0.5, 0.5]), LOG2, ([LOG2, LOG2], [0, -2])),
        slack=False), units=32),
    Lines("kl_divergence", probabilities(
        (([0.5, 0.5, 0], [0.5, 0.5, 0]), 0, ([0, 0, 0], [0, 0, 1])), (([1, 0], [0, 1]), INF, ([INF, -INF], [-INF, 1])),
        (([0, 1], [0.5, 0.5]), LOG2, ([-INF, LOG2], [1, -1]))), units=33),
    Lines("jeffreys_divergence", probabilities(
        (([0.5, 0.5], [0.5, 0.5]), 0, ([0, 0], [0, 0])), (([1, 0], [0, 1]), INF, ([INF, -INF], [-INF, INF])),
        (([0, 1], [0.5, 0.5]), INF, ([-INF, LOG2 + 0.5], [INF, -1 - LOG2]))), units=33),
    Lines("js_divergence", probabilities(
        (([0.5, 0.5, 0], [0.5, 0.5, 0]), 0, ([0, 0, 0], [0, 0, 0])),
        (([1, 0], [0, 1]), LOG2, ([LOG2 / 2, -INF], [-INF, LOG2 / 2]))), units=33),
    *[Lines(name, [
        (([0, 0], [1, 2]), one, ([0, 0], [0, 0])), (([0, 0], [0, -0.0]), one, ([0, 0], [0, 0])),
        (([3, 4], [3, 4]), 1 - one, ([0, 0], [0, 0])), (([1, 0], [0, 1]), one, ([0, sign], [sign, 0])),
        (([H, 0], [1, 0]), 1 - one, ([0, 0], [0, 0])), (([H, H], [H, -H]), one, ([0, 0], [0, 0])),
        (([3, 0], [-2, 0]), 3 * one - 1, ([0, 0], [0, 0])), (([NAN, 1], [1, 0]), NAN, NO), (([1, 0], [0, NAN]),
        NAN, NO),
    ], absolute=8) for name, one, sign in (("cosine_similarity", 0, 1), ("cosine_distance", 1, -1))],
)  # fmt: skip


def call(line: Lines, *args: jax.Array, **more: Any) -> jax.Array:
    split = len(args) - len(line.names)
    named = dict(zip(line.names, args[split:], strict=True))
    return getattr(lossjax, line.name)(*args[:split], **{**(line.options or {}), **named, **more})


def pulled(line: Lines, args: tuple[jax.Array, ...], **more: Any) -> tuple[jax.Array, ...]:
    """The value, and its gradients; the classes of a row output have the cotangents 1, 2, 3 …"""
    first = 2 if line.name == "softmax_cross_entropy_hvp" else 0
    moving = [i for i, a in enumerate(args) if a.dtype == jnp.float32 and i >= first]

    def of(*floats: jax.Array) -> jax.Array:
        given = dict(zip(moving, floats, strict=True))
        return call(line, *[given.get(i, a) for i, a in enumerate(args)], **more)

    value, pullback = jax.vjp(of, *[args[i] for i in moving])
    cotangent = jnp.arange(1, value.shape[-1] + 1) if value.ndim > 1 else jnp.ones(())
    return value, *pullback(jnp.broadcast_to(cotangent, value.shape).astype(value.dtype))


def groups(line: Lines) -> list[tuple[list[Row], tuple[jax.Array, ...]]]:
    """Rows of one width, and their arguments as a batch."""
    result = []
    for width in sorted({np.shape(args[0]) for args, _, _ in line.rows}, reverse=True):
        rows = [row for row in line.rows if np.shape(row[0][0]) == width]
        columns = [np.array(column) for column in zip(*[row[0] for row in rows], strict=True)]
        labels = line.name == "sparsemax_loss" or (len(columns) > 1 and columns[1].ndim < columns[0].ndim)
        integer = [labels and i == 1 for i in range(len(columns))]
        result.append(
            (
                rows,
                tuple(jnp.asarray(c, jnp.int32 if k else jnp.float32) for c, k in zip(columns, integer, strict=True)),
            )
        )
    return result


def right(line: Lines, got: np.ndarray, want: Any) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        target = np.asarray(want, np.float64).astype(np.float32)
        flushed = 128 * float(np.finfo(np.float32).tiny)  # a probability XLA takes for 0, times its surprisal
        size = line.units * np.abs(target, dtype=np.float64) + line.absolute
        near = np.isfinite(target) & (np.abs(got - target, dtype=np.float64) <= 2.0**-24 * size + flushed)
    return got.shape == target.shape and bool((near | (got == target) | (np.isnan(got) & np.isnan(target))).all())


def faults(line: Lines, rows: list[Row], results: list[np.ndarray]) -> list[str]:
    found: list[str] = []
    for i, (args, value, slopes) in enumerate(rows):
        got, *gradients = (r[i] for r in results)
        if not right(line, got, np.full(got.shape, NAN) if slopes is NO else value):
            found.append(f"{line.name}{args}, {line.options}: value {got}, want {value}")
        for k, slope in enumerate(gradients):
            if not (np.isnan(slope).any() if slopes is None else right(line, slope, slopes[k])):
                found.append(f"{line.name}{args}, {line.options}: gradient {k} {slope}, want {slopes and slopes[k]}")
    return found


def takes(line: Lines, option: str) -> bool:
    return option in inspect.signature(getattr(lossjax, line.name)).parameters and "cosine" not in line.name


@pytest.mark.parametrize("line", MATRIX, ids=lambda x: f"{x.name}, {x.options}" if x.options else x.name)
def test_edges(line: Lines) -> None:
    """The edges of one width in one batch: a row feels neither the rows beside it nor what a mask hides."""
    found: list[str] = []
    masks = takes(line, "where")
    jitted = jax.jit(lambda args, where: pulled(line, args, **({"where": where} if masks else {})))
    for rows, args in groups(line):
        whole = [np.asarray(x) for x in jitted(args, jnp.ones(len(rows), bool))]
        found += faults(line, rows, whole)
        if args[0].shape[1:] != (1,):  # eager runs are slow: not for one class as well
            for a, b in zip(map(np.asarray, pulled(line, args)), whole, strict=True):
                special = ~np.isfinite(a) | ~np.isfinite(b)
                assert np.array_equal(a[special], b[special], equal_nan=True), f"{line.name}: eager {a}, jit {b}"
        for start in (0, 1) if masks else ():
            kept = np.arange(len(rows)) % 2 == start
            for got, want in zip(map(np.asarray, jitted(args, jnp.asarray(kept))), whole, strict=True):
                assert not got[~kept].any(), f"{line.name}: masked rows have {got}"
                assert np.array_equal(got[kept], want[kept], equal_nan=True)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line", {line.name: line for line in MATRIX}.values(), ids=lambda x: x.name)
def test_nothing(line: Lines) -> None:
    """Without rows there are no numbers; a mean over nothing, or nothing but masked rows, is 0 with zero gradient."""
    args = groups(line)[0][1]
    none = tuple(a[:0] for a in args)
    if not takes(line, "reduction"):
        assert not any(x.size for x in jax.jit(lambda *a: pulled(line, a))(*none))
        return
    for some in (none, args):
        results = jax.jit(lambda *a: pulled(line, a, reduction="mean", where=jnp.zeros(len(a[0]), bool)))(*some)
        assert not any(np.any(x) for x in results)


def test_mean_squared_error() -> None:
    none, far = jnp.zeros((0, 2)), jnp.float32([INF, NAN, 1])
    loss = jax.value_and_grad(lossjax.mean_squared_error, (0, 1))
    assert loss(none, none)[0] == 0
    value, slopes = loss(far[::2], jnp.zeros(2))
    assert value == INF
    assert np.array_equal(slopes, [[INF, 1], [-INF, -1]])
    assert np.isnan(loss(far, far)[0])
    for kept, want, slope in (([False] * 3, 0, 0), ([False, False, True], 1, 2)):
        value, slopes = loss(far, jnp.zeros(3), where=jnp.array(kept))
        assert value == want
        assert np.array_equal(slopes, [[0, 0, slope], [0, 0, -slope]])
    value, slopes = loss(far[2:], jnp.full(1, 3.0), weights=jnp.zeros(1))
    assert value == 0
    assert not np.any(slopes)


def test_a_planted_fault_is_caught() -> None:
    """The textbook log of softmax, at the edges of the cross-entropy."""
    line = MATRIX[0]

    def naive(z: jax.Array, c: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(jnp.log(jax.nn.softmax(z, -1)), c[:, None], -1, mode="clip")[:, 0]

    rows, args = groups(line)[0]
    value, pullback = jax.vjp(lambda z: naive(z, args[1]), args[0])
    caught = faults(line, rows, [np.asarray(value), np.asarray(pullback(jnp.ones_like(value))[0])])
    for edge in ("([1, inf, 2], 0)", "([1, 2, -inf], 2)", "([1, 2, 3], -1)", "([1, 2, 3], 3)"):
        assert any(edge in fault for fault in caught), edge


def test_every_public_loss_has_its_edges() -> None:
    names = {n for n in lossjax.__all__ if hasattr(getattr(lossjax, n), "plain")}
    assert names | {"accuracy", "softmax_cross_entropy_hvp"} == {line.name for line in MATRIX} | {"mean_squared_error"}
