"""The documentation site builds strictly, has every public name, and loads nothing from a network."""

import importlib
import inspect
import re
import zlib
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer.main

import lossjax
from tests.documents.conftest import build
from tests.support.paths import ROOT

pytest.importorskip("mkdocs", reason="the site is built with pip install 'lossjax[docs]'")

ROOMS = (
    "lossjax",
    "lossjax.geometry",
    "lossjax.families",
    "lossjax.policy",
    "lossjax.preference",
    "lossjax.verify",
    "lossjax.plot",
)
MODULES = {"families", "geometry", "numerics", "optax", "plot", "policy", "preference", "verify"}


class Loaded(HTMLParser):
    """What a page loads when it is opened, and the text that it shows outside code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.shown: list[str] = []
        self.within: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loading = ("src", "href") if tag == "link" else ("src",)
        self.addresses += [value for name, value in attrs if value and name in loading]
        if tag in ("code", "pre", "script", "style"):
            self.within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.within and self.within[-1] == tag:
            self.within.pop()

    def handle_data(self, data: str) -> None:
        if not self.within:
            self.shown.append(data)


def public_names() -> set[str]:
    """Every public name; not the rooms themselves, which are pages."""
    names = {f"{room}.{name}" for room in ROOMS for name in importlib.import_module(room).__all__}
    names |= {f"lossjax.optax.{name}" for name in lossjax.optax.OWN}
    numerics = inspect.getmembers(lossjax.numerics, inspect.isfunction)
    names |= {
        f"lossjax.numerics.{n}" for n, f in numerics if not n.startswith("_") and f.__module__ == "lossjax.numerics"
    }
    return names - {f"lossjax.{module}" for module in MODULES}


def missing(names: set[str], inventory: bytes) -> set[str]:
    """The names that a site's inventory lacks."""
    lines = zlib.decompress(inventory.split(b"zlib.\n", 1)[1]).decode().splitlines()
    return names - {line.split()[0] for line in lines if line}


def test_every_public_name_is_documented(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes()
    assert len(public_names()) > 150
    assert missing(public_names(), inventory) == set()
    assert missing({"lossjax.nothing"}, inventory) == {"lossjax.nothing"}
    for name in public_names() - {"lossjax.plot.FIGURES"}:
        module, _, short = name.rpartition(".")
        assert inspect.getdoc(getattr(importlib.import_module(module), short)), f"{name} has no docstring"


def test_headings_of_a_page_are_distinct(site: Path) -> None:
    """Of classes with the same methods each method has its class in front."""
    for page in (site / "api").glob("*.html"):
        text = re.sub(r"<a .*?</a>|<small.*?</small>", "", page.read_text(encoding="utf-8"), flags=re.S)
        headings = [
            unescape(re.sub(r"<[^>]+>", "", h[1])).strip() for h in re.findall(r"<(h[2-6])\b.*?>(.*?)</\1>", text, re.S)
        ]
        assert len(headings) == len(set(headings)), page.name
    assert "Softplus.conjugate_" in (site / "api" / "divergences.html").read_text(encoding="utf-8")


def test_nothing_comes_from_a_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 35
    for page in pages:
        addresses = Loaded(page.read_text(encoding="utf-8")).addresses
        assert [a for a in addresses if re.match(r"(\w+:)?//", a)] == [], page


def test_shared_options_and_statements_are_shown(site: Path) -> None:
    """The source of a loss has ``**options``, its page has each of them; theorems and sections are links to them."""
    text = (site / "api" / "other_classification.html").read_text(encoding="utf-8")
    assert text.count("T &gt; 0 divides the logits") == 3
    statement = 'href="../theorems.html#theorem-415-the-gradient-is-prediction-target"'
    page = (site / "api" / "classification.html").read_text(encoding="utf-8")
    assert statement in page
    assert "notebooks/4.1.3_cross_entropy.html#413-cross-entropy-is-a-categorical-likelihood" in page


def test_mathematics_is_rendered(site: Path) -> None:
    """No TeX, role, directive, or mark of Markdown's is left in the text of a page."""
    left = re.compile(r"\\[a-z]{2}|:(math|func|class|data|mod):|\.\. math|\$[^$\n]+\$")
    formulas = 0
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        formulas += text.count("<math ")
        shown = "".join(Loaded(text).shown)
        assert not left.search(shown), (page, left.search(shown))
    assert formulas > 150
    text = (site / "api" / "divergences.html").read_text(encoding="utf-8")
    assert "exactly where some p<sub>i</sub> &gt; 0 = q<sub>i</sub>" in text
    assert "Σ log(1 + e<sup>x</sup>)" in text


def test_formulas_keep_their_style_and_their_marks(site: Path) -> None:
    """Browsers draw no ``mathvariant`` but the upright one, and begin a line with what follows a formula."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r'mathvariant="(\w+)"', text)) <= {"normal"}, page
        assert not re.search(r"</math>(</span>)?[,.;:)]", re.sub(r"</math>[,.;:)]+</span>", "", text)), page
    assert "<mn>𝟏</mn>" in (site / "api" / "fisher.html").read_text(encoding="utf-8")
    assert "<mi>ℒ</mi>" in (site / "notebooks" / "4.1.2_squared_error.html").read_text(encoding="utf-8")


def test_sections_of_docstrings_are_paragraphs(site: Path) -> None:
    """Of however many lines; and a shared option says its default once."""
    for page in (site / "api").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r'<details class="([^"]*)"', text)) <= {"example", "mkdocstrings-source"}, page
        assert "``" not in "".join(Loaded(text).shown), page
        assert "Default: None." not in re.sub("<pre.*?</pre>", "", text, flags=re.DOTALL), page
    fisher = (site / "api" / "fisher.html").read_text(encoding="utf-8")
    assert "<strong>Accuracy:</strong> that of the model's own" in fisher


def test_every_figure_is_said_in_words(site: Path) -> None:
    """In its alternative text, also the figures of notebooks and those of the README."""
    figures = 0
    for page in site.rglob("*.html"):
        for image in re.findall(r"<img\b[^>]*>", page.read_text(encoding="utf-8")):
            words = re.search(r'alt="([^"]*)"', image)
            assert words, (page, image)
            assert len(words[1]) > 60, (page, image)
            figures += 1
    assert figures > 15


def test_notebooks_have_their_outputs(site: Path) -> None:
    names = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert names
    for name in names:
        text = (site / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert len(re.findall(r'<div class="language-\w+ highlight">', text)) > 8
        assert list((site / "notebooks").glob(f"{name}_*.png"))


def test_the_start_lists_every_example() -> None:
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    names = [path.name for path in sorted((ROOT / "examples").glob("[0-9]*.py"))]
    assert [name for name in names if f"](../examples/{name})" not in text] == []


def test_the_page_of_the_command_line_has_every_option() -> None:
    text = (ROOT / "docs" / "api" / "command_line.md").read_text(encoding="utf-8")
    from lossjax.cli import app

    sections = dict(re.findall(r"^## lossjax (\w+)[^\n]*\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    group = typer.main.get_command(app)
    commands = group.commands  # pyright: ignore[reportAttributeAccessIssue]
    assert set(sections) == set(commands)
    for name, command in commands.items():
        wanted = {option for one in command.params for option in one.opts if option.startswith("--")} - {"--help"}
        assert set(re.findall(r"`(--[\w-]+)", sections[name])) == wanted, name


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("[a page](nowhere.md)", "nowhere.md"),
        ("[a file](../lossjax/nowhere.py)", "nowhere.py"),
        ("# One\n\n[a heading](#two)", "#two"),
        ("# One\n\n::: lossjax.nothing", "lossjax.nothing"),
        (r".. math:: \nonsense{x}", "no MathML for"),
        ("# Right\n\n[a file](../lossjax/py.typed) and :func:`softmax`, $x_1$\n\n::: lossjax.softmax", ""),
    ],
    ids=["page", "file", "heading", "name", "formula", "nothing"],
)
def test_what_is_broken_fails(page: str, words: str, tmp_path: Path) -> None:
    """The same configuration, with one page."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "index.md").write_text(page + "\n", encoding="utf-8")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[0]
    for old, new in (
        ("docs_dir: docs", f"docs_dir: {folder}"),
        ("paths: [.]", f"paths: [{ROOT}]"),
        ("docs/hooks/", f"{ROOT}/docs/hooks/"),
        ("extra_css:", "extra_css: [] #"),
    ):
        assert old in config
        config = config.replace(old, new)
    (tmp_path / "mkdocs.yml").write_text(config, encoding="utf-8")
    result = build(tmp_path / "site", "--config-file", str(tmp_path / "mkdocs.yml"))
    assert (result.returncode == 0) is not bool(words), result.stderr
    assert words in unescape(result.stderr)
