"""What a check found: one row a question, a table for a person, JSON for a program."""

import dataclasses
import io
import json
import math
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from lossjax.verify.report import number

_WIDTH = 120


@dataclasses.dataclass(frozen=True)
class Row:
    """One question's answer.

    Attributes:
      name: the check, and for ``modes`` the transformation after a colon, ``modes: jvp``.
      ok: True, False, or None where it could not be judged or does not apply; ``detail`` says why.
      measured: the worst that was found, in the unit that ``detail`` names.
      allowed: the most that is let pass.
      detail: what was tried, in words.
      failures: what fell short, one line each, with the inputs that reproduce it.
    """

    name: str
    ok: bool | None
    measured: float = 0.0
    allowed: float = 0.0
    detail: str = ""
    failures: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what JSON has no number for is a string."""
        plain = dataclasses.asdict(self)
        for key in ("measured", "allowed"):
            if not math.isfinite(plain[key]):
                plain[key] = str(plain[key])
        return plain | {"failures": list(self.failures)}


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The answers about one function.

    Attributes:
      name: the function's.
      rows: one a question.
      seconds: how long it took.
    """

    name: str
    rows: tuple[Row, ...]
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether something was judged and nothing fell short."""
        return any(r.ok for r in self.rows) and all(r.ok is not False for r in self.rows)

    @property
    def failures(self) -> list[str]:
        """One line for each thing that fell short: check, argument, index, got, want, inputs."""
        lines = [f"{r.name}: {line}" for r in self.rows if r.ok is False for line in (r.failures or (r.detail,))]
        if not lines and not self.ok:
            lines = [f"nothing could be judged; {r.name}: {r.detail}" for r in self.rows]
        return lines

    def to_json(self) -> str:
        """An object with name, ok, seconds, rows and failures."""
        found = {
            "name": self.name,
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "rows": [r.to_dict() for r in self.rows],
            "failures": self.failures,
        }
        return json.dumps(found, indent=1, ensure_ascii=False)

    def __rich__(self) -> Group:
        table = Table(
            title=f"{self.name}  ({self.seconds:.1f} s)",
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            expand=True,
        )
        table.add_column("check", no_wrap=True, style="cyan")
        table.add_column("measured", no_wrap=True, justify="right")
        table.add_column("allowed", no_wrap=True, justify="right")
        table.add_column("", no_wrap=True)
        table.add_column("what was tried", ratio=1)
        for row in self.rows:
            judged = row.ok is not None
            table.add_row(
                row.name,
                Text(number(row.measured), style="green" if row.ok else "bold red") if judged else "",
                number(row.allowed) if judged else "",
                _mark(row.ok),
                Text(row.detail),
            )
        lines = [Text(f"✗ {line}", style="red") for line in self.failures]
        return Group(table, *lines, self._verdict())

    def _verdict(self) -> Text:
        if self.ok:
            judged = sum(r.ok is not None for r in self.rows)
            return Text(f"All {judged} checks hold.", style="bold green")
        failed = [r.name for r in self.rows if r.ok is False]
        return Text(f"Falls short: {', '.join(failed) or 'nothing could be judged'}.", style="bold red")

    def __str__(self) -> str:
        stream = io.StringIO()
        Console(file=stream, width=_WIDTH, no_color=True).print(self)
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _mark(ok: bool | None) -> Text:
    if ok is None:
        return Text("–", style="dim")
    return Text("✓", style="bold green") if ok else Text("✗", style="bold red")
