"""The atlas of the JAX ecosystem: the tables and the map of `docs/atlas.md`, measured on what is installed.

    python tools/atlas.py [--only jax.nn,distrax] [--points 128] [--records FOLDER] [--page docs/atlas.md]

Libraries are measured one after the other, some minutes each; a record that is in the folder already is not measured
again unless `--only` names it. `--page` writes the tables of all records, and the map beside them.
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
from lossjax.verify import Atlas, atlas

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("jax.nn", "jax.scipy.special", "jax.scipy.stats", "optax.losses", "distrax", "tokamax")


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


def measured(module: str, points: int, done: Callable[[Any], None]) -> Atlas:
    """The atlas of one library."""
    if module == "tokamax":
        functions = of_tokamax()
        kinds = {name: words for name, (_, words) in functions.items()}
        found = atlas({n: f for n, (f, _) in functions.items()}, domains=kinds, points=points, done=done)
        return Atlas(found.charts, found.dtype, found.versions | {"tokamax": importlib.metadata.version("tokamax")})
    return atlas(module, points=points, seconds=10, done=done)


def main() -> None:
    """Measure what was asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="libraries to measure (again), separated by commas")
    parser.add_argument("--points", type=int, default=128, help="how many to draw for each function")
    parser.add_argument("--records", type=Path, default=ROOT / ".pytest_cache" / "atlas", help="the folder of records")
    parser.add_argument("--page", type=Path, help="the page to write the tables into")
    options = parser.parse_args()
    options.records.mkdir(parents=True, exist_ok=True)
    again = options.only.split(",") if options.only else []
    with Progress() as progress:
        for module in again or MODULES:
            record = options.records / f"{module}.json"
            if record.exists() and not again:
                continue
            task = progress.add_task(module, total=None)
            found = measured(module, options.points, lambda one, task=task: progress.update(task, description=one.name))
            progress.update(task, total=1, completed=1, description=module)
            record.write_text(found.to_json() + "\n", encoding="utf-8")
    found = {path.stem: Atlas.from_json(path.read_text(encoding="utf-8")) for path in options.records.glob("*.json")}
    if options.page:
        for module, one in found.items():
            versions = ", ".join(f"{name} {version}" for name, version in one.versions.items())
            markdown_tables.replace(options.page, f"atlas of {module}", f"{versions}; {one.dtype}.\n\n{one.markdown()}")
        charts = tuple(chart for one in found.values() for chart in one.charts)
        from lossjax.plot import save_map

        save_map(Atlas(charts), options.page.parent / "figures" / "atlas_map.png")


if __name__ == "__main__":
    main()
