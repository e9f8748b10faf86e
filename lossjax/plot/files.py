"""A figure's files: the image, in the style of the project, with its curves as CSV and its words beside it."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.quiver import Quiver
from numpy.typing import NDArray

Panels = Mapping[str, Axes]

STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.fontsize": 10,
    "legend.framealpha": 0.9,
    "savefig.dpi": 110,
    "svg.hashsalt": "lossjax",  # Without it the names inside an SVG file are random.
    "pdf.fonttype": 42,
}
SUFFIXES = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}, ".pdf": {"CreationDate": None}}
"""The formats, with the metadata to leave out, so that a file is the same whenever it is drawn."""

Curves = dict[tuple[str, str], tuple[NDArray[np.float64], ...]]
"""The curves of a figure by panel and name: x, y, and for arrows their two components."""


def curves(panels: Panels) -> Curves:
    """Read what is drawn from the artists that have a name: lines, arrows, and contours level by level."""
    found: Curves = {}
    for letter, ax in panels.items():
        for artist in ax.get_children():
            name = artist.get_gid()
            if name is None:
                continue
            if isinstance(artist, Line2D):
                found[letter, name] = tuple(np.asarray(artist.get_data(orig=True), np.float64))
            elif isinstance(artist, Quiver):
                found[letter, name] = tuple(np.asarray(a, np.float64) for a in (artist.X, artist.Y, artist.U, artist.V))
            elif isinstance(artist, ContourSet):
                for level, pieces in zip(artist.levels, artist.allsegs, strict=True):
                    if pieces:
                        points = np.concatenate([np.asarray(piece, np.float64) for piece in pieces])
                        found[letter, f"{name} = {level:.6g}"] = tuple(points.T)
    return found


def to_csv(drawn: Curves) -> str:
    """One row per point: panel, curve, x, y, and for an arrow its components u and v, with nine digits."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(("panel", "curve", "x", "y", "u", "v"))
    for (letter, name), columns in drawn.items():
        for row in np.stack(columns, axis=-1):
            numbers = [f"{number + 0.0:.9g}" for number in row]
            rows.writerow([letter, name, *numbers, *[""] * (4 - len(numbers))])
    return written.getvalue()


@contextmanager
def in_style() -> Iterator[None]:
    """The style of the project, whatever style the user has set."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def write(path: Path | str, draw: Callable[[], tuple[Figure, Panels]], alt: str) -> Curves:
    """Draw a figure into a file, its curves into ``.csv`` and its alt text into ``.txt`` beside it.

    Returns:
      The curves that were drawn.

    Raises:
      ValueError: another suffix than those of SUFFIXES.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"cannot draw a {path.suffix or 'file without suffix'}, wanted one of {', '.join(SUFFIXES)}")
    with in_style():
        figure, panels = draw()
        figure.savefig(path, metadata=SUFFIXES[path.suffix])
    drawn = curves(panels)
    path.with_suffix(".csv").write_text(to_csv(drawn), encoding="utf-8", newline="")
    path.with_suffix(".txt").write_text(alt, encoding="utf-8")
    return drawn
