"""What measures of information share, of probabilities and of logits: their options, written once, and the check."""

import functools
from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypedDict

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.domains import Domain
from lossjax._core.elementwise import EntryOptions
from lossjax._core.masks import nan_unless
from lossjax._core.options import Option, complete
from lossjax._core.platform import by_platform
from lossjax._core.reduction import Reducer, ReductionOptions
from lossjax._core.xla import total, unstored_nan_unless
from lossjax._softmax.classes import Classes
from lossjax._softmax.options import TemperatureOption
from lossjax.numerics import per_nat


class BaseOption(TypedDict, total=False):
    """In which unit information is measured."""

    base: Annotated[
        float | None,
        Option(
            None, "the base of the logarithm, greater than 1; None stands for e (nats), 2 for bits, 10 for hartleys."
        ),
    ]


class InformationOptions(BaseOption, EntryOptions, total=False):
    """The options of the information of single events."""


class MeasureOptions(BaseOption, ReductionOptions, total=False):
    """The options of a measure of information."""

    axis: Annotated[
        int | Sequence[int],
        Option(-1, "the axis along which the outcomes (or the classes) are, or several axes that are taken as one."),
    ]
    where: Annotated[
        ArrayLike | None,
        Option(
            None,
            "booleans, one per row (``[...]``) or one per outcome (of the shape of the arguments). A False row, and a "
            "row without any outcome that counts, contributes exactly 0 to the value and to every gradient, whatever "
            "the arguments hold there; an outcome that does not count is taken as impossible.",
        ),
    ]


class LogitMeasureOptions(MeasureOptions, TemperatureOption, total=False):
    """The options of a measure of information of logits."""


class Measure(NamedTuple):
    """The options of a measure, checked: which outcomes count, the unit, and what becomes of the rows."""

    classes: Classes
    base: float | None
    reducer: Reducer

    @classmethod
    def of(cls, name: str, array: Array, options: MeasureOptions) -> "Measure":
        """Check the options for an array of this name."""
        given = complete(MeasureOptions, options)
        classes = Classes.of(name, array, given, rows=True)
        reducer = Reducer.of(classes.rows_shape(), {**given, "where": classes.rows()})
        return cls(classes, checks.base(given["base"]), reducer)

    def outcomes(self, name: str, probabilities: Array, domain: Domain) -> Array:
        """The outcomes last, 0 where they do not count; ``checkify`` names one that is outside the domain."""
        return self.classes.last(domain.named(name, self.classes.only(probabilities, 0)))

    def total(self, terms: Array, domain: Domain, *outcomes: Array) -> Array:
        """The sum of each row's terms, NaN in value and gradient where one of its outcomes is outside the domain.

        The sums, not the outcomes, are made NaN: so a program for a GPU or TPU reads these once for both.
        """
        inside = functools.reduce(jnp.logical_and, map(domain.contains, outcomes))
        return by_platform(terms, inside, otherwise=_checked_beside, accelerator=_checked_within)

    def from_nats(self, measured: Array) -> Array:
        """The result, from one number of nats per row."""
        return self.reducer(measured * per_nat(self.base))


def _checked_beside(terms: Array, inside: Array) -> Array:
    return nan_unless(jnp.all(inside, axis=-1), total(terms))


def _checked_within(terms: Array, inside: Array) -> Array:
    """By one sum: a TPU's compiler makes a reading of each."""
    summed = total(unstored_nan_unless(inside, terms))
    return nan_unless(~jnp.isnan(summed), summed)
