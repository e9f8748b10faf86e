"""What each test costs: a pytest plugin that logs CPU seconds, and a table of them.

On a machine that others use, and with two workers, the wall clock of ``--durations`` says little. CPU seconds, those of
child processes included, add up:

    python -m pytest --cpu-times build/cpu_times.jsonl
    python -m tests.support.cpu_times build/cpu_times.jsonl [CONTRIBUTING.md]

The second command prints one row per room of tests, and writes the table between the marks of a Markdown file if one
is named. ``make test-times`` is both.
"""

import json
import resource
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

Seconds = dict[str, float]
"""CPU seconds by the tests' node ids."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that switches the log on."""
    parser.addoption("--cpu-times", metavar="FILE", help="log the CPU seconds of each test into this file")


def cpu_seconds() -> float:
    """The CPU time that this process and its children that have ended have used so far."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Append one line per test. Several workers write into one file: a line is one short write."""
    begun = cpu_seconds()
    try:
        return (yield)
    finally:
        if path := item.config.getoption("--cpu-times"):
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps([item.nodeid, round(cpu_seconds() - begun, 3)]) + "\n")


def read(path: Path) -> Seconds:
    """Read the log back; of a test that ran more than once the last line counts."""
    return dict(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def room(node: str) -> str:
    """Name the room of a test: the folder in ``tests``, or the file where it lies in no folder."""
    parts = node.partition("::")[0].split("/")
    return "/".join(parts[:2])


def table(times: Seconds) -> str:
    """One row per room, the most expensive first: cases, CPU seconds, share, and the most expensive test."""
    rooms: dict[str, Seconds] = defaultdict(dict)
    for node, seconds in times.items():
        rooms[room(node)][node] = seconds
    whole = sum(times.values())
    rows = ["| room | cases | CPU seconds | share | its most expensive test |", "|---|---:|---:|---:|---|"]
    for name, inside in sorted(rooms.items(), key=lambda pair: -sum(pair[1].values())):
        total, (node, most) = sum(inside.values()), max(inside.items(), key=lambda pair: pair[1])
        share = f"{100 * total / whole:.0f} %"
        costly = node.rpartition("/")[2].partition("::")
        rows.append(f"| `{name}` | {len(inside)} | {total:.0f} | {share} | `{costly[0]}::{costly[2]}`, {most:.0f} |")
    return "\n".join([*rows, f"| all | {len(times)} | {whole:.0f} | 100 % | |"])


def main(log: str, document: str | None = None) -> None:
    """Print the table; write it into the document if there is one."""
    from lossjax.bench import markdown_tables

    text = table(read(Path(log)))
    print(text)
    if document is not None:
        markdown_tables.replace(Path(document), "times", text)


if __name__ == "__main__":
    main(*sys.argv[1:])
