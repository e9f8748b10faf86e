"""The atlas: how wrong functions are, at worst, over all of their domain, in value and derivative.

Functions are drawn where their arguments live (:mod:`.domains`), measured against exact execution of themselves, and
the worst points are climbed from (:mod:`.survey`). What is found is a chart of each function (:mod:`.charts`).
"""

import dataclasses
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lossjax.verify import workers
from lossjax.verify._atlas import collecting, domains
from lossjax.verify._atlas.charts import Atlas as Atlas
from lossjax.verify._atlas.charts import Chart as Chart
from lossjax.verify._atlas.collecting import functions_of as functions_of
from lossjax.verify._atlas.subject import Subject
from lossjax.verify._atlas.survey import Peak as Peak
from lossjax.verify._atlas.survey import Survey

Functions = Mapping[str, Callable[..., Any]] | Iterable[Callable[..., Any]] | types.ModuleType | str


def atlas(
    functions: Functions,
    *,
    only: Sequence[str] | None = None,
    domains: Mapping[str, Sequence[str]] | None = None,
    references: Mapping[str, Callable[..., Any]] | None = None,
    dtype: Any = "float32",
    points: int = 256,
    seconds: float = 20,
    ulps: float = 8,
    seed: int = 0,
    processes: int = 1,
    done: Callable[[Chart], None] | None = None,
) -> Atlas:
    """The largest errors of functions, of values and of derivatives, over their domains, with inputs that show them.

    Every function is run on points of all scales, compiled, and is executed exactly at the same points: the same
    formula, in ball arithmetic (:func:`exact`). Derivatives are those of every number of the result in every float
    argument. Then the worst points are varied, three times over, and the worst of all is kept.

    An error is told in two units. One is the *ulp* of the truth. The other is a *unit* of u times the truth and what a
    rounding of the inputs changes in it, ``u (|y| + Σ |x ∂y/∂x|)``: a function that is within a few of these is as
    right as rounded inputs allow, however many ulps that may be near a zero of it. What exceeds it is the formula's.

    Args:
      functions: a module or its name (its public functions; of classes with densities, these), functions, or functions
        by name. Scalars and rows are made for them; other shapes are not.
      only: the names of those to measure, all of them if not given.
      domains: for names, the kinds of their arguments: "real", "positive", "unit", "count", "sign", "bit", "order",
        "row", "distribution", "log distribution", "label". Those not stated are known, or found by trying.
      references: for names, a function of the same arguments that says what is meant, such as a closed form of what
        the function approximates by a series that ends.
      dtype: of the arguments.
      points: how many points are drawn; half as many again come from the search. Large arguments to elementwise
        functions, 2⁶⁰, are among them, and small ones, 2⁻⁶⁰; of incomplete gamma and beta functions and the like,
        whose exact values take long there, 2⁸ and 2⁻⁸.
      seconds: how long a function may be measured; the points that were reached are in its chart.
      ulps: how many units are allowed.
      seed: of the points.
      processes: how many, for the functions of a module without ``references``.
      done: is told each chart when it is made.

    Returns:
      An atlas: ``charts``, ``ok``, ``exit_code``, ``to_json()``, ``markdown()``; it prints as a table, the worst first.

    Raises:
      ValueError: a name that cannot be imported, an unknown kind, fewer than one point, or no functions.

    Domain:
      Points at which the exact result is undefined, or beyond the largest number of the dtype, are left out; an
      infinity or NaN where the truth is finite is a failure, with its input. So is a derivative that the chain rule
      cannot give (0·inf), where difference quotients agree. An error below tiny/u (10⁻³¹ in float32) is not counted:
      there terms of a sum are flushed to 0.

    Accuracy:
      Errors are rigorous: the truth lies in a ball of a width far below an ulp. That no point is worse is not: a search
      finds what it finds. Constants written into a function are the floats that they became.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.verify import atlas
      >>> found = atlas({"softplus": lambda x: jnp.log(1 + jnp.exp(x))}, points=64)
      >>> found.ok
      False
      >>> bool(found.charts[0].value.size > 1000)
      True

    Source:
      Johansson, Arb, 2017; Higham, Accuracy and Stability of Numerical Algorithms, 2002, §1.5.
    """
    if points < 1:
        raise ValueError(f"points is {points}; give at least 1")
    if not jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
        raise ValueError(f"dtype is {dtype}; the errors are those of floats")
    named = functions_of(functions)
    if only is not None and (missing := [name for name in only if name not in named]):
        raise ValueError(f"{missing[0]!r} is not among the functions: {', '.join(sorted(named)[:8])}")
    named = {name: named[name] for name in (named if only is None else only)}
    if not named:
        raise ValueError("there is no function to measure")
    stated, meant = domains or {}, references or {}
    if unknown := sorted({*stated, *meant} - set(named)):
        raise ValueError(f"{unknown[0]!r} is not among the functions: {', '.join(sorted(named)[:8])}")
    options = {"dtype": str(jnp.dtype(dtype)), "points": points, "seconds": seconds, "ulps": ulps, "seed": seed}
    origin = functions.__name__ if isinstance(functions, types.ModuleType) else functions
    if processes > 1 and isinstance(origin, str) and not meant:
        with workers.pool_of(processes) as pool:
            charts = workers.run_all(
                _by_name, [(origin, name, stated.get(name), options) for name in named], pool, done
            )
    else:
        work = [(name, function, stated.get(name), meant.get(name), options) for name, function in named.items()]
        charts = workers.run_all(_charted, work, None, done)
    return Atlas(tuple(charts), str(jnp.dtype(dtype)), collecting.versions(named.values()))


def _by_name(origin: str, name: str, words: Sequence[str] | None, options: dict[str, Any]) -> Chart:
    return _charted(name, functions_of(origin)[name], words, None, options)


def _charted(
    name: str,
    function: Callable[..., Any],
    words: Sequence[str] | None,
    reference: Callable[..., Any] | None,
    options: dict[str, Any],
) -> Chart:
    """The chart of a function, and of the one of lossjax that computes the same."""
    known = collecting.known(name)
    found = chart(name, function, words or known.words, reference or known.reference, **options)
    if known.beside is None or found.why:
        return found
    other = chart(f"lossjax: {name}", known.beside, found.domain, None, **options)
    return dataclasses.replace(found, beside=other)


def chart(
    name: str,
    function: Callable[..., Any],
    words: Sequence[str] | None,
    reference: Callable[..., Any] | None,
    *,
    dtype: str,
    points: int,
    seconds: float,
    ulps: float,
    seed: int,
) -> Chart:
    """The chart of one function; where none can be made, it says why."""
    with jax.enable_x64(dtype == "float64" or bool(jax.config.values["jax_enable_x64"])):
        words = tuple(words or domains.found(function, jnp.dtype(dtype)) or ())
        if not words:
            return Chart(name, allowed=ulps, why="no arguments were found that it takes")
        domains.kinds_of(words)
        try:
            survey = Survey(Subject(function, words, jnp.dtype(dtype), reference), seed, seconds)
            survey.draw(points)
            survey.climb()
            for part in ("value", "gradient"):
                survey.simplify(part)
        except Exception as error:  # whatever a function raises, or what exact execution has no rule for
            first = (str(error).strip() or "no message").splitlines()[0]
            return Chart(name, words, allowed=ulps, why=f"{type(error).__name__}: {first}")
        return Chart.of(name, survey, ulps)
