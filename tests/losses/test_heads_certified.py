"""The verifier accepts the heads, and none with a factor left out of its gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax._softmax import head, head_rules
from lossjax._softmax.head import Gradients
from lossjax.verify import check
from lossjax.verify._check import compare
from lossjax.verify._check.problem import problem
from lossjax.verify._check.programs import Pair
from tests.support.heads import CASES, CLASSES, HEADS, NEVER_REDUCED, ROWS, drawn

# --- the verifier, and planted faults --------------------------------------------------------------------------------


def question(name: str, how: str, of: str = "") -> tuple[Callable[..., Any], list[np.ndarray], tuple[int, ...]]:
    """A head as a function of those arrays of floats whose names begin so, at three rows and four classes."""
    a = {n: x.reshape(-1, *x.shape[2:])[:3] if x.shape[:2] == ROWS else x for n, x in drawn(np.float32).items()}
    a = {n: x[..., :4] if x.shape[-1:] == (CLASSES,) else x for n, x in a.items()}
    names = ["hidden", "weight", "bias", *(n for n in a if n.startswith("other") and name in ("kl", "js"))]
    names += {"sparse targets": ["probabilities"], "js": ["mixture"], "entropy": ["temperature"]}.get(name, [])
    names = [n for n in names if n.startswith(of)]
    fixed = {n: x for n, x in a.items() if n not in names}
    options = {} if name in NEVER_REDUCED else {"reduction": how}

    def loss(*floats: Any) -> Any:
        return HEADS[name][0](fixed | dict(zip(names, floats, strict=True)), chunk_size=2, **options)

    return loss, [np.asarray(a[n]) for n in names], tuple(range(len(names)))


def verdict(name: str, how: str, of: str = "", checks: tuple[str, ...] = ("rule",)) -> bool:
    """Whether the verifier accepts it."""
    loss, given, argnums = question(name, how, of)
    return bool(check(loss, *given, argnums=argnums, checks=checks).ok)


def is_right(name: str, how: str, of: str = "") -> bool:
    """Whether the gradient is that of the formula, both executed exactly, as the verifier does, but at one input."""
    loss, given, argnums = question(name, how, of)
    pair = Pair(problem(loss, tuple(given), argnums), None, 0)
    assert pair.plain is not None
    assert pair.has_rules
    both = (program(pair.arrays, pair.cotangents) for program in (pair.ruled, pair.plain))
    leaves = zip(*map(jax.tree.leaves, both), strict=True)
    found = [compare.compare(np.asarray(got), np.asarray(want), pair.tolerance) for got, want in leaves]
    assert all(one.judged.all() for one in found)
    return not any(one.wrong.any() for one in found)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "how"), CASES)
def test_it_is_certified(name: str, how: str) -> None:
    """The whole certificate, which the fast tier asks for in both rules of the engine: ``test_linear_head.py``."""
    assert verdict(name, how, checks=("rule", "cotangent"))


@pytest.mark.covering
@pytest.mark.parametrize(("name", "how"), CASES)
def test_its_gradient_is_that_of_the_formula(name: str, how: str) -> None:
    """With its rules replaced by their own formulas, exactly."""
    assert is_right(name, how)


def twice(gradients: Gradients, what: str) -> Gradients:
    """The gradients with a factor of ½ left out of one of them."""
    shared, hidden, own = gradients
    place = int(what.startswith("other"))

    def spoiled(parts: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(2 * part if k == place else part for k, part in enumerate(parts))

    kind = what.removeprefix("other ")
    if kind == "hidden":
        return shared, spoiled(hidden), own
    if kind == "own":
        return shared, hidden, jax.tree.map(lambda g: 2 * g, own)
    if kind == "terms":
        return shared._replace(terms=jax.tree.map(lambda g: 2 * g, shared.terms)), hidden, own
    return shared._replace(**{kind: spoiled(getattr(shared, kind))}), hidden, own


@jax.custom_vjp
def with_half_a_derivative(w: jax.Array) -> jax.Array:
    return w


with_half_a_derivative.defvjp(lambda w: (w, None), lambda _, g: (g / 2,))


FAULTS = [
    ("entropy", "none", "hidden"), ("entropy", "mean", "row weights"), ("sparse targets", "mean", "own"),
    ("sparse targets", "none", "bias"), ("kl", "mean", "other hidden"), ("kl", "none", "other weight"),
    ("entropy", "mean", "terms"), ("token statistics", "none", "weight"), ("any loss", "none", "products"),
    ("entropy", "none", "known"),
]  # fmt: skip
"""Every factor, and both ways to form a gradient: with cotangents that are known, and that are not. The factors are
those of the engine that all heads share: each is taken out of the head that costs least to check, and a second head's
own ones out of the divergence. What is known of the rows is doubled."""


@pytest.mark.parametrize("judge", [is_right, pytest.param(verdict, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "how", "what"), FAULTS)
def test_a_head_without_a_factor_is_rejected(
    name: str, how: str, what: str, judge: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_pass, products = head_rules.one_pass, head.Head.products

    def wrong_pass(*args: Any, **known: Any) -> Any:
        if what == "row weights":
            *rest, weights, of = args
            return one_pass(*rest, jnp.ones_like(weights), of)
        if what == "known":
            known = jax.tree.map(lambda a: 2 * a if jnp.issubdtype(a.dtype, jnp.floating) else a, known)
        outputs, gradients = one_pass(*args, **known)
        return outputs, gradients if what == "known" else twice(gradients, what)

    def wrong_products(self: head.Head, shared: head.Shared, block: head.Rows) -> Any:
        weight = tuple(map(with_half_a_derivative, shared.weight))
        return products(self, shared._replace(weight=weight), block)

    if what == "products":
        monkeypatch.setattr(head.Head, "products", wrong_products)
    else:
        monkeypatch.setattr(head_rules, "one_pass", wrong_pass)
    jax.clear_caches()  # the right ones are compiled for these arguments
    try:
        assert not judge(name, how, "other" if what.startswith("other") else "")
    finally:
        jax.clear_caches()
