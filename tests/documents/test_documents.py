"""What the documents show is run: every Python example in every Markdown file, found by glob."""

import doctest
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

import lossjax
from lossjax.verify._exact import covered
from lossjax.verify.samples import names
from tests.support.paths import ROOT

DOCUMENTS = sorted(p for p in ROOT.rglob("*.md") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The page on adding a loss shows a docstring that imports it, as it can be once it is added.
    monkeypatch.setattr(lossjax, "charbonnier_loss", lossjax.pseudo_huber_loss, raising=False)
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
    assert f"<!-- steps -->\n{tool.steps(tool.recorded('benchmarks'))}\n<!-- end of steps -->" in readme
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
    of_labels = f"moves {ours['labels']} times the bytes of its float32 logits, two reads and one write"
    assert f"with its gradient {of_labels}, and optax's {theirs['labels']} (" in said
    assert (
        f"With soft targets, a second array, it moves {ours['distributions']}, optax's {theirs['distributions']};"
        in said
    )
    assert f"with label smoothing {ours['labels, smoothing']}, optax's {theirs['labels, smoothing']}." in said


FIGURES = sorted((ROOT / "docs").rglob("*.png"))
PAGES = [(path, path.read_text(encoding="utf-8")) for path in sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda p: p.stem)
def test_a_figure_has_its_points_its_words_and_its_command(figure: Path) -> None:
    """A page shows it, links to its points and to what it shows in words, and names what draws it."""
    name = re.escape(figure.name)
    showing = [(path, text) for path, text in PAGES if re.search(rf"!\[[^]]{{60,}}\]\(\S*{name}\)", text)]
    assert showing, "no page shows it with an alternative text of a sentence"
    for suffix in (".csv", ".txt"):
        file = figure.with_suffix(suffix)
        assert file.read_text(encoding="utf-8").strip()
        link = re.compile(rf"\]\((\S*/)?{re.escape(file.name)}\)")
        assert any(link.search(text) for _, text in showing), f"no page that shows it links to its {suffix}"
    drawn_by = re.compile(rf"`(lossjax|python|make)\b[^`]*{name}`|{'|'.join(DRAWN_BY.get(figure.stem, ())) or '$^'}")
    assert any(drawn_by.search(text) for _, text in showing), "no page that shows it says what draws it"


DRAWN_BY = {
    "atlas_map": ["tools/atlas.py"],
    "growth": ["lossjax bench --suite growth --plot growth.png"],
    "memory_traffic": ["make accelerators"],
    "softmax_collapse": ["python examples/03_softmax_collapse.py"],
}
"""What draws a figure, if no command has its name."""


def test_the_map_says_what_the_tables_say() -> None:
    text = (ROOT / "docs" / "atlas.md").read_text(encoding="utf-8")
    tables = re.findall(r"(?m)^\| function \|.*\n\|.*\n((?:\|.*\n)+)", text)
    units = [row.split(" | ")[3] for table in tables for row in table.splitlines()]
    lost = sum(entry == "∞" or float(entry) > 2**24 for entry in units)
    words = (ROOT / "docs" / "figures" / "atlas_map.txt").read_text(encoding="utf-8")
    assert f"{len(units)} functions as points" in words
    assert f"{lost} of them lose all digits" in words
    assert f"![{len(units)} functions as points" in text
    assert f": {lost} lose all digits somewhere" in text


def test_the_page_of_losses_has_every_loss() -> None:
    text = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8").partition("<!-- options -->")[0]
    shown = set(re.findall(r"\[`([\w.]+)`\]\(api/\w+\.md#lossjax\.\1\)", text))
    assert set(names()) - shown == set()


def test_the_options_are_those_of_the_signatures(tool: Any) -> None:
    text = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    assert f"<!-- options -->\n{tool.options()}\n<!-- end of options -->" in text, "run: make tables"
    explained = (ROOT / "docs" / "api" / "options.md").read_text(encoding="utf-8")
    assert all(f"\n| `{option}` |" in explained for option in tool.SHARED)


def test_an_option_that_is_gone_is_seen(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tool.options()
    monkeypatch.setattr(lossjax, "softmax_brier_score", lambda logits, targets, *, where=None, power=2: None)
    row = next(line for line in tool.options().splitlines() if "`softmax_brier_score`" in line)
    assert row not in before
    assert (row.count("✓"), row.endswith("| `power` |")) == (1, True)


def test_the_survey_refuses_nothing_that_the_verifier_lists() -> None:
    """A loop is refused for what is in it."""
    text = (ROOT / "docs" / "ecosystem.md").read_text(encoding="utf-8")
    assert set(re.findall(r"refused: `(\w+)`", text)) & set(covered()) == {"while"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_columns_of_a_table_have_headings_of_their_own(path: Path) -> None:
    for head in re.findall(r"(?m)^\|(.*)\|\n\|(?: *:?-+:? *\|)+$", path.read_text(encoding="utf-8")):
        said = [cell.strip() for cell in head.split(" | ") if cell.strip()]
        assert len(said) == len(set(said)), head


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_thread_of_another_project_is_a_link_that_names_it(path: Path) -> None:
    text = re.sub(r"(?s)```.*?```", "", path.read_text(encoding="utf-8"))
    others = re.sub(r"\[[\w-]+#\d+\]\(https://[^)]*\)", "", text)
    assert re.findall(r"#\d{2,6}\b(?![^()]*\))", others) == []


CHINESE = re.compile("[\u3400-\u9fff]+")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_chinese_is_marked_and_said_in_english(path: Path) -> None:
    """A screen reader and a browser know the language; who has no such letters has the English title before."""
    text = path.read_text(encoding="utf-8")
    assert not CHINESE.search(re.sub(r'<span lang="zh">[^<]*</span>', "", text))
    assert all("in Chinese" in text[: m.start()][-200:] for m in re.finditer('<span lang="zh">', text))
