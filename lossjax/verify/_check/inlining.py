"""A function without its custom rules: every ``custom_jvp`` and ``custom_vjp`` replaced by its primal body."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Literal

from lossjax._core.plain import rules_off
from lossjax._core.versions import CALLS, CUSTOM_RULES, Jaxpr, body, called, constants, is_jaxpr, shape_of

_WITH_AXES = ("shard_map", "pallas_call")
"""Primitives whose programs speak of axes and memory that exist only inside: these cannot be traced by themselves."""


def inlined(fn: Callable[..., Any], *, through: Sequence[str] = ()) -> Callable[..., Any]:
    """``fn`` with every custom derivative in it replaced by its formula's body, through calls, loops and branches.

    Differentiated, it gives what JAX makes of the formula by itself. Same arguments, same pytree, same value. Flags,
    functions and Python numbers among the arguments are handed on as they are: a function may branch on them.
    Primitives named in ``through`` hand on what they are given: without ``stop_gradient``, the derivative is the
    value's own.
    """

    @functools.wraps(fn)
    def plain(*args: Any, **keywords: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, keywords))
        moved = [leaf for leaf in leaves if hasattr(leaf, "dtype")]

        def of_arrays(*arrays: Any) -> Any:
            rest = iter(arrays)
            given, named = tree.unflatten([next(rest) if hasattr(leaf, "dtype") else leaf for leaf in leaves])
            with rules_off():  # a loss that is differentiated inside is no custom rule any more once it is traced
                return fn(*given, **named)

        traced, shapes = jax.make_jaxpr(of_arrays, return_shape=True)(*moved)
        return jax.tree.unflatten(jax.tree.structure(shapes), _run(traced, moved, through))

    return plain


def has_custom_rules(jaxpr: Jaxpr) -> bool:
    """Whether a custom derivative stands anywhere in a jaxpr."""
    return uses(jaxpr, CUSTOM_RULES)


def uses(jaxpr: Jaxpr, names: Sequence[str]) -> bool:
    """Whether one of these primitives stands anywhere in a jaxpr."""
    return any(
        equation.primitive.name in names or any(uses(inner, names) for inner in inner_jaxprs(equation.params))
        for equation in body(jaxpr).eqns
    )


def inner_jaxprs(params: dict[str, Any]) -> list[Jaxpr]:
    """The jaxprs that an equation's parameters hold."""
    found = []
    for value in params.values():
        found += value if isinstance(value, tuple | list) else [value]
    return [v for v in found if is_jaxpr(v)]


def _run(jaxpr: Jaxpr, args: Sequence[Any], through: Sequence[str] = ()) -> list[Any]:
    program = body(jaxpr)
    environment: dict[Any, Any] = dict(zip(program.constvars, constants(jaxpr), strict=True))
    environment.update(zip(program.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else environment[atom]

    for equation in program.eqns:
        results = _step(equation, [read(atom) for atom in equation.invars], through)
        environment.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in program.outvars]


def _step(equation: Any, values: list[Any], through: Sequence[str]) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if name in through:
        return values
    opened = (*CUSTOM_RULES, *through)
    inside = any(uses(inner, opened) for inner in inner_jaxprs(params))
    if name in CUSTOM_RULES or (name in CALLS and inside):
        return _run(called(equation), values, through)
    if inside and name in _WITH_AXES:  # the function would be held against its own rule
        raise NotImplementedError(f"a custom rule inside {name} cannot be told from its formula")
    if inside:
        without = functools.partial(_without, through=through)
        params = {key: jax.tree.map(without, value, is_leaf=is_jaxpr) for key, value in params.items()}
    settled = equation.primitive.get_bind_params(params)
    functions, params = settled if isinstance(settled, tuple) else ((), settled)
    results = equation.primitive.bind(*functions, *values, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def _without(value: Any, through: Sequence[str]) -> Any:
    """A parameter of a loop, a branch or a solver; if it is a jaxpr, the custom rules in it inlined."""
    if not is_jaxpr(value) or not uses(value, (*CUSTOM_RULES, *through)):
        return value
    return jax.make_jaxpr(lambda *args: _run(value, args, through))(*map(shape_of, body(value).invars))
