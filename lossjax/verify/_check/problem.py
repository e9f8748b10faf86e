"""The function under check as flat arrays: what moves, what is kept, and the programs made of it."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossjax._core.versions import Jaxpr, body
from lossjax.verify._check.inlining import inner_jaxprs
from lossjax.verify._exact import UndecidedComparison
from lossjax.verify._exact.interpreter import interpret

Arrays = tuple[Any, ...]

_BITS = 256


def is_float(leaf: Any) -> bool:
    """Whether it is an array of floats."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def is_integer(leaf: Any) -> bool:
    """Whether it is an array of integers."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.integer)


def weighted_sum(outputs: Arrays, weights: Arrays) -> jax.Array:
    """``Σ outputs · weights`` over tuples of arrays, in the widest of their dtypes."""
    terms = [jnp.sum(o * w) for o, w in zip(outputs, weights, strict=True)]
    widest = functools.reduce(jnp.promote_types, [t.dtype for t in terms])
    return functools.reduce(jnp.add, [t.astype(widest) for t in terms])


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A function of any pytrees as one of a flat tuple of arrays, giving the flat tuple of its float outputs."""

    fn: Callable[..., Any]
    leaves: Arrays
    tree: Any
    traced: tuple[int, ...]
    """Which leaves are arrays. The others (Python numbers, flags) stay what they are."""
    moving: tuple[int, ...]
    """Positions among the arrays that are differentiated."""
    names: tuple[str, ...]
    """Of the arrays: ``argument 0``, or ``argument 0['scale']`` inside a pytree."""
    arrays: Arrays
    """The example."""

    @property
    def floats(self) -> tuple[int, ...]:
        """Positions of all float arrays."""
        return tuple(i for i, a in enumerate(self.arrays) if is_float(a))

    def call(self, fn: Callable[..., Any], arrays: Sequence[Any]) -> Arrays:
        """The float outputs of a function of the same arguments."""
        leaves = list(self.leaves)
        for position, array in zip(self.traced, arrays, strict=True):
            leaves[position] = array
        return tuple(out for out in jax.tree.leaves(fn(*jax.tree.unflatten(self.tree, leaves))) if is_float(out))

    def values(self, fn: Callable[..., Any]) -> Callable[..., Arrays]:
        """``(arrays) -> outputs``."""
        return lambda arrays: self.call(fn, arrays)

    def of_moving(self, fn: Callable[..., Any], arrays: Sequence[Any]) -> Callable[..., Arrays]:
        """The function of the differentiated arrays alone."""

        def moved(*moving: Any) -> Arrays:
            full = list(arrays)
            for position, array in zip(self.moving, moving, strict=True):
                full[position] = array
            return self.call(fn, full)

        return moved

    def pullback(self, fn: Callable[..., Any]) -> Callable[..., tuple[Arrays, Arrays]]:
        """``(arrays, cotangents) -> outputs, gradients``."""

        def pulled(arrays: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
            outputs, pull = jax.vjp(self.of_moving(fn, arrays), *self.chosen(arrays))
            return outputs, tuple(pull(cotangents))

        return pulled

    def pullback_by_forward_mode(self, fn: Callable[..., Any]) -> Callable[..., tuple[Arrays, Arrays]]:
        """The same, by a tangent for every input."""

        def pulled(arrays: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
            of_moving, moving = self.of_moving(fn, arrays), self.chosen(arrays)

            def weighted(*moved: Any) -> jax.Array:
                return weighted_sum(of_moving(*moved), cotangents)

            return of_moving(*moving), jax.jacfwd(weighted, tuple(range(len(moving))))(*moving)

        return pulled

    def pushforward(self, fn: Callable[..., Any]) -> Callable[..., tuple[Arrays, Arrays]]:
        """``(arrays, tangents) -> outputs, tangents of the outputs``."""

        def pushed(arrays: Arrays, tangents: Arrays) -> tuple[Arrays, Arrays]:
            return jax.jvp(self.of_moving(fn, arrays), self.chosen(arrays), tangents)

        return pushed

    def chosen(self, arrays: Sequence[Any]) -> Arrays:
        """The differentiated ones of these arrays."""
        return tuple(arrays[i] for i in self.moving)

    def replaced(self, arrays: Sequence[Any], by: dict[int, Any]) -> Arrays:
        """These arrays with some exchanged, each in the dtype it had."""
        return tuple(np.asarray(by[i]).astype(a.dtype) if i in by else a for i, a in enumerate(arrays))

    @functools.cached_property
    def compiled(self) -> tuple[Callable[..., Arrays], Callable[..., tuple[Arrays, Arrays]]]:
        """Values, and the pullback, in floating point as they will be run."""
        return jax.jit(self.values(self.fn)), jax.jit(self.pullback(self.fn))

    def shapes(self, arrays: Sequence[Any]) -> Arrays:
        """Shape and dtype of the float outputs."""
        return jax.eval_shape(self.values(self.fn), tuple(arrays))


def problem(fn: Callable[..., Any], args: tuple[Any, ...], argnums: int | Sequence[int]) -> Problem:
    """Flatten the arguments; TypeError where there is nothing to differentiate, or nothing comes out."""
    wanted = {argnums} if isinstance(argnums, int) else set(argnums)
    if bad := [n for n in wanted if not 0 <= n < len(args)]:
        raise TypeError(f"argnums names argument {bad[0]}, but {len(args)} example arguments were given")
    with_paths, tree = jax.tree_util.tree_flatten_with_path(args)
    leaves: list[Any] = []
    traced, moving, names = [], [], []
    for path, given in with_paths:
        number = path[0].idx
        leaf = given
        if hasattr(given, "dtype") or number in wanted:
            key = hasattr(given, "dtype") and jnp.issubdtype(given.dtype, jax.dtypes.prng_key)
            leaf = given if key else np.asarray(jnp.asarray(given))
            if number in wanted and is_float(leaf):
                moving.append(len(traced))
            traced.append(len(leaves))
            names.append(f"argument {number}{jax.tree_util.keystr(path[1:])}")
        leaves.append(leaf)
    if not moving:
        raise TypeError(f"no floating-point array in argnums {argnums}; there is nothing to differentiate")
    arrays = tuple(leaves[i] for i in traced)
    made = Problem(fn, tuple(leaves), tree, tuple(traced), tuple(moving), tuple(names), arrays)
    if not made.shapes(arrays):
        raise TypeError("the function returns no floating-point array; there is nothing to check")
    return made


class Program:
    """A function traced once, to be executed exactly as often as wanted."""

    def __init__(self, function: Callable[..., Any], *examples: Any, wide: bool):
        self._wide = wide
        with x64(wide):
            self.jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*examples)
        self._tree = jax.tree.structure(shapes)

    def __call__(self, *args: Any) -> Any:
        """The outputs as balls. Floats may be given as balls too."""
        with x64(self._wide):
            leaves = jax.tree.leaves(args)
            try:
                results = interpret(self.jaxpr, leaves, _BITS)
            except UndecidedComparison:  # once more, not to the last: what is undecided here is mostly a tie
                results = interpret(self.jaxpr, leaves, 4 * _BITS)
            return jax.tree.unflatten(self._tree, results)


@contextlib.contextmanager
def x64(wide: bool) -> Iterator[None]:
    """Inside, float64 exists; as the caller has it if not ``wide``."""
    if wide:
        with jax.enable_x64(True):
            yield
    else:
        yield


def widened(arrays: Sequence[Any]) -> Arrays:
    """The same numbers, floats in float64."""
    return tuple(np.asarray(a).astype(np.float64) if is_float(a) else a for a in arrays)


def can_be_wide(one: Problem) -> bool:
    """Whether the function accepts float64 copies, so that its own rounded constants lie below what is judged."""
    arrays = widened(one.arrays)
    try:
        with x64(True):
            outputs = one.shapes(arrays)
            jax.eval_shape(one.pullback(one.fn), arrays, tuple(jnp.zeros(o.shape, o.dtype) for o in outputs))
    except Exception:  # whatever it raises: then it is taken in its own dtype
        return False
    return all(o.dtype == np.float64 for o in outputs)


def narrowest(jaxpr: Jaxpr) -> Any:
    """The float dtype of fewest bits in a jaxpr: in it, constants may be rounded."""
    found = [np.dtype(np.float64)]
    for equation in body(jaxpr).eqns:
        avals: list[Any] = [getattr(v, "aval", None) for v in (*equation.invars, *equation.outvars)]
        found += [aval.dtype for aval in avals if is_float(aval)]
        found += [narrowest(inner) for inner in inner_jaxprs(equation.params)]
    return max(found, key=lambda dtype: float(jnp.finfo(dtype).eps))


def cotangents(shapes: Sequence[Any], random: np.random.Generator) -> Arrays:
    """Never uniform: another number of either sign for every output, few bits, so that they are exact everywhere."""
    return tuple(
        np.asarray(random.integers(32, 128, s.shape) / 64.0 * random.choice([-1, 1], s.shape)).astype(s.dtype)
        for s in shapes
    )
