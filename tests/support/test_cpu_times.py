"""The log of CPU seconds: one line per test, children included; the table adds them up by room."""

import json
from pathlib import Path

import pytest

from tests.support.cpu_times import read, table


def test_each_test_is_logged_with_its_children(pytester: pytest.Pytester, tmp_path: Path):
    pytester.makepyfile("""
        import subprocess, sys

        def test_idle(): pass

        def test_of_a_child():
            busy = "import time\\nend = time.process_time() + 0.2\\nwhile time.process_time() < end: pass"
            subprocess.run([sys.executable, "-c", busy], check=True)
    """)
    log = tmp_path / "log"
    plugins = ["-p", "no:cacheprovider", "-p", "tests.support.cpu_times", "--cpu-times", str(log)]
    result = pytester.runpytest_inprocess(*plugins)
    assert result.parseoutcomes() == {"passed": 2}
    idle, busy = read(log).values()
    assert idle < 0.1
    assert 0.2 <= busy < 2


def test_the_table_adds_up_by_room(tmp_path: Path):
    log = tmp_path / "log"
    lines = [("tests/a/test_x.py::one", 1.0), ("tests/a/test_y.py::two[3]", 6.0), ("tests/test_z.py::three", 3.0)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert table(read(log)).splitlines()[2:] == [
        "| `tests/a` | 2 | 7 | 70 % | `test_y.py::two[3]`, 6 |",
        "| `tests/test_z.py` | 1 | 3 | 30 % | `test_z.py::three`, 3 |",
        "| all | 3 | 10 | 100 % | |",
    ]
