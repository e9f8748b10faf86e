"""What leaves the house works elsewhere: the wheel in a clean environment; a loss is added in the five steps shown."""

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

STEP = re.compile(r"^(?:At the end of `([^`]+)`|In `([^`]+)`, after `([^`]+)`):\n\n```\w+\n(.*?)^```", re.M | re.S)


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
    return [(end or file, after or None, added) for end, file, after, added in STEP.findall(text)]


def test_the_five_steps_fit_the_files() -> None:
    assert len(steps()) == 8
    for file, after, _ in steps():
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        assert after is None or lines.count(after) == 1, f"{file} has no single line {after!r}"


@pytest.mark.slow
def test_a_loss_is_added_in_five_steps(tmp_path: Path) -> None:
    """In a copy: its contract, docstring and certificate pass, and the tests of all losses know it."""
    folder = copy(tmp_path, "lossjax", "tests", "docs", "README.md", "CHANGELOG.md", "pyproject.toml")
    for file, after, added in steps():
        path = folder / file
        text = path.read_text(encoding="utf-8")
        text = f"{text}\n\n{added}" if after is None else text.replace(f"{after}\n", f"{after}\n{added}", 1)
        path.write_text(text, encoding="utf-8")
    # A run of some minutes writes the README's table of errors: a line that holds its place will do here.
    readme, stated = folder / "README.md", "| `pseudo_huber_loss` | 3, 3 | 3, 3 | 2, 1 | 2, 1 |"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(text.replace("| `quantile_loss` | ", f"{stated}\n| `quantile_loss` | ", 1), encoding="utf-8")
    run(sys.executable, "-m", "ruff", "check", "lossjax", "tests", cwd=folder)
    shown = run(sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider",
                "-k", "(pseudo_huber and not test_certified_as_recorded) or every_public_loss or is_caught",
                "tests/contract/test_contract.py", "tests/test_architecture.py", "tests/verify",
                cwd=folder)  # fmt: skip
    assert re.search(r"(\d\d) passed", shown), shown
    shown = run(sys.executable, "-m", "lossjax", "verify", "--loss", "pseudo_huber_loss", cwd=folder)
    assert "pseudo_huber_loss" in shown


@pytest.mark.slow
def test_the_wheel_works_in_a_clean_environment(tmp_path: Path) -> None:
    """Built from the source distribution, installed with the extra ``verify``, it proves itself there."""
    folder = copy(tmp_path, "lossjax", "README.md", "LICENSE", "pyproject.toml")
    run(sys.executable, "-m", "build", "--outdir", tmp_path / "dist", cwd=folder)
    [wheel] = (tmp_path / "dist").glob("*.whl")
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
