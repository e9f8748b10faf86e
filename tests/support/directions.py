"""Derivatives in single directions: one-hot and sparse cotangents and tangents, huge and tiny ones, and second order.

A rule may be accurate for every dense cotangent and lose all digits for a one-hot one: JAX forms forward mode by
transposing the backward pass, and reverse mode by transposing that again, and the transpose of an accurate expression
may cancel. In dense directions the lost part hides behind the other entries.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossjax.verify import oracle, ulp
from lossjax.verify.ulp import Balls
from tests.support.cases import Case
from tests.support.contract import arguments
from tests.support.draws import Family
from tests.support.transformations import floats, moving

SCALES = 1.0, 1e30, 1e-30
STEP = 2.0**-100
"""Of the difference quotients that are second derivatives: off by its square, far below any rounding."""


def one_hot(shape: tuple[int, ...]) -> np.ndarray:
    """A direction for each place of the last axis, in all rows at once; and in the first row alone."""
    each = [np.broadcast_to(np.eye(shape[-1])[k], shape) for k in range(shape[-1])]
    if len(shape) == 1:
        each = [np.ones(shape), *each]
    return np.stack(each)


def scaled(directions: jax.Array) -> jax.Array:
    """The directions at every scale: one program for all of them."""
    scales = jnp.asarray(SCALES, directions.dtype)
    return scales.reshape(-1, *[1] * directions.ndim) * directions[None]


@functools.cache
def _compiled(function: Callable[..., jax.Array], argnums: tuple[int, ...], second: bool) -> Callable[..., Any]:
    @jax.jit
    def derivatives(args: tuple[jax.Array, ...]) -> Any:
        of = moving(function, args, argnums)
        point = floats(args, argnums)
        output, pullback = jax.vjp(of, *point)
        directions = jnp.asarray(one_hot(output.shape), output.dtype)
        pulled = jax.vmap(jax.vmap(pullback))(scaled(directions))

        def push(position: int, along: jax.Array) -> jax.Array:
            moved = [along if i == position else jnp.zeros_like(x) for i, x in enumerate(point)]
            return jax.jvp(of, tuple(point), tuple(moved))[1]

        pushed = [
            jax.vmap(jax.vmap(functools.partial(push, i)))(scaled(jnp.asarray(one_hot(x.shape), x.dtype)))
            for i, x in enumerate(point)
        ]
        curved = None
        if second:
            z = point[0]

            def slope(z: jax.Array, cotangent: jax.Array) -> jax.Array:
                return jax.vjp(lambda z: of(z, *point[1:]), z)[1](cotangent)[0]

            along = jnp.asarray(one_hot(z.shape), z.dtype)
            forward = jax.vmap(lambda c: jax.vmap(lambda t: jax.jvp(lambda z: slope(z, c), (z,), (t,))[1])(along))
            reverse = jax.vmap(lambda c: jax.vmap(lambda t: jax.vjp(lambda z: slope(z, c), z)[1](t)[0])(along))
            curved = forward(directions), reverse(directions)
        return output, pulled, pushed, curved

    return derivatives


Terms = Callable[[Balls, int, int], Balls]
"""Of an entry of the Hessian, from the logits, the class of a one-hot cotangent, and that of a tangent."""


def assert_accurate_in_every_direction(
    case: Case, family: Family, dtype: Any, *, second: bool = False, terms_of_second: Terms | None = None
) -> None:
    """Every entry of the Jacobian, in both modes and at every scale; with ``second``, of the Hessian in argument 0.

    An entry of the Hessian is judged by its own size, or by that of its ``terms_of_second``.
    """
    assert case.truth is not None
    with jax.enable_x64(np.dtype(dtype) == np.float64), oracle.precision(512):
        args = arguments(case, family, dtype)
        output, pulled, pushed, curved = _compiled(case.loss, case.argnums, second)(args)
        exact = [ulp.balls(a) if jnp.issubdtype(a.dtype, jnp.floating) else np.asarray(a) for a in args]
        directions = [ulp.balls(d) for d in one_hot(output.shape)]
        truths = [case.truth(d, *exact)[1:] for d in directions]
        negligible = family.classes * 2 * ulp.smallest_normal(dtype)

        def judge(what: str, got: Any, truth: Balls, scale: Balls | None, units: float) -> None:
            size = None if scale is None else ulp.relative_to(scale)
            inside = np.abs(truth.astype(float)) < float(jnp.finfo(dtype).max) / 4
            found = np.where(inside, ulp.in_roundoffs(got, truth, scale=size, negligible=negligible), 0)
            at = np.unravel_index(np.argmax(found), found.shape)
            assert found[at] <= units, (
                f"{case.name}, {family.name}, {np.dtype(dtype)}: {what}, entry {list(map(int, at))} is off by "
                f"{found[at]:.3g}u, allowed {units:.3g}u; got {np.asarray(got)[at]!r}, want {truth[at]}"
            )

        for s, scale in enumerate(SCALES):
            factor = ulp.balls(np.asarray(scale, dtype))[()]
            for k, truth in enumerate(truths):
                for i, (gradient, terms) in enumerate(truth):
                    sizes = None if terms is None else factor * terms
                    judge(f"cotangent {scale:g} at {k}", pulled[i][s, k], factor * gradient, sizes, case.units)
        for i, of_argument in enumerate(pushed):
            for scale, of_scale in zip(SCALES, of_argument, strict=True):
                factor = ulp.balls(np.asarray(scale, dtype))[()]
                for k in range(of_scale.shape[0]):
                    # Row r, pushed along place k: entry k of the gradient of each output of this row.
                    entries = [truth[i] for truth in (truths if output.ndim > 1 else truths[:1])]
                    of = [np.stack([part[..., k] for part in parts], -1) for parts in zip(*(
                        (gradient, abs(gradient) if terms is None else terms) for gradient, terms in entries
                    ), strict=True)]  # fmt: skip
                    want, terms = (x if output.ndim > 1 else x[..., 0] for x in of)
                    judge(f"tangent {scale:g} at {k}", of_scale[k], factor * want, factor * terms, case.units)
        if curved is None:
            return
        for k in range(exact[0].shape[-1]):
            step = np.zeros(exact[0].shape)
            step[..., k] = STEP
            moved = [(exact[0] + sign * ulp.balls(step), *exact[1:]) for sign in (1, -1)]
            shifted = [[case.truth(d, *at)[1][0] for d in directions] for at in moved]
            for j, (above, below) in enumerate(zip(*shifted, strict=True)):
                want = (above - below) / (2 * STEP)
                size = None if terms_of_second is None else terms_of_second(exact[0], j, k)
                for mode, of_mode in zip(("forward", "reverse"), curved, strict=True):
                    judge(f"second order, {mode} over reverse, at {j}, {k}", of_mode[j, k], want, size, 2 * case.units)
