"""The function under check at one point, and the derivatives of it that transformations are held against."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossjax.verify._check import compare as by
from lossjax.verify._check.inlining import uses
from lossjax.verify._check.inputs import is_symmetric
from lossjax.verify._check.problem import Arrays, Problem, is_key, weighted_sum
from lossjax.verify._check.programs import Pair, Program


@dataclasses.dataclass(eq=False)
class Subject:
    """The function at one point, with weights for its outputs and a direction for its inputs."""

    one: Problem
    pair: Pair
    arrays: Arrays
    weights: Arrays
    tangents: Arrays
    _known: dict[Callable[["Subject"], Any], Any] = dataclasses.field(default_factory=dict, init=False)

    @property
    def rows(self) -> int | None:
        """The length of a batch axis whose rows do not feel each other."""
        return self.pair.rows

    def exactly(self, meant: Callable[["Subject"], Any]) -> Any:
        """What a function of this gives, executed exactly, and once."""
        if meant not in self._known:
            self._known[meant] = Program(lambda: meant(self), wide=self.pair.wide)()
        return self._known[meant]

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

    @functools.cached_property
    def reversed(self) -> Arrays:
        """Other arguments: those that are differentiated, backwards."""
        backwards = {i: np.asarray(self.arrays[i]) for i in self.one.moving}
        return self.one.replaced(self.arrays, {i: a[..., ::-1] if a.ndim else a for i, a in backwards.items()})

    @property
    def batched(self) -> list[int]:
        """Which of the differentiated arrays have the batch axis."""
        shapes = [np.shape(self.arrays[position]) for position in self.one.moving]
        return [k for k, shape in enumerate(shapes) if shape and shape[0] == self.rows]

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

    def second_along_tangents(self, scalar: Callable[..., jax.Array]) -> Any:
        """The Hessian of a scalar function of the differentiated arrays, times the one direction."""
        gradient = jax.grad(scalar, self.argnums)
        return self.symmetrical(reverse_over(gradient, self.moving, self.symmetrical(self.tangents)))

    def symmetrical(self, stacked: Arrays) -> Arrays:
        """The symmetric part for an argument that is a symmetric matrix: of its function, nothing else is known."""
        pairs = zip(stacked, self.one.chosen(self.arrays), strict=True)
        return tuple((x + x.swapaxes(-1, -2)) / 2 if is_symmetric(np.asarray(a)) else x for x, a in pairs)

    def by_formula(self, derivative: Callable[[Callable[..., jax.Array]], Any]) -> Any:
        """A derivative of the weighted sum as the formula has it, free of custom rules.

        Where JAX cannot differentiate the formula so often, it is the function's own, and the modes are compared with
        each other.
        """
        try:
            return derivative(functools.partial(self.scalar, fn=self.pair.truth))
        except Exception:  # JAX and the formula may raise anything
            return derivative(self.scalar)


def forward_over(gradient: Callable[..., Arrays], moving: Arrays, direction: Arrays) -> Arrays:
    return jax.jvp(gradient, moving, direction)[1]


def reverse_over(gradient: Callable[..., Arrays], moving: Arrays, direction: Arrays) -> Arrays:
    return jax.grad(lambda *m: weighted_sum(gradient(*m), direction), tuple(range(len(moving))))(*moving)
