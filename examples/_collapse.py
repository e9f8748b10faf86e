"""What 03_softmax_collapse.py shows of its runs: a table, and a chart."""

from pathlib import Path

import numpy as np
from _accuracy import table
from _learning import Panel, write_down
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

Runs = dict[str, dict[str, np.ndarray]]
"""Of each loss ``loss`` and ``norm`` at every step; ``zero``, ``margin``, ``accuracy`` after every block of steps."""

STYLES = ("#D55E00", "--"), ("#0072B2", "-")  # distinct to colour-blind readers too, and in print


def progress_table(runs: Runs, title: str) -> Table:
    """A sixth of the run apart: where both runs stand."""
    headings = "step", "loss of", "training\nloss", "gradient\nnorm", "median\nmargin", "gradients 0\nat the label"
    rows = table(title, *headings, "test\naccuracy")
    blocks = min(len(run["zero"]) for run in runs.values())
    for block in range(blocks // 6, blocks + 1, blocks // 6):
        for name, run in runs.items():
            step = len(run["loss"]) // blocks * block
            value, norm = (f"{run[key][step - 1]:.1e}" if run[key][step - 1] else "0" for key in ("loss", "norm"))
            zero = Text(f"{run['zero'][block - 1]}", style="red" if run["zero"][block - 1] else "")
            margin, accuracy = f"{run['margin'][block - 1]:.1f}", f"{run['accuracy'][block - 1]:.4f}"
            rows.add_row(f"{step}", name, value, norm, margin, zero, accuracy)
    return rows


def draw(runs: Runs, pairs: int, title: str, path: str) -> None:
    """Draw both runs into an image, and write down beside it what it shows."""
    _chart(runs, pairs, title).savefig(path, dpi=100)
    write_down(_panels(runs, pairs), Path(path))


def _chart(runs: Runs, pairs: int, title: str) -> Figure:
    """Both runs against the step: loss, gradient norm, label gradients that are 0, test accuracy."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    figure.suptitle(title, fontsize=15, weight="bold")
    losses, norms, zeros, accuracies = panels = figure.subplots(2, 2, sharex=True).ravel()
    titles = "Training loss", "Norm of its gradient", "Label gradients that are exactly 0", "Test accuracy"
    for panel, heading in zip(panels, titles, strict=True):
        panel.set_title(heading, loc="left", fontsize=14)
        panel.grid(alpha=0.3)
        panel.tick_params(labelsize=11)
    for panel in (zeros, accuracies):
        panel.set_xlabel("step", fontsize=12)
        panel.set_ylim(-3, 103)
        panel.yaxis.set_major_formatter("{x:.0f} %")

    floor = min(np.min(run["loss"], where=run["loss"] > 0, initial=1) for run in runs.values()) / 1e3
    for (name, run), (color, line) in zip(runs.items(), STYLES, strict=True):
        style = {"label": f"{name}'s loss", "color": color, "linestyle": line, "linewidth": 2.5}
        step = np.arange(len(run["loss"]))
        after = np.arange(1, len(run["zero"]) + 1) * len(step) // len(run["zero"])
        losses.semilogy(step, np.maximum(run["loss"], floor), **style)
        norms.semilogy(step, run["norm"], **style)
        zeros.plot(after, 100 * run["zero"] / pairs, **style)
        accuracies.plot(after, 100 * run["accuracy"], **style)
    note = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "fontsize": 11}
    losses.axhline(2.0**-24, color="black", linestyle=":", linewidth=1)
    losses.annotate("2⁻²⁴, lost beside 1 in float32", (0.99, 2.0**-24), (0, 4), ha="right", **note)
    if np.any(runs["optax"]["loss"] == 0):
        losses.annotate("exactly 0", (0.99, floor), (0, 5), ha="right", **note)
    accuracies.legend(fontsize=13, loc="best")
    return figure


def _panels(runs: Runs, pairs: int) -> list[Panel]:
    """What the chart shows, once in every block of steps."""

    def curves(key: str, factor: float = 1.0) -> dict[str, list[tuple[int, float]]]:
        found = {}
        for name, run in runs.items():
            every = len(run["loss"]) // len(run["zero"])
            values = run[key] if len(run[key]) == len(run["zero"]) else run[key][every - 1 :: every]
            steps = range(every, len(run["loss"]) + 1, every)
            found[f"{name}'s loss"] = [(s, factor * float(v)) for s, v in zip(steps, values, strict=False)]
        return found

    return [
        Panel("Training loss", curves("loss")),
        Panel("Norm of its gradient", curves("norm")),
        Panel("Label gradients that are exactly 0, in %", curves("zero", 100 / pairs)),
        Panel("Test accuracy in %", curves("accuracy", 100)),
    ]
