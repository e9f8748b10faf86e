"""How a rule is applied to each matrix of a batch, whose entries are Arb's real or complex balls."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from flint import acb, arb

from lossjax.verify._exact.complexes import of_ball
from lossjax.verify._exact.context import Context
from lossjax.verify._exact.rules import Complex, Unknown, to_array

Matrix: TypeAlias = Any
"""An object array with two axes, of ``flint.arb`` or of ``flint.acb``."""


def each_matrix(context: Context, compute: Callable[..., Sequence[Any]], *arrays: np.ndarray) -> list[Any]:
    """The results of ``compute`` on the matrices at each place of a batch, stacked; the first operand is a matrix."""
    batch = arrays[0].shape[:-2]
    variables = context.equation.outvars
    shapes = [v.aval.shape for v in variables]
    opened = [_opened(context, a) for a in arrays]
    rows = [compute(*(a[where] for a in opened)) for where in np.ndindex(batch)]
    results = []
    for k, (variable, shape) in enumerate(zip(variables, shapes, strict=True)):
        dtype = variable.aval.dtype
        entries = [v for row in rows for v in np.asarray(row[k]).ravel().tolist()]
        if not jnp.issubdtype(dtype, jnp.inexact):
            results.append(np.asarray(entries, dtype).reshape(shape))
        elif jnp.issubdtype(dtype, jnp.complexfloating):
            results.append(to_array([of_ball(context, acb(v)) for v in entries], shape))
        else:
            results.append(to_array([context.intern(v) if v.is_exact() else v for v in entries], shape))
    return results


def _opened(context: Context, array: np.ndarray) -> np.ndarray:
    """Finite numbers as Arb has them; an error where one is not finite."""
    entries = [v.ball() if isinstance(v, Complex) else v for v in array.ravel().tolist()]
    for v in entries:
        if type(v) is Unknown:
            raise v.error
        if isinstance(v, arb | acb) and not v.is_finite():
            raise context.unsupported("a matrix or a right side is not finite")
    return to_array(entries, array.shape)


def conjugate(v: Any) -> Any:
    """The conjugate of a real or complex number."""
    return v.conjugate() if isinstance(v, acb) else v


def real(v: Any) -> arb:
    """The real part of a real or complex number."""
    return v.real if isinstance(v, acb) else v


def adjoint(a: Matrix) -> Matrix:
    """The conjugate transpose."""
    return to_array([conjugate(v) for v in a.T.ravel().tolist()], a.T.shape)


def squared_size(entries: Any) -> arb:
    """The sum of the squares of the numbers' sizes."""
    sizes = (real(v * conjugate(v)) if isinstance(v, acb) else v * v for v in entries)
    return sum(sizes, arb(0))


def identity(size: int) -> Matrix:
    """The identity matrix."""
    return to_array([arb(int(i == j)) for i in range(size) for j in range(size)], (size, size))
