"""``lossjax bench --compile-for``: the table where a compiler is installed, and one sentence where it cannot be had."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lossjax.accelerators import CHIPS, NotPossible, chips, heads, plan_head, suite
from lossjax.cli import app
from tests.support.paths import ROOT
from tools import accelerators


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--compile-for", "v9"], "'v9' is not one of the chips v5e, v5p, v6e, 7x, h100, a100, b200"),
        (["--compile-for", "v5e", "--shape", "8192"], "'8192' is neither ROWSxCLASSES nor ROWSxHIDDENxCLASSES"),
        (["--compile-for", "v5e", "--shape", "8x8", "--dtype", "int8"], "'int8' is not one of float32"),
        (["--shape", "8x8"], "goes with --compile-for"),
    ],
)
def test_a_wrong_request_is_one_sentence(arguments: list[str], says: str) -> None:
    refused = CliRunner().invoke(app, ["bench", *arguments], env={"COLUMNS": "300"})
    assert refused.exit_code == 2
    assert says in " ".join(refused.output.split())


@pytest.mark.parametrize(("name", "package"), [("v5p", "libtpu"), ("b200", "jax_cuda")])
def test_a_missing_compiler_is_one_sentence(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = chips.importlib.util.find_spec
    monkeypatch.setattr(chips.importlib.util, "find_spec", lambda n: None if package in n else real(n))
    refused = CliRunner().invoke(app, ["bench", "--compile-for", name, "--shape", "64x128"])
    assert refused.exit_code == 2
    assert re.search(r"^lossjax: compiling for .* needs .*: pip install ", refused.output)


@pytest.mark.parametrize("option", ["--chip", "--case"])
def test_the_tool_refuses_what_it_does_not_know(option: str) -> None:
    refused = subprocess.run(
        [sys.executable, ROOT / "tools/accelerators.py", option, "v9"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert re.fullmatch(r"'v9' is not one of the (chips: v5e; v5p|cases: labels; ).*\n", refused.stderr)


@pytest.mark.accelerators
def test_the_table_of_a_shape(tmp_path: Path) -> None:
    missing = chips.lacking(CHIPS["h100"])
    if missing is not None:
        pytest.skip(missing)
    command = ["bench", "--compile-for", "h100", "--shape", "256x64x4096", "--json", str(tmp_path / "r.json")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "compiled for h100" in done.output
    assert "h100: 1 block of 256 rows, on paper " in done.output
    found = {row["peer"]: row for row in json.loads((tmp_path / "r.json").read_text())["results"]}
    assert found["lossjax"]["moved"] > 0


def test_the_page_shows_the_recorded_results() -> None:
    stored = json.loads((ROOT / "benchmarks/results/accelerators.json").read_text(encoding="utf-8"))
    found = [suite.Row(**row) for row in stored["results"]]
    assert {row.chip for row in found} == set(CHIPS)
    assert all(row.ok for row in found)
    page = (ROOT / "docs/accelerators.md").read_text(encoding="utf-8")
    assert suite.markdown(found) in page
    of_heads = [heads.HeadRow(**row) for row in stored["heads"]]
    assert {row.chip for row in of_heads} == set(CHIPS)
    assert {row.case for row in of_heads} == set(heads.HEADS)
    assert all(row.ok for row in of_heads)
    assert heads.markdown(of_heads) in page


def test_a_part_that_is_recorded_again_keeps_the_rest(tmp_path: Path) -> None:
    def row(chip: str, case: str, units: float) -> suite.Row:
        return suite.Row(chip, case, "value", "float32", "lossjax", units, 0, 1, 1.0)

    file = tmp_path / "results.json"
    both, _ = accelerators.recorded(([row("h100", "log-sum-exp", 1.0), row("v5e", "labels", 1.0)], []), file)
    assert [one.chip for one in both] == ["v5e", "h100"]
    head = heads.HeadRow("h100", "entropy", "bfloat16", "lossjax", 2**30, 2**32, 30)
    again = accelerators.recorded(([row("v5e", "labels", 2.0)], [head]), file)
    assert [(one.chip, one.units) for one in again[0]] == [("v5e", 2.0), ("h100", 1.0)]
    assert accelerators.read(file) == again
    assert again[1] == [head]
    stored = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(stored | {"versions": {"jax": "0.1"}}), encoding="utf-8")
    alone = accelerators.recorded(([row("v5p", "labels", 1.0)], []), file)
    assert list(map(len, alone)) == [1, 0], "other versions' programs are others"


def test_a_head_that_holds_its_logits_is_seen() -> None:
    """The planted fault: what a head on stored logits was recorded to hold, said to be lossjax's."""
    _, of_heads = accelerators.read(ROOT / "benchmarks/results/accelerators.json")
    stored = [row for row in of_heads if row.peer == "stored" and row.chip == "h100"]
    assert stored
    for row in stored:
        planted = dataclasses.replace(row, peer="lossjax")
        assert not planted.ok, row
        assert "blocks beside ∂W, allowed 2" in planted.complaint or "allowed 3.6" in planted.complaint


def test_a_plan_says_what_the_chunk_size_costs() -> None:
    """A v5e does 240 operations while it moves a byte: 963 rows, four bytes read and written, keep it busy."""
    wide = plan_head(8192, 4096, 131072, chip="v5e")
    assert (wide.chunk_size, wide.blocks, wide.enough_rows) == (1024, 8, 963)
    assert wide.slope_ms < wide.products_ms / 3
    assert wide.bound == "products"
    narrow = plan_head(8192, 4096, 131072, chip="v5e", chunk_size=256)
    assert narrow.slope_ms > narrow.products_ms
    assert narrow.bound == "memory"
    assert narrow.milliseconds > 1.5 * wide.milliseconds
    assert "its product waits for it" in str(narrow)
    assert plan_head(10, 4, 8).chunk_size == 10
    with pytest.raises(NotPossible, match="'v9' is not one of the chips"):
        plan_head(8, 8, 8, chip="v9")
    with pytest.raises(ValueError, match="at least one row"):
        plan_head(0, 8, 8)
    with pytest.raises(ValueError, match="chunk_size must be at least 1 row, got 0"):
        plan_head(8, 8, 8, chunk_size=0)
    wrong: Any = "big"
    with pytest.raises(TypeError, match="chunk_size must be 'auto' or a Python integer, got 'big'"):
        plan_head(8, 8, 8, chunk_size=wrong)
