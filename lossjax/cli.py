"""The command line: ``lossjax verify``, ``lossjax check``."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import lossjax

app = typer.Typer(
    help="Loss functions for JAX whose values and gradients are proven.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lossjax {lossjax.__version__}")
        raise typer.Exit


@app.callback()
def lossjax_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Loss functions for JAX whose values and gradients are proven."""


@app.command()
def verify(
    json: Annotated[Path | None, typer.Option(help="Also write the results to this file.", dir_okay=False)] = None,
    section: Annotated[list[str] | None, typer.Option(help="Only this section, as 4.1.5; may be repeated.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="How many processes to check in.")] = min(
        os.cpu_count() or 1, 4
    ),
    details: Annotated[bool, typer.Option("--details", help="Print every figure, not the tightest only.")] = False,
) -> None:
    """Check every theorem and claim of the chapter on this machine, in float32 and float64."""
    from lossjax.verify import report
    from lossjax.verify.claim import DTYPES, Claim
    from lossjax.verify.theorems import claims, theorems

    console = Console()
    sections = section or []
    if json is not None and not json.parent.is_dir():
        raise typer.BadParameter(f"the folder of {json} does not exist", param_hint="--json")
    count = len(DTYPES) * sum(not sections or c.section in sections for c in claims())
    start = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("checking", total=count)
        done = 0

        def step(claim: Claim, dtype: str) -> None:
            nonlocal done
            done += 1
            bar.update(task, completed=done, description=f"§{claim.section:<6} {claim.name:<12} {dtype}")

        try:
            results = theorems(sections=sections, progress=step, processes=processes)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--section") from error
    console.print(report.table(results))
    if details:
        report.details(results, console)
    for line in report.failures(results):
        console.print(line, style="red", markup=False)
    console.print(report.summary(results, time.monotonic() - start))
    if json is not None:
        try:
            report.write_json(results, json)
        except OSError as error:
            raise typer.BadParameter(f"cannot write {json}: {error.strerror}", param_hint="--json") from error
    raise typer.Exit(0 if all(r.ok for r in results) else 1)


@app.command()
def check(
    function: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="As optax.losses:log_cosh or mine.py:loss.")
    ],
    logits: Annotated[Path | None, typer.Option(help="Real logits from this .npy file.", dir_okay=False)] = None,
    labels: Annotated[Path | None, typer.Option(help="Their labels (or targets) likewise.", dir_okay=False)] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this check: rule, value, gradient, modes, cotangent, edges; repeatable."),
    ] = None,
    ulps: Annotated[float, typer.Option(min=0, help="Units of roundoff, of result and inputs, allowed.")] = 8,
    json: Annotated[Path | None, typer.Option(help="Also write the certificate to this file.", dir_okay=False)] = None,
) -> None:
    """Certify anybody's loss: is its gradient right, how accurate is it, does it work as JAX code?"""
    from lossjax.verify import subject
    from lossjax.verify.check import check as certify

    console = Console()
    if json is not None and not json.parent.is_dir():
        raise typer.BadParameter(f"the folder of {json} does not exist", param_hint="--json")
    try:
        loss = subject.load(function)
        given = [
            None if path is None else subject.read(path, what)
            for path, what in ((logits, "logits"), (labels, "labels"))
        ]
        arguments = subject.arguments(loss, *given)
        with console.status(f"checking {function}", spinner="dots"):
            certificate = certify(loss, *arguments, checks=tuple(only) if only else None, ulps=ulps)
    except subject.UsageError as error:
        raise typer.BadParameter(str(error)) from error
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"{function} cannot be checked: {error}") from error
    console.print(certificate)
    if json is not None:
        json.write_text(certificate.to_json() + "\n", encoding="utf-8")
    raise typer.Exit(0 if certificate.ok else 1)
