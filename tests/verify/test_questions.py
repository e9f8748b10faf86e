"""What a checker of gradients must ask: each planted fault is right wherever an easier question would look."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax.verify._check import Certificate, check
from lossjax.verify._exact import UnsupportedPrimitive, control, exact
from tests.support.judged import MESH, OWN, V, Y, Z, one_hot_loss, right, ruled, sine, squares


def weighted(z: jax.Array, m: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(m, z**2, 0), axis=-1)


def scaled(z: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.sum(w[:, None] * z**2, axis=-1)


def power(x: jax.Array, n: jax.Array) -> jax.Array:
    return x**2 * n.astype(x.dtype)


def of_signs(z: jax.Array, s: jax.Array) -> jax.Array:
    """A margin loss that is undefined for labels other than -1 and 1."""
    return jnp.log1p(jnp.exp(-s * z)) * jnp.where(jnp.abs(s) == 1, 1, jnp.nan)


def of_probabilities(z: jax.Array, t: jax.Array) -> jax.Array:
    """A cross-entropy that is undefined for negative targets."""
    loss = jnp.sum(t * (jax.nn.logsumexp(z, axis=-1, keepdims=True) - z), axis=-1)
    return jnp.where(jnp.any(t < 0, axis=-1), jnp.nan, loss)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def switched(x: jax.Array, upwards: bool) -> jax.Array:
    return x**2 if upwards else -(x**2)


switched.defvjp(lambda x, upwards: (switched(x, upwards), x), lambda upwards, x, g: (g * x * (2 if upwards else -3),))


@jax.custom_vjp
def cancelling_log_softmax(z: jax.Array) -> jax.Array:
    """Right in exact arithmetic; ``g - p Σg`` loses the gradient of a confident label."""
    return z - jax.nn.logsumexp(z, axis=-1, keepdims=True)


cancelling_log_softmax.defvjp(
    lambda z: (cancelling_log_softmax(z), jax.nn.softmax(z)),
    lambda p, g: (g - p * jnp.sum(g, axis=-1, keepdims=True),),
)


def first_row_only(kept: Any, g: jax.Array) -> Any:
    (z,) = kept
    return ((g[:, None] if z.shape[0] > 1 else 2 * g[:, None]) * 2 * z,)


def of_five_rows(kept: Any, g: jax.Array) -> Any:
    (z,) = kept
    return (10.0 / z.shape[0] * g[:, None] * z,)


def whole_blocks_only(kept: Any, g: Any) -> Any:
    """Rows beyond the last whole block of four are taken for padding."""
    (z,) = kept
    return ((2 * g[:, None] * z).at[z.shape[0] // 4 * 4 :].set(0),)


def padded(z: jax.Array) -> jax.Array:
    """Columns filled up to whole blocks of seven, with zeros that are no logits."""
    return jnp.pad(z, ((0, 0), (0, -z.shape[1] % 7)))


def of_a_row_too_many(kept: Any, g: jax.Array) -> Any:
    """Rows filled up to whole blocks of five with copies of the last, which the weights' gradient then has too."""
    x, w = kept
    rows = ((0, -x.shape[0] % 5), (0, 0))
    slope = jnp.pad(g, rows, mode="edge") / jnp.cosh(jnp.pad(x, rows, mode="edge") @ w) ** 2
    return (slope @ w.T)[: x.shape[0]], jnp.pad(x, rows, mode="edge").T @ slope


def root(x: jax.Array) -> jax.Array:
    return jnp.sqrt(1 + x**2)


def powers(x: jax.Array, n: jax.Array) -> jax.Array:
    return jnp.sum(jnp.exp(n.astype(x.dtype) * jnp.tanh(x)))


FAULTS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "wrong in float32 alone": (
        sine(lambda x, g: right(x, g) * (3 if x.dtype == jnp.float32 else 1)), (Z,), "rule: in float32"),
    "wrong in bfloat16 alone": (
        sine(lambda x, g: right(x, g) * (3 if x.dtype == jnp.bfloat16 else 1)),
        (Z.astype(jnp.bfloat16),), "rule: in bfloat16"),
    "with a static argument": (switched, (Z, False), "rule"),
    "static under jit": (jax.jit(switched, static_argnums=1), (Z, False), "rule"),
    "the gradient of one confident output": (cancelling_log_softmax, (Z,), "gradient"),
    "a clipped cotangent": (sine(lambda x, g: right(x, jnp.clip(g, -100, 100))), (Z,), "cotangent"),
    "a tiny cotangent": (sine(lambda x, g: right(x, jnp.where(jnp.abs(g) < 1e-3, 0, g))), (Z,), "cotangent"),
    "no cotangent": (sine(lambda x, g: jnp.where(g == 0, jnp.cos(x), right(x, g))), (Z,), "cotangent"),
    "a mask that hides something": (
        ruled(weighted, lambda kept, g: (2 * g[:, None] * kept[0], None)), (Z, np.ones((5, 7), bool)), "rule"),
    "weights that are not one": (
        ruled(scaled, lambda kept, g: (2 * g[:, None] * kept[0], g * squares(kept[0]))),
        (Z, np.ones(5, np.float32)), "rule"),
    "weights of zero": (
        ruled(scaled, lambda kept, g: (2 * (g * jnp.where(kept[1] == 0, 1, kept[1]))[:, None] * kept[0], None)),
        (Z, np.ones(5, np.float32)), "rule"),
    "an integer above ten": (
        ruled(power, lambda kept, g: (
            2 * g * kept[0] * jnp.minimum(kept[1], 10).astype(g.dtype), None)),
        (Z[0], np.arange(7, dtype=np.int32)), "rule"),
    "a batch of one": (ruled(squares, first_row_only), (Z,), "modes: other batch sizes"),
    "a batch size written down": (ruled(squares, of_five_rows), (Z,), "modes: other batch sizes"),
    "a block that is not full": (ruled(squares, whole_blocks_only), (Z[:4],), "modes: other batch sizes"),
    "a batch size written down in a mean": (
        ruled(lambda z: jnp.mean(z**2), lambda kept, g: (2 / 35 * g * kept[0],)), (Z,), "rule: other sizes"),
    "a block of columns that is not full": (
        ruled(lambda z: jax.nn.logsumexp(z, axis=-1), lambda kept, g: (
            g[:, None] * jax.nn.softmax(padded(kept[0]))[:, : kept[0].shape[1]],)), (Z,), "rule: other sizes"),
    "a block of rows that is not full, in the weights": (
        ruled(lambda x, w: jnp.tanh(x @ w), of_a_row_too_many), (Z, V.T[:, :2]), "rule: other sizes"),
    "another argument than the first": (
        ruled(lambda a, b: a * b**2, lambda kept, g: (g * kept[1] ** 2, g * kept[0] * kept[1])), (Z, V), "rule"),
    "an argument without a cotangent": (
        ruled(lambda a, b: a * b, lambda kept, g: (g * kept[1], None)), (Z, V), "rule"),
    "an argument of a million": (
        sine(lambda x, g: right(x, g) * jnp.where(jnp.abs(x) > 1e5, 2, 1)), (Z,), "rule"),
    "an argument of a millionth": (
        sine(lambda x, g: right(x, g) * jnp.where(jnp.abs(x) < 1e-5, 2, 1)), (Z,), "rule"),
    "a number without axes of a million": (
        ruled(root, lambda kept, g: (g * jnp.where(jnp.abs(kept[0]) > 1e5, 0, kept[0] / root(kept[0])),)),
        (np.float32(1.3),), "rule"),
    "a number without axes below 0": (
        ruled(root, lambda kept, g: (g * jnp.abs(kept[0]) / root(kept[0]),)), (np.float32(1.3),), "rule"),
    "one entry of a million alone": (
        ruled(root, lambda kept, g: (
            g * kept[0] / root(kept[0]) * jnp.where(jnp.sum(jnp.abs(kept[0]) > 1e5, axis=-1, keepdims=True) == 1, 2, 1),
        )), (Z,), "rule"),
    "a cotangent of some hundreds": (
        sine(lambda x, g: right(x, jnp.where((jnp.abs(g) > 100) & (jnp.abs(g) < 2000), 2 * g, g))), (Z[0, 0],),
        "cotangent"),
    "an integer above ten beside a row": (
        ruled(powers, lambda kept, g: (
            g * jnp.minimum(kept[1], 10).astype(g.dtype) / jnp.cosh(kept[0]) ** 2
            * jnp.exp(kept[1].astype(g.dtype) * jnp.tanh(kept[0])), None)),
        (Z[0], np.array(2, np.int32)), "rule"),
    "labels that may be signs only": (
        ruled(of_signs, lambda kept, g: (
            -3 * g * jnp.where(jnp.abs(kept[1]) == 1, kept[1], jnp.nan) * jax.nn.sigmoid(-kept[1] * kept[0]),
            -g * kept[0] * jax.nn.sigmoid(-kept[1] * kept[0]))),
        (Z, np.where(V > 0, 1, -1).astype(np.float32)), "rule"),
    "one-hot targets that may not be negative": (
        ruled(of_probabilities, lambda kept, g: (
            3 * g[:, None] * (jax.nn.softmax(kept[0]) * jnp.sum(kept[1], axis=-1, keepdims=True) - kept[1]),
            g[:, None] * -jax.nn.log_softmax(kept[0]))),
        (Z, np.eye(7, dtype=np.float32)[Y]), "rule"),
    "the value of a class that does not exist": (one_hot_loss, (Z, Y), "edges"),
    "the value of a class that does not exist, where the function weighs its classes": (
        lambda z, warmth, y: OWN[jnp.clip(y, 0, 6)] * one_hot_loss(z / warmth, y), (Z, np.float32(1.5), Y), "edges"),
}  # fmt: skip


def solved(a: jax.Array, b: jax.Array) -> jax.Array:
    """A solution of a system of two equations that is promised to be symmetric."""

    def solve(_: Any, b: jax.Array) -> jax.Array:
        determinant = a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]
        return jnp.stack([a[1, 1] * b[0] - a[0, 1] * b[1], a[0, 0] * b[1] - a[1, 0] * b[0]]) / determinant

    return jax.lax.custom_linear_solve(lambda x: a @ x, b, solve, symmetric=True)


def test_a_solver_that_is_promised_to_be_symmetric() -> None:
    b = np.float32([1, 2])
    asymmetric, symmetric = np.float32([[3, 1], [-1, 2]]), np.float32([[3, 1], [1, 2]])
    found = check(solved, asymmetric, b, argnums=1, checks="rule")
    assert [r.name for r in found.rows if r.ok is False] == ["rule: forward = reverse"]
    assert check(solved, symmetric, b, argnums=1, checks="rule").ok


def test_a_rule_is_not_held_against_itself() -> None:
    """Inside shard_map a rule cannot be told from its formula: whether it is right is then not known."""
    wrong = sine(lambda x, g: 3 * right(x, g))
    inside = jax.shard_map(wrong, mesh=MESH, in_specs=jax.P(), out_specs=jax.P())
    found = check(inside, Z, checks="rule")
    assert found.right is None
    assert "custom rule inside shard_map" in found.rows[0].statement


def asked(name: str) -> Certificate:
    function, args, by = FAULTS[name]
    # Of arguments that are constants to the rule only those named are asked; by default every float is.
    constants = {"a mask that hides something": 0, "weights of zero": 0, "an integer above ten": 0}
    return check(function, *args, argnums=constants.get(name), checks=by.split(":")[0])


@pytest.mark.parametrize("name", FAULTS)
def test_faults_that_hide_from_easier_questions(name: str) -> None:
    found = asked(name)
    failed = {r.name for r in found.rows if r.ok is False}
    assert FAULTS[name][2] in failed, str(found)
    assert found.ok is False
    assert found.exit_code == 1


def test_a_loop_without_end_in_exact_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A float overflows after a hundred steps (exp1 and expi by their series); exact numbers go on."""

    def grows(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda v: jnp.isfinite(v), lambda v: v * 2, x)

    assert 1000 < control._MOST_OF_MANY < 1_000_000  # more than a loop does that ends, and no more than some seconds
    monkeypatch.setattr(control, "_MOST_OF_MANY", 1000)
    with pytest.raises(UnsupportedPrimitive, match=r"primitive 'while' .* its loop goes on after \d+ steps"):
        exact(grows)(np.float32(1))


def test_every_float_argument_is_asked_and_named() -> None:
    found = check(lambda a, b, n: a * b * n, Z, V, 3, checks="rule")
    assert list(found.about["differentiated"]) == ["argument 0", "argument 1"]
    found = check(lambda a, *, b: a * b, Z, keywords={"b": V}, checks="rule")
    assert list(found.about["differentiated"]) == ["argument 0", "argument 'b'"]
    with pytest.raises(TypeError, match="argnums names argument -3"):
        check(lambda a, b: a * b, Z, V, argnums=-3)


def test_the_largest_numbers_are_asked_about_by_name_only() -> None:
    """A textbook formula overflows there, and its gradient is right all the same."""
    found = check(lambda x, y: x * y / (1 + y**2), Z, V, checks=("edges", "overflow"))
    assert {r.name for r in found.rows if r.ok is False} == {"overflow"}
    assert "overflow" not in {r.name for r in check(squares, Z, checks=None).rows}
