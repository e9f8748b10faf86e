"""How many digits implementations of the cross-entropy keep, as the margin of the label grows."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lossjax.losses.classification import softmax_cross_entropy_with_integer_labels
from lossjax.plot.style import BLACK, FIRST, FOURTH, HALO, LIMIT, SECOND, THIRD, axes_or_new

DRAWS = 64
LOST = 2.0**24
"""An error of this many ulp has lost all digits of a float32."""


class Computed(NamedTuple):
    """What an implementation returns for every row: the loss, and its gradient at the label."""

    loss: NDArray[np.floating]
    gradient: NDArray[np.floating]


Implementation = Callable[[NDArray[np.float32], NDArray[np.int32]], Computed]
Loss = Callable[[Array, Array], Array]
"""From float32 logits ``[B, C]`` and integer labels ``[B]`` to losses ``[B]``, differentiable by JAX."""


def _by_jax(loss: Loss) -> Implementation:
    def compute(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> Computed:
        value, pullback = jax.vjp(lambda z: loss(z, jnp.asarray(labels)), jnp.asarray(logits))
        gradient = np.asarray(pullback(jnp.ones_like(value))[0])
        return Computed(np.asarray(value), gradient[np.arange(len(labels)), labels])

    return compute


def _peers() -> dict[str, Implementation]:
    """The cross-entropies of lossjax, optax and, if it can be imported, torch."""
    found = {
        "lossjax": _by_jax(softmax_cross_entropy_with_integer_labels),
        "optax": _by_jax(optax.softmax_cross_entropy_with_integer_labels),
    }
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        return found

    def compute(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> Computed:
        z, wanted = torch.tensor(logits, requires_grad=True), torch.tensor(labels.astype(np.int64))
        losses = torch.nn.functional.cross_entropy(z, wanted, reduction="none")
        losses.sum().backward()
        return Computed(losses.detach().numpy(), z.grad.numpy()[np.arange(len(labels)), labels])

    return found | {"torch": compute}


def formulas() -> dict[str, Loss]:
    """The value, as lossjax, textbooks and other libraries compute it."""

    def by_log_sum_exp(z: Array, labels: Array) -> Array:
        return jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, labels[:, None], axis=-1)[:, 0]

    def by_log_softmax(z: Array, labels: Array) -> Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(z, axis=-1), labels[:, None], axis=-1)[:, 0]

    ours = softmax_cross_entropy_with_integer_labels
    return {"lossjax": ours, "log Σ exp z − z_c": by_log_sum_exp, "−log_softmax": by_log_softmax}


def _rows(margins: NDArray[np.float64], classes: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Random float32 logits in which label 0 leads the best other class, at 0, by about each margin."""
    random = np.random.default_rng(0)
    others = random.normal(scale=3.0, size=(len(margins), classes - 1))
    others -= others.max(axis=1, keepdims=True)
    logits = np.column_stack([margins + random.uniform(size=len(margins)), others])
    return logits.astype(np.float32), np.zeros(len(margins), np.int32)


def exact(logits: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loss and gradient at label 0 in float64, from non-negative terms.

    A roundoff of float64 is 2⁻²⁹ of a roundoff of float32, which is negligible. (``lossjax.verify.oracle`` would be
    exact, but needs the extra ``verify``; figures need nothing but matplotlib.)
    """
    z = logits.astype(np.float64)
    gaps = z - z.max(axis=1, keepdims=True)
    weights = np.exp(gaps)
    weights[np.arange(len(z)), z.argmax(axis=1)] = 0
    rest = weights.sum(axis=1)
    return -gaps[:, 0] + np.log1p(rest), -np.exp(gaps[:, 1:]).sum(axis=1) / (1 + rest)


def errors_against_margin(
    losses: Mapping[str, Loss] | None = None,
    *,
    of: Literal["loss", "gradient"] = "loss",
    unit: Literal["ulp", "relative"] = "ulp",
    classes: int = 10,
    margins: tuple[int, int] = (-20, 68),
    ax: Axes | None = None,
) -> Axes:
    """The largest error of a float32 cross-entropy, or of its gradient at the label, against the label's margin.

    The margin is the label's logit less the largest other logit. It grows as a network becomes right and confident.
    Each point shows the worst of 64 random rows whose margins lie in a window of width 1.

    Args:
      losses: by name, functions from logits ``[B, C]`` and labels ``[B]`` to losses ``[B]``. By default those of
        lossjax, optax and, if it is installed, torch.
      of: "loss", or "gradient" for the label's entry of the gradient.
      unit: "ulp", the spacing of float32 at the exact result, or "relative".
      classes: how many logits a row has.
      margins: the least and the largest. (Beyond 68 the loss of 10 classes is below 10 tiny/u, where tiny is the
        smallest normal number. XLA's CPU backend flushes smaller exponentials to zero, so accuracy is absolute there.)
      ax: where to draw; default new axes.

    Returns:
      The axes, logarithmic upwards. 2²⁴ ulp, or 1 relatively, are all digits.

    Raises:
      ValueError: more than four losses.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax import softmax_cross_entropy_with_integer_labels as ours
      >>> from lossjax.plot import errors_against_margin
      >>> ax = errors_against_margin({"ours": ours}, margins=(0, 40), ax=Figure().add_subplot())
      >>> bool(max(ax.lines[0].get_data()[1]) < 8)
      True

    Source: §4.1.6; G13 (f) (docs/theorems.md).
    """
    ax = axes_or_new(ax)
    run = _peers() if losses is None else {name: _by_jax(loss) for name, loss in losses.items()}
    styles = FIRST, SECOND, THIRD, FOURTH
    if len(run) > len(styles):
        raise ValueError(f"losses has {len(run)} entries, wanted at most {len(styles)}, to tell them apart")
    starts = np.arange(*margins)
    logits, labels = _rows(np.repeat(starts, DRAWS).astype(np.float64), classes)
    truth = exact(logits)[of == "gradient"]
    scale = np.spacing(np.abs(truth).astype(np.float32)).astype(np.float64) if unit == "ulp" else np.abs(truth)
    for (name, compute), style in zip(run.items(), styles, strict=False):
        computed = getattr(compute(logits, labels), of).astype(np.float64)
        worst = (np.abs(computed - truth) / scale).reshape(-1, DRAWS).max(axis=1)
        ax.semilogy(starts + 0.5, worst, label=name, gid=name, **style)
    lost, promised = (LOST, 8.0) if unit == "ulp" else (1.0, 8 * 2.0**-24)
    for level, words in ((lost, "all digits lost"), (promised, "8 ulp" if unit == "ulp" else "8u")):
        ax.axhline(level, **LIMIT)
        ax.annotate(
            words, (0.99, level), (0, 5), xycoords=("axes fraction", "data"), textcoords="offset points", color=BLACK,
            bbox=HALO, fontsize="small", ha="right",
        )  # fmt: skip
    ax.set(
        xlabel="margin of the label", ylabel=f"largest error of the {of}" + (", ulp" if unit == "ulp" else ", relative")
    )
    ax.set_ylim(promised / 40, lost * 40)
    ax.legend(loc="center right")
    return ax
