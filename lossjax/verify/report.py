"""The claims of the chapter as tables for a person, and any findings as JSON for a program."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console, Group
from rich.text import Text

from lossjax._core.findings import Finding
from lossjax.verify import tables
from lossjax.verify.claim import Measurement, Result
from lossjax.verify.tables import number

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


def measurement(one: Measurement) -> Text:
    """The measured number beside its limit, green if within it."""
    relation = "≥" if one.refutes else "≤"
    if one.allowed == 0 and one.measured == 0 and not one.refutes:
        return tables.coloured("exact", True)
    if one.refutes and one.allowed == one.measured == 1:
        return tables.coloured("seen", True)
    return tables.coloured(f"{number(one.measured)} {relation} {number(one.allowed)}", one.ok)


def table(results: Sequence[Result]) -> Group:
    """One table per section, one row per claim: what is said, what holds, the tightest measurement per dtype."""
    made = []
    dtypes = list(dict.fromkeys(r.dtype for r in results))
    for section, of_section in groupby(results, key=lambda r: r.section):
        title = f"§{section}  {TITLES.get(section, '')}"
        one = tables.table(
            title,
            [
                ("claim", "name"),
                ("the chapter says, and [italic]what holds[/italic]", "words"),
                *((head, "number") for head in (*dtypes, "")),
            ],
        )
        for _, of_claim in groupby(of_section, key=lambda r: r.name):
            found = {r.dtype: r for r in of_claim}
            first = next(iter(found.values()))
            text = Text(first.statement)
            if first.correction:
                text.append(f"\n{first.verdict}: ", style=_VERDICT_STYLES[first.verdict])
                text.append(first.correction, style="italic")
            cells = (measurement(found[d].tightest) if d in found else "" for d in dtypes)
            one.add_row(first.name, text, *cells, tables.mark(all(r.ok for r in found.values())))
        made.append(one)
    return Group(*made)


def failures(results: Iterable[Result]) -> list[str]:
    """One line for each measurement that misses its limit."""
    return [
        f"{r.name} ({r.dtype}): {f.what}: measured {number(f.measured)}, "
        f"allowed {'at least' if f.refutes else 'at most'} {number(f.allowed)}"
        for r in results
        for f in r.measurements
        if not f.ok
    ]


def details(results: Sequence[Result], console: Console) -> None:
    """Print every measurement of every claim."""
    for r in results:
        console.print(Text(f"{r.name} ({r.dtype})", style="cyan"))
        for f in r.measurements:
            console.print(Text("  "), measurement(f), Text(f"  {f.what}"), sep="")


def summary(results: Sequence[Result]) -> str:
    """In words, how many claims hold and how many of them as corrected; nothing for no claims."""
    names = {r.name for r in results}
    corrected = {r.name for r in results if r.correction}
    failed = {r.name for r in results if not r.ok}
    if failed:
        return f"{len(failed)} of {len(names)} claims fall short: {', '.join(sorted(failed))}"
    return f"All {len(names)} claims hold on this machine, {len(corrected)} of them as corrected" if names else ""


def write_json(results: Sequence[Finding], path: Path) -> None:
    """A list of one object per finding."""
    path.write_text(json.dumps([r.to_dict() for r in results], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
