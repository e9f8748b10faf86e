"""Shared by the examples: tables of what was measured against what is promised; they fail if a promise is broken."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import lossjax
from lossjax.verify import oracle, ulp


class Measured(NamedTuple):
    """One quantity: its exact values, and the floats that lossjax and another implementation give for it."""

    quantity: str
    truth: ulp.Balls
    lossjax: Any
    other: Any
    other_name: str
    allowed: float = 8.0
    """What lossjax promises, in units of roundoff u of the truth (8u is at most 8 ulp)."""
    terms: ulp.Balls | None = None
    """The magnitude of the terms that the quantity is a sum of, where the promise is relative to them."""

    def largest(self, computed: Any) -> float:
        """The largest error in ulp."""
        return float(np.max(ulp.ulps(computed, self.truth, at=self.terms)))

    @property
    def ok(self) -> bool:
        """Whether lossjax keeps its promise, in u: up to twice as strict as the same number of ulp."""
        scale = None if self.terms is None else ulp.relative_to(self.terms)
        return bool(np.all(ulp.in_roundoffs(self.lossjax, self.truth, scale=scale) <= self.allowed))


def value_and_gradients(loss: Any, *arguments: Any) -> tuple[Any, ...]:
    """The values of an elementwise or row-wise loss, and its gradient in every argument."""
    value, pullback = jax.vjp(loss, *arguments)
    return value, *pullback(jnp.ones_like(value))


def cross_entropy_errors(logits: jax.Array, labels: Any) -> Iterator[Measured]:
    """The cross-entropy of integer labels and its gradient in the logits, by lossjax and by optax."""
    losses = (module.softmax_cross_entropy_with_integer_labels for module in (lossjax, optax))
    ours, theirs = (value_and_gradients(lambda logits, loss=loss: loss(logits, labels), logits) for loss in losses)
    label = np.asarray(labels)[:, None] == np.arange(logits.shape[-1])
    # From the textbook formula, in 256-bit ball arithmetic.
    with oracle.precision():
        value, gradient = oracle.softmax_cross_entropy(ulp.balls(logits), oracle.one_hot(labels, logits.shape[-1]))
    yield Measured("loss", value, ours[0], theirs[0], "optax")
    yield Measured("gradient at the label", gradient[label], ours[1][label], theirs[1][label], "optax")
    yield Measured("other gradients", gradient[~label], ours[1][~label], theirs[1][~label], "optax")


def _textbook(mean: jax.Array, targets: jax.Array, log_variance: jax.Array) -> jax.Array:
    """The Gaussian NLL as books print it, for JAX to differentiate."""
    variance = jnp.exp(log_variance)
    return jnp.log(2 * jnp.pi * variance) / 2 + (mean - targets) ** 2 / (2 * variance)


def gaussian_nll_errors(where: str, mean: jax.Array, targets: jax.Array, log_variance: jax.Array) -> Iterator[Measured]:
    """The NLL and its gradients, by lossjax and by the textbook, beside the exact ones for these very floats."""
    theirs = value_and_gradients(_textbook, mean, targets, log_variance)
    ours = value_and_gradients(lambda *a: lossjax.gaussian_nll(*a[:2], log_variance=a[2]), mean, targets, log_variance)
    with oracle.precision():
        s = ulp.balls(log_variance)
        value, in_mean, in_s = oracle.gaussian_nll(ulp.balls(mean), ulp.balls(targets), s)
        # ½(log 2π + s + q) and ½(1 - q) cancel by nature; what is promised is 8u of ½(log 2π + |s| + q) and ½(1 + q):
        terms, terms_in_s = value + (abs(s) - s) / 2, 1 - in_s
    yield Measured(f"{where}NLL", value, ours[0], theirs[0], "textbook", terms=terms)
    yield Measured(f"{where}gradient in μ", in_mean, ours[1], theirs[1], "textbook")
    yield Measured(f"{where}gradient in log σ²", in_s, ours[3], theirs[3], "textbook", terms=terms_in_s)


def squared_error_errors(mean: jax.Array, targets: jax.Array) -> Iterator[Measured]:
    """The same for the squared error and optax's; promised are 3u of the value and u of the gradient."""
    ours, theirs = (value_and_gradients(loss, mean, targets) for loss in (lossjax.squared_error, optax.squared_error))
    with oracle.precision():
        error = ulp.balls(mean) - ulp.balls(targets)
        value, in_mean = error * error, 2 * error
    yield Measured("squared error", value, ours[0], theirs[0], "optax", allowed=3)
    yield Measured("gradient of squared error", in_mean, ours[1], theirs[1], "optax", allowed=1)


def table(title: str, *headings: str) -> Table:
    """An empty table: names on the left, numbers on the right."""
    empty = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    for index, heading in enumerate(headings):
        empty.add_column(heading, style="" if index else "cyan", justify="right" if index else "left", no_wrap=True)
    return empty


def report_theorems(console: Console, title: str, statements: Iterable[tuple[str, Any, float]]) -> None:
    """Print how far each equality is off (its largest entry), and what is allowed; exit with a message if one fails."""
    result, broken = table(title, "theorem", "off by", "allowed"), []
    for statement, difference, allowed in statements:
        off = float(jnp.max(abs(difference)))
        result.add_row(statement, Text(f"{off:.0e}", style="green" if off <= allowed else "red"), f"≤ {allowed:.0e}")
        broken += [] if off <= allowed else [statement]
    console.print(result)
    if broken:
        sys.exit(f"does not hold here: {', '.join(broken)}")


def report_errors(console: Console, title: str, rows: list[Measured]) -> None:
    """Print the largest errors side by side; exit with a message if lossjax breaks a promise."""
    result = table(title, "largest error, in ulp", "lossjax", "promised", "others", "")
    for row in rows:
        ours, theirs = row.largest(row.lossjax), row.largest(row.other)
        result.add_row(
            f"{row.quantity}{' *' if row.terms is not None else ''}",
            Text(_number(ours), style="bold green" if row.ok else "bold red"),
            f"≤ {row.allowed:g}u",
            Text(_number(theirs), style="red" if theirs > row.allowed else ""),
            Text(row.other_name, style="dim"),
        )
    console.print(result)
    cancelling = " (*: at its terms)" if any(row.terms is not None for row in rows) else ""
    console.print(f"1 ulp: spacing of floats at the exact result{cancelling}; 8u: 4 to 8 ulp", style="dim")
    broken = [f"{row.quantity} ({_number(row.largest(row.lossjax))} ulp)" for row in rows if not row.ok]
    if broken:
        sys.exit(f"lossjax breaks its promise: {', '.join(broken)}")


def _number(x: float) -> str:
    """One decimal, or two digits and an exponent."""
    return f"{x:.1f}" if x < 1000 else f"{x:.1e}"
