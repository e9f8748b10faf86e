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
        look = {"height": height, "color": style.colour_of(peer), "hatch": style.HATCHES[i % 5], "edgecolor": "white"}
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
    """Time and temporary memory against rows and against classes, all axes logarithmic, with their CSV and words."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    from lossjax.plot import style
    from lossjax.plot.files import write

    most_rows = max((p.classes for p in problems), key=[p.classes for p in problems].count)
    most_classes = min((p.rows for p in problems if p.classes != most_rows), default=0)
    by_rows = sorted((p for p in problems if p.classes == most_rows), key=lambda p: p.rows)
    by_classes = sorted((p for p in problems if p.rows == most_classes), key=lambda p: p.classes)
    peers = list(dict.fromkeys(m.peer for m in measured))
    columns = (("rows", f"rows N, at {most_rows} classes", by_rows),
               ("classes", f"classes C, at {most_classes} rows", by_classes))  # fmt: skip

    def drawn() -> tuple[Figure, dict[str, Axes]]:
        figure = Figure(figsize=(13.0, 8.6), layout="constrained")
        panels = dict(zip("abcd", figure.subplots(2, 2, sharey="row").ravel(), strict=True))
        for letters, (side, xlabel, shown) in zip(("ac", "bd"), columns, strict=True):
            time, memory = (panels[letter] for letter in letters)
            for i, peer in enumerate(peers):
                known = {m.problem: m for m in measured if m.peer == peer and m.error is None}
                own = [(getattr(p, side), known[p.name]) for p in shown if p.name in known]
                look = {"color": style.colour_of(peer), "linewidth": 2.2, "label": peer, "gid": peer}
                at, line = [x for x, _ in own], style.MARKED_LINES[i % 5]
                time.loglog(at, [m.seconds for _, m in own], line, **look)
                memory.loglog(at, [(m.temporary_bytes or np.nan) / 2**20 for _, m in own], line, **look)
            time.set_title(f"{letters[0]}  Time, with the {side}")
            memory.set_title(f"{letters[1]}  Temporary memory, with the {side}")
            for panel, ylabel in ((time, "time, s"), (memory, "temporary memory, MiB")):
                ticks = [getattr(p, side) for p in shown]
                panel.set(xlabel=xlabel, ylabel=ylabel)
                panel.set_xticks(ticks, [str(tick) for tick in ticks])
                panel.xaxis.minorticks_off()
                panel.tick_params(labelleft=True)
            time.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 4)))
            time.yaxis.set_minor_locator(NullLocator())
            time.yaxis.set_major_formatter("{x:g}")
            memory.set_yscale("log", base=2)
            memory.yaxis.set_major_formatter("{x:g}")
        panels["a"].legend(loc="upper left")
        return figure, panels

    write(path, drawn, _growth_in_words(peers, measured))


def _growth_in_words(peers: Sequence[str], measured: Sequence[Measured]) -> str:
    """What the panels of growth show, a sentence for each peer."""
    said = [
        "Four panels, all axes logarithmic: what the loss of a linear head and its gradients take. (a, b) Time,",
        "against the rows of a step and the classes. (c, d) Temporary memory of the compiled program, against both.",
    ]
    for peer in peers:
        own = [m for m in measured if m.peer == peer and m.error is None]
        sizes = [m.temporary_bytes / 2**20 for m in own if m.temporary_bytes]
        held = f"; temporary memory, from {min(sizes):.0f} to {max(sizes):.0f} MiB" if sizes else ""
        compared = f", {min(m.ratio for m in own):.2f} to {max(m.ratio for m in own):.2f} times optax's" if own else ""
        beside = "" if peer == "optax" else compared
        times = f"time, from {min(m.seconds for m in own):.2g} to {max(m.seconds for m in own):.2g} s{beside}{held}"
        said.append(f"{peer}: {times if own else 'nothing'}.")
    return "\n".join(said) + "\n"
