"""The transformations of JAX, and what the program that each makes of a function must equal."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from lossjax._core.xla import LITTLE_EFFORT
from lossjax.verify._check.inlining import uses
from lossjax.verify._check.point import Subject, forward_over, reverse_over
from lossjax.verify._check.problem import Arrays, weighted_sum

_MOST_FIRST = 10**5
_DRAWS = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform")


class Skipped(Exception):
    """The transformation makes no sense for the function, or not here; the message says why."""


def _both(s: Subject) -> Any:
    return s.values, s.gradient


def _gradient(s: Subject) -> Any:
    return s.gradient


def _jit(s: Subject) -> Any:
    return jax.jit(s.both_of, compiler_options=LITTLE_EFFORT)(s.arrays)


def _jit_inside(s: Subject) -> Any:
    return s.gradient_through(jax.jit)


def _vmap(s: Subject) -> Any:
    return jax.vmap(s.both_of)(jax.tree.map(lambda a, b: jnp.stack([a, b]), s.arrays, s.reversed))


def _one_by_one(s: Subject) -> Any:
    return jax.tree.map(lambda a, b: jnp.stack([a, b]), s.both_of(s.arrays), s.both_of(s.reversed))


def _jvp(s: Subject) -> Any:
    outputs, pushed = jax.jvp(s.of_moving(), s.moving, s.tangents)
    return outputs, weighted_sum(pushed, s.weights)


def _along_tangents(s: Subject) -> Any:
    return s.values, weighted_sum(s.gradient, s.tangents)


def _linearize(s: Subject) -> Any:
    outputs, pushed = jax.linearize(s.of_moving(), *s.moving)
    return outputs, pushed(*s.tangents)


def _pushed(s: Subject) -> Any:
    return jax.jvp(s.of_moving(), s.moving, s.tangents)


def _jacfwd(s: Subject) -> Any:
    outputs = sum(np.size(w) for w in s.weights)
    if outputs * sum(map(np.size, s.moving)) > _MOST_FIRST:
        raise Skipped("the Jacobian is large; give a smaller example")
    return jax.jacfwd(s.of_moving(), s.argnums)(*s.moving)


def _jacrev(s: Subject) -> Any:
    return jax.jacrev(s.of_moving(), s.argnums)(*s.moving)


def _hessian(s: Subject) -> Any:
    return s.second(forward_over, s.scalar)


def _reverse_twice(s: Subject) -> Any:
    return s.second(reverse_over, s.scalar)


def _second_of_formula(s: Subject) -> Any:
    """In reverse over reverse mode; a loop of unknown length has forward modes only."""
    try:
        return s.by_formula(functools.partial(s.second, reverse_over))
    except Exception as in_reverse:  # JAX and the function may raise anything
        plain = functools.partial(s.scalar, fn=s.pair.truth)
        try:
            return s.second(forward_over, plain, jax.jacfwd)
        except Exception:  # in neither: what JAX says of the mode that was asked for is what counts
            raise in_reverse from None


def _remat(s: Subject) -> Any:
    return s.gradient_through(jax.checkpoint)


def _scan(s: Subject) -> Any:
    def looped(*moving: Any) -> jax.Array:
        start = jnp.zeros_like(jax.eval_shape(s.scalar, *moving))
        return jax.lax.scan(lambda carry, _: (carry + s.scalar(*moving), None), start, None, length=2)[0]

    return jax.tree.map(lambda g: g / 2, jax.grad(looped, s.argnums)(*s.moving))


def _scan_twice(s: Subject) -> Any:
    """The second derivative of the squares of what a loop over inputs returns.

    The square makes the first derivative depend on the value that the rule returned: if that value is cut off from the
    inputs, the second derivative lacks a term. JAX 0.10 and 0.11 cut it off by themselves: they drop the custom rules
    from the body of a loop once they have linearised it.
    """

    def looped(*moving: Any) -> jax.Array:
        both = [jnp.stack([a, a]) for a in moving]
        values = jax.lax.scan(lambda carry, given: (carry, s.scalar(*given)), 0, both)[1]
        return jnp.sum(values**2)

    return s.second_along_tangents(looped)


def _squares_of_formula(s: Subject) -> Any:
    return s.by_formula(lambda scalar: s.second_along_tangents(lambda *moving: 2 * scalar(*moving) ** 2))


def _shard_map(s: Subject) -> Any:
    if len(jax.devices()) < 2:
        raise Skipped("needs two devices")
    mesh = jax.make_mesh((2,), ("copies",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    spec = PartitionSpec("copies")

    def local(arrays: Arrays) -> jax.Array:
        return weighted_sum(s.one.call(s.one.fn, tuple(a[0] for a in arrays)), s.weights)[None]

    def on_two(arrays: Arrays, *, checked: bool) -> jax.Array:
        return jnp.sum(jax.shard_map(local, mesh=mesh, in_specs=(spec,), out_specs=spec, check_vma=checked)(arrays))

    def of_moving(moving: Arrays, arrays: Arrays) -> jax.Array:
        full = list(arrays)
        for position, array in zip(s.one.moving, moving, strict=True):
            full[position] = array
        try:
            return on_two(tuple(full), checked=True)
        except TypeError:  # shard_map refuses a correct loop that starts from constants: these do not vary over devices
            return on_two(tuple(full), checked=False)

    both = tuple(jnp.stack([a, a]) for a in s.arrays)
    split = tuple(jax.device_put(a, jax.NamedSharding(mesh, spec)) for a in both)
    gradients = jax.jit(jax.grad(of_moving), compiler_options=LITTLE_EFFORT)(s.one.chosen(split), split)
    return tuple(np.asarray(g) for g in gradients)


def _on_each(s: Subject) -> Any:
    return tuple(jnp.stack([g, g]) for g in s.gradient)


def _batches(s: Subject) -> Any:
    if s.rows is None:
        raise Skipped("no batch axis with independent rows")
    if uses(jax.make_jaxpr(s.both_of)(s.arrays), _DRAWS):
        raise Skipped("it draws random numbers, which are others where there are more of them")
    if not s.sizes:
        raise Skipped("it is for this batch size only")
    found = []
    for size, arrays in s.sizes.items():
        weights = tuple(w[np.arange(size) % s.rows] for w in s.weights)
        values, slopes = dataclasses.replace(s, weights=weights).both_of(arrays)
        found.append((values, [slopes[k] for k in s.batched]))
    return found


def _of_whole(s: Subject) -> Any:
    assert s.rows is not None
    values, gradients = s.both_of(s.arrays)
    taken = [np.arange(size) % s.rows for size in s.sizes]
    return [([v[rows] for v in values], [gradients[k][rows] for k in s.batched]) for rows in taken]


class Mode(NamedTuple):
    """A transformation."""

    given: Callable[[Subject], Any]
    """What it makes of the function, evaluated."""
    meant: Callable[[Subject], Any]
    """What that must equal. Several transformations may mean the same, which is then executed once."""
    meaning: str
    """Both in words."""


MODES = {
    "jit": Mode(_jit, _both, "value and gradient as without"),
    "grad of jit": Mode(_jit_inside, _gradient, "gradient as without"),
    "vmap": Mode(_vmap, _one_by_one, "value and gradient of two inputs as one by one"),
    "jvp": Mode(_jvp, _along_tangents, "⟨u, Jv⟩ = ⟨Jᵀu, v⟩"),
    "linearize": Mode(_linearize, _pushed, "as jvp"),
    "jacfwd": Mode(_jacfwd, _jacrev, "as jacrev"),
    "hessian": Mode(_hessian, _second_of_formula, "times two directions, forward over reverse, as the formula's"),
    "reverse over reverse": Mode(_reverse_twice, _second_of_formula, "times two directions, as the formula's Hessian"),
    "remat": Mode(_remat, _gradient, "gradient as without"),
    "scan": Mode(_scan, _gradient, "gradient of two steps is twice that of one"),
    "scan, second derivative": Mode(_scan_twice, _squares_of_formula, "of squares, as the formula's without the loop"),
    "shard_map": Mode(_shard_map, _on_each, "gradient on two devices as on one"),
    "other batch sizes": Mode(
        _batches, _of_whole, "value and gradient of one row, of half the rows and of one more as in the whole"
    ),
}
