"""From one loss per row (or entry) to the result: which count, by what weight, and none | sum | mean."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.masks import hide
from lossjax._core.options import Option, complete
from lossjax._core.xla import total

Reduction = Literal["none", "sum", "mean"]


class MaskOption(TypedDict, total=False):
    """Which losses count, by a mask."""

    where: Annotated[
        ArrayLike | None,
        Option(
            None,
            "``[...]`` booleans of the shape of the unreduced loss; where False, it contributes exactly 0 to the value "
            "and to every gradient, whatever the arguments hold there.",
        ),
    ]


class WeightOptions(TypedDict, total=False):
    """By what the losses are multiplied, and by what their sum is divided."""

    weights: Annotated[
        ArrayLike | None,
        Option(
            None,
            "``[...]`` floats of the shape of the unreduced loss and of any sign, which multiply it; "
            '"mean" divides by their sum. A weight of 0 does not hide a NaN: ``where`` does.',
        ),
    ]
    normalizer: Annotated[
        ArrayLike | None,
        Option(
            None,
            "a number that divides the result, whatever the reduction; "
            '"mean" divides by it in place of the sum of the weights. 0/0 counts as 0.',
        ),
    ]


class ReductionOptions(WeightOptions, total=False):
    """What becomes of the losses that count."""

    reduction: Annotated[
        Reduction,
        Option(
            "none",
            '"none", "sum", or "mean", which divides by the number of losses that count, or by the sum of their '
            "weights; an empty mean is 0 (PyTorch: NaN).",
        ),
    ]


class CountedOptions(MaskOption, ReductionOptions, total=False):
    """Which losses count, and what becomes of them."""


class Reducer(NamedTuple):
    """The options of a reduction, checked."""

    how: str
    valid: Array | None = None
    weights: Array | None = None
    normalizer: Array | None = None

    @classmethod
    def of(cls, shape: tuple[int, ...], options: Mapping[str, Any]) -> "Reducer":
        """Check those of the options that are :class:`CountedOptions`, for losses of this shape."""
        given = complete(CountedOptions, options)
        return cls(
            checks.reduction(given["reduction"]),
            checks.mask("where", given["where"], shape),
            checks.row_weights("weights", given["weights"], shape),
            None if given["normalizer"] is None else checks.scalar("normalizer", given["normalizer"]),
        )

    def only(self, counted: Array) -> "Reducer":
        """The same reduction of those losses alone."""
        return self._replace(valid=counted if self.valid is None else self.valid & counted)

    def __call__(self, losses: Array, own_weights: Array | None = None) -> Array:
        """The result, in the widest dtype of losses, weights and normalizer.

        Args:
          losses: one per row, any shape; what masked rows hold is not felt.
          own_weights: weights that the losses contain already; "mean" counts them.
        """
        losses = self.weighted(losses)
        if self.how == "none":
            return self._normalized(losses)
        scale = _scale(losses.shape) if self.how == "mean" and self.normalizer is None else 1.0
        return self.of_total(total(losses * scale, axis=None), losses.shape, own_weights, scale)

    def weighted(self, losses: Array) -> Array:
        """The losses times their weights, 0 where masked."""
        dtype = self._dtype(losses)
        losses = hide(self.valid, losses.astype(dtype))
        return losses if self.weights is None else hide(self.valid, self.weights).astype(dtype) * losses

    def of_total(
        self, summed: Array, shape: tuple[int, ...], own_weights: Array | None = None, scale: float = 1.0
    ) -> Array:
        """The result for the known sum, times ``scale``, of losses of this shape, which were masked and weighted."""
        summed = summed.astype(self._dtype(summed))
        if self.how == "sum" or self.normalizer is not None:
            return self._normalized(summed)
        if self.valid is None and self.weights is None and own_weights is None:
            count = math.prod(shape)
            return summed / (count * scale) if count else summed
        counted = hide(self.valid, jnp.ones(shape, summed.dtype))
        for weights in (own_weights, self.weights):
            counted = counted if weights is None else counted * hide(self.valid, weights).astype(summed.dtype)
        mass = total(counted * scale, axis=None)
        return _quotient(summed, mass, nothing=(mass == 0) & ~jnp.isnan(summed))

    def _normalized(self, losses: Array) -> Array:
        if self.normalizer is None:
            return losses
        divisor = self.normalizer.astype(losses.dtype)
        # Where no row of any batch counts, their common count is 0.
        return _quotient(losses, divisor, nothing=(divisor == 0) & (losses == 0))

    def _dtype(self, losses: Array) -> Any:
        given = [x for x in (self.weights, self.normalizer) if x is not None]
        return checks.compute_dtype(losses, *(x for x in given if jnp.issubdtype(x.dtype, jnp.floating)))


def _scale(shape: tuple[int, ...]) -> float:
    """A power of two, by which scaled losses have a sum that is no larger than the largest of them.

    So a mean of large losses does not overflow on the way, and no digit changes. (Symbolic shapes have none.)
    """
    count = math.prod(shape)
    return 2.0 ** -math.ceil(math.log2(count)) if isinstance(count, int) and count else 1.0


def _quotient(dividend: Array, divisor: Array, *, nothing: Array) -> Array:
    """``dividend/divisor``, and 0 with zero gradient where there is nothing to divide."""
    safe = jnp.where(nothing, 1, divisor)
    # JAX's derivative of a/b has b^-2, which overflows long before 1/b; that of (a/k)/(b/k), k = b constant, has not.
    usual = jnp.isfinite(safe) & (safe != 0)
    constant = lax.stop_gradient(jnp.where(usual, safe, 1))
    return jnp.where(nothing, 0, dividend / constant / (safe / constant))
