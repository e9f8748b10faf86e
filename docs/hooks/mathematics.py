"""TeX and the docstrings' roles in Markdown: mathematics becomes MathML when the site is built, and needs no script.

A Markdown extension, so that pages, docstrings and notebooks read alike. It knows ``.. math::`` and ``$$`` blocks,
:math:`x` and ``$x$``; ``x_i`` and ``e^x`` within a sentence, as docstrings write them; :func:`x` and its kin, which
become links where the API has the name; ``theorem 4.1.5`` and ``docs/theorems.md``, links too; examples with ``>>>``;
and the docstrings' own sections of one line (``Domain: …``).
"""

import ast
import json
import re
import unicodedata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.extensions.toc import slugify
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor
from markdown.util import AtomicString
from mkdocs.config.defaults import MkDocsConfig

PACKAGE = Path(__file__).parents[2] / "lossjax"
ROOMS = ("", "geometry", "families", "verify", "plot")
"""Where a name without a module is looked for."""


BELOW = r"(?:(?<=\b[^\W\d_])|(?<=\b[^\W\d_]\u0302))_([^\W_]{1,3})\b"
"""The index of a single letter, which may have a hat: ``p_i``, ``s_max``, but not ``log_odds``."""
ABOVE = r"(?<=[\w)\u0302])\^(-?\w+|\{[^{}]*\}|\((?:[^()]|\([^()]*\))*\))"


def public_names() -> dict[str, str]:
    """Each public name, short and in full -> where the API has it."""
    found = {}
    for room in reversed(ROOMS):
        module = f"lossjax.{room}".rstrip(".")
        for node in ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                for name in ast.literal_eval(node.value):
                    found[name] = found[f"{module}.{name}"] = f"{module}.{name}"
    return found


def statements() -> dict[str, str]:
    """The number of each statement of docs/theorems.md, and of each section with a notebook -> its heading's name."""
    text = (PACKAGE.parent / "docs" / "theorems.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### ((?:Theorem )?([G\d.]+\d)\. .*)$", text, re.M)
    for path in (PACKAGE.parent / "notebooks").glob("4.*.ipynb"):
        title = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).splitlines()[0]
        headings += re.findall(r"^# ((§[\d.]+\d) .*)$", title)
    return {number: slugify(heading, "-") for heading, number in headings}


def pages() -> dict[str, str]:
    """Each page of docs/ by its name without the ending -> its title."""
    files = (PACKAGE.parent / "docs").glob("*.md")
    return {path.stem: path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for path in files}


def mathml(tex: str, display: str = "inline") -> str:
    """TeX as MathML, which browsers draw by themselves."""
    tex = re.sub(r"\\arg(?![a-z])", r"\\operatorname{arg}", " ".join(tex.split()))
    tree = ElementTree.fromstring(convert(tex, xmlns="", display=display))
    for row in list(tree.iter()):
        if row.tag in ("math", "mrow", "mstyle"):
            space_names(row)
        if row.tag == "mo" and row.text in ("‖", "∥"):
            row.set("stretchy", "false")  # else the bars of a norm grow with what stands beside them, each for itself
        if row.tag == "mo" and row.text == "|" and "form" not in row.attrib:
            row.attrib |= {"lspace": "0", "rspace": "0"}  # else they stand apart from what they enclose
        if row.tag == "mi" and row.text in ("⪯", "⪰"):
            row.tag = "mo"  # with the space of a relation
        style = row.get("mathvariant", "normal")
        if style != "normal":  # browsers know no other: they would show a bold 1, the vector of ones, as the number
            row.text = styled(row.text or "", style.upper())
            del row.attrib["mathvariant"]
        if row.tag == "mover" and row[1].text == "¯":
            row.set("accent", "true")  # else a bar is as small as an index
    text = ElementTree.tostring(tree, encoding="unicode", short_empty_elements=False)
    if "\\" in text:
        raise ValueError(f"no MathML for {tex}")
    return text


def sign_named(name: str) -> str:
    """``SCRIPT CAPITAL L`` was in Unicode before the others, which are called mathematical."""
    try:
        return unicodedata.lookup(f"MATHEMATICAL {name}")
    except KeyError:
        return unicodedata.lookup(name)


def styled(text: str, style: str) -> str:
    """Letters and digits as the signs of their own that Unicode has for a style of mathematics."""
    names = (unicodedata.name(sign).replace("LATIN ", "").replace("LETTER ", "") for sign in text)
    return "".join(sign_named(f"{style} {name}") for name in names)


def space_names(row: ElementTree.Element) -> None:
    """The space that the converter leaves out around the names of functions, and after a colon."""
    spaced: list[ElementTree.Element] = []
    for child, after in zip(list(row), [*list(row)[1:], None], strict=True):
        text = child.text or ""
        name = child.tag in ("mi", "mo") and len(text) > 1 and text.isalpha() and text.islower()
        if name:
            child.tag = "mi"
            if spaced and spaced[-1].tag not in ("mo", "mspace"):
                spaced.append(ElementTree.Element("mspace", width="0.17em"))
        spaced.append(child)
        if (name and after is not None and after.tag != "mo") or text == ":":
            spaced.append(ElementTree.Element("mspace", width="0.17em"))
    row[:] = spaced


SHORT = 24
"""So many signs of a formula fit a line of a list on a telephone."""
DIRECTIVE = re.compile(r"\s+# doctest: .*$")
"""What an example tells its test, and no reader."""


class Blocks(Preprocessor):
    """``.. math::``, ``$$``, ``>>>`` and the sections of one line, outside code."""

    def run(self, lines: list[str]) -> list[str]:
        """The lines, with formulas stashed and examples fenced."""
        text, fence, i = [], "", 0
        while i < len(lines):
            line = lines[i]
            mark = re.match(r" *(```+|~~~+)", line)
            if mark and (not fence or mark[1] == fence):
                fence = "" if fence else mark[1]
            if fence or mark:
                session = line.strip() == "```python" and "".join(lines[i + 1 : i + 2]).startswith(">>>")
                text.append("```pycon" if session else DIRECTIVE.sub("", line))
                i += 1
            elif line.lstrip().startswith(".. math::"):
                i, tex = self.directive(lines, i)
                text += ["", self.stash(tex), ""]
            elif line.startswith("$$"):
                end = i if line.rstrip() != "$$" and line.rstrip().endswith("$$") else self.closing(lines, i)
                text += ["", self.stash(" ".join(lines[i : end + 1]).strip("$ ")), ""]
                i = end + 1
            elif line.startswith(">>>"):
                end = next((j for j in range(i, len(lines)) if not lines[j].strip()), len(lines))
                text += ["```pycon", *(DIRECTIVE.sub("", shown) for shown in lines[i:end]), "```"]
                i = end
            else:
                text.append(re.sub(r"^(Domain|Gradient|Accuracy|Source): ", r"**\1:** ", line))
                i += 1
        return text

    @staticmethod
    def closing(lines: list[str], start: int) -> int:
        """Where a ``$$`` block ends that is not on one line."""
        return next(j for j in range(start + 1, len(lines)) if lines[j].rstrip().endswith("$$"))

    @staticmethod
    def directive(lines: list[str], start: int) -> tuple[int, str]:
        """Where a ``.. math::`` ends, and its TeX."""
        indent = len(lines[start]) - len(lines[start].lstrip())
        end = start + 1
        while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent):
            end += 1
        return end, " ".join([lines[start].split("::", 1)[1], *lines[start + 1 : end]])

    def stash(self, tex: str) -> str:
        """A formula on a line of its own, to be scrolled where it is wider than the page."""
        return self.md.htmlStash.store(f'<div class="formula">{mathml(tex, "block")}</div>')


# What follows overrides `handleMatch`, which Markdown documents (hence no docstring), and whose annotations Markdown's
# own processors do not keep to either (hence no check of the types): they return HTML, an element, or three times None.


MARKS = r"([,.;:)]*)"
"""What a line must not begin with: the marks that follow a formula stay with it."""


class Formula(InlineProcessor):
    """A formula within a line. A long one is marked as such: it breaks nowhere, and may be wider than a telephone."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Any, int, int]:  # noqa: D102  # described by its class
        formula = mathml(m[1])
        kinds = ["wide"] * (len(re.sub(r"<[^>]*>", "", formula)) > SHORT) + ["whole"] * bool(m[2])
        if kinds:
            formula = f'<span class="{" ".join(kinds)}">{formula}{m[2]}</span>'
        return self.md.htmlStash.store(formula), m.start(0), m.end(0)


class Reference(InlineProcessor):
    """A role: a link where the name is public, else code."""

    names = public_names()

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Any, int, int]:  # noqa: D102  # described by its class
        code = ElementTree.Element("code")
        shown = m[1].rpartition(".")[2] if m[1].startswith("~") else m[1]
        code.text = AtomicString(shown)
        target = self.names.get(m[1].lstrip("~"))
        if target is None:
            return code, m.start(0), m.end(0)
        link = ElementTree.Element("autoref", identifier=target)
        link.append(code)
        return link, m.start(0), m.end(0)


def optional_link(target: str, text: str) -> ElementTree.Element:
    """A link to a heading, which is plain text on a site without it."""
    link = ElementTree.Element("autoref", {"identifier": target, "optional": ""})
    link.text = text
    return link


class Statement(InlineProcessor):
    """``theorem 4.1.5``, ``G6`` or ``§4.1.3``: a link to where that is stated, on a site that has the page."""

    ANCESTOR_EXCLUDES = ("a", "h1", "h2", "h3", "h4")
    headings = statements()

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Any, Any, Any]:  # noqa: D102  # described by its class
        target = self.headings.get(m[1])
        if target is None:
            return None, None, None
        return optional_link(target, m[0]), m.start(0), m.end(0)


class PageNamed(InlineProcessor):
    """``docs/theorems.md`` in a docstring's text: a link to the page, by its title."""

    ANCESTOR_EXCLUDES = ("a", "h1", "h2", "h3", "h4")
    titles = pages()

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Any, Any, Any]:  # noqa: D102  # described by its class
        title = self.titles.get(m[1])
        if title is None:
            return None, None, None
        return optional_link(slugify(title, "-"), title), m.start(0), m.end(0)


class Raised(InlineProcessor):
    """What stands above or below a letter, without the brackets that plain text needs."""

    def __init__(self, pattern: str, md: Markdown, tag: str) -> None:
        super().__init__(pattern, md)
        self.tag = tag

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Any, int, int]:  # noqa: D102  # described by its class
        element = ElementTree.Element(self.tag)
        element.text = m[1][1:-1] if m[1][0] in "({" else m[1]
        return element, m.start(0), m.end(0)


class Mathematics(Extension):
    """All of them."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Blocks before fences (25); roles before code (190), dollars before escapes (180), statements last."""
        md.preprocessors.register(Blocks(md), "lossjax-blocks", 28)
        md.inlinePatterns.register(Formula(r":math:`([^`]+)`" + MARKS, md), "lossjax-math", 205)
        md.inlinePatterns.register(Reference(r":(?:func|class|data|mod|meth):`([^`]+)`", md), "lossjax-role", 204)
        dollars = r"(?<![\\$])\$(?![\s$])([^$]+?)(?<![\s\\])\$"
        md.inlinePatterns.register(Formula(dollars + MARKS, md), "lossjax-dollar", 185)
        md.inlinePatterns.register(Raised(BELOW, md, "sub"), "lossjax-below", 77)
        md.inlinePatterns.register(Raised(ABOVE, md, "sup"), "lossjax-above", 76)
        md.inlinePatterns.register(PageNamed(r"(?<![\w/])docs/(\w+)\.md\b", md), "lossjax-page", 78)
        md.inlinePatterns.register(
            Statement(r"(?<!\w)(?:theorem (?=4)|(?=[G§]))(§?4\.1\.\d|G\d{1,2})\b", md), "lossjax-statement", 75
        )


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Pages and docstrings share the configured extensions."""
    # MkDocs declares names of extensions, and hands whatever it is given to Markdown, which takes objects too.
    config.markdown_extensions.append(Mathematics())  # type: ignore[arg-type]  # MkDocs types names; objects do, too
    return config
