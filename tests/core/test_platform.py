"""Which formula is chosen on which platform, and that tracing does not choose."""

import jax
import jax.numpy as jnp
import numpy as np

from lossjax._core.plain import rules_off
from lossjax._core.platform import by_platform
from lossjax.verify import exact


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
