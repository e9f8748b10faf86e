"""Every example runs as a user would run it, and prints what it promises; planted faults make it fail."""

import importlib
import io
import os
import re
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

pytest.importorskip("flint", reason="the examples check against exact arithmetic: pip install 'lossjax[examples]'")
pytest.importorskip("sklearn", reason="the examples use its bundled data: pip install 'lossjax[examples]'")

from lossjax.verify import oracle, ulp

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples"
ERROR_ROW = re.compile(r"^ (.+?) {2,}(\S+) +≤ (\S+)u +(\S+) +(optax|textbook) *$", re.MULTILINE)
THEOREM_ROW = re.compile(r"^ (4\.\S+ .+?) {2,}(\S+) +≤ (\S+) *$", re.MULTILINE)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python from a folder that has nothing to do with the project, with every warning an error."""
    environment = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "XLA_FLAGS")}
    environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "PYTHONUTF8": "1",
        "COLUMNS": "80",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    }
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip


def errors(output: str) -> dict[str, tuple[float, float, float, str]]:
    """The last table: of each quantity lossjax's error, what it promises, the other's error, and its name."""
    rows = {name: (float(a), float(b), float(c), who) for name, a, b, c, who in ERROR_ROW.findall(output)}
    for name, (ours, allowed, _, _) in rows.items():
        assert ours <= allowed <= 8, f"{name}: {ours} ulp"
    return rows


def digits(output: str) -> None:
    accuracy = re.search(r"accuracy (0\.\d+) on 360 test images", output)
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.96
    rows = errors(output)
    assert list(rows) == ["loss", "gradient at the label", "other gradients"]
    for quantity in ("loss", "gradient at the label"):
        _, allowed, others, who = rows[quantity]
        assert who == "optax"
        assert others > 1000 * allowed, "a trained network makes optax lose most digits; has the figure been mixed up?"


def diabetes(output: str) -> None:
    fits = re.findall(r"^ (?:fixed|learned|by patient) +\d+ +(-\d+\.\d+)", output, re.MULTILINE)
    likelihoods = [float(likelihood) for likelihood in fits]
    assert len(likelihoods) == 3
    assert likelihoods == sorted(likelihoods), "each model contains the one before"
    theorems = THEOREM_ROW.findall(output)
    assert len(theorems) == 10
    assert all(float(off) <= float(allowed) <= 1e-9 for _, off, allowed in theorems)
    assert "R² = SSR / SST (it is 0.5177)" in output  # as scikit-learn's LinearRegression has it on these data
    rows = errors(output)
    assert len(rows) == 8
    assert {who for *_, who in rows.values()} == {"optax", "textbook"}
    assert rows["squared error"][3] == "optax"


COLLAPSE_ROW = re.compile(r"^ (\d+) +(optax|lossjax) +(\S+) +\S+ +(\S+) +(\d+) +(0\.\d+) *$", re.MULTILINE)


def collapse(output: str) -> None:
    rows = [(int(step), who, float(loss), int(zero)) for step, who, loss, _, zero, _ in COLLAPSE_ROW.findall(output)]
    last = {who: (loss, zero) for step, who, loss, zero in rows if step == max(r[0] for r in rows)}
    assert last["optax"] == (0, 1740), "the usual loss and its label gradients round to 0 on every pair"
    loss, zero = last["lossjax"]
    assert 0 < loss < 2.0**-24
    assert zero == 0
    assert {who for _, who, loss, _ in rows if loss == 0} == {"optax"}
    accuracies = re.search(r"optax's loss (0\.\d+) \(at best (0\.\d+)\), with lossjax's (0\.\d+)", output)
    assert accuracies is not None
    assert float(accuracies[3]) > 1.5 * float(accuracies[2]), "what the exact gradient gains, if it gains it here"
    assert "wrote softmax_collapse.png" in output


def verify_your_loss(output: str) -> None:
    assert "The wrong rule: check_grads rejects it at 8 tokens, accepts it at 1000." in output
    assert "The right rule: check_grads accepts it at 8 tokens, accepts it at 1000." in output
    wrong, right = output.split("The right rule")
    assert re.search(r"✗ rule: gradient of argument 0 at \[\d, \d\]: got \S+ want\s+\S+", wrong)
    assert "Falls short: rule, cotangent." in wrong
    assert "checks hold." in right


EXPECTED: dict[str, Callable[[str], None]] = {
    "01_train_digits.py": digits,
    "02_regression_diabetes.py": diabetes,
    "03_softmax_collapse.py": collapse,
    "04_verify_your_loss.py": verify_your_loss,
}
ARGUMENTS = {"03_softmax_collapse.py": ("--modulus", "59", "--steps", "1200")}
"""Smaller runs, where the whole one takes minutes."""


@pytest.mark.parametrize("example", sorted(p.name for p in FOLDER.glob("[0-9]*.py")))
def test_runs_and_prints_what_it_promises(example: str, tmp_path: Path) -> None:
    assert example in EXPECTED, f"say in EXPECTED what {example} must print"
    done = run(tmp_path, str(FOLDER / example), *ARGUMENTS.get(example, ()))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 80, "a line does not fit a terminal"
    assert "…" not in done.stdout, "a table does not fit a terminal"
    EXPECTED[example](done.stdout)


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
