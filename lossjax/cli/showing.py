"""What several commands share: examples, progress on long work, and the place of a table in a Markdown file."""

from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lossjax.bench import markdown_tables


def examples(*lines: str) -> str:
    """What ends a help: lines to copy. (A paragraph each, which is what typer keeps apart.)"""
    return "\n\n".join(("Examples:", *(f"lossjax {line}" for line in lines)))


def has_place(markdown: Path, name: str) -> None:
    """Before what is to be written takes its minutes."""
    try:
        markdown_tables.around(markdown, name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--markdown") from error


class Steps:
    """Progress on long work: a bar on a terminal, elsewhere one line per step."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("starting", total=total)
        self._total, self._done = total, 0

    def __enter__(self) -> "Steps":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def done(self, what: str, ok: bool | None) -> None:
        """One step more; None is what could not be judged."""
        self._done += 1
        self._bar.update(self._task, advance=1, description=what)
        if self._bar.disable:
            typer.echo(f"{self._done:>4}/{self._total}  {'–' if ok is None else '✓' if ok else '✗'}  {what}", err=True)
