"""How many digits of small quantities are left: sampled KL, log-odds, and the divergence of two rows of logits."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lossjax.losses.logit_divergences import softmax_kl_divergence
from lossjax.numerics import log_odds
from lossjax.plot._accuracy import DRAWS, LOST
from lossjax.plot.style import BLACK, FIRST, HALO, LIMIT, SECOND, axes_or_new
from lossjax.policy import sampled_kl

CLASSES = 10

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]


class Quantity(NamedTuple):
    """One that is small where two things are close."""

    ours: Callable[[Array, Array], Array]
    textbook: Callable[[Array, Array], Array]
    formula: str
    """The textbook's, as the legend has it."""
    exact: Callable[[Doubles, Doubles], Doubles]
    """In float64, whose roundoff is 2⁻²⁹ of float32's, without the cancellation."""
    draw: Callable[[Doubles, np.random.Generator], tuple[Doubles, Doubles]]
    """Two arguments at each distance."""
    distance: str
    span: tuple[float, float]
    """Decimal logarithms of the least and the largest distance."""


def _xi(x: Doubles) -> Doubles:
    """``e^x - 1 - x``, by its series where that is a difference."""
    small = np.where(np.abs(x) < 0.5, x, 0)
    term, series = small, np.zeros_like(x)
    for k in range(2, 20):
        term = term * small / k
        series = series + term
    return np.where(np.abs(x) < 0.5, series, np.expm1(x) - x)


def _log_softmax(z: Doubles) -> Doubles:
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def _kl(a: Doubles, b: Doubles) -> Doubles:
    """``Σ p ξ(log q - log p)``, which is KL(p‖q) since Σp = Σq, and has no negative term."""
    log_p = _log_softmax(a)
    return np.sum(np.exp(log_p) * _xi(_log_softmax(b) - log_p), axis=-1)


def _textbook_kl(a: Array, b: Array) -> Array:
    log_p, log_q = jax.nn.log_softmax(a), jax.nn.log_softmax(b)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def _pair(distance: Doubles, random: np.random.Generator) -> tuple[Doubles, Doubles]:
    """Log-probabilities of one token under two policies."""
    log_p = -random.uniform(0.1, 8.0, size=distance.shape)
    return log_p, log_p + distance * random.choice((-1.0, 1.0), size=distance.shape)


def _rows(distance: Doubles, random: np.random.Generator) -> tuple[Doubles, Doubles]:
    """Two rows of logits."""
    first, step = random.normal(size=(2, *distance.shape, CLASSES))
    return 3 * first, 3 * first + distance[..., None] * step


QUANTITIES = {
    "sampled_kl": Quantity(
        lambda p, q: sampled_kl(p, q),
        lambda p, q: jnp.exp(q - p) - 1 - (q - p),
        "exp(x) − 1 − x",
        lambda p, q: _xi(q - p),
        _pair, "distance of the log-probabilities", (-6, 1),
    ),
    "log_odds": Quantity(
        lambda x, _: log_odds(x),
        lambda x, _: x - jnp.log(1 - jnp.exp(x)),
        "x − log(1 − exp(x))",
        lambda x, _: x - np.log(-np.expm1(x)),
        lambda distance, _: (-distance, distance), "distance of the log-probability from 0", (-8, 1),
    ),
    "kl": Quantity(
        lambda a, b: softmax_kl_divergence(a, b), _textbook_kl, "Σ p (log p − log q)", _kl,
        _rows, "distance of the logits", (-4, 1),
    ),
}  # fmt: skip


def errors_against_distance(
    of: Literal["sampled_kl", "log_odds", "kl"] = "sampled_kl", *, ax: Axes | None = None
) -> Axes:
    r"""The largest error of a float32 quantity, by lossjax and by the textbook's formula, where two things are close.

    Each is a small difference of large numbers in the formula of a textbook: :math:`e^x - 1 - x` (the k3 estimate of a
    divergence), :math:`\log(p/(1 - p))` of a probability given by its logarithm, and :math:`\sum p(\log p - \log q)` of
    two rows of ten logits. Each point shows the worst of 64 random arguments in a tenth of a decade.

    Args:
      of: "sampled_kl", "log_odds" or "kl".
      ax: where to draw; default new axes.

    Returns:
      The axes, logarithmic in both directions, upwards in ulp. 2²⁴ ulp are all digits.

    Raises:
      ValueError: another quantity.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import errors_against_distance
      >>> ax = errors_against_distance("log_odds", ax=Figure().add_subplot())
      >>> ours, textbook = (max(line.get_data()[1]) for line in ax.lines[:2])
      >>> bool(ours < 8), bool(textbook > 1e6)
      (True, True)

    Source: G3, G16 (docs/theorems.md).
    """
    if of not in QUANTITIES:
        raise ValueError(f"of must be one of {', '.join(map(repr, QUANTITIES))}, got {of!r}")
    ax, quantity, random = axes_or_new(ax), QUANTITIES[of], np.random.default_rng(0)
    starts = np.arange(quantity.span[0] * 10, quantity.span[1] * 10) / 10
    distances = 10 ** (np.repeat(starts, DRAWS) + random.uniform(0, 0.1, size=len(starts) * DRAWS))
    arguments: Any = [drawn.astype(np.float32) for drawn in quantity.draw(distances, random)]
    truth = quantity.exact(*(argument.astype(np.float64) for argument in arguments))
    scale = np.spacing(np.abs(truth).astype(np.float32)).astype(np.float64)
    for name, compute, style in (("lossjax", quantity.ours, FIRST), (quantity.formula, quantity.textbook, SECOND)):
        computed = np.asarray(compute(*map(jnp.asarray, arguments)), np.float64)
        errors = np.where(np.isfinite(computed), np.abs(computed - truth) / scale, LOST)  # log 0 has no digit
        worst = np.maximum(errors.reshape(-1, DRAWS).max(axis=1), 0.1)  # an error of 0 has no logarithm
        ax.loglog(10 ** (starts + 0.05), worst, label=name, gid=name, **style)
    ax.axhline(LOST, **LIMIT)
    ax.annotate(
        "all digits lost", (0.99, LOST), (0, 5), xycoords=("axes fraction", "data"), textcoords="offset points",
        color=BLACK, bbox=HALO, fontsize="small", ha="right",
    )  # fmt: skip
    ax.set(xlabel=quantity.distance, ylabel="largest error, ulp", ylim=(0.1, 1e14))
    ax.legend(loc="upper right")
    return ax
