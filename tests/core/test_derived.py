"""A value with a derivative of its own: the same in every order, mode and transformation, and in the body of a loop."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, export, lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from lossjax._core.autodiff import closed_form, known_as, moved_also_by
from lossjax._core.derived import with_derivative
from tests.support.quick import quick

Z = jnp.array([[0.5, -1.25, 2.0], [0.75, 0.25, -1.5]])
T = jnp.array([[1.5, 0.25, -3.0], [0.5, -0.75, 2.0]])


def _log_sum(z: Array, of: Array) -> Array:
    """The logarithm of the row's sum, which is a constant: only a rule knows that it moves with z."""
    return lax.stop_gradient(jnp.log(jnp.sum(jnp.exp(of), -1)))


def _pulled_back(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    z, log_sum = saved
    p = probabilities(z, log_sum)
    return p * (g - jnp.sum(p * g, -1, keepdims=True)), jnp.zeros_like(log_sum)


probabilities = closed_form(
    lambda z, log_sum: (jnp.exp(z - lax.stop_gradient(log_sum)[..., None]), (z, log_sum)), _pulled_back
)
log_partition = closed_form(
    lambda z: (_log_sum(z, z), (z, _log_sum(z, z))),
    lambda saved, g: (g[..., None] * probabilities(*saved),),
)
"""Written as the losses are: the forward pass holds a row's statistics constant, and hands them on."""


def penalty(function: Callable[[Array], Array], z: Array) -> Array:
    """Its gradient has second derivatives of the function, and its Hessian third ones."""
    return jnp.sum(jax.grad(lambda z: jnp.sum(function(z) ** 2))(z) ** 2)


def _scanned(of_row: Callable[[Array], Array], z: Array) -> Array:
    return lax.scan(lambda total, row: (total + of_row(row), None), jnp.zeros((), z.dtype), z)[0]


def _counted(of_row: Callable[[Array], Array], z: Array) -> Array:
    return lax.fori_loop(0, len(z), lambda i, total: total + of_row(z[i]), jnp.zeros((), z.dtype))


LOOPS: dict[str, Callable[[Callable[[Array], Array], Array], Array]] = {
    "scan": _scanned,
    "fori_loop": _counted,
    "scan of remat": lambda of_row, z: _scanned(jax.checkpoint(of_row), z),
    "remat of scan": lambda of_row, z: jax.checkpoint(lambda z: _scanned(of_row, z))(z),
    "map": lambda of_row, z: jnp.sum(lax.map(of_row, z)),
    "scan of scan": lambda of_row, z: _scanned(lambda z: _scanned(of_row, z[None]), z),
    "vmap": lambda of_row, z: jnp.sum(jax.vmap(of_row)(z)),
    "scan of vmap": lambda of_row, z: _scanned(lambda z: jnp.sum(jax.vmap(of_row)(z)), z[:, None]),
    "scan of cond": lambda of_row, z: _scanned(lambda z: lax.cond(z[0] > 9, jnp.sum, of_row, z), z),
}
MODES: dict[str, Callable[..., Any]] = {"forward": jax.jacfwd, "reverse": jax.jacrev}


CASES = [
    pytest.param(
        loop,
        modes,
        id=f"{loop}-{'-'.join(modes)}",
        marks=[] if loop == "scan" or modes[0] == "reverse" else pytest.mark.slow,
    )
    for loop in LOOPS
    for modes in itertools.product(MODES, repeat=2)
]
"""Only a loop that is differentiated in reverse is linearised: forward mode alone is asked of one kind."""


@pytest.mark.parametrize(("loop", "modes"), CASES)
def test_three_derivatives_in_a_loop(loop: str, modes: tuple[str, str]) -> None:
    """JAX 0.10 drops a ``custom_jvp`` there: by one in this place the Hessian is off by as much as it is."""

    def hessian(function: Callable[[Array], Array], looped: Callable[..., Array]) -> Callable[[Array], Array]:
        nested = lambda z: looped(lambda row: penalty(function, row), z)  # noqa: E731
        for mode in modes:
            nested = MODES[mode](nested)
        return quick(nested)

    with jax.enable_x64(True):
        z = jnp.asarray(np.asarray(Z), jnp.float64)
        got = hessian(log_partition, LOOPS[loop])(z)
        want = hessian(lambda z: jax.nn.logsumexp(z, -1), lambda of_row, z: of_row(z[0]) + of_row(z[1]))(z)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * float(np.max(np.abs(want))))


square = known_as(lambda x: x * x)
"""Given here a wrong value, to be seen, that does not move."""


@moved_also_by
def product(x: Array, y: Array) -> Array:
    """``x`` is the part that is fixed: the value moves with it of its own."""
    return jnp.sin(x * y)


def test_what_is_known_is_differentiated_as_its_function() -> None:
    known = lambda x: square(jnp.full_like(x, 7), x)  # noqa: E731
    np.testing.assert_array_equal(known(Z), jnp.full_like(Z, 7))
    np.testing.assert_array_equal(jax.jvp(known, (Z,), (T,))[1], 2 * Z * T)
    np.testing.assert_array_equal(jax.vmap(known, 1, 1)(Z), jnp.full_like(Z, 7))
    slope = jax.grad(lambda x: lax.scan(lambda total, x: (total + jnp.sum(known(x)), None), jnp.float32(0), x)[0])
    np.testing.assert_array_equal(slope(Z), 2 * Z)
    np.testing.assert_array_equal(jax.jvp(slope, (Z,), (T,))[1], 2 * T)


def test_a_derivative_that_is_added() -> None:
    """To that of the value: in a loop, in every order, and of those arguments that move."""

    def moved(x: Array, y: Array) -> Array:
        return product(jnp.sin(x * lax.stop_gradient(y)), x, y)

    def total(function: Callable[..., Array], x: Array, y: Array) -> Array:
        both = lambda carry, given: (carry + jnp.sum(function(*given) ** 2), None)  # noqa: E731
        return lax.scan(both, jnp.zeros((), x.dtype), (x, y))[0]

    plain = lambda x, y: jnp.sin(x * y)  # noqa: E731
    for place in ((0,), (1,), (0, 1)):
        got, want = (jax.grad(lambda x, y, f=f: total(f, x, y), place)(Z, T) for f in (moved, plain))
        for ours, theirs in zip(got, want, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    got, want = (quick(jax.hessian(lambda y, f=f: total(f, Z, y)))(T) for f in (moved, plain))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_a_batch_of_some_arrays() -> None:
    """Of the value alone, of one array alone, along another axis, and with a name that a sum goes over."""
    derivative = lambda arrays, moves: [2 * arrays[0] * moves[0] * arrays[1]]  # noqa: E731
    squared = lambda value, x, scale: with_derivative(value, (x, lax.stop_gradient(scale)), derivative)  # noqa: E731
    pushed = lambda *given: jax.jvp(lambda x: squared(given[0], x, given[2]), given[1:2], (T,))  # noqa: E731
    for axes in ((0, None, None), (None, 0, None), (None, None, 0), (1, None, 0)):
        given = [
            x if axis is None else jnp.stack([x, 3 * x], axis)
            for x, axis in zip((Z, Z, jnp.full_like(Z, 0.5)), axes, strict=True)
        ]
        one = [jnp.take(x, 1, axis) if axis is not None else x for x, axis in zip(given, axes, strict=True)]
        for got, want in zip(jax.vmap(pushed, axes)(*given), pushed(*one), strict=True):
            np.testing.assert_allclose(got[1], want, rtol=1e-6)

    summed = lambda x: known_as(lambda x: lax.psum(x * x, "rows"))(lax.psum(lax.stop_gradient(x * x), "rows"), x)  # noqa: E731
    got = jax.jvp(jax.vmap(summed, axis_name="rows"), (Z,), (T,))
    want = jax.jvp(jax.vmap(lambda x: lax.psum(x * x, "rows"), axis_name="rows"), (Z,), (T,))
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_over_devices_and_exported() -> None:
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(AxisType.Auto,))
    pushed = lambda z, t: jax.jvp(jax.grad(lambda z: penalty(log_partition, z)), (z,), (t,))[1]  # noqa: E731
    want = jax.jvp(jax.grad(lambda z: penalty(lambda z: jax.nn.logsumexp(z, -1), z)), (Z,), (T,))[1]
    close = {"rtol": 1e-5, "atol": 1e-6 * float(np.max(np.abs(want)))}
    spread = jax.shard_map(pushed, mesh=mesh, in_specs=P("rows"), out_specs=P("rows"))
    np.testing.assert_allclose(quick(spread)(Z, T), want, **close)
    (sizes,) = export.symbolic_args_specs((Z,), "n, 3")
    exported = export.deserialize(export.export(jax.jit(pushed))(sizes, sizes).serialize())
    np.testing.assert_allclose(exported.call(Z, T), want, **close)
