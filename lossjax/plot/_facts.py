"""The facts that the figures show, checked on the points that they draw."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossjax._core.findings import Finding
from lossjax.plot._ternary import from_plane

Drawn = Mapping[tuple[str, str], tuple[NDArray[np.float64], ...]]
_FEW = 64 * 2.0**-53
"""The tolerance of what is computed in float64: a few dozen of its roundoffs."""


class Fact(Finding):
    """One statement that a figure makes, and how far the drawn curves are from it."""


def _at_most(name: str, statement: str, deviations: Any, allowed: float) -> Fact:
    measured = float(np.max(np.abs(deviations)))
    return Fact(name, measured <= allowed, measured, allowed, statement)


def _at_least(name: str, statement: str, measured: np.floating, wanted: float) -> Fact:
    return Fact(name, bool(measured >= wanted), float(measured), wanted, statement)


def loss_surfaces_gradients(drawn: Drawn) -> Iterator[Fact]:
    """The numbers of G13 (docs/theorems.md)."""
    (w,), (b,) = drawn["a", "least squares"]
    yield _at_most("a", "least squares of (-1, 1), (0, 2), (1, 2), (2, 4): w = 0.9, b = 1.8", [w - 0.9, b - 1.8], _FEW)
    x, y, u, v = drawn["a", "-grad MSE"]
    off = [u + 3 * (x - w) + (y - b), v + (x - w) + 2 * (y - b)]  # The Hessian 2XᵀX/N is (3, 1; 1, 2).
    yield _at_most("a", "-∇MSE leads to the least squares: it is -H(θ - θ̂)", off, 64 * _FEW)

    circle = from_plane(*drawn["b", "Fisher circle 1"])
    yield _at_most("b", "a Fisher circle has one radius", _fisher_rao(circle, np.array([0.5, 0.3, 0.2])) - 0.2, 1e-12)
    z, loss = drawn["c", "CE"]
    yield _at_most("c", "CE = log(1 + e^-z), relatively", loss / np.log1p(np.exp(-z)) - 1, _FEW)
    # Where σ is near 1 the relative error of 1 - σ is u/(1 - σ), and z reaches 12.
    z, loss = drawn["c", "MSE"]
    yield _at_most("c", "MSE = ½(1 - σ)², relatively", loss * 2 * (1 + np.exp(z)) ** 2 - 1, _FEW * math.exp(12))
    z, slope = drawn["d", "CE"]
    yield _at_most("d", "|CE'| = 1 - σ, relatively", slope * (1 + np.exp(z)) - 1, _FEW)
    z, slope = drawn["d", "MSE"]
    yield _at_most(
        "d",
        "the slope of MSE is largest, 4/27, at -log 2",
        [slope.max() - 4 / 27, z[slope.argmax()] + math.log(2)],
        _FEW,
    )
    z, ratio = drawn["d", "ratio"]
    closed = 1 / (2 + np.exp(z) + np.exp(-z))
    yield _at_most("d", "the ratio is σ(1 - σ), relatively", ratio / closed - 1, _FEW * math.exp(12))
    for loss in ("CE", "MSE"):
        _, _, u, v = drawn["e", f"-grad {loss}"]
        yield _at_most("e", f"the steps of {loss} are perpendicular to (1, 1)", u + v, _FEW)
    margin, worst = drawn["f", "lossjax"]
    yield _at_most("f", "lossjax is within 8u relatively at every margin", worst, 8 * 2.0**-24)
    for name in ("log Σ exp z − z_c", "−log_softmax"):
        worst = drawn["f", name][1][margin > 17]
        yield _at_least("f", f"{name} has lost all digits from 17 on", worst.min(), 0.99)


def _fisher_rao(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """``2 arccos Σ√(pq)``, a form that the library does not use."""
    return 2 * np.arccos(np.clip(np.sum(np.sqrt(p * q), axis=-1), -1, 1))


def _length(path: NDArray[np.float64]) -> np.float64:
    return np.sum(_fisher_rao(path[1:], path[:-1]))


def fisher_simplex(drawn: Drawn) -> Iterator[Fact]:
    """Every circle has the same radius, and the geodesic is the shortest path."""
    circles = [from_plane(*points) for (panel, name), points in drawn.items() if panel == "a" and "circle" in name]
    # Antipodes of a circle are two radii apart. arccos keeps half of the digits of a float64.
    across = [_fisher_rao(points[:60], points[60:120]) - 0.4 for points in circles]
    yield _at_most("a", "every circle is 0.4 across", across, 1e-12)
    arc, m, e = (from_plane(*drawn["b", name]) for name in ("Fisher-Rao geodesic", "m-geodesic", "e-geodesic"))
    yield _at_most(
        "b", "the geodesic is as long as its ends are apart", _length(arc) - _fisher_rao(arc[0], arc[-1]), 1e-9
    )
    for name, path in (("m", m), ("e", e)):
        yield _at_least("b", f"the {name}-geodesic is longer, relatively by", _length(path) / _length(arc) - 1, 1e-3)


def _kl(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    return float(np.sum(p * np.log(p / q)))


def projections(drawn: Drawn) -> Iterator[Fact]:
    """The projections have the right moments, obey Pythagoras' theorem, and are different points."""
    point = {name: from_plane(*xy)[0] for (_, name), xy in drawn.items() if len(xy[0]) == 1}
    statistic = np.array([0.0, 1.0, 2.0])
    p, fitted, other, base, tilted = (point[n] for n in ("p", "m-projection", "reverse", "base", "I-projection"))
    start = from_plane(*drawn["a", "exponential family"])[200]  # This is λ = 0.
    yield _at_most("a", "the m-projection has the moment of p", statistic @ (fitted - p), 1e-12)
    yield _at_most("a", "KL(p‖q) = KL(p‖q*) + KL(q*‖q)", _kl(p, start) - _kl(p, fitted) - _kl(fitted, start), 1e-12)
    yield _at_least("a", "the least KL(q‖p) is at another point, apart in L1 by", np.abs(fitted - other).sum(), 0.01)
    ends = from_plane(*drawn["b", "linear family"])
    middle = ends.mean(axis=0)
    yield _at_most("b", "the I-projection has the moment 1.3", statistic @ tilted - 1.3, 1e-12)
    deviation = _kl(middle, base) - _kl(middle, tilted) - _kl(tilted, base)
    yield _at_most("b", "KL(p‖q) = KL(p‖p*) + KL(p*‖q)", deviation, 1e-12)
    apart = np.abs(tilted - point["orthogonal"]).sum()
    yield _at_least("b", "the orthogonal projection is another point, apart in L1 by", apart, 0.01)


def accuracy(drawn: Drawn) -> Iterator[Fact]:
    """Lossjax keeps its promise at every margin; the others lose all digits."""
    for (panel, name), (margin, worst) in drawn.items():
        of = {"a": "loss", "b": "gradient at the label"}[panel]
        if name == "lossjax":
            yield _at_most(panel, f"lossjax's {of} is within 8 ulp at every margin", worst, 8)
        else:
            yield _at_least(
                panel, f"{name}'s {of} has lost all digits from 17 on, in ulp", worst[margin > 17].min(), 2.0**23
            )


def cancellation(drawn: Drawn) -> Iterator[Fact]:
    """Lossjax keeps what it promises at every distance; the textbook's formulas lose all digits at the least."""
    promised = {"a": 16, "b": 8, "c": 33}
    for (panel, name), (distance, worst) in drawn.items():
        if name == "lossjax":
            yield _at_most(panel, f"lossjax is within {promised[panel]} ulp at every distance", worst, promised[panel])
        else:
            yield _at_least(panel, f"{name} has lost all digits at {distance[0]:.0e}, in ulp", worst[0], 2.0**23)


def atlas(drawn: Drawn) -> Iterator[Fact]:
    """Lossjax keeps its promise along the whole way; the others have lost all digits at one end of it."""
    last = {"b": 0}
    for (panel, name), (x, worst) in drawn.items():
        if name == "lossjax":
            yield _at_most(panel, "lossjax is within 16 ulp along the whole way", worst, 16)
        else:
            at = last.get(panel, -1)
            yield _at_least(panel, f"{name} has lost all digits at {x[at]:.2g}, in ulp", worst[at], 2.0**22)


def memory(drawn: Drawn) -> Iterator[Fact]:
    """The head's memory does not grow with the rows, and is far below that of stored logits."""
    (_, ours), (_, stored) = drawn["a", "lossjax's head"], drawn["a", "optax on stored logits"]
    yield _at_least("a", "stored logits take, of lossjax's memory at the largest vocabulary", stored[-1] / ours[-1], 6)
    (_, ours), (rows, stored) = drawn["b", "lossjax's head"], drawn["b", "optax on stored logits"]
    yield _at_most("b", "lossjax's memory is the same for all rows, relatively", ours / ours[0] - 1, 0.05)
    yield _at_most("b", "that of stored logits grows as the rows do", stored / stored[0] * rows[0] / rows - 1, 0.05)
