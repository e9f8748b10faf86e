"""Pages made of what lies outside docs/: the notebooks, and every file of the repository that a page links to.

Long names in tables and headings may break after an underscore, so that they fit a telephone; a number never breaks
after its sign, at the sign of its exponent or before a percent sign, nor an option after its dashes. The heading of a
member of a class has the class in front of its name.
"""

import base64
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)")
NARROW = re.compile(r"<(td|h[1-6])\b.*?</\1>", re.S)
LONG_NAME = re.compile(r"[\w.]{17,}(?![^<]*>)")
WHOLE = re.compile(
    r"(?<![\w)\]}-])-(?:\d[\d.]*(?:e-?\d+)?|[\w.∞]{1,10})(?![\w.])|(?<![\w-])--\w+"
    r"|\b\d[\d.]*e-\d+|\b\d[\d.,]* (?:%|(?:ms|[KMG]iB)\b|(?:of|/) \d[\d.,]*)"
)
"""``-inf``, ``-βh``, ``1.5e-16``, ``--json``, ``99.5 %``, ``16 MiB``, ``5 of 6``, ``1.0 / 2.0``; not ``one-hot``."""
PATH = re.compile(r"[\w./:]{40,}")
MEMBER = re.compile(r'(<h[34] id="[\w.]+\.([A-Z]\w*)\.(\w+)"[^>]*>\s*<span class="doc doc-object-name[^"]*">)(?=\3<)')
"""The heading of a member of a class, up to its name, which other classes have members of too."""
LONG_CELL = re.compile(r"<td(?=[^>]*><code>[^<]{40,}</code></td>)")
APART = re.compile(r"(<pre.*?</pre>|<math.*?</math>|<[^>]*>)", re.S)


ONE_PANEL = 750
"""A picture of fewer pixels in a row has one panel, which fits a telephone."""
IN_WORDS = re.compile(r"(?:# .*\n)+")
"""The comment that a cell with a figure begins with, which says what it shows."""


def cells(notebook: dict[str, Any], name: str) -> Iterator[str | tuple[str, bytes]]:
    """A notebook as Markdown, piece by piece, and its images by name."""
    images = 0
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                images += 1
                picture = f"{name}_{images}.png"
                content = base64.b64decode("".join(data["image/png"]))
                yield picture, content
                words = IN_WORDS.match(source)
                single = "{.single}" if int.from_bytes(content[16:20], "big") < ONE_PANEL else ""  # its width
                yield f"![{' '.join(words[0].replace('# ', '').split()) if words else ''}]({picture}){single}"
            else:
                shown = output["text"] if output["output_type"] == "stream" else data["text/plain"]
                yield "```text\n" + "".join(shown).rstrip() + "\n```"


def linked(text: str, folder: str) -> set[str]:
    """The files outside docs/ that a page of a folder of the repository links to."""
    paths = (posixpath.normpath(posixpath.join(folder, link)) for link in LINK.findall(text))
    return {path for path in paths if not path.startswith(("docs/", "..")) and (ROOT / path).is_file()}


def page_of(path: str) -> str:
    """Where the site has a file of the repository, seen from docs/."""
    if path.endswith(".md"):
        return path.lower()
    return f"{path.removesuffix('.ipynb')}.md" if path.endswith(".ipynb") else f"source/{path}.md"


def relinked(text: str, folder: str, page: str) -> str:
    """Links to files of the repository, as links to their pages."""

    def replace(m: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, m[1]))
        if path.startswith(".."):
            return m[1]
        if path.startswith("docs/"):
            target = path.removeprefix("docs/")
        elif (ROOT / path).is_file():
            target = page_of(path)
        else:
            return m[1]
        return posixpath.relpath(target, posixpath.dirname(page) or ".")

    return LINK.sub(replace, text)


def generated(config: MkDocsConfig, path: str) -> tuple[list[File], str]:
    """The page and the images of a file of the repository, and the text in which more links may be."""
    content, name = (ROOT / path).read_text(encoding="utf-8"), page_of(path)
    if name.startswith("source/"):
        language = "python" if path.endswith(".py") else "text"
        rank = "---\nsearch:\n  boost: 0.1\n---\n\n"  # who searches for a word wants what explains it first
        shown = f"{rank}# `{path}`\n\n```````{language}\n{content}\n```````\n"
        return [File.generated(config, name, content=shown, inclusion=InclusionLevel.NOT_IN_NAV)], ""
    images: list[File] = []
    if path.endswith(".ipynb"):
        pieces = list(cells(json.loads(content), posixpath.basename(name).removesuffix(".md")))
        content = "\n\n".join(piece for piece in pieces if isinstance(piece, str))
        folder = posixpath.dirname(name)
        pictures = [piece for piece in pieces if isinstance(piece, tuple)]
        images = [File.generated(config, f"{folder}/{file}", content=image) for file, image in pictures]
    text = relinked(content, posixpath.dirname(path), name)
    return [File.generated(config, name, content=text), *images], content


def pages_of(nav: Any) -> set[str]:
    """The pages that the navigation names."""
    if isinstance(nav, str):
        return {nav}
    parts = nav.values() if isinstance(nav, dict) else nav or ()
    return set().union(*map(pages_of, parts))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them: what the navigation has, what pages link to, and what that links to."""
    outside = [*ROOT.glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    named = {str(path.relative_to(ROOT)) for path in outside}
    wanted = {path for path in named if page_of(path) in pages_of(config.nav)}
    for file in files.documentation_pages():
        wanted |= linked(file.content_string, posixpath.dirname(f"docs/{file.src_uri}"))
    done: set[str] = set()
    while wanted - done:
        path = min(wanted - done)
        done.add(path)
        pages, text = generated(config, path)
        for page in pages:
            files.append(page)
        wanted |= linked(text, posixpath.dirname(path))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The links of the pages in docs/; those that were made have theirs already."""
    uri = page.file.src_uri
    return relinked(markdown, posixpath.dirname(f"docs/{uri}"), uri) if page.file.generated_by is None else markdown


def on_post_template(output_content: str, *, template_name: str, config: MkDocsConfig) -> str:
    """The page for what is not found, with a way home."""
    if template_name != "404.html":
        return output_content
    home = posixpath.join(urlsplit(config.site_url or "/").path or "/", "index.html")
    return output_content.replace("</h1>", f'</h1>\n<p>There is no such page. <a href="{home}">To the start</a></p>', 1)


def on_page_content(html: str, *, page: Page, **_: Any) -> str:
    """The page with its places to break, outside tags, formulas and blocks of code; its contents with theirs."""
    below = list(page.toc.items)
    while below:
        entry = below.pop()
        entry.title = LONG_NAME.sub(breakable, entry.title)
        below += entry.children
    text = LONG_CELL.sub('<td class="long"', MEMBER.sub(r"\1\2.", html))
    text = NARROW.sub(lambda element: LONG_NAME.sub(breakable, element[0]), text)
    return "".join(
        piece if piece.startswith("<") else PATH.sub(breakable, WHOLE.sub(r'<span class="whole">\g<0></span>', piece))
        for piece in APART.split(text)
    )


def breakable(name: re.Match[str]) -> str:
    """A name or path with a place to break after each underscore, slash and colon."""
    return re.sub(r"(?<=\w)(_|/|::)(?=\w)", r"\1<wbr>", name[0])
