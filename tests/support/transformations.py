"""The transformations of JAX, first and second order, each with what it must equal."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.support.quick import quick


def cotangent_for(output: jax.Array, dtype: Any = None) -> jax.Array:
    """Never uniform: another number, of either sign, for every output."""
    random = np.random.default_rng(output.size)
    signs = np.where(random.uniform(size=output.shape) < 0.5, -1, 1)
    return jnp.asarray(random.uniform(0.5, 2, output.shape) * signs, dtype or output.dtype)


Transformed = Callable[[Callable[..., jax.Array], tuple[jax.Array, ...], tuple[int, ...]], Any]


def scalar(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A scalar of the loss with non-uniform weights, for ``jax.grad``."""

    def weighted(*args: jax.Array) -> jax.Array:
        output = f(*args)
        return jnp.sum(output * cotangent_for(output))

    return weighted


def tangents(args: tuple[jax.Array, ...], argnums: tuple[int, ...]) -> list[jax.Array]:
    return [jnp.cos(jnp.arange(args[i].size, dtype=args[i].dtype)).reshape(args[i].shape) for i in argnums]


def moving(
    f: Callable[..., jax.Array], args: tuple[jax.Array, ...], argnums: tuple[int, ...]
) -> Callable[..., jax.Array]:
    def of(*floats: jax.Array) -> jax.Array:
        full = list(args)
        for position, value in zip(argnums, floats, strict=True):
            full[position] = value
        return f(*full)

    return of


def floats(args: tuple[jax.Array, ...], argnums: tuple[int, ...]) -> list[jax.Array]:
    return [args[i] for i in argnums]


def _scan(f: Callable[..., jax.Array], args: tuple[jax.Array, ...], argnums: tuple[int, ...]) -> Any:
    def looped(*full: jax.Array) -> jax.Array:
        def step(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            return carry + scalar(f)(*full), None

        return jax.lax.scan(step, jnp.zeros((), f(*full).dtype), None, length=1)[0]

    return jax.grad(looped, argnums)(*args)


def _jitted(transformed: Transformed) -> Transformed:
    return lambda f, args, n: quick(lambda *a: transformed(f, a, n))(*args)


TRANSFORMATIONS: dict[str, tuple[Transformed, Transformed]] = {
    # name: (the transformation, what it must equal)
    "jit": (lambda f, a, n: quick(f)(*a), lambda f, a, n: f(*a)),
    "jit of grad": (lambda f, a, n: quick(jax.grad(scalar(f), n))(*a), lambda f, a, n: jax.grad(scalar(f), n)(*a)),
    "grad of jit": (lambda f, a, n: jax.grad(scalar(jax.jit(f)), n)(*a), lambda f, a, n: jax.grad(scalar(f), n)(*a)),
    "remat": (lambda f, a, n: jax.grad(jax.checkpoint(scalar(f)), n)(*a), lambda f, a, n: jax.grad(scalar(f), n)(*a)),
    "scan": (_scan, lambda f, a, n: jax.grad(scalar(f), n)(*a)),
    "jvp": (
        _jitted(lambda f, a, n: jax.jvp(moving(f, a, n), floats(a, n), tangents(a, n))[1]),
        _jitted(lambda f, a, n: sum(
            jnp.tensordot(j, t, t.ndim)
            for j, t in zip(jax.jacrev(f, n)(*a), tangents(a, n), strict=True)
        )),
    ),
    "linearize": (
        lambda f, a, n: jax.linearize(moving(f, a, n), *floats(a, n))[1](*tangents(a, n)),
        lambda f, a, n: jax.jvp(moving(f, a, n), floats(a, n), tangents(a, n))[1],
    ),
    "jacfwd": (_jitted(lambda f, a, n: jax.jacfwd(f, n)(*a)), _jitted(lambda f, a, n: jax.jacrev(f, n)(*a))),
}  # fmt: skip


def hessian_product(f: Callable[..., jax.Array], args: tuple[jax.Array, ...], argnums: tuple[int, ...]) -> Any:
    gradient = jax.grad(scalar(f), argnums)
    return jax.jvp(moving(gradient, args, argnums), floats(args, argnums), tangents(args, argnums))[1]


def repeated(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Twice the square of :func:`scalar`, which a loop over inputs returns: its slope has the rule's value in it."""

    def looped(*args: jax.Array) -> jax.Array:
        both = [jnp.stack([a, a]) for a in args]
        return jnp.sum(jax.lax.scan(lambda carry, given: (carry, scalar(f)(*given)), 0, both)[1] ** 2)

    return looped


SECOND_ORDER: dict[str, Transformed] = {
    # Each against the same of the plain formula by JAX. The Hessian is run eagerly, where a rule that calls its own
    # decorated name breaks though it passes under jit.
    "hessian": lambda f, a, n: jax.hessian(scalar(f), n)(*a),
    "reverse over reverse": lambda f, a, n: quick(jax.jacrev(jax.jacrev(scalar(f), n), n))(*a),
    "forward over forward": lambda f, a, n: quick(jax.jacfwd(jax.jacfwd(scalar(f), n), n))(*a),
    "reverse over forward": lambda f, a, n: quick(jax.jacrev(jax.jacfwd(scalar(f), n), n))(*a),
}
