"""Results as tables of the terminal, JSON with a description of the machine, a Markdown table, and a fit."""

import dataclasses
import importlib.metadata
import itertools
import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Group
from rich.table import Table

from lossjax.bench.problems import Problem
from lossjax.bench.run import BASE, Measured

COLUMNS = ("peer", "time", "× optax", "compile", "memory", "loss ulp", "grad. ulp")


def table(measured: Sequence[Measured]) -> Group:
    """One table per problem, 80 columns wide. Memory is that of the compiled program; errors are in ulp."""
    tables = []
    for problem, rows in itertools.groupby(measured, lambda row: row.problem):
        shown = Table(title=problem, title_justify="left", title_style="bold")
        for column in COLUMNS:
            shown.add_column(column, justify="left" if column == "peer" else "right", no_wrap=True)
        for row in rows:
            shown.add_row(row.peer, *(["refused"] if row.error else _cells(row)))
        tables.append(shown)
    return Group(*tables)


def _cells(row: Measured) -> list[str]:
    return [
        seconds(row.seconds),
        f"{row.ratio:.2f}",
        "" if row.compile_seconds is None else seconds(row.compile_seconds),
        "" if row.temporary_bytes is None else megabytes(row.temporary_bytes),
        "" if row.loss_ulp is None else f"{row.loss_ulp:.3g}",
        "" if row.gradient_ulp is None else f"{row.gradient_ulp:.3g}",
    ]


def seconds(value: float) -> str:
    """Seconds, with a unit and three digits."""
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def ulps(value: float) -> str:
    """A number of ulp, with two digits."""
    return f"{value:.2g}"


def megabytes(value: float) -> str:
    """Bytes as MiB, with three digits."""
    size = value / 2**20
    return f"{size:.3g} MiB" if size < 999.5 else f"{size:.0f} MiB"


def geometric_mean(ratios: Sequence[float]) -> float:
    """The geometric mean of the finite ratios; NaN if there is none."""
    known = [ratio for ratio in ratios if np.isfinite(ratio)]
    return float(np.exp(np.mean(np.log(known)))) if known else float("nan")


def summary(measured: Sequence[Measured], peer: str = "lossjax") -> str:
    """A line with the geometric means of a peer's ratios over the problems."""
    own = [m for m in measured if m.peer == peer]
    pairs = [(m.compile_seconds, _of(measured, m.problem, BASE)) for m in own]
    compiling = [took / base.compile_seconds for took, base in pairs if took and base and base.compile_seconds]
    means = geometric_mean([m.ratio for m in own]), geometric_mean(compiling)
    return "{} / {}, geometric means: time {:.2f}, time to compile {:.2f}".format(peer, BASE, *means)


def machine() -> dict[str, Any]:
    """The machine and the versions that the measurements were made with."""
    versions = {}
    for package in ("lossjax", "jax", "jaxlib", "optax", "tokamax", "torch", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "device": f"{jax.devices()[0].device_kind} × {jax.device_count()}",
        "platform": jax.default_backend(),
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.now(UTC).date().isoformat(),
    }


def write_json(path: Path, suite: str, measured: Sequence[Measured]) -> None:
    """Write the results, with a description of the machine."""
    rows = [
        {
            **{k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in dataclasses.asdict(m).items()},
            "name": f"{m.problem}: {m.peer}",
            "ok": m.error is None,
            "measured": m.ratio if np.isfinite(m.ratio) else None,
            "allowed": None,
            "statement": "time as a multiple of optax's on stored logits, median of paired rounds",
        }
        for m in measured
    ]
    found = {"suite": suite, "machine": machine(), "results": rows}
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> tuple[dict[str, Any], list[Measured]]:
    """Read the machine and the results from a file of :func:`write_json`."""
    found = json.loads(path.read_text(encoding="utf-8"))
    names = {f.name for f in dataclasses.fields(Measured)}

    def measured(row: dict[str, Any]) -> Measured:
        kept = {k: v for k, v in row.items() if k in names}
        return Measured(**{**kept, **{k: float("nan") for k in ("seconds", "ratio") if kept[k] is None}})

    return found["machine"], [measured(row) for row in found["results"]]


def markdown(measured: Sequence[Measured]) -> str:
    """A table for a document with one line per problem: lossjax beside optax, in the columns that have something."""
    columns = {"temporary_bytes": ("memory", megabytes), "loss_ulp": ("loss, ulp", ulps),
               "gradient_ulp": ("gradient, ulp", ulps)}  # fmt: skip
    columns = {what: of for what, of in columns.items() if any(getattr(m, what) is not None for m in measured)}
    heads = ["lossjax", "time ÷ optax's", *(f"{of}{title}" for title, _ in columns.values() for of in ("", "optax's "))]
    lines = [f"| {' | '.join(['problem', *heads])} |", "|---|" + "---:|" * len(heads)]
    for problem in dict.fromkeys(m.problem for m in measured):
        ours, theirs = (_of(measured, problem, peer) for peer in ("lossjax", BASE))
        if ours is None or ours.error:
            lines.append(f"| {problem} | refused |" + " |" * (len(heads) - 1))
            continue
        cells = [seconds(ours.seconds), f"{ours.ratio:.2f}"]
        for what, (_, shown) in columns.items():
            values = (None if m is None else getattr(m, what) for m in (ours, theirs))
            cells += ["" if value is None else shown(value) for value in values]
        lines.append("| " + " | ".join([problem, *cells]) + " |")
    return "\n".join(lines)


def _of(measured: Sequence[Measured], problem: str, peer: str) -> Measured | None:
    return next((m for m in measured if (m.problem, m.peer) == (problem, peer)), None)


def fit(problems: Sequence[Problem], measured: Sequence[Measured], peer: str, what: str) -> tuple[float, float, float]:
    """(c, a, b) of the least-squares fit c·Bᵃ·Vᵇ to a peer's times or bytes."""
    value = {m.problem: getattr(m, what) for m in measured if m.peer == peer and m.error is None}
    known = [p for p in problems if value.get(p.name)]
    design = np.array([[1.0, np.log(p.rows), np.log(p.classes)] for p in known])
    c, a, b = np.linalg.lstsq(design, np.log([value[p.name] for p in known]), rcond=None)[0]
    return float(np.exp(c)), float(a), float(b)
