"""The classes of an array: along which axes they lie, which of them count, and the temperature of their logits."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.autodiff import scalar_rule
from lossjax._core.options import Option
from lossjax._softmax.options import AxisOption, TemperatureOption, classes_last


class FunctionOptions(AxisOption, TemperatureOption, total=False):
    """The options of a function of a row of logits."""

    where: Annotated[
        ArrayLike | None,
        Option(
            None,
            "``[..., C]`` booleans of the shape of the logits; where False, the class counts as impossible, whatever "
            "its logit is, and its gradient is exactly 0.",
        ),
    ]


class Classes(NamedTuple):
    """Where the classes of an array of this shape are, and which of them count: booleans of its shape, or None."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    counted: Array | None

    @classmethod
    def of(cls, name: str, array: Array, options: Mapping[str, Any], *, rows: bool = False) -> "Classes":
        """Check ``axis`` and ``where``, which is of the shape of the array or, with ``rows``, of that of its rows."""
        axes = checks.class_axis(array, name, options.get("axis", -1))
        where = options.get("where")
        if where is None:
            return cls(array.shape, axes, None)
        mask, of_rows = checks.boolean("where", where), cls(array.shape, axes, None).rows_shape()
        if rows and mask.ndim == len(of_rows):
            checks.same_shape("where", mask.shape, "of the rows", of_rows, f"or give a boolean per entry of {name}")
            mask = jnp.broadcast_to(jnp.expand_dims(mask, sorted(axes)), array.shape)
        checks.same_shape("where", mask.shape, f"of {name}", array.shape, "give one boolean per class")
        return cls(array.shape, axes, mask)

    def rows_shape(self) -> tuple[int, ...]:
        """The shape without the class axes."""
        return tuple(size for a, size in enumerate(self.shape) if a not in self.axes)

    def last(self, array: Array) -> Array:
        """The class axes moved last, and flattened into one."""
        return classes_last(array, self.axes)

    def back(self, array: Array) -> Array:
        """The inverse of :meth:`last`."""
        rest = [a for a in range(len(self.shape)) if a not in self.axes]
        order = [*rest, *self.axes]
        moved = array.reshape([self.shape[a] for a in order])
        return jnp.transpose(moved, [order.index(a) for a in range(len(order))])

    def only(self, array: Array, otherwise: float) -> Array:
        """The array of this shape where its classes count, and another number elsewhere."""
        return array if self.counted is None else jnp.where(self.counted, array, otherwise)

    def rows(self) -> Array | None:
        """The rows that have a class that counts."""
        return None if self.counted is None else jnp.any(self.counted, axis=self.axes)

    def logits(self, z: Array, temperature: ArrayLike, dtype: Any) -> Array:
        """Logits over the temperature, the classes last, -inf where they do not count."""
        divisor = checks.number("temperature", temperature, dtype, positive=True)
        z = self.only(z, -jnp.inf)
        return self.last(z if checks.is_known(temperature, 1) else divided(z.astype(dtype), divisor))

    def defined(self, z: Array) -> Array:
        """These logits, the classes last, with 0 in rows that have no class that counts: their softmax is no NaN."""
        rows = self.rows()
        return z if rows is None else jnp.where(rows[..., None], z, 0)


def _in_temperature(g: Array, z: Array, temperature: Array) -> Array:
    return -g * (jnp.where(jnp.isfinite(z), z, 0) / temperature) / temperature


@scalar_rule(lambda g, z, temperature: g / temperature, _in_temperature)
def divided(z: Array, temperature: Array) -> Array:
    """``z/T``. An infinite logit, whose gradient is 0, has no part in that of T."""
    return z / temperature
