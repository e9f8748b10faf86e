"""Every way round a compiler is still needed: each test fails on the first JAX whose compiler no longer needs it."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax._core import xla

OBSOLETE = "this version of JAX no longer needs it: remove it from lossjax/_core/xla.py, and raise the oldest JAX"


def with_nan(size: int) -> jax.Array:
    return jnp.ones(size).at[size // 2].set(jnp.nan)


def test_a_minimum_in_a_sum_loses_a_nan() -> None:
    x = with_nan(4096)[None]
    naive = jax.jit(lambda x: jnp.sum(jnp.exp(jnp.maximum(x, 0)), axis=-1))(x)
    kept = jax.jit(lambda x: jnp.sum(jnp.exp(xla.at_least(x, 0)), axis=-1))(x)
    both = jax.jit(lambda x: jnp.sum(jnp.exp(xla.between(x, 0, 2)), axis=-1))(x)
    assert np.isnan(kept).all()
    assert np.isnan(both).all()
    assert not np.isnan(naive).any(), f"at_least, at_most, between: {OBSOLETE}"


def test_a_maximum_of_many_loses_a_nan() -> None:
    x = with_nan(4096)[None]
    assert np.isnan(jax.jit(xla.largest)(x)).all()
    assert not np.isnan(jax.jit(lambda x: jnp.max(x, axis=-1))(x)).any(), f"largest: {OBSOLETE}"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_is_not_defined_is_nan_in_every_derivative_without_a_root(dtype: str) -> None:
    """That a root would be stored is read from a B200's program: tests/accelerators/test_programs.py."""
    x = jnp.asarray([0.3, -2.0, np.inf, -np.inf, 5.0, 0.0], dtype)
    defined = jnp.asarray([True, False, True, False, True, True])

    def cube(x: jax.Array) -> jax.Array:
        return xla._nan_unless_by_infinity(defined, x * x * x)

    def slope(x: jax.Array) -> jax.Array:
        return jax.grad(lambda x: jnp.sum(cube(x)))(x)

    along = jnp.ones_like(x)
    found = cube(x), slope(x), *jax.jvp(slope, (x,), (along,)), jax.grad(lambda x: jnp.sum(slope(x)))(x)
    for got, want in zip(found, (x * x * x, 3 * x * x, 3 * x * x, 6 * x, 6 * x), strict=True):
        np.testing.assert_array_equal(np.isnan(got), ~defined)
        np.testing.assert_allclose(*(np.float32(np.where(defined, a, 0)) for a in (got, want)), rtol=1e-2)


def test_constants_are_added_first() -> None:
    x, high, low = jnp.float32(0.6931472), 0.693145751953125, 1.428606765330187e-06
    naive = jax.jit(lambda x: (x - high) - low)(x)
    apart = jax.jit(lambda x: xla.less_constant(x, high, low))(x)
    assert np.isclose(apart, float(x) - high - low, rtol=1e-3)
    if jax.__version_info__ < (0, 11):  # XLA of JAX 0.12 keeps them apart; the oldest JAX does not
        assert naive != apart, f"less_constant: {OBSOLETE}"


def test_a_constant_is_summed_one_after_the_other() -> None:
    """Of 50,257 targets, as the smoothed ones that a program is compiled with."""
    with jax.enable_x64(True):
        targets = np.full(50257, 0.1 / 50257)
        targets[7] += 0.9
        truth, constant = math.fsum(targets), jnp.asarray(targets)
        naive, kept = (float(jax.jit(lambda s=s: s(constant))()) for s in (jnp.sum, xla.total))
    assert abs(kept - truth) <= 8 * 2.0**-53 * truth
    assert abs(naive - truth) > 64 * 2.0**-53 * truth, f"total: {OBSOLETE}"


def test_products_of_one_row_are_summed_sixteen_at_a_time() -> None:
    targets = np.full((1, 50257), 0.1 / 50257, np.float32)
    targets[0, 7] += 0.9
    factors = np.full(targets.shape, 0.37, np.float32)
    truth = math.fsum(targets.astype(float)[0] * factors.astype(float)[0])
    naive, kept = (float(jax.jit(lambda t, f, s=s: s(t * f))(targets, factors)[0]) for s in (_of_classes, xla.total))
    assert abs(kept - truth) <= 8 * 2.0**-24 * truth
    if jax.__version_info__ < (0, 11):
        assert abs(naive - truth) > 64 * 2.0**-24 * truth, f"total: {OBSOLETE}"


def _of_classes(x: jax.Array) -> jax.Array:
    return jnp.sum(x, axis=-1)


def test_sixteen_bit_numbers_are_made_wider_to_be_sliced() -> None:
    """In a loop all of them, before it."""
    w = jax.ShapeDtypeStruct((64, 4096), jnp.bfloat16)

    def total(slice_of: Any, w: jax.Array) -> jax.Array:
        def add(i: jax.Array, so_far: jax.Array) -> jax.Array:
            return so_far + slice_of(w, 256 * i, 256, 1).astype(jnp.float32)

        return jax.lax.fori_loop(0, 16, add, jnp.zeros((64, 256)))

    def temporary(slice_of: Any) -> int:
        memory: Any = jax.jit(functools.partial(total, slice_of)).lower(w).compile().memory_analysis()
        return int(memory.temp_size_in_bytes)

    x = jnp.arange(32, dtype=jnp.bfloat16).reshape(2, 16)
    np.testing.assert_array_equal(xla.sliced(x, 5, 3, 1), x[:, 5:8])
    whole = 4 * 64 * 4096
    assert temporary(xla.sliced) < whole
    if jax.__version_info__ < (0, 11):
        assert temporary(jax.lax.dynamic_slice_in_dim) >= whole, f"sliced: {OBSOLETE}"


def test_a_batch_of_one_sixteen_bit_factor_is_not_multiplied() -> None:
    """Of rows x and a batch of gradients g: the sums of x gᵀ."""
    x, g = jnp.ones((4, 3), jnp.bfloat16), jnp.ones((2, 4, 5), jnp.bfloat16)
    how = {"preferred_element_type": jnp.float32}
    written = lambda x, g: xla.contracted(x, g, 0, jax.typeof(x).sharding, **how)  # noqa: E731
    naive = lambda x, g: jax.lax.dot_general(x, g, (((0,), (0,)), ((), ())), **how)  # noqa: E731
    assert np.array_equal(jax.jit(jax.vmap(written, (None, 0)))(x, g), np.full((2, 3, 5), 4.0))
    try:
        jax.block_until_ready(jax.jit(jax.vmap(naive, (None, 0)))(x, g))
    except jax.errors.JaxRuntimeError as error:
        assert "Unsupported element type" in str(error)  # noqa: PT017
    else:
        raise AssertionError(f"contracted: {OBSOLETE}")
