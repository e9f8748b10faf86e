"""What ``lossjax bench`` does; the package ``cli`` holds its options."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lossjax.bench import drawing, markdown_tables, report
from lossjax.bench.peers import available
from lossjax.bench.problems import SUITES
from lossjax.bench.run import Measured, measure


def run(
    suite: str,
    peers: Sequence[str],
    *,
    seconds: float,
    json: Path | None,
    plot: Path | None,
    markdown: Path | None,
    containing: Sequence[str] = (),
) -> bool:
    """Run a suite and show its results. Return whether lossjax itself ran every problem.

    ``containing``: only problems whose name contains each of these texts.
    """
    problems = [problem for problem in SUITES[suite]() if all(text in problem.name for text in containing)]
    names = list(peers) or available()
    measured: list[Measured] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(problems))
        for problem in problems:
            title = problem.name
            measured += measure(
                problem,
                names,
                seconds=seconds,
                progress=lambda doing, title=title: bar.update(task, description=f"{title}: {doing}"),
            )
            bar.advance(task)
    if json is not None:
        report.write_json(json, suite, measured)
    present(measured, plot=plot, markdown=markdown)
    return not any(m.error for m in measured if m.peer == "lossjax")


def again(results: Sequence[Path], *, plot: Path | None, markdown: Path | None) -> None:
    """Show results that were measured before and stored as JSON."""
    present([row for path in results for row in report.read_json(path)[1]], plot=plot, markdown=markdown)


def present(measured: Sequence[Measured], *, plot: Path | None, markdown: Path | None) -> None:
    """Show the tables, the refusals, the means and (for the suite ``growth``) the fit; write the files asked for."""
    console = Console()
    console.print(report.table(measured))
    for row in measured:
        if row.error:
            console.print(f"{row.peer} refused {row.problem}: {row.error}", markup=False, soft_wrap=True)
    console.print(report.summary(measured))
    problems = SUITES["growth"]()
    growing = {m.problem for m in measured} == {problem.name for problem in problems}
    if growing:
        for peer in dict.fromkeys(m.peer for m in measured if m.temporary_bytes):
            _, rows, classes = report.fit(problems, measured, peer, "seconds")
            _, more, wide = report.fit(problems, measured, peer, "temporary_bytes")
            console.print(f"{peer}: time ~ N^{rows:.2f} C^{classes:.2f}, temporary memory ~ N^{more:.2f} C^{wide:.2f}")
    if plot is not None:
        drawing.growth(plot, problems, measured) if growing else drawing.bars(plot, measured)
    if markdown is not None:
        markdown_tables.replace(markdown, "bench", report.markdown(measured))
