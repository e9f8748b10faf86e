"""Run the tests at both ends of what is supported: `make matrix`, a part of `make test-all`.

The oldest Python with the oldest JAX, and the newest Python found with the newest JAX that it can have, each in an
environment of its own in .venv-matrix, made once, and again when pyproject.toml changes. An end whose interpreter is
not found is skipped, in a printed line. Arguments go to pytest.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-matrix"
OLDEST, NEWEST = 11, 14
"""Minor versions of Python 3: the first is pyproject's ``requires-python``."""
OLDEST_JAX = ("jax==0.10.0", "jaxlib==0.10.0")
"""The lower bounds of pyproject's ``dependencies``."""


def interpreter(minor: int) -> str | None:
    """A Python 3.minor that runs, from the path or from pyenv."""
    name = f"python3.{minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for found in (shutil.which(name), *sorted(pyenv.glob(f"3.{minor}.*/bin/{name}"))):
        # What is on the path may be a shim that leads nowhere.
        if found and subprocess.run([found, "-c", "import ssl, venv"], capture_output=True).returncode == 0:
            return str(found)
    return None


def ends() -> list[tuple[int, tuple[str, ...]]]:
    """(Python's minor version, what to pin)."""
    newest = next((minor for minor in range(NEWEST, OLDEST, -1) if interpreter(minor)), NEWEST)
    return [(OLDEST, OLDEST_JAX), (newest, ())]


def environment(python: str, minor: int, pins: tuple[str, ...]) -> Path:
    """Its interpreter, with lossjax and all that its tests need."""
    folder = FOLDER / f"3.{minor}"
    inside, stamp = folder / "bin" / "python", folder / "installed"
    wanted = (ROOT / "pyproject.toml").read_text(encoding="utf-8") + " ".join(pins)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-e", ".[dev]", *pins], cwd=ROOT, check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return inside


def main() -> int:
    """The exit code: 0 if the tests pass wherever they could be run."""
    failed = 0
    for minor, pins in ends():
        python = interpreter(minor)
        if python is None:
            print(f"skipped: no python3.{minor} is found", flush=True)
            continue
        inside = environment(python, minor, pins)
        what = "import jax; print('jax', jax.__version__)"
        version = subprocess.run([str(inside), "-c", what], capture_output=True, text=True, check=True).stdout.strip()
        print(f"Python 3.{minor}, {version}:", flush=True)
        failed |= subprocess.run([str(inside), "-m", "pytest", *sys.argv[1:]], cwd=ROOT).returncode
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
