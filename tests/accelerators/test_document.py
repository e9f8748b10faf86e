"""The page that compiles a head from a laptop: what it skips where no chip's compiler is installed is run here."""

import doctest

import pytest

from tests.accelerators.test_programs import chip_or_skip
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "compile_for_a_chip.md"


@pytest.mark.accelerators
def test_the_page_shows_what_is_compiled() -> None:
    chip_or_skip("v5e")
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("# doctest: +SKIP") == 2
    page = doctest.DocTestParser().get_doctest(text.replace("# doctest: +SKIP", ""), {}, PAGE.name, str(PAGE), 0)
    assert doctest.DocTestRunner().run(page).failed == 0
