"""Forward mode from a pullback, in a form whose transpose is that pullback, as it was written.

A pullback g ↦ Jᵀg contains forward mode: its transpose, applied to tangents t, is Jt. Reverse mode transposes what
forward mode gave it, so it would execute the transpose of the transpose: the same numbers, but other operations than
those that the rule was written in, and traced twice more. So Jt is one primitive here. Evaluated, it is the transpose
of the pullback; transposed, it is the pullback itself; differentiated, it is what the operations behind it say.

The primitive is seen in programs of forward mode alone. Reverse mode leaves none of it.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from lossjax._core import batches
from lossjax._core.packed import is_inexact

Pullback = Callable[[tuple[Any, ...], tuple[Any, ...]], tuple[Any, ...]]
"""``(residuals, cotangents of the results) -> cotangents of the arguments``, linear in the cotangents."""

PRIMITIVE = core.Primitive("pushed_forward")
PRIMITIVE.multiple_results = True


def pushed_forward(pullback: Any, output: Any, tangents: tuple[Any, ...]) -> Any:
    """``Jt``.

    Args:
      pullback: a pytree whose arrays are what it keeps, as ``jax.vjp`` returns it: a cotangent like ``output`` to a
        tuple of cotangents like ``tangents``.
      output: the value whose derivative this is.
      tangents: a tuple of arrays.
    """
    residuals, tree = jax.tree.flatten(pullback)
    leaves, of_output = jax.tree.flatten(output)

    def pull_back(residuals: tuple[Any, ...], cotangents: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(tree.unflatten(residuals)(of_output.unflatten(cotangents)))

    results = tuple(jax.typeof(leaf).to_tangent_aval() for leaf in leaves)
    found = PRIMITIVE.bind(*residuals, *tangents, pull_back=pull_back, kept=len(residuals), results=results)
    return of_output.unflatten(found)


def _evaluated(*arrays: Any, pull_back: Pullback, kept: int, results: tuple[Any, ...]) -> list[Any]:
    """By ``jax.vjp``, not ``jax.linear_transpose``: a pullback may apply another rule to its cotangent."""
    residuals, tangents = arrays[:kept], arrays[kept:]
    anywhere = tuple(ad.instantiate_zeros(ad.Zero(result)) for result in results)  # linear, so any point will do
    return list(jax.vjp(lambda *cotangents: pull_back(residuals, cotangents), *anywhere)[1](tangents))


def _differentiated(arrays: Any, moves: Any, **form: Any) -> tuple[list[Any], list[Any]]:
    kept = form["kept"]
    found = PRIMITIVE.bind(*arrays, **form)
    terms = []
    if any(type(move) is not ad.Zero for move in moves[kept:]):
        terms.append(PRIMITIVE.bind(*arrays[:kept], *map(ad.instantiate_zeros, moves[kept:]), **form))
    moving = [i for i in range(kept) if type(moves[i]) is not ad.Zero and is_inexact(arrays[i].dtype)]
    if moving:

        def of_moving(*moved: Any) -> list[Any]:
            full = list(arrays)
            for place, array in zip(moving, moved, strict=True):
                full[place] = array
            return _evaluated(*full, **form)

        terms.append(jax.jvp(of_moving, tuple(arrays[i] for i in moving), tuple(moves[i] for i in moving))[1])
    return found, [ad.Zero(result) for result in form["results"]] if not terms else _added(terms)


def _added(terms: list[list[Any]]) -> list[Any]:
    return [sum(parts[1:], parts[0]) for parts in zip(*terms, strict=True)]


def _transposed(cotangents: Any, *arrays: Any, pull_back: Pullback, kept: int, results: tuple[Any, ...]) -> list[Any]:
    given = tuple(map(ad.instantiate_zeros, cotangents))
    pulled = pull_back(arrays[:kept], given)
    return [None] * kept + [
        cotangent if ad.is_undefined_primal(array) else None
        for array, cotangent in zip(arrays[kept:], pulled, strict=True)
    ]


def _batched(axis: Any, arrays: Any, places: Any, *, pull_back: Pullback, kept: int, results: Any) -> tuple[Any, Any]:
    """Tangents are batched all alike, and so are their cotangents; of what is kept an array may be without a batch."""
    if all(place is None for place in places):
        found = PRIMITIVE.bind(*arrays, pull_back=pull_back, kept=kept, results=results)
        return found, [None] * len(found)
    moved, fronts = batches.in_front(arrays, places)
    of_batch = batches.mapped(pull_back, axis, (fronts[:kept], 0))
    tangents = [
        batching.bdim_at_front(array, place, axis.size, axis.explicit_mesh_axis)
        for array, place in zip(moved[kept:], fronts[kept:], strict=True)
    ]
    of_results = tuple(core.unmapped_aval(axis.size, 0, result, axis.explicit_mesh_axis) for result in results)
    found = PRIMITIVE.bind(*moved[:kept], *tangents, pull_back=of_batch, kept=kept, results=of_results)
    return found, [0] * len(found)


PRIMITIVE.def_impl(_evaluated)
PRIMITIVE.def_abstract_eval(lambda *_, results, **__: list(results))
ad.primitive_jvps[PRIMITIVE] = _differentiated
ad.primitive_transposes[PRIMITIVE] = _transposed
batching.fancy_primitive_batchers[PRIMITIVE] = _batched
mlir.register_lowering(PRIMITIVE, mlir.lower_fun(_evaluated, multiple_results=True))
