"""Any JAX function, executed in ball arithmetic: what it would return if nothing were ever rounded.

The function is traced to a jaxpr, and the jaxpr is interpreted on python-flint's ``arb``: floats become balls that
hold the exact number, integers and booleans stay what they are. What the program computes is then known to as many
digits as wanted, and its rounding errors, cancellations and wrong constants can be told from each other without
anyone writing its formula down again.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flint import acb

from lossjax._core.versions import Jaxpr
from lossjax.verify._exact.dispatch import covered as covered
from lossjax.verify._exact.interpreter import interpret
from lossjax.verify._exact.rules import UndecidedComparison as UndecidedComparison
from lossjax.verify._exact.rules import UnsupportedPrimitive as UnsupportedPrimitive
from lossjax.verify._exact.rules import is_balls
from lossjax.verify._exact.tracing import by_definition

__all__ = ["MOST_BITS", "UndecidedComparison", "UnsupportedPrimitive", "covered", "exact", "exact_jaxpr"]

MOST_BITS = 4096
"""The precision at which an undecided comparison is given up."""


def exact(
    fn: Callable[..., Any], precision: int = 256, *, round_conversions: bool = False, run_callbacks: bool = False
) -> Callable[..., Any]:
    """``fn`` in exact arithmetic: the same arguments, the same pytree, balls that hold the true numbers.

    Every operation is the mathematical one, on balls of ``precision`` bits that enclose its result. What a float
    program does on purpose with its last bits (compensated sums, bit tricks) comes out as what it means: an error
    term of 0. A constant written into the program is the float it became: 0.1 in float32 is 13421773·2^-27.

    Args:
      fn: any function that JAX can trace: derivatives, vmap, jit, loops, anyone's.
      precision: bits of the first attempt; doubled up to 4096 while a comparison is undecided.
      round_conversions: round at ``astype`` between float dtypes and at ``lax.reduce_precision`` (to nearest, ties
        to even) instead of keeping the number.
      run_callbacks: run a ``pure_callback`` on its operands rounded to their dtypes, with a warning that says so,
        instead of refusing it: what it returns is then taken for exact.

    Returns:
      A function of the same arguments, any pytrees of arrays, numpy's or JAX's. They are taken as JAX takes them:
      without x64, float64 becomes float32. An object array of ``flint.arb`` stands for floats known to lie in these
      balls, and the results enclose what the function gives for any of them (:func:`bounds` does this for a box, and
      narrows it). Where ``fn`` returns floats it gives object arrays of ``flint.arb``, where
      complex numbers, of ``flint.acb``, where integers, booleans or random keys, it gives these.

    Raises:
      UndecidedComparison: at the call; a comparison, rounding, index or output hangs on numbers that 4096 bits do
        not tell apart, such as ``x > log(exp(x))``. The message names primitive, numbers, and line.
      UnsupportedPrimitive: at the call; the program uses a primitive with no rule here. The message names primitive
        and line. ``covered()`` lists those with one.

    Domain:
      Real and complex numbers, with no overflow and no underflow: e^1000 is a number. Infinities and NaN that are
      given, or that arise at poles (log 0, 1/0) or outside a domain (log -1, 0·inf, inf - inf), are IEEE 754's; a
      complex function of an infinity is undecided. There is no signed zero: -0 is 0, 1/-0 is inf, and on a branch cut
      the value is the limit from above. A subnormal number is a number, where a CPU may compare it as 0. NaN compares
      as in IEEE 754, and sorts last. Vectors of a multiple eigenvalue, or of a singular value 0, are undecided. A loop
      that only rounding ends (until x stops moving) is undecided.

    Accuracy:
      The exact result lies in the ball. Equal numbers are recognised where they are computed in the same way from
      the same numbers, so that ties (``x == max(x)``) are decided also for computed x.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.verify import exact
      >>> cancelled = lambda x: jnp.log1p(jnp.exp(x)) - x
      >>> float(cancelled(jnp.float32(30)))
      0.0
      >>> float(exact(cancelled)(jnp.float32(30))[()])
      9.357622968839737e-14

    Source:
      Johansson, Arb: efficient arbitrary-precision midpoint-radius interval arithmetic, 2017.
    """

    def called(a: tuple[Any, ...], k: dict[str, Any]) -> Any:
        return fn(*a, **k)

    def in_exact_arithmetic(*args: Any, **kwargs: Any) -> Any:
        shown = jax.tree.map(lambda a: _float_like(a) if is_balls(a) else a, (args, kwargs))
        with by_definition():
            jaxpr, shapes = jax.make_jaxpr(called, return_shape=True)(*shown)
        options = {"round_conversions": round_conversions, "run_callbacks": run_callbacks}
        results = exact_jaxpr(jaxpr, jax.tree.leaves((args, kwargs)), precision, **options)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return in_exact_arithmetic


def _float_like(array: Any) -> jax.ShapeDtypeStruct:
    kind = complex if array.size and isinstance(array.flat[0], acb) else float
    return jax.ShapeDtypeStruct(array.shape, jnp.result_type(kind))


def exact_jaxpr(
    jaxpr: Jaxpr,
    args: Sequence[Any],
    precision: int = 256,
    *,
    round_conversions: bool = False,
    run_callbacks: bool = False,
) -> list[Any]:
    """Execute a jaxpr exactly, as :func:`exact` does for a function.

    Args:
      jaxpr: what ``jax.make_jaxpr`` returns.
      args: one array per input; an input of floats may be an object array of ``flint.arb``, which is taken as it is.
      precision: bits of the first attempt; doubled while a comparison is undecided.
      round_conversions: round at ``convert_element_type`` between float dtypes and at ``reduce_precision``.
      run_callbacks: run a ``pure_callback`` on rounded operands, with a warning, instead of refusing it.

    Returns:
      One array per output: of ``flint.arb`` for floats, else of numpy.

    Raises:
      UndecidedComparison: a comparison, rounding, index or output hangs on numbers that no precision tells apart.
      UnsupportedPrimitive: the jaxpr has a primitive with no rule here.
      ValueError: a precision below 2 bits, or another number of arguments than the jaxpr has inputs.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> jaxpr = jax.make_jaxpr(jnp.square)(jnp.float32(3))
      >>> print(exact_jaxpr(jaxpr, [jnp.float32(3)])[0][()].str(5))
      9.0000
    """
    if precision < 2:
        raise ValueError(f"precision is {precision}; give at least 2 bits")
    wide = any(not ball.is_exact() for array in filter(is_balls, args) for ball in array.ravel().tolist())
    bits = precision
    while True:
        try:
            return interpret(jaxpr, args, bits, round_conversions=round_conversions, run_callbacks=run_callbacks)
        except UndecidedComparison:
            bits *= 2
            if bits > MOST_BITS or wide:
                raise
