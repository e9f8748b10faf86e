"""``lossjax bench --compile-for``: the table where a compiler is installed, and one sentence where it cannot be had."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lossjax.accelerators import CHIPS, chips, suite
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
    found = {row["peer"]: row for row in json.loads((tmp_path / "r.json").read_text())["results"]}
    assert found["lossjax"]["moved"] > 0


def test_the_page_shows_the_recorded_results() -> None:
    stored = json.loads((ROOT / "benchmarks/results/accelerators.json").read_text(encoding="utf-8"))
    found = [suite.Row(**row) for row in stored["results"]]
    assert {row.chip for row in found} == set(CHIPS)
    assert all(row.ok for row in found)
    assert suite.markdown(found) in (ROOT / "docs/accelerators.md").read_text(encoding="utf-8")


def test_a_part_that_is_recorded_again_keeps_the_rest(tmp_path: Path) -> None:
    def row(chip: str, case: str, units: float) -> suite.Row:
        return suite.Row(chip, case, "value", "float32", "lossjax", units, 0, 1, 1.0)

    file = tmp_path / "results.json"
    both = accelerators.recorded([row("h100", "log-sum-exp", 1.0), row("v5e", "labels", 1.0)], file)
    assert [one.chip for one in both] == ["v5e", "h100"]
    again = accelerators.recorded([row("v5e", "labels", 2.0)], file)
    assert [(one.chip, one.units) for one in again] == [("v5e", 2.0), ("h100", 1.0)]
    assert accelerators.read(file) == again
    stored = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(stored | {"versions": {"jax": "0.1"}}), encoding="utf-8")
    assert len(accelerators.recorded([row("v5p", "labels", 1.0)], file)) == 1, "other versions' programs are others"
