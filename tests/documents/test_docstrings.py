"""What the docstrings show is run, in every module of the package."""

import ast
import builtins
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


def unbound(example: str) -> set[str]:
    """The names that the lines of an example use and nothing in it defines or imports."""
    tree = ast.parse("".join(line.source for line in doctest.DocTestParser().get_examples(example)))
    nodes = list(ast.walk(tree))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    known = {node.id for node in names if isinstance(node.ctx, ast.Store)} | set(dir(builtins))
    known |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    known |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imports = [one for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for one in node.names]
    known |= {one.asname or one.name.partition(".")[0] for one in imports}
    return {node.id for node in names} - known


@pytest.mark.parametrize("name", documented())
def test_an_example_imports_what_it_uses(name: str) -> None:
    """So that a reader who copies it can run it."""
    one = found(name)
    for part in (one, *(vars(one).values() if inspect.isclass(one) else ())):
        assert unbound(getattr(part, "__doc__", None) or "") == set()


def test_a_name_that_nothing_imports_is_seen() -> None:
    assert unbound(">>> import jax.numpy as jnp\n>>> [x for x in softmax(jnp.zeros(2))]\n[1, 1]\n") == {"softmax"}


def test_the_checks_are_named() -> None:
    assert all(f"``{name}``" in (inspect.getdoc(check) or "").partition("checks:")[2][:200] for name in CHECKS)


def test_a_wrong_docstring_example_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    module = ModuleType("wrong", ">>> 1 + 1\n3\n")
    assert run_doctests(module).failed == 1
    assert "Expected" in capsys.readouterr().out
