"""The index of what is proven: each theorem and each G has a proof and a test that exists."""

import ast
import functools
import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TEXT = (ROOT / "docs/theorems.md").read_text(encoding="utf-8")
WANTED = [f"Theorem 4.1.{k}" for k in range(1, 7)] + [f"G{k}" for k in range(1, 19)]


def sections(text: str) -> dict[str, str]:
    """What stands under each heading of an item, by its name."""
    return dict(re.findall(r"(?ms)^### ((?:Theorem 4\.1\.\d)|G\d+)\. (.*?)(?=^#{2,3} |\Z)", text))


def named(text: str) -> list[str]:
    """Every ``path.py::function``, which is a link to the file."""
    return [f"{file}::{function}" for file, function in re.findall(r"\[`([\w/.]+\.py)::(\w+)`\]\(\.\./\1\)", text)]


@functools.cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def missing(names: list[str]) -> list[str]:
    """Those that are no function of that file."""
    return [name for name in names if (pair := name.split("::")) and pair[1] not in functions(ROOT / pair[0])]


def test_every_item_is_there_once_and_in_order() -> None:
    assert list(sections(TEXT)) == WANTED
    assert len(re.findall(r"(?m)^### ", TEXT)) == len(WANTED)


@pytest.mark.parametrize("item", WANTED)
def test_an_item_has_its_parts(item: str) -> None:
    """A formula, a proof, measurements, tests; a theorem also what the chapter says, the correction, and a picture."""
    text = sections(TEXT)[item]
    assert re.search(r"(?m)^\$\$", text), "no formula"
    parts = ["**Proof.**", "**Measured.**", "**Checked by**"]
    if item.startswith("Theorem"):
        parts += ["**The chapter says**", "**Right**", "**Not right**", "**Corrected", "**Picture.**"]
    for part in parts:
        assert text.count(part) == 1, part
    names = named(text.split("**Checked by**")[1])
    assert any("/test_" in name for name in names)
    assert missing(names) == []
    assert all(name.split("::")[1].startswith("test_") for name in names if name.startswith("tests/"))


def test_every_test_is_named_where_tests_are_named() -> None:
    """None is hidden by its spelling: whatever has two colons was read."""
    assert TEXT.count("::") == len(named(TEXT))


def test_what_does_not_exist_is_seen() -> None:
    wrong = ["tests/losses/test_scoring.py::test_nothing", "tests/test_nothing.py::test_brier_edges"]
    assert missing([*wrong, "tests/losses/test_scoring.py::test_brier_edges"]) == wrong
    assert list(sections("### G1. One\nx\n### G2. Two\n## Rest\n### G3. Three\n")) == ["G1", "G2", "G3"]
