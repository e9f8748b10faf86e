"""The house keeps its order: imports go one way, private JAX stays outside, every public name is documented and run."""

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import lossjax

PACKAGE = Path(lossjax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Top to bottom is the way of the data; a room imports only from rooms above it.
ORDER = (
    "_autodiff", "_bounds", "_checks", "_reduction", "numerics", "_rows", "_softmax", "_surprisal", "_cross_entropy",
    "_sigmoid_cross_entropy", "_sigmoid_focal", "_logit_options", "_elementwise", "_broadcasting",
    "_log_divergence", "_student_t",
    "information", "logits", "logit_divergences", "regression", "likelihood", "similarity",
    "classification", "reshaped", "scoring", "curvature", "_linear_head", "linear", "vocab_parallel",
    "geometry", "families",
    "_margins", "margin", "optax", "verify", "plot", "_marked", "bench", "cli",
)  # fmt: skip
OUTSIDE = ("__init__", "__main__")

REQUIRED = ("Returns:", "Source:", "Example:")
"""What every public function's docstring has; those with arguments also Args, Raises, Domain, Gradient, Accuracy."""


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported_rooms(path: Path) -> set[str]:
    """The rooms of lossjax that a file imports, at any depth of it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("lossjax.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "lossjax":
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lossjax."):
            found.add(str(node.module).split(".")[1])
    return found


def violations(name: str, imports: set[str]) -> list[str]:
    """Imports that go up, or that name no room."""
    if name in OUTSIDE:
        return []
    if name not in ORDER:
        return [f"{name} is no room of the house: add it to ORDER"]
    above = ORDER[: ORDER.index(name) + 1]
    return [f"{name} imports {other}" for other in imports if other not in above]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    assert violations(room(path), imported_rooms(path)) == []


def test_an_import_against_the_order_is_caught() -> None:
    assert violations("numerics", {"classification"}) == ["numerics imports classification"]
    assert violations("attic", set())
    assert violations("classification", {"numerics", "_checks"}) == []


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

    assert [p.name for p in FILES if names(p) & {"custom_vjp", "custom_jvp"}] == ["_autodiff.py"]


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


def modules() -> list[str]:
    names = []
    for path in FILES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not name.endswith("__main__"):
            names.append(name)
    return names


def run_doctests(module: ModuleType) -> doctest.TestResults:
    return doctest.testmod(module)


@pytest.mark.parametrize("name", modules())
def test_docstring_examples_run(name: str) -> None:
    assert run_doctests(importlib.import_module(name)).failed == 0


def test_a_wrong_docstring_example_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    module = ModuleType("wrong", ">>> 1 + 1\n3\n")
    assert run_doctests(module).failed == 1
    assert "Expected" in capsys.readouterr().out


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
