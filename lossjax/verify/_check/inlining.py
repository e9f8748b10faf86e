"""A function without its custom rules: every ``custom_jvp`` and ``custom_vjp`` replaced by its primal body."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_vmap_call", "call_hi_primitive")
"""Primitives that carry a derivative (or a batching) of their own beside the body."""

_CALLS = ("jit", "pjit", "closed_call", "core_call", "core_closed_call", "call", "remat", "remat2", "checkpoint")


def inlined(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn`` with every custom derivative in it replaced by its formula's body, through calls, loops and branches.

    Differentiated, it gives what JAX makes of the formula by itself. Same arguments, same pytree, same value.
    """

    @functools.wraps(fn)
    def plain(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
        leaves = jax.tree.leaves(args)
        return jax.tree.unflatten(jax.tree.structure(shapes), _run(closed.jaxpr, closed.consts, leaves))

    return plain


def has_custom_rules(closed: ClosedJaxpr | Jaxpr) -> bool:
    """Whether a custom derivative stands anywhere in a jaxpr."""
    return uses(closed, CUSTOM)


def uses(closed: ClosedJaxpr | Jaxpr, names: Sequence[str]) -> bool:
    """Whether one of these primitives stands anywhere in a jaxpr."""
    jaxpr = closed.jaxpr if isinstance(closed, ClosedJaxpr) else closed
    return any(
        equation.primitive.name in names or any(uses(inner, names) for inner in inner_jaxprs(equation.params))
        for equation in jaxpr.eqns
    )


def inner_jaxprs(params: dict[str, Any]) -> list[Any]:
    """The jaxprs that an equation's parameters hold."""
    found = []
    for value in params.values():
        found += value if isinstance(value, tuple | list) else [value]
    return [v for v in found if isinstance(v, ClosedJaxpr | Jaxpr)]


def _run(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    environment: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    environment.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else environment[atom]

    for equation in jaxpr.eqns:
        results = _step(equation, [read(atom) for atom in equation.invars])
        environment.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _step(equation: Any, values: list[Any]) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if "_prim" in params and name == "call_hi_primitive":
        high = params["_prim"]
        return jax.tree.leaves(inlined(high.expand)(*jax.tree.unflatten(high.in_tree, values)))
    inner = inner_jaxprs(params)
    if name in CUSTOM or (name in _CALLS and any(map(has_custom_rules, inner))):
        body = next(params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr", "call") if k in params)
        closed = ClosedJaxpr(body, ()) if isinstance(body, Jaxpr) else body
        return _run(closed.jaxpr, closed.consts, values)
    if any(map(has_custom_rules, inner)):
        params = {key: _without(value) for key, value in params.items()}
    settled = equation.primitive.get_bind_params(params)
    functions, params = settled if isinstance(settled, tuple) else ((), settled)
    results = equation.primitive.bind(*functions, *values, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def _without(value: Any) -> Any:
    """A parameter of a loop or a branch, its closed jaxprs inlined. (An open one may need axes that are not here.)"""
    if isinstance(value, tuple | list):
        return type(value)(_without(v) for v in value)
    if not isinstance(value, ClosedJaxpr) or not has_custom_rules(value):
        return value
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in value.jaxpr.invars]
    return jax.make_jaxpr(lambda *args: _run(value.jaxpr, value.consts, args))(*shapes)
