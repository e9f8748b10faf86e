"""Cross-entropy and squared error against the logits: the saturation of chapter 4.1, §4.1.6."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lossjax.losses.classification import sigmoid_cross_entropy, softmax_cross_entropy_with_integer_labels
from lossjax.losses.regression import squared_error
from lossjax.losses.scoring import softmax_brier_score
from lossjax.numerics import sigmoid
from lossjax.plot.style import (
    BLACK,
    BLUE,
    FIRST,
    HALO,
    LIMIT,
    SECOND,
    THIRD,
    VERMILLION,
    axes_or_new,
    in_float64,
    mark,
)

KNEE = -math.log(2)
"""The logit at which the slope of the squared error is largest: σ = 1/3."""
LOGITS = np.sort(np.append(np.arange(-120, 121) / 10, KNEE))


def _cross_entropy(z: Array) -> Array:
    return sigmoid_cross_entropy(z, jnp.ones_like(z))


def _half_squared_error(z: Array) -> Array:
    return squared_error(sigmoid(z), jnp.ones_like(z)) / 2


@in_float64
def _values(loss: Callable[[Array], Array], z: Any) -> NDArray[np.float64]:
    return np.asarray(loss(jnp.asarray(z)))


@in_float64
def _slopes(loss: Callable[[Array], Array], z: Any) -> NDArray[np.float64]:
    value, pullback = jax.vjp(loss, jnp.asarray(z))
    return np.abs(pullback(jnp.ones_like(value))[0])


def losses_against_logit(*, ax: Axes | None = None) -> Axes:
    r"""Cross-entropy log(1 + e^-z) and squared error ½(1 - σ(z))² of a label 1, against its logit.

    Where the model is wrong, the cross-entropy grows as -z, and the squared error stays below ½.

    Args:
      ax: where to draw; default new axes.

    Returns:
      The axes.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import losses_against_logit
      >>> ax = losses_against_logit(ax=Figure().add_subplot())
      >>> [line.get_gid() for line in ax.lines if line.get_gid()]
      ['CE', 'MSE', 'asymptote -z', 'plateau 1/2']

    Source: G13 (docs/theorems.md); §4.1.6.
    """
    ax = axes_or_new(ax)
    losses = _values(_cross_entropy, LOGITS), _values(_half_squared_error, LOGITS)
    ax.plot(LOGITS, losses[0], label="cross-entropy log(1 + e$^{-z}$)", gid="CE", **FIRST)
    ax.plot(LOGITS, losses[1], label="squared error ½(1 − σ)²", gid="MSE", **SECOND)
    wrong = LOGITS[LOGITS <= 0]
    ax.plot(wrong, -wrong, label="asymptotes −z and ½", gid="asymptote -z", **LIMIT)
    ax.plot(wrong, np.full_like(wrong, 0.5), gid="plateau 1/2", **LIMIT)
    for z, offset, in_words in (
        (-5.0, (10, 0), "5.00672"),
        (KNEE, (8, 6), "log 3 = 1.09861"),
        (0.0, (8, 4), "log 2 = 0.69315"),
    ):
        mark(ax, (z, _values(_cross_entropy, [z])[0]), in_words, offset, color=BLUE)
    for z, offset, in_words in ((-5.0, (0, 8), "0.49333"), (KNEE, (-6, -6), "2/9"), (0.0, (6, -6), "1/8")):
        mark(ax, (z, _values(_half_squared_error, [z])[0]), in_words, offset, color=VERMILLION)
    ax.set(xlabel="logit z of the label", ylabel="loss", xlim=(-7, 5), ylim=(-0.55, 7))
    ax.legend(loc="upper right")
    return ax


def slopes_against_logit(*, ax: Axes | None = None) -> Axes:
    r"""The gradients of both losses in the logit, and their ratio σ(1 - σ), on a logarithmic axis.

    .. math:: |\partial_z \mathrm{CE}| = 1 - \sigma, \qquad |\partial_z \tfrac12(1 - \sigma)^2| = \sigma(1 - \sigma)^2

    The second is largest, 4/27, at z = -log 2, and vanishes where the model is confident and wrong.

    Args:
      ax: where to draw; default new axes.

    Returns:
      The axes.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import slopes_against_logit
      >>> slopes_against_logit(ax=Figure().add_subplot()).get_yscale()
      'log'

    Source: G13 (docs/theorems.md); §4.1.6.
    """
    ax = axes_or_new(ax)
    first, second = _slopes(_cross_entropy, LOGITS), _slopes(_half_squared_error, LOGITS)
    ax.semilogy(LOGITS, first, label="|∂ cross-entropy| = 1 − σ", gid="CE", **FIRST)
    ax.semilogy(LOGITS, second, label="|∂ squared error| = σ(1 − σ)²", gid="MSE", **SECOND)
    ax.semilogy(LOGITS, second / first, label="ratio σ(1 − σ)", gid="ratio", **THIRD)
    ax.plot([KNEE, KNEE], [1e-9, 4 / 27], **LIMIT)
    mark(ax, (KNEE, 4 / 27), "4/27 at z = −log 2", (-14, 36), color=VERMILLION, leader=True)
    mark(ax, (-10.0, _slopes(_cross_entropy, [-10.0])[0]), "0.999955", (2, -8), color=BLUE)
    mark(ax, (-10.0, _slopes(_half_squared_error, [-10.0])[0]), "4.54·10⁻⁵", (8, -8), color=VERMILLION)
    mark(ax, (10.0, _slopes(_cross_entropy, [10.0])[0]), "4.54·10⁻⁵", (-6, 14), color=BLUE)
    mark(ax, (10.0, _slopes(_half_squared_error, [10.0])[0]), "2.06·10⁻⁹", (-10, -4), color=VERMILLION)
    ax.set(xlabel="logit z of the label", ylabel="size of the gradient", xlim=(-12, 12), ylim=(2e-10, 1e5))
    ax.legend(loc="upper right")
    return ax


@in_float64
def logit_plane(*, reach: float = 6.0, ax: Axes | None = None) -> Axes:
    r"""Both losses of two logits, label 1, from above: cross-entropy above the line z₁ + z₂ = 0, ½‖p̂ − y‖² below.

    Both are constant along (1, 1), and steps downhill are perpendicular to it. Each loss is symmetric about the line
    z₁ + z₂ = 0, so half of the plane shows all of it.

    Args:
      reach: the largest logit shown.
      ax: where to draw; default new axes.

    Returns:
      The axes, z₁ to the right and z₂ upwards.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import logit_plane
      >>> logit_plane(reach=4.0, ax=Figure().add_subplot()).get_xlabel()
      'logit z₁ of the label'

    Source: G13 (docs/theorems.md); theorem 4.1.5.
    """

    def cross_entropy(z: Array) -> Array:
        return softmax_cross_entropy_with_integer_labels(z, jnp.zeros(z.shape[:-1], jnp.int32))

    def half_squared_error(z: Array) -> Array:
        return softmax_brier_score(z, jnp.zeros(z.shape[:-1], jnp.int32)) / 2

    ax = axes_or_new(ax)
    line = np.linspace(-reach, reach, 121)
    grid = np.stack(np.meshgrid(line, line), axis=-1)
    coarse = np.linspace(-reach, reach, 11)[1:-1]
    starts = np.stack(np.meshgrid(coarse, coarse), axis=-1).reshape(-1, 2)
    halves = (
        (cross_entropy, 1, "CE", FIRST, [0.1, 0.5, *range(1, int(2 * reach), 2)], "%g"),
        (half_squared_error, -1, "MSE", SECOND, [0.01, 0.1, 0.5, 0.9, 0.99], "%g"),
    )
    for loss, side, name, style, levels, digits in halves:
        values = np.ma.masked_where(side * grid.sum(axis=-1) < -1e-9, np.asarray(loss(jnp.asarray(grid))))
        colours: dict[str, Any] = {"colors": style["color"], "linestyles": style["linestyle"], "linewidths": 1.1}
        contours = ax.contour(grid[..., 0], grid[..., 1], values, levels=levels, **colours)
        contours.set_gid(name)
        ax.clabel(contours, fmt=digits, fontsize="x-small")
        mine = starts[side * starts.sum(axis=-1) > 0.5]
        value, pullback = jax.vjp(loss, jnp.asarray(mine))
        steps = -np.asarray(pullback(jnp.ones_like(value))[0])
        ax.quiver(
            *mine.T, *steps.T, angles="xy", scale_units="xy", scale=1.2, color=style["color"], width=0.006,
            headwidth=3.5, headlength=4, headaxislength=3.5, minshaft=1.5,
            gid=f"-grad {name}",
        )  # fmt: skip
    ax.plot([-reach, reach], [reach, -reach], color=BLACK, linewidth=1.5)
    corner: dict[str, Any] = {"transform": ax.transAxes, "bbox": HALO, "weight": "bold", "zorder": 7}
    ax.text(0.97, 0.97, "cross-entropy", ha="right", va="top", color=BLUE, **corner)
    ax.text(0.03, 0.03, "squared error", ha="left", va="bottom", color=VERMILLION, **corner)
    ax.set(xlabel="logit z₁ of the label", ylabel="other logit z₂", aspect="equal")
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
    return ax
