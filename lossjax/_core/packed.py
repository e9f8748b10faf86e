"""A pytree as its arrays and all the rest of it, which is static: what goes into a rule and what it saves."""

import dataclasses
import inspect
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossjax._core.platform import Platforms, platforms, traced_for


def is_array(leaf: Any) -> bool:
    """Whether a leaf is differentiated, or carried along, as an array; a number of Python's is not."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def is_inexact(dtype: Any) -> bool:
    """Whether an array of this dtype has a cotangent."""
    return jnp.issubdtype(dtype, jnp.inexact)


@dataclasses.dataclass(frozen=True)
class Structure:
    """A pytree without its arrays: hashable, so that JAX can take it as static."""

    tree: Any
    leaves: tuple[Hashable, ...]
    are_arrays: tuple[bool, ...]
    platforms: Platforms
    """What it was taken apart for: a rule may be traced for these alone, and may be traced later."""

    def called(self, function: Callable[..., Any], arrays: Any) -> Any:
        """The function of the pytree's parts, with these arrays in them."""
        with traced_for(self.platforms):
            return function(*self.filled(arrays))

    def on(self, platforms: Platforms) -> "Structure":
        """The same, for these platforms alone."""
        return dataclasses.replace(self, platforms=platforms)

    def filled(self, arrays: Any) -> Any:
        """The pytree with these arrays in it."""
        rest = iter(arrays)
        return self.tree.unflatten(
            [next(rest) if here else leaf for here, leaf in zip(self.are_arrays, self.leaves, strict=True)]
        )

    def leaves_of(self, cotangents: tuple[Any, ...]) -> tuple[Any, ...]:
        """One cotangent per array, from one pytree (or None) per argument."""
        found: list[Any] = []
        for argument, given in zip(self.tree.children(), cotangents, strict=True):
            found += [None] * argument.num_leaves if given is None else argument.flatten_up_to(given)
        return tuple(cotangent for here, cotangent in zip(self.are_arrays, found, strict=True) if here)

    def name(self, array: int, signature: inspect.Signature) -> str:
        """The parameter that an array belongs to, and the way to it: ``rows.maximum``."""
        leaf = [i for i, here in enumerate(self.are_arrays) if here][array]
        (argument, *way), _ = jax.tree_util.tree_leaves_with_path(self.tree.unflatten(range(len(self.leaves))))[leaf]
        return list(signature.parameters)[argument.idx] + jax.tree_util.keystr(tuple(way))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
    """A pytree as its arrays and its structure."""

    arrays: tuple[Any, ...]
    structure: Structure = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, tree: Any) -> "Packed":
        leaves, treedef = jax.tree.flatten(tree)
        are_arrays = tuple(is_array(leaf) for leaf in leaves)
        arrays = tuple(leaf for here, leaf in zip(are_arrays, leaves, strict=True) if here)
        kept = tuple(None if here else leaf for here, leaf in zip(are_arrays, leaves, strict=True))
        return cls(arrays, Structure(treedef, kept, are_arrays, platforms()))

    def unpacked(self) -> Any:
        return self.structure.filled(self.arrays)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Saved:
    """What a forward pass saves, without the arrays that it was given: those are passed on, and not through it.

    An array that goes through comes out as another one. Where the rule stands in a loop, JAX would keep both.
    """

    formed: tuple[Any, ...]
    given: tuple[int | None, ...] = dataclasses.field(metadata={"static": True})
    """For each array that is saved, which of the given ones it is; None if the forward pass has formed it."""
    structure: Structure = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, tree: Any, arrays: tuple[Any, ...]) -> "Saved":
        packed, places = Packed.of(tree), {id(array): i for i, array in enumerate(arrays)}
        given = tuple(places.get(id(array)) for array in packed.arrays)
        formed = tuple(array for array, place in zip(packed.arrays, given, strict=True) if place is None)
        return cls(formed, given, packed.structure)

    def with_given(self, arrays: tuple[Any, ...]) -> Packed:
        """All that is saved, given those arrays."""
        formed = iter(self.formed)
        return Packed(tuple(next(formed) if i is None else arrays[i] for i in self.given), self.structure)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Dtypes:
    """The dtypes of a rule's arrays, carried from its forward to its backward pass as static data."""

    of_arrays: tuple[Any, ...]
