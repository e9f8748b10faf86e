"""The transformations of JAX, and what the program that each makes of a function must equal."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from lossjax._core.xla import LITTLE_EFFORT
from lossjax.verify._check import compare as by
from lossjax.verify._check.inlining import uses
from lossjax.verify._check.inputs import is_symmetric
from lossjax.verify._check.problem import Arrays, Problem, is_key, weighted_sum
from lossjax.verify._check.programs import Pair, exactly_or_compiled

_MOST_FIRST = 10**5
_DRAWS = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform")


class Skipped(Exception):
    """The transformation makes no sense for the function, or not here; the message says why."""


@dataclasses.dataclass(eq=False)
class Subject:
    """The function at one point, with weights for its outputs and a direction for its inputs."""

    one: Problem
    pair: Pair
    arrays: Arrays
    weights: Arrays
    tangents: Arrays

    @functools.cached_property
    def rows(self) -> int | None:
        """The length of a batch axis whose rows do not feel each other."""
        return self.pair.rows

    @functools.cached_property
    def sizes(self) -> dict[int, Arrays]:
        """The arguments for other numbers of rows, where the function takes them.

        A kernel may be for whole blocks of rows only, and leave others unwritten: what it cannot compute is no size.
        """
        found: dict[int, Arrays] = {}
        if self.rows is None:
            return found
        kernel = uses(jax.make_jaxpr(self.both_of)(self.arrays), ("pallas_call",))
        for size in sorted({1, self.rows // 2, self.rows + 1}):
            taken = np.arange(size) % self.rows
            arrays = tuple(
                (a if is_key(a) else np.asarray(a))[taken] if np.ndim(a) and a.shape[0] == self.rows else a
                for a in self.arrays
            )
            try:
                fits = all(o.shape[:1] == (size,) for o in self.one.shapes(arrays))
                if fits and kernel:
                    rows = zip(self.one.call(self.one.fn, arrays), self.values, strict=True)
                    fits = all(np.allclose(a, b[taken], 1e-2, 1e-2 * by.largest(b), equal_nan=True) for a, b in rows)
            except Exception:  # the function holds data of its own for each row: any error says so
                fits = False
            if fits:
                found[size] = arrays
        return found

    @property
    def moving(self) -> Arrays:
        return tuple(map(jnp.asarray, self.one.chosen(self.arrays)))

    def of_moving(self, fn: Callable[..., Any] | None = None) -> Callable[..., Arrays]:
        return self.one.of_moving(fn or self.one.fn, self.arrays)

    def scalar(self, *moving: Any, fn: Callable[..., Any] | None = None) -> jax.Array:
        return weighted_sum(self.of_moving(fn)(*moving), self.weights)

    @property
    def argnums(self) -> tuple[int, ...]:
        return tuple(range(len(self.one.moving)))

    def gradient_of(self, arrays: Arrays) -> Arrays:
        """The gradient in the differentiated arrays, as a function of all arrays."""
        of_moving = self.one.of_moving(self.one.fn, arrays)
        return jax.grad(lambda *m: weighted_sum(of_moving(*m), self.weights), self.argnums)(
            *map(jnp.asarray, self.one.chosen(arrays))
        )

    def both_of(self, arrays: Arrays) -> tuple[Arrays, Arrays]:
        """Values and gradient, as a function of all arrays."""
        return self.one.call(self.one.fn, arrays), self.gradient_of(arrays)

    def gradient_through(self, staged: Callable[..., Any]) -> Arrays:
        """The gradient of what a transformation makes of the function, which it traces before any derivative is asked.

        Every array is an argument of it: a rule that closes over one, whichever, keeps a tracer that is gone.
        """

        def scalar(*arrays: Any) -> jax.Array:
            return weighted_sum(self.one.call(self.one.fn, arrays), self.weights)

        return jax.grad(staged(scalar), self.one.moving)(*self.arrays)

    @property
    def gradient(self) -> Arrays:
        return self.gradient_of(self.arrays)

    @property
    def values(self) -> Arrays:
        return self.one.call(self.one.fn, self.arrays)

    @property
    def directions(self) -> Arrays:
        """Two directions of the differentiated arrays, stacked: a transformation is then met in a batch, too."""
        return tuple(np.stack([t, t[..., ::-1] if np.ndim(t) else -t]) for t in self.tangents)

    def second(
        self, along: Callable[..., Arrays], scalar: Callable[..., jax.Array], first: Callable[..., Any] = jax.grad
    ) -> Any:
        """The Hessian of the weighted sum times each of the directions, by ``along(gradient, moving, direction)``."""
        gradient = first(scalar, self.argnums)
        directions = self.symmetrical(self.directions)
        return self.symmetrical(
            jax.vmap(lambda *direction: along(gradient, self.moving, direction))(*directions)
        )  # fmt: skip

    def symmetrical(self, stacked: Arrays) -> Arrays:
        """The symmetric part for an argument that is a symmetric matrix: of its function, nothing else is known."""
        pairs = zip(stacked, self.one.chosen(self.arrays), strict=True)
        return tuple((x + x.swapaxes(-1, -2)) / 2 if is_symmetric(np.asarray(a)) else x for x, a in pairs)

    def second_of_formula(self) -> Any:
        """The same of the formula, in reverse over reverse mode; a loop of unknown length has forward modes only."""
        try:
            return self.by_formula(functools.partial(self.second, _reverse_over))
        except Exception as in_reverse:  # JAX and the function may raise anything
            plain = functools.partial(self.scalar, fn=self.pair.truth)
            try:
                return self.second(_forward_over, plain, jax.jacfwd)
            except Exception:  # in neither: what JAX says of the mode that was asked for is what counts
                raise in_reverse from None

    def by_formula(self, derivative: Callable[[Callable[..., jax.Array]], Any]) -> Any:
        """A derivative of the weighted sum as the formula has it, free of custom rules.

        Where JAX cannot differentiate the formula so often, it is the function's own, and the modes are compared with
        each other.
        """
        try:
            return derivative(functools.partial(self.scalar, fn=self.pair.truth))
        except Exception:  # JAX and the formula may raise anything
            return derivative(self.scalar)


def _forward_over(gradient: Callable[..., Arrays], moving: Arrays, direction: Arrays) -> Arrays:
    return jax.jvp(gradient, moving, direction)[1]


def _reverse_over(gradient: Callable[..., Arrays], moving: Arrays, direction: Arrays) -> Arrays:
    return jax.grad(lambda *m: weighted_sum(gradient(*m), direction), tuple(range(len(moving))))(*moving)


def _jit(s: Subject) -> Any:
    return jax.jit(s.both_of, compiler_options=LITTLE_EFFORT)(s.arrays), exactly_or_compiled(
        lambda: s.both_of(s.arrays), s.pair.wide
    )


def _vmap(s: Subject) -> Any:
    other = s.one.replaced(s.arrays, {i: np.asarray(s.arrays[i])[..., ::-1] if np.ndim(s.arrays[i]) else s.arrays[i]
                                      for i in s.one.moving})  # fmt: skip
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), s.arrays, other)
    singles = jax.tree.map(lambda a, b: jnp.stack([a, b]), s.both_of(s.arrays), s.both_of(other))
    return jax.vmap(s.both_of)(both), singles


def _jvp(s: Subject) -> Any:
    outputs, pushed = jax.jvp(s.of_moving(), s.moving, s.tangents)
    return (outputs, weighted_sum(pushed, s.weights)), (s.values, weighted_sum(s.gradient, s.tangents))


def _linearize(s: Subject) -> Any:
    outputs, pushed = jax.linearize(s.of_moving(), *s.moving)
    return (outputs, pushed(*s.tangents)), jax.jvp(s.of_moving(), s.moving, s.tangents)


def _jacfwd(s: Subject) -> Any:
    outputs = sum(np.size(w) for w in s.weights)
    if outputs * sum(map(np.size, s.moving)) > _MOST_FIRST:
        raise Skipped("the Jacobian is large; give a smaller example")
    return jax.jacfwd(s.of_moving(), s.argnums)(*s.moving), jax.jacrev(s.of_moving(), s.argnums)(*s.moving)


def _hessian(s: Subject) -> Any:
    return s.second(_forward_over, s.scalar), s.second_of_formula()


def _reverse_twice(s: Subject) -> Any:
    return s.second(_reverse_over, s.scalar), s.second_of_formula()


def _jit_inside(s: Subject) -> Any:
    return s.gradient_through(jax.jit), s.gradient


def _remat(s: Subject) -> Any:
    return s.gradient_through(jax.checkpoint), s.gradient


def _scan(s: Subject) -> Any:
    def looped(*moving: Any) -> jax.Array:
        start = jnp.zeros_like(jax.eval_shape(s.scalar, *moving))
        return jax.lax.scan(lambda carry, _: (carry + s.scalar(*moving), None), start, None, length=2)[0]

    return jax.grad(looped, s.argnums)(*s.moving), jax.tree.map(lambda g: 2 * g, s.gradient)


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

    def along_tangents(f: Callable[..., jax.Array]) -> Any:
        return s.symmetrical(_reverse_over(jax.grad(f, s.argnums), s.moving, s.symmetrical(s.tangents)))

    want = s.by_formula(lambda scalar: along_tangents(lambda *moving: 2 * scalar(*moving) ** 2))
    return along_tangents(looped), want


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
    singles = exactly_or_compiled(lambda: s.gradient, s.pair.wide)
    return gradients, tuple(np.stack([g, g]) for g in singles)


def _batches(s: Subject) -> Any:
    rows = s.rows
    if rows is None:
        raise Skipped("no batch axis with independent rows")
    if uses(jax.make_jaxpr(s.both_of)(s.arrays), _DRAWS):
        raise Skipped("it draws random numbers, which are others where there are more of them")
    of_batch = [k for k, a in enumerate(s.arrays) if np.ndim(a) and a.shape[0] == rows]
    values, gradients = s.both_of(s.arrays)
    got, want = [], []
    for size, arrays in s.sizes.items():
        taken = np.arange(size) % rows
        found, slopes = dataclasses.replace(s, weights=tuple(w[taken] for w in s.weights)).both_of(arrays)
        kept = [k for k, position in enumerate(s.one.moving) if position in of_batch]
        got.append((found, [slopes[k] for k in kept]))
        want.append(([v[taken] for v in values], [gradients[k][taken] for k in kept]))
    if not got:
        raise Skipped("it is for this batch size only")
    return got, want


MODES: dict[str, tuple[Callable[[Subject], Any], str]] = {
    "jit": (_jit, "value and gradient as without"),
    "grad of jit": (_jit_inside, "gradient as without"),
    "vmap": (_vmap, "value and gradient of two inputs as one by one"),
    "jvp": (_jvp, "⟨u, Jv⟩ = ⟨Jᵀu, v⟩"),
    "linearize": (_linearize, "as jvp"),
    "jacfwd": (_jacfwd, "as jacrev"),
    "hessian": (_hessian, "times two directions, forward over reverse, as the formula's"),
    "reverse over reverse": (_reverse_twice, "times two directions, as the formula's Hessian"),
    "remat": (_remat, "gradient as without"),
    "scan": (_scan, "gradient of two steps is twice that of one"),
    "scan, second derivative": (_scan_twice, "of squares, as the formula's without the loop"),
    "shard_map": (_shard_map, "gradient on two devices as on one"),
    "other batch sizes": (_batches, "value and gradient of one row, of half the rows and of one more as in the whole"),
}
"""Name of each transformation: what it gives together with what that must equal, and this in words."""
