"""What becomes of the logits before the softmax: a mask, a softcap and a temperature, each where it is used."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lossjax._core.xla import known_anew_on_chips
from lossjax._softmax.row_sum import shown
from lossjax.numerics import times


class LogitTransform(NamedTuple):
    """Softcap c and temperature T, each an array or None:  z = c·tanh(x/c)/T."""

    softcap: Array | None
    temperature: Array | None

    @property
    def is_identity(self) -> bool:
        return self.softcap is None and self.temperature is None

    def apply(self, x: Array) -> Array:
        z = x if self.softcap is None else self.softcap * jnp.tanh(x / self.softcap)
        return z if self.temperature is None else z / self.temperature

    def anew(self) -> "LogitTransform":
        """The same, for a pass over the logits that is to share no array with another one. (A CPU stores none.)"""
        if self.softcap is None:
            return self
        return self._replace(softcap=known_anew_on_chips(self.softcap))

    def derivatives(self, x: Array) -> tuple[Array, Array | None, Array | None]:
        """z, dz/dx and d²z/dx²; None for a slope of 1, and for no curvature."""
        slope = bend = None
        if self.softcap is not None:
            a = x / self.softcap
            slope, _ = _softcap_slopes(a)
            bend = -2 * jnp.tanh(a) * slope / self.softcap
        if self.temperature is not None:
            slope = (1 if slope is None else slope) / self.temperature
            bend = None if bend is None else bend / self.temperature
        return self.apply(x), slope, bend

    def pullback(self, x: Array, in_z: Array) -> "tuple[Array, LogitTransform]":
        """From the gradient in z those in x, c and T. An infinite logit has gradient 0, and no part in T's."""
        in_softcap = in_temperature = None
        if self.temperature is not None:
            z = self.apply(x)
            in_temperature = -jnp.sum(in_z * jnp.where(jnp.isfinite(z), z, 0)) / self.temperature
            in_z = in_z / self.temperature
        if self.softcap is not None:
            slope, in_cap = _softcap_slopes(x / self.softcap)
            in_softcap = jnp.sum(in_z * in_cap)
            in_z = in_z * slope
        return in_z, LogitTransform(in_softcap, in_temperature)


def _softcap_slopes(a: Array) -> tuple[Array, Array]:
    """``sech² a`` and ``tanh a - a sech² a`` (odd, 2a³/3 near 0), without cancellation at either end."""
    decay = jnp.exp(-2 * jnp.abs(a))
    slope = 4 * decay / (1 + decay) ** 2
    # tanh a - a sech²a = sech²a (sinh 2a - 2a)/2; the series of sinh y - y where y = 2a is below 2.
    y = jnp.where(jnp.abs(a) < 1, 2 * a, 0)
    term = total = y * y * y / 6
    for k in range(2, 10):
        term = term * y * y / ((2 * k) * (2 * k + 1))
        total = total + term
    far = jnp.tanh(a) - times(slope, a)
    return slope, jnp.where(jnp.abs(a) < 1, slope * total / 2, far)


class View(NamedTuple):
    """The logits that a softmax sees, of those that are stored: 0 in masked rows, capped, over the temperature.

    An array of them would be as large as the logits. So a sum over the classes takes the stored logits and this view,
    and forms what it sees of each class where it is used.
    """

    valid: Array | None = None
    """Whether a row counts, ``[..., 1]``, or None if every row does."""
    transform: LogitTransform = LogitTransform(None, None)

    def of(self, x: Array, dtype: Any) -> Array:
        """Of these stored logits; those of 16 bits stay so where nothing is done to them."""
        x = shown(x, self.valid)
        return x if self.transform.is_identity else self.transform.apply(x.astype(dtype))


AS_STORED = View()
