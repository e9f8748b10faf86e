"""Shared by the examples of post-training: the curves of a training, drawn, and written down beside the picture."""

import csv
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

STYLES = ("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^")
"""Colour, line and marker of each curve: distinct to colour-blind readers too, and in print."""


class Panel(NamedTuple):
    """What one half of the picture shows against the step."""

    title: str
    curves: Mapping[str, Sequence[tuple[int, float]]]
    """Of each curve the step and the value."""
    scale: str = "linear"


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draw into an image, and write it down beside it."""
    figure = Figure(figsize=(5.6 * len(panels), 4.4), layout="constrained")
    for ax, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for (name, points), (color, line, marker) in zip(panel.curves.items(), cycle(STYLES)):
            ax.plot(*zip(*points, strict=True), color=color, linestyle=line, marker=marker, label=name, linewidth=2)
        ax.set_title(panel.title, loc="left", weight="bold")
        ax.set(xlabel="step", yscale=panel.scale)
        if panel.scale == "log":
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("{x:g}")
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
        if len(panel.curves) > 1:
            ax.legend(title="learned by", frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None} if path.suffix == ".png" else None)
    write_down(panels, path)


def write_down(panels: Sequence[Panel], path: Path) -> None:
    """Write the points into a ``.csv`` beside an image, and what there is to see into a ``.txt``."""
    with path.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("panel", "curve", "step", "value"))
        for panel in panels:
            for name, points in panel.curves.items():
                rows.writerows((panel.title, name, step, f"{value:.5g}") for step, value in points)
    words = [
        f"{panel.title}, against the step. " + " ".join(f"{name}: {_course(at)}." for name, at in panel.curves.items())
        for panel in panels
    ]
    path.with_suffix(".txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def _course(points: Sequence[tuple[int, float]]) -> str:
    """The first value of a curve and the last, and those between that lie outside of them, to three digits."""
    least, most = (by(points, key=lambda point: point[1]) for by in (min, max))
    first, last, low, high = (f"{value:.3g}" for _, value in (points[0], points[-1], least, most))
    words = f"from {first} to {last}"
    if low not in (first, last):
        words += f", at least {low} (step {least[0]})"
    if high not in (first, last):
        words += f", at most {high} (step {most[0]})"
    return words
