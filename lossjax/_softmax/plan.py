"""How the sums over the classes of a row are formed."""

from typing import Any, NamedTuple

from jax import Array


class Plan(NamedTuple):
    """How the sums over the classes are formed.

    ``over`` is the mesh axis that the classes are split over, or None. ``reused`` says that the exponentials are wanted
    twice, in the sum and in :func:`p_of`. The row is then summed by XLA's own reduction, whose one array of
    exponentials both uses share (in a backward pass it becomes the gradient's buffer), and not by pieces. ``empty``
    says that a row of nothing but -inf is defined: a sum of no terms, whose logarithm is -inf and has the gradient 0.
    """

    over: str | None = None
    reused: bool = False
    empty: bool = False

    @classmethod
    def of(cls, x: Array, dtype: Any, over: str | None = None, *, differentiated: bool) -> "Plan":
        """How to sum rows of these logits, of which a gradient in their own dtype is wanted, or none.

        Storing the exponentials pays only where their array can become the gradient's buffer. A 16-bit gradient is half
        as large, so for long rows the float32 exponentials would be a second, larger array: they are computed again.
        """
        roomy = x.dtype == dtype or x.shape[-1] <= LONGEST_WIDE_ROW
        return cls(over, reused=differentiated and roomy)


LONGEST_WIDE_ROW = 1024
"""Up to this many classes the exponentials of 16-bit logits are stored in float32 for the backward pass."""

ONE_DEVICE = Plan()
