"""Information projections on the triangle of three classes."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from numpy.typing import NDArray

from lossjax.geometry import i_projection, m_projection
from lossjax.losses.information import kl_divergence
from lossjax.losses.logits import softmax
from lossjax.plot._simplex import Point, contours_of, kl_from, on_triangle
from lossjax.plot._ternary import from_plane, ternary
from lossjax.plot.style import BLACK, BLUE, GREEN, GREY, HALO, LIMIT, PURPLE, THIRD, VERMILLION, in_float64, mark


def _kl_to(p: Array) -> Callable[[Array], Array]:
    """The function q ↦ KL(q‖p)."""
    return lambda q: kl_divergence(q, jnp.broadcast_to(p, q.shape))


def _family(base: Array, T: Array) -> NDArray[np.float64]:
    """The exponential family softmax(log base + λT) from one end to the other, ``[401, 3]``."""
    tilts = 32 * np.linspace(-1, 1, 401)[:, None] ** 3 / np.ptp(T)
    return np.asarray(softmax(jnp.asarray(np.log(base) + tilts * np.asarray(T))))


def _line(T: Array, b: Array) -> Array:
    """The ends ``[2, 3]`` of the segment of distributions with E T = b, for T with three different entries."""
    ends = []
    for first, second in ((0, 1), (0, 2), (1, 2)):
        share = (b - T[first]) / (T[second] - T[first])
        if -1e-12 <= share <= 1 + 1e-12:
            ends.append(jnp.zeros(3).at[first].set(1 - share).at[second].set(share))
    farthest = max(ends, key=lambda end: float(jnp.sum(jnp.square(end - ends[0]))))  # A corner is found twice.
    return jnp.stack([ends[0], farthest])


def _name(ax: Axes, p: ArrayLike, text: str, offset: tuple[float, float], color: str, **options: Any) -> None:
    """Write a word beside a curve that passes through p."""
    x, y = ternary(np.asarray(p))
    side = "left" if offset[0] > 0 else "right"
    place: dict[str, Any] = {"textcoords": "offset points", "ha": side, "va": "center", "bbox": HALO, "zorder": 6}
    ax.annotate(text, (x, y), offset, color=color, **place, **options)


def _name_contour(ax: Axes, contours: ContourSet, text: str, offset: tuple[float, float], color: str) -> None:
    """Write a word beside the highest point of a contour, with a line that leads from it to the contour."""
    points = np.concatenate(contours.allsegs[0])
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.8}
    highest = from_plane(*points[points[:, 1].argmax()])
    _name(ax, highest, text, offset, color, arrowprops=line, gid=f"word for {contours.get_gid()}")


def _high(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """The point of a path where the third probability is nearest to 0.8: there the triangle has room beside it."""
    return path[np.argmin(np.abs(path[:, 2] - 0.8))]


def reverse_nearest(p: Array, T: Array, base: Array) -> NDArray[np.float64]:
    """The member q of softmax(log base + λT) with the least KL(q‖p), found by bisection of its slope."""
    data, statistic, start = (np.asarray(x, np.float64) for x in (p, T, base))

    def member(tilt: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = start * np.exp(tilt[..., None] * (statistic - statistic.mean()))
        return weights / weights.sum(axis=-1, keepdims=True)

    def divergence(q: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sum(q * np.log(q / data), axis=-1)

    def slope(q: NDArray[np.float64]) -> float:
        return float(np.sum(q * (statistic - q @ statistic) * np.log(q / data)))

    tilts = np.linspace(-20, 20, 401) / np.ptp(statistic)  # The divergence need not be convex in λ.
    least = int(np.clip(np.argmin(divergence(member(tilts))), 1, 399))
    low, high = tilts[least - 1], tilts[least + 1]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(member(middle)) < 0 else (low, middle)
    return member((low + high) / 2)


@in_float64
def nearest_in_family(
    p: Point = (0.55, 0.05, 0.4), T: Point = (0.0, 1.0, 2.0), base: Point = (0.4, 0.35, 0.25), *,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """The two members of an exponential family nearest to p: in KL(p‖·), which maximum likelihood uses, and in KL(·‖p).

    The first, the m-projection, is where the straight line of distributions with the moment of p meets the family.

    Args:
      p: a distribution over three classes.
      T: the statistic, three different numbers.
      base: a member of the family, all positive.
      ax: where to draw; default a new triangle.

    Returns:
      The axes.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import nearest_in_family
      >>> ax = nearest_in_family(ax=Figure().add_subplot())

    Source: §4.1.5, table 4.1.1; G6 (docs/theorems.md).
    """
    ax = on_triangle(ax)
    data, statistic, member = (jnp.asarray(x, jnp.float64) for x in (p, T, base))
    fitted = m_projection(data, statistic[None], member)
    other = jnp.asarray(reverse_nearest(data, statistic, member))
    near = contours_of(ax, kl_from(data), [float(kl_divergence(data, fitted))], "KL(p|q) at its least", BLUE)
    least = [float(kl_divergence(other, data))]
    reverse = contours_of(ax, _kl_to(data), least, "KL(q|p) at its least", VERMILLION, "--")
    _name_contour(ax, near, "equal KL(p‖q)", (-62, 6), BLUE)
    _name_contour(ax, reverse, "equal KL(q‖p)", (-62, 14), VERMILLION)
    ax.plot(*ternary(_family(member, statistic)), gid="exponential family", color=GREEN, linewidth=2.4)
    ax.plot(*ternary(_line(statistic, statistic @ data)), gid="same moment", **LIMIT)
    ends = np.asarray(_line(statistic, statistic @ data))
    _name(ax, 0.65 * ends[0] + 0.35 * ends[1], "moment of p", (7, 7), BLACK)
    _name(ax, _high(_family(member, statistic)), "exponential\nfamily", (30, 6), GREEN)
    mark(ax, ternary(data), "p", (5, 3), name="p")
    mark(
        ax,
        ternary(fitted),
        "least KL(p‖q):\nm-projection",
        (58, 12),
        name="m-projection",
        color=BLUE,
        leader=True,
    )
    mark(ax, ternary(other), "least KL(q‖p)", (34, -16), name="reverse", color=VERMILLION, leader=True)
    return ax


@in_float64
def nearest_with_moments(
    base: Point = (0.25, 0.6, 0.15), T: Point = (0.0, 1.0, 2.0), b: float = 1.3, *, ax: Axes | None = None
) -> Axes:
    """The distribution with a given moment nearest to a base in KL(·‖base): the I-projection, which tilts the base.

    The straight line is met by the exponential family through the base; the orthogonal projection is another point.

    Args:
      base: a distribution over three classes, all positive.
      T: the statistic, three different numbers.
      b: the moment E T, between the least and the largest T.
      ax: where to draw; default a new triangle.

    Returns:
      The axes.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import nearest_with_moments
      >>> ax = nearest_with_moments(b=1.0, ax=Figure().add_subplot())

    Source: §4.1.5, table 4.1.1; G6 (docs/theorems.md).
    """
    ax = on_triangle(ax)
    start, statistic, moment = (jnp.asarray(x, jnp.float64) for x in (base, T, b))
    tilted = i_projection(start, statistic[None], moment[None])
    ends = np.asarray(_line(statistic, moment))
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    foot = ends[0] + along * (along @ (np.asarray(start) - ends[0]))
    least = [float(kl_divergence(tilted, start))]
    contours = contours_of(ax, _kl_to(start), least, "KL(p|base) at its least", BLUE)
    _name_contour(ax, contours, "equal KL(p‖base)", (-60, 4), BLUE)
    ax.plot(*ternary(_family(start, statistic)), gid="exponential family", **THIRD)
    ax.plot(*ternary(ends), gid="linear family", color=BLACK, linewidth=2.4)
    ax.plot(
        *ternary(np.stack([np.asarray(start), foot])),
        gid="orthogonal projection",
        color=PURPLE,
        linestyle=":",
        linewidth=1.3,
    )
    _name(ax, ends[0], f"E T = {b:g}", (-4, 4), BLACK)
    _name(ax, _high(_family(start, statistic)), "exponential family\nof the base", (24, 6), GREEN)
    mark(ax, ternary(start), "base", (6, -4), name="base")
    mark(
        ax,
        ternary(tilted),
        "least KL(p‖base):\nI-projection",
        (46, 34),
        name="I-projection",
        color=BLUE,
        leader=True,
    )
    mark(ax, ternary(foot), "orthogonal\nprojection", (64, -14), name="orthogonal", color=PURPLE, leader=True)
    return ax
