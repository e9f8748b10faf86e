"""Test both ends of what is supported: the oldest Python with the oldest JAX, the newest Python with the newest JAX.

    python tools/matrix.py            # `make matrix`: types, `lossjax verify` and the whole fast tier, at both ends
    python tools/matrix.py --other    # `.ci/run`: types, `lossjax verify` and the tests of what depends on JAX's
                                      # version, at the end that the interpreter running this is not

Each end has an environment of its own in .venv-matrix, which is made once, and again when pyproject.toml changes. An
end whose interpreter is not found is skipped, and one line says so. Further arguments go to pytest.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-matrix"
OLDEST, NEWEST = 11, 13
"""Minor versions of Python 3: pyproject's ``requires-python``, and the last of its classifiers."""
OLDEST_JAX = ("jax==0.10.0", "jaxlib==0.10.0")
"""The lower bounds of pyproject's ``dependencies``. JAX 0.11 and later need Python 3.12."""
DEPENDS_ON_JAX = (
    "tests/core",
    "tests/softmax",
    "tests/contract/test_contract.py",
    "tests/contract/test_memory.py",
    "tests/losses/test_linear_head.py",
    "tests/losses/test_linear_head_skipping.py",
    "tests/losses/test_vocab_parallel.py",
    "tests/verify",
)
"""What may break by another version of JAX: derivative rules, transformations, the head, sharding, the verifier."""


class End(NamedTuple):
    """One end of what is supported."""

    name: str
    minors: tuple[int, ...]
    """The versions of Python 3 that will do, the best first."""
    pins: tuple[str, ...]


ENDS = (
    End("the oldest JAX", (OLDEST,), OLDEST_JAX),
    End("the newest JAX", tuple(range(NEWEST, OLDEST, -1)), ()),
)


def interpreter(minor: int) -> str | None:
    """Find a Python 3.minor that can make an environment, on the path or among pyenv's."""
    name = f"python3.{minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for found in (shutil.which(name), *sorted(pyenv.glob(f"3.{minor}.*/bin/{name}"))):
        # What is on the path may be a shim that leads nowhere, and a system's Python may lack its pip.
        if found and subprocess.run([found, "-c", "import ssl, venv, ensurepip"], capture_output=True).returncode == 0:
            return str(found)
    return None


def environment(python: str, minor: int, pins: tuple[str, ...]) -> Path:
    """The interpreter of an environment that has lossjax and all that its tests need."""
    folder = FOLDER / f"3.{minor}"
    inside, stamp = folder / "bin" / "python", folder / "installed"
    wanted = (ROOT / "pyproject.toml").read_text(encoding="utf-8") + " ".join(pins)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-e", ".[dev]", *pins], cwd=ROOT, check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return inside


def passes(end: End, arguments: list[str]) -> bool:
    """Check the types, verify, and run the tests at one end; True where it can not be had."""
    minor, python = next(((m, found) for m in end.minors if (found := interpreter(m))), (0, ""))
    if not python:
        names = " or ".join(f"3.{m}" for m in end.minors)
        print(f"skipped: {end.name} is not tested, because no Python {names} is found", flush=True)
        return True
    inside = environment(python, minor, end.pins)
    what = "import jax; print('JAX', jax.__version__)"
    version = subprocess.run([str(inside), "-c", what], capture_output=True, text=True, check=True).stdout.strip()
    print(f"Python 3.{minor}, {version}:", flush=True)
    commands = (
        ["basedpyright", "--pythonpath", str(inside)],
        ["lossjax", "verify"],
        ["pytest", *arguments],
    )
    codes = [subprocess.run([str(inside), "-m", *command], cwd=ROOT).returncode for command in commands]
    return not any(codes)


def main(arguments: list[str]) -> int:
    """The exit code: 0 if everything passes wherever it can be run."""
    if arguments[:1] == ["--other"]:
        here = sys.version_info.minor
        other = ENDS[1] if here == OLDEST else ENDS[0]
        return 0 if passes(other, [*DEPENDS_ON_JAX, *arguments[1:]]) else 1
    passed = [passes(end, arguments) for end in ENDS]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
