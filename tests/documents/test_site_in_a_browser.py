"""The built site as a reader sees it, on a desk and on a telephone: nothing is cut off, and the search finds words."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import browser

pytestmark = pytest.mark.skipif(
    browser.installed() is None, reason=f"no browser is installed (one of {', '.join(browser.NAMES)})"
)

LOOK = """
const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));
const frame = document.body.appendChild(document.createElement("iframe"));
frame.style.height = "900px";
const open = async (page, width) => {
  frame.style.width = width + "px";
  const loaded = new Promise(done => frame.onload = done);
  frame.src = "/" + page;
  await loaded;
  return frame.contentDocument;
};
const scrolls = element => {  // whether the reader can scroll to what is beyond the edge
  for (let above = element.parentElement; above; above = above.parentElement)
    if (["auto", "scroll"].includes(frame.contentWindow.getComputedStyle(above).overflowX)) return true;
  return false;
};
"""

CUT_OFF = """
const found = [];
for (const page of PAGES) for (const width of [1400, 400]) {
  const shown = await open(page, width);
  const edge = shown.documentElement.clientWidth;
  const say = (what, element) =>
    found.push([page, width, what, element.tagName + " " + element.textContent.trim().slice(0, 60)]);
  if (shown.documentElement.scrollWidth > edge) say("the page is wider than the window", shown.body);
  for (const element of shown.querySelectorAll(".md-content article *")) {
    const box = element.getBoundingClientRect();
    if (box.width && box.right > edge + 1 && !scrolls(element)) { say("cut off", element); break; }
  }
  if (width == 1400)
    for (const element of shown.querySelectorAll("pre > code, .md-typeset__table, .formula"))
      if (element.scrollWidth > element.clientWidth + 1 && !element.closest("details"))
        say("has to be scrolled", element);
}
return found;
"""

SEARCH = """
const shown = await open("index.html", 1400);
const field = shown.querySelector(".md-search__input");
const results = {};
for (const word of WORDS) {
  field.focus();
  field.value = word;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.dispatchEvent(new KeyboardEvent("keyup", { bubbles: true }));
  for (let tries = 0; tries < 100; tries++) {
    await wait(100);
    const links = [...shown.querySelectorAll(".md-search-result__link")];
    results[word] = links.map(link => new URL(link.href).pathname.slice(1));
    const meta = shown.querySelector(".md-search-result__meta").textContent;
    if (links.length || meta.includes("No matching")) break;
  }
  results[word + " says"] = shown.querySelector(".md-search-result__meta").textContent.trim();
}
return results;
"""

DARK = """
const filters = {};
for (const scheme of ["default", "slate"]) {
  const shown = await open("theorems.html", 1400);
  shown.body.setAttribute("data-md-color-scheme", scheme);
  const figures = [...shown.querySelectorAll(".md-content img")];
  filters[scheme] = figures.map(image => frame.contentWindow.getComputedStyle(image).filter);
}
return filters;
"""


def look(site: Path, script: str, tmp_path: Path, **values: Any) -> Any:
    """What a script finds, with names for the values."""
    given = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    found = browser.look(site, LOOK + given + script, tmp_path / "profile")
    assert not (isinstance(found, dict) and "error" in found), found
    return found


def pages(site: Path) -> list[str]:
    """All but those that show a file of the repository, of which one stands for all."""
    names = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    sources = [name for name in names if name.startswith("source/")]
    return [name for name in names if name not in sources[1:]]


def test_nothing_is_cut_off(site: Path, tmp_path: Path) -> None:
    """At 1400 pixels nothing but folded source is scrolled sideways; at 400 tables and code may be, the page is not."""
    assert look(site, CUT_OFF, tmp_path, PAGES=pages(site)) == []


def test_what_is_cut_off_is_seen(site: Path, tmp_path: Path) -> None:
    """On a page with a line of code and an image that are too wide."""
    folder = tmp_path / "site"
    shutil.copytree(site, folder, ignore=shutil.ignore_patterns("source", "notebooks", "api"))
    text = (folder / "faq.html").read_text(encoding="utf-8")
    wide = '<pre><code style="overflow: auto">' + "x" * 400 + '</code></pre><hr style="width: 2000px">'
    (folder / "faq.html").write_text(text.replace("</article>", wide + "</article>"), encoding="utf-8")
    found = look(folder, CUT_OFF, tmp_path, PAGES=["faq.html", "losses.html"])
    assert {(page, width, what) for page, width, what, _ in found} >= {
        ("faq.html", 1400, "has to be scrolled"), ("faq.html", 1400, "cut off"), ("faq.html", 400, "cut off")
    }  # fmt: skip
    assert {page for page, *_ in found} == {"faq.html"}


def test_the_search_finds_words(site: Path, tmp_path: Path) -> None:
    found = look(site, SEARCH, tmp_path, WORDS=["sparsemax", "Bregman", "qwertyuiop"])
    assert "api/other_classification.html" in found["sparsemax"]
    assert "theorems.html" in found["Bregman"]
    assert found["qwertyuiop"] == []
    assert found["qwertyuiop says"] == "No matching documents"


def test_figures_follow_the_dark_mode(site: Path, tmp_path: Path) -> None:
    found = look(site, DARK, tmp_path)
    assert len(found["default"]) == len(found["slate"]) >= 3
    assert set(found["default"]) == {"none"}
    assert all("invert" in one for one in found["slate"])
