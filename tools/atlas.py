"""The atlas of the JAX ecosystem: the tables and the map of `docs/atlas.md`, measured on what is installed.

    python tools/atlas.py [--only jax.nn,distrax] [--points 128] [--records FOLDER] [--page docs/atlas.md]

Libraries are measured one after the other, some minutes each. Each has a record, to which every function is added as
soon as it is measured; what is there is not measured again. `--page` writes the tables of all records, and the map
beside them.
"""

import argparse
import importlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from rich.progress import Progress

from lossjax.bench import markdown_tables
from lossjax.verify import Atlas, atlas, functions_of

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("jax.nn", "jax.scipy.special", "jax.scipy.stats", "optax.losses", "distrax", "tokamax")
LEFT_OUT = {"jax.scipy.special": ("exp1", "expi", "expn", "hyp1f1", "hyp2f1", "sph_harm_y")}
"""Functions whose exact values take too long at the ends of their domains."""


def of_tokamax() -> dict[str, tuple[Callable[..., Any], tuple[str, ...]]]:
    """Its functions of tensors, as functions of a row: the head has the unit matrix for weights."""
    tokamax: Any = importlib.import_module("tokamax")
    importlib.import_module("absl.flags").FLAGS(["atlas"])

    def head(row: Any, label: Any) -> Any:
        weights = jnp.eye(4, dtype=row.dtype)
        return tokamax.linear_softmax_cross_entropy_loss(row[None], label[None], weights, implementation="xla")

    def norm(row: Any) -> Any:
        return tokamax.layer_norm(row, jnp.ones(4, row.dtype), jnp.zeros(4, row.dtype), implementation="xla")

    return {
        "tokamax.linear_softmax_cross_entropy_loss": (head, ("row", "label")),
        "tokamax.layer_norm": (norm, ("row",)),
    }


def functions(module: str) -> tuple[dict[str, Callable[..., Any]], dict[str, tuple[str, ...]]]:
    """The functions of one library, and the kinds of arguments of those for which they are stated here."""
    if module != "tokamax":
        left_out = {f"{module}.{name}" for name in LEFT_OUT.get(module, ())}
        return {name: one for name, one in functions_of(module).items() if name not in left_out}, {}
    here = of_tokamax()
    return {name: function for name, (function, _) in here.items()}, {name: words for name, (_, words) in here.items()}


def measure(module: str, points: int, record: Path, show: Callable[[str], None]) -> None:
    """Measure what the record does not have yet; it is written after each function."""
    every, kinds = functions(module)
    done = list(Atlas.from_json(record.read_text(encoding="utf-8")).charts) if record.exists() else []
    for name in sorted(set(every) - {chart.name for chart in done}):
        show(name)
        one = atlas(
            {name: every[name]}, domains={name: kinds[name]} if name in kinds else {}, points=points, seconds=10
        )
        done += one.charts
        versions = one.versions | {module.partition(".")[0]: importlib.metadata.version(module.partition(".")[0])}
        record.write_text(Atlas(tuple(done), one.dtype, versions).to_json() + "\n", encoding="utf-8")


def section(module: str, one: Atlas) -> str:
    """What the page says of one library: versions, the table, and what is not in it; names without the library's."""
    versions = ", ".join(f"{name} {version}" for name, version in one.versions.items())
    table = Atlas(tuple(c for c in one.charts if not c.why), one.dtype).markdown().replace(f"\n| `{module}.", "\n| `")
    apart = {
        "Not measured (other arguments than numbers and rows)": [c.name for c in one.charts if c.why],
        "Left out, because their exact values take too long at the ends of their domains": LEFT_OUT.get(module, ()),
    }
    prefix = f"{module}."
    said = [
        f"\n\n{why}: {', '.join(f'`{name.removeprefix(prefix)}`' for name in names)}."
        for why, names in apart.items()
        if names
    ]
    return f"\n{versions}; {one.dtype}.\n\n{table}{''.join(said)}\n"


def main() -> None:
    """Measure what was asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="libraries to measure, separated by commas")
    parser.add_argument("--points", type=int, default=128, help="how many to draw for each function")
    parser.add_argument("--records", type=Path, default=ROOT / ".pytest_cache" / "atlas", help="the folder of records")
    parser.add_argument("--page", type=Path, help="the page to write the tables into")
    options = parser.parse_args()
    options.records.mkdir(parents=True, exist_ok=True)
    with Progress() as progress:
        for module in options.only.split(",") if options.only else MODULES:
            task = progress.add_task(module, total=None)
            record = options.records / f"{module}.json"
            measure(module, options.points, record, lambda name, task=task: progress.update(task, description=name))
            progress.update(task, total=1, completed=1, description=module)
    records = sorted(options.records.glob("*.json"))
    found = {path.stem: Atlas.from_json(path.read_text(encoding="utf-8")) for path in records}
    if options.page:
        for module, one in found.items():
            markdown_tables.replace(options.page, f"atlas of {module}", section(module, one))
        charts = tuple(chart for one in found.values() for chart in one.charts)
        from lossjax.plot import save_map

        save_map(Atlas(charts), options.page.parent / "figures" / "atlas_map.png")


if __name__ == "__main__":
    main()
