"""Statements for every argument of a box: rigorous bounds of what a JAX function returns, by bisection.

A box of arguments, executed in ball arithmetic, gives a ball that holds every result. Three things keep it narrow:

* Comparisons that the box leaves open are executed both ways (:mod:`._exact.choices`); the results' hull holds all.
* Each way is a program f without branches, and so f(x) = f(m) + f'(ξ)(x - m) with m the box's midpoint and ξ between
  them: the ball of f(m) plus that of f' over the box times the box's half widths. The derivative is JAX's own of the
  formula, every custom rule replaced by its body and every stopped gradient let through, so that it is f's.
* The box that has the worst bound is halved, across the argument that moves the result most.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lossjax.verify._box.enclosure import Problem
from lossjax.verify._box.search import Bounds as Bounds
from lossjax.verify._box.search import Search
from lossjax.verify._check.inlining import inlined

__all__ = ["Bounds", "bounds", "rule_bounds"]

_COTANGENT = -1.5
"""Not 1, at which the square of a cotangent is the cotangent."""


def bounds(fn: Callable[..., Any], lower: Any, upper: Any, *, width: float = 1e-3, most_boxes: int = 1000) -> Bounds:
    """Rigorous bounds of ``fn`` for all arguments of a box.

    Not a sample, and not a float computation: whatever arguments are taken from the box, in exact arithmetic the
    result lies between the bounds. ``bounds(jax.grad(fn), ...)`` bounds a gradient.

    Args:
      fn: a function that JAX can trace and ``exact`` can execute, of float arrays; it returns one float array.
      lower: the box's lower corner: the argument, or a tuple with one per argument. An argument that is not to vary
        (labels, a mask) is the same in both corners, and keeps its dtype.
      upper: the upper corner, of the same shapes.
      width: the search ends where every bound is at most this far from a result that was met.
      most_boxes: or after so many boxes; ``Bounds.width`` says how far it came.

    Returns:
      ``Bounds``, each of its arrays of the shape that ``fn`` returns.

    Raises:
      ValueError: corners that do not fit each other, are not finite, or lie upside down; a width that is not positive.
      TypeError: a result that is not one float array.
      UnsupportedPrimitive: ``fn`` uses a primitive that ``exact`` has no rule for.

    Domain:
      Any box on which ``fn`` is finite. Where it is not (log at 0), or where it hangs on what no bisection settles
      (rounding to an integer, more than 64 ways through its branches), that part is named in ``undecided``, and the
      bounds are for the rest. Corners are taken with a margin of a billionth: give a probability the box [0.001, 1 -
      0.001] rather than [0, 1], if ``fn`` refuses what lies outside.

    Accuracy:
      The bounds hold with certainty. How narrow they are is a matter of ``most_boxes``: a smooth function's error
      falls with the square of a box's width, and the boxes needed grow with a power of the number of arguments: up
      to about four numbers are quick.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.verify import bounds
      >>> found = bounds(lambda x: x * (1 - x), 0.0, 1.0, width=1e-6)
      >>> f"{float(found.upper):.5f}", float(found.greatest), bool(found.width <= 1e-6)
      ('0.25000', 0.25, True)

    Source:
      Moore, Kearfott, Cloud, Introduction to Interval Analysis, 2009, ch. 6: mean value form, bisection.
    """
    problem = _asked(fn, lower, upper, width)
    return Search(problem, width, most_boxes, problem.at).run()


def _asked(fn: Callable[..., Any], lower: Any, upper: Any, width: float) -> Problem:
    problem = Problem.of(fn, lower, upper)
    if not width > 0:
        raise ValueError(f"width is {width}, wanted a positive number")
    return problem


def rule_bounds(
    fn: Callable[..., Any], lower: Any, upper: Any, *, argnums: int = 0, width: float = 1e-3, most_boxes: int = 1000
) -> Bounds:
    """Bounds, for a whole box, of what a custom gradient is off from the derivative of its own formula.

    ``check`` asks this at points; this says it for all arguments of a box: where both bounds are within ±δ, the rule
    is the derivative of the formula to within δ everywhere in it. A rule that is wrong is off at ``greatest_at``.

    Args:
      fn: a function of float arrays with custom rules, its result summed if it is not a scalar. The rule is given the
        cotangent -3/2, and its answer divided by that: one that is not linear in it shows, unless it is so beyond.
      lower: the box's lower corner: the argument, or a tuple with one per argument.
      upper: the upper corner, of the same shapes.
      argnums: the argument to differentiate.
      width: the search ends where both bounds are at most this far from a difference that was met.
      most_boxes: or after so many boxes; ``Bounds.width`` says how far it came.

    Returns:
      ``Bounds`` of gradient by rule less gradient of the formula, of the shape of the argument. Where the formula has
      a tie (an absolute value at 0), its derivative is one choice among many: what is around it may stay undecided.

    Raises:
      ValueError: corners that do not fit each other, are not finite, or lie upside down; a width that is not positive.

    Example:
      >>> import jax
      >>> from lossjax.verify import rule_bounds
      >>> @jax.custom_vjp
      ... def square(x):
      ...     return x * x
      >>> square.defvjp(lambda x: (x * x, x), lambda x, g: (1.999 * g * x,))
      >>> wrong = rule_bounds(square, 1.0, 2.0)
      >>> bool(wrong.upper < 0)  # off everywhere in the box
      True
    """

    def total(*args: Any) -> Any:
        return jnp.sum(fn(*args))

    def difference(*args: Any) -> Any:
        ruled = jax.grad(lambda *given: _COTANGENT * total(*given), argnums)(*args) / _COTANGENT
        return ruled - jax.grad(inlined(total), argnums)(*args)

    problem = _asked(difference, lower, upper, width)
    # At a tie the formula's derivative is one choice of many: a rule is refuted by what holds around a point as well.
    return Search(problem, width, most_boxes, problem.around).run()
