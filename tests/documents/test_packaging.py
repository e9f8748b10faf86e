"""What leaves the house works elsewhere: the wheel in a clean environment; a loss is added in the six steps shown."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import lossjax
from tests.support.paths import ROOT

STEP = re.compile(
    r"^(?:At the end of `(?P<end>[^`]+)`|In `(?P<file>[^`]+)`, after (?P<quote>`{1,2})(?P<after>.+?)(?P=quote)):\n\n"
    r"```\w+\n(?P<added>.*?)^```",
    re.M | re.S,
)


def run(*command: str | Path, cwd: Path, limit: float = 900, **variables: str) -> str:
    """The output of a command that ends with 0, in an environment without this one's paths."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "XLA_FLAGS", "VIRTUAL_ENV")}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=environment | variables, text=True, capture_output=True, timeout=limit, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def copy(to: Path, *names: str) -> Path:
    """Files and folders of the repository, elsewhere, in a folder with a space in its name."""
    folder = to / "a clone"
    folder.mkdir()
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def steps() -> list[tuple[str, str | None, str]]:
    """(file, the line after which, or None for its end, what is added)."""
    text = (ROOT / "docs" / "adding_a_loss.md").read_text(encoding="utf-8")
    return [(step["end"] or step["file"], step["after"], step["added"]) for step in STEP.finditer(text)]


def test_the_six_steps_fit_the_files() -> None:
    text = (ROOT / "docs" / "adding_a_loss.md").read_text(encoding="utf-8")
    named = {name for row in re.findall(r"^\| \d \| (.*?) \|", text, re.M) for name in re.findall(r"`(.*?)`", row)}
    assert {file for file, _, _ in steps()} == named, "the page's first table names other files than its steps"
    for file, after, _ in steps():
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        assert after is None or lines.count(after) == 1, f"{file} has no single line {after!r}"


OF_ALL_LOSSES = (
    "tests/test_architecture.py", "tests/test_cli.py", "tests/contract/test_features.py",
    "tests/documents/test_site.py::test_every_public_name_is_documented",
    "tests/contract/test_contract.py::test_every_public_loss_has_a_signature_and_a_truth",
    "tests/verify/test_certified.py::test_the_table_has_every_loss_and_dtype",
)  # fmt: skip
"""Tests that look at all public names at once, so that the new name is not in theirs."""


@pytest.mark.slow
def test_a_loss_is_added_in_six_steps(tmp_path: Path) -> None:
    """In a copy: every test of the fast tier that has the loss in its name passes, and those of all names at once."""
    folder = copy(
        tmp_path, "lossjax", "tests", "docs", "tools", "examples", "benchmarks", "notebooks", "README.md",
        "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "mkdocs.yml", "pyproject.toml",
    )  # fmt: skip
    for file, after, added in steps():
        path = folder / file
        text = path.read_text(encoding="utf-8")
        text = f"{text}\n\n{added}" if after is None else text.replace(f"{after}\n", f"{after}\n{added}", 1)
        path.write_text(text, encoding="utf-8")
    # A run of some minutes writes the table of errors: a line that holds its place will do here.
    page, stated = folder / "docs" / "accuracy.md", "| `charbonnier_loss` | 3, 3 | 3, 3 | 2, 1 | 2, 1 |"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("| `quantile_loss` | ", f"{stated}\n| `quantile_loss` | ", 1), encoding="utf-8")
    run(sys.executable, "-m", "ruff", "check", "lossjax", "tests", cwd=folder)
    pytest_ = (sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider")
    shown = run(*pytest_, "-k", "charbonnier and not test_certified_as_recorded", cwd=folder)
    [passed] = re.findall(r"(\d+) passed", shown)
    assert int(passed) >= 12, shown
    run(*pytest_, *OF_ALL_LOSSES, cwd=folder)
    shown = run(sys.executable, "-m", "lossjax", "verify", "--loss", "charbonnier_loss", cwd=folder)
    assert "charbonnier_loss" in shown


@pytest.mark.slow
def test_the_wheel_works_in_a_clean_environment(tmp_path: Path) -> None:
    """Built from the source distribution, twice alike, installed with the extra ``verify``, it proves itself there."""
    folder = copy(tmp_path, "lossjax", "tools", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml")
    run(sys.executable, "tools/build.py", tmp_path / "dist", cwd=folder)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    for path in folder.rglob("*"):  # another clone, at another time, by another user, who builds with another version
        os.utime(path, (1e9, 1e9))
        path.chmod(0o700 if path.is_dir() else 0o600)
    (tmp_path / "constraint.txt").write_text("setuptools==80.9.0", encoding="utf-8")
    variables = {"PIP_CONSTRAINT": (tmp_path / "constraint.txt").as_uri()}
    run(sys.executable, "tools/build.py", tmp_path / "again", cwd=folder, **variables)
    made = {path.name: path.read_bytes() for path in (tmp_path / "dist").iterdir()}
    assert len(made) == 2
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}, "not reproducible"
    names = zipfile.ZipFile(wheel).namelist()
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "lossjax").rglob("*.py")}
    assert modules <= set(names)
    assert "lossjax/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"lossjax", f"lossjax-{lossjax.__version__}.dist-info"}
    run(sys.executable, "-m", "venv", "clean", cwd=tmp_path)
    python = tmp_path / "clean" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[verify]", cwd=tmp_path)
    where = run(python, "-c", "import lossjax; print(lossjax.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path / "clean"))
    command = tmp_path / "clean" / "bin" / "lossjax"
    assert lossjax.__version__ in run(command, "--version", cwd=tmp_path)
    assert "4.1.6" in run(command, "verify", "--section", "4.1.6", "--loss", "squared_error", cwd=tmp_path)


def test_the_citation_has_the_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {lossjax.__version__}\n" in text


def test_dev_has_every_other_extra() -> None:
    """One environment for everything that the tests run."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    inside = {"dev"}
    while more := {
        name for extra in inside for need in extras[extra] if need.startswith("lossjax[")
        for name in need.split("[")[1].rstrip("]").split(",")
    } - inside:  # fmt: skip
        inside |= more
    assert inside == set(extras) - {"bench"}


def test_the_matrix_is_what_pyproject_supports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ends are the bounds that pip and the reader of the classifiers see, and what it selects is there."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    matrix = importlib.import_module("matrix")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">=3.{matrix.OLDEST}"
    python = re.findall(r"Python :: 3\.(\d+)", "\n".join(project["classifiers"]))
    assert [int(minor) for minor in python] == list(range(matrix.OLDEST, matrix.NEWEST + 1))
    oldest = {pin.replace("==", ">=").removesuffix(".0") for pin in matrix.OLDEST_JAX}
    assert oldest <= set(project["dependencies"])
    assert [path for path in matrix.DEPENDS_ON_JAX if not (ROOT / path).exists()] == []


def test_the_other_end_is_chosen_and_its_absence_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    matrix = importlib.import_module("matrix")
    monkeypatch.setattr(matrix, "interpreter", lambda minor: None)
    assert matrix.main(["--other"]) == 0
    oldest_here = sys.version_info.minor == matrix.OLDEST
    wanted = ("the newest JAX", "3.13 or 3.12") if oldest_here else ("the oldest JAX", "3.11")
    assert capfd.readouterr().out == f"skipped: {wanted[0]} is not tested, because no Python {wanted[1]} is found\n"


def test_the_checks_before_a_commit_are_those_of_make_test() -> None:
    """pre-commit and the workflow call the Makefile, so that no second list of checks can grow apart from it."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^\s*entry: make (\w+)$", hooks, re.M)
    [needed] = re.findall(r"^test: (.*)$", makefile, re.M)
    assert targets == [*needed.split(), "test"]
    workflows = list((ROOT / ".github" / "workflows").glob("*.yml"))
    assert workflows
    assert all("run: .ci/run" in path.read_text(encoding="utf-8") for path in workflows)


RUNS = re.compile(r"^ +- (?:name: .*\n +)?run: (.+)$", re.M)


def test_the_workflow_runs_as_a_script(tmp_path: Path) -> None:
    """Its steps in a clone, with a ``make`` that writes down what it would do: every target is there, in this order."""
    folder = copy(tmp_path, ".ci", "Makefile", "pyproject.toml", "tools")
    fake = tmp_path / "bin" / "make"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" >> targets\nexec {shutil.which("make")} --dry-run "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    steps_ = RUNS.findall((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    assert steps_
    for step in steps_:
        run("bash", "-euo", "pipefail", "-c", step, cwd=folder, PATH=f"{fake.parent}:{os.environ['PATH']}")
    targets = (folder / "targets").read_text(encoding="utf-8").split()
    assert targets[:3] == ["verify", "test", "test-documents"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.M)] == []
