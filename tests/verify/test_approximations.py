"""Formulas that are approximations: right or wrong by what they promise, and not judged by what they leave out."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax.verify._check import check
from tests.support.judged import Z, ruled


def series(rule: Callable[[jax.Array], jax.Array]) -> Callable[..., Any]:
    """The exponential by a series that ends too soon for 53 bits and not for 24, with a rule of its own."""

    def formula(x: jax.Array) -> jax.Array:
        return functools.reduce(lambda total, k: 1 + x * total / k, range(13, 0, -1), jnp.ones_like(x))

    return ruled(lambda x: formula(jnp.tanh(x)), lambda kept, g: (
        g * rule(jnp.tanh(kept[0])) * (1 - jnp.tanh(kept[0]) ** 2),))  # fmt: skip


def exponential(x: jax.Array) -> jax.Array:
    return jnp.exp(jnp.tanh(x))


def test_a_body_that_is_a_truncated_series_is_judged_by_what_it_promises() -> None:
    """By its own formula it is neither right nor wrong; by a reference it is; and a fault beyond a rounding is one."""
    x = Z[0, :3]
    alone = check(series(jnp.exp), x, checks=("rule", "cotangent", "modes"))
    assert (alone.right, alone.exit_code) == (None, 3), str(alone)
    assert "a truncated series" in alone.failures[0]
    assert {r.name for r in alone.rows if r.ok is False} == set()
    assert check(series(jnp.exp), x, checks=("rule", "cotangent"), reference=exponential).ok
    assert check(series(lambda x: jnp.exp(x) * (1 + 1e-6)), x, checks="rule").right is False
    assert check(series(lambda x: jnp.exp(x) * (1 + 1e-6)), x, checks="rule", reference=exponential).right is False
    with jax.enable_x64(True):  # there the truncation is more than a rounding
        assert check(series(jnp.exp), x.astype(np.float64), checks="rule").right is False


def test_where_the_slope_is_far_smaller_than_the_value_an_approximation_shows_more_of_it() -> None:
    """A tanh off by 1e-10: at 20 its slope is 2e-17, the formula's 1e-13, and a rounding of the value is 6e-8."""
    x = jnp.array([0.5, 20.0], jnp.float32)

    def saturating(off: float, rule: Callable[[jax.Array], jax.Array]) -> Callable[..., Any]:
        return ruled(lambda x: jnp.tanh(x) * (1 + off * jnp.sin(x) / (1 + x**2)), lambda kept, g: (g * rule(kept[0]),))

    def slope(x: jax.Array) -> jax.Array:
        return 1 / jnp.cosh(x) ** 2

    def verdict(off: float, rule: Callable[[jax.Array], jax.Array], **options: Any) -> bool | None:
        return check(saturating(off, rule), x, checks="rule", **options).right

    assert verdict(1e-10, slope) is None
    assert verdict(1e-10, slope, reference=jnp.tanh)
    assert verdict(1e-10, lambda x: 0 * x) is False
    assert verdict(1e-10, lambda x: slope(x) + jnp.where(x > 15, 1e-8, 0)) is False  # over a rounding of the value
    assert verdict(0, lambda x: slope(x) + jnp.where(x > 15, 1e-10, 0)) is False  # of an exact formula
    assert verdict(1e-10, lambda x: slope(x) + jnp.where(x > 15, 1e-10, 0), reference=jnp.tanh) is False


@pytest.mark.parametrize("function", [jax.scipy.special.log_ndtr, jax.scipy.special.erfcx])
def test_series_of_jax_are_not_called_wrong(function: Callable[..., Any]) -> None:
    found = check(function, Z[:2], checks=("rule", "cotangent"))
    assert all(r.ok is not False for r in found.rows), str(found)


@pytest.mark.parametrize(("h", "a", "right"), [(7.2, 1.2, None), (4.0, 1.2, True)])
def test_a_quadrature_is_not_called_wrong(h: float, a: float, right: bool | None) -> None:
    """At (7.2, 1.2) the slope in a is 4e-29, and what the quadrature leaves out 1e-25, of a value of 1e-13.

    The formula has another branch at a = 1 alone, which does not hang on a. Beside it rule and formula differ by what
    is left out, at h = 4 by some 1e-10 of the slope.
    """
    arguments = (jnp.array([x], jnp.float32) for x in (h, a))
    found = check(jax.scipy.special.owens_t, *arguments, checks="rule")
    assert found.right is right, str(found)
    assert right or "less than a rounding of the value" in found.failures[0]
