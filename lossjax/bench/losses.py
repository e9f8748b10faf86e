"""Losses of stored logits with their options, and divergences, as problems: each beside the same written on optax."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

import lossjax
from lossjax.accelerators.suite import optax_js_divergence, optax_kl_divergence

Pass = Literal["forward", "value_and_grad"]
"""What is timed of a problem."""
CAP, SMOOTHING, Z_LOSS, TEMPERATURE = 30.0, 0.1, 1e-4, 2.0


class Pair(NamedTuple):
    """One loss of logits and a second argument, by lossjax and as it is usually written."""

    second: Literal["labels", "distributions", "logits"]
    ours: Callable[[Array, Array], Array]
    usual: Callable[[Array, Array], Array]


_usual_of_labels = optax.losses.softmax_cross_entropy_with_integer_labels


def _labels(**options: Any) -> Callable[[Array, Array], Array]:
    return lambda z, y: lossjax.softmax_cross_entropy_with_integer_labels(z, y, **options)


def _smoothed(z: Array, y: Array) -> Array:
    targets = optax.losses.smooth_labels(jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype), SMOOTHING)
    return optax.losses.softmax_cross_entropy(z, targets)


def _with_z_loss(z: Array, y: Array) -> Array:
    return _usual_of_labels(z, y) + Z_LOSS * jax.nn.logsumexp(z, axis=-1) ** 2


def _kept(y: Array) -> Array:
    """Three rows of four: the others are padding."""
    return y % 4 != 0


def _weights_of(classes: int, dtype: Any = jnp.float32) -> Array:
    return jnp.linspace(0.5, 2.0, classes, dtype=dtype)


OPTIONS: dict[str, Pair] = {
    "label smoothing": Pair("labels", _labels(label_smoothing=SMOOTHING), _smoothed),
    "z-loss": Pair("labels", _labels(z_loss=Z_LOSS), _with_z_loss),
    "softcap": Pair(
        "labels", _labels(logit_softcap=CAP), lambda z, y: _usual_of_labels(CAP * jnp.tanh(z / CAP), y)
    ),
    "temperature": Pair(
        "labels", _labels(temperature=TEMPERATURE), lambda z, y: _usual_of_labels(z / TEMPERATURE, y)
    ),
    "mask": Pair(
        "labels",
        lambda z, y: lossjax.softmax_cross_entropy_with_integer_labels(z, y, where=_kept(y)),
        lambda z, y: jnp.where(_kept(y), _usual_of_labels(z, y), 0),
    ),
    "class weights": Pair(
        "labels",
        lambda z, y: lossjax.softmax_cross_entropy_with_integer_labels(z, y, class_weights=_weights_of(z.shape[-1])),
        lambda z, y: _usual_of_labels(z, y) * jnp.take(_weights_of(z.shape[-1], z.dtype), y),
    ),
    "three dimensions": Pair(
        "labels",
        lambda z, y: _labels()(*_in_sequences(z, y)).reshape(-1),
        lambda z, y: _usual_of_labels(*_in_sequences(z, y)).reshape(-1),
    ),
    "distributions": Pair("distributions", lossjax.softmax_cross_entropy, optax.losses.softmax_cross_entropy),
}  # fmt: skip
"""By the name that tables show."""
DIVERGENCES: dict[str, Pair] = {
    "KL": Pair("logits", lossjax.softmax_kl_divergence, optax_kl_divergence),
    "JS": Pair("logits", lossjax.softmax_js_divergence, optax_js_divergence),
}
PAIRS = OPTIONS | DIVERGENCES


def _in_sequences(z: Array, y: Array) -> tuple[Array, Array]:
    """The rows as two sequences."""
    return z.reshape(2, -1, z.shape[-1]), y.reshape(2, -1)


@dataclasses.dataclass(frozen=True)
class LogitLoss:
    """The mean of a loss of N rows of V logits; with "value_and_grad", also its gradient in the logits."""

    loss: str
    rows: int
    classes: int
    dtype: str = "float32"
    what: Pass = "value_and_grad"
    kind = "logits"

    @property
    def name(self) -> str:
        """The name that tables show."""
        return f"{self.loss}, {self.what} ({self.rows}, {self.classes}) {self.dtype}"

    def data(self) -> tuple[Array, Array]:
        """Logits of standard deviation 4, and what the loss takes beside them."""
        one, two = jax.random.split(jax.random.key(0))
        logits = 4 * jax.random.normal(one, (self.rows, self.classes), jnp.float32)
        second = PAIRS[self.loss].second
        if second == "labels":
            return logits.astype(self.dtype), jax.random.randint(two, (self.rows,), 0, self.classes)
        others = 4 * jax.random.normal(two, (self.rows, self.classes), jnp.float32)
        others = jax.nn.softmax(others) if second == "distributions" else others
        return logits.astype(self.dtype), others.astype(self.dtype)

    def argnums(self) -> tuple[int, ...]:
        """The positions of the arguments to differentiate: both rows of a divergence."""
        return (0, 1) if PAIRS[self.loss].second == "logits" else (0,)

    def truth(self, *_: Array) -> None:
        """None: what the losses' digits are is certified (docs/accuracy.md)."""
        return

    def step(self, of_rows: Callable[[Array, Array], Array]) -> Callable[..., Any]:
        """What is timed: the mean of these rows, with its gradient if that is asked for."""

        def mean(z: Array, second: Array) -> Array:
            return jnp.mean(of_rows(z, second))

        return mean if self.what == "forward" else jax.value_and_grad(mean, self.argnums())


def suite(names: Sequence[str], shapes: Sequence[tuple[int, int]]) -> list[LogitLoss]:
    """These losses in these shapes, in both widths, with the gradient and, of divergences, without."""
    return [
        LogitLoss(name, rows, classes, dtype, what)
        for name in names for rows, classes in shapes for dtype in ("float32", "bfloat16")
        for what in ("forward", "value_and_grad") if what == "value_and_grad" or name in DIVERGENCES
    ]  # fmt: skip
