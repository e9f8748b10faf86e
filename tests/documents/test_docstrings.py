"""What the docstrings show is run, in every module of the package."""

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest

import lossjax

PACKAGE = Path(lossjax.__file__).parent


def modules() -> list[str]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
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
