"""What the documents show is run: every Python example in every Markdown file, found by glob."""

import doctest
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from lossjax.verify.samples import names
from tests.support.paths import ROOT

DOCUMENTS = sorted(p for p in ROOT.rglob("*.md") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_run(path: Path) -> None:
    result = doctest.testfile(str(path), module_relative=False, encoding="utf-8")
    assert result.failed == 0


def test_the_readme_has_examples() -> None:
    assert doctest.DocTestParser().get_examples((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.fixture
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "tools" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_errors_on_digits_are_made_of_what_the_example_prints(tool: Any) -> None:
    """Its own figures are those of one machine; the example's test judges them anew."""
    printed = """
 largest error, in ulp   lossjax   promised    others
──────────────────────────────────────────────────────────────
 loss                        2.5       ≤ 8u   1.6e+07   optax
 other gradients             2.5       ≤ 8u      31.4   optax
1 ulp: spacing of floats at the exact result; 8u: 4 to 8 ulp
"""
    lines = tool.digits(printed).splitlines()
    assert lines[0] == "| largest error, in ulp | lossjax | optax |"
    assert lines[2:] == ["| loss | 2.5 | 16 000 000 |", "| other gradients | 2.5 | 31.4 |"]
    table = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8").partition("<!-- digits -->")[2]
    assert table.startswith(f"\n{lines[0]}\n{lines[1]}\n| loss |")
    with pytest.raises(SystemExit, match="prints no errors"):
        tool.digits("accuracy 0.98")


def test_the_readme_has_the_recorded_numbers(tool: Any) -> None:
    """Its table of steps is made of benchmarks/results; its other numbers are those of the pages that it names."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- steps -->\n{tool.steps(tool.recorded())}\n<!-- end of steps -->" in readme
    rows = re.findall(
        r"^\| (loss|gradient at the label) \| (\S+) \| ([\d ]+) 000 000 \|$",
        (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    [(_, loss, optax_loss), (_, gradient, optax_gradient)] = rows
    said = " ".join(readme.split())
    assert f"the loss is within {loss} ulp, its gradient at the label within {gradient};" in said
    assert f"optax's are {optax_loss} million and {optax_gradient} million ulp off" in said
    chips = (ROOT / "docs" / "accelerators.md").read_text(encoding="utf-8").partition("### h100")[2]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+\| ([\d.]+) / ([\d.]+) \|", chips.split("###")[0], re.MULTILINE)
    ours, theirs = ({row[0]: row[1 + side] for row in rows} for side in (0, 1))
    of_labels = f"moves {ours['labels']} times the bytes of its float32 logits, two readings and one writing"
    assert f"with its gradient {of_labels}, and optax's {theirs['labels']} (" in said
    assert (
        f"With soft targets, a second array, it moves {ours['distributions']}, optax's {theirs['distributions']};"
        in said
    )
    assert f"with label smoothing {ours['labels, smoothing']}, optax's {theirs['labels, smoothing']}." in said


def test_the_page_of_losses_has_every_loss() -> None:
    text = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\[`([\w.]+)`\]\(api/\w+\.md#lossjax\.\1\)", text))
    assert set(names()) - shown == set()
