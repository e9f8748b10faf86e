"""Divergence, Fisher's metric and information projections on the triangle of three classes."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

from lossjax.geometry import fisher_rao_exp, fisher_rao_geodesic
from lossjax.losses.information import kl_divergence
from lossjax.losses.logits import softmax
from lossjax.plot._ternary import ternary, ternary_axes
from lossjax.plot.style import BLUE, FOURTH, ORANGE, SECOND, SHORTEST, VERMILLION, in_float64, mark

Point = Sequence[float]
CENTERS = tuple((i / 9, j / 9, (9 - i - j) / 9) for i in (1, 3, 5, 7) for j in (1, 3, 5, 7) if i + j < 9)


def on_triangle(ax: Axes | None) -> Axes:
    """Return the axes, with the triangle drawn if it is not there yet."""
    if ax is not None and any(line.get_gid() == "simplex" for line in ax.lines):
        return ax
    return ternary_axes(ax=ax)


def contours_of(
    ax: Axes, function: Callable[[Array], Array], levels: Sequence[float], name: str, color: str, line: str = "-"
) -> ContourSet:
    """Draw contours of a function of distributions, over a fine lattice that stops just before the boundary."""
    steps = 160
    lattice = np.array([(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
    inside = 1e-4 + (1 - 3e-4) * lattice
    mesh = Triangulation(*ternary(inside))
    values = np.asarray(function(jnp.asarray(inside)))
    drawn = ax.tricontour(mesh, values, levels=list(levels), colors=color, linestyles=line, linewidths=1.2)
    drawn.set_gid(name)
    return drawn


def kl_from(p: Array) -> Callable[[Array], Array]:
    """The function q ↦ KL(p‖q)."""
    return lambda q: kl_divergence(jnp.broadcast_to(p, q.shape), q)


@in_float64
def kl_contours(
    p: Point = (0.5, 0.3, 0.2), levels: Sequence[float] = (0.02, 0.1, 0.3, 0.6, 1.0, 1.6), *, ax: Axes | None = None
) -> Axes:
    """Contours of KL(p‖q) in q. They are those of the cross-entropy, which is larger by H(p).

    Args:
      p: a distribution over three classes.
      levels: in nats, rising.
      ax: where to draw; default a new triangle.

    Returns:
      The axes.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import kl_contours
      >>> ax = kl_contours((0.2, 0.3, 0.5), levels=[0.1], ax=Figure().add_subplot())

    Source: §4.1.5, theorem 4.1.4.
    """
    ax = on_triangle(ax)
    start = jnp.asarray(p, jnp.float64)
    contours = contours_of(ax, kl_from(start), levels, "KL(p|q)", BLUE)
    # Each number stands where its contour meets the ray from p to the middle of the side opposite to p's largest entry.
    share = np.linspace(0, 0.999, 999)[:, None]
    ray = (1 - share) * np.asarray(start) + share * np.where(np.arange(3) == np.argmax(p), 0, 0.5)
    places = ray[np.searchsorted(np.asarray(kl_from(start)(jnp.asarray(ray))), levels)]
    legible = slice(1, 4)  # The others are too near the side.
    manual = list(zip(*ternary(places[legible]), strict=True))
    ax.clabel(contours, levels[legible], fmt="%g", fontsize="small", manual=manual)
    mark(ax, ternary(p), "p", (-6, -3))
    return ax


@in_float64
def circle(center: Point, radius: float) -> NDArray[np.float64]:
    """The points at one Fisher-Rao distance from a distribution, ``[121, 3]``."""
    root = np.sqrt(np.asarray(center, np.float64))
    first = np.cross(root, [0.0, 0.0, 1.0])
    first /= np.linalg.norm(first)
    second = np.cross(root, first)
    angle = np.linspace(0, 2 * np.pi, 121)[:, None]
    # With ξ = 2√p, dp = √p dξ. So directions that are orthonormal to √p are orthonormal in Fisher's metric.
    velocity = radius * root * (np.cos(angle) * first + np.sin(angle) * second)
    velocity -= velocity.mean(axis=1, keepdims=True)  # Rounding leaves Σ dp small, not 0.
    return np.asarray(fisher_rao_exp(jnp.broadcast_to(jnp.square(root), velocity.shape), jnp.asarray(velocity)))


def fisher_balls(radius: float = 0.2, centers: Sequence[Point] = CENTERS, *, ax: Axes | None = None) -> Axes:
    """Circles of one radius in Fisher's metric: small near the boundary, where a small change is easiest to see.

    Args:
      radius: the Fisher-Rao distance from the centre, in (0, π).
      centers: distributions over three classes, none of them a corner; by default ten, evenly spread.
      ax: where to draw; default a new triangle.

    Returns:
      The axes.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import fisher_balls
      >>> ax = fisher_balls(0.1, [(0.2, 0.3, 0.5)], ax=Figure().add_subplot())

    Source: §4.1.5, ds² = Σ dp²/p.
    """
    ax = on_triangle(ax)
    for index, center in enumerate(centers):
        ax.fill(*ternary(circle(center, radius)), facecolor=ORANGE, alpha=0.3, edgecolor="none")
        ax.plot(*ternary(circle(center, radius)), color=VERMILLION, linewidth=1.2, gid=f"Fisher circle {index + 1}")
        ax.plot(*ternary(center), ".", color=VERMILLION, markersize=4)
    return ax


@in_float64
def geodesics(
    p: Point = (0.86, 0.07, 0.07), q: Point = (0.04, 0.16, 0.8), *, labels: Sequence[str] = ("p", "q"),
    mixture_and_exponential: bool = True, ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Three paths from p to q: the shortest in Fisher's metric, the straight one, and the one straight in logits.

    Args:
      p: a distribution over three classes, all positive.
      q: a distribution over three classes, all positive.
      labels: the words at p and q.
      mixture_and_exponential: whether to draw the paths of the ±1-connections too.
      ax: where to draw; default a new triangle.

    Returns:
      The axes.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import geodesics
      >>> ax = geodesics(ax=Figure().add_subplot())

    Source: §4.1.5; G8 (docs/theorems.md).
    """  # fmt: skip
    ax = on_triangle(ax)
    start, end = jnp.asarray(p, jnp.float64), jnp.asarray(q, jnp.float64)
    arc = jax.vmap(lambda t: fisher_rao_geodesic(start, end, t))(jnp.linspace(0, 1, 101))
    ax.plot(*ternary(arc), label="shortest (Fisher-Rao)", gid="Fisher-Rao geodesic", **SHORTEST)
    if mixture_and_exponential:
        share = np.linspace(0, 1, 101)[:, None]
        straight = (1 - share) * np.asarray(p) + share * np.asarray(q)
        tilted = softmax(jnp.asarray((1 - share) * np.log(p) + share * np.log(q)))
        ax.plot(*ternary(straight), label="mixture (m-geodesic)", gid="m-geodesic", **SECOND)
        ax.plot(*ternary(tilted), label="exponential (e-geodesic)", gid="e-geodesic", **FOURTH)
    for point, label, offset in zip((p, q), labels, ((-6, 4), (6, 4)), strict=True):
        mark(ax, ternary(point), label, offset)
    return ax
