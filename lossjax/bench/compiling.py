"""``lossjax bench --compile-for``: problems compiled for a chip that need not be there, ours beside the peers'."""

import dataclasses
import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from lossjax.accelerators import Chip, Facts, HeadPlan, NotPossible, compiled_for, plan_head
from lossjax.accelerators.chips import chip_named, devices
from lossjax.bench.peers import PEERS, available
from lossjax.bench.problems import SUITES, Head, Problem, Rows


def problem_of(shape: str, dtype: str) -> list[Problem]:
    """The problems of a shape as ``8192x131072`` (rows, classes) or ``8192x4096x131072`` (rows, hidden, classes)."""
    try:
        sizes = [int(size) for size in shape.lower().split("x")]
    except ValueError:
        sizes = []
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise NotPossible(f"{shape!r} is neither ROWSxCLASSES nor ROWSxHIDDENxCLASSES")
    if dtype not in ("float32", "bfloat16", "float16"):
        raise NotPossible(f"{dtype!r} is not one of float32, bfloat16, float16")
    if len(sizes) == 3:
        return [Head(sizes[0], sizes[1], sizes[2], dtype)]
    return [Rows(sizes[0], sizes[1], dtype, what) for what in ("forward", "value_and_grad")]


def run(
    names: Sequence[str], suite: str, shape: str | None, dtype: str, peers: Sequence[str], json: Path | None
) -> None:
    """Compile, show a table for each problem, and write the JSON. Raise NotPossible with one sentence."""
    chips = [chip_named(name) for name in names]
    problems = SUITES[suite]() if shape is None else problem_of(shape, dtype)
    for chip in chips:
        devices(chip)  # what is missing is said before anything is compiled
    console, stored = Console(), []
    wanted = [peer for peer in peers or available() if peer in PEERS]
    for chip in chips:
        for problem in problems:
            table = Table(title=f"{problem.name}, compiled for {chip.name}", title_justify="left", title_style="bold")
            for column in ("peer", "moved", "× the logits", "temporary", "kernels", "at the bandwidth"):
                table.add_column(column, justify="left" if column == "peer" else "right", no_wrap=True)
            for peer in wanted:
                step = PEERS[peer](problem)
                if step is None:
                    continue
                facts = _facts(chip, problem, peer, step)
                if facts is None:
                    table.add_row(peer, "refused")
                    continue
                table.add_row(peer, *_cells(chip, problem, facts))
                stored.append({"chip": chip.name, "problem": problem.name, "peer": peer, **dataclasses.asdict(facts)})
            console.print(table)
            if isinstance(problem, Head):
                console.print(f"{_plan(chip, problem)}\n", highlight=False)
    if json is not None:
        json.write_text(json_format.dumps({"results": stored}, indent=1) + "\n", encoding="utf-8")


def _facts(chip: Chip, problem: Problem, peer: str, step: Any) -> Facts | None:
    """None if a peer cannot have this problem; that lossjax cannot is an error."""
    try:
        return compiled_for(chip, step, *jax.eval_shape(problem.data))
    except Exception:
        if peer == "lossjax":
            raise
        return None


def _plan(chip: Chip, problem: Head) -> HeadPlan:
    return plan_head(problem.rows, problem.hidden, problem.classes, chip=chip.name, dtype=problem.dtype)


def _cells(chip: Chip, problem: Problem, facts: Facts) -> list[str]:
    classes = problem.rows * problem.classes * jnp.dtype(problem.dtype).itemsize
    return [
        f"{facts.moved / 1e6:.0f} MB",
        f"{facts.moved / classes:.2f}",
        f"{facts.temporary / 2**20:.1f} MiB",
        str(facts.kernels),
        f"{facts.milliseconds(chip):.3f} ms",
    ]
