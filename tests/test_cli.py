"""The command line: what it prints, what it writes, and its exit codes."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer

import lossjax
from lossjax.__main__ import main
from lossjax.cli import app
from tests.support.processes import environment


class Done(NamedTuple):
    """What a command left behind."""

    returncode: Any
    stdout: str
    stderr: str


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Done]]:
    """The same in this process, where importing JAX costs nothing; users' modules are forgotten afterwards."""

    def called(*arguments: str, cwd: Path | None = None) -> Done:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["lossjax", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return Done(left.value.code, *capsys.readouterr())

    path, modules = list(sys.path), set(sys.modules)
    yield called
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("mine"):
            del sys.modules[name]


def run(*arguments: str, cwd: Path | None = None, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lossjax"] if code is None else [sys.executable, "-c", code]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=cwd, env=environment())


def test_verify_proves_a_section_with_a_loss_and_writes_json(tmp_path: Path) -> None:
    result = run("verify", "--section", "4.1", "--loss", "squared_error", "--json", "out.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "0.1" in result.stdout
    said = " ".join(result.stdout.split())
    assert re.search(r"All 2 claims hold on this machine, \d of them as corrected\. All 1 losses are certified", said)
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert {entry["name"] for entry in written} == {"0.1", "0.2", "squared_error"}
    assert all(set(entry) >= {"name", "ok", "measured", "allowed", "statement"} for entry in written)


def test_verify_certifies_a_loss_and_writes_json(inside: Callable[..., Done], tmp_path: Path) -> None:
    result = inside(
        "verify", "--all", "--loss", "squared_error", "--processes", "1", "--json", "out.json", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert said.startswith(
        "Checking 1 losses in float32, float64, bfloat16, float16, in 1 process: less than a minute."
    )
    assert re.search(r"All 1 losses are certified in float32, float64, bfloat16, float16 \(\d+ s\)\.$", said)
    # Where there is no terminal, progress is a line per result.
    assert result.stderr.split("\n")[0] == "   1/4  ✓  squared_error float32"
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [entry["dtype"] for entry in written] == ["float32", "float64", "bfloat16", "float16"]
    assert all(set(entry) >= {"name", "ok", "measured", "allowed", "statement"} for entry in written)


def test_verify_exits_1_when_something_falls_short(
    inside: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a library whose mean squared error is too large, section 4.1.7 must not pass."""
    good = lossjax.mean_squared_error
    monkeypatch.setattr(lossjax, "mean_squared_error", lambda *a, **k: good(*a, **k) * (1 + 1e-3))
    result = inside("verify", "--section", "4.1.7", "--processes", "1")
    assert result.returncode == 1, result.stdout
    assert "fall short" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("verify", "--section", "7"), "wanted some of"),
        (("verify", "--markdown", "docs/accuracy.md"), "give --all"),
        (("verify", "--json", "no/such/folder/x.json"), "does not exist"),
        (("verify", "--loss", "nothing"), "there is no loss 'nothing'"),
        (("verify", "--loss", "squared_error", "--markdown", "x.md"), "does not exist"),
        (("verify", "--bogus"), "No such option"),
        (("nonsense",), "No such command"),
    ],
)
def test_usage_errors_exit_2_without_a_traceback(
    arguments: tuple[str, ...], words: str, inside: Callable[..., Done]
) -> None:
    result = inside(*arguments)
    assert result.returncode == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr


PROGRAM: Any = typer.main.get_command(app)
EXAMPLES = [line for one in (PROGRAM, *PROGRAM.commands.values()) for line in str(one.epilog).split("\n\n")[1:]]
"""The lines that ``--help`` ends with, of the program and of each command."""
LONG = {"verify", "bench"}
"""Commands of which even an example takes minutes, or which other tests run on less."""


def test_every_help_ends_with_examples(inside: Callable[..., Done]) -> None:
    for name in ("", *PROGRAM.commands):
        said = " ".join(inside(*filter(None, [name]), "--help").stdout.split())
        last = said.rpartition("Examples:")[2].strip()
        assert last.startswith(f"lossjax {name}"), name
    for line in EXAMPLES:
        program, name, *arguments = line.split()
        assert program == "lossjax"
        PROGRAM.commands[name].make_context(name, arguments)  # raises for an option that there is not


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in dict.fromkeys(EXAMPLES) if not LONG & set(line.split()[1:])])
def test_an_example_runs(line: str, tmp_path: Path) -> None:
    """1 is that something falls short."""
    result = run(*line.split()[1:], cwd=tmp_path)
    assert result.returncode in (0, 1), result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("missing", ["typer", "flint"])
def test_a_missing_extra_is_named(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None\nfrom lossjax.__main__ import main\nmain()"
    result = run("verify", code=code)
    assert result.returncode == 2
    assert 'pip install "lossjax[verify]"' in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("argument", "words"), [("--version", "lossjax 0."), ("--help", "verify, check, atlas, figure")]
)
def test_version_and_help_need_no_extra(argument: str, words: str) -> None:
    code = "import sys; sys.modules['typer'] = None\nfrom lossjax.__main__ import main\nmain()"
    result = run(argument, code=code)
    assert result.returncode == 0
    assert words in result.stdout


# --- check -----------------------------------------------------------------------------------------------------------

WRONG = """
import jax, jax.numpy as jnp

@jax.custom_vjp
def loss(z, labels):
    return jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, labels[:, None], -1)[:, 0]

def forward(z, labels):
    return loss(z, labels), (z, labels)

def backward(residuals, g):
    z, labels = residuals
    hot = jax.nn.one_hot(labels, z.shape[-1], dtype=z.dtype)
    return (g[:, None] * (SCALE * jax.nn.softmax(z, -1) - hot), None)

loss.defvjp(forward, backward)
textbook = lambda z, labels: -jnp.take_along_axis(jax.nn.log_softmax(z), labels[:, None], -1)[:, 0]
total = lambda z, labels: jnp.sum(textbook(z, labels))
three = lambda a, b, c: a + b + c
number = 3
"""


@pytest.mark.parametrize(("scale", "code"), [("1", 0), ("1.01", 1)])
def test_check_certifies_anybodys_loss(scale: str, code: int, inside: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WRONG.replace("SCALE", scale))
    meant = ("--reference", "mine:textbook", "--argnums", "0")
    result = inside("check", "mine:loss", *meant, "--only", "rule", "--json", "out.json", cwd=tmp_path)
    assert result.returncode == code, result.stdout + result.stderr
    assert result.stdout.startswith(f"loss: is the gradient right? {'NO' if code else 'yes'}")
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written["ok"] is (code == 0)
    assert any(row["name"] == "rule" for row in written["rows"])
    if code:
        assert "gradient of argument 0" in " ".join(result.stdout.split())


def test_check_says_first_what_it_was_asked(inside: Callable[..., Done], tmp_path: Path) -> None:
    """Of a function without a rule, whose name alone would say nothing."""
    (tmp_path / "mine.py").write_text("import jax.numpy as jnp\nwrong = lambda x: jnp.log(jnp.cosh(x))\n")
    result = inside("check", "mine:wrong", "--only", "value", "--only", "gradient", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout.startswith("wrong: is the value accurate? NO; is the gradient accurate? ")


def test_check_requires_what_it_is_told_to(inside: Callable[..., Done], tmp_path: Path) -> None:
    """A rule that is wrong under a value that is right: shown as wrong, and no matter of the exit code."""
    (tmp_path / "mine.py").write_text(WRONG.replace("SCALE", "1.01"))
    asked = ("check", "mine:loss", "--argnums", "0", "--only", "rule", "--only", "value", "--ulps", "1e7")
    result = inside(*asked, "--require", "value", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "is the gradient right? NO" in result.stdout
    result = inside(*asked, "--require", "edges", cwd=tmp_path)
    assert result.returncode == 2
    assert "'edges' is not among the checks that were made: rule, value" in " ".join(
        result.stderr.replace("│", " ").split()
    )


def test_check_takes_real_logits(inside: Callable[..., Done], tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.float32(np.random.default_rng(0).normal(size=(3, 4))))
    np.save(tmp_path / "y.npy", np.array([0, 3, 1], np.int32))
    name = "lossjax:softmax_cross_entropy_with_integer_labels"
    files = ("--logits", "z.npy", "--labels", "y.npy")
    result = inside("check", name, *files, "--only", "value", "--only", "gradient", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), "write module:function"),
        (("no_such_module:loss",), "there is no module 'no_such_module'"),
        (("mine:no_such",), "mine has no 'no_such'; it has"),
        (("mine:number",), "is a int, wanted a function"),
        (("mine:three",), "takes 3 arguments"),
        (("mine.py:loss", "--logits", "z.txt"), "cannot read logits from z.txt"),
        (("mine:loss", "--logits", "y.npy"), "the logits are int32, wanted floats"),
        (("mine:loss", "--labels", "y.npy"), "--labels needs --logits"),
        (("mine:loss", "--logits", "z.npy", "--labels", "z.npy"), "does not accept float32[3, 4] and float32[3, 4]"),
        (("mine:loss", "--only", "everything"), "there is no check 'everything'"),
        (("mine:loss", "--require", "everything"), "--require: there is no check 'everything'"),
        (("mine:loss", "--reference", "mine:three"), "the reference does not take these arguments: TypeError"),
        (("mine:loss", "--reference", "mine:total"), "the reference returns floats of the shapes [[]], the function"),
        (("ends.py:loss",), "importing ends.py failed: SystemExit"),
        (("mine:loss", "--argnums", "first"), "is no list of positions: write 0 or 0,2"),
        (("mine:loss", "--argnums", "5"), "argnums names argument 5"),
        (("mine:loss", "--reference", "mine:no_such"), "mine has no 'no_such'; it has"),
        (("json:dumps",), "dumps"),
    ],
)
def test_check_usage_errors(
    arguments: tuple[str, ...], words: str, tmp_path: Path, inside: Callable[..., Done]
) -> None:
    (tmp_path / "mine.py").write_text(WRONG.replace("SCALE", "1"))
    (tmp_path / "ends.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "z.txt").write_text("1 2 3")
    np.save(tmp_path / "z.npy", np.ones((3, 4), np.float32))
    np.save(tmp_path / "y.npy", np.array([0, 3, 1], np.int32))
    result = inside("check", *arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stdout + result.stderr
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr
