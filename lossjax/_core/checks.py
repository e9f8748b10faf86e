"""Argument checks at trace time: each error says what came, what was wanted, and what to do."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from lossjax._core.masks import nan_unless
from lossjax._core.user_checks import Wrong, none_wrong

REDUCTIONS = ("none", "sum", "mean")


def is_concrete(value: object) -> bool:
    """Whether the value can be looked at now (not traced)."""
    return not isinstance(value, Tracer)


def as_array(name: str, value: ArrayLike, wanted: str) -> Array:
    """The value as an array; TypeError for None, a string, and whatever else JAX makes no array of."""
    try:
        if value is not None:
            return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError(f"{name} must be {wanted}, got {value!r}; give an array, or numbers that make one")


def floating(name: str, value: ArrayLike, *, remedy: str = "convert it, as by .astype(jnp.float32)") -> Array:
    """The value as a floating-point array; TypeError for integers, booleans and complex numbers."""
    array = as_array(name, value, "floating-point")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating-point, got {array.dtype}[{_dims(array.shape)}]; {remedy}")
    return array


def integer_labels(name: str, value: ArrayLike) -> Array:
    """The value as an integer array; TypeError for floats and booleans."""
    array = as_array(name, value, "integer class indices")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"{name} must be integer class indices, got {array.dtype}[{_dims(array.shape)}]; "
            "for distributions over classes use softmax_cross_entropy, for indices convert with .astype(jnp.int32)"
        )
    return array


def compute_dtype(*arrays: Array | None) -> Any:
    """The dtype to compute in: that of JAX's arithmetic of the arguments, and float32 at least, for 16-bit ones.

    Python numbers, and arrays made of them alone, are weakly typed: they take the dtype of the others. Where nothing
    else is given they keep their own, which is float64 under ``jax_enable_x64``.
    """
    given = [array for array in arrays if array is not None]
    decisive = [array for array in given if not array.weak_type] or given
    return max((jnp.dtype(jnp.float32), *(array.dtype for array in decisive)), key=lambda d: jnp.finfo(d).bits)


def same_shape(name: str, shape: Sequence[int], wanted_name: str, wanted: Sequence[int], remedy: str) -> None:
    """ValueError unless two shapes agree. Nothing broadcasts silently."""
    if tuple(shape) != tuple(wanted):
        raise ValueError(f"{name} has shape {_shape(shape)}, wanted {_shape(wanted)} {wanted_name}; {remedy}")


def broadcastable(name: str, shape: Sequence[int], wanted: Sequence[int]) -> None:
    """ValueError unless ``shape`` broadcasts to ``wanted`` without changing it."""
    try:
        fits = jnp.broadcast_shapes(tuple(shape), tuple(wanted)) == tuple(wanted)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} has shape {_shape(shape)}, wanted one that broadcasts to {_shape(wanted)}; "
            f"give a scalar, or reshape {name}"
        )


def axes(name: str, axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """The axis or axes as distinct non-negative integers; ValueError if one does not exist, TypeError if no integer."""
    given = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    for one in given:
        if isinstance(one, bool) or not hasattr(one, "__index__") or np.ndim(one):
            raise TypeError(f"{name} must be an integer or a tuple of integers, got {axis!r}")
        if not -ndim <= one < ndim:
            raise ValueError(f"{name}={axis!r} does not exist among {ndim} dimensions; use {-ndim} to {ndim - 1}")
    positive = tuple(int(one) % ndim for one in given)
    if not positive or len(set(positive)) < len(positive):
        raise ValueError(f"{name}={axis!r} must name at least one axis, and none twice")
    return positive


def class_axis(array: Array, name: str, axis: int | Sequence[int]) -> tuple[int, ...]:
    """The class axis or axes of ``array``, checked to exist and to hold at least one class."""
    if array.ndim == 0:
        raise ValueError(f"{name} is a scalar, wanted at least the class axis; give an array of shape [..., C]")
    positive = axes("axis", axis, array.ndim)
    if math.prod(array.shape[a] for a in positive) == 0:
        raise ValueError(f"{name} has shape {_shape(array.shape)} with no class along {axis!r}; wanted at least 1")
    return positive


def one_class_axis(array: Array, name: str, axis: int) -> tuple[int]:
    """A single class axis, as a tuple of one."""
    positive = class_axis(array, name, axis)
    if len(positive) != 1:
        raise ValueError(f"axis must be one integer here, got {axis!r}")
    return (positive[0],)


def boolean(name: str, value: ArrayLike) -> Array:
    """A boolean array; TypeError for numbers."""
    array = as_array(name, value, "boolean")
    if array.dtype != jnp.bool_:
        raise TypeError(
            f"{name} must be boolean (True = counted), got {array.dtype}; write {name} != 0 for a mask of numbers"
        )
    return array


def mask(name: str, value: ArrayLike | None, shape: Sequence[int]) -> Array | None:
    """A boolean mask of exactly the given shape, or None."""
    if value is None:
        return None
    array = boolean(name, value)
    same_shape(name, array.shape, "of the rows", shape, "the mask has one entry per row")
    return array


def reduction(value: str) -> str:
    """One of none, sum, mean."""
    if not isinstance(value, str) or value not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {value!r}")
    return value


def static_nonnegative(name: str, value: object) -> float:
    """A static number, at least 0 and finite."""
    if not is_concrete(value):
        raise TypeError(f"{name} is traced, wanted a Python number; it has no derivative here: close over it")
    number = _plain_number(name, value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {number}")
    return number


def _plain_number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a real number, got {value!r}") from error


def flag(name: str, value: object) -> bool:
    """True or False, and nothing that is merely true of Python, such as the string "False"."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def integer(name: str, value: object) -> int:
    """A Python integer (no boolean)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return int(value)


def ignored_label(name: str, value: ArrayLike, labels: Array) -> Array | None:
    """An integer scalar, which may be traced, in the dtype of the labels; None for a negative one if they have no sign.

    The usual -100 then ignores nothing. Any other number that no label can be is refused.
    """
    array = value if isinstance(value, int) else as_array(name, value, "an integer")
    if isinstance(value, bool) or jnp.shape(array) != () or not jnp.issubdtype(jnp.result_type(array), jnp.integer):
        raise TypeError(f"{name} must be one integer, got {value!r}; give the label of the rows to be left out")
    if is_concrete(array):
        limits, number = jnp.iinfo(labels.dtype), int(np.asarray(array))
        if limits.min == 0 and limits.min > number >= np.iinfo(np.int32).min:
            return None
        if not limits.min <= number <= limits.max:
            raise ValueError(
                f"{name} must be a number of the labels' dtype {labels.dtype}, got {number}; "
                f"give one from {limits.min} to {limits.max}, as no label can be another"
            )
        array = np.asarray(number, labels.dtype)
    return jnp.asarray(array).astype(labels.dtype)


def real(name: str, value: ArrayLike, dtype: Any) -> Array:
    """A real scalar in this dtype."""
    return scalar(name, value).astype(dtype)


def scalar(name: str, value: ArrayLike) -> Array:
    """A real scalar."""
    array = as_array(name, value, "a real number")
    if array.shape != () or not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise TypeError(f"{name} must be a real scalar, got {array.dtype}[{_dims(array.shape)}]")
    return array


def number(name: str, value: ArrayLike, dtype: Any, *, positive: bool, at_most: float = math.inf) -> Array:
    """A real scalar, greater than 0 (``positive``) or at least 0, and at most a bound; NaN if traced and not."""
    scalar = real(name, value, dtype)
    if is_concrete(value):
        known = float(np.asarray(value))
        if not (known > 0 if positive else known >= 0):
            raise ValueError(f"{name} must be {'greater than' if positive else 'at least'} 0, got {known}")
        if known > at_most:
            raise ValueError(f"{name} must be at most {at_most}, got {known}")
        return scalar
    return _within(scalar, at_most)


def _within(value: Array, at_most: float = math.inf) -> Array:
    """A traced value, NaN where it is negative or too large.

    0 is let pass where it is not allowed: a subnormal number may have been flushed to it.
    """
    return value + nan_unless((value >= 0) & (value <= at_most), jnp.zeros_like(value))


def is_known(value: ArrayLike, number: float) -> bool:
    """Whether a scalar can be looked at and equals ``number``: an option at its default costs nothing."""
    return is_concrete(value) and np.ndim(value) == 0 and float(np.asarray(value)) == number


def number_or_array(name: str, value: ArrayLike) -> Array:
    """A floating-point array; Python numbers and integers as weakly typed ones, which follow the other arguments."""
    known = float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    array = as_array(name, known, "a real number")
    if jnp.issubdtype(array.dtype, jnp.integer):
        with jax.numpy_dtype_promotion("standard"):
            array = array * 1.0
    return floating(name, array)


def nonnegative(name: str, value: ArrayLike, *, at_most: float = math.inf) -> Array:
    """The value as a floating-point array, from 0 to a bound; traced entries that are not are NaN."""
    array = number_or_array(name, value)
    if is_concrete(value):  # numpy: under jit, jnp would be traced
        known = np.asarray(value)
        if not np.all(known >= 0):
            raise ValueError(f"{name} must be at least 0, got a minimum of {float(np.min(known))}")
        if not np.all(known <= at_most):
            raise ValueError(f"{name} must be at most {at_most}, got a maximum of {float(np.max(known))}")
        return array
    return _within(array, at_most)


def positive(name: str, value: ArrayLike) -> Array:
    """The value as a floating-point array, greater than 0; traced entries that are not are NaN."""
    array = number_or_array(name, value)
    if not is_concrete(value):
        return _within(array)
    if not np.all(np.asarray(value) > 0):
        raise ValueError(f"{name} must be greater than 0, got a minimum of {float(np.min(np.asarray(value)))}")
    return array


def nonnegative_weights(name: str, value: ArrayLike | None, classes: int) -> Array | None:
    """Class weights of shape [C], non-negative floats, or None."""
    if value is None:
        return None
    floating(name, value)
    array = nonnegative(name, value)
    same_shape(name, array.shape, "(one weight per class)", (classes,), "give a weight for every class")
    return array


def row_weights(name: str, value: ArrayLike | None, shape: Sequence[int]) -> Array | None:
    """Floats of any sign, one per loss, or None."""
    if value is None:
        return None
    array = floating(name, value, remedy="convert numbers by .astype(jnp.float32), and give a mask by where=")
    same_shape(name, array.shape, "of the unreduced loss", shape, "give one weight per row (or entry)")
    return array


def base(value: float | None) -> float | None:
    """The base of a logarithm: None (nats), or a finite number greater than 1."""
    if value is None:
        return None
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"base must be None (nats) or a Python number greater than 1, got {value!r}")
    if not 1 < float(value) < math.inf:
        raise ValueError(f"base must be greater than 1 (2 = bits, 10 = hartleys, None = nats), got {value}")
    return float(value)


_NO_CLASS = "label {value} in row {row} is outside the {classes} classes; correct it, or name it with ignore_index"


def _outside(labels: Array, classes: int) -> Array:
    return (labels < 0) | (labels >= classes)


def labels_in_range(labels: Array, classes: int, counted: Array | None) -> Array:
    """The labels; if the result is used, ``checkify`` has a named error for the first counted one outside [0, C)."""
    return none_wrong(Wrong(_NO_CLASS, _outside, (("classes", classes),)), labels, counted)


def _shape(shape: Sequence[int]) -> str:
    """As Python prints it, the comma of a tuple of one included; a size may be symbolic."""
    return f"({_dims(shape)},)" if len(shape) == 1 else f"({_dims(shape)})"


def _dims(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
