"""Right functions that were once accused, each named after the kind of what was taken for a fault."""

import contextlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb

from lossjax.verify import Certificate, UndecidedComparison, check, exact
from lossjax.verify._check.programs import Program
from lossjax.verify._check.transformations import MODES

X = np.float32([0.31, 0.72, 0.15, 0.58])


def row_of(found: Certificate, name: str) -> Any:
    return next(row for row in found.rows if row.name == name)


# --- a rule in which constants cancel ---------------------------------------------------------------------------------

TWICE = 2 / math.sqrt(math.pi)


def tail(x: jax.Array) -> jax.Array:
    """The first terms of erfcx for large x, which is 1/(√π·x) less 1/(2√π·x³)."""
    return (1 - 0.5 / x**2) / (x * math.sqrt(math.pi))


def slope_of_tail(factor: float) -> Any:
    """The derivative -1/(√π·x²) + 3/(2√π·x⁴) as ``2x·tail - 2/√π + …``: of two constants 10^-12 is left."""

    @jax.custom_jvp
    def function(x: jax.Array) -> jax.Array:
        return tail(x)

    @function.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (x,) = primals
        value = function(x)
        exact_part = 1.5 / (x**4 * math.sqrt(math.pi))
        return value, factor * (2 * x * value - TWICE + exact_part) * tangents[0]

    return function


def test_constants_that_cancel_are_no_fault() -> None:
    """What remains of 2/√π - 2/√π hangs on how the two were rounded; JAX's erfcx has such a rule."""
    found = check(slope_of_tail(1.0), X + 3, checks=("rule", "cotangent"))
    assert found.right, str(found)
    assert "hang on the rounding of a constant" in row_of(found, "rule").statement
    assert check(jax.scipy.special.erfcx, X, checks=("rule", "cotangent")).right


def test_constants_may_be_split_where_they_are_not_known() -> None:
    """A program that splits a number and puts it together again: its parts may be any two of that sum."""

    def of_parts(x: jax.Array) -> jax.Array:
        product = x * math.sqrt(math.pi)
        first = jax.lax.bitcast_convert_type(
            jax.lax.bitcast_convert_type(product, jnp.uint32) & jnp.uint32(0xFFFFF000), x.dtype
        )
        return first + (product - first)

    x = np.float32([0.3])
    [known] = Program(of_parts, x, wide=False)(x).tolist()
    [loose] = Program(of_parts, x, wide=False)(x, looseness=2.0**-24).tolist()
    assert loose.contains(known)
    assert 1e-8 < float(loose.rad() / abs(known)) < 1e-6


def test_the_leading_bits_of_a_ball_are_no_single_float() -> None:
    """Of an argument that may be anything from 1 to 2 the first half is not that of its middle."""

    def first(x: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
        return jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFFF000), x.dtype)

    with pytest.raises(UndecidedComparison):
        exact(first)(np.array([arb(1).union(arb(2))], object))
    [known] = exact(first)(np.float32([1.7])).tolist()
    assert 1.699 < float(known) < 1.7


@pytest.mark.parametrize("factor", [1.125, -1.0, 1 + 2.0**-20])
def test_faults_beside_constants_that_cancel_are_caught(factor: float) -> None:
    assert check(slope_of_tail(factor), X + 3, checks=("rule", "cotangent")).right is False


def test_a_wrong_constant_is_no_rounded_one() -> None:
    """A constant that is off by more than its own rounding, by 10^-9 of it here, is a fault."""

    @jax.custom_jvp
    def function(x: jax.Array) -> jax.Array:
        return jnp.sin(x) * math.sqrt(math.pi)

    function.defjvp(lambda p, t: (function(*p), jnp.cos(p[0]) * (math.sqrt(math.pi) * (1 + 1e-9)) * t[0]))
    found = check(function, X.astype(np.float32), checks="rule")
    assert found.right is not True  # in float32 it is less than a rounding
    with jax.enable_x64(True):
        assert check(function, X.astype(np.float64), checks="rule").right is False


# --- loops of unknown length ------------------------------------------------------------------------------------------


def halves(x: jax.Array) -> jax.Array:
    """x/8 by a loop of which JAX does not know how long it is, so that it has no reverse mode."""
    return jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] / 2, c[1] + 1), (x, 0))[0]


def test_a_rule_with_a_loop_is_right_where_jax_cannot_differentiate_it_twice() -> None:
    """What JAX has no reverse mode for is not available, and fails nothing; forward over reverse mode is judged."""

    @jax.custom_vjp
    def function(x: jax.Array) -> jax.Array:
        return halves(x) * x

    function.defvjp(lambda x: (halves(x) * x, x), lambda x, g: (g * halves(2 * x),))
    with pytest.raises(ValueError, match=r"Reverse-mode differentiation does not work for lax.while_loop"):
        jax.jacrev(jax.grad(lambda x: jnp.sum(function(x))))(X)
    found = check(function, X, checks=("rule", "modes"))
    assert found.ok, str(found)
    assert found.right
    assert row_of(found, "modes: hessian").ok, str(found)
    unavailable = {row.name for row in found.rows if "no reverse mode for the loop" in row.statement}
    assert unavailable == {"modes: reverse over reverse", "modes: scan, second derivative"}


def test_a_formula_with_a_loop_under_a_rule_without_one() -> None:
    """JAX 0.10 and 0.11 drop a rule from the body of a loop once they have linearised it, and meet the loop inside."""

    @jax.custom_jvp
    def function(x: jax.Array) -> jax.Array:
        return halves(x) * x

    function.defjvp(lambda primals, tangents: (function(*primals), primals[0] / 4 * tangents[0]))
    found = check(function, X, checks=("rule", "modes"))
    assert found.ok, str(found)
    assert found.right


# --- what JAX remembers of the other width ----------------------------------------------------------------------------


def test_what_jax_mixes_up_is_not_held_against_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a function closes over in 64 bits JAX may remember in 32; so it does of optimistix's solvers."""

    def mixed_up(_: Any) -> Any:
        raise ValueError("Cannot lower jaxpr with verifier errors: ...")

    monkeypatch.setitem(MODES, "jit", MODES["jit"]._replace(given=mixed_up))
    found = check(jnp.sin, X, checks="modes")
    assert row_of(found, "modes: jit").ok is None
    assert found.ok is not False


# --- arguments that a function refuses while it runs ------------------------------------------------------------------


def test_a_function_that_raises_outside_its_domain_while_it_runs() -> None:
    """Equinox's ``error_if`` raises in a callback: what lies outside the domain is then not tried."""

    def refuse(x: Any) -> Any:
        if (x < 0).any():
            raise ValueError("negative")
        return x

    @jax.custom_jvp
    def guarded(x: jax.Array) -> jax.Array:
        return jax.pure_callback(refuse, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    guarded.defjvp(lambda primals, tangents: (guarded(*primals), tangents[0]))
    found = check(lambda x: guarded(x) ** 2, X, checks="rule")
    assert found.ok is not False, str(found)


# --- a kink at the edge of what is possible ---------------------------------------------------------------------------


def test_a_kink_around_which_the_value_is_infinite() -> None:
    """A clipped distribution between two equal ends: wherever else its argument lies, the logarithm is -∞."""

    def clipped(x: jax.Array, loc: jax.Array, least: jax.Array) -> jax.Array:
        return jnp.where(x == least, -jax.nn.softplus(loc - least), -jnp.inf)

    found = check(clipped, X, X, X, checks="rule")
    assert row_of(found, "rule").ok is not False, str(found)


def test_a_kink_in_one_argument_where_the_function_jumps_in_another() -> None:
    """A label 0 in float says which branch it is, and a step away from it is the other one; jaxopt's loss is so."""

    def logistic(label: jax.Array, logit: jax.Array) -> jax.Array:
        return jax.nn.softplus(jnp.where(label, -logit, logit))

    labels, logits = np.float32([0, 1, 0, 1]), np.float32([0, 0, 0.3, 0])
    found = check(logistic, labels, logits, checks="rule")
    assert found.right, str(found)


def test_a_fault_where_the_function_jumps_is_caught() -> None:
    @jax.custom_jvp
    def logistic(label: jax.Array, logit: jax.Array) -> jax.Array:
        return jnp.where(label == 0, 2.0, 1.0) * jnp.abs(logit)

    @logistic.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        label, logit = primals
        return logistic(label, logit), jnp.where(label == 0, 1.5, 1.0) * jnp.sign(logit) * tangents[1]

    labels, logits = np.float32([0, 1, 0, 1]), np.float32([0, 0, 0.3, 0])
    assert check(logistic, labels, logits, checks="rule").right is False


# --- examples that must stay what they are ----------------------------------------------------------------------------


def test_draws_of_another_number_are_other_draws() -> None:
    """A sample of three rows does not begin with the sample of one row, and no rule is to blame."""

    def sample(rate: jax.Array) -> jax.Array:
        return jax.nn.softplus(rate) * jax.random.exponential(jax.random.key(3), rate.shape)

    found = check(sample, X[:2], checks=("rule", "modes"))
    assert found.ok, str(found)
    assert "draws random numbers" in row_of(found, "modes: other batch sizes").statement


def test_probabilities_stay_probabilities_where_a_function_insists() -> None:
    """Libraries of distributions refuse other arguments wherever they can see them."""
    given = np.float32([0.2, 0.3, 0.5])

    def entropy(p: jax.Array) -> jax.Array:
        with contextlib.suppress(jax.errors.TracerArrayConversionError):
            if not np.allclose(np.asarray(p).sum(), 1, rtol=0, atol=1e-6):
                raise ValueError("invalid probabilities")
        return jnp.sum(jax.scipy.special.entr(p))

    found = check(entropy, given, checks=("rule", "cotangent", "modes"))
    assert found.ok, str(found)


def test_arguments_that_a_mode_tries_and_the_function_refuses() -> None:
    """``vmap`` is met with the example and its reverse, which a solver for positive definite matrices refuses."""

    def refuse(x: Any) -> Any:
        if (np.diff(x) < 0).any():
            raise ValueError("not sorted")
        return np.asarray(x)

    @jax.custom_jvp
    def guarded(x: jax.Array) -> jax.Array:
        return jax.pure_callback(refuse, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")

    guarded.defjvp(lambda primals, tangents: (guarded(*primals), tangents[0]))
    found = check(lambda x: guarded(x) ** 2, np.sort(X), checks="modes")
    assert "refuses the arguments" in row_of(found, "modes: vmap").statement, str(found)
    assert row_of(found, "modes: grad of jit").ok


def test_a_function_of_symmetric_matrices() -> None:
    """Two gradients that are the same for symmetric matrices have other derivatives off these, as lineax's Cholesky."""

    @jax.custom_jvp
    def trace_of_square(a: jax.Array) -> jax.Array:
        return jnp.where(jnp.all(a == a.T), jnp.sum(a * a.T), jnp.nan)

    @trace_of_square.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (a,) = primals
        return trace_of_square(a), jnp.sum(2 * a * tangents[0])

    found = check(trace_of_square, np.float32([[2, 0.5], [0.5, 1]]), checks=("rule", "modes"))
    assert found.ok, str(found)
    assert row_of(found, "modes: hessian").ok


# --- rows that feel each other where no slope says so -----------------------------------------------------------------


@jax.custom_jvp
def ranks(x: jax.Array) -> jax.Array:
    """Of each entry the number of those that are not larger; it is constant wherever it has a derivative."""
    return jnp.sum(x[:, None] >= x[None], axis=1).astype(x.dtype)


ranks.defjvp(lambda primals, tangents: (ranks(*primals), jnp.zeros_like(tangents[0])))


@pytest.mark.parametrize(
    ("function", "ok"), [(ranks, None), (lambda x: jnp.sign(x - 0.4) * x.shape[0], False), (jnp.sign, True)]
)
def test_ranks_change_with_the_rows_beside_them(function: Any, ok: bool | None) -> None:
    """A number of rows that a step function multiplies is a fault, as before."""
    assert row_of(check(function, X, checks="modes"), "modes: other batch sizes").ok is ok
