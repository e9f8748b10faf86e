"""What type checkers say about a user's file: exactly the lines that end in ``# wrong`` are errors, for both."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lossjax
from tests.support.paths import ROOT

USER = """
from typing import TypedDict

import jax
import jax.numpy as jnp
import lossjax

z, y = jnp.ones((2, 3)), jnp.array([0, 1])
t = jax.nn.one_hot(y, 3)
x, W = jnp.ones((2, 4)), jnp.ones((4, 3))
labelled, soft = lossjax.softmax_cross_entropy_with_integer_labels, lossjax.softmax_cross_entropy
head = lossjax.linear_softmax_cross_entropy


class Settings(TypedDict, total=False):
    temperature: float
    label_smoothing: float


def one(value: jax.Array) -> None: ...
def two(value: tuple[jax.Array, jax.Array]) -> None: ...


settings: Settings = {"temperature": 2.0}
misspelt = {"label_smoothng": 0.1}

# options
one(labelled(z, y, reduction="mean", label_smoothing=0.1, temperature=jnp.array(2.0), where=None))
one(labelled(z, y, **settings))
one(soft(z, t, axis=-1, smoothing="others", **settings))
one(lossjax.softmax_focal_loss(z, y, gamma=1.0, **settings))
labelled(z, y, reduction="avg")  # wrong
labelled(z, y, label_smoothng=0.1)  # wrong
labelled(z, y, temperature="hot")  # wrong
labelled(z, y, **misspelt)  # wrong
soft(z, t, reduction="avg")  # wrong
soft(z, t, ignore_index=0)  # wrong
soft(z, t, temperature="hot")  # wrong
head(x, W, y, reduction="avg")  # wrong
head(x, W, y, chunk_size="all")  # wrong
head(x, W, y, label_smoothng=0.1)  # wrong
lossjax.softmax_focal_loss(z, y, gama=1.0)  # wrong

# results
for flag in (True, False):
    pair_or_loss = labelled(z, y, return_logsumexp=flag)
    pair_or_loss = soft(z, t, return_logsumexp=flag, **settings)
    pair_or_loss = head(x, W, y, return_logsumexp=flag)
    one(pair_or_loss)  # wrong
two(labelled(z, y, return_logsumexp=True))
two(soft(z, t, return_logsumexp=True))
two(head(x, W, y, return_logsumexp=True, reduction="sum"))
one(labelled(z, y, return_logsumexp=True))  # wrong
two(head(x, W, y))  # wrong

# plain forms
one(labelled.plain(z, y, reduction="mean", **settings))
two(labelled.plain(z, y, return_logsumexp=True))
one(lossjax.huber_loss.plain(z, z, delta=2.0))
labelled.plain(z, y, temperature="hot")  # wrong
lossjax.huber_loss.plain(z, z, detla=2.0)  # wrong
lossjax.huber_loss.plain(z)  # wrong

# transformations
jax.jit(labelled)(z, y)
jax.vmap(soft)(z, t)
jax.grad(lossjax.huber_loss)(1.0, 0.0)
"""


def called(name: str, function: Callable[..., object], *options: str) -> str:
    """A call of a public function with all its required arguments."""
    parameters = inspect.signature(function).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    values = {
        "axis_name": '"classes"',
        "loss": "lambda logits: logits",
        "family": "lossjax.families.Gaussian()",
        "generator": "lossjax.geometry.LogSumExp()",
    }
    given = [f"{p.name}={values.get(p.name, 'z')}" for p in required]
    return f"lossjax.{name}({', '.join([*given, *options])})"


def every_public_function() -> str:
    """Each public function rightly called, and with a wrong value and a wrong name of each shared option."""
    lines = []
    for name in lossjax.__all__:
        function = getattr(lossjax, name)
        if not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters
        lines += [called(name, function), f"{called(name, function, 'nothing=1')}  # wrong"]
        for option, right, wrong in (
            ("reduction", '"sum"', '"avg"'),
            ("temperature", "2.0", '"hot"'),
            ("where", "None", '"all"'),
            ("weights", "None", '"all"'),
            ("normalizer", "2", '"count"'),
            ("axis", "0", "0.5"),
            ("base", "2", '"two"'),
        ):
            if option in parameters:
                lines.append(called(name, function, f"{option}={right}"))
                lines.append(f"{called(name, function, f'{option}={wrong}')}  # wrong")
    return "\n".join(lines) + "\n"


def wrong_lines(text: str) -> set[int]:
    return {number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# wrong")}


def by_mypy(path: Path) -> set[int]:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file=",
        "--follow-imports=silent",
        f"--cache-dir={os.devnull}",
        path.name,
    ]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    result = subprocess.run(command, cwd=path.parent, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return {int(line) for line in re.findall(rf"^{path.name}:(\d+): error", result.stdout, re.M)}


def by_basedpyright(path: Path) -> set[int]:
    settings = {"extraPaths": [str(ROOT)], "typeCheckingMode": "standard", "include": [path.name]}
    (path.parent / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson"]
    result = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    found = json.loads(result.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


@pytest.mark.parametrize("checker", [by_mypy, by_basedpyright])
def test_exactly_the_wrong_lines_are_errors(checker: Callable[[Path], set[int]], tmp_path: Path) -> None:
    text = USER + every_public_function()
    assert len(wrong_lines(text)) > 150
    path = tmp_path / "user.py"
    path.write_text(text, encoding="utf-8")
    lines, found, wanted = text.splitlines(), checker(path), wrong_lines(text)
    assert [lines[n - 1] for n in sorted(found - wanted)] == [], "errors in right lines"
    assert [lines[n - 1] for n in sorted(wanted - found)] == [], "wrong lines without an error"


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(lossjax.__file__).parent / "py.typed").is_file()
