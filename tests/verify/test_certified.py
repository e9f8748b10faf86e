"""Every public loss of lossjax passes its own verifier in every dtype, and docs/accuracy.md says with what errors."""

import dataclasses
import itertools
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax.bench import markdown_tables
from lossjax.verify import Certificate, Certified, losses, samples
from lossjax.verify._check import CHECKS, Row
from lossjax.verify._check.problem import Problem
from lossjax.verify._losses import certify
from lossjax.verify.loss_report import failures, markdown
from lossjax.verify.samples import DTYPES, names
from tests.support.cases import OF_EACH_FILE
from tests.support.paths import ROOT
from tests.support.quick import FUSED_AS_FOR_USERS

PAGE = ROOT / "docs" / "accuracy.md"
ROUNDING = 1
"""In u: XLA vectorises for the machine it finds, so that a result may be rounded once more, or once less, elsewhere."""


def recorded(text: str) -> dict[tuple[str, str], tuple[int, int]]:
    """(loss, dtype) -> the errors of value and gradient that the table states."""
    table = text.partition("<!-- certified -->")[2].partition("<!-- end of certified -->")[0]
    found = {}
    for line in table.splitlines():
        if match := re.fullmatch(r"\| `([\w.]+)` \| (.*) \|", line):
            for dtype, cell in zip(DTYPES, match[2].split(" | "), strict=True):
                value, gradient = cell.split(", ")
                found[match[1], dtype] = int(value), int(gradient)
    return found


def departures(one: Certified, record: tuple[int, int]) -> list[str]:
    """What has grown since it was recorded, and what the record overstates."""
    lines = []
    for name, stated in zip(("value", "gradient"), record, strict=True):
        units = math.ceil(one.units(name))
        if abs(units - stated) > ROUNDING:
            what = "has grown" if units > stated else "is stale, run: lossjax verify --all --markdown docs/accuracy.md"
            lines.append(f"{one.name}, {one.dtype}: {name} is within {units}u, {PAGE.name} says {stated}u: it {what}")
    return lines


RECORD = recorded(PAGE.read_text(encoding="utf-8"))


def as_users_compile(function: Callable[..., Any], *_: Any) -> Callable[..., Any]:
    """With the fusions of a user's program: the record is of those, and the tests' are others."""
    return jax.jit(function, compiler_options=FUSED_AS_FOR_USERS)


def test_the_table_has_every_loss_and_dtype() -> None:
    assert set(RECORD) == {(name, dtype) for name in names() for dtype in DTYPES}


IN_TURN = dict(zip((case.name for case in OF_EACH_FILE), itertools.cycle(d for d in DTYPES if d != "float32")))
"""A loss of each file of rules, in the other dtypes in turn."""
CHOSEN = {(name, IN_TURN[name]) for name in (
    "softmax_cross_entropy_with_integer_labels", "sigmoid_cross_entropy", "softmax", "entropy", "kl_divergence",
    "huber_loss", "poisson_nll",
)}  # fmt: skip
"""What the fast tier certifies: of these the cheapest, in each of the other dtypes several. ``make verify``, the first
of the two commands, certifies every loss in float32, with every question; of every loss ``tests/contract`` judges the
accuracy in the other dtypes."""


def test_each_other_dtype_is_certified_of_several_losses() -> None:
    counts = [sum(dtype == other for _, dtype in CHOSEN) for other in DTYPES if other != "float32"]
    assert min(counts) >= 2


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=[] if (name, dtype) in CHOSEN else pytest.mark.slow)
        for name in names()
        for dtype in DTYPES
    ],
)
def test_certified_as_recorded(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[Problem.__module__], "compiled", as_users_compile)
    one = certify(name, dtype)
    assert one.ok, failures([one])
    asked = {row.name.split(":")[0] for row in one.certificate.rows if row.ok}
    assert asked >= (set(CHECKS) if dtype == "float32" else {"rule", "value", "gradient"})
    assert one.measured <= one.allowed
    assert not departures(one, RECORD[name, dtype])


def test_another_kind_of_argument_changes_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a new loss would change the recorded errors of all others."""
    before = {name: samples.sample(name, np.float32).arguments for name in names()}
    monkeypatch.setattr(samples, "KINDS", {"a new kind": samples.KINDS["labels"], **samples.KINDS})
    for name, arguments in before.items():
        for a, b in zip(samples.sample(name, np.float32).arguments, arguments, strict=True):
            assert np.array_equal(a, b), name


def made(value: float, gradient: float, *, ok: bool = True) -> Certified:
    """A result with these errors."""
    rows = Row("value", ok, value, 8), Row("gradient", ok, gradient, 8)
    return Certified.of("a_loss", "float32", 8, "", Certificate("a_loss", rows))


@pytest.mark.parametrize(
    ("measured", "words"),
    [((2, 3), []), ((2.9, 3.2), []), ((4.1, 3), ["value", "has grown"]), ((2, 1), ["gradient", "is stale"])],
)
def test_growth_and_staleness_are_seen(measured: tuple[float, float], words: list[str]) -> None:
    lines = departures(made(*measured), (3, 3))
    assert bool(lines) is bool(words)
    assert all(word in lines[0] for word in words)


def test_a_loss_whose_accuracy_was_not_judged_is_not_certified() -> None:
    one = made(1, 1)
    unjudged = Row("value", None, statement="not judged"), Row("gradient", True, 1, 8)
    assert one.ok
    assert not Certified.of("a_loss", "float32", 8, "", Certificate("a_loss", unjudged)).ok
    assert not made(9, 1, ok=False).ok


def textbook(logits: Any, labels: Any) -> Any:
    """The usual form: it loses all digits of a confident row."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)[:, 0]


@jax.custom_vjp
def wrong_in_half(predictions: Any, targets: Any) -> Any:
    """A rule that forgets a factor of 2 in bfloat16 only."""
    return (predictions - targets) ** 2


def _backward(residual: Any, cotangent: Any) -> tuple[Any, Any]:
    slope = residual if residual.dtype == jnp.bfloat16 else 2 * residual
    return cotangent * slope, -cotangent * slope


wrong_in_half.defvjp(lambda p, t: ((p - t) ** 2, p - t), _backward)


@pytest.mark.parametrize(
    ("name", "planted", "dtype", "words"),
    [
        ("softmax_cross_entropy_with_integer_labels", textbook, "float64", "value: output 0"),
        ("squared_error", wrong_in_half, "bfloat16", "rule: gradient of argument 0"),
        ("squared_error", wrong_in_half, "float16", ""),
    ],
)
def test_a_planted_fault_is_not_certified(
    name: str, planted: Any, dtype: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.plain = planted
    monkeypatch.setattr(lossjax, name, planted)
    [one] = losses(only=[name], dtypes=[dtype])
    assert one.ok is not bool(words)
    assert words in "\n".join(failures([one]))


def test_the_table_is_replaced_between_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    start, end = "<!-- certified -->", "<!-- end of certified -->"
    path.write_text(f"before\n{start}\nold\n{end}\nafter\n", encoding="utf-8")
    results = [dataclasses.replace(made(1.2, 3), dtype=dtype) for dtype in DTYPES]
    markdown_tables.replace(path, "certified", markdown(results))
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{start}\n| loss |")
    assert text.endswith(f"{end}\nafter\n")
    assert recorded(text) == {("a_loss", dtype): (2, 3) for dtype in DTYPES}
    assert markdown(results) in text
    path.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="no table to replace"):
        markdown_tables.replace(path, "certified", markdown(results))


def test_bad_names_are_named() -> None:
    with pytest.raises(ValueError, match="no loss 'nothing'"):
        losses(only=["nothing"])
    with pytest.raises(ValueError, match="dtypes has 'int8'"):
        losses(dtypes=["int8"])
