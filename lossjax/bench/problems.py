"""The problems that are timed: losses of stored logits, and linear heads, each with its data and exact results."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lossjax.bench.heads import HeadLoss
from lossjax.bench.heads import suite as heads
from lossjax.bench.losses import DIVERGENCES, OPTIONS, LogitLoss, Pass
from lossjax.bench.losses import suite as losses


@dataclasses.dataclass(frozen=True)
class Rows:
    """The mean loss of N rows of V logits; with "value_and_grad", also its gradient in the logits."""

    rows: int
    classes: int
    dtype: str = "float32"
    what: Pass = "value_and_grad"
    kind = "rows"

    @property
    def name(self) -> str:
        """The name that tables show."""
        return f"{self.what} ({self.rows}, {self.classes}) {self.dtype}"

    def data(self) -> tuple[Array, Array]:
        """Logits of standard deviation 4, and labels. A quarter of the rows is confident and right."""
        logits = 4 * jax.random.normal(jax.random.key(0), (self.rows, self.classes), jnp.float32)
        labels = jax.random.randint(jax.random.key(1), (self.rows,), 0, self.classes)
        sure = jnp.arange(0, self.rows, 4)
        logits = logits.at[sure, labels[sure]].add(40.0)
        return logits.astype(self.dtype), labels

    def argnums(self) -> tuple[int, ...]:
        """The positions of the arguments to differentiate."""
        return (0,)

    def truth(self, logits: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
        """Losses of the first rows, and their gradients, in extended precision.

        (``lossjax.verify.oracle`` is exact, but takes seconds for this many classes.)
        """
        z = np.asarray(logits[:TRUE_ROWS].astype(jnp.float32)).astype(np.longdouble)
        y = np.asarray(labels[:TRUE_ROWS])
        rows = np.arange(len(y))
        z = z - z.max(axis=1, keepdims=True)
        exponential = np.exp(z)
        own = exponential[rows, y].copy()
        exponential[rows, y] = 0
        rest = exponential.sum(axis=1)
        # log(own + rest) - log(own) would cancel at a confident label; log1p(rest/own) does not.
        losses = np.log1p(rest / own)
        gradient = exponential / (own + rest)[:, None]
        gradient[rows, y] = -rest / (own + rest)
        return losses, gradient


@dataclasses.dataclass(frozen=True)
class Head:
    """The mean loss of a linear head, with its gradients in hidden and weight."""

    rows: int
    hidden: int
    classes: int
    dtype: str = "float32"
    what: Pass = "value_and_grad"
    kind = "head"

    @property
    def name(self) -> str:
        """The name that tables show."""
        return f"head ({self.rows}, {self.hidden}, {self.classes}) {self.dtype}"

    def data(self) -> tuple[Array, Array, Array]:
        """Hidden states of standard deviation 1, a weight for which the logits have that too, and labels."""
        hidden = jax.random.normal(jax.random.key(0), (self.rows, self.hidden), jnp.float32)
        weight = jax.random.normal(jax.random.key(1), (self.hidden, self.classes), jnp.float32) / self.hidden**0.5
        labels = jax.random.randint(jax.random.key(2), (self.rows,), 0, self.classes)
        return hidden.astype(self.dtype), weight.astype(self.dtype), labels

    def argnums(self) -> tuple[int, ...]:
        """The positions of the arguments to differentiate."""
        return (0, 1)

    def truth(self, *_: Array) -> None:
        """None, because the rounding of the logits would hide every other error."""
        return


Problem = Rows | Head | HeadLoss | LogitLoss
TRUE_ROWS = 16


def _rowwise(shapes: Sequence[tuple[int, int]]) -> list[Problem]:
    passes: tuple[Pass, ...] = ("forward", "value_and_grad")
    return [Rows(n, v, dtype, what) for n, v in shapes for dtype in ("float32", "bfloat16") for what in passes]


SUITES: dict[str, Callable[[], Sequence[Problem]]] = {
    "rows": lambda: _rowwise([(65536, 10), (4096, 1000), (1024, 32768), (1024, 50257), (512, 131072)]),
    "head": lambda: [Head(2048, 512, 50304), Head(2048, 512, 50304, "bfloat16")],
    "heads": lambda: heads(2048, 512, 50304),
    "options": lambda: losses(list(OPTIONS), [(4096, 1000), (1024, 32768)]),
    "divergences": lambda: losses(list(DIVERGENCES), [(65536, 10), (4096, 1000), (1024, 32768), (256, 131072)]),
    "growth": lambda: (
        [Head(b, 256, 32768) for b in (256, 512, 1024, 2048)] + [Head(512, 256, v) for v in (8192, 16384, 65536)]
    ),
    "large": lambda: [Head(8192, 2304, v, dtype) for dtype in ("bfloat16", "float32") for v in (32768, 131072, 256000)],
    "quick": lambda: [Rows(32, 10), Rows(8, 2048, "bfloat16", "forward"), Head(64, 16, 512)],
}
"""The suites that ``lossjax bench --suite`` offers, by name; "heads" is for post-training, "large" for accelerators.
Losses with "options", and "divergences", are beside the same as they are usually written on optax."""
