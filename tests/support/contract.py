"""The contract that every loss meets: one body for all. ``test_contract.py`` shows it catching planted faults."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from lossjax.verify import oracle, ulp
from tests.support.cases import Case
from tests.support.draws import Family
from tests.support.quick import quick
from tests.support.transformations import (
    SECOND_ORDER,
    TRANSFORMATIONS,
    cotangent_for,
    floats,
    hessian_product,
    moving,
    repeated,
    scalar,
    tangents,
)


def arguments(case: Case, family: Family, dtype: Any) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(a) for a in case.draw(family, dtype))


def gradients(
    function: Callable[..., jax.Array], case: Case, args: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Output, cotangent, and the pulled-back cotangent of each differentiable argument."""

    output, pullback = jax.vjp(moving(function, args, case.argnums), *floats(args, case.argnums))
    cotangent = cotangent_for(output)
    return output, cotangent, list(pullback(cotangent))


@functools.cache
def compiled(function: Callable[..., jax.Array], argnums: tuple[int, ...]) -> Callable[..., Any]:
    """:func:`gradients`, compiled once for all arguments of one shape."""
    case = Case("", function, None, argnums)
    return jax.jit(lambda args: gradients(function, case, args))


def along_two(function: Callable[..., Any], case: Case, args: tuple[jax.Array, ...]) -> tuple[Any, ...]:
    """The output pushed along two directions; and how its weighted sum bends along both, by forward over forward."""
    point, one = floats(args, case.argnums), tuple(tangents(args, case.argnums))
    weights = cotangent_for(jax.eval_shape(function, *args))
    of = moving(function, args, case.argnums)
    (_, first), (second, bent) = jax.jvp(lambda *p: jax.jvp(of, p, one), tuple(point), tuple(_across(one)))
    return first, second, jnp.sum(weights * bent)


def _across(directions: Sequence[jax.Array]) -> list[jax.Array]:
    """Other directions than these."""
    return [jnp.sin(1 + 2 * jnp.arange(t.size, dtype=t.dtype)).reshape(t.shape) for t in directions]


def derivatives(
    function: Callable[..., jax.Array], case: Case, args: tuple[jax.Array, ...]
) -> tuple[list[jax.Array], jax.Array, Any]:
    """The pulled-back cotangent, the output pushed along a direction, and the gradient pushed along it."""
    _, _, pulled = gradients(function, case, args)
    _, pushed = jax.jvp(moving(function, args, case.argnums), floats(args, case.argnums), tangents(args, case.argnums))
    return pulled, pushed, hessian_product(function, args, case.argnums)


def assert_rule_is_derivative(case: Case, family: Family) -> None:
    """The rule's derivatives against JAX's own of the plain formula, in float64.

    In reverse mode, in forward mode, and forward over reverse. The plain formula is differentiated by forward mode
    alone, along two directions: the program of its gradient, and of the gradient's derivative, is several times as
    large. So the rule's gradient, and the product of its Hessian with one direction, are asked for their products with
    directions of many different entries, in which any entry that is wrong shows.

    On both sides an entry of the gradient is a sum of at most C·rows + 8 products, each off by at most (8 + gap)u of
    its size, where gap is the spread of the logits (the plain formula's own loss): that much is allowed, measured
    against the sum of the entries' sizes, since directions have entries within 1; and, as the terms of a scalar
    argument's entry may cancel, times 1 + spread, which bounds them. The second derivative has the spread four times,
    and twice the products, and is measured against the sum of its own entries.
    """
    with jax.enable_x64(True):
        args = arguments(case, family, np.float64)
        ruled, pushed, product = quick(lambda a: derivatives(case.loss, case, a))(args)
        along, across, bent = quick(lambda a: along_two(case.plain, case, a))(args)
        spread, weights = float(np.ptp(np.asarray(args[0]))), np.asarray(cotangent_for(along))
        units = (args[0].size + 8) * (8 + spread)
        terms = sum(float(jnp.sum(jnp.abs(x))) for x in ruled) * (1 + spread)
        one = tangents(args, case.argnums)
        for direction, of_plain in ((one, along), (_across(one), across)):
            got, want = _product(ruled, direction), float(np.sum(weights * of_plain))
            assert np.isfinite(want), f"{case.name}: the plain derivative is not finite"
            assert abs(got - want) <= units * 2.0**-53 * terms, (
                f"{case.name}, {family.name}: gradient differs from its formula's derivative by {abs(got - want):.3g} "
                f"along a direction, allowed {units * 2.0**-53 * terms:.3g}"
            )
        assert_same(f"{case.name}, {family.name}: pushed forward", pushed, along, units, terms)
        units, size = (args[0].size + 8) * (16 + 4 * spread), sum(float(jnp.sum(jnp.abs(h))) for h in product)
        curvature = jnp.asarray(_product(product, _across(one)))
        assert_same(f"{case.name}, {family.name}: forward over reverse", curvature, bent, units, size)


def _product(arrays: Sequence[jax.Array], direction: Sequence[jax.Array]) -> float:
    return sum(float(np.vdot(a, t)) for a, t in zip(arrays, direction, strict=True))


def assert_accurate(case: Case, family: Family, dtype: Any) -> float:
    """Value and gradients within the case's units of u of the exact result. Returns the largest error in u."""
    assert case.truth is not None
    with jax.enable_x64(np.dtype(dtype) == np.float64), oracle.precision():
        args = arguments(case, family, dtype)
        output, cotangent, pulled = compiled(case.loss, case.argnums)(args)
        exact = [ulp.balls(a) if jnp.issubdtype(a.dtype, jnp.floating) else np.asarray(a) for a in args]
        truths = case.truth(ulp.balls(cotangent), *exact)
        units = case.units + (np.log2(family.classes) / 2 if family.classes > 1000 else 0)
        worst = 0.0
        for name, computed, (truth, scale) in zip(("value", *case.argnums), (output, *pulled), truths, strict=True):
            size = None if scale is None else ulp.relative_to(scale)
            negligible = family.classes * 2 * ulp.smallest_normal(dtype)
            found = ulp.in_roundoffs(computed, truth, scale=size, negligible=negligible)
            at = np.unravel_index(np.argmax(found), found.shape)
            worst = max(worst, float(found[at]))
            assert found[at] <= units, (
                f"{case.name}, {family.name}, {np.dtype(dtype)}: {name}{list(map(int, at))} is off by "
                f"{found[at]:.3g}u, allowed {units:.3g}u; got {np.asarray(computed)[at]!r}, want {truth[at]}"
            )
        return worst


def assert_narrow(case: Case, family: Family, dtype: Any) -> None:
    """16-bit arguments: the value as accurate as in float32, the gradient within 1 ulp (2u) in the arguments' dtype."""
    assert case.truth is not None
    with oracle.precision():
        args = arguments(case, family, dtype)
        output, cotangent, pulled = compiled(case.loss, case.argnums)(args)
        exact = [ulp.balls(a) if jnp.issubdtype(a.dtype, jnp.floating) else np.asarray(a) for a in args]
        truths = case.truth(ulp.balls(cotangent), *exact)
        smallest = float(jnp.finfo(dtype).smallest_subnormal if dtype == jnp.float16 else jnp.finfo(dtype).tiny)
        for position, computed, (truth, scale) in zip(case.argnums, pulled, truths[1:], strict=True):
            assert computed.dtype == dtype, f"{case.name}: gradient {position} is {computed.dtype}, not {dtype}"
            # The truth rounded once is at most u off; what float32 adds is its error in u of the scale, 2^-24.
            largest = float(jnp.finfo(dtype).max)
            inside = np.abs(truth.astype(float)) < largest
            size = None if scale is None else np.maximum(ulp.relative_to(truth), ulp.relative_to(scale) * 2.0**-8)
            found = np.where(inside, ulp.in_roundoffs(computed, truth, scale=size, negligible=smallest), 0)
            assert found.max(initial=0) <= 2, (
                f"{case.name}, {family.name}, {dtype}: gradient {position} off by {found.max()}u"
            )
        assert output.dtype in (jnp.float32, dtype)
        truth, scale = truths[0]
        size = None if scale is None else ulp.relative_to(scale)
        found = ulp.in_roundoffs(output, truth, scale=size, negligible=family.classes * smallest)
        allowed = case.units if output.dtype == jnp.float32 else 2
        assert found.max() <= allowed, f"{case.name}, {dtype}: the {output.dtype} value is off by {found.max():.3g}u"


def assert_same(name: str, got: Any, want: Any, units: float, size: float = 0.0) -> None:
    """Two pytrees equal to within ``units``·2^-53 of the largest entry of any leaf (or of ``size``, if larger)."""
    got_leaves, want_leaves = jax.tree.leaves(got), jax.tree.leaves(want)
    assert len(got_leaves) == len(want_leaves), f"{name}: {len(got_leaves)} results, wanted {len(want_leaves)}"
    size = max([size, *(float(jnp.max(jnp.abs(w), initial=0)) for w in want_leaves)])
    for g, w in zip(got_leaves, want_leaves, strict=True):
        worst = float(jnp.max(jnp.abs(g - w), initial=0))
        assert worst <= units * 2.0**-53 * size, f"{name}: off by {worst:.3g} of {size:.3g}"


def assert_transforms(case: Case, family: Family, name: str) -> None:
    """A transformation gives what its definition says, in float64.

    Both sides run the same rule; they differ by the order in which at most rows·C products are summed.
    """
    with jax.enable_x64(True):
        args = arguments(case, family, np.float64)
        transformed, reference = TRANSFORMATIONS[name]
        want = reference(case.loss, args, case.argnums)
        size = 0.0
        if name in ("jvp", "linearize"):  # the terms of J·t may cancel: they are what the error is measured against
            jacobian = quick(jax.jacrev(case.loss, case.argnums))(*args)
            terms = zip(map(np.abs, jacobian), map(np.abs, tangents(args, case.argnums)), strict=True)
            size = float(sum(np.max(np.tensordot(j, t, t.ndim)) for j, t in terms))
        got = transformed(case.loss, args, case.argnums)
        assert_same(f"{case.name}, {name}", got, want, 16 + args[0].size, size)


def assert_second_order(case: Case, family: Family, name: str) -> None:
    """Second derivatives by every combination of modes against those of the plain formula."""
    with jax.enable_x64(True):
        args = arguments(case, family, np.float64)
        units = (args[0].size + 8) * (16 + 4 * float(np.ptp(np.asarray(args[0]))))
        got = SECOND_ORDER[name](case.loss, args, case.argnums)
        want = _hessian_of_plain(case, family)
        assert_same(f"{case.name}, {name}", got, want, units)


def assert_second_order_in_a_loop(case: Case, family: Family) -> None:
    """What JAX has linearised in the body of a loop it differentiates again without ``custom_jvp``."""

    def both(*args: jax.Array) -> Any:
        def squared(*moved: jax.Array) -> jax.Array:
            return 2 * scalar(case.loss)(*moved) ** 2

        moving_in = floats(args, case.argnums)
        pushed = [
            jax.jvp(moving(jax.grad(of, case.argnums), args, case.argnums), moving_in, tangents(args, case.argnums))[1]
            for of in (repeated(case.loss), squared)
        ]
        return pushed[0], pushed[1]

    with jax.enable_x64(True):
        args = arguments(case, family, np.float64)
        got, want = quick(both)(*args)
        assert_same(f"{case.name}, in a loop", got, want, 1024)


def assert_third_order_in_a_loop(case: Case, family: Family) -> None:
    """A gradient penalty in the body of a loop: its Hessian's product has third derivatives of the loss."""

    def penalty(f: Callable[..., jax.Array], *args: jax.Array) -> jax.Array:
        slopes = jax.grad(scalar(f), case.argnums)(*args)
        return sum((jnp.sum(slope**2) for slope in slopes), jnp.zeros((), slopes[0].dtype))

    def looped(*args: jax.Array) -> jax.Array:
        both = [jnp.stack([a, a]) for a in args]
        return jnp.sum(jax.lax.scan(lambda carry, given: (carry, penalty(case.loss, *given)), 0, both)[1])

    def flat(*args: jax.Array) -> jax.Array:
        return 2 * penalty(case.plain, *args)

    def both(*args: jax.Array) -> Any:
        moving_in = floats(args, case.argnums)
        return tuple(
            jax.jvp(moving(jax.grad(of, case.argnums), args, case.argnums), moving_in, tangents(args, case.argnums))[1]
            for of in (looped, flat)
        )

    with jax.enable_x64(True):
        args = arguments(case, family, np.float64)
        got, want = quick(both)(*args)
        assert_same(f"{case.name}, third order in a loop", got, want, 4096)


@functools.cache
def _hessian_of_plain(case: Case, family: Family) -> Any:
    args = arguments(case, family, np.float64)
    return quick(lambda *a: jax.hessian(scalar(case.plain), case.argnums)(*a))(*args)


def _by_class(output: jax.Array) -> jax.Array:
    """The sum, each entry of a row weighted by another number (the entries of a softmax alone sum to 1)."""
    if output.ndim > 1:
        output = output * jnp.cos(jnp.arange(output.shape[-1], dtype=output.dtype)).reshape(1, -1)
    return jnp.sum(output)


def assert_maps(case: Case, family: Family) -> None:
    """``vmap`` over rows, alone and of the gradient, equals the batch; and the batch does not feel its size."""
    with jax.enable_x64(True):
        args = arguments(case, family, np.float64)
        batch, whole = quick(lambda *a: (case.loss(*a), _slopes(case, a)))(*args)

        def row(*a: jax.Array) -> tuple[jax.Array, Any]:
            return case.loss(*a), _slopes(case, tuple(x[None] for x in a))

        alone, one = quick(jax.vmap(row))(*args)
        assert_same(f"{case.name}, vmap", alone, batch, 4)
        assert_same(f"{case.name}, vmap of grad", jax.tree.map(lambda x: x[:, 0], one), whole, 16)
        half = max(1, args[0].shape[0] // 2)
        assert_same(f"{case.name}, half the batch", quick(case.loss)(*(a[:half] for a in args)), batch[:half], 4)


def _slopes(case: Case, args: tuple[jax.Array, ...]) -> Any:
    return jax.grad(lambda *a: _by_class(case.loss(*a)), case.argnums)(*args)


def assert_shards(case: Case, family: Family, axis_type: AxisType, *, forward: bool) -> None:
    """Rows split over two devices under ``shard_map``: reverse mode, and forward mode as well."""
    with jax.enable_x64(True):
        args = tuple(jnp.concatenate([a, a[::-1]]) for a in arguments(case, family, np.float64))
        mesh = jax.make_mesh((2,), ("rows",), axis_types=(axis_type,))
        rows, n = PartitionSpec("rows"), case.argnums

        def sharded(function: Callable[..., Any]) -> Callable[..., Any]:
            def total(*local: jax.Array) -> jax.Array:
                return jax.lax.psum(_by_class(function(*local)), "rows")

            return jax.shard_map(total, mesh=mesh, in_specs=(rows,) * len(args), out_specs=PartitionSpec())

        with jax.set_mesh(mesh):
            split = tuple(jax.device_put(a, jax.NamedSharding(mesh, rows)) for a in args)
            got = quick(jax.grad(sharded(case.loss), n))(*split)
            want = quick(jax.grad(lambda *a: _by_class(case.loss(*a)), n))(*args)
            assert_same(f"{case.name}, grad of shard_map", got, want, 16)
            if not forward:
                return
            of_moving = moving(sharded(case.loss), split, n)
            along = tuple(jax.device_put(t, jax.NamedSharding(mesh, rows)) for t in tangents(args, n))
            pushed = quick(lambda *p: jax.jvp(of_moving, p, along)[1])(*floats(split, n))
            want = sum(jnp.sum(g * t) for g, t in zip(want, tangents(args, n), strict=True))
            size = sum(jnp.sum(jnp.abs(g)) for g in got)
            assert abs(float(pushed) - float(want)) <= (16 + args[0].size) * 2.0**-53 * float(size)
