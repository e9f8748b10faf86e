"""The command line: ``lossjax verify``, ``lossjax check``, ``lossjax atlas``, ``lossjax figure``, ``lossjax bench``."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import lossjax
from lossjax.bench import markdown_tables
from lossjax.cli import atlas
from lossjax.cli.showing import Steps, examples, has_place

app = typer.Typer(
    help="Loss functions for JAX whose values and gradients are proven.",
    epilog=examples(
        "check optax.losses:log_cosh",
        "verify --section 4.1.3",
        "atlas jax.nn --only gelu",
        "figure accuracy.png",
        "bench --suite quick",
    ),
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


@app.command(epilog=examples("verify", "verify --section 4.1.5 --details", "verify --loss huber_loss --all"))
def verify(
    json: Annotated[Path | None, typer.Option(help="Also write the results to this file.", dir_okay=False)] = None,
    section: Annotated[
        list[str] | None, typer.Option(help="Only the claims of this section, as 4.1.5; may be repeated.")
    ] = None,
    loss: Annotated[list[str] | None, typer.Option(help="Only this loss; may be repeated.")] = None,
    every_dtype: Annotated[
        bool, typer.Option("--all", help="Certify losses in float64, bfloat16 and float16 too, not in float32 alone.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="How many processes to check in.")] = min(
        os.cpu_count() or 1, 4
    ),
    details: Annotated[bool, typer.Option("--details", help="Print every measurement, not the tightest only.")] = False,
    markdown: Annotated[
        Path | None,
        typer.Option(help="Also bring the table of losses in this Markdown file up to date; needs --all.", exists=True),
    ] = None,
) -> None:
    """Check every claim of chapter 4.1 and certify every loss, on this machine."""
    from lossjax.verify import everything, loss_report, report

    console = Console()
    if json is not None and not json.parent.is_dir():
        raise typer.BadParameter(f"the folder of {json} does not exist", param_hint="--json")
    if markdown is not None and (section or loss or not every_dtype):
        raise typer.BadParameter(
            "the table has all losses in all dtypes: give --all, without --section and --loss", param_hint="--markdown"
        )
    if markdown is not None:
        has_place(markdown, "certified")
    try:
        plan = everything.Plan.of(section or [], loss or [], every_dtype=every_dtype)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--section" if "section" in str(error) else "--loss") from error
    console.print(plan.sentence(processes), markup=False)
    start = time.monotonic()
    with Steps(plan.steps) as steps:
        proven, certified = everything.run(
            plan,
            processes=processes,
            proven=lambda one: steps.done(f"§{one.section:<6} {one.name:<12} {one.dtype}", bool(one.ok)),
            certified=lambda one: steps.done(f"{one.name} {one.dtype}", bool(one.ok)),
        )
    took = time.monotonic() - start
    if proven:
        console.print(report.table(proven))
    if certified:
        console.print(loss_report.table(certified))
    if details:
        report.details(proven, console)
        for one in certified:
            console.print(f"{one.name} ({one.dtype})", style="cyan", markup=False)
            console.print(one.certificate)
    for line in (*report.failures(proven), *loss_report.failures(certified)):
        console.print(line, style="red", markup=False)
    try:
        if json is not None:
            report.write_json([*proven, *certified], json)
        if markdown is not None:
            markdown_tables.replace(markdown, "certified", loss_report.markdown(certified))
    except OSError as error:
        raise typer.BadParameter(f"cannot write {error.filename}: {error.strerror}") from error
    ok = all(r.ok for r in (*proven, *certified))
    parts = [summary for summary in (report.summary(proven), loss_report.summary(certified)) if summary]
    console.print(f"{'. '.join(parts)} ({took:.0f} s).", style="bold green" if ok else "bold red", markup=False)
    raise typer.Exit(0 if ok else 1)


@app.command(
    epilog=examples(
        "check optax.losses:log_cosh",
        "check optax.losses:huber_loss --only value --only gradient",
        "check jax.nn:softplus --argnums 0 --json certificate.json",
    )
)
def check(
    function: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="As optax.losses:log_cosh or mine.py:loss.")
    ],
    logits: Annotated[Path | None, typer.Option(help="Real logits from this .npy file.", dir_okay=False)] = None,
    labels: Annotated[Path | None, typer.Option(help="Their labels (or targets) likewise.", dir_okay=False)] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="What it should compute, without a rule of its own."),
    ] = None,
    argnums: Annotated[
        str | None, typer.Option(help="The arguments to differentiate, as 0,1; all float arrays if not given.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this check: rule, value, gradient, modes, cotangent, edges, overflow; repeatable."),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(help="Let the exit code depend on this check alone; the others are shown; repeatable."),
    ] = None,
    ulps: Annotated[float, typer.Option(min=0, help="Units of roundoff, of result and inputs, allowed.")] = 8,
    json: Annotated[Path | None, typer.Option(help="Also write the certificate to this file.", dir_okay=False)] = None,
) -> None:
    """Certify anybody's loss: is its gradient right, how accurate is it, does it work as JAX code?

    Exit code 0: all that was asked holds. 1: something falls short. 2: a wrong request. 3: it could not be judged.
    """
    from lossjax.verify import check as certify
    from lossjax.verify import subject

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
        meant = None if reference is None else subject.load(reference)
        asked = None if argnums is None else subject.positions(argnums)
        if unknown := [name for name in require or () if name not in subject.CHECKS]:
            raise subject.UsageError(
                f"--require: there is no check {unknown[0]!r}; there are {', '.join(subject.CHECKS)}"
            )
        with console.status(f"checking {function}", spinner="dots"):
            certificate = certify(
                loss, *arguments, argnums=asked, reference=meant, checks=tuple(only) if only else None, ulps=ulps
            )
    except subject.UsageError as error:
        raise typer.BadParameter(str(error)) from error
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"{function} cannot be checked: {error}") from error
    console.print(certificate)
    if json is not None:
        json.write_text(certificate.to_json() + "\n", encoding="utf-8")
    made = list(dict.fromkeys(row.name.partition(":")[0] for row in certificate.rows))
    if left_out := sorted(set(require or ()) - set(made)):
        raise typer.BadParameter(
            f"{left_out[0]!r} is not among the checks that were made: {', '.join(made)}", param_hint="--require"
        )
    raise typer.Exit((certificate.of(require) if require else certificate).exit_code)


app.command(epilog=examples("atlas jax.nn --only gelu --points 64", "atlas optax.losses --only cosine --plot map.png"))(
    atlas.atlas
)


@app.command(epilog=examples("figure accuracy.png", "figure fisher_simplex.svg --json facts.json"))
def figure(
    output: Annotated[
        Path,
        typer.Argument(
            metavar="NAME.png",
            help="NAME is loss_surfaces_gradients, fisher_simplex, projections, accuracy, cancellation, memory or "
            "atlas; or .svg, .pdf.",
            dir_okay=False,
        ),
    ],
    json: Annotated[Path | None, typer.Option(help="Also write the facts to this file.", dir_okay=False)] = None,
) -> None:
    """Draw a figure of the chapter, its curves (.csv) and alt text (.txt) beside it, and check the facts it shows."""
    try:
        from lossjax import plot
    except ImportError as error:
        if "lossjax[plot]" not in str(error):
            raise
        typer.echo(f"lossjax: {error}", err=True)
        raise typer.Exit(2) from error
    from lossjax.verify import report

    console = Console()
    if json is not None and not json.parent.is_dir():
        raise typer.BadParameter(f"the folder of {json} does not exist", param_hint="--json")
    try:
        with console.status(f"drawing {output}", spinner="dots"):
            facts = plot.save(output.stem.removeprefix("fig_CH04_"), output)
        if json is not None:
            report.write_json(facts, json)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAME.png") from error
    for fact in facts:
        if not fact.ok:
            console.print(
                f"{fact.statement}: {fact.measured:.3g}, allowed {fact.allowed:.3g}", style="red", markup=False
            )
    names = ", ".join(str(output.with_suffix(suffix)) for suffix in (output.suffix, ".csv", ".txt"))
    console.print(f"wrote {names}; {sum(bool(fact.ok) for fact in facts)} of the {len(facts)} facts that it shows hold")
    raise typer.Exit(0 if all(fact.ok for fact in facts) else 1)


@app.command(
    epilog=examples("bench --suite quick", "bench --suite quick --seconds 1 --plot bench.png --json bench.json")
)
def bench(
    suite: Annotated[
        str, typer.Option(help="rows, head, heads, options, divergences, growth, large (accelerators) or quick.")
    ] = "rows",
    peer: Annotated[
        list[str] | None, typer.Option(help="Only this one (lossjax, optax, jax.nn, tokamax, torch); repeatable.")
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option(help="Only problems whose name contains this text; given again, each of the texts."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="About how long to time each problem.")] = 10.0,
    json: Annotated[Path | None, typer.Option(help="Also write the results to this file.", dir_okay=False)] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw them, as .png, .svg or .pdf.", dir_okay=False)] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Also bring the table of this Markdown file up to date.", exists=True)
    ] = None,
    results: Annotated[
        list[Path] | None, typer.Option(help="Measure nothing: show what --json wrote; repeatable.", exists=True)
    ] = None,
    compile_for: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHIP",
            help="Time nothing: compile for this chip (v5e, v5p, v6e, 7x, h100, a100, b200), and show the bytes that "
            "its program moves; repeatable.",
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="ROWSxCLASSES", help="Your own shape to compile for, in place of a suite; or ROWSxHIDDENxCLASSES."
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="The dtype of your own shape.")] = "bfloat16",
) -> None:
    """Time lossjax beside its peers on this machine, paired and alternating in one process."""
    from lossjax.bench.command import again, run
    from lossjax.bench.peers import available
    from lossjax.bench.problems import SUITES

    if suite not in SUITES:
        raise typer.BadParameter(f"{suite!r} is not one of {', '.join(SUITES)}", param_hint="--suite")
    unknown = sorted(set(peer or ()) - set(available()))
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(available())}", param_hint="--peer")
    if not any(all(text in one.name for text in problem or ()) for one in SUITES[suite]()):
        raise typer.BadParameter(
            f"no problem of {suite} contains {' and '.join(problem or ())}", param_hint="--problem"
        )
    for path, option in ((json, "--json"), (plot, "--plot")):
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"the folder of {path} does not exist", param_hint=option)
    if markdown is not None:
        has_place(markdown, "bench")
    if compile_for:
        from lossjax.accelerators import NotPossible
        from lossjax.bench import compiling

        try:
            compiling.run(compile_for, suite, shape, dtype, peer or (), json)
        except NotPossible as error:
            typer.echo(f"lossjax: {error}", err=True)
            raise typer.Exit(2) from error
        raise typer.Exit
    if shape is not None:
        raise typer.BadParameter("goes with --compile-for", param_hint="--shape")
    if results and json is not None:
        raise typer.BadParameter(
            "measures nothing that --json could write; leave one of them out", param_hint="--results"
        )
    if results:
        again(results, plot=plot, markdown=markdown)
        raise typer.Exit
    ok = run(suite, peer or (), containing=problem or (), seconds=seconds, json=json, plot=plot, markdown=markdown)
    raise typer.Exit(0 if ok else 1)
