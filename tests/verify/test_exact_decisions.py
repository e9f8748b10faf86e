"""What exact execution decides, what it leaves undecided and says so, and what it refuses, each by name and line."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb
from jax import lax

import lossjax
from lossjax.verify import oracle
from lossjax.verify._exact import MOST_BITS, UndecidedComparison, UnsupportedPrimitive, context, exact
from tests.support.exactness import overlap

Z = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32) * 10


def here(line: str) -> int:
    """The number of the only line of this file that ends with this comment."""
    lines = pathlib.Path(__file__).read_text(encoding="utf-8").splitlines()
    (number,) = (i for i, text in enumerate(lines, 1) if text.endswith(line))
    return number


# --- ties ------------------------------------------------------------------------------------------------------------


def test_ties_of_computed_values_are_decided() -> None:
    z = np.float32([1.25, 3.5, 3.5, -2, 3.5])

    def tied(z: jax.Array) -> tuple[jax.Array, ...]:
        p = jax.nn.softmax(z)
        again = jnp.exp(z) / jnp.exp(z[::-1]).sum()  # the same numbers, computed once more
        top, where = lax.top_k(p, 3)
        return p == p.max(), jnp.argmax(p), jnp.argmin(-again), jnp.sort(p) == p, top - p.max(), where, p > p.max()

    equal, first, last, ordered, zero, where, greater = exact(tied)(z)
    np.testing.assert_array_equal(equal, [False, True, True, False, True])
    assert (int(first), int(last)) == (1, 1)
    np.testing.assert_array_equal(ordered, [False, False, True, False, True])
    assert all(v == 0 for v in zero)
    np.testing.assert_array_equal(where, [1, 2, 4])
    assert not greater.any()


def test_equal_rows_tie_after_sums_and_products_whatever_the_order() -> None:
    x = np.float32([[1, 2, 3], [3, 1, 2], [0, 1, 2]])

    def tied(x: jax.Array) -> jax.Array:
        lse = jax.nn.logsumexp(x, axis=1) * jnp.log(jnp.float32(3))
        return lse == lse.max()

    np.testing.assert_array_equal(exact(tied)(x), [True, True, False])
    product = exact(lambda x: jnp.exp(x) @ jnp.exp(x[:2].T))(x)
    assert product[0, 1] is product[1, 0]
    np.testing.assert_array_equal(exact(lambda x: (jnp.exp(x) @ jnp.exp(x).T).argmax(1))(x), [0, 1, 0])


def test_equal_exact_values_by_different_ways_tie() -> None:
    # 1 + 3 and 2 + 2 are the same object, hence their exponentials are.
    assert exact(lambda a, b, c: jnp.exp(a + b) == jnp.exp(c + c))(*np.array([1, 3, 2], np.float32))
    assert exact(lambda x: jnp.exp(x) - jnp.exp(x))(np.float32(1))[()] == 0
    assert exact(lambda x: jnp.exp(x) / jnp.exp(x))(np.float32(1))[()] == 1


def test_the_gradient_of_a_maximum_at_a_tie_is_jaxs() -> None:
    z = np.float32([[1, 3, 3, 2], [5, 5, 5, 5]])
    gradient = jax.grad(lambda z: jnp.exp(z).max(1).sum() + jnp.abs(z[0, 0] - 1) + jnp.maximum(z, 3.0).sum())
    result = exact(gradient)(z)
    np.testing.assert_allclose(np.vectorize(float)(result), gradient(z), rtol=1e-6)


def test_forgetting_changes_nothing_but_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is by identity, and identities are reused by Python: with next to no memory all numbers stay the same."""
    program = jax.value_and_grad(lambda z: jnp.sin(jax.nn.logsumexp(z @ z.T, axis=1)).sum())
    before = exact(program)(Z)
    monkeypatch.setattr(context, "_MEMO_SIZE", 1)
    monkeypatch.setattr(context, "_NUMBERS", 5)
    after = exact(program)(Z)
    overlap(before[0], after[0])
    overlap(before[1], after[1], 1e-55)


# --- what is not decided ---------------------------------------------------------------------------------------------


def test_an_undecided_comparison_names_itself() -> None:
    def undecided(x: jax.Array) -> jax.Array:
        return jnp.where(jnp.log(jnp.exp(x)) > x, 1.0, 0.0)  # the undecided line

    with pytest.raises(UndecidedComparison) as caught:
        exact(undecided)(np.float32(0.3))
    assert isinstance(caught.value, ArithmeticError)
    line = here("# the undecided line")
    assert f"test_exact_decisions.py:{line} (test_an_undecided_comparison_names_itself.<locals>.undecided)" in str(
        caught.value
    )
    assert str(caught.value).startswith("gt of [0.30000001192092895507")
    assert f"undecided at {MOST_BITS} bits" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("floor", lambda x: jnp.floor(jnp.log(jnp.exp(x)))),
        ("sign", lambda x: jnp.sign(jnp.log(jnp.exp(x)) - x)),
        ("convert_element_type", lambda x: jnp.log(jnp.exp(x)).astype(jnp.int32)),
        ("log", lambda x: jnp.log(jnp.log(jnp.exp(x)) - x)),
        ("div", lambda x: 1 / (jnp.log(jnp.exp(x)) - x)),
        ("sqrt", lambda x: jnp.sqrt(jnp.log(jnp.exp(x)) - x)),
        ("argmax", lambda x: jnp.argmax(jnp.stack([x, jnp.log(jnp.exp(x))]))),
        ("sort", lambda x: jnp.sort(jnp.stack([x, jnp.log(jnp.exp(x))]))),
        ("eq", lambda x: jnp.log(jnp.exp(x)) == x),
        ("mul", lambda x: jnp.inf * (jnp.log(jnp.exp(x)) - x)),
        ("log", lambda x: jnp.log(jnp.log(jnp.exp(x)) - x) + jnp.stack([x, x]).sum() > 0),
        ("exp", lambda x: jnp.exp(jnp.exp(jnp.exp(jnp.exp(x + 9))))),
    ],
)  # fmt: skip
def test_nothing_is_guessed(name: str, function: object) -> None:
    """Where a ball straddles a step, a pole or the edge of a domain, NaN would be a guess too."""
    with pytest.raises(UndecidedComparison, match=f"^{name} of .* is undecided at 4096 bits; test_exact_decisions.py:"):
        exact(function)(np.float32(2))


def test_more_bits_decide_what_few_cannot() -> None:
    # e^-400 is 10^-174: 256 bits do not see it beside 1, 1024 do.
    result = exact(lambda x: 1 + jnp.exp(x) > 1)(np.float32(-400))
    assert result.item() is True
    with pytest.raises(UndecidedComparison):
        exact(lambda x: 1 + jnp.exp(x) > 1)(np.float32(-4000))


def test_what_is_not_asked_for_need_not_be_decided() -> None:
    def program(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        nothing = jnp.log(jnp.exp(x)) - x
        _ = jax.jit(lambda v: v > 0)(nothing)
        return jnp.where(x > 0, x, jnp.log(nothing) / nothing), jnp.maximum(jnp.exp(jnp.log(x)), x)

    chosen, maximum = exact(program)(np.float32(2))
    assert chosen[()] == 2
    assert maximum[()].contains(arb(2))  # overlapping balls have a maximum that encloses both


def test_maxima_of_overlapping_balls_enclose_both() -> None:
    """At 256 bits 1 + e^-400 is [1 ± 2^-256]: neither it nor 1 alone would do."""
    maximum = exact(lambda x: jnp.stack([x / x, 1 + jnp.exp(x)]).max())(np.float32(-400))[()]
    with oracle.precision(2048):
        assert maximum.contains(1 + arb(-400).exp())
        assert not maximum.is_exact()


def test_a_comparison_inside_lossjax_is_named_by_the_callers_line() -> None:
    def program(x: jax.Array) -> jax.Array:
        return lossjax.entropy(jnp.stack([jnp.log(jnp.exp(x)) - x, x]))  # calls lossjax

    with pytest.raises(UndecidedComparison) as caught:
        exact(program)(np.float32(2))
    assert f"test_exact_decisions.py:{here('# calls lossjax')} " in str(caught.value)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("nextafter", lambda x: jnp.nextafter(jnp.exp(x), x + 1)),  # refused
        ("bitcast_convert_type", lambda x: lax.bitcast_convert_type(jnp.exp(x), jnp.int32)),
        ("cholesky", lambda x: jnp.linalg.cholesky(jnp.outer(x, jnp.inf * x))),
        ("pure_callback", lambda x: jax.pure_callback(np.sin, x, x)),
    ],
)  # fmt: skip
def test_refusals_name_the_primitive_and_the_line(name: str, function: object) -> None:
    with pytest.raises(UnsupportedPrimitive, match=r"; test_exact_decisions.py:\d+ \(<lambda>\)$") as caught:
        exact(function)(np.float32([1, 2]))
    assert f"primitive '{name}' cannot be executed exactly" in str(caught.value)
    if name == "nextafter":
        assert f"test_exact_decisions.py:{here('# refused')} " in str(caught.value)


def test_a_callback_is_run_on_rounded_numbers_where_that_is_asked_for() -> None:
    """What it makes of them is taken for exact, and the warning says so."""

    def program(x: jax.Array) -> jax.Array:
        return jax.pure_callback(lambda v: np.asarray(v) + 1, x, jnp.exp(x)) - 1

    x = np.float32([0.5, 1])
    with pytest.warns(UserWarning, match=r"run on rounded numbers.*; test_exact_decisions.py:\d+ \(\S*program\)$"):
        found = exact(program, run_callbacks=True)(x)
    np.testing.assert_array_equal(found.astype(float), np.exp(x.astype(float)).astype(np.float32) + np.float32(1) - 1)


def test_a_refusal_inside_calls_and_loops_names_the_innermost_line() -> None:
    def body(c: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return c + jnp.nextafter(jnp.exp(v), c), c  # inside the loop

    with pytest.raises(UnsupportedPrimitive) as caught:
        exact(jax.jit(lambda x: lax.scan(body, 0.0, x)))(np.float32([1, 2]))
    assert f"test_exact_decisions.py:{here('# inside the loop')} " in str(caught.value)
