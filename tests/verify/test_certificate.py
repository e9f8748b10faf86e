"""What a certificate says, as a table and as JSON; what is meant by a reference; which requests are refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax.verify._check import USUAL, Certificate, Row, assert_verified, check, inlined
from tests.verify.test_check import FAULTS, LONG, Y, Z, cross_entropy, ruled


def test_reference_says_what_is_meant() -> None:
    assert check(lambda x: 2 * x, Z, reference=lambda x: 2 * x, checks="rule").ok
    found = check(lambda x: x**2, Z, reference=lambda x: x**2 + 1, checks=("rule", "value"))
    assert {r.name for r in found.rows if r.ok is False} == {"rule", "value"}
    assert "value of output 0" in found.failures[0]


def test_a_negative_control() -> None:
    """The check is seen to reject a gradient that is an eighth too large; of what has none, it cannot be."""
    square = ruled(jnp.square, lambda args, g: (2 * g * args[0],))
    assert assert_verified(square, Z, checks="rule", plant=True).ok
    assert assert_verified(cross_entropy, Z, Y, checks="rule", plant=True).ok
    assert assert_verified(square, Z, reference=jnp.square, checks="rule", plant=True).ok
    with pytest.raises(AssertionError, match="an eighth too large was not rejected"):
        assert_verified(jnp.floor, Z, checks="rule", plant=True)


def test_certificate_as_table_and_as_json() -> None:
    found = check(FAULTS["sign"][0], Z, checks=("rule", "cotangent"))
    plain = json.loads(found.to_json())
    assert plain["ok"] is False
    assert [r["name"] for r in plain["rows"]] == [r.name for r in found.rows]
    assert plain["failures"] == found.failures
    assert {"name", "ok", "measured", "allowed", "statement", "failures", "program"} == set(plain["rows"][0])
    assert str(found).startswith("tanh: is the gradient right? NO\n")
    assert plain["right"] is False
    assert plain["about"]["differentiated"] == {"argument 0": "float32"}
    assert {"lossjax", "jax", "jaxlib", "numpy", "python"} == set(plain["about"]["versions"])
    unjudged = json.loads(Certificate("f", (Row("rule", None), Row("modes: jit", False, float("inf")))).to_json())
    assert [row["measured"] for row in unjudged["rows"]] == [None, None]
    assert max(map(len, str(found).splitlines())) <= 80
    assert "Falls short: rule, cotangent." in str(found)
    assert "argument 0" in str(found)


def test_nothing_judged_is_not_ok() -> None:
    def unsupported(z: jax.Array) -> jax.Array:
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(z.shape, z.dtype), z) + z

    found = check(ruled(unsupported, lambda kept, g: (g,)), Z, checks=("rule", "value"))
    assert [r.ok for r in found.rows] == [None, None]
    assert (found.ok, found.right, found.exit_code) == (None, None, 3)
    assert "callback" in found.failures[0]
    assert "is the gradient right? not judged" in str(found)
    with pytest.raises(AssertionError, match="could not be judged"):
        assert_verified(ruled(unsupported, lambda kept, g: (g,)), Z, checks="rule")
    assert Certificate("nothing", ()).ok is None
    assert Certificate("one", (Row("rule", True), Row("edges", None))).ok
    assert Certificate("the rest", (Row("rule", None), Row("edges", True))).ok is None
    assert Certificate("another", (Row("rule", None), Row("edges", False))).ok is False


ASKED_ALONE = [
    ((Row("value", True), Row("gradient", False)), "is the value accurate? yes; is the gradient accurate? NO"),
    ((Row("rule", True), Row("value", None)), "is the gradient right? yes; is the value accurate? not judged"),
    ((Row("modes: jit", False), Row("modes: vmap", None)), "does it work as JAX code? NO"),
    ((Row("edges", None), Row("overflow", True)), "is it right at the edges? not judged; is it right for the largest "),
    (tuple(Row(name, True) for name in USUAL), "is the gradient right? yes"),
]


@pytest.mark.parametrize(("rows", "words"), ASKED_ALONE, ids=lambda x: x[:12] if isinstance(x, str) else "")
def test_the_first_line_names_the_questions_that_were_asked(rows: tuple[Row, ...], words: str) -> None:
    said = str(Certificate("wrong", rows))
    assert " ".join(said.partition("0.0 s")[0].split()).startswith(f"wrong: {words}")
    assert len(rows) < len(USUAL) or said.splitlines()[0] == f"wrong: {words}"


def test_what_was_not_judged_has_a_dash_and_says_so() -> None:
    """A cross is for what falls short. The JSON has null, and the lines of ``failures`` as they are."""
    why = Row("rule", None, statement="not judged: a callback"), Row("modes: jvp", None, statement="skipped: no rule")
    unjudged = Certificate("f", why)
    said = str(unjudged)
    assert "✗" not in said
    assert "\n– rule: not judged: a callback\n– modes: jvp: not judged: skipped: no rule\n" in said
    assert [row["ok"] for row in json.loads(unjudged.to_json())["rows"]] == [None, None]
    assert unjudged.failures == ["rule: not judged: a callback", "modes: jvp: skipped: no rule"]
    short = str(Certificate("f", (*why, Row("value", False, 9, 8, failures=("output 0",)))))
    assert [line for line in short.splitlines() if line.startswith("✗")] == ["✗ value: output 0"]


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="no check 'rules'"):
        check(jnp.sin, Z, checks="rules")
    with pytest.raises(TypeError, match="nothing to differentiate"):
        check(cross_entropy, Z, Y, argnums=1)
    with pytest.raises(TypeError, match="argnums names argument 2"):
        check(cross_entropy, Z, Y, argnums=2)
    with pytest.raises(TypeError, match="nothing to check"):
        check(lambda z: jnp.argmax(z), Z)
    with pytest.raises(AssertionError, match="is not verified"):
        assert_verified(FAULTS["sign"][0], Z, checks="rule")


def test_inlined_keeps_values_and_drops_rules() -> None:
    wrong = ruled(jnp.sin, lambda kept, g: (3 * g * jnp.cos(kept[0]),))

    def nested(x: jax.Array) -> jax.Array:
        y, ys = jax.lax.scan(lambda c, _: (wrong(c), wrong(c)), x, None, length=3)
        z = jax.lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, wrong(s[1])), (0, jax.lax.stop_gradient(x)))[1]
        chosen = jax.lax.cond(x.sum() > 0, wrong, jnp.cos, x)
        return y + ys.sum(axis=0) + z + chosen + jax.checkpoint(jax.jit(wrong))(x) + jax.vmap(wrong)(x)

    def plain(x: jax.Array) -> jax.Array:
        first = jnp.sin(x)
        second = jnp.sin(first)
        third = jnp.sin(second)
        return third + (first + second + third) + jax.lax.stop_gradient(jnp.sin(jnp.sin(x))) + 3 * jnp.sin(x)

    x = jnp.arange(1.0, 4.0)
    np.testing.assert_allclose(inlined(nested)(x), nested(x), rtol=1e-6)
    got, want = (jax.grad(lambda x, f=f: f(x).sum())(x) for f in (inlined(nested), plain))
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_large_arrays_get_fewer_variations() -> None:
    z = np.tile(LONG, (70, 1))
    found = check(
        ruled(lambda z: jnp.sum(z**2, axis=-1), lambda kept, g: (2 * g[:, None] * kept[0],)), z, checks="rule"
    )
    assert found.ok, str(found)
    assert "for their size" in found.rows[0].statement
