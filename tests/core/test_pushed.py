"""Forward mode from a pullback: reverse mode executes the backward pass as it was written, in every nesting."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, export
from jax.sharding import PartitionSpec as P

from lossjax._core.autodiff import closed_form, known_as


def _forward(x: Array, power: Array, scale: Array) -> tuple[Array, Any]:
    return scale * x**3 + power, (x, scale)


def _backward(saved: Any, cotangent: Array) -> tuple[Array, Array, Array]:
    x, scale = saved
    in_x = jnp.where(x > 0, 3 * scale * x * x * cotangent, scale * 3 * (x * x) * cotangent)
    return in_x, cotangent, jnp.sum(x**3 * cotangent)


cubic = closed_form(_forward, _backward)
X, T = jnp.array([0.5, -1.25, 2.0]), jnp.array([1.5, 0.25, -3.0])
POWER, SCALE = jnp.array([1.0, 2.0, 3.0]), jnp.float32(0.75)


def total(x: Array) -> Array:
    return jnp.sum(jnp.sin(cubic(x, POWER, SCALE)))


def by_jax(x: Array) -> Array:
    return jnp.sum(jnp.sin(SCALE * x**3 + POWER))


def primitives(jaxpr: Any) -> list[str]:
    """The names of all primitives, those of inner programs after the one that holds them."""
    found = []
    for equation in jaxpr.eqns:
        found.append(equation.primitive.name)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            found += primitives(inner) if hasattr(inner, "eqns") else []
    return found


def test_reverse_mode_executes_the_backward_pass_as_it_was_written() -> None:
    """The transpose of the transpose of a select is a sum of two selects; and no trace of forward mode is left."""
    _, pullback = jax.vjp(lambda x: cubic(x, POWER, SCALE), X)
    names = primitives(jax.make_jaxpr(pullback)(T).jaxpr)
    assert "pushed_forward" not in names
    assert names.count("select_n") == 1
    assert "add_any" not in names


def test_what_is_known_is_used_in_reverse_mode() -> None:
    """A value that was formed in another way: here a wrong one, to be seen."""
    known = known_as(lambda x, g: 2 * x * g)
    square = closed_form(lambda x: (x * x, x), lambda x, g: (known(jnp.full_like(x, 7) * g, x, g),))
    assert np.array_equal(jax.grad(lambda x: jnp.sum(square(x)))(X), np.full(3, 7.0))
    assert np.array_equal(jax.jvp(square, (X,), (T,))[1], 2 * X * T)  # its derivative in g is the function's


MODES: dict[str, Callable[..., Any]] = {"forward": jax.jacfwd, "reverse": jax.jacrev}


@pytest.mark.covering
@pytest.mark.parametrize("modes", list(itertools.product(MODES, repeat=2)), ids="-".join)
@pytest.mark.parametrize("jitted", [False, True])
def test_both_modes_in_every_nesting(modes: tuple[str, str], jitted: bool) -> None:
    def nested(function: Callable[[Array], Array]) -> Callable[..., Any]:
        for mode in modes:
            function = MODES[mode](function)
        third = jax.vmap(lambda x, t: jax.jvp(function, (x,), (t,)))
        return jax.jit(third) if jitted else third

    batch = jnp.stack([X, T]), jnp.stack([T, X])
    for got, want in zip(nested(total)(*batch), nested(by_jax)(*batch), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3 * np.max(np.abs(want)))


def test_a_batch_of_some_arguments() -> None:
    """Of tangents alone, of what is kept alone, along another axis, in a loop over a linear map."""
    jvp = lambda x, scale, t: jax.jvp(lambda x: cubic(x, POWER, scale), (x,), (t,))[1]  # noqa: E731
    want = 3 * SCALE * X**2 * T
    np.testing.assert_allclose(jax.vmap(jvp, (None, None, 0))(X, SCALE, T[None]), want[None], rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jvp, (None, 0, None))(X, SCALE[None], T), want[None], rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jvp, (1, None, None), 1)(X[:, None], SCALE, T), want[:, None], rtol=1e-6)
    _, push = jax.linearize(lambda x: cubic(x, POWER, SCALE), X)
    np.testing.assert_allclose(jax.lax.map(push, T[None])[0], want, rtol=1e-6)
    (transposed,) = jax.linear_transpose(push, X)(T)
    np.testing.assert_allclose(transposed, want, rtol=1e-6)


def test_in_a_loop_and_where_a_loop_is_differentiated() -> None:
    def looped(function: Callable[..., Array]) -> Callable[[Array], Array]:
        step = lambda x, scale: (jnp.tanh(function(x, POWER, scale)), None)  # noqa: E731
        return lambda x: jnp.sum(jax.lax.scan(step, x, jnp.array([0.5, 1.0, 0.25]))[0])

    ours, usual = looped(cubic), looped(lambda x, power, scale: scale * x**3 + power)
    for mode in (jax.grad, jax.jacfwd, jax.hessian):
        np.testing.assert_allclose(mode(ours)(X / 4), mode(usual)(X / 4), rtol=1e-5, atol=1e-6)


def test_forward_mode_over_devices_and_exported() -> None:
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    pushed = lambda x, t: jax.jvp(lambda x: cubic(x, jnp.ones_like(x), SCALE), (x,), (t,))[1]  # noqa: E731
    spread = jax.shard_map(pushed, mesh=mesh, in_specs=P("rows"), out_specs=P("rows"))
    x, t = jnp.tile(X[:2], 2), jnp.tile(T[:2], 2)
    np.testing.assert_allclose(jax.jit(spread)(x, t), 3 * SCALE * x**2 * t, rtol=1e-6)
    (sizes,) = export.symbolic_args_specs((x,), "n")
    exported = export.deserialize(export.export(jax.jit(pushed))(sizes, sizes).serialize())
    np.testing.assert_allclose(exported.call(x, t), 3 * SCALE * x**2 * t, rtol=1e-6)
