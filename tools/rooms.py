"""The rooms of the house in the order of the imports, and the table of them in CONTRIBUTING.md.

    python tools/rooms.py

writes the table: for each room the first line of its docstring, and its files. `tests/test_architecture.py` holds every
import to the order, and the table to the code.
"""

import ast
from pathlib import Path

from lossjax.bench import markdown_tables

ROOT = Path(__file__).resolve().parents[1]
FACADE = "lossjax"
"""``lossjax/__init__.py``: the flat public API."""

ROOMS = (
    "_core", "numerics", "_softmax", "_rules", "losses", "policy", "preference", "geometry", "families", FACADE,
    "optax", "verify", "accelerators", "plot", "bench", "cli",
)  # fmt: skip
"""Top to bottom is the way of the data: a room imports only from itself and from the public face of rooms before it."""


def described(path: Path) -> str:
    """The first sentence or line of a file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n")[0].removesuffix(".")


def row(room: str) -> str:
    """One row of the table."""
    package = ROOT / "lossjax" if room == FACADE else ROOT / "lossjax" / room
    if room == FACADE or not package.is_dir():
        path = package / "__init__.py" if room == FACADE else package.with_suffix(".py")
        return f"| `{path.relative_to(ROOT)}` | {described(path)} | |"
    inside = [p for p in sorted(package.iterdir()) if p.name != "__init__.py" and not p.name.startswith("__")]
    names = [f"`{p.stem}`" for p in inside if p.suffix == ".py"] + [f"`{p.name}/`" for p in inside if p.is_dir()]
    return f"| `lossjax/{room}/` | {described(package / '__init__.py')} | {' '.join(names)} |"


def table() -> str:
    """The rooms, top to bottom."""
    return "\n".join(["| room | what is in it | files |", "|---|---|---|", *map(row, ROOMS)])


if __name__ == "__main__":
    markdown_tables.replace(ROOT / "CONTRIBUTING.md", "rooms", table())
