"""A mask of classes, several class axes, and a temperature: of every function of a row that has them."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax.verify.samples import sample
from lossjax.verify.signatures import SIGNATURES
from tests.support.quick import quick

MEASURES = ("entropy", "cross_entropy", "kl_divergence", "jeffreys_divergence", "js_divergence")
FULL = ("softmax", "log_softmax")
"""The functions with one number for each class."""
OF_LOGITS = (*FULL, "logsumexp", "softmax_entropy", "softmax_kl_divergence", "softmax_js_divergence")
ROWS, CLASSES = 4, 6
WHERE = np.ones((ROWS, CLASSES), bool)
WHERE[:, [0, 2]] = False
COUNTED = np.array([1, 3, 4, 5])
UNITS = 64 * 2.0**-53

Function = Callable[..., Any]


def test_these_are_all() -> None:
    """That have a class axis, and do not take labels or targets for it."""
    kinds = {name for name, s in SIGNATURES.items() if s.kinds[-1].endswith(("logits", "probabilities"))}
    axes = {name for name in kinds if "axis" in inspect.signature(getattr(lossjax, name)).parameters}
    assert axes == {*OF_LOGITS, *MEASURES}


def _pulled(f: Function, *args: Any) -> tuple[jax.Array, ...]:
    """The value, and its gradients for a cotangent that is another number in every entry."""
    value, pullback = jax.vjp(f, *args)
    return value, *pullback(jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape))


def _same(got: tuple[jax.Array, ...], want: tuple[jax.Array, ...]) -> None:
    for g, w in zip(got, want, strict=True):
        assert np.allclose(g, w, rtol=UNITS, atol=UNITS)


@pytest.mark.parametrize("name", [*OF_LOGITS, *MEASURES])
def test_classes_that_do_not_count_and_several_axes(name: str) -> None:
    """A class that does not count is as one that is not there, whatever it holds; axes together are as one axis."""
    loss = getattr(lossjax, name)

    @quick
    def found(good: list[jax.Array], bad: list[jax.Array], where: jax.Array, none: jax.Array) -> Any:
        def masked(*args: jax.Array) -> jax.Array:
            values = loss(*args, where=where)
            return values[:, COUNTED] if name in FULL else values

        def split(*args: jax.Array) -> jax.Array:
            apart = [a.reshape(ROWS, 2, 3).transpose(1, 0, 2) for a in args]
            values = loss(*apart, axis=(0, 2), where=where.reshape(ROWS, 2, 3).transpose(1, 0, 2))
            return values.transpose(1, 0, 2).reshape(ROWS, CLASSES)[:, COUNTED] if name in FULL else values

        removed = _pulled(loss, *(a[:, COUNTED] for a in good))
        nothing = _pulled(lambda *args: loss(*args, where=none), *bad)
        return _pulled(masked, *bad), _pulled(split, *bad), removed, nothing, loss(*bad, where=where)

    with jax.enable_x64(True):
        good = [jnp.asarray(a) for a in sample(name, np.float64, (ROWS, CLASSES)).arguments]
        bad = [a.at[:, 0].set(jnp.nan).at[:, 2].set(jnp.inf) for a in good]
        masked, split, removed, nothing, whole = found(good, bad, jnp.asarray(WHERE), jnp.zeros_like(WHERE))
        _same((masked[0], *(slope[:, COUNTED] for slope in masked[1:])), removed)
        _same(split, masked)
        assert not any(np.any(slope[:, [0, 2]]) for slope in (*masked[1:], *split[1:]))
        if name in FULL:
            assert np.all(whole[:, [0, 2]] == (0 if name == "softmax" else -np.inf))
        # Of no class at all: the empty sum and its logarithm; a row that a mask leaves nothing of does not count.
        assert np.all(nothing[0] == (-np.inf if name in ("log_softmax", "logsumexp") else 0))
        assert not any(np.any(slope) for slope in nothing[1:])


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n == "softmax_kl_divergence" else []) for n in OF_LOGITS]
)
def test_a_temperature_divides_the_logits(name: str) -> None:
    """With its gradient, which a logit of -inf has no part in: it is that of a class that is not there."""
    loss = getattr(lossjax, name)

    @quick
    def found(args: list[jax.Array], temperature: jax.Array) -> Any:
        def tempered(temperature: jax.Array, *args: jax.Array, **options: Any) -> jax.Array:
            values = loss(*args, temperature=temperature, **options)
            return values[:, COUNTED] if name in FULL else values

        def divided(temperature: jax.Array, *args: jax.Array) -> jax.Array:
            values = loss(*(a / temperature for a in args))
            return values[:, COUNTED] if name in FULL else values

        impossible = [a.at[:, [0, 2]].set(-jnp.inf) for a in args]
        hidden = _pulled(lambda *all_: tempered(*all_, where=jnp.asarray(WHERE)), temperature, *args)
        return _pulled(tempered, temperature, *args), _pulled(divided, temperature, *args), (
            _pulled(tempered, temperature, *impossible)[:2], hidden[:2])  # fmt: skip

    with jax.enable_x64(True):
        args = [jnp.asarray(a) for a in sample(name, np.float64, (ROWS, CLASSES)).arguments]
        got, want, (impossible, hidden) = found(args, jnp.asarray(1.7))
        _same(got, want)
        _same(impossible, hidden)
