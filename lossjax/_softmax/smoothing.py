"""Label smoothing of labels and of distributions."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._softmax.row_sum import class_count, sum_over_classes


class Smoothing(NamedTuple):
    """Label smoothing: amount ε, spread over all classes (ε/C) or over the other classes (ε/(C-1))."""

    amount: Array
    over_others: bool

    def shares(self, classes: int) -> tuple[Array, Array]:
        """Of a label's distribution, the entry at the label and that at each other class; neither is negative."""
        sharers = classes - 1 if self.over_others else classes
        if isinstance(sharers, int) and not sharers:  # one class, and no other
            return 1 - self.amount, jnp.zeros_like(self.amount)
        each = self.amount / jnp.asarray(sharers, self.amount.dtype)
        return 1 - self.amount if self.over_others else (1 - self.amount) + each, each

    def apply(self, targets: Array, over: str | None = None, mass: Array | None = None) -> Array:
        """Smoothed distributions of the same mass, if that is known already. Linear, and its own transpose."""
        at_label, each = self.shares(class_count(targets, over))
        return (at_label - each) * targets + each * (sum_over_classes(targets, over) if mass is None else mass)

    def slope(self, targets: Array, over: str | None = None) -> Array:
        """The derivative of the smoothed distributions in ε, of which they are a linear function."""
        whole = self._replace(amount=jnp.ones_like(self.amount))
        return whole.apply(targets, over) - targets
