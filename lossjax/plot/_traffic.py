"""The bytes that a loss moves on TPUs and GPUs, as the suite for accelerators read them from compiled programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lossjax.plot.files import write
from lossjax.plot.style import BLUE, GREY, VERMILLION, axes_or_new

if TYPE_CHECKING:
    from lossjax.accelerators.suite import Row

MARKS: dict[tuple[str, str], dict[str, Any]] = {
    ("lossjax", "value"): {"color": BLUE, "marker": "o", "markersize": 7},
    ("optax", "value"): {"color": VERMILLION, "marker": "o", "markerfacecolor": "none", "markersize": 12},
    ("lossjax", "value and gradient"): {"color": BLUE, "marker": "s", "markersize": 7},
    ("optax", "value and gradient"): {"color": VERMILLION, "marker": "s", "markerfacecolor": "none", "markersize": 12},
}
"""By who computes it, and what. optax's marks are rings, so that lossjax's is seen within where both are the same."""
ON_ONE_CHIP = "h100"
"""The chip whose programs of every loss the figure shows."""


def memory_traffic(found: "Sequence[Row]", *, ax: Axes | None = None) -> Axes:
    """Bytes that the programs of losses move for each logit: of one loss on several chips, or of several on one chip.

    Args:
      found: what :func:`lossjax.accelerators.suite.run` returned, in one dtype: of one case, or of one chip.
      ax: where to draw; default new axes.

    Returns:
      The axes: a row of marks for each chip, or for each case, from the compiled programs.

    Raises:
      ValueError: nothing to draw, several dtypes, or several chips and several cases.

    Example:
      >>> from lossjax.accelerators.suite import Row
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import memory_traffic
      >>> found = [Row("v5e", "labels", "value", "float32", "lossjax", 1.0, 0, 4, 2.6)]
      >>> memory_traffic(found, ax=Figure().add_subplot()).lines[0].get_xdata().tolist()
      [4.0]

    Source: docs/accelerators.md.
    """
    ax = axes_or_new(ax)
    dtypes, chips, cases = (list(dict.fromkeys(getattr(row, of) for row in found)) for of in ("dtype", "chip", "case"))
    if len(dtypes) != 1 or min(len(chips), len(cases)) != 1:
        raise ValueError(
            "wanted programs in one dtype, of one case or for one chip, "
            f"got the dtypes {dtypes}, the cases {cases} and the chips {chips}; choose some of them"
        )
    along, of = (cases, "case") if len(cases) > 1 else (chips, "chip")
    size = jnp.dtype(dtypes[0]).itemsize
    for (peer, what), style in MARKS.items():
        here = [row for row in found if (row.peer, row.what) == (peer, what)]
        if here:
            x, y = [size * row.units for row in here], [along.index(getattr(row, of)) for row in here]
            ax.plot(x, y, linestyle="none", label=f"{peer}, {what}", gid=f"{peer}, {what}", **style)
    ax.hlines(range(len(along)), 0, 1, color=GREY, linewidth=0.5, alpha=0.5, transform=ax.get_yaxis_transform())
    ax.set_yticks(range(len(along)), along)
    ax.set_ylim(len(along) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"bytes moved for each {dtypes[0]} logit")
    return ax


def save_memory_traffic(found: "Sequence[Row]", path: Path | str) -> None:
    """Draw what the suite for accelerators found into a file: a cross-entropy on every chip, every loss on one chip.

    The points go into ``.csv`` and the alt text into ``.txt`` beside it.

    Args:
      found: what :func:`lossjax.accelerators.suite.run` returned, or its recorded results.
      path: the file to write, ending in .png, .svg or .pdf.

    Raises:
      ValueError: another suffix, or nothing of labels, or of one chip, in float32.
    """
    chosen = [row for row in found if row.dtype == "float32"]
    labels = [row for row in chosen if row.case == "labels, mean"]
    on_one = [row for row in chosen if row.chip == ON_ONE_CHIP and ", mean" not in row.case]

    def drawn() -> tuple[Figure, dict[str, Axes]]:
        figure = Figure(figsize=(13.0, 5.2), layout="constrained")
        panels: dict[str, Any] = figure.subplot_mosaic([["a", "b"]])
        memory_traffic(labels, ax=panels["a"]).set_title("a  The mean cross-entropy of labels, on each chip")
        memory_traffic(on_one, ax=panels["b"]).set_title(f"b  Losses of logits, on {ON_ONE_CHIP}")
        figure.legend(*panels["a"].get_legend_handles_labels(), loc="outside lower center", ncols=len(MARKS))
        return figure, panels

    if not labels or not on_one:
        raise ValueError(f"wanted results in float32, of labels and of {ON_ONE_CHIP}, got {len(found)} of others")

    def between(peer: str, what: str) -> str:
        sizes = sorted({f"{4 * row.units:.0f}" for row in labels if (row.peer, row.what) == (peer, what)}, key=float)
        return sizes[0] if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"

    words = {(peer, what): between(peer, what) for peer, what in MARKS}
    write(path, drawn, f"""\
Two panels of marks: how many bytes a compiled program moves for each float32 logit, which has four. (a) The mean
cross-entropy of integer labels, on each chip: {words["lossjax", "value"]} bytes for lossjax's value, \
{words["optax", "value"]} for optax's; {words["lossjax", "value and gradient"]} for lossjax's
value and gradient, {words["optax", "value and gradient"]} for optax's. (b) Every loss of the suite on one chip, \
{ON_ONE_CHIP}.
""")  # fmt: skip
