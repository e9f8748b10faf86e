"""Results as a table for a person, and as JSON for a program."""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from lossjax.verify.claim import Figure, Result

TITLES = {
    "4.1": "Introduction",
    "4.1.1": "Information theory",
    "4.1.2": "Mean squared error as Gaussian likelihood",
    "4.1.3": "Cross-entropy as categorical likelihood",
    "4.1.4": "The Euclidean geometry of squared error",
    "4.1.5": "Bregman divergence and information geometry",
    "4.1.6": "Softmax with cross-entropy",
    "4.1.7": "Summary",
}
_VERDICT_STYLES = {"holds": "green", "needs conditions": "yellow", "imprecise": "yellow", "wrong": "red"}


def number(x: float) -> str:
    """A number as a person would write it: three figures, few digits."""
    if not math.isfinite(x):
        return str(x).replace("inf", "∞")
    if x == 0 or 0.01 <= abs(x) < 1e5:
        return f"{x:.3g}" if abs(x) < 1000 else f"{x:.0f}"
    return f"{x:.1e}"


def figure(one: Figure) -> Text:
    """The figure beside its limit, green if within it."""
    relation = "≥" if one.refutes else "≤"
    if one.allowed == 0 and one.measured == 0 and not one.refutes:
        return Text("exact", style="green")
    if one.refutes and one.allowed == one.measured == 1:
        return Text("seen", style="green")
    return Text(f"{number(one.measured)} {relation} {number(one.allowed)}", style="green" if one.ok else "bold red")


def table(results: Sequence[Result]) -> Group:
    """One table per section, one row per claim: what is said, what holds, the tightest figure per dtype."""
    tables = []
    for section, of_section in groupby(results, key=lambda r: r.section):
        dtypes = list(dict.fromkeys(r.dtype for r in results))
        one = Table(
            title=f"§{section}  {TITLES.get(section, '')}",
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            expand=True,
        )
        one.add_column("claim", no_wrap=True, style="cyan")
        one.add_column("the chapter says, and [italic]what holds[/italic]", ratio=1)
        for dtype in dtypes:
            one.add_column(dtype, no_wrap=True, justify="right")
        one.add_column("", no_wrap=True)
        for _, of_claim in groupby(of_section, key=lambda r: r.name):
            group = list(of_claim)
            first = group[0]
            text = Text(first.statement)
            if first.correction:
                text.append(f"\n{first.verdict}: ", style=_VERDICT_STYLES[first.verdict])
                text.append(first.correction, style="italic")
            found = {r.dtype: r for r in group}
            one.add_row(
                first.name,
                text,
                *(figure(found[d].tightest) if d in found else "" for d in dtypes),
                Text("✓", style="bold green") if all(r.ok for r in group) else Text("✗", style="bold red"),
            )
        tables.append(one)
    return Group(*tables)


def failures(results: Iterable[Result]) -> list[str]:
    """One line for each figure that misses its limit."""
    return [
        f"{r.name} ({r.dtype}): {f.what}: measured {number(f.measured)}, "
        f"allowed {'at least' if f.refutes else 'at most'} {number(f.allowed)}"
        for r in results
        for f in r.figures
        if not f.ok
    ]


def details(results: Sequence[Result], console: Console) -> None:
    """Every figure of every claim."""
    for r in results:
        console.print(Text(f"{r.name} ({r.dtype})", style="cyan"))
        for f in r.figures:
            console.print(Text("  "), figure(f), Text(f"  {f.what}"), sep="")


def summary(results: Sequence[Result]) -> str:
    """In words, how many claims hold and how many of them as corrected; nothing for no claims."""
    names = {r.name for r in results}
    corrected = {r.name for r in results if r.correction}
    failed = {r.name for r in results if not r.ok}
    if failed:
        return f"{len(failed)} of {len(names)} claims fall short: {', '.join(sorted(failed))}"
    return f"All {len(names)} claims hold on this machine, {len(corrected)} of them as corrected" if names else ""


class Plain(Protocol):
    """What is written as JSON: a claim's result, a certified loss."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        ...


def write_json(results: Sequence[Plain], path: Path) -> None:
    """One object a result, as a list."""
    path.write_text(json.dumps([r.to_dict() for r in results], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
