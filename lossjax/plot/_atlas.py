"""Where functions of JAX's ecosystem lose their digits: along one argument, and as a map of many functions."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from matplotlib.transforms import Bbox

from lossjax.losses.regression import log_cosh
from lossjax.numerics import sigmoid
from lossjax.plot.files import write
from lossjax.plot.style import BLACK, GREEN, GREY, HALO, LIMIT, LINES, OTHER, axes_or_new, colour_of, library

if TYPE_CHECKING:
    from lossjax.verify import Atlas

STEPS, DRAWS = 64, 8
LOST = 2.0**24
"""An error of this many ulp has lost all digits of a float32."""
LEAST = 0.25
"""Smaller errors are drawn as this many ulp."""


class Way(NamedTuple):
    """A function of one number along a way, and who computes it: what :func:`errors_along` draws.

    Attributes:
      title: of the axes.
      axis: the name of the number.
      contenders: functions of one number that should give the same, by their names.
      low: where the way begins, on a logarithmic axis.
      high: where it ends.
      legend: a corner that no mountain reaches.
    """

    title: str
    axis: str
    contenders: Mapping[str, Callable[[Array], Array]]
    low: float
    high: float
    legend: Literal["upper left", "upper right"] = "upper left"


def _derivative(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda x: jax.vjp(function, x)[1](jnp.ones_like(x))[0]


def _standardized(m: Array) -> Array:
    """The first of four numbers m, m, m - 1, m, less their mean, by their standard deviation: 1/√3."""
    return jax.nn.standardize(jnp.stack([m, m, m - 1, m], axis=-1))[..., 0]


WAYS: Mapping[str, Way] = {
    "a": Way(
        "a  Derivative of the sigmoid", "x",
        {"lossjax": _derivative(sigmoid), "jax.nn.sigmoid": _derivative(jax.nn.sigmoid)}, 0.01, 60,
    ),
    "b": Way(
        "b  log cosh of an error", "x",
        {"lossjax": lambda x: log_cosh(x, jnp.zeros_like(x)), "optax.log_cosh": lambda x: optax.losses.log_cosh(x)},
        1e-6, 30, "upper right",
    ),
    "c": Way("c  GELU", "-x", {"jax.nn.gelu": lambda x: jax.nn.gelu(-x)}, 0.01, 8),
    "d": Way("d  Squareplus", "-x", {"jax.nn.squareplus": lambda x: jax.nn.squareplus(-x)}, 0.01, 1e6),
    "e": Way("e  Derivative of tanh", "x", {"jax.nn.tanh": _derivative(jax.nn.tanh)}, 0.01, 30),
    "f": Way("f  Standardizing m, m, m − 1, m", "m", {"jax.nn.standardize": _standardized}, 2, 1e5),
}  # fmt: skip


def errors_along(way: Way, *, ax: Axes | None = None) -> Axes:
    """The largest error of functions in float32, in ulp, along one argument: the mountains of the atlas.

    Each point shows the worst of 8 random arguments in one of 64 steps of equal ratio. The truth is the same program in
    exact arithmetic (``lossjax.verify.exact``, which needs the extra ``verify``).

    Args:
      way: a :class:`Way`: a title, the axis, functions of one number by name, and between which arguments to look.
      ax: where to draw; default new axes.

    Returns:
      The axes, both logarithmic. 2²⁴ ulp are all digits; less than a quarter of an ulp is drawn as that.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax import numerics
      >>> from lossjax.plot import Way, errors_along
      >>> way = Way("Softplus", "x", {"lossjax": numerics.softplus}, low=0.01, high=60)
      >>> ax = errors_along(way, ax=Figure().add_subplot())
      >>> bool(max(ax.lines[0].get_data()[1]) < 8)
      True

    Source: docs/atlas.md.
    """
    from lossjax.verify import exact, ulp

    ax = axes_or_new(ax)
    edges = np.geomspace(way.low, way.high, STEPS + 1)
    random = np.random.default_rng(0)
    x = (edges[:-1, None] * (edges[1:] / edges[:-1])[:, None] ** random.uniform(size=(STEPS, DRAWS))).astype(np.float32)
    middle = np.sqrt(edges[:-1] * edges[1:])
    for name, function in way.contenders.items():
        look = LINES.get(library(name), OTHER)
        computed = np.asarray(jax.jit(function)(x.ravel()))
        worst = ulp.ulps(computed, exact(function, 512)(x.ravel())).reshape(x.shape).max(axis=1)
        worst = np.maximum(worst, LEAST)
        ax.loglog(middle, worst, label=name, gid=name, **look)
        if name != "lossjax":
            ax.fill_between(middle, LEAST, worst, color=look["color"], alpha=0.18, linewidth=0)
    ax.axhline(LOST, **LIMIT)
    ax.annotate(
        "all digits lost", (0.99, LOST), (0, 5), xycoords=("axes fraction", "data"), textcoords="offset points",
        color=BLACK, bbox=HALO, fontsize="small", ha="right",
    )  # fmt: skip
    ax.set(xlabel=way.axis, ylabel="largest error, ulp", xlim=(way.low, way.high))
    ax.set_ylim(LEAST, LOST * 1000)
    ax.xaxis.set_major_locator(LogLocator(numticks=6))  # further apart over many decades
    ax.set_title(way.title)
    ax.legend(loc=way.legend, frameon=False)
    return ax


def _library(name: str) -> str:
    """The module that a function is listed under: ``jax.scipy.stats`` of ``jax.scipy.stats.beta.cdf``."""
    parts = name.split(".")
    depth = {"jax": 3 if "scipy" in parts else 2, "optax": 2}.get(parts[0], 1)
    return ".".join(parts[: min(depth, len(parts) - 1)]) or "functions"


def atlas_map(atlas: "Atlas", *, ax: Axes | None = None) -> Axes:
    """Each function of an atlas as a point: how wrong its value is, and how wrong its derivatives are.

    Args:
      atlas: what :func:`lossjax.verify.atlas` returned.
      ax: where to draw; default new axes.

    Returns:
      The axes, both logarithmic, in units of roundoff of result and inputs; what is lost (infinity or NaN for a number)
      stands at the edge. The functions of a library have one colour, those of a module one marker, and so have those of
      lossjax, where the atlas has them beside the others. The worst have their names, where there is room.

    Raises:
      ValueError: nothing in the atlas was measured.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lossjax import verify
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import atlas_map
      >>> found = verify.atlas({"mine.exp": jnp.exp}, points=32)
      >>> atlas_map(found, ax=Figure().add_subplot()).get_xlabel()
      'error of the value, units'

    Source: docs/atlas.md.
    """
    ax = axes_or_new(ax)
    judged = [one for one in atlas.charts if not one.why]
    if not judged:
        raise ValueError("the atlas has no function that was measured, so that there is nothing to draw")
    ceiling = LOST * 64
    groups: dict[str, list[tuple[float, float, str]]] = {}

    def place(chart: Any) -> tuple[float, float]:
        value, slope = (max(LEAST, min(peak.size, ceiling / 4)) for peak in (chart.value_units, chart.gradient_units))
        if chart.lost.size:
            value, slope = (ceiling, slope) if chart.lost.entry.startswith("value") else (value, ceiling)
        return value, slope

    for one in judged:
        groups.setdefault(_library(one.name), []).append((*place(one), one.name))
        if one.beside is not None:
            groups.setdefault("lossjax", []).append((*place(one.beside), ""))
    allowed = judged[0].allowed
    ax.axhspan(LEAST / 2, allowed, xmax=1, color=GREEN, alpha=0.08, linewidth=0)
    ax.axvspan(LEAST / 2, allowed, color=GREEN, alpha=0.08, linewidth=0)
    worst = sorted(judged, key=lambda one: -min(one.value_units.size, LOST) - min(one.gradient_units.size, LOST))
    shown = [one.name for one in worst if not one.lost.size and one.worst > 2.0**17][:10]
    places: list[tuple[float, float]] = []
    named: dict[str, tuple[str, float, float]] = {}
    random = np.random.default_rng(0)
    for (name, points), marker in zip(groups.items(), "osD^v*" * 40, strict=False):
        x, y = np.array([p[:2] for p in points]).T * 2 ** random.uniform(-0.4, 0.4, (2, len(points)))
        look = {"color": colour_of(name), "markersize": 7, "alpha": 0.8, "linestyle": "none"}
        ax.plot(x, y, marker, label=name, gid=name, **look)
        places += zip(x.tolist(), y.tolist(), strict=True)
        found = zip(x.tolist(), y.tolist(), (p[2] for p in points), strict=True)
        named |= {word: (word.removeprefix(f"{name}."), a, b) for a, b, word in found if word in shown}
    for at, sentence in ((allowed, "as right as rounded inputs allow"), (ceiling, "∞ or NaN for a number")):
        ax.annotate(
            sentence, (0.99, at), (0, 14 if at == ceiling else -12), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", color=BLACK, bbox=HALO, fontsize="small",
        )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="error of the value, units", ylabel="error of the derivatives, units")
    ax.set_xlim(LEAST / 2, ceiling * 4)
    ax.set_ylim(LEAST / 2, ceiling * 16)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize="small")
    _write_names(ax, [named[word] for word in shown], places)
    return ax


BESIDE = [(7, 0), (-7, 0), (0, 7), (0, -7), (6, 6), (-6, 6), (6, -6), (-6, -6)]
"""Where a name may stand, in points from its own: to the right, to the left, above, below, at the corners."""


def _write_names(ax: Axes, named: list[tuple[str, float, float]], places: list[tuple[float, float]]) -> None:
    """Each name beside its point, where it meets no point and no other words; none where there is no such place."""
    figure: Any = ax.figure
    figure.figure.draw_without_rendering()  # which settles how large the axes are
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in ax.transData.transform(places)]
    taken += [text.get_window_extent() for text in ax.texts]
    for word, x, y in named:
        for right, up in BESIDE:
            text = ax.annotate(
                word, (x, y), (right, up), textcoords="offset points", fontsize="x-small", color=GREY,
                ha="left" if right > 0 else "right" if right else "center",
                va="bottom" if up > 0 else "top" if up else "center",
            )  # fmt: skip
            box = text.get_window_extent()
            inside = ax.bbox.x0 < box.x0 and box.x1 < ax.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def save_map(atlas: "Atlas", path: Path | str) -> None:
    """Draw the map of an atlas into a file, its points into ``.csv`` and its alt text into ``.txt`` beside it.

    Args:
      atlas: what :func:`lossjax.verify.atlas` returned.
      path: the file to write, ending in .png, .svg or .pdf.

    Raises:
      ValueError: another suffix, or an atlas with nothing that was measured.
    """

    def drawn() -> tuple[Figure, dict[str, Axes]]:
        figure = Figure(figsize=(9.5, 6.5), layout="constrained")
        ax = atlas_map(atlas, ax=figure.add_subplot())
        ax.set_title(f"Largest errors in {atlas.dtype}")
        return figure, {"a": ax}

    judged = [one for one in atlas.charts if not one.why]
    lost = sum(float(f"{one.worst:.1e}") > LOST for one in judged)  # as the tables round it
    write(
        path,
        drawn,
        f"""\
One panel, both axes logarithmic: {len(judged)} functions as points, by the largest error of the value and by that of
the derivatives, in units of roundoff. {lost} of them lose all digits somewhere, or return infinity or NaN for a number.
""",
    )
