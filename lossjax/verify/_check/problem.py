"""The question: a function under check as one of flat arrays, some of which are differentiated."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossjax.verify._check.endings import compiled

Arrays = tuple[Any, ...]


def is_float(leaf: Any) -> bool:
    """Whether it is an array of floats."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def is_integer(leaf: Any) -> bool:
    """Whether it is an array of integers."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.integer)


def kind(array: Any) -> str:
    """What the numbers look like: signs, simplex (rows that sum to 1), unit, positive, or any."""
    values = np.asarray(array).astype(np.float64)
    if not values.size or not np.isfinite(values).all():
        return "any"
    if (np.abs(values) == 1).all() and (values < 0).any():
        return "signs"
    if (values < 0).any() or not values.any():
        return "any"
    if values.ndim and values.shape[-1] > 1 and np.allclose(values.sum(-1), 1, rtol=0, atol=1e-2):
        return "simplex"
    return "unit" if values.max() <= 1 else "positive"


def weighted_sum(outputs: Arrays, weights: Arrays) -> jax.Array:
    """``Σ outputs · weights`` over tuples of arrays, in the widest of their dtypes."""
    terms = [jnp.sum(o * w) for o, w in zip(outputs, weights, strict=True)]
    widest = functools.reduce(jnp.promote_types, [t.dtype for t in terms])
    return functools.reduce(jnp.add, [t.astype(widest) for t in terms])


BEYOND_JAX = {
    # A program of JAX's own making: it remembers in 32 bits what is closed over in 64, or the other way round.
    "Cannot lower jaxpr with verifier errors": "JAX mixes up 32 and 64 bits of what is closed over",
    "forward-mode autodiff (jvp) to a custom_vjp": "JAX has no forward mode for a custom_vjp function",
    "Linearization failed to produce known values": "JAX differentiates a kernel inside once, by its rule",
    "The context mesh": "it has a shard_map over another mesh inside",
    "When `check_vma=True`": "JAX has no shard_map of a kernel that does not say what it varies over",
    "Reverse-mode differentiation does not work for lax.while_loop": "JAX has no reverse mode for the loop in the rule",
    "non-canonical constant": "JAX has no forward mode for this shard_map while it is traced",
}
"""What JAX says where it cannot do something for any function of a kind, and what this means."""


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A function of any pytrees, seen as a function of a flat tuple of arrays that returns its float outputs."""

    fn: Callable[..., Any]
    leaves: Arrays
    tree: Any
    """Of the positional arguments and the keywords."""
    traced: tuple[int, ...]
    """Which leaves are arrays. The others (Python numbers, flags) are passed on as they are."""
    moving: tuple[int, ...]
    """Positions among the arrays that are differentiated."""
    names: tuple[str, ...]
    """What to call the arrays: ``argument 0``, or ``argument 0['scale']`` inside a pytree."""
    arrays: Arrays
    """The arrays of the example."""

    @property
    def floats(self) -> tuple[int, ...]:
        """Positions of all float arrays."""
        return tuple(i for i, a in enumerate(self.arrays) if is_float(a))

    def call(self, fn: Callable[..., Any], arrays: Sequence[Any]) -> Arrays:
        """The float outputs of a function of the same arguments."""
        leaves = list(self.leaves)
        for position, array in zip(self.traced, arrays, strict=True):
            leaves[position] = array if is_key(array) else jnp.asarray(array)  # a function may ask for JAX's own
        args, keywords = jax.tree.unflatten(self.tree, leaves)
        return tuple(out for out in jax.tree.leaves(fn(*args, **keywords)) if is_float(out))

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
            outputs, pull = jax.vjp(self.of_moving(fn, arrays), *map(jnp.asarray, self.chosen(arrays)))
            return outputs, tuple(pull(tuple(map(jnp.asarray, cotangents))))

        return pulled

    def pullback_by_forward_mode(self, fn: Callable[..., Any]) -> Callable[..., tuple[Arrays, Arrays]]:
        """What ``pullback`` returns, computed in forward mode with one tangent per input."""

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
        """Those of these arrays that are differentiated."""
        return tuple(arrays[i] for i in self.moving)

    def replaced(self, arrays: Sequence[Any], by: dict[int, Any]) -> Arrays:
        """These arrays with some exchanged, each in the dtype it had."""
        return tuple(np.asarray(by[i]).astype(a.dtype) if i in by else a for i, a in enumerate(arrays))

    @functools.cached_property
    def compiled_values(self) -> Callable[..., Arrays]:
        """The values in floating point as they will be run; not where a loop may have no end."""
        return compiled(self.values(self.fn), self.arrays)

    def computed(self, arrays: Arrays) -> list[Any]:
        """What they give, as arrays of float64."""
        return [np.asarray(v).astype(np.float64) for v in self.compiled_values(arrays)]

    @functools.cached_property
    def compiled_pullback(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """The pullback, likewise."""
        return compiled(self.pullback(self.fn), self.arrays, self.ones)

    @property
    def ones(self) -> Arrays:
        """Cotangents of one for every output."""
        return tuple(np.ones(s.shape, s.dtype) for s in self.shapes(self.arrays))

    @functools.cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each array. A differentiated one is ``any`` if the function is finite where its kind is left."""
        found = [kind(a) if is_float(a) else "" for a in self.arrays]
        for i in self.moving:
            if found[i] != "any":
                values = self.arrays[i].astype(np.float64)
                signs = np.where(np.arange(values.size) % 2, 1, -1).reshape(values.shape)
                outside = self.replaced(self.arrays, {i: -3 * (values + 0.5) * signs})
                try:
                    results = [x for group in self.compiled_pullback(outside, self.ones) for x in group]
                except Exception:  # a function that checks its arguments while it runs may raise anything
                    continue
                if all(np.isfinite(np.asarray(x).astype(np.float64)).all() for x in results):
                    found[i] = "any"
        return tuple(found)

    def shapes(self, arrays: Sequence[Any]) -> Arrays:
        """The shapes and dtypes of the float outputs."""
        return jax.eval_shape(self.values(self.fn), tuple(arrays))


def is_key(leaf: Any) -> bool:
    """Whether it is an array of random keys."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def problem(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    argnums: int | Sequence[int] | None = None,
    keywords: Mapping[str, Any] | None = None,
) -> Problem:
    """Flatten the arguments; TypeError where there is nothing to differentiate, or nothing comes out.

    An array is an argument of the function; a leaf of another kind (a number of Python's, a flag, a function inside a
    module) is a part of it. The exception is a float that ``argnums`` names, or that is all there is to differentiate.
    """
    keywords = dict(keywords or {})
    wanted = _wanted(argnums, len(args), len(keywords))
    with_paths, tree = jax.tree_util.tree_flatten_with_path((args, keywords))
    every_float = argnums is None and not any(is_float(leaf) for _, leaf in with_paths)
    leaves: list[Any] = []
    traced, moving, names = [], [], []
    for path, given in with_paths:
        leaf = given
        asked = argnums is None if path[0].idx else path[1].idx in wanted
        if hasattr(given, "dtype") or (isinstance(given, float) and asked and (argnums is not None or every_float)):
            leaf = given if is_key(given) else np.asarray(jnp.asarray(given))
            if asked and is_float(leaf):
                moving.append(len(traced))
            traced.append(len(leaves))
            whose = f"argument {path[1].idx}" if path[0].idx == 0 else f"argument {path[1].key!r}"
            names.append(f"{whose}{jax.tree_util.keystr(path[2:])}")
            if asked and isinstance(leaf, np.ndarray) and np.iscomplexobj(leaf):
                raise TypeError(
                    f"{names[-1]} is {leaf.dtype}, and real numbers are differentiated: check a function of its real "
                    "and imaginary parts, or name the other arguments in argnums"
                )
        leaves.append(leaf)
    if not moving:
        raise TypeError(
            "no floating-point array among the arguments; there is nothing to differentiate"
            if argnums is None
            else f"no floating-point array in argnums {argnums}; there is nothing to differentiate"
        )
    arrays = tuple(leaves[i] for i in traced)
    made = Problem(fn, tuple(leaves), tree, tuple(traced), tuple(moving), tuple(names), arrays)
    if not made.shapes(arrays):
        raise TypeError("the function returns no floating-point array; there is nothing to check")
    return made


def _wanted(argnums: int | Sequence[int] | None, count: int, keywords: int) -> set[int]:
    """The positions to differentiate; those from the end are counted as JAX counts them."""
    if argnums is None:
        return set(range(count))
    given = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if bad := [n for n in given if not -count <= n < count]:
        beside = " (keywords are differentiated only where argnums is None)" if keywords else ""
        raise TypeError(f"argnums names argument {bad[0]}, but {count} example arguments were given{beside}")
    return {n % count for n in given}
