"""The survey's table."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any

from lossjax.bench import markdown_tables
from survey.measuring import NONE, OK

PACKAGE = {"haiku": "dm-haiku", "ott": "ott-jax", "e3nn_jax": "e3nn-jax"}
"""What is installed under another name than it is imported."""


def _share(rows: list[dict[str, Any]], part: str) -> str:
    asked = [row for row in rows if not row[part].startswith(NONE)]
    done = sum(row[part] == OK for row in asked)
    return f"{done} of {len(asked)} | {100 * done / max(len(asked), 1):.1f} %"


def _slowest(rows: list[dict[str, Any]]) -> str:
    return f"{max(max(row['seconds'], row['gradient_seconds']) for row in rows):.1f} s"


def _version(library: str) -> str:
    package = PACKAGE.get(library, library.partition(".")[0])
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def written(rows: list[dict[str, Any]]) -> str:
    """One line per library and in all; then what is missing, by its cause."""
    latest = {row["name"]: row for row in rows}.values()
    lines = ["| library | version | values | | gradients | | slowest |", "|---|---|---|---|---|---|---|"]
    for library in dict.fromkeys(row["library"] for row in latest):
        own = [row for row in latest if row["library"] == library]
        shares = f"{_share(own, 'value')} | {_share(own, 'gradient')}"
        lines.append(f"| {library} | {_version(library)} | {shares} | {_slowest(own)} |")
    whole = list(latest)
    lines.append(f"| **all** | | {_share(whole, 'value')} | {_share(whole, 'gradient')} | {_slowest(whole)} |")
    causes: dict[str, set[str]] = {}
    for row in latest:
        for part in ("value", "gradient"):
            if row[part] != OK and not row[part].startswith(NONE):
                kind, _, rest = row[part].partition(": ")
                cause = f"{kind}: `{rest.partition(':')[0]}`" if kind in ("refused", "error") else kind
                causes.setdefault(cause, set()).add(row["name"].removeprefix("jax."))
    lines += ["", "| not executed | functions |", "|---|---|"]
    for cause, names in sorted(causes.items(), key=lambda item: -len(item[1])):
        lines.append(f"| {cause} ({len(names)}) | {', '.join(f'`{name}`' for name in sorted(names))} |")
    return "\n".join(lines)


_ANSWERS = (OK, "no", "not judged", "time")


def _answer(rule: str) -> str:
    return next((answer for answer in _ANSWERS if rule.partition(":")[0] == answer), "not judged")


def _counts(rows: list[dict[str, Any]]) -> str:
    answers = [_answer(row["rule"]) for row in rows]
    return " | ".join(str(count) for count in (len(rows), *map(answers.count, _ANSWERS)))


def _plain(said: str) -> str:
    """Words of a program in which Markdown sees no emphasis."""
    return re.sub(r"__\w+__", r"`\g<0>`", " ".join(said.split()).replace("*", "∗"))


def judgements(rows: list[dict[str, Any]]) -> str:
    """How many custom derivatives of each library are right, and what is said of the others."""
    asked = [row for row in {row["name"]: row for row in rows}.values() if not row["rule"].startswith(NONE)]
    lines = ["| library | version | with a custom derivative | right | no | not judged | out of time |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for library in dict.fromkeys(row["library"] for row in asked):
        own = [row for row in asked if row["library"] == library]
        lines.append(f"| {library} | {_version(library)} | {_counts(own)} |")
    lines.append(f"| **all** | | {_counts(asked)} |")
    others = sorted((row["name"].removeprefix("jax."), row["rule"]) for row in asked if row["rule"] != OK)
    said = [f"| `{name}` | {_plain(rule)} |" for name, rule in others]
    return "\n".join([*lines, "", "| not found right | what is said |", "|---|---|", *said] if others else lines)


def into(page: Path, mark: str, text: str) -> None:
    """Put the table into the page, between the marks of this name."""
    markdown_tables.replace(page, mark, text)
