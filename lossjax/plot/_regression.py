"""The squared error over the two parameters of a line."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from lossjax.geometry import least_squares
from lossjax.losses.regression import mean_squared_error
from lossjax.plot.style import BLUE, GREEN, VERMILLION, axes_or_new, in_float64, mark

INPUTS, TARGETS = (-1.0, 0.0, 1.0, 2.0), (1.0, 2.0, 2.0, 4.0)
"""Four points; their least-squares line is 0.9 x + 1.8, with a mean squared error of 0.175."""


@in_float64
def squared_error_contours(
    inputs: Any = INPUTS, targets: Any = TARGETS, *, span: float = 2.0, ax: Axes | None = None
) -> Axes:
    r"""The bowl MSE(w, b) of the line wx + b from above: elliptical contours, steps downhill, the least-squares fit.

    .. math:: \mathrm{MSE}(w, b) = \tfrac1N \textstyle\sum_i (w x_i + b - y_i)^2

    Args:
      inputs: ``[N]`` numbers, x; by default -1, 0, 1, 2.
      targets: ``[N]`` numbers, y; by default 1, 2, 2, 4.
      span: how far to show to each side of the least-squares fit, in both parameters.
      ax: where to draw; default new axes.

    Returns:
      The axes, w to the right and b upwards.

    Raises:
      ValueError: shapes that do not agree.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import squared_error_contours
      >>> ax = squared_error_contours([0.0, 1.0, 2.0], [1.0, 1.0, 2.0], ax=Figure().add_subplot())
      >>> print(ax.texts[-1].get_text())
      ★ least squares: w = 0.5, b = 0.833, MSE = 0.0556

    Source: §4.1.2, §4.1.4.
    """
    ax = axes_or_new(ax)
    x, y = jnp.asarray(inputs, jnp.float64), jnp.asarray(targets, jnp.float64)
    design = jnp.stack([x, jnp.ones_like(x)], axis=-1)
    fit = least_squares(design, y)

    def error(parameters: jax.Array) -> jax.Array:
        return mean_squared_error(design @ parameters, y)

    def over(steps: int) -> tuple[np.ndarray, np.ndarray]:
        """A square lattice of parameters, and its rows as a list."""
        lattice = np.stack(np.meshgrid(*(np.linspace(c - span, c + span, steps) for c in fit)), axis=-1)
        return lattice, lattice.reshape(-1, 2)

    grid, points = over(81)
    values = np.asarray(jax.vmap(error)(jnp.asarray(points))).reshape(grid.shape[:-1])
    least = float(error(fit))
    # Quadratic levels make evenly spaced ellipses.
    levels = least + (values.max() - least) * (np.arange(1, 8) / 8) ** 2
    contours = ax.contour(grid[..., 0], grid[..., 1], values, levels=levels, colors=BLUE, linewidths=1.2)
    contours.set_gid("MSE")
    ax.clabel(contours, levels[[1, 3, 5]], fmt="%.1f", fontsize="small")

    starts = over(7)[1]
    steps = -np.asarray(jax.vmap(jax.grad(error))(jnp.asarray(starts)))
    longest = np.max(np.hypot(*steps.T))
    ax.quiver(
        *starts.T, *steps.T, angles="xy", scale_units="xy", scale=longest / (span / 2.5), color=VERMILLION, width=0.006,
        gid="-grad MSE",
    )  # fmt: skip
    w, b = map(float, fit)
    mark(ax, fit, "", (0, 0), name="least squares", color=GREEN, marker="*")
    ax.annotate(
        f"★ least squares: w = {w:.3g}, b = {b:.3g}, MSE = {least:.3g}", (0.5, 0), (0, -34),
        xycoords="axes fraction", textcoords="offset points", color=GREEN, ha="center", va="top",
    )  # fmt: skip
    ax.set(xlabel="w", ylabel="b", aspect="equal", xlim=(w - span, w + span), ylim=(b - span, b + span))
    return ax
