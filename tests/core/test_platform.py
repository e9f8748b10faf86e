"""Which formula is chosen on which platform, and that tracing does not choose."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax._core.autodiff import closed_form
from lossjax._core.plain import rules_off
from lossjax._core.platform import ALL, by_platform, platforms
from lossjax.verify import exact
from lossjax.verify._exact.tracing import by_definition

ZERO = jnp.float32(0)


def chosen(x: jax.Array) -> jax.Array:
    """x + 1 on a CPU, x + 2 elsewhere: two formulas that anybody can tell apart."""
    return by_platform(x, cpu=lambda x: x + 1, otherwise=lambda x: x + 2)


def chosen_of_three(x: jax.Array) -> jax.Array:
    return by_platform(x, cpu=lambda x: x + 1, otherwise=lambda x: x + 2, accelerator=lambda x: x + 3)


def test_a_cpu_runs_its_own_formula() -> None:
    assert chosen(jnp.float32(0)) == jax.jit(chosen)(jnp.float32(0)) == 1
    np.testing.assert_array_equal(jax.vmap(chosen)(jnp.zeros(2)), [1.0, 1.0])
    assert jax.grad(chosen)(jnp.float32(0)) == 1


def test_the_definition_is_what_plain_and_exact_arithmetic_see() -> None:
    with rules_off():
        assert jax.jit(lambda x: chosen(x))(jnp.float32(0)) == 2
    assert exact(chosen)(jnp.float32(0)) == 2


def test_what_is_traced_by_definition_is_kept_apart() -> None:
    """A jitted function is compiled from what JAX has kept of it: that must not be what exact arithmetic was shown."""
    jitted = jax.jit(lambda x: chosen(x) * x)
    with by_definition():
        assert choices(jitted, ZERO) == choices(jax.grad(jitted), ZERO) == 0
    assert choices(jitted, ZERO) == 1
    assert jitted(jnp.float32(1)) == 2
    assert jax.grad(jitted)(jnp.float32(1)) == 3
    with by_definition():
        assert choices(jitted, ZERO) == 0


def test_accelerators_may_have_a_formula_that_is_not_the_definition() -> None:
    for platform, constant in (("cpu", "1.0"), ("tpu", "3.0"), ("cuda", "3.0"), ("rocm", "3.0")):
        text = jax.jit(chosen_of_three).trace(jnp.float32(0)).lower(lowering_platforms=(platform,)).as_text()
        assert f"dense<{constant}" in text
    assert chosen_of_three(jnp.float32(0)) == 1
    assert exact(chosen_of_three)(jnp.float32(0)) == 2


def test_one_exported_program_holds_both() -> None:
    program = jax.export.export(jax.jit(chosen), platforms=("cpu", "tpu", "cuda"))(jnp.float32(0))
    assert program.call(jnp.float32(0)) == 1
    for platform, constant in (("cpu", "1.0"), ("tpu", "2.0"), ("cuda", "2.0")):
        text = jax.jit(chosen).trace(jnp.float32(0)).lower(lowering_platforms=(platform,)).as_text()
        assert f"dense<{constant}" in text
        assert f"dense<{3 - float(constant)}" not in text


def choices(function: Callable[..., Any], *arguments: Any) -> int:
    """How often a program chooses."""
    return str(jax.make_jaxpr(function)(*arguments)).count(" platform_index[")


def test_a_choice_inside_a_choice_is_none() -> None:
    def outer(x: jax.Array) -> jax.Array:
        return by_platform(x, cpu=chosen, otherwise=lambda x: 10 + chosen(x))

    assert choices(outer, ZERO) == choices(chosen, ZERO) == 1
    for platform, constants in (("cpu", ("1.0",)), ("tpu", ("1.000000e+01", "2.0"))):
        text = jax.jit(outer).trace(ZERO).lower(lowering_platforms=(platform,)).as_text()
        assert all(f"dense<{constant}" in text for constant in constants)
    assert outer(ZERO) == 1
    assert exact(outer)(ZERO) == 12


def test_a_choice_among_those_that_are_left_is_one() -> None:
    def outer(x: jax.Array) -> jax.Array:
        return by_platform(x, cpu=lambda x: x, otherwise=chosen_of_three)

    assert choices(outer, ZERO) == 2
    for platform, constant in (("tpu", "3.0"), ("rocm", "3.0")):
        text = jax.jit(outer).trace(ZERO).lower(lowering_platforms=(platform,)).as_text()
        assert f"dense<{constant}" in text
    assert exact(outer)(ZERO) == 2


def ruled() -> Callable[..., Any]:
    """A function that chooses, with a rule that chooses."""
    return closed_form(lambda x: (x * chosen(x), x), lambda x, g: (g * chosen(x),))


@pytest.mark.parametrize("alone_first", [True, False])
def test_a_rule_is_traced_for_its_formula_s_platforms_whenever_that_is(alone_first: bool) -> None:
    """Its derivative is taken when the formula has been left, and what JAX keeps of one trace is no other place's."""
    x, rule = jnp.float32(2), ruled()

    def inside(formula: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x: by_platform(x, cpu=formula, otherwise=lambda x: x)

    found = {}
    for function, of in sorted({"alone": rule, "inside": inside(rule)}.items(), reverse=not alone_first):
        found[function] = choices(jax.grad(of), x), choices(lambda x, of=of: jax.jvp(of, (x,), (x,)), x)
    sine = inside(jnp.sin)
    assert found["inside"] == (choices(jax.grad(sine), x), choices(lambda x: jax.jvp(sine, (x,), (x,)), x))
    assert found["alone"] == (2, 1)  # of a value, and of a slope
    assert jax.grad(inside(rule))(x) == 3


def test_a_users_function_is_traced_for_all_platforms() -> None:
    """Also in a formula that is one platform's: it may be jitted, and JAX keeps what it has traced of it."""
    traced = []

    def loss(z: jax.Array) -> jax.Array:
        traced.append(platforms())
        return z[:, 0]

    # So many that a CPU's blocks are not those of a TPU.
    x, w = jax.ShapeDtypeStruct((4096, 2), jnp.float32), jax.ShapeDtypeStruct((2, 50304), jnp.float32)
    jax.make_jaxpr(jax.grad(lambda x, w: jnp.sum(lossjax.linear_loss(loss, x, w))))(x, w)
    assert set(traced) == {ALL}
