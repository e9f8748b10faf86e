"""What targets may be: one rule for every loss.

A target outside its loss's domain (a negative probability, a 0/1 label of a hinge loss) has no loss. Its entry, or its
row, is NaN in the value and in every gradient, never a plausible number, and under ``jax.experimental.checkify`` an
error names it. Masked entries may hold anything.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._core.masks import hide
from lossjax._core.user_checks import Wrong, none_wrong
from lossjax._core.xla import unstored_nan_unless


class Domain(NamedTuple):
    """The numbers that a target may be.

    Attributes:
      contains: which entries (or rows) of an array are in the domain; NaN is in none but the real numbers.
      described: the domain in words, as they follow "must be".
    """

    contains: Callable[[Array], Array]
    described: str

    def of_targets(self, losses: Array, targets: Array, counted: Array | None) -> Array:
        """The losses, NaN (in value and gradient) where the target that counts is outside, which ``checkify`` names."""
        if self is REALS:
            return losses
        targets = self.named("targets", targets, counted)
        return unstored_nan_unless(hide(counted, self.contains(targets), True), losses)

    def named(self, name: str, values: Array, counted: Array | None = None) -> Array:
        """The values, to be used in their place; ``checkify`` names the first that counts and is outside.

        Args:
          name: what the values are called.
          values: floats.
          counted: booleans, one per row (or per entry); what they mask may hold anything.
        """
        if self is REALS:
            return values
        message = f"{name} must be {self.described}, got {{value}} at entry {{row}} of the flattened array"
        every = None if counted is None else jnp.broadcast_to(_per_row(counted, values), values.shape)
        return none_wrong(Wrong(message, self._excludes), values, every)

    def _excludes(self, values: Array) -> Array:
        return jnp.broadcast_to(_per_row(~self.contains(values), values), values.shape)


def _per_row(rows: Array, array: Array) -> Array:
    return rows.reshape(rows.shape + (1,) * (array.ndim - rows.ndim))


REALS = Domain(lambda y: jnp.ones_like(y, bool), "real numbers")
FRACTIONS = Domain(lambda y: (y >= 0) & (y <= 1), "in [0, 1]")
AMOUNTS = Domain(lambda y: y >= 0, "at least 0")
SIGNS = Domain(lambda y: (y == 1) | (y == -1), "-1 or 1")
