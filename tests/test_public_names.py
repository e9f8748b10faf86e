"""No public name and no public module path has changed its place since they were recorded in ``public_names.json``."""

import importlib
import inspect
import json
import subprocess
import sys

import pytest

import lossjax
from tests.support.paths import ROOT

RECORDED = json.loads((ROOT / "tests" / "public_names.json").read_text(encoding="utf-8"))
"""The modules and names of lossjax at the commit ``RECORDED["commit"]``, before the files moved into rooms."""

NOW_FUNCTIONS = ("check", "exact", "losses", "theorems")
"""At these paths in ``lossjax.verify`` a module was hidden behind the function of its name; the function is left."""

NOW_PRIVATE = ("lossjax.verify.claims",)
"""The claims are data of ``lossjax verify``: nothing in them was meant to be imported."""


def kept_paths() -> list[str]:
    functions = tuple(f"lossjax.verify.{name}" for name in NOW_FUNCTIONS)
    return [
        path
        for path in RECORDED["modules"]
        if not f"{path}.".startswith(tuple(f"{p}." for p in functions + NOW_PRIVATE))
    ]


def missing(module: str, names: list[str]) -> list[str]:
    found = importlib.import_module(module)
    return [name for name in names if not hasattr(found, name)]


@pytest.mark.parametrize("module", RECORDED["names"])
def test_every_recorded_name_is_in_its_place(module: str) -> None:
    assert missing(module, RECORDED["names"][module]) == []
    assert missing(module, ["nothing"]) == ["nothing"]


@pytest.mark.parametrize("path", kept_paths())
def test_every_recorded_module_can_be_imported(path: str) -> None:
    module = importlib.import_module(path)
    assert inspect.ismodule(module)
    found = lossjax
    for name in path.split(".")[1:]:
        found = getattr(found, name)
    assert found is module


def test_what_left_its_place_is_listed() -> None:
    for name in NOW_FUNCTIONS:
        assert inspect.isfunction(getattr(lossjax.verify, name))
    assert len(RECORDED["modules"]) - len(kept_paths()) < 40 < len(kept_paths())


@pytest.mark.parametrize(
    "code",
    [
        "import lossjax.linear; print(lossjax.linear.auto_chunk_size.__name__)",
        "from lossjax.linear import auto_chunk_size; print(auto_chunk_size.__name__)",
        "import lossjax; print(lossjax.linear.auto_chunk_size.__name__)",
    ],
)
def test_former_paths_work_in_a_fresh_interpreter(code: str) -> None:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "auto_chunk_size"
