"""The house keeps its order: imports go one way, private JAX stays outside, every public name is documented and run."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import lossjax
from lossjax.bench import markdown_tables
from tests.support.paths import ROOT
from tools.rooms import FACADE, ROOMS, table

PACKAGE = Path(lossjax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LAZY = ("optax", "plot", "verify")
"""Rooms that the facade loads when they are first used; it names them for type checkers."""

REQUIRED = ("Returns:", "Source:", "Example:")
"""What every public function's docstring has; those with arguments also Args, Raises, Domain, Gradient, Accuracy."""


def room(path: Path) -> str:
    """The room that a file is in; the program ``python -m lossjax`` is a part of ``cli``."""
    first = path.relative_to(PACKAGE).with_suffix("").parts[0]
    return {"__init__": FACADE, "__main__": "cli"}.get(first, first)


def imported_modules(text: str) -> set[tuple[str, ...]]:
    """What a file imports of lossjax, at any depth of it: the parts of each module's path, and of each name in it."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {tuple(a.name.split(".")) for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {(*node.module.split("."), a.name) for a in node.names}
    return {parts[1:] for parts in found if parts[0] == "lossjax"}


def violations(name: str, imports: set[tuple[str, ...]]) -> list[str]:
    """Imports that go up, that name no room, or that reach for what another room keeps to itself."""
    if name not in ROOMS:
        return [f"{name} is no room of the house: add it to tools/rooms.py"]
    before = ROOMS[: ROOMS.index(name) + 1]
    wrong = []
    for parts in imports:
        first, *rest = parts if parts and parts[0] in ROOMS else (FACADE, *parts)
        if first not in before and not (name == FACADE and first in LAZY):
            wrong.append(f"{name} imports {first}")
        elif first != name and rest and rest[0].startswith("_"):
            wrong.append(f"{name} imports {first}.{rest[0]}, which is private to {first}")
    return sorted(wrong)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    assert violations(room(path), imported_modules(path.read_text(encoding="utf-8"))) == []


def test_the_rooms_are_those_of_the_document() -> None:
    path = ROOT / "CONTRIBUTING.md"
    before, after = markdown_tables.around(path, "rooms")
    assert path.read_text(encoding="utf-8") == f"{before}\n{table()}\n{after}", "run: python tools/rooms.py"


def test_an_import_against_the_order_is_caught() -> None:
    def of(text: str, name: str = "_rules") -> list[str]:
        return violations(name, imported_modules(text))

    assert of("from lossjax.losses.margins import hinge_loss") == ["_rules imports losses"]
    assert of("from lossjax import geometry") == ["_rules imports geometry"]
    assert of("import lossjax") == of("from lossjax import softmax") == ["_rules imports lossjax"]
    assert of("import lossjax.geometry") == ["_rules imports geometry"]
    private = "from lossjax.geometry._tilting import solve"
    assert of(private, "families") == ["families imports geometry._tilting, which is private to geometry"]
    assert of(private, "geometry") == []
    assert of("", "attic") == ["attic is no room of the house: add it to tools/rooms.py"]
    assert of("from lossjax import numerics\nfrom lossjax._core.checks import reduction\nimport jax") == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_private_jax(path: Path) -> None:
    assert "jax._src" not in path.read_text(encoding="utf-8")


def test_custom_rules_are_named_in_one_file() -> None:
    """The verifier knows the primitives by their names, as strings; nobody else may define a rule."""

    def names(path: Path) -> set[str]:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        used = {n.attr for n in nodes if isinstance(n, ast.Attribute)} | {
            n.id for n in nodes if isinstance(n, ast.Name)
        }
        return used | {a.name for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}

    assert [p.name for p in FILES if names(p) & {"custom_vjp", "custom_jvp"}] == ["autodiff.py"]


def test_files_stay_readable() -> None:
    long = {str(p.relative_to(PACKAGE)): n for p in FILES if (n := len(p.read_text().splitlines())) > 320}
    assert long == {}


def public_functions() -> list[tuple[str, object]]:
    """Every public function, of the package and of its public rooms."""
    found = []
    for module in (lossjax, lossjax.geometry):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                found.append((f"{module.__name__}.{name}", value))
    return found


@pytest.mark.parametrize(("name", "function"), public_functions(), ids=lambda x: x if isinstance(x, str) else "")
def test_public_functions_are_documented(name: str, function: object) -> None:
    text = inspect.getdoc(function) or ""
    missing = [part for part in REQUIRED if part not in text]
    assert not missing, f"{name} lacks {missing}"
    needed = ("Args:", "Raises:", "Domain:", "Accuracy:", "Gradient:")
    missing = [part for part in needed if part not in text]
    assert not missing, f"{name} lacks {missing}"
    assert "[" in text.split("Args:")[1], f"{name}: no shapes in Args"
    assert any(unit in text for unit in ("nats", "dtype", "units", "float32")), f"{name}: no units in Returns"


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("'flint' in sys.modules or 'matplotlib' in sys.modules or 'rich' in sys.modules", "False"),
        ("bool(jax._src.xla_bridge._backends)", "False"),
        ("lossjax.verify.theorems.__name__", "theorems"),
    ],
    ids=["nothing heavy", "no device", "verify on use"],
)
def test_importing_stays_light(question: str, wanted: str) -> None:
    """In a fresh interpreter, ``import lossjax`` loads no extra and initialises no device."""
    code = f"import sys, jax, lossjax; print({question})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == wanted


def test_every_name_in_all_exists() -> None:
    for name in lossjax.__all__:
        assert getattr(lossjax, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lossjax.nothing
