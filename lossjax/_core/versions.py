"""What differs between the versions of JAX that lossjax supports.

It is written for the newest (0.12) and works on the oldest (0.10.0).
"""

from typing import Any, TypeAlias

import jax
from jax.extend import core

Jaxpr: TypeAlias = Any
"""A program as ``jax.make_jaxpr`` returns it. Its type is ``jax.extend.core.ClosedJaxpr`` before JAX 0.12, and
``jax.extend.core.Jaxpr`` from then on, so that no annotation but this one is right for a type checker on both.
"""

_JAXPRS = (core.Jaxpr, getattr(core, "ClosedJaxpr", core.Jaxpr))
"""Before JAX 0.12 a program without its constants (``Jaxpr``) and one with them (``ClosedJaxpr``) are two classes."""

CUSTOM_RULES = ("custom_jvp_call", "custom_vjp_call", "custom_vmap_call", "call_hi_primitive")
"""Primitives that carry a derivative, or a batching, of their own beside the program that they stand for.

``call_hi_primitive`` is what JAX 0.12 makes of ``custom_jvp`` and ``custom_vjp`` under the flags ``jax_custom_jvp3``
and ``jax_custom_vjp3``, and what any version makes of a hijax primitive.
"""

CALLS = (*CUSTOM_RULES, "jit", "remat2", "eval_jaxpr", "closed_call", "call")
"""Primitives that execute one program, once. JAX 0.12 has ``eval_jaxpr`` where 0.10 and 0.11 have ``closed_call`` and
``call``.
"""

KERNELS = (0, 10) <= jax.__version_info__[:2] <= (0, 12)
"""Whether kernels have been compiled, and executed by an interpreter, on this version of JAX: what Pallas takes, and
what it is called, changes with each. Elsewhere the formulas stand for them.
"""

FUSED_ROWS = jax.__version_info__[:2] == (0, 12)
"""Whether XLA's GPU compiler, as this version of JAX has it, has been seen to make one kernel of a formula of rows."""

OLDER_FUSIONS: dict[str, bool] = {} if jax.__version_info__ >= (0, 11) else {"xla_cpu_use_fusion_emitters": False}
"""Options for ``jax.jit`` that have XLA's CPU backend write the code of fusions in its older way, which is compiled in
half the time. Its numbers differ by a bit at most, but for exponentials of numbers below -80, which are 0. JAX 0.12 has
no such choice.
"""


def is_jaxpr(value: Any) -> bool:
    """Whether a parameter of an equation is a program."""
    return isinstance(value, _JAXPRS)


def body(jaxpr: Jaxpr) -> Any:
    """The object that has ``invars``, ``eqns``, and ``outvars``: before JAX 0.12 a closed jaxpr holds it inside."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def constants(jaxpr: Jaxpr) -> list[Any]:
    """The values of ``body(jaxpr).constvars``: before JAX 0.12, a jaxpr that is not closed has no such attribute."""
    return list(getattr(jaxpr, "consts", ()))


def called(equation: Any) -> Jaxpr:
    """The program that an equation of ``CALLS`` executes; JAX names the parameter that holds it in three ways."""
    params = equation.params
    if "_prim" not in params:
        return next(params[key] for key in ("jaxpr", "call_jaxpr", "call") if key in params)
    high = params["_prim"]

    def expand(*flat: Any) -> list[Any]:
        return jax.tree.leaves(high.expand(*jax.tree.unflatten(high.in_tree, flat)))

    return jax.make_jaxpr(expand)(*(shape_of(v) for v in equation.invars))


def shape_of(variable: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a variable; JAX 0.12 declares a type for them (``AbstractValue``) that has neither."""
    aval = variable.aval
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False))
