"""What the docstrings show is run, in every module of the package."""

import doctest
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lossjax
from lossjax.verify import check
from lossjax.verify._check import CHECKS
from tests.support.paths import ROOT

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


def documented() -> list[str]:
    """The public names that a page of docs/api has."""
    pages = (ROOT / "docs" / "api").glob("*.md")
    return sorted({name for page in pages for name in re.findall(r"^::: (\S+)", page.read_text("utf-8"), re.M)})


def found(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


@pytest.mark.parametrize("name", documented())
def test_no_docstring_names_what_a_reader_cannot_have(name: str) -> None:
    """No constant that is not public, and no "mean" of a function without a reduction."""
    one, text = found(name), inspect.getdoc(found(name)) or ""
    public = {public.rpartition(".")[2] for public in documented()}
    assert set(re.findall(r"``([A-Z][A-Z_]{2,})``", text)) <= public
    if inspect.isfunction(one) and "reduction" not in inspect.signature(one).parameters:
        assert '"mean" divides' not in text


def test_the_checks_are_named() -> None:
    assert all(f"``{name}``" in (inspect.getdoc(check) or "").partition("checks:")[2][:200] for name in CHECKS)


def test_a_wrong_docstring_example_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    module = ModuleType("wrong", ">>> 1 + 1\n3\n")
    assert run_doctests(module).failed == 1
    assert "Expected" in capsys.readouterr().out
