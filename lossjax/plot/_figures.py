"""The figures that ``lossjax figure`` draws. Each has the facts that it shows, its curves as CSV, and an alt text."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lossjax.plot import _accuracy, _atlas, _cancellation, _facts, _logits, _memory, _projections, _regression, _simplex
from lossjax.plot._facts import Fact
from lossjax.plot.files import Curves, Panels, in_style, write


class Recipe(NamedTuple):
    """How one figure is made."""

    layout: Any
    """The panels' letters, as ``subplot_mosaic`` takes them."""
    size: tuple[float, float]
    """Width and height, in inches."""
    draw: Callable[[Panels], None]
    """Draws on the panels."""
    facts: Callable[["Curves"], Iterator[Fact]]
    """What the figure says of its curves, each statement checked."""
    alt: str
    """The figure in words."""


def _six(panels: Panels) -> None:
    _regression.squared_error_contours(ax=panels["a"])
    panels["a"].set_title("a  Squared error of a line wx + b")
    _simplex.kl_contours(ax=panels["b"])
    _simplex.fisher_balls(0.2, [(0.5, 0.3, 0.2), (0.12, 0.76, 0.12), (0.8, 0.05, 0.15)], ax=panels["b"])
    _simplex.geodesics(
        (0.86, 0.1, 0.04), (0.06, 0.14, 0.8), labels=("", ""), mixture_and_exponential=False, ax=panels["b"]
    )
    panels["b"].set_title("b  KL(p‖·), Fisher circles, a geodesic", pad=16)
    _logits.losses_against_logit(ax=panels["c"])
    panels["c"].set_title("c  Loss against the logit")
    _logits.slopes_against_logit(ax=panels["d"])
    panels["d"].set_title("d  Its gradient")
    _logits.logit_plane(ax=panels["e"])
    panels["e"].set_title("e  Two logits, steps downhill")
    _accuracy.errors_against_margin(_accuracy.formulas(), unit="relative", classes=2, margins=(0, 80), ax=panels["f"])
    panels["f"].set_title("f  Relative error of the loss, float32")


def _fisher(panels: Panels) -> None:
    _simplex.fisher_balls(ax=panels["a"])
    panels["a"].set_title("a  Circles of Fisher-Rao radius 0.2")
    _simplex.geodesics(ax=panels["b"])
    panels["b"].set_title("b  Three ways from p to q")
    panels["b"].legend(loc="upper left", bbox_to_anchor=(-0.08, 1.0))


def _two_projections(panels: Panels) -> None:
    _projections.nearest_in_family(ax=panels["a"])
    panels["a"].set_title("a  From p onto an exponential family")
    _projections.nearest_with_moments(ax=panels["b"])
    panels["b"].set_title("b  From a base onto a moment, E T = 1.3")


def _accuracies(panels: Panels) -> None:
    _accuracy.errors_against_margin(of="loss", ax=panels["a"])
    panels["a"].set_title("a  The loss")
    _accuracy.errors_against_margin(of="gradient", ax=panels["b"])
    panels["b"].set_title("b  Its gradient at the label")


def _cancellations(panels: Panels) -> None:
    _cancellation.errors_against_distance("sampled_kl", ax=panels["a"])
    panels["a"].set_title("a  KL from samples, k3")
    _cancellation.errors_against_distance("log_odds", ax=panels["b"])
    panels["b"].set_title("b  Log-odds of a log-probability")
    _cancellation.errors_against_distance("kl", ax=panels["c"])
    panels["c"].set_title("c  KL of logits")


def _memories(panels: Panels) -> None:
    _memory.memory_against_vocabulary(ax=panels["a"])
    panels["a"].set_title("a  Against the vocabulary")
    _memory.memory_against_rows(ax=panels["b"])
    panels["b"].set_title("b  Against the rows of a step")


def _mountains(panels: Panels) -> None:
    for letter, way in _atlas.WAYS.items():
        _atlas.errors_along(way, ax=panels[letter])


FIGURES: dict[str, Recipe] = {
    "loss_surfaces_gradients": Recipe(
        [["a", "b", "c"], ["d", "e", "f"]], (13.5, 9.0), _six, _facts.loss_surfaces_gradients,
        """\
Six panels. (a) The mean squared error of a line over its slope w and intercept b: nested ellipses, arrows downhill
that all lead to the least-squares fit w = 0.9, b = 1.8, where the error is 0.175. (b) The triangle of distributions
over three classes: contours of KL(p‖q) around p = (0.5, 0.3, 0.2), round near p and bent along the edges; circles of
Fisher-Rao radius 0.2, which are small and flat near the edges, and around p hardly differ from the contour KL = 0.02;
a geodesic, bent towards the middle. (c) Against the logit z of the true label: cross-entropy rises along -z where the
model is wrong (5.00672 at -5), half the squared error of the sigmoid flattens at one half (0.49333 at -5). (d) Their
gradients on a logarithmic axis: that of cross-entropy goes to 1 (0.999955 at z = -10), that of squared error is
largest, 4/27, at z = -log 2 and falls to 4.54e-5 at -10; the ratio is σ(1 - σ). (e) The same two losses over two
logits: all contours run along (1, 1), all arrows across; the arrows of cross-entropy stay long where the model is
wrong, those of squared error vanish. (f) The relative error of three float32 formulas against the margin: log-sum-exp
minus the logit and log-softmax lose all digits from 16.6 on, lossjax's stays at 1e-7.
""",
    ),
    "fisher_simplex": Recipe(
        [["a", "b"]], (12.5, 5.8), _fisher, _facts.fisher_simplex,
        """\
Two triangles of distributions over three classes. (a) Circles of radius 0.2 in Fisher's metric: largest and round in
the middle, small and flattened along the edges, where a small change of probability is told apart best. (b) Three
paths from p = (0.86, 0.07, 0.07) to q = (0.04, 0.16, 0.8): the straight one of mixtures, the shortest one of the
Fisher-Rao metric, bent towards the middle, and that of exponential families (straight in logits), bent further.
""",
    ),
    "projections": Recipe(
        [["a", "b"]], (12.5, 5.8), _two_projections, _facts.projections,
        """\
Two triangles of distributions over three classes. (a) A data distribution p and a curved exponential family. The
contour of KL(p‖q) touches the family at the m-projection, which is where the straight line of distributions with the
moment of p meets it: maximum likelihood. The contour of KL(q‖p) touches it at another point. (b) A base distribution
and the straight line of distributions with E T = 1.3. The contour of KL(p‖base) touches the line at the I-projection,
which is where the exponential family through the base meets it; the orthogonal projection is another point.
""",
    ),
    "accuracy": Recipe(
        [["a", "b"]], (13.0, 5.2), _accuracies, _facts.accuracy,
        """\
Two panels: the largest error, in ulp and on a logarithmic axis, of float32 cross-entropies of ten classes against the
margin of the label from -20 to 68: (a) of the loss, (b) of its gradient at the label. lossjax stays below 8 ulp
everywhere. The others (optax, and torch if it was there) get worse from a margin of 0 on, and from 16.6 on their loss
and their gradient are exactly 0: wrong by all of their digits, 2^23 to 2^24 ulp.
""",
    ),
    "cancellation": Recipe(
        [["a", "b", "c"]], (13.5, 4.6), _cancellations, _facts.cancellation,
        """\
Three panels, both axes logarithmic: the largest error in float32, in ulp, of three quantities against the distance
of two things that are close: (a) the k3 estimate of a divergence from two log-probabilities, (b) the log-odds of a
probability given by its logarithm, (c) the KL divergence of two rows of ten logits. lossjax stays below 6 ulp at
every distance. The textbook's formulas lose digits as the distance shrinks: exp(x) - 1 - x has none left from about
3e-4 on, x - log(1 - exp(x)) from 3e-8 on, and the sum of p (log p - log q) from about 3e-3 on.
""",
    ),
    "atlas": Recipe(
        [["a", "b", "c"], ["d", "e", "f"]], (13.5, 7.6), _mountains, _facts.atlas,
        """\
Six panels, both axes logarithmic: the largest error in float32, in ulp, along one argument. (a) The derivative of
jax.nn.sigmoid loses its digits from x = 2 on and has none from 16 on; lossjax's stays below 4 ulp. (b) optax's
log_cosh has no digit left below 4e-4; lossjax's stays below 10 ulp. (c) jax.nn.gelu has none left from -4.7 on, where
its value is -6e-6. (d) jax.nn.squareplus has none from -7e3 on. (e) The derivative of jax.nn.tanh has none from 8 on.
(f) jax.nn.standardize of four numbers m, m, m - 1, m, whose first is 0.577 for every m, has none from 1.6e3 on.
""",
    ),
    "memory": Recipe(
        [["a", "b"]], (12.5, 4.8), _memories, _facts.memory,
        """\
Two panels, both axes logarithmic: the temporary memory that the loss of a linear head and its gradients take, by
lossjax and by optax on stored logits, as their compiled programs say. (a) Against the number of classes, at 2048
rows: optax's grows with it, to 1 GiB at 65536 classes; lossjax's stays below 100 MiB. (b) Against the rows of a step,
at 50304 classes: optax's doubles with them, lossjax's is the same.
""",
    ),
}  # fmt: skip
"""How each figure is made, by the name that :func:`save` and ``lossjax figure`` take."""


def draw(name: str) -> tuple[Figure, dict[str, Axes]]:
    """Draw a new figure in the style of the project, whatever style the user has set."""
    recipe = FIGURES[name]
    with in_style():
        figure = Figure(figsize=recipe.size, layout="constrained")
        panels: dict[str, Any] = figure.subplot_mosaic(recipe.layout)
        recipe.draw(panels)
    return figure, panels


def save(name: str, path: Path | str) -> list[Fact]:
    """Draw a figure into a file, its curves into ``.csv`` and its alt text into ``.txt`` beside it.

    The files are the same, byte for byte, whenever they are made in the same environment.

    Args:
      name: one of :data:`FIGURES`.
      path: the file to write, ending in .png, .svg or .pdf.

    Returns:
      What the figure shows, checked on what it draws: one :class:`Fact` per statement.

    Raises:
      ValueError: an unknown name or suffix.

    Example:
      >>> from lossjax.plot import FIGURES
      >>> sorted(FIGURES)
      ['accuracy', 'atlas', 'cancellation', 'fisher_simplex', 'loss_surfaces_gradients', 'memory', 'projections']

    Source: G13 (docs/theorems.md).
    """
    if name not in FIGURES:
        raise ValueError(f"there is no figure {name!r}; there are {', '.join(FIGURES)}")
    recipe = FIGURES[name]
    drawn = write(path, lambda: draw(name), recipe.alt)
    return [dataclasses.replace(fact, name=f"{name} {fact.name}") for fact in recipe.facts(drawn)]
