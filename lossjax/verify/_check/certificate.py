"""What a check found: one row per question, as a table for a person and as JSON for a program."""

import dataclasses
import io
import json
import math
from collections.abc import Collection
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from lossjax._core.findings import Finding, plain
from lossjax.verify import tables

_WIDTH = 80


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
      program: of a wrong rule, a program in plain JAX that shows it, for the smallest input that was found.
    """

    failures: tuple[str, ...] = ()
    program: str = ""


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The answers about one function.

    Attributes:
      name: the name of the function.
      rows: one ``Row`` per question, with ``name``, ``ok`` (None where it was not judged), ``measured``, ``allowed``,
        ``statement`` (what was tried, in words), ``failures`` (a line for each thing that falls short) and ``program``
        (plain JAX that shows a wrong rule).
      seconds: how long the checks took.
      about: what was checked: the arguments that were differentiated, their dtypes, the device, the versions.
    """

    name: str
    rows: tuple[Row, ...]
    seconds: float = 0.0
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def right(self) -> bool | None:
        """Whether the gradient is right: False if a question about it fails, None if one could not be judged.

        These are ``rule``, ``cotangent``, and whether rows depend on how many there are. A gradient that is right may
        still be inaccurate, or fail at an edge.
        """
        about_it = [r for r in self.rows if r.name in _OF_THE_GRADIENT or r.name.startswith("rule: in ")]
        if any(r.ok is False for r in self.rows if r in about_it or r.name.startswith(_PARTS)):
            return False
        return True if about_it and all(r.ok for r in about_it) else None

    @property
    def ok(self) -> bool | None:
        """True if nothing falls short; None if whether the gradient is right was asked and could not be judged."""
        if any(r.ok is False for r in self.rows):
            return False
        asked = any(r.name in _OF_THE_GRADIENT for r in self.rows)
        return True if any(r.ok for r in self.rows) and (self.right or not asked) else None

    @property
    def exit_code(self) -> int:
        """0 where all is well, 1 where something falls short, 3 where it could not be judged (2 is a wrong request)."""
        return {True: 0, False: 1, None: 3}[self.ok]

    def of(self, checks: Collection[str]) -> "Certificate":
        """The certificate of these checks alone: what falls short in others is no matter of it."""
        rows = tuple(row for row in self.rows if row.name.partition(":")[0] in checks)
        return dataclasses.replace(self, rows=rows)

    @property
    def failures(self) -> list[str]:
        """One line for each thing that falls short, or could not be judged and had to be."""
        lines = [f"{r.name}: {line}" for r in self.rows if r.ok is False for line in (r.failures or (r.statement,))]
        if not lines and not self.ok:
            lines = [f"{r.name}: {r.statement}" for r in self.rows if r.ok is None]
        return lines

    def to_json(self) -> str:
        """An object with name, right, ok, seconds, about, rows, failures; what is not judged or not finite is null."""
        rows = [
            plain(row) | {key: _number(row, getattr(row, key)) for key in ("measured", "allowed")} for row in self.rows
        ]
        found = {"name": self.name, "right": self.right, "ok": self.ok, "seconds": round(self.seconds, 3)}
        found |= {"about": self.about, "rows": rows, "failures": self.failures}
        return json.dumps(found, indent=1, ensure_ascii=False)

    def __rich__(self) -> Group:
        columns: list[tuple[str, tables.Kind]] = [
            ("", "number"), ("check", "name"), ("found", "number"), ("allowed", "number"), ("what was tried", "words")
        ]  # fmt: skip
        table = tables.table("", columns)
        table.title = None
        for row in self.rows:
            judged = row.ok is not None
            measured = tables.coloured(tables.number(row.measured), row.ok) if judged else ""
            allowed = tables.number(row.allowed) if judged else ""
            table.add_row(tables.mark(row.ok), row.name.removeprefix("modes: "), measured, allowed, Text(row.statement))
        lines = self._lines()
        programs = [row.program for row in self.rows if row.program]
        lines += [Text(f"\nTo see it in plain JAX:\n\n{code}\n", no_wrap=True, overflow="ignore") for code in programs]
        about = Text(", ".join(map(str, self._about())), style="dim")
        return Group(self._first_line(), about, table, *lines, self._verdict())

    def _about(self) -> list[str]:
        """In what was checked, in words."""
        of = self.about.get("differentiated", {})
        parts = ["in " + ", ".join(f"{name} ({dtype})" for name, dtype in of.items())] if of else []
        if self.about:
            parts.append(f"JAX {self.about['versions']['jax']} on {self.about['device']}")
        return [*parts, f"{self.seconds:.1f} s"]

    def _lines(self) -> list[Text]:
        """What falls short, each line with a cross; where nothing does, what could not be judged, with a dash."""
        if self.ok is False:
            return [Text(f"✗ {line}", style="red") for line in self.failures]
        if self.ok:
            return []
        said = [(r.name, r.statement.removeprefix("not judged: ")) for r in self.rows if r.ok is None]
        return [Text(f"– {name}: not judged: {why}", style="yellow") for name, why in said]

    def _first_line(self) -> Text:
        """The answer to the first question that anybody has; where only some checks were made, to each of theirs."""
        made = {row.name.partition(":")[0] for row in self.rows}
        asked = {_QUESTIONS[check]: self._answer(check) for check in _QUESTIONS if check in made}
        if made >= _QUESTIONS.keys() - {"overflow"}:
            asked = {question: answer for question, answer in asked.items() if question == _QUESTIONS["rule"]}
        parts: list[str | tuple[str, str]] = [(f"{self.name}:" if asked else self.name, "bold")]
        for question, answer in asked.items():
            parts += [";"] * (len(parts) > 1) + [(f" {question} ", "bold"), _ANSWERS[answer]]
        return Text.assemble(*parts)

    def _answer(self, check: str) -> bool | None:
        """To the question of a check; that of its rule and its cotangent is whether the gradient is right."""
        if check in _OF_THE_GRADIENT:
            return self.right
        answers = [row.ok for row in self.rows if row.name.partition(":")[0] == check and row.ok is not None]
        return all(answers) if answers else None

    def _verdict(self) -> Text:
        judged = sum(r.ok is not None for r in self.rows)
        unjudged = len(self.rows) - judged
        rest = f" {unjudged} not judged." if unjudged else ""
        if self.ok:
            return Text(f"All {judged} checks hold.{rest}", style="bold green")
        failed = [r.name for r in self.rows if r.ok is False]
        if failed:
            return Text(f"Falls short: {', '.join(failed)}.{rest}", style="bold red")
        return Text("Not judged: see above.", style="bold yellow")

    def __str__(self) -> str:
        stream = io.StringIO()
        Console(file=stream, width=_WIDTH, no_color=True).print(self)
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


_OF_THE_GRADIENT = ("rule", "cotangent")
_QUESTIONS = {
    **dict.fromkeys(_OF_THE_GRADIENT, "is the gradient right?"),
    "value": "is the value accurate?",
    "gradient": "is the gradient accurate?",
    "modes": "does it work as JAX code?",
    "edges": "is it right at the edges?",
    "overflow": "is it right for the largest numbers?",
}
"""What each check asks, as the first line says it."""
_ANSWERS = {True: ("yes", "bold green"), False: ("NO", "bold red"), None: ("not judged", "bold yellow")}
_PARTS = ("rule: ", "modes: other batch sizes")
"""Questions about the gradient that need not be answerable: a function may have no forward mode, and no batch."""


def _number(row: Row, value: float) -> float | None:
    return value if row.ok is not None and math.isfinite(value) else None
