"""The temporary memory of a linear head's loss and gradients, read from its compiled programs, which are not run."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jax import Array
from matplotlib.axes import Axes

from lossjax.losses.linear_head import linear_softmax_cross_entropy
from lossjax.plot.style import FIRST, SECOND, axes_or_new


def _in_blocks(hidden: Array, weight: Array, labels: Array) -> Array:
    return linear_softmax_cross_entropy(hidden, weight, labels, reduction="mean")


def _stored(hidden: Array, weight: Array, labels: Array) -> Array:
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(hidden @ weight, labels))


HEADS = {"lossjax's head": (_in_blocks, FIRST), "optax on stored logits": (_stored, SECOND)}


def memory_against_vocabulary(
    classes: Sequence[int] = (4096, 16384, 65536), *, rows: int = 2048, width: int = 64, ax: Axes | None = None
) -> Axes:
    """Temporary memory of the loss and gradients of a linear head, against its number of classes C.

    This is the memory that a compiled program needs beside its arguments and results. XLA reports it; nothing is run.

    Args:
      classes: the vocabularies.
      rows: N, of hidden ``[N, H]``, float32.
      width: H, of weight ``[H, C]``, float32.
      ax: where to draw; default new axes.

    Returns:
      The axes, both logarithmic, in MiB: lossjax's head, and optax's loss on stored logits.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import memory_against_vocabulary
      >>> ax = memory_against_vocabulary((512, 8192), rows=256, ax=Figure().add_subplot())
      >>> [line.get_gid() for line in ax.lines]
      ["lossjax's head", 'optax on stored logits']

    Source: a measurement.
    """
    return _curves([(rows, c) for c in classes], width, classes, "classes C", f"{rows} rows", ax)


def memory_against_rows(
    rows: Sequence[int] = (512, 1024, 2048, 4096), *, classes: int = 50304, width: int = 64, ax: Axes | None = None
) -> Axes:
    """Temporary memory of the loss and gradients of a linear head, against its number of rows N.

    Args:
      rows: the values of N, of hidden ``[N, H]``, float32.
      classes: C, of weight ``[H, C]``, float32.
      width: H.
      ax: where to draw; default new axes.

    Returns:
      The axes, both logarithmic, in MiB.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from lossjax.plot import memory_against_rows
      >>> ax = memory_against_rows((256, 512), classes=512, ax=Figure().add_subplot())
      >>> ax.get_xlabel()
      'rows N, at 512 classes and width 64'

    Source: a measurement.
    """
    return _curves([(n, classes) for n in rows], width, rows, "rows N", f"{classes} classes", ax)


def _curves(
    shapes: Sequence[tuple[int, int]], width: int, along: Sequence[int], xlabel: str, fixed: str, ax: Axes | None
) -> Axes:
    ax = axes_or_new(ax)
    for name, (loss, style) in HEADS.items():
        sizes = []
        for rows, classes in shapes:
            hidden, weight = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((rows, width), (width, classes)))
            labels = jax.ShapeDtypeStruct((rows,), jnp.int32)
            compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(hidden, weight, labels).compile()
            analysis = compiled.memory_analysis()
            sizes.append(float("nan") if analysis is None else analysis.temp_size_in_bytes / 2**20)
        ax.loglog(along, sizes, label=name, gid=name, marker="o", **style)
    ax.set(xlabel=f"{xlabel}, at {fixed} and width {width}", ylabel="temporary memory, MiB")
    ax.set_xticks(along, [str(x) for x in along])
    ax.xaxis.minorticks_off()
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.legend(loc="upper left")
    return ax
