"""The command line: what it prints, what it writes, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str, cwd: Path | None = None, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lossjax"] if code is None else [sys.executable, "-c", code]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=cwd)


def test_verify_proves_a_section_and_writes_json(tmp_path: Path) -> None:
    result = run("verify", "--section", "4.1.3", "--json", "out.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "4.1.2" in result.stdout
    assert "claims hold on this machine" in result.stdout
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert {entry["name"] for entry in written} >= {"4.1.2", "3.1"}
    assert all(set(entry) >= {"name", "ok", "measured", "allowed", "statement"} for entry in written)


def test_verify_exits_1_when_something_falls_short() -> None:
    """With a library whose integer-label loss is a rounding too large, section 4.1.3 must not pass."""
    code = (
        "import lossjax\n"
        "good = lossjax.softmax_cross_entropy_with_integer_labels\n"
        "bad = lambda *a, **k: good(*a, **k) * (1 + 1e-3)\n"
        "bad.plain = good.plain\n"
        "lossjax.softmax_cross_entropy_with_integer_labels = bad\n"
        "from lossjax.__main__ import main\n"
        "main()\n"
    )
    result = run("verify", "--section", "4.1.3", "--processes", "1", code=code)
    assert result.returncode == 1, result.stdout
    assert "fall short" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("verify", "--section", "7"), "wanted some of"),
        (("verify", "--json", "no/such/folder/x.json"), "does not exist"),
        (("verify", "--bogus"), "No such option"),
        (("nonsense",), "No such command"),
    ],
)
def test_usage_errors_exit_2_without_a_traceback(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr


def test_version() -> None:
    assert run("--version").stdout.startswith("lossjax 0.")


@pytest.mark.parametrize("missing", ["typer", "flint"])
def test_a_missing_extra_is_named(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None\nfrom lossjax.__main__ import main\nmain()"
    result = run("verify", code=code)
    assert result.returncode == 2
    assert 'pip install "lossjax[verify]"' in result.stderr
    assert "Traceback" not in result.stderr
