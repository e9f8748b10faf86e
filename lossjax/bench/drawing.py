"""The plots: bars of a suite's results, and curves of how a head's cost grows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lossjax.bench.problems import Problem
from lossjax.bench.run import Measured


def bars(path: Path, measured: Sequence[Measured]) -> None:
    """Bars of the ratio to optax and of temporary memory, one group per problem."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from lossjax.plot import style

    mpl.rcParams["svg.hashsalt"] = "lossjax"
    peers = list(dict.fromkeys(m.peer for m in measured))
    names = list(dict.fromkeys(m.problem for m in measured))
    figure = Figure(figsize=(10, 1.6 + 0.22 * len(names) * len(peers)), layout="constrained")
    speed, memory = figure.subplots(1, 2, sharey=True)
    height = 0.8 / len(peers)
    for i, peer in enumerate(peers):
        rows = {m.problem: m for m in measured if m.peer == peer and m.error is None}
        at = np.array([j + (i - (len(peers) - 1) / 2) * height for j, name in enumerate(names) if name in rows])
        own = [rows[name] for name in names if name in rows]
        look = {"height": height, "color": style.SERIES[i % 5], "hatch": style.HATCHES[i % 5], "edgecolor": "white"}
        speed.barh(at, [m.ratio for m in own], label=peer, **look)
        memory.barh(at, [(m.temporary_bytes or 0) / 2**20 for m in own], **look)
    speed.axvline(1, color="black", linewidth=0.8)
    speed.set_yticks(range(len(names)), names)
    speed.set_ylim(len(names) - 0.5, -0.5)
    speed.set_xlabel("time, as a multiple of optax's")
    memory.set_xlabel("temporary memory of the compiled program, MiB")
    memory.set_xscale("symlog", linthresh=1)
    figure.legend(loc="outside upper center", ncols=len(peers), frameon=False)
    figure.savefig(path, dpi=130)


def growth(path: Path, problems: Sequence[Problem], measured: Sequence[Measured]) -> None:
    """Time and temporary memory against rows and against classes, both axes logarithmic."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from lossjax.plot import style

    mpl.rcParams["svg.hashsalt"] = "lossjax"
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    most_rows = max((p.classes for p in problems), key=[p.classes for p in problems].count)
    most_classes = min((p.rows for p in problems if p.classes != most_rows), default=0)
    by_rows = sorted((p for p in problems if p.classes == most_rows), key=lambda p: p.rows)
    by_classes = sorted((p for p in problems if p.rows == most_classes), key=lambda p: p.classes)
    for i, peer in enumerate(dict.fromkeys(m.peer for m in measured)):
        known = {m.problem: m for m in measured if m.peer == peer and m.error is None}
        for column, (shown, side) in enumerate(((by_rows, "rows"), (by_classes, "classes"))):
            own = [(getattr(p, side), known[p.name]) for p in shown if p.name in known]
            line, look = style.MARKED_LINES[i % 5], {"color": style.SERIES[i % 5], "label": peer}
            panels[0, column].loglog([x for x, _ in own], [m.seconds for _, m in own], line, **look)
            sizes = [(m.temporary_bytes or np.nan) / 2**20 for _, m in own]
            panels[1, column].loglog([x for x, _ in own], sizes, line, **look)
    panels[0, 0].set_ylabel("time, s")
    panels[1, 0].set_ylabel("temporary memory, MiB")
    panels[1, 0].set_xlabel(f"rows B, at {most_rows} classes")
    panels[1, 1].set_xlabel(f"classes V, at {most_classes} rows")
    for panel, shown, side in ((panels[1, 0], by_rows, "rows"), (panels[1, 1], by_classes, "classes")):
        ticks = [getattr(p, side) for p in shown]
        panel.set_xticks(ticks, [str(t) for t in ticks])
        panel.xaxis.minorticks_off()
    for panel in panels[1]:
        panel.set_yscale("log", base=2)
        panel.yaxis.set_major_formatter("{x:g}")
    panels[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=130)
