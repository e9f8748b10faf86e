"""Colours and line styles of every figure, and where to draw."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import jax
from matplotlib.axes import Axes

# The colours are those of Okabe and Ito, Color Universal Design (2008).
BLACK = "#000000"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREY = "#666666"

LIBRARIES = {"lossjax": BLUE, "optax": VERMILLION, "torch": GREEN, "jax": PURPLE, "tokamax": SKY, "distrax": ORANGE}
"""One colour for one library, in every figure."""
HATCHES = ("", "//", "..", "xx", "\\\\")
"""The patterns of their bars, which tell them apart without colour."""
MARKED_LINES = ("o-", "s--", "^:", "d-.", "v-")
"""The markers and lines of their curves, in matplotlib's format."""

FIRST: dict[str, Any] = {"color": BLUE, "linestyle": "-", "linewidth": 2.2}
SECOND: dict[str, Any] = {"color": VERMILLION, "linestyle": "--", "linewidth": 2.2}
THIRD: dict[str, Any] = {"color": GREEN, "linestyle": "-.", "linewidth": 2.2}
FOURTH: dict[str, Any] = {"color": PURPLE, "linestyle": (0, (5, 1, 1, 1, 1, 1)), "linewidth": 2.2}
SHORTEST: dict[str, Any] = {"color": GREEN, "linestyle": "-", "linewidth": 2.4}
OTHER: dict[str, Any] = {"color": GREY, "linestyle": (0, (3, 1)), "linewidth": 2.2}
LINES = {"lossjax": FIRST, "optax": SECOND, "torch": THIRD, "jax": FOURTH}
"""The curves of libraries; any other's is OTHER."""
LIMIT: dict[str, Any] = {"color": BLACK, "linestyle": ":", "linewidth": 1.3}

HALO: dict[str, Any] = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
"""The box behind a word that stands on a curve."""

Function = TypeVar("Function", bound=Callable[..., Any])


def library(name: str) -> str:
    """The library that a name begins with: ``jax`` of ``jax.nn.gelu``, ``optax`` of ``optax on stored logits``."""
    return re.split(r"\W", name, maxsplit=1)[0]


def colour_of(name: str) -> str:
    """The colour of the library that a name begins with; grey for any other."""
    return LIBRARIES.get(library(name), GREY)


def axes_or_new(ax: Axes | None) -> Axes:
    """Return the axes given, or those of a new pyplot figure, which a notebook shows by itself."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.figure(layout="constrained").add_subplot()


def in_float64(function: Function) -> Function:
    """Make a function compute in float64, whether the caller has enabled it or not."""

    @wraps(function)
    def computed(*arguments: Any, **options: Any) -> Any:
        with jax.enable_x64(True):
            return function(*arguments, **options)

    return cast(Function, computed)


def mark(
    ax: Axes, at: Any, text: str, offset: tuple[float, float], *,
    name: str | None = None, color: str = BLACK, marker: str = "o", leader: bool = False,
) -> None:  # fmt: skip
    """Draw a dot at (x, y), with a text ``offset`` points away and, if wanted, a line that leads from it to the dot."""
    x, y = map(float, at)
    ax.plot([x], [y], marker, color=color, markersize=13 if marker == "*" else 5, zorder=5, gid=name)
    place: dict[str, Any] = {"ha": "left" if offset[0] >= 0 else "right", "va": "bottom" if offset[1] >= 0 else "top"}
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.8} if leader else None
    ax.annotate(
        text, (x, y), offset, textcoords="offset points", color=color, bbox=HALO, zorder=6, arrowprops=line, **place
    )
