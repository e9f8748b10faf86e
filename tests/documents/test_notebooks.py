"""The notebooks run without an error and print what they printed when they were committed; a changed figure is seen."""

import asyncio
import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.processes import environment

pytest.importorskip("nbclient", reason="the notebooks: pip install 'lossjax[dev]'")
pytest.importorskip("ipykernel", reason="the notebooks: pip install 'lossjax[dev]'")
pytest.importorskip("matplotlib", reason="the notebooks: pip install 'lossjax[plot]'")
pytest.importorskip("flint", reason="the notebooks: pip install 'lossjax[verify]'")

import matplotlib.image
import nbformat
import numpy as np
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets import default

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NUMBER = re.compile(r"[-−]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels start in the environment of all processes of the tests, and leave nothing in the user's folders."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    for name, value in environment(JUPYTER_RUNTIME_DIR=str(tmp_path), IPYTHONDIR=str(tmp_path)).items():
        monkeypatch.setenv(name, value)


class OwnKernel(AsyncKernelManager):
    """``python3`` is this interpreter, whatever kernels the user has installed under that name."""

    @default("kernel_spec_manager")
    def _no_installed_kernels(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def run(notebook: Any) -> Any:
    """The notebook with new outputs."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(FOLDER)}}
    client = NotebookClient(
        notebook, kernel_manager_class=OwnKernel, timeout=240, coalesce_streams=True, resources=resources
    )
    asyncio.run(client.async_execute())
    return notebook


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def printed(notebook: Any) -> list[str]:
    """What each cell prints."""
    return ["".join(o.text for o in c.outputs if o.output_type == "stream") for c in notebook.cells if "outputs" in c]


def images(notebook: Any) -> list[np.ndarray]:
    encoded = (o.data["image/png"] for o in outputs(notebook) if "image/png" in o.get("data", {}))
    return [matplotlib.image.imread(io.BytesIO(base64.b64decode(png)), format="png") for png in encoded]


def same_text(now: str, then: str) -> bool:
    """The same words, and the same numbers to one in a thousand: exp and log differ a little among machines."""
    if NUMBER.sub("#", now) != NUMBER.sub("#", then):
        return False
    pairs = zip(NUMBER.findall(now), NUMBER.findall(then), strict=True)
    return all(math.isclose(*(float(x.replace("−", "-")) for x in pair), rel_tol=1e-3) for pair in pairs)


def same_image(now: np.ndarray, then: np.ndarray) -> bool:
    """About the same size and the same share of ink: fonts and their rendering may differ."""
    sizes = (abs(a - b) <= 0.03 * b for a, b in zip(now.shape[:2], then.shape[:2], strict=True))
    ink = [float(np.mean(image[..., :3] < 0.9)) for image in (now, then)]
    return all(sizes) and ink[1] > 0.005 and abs(ink[0] - ink[1]) < 0.1 * ink[1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.usefixtures("kernels")
def test_prints_what_it_printed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.stem == "gradient_check":  # it prints errors in units of u, which hang on how a program is optimised
        monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    committed = nbformat.read(path, as_version=4)
    now = run(nbformat.read(path, as_version=4))
    for a, b in zip(printed(now), printed(committed), strict=True):
        assert same_text(a, b), f"committed:\n{b}\nnow:\n{a}"
    assert all(o.output_type != "stream" or o.name == "stdout" for o in outputs(now)), "a warning"
    for a, b in zip(images(now), images(committed), strict=True):
        assert same_image(a, b)


def test_there_is_one_a_section_and_one_to_copy() -> None:
    sections = [path.name[:5] for path in NOTEBOOKS if path.name[0] == "4"]
    assert sections == ["4.1.1", "4.1.2", "4.1.3", "4.1.4", "4.1.5", "4.1.6"]
    assert {path.stem for path in NOTEBOOKS if path.name[0] != "4"} == {"gradient_check"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_as_it_ran_from_top_to_bottom(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert {o.output_type for o in outputs(notebook)} == {"stream", "display_data"}
    assert {o.name for o in outputs(notebook) if o.output_type == "stream"} == {"stdout"}
    assert images(notebook), "no plot"
    assert printed(notebook)[-1], "the last cell states what was measured"
    assert 8 <= len(notebook.cells) <= 16
    assert notebook.cells[0].source.startswith("# ")
    assert all(len(base64.b64decode(o.data["image/png"])) < 150_000 for o in outputs(notebook) if "data" in o)
    without_images = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not re.search(r"/(home|root|tmp|work|Users)/|0x[0-9a-f]{6}", without_images)
    assert set(json.loads(text)["metadata"]) == {"kernelspec", "language_info"}
    assert all(cell.metadata == {} for cell in notebook.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_figure_is_said_in_words(path: Path) -> None:
    """In the comment that its cell begins with, which the site takes for those who do not see it."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if any("data" in output for output in cell.get("outputs", [])):
            words = re.match(r"(# .*\n)+", cell.source)
            assert words, cell.source
            assert len(words[0]) > 100


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_uses_the_public_interface_only(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "import lossjax" in source or "from lossjax import" in source
    assert not re.search(r"lossjax\._|lossjax\.\w+\._|from lossjax\.|[^\w_]_\w+\(", source)
    assert max(map(len, source.splitlines())) <= 120


@pytest.mark.usefixtures("kernels")
def test_a_failing_cell_is_seen() -> None:
    cells = [nbformat.v4.new_code_cell("print(0.25)"), nbformat.v4.new_code_cell("assert 1 == 2")]
    with pytest.raises(CellExecutionError, match="AssertionError"):
        run(nbformat.v4.new_notebook(cells=cells))


def test_a_changed_figure_is_seen() -> None:
    assert same_text("curvature 0.25000\n", "curvature 0.25001\n")
    assert not same_text("curvature 0.25\n", "curvature 0.26\n")
    assert not same_text("off by 1e-07", "off by 2e-07")
    assert not same_text("same: True", "same: False")
    assert not same_text("0.0", "nan")
    (blank, ink), dark = np.ones((2, 100, 100, 4)), np.ones((100, 100, 4))
    ink[:10], dark[:50] = 0, 0
    assert same_image(ink, ink)
    assert not same_image(dark, ink)
    assert not same_image(blank, blank)
    assert not same_image(ink[:50], ink)
