"""Compile the losses for TPUs and GPUs by those chips' compilers, which need no chip, and check what the programs do.

    python tools/accelerators.py            # `make accelerators`: the tests, the tables and the recorded results
    python tools/accelerators.py --quick    # `make accelerators-quick`: a few tests, for one chip of each compiler
    python tools/accelerators.py --results benchmarks/results/accelerators.json --markdown docs/accelerators.md

The compilers have an environment of their own in .venv-accelerators, with the newest JAX. What cannot be installed is
said in one sentence, and skipped.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

FOLDER = ROOT / ".venv-accelerators"
PACKAGES = ["-e", ".[verify,plot]", "pytest", "pytest-xdist"]
COMPILERS = {"libtpu": ["libtpu"], "JAX's CUDA plugin": ["jax-cuda12-plugin", "jax-cuda12-pjrt"]}
"""What is installed beside JAX, each apart: one that cannot be had must not keep the other away."""
VERSIONS = ("jax", "libtpu", "jax-cuda12-plugin", "optax")
RESULTS = "benchmarks/results/accelerators.json"
PAGE = "docs/accelerators.md"


def environment() -> Path | None:
    """The interpreter of the environment; None, and one sentence, where there can be none."""
    from tools.matrix import NEWEST, OLDEST, interpreter

    inside, stamp = FOLDER / "bin" / "python", FOLDER / "installed"
    wanted = (ROOT / "pyproject.toml").read_text(encoding="utf-8") + str((PACKAGES, COMPILERS))
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return inside
    python = next((found for minor in range(NEWEST, OLDEST, -1) if (found := interpreter(minor))), None)
    if python is None:
        print("skipped: no Python from 3.12 on is found, which the newest JAX needs", flush=True)
        return None
    subprocess.run([python, "-m", "venv", "--clear", str(FOLDER)], check=True)
    install = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*install, *PACKAGES], cwd=ROOT).returncode:
        print("skipped: the newest JAX cannot be installed here", flush=True)
        return None
    version = subprocess.run([str(inside), "-c", "import jax; print(jax.__version__)"], capture_output=True, text=True)
    for name, packages in COMPILERS.items():
        pinned = [package + f"=={version.stdout.strip()}" if "jax" in package else package for package in packages]
        if subprocess.run([*install, "--no-deps", *pinned], cwd=ROOT).returncode:
            print(f"skipped: {name} cannot be installed here, so nothing is compiled by it", flush=True)
    stamp.write_text(wanted, encoding="utf-8")
    return inside


def compile_for(chip: str, cases: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """The suite for one chip, losses of logits and heads, in a process of its own."""
    from lossjax.accelerators import heads, suite

    def progress(what: str) -> None:
        print(what, flush=True)

    losses = [case for case in cases if case in suite.CASES]
    of_heads = [case for case in cases if case in heads.HEADS]
    return (
        suite.run([chip], losses, progress) if losses or not cases else [],
        heads.run(chip, of_heads, progress) if of_heads or not cases else [],
    )


def read(path: Path) -> tuple[list[Any], list[Any]]:
    """The rows of a recorded file: losses of logits, and heads."""
    from lossjax.accelerators import heads, suite

    stored = json.loads(path.read_text(encoding="utf-8"))
    return [suite.Row(**row) for row in stored["results"]], [heads.HeadRow(**row) for row in stored["heads"]]


def recorded(found: tuple[list[Any], list[Any]], path: Path) -> tuple[list[Any], list[Any]]:
    """Write what was found, in the place of the same chips' cases in the file; what other versions made is dropped."""
    from lossjax.accelerators import chips, heads, suite

    here = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    versions = {name: here[name] for name in VERSIONS if name in here}
    order = list(chips.CHIPS), [*suite.CASES, *heads.HEADS]
    before: tuple[list[Any], list[Any]] = ([], [])
    if path.exists() and json.loads(path.read_text(encoding="utf-8"))["versions"] == versions:
        before = read(path)

    def together(old: list[Any], new: list[Any]) -> list[Any]:
        again = {(row.chip, row.case) for row in new}
        rows = [*new, *(row for row in old if (row.chip, row.case) not in again)]
        return sorted(rows, key=lambda row: (order[0].index(row.chip), order[1].index(row.case)))

    losses, of_heads = map(together, before, found)
    stored: dict[str, Any] = {"versions": versions, "shape": suite.SHAPE, "shape of heads": heads.SHAPE}
    stored |= {
        "results": list(map(dataclasses.asdict, losses)), "heads": list(map(dataclasses.asdict, of_heads)),
    }  # fmt: skip
    path.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    return losses, of_heads


def compile_everything(given: argparse.Namespace) -> int:
    """In the environment: the tables and the recorded results. 1 where a program moves more than is allowed."""
    from lossjax.accelerators import chips, heads, suite
    from lossjax.bench import markdown_tables
    from lossjax.plot import save_memory_traffic

    if given.results is not None:
        found = read(given.results)
    else:
        missing = {name: chips.lacking(chip) for name, chip in chips.CHIPS.items()}
        for sentence in filter(None, missing.values()):
            print(f"skipped: {sentence}", flush=True)
        wanted = [name for name in given.chip or chips.CHIPS if missing[name] is None]
        # A process for each chip: a compiler keeps one of the machine's cores busy, and much memory.
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
            of_chips = list(pool.map(compile_for, wanted, [given.case or ()] * len(wanted)))
        found = [row for rows, _ in of_chips for row in rows], [row for _, rows in of_chips for row in rows]
        if given.json is not None:
            found = recorded(found, given.json)
    tables = suite.markdown(found[0]), heads.markdown(found[1])
    print(*tables, sep="\n\n")
    if given.markdown is not None:
        for place, table in zip(("accelerators", "heads on chips"), tables, strict=True):
            markdown_tables.replace(given.markdown, place, table)
        save_memory_traffic(found[0], given.markdown.parent / "figures" / "memory_traffic.png")
    broken = [row for rows in found for row in rows if not row.ok]
    for row in broken:
        print(row.complaint)
    return 1 if broken else 0


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only a few tests, and no tables")
    parser.add_argument("--inside", action="store_true", help="use this interpreter's own compilers")
    parser.add_argument("--chip", action="append", help="only this chip; repeatable")
    parser.add_argument("--case", action="append", help="only this loss; repeatable")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--markdown", type=Path, help="bring the tables of this file, and its figure, up to date")
    parser.add_argument("--results", type=Path, help="compile nothing: show what --json wrote")
    given = parser.parse_args()
    from lossjax.accelerators import chips, heads, suite

    cases = [*suite.CASES, *heads.HEADS]
    for kind, chosen, known in (("chip", given.chip, chips.CHIPS), ("case", given.case, cases)):
        unknown = next((name for name in chosen or () if name not in known), None)
        if unknown is not None:
            parser.exit(2, f"{unknown!r} is not one of the {kind}s: {'; '.join(known)}\n")
    if given.inside or given.results is not None:
        return compile_everything(given)
    inside = environment()
    if inside is None:
        return 0
    tests = [str(inside), "-m", "pytest", "-m", "accelerators", "tests/accelerators"]
    tests += ["-k", "once and (v5e or h100)"] if given.quick else []
    # JAX must not look for the chips of this machine: it forgets the compiler of those that it does not find.
    if subprocess.run(tests, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}).returncode:
        return 1
    if given.quick:
        return 0
    chosen = [part for name in ("chip", "case") for one in getattr(given, name) or () for part in (f"--{name}", one)]
    suite = [str(inside), __file__, "--inside", "--json", RESULTS, "--markdown", PAGE, *chosen]
    return subprocess.run(suite, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
