"""How a derivative is defined: both modes from one rule, no silent zeros, few residuals."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax._core.autodiff import closed_form
from lossjax._core.plain import plain_of, rules_off, with_plain
from lossjax._softmax import functions, row_statistics
from tests.support.quick import quick


def _product_forward(x: jax.Array, scale: jax.Array | None) -> tuple[jax.Array, tuple[jax.Array | None, ...]]:
    """x² times a scalar that all rows share."""
    return x * x if scale is None else scale * x * x, (x, scale)


def _product_backward(saved: tuple[jax.Array, ...], g: jax.Array) -> tuple[jax.Array | None, ...]:
    x, scale = saved
    if scale is None:
        return 2 * g * x, None
    return 2 * g * scale * x, jnp.sum(g * x * x)


product = closed_form(_product_forward, _product_backward)
X = jnp.asarray([1.0, -2.0, 3.0])


def test_a_shared_argument_has_its_own_tangent_in_every_output() -> None:
    """Summing the pullback of ones over the outputs would not have it."""
    np.testing.assert_array_equal(jax.jacfwd(product, 1)(X, jnp.float32(5.0)), X * X)
    np.testing.assert_array_equal(jax.jacrev(product, 1)(X, jnp.float32(5.0)), X * X)


def test_an_absent_argument_is_no_argument() -> None:
    np.testing.assert_array_equal(jax.grad(lambda x: product(x, None).sum())(X), 2 * X)
    np.testing.assert_array_equal(jax.jvp(lambda x: product(x, None), (X,), (X,))[1], 2 * X * X)


def test_a_silent_zero_is_refused() -> None:
    forgetful = closed_form(_product_forward, lambda r, g: (2 * g * r[1] * r[0], None))
    with pytest.raises(TypeError, match="no cotangent for scale, a float32 array"):
        jax.grad(lambda s: forgetful(X, s).sum())(jnp.float32(5.0))


def test_a_missing_cotangent_is_refused() -> None:
    short = closed_form(_product_forward, lambda r, g: (2 * g * r[1] * r[0],))
    with pytest.raises(ValueError, match="shorter"):
        jax.grad(lambda x: short(x, jnp.float32(5.0)).sum())(X)


def test_cotangents_come_in_their_arguments_dtype() -> None:
    x = X.astype(jnp.bfloat16)
    wide = closed_form(lambda x: (x.astype(jnp.float32) ** 2, x), lambda x, g: (2 * g * x.astype(jnp.float32),))
    assert jax.grad(lambda x: wide(x).sum())(x).dtype == jnp.bfloat16


def test_plain_leaves_the_rule_out() -> None:
    """A rule with a wrong gradient shows which of the two was differentiated."""
    wrong = closed_form(_product_forward, lambda r, g: (7 * g, jnp.zeros(())))

    @with_plain
    def loss(x: jax.Array) -> jax.Array:
        return wrong(x, jnp.float32(1.0)).sum()

    np.testing.assert_array_equal(jax.grad(loss)(X), jnp.full(3, 7.0))
    np.testing.assert_array_equal(jax.grad(plain_of(loss))(X), 2 * X)
    np.testing.assert_array_equal(jax.jit(jax.grad(plain_of(loss)))(X), 2 * X)
    with rules_off():
        np.testing.assert_array_equal(jax.grad(loss)(X), 2 * X)
    np.testing.assert_array_equal(jax.grad(loss)(X), jnp.full(3, 7.0))


def test_a_function_without_plain_form_says_so() -> None:
    with pytest.raises(TypeError, match="has no plain form"):
        plain_of(jnp.sum)


def test_residuals_beyond_the_logits_are_a_few_numbers_a_row() -> None:
    rows, classes = 64, 512
    z = jnp.zeros((rows, classes))
    labels = jnp.zeros(rows, int)
    _, pullback = jax.vjp(lambda z: lossjax.softmax_cross_entropy_with_integer_labels(z, labels), z)
    sizes = sorted((leaf.size for leaf in jax.tree.leaves(pullback)), reverse=True)
    assert sizes[0] == rows * classes
    assert sum(sizes[1:]) <= 6 * rows
    # … and the plain formula keeps more than one array of the logits' size: the count can fail.
    _, pullback = jax.vjp(lambda z: -jax.nn.log_softmax(z)[:, 0], z)
    sizes = [leaf.size for leaf in jax.tree.leaves(pullback)]
    assert sum(sizes) > rows * classes


def test_a_replicated_argument_sums_over_devices() -> None:
    """Inside shard_map, the class weights' cotangent is summed over the devices that share them."""
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, everywhere = jax.sharding.PartitionSpec("rows"), jax.sharding.PartitionSpec()
    z = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)
    labels = jnp.asarray([0, 1, 2, 3, 4, 0])
    weights = jnp.asarray([0.5, 1.0, 2.0, 1.5, 0.25])

    def total(z: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
        loss = lossjax.softmax_cross_entropy_with_integer_labels(z, labels, class_weights=weights)
        return jnp.sum(loss)

    def local(z: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
        return jax.lax.psum(total(z, labels, weights), "rows")

    split = jax.shard_map(local, mesh=mesh, in_specs=(rows, rows, everywhere), out_specs=everywhere)
    got = quick(jax.grad(split, (0, 2)))(z, labels, weights)
    want = jax.grad(total, (0, 2))(z, labels, weights)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=8 * 2.0**-24, atol=0)


def test_the_output_of_a_rule_is_differentiated_by_the_rule() -> None:
    """p·p has p's output in its own derivative: an outer derivative must not go through p's forward pass."""
    with jax.enable_x64(True):
        z = jnp.asarray([0.3, -1.2, 2.0, 0.1])
        v = jnp.asarray([1.0, -0.5, 0.25, 2.0])

        def ruled(z: jax.Array) -> jax.Array:
            return functions.probabilities(z, row_statistics.row_statistics(z)) ** 2

        def plain(z: jax.Array) -> jax.Array:
            return (jnp.exp(z) / jnp.sum(jnp.exp(z))) ** 2

        weights, across = jnp.cos(jnp.arange(4.0)), jnp.sin(1 + jnp.arange(4.0))

        def along(f: Callable[..., jax.Array], z: jax.Array) -> jax.Array:
            return jax.jvp(f, (z,), (v,))[1]

        @quick
        def higher(z: jax.Array) -> Any:
            """Forward over forward; and reverse over forward over reverse, in one direction each."""
            second, third = [], []
            for f in (ruled, plain):
                slope = jax.grad(lambda z, f=f: weights @ f(z))
                second.append(along(lambda z, f=f: along(f, z), z))
                third.append(jax.grad(lambda z, slope=slope: across @ along(slope, z))(z))
            return second, third

        for got, want in higher(z):
            np.testing.assert_allclose(got, want, rtol=0, atol=64 * 2.0**-53)


def test_second_derivatives_of_what_a_loop_returns() -> None:
    """JAX drops a rule from the body of a loop that it has linearised; the value must not lose its derivative there."""
    cube = closed_form(lambda x: (x**3, x), lambda x, g: (3 * g * x**2,))
    x = jnp.arange(1.0, 4.0)
    loops = {
        "map": lambda x: jax.lax.map(lambda t: cube(t), x),
        "remat": lambda x: jax.lax.map(jax.checkpoint(lambda t: cube(t)), x),
        "scan": lambda x: jax.lax.scan(lambda carry, t: (carry + cube(t), cube(t)), 0.0, x)[1],
    }
    for name, loop in loops.items():

        def squares(x: jax.Array, loop: Callable[[jax.Array], jax.Array] = loop) -> jax.Array:
            return jnp.sum(loop(x) ** 2)

        reverse_twice = jax.grad(lambda x, f=squares: jnp.sum(jax.grad(f)(x)))(x)
        forward_over_reverse = jax.jvp(jax.grad(squares), (x,), (jnp.ones_like(x),))[1]
        np.testing.assert_allclose(reverse_twice, 30 * x**4, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(forward_over_reverse, 30 * x**4, rtol=1e-6, err_msg=name)


def test_a_forward_pass_stays_whole() -> None:
    """JAX's partial evaluation would trace it again, operation by operation, and move parts of it out of a loop."""
    square = closed_form(lambda x: (jnp.sum(jnp.abs(x) ** 2), x), lambda x, g: (2 * g * x,))
    x = jnp.arange(5.0)
    equations = jax.make_jaxpr(jax.grad(square))(x).eqns
    assert [e.primitive.name for e in equations if "abs" in str(e)] == ["custom_jvp_call"]
    # … of which a derivative of any order is still that of the rule.
    np.testing.assert_array_equal(jax.hessian(square)(x), 2 * np.eye(5))
    np.testing.assert_array_equal(quick(jax.jacrev(jax.jacrev(square)))(x), 2 * np.eye(5))


def test_a_loop_keeps_no_copy_of_what_it_was_given() -> None:
    square = closed_form(lambda x: (jnp.sum(x**2), (x, 2 * x)), lambda saved, g: (g * saved[1] + 0 * saved[0],))
    jaxpr = jax.make_jaxpr(jax.grad(lambda x: jnp.sum(jax.lax.map(square, x))))(jnp.ones((5, 7)))
    results: list[Any] = next(e.outvars for e in jaxpr.eqns if e.primitive.name == "scan")
    assert sorted(v.aval.size for v in results) == [5, 5 * 7]  # the values, and 2 x of each pass
