"""``lossjax atlas``: how wrong the functions of a module are, at worst."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lossjax.bench import markdown_tables
from lossjax.cli.showing import Steps, has_place


def atlas(
    module: Annotated[
        str, typer.Argument(metavar="[MODULE]", help="As jax.nn, optax.losses or mine; lossjax if not given.")
    ] = "lossjax",
    only: Annotated[
        list[str] | None, typer.Option(help="Only functions whose name contains this; may be repeated.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the arguments: float32, float64, bfloat16 or float16.")] = "float32",
    points: Annotated[int, typer.Option(min=1, help="How many points to draw for each function.")] = 256,
    seconds: Annotated[float, typer.Option(min=0, help="How long a function may be measured.")] = 20,
    ulps: Annotated[float, typer.Option(min=0, help="Units of roundoff, of result and inputs, allowed.")] = 8,
    processes: Annotated[int, typer.Option(min=1, help="How many processes to measure in.")] = min(
        os.cpu_count() or 1, 4
    ),
    json: Annotated[Path | None, typer.Option(help="Also write the atlas to this file.", dir_okay=False)] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw a map, as .png, .svg or .pdf.", dir_okay=False)] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Also bring the table of this Markdown file up to date.", exists=True)
    ] = None,
) -> None:
    """Measure the largest errors of a module's functions over their domains, of values and derivatives, worst first.

    Exit code 0: all are within what is allowed. 1: some are not. 2: a wrong request. 3: none could be measured.
    """
    from lossjax import verify

    for path, option in ((json, "--json"), (plot, "--plot")):
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"the folder of {path} does not exist", param_hint=option)
    place = f"atlas of {module}"
    if markdown is not None:
        has_place(markdown, place)
    if dtype not in ("float32", "float64", "bfloat16", "float16"):
        raise typer.BadParameter(f"{dtype!r} is not one of float32, float64, bfloat16, float16", param_hint="--dtype")
    if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
        raise typer.BadParameter(f"cannot draw {plot.name}, wanted one of .png, .svg, .pdf", param_hint="--plot")
    try:
        functions = verify.functions_of(module)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="MODULE") from error
    chosen = [name for name in functions if not only or any(part in name for part in only)]
    if not chosen:
        raise typer.BadParameter(f"{module} has no function {' or '.join(only or ['at all'])}", param_hint="--only")
    console = Console()
    with Steps(len(chosen)) as steps:
        found = verify.atlas(
            module,
            only=chosen,
            dtype=dtype,
            points=points,
            seconds=seconds,
            ulps=ulps,
            processes=min(processes, len(chosen)),
            done=lambda one: steps.done(one.name, one.ok),
        )
    console.print(found)
    try:
        if json is not None:
            json.write_text(found.to_json() + "\n", encoding="utf-8")
        if markdown is not None:
            markdown_tables.replace(markdown, place, found.markdown())
        if plot is not None:
            from lossjax.plot import save_map

            save_map(found, plot)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {error.filename}: {error.strerror}") from error
    raise typer.Exit(found.exit_code)
