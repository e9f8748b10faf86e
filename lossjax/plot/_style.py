"""Colours, line styles, and where to draw."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import jax
from matplotlib.axes import Axes

# Okabe and Ito, Color Universal Design (2008).
BLACK, BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = (
    "#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
)  # fmt: skip
GREY = "#666666"

FIRST: dict[str, Any] = {"color": BLUE, "linestyle": "-", "linewidth": 2.2}
SECOND: dict[str, Any] = {"color": VERMILLION, "linestyle": "--", "linewidth": 2.2}
THIRD: dict[str, Any] = {"color": GREEN, "linestyle": "-.", "linewidth": 2.2}
FOURTH: dict[str, Any] = {"color": PURPLE, "linestyle": (0, (5, 1, 1, 1, 1, 1)), "linewidth": 2.2}
SHORTEST: dict[str, Any] = {"color": GREEN, "linestyle": "-", "linewidth": 2.4}
LIMIT: dict[str, Any] = {"color": BLACK, "linestyle": ":", "linewidth": 1.3}

HALO: dict[str, Any] = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
"""Behind a word that stands on a curve."""

Function = TypeVar("Function", bound=Callable[..., Any])


def axes_or_new(ax: Axes | None) -> Axes:
    """The axes given, or those of a new pyplot figure, which a notebook shows by itself."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.figure(layout="constrained").add_subplot()


def in_float64(function: Function) -> Function:
    """Curves are computed in float64, whatever the caller's mode."""

    @wraps(function)
    def computed(*arguments: Any, **options: Any) -> Any:
        with jax.enable_x64(True):
            return function(*arguments, **options)

    return cast(Function, computed)


def mark(
    ax: Axes, at: Any, text: str, offset: tuple[float, float], *,
    name: str | None = None, color: str = BLACK, marker: str = "o", leader: bool = False,
) -> None:  # fmt: skip
    """A dot at (x, y) with its value ``offset`` points away, or a leader to it."""
    x, y = map(float, at)
    ax.plot([x], [y], marker, color=color, markersize=13 if marker == "*" else 5, zorder=5, gid=name)
    place: dict[str, Any] = {"ha": "left" if offset[0] >= 0 else "right", "va": "bottom" if offset[1] >= 0 else "top"}
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.8} if leader else None
    ax.annotate(
        text, (x, y), offset, textcoords="offset points", color=color, bbox=HALO, zorder=6, arrowprops=line, **place
    )
