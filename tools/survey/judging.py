"""One subject with a custom derivative in it: what ``lossjax.verify.check`` says of its gradient."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lossjax.verify import check
from lossjax.verify._check.inlining import has_custom_rules
from survey.measuring import NONE, OK, OutOfTime, limited
from survey.subjects import Subject, is_float

REFERENCES: dict[str, Callable[..., Any]] = {
    "jax.scipy.special.log_ndtr": lambda x: jnp.log(jax.lax.erfc(-x / math.sqrt(2)) / 2),
    "jax.scipy.stats.norm.logcdf": lambda x: jnp.log(jax.lax.erfc(-x / math.sqrt(2)) / 2),
    "jax.scipy.stats.norm.logsf": lambda x: jnp.log(jax.lax.erfc(x / math.sqrt(2)) / 2),
}
"""What is meant where the formula is an approximation (a truncated series), which by itself cannot judge a rule."""

_SOLVERS = (
    "GradientDescent", "LBFGS", "BFGS", "NonlinearCG", "PolyakSGD", "ArmijoSGD", "FixedPointIteration",
    "AndersonAcceleration", "ProximalGradient", "Bisection",
)  # fmt: skip
_TO_A_TOLERANCE = ("CG", "BiCGStab", "GMRES", "NormalCG")
_STEPS_WITH_OTHER_DERIVATIVES = (
    "root_find (Bisection)", "fixed_point",
    *(f"minimise ({name})" for name in ("BFGS", "NelderMead", "GradientDescent", "NonlinearCG")),
)  # fmt: skip
OF_NO_FORMULA = {
    **{f"jaxopt.{name}": "the derivative of the solution, and the survey stops after a few steps" for name in _SOLVERS},
    **{f"lineax.{name}": "that of the solution, and the survey solves to 10^-3" for name in _TO_A_TOLERANCE},
    **{
        f"optimistix.{name}": "that of the solution, and the survey solves to between 10^-2 and 10^-6"
        for name in _STEPS_WITH_OTHER_DERIVATIVES
    },
    "diffrax.BacksolveAdjoint": "that of the equation solved backwards, which the steps follow to a tolerance",
    "jaxopt.projection.projection_box_section": "that of a point of the section, and the survey's section is empty",
    "distrax.VonMises.sample": "that of a draw of the same probability, and the steps reject draws",
}
"""Functions whose rule is meant to be something else than the derivative of the steps that they take: what it is."""

ASKED = ("rule", "cotangent", "modes")
"""Whether the gradient is right. How many digits it has, and what it makes of infinities, is another question."""


def judged(subject: Subject, limit: float) -> dict[str, Any]:
    """One row: ``ok``, or what the certificate says."""
    start = time.process_time()
    try:
        with limited(limit):
            said = _said(subject)
    except OutOfTime:
        said = "time"
    return {
        "library": subject.library, "name": subject.name, "rule": said, "seconds": time.process_time() - start,
    }  # fmt: skip


def _gradient(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """In every argument that has floats, of the sum of all that the function returns."""

    def total(*args: Any) -> Any:
        results = map(jnp.asarray, jax.tree.leaves(function(*args)))
        return sum(jnp.real(jnp.sum(x)) for x in results if jnp.issubdtype(x.dtype, jnp.inexact))

    has_floats = [any(jnp.issubdtype(jnp.result_type(x), jnp.inexact) for x in jax.tree.leaves(arg)) for arg in args]
    return jax.grad(total, tuple(i for i, has in enumerate(has_floats) if has), allow_int=True)(*args)


def _said(subject: Subject) -> str:
    if not any(is_float(x) for x in jax.tree.leaves(subject.args)):
        return f"{NONE}: no float argument"
    try:
        program = jax.make_jaxpr(subject.function)(*subject.args)
        jax.eval_shape(lambda *args: _gradient(subject.function, args), *subject.args)
    except Exception as problem:
        return f"{NONE}: {type(problem).__name__}"
    if not has_custom_rules(program):
        return f"{NONE}: no custom derivative"
    if subject.name in OF_NO_FORMULA:
        return f"not judged: its rule is {OF_NO_FORMULA[subject.name]}"
    try:
        found = check(subject.function, *subject.args, checks=ASKED, reference=REFERENCES.get(subject.name))
    except TypeError as problem:
        if "nothing to" in str(problem):
            return f"{NONE}: {problem}"
        return f"error: {problem}"[:200]
    except Exception as problem:
        return f"error: {type(problem).__name__}: {problem}"[:200]
    if found.ok:
        return OK
    first = next(iter(found.failures), "")
    return f"{'no' if found.ok is False else 'not judged'}: {first}"[:400].replace("|", "¦").replace("\n", " ")
