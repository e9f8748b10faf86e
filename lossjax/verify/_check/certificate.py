"""What a check found: one row per question, as a table for a person and as JSON for a program."""

import dataclasses
import io
import json

from rich.console import Console, Group
from rich.text import Text

from lossjax._core.findings import Finding, plain
from lossjax.verify import tables

_WIDTH = 120


@dataclasses.dataclass(frozen=True)
class Row(Finding):
    """The answer to one question.

    Attributes:
      name: the check, and for ``modes`` the transformation after a colon, ``modes: jvp``.
      ok: True, False, or None where it could not be judged or does not apply; ``statement`` says why.
      measured: the worst that was found, in the unit that ``statement`` names.
      allowed: the most that is let pass.
      statement: what was tried, in words.
      failures: what fell short, one line each, with the inputs that reproduce it.
    """

    failures: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The answers about one function.

    Attributes:
      name: the name of the function.
      rows: one row per question.
      seconds: how long the checks took.
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
        lines = [f"{r.name}: {line}" for r in self.rows if r.ok is False for line in (r.failures or (r.statement,))]
        if not lines and not self.ok:
            lines = [f"nothing could be judged; {r.name}: {r.statement}" for r in self.rows]
        return lines

    def to_json(self) -> str:
        """An object with name, ok, seconds, rows and failures."""
        found = {"name": self.name, "ok": self.ok, "seconds": round(self.seconds, 3)}
        found |= {"rows": plain(self.rows), "failures": self.failures}
        return json.dumps(found, indent=1, ensure_ascii=False)

    def __rich__(self) -> Group:
        title = f"{self.name}  ({self.seconds:.1f} s)"
        table = tables.table(
            title,
            [
                ("check", "name"),
                ("measured", "number"),
                ("allowed", "number"),
                ("", "number"),
                ("what was tried", "words"),
            ],
        )
        for row in self.rows:
            judged = row.ok is not None
            measured = tables.coloured(tables.number(row.measured), row.ok) if judged else ""
            allowed = tables.number(row.allowed) if judged else ""
            table.add_row(row.name, measured, allowed, tables.mark(row.ok), Text(row.statement))
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
