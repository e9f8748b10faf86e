"""What losses and their gradients are at infinities, NaN, ties and huge logits, by the limits that mathematics gives.

``tests/support/edges.py`` makes the lines of every loss of them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

INF, NAN, LOG2, ROOT = math.inf, math.nan, math.log(2), 0.5 * math.log(2 * math.pi)
H = 0.875 * float(np.finfo(np.float32).max)
"""A number near the largest float32."""
NO = None
"""Undefined: the value is NaN, and every gradient of that row has a NaN."""
Row = tuple[tuple[Any, ...], Any, tuple[Any, ...] | None]
"""Arguments; value; one gradient a differentiable argument."""


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
    apart = fisher(np.array([0.5, 0.5, 0]), np.array([math.log(2 / 3), LOG2, 0]) / 2)
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
        ([0, 0, -n], [n, 0, -n], n, [-n, n, 0], [0.5, -0.5, 0], 0.75 * math.log(4 / 3), apart, zero),
        ([0, 0, -n], [-100, 100, -n], 100 - LOG2, [50, -50, 0], [-0.5, 0.5, 0], 0.75 * math.log(4 / 3),
         apart[[1, 0, 2]], zero),
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
