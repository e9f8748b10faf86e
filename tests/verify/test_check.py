"""The checker catches planted faults by name, and lets right functions pass, however they are written."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lossjax.verify._check import assert_verified, check

_RANDOM = np.random.default_rng(7)
Z = _RANDOM.normal(size=(3, 4)).astype(np.float32)
V = _RANDOM.normal(size=(3, 4)).astype(np.float32)
Y = np.array([0, 3, 2], np.int32)
T = _RANDOM.dirichlet(np.ones(4), 3).astype(np.float32)
SIGNS = _RANDOM.choice([-1, 1], (3, 4)).astype(np.float32)
LONG = _RANDOM.normal(size=300).astype(np.float32)


def ruled(formula: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """A formula with a backward pass ``(arguments, cotangent) -> gradients``."""
    made = jax.custom_vjp(formula)
    made.defvjp(lambda *args: (formula(*args), args), backward)
    return made


def cross_entropy(z: jax.Array, y: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, y[..., None], axis=-1)[..., 0]


def soft_cross_entropy(z: jax.Array, t: jax.Array) -> jax.Array:
    return jnp.sum(t * (jax.nn.logsumexp(z, axis=-1, keepdims=True) - z), axis=-1)


def residue(z: jax.Array, y: jax.Array) -> jax.Array:
    return jax.nn.softmax(z) - jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype)


def with_z(z: jax.Array, y: jax.Array, coefficient: jax.Array) -> jax.Array:
    return cross_entropy(z, y) + coefficient * jax.nn.logsumexp(z, axis=-1) ** 2


def with_z_backward(kept: Any, g: jax.Array) -> Any:
    z, y, coefficient = kept
    lse = jax.nn.logsumexp(z, axis=-1)[..., None]
    return g[..., None] * (residue(z, y) + 2 * coefficient * lse * jax.nn.softmax(z)), None, jnp.zeros_like(coefficient)


def capped(z: jax.Array, y: jax.Array) -> jax.Array:
    return cross_entropy(30 * jnp.tanh(z / 30), y)


def largest(z: jax.Array) -> jax.Array:
    return jnp.max(z, axis=-1)


def every_largest(kept: Any, g: jax.Array) -> Any:
    (z,) = kept
    return (g[..., None] * (z == jnp.max(z, axis=-1, keepdims=True)).astype(z.dtype),)


def not_the_last_class(kept: Any, g: jax.Array) -> Any:
    z, y = kept
    return jnp.where((y == z.shape[-1] - 1)[..., None], 1.5, 1.0) * g[..., None] * residue(z, y), None


def hiding(z: jax.Array, y: jax.Array) -> jax.Array:
    """Labels of -100 hide their rows."""
    return jnp.where(y == -100, 0, cross_entropy(z, jnp.where(y == -100, 0, y)))


another_value = jax.custom_vjp(jnp.sin)
another_value.defvjp(lambda x: (jnp.sin(x) * 1.001, x), lambda x, g: (g * jnp.cos(x),))


def cube(settled: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., Any]:
    """x³ with its derivative as a custom rule, which returns its own value as ``settled(value, x)``."""

    def push(primals: Any, tangents: Any) -> Any:
        (x,), (step,) = primals, tangents
        return settled(jax.lax.stop_gradient(x**3), x), 3 * x**2 * step

    made = jax.custom_jvp(lambda x: x**3)
    made.defjvp(push)
    return made


def cut_off_in_a_loop() -> Callable[..., Any]:
    """x³ whose value has a rule of its own, which JAX 0.10 and 0.11 drop in a loop: what is kept has no derivative."""
    known = jax.custom_jvp(lambda value, x: value)
    made = cube(known)
    known.defjvp(lambda given, tangents: jax.jvp(made, given[1:], tangents[1:]))
    return made


FAULTS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any, str]] = {
    "three times too large": (
        ruled(lambda x: jnp.sum(jnp.sin(x)), lambda kept, g: (3 * g * jnp.cos(kept[0]),)), (LONG,), 0, "rule",
    ),
    "softcap without tanh′": (
        ruled(capped, lambda kept, g: (g[..., None] * residue(30 * jnp.tanh(kept[0] / 30), kept[1]), None)),
        (Z, Y), 0, "rule",
    ),
    "the first row's cotangent for all": (
        ruled(cross_entropy, lambda kept, g: (g[0] * residue(*kept), None)), (Z, Y), 0, "cotangent",
    ),
    "targets whose sum is taken to be 1": (
        ruled(soft_cross_entropy, lambda kept, g: (g[..., None] * (jax.nn.softmax(kept[0]) - kept[1]), None)),
        (Z, T), 0, "rule",
    ),
    "a coefficient without gradient": (ruled(with_z, with_z_backward), (Z, Y, np.float32(0.1)), (0, 2), "rule"),
    "sign": (ruled(jnp.tanh, lambda kept, g: (-g * (1 - jnp.tanh(kept[0]) ** 2),)), (Z,), 0, "rule"),
    "transposed": (
        ruled(lambda a: a @ a.T, lambda kept, g: ((g + g) @ kept[0],)), (Z,), 0, "rule",
    ),
    "every largest entry of a tie": (ruled(largest, every_largest), (Z,), 0, "rule"),
    "one label": (ruled(cross_entropy, not_the_last_class), (Z, Y * 0 + 1), 0, "rule"),
    "off by 1e-10": (
        ruled(cross_entropy, lambda kept, g: (g[..., None] * (residue(*kept) + 1e-10), None)), (Z, Y), 0, "rule",
    ),
    "masked gradient of an unmasked value": (
        ruled(lambda z: z**2, lambda kept, g: (jnp.where(kept[0] > 1, 0, 2 * g * kept[0]),)), (Z,), 0, "rule",
    ),
    "another value under the rule": (
        another_value, (Z,), 0, "rule",
    ),
    "not linear": (ruled(jnp.sin, lambda kept, g: (jnp.abs(g) * jnp.cos(kept[0]),)), (Z,), 0, "cotangent"),
    "a value cut off from its argument": (cube(lambda value, x: value), (Z,), 0, "modes: scan, second derivative"),
    "cancelling value": (lambda z: jnp.log1p(jnp.exp(z)) - z, (5 + 10 * Z**2,), 0, "value"),
    "cancelling gradient": (jax.nn.sigmoid, (10 * Z,), 0, "gradient"),
    "NaN gradient of a finite value": (lambda z: jnp.where(z > 0, jnp.sqrt(z), 0), (Z,), 0, "edges"),
    "overflow": (lambda z: jnp.log(jnp.sum(jnp.exp(z), axis=-1)), (Z,), 0, "edges"),
    "plausible gradient of a label out of range": (cross_entropy, (Z, Y), 0, "edges"),
    "hidden in the value only": (
        ruled(hiding, lambda kept, g: (g[..., None] * residue(*kept), None)), (Z, Y), 0, "edges",
    ),
}  # fmt: skip


IN_THE_GALLERY = ("softcap without tanh′", "targets whose sum is taken to be 1", "a coefficient without gradient")
"""Faults that were published too, and are caught in the fast tier in ``test_gallery.py``."""


def but_slow(names: Any, slow: tuple[str, ...]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in names]


@pytest.mark.parametrize("name", but_slow(FAULTS, IN_THE_GALLERY))
def test_planted_faults_are_caught(name: str) -> None:
    function, args, argnums, by = FAULTS[name]
    found = check(function, *args, argnums=argnums, checks=by.split(":")[0])
    (row,) = (r for r in found.rows if r.name == by)
    assert row.ok is False, str(found)
    assert not found.ok
    assert any(line.startswith(f"{by}: ") for line in found.failures), found.failures
    assert ":" in by or "inputs" in found.failures[0], found.failures


def test_a_value_cut_off_in_a_loop_is_caught_where_jax_loses_its_derivative() -> None:
    """JAX 0.10 and 0.11 lose it, JAX 0.12 does not: what is computed in float32 decides what the checker has to say."""
    function = cut_off_in_a_loop()

    def squares(x: jax.Array) -> jax.Array:
        return jnp.sum(jax.lax.scan(lambda _, one: (0, function(one)), 0, jnp.stack([x, x]))[1] ** 2)

    second = jax.grad(jax.grad(squares))(jnp.float32(1.5))
    keeps = bool(abs(second - 60 * 1.5**4) < 1e-3)
    found = check(function, Z, checks="modes")
    assert found.ok is keeps, str(found)
    assert [r.name for r in found.rows if r.ok is False] == ([] if keeps else ["modes: scan, second derivative"])


def forward_over_zero(z: jax.Array, y: jax.Array) -> jax.Array:
    """A Hessian that is 0: the derivative is a constant to the next one."""
    made = jax.custom_jvp(cross_entropy)

    def push(primals: Any, tangents: Any) -> Any:
        slope = jax.lax.stop_gradient(residue(*primals))
        return made(*primals), jnp.sum(slope * tangents[0], axis=-1)

    made.defjvp(push)
    return made(z, y)


def _of_what_is_around(z: jax.Array, y: jax.Array, factor: float) -> jax.Array:
    made = jax.custom_vjp(lambda z: cross_entropy(z, y))
    made.defvjp(lambda z: (cross_entropy(z, y), z), lambda z, g: (factor * residue(z, y) * g[..., None],))
    return made(z)


def rule_of_what_is_around_it(z: jax.Array, y: jax.Array) -> jax.Array:
    return _of_what_is_around(z, y, 1)


def wrong_rule_of_what_is_around_it(z: jax.Array, y: jax.Array) -> jax.Array:
    return _of_what_is_around(z, y, 2)


SECOND_ORDER = {"modes: hessian", "modes: reverse over reverse", "modes: scan, second derivative"}


def test_modes_tell_what_is_missing_and_what_is_wrong() -> None:
    no_forward = ruled(jnp.sin, lambda kept, g: (g * jnp.cos(kept[0]),))
    found = check(no_forward, Z, checks=("rule", "modes"))
    unavailable = {r.name for r in found.rows if "no forward mode for a custom_vjp" in r.statement}
    assert unavailable == {"modes: jvp", "modes: linearize", "modes: jacfwd"}
    assert found.ok, str(found)
    found = check(forward_over_zero, Z, Y, checks=("rule", "modes"))
    assert {r.name for r in found.rows if r.ok is False} == SECOND_ORDER
    found = check(lambda z: z if z.sum() > 0 else -z, Z)
    assert [r.name for r in found.rows if r.ok is False] == ["modes: jit"]


def test_one_wrong_row_of_a_large_hessian_is_seen() -> None:
    def backward(kept: Any, g: jax.Array) -> Any:
        slope = jnp.full_like(kept[0], 1) * 3 * jnp.sum(kept[0]) ** 2 * g
        return (slope.at[-1].set(jax.lax.stop_gradient(slope[-1])),)

    found = check(ruled(lambda x: jnp.sum(x) ** 3, backward), LONG[:200], checks=("rule", "modes"))
    assert found.right
    assert {r.name for r in found.rows if r.ok is False} == SECOND_ORDER


def test_a_rule_that_closes_over_an_argument() -> None:
    """JAX differentiates it where the function was not traced before, and so does the check; elsewhere both fail."""
    assert check(rule_of_what_is_around_it, Z, Y, checks=("rule", "cotangent")).ok
    assert not check(wrong_rule_of_what_is_around_it, Z, Y, checks="rule").ok
    with pytest.raises((TypeError, jax.errors.UnexpectedTracerError)):
        jax.grad(lambda z: jnp.sum(jax.jit(rule_of_what_is_around_it)(z, Y)))(Z)
    found = check(rule_of_what_is_around_it, Z, Y, checks="modes")
    failed = [r for r in found.rows if r.ok is False]
    assert {r.name for r in failed} - {"modes: shard_map"} == {"modes: grad of jit", "modes: remat"}, str(found)
    assert all("does a rule close over an argument?" in r.statement for r in failed)


def test_batch_that_feels_its_size() -> None:
    """Rows are independent in value, but not of how many there are."""
    found = check(lambda z: jnp.sum(z**2, axis=-1) / z.shape[0], Z, checks="modes")
    assert [r.name for r in found.rows if r.ok is False] == ["modes: other batch sizes"]


# --- what must pass ------------------------------------------------------------------------------------------------


def scanned(z: jax.Array) -> jax.Array:
    """Log-sum-exp by a scan over the classes."""

    def step(carry: Any, column: jax.Array) -> Any:
        m, s = carry
        new = jnp.maximum(m, column)
        return (new, s * jnp.exp(m - new) + jnp.exp(column - new)), None

    start = jnp.full(z.shape[:1], -jnp.inf, z.dtype), jnp.zeros(z.shape[:1], z.dtype)
    (m, s), _ = jax.lax.scan(step, start, z.T)
    return m + jnp.log(s)


def guarded_square_root(x: jax.Array) -> jax.Array:
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def of_trees(parameters: dict[str, jax.Array], batch: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
    x, y = batch
    return {"loss": jnp.mean((x @ parameters["w"] + parameters["b"] - y) ** 2), "size": jnp.sum(x**2)}


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
    return jnp.logaddexp(x, jnp.zeros_like(x))


softplus.defjvp(lambda primals, tangents: (softplus(*primals), jax.nn.sigmoid(*primals) * tangents[0]))

RULES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "relu": (jax.nn.relu, (Z,), 0),
    "relu at 0": (jax.nn.relu, (0 * Z,), 0),
    "softmax": (jax.nn.softmax, (Z,), 0),
    "logsumexp": (lambda z: jax.nn.logsumexp(z, axis=-1), (Z,), 0),
    "optax huber": (lambda z, t: optax.huber_loss(z, t), (Z, V), (0, 1)),
    "optax hinge": (optax.hinge_loss, (Z, SIGNS), 0),
    "optax safe": (optax.safe_softmax_cross_entropy, (Z, T), 0),
    "largest": (ruled(largest, lambda kept, g: (
        g[..., None] * jax.nn.one_hot(jnp.argmax(kept[0], -1), kept[0].shape[-1], dtype=kept[0].dtype),)), (Z,), 0),
    "absolute": (ruled(jnp.abs, lambda kept, g: (g * jnp.where(kept[0] >= 0, 1, -1).astype(g.dtype),)), (Z,), 0),
    "scan": (scanned, (Z,), 0),
    "softplus": (softplus, (Z,), 0),
    "scan of rules": (
        lambda z: jax.lax.scan(lambda c, x: (softplus(c + x), softplus(x)), jnp.zeros(4, z.dtype), z), (Z,), 0,
    ),
    "float32 inside": (lambda z: softplus(z.astype(jnp.float32)).astype(z.dtype), (Z,), 0),
    "constants of its own": (lambda z: softplus(z * jnp.asarray(V)), (Z,), 0),
}  # fmt: skip


ASKED_BELOW = ("relu", "logsumexp", "scan")
"""Of these every question is asked below."""


@pytest.mark.parametrize("name", but_slow(RULES, ASKED_BELOW))
def test_right_rules_pass(name: str) -> None:
    function, args, argnums = RULES[name]
    found = assert_verified(function, *args, argnums=argnums, checks=("rule", "cotangent"))
    assert all(row.ok for row in found.rows), str(found)


HONEST: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "sum of squares": (lambda x: jnp.sum(x**2), (Z,), 0),
    "logsumexp": (lambda z: jax.nn.logsumexp(z, axis=-1), (Z,), 0),
    "scan": (scanned, (Z,), 0),
    "relu": (jax.nn.relu, (Z,), 0),
    "where-guard": (guarded_square_root, (np.abs(Z),), 0),
    "mean": (lambda x: jnp.mean(x), (LONG,), 0),
    "variance": (lambda x: jnp.var(x, axis=-1), (Z,), 0),
    "trees": (of_trees, ({"w": V[0], "b": V[1, 0]}, (Z, np.float32([1, 2, 3]))), 0),
    "hidden rows": (
        lambda z, y: jnp.where((y >= 0) & (y < 4), jnp.sum((z - jax.nn.one_hot(y, 4, dtype=z.dtype)) ** 2, -1), 0),
        (Z, Y),
        0,
    ),
    "python number": (lambda x, k: k * x, (Z, 3), 0),
    "bfloat16": (lambda x: jnp.sum(x.astype(jnp.float32) ** 2, axis=-1), (Z.astype(jnp.bfloat16),), 0),
    "squared error": (optax.squared_error, (Z, V), (0, 1)),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_functions_pass(name: str) -> None:
    function, args, argnums = HONEST[name]
    assert_verified(function, *args, argnums=argnums)


def test_under_defaults_as_well() -> None:
    """Functions that promote dtypes or ranks do so under the caller's own settings."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        found = check(lambda z: jnp.sum(z * np.arange(4), axis=-1) + jnp.arange(3), Z)
    assert found.ok, str(found)
