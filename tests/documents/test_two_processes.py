"""The example of two processes ends them both: when one fails, and when time is up."""

import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

FOLDER = ROOT / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("_processes")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def waits_forever(folder: Path) -> list[str]:
    """It says who it is, and waits."""
    return python(f"import os, time; open({str(folder / 'id')!r}, 'w').write(str(os.getpid())); time.sleep(600)")


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_both_print(example: Any) -> None:
    assert example.together([python("print('a')"), python("print('b')")], limit=60) == ["a\n", "b\n"]


def test_when_one_fails_the_other_is_killed(example: Any, tmp_path: Path) -> None:
    waiting = tmp_path / "id"
    fails = f"""
import pathlib, sys, time
while not (path := pathlib.Path({str(waiting)!r})).exists() or not path.read_text():
    time.sleep(0.01)
sys.exit("no such device")
"""
    begun = time.monotonic()
    with pytest.raises(SystemExit, match="process 1: no such device"):
        example.together([waits_forever(tmp_path), python(fails)], limit=300)
    assert time.monotonic() - begun < 60
    assert not is_alive(int(waiting.read_text()))


def test_when_time_is_up_both_are_killed(example: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"not done after 0\.2 seconds"):
        example.together([python("import time; time.sleep(600)"), python("pass")], limit=0.2)
