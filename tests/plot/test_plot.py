"""The figures show what they say: their curves against the table of G13, their facts, their files; faults are seen."""

import csv
import inspect
import itertools
import json
import math
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.paths import ROOT

pytest.importorskip("matplotlib", reason="the figures: pip install 'lossjax[plot]'")
import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.text import Text
from typer.testing import CliRunner

from lossjax import plot
from lossjax.accelerators import CHIPS, suite
from lossjax.bench import report
from lossjax.bench.command import present
from lossjax.cli import app
from lossjax.plot import _figures, _projections, files, style
from lossjax.verify import Atlas, Chart
from lossjax.verify._atlas import Peak

COMMITTED = ROOT / "docs" / "figures"
Drawn = dict[tuple[str, str], np.ndarray]

# G13 of the chapter's mathematics, to nine digits: z, CE, |CE'|, ½(1 - σ)², its slope, σ(1 - σ).
TABLE = """
-10    10.0000454     .999954602     .499954603     4.53937469e-5  4.53958077e-5
-5     5.00671535     .993307149     .493329546     6.60356222e-3  6.64805667e-3
-ln2   1.09861229     .666666667     .222222222     .148148148     .222222222
0      .693147181     .5             .125           .125           .25
5      6.71534849e-3  6.69285092e-3  2.23971267e-5  4.44944522e-5  6.64805667e-3
10     4.53988992e-5  4.53978687e-5  1.03048324e-9  2.06087292e-9  4.53958077e-5
"""


def read(path: Path) -> Drawn:
    """The curves of a CSV: a column each of x, y, and of u, v for arrows."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        key: np.array([[float(row[c]) for c in "xyuv" if row[c]] for row in curve]).T
        for key, curve in itertools.groupby(rows, key=lambda row: (row["panel"], row["curve"]))
    }


@cache
def panels(name: str) -> dict[str, Axes]:
    return _figures.draw(name)[1]


@cache
def drawn(name: str) -> files.Curves:
    return files.curves(panels(name))


def from_csv(name: str, tmp_path: Path) -> Drawn:
    (tmp_path / "x.csv").write_text(files.to_csv(drawn(name)), encoding="utf-8")
    return read(tmp_path / "x.csv")


def on(p: np.ndarray) -> np.ndarray:
    """The distributions at points of the plane."""
    third = p[1] / math.sqrt(0.75)
    second = p[0] - third / 2
    return np.stack([1 - second - third, second, third], axis=-1)


def the_six_panels_against_the_table(curves: Drawn) -> None:
    columns = ("c", "CE"), ("d", "CE"), ("c", "MSE"), ("d", "MSE"), ("d", "ratio")
    for line in TABLE.split("\n")[1:-1]:
        z, *wanted = (-math.log(2) if word == "-ln2" else float(word) for word in line.split())
        for key, value in zip(columns, wanted, strict=True):
            x, y = curves[key]
            at = int(np.argmin(np.abs(x - z)))
            assert abs(x[at] - z) < 1e-8
            # half a unit of the ninth digit, of the table and of the CSV
            assert y[at] == pytest.approx(value, rel=1.01e-8), f"{key} at {z}"
    _, slope = curves["d", "MSE"]
    assert slope.max() == pytest.approx(4 / 27, rel=1e-8)
    assert curves["a", "least squares"].ravel() == pytest.approx([0.9, 1.8], rel=1e-8)

    # The contours lie where the function has their level: linear interpolation on a lattice of 4/80, h²/8 times φ''.
    contours = {key[1]: points for key, points in curves.items() if key[0] == "a" and key[1].startswith("MSE =")}
    assert len(contours) == 7
    for name, (w, b) in contours.items():
        level = float(name.split(" = ")[1])
        mse = 0.175 + (3 * (w - 0.9) ** 2 + 2 * (w - 0.9) * (b - 1.8) + 2 * (b - 1.8) ** 2) / 2
        assert np.abs(mse - level).max() < 2 * (4 / 80) ** 2 / 8 * 3.7 + 1e-4
    p = np.array([0.5, 0.3, 0.2])
    for level in (0.1, 0.3):
        q = on(curves["b", f"KL(p|q) = {level:g}"])
        inner = q[q.min(axis=1) > 0.03]
        assert len(inner) > 100
        assert np.abs(np.sum(p * np.log(p / inner), axis=1) - level).max() < 0.01 * level
    for key, (x, y, _, _) in ((k, v) for k, v in curves.items() if k[0] == "e" and len(v) == 4):
        assert len(x) > 20, key
        assert np.all((x + y > 0) == (key[1] == "-grad CE")), "each loss has its half of the plane"


def facts_hold_and_the_committed_files_are_these(name: str, curves: Drawn) -> None:
    recipe = plot.FIGURES[name]
    facts = list(recipe.facts(drawn(name)))
    assert [fact for fact in facts if not fact.ok] == []
    assert (COMMITTED / f"{name}.txt").read_text(encoding="utf-8") == recipe.alt
    assert max(map(len, recipe.alt.splitlines())) <= 118
    image = plt.imread(COMMITTED / f"{name}.png")
    assert image.shape[:2] == tuple(round(side * 110) for side in recipe.size[::-1])
    committed = read(COMMITTED / f"{name}.csv")
    # Errors of float32 depend on the machine's exp and log, and contours on the version of matplotlib.
    measured = {key for key in curves if key[1] in ("lossjax", "optax", "torch") or key == ("f", key[1])}
    measured |= (
        set(curves) if name in ("memory", "cancellation", "atlas") else set()
    )  # by a compiler, or errors of float32
    assert all(np.all(committed[key][1] <= (16 if name == "atlas" else 8)) for key in committed if key[1] == "lossjax")
    assert set(committed) >= set(curves)
    assert {key for key in set(committed) - set(curves) if key[1] != "torch"} == set()
    for key in set(curves) - measured:
        if " = " not in key[1]:
            assert committed[key] == pytest.approx(curves[key], rel=1e-7, abs=1e-8), key


def each_fact_is_seen_to_fail(name: str) -> None:
    """On curves that are a percent off, bent, nothing or far too much, and on two that are one."""
    recipe, right = plot.FIGURES[name], drawn(name)

    def broken(fault: str) -> set[str]:
        def off(columns: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
            *first, last = columns
            return (*first, last * {"nothing": 1e-9, "much": 1e9}.get(fault, 1.01) + 0.01 * (fault == "percent"))

        def skewed(columns: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
            return (*columns[:-1], columns[-1] * np.linspace(1, 1.3, len(columns[-1])) + 0.03 * columns[0])

        wrong = {key: skewed(columns) if fault == "skew" else off(columns) for key, columns in right.items()}
        with np.errstate(all="ignore"):
            return {fact.statement for fact in recipe.facts(wrong) if not fact.ok}

    every = {fact.statement for fact in recipe.facts(right)}
    assert set.union(different(name), *map(broken, ("percent", "skew", "nothing", "much"))) >= every


def different(name: str) -> set[str]:
    """The facts that two things differ, on curves where they are made the same."""
    if name not in ("projections", "fisher_simplex"):
        return set()
    same = dict(drawn(name))
    pairs = {
        "projections": [(("a", "reverse"), ("a", "m-projection")), (("b", "orthogonal"), ("b", "I-projection"))],
        "fisher_simplex": [(("b", path), ("b", "Fisher-Rao geodesic")) for path in ("m-geodesic", "e-geodesic")],
    }
    same |= {one: same[other] for one, other in pairs[name]}
    return {fact.statement for fact in plot.FIGURES[name].facts(same) if not fact.ok}


def curves_are_told_apart_without_colour(name: str) -> None:
    okabe_ito = {"#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666"}
    for ax in panels(name).values():
        lines = [line for line in ax.lines if line.get_gid() and not str(line.get_label()).startswith("_")]
        assert len({str(vars(line)["_dash_pattern"]) for line in lines}) == len(lines)
        colours = {to_hex(line.get_color()) for line in ax.lines}
        assert colours <= okabe_ito


def no_words_overlap(name: str) -> None:
    """Of one panel, as it is saved: titles, labels and values (contour numbers are matplotlib's to place)."""
    figure: Any = next(iter(panels(name).values())).figure
    figure.draw_without_rendering()
    for letter, ax in panels(name).items():
        words = [text for text in ax.texts if text.get_text() and hasattr(text, "arrow_patch")]
        heading: Any = vars(ax)["_left_title"]
        legend = [legend] if (legend := ax.get_legend()) else []
        boxes = [Text.get_window_extent(word).padded(-1) for word in (*words, heading)]  # without their arrows
        boxes += [one.get_window_extent() for one in legend]
        shown = [*(text.get_text() for text in words), heading.get_text(), *("legend" for _ in legend)]
        for (one, a), (other, b) in itertools.combinations(zip(shown, boxes, strict=True), 2):
            assert not a.overlaps(b), f"{name} {letter}: {one!r} on {other!r}"
        for box, line in itertools.product(boxes[len(words) + 1 :], ax.lines):
            path = line.get_transform().transform_path(line.get_path())
            assert not path.intersects_bbox(box, filled=False), f"{name} {letter}: the legend on {line.get_gid()}"


def closed_curves_have_names(name: str) -> None:
    """A contour has numbers, or a word."""
    for ax in panels(name).values():
        words = {text.get_gid() for text in ax.texts}
        for contours in (child for child in ax.get_children() if isinstance(child, ContourSet)):
            assert contours.labelTexts or f"word for {contours.get_gid()}" in words, f"{name}: {contours.get_gid()}"


@pytest.mark.parametrize("name", plot.FIGURES)
def test_figure(name: str, tmp_path: Path) -> None:
    """All that is asked of a figure, drawn once."""
    curves = from_csv(name, tmp_path)
    facts_hold_and_the_committed_files_are_these(name, curves)
    if name == "loss_surfaces_gradients":
        the_six_panels_against_the_table(curves)
    each_fact_is_seen_to_fail(name)
    curves_are_told_apart_without_colour(name)
    no_words_overlap(name)
    closed_curves_have_names(name)


def test_the_reverse_projection_is_the_least() -> None:
    p, T, base = np.array([0.55, 0.05, 0.4]), np.array([0.0, 1.0, 2.0]), np.array([0.4, 0.35, 0.25])
    found = _projections.reverse_nearest(p, T, base)
    tilts = np.linspace(-5, 5, 20001)[:, None]
    members = base * np.exp(tilts * T)
    members /= members.sum(axis=1, keepdims=True)
    least = np.sum(members * np.log(members / p), axis=1).min()
    assert np.sum(found * np.log(found / p)) <= least + 1e-15
    slope = np.diff(np.log(found / base))
    assert slope[0] == pytest.approx(slope[1], abs=1e-12)  # a member: log(q / base) is linear in T


def test_every_function_takes_axes_or_makes_them() -> None:
    others = {
        "FIGURES",
        "Fact",
        "Recipe",
        "Way",
        "save",
        "save_map",
        "save_memory_traffic",
        "ternary",
        "atlas_map",
        "memory_traffic",
    }
    functions = [getattr(plot, name) for name in plot.__all__ if name not in others]
    assert len(functions) == 15
    for function in functions:
        assert inspect.signature(function).parameters["ax"].default is None
    ax = Figure().add_subplot()
    assert plot.losses_against_logit(ax=ax) is ax
    made = plot.ternary_axes()
    assert made.figure is plt.gcf()
    plt.close("all")
    ours = {str(i): lambda z, labels: z[:, 0] for i in range(5)}
    with pytest.raises(ValueError, match="at most 4"):
        plot.errors_against_margin(ours)
    with pytest.raises(ValueError, match=r"wanted \[..., 3\]"):
        plot.ternary([0.5, 0.5])
    with pytest.raises(ValueError, match="wanted 3"):
        plot.ternary_axes("ab")
    plt.close("all")


def test_files_are_the_same_every_time(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    for suffix in ("png", "svg", "pdf"):
        for name in ("one", "two"):
            plot.save("fisher_simplex", tmp_path / f"{name}.{suffix}")
        for end in (suffix, "csv", "txt"):
            assert (tmp_path / f"one.{end}").read_bytes() == (tmp_path / f"two.{end}").read_bytes()
    assert dict(mpl.rcParams) == before


def test_the_traffic_of_chips_is_what_was_recorded(tmp_path: Path) -> None:
    """The committed figure is the one of the recorded results, and shows that a value moves its logits once."""
    stored = json.loads((ROOT / "benchmarks/results/accelerators.json").read_text(encoding="utf-8"))["results"]
    found = [suite.Row(**row) for row in stored]
    plot.save_memory_traffic(found, tmp_path / "memory_traffic.png")
    for end in ("csv", "txt"):
        wanted = (COMMITTED / f"memory_traffic.{end}").read_text(encoding="utf-8")
        assert (tmp_path / f"memory_traffic.{end}").read_text(encoding="utf-8") == wanted
    points = read(COMMITTED / "memory_traffic.csv")
    bytes_moved, chip = points["a", "lossjax, value"]
    assert len(chip) == len(CHIPS)
    assert np.all(bytes_moved < 4.4)
    assert np.all(bytes_moved < points["a", "optax, value"][0])
    with_gradient = points["a", "lossjax, value and gradient"][0]
    on_tpus = np.array([chip.platform == "tpu" for chip in CHIPS.values()])
    np.testing.assert_allclose(with_gradient, np.where(on_tpus, 8, 12), rtol=0.03)  # the kernel's, and the formula's
    with pytest.raises(ValueError, match=r"dtypes \['float32', 'bfloat16'\]"):
        plot.memory_traffic(found)
    with pytest.raises(ValueError, match=r"wanted results in float32, of labels and of h100"):
        plot.save_memory_traffic([], tmp_path / "none.png")


def test_a_library_has_one_colour_in_all_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_by: dict[str, set[str]] = {}

    def note(figure: Any) -> None:
        for ax in figure.axes:
            for line in ax.lines:
                drawn_by.setdefault(style.library(str(line.get_gid())), set()).add(to_hex(line.get_color()))
            for bars in ax.containers:
                colours = {to_hex(bar.get_facecolor()) for bar in bars.get_children()}
                drawn_by.setdefault(style.library(str(bars.get_label())), set()).update(colours)

    kept = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (note(self), kept(self, *a, **k)))
    for name in ("atlas", "accuracy", "memory"):
        note(next(iter(panels(name).values())).figure)
    stored = json.loads((ROOT / "benchmarks/results/accelerators.json").read_text(encoding="utf-8"))["results"]
    plot.save_memory_traffic([suite.Row(**row) for row in stored], tmp_path / "traffic.png")
    for one in ("growth", "rows"):
        measured = report.read_json(ROOT / f"benchmarks/results/cpu_{one}.json")[1]
        present(measured, plot=tmp_path / f"{one}.png", markdown=None)
    plot.save_map(Atlas(tuple(map(mapped, ("jax.nn.gelu", "optax.losses.huber_loss")))), tmp_path / "map.png")
    for name, colour in style.LIBRARIES.items():
        if name not in ("tokamax", "distrax"):
            assert drawn_by[name] == {colour.lower()}, name
    assert len(set(style.LIBRARIES.values())) == len(style.LIBRARIES)


def mapped(name: str, units: float = 2.0**20) -> Chart:
    """What an atlas has of a function that is this wrong."""
    return Chart(name, (), 1, value_units=Peak(units, (), "value"), gradient_units=Peak(units, (), "d/d0"))


def test_the_names_of_the_map_are_on_nothing() -> None:
    """Twenty functions that are about as wrong: who has no room for a name has none, and some have."""
    random = np.random.default_rng(0)
    found = Atlas(tuple(mapped(f"mine.a_function_{i}", 2 ** random.uniform(18, 24)) for i in range(20)))
    ax = Figure(figsize=(9.5, 6.5), layout="constrained").add_subplot()
    plot.atlas_map(found, ax=ax)
    figure: Any = ax.figure
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert sum("a_function" in text.get_text() for text in ax.texts) >= 3
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    at = ax.transData.transform(np.concatenate([np.transpose(line.get_data()) for line in ax.lines if line.get_gid()]))
    assert not any(box.contains(*place) for box in boxes for place in at)


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_command_writes_image_curves_words_and_facts(tmp_path: Path) -> None:
    target = tmp_path / "fig_CH04_fisher_simplex.svg"
    result = CliRunner().invoke(app, ["figure", str(target), "--json", str(tmp_path / "facts.json")])
    assert result.exit_code == 0, result.output
    assert "4 of the 4 facts" in " ".join(result.output.split())
    assert target.read_text(encoding="utf-8").startswith("<?xml")
    assert ("b", "m-geodesic") in read(target.with_suffix(".csv"))
    assert target.with_suffix(".txt").read_text(encoding="utf-8") == plot.FIGURES["fisher_simplex"].alt
    facts = json.loads((tmp_path / "facts.json").read_text(encoding="utf-8"))
    assert all(set(fact) == {"name", "ok", "measured", "allowed", "statement"} for fact in facts)


def test_the_command_exits_1_when_a_fact_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = plot.Fact("a", False, 2.0, 1.0, "water is dry")
    recipe = plot.FIGURES["fisher_simplex"]._replace(facts=lambda drawn: iter([wrong]))
    monkeypatch.setitem(plot.FIGURES, "fisher_simplex", recipe)
    result = CliRunner().invoke(app, ["figure", str(tmp_path / "fisher_simplex.png")])
    assert result.exit_code == 1
    assert "water is dry: 2, allowed 1" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing.png",), "there is no figure 'nothing'; there are loss_surfaces_gradients, fisher_simplex"),
        (("accuracy.bmp",), "cannot draw a .bmp, wanted one of .png, .svg, .pdf"),
        (("accuracy",), "cannot draw a file without suffix"),
        (("no/such/fisher_simplex.png",), "cannot write"),
        (("accuracy.png", "--json", "no/such/x.json"), "does not exist"),
    ],
)
def test_usage_errors_exit_2(arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, ["figure", *arguments])
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", " ").split())


def test_without_matplotlib_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['matplotlib'] = None\nfrom lossjax.__main__ import main\nmain()"
    command = [sys.executable, "-c", code, "figure", "accuracy.png"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2
    assert 'pip install "lossjax[plot]"' in result.stderr
    assert "Traceback" not in result.stderr
