"""Findings shown to a person: numbers of few digits, marks, and tables of one style."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from rich import box
from rich.table import Table
from rich.text import Text

GOOD, BAD = "green", "bold red"
Kind = Literal["name", "long name", "number", "words"]
_STYLES: dict[Kind, dict[str, Any]] = {
    "name": {"style": "cyan", "no_wrap": True},
    "long name": {"style": "cyan", "overflow": "fold", "min_width": 20},
    "number": {"justify": "right", "no_wrap": True},
    "words": {"ratio": 1},
}
"""What a column holds: names, numbers and marks, or the sentences that take the width that is left."""


def number(x: float) -> str:
    """A number as a person would write it, with three digits at most."""
    if not math.isfinite(x):
        return str(x).replace("inf", "∞")
    if x == 0 or 0.01 <= abs(x) < 1e5:
        return f"{x:.3g}" if abs(x) < 1000 else f"{x:.0f}"
    return f"{x:.1e}"


def coloured(text: str, ok: bool | None) -> Text:
    """A text in green if what it tells is well, else in red."""
    return Text(text, style=GOOD if ok else BAD)


def mark(ok: bool | None) -> Text:
    """A tick, a cross, or a dash for what could not be judged."""
    if ok is None:
        return Text("–", style="dim")
    return Text("✓", style="bold green") if ok else Text("✗", style=BAD)


def table(title: str, columns: Sequence[tuple[str, Kind]]) -> Table:
    """A table without rows yet; it takes the whole width if it has a column of words."""
    wide = any(kind == "words" for _, kind in columns)
    made = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, expand=wide
    )
    for head, kind in columns:
        made.add_column(head, **_STYLES[kind])
    return made
