"""Every claim of the chapter holds here, in both dtypes; the list of claims is complete."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from lossjax._core.xla import LITTLE_EFFORT
from lossjax.verify import report
from lossjax.verify._claims import _tools
from lossjax.verify._theorems import SECTIONS, claims, theorems
from lossjax.verify.claim import DTYPES, Claim, Result, claim
from lossjax.verify.tables import number
from tests.support.quick import FUSED_AS_FOR_USERS

EVERY = claims()

# The chapter's numbered statements. Items that are theorems, equations or the table go by those names.
NUMBERED = {
    "4.1": ["0.1", "0.2"],
    "4.1.1": [f"1.{k}" for k in range(1, 15) if k not in (5, 15)],
    "4.1.2": [f"2.{k}" for k in range(1, 10) if k not in (3, 7)],
    "4.1.3": [f"3.{k}" for k in range(1, 6)],
    "4.1.4": [f"4.{k}" for k in range(1, 8) if k != 5],
    "4.1.5": [f"5.{k}" for k in range(1, 12) if k not in (3, 6)],
    "4.1.6": [f"6.{k}" for k in range(1, 15) if k not in (2, 3, 8, 9, 12)],
    "4.1.7": ["7.1", "7.2", "7.3"],
}
NAMED = {
    "4.1.2": ["4.1.1", "(4.1.1)"],
    "4.1.3": ["4.1.2"],
    "4.1.4": ["4.1.3"],
    "4.1.5": ["4.1.4", "(4.1.2)", "(4.1.3)", "Table 4.1.1"],
    "4.1.6": ["4.1.5", "4.1.6", "(4.1.4)", "(4.1.5)"],
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("one", EVERY, ids=lambda c: c.name)
def test_claim_holds(one: Claim, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``make verify``, the first of the two commands, proves it: its programs have not the fusions of the tests."""
    monkeypatch.setattr(_tools, "LITTLE_EFFORT", LITTLE_EFFORT | FUSED_AS_FOR_USERS)
    result = one.run(dtype)
    assert result.ok, report.failures([result])


@pytest.mark.parametrize("section", SECTIONS)
def test_no_claim_is_missing(section: str) -> None:
    """A name may stand for a run of neighbours, as 1.4/1.5 or 4.1.6's parts (a) to (d)."""
    here = {part for c in EVERY if c.section == section for part in (c.name, *re.split(r"[/ ,]+(?=[\d(])", c.name))}
    wanted = NUMBERED[section] + NAMED.get(section, [])
    assert not [name for name in wanted if name not in here]


def test_names_are_unique() -> None:
    names = [c.name for c in EVERY]
    assert len(names) == len(set(names))


def test_theorems_gives_one_result_a_claim_and_dtype() -> None:
    seen: list[tuple[str, str]] = []
    results = theorems(sections=["4.1"], progress=lambda c, d: seen.append((c.name, d)))
    assert [(r.name, r.dtype) for r in results] == seen
    assert {r.dtype for r in results} == set(DTYPES)
    with pytest.raises(ValueError, match=r"sections has '4\.2'"):
        theorems(sections=["4.2"])
    with pytest.raises(ValueError, match="float16"):
        theorems(dtypes=["float16"])


def failing() -> Result:
    check = claim("9.9", section="4.1", statement="All is well", verdict="wrong", correction="It is not")
    return check(lambda t: t.at_most("distance", 3, 1)).run("float32")


def test_a_failure_is_shown(tmp_path: Path) -> None:
    result = failing()
    console = Console(record=True, width=120)
    console.print(report.table([result]))
    console.print(report.summary([result]))
    text = console.export_text()
    assert "✗" in text
    assert "3 ≤ 1" in text
    assert "It is not" in text
    assert "1 of 1 claims fall short: 9.9" in text
    assert report.failures([result]) == ["9.9 (float32): distance: measured 3, allowed at most 1"]
    report.write_json([result], tmp_path / "r.json")
    (written,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert {k: written[k] for k in ("name", "ok", "measured", "allowed", "statement", "correction")} == {
        "name": "9.9", "ok": False, "measured": 3.0, "allowed": 1.0,
        "statement": "All is well", "correction": "It is not",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("x", "text"),
    [(0.0, "0"), (1234567.0, "1.2e+06"), (12345.0, "12345"), (0.25, "0.25"), (1e-9, "1.0e-09"), (float("inf"), "∞")],
)
def test_numbers_are_short(x: float, text: str) -> None:
    assert number(x) == text
