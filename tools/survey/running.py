"""The survey of one library: its subjects one after the other, each a row of a file as soon as it is known."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from survey import of_jax
from survey.measuring import NONE, OK
from survey.subjects import Subject


def subjects_of(library: str) -> Iterator[Subject]:
    """The subjects of a library; none if it is not installed."""
    if library in of_jax.MODULES:
        return of_jax.of(library)
    if importlib.util.find_spec(library) is None:
        return iter(())
    from survey import of_libraries

    return of_libraries.of(library)


def failed(row: dict[str, str]) -> bool:
    """Whether value or gradient was not executed, or a rule not found right."""
    found = [row[part] for part in ("value", "gradient", "rule") if part in row]
    return any(outcome != OK and not outcome.startswith(NONE) for outcome in found)


def measure(library: str, names: str, path: Path, again: bool, measured: Callable[[Subject], dict[str, Any]]) -> None:
    """Measure what the file does not have yet."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rows = {row["name"]: row for row in rows}
    count = 0
    for subject in subjects_of(library):
        known = rows.get(subject.name)
        if names not in subject.name or (known and not (again and failed(known))):
            continue
        row = measured(subject)
        count += 1
        outcome = f"{row['value'][:60]:60} {row['gradient'][:60]}" if "value" in row else row["rule"][:120]
        print(f"{count:4} {subject.name:50} {outcome}", flush=True)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
