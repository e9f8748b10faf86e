"""The page on post-training: its table says what the formulas lose, and lossjax keeps its promise in every row."""

import importlib.util

import pytest

from tests.support.paths import ROOT

pytest.importorskip("flint", reason="the truth is computed in exact arithmetic")

PAGE = ROOT / "docs" / "post_training_heads.md"


def test_the_table_is_what_the_command_measures() -> None:
    """The same rows; of lossjax 33u at most, of the usual code more than that in value or gradient."""
    spec = importlib.util.spec_from_file_location("fragile_formulas", ROOT / "benchmarks" / "fragile_formulas.py")
    assert spec is not None
    assert spec.loader is not None
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    rows = PAGE.read_text(encoding="utf-8").split("<!-- fragile -->")[1].split("<!-- end of fragile -->")[0]
    for formula in command.FORMULAS:
        assert f"| {formula.code} | {formula.where} |" in rows, "run: python benchmarks/fragile_formulas.py --markdown"
        value, gradient, *ours = command.errors(formula)
        assert max(ours) <= 33 * 2.0**-24, formula
        assert max(value, gradient) > 1000 * 2.0**-24, formula
