"""The rule of callbacks to Python, which know floats only."""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.rules import Unknown, is_balls, place, rule

NAMES = frozenset({"pure_callback"})
"""These are executed by their rules also where there is no float among the operands."""


@rule("pure_callback", reads=None)
def _pure_callback(context: Context, params: Any, *values: Any) -> list[Any]:
    """Refused, or run on the operands rounded to their dtypes where the caller of ``exact`` asks for it."""
    equation = context.equation
    if not context.run_callbacks:
        raise context.unsupported("it calls outside JAX; run_callbacks=True runs it on rounded numbers")
    variables = (*equation.invars, *equation.outvars)
    if any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in variables):
        raise context.unsupported("its rule does not know complex numbers")
    rounded = [_rounded(v, variable.aval.dtype) for v, variable in zip(values, equation.invars, strict=True)]
    line = place([equation])
    warnings.warn(f"pure_callback was run on rounded numbers, and is no exact function of them; {line}", stacklevel=2)
    results = equation.primitive.bind(*rounded, **equation.params)
    return [context.balls(r) if jnp.issubdtype(r.dtype, jnp.floating) else np.asarray(r) for r in results]


def _rounded(value: Any, dtype: Any) -> Any:
    if not is_balls(value):
        return jnp.asarray(value)
    entries = value.ravel().tolist()
    for entry in entries:
        if type(entry) is Unknown:
            raise entry.error
    return jnp.asarray(np.array([float(v) for v in entries], np.float64).reshape(value.shape).astype(dtype))
