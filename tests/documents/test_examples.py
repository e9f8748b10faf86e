"""Every example runs as a user would run it, and prints what it promises; planted faults make it fail."""

import ast
import csv
import importlib
import importlib.util
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lossjax
from tests.support.paths import ROOT
from tests.support.processes import environment

pytest.importorskip("flint", reason="the examples check against exact arithmetic: pip install 'lossjax[examples]'")
pytest.importorskip("sklearn", reason="the examples use its bundled data: pip install 'lossjax[examples]'")

from lossjax.verify import oracle, ulp
from tests.support.promises import ERROR_ROW, EXPECTED, NEEDS, SMALL

FOLDER = ROOT / "examples"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python from a folder that has nothing to do with the project, with every warning an error."""
    of_terminal = {"PYTHONUTF8": "1", "COLUMNS": "80", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder, env=environment(**of_terminal), capture_output=True, encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip


def promised(example: str, folder: Path, *arguments: str) -> None:
    if importlib.util.find_spec(NEEDS.get(example, "jax")) is None:
        pytest.skip(f"{example} needs {NEEDS[example]}: pip install 'lossjax[examples]'")
    done = run(folder, str(FOLDER / example), *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 80, "a line does not fit a terminal"
    assert "…" not in done.stdout, "a table does not fit a terminal"
    EXPECTED[example](done.stdout)
    if "--figure" in arguments:
        points = list(csv.DictReader((folder / "learned.csv").read_text(encoding="utf-8").splitlines()))
        assert len({point["step"] for point in points}) > 5, "a curve has its points"
        words = (folder / "learned.txt").read_text(encoding="utf-8").splitlines()
        assert len(words) == len({point["panel"] for point in points}), "each half of the picture is said"
        assert (folder / "learned.png").stat().st_size > 10_000


@pytest.mark.parametrize("example", sorted(p.name for p in FOLDER.glob("[0-9]*.py")))
def test_runs_and_prints_what_it_promises(example: str, tmp_path: Path) -> None:
    assert example in EXPECTED, f"say in EXPECTED what {example} must print"
    promised(example, tmp_path, *SMALL.get(example, ()))


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted(SMALL.keys() - {"03_softmax_collapse.py"}))
def test_the_whole_run_too(example: str, tmp_path: Path) -> None:
    promised(example, tmp_path)


@pytest.mark.parametrize("example", sorted(EXPECTED))
def test_is_short(example: str) -> None:
    """30 to 80 lines of code; docstrings, comments and blank lines are not counted."""
    text = (FOLDER / example).read_text(encoding="utf-8")
    tree = ast.parse(text)
    documented = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.FunctionDef | ast.ClassDef)]
    prose = {
        line for node in documented if ast.get_docstring(node)
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }  # fmt: skip
    lines = [line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in prose]
    assert 30 <= sum(bool(line) and not line.startswith("#") for line in lines) <= 80


def test_every_expectation_has_its_example() -> None:
    assert set(EXPECTED) == {p.name for p in FOLDER.glob("[0-9]*.py")}


def test_a_loss_without_the_contract_fails_the_example(tmp_path: Path) -> None:
    """The digits example with optax's loss in the place of lossjax's: it trains as well, and must fail."""
    planted = f"""
import runpy, sys, jax.numpy as jnp, lossjax, optax
def loss(logits, labels, reduction="none"):
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(losses) if reduction == "mean" else losses
lossjax.softmax_cross_entropy_with_integer_labels = loss
sys.path.insert(0, {str(FOLDER)!r})
runpy.run_path({str(FOLDER / "01_train_digits.py")!r}, run_name="__main__")
"""
    done = run(tmp_path, "-c", planted)
    assert done.returncode == 1
    assert done.stderr.startswith("lossjax breaks its promise: loss (")
    assert "Traceback" not in done.stderr


def test_padding_that_reaches_the_loss_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    example = importlib.import_module("09_label_noise")
    logits, labels, real = np.zeros((3, 10), np.float32), np.array([4, -1, 0]), np.array([True, True, False])
    loss = lossjax.softmax_cross_entropy_with_integer_labels
    assert example.padding_is_hidden(loss, logits, labels, real)
    assert not example.padding_is_hidden(lambda z, y, where, **options: loss(z, y, **options), logits, labels, real)


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("_accuracy")


LOGITS = np.array([[3.0, -1.0, 0.5], [20.0, 0.0, -4.0], [-2.0, 6.0, 6.0]], np.float32)
LABELS = np.array([0, 0, 2], np.int32)


def gradient(loss: Callable[..., jax.Array] = lossjax.softmax_cross_entropy_with_integer_labels) -> np.ndarray:
    return np.array(jax.grad(lambda logits: jnp.sum(loss(logits, LABELS)))(LOGITS))


def one_entry_off(ulps: int) -> np.ndarray:
    result = gradient()
    result[1, 1] += np.float32(ulps) * np.spacing(result[1, 1])
    return result


FAULTS = {
    "sign flipped": lambda: -gradient(),
    "label not subtracted": lambda: np.asarray(jax.nn.softmax(LOGITS)),
    "one entry 20 ulp off": lambda: one_entry_off(20),
    "one entry NaN": lambda: np.where(np.eye(3) > 0, np.float32(np.nan), gradient()),
    "all zero": lambda: np.zeros_like(LOGITS),
    "cancelling at the label": lambda: gradient(optax.softmax_cross_entropy_with_integer_labels),
}


def report(helper: Any, computed: np.ndarray) -> str:
    """What the examples' table says of a gradient."""
    from rich.console import Console

    with oracle.precision():
        _, truth = oracle.softmax_cross_entropy(ulp.balls(LOGITS), oracle.one_hot(LABELS, 3))
    printed = io.StringIO()
    console = Console(width=80, file=printed)
    helper.report_errors(console, "title", [helper.Measured("gradient", truth, computed, computed, "optax")])
    return printed.getvalue()


def test_the_right_gradient_passes(helper: Any) -> None:
    (row,) = ERROR_ROW.findall(report(helper, gradient()))
    assert row[0] == "gradient"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_gradient_fails(helper: Any, fault: str) -> None:
    with pytest.raises(SystemExit, match=r"lossjax breaks its promise: gradient \("):
        report(helper, FAULTS[fault]())


@pytest.mark.parametrize("off", [1e-8, np.nan, np.inf])
def test_a_broken_theorem_fails(helper: Any, off: float) -> None:
    from rich.console import Console

    differences = jnp.array([0.0, off])
    with pytest.raises(SystemExit, match="does not hold here: a = b"):
        helper.report_theorems(Console(quiet=True), "title", [("a = b", differences, 1e-9)])
