"""A target, or an option, outside its domain: NaN in the value and in every gradient of its entry (or row), by name.

The arguments and the numbers outside their domains are those of the loss's signature.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import lossjax
from lossjax import families
from lossjax import optax as plugin
from lossjax.verify.samples import bound, sample
from lossjax.verify.signatures import KINDS, SIGNATURES
from tests.support.edges import takes
from tests.support.quick import quick

ROWS, CLASSES = 6, 4
BAD = 2
"""The row that holds the number."""
Function = tuple[Callable[..., jax.Array], tuple[np.ndarray, ...], tuple[str, ...]]
"""A loss of rows, its arguments, and the kinds of those."""


def _draw(*kinds: str) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    drawn = [KINDS[kind].draw(random, (ROWS, CLASSES)) for kind in kinds]
    return tuple(x if KINDS[kind].integer else x.astype(np.float32) for kind, x in zip(kinds, drawn, strict=True))


def _functions() -> dict[str, Function]:
    table: dict[str, Function] = {}
    for name, signature in SIGNATURES.items():
        if signature.per_row:
            drawn = sample(name, np.float32, (ROWS, CLASSES))
            table[name] = drawn.loss, drawn.arguments, signature.kinds
    targets = ("logits", "distributions")
    more = {
        "focal": (lossjax.softmax_focal_loss, targets), "poly": (lossjax.poly_cross_entropy, targets),
        "generalized": (lossjax.generalized_cross_entropy, targets),
        "brier": (lossjax.softmax_brier_score, targets),
        "smoothed": (bound(lossjax.softmax_cross_entropy, label_smoothing=0.1, temperature=2.0), targets),
        "product": (lambda z, t: lossjax.softmax_cross_entropy_hvp(z, t, jnp.ones_like(z)), targets),
        "pos_weight": (bound(lossjax.sigmoid_cross_entropy, "pos_weight"), ("scores", "fractions", "widths")),
        "binary focal": (
            bound(lossjax.sigmoid_focal_loss, "gamma", "alpha"),
            ("scores", "fractions", "widths", "levels"),
        ),
        "counted": (bound(lossjax.poisson_nll, full=True), ("log rates", "counts")),
        "Poisson": (lambda z, y: families.canonical_nll(families.Poisson(), z, y), ("scores", "counts")),
        "Bernoulli": (lambda z, y: families.canonical_nll(families.Bernoulli(), z, y), ("scores", "fractions")),
        "Categorical": (lambda z, y: families.canonical_nll(families.Categorical(), z, y), targets),
        "optax.kl": (lambda z, t: plugin.kl_divergence(lossjax.log_softmax(z), t), targets),
        "optax.generalized_kl": (lambda z, t: plugin.generalized_kl_divergence(lossjax.log_softmax(z), t), targets),
        "optax.hinge": (plugin.hinge_loss, ("scores", "signs")),
    }  # fmt: skip
    return table | {name: (loss, _draw(*kinds), kinds) for name, (loss, kinds) in more.items()}


FUNCTIONS = {name: f for name, f in _functions().items() if any(KINDS[kind].outside for kind in f[2])}


def spoiled(x: np.ndarray, number: float) -> np.ndarray:
    """The array with the number in one entry of the bad row."""
    y = x.copy()
    y[(BAD, 1)[: x.ndim]] = number
    return y


def assert_undefined(name: str, function: Function) -> None:
    loss, arguments, kinds = function
    moving = tuple(i for i, kind in enumerate(kinds) if not KINDS[kind].integer)
    entries = jax.eval_shape(loss, *arguments).ndim == 2 and kinds[0] != "logits"
    hides = name in SIGNATURES and takes(name, "where")

    def run(args: tuple[jax.Array, ...], where: jax.Array) -> Any:
        def of(*floats: jax.Array) -> jax.Array:
            full = dict(zip(moving, floats, strict=True))
            every = tuple(full.get(i, a) for i, a in enumerate(args))
            return loss(*every, where=where) if hides else loss(*every)

        value, pullback = jax.vjp(of, *(args[i] for i in moving))
        return value, *pullback(jnp.ones_like(value))

    compiled, every = quick(run), np.ones(jax.eval_shape(loss, *arguments).shape, bool)
    usual = [np.asarray(x) for x in compiled(arguments, every)]
    assert all(np.isfinite(x).all() for x in usual)
    for position, kind in enumerate(kinds):
        for number in KINDS[kind].outside:
            bad = tuple(spoiled(x, number) if i == position else x for i, x in enumerate(arguments))
            where = np.zeros_like(every)
            where[(BAD, 1) if entries else BAD] = True
            for k, (got, want) in enumerate(zip(map(np.asarray, compiled(bad, every)), usual, strict=True)):
                hit = where if got.ndim == where.ndim else np.broadcast_to(where[:, None], got.shape)
                assert np.isnan(got[hit]).all(), f"{name}: {kind} {number}: result {k} is {got[hit]}, wanted NaN"
                assert np.array_equal(got[~hit], want[~hit]), f"{name}: {kind} {number} is felt beside its entry"
            if hides:
                masked = [np.asarray(x) for x in compiled(bad, ~where)]
                assert all(np.isfinite(x).all() for x in masked), f"{name}: a mask does not hide {kind} {number}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_outside_the_domain_everything_is_nan(name: str) -> None:
    assert_undefined(name, FUNCTIONS[name])


NAMED = {name: f for name, f in FUNCTIONS.items() if KINDS[f[2][min(1, len(f[2]) - 1)]].outside}
"""Those whose targets, or whose only argument, have a domain."""


DIFFERENTIATED = "softmax_cross_entropy_with_integer_labels", "sigmoid_cross_entropy", "counted", "kl_divergence"


@pytest.mark.parametrize("name", NAMED)
def test_checkify_names_what_is_outside(name: str) -> None:
    """And says nothing of what is inside. That a check is heard under transformations, too, is that of its makers.

    (``tests/core/test_user_checks.py``; here the gradient of a few.)
    """
    loss, arguments, kinds = NAMED[name]
    position = min(1, len(kinds) - 1)
    number = KINDS[kinds[position]].outside[0]
    asked = jax.value_and_grad(lambda *a: jnp.sum(loss(*a))) if name in DIFFERENTIATED else loss
    checked = quick(checkify.checkify(asked))
    bad = [spoiled(x, number) if i == position else x for i, x in enumerate(arguments)]
    message = str(checked(*bad)[0].get())
    assert f"got {float(number)}" in message or f"label {number} in row" in message, message
    assert checked(*arguments)[0].get() is None


def test_a_plausible_number_is_caught() -> None:
    """The sigmoid cross-entropy as it stands in textbooks, and one whose gradient in the logits alone is NaN."""

    def textbook(z: jax.Array, y: jax.Array) -> jax.Array:
        return jax.nn.softplus(z) - y * z

    def half(z: jax.Array, y: jax.Array) -> jax.Array:
        return textbook(z * jnp.where((y >= 0) & (y <= 1), 1, jnp.nan), jax.lax.stop_gradient(y)) - y

    for loss in (textbook, half):
        with pytest.raises(AssertionError, match="wanted NaN"):
            assert_undefined("planted", (loss, _draw("scores", "fractions"), ("scores", "fractions")))
