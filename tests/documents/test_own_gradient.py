"""The page on one's own gradient, in a project of its own: a module, its tests, and the commands of its workflow."""

import doctest
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processes import environment

TEXT = (ROOT / "docs" / "check_your_gradient.md").read_text(encoding="utf-8")
SOURCES = [example.source for example in doctest.DocTestParser().get_examples(TEXT)]
RULES = [source for source in SOURCES if source.startswith("softcap.defvjp(")]
KERNELS = ("from jax.experimental", "def run", "def forward_kernel", "def backward_kernel", "def with_backward")
OF_A_KERNEL, OF_A_RULE = re.findall(r"^lossjax check .*$", TEXT, re.M)


def written(*starts: str) -> str:
    """The lines of the page that begin so, in its order."""
    return "".join(source for source in SOURCES if source.startswith(starts))


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of the page, by this environment's Python."""
    program, *arguments = shlex.split(command, comments=True)
    return subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("rule", "code"), [(RULES[0], 1), (RULES[-1], 0)], ids=["forgotten slope", "mended"])
def test_the_command_and_the_tests_tell_the_rules_apart(rule: str, code: int, tmp_path: Path) -> None:
    module = written("import jax", "CAP =", "def formula", "softcap = ") + rule
    (tmp_path / "mine.py").write_text(module, encoding="utf-8")
    asserted = written("import jax", *KERNELS, "compare =", "from lossjax.verify import assert_verified", "def test_")
    (tmp_path / "test_mine.py").write_text(f"from mine import CAP, formula, softcap\n{asserted}", encoding="utf-8")
    clone = tmp_path / "lossjax" / "tests"  # the workflow has a clone of lossjax in its folder
    clone.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "conftest.py", clone)
    found = run(OF_A_RULE, tmp_path)
    assert found.returncode == code, found.stdout + found.stderr
    assert f"is the gradient right? {'NO' if code else 'yes'}" in found.stdout
    [tested] = re.findall(r"^- run: (pytest.*)$", TEXT, re.M)
    found = run(f"{tested} -q -p no:cacheprovider", tmp_path)
    assert found.returncode == code, found.stdout + found.stderr
    assert ("test_the_cap_is_right" in found.stdout) is bool(code)
    assert f"{2 - code} passed" in found.stdout


@pytest.mark.parametrize(("kernel", "code"), [("wrong_kernel", 1), ("backward_kernel", 0)])
def test_the_command_tells_the_kernels_apart(kernel: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(written("import jax", "CAP =", "def formula"), encoding="utf-8")
    kernels = written("import jax", *KERNELS, "def wrong_kernel")
    text = f"from mine import CAP\n{kernels}capped = with_backward({kernel})\n"
    (tmp_path / "kernel.py").write_text(text, encoding="utf-8")
    found = run(OF_A_KERNEL, tmp_path)
    assert found.returncode == code, found.stdout + found.stderr
    assert f"is the gradient accurate? {'NO' if code else 'yes'}" in found.stdout
