"""The simplex of three classes as a triangle."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from lossjax.plot.style import GREY, axes_or_new

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])


def ternary(p: ArrayLike) -> NDArray[np.float64]:
    r"""Distributions over three classes as points of the plane.

    .. math:: x = p_2 + \tfrac12 p_3, \qquad y = \tfrac{\sqrt 3}{2} p_3

    Args:
      p: ``[..., 3]`` numbers.

    Returns:
      ``[2, ...]``, x and y, in float64: ``ax.plot(*ternary(p))`` draws a path.

    Raises:
      ValueError: another number of classes than 3.

    Example:
      >>> from lossjax.plot import ternary
      >>> print(ternary([0.0, 1.0, 0.0]), ternary([0.5, 0.5, 0.0]))
      [1. 0.] [0.5 0. ]

    Source: §4.1.1, the simplex of three classes is a triangle.
    """
    p = np.asarray(p, np.float64)
    if p.ndim == 0 or p.shape[-1] != 3:
        raise ValueError(f"p has shape {p.shape}, wanted [..., 3]: the triangle shows three classes")
    return np.moveaxis(p @ CORNERS, -1, 0)


def from_plane(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """The distributions ``[..., 3]`` that :func:`ternary` draws at x, y."""
    third = np.asarray(y, np.float64) / CORNERS[2, 1]
    second = np.asarray(x, np.float64) - third / 2
    return np.stack([1 - second - third, second, third], axis=-1)


def ternary_axes(labels: Sequence[str] = ("1", "2", "3"), *, ax: Axes | None = None) -> Axes:
    """An empty triangle with labelled corners, and lines where a class has a share of 1/4, 1/2 and 3/4.

    Args:
      labels: three words for the corners (1, 0, 0), (0, 1, 0) and (0, 0, 1).
      ax: where to draw; default new axes.

    Returns:
      The axes. Draw on them at ``ternary(p)``.

    Raises:
      ValueError: another number of labels than 3.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import ternary_axes
      >>> ax = ternary_axes("abc", ax=Figure().add_subplot())
      >>> [text.get_text() for text in ax.texts]
      ['a', 'b', 'c']

    Source: §4.1.1.
    """
    if len(labels) != 3:
        raise ValueError(f"labels has {len(labels)} words, wanted 3, one a corner")
    ax = axes_or_new(ax)
    ax.set_aspect("equal")
    ax.axis("off")
    for share in (0.25, 0.5, 0.75):
        for first in range(3):
            ends = np.zeros((2, 3))
            ends[:, first] = share
            ends[0, (first + 1) % 3] = ends[1, (first + 2) % 3] = 1 - share
            ax.plot(*ternary(ends), color=GREY, alpha=0.25, linewidth=0.7, zorder=0)
    ax.plot(*ternary(np.eye(3)[[0, 1, 2, 0]]), color="black", linewidth=1.2, gid="simplex")
    for corner, label, offset in zip(CORNERS, labels, ((-2, -4), (2, -4), (0, 4)), strict=True):
        side = {-2: "right", 0: "center", 2: "left"}[offset[0]]
        level = "top" if offset[1] < 0 else "bottom"
        ax.annotate(label, tuple(corner), offset, textcoords="offset points", ha=side, va=level)
    return ax
