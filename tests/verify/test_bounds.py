"""Statements for a whole box: they hold at every point, they are as narrow as asked, and what is unknown is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb

import lossjax
from lossjax.verify import UndecidedComparison, bounds, exact, rule_bounds


def _step(x):
    return jnp.where(x > 0.3, 1.0, x)


def _softcap(x):
    return 5 * jnp.tanh(x / 5)


def _pair(x):
    return jnp.stack([x[0] * x[1] - x[1], jnp.max(x)])


def _stopped(x):
    return jnp.exp(x - jax.lax.stop_gradient(x)) * x


FUNCTIONS = {
    "polynomial": (lambda x: x * (1 - x), 0.0, 1.0),
    "a kink": (jax.nn.relu, -1.0, 2.0),
    "a step": (_step, -1.0, 1.0),
    "the slope of a kink": (jax.grad(jnp.abs), -1.0, 2.0),
    "saturating": (_softcap, -30.0, 4.0),
    "two results of two numbers": (_pair, np.array([-1.0, 0.5]), np.array([2.0, 1.5])),
    "a loop": (lambda x: jax.lax.fori_loop(0, 3, lambda i, y: jnp.sin(y) + x, x), -0.5, 0.5),
    "a stopped gradient": (_stopped, -1.0, 1.0),
    "the largest by its index": (lambda x: x[jnp.argmax(x)], np.array([0.0, -1.0]), np.array([1.0, 1.5])),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_result_lies_outside_and_the_bounds_are_as_narrow_as_asked(name):
    function, lower, upper = FUNCTIONS[name]
    found = bounds(function, lower, upper, width=1e-3)
    assert found.undecided == ()
    assert 0 <= found.width <= 1e-3
    random, at = np.random.default_rng(0), exact(function)
    inside = [lower + (np.asarray(upper) - lower) * random.uniform(size=np.shape(lower)) for _ in range(40)]
    for x in [lower, upper, *inside]:
        result = np.asarray(at(jnp.asarray(x, jnp.float32)), float)
        assert np.all(found.lower - 1e-7 <= result)  # the point is rounded to float32, and may leave the box by that
        assert np.all(result <= found.upper + 1e-7)


def test_what_was_met_is_met():
    found = bounds(lambda x: x[0] ** 2 + jnp.cos(x[1]), np.array([-1.0, 0.0]), np.array([2.0, 4.0]), width=1e-3)
    for result, places in ((found.least, found.least_at), (found.greatest, found.greatest_at)):
        (x,) = places[0]
        assert abs(float(result) - (x[0] ** 2 + np.cos(x[1]))) < 1e-12
    assert found.least < -1 + 1e-3
    assert found.greatest > 5 - 1e-3


def test_what_was_met_at_the_edge_of_what_cannot_be_known_is_within_the_bounds():
    """The root is 0 at 0, and undecided around it."""
    found = bounds(jnp.sqrt, -1.0, 1.0, width=0.1)
    assert found.least == 0
    assert found.lower <= found.least


def test_what_cannot_be_known_is_named():
    found = bounds(jnp.log, -1.0, 1.0, most_boxes=60)
    assert found.undecided
    for (low,), _, why in found.undecided:
        assert low <= 0  # the logarithm of what is above is known
        assert "nan" in why or "log of" in why
    rounded = bounds(lambda x: x + jnp.floor(x), 0.5, 1.5, most_boxes=60)
    assert any("floor" in why for _, _, why in rounded.undecided)
    nothing = bounds(lambda x: jnp.sqrt(x), -2.0, -1.0, most_boxes=20)
    assert nothing.lower == -np.inf
    assert nothing.upper == np.inf


def test_never_negative_is_proven_to_the_width_and_refuted_where_it_is_false():
    """k3, ξ(reference - log p), reaches 0; a softplus less a thousandth does not stay above."""
    k3 = bounds(lambda p: lossjax.policy.sampled_kl(p, jnp.float32(-1), kind="k3"), -2.0, -0.5, width=0.01)
    assert k3.undecided == ()
    assert -0.01 <= k3.lower <= k3.least < 1e-3
    less = bounds(lambda x: jax.nn.softplus(x) - 1e-3, -9.0, 1.0, width=0.01)
    assert less.least < 0
    (where,) = less.least_at[0]
    assert np.log1p(np.exp(where)) < 1e-3


ONE = jnp.float32(1)


def _divergence(p):
    return lossjax.kl_divergence(jnp.stack([p, 1 - p]), jnp.array([0.25, 0.75], jnp.float32))


LOSSES = {
    "sigmoid_cross_entropy": (lambda z: lossjax.sigmoid_cross_entropy(z, ONE), 0.25, 3.0),
    "log_cosh": (lambda z: lossjax.log_cosh(z, 0 * ONE), 0.25, 3.0),
    "sigmoid_focal_loss": (lambda z: lossjax.sigmoid_focal_loss(z, ONE), 0.25, 3.0),
    "kl_divergence": (_divergence, 0.5, 0.5009765625),
}
"""Of one number, on one side of where the formula has a tie."""


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_never_negative_and_its_rule_right_on_a_box(name):
    loss, lower, upper = LOSSES[name]
    value = bounds(loss, lower, upper, width=0.02)
    assert value.undecided == ()
    assert -0.02 <= value.lower <= value.least
    assert value.least > 0
    off = rule_bounds(loss, lower, upper, width=0.05)
    assert off.undecided == ()
    assert max(-off.lower, off.upper) <= 0.05


@pytest.mark.parametrize(("lower", "upper"), [(-1.0, 1.0), (0.0, 1.0), (-2.0, 0.0), (-63.0, 65.0), (-1.0, 2.0)])
def test_a_tie_of_the_formula_refutes_no_rule(lower, upper):
    """At 0 the program returns a constant, and its derivative there is 0; the function's is 1.

    The tie is in the middle, at a corner, or anywhere.
    """

    def formula(x):
        return jnp.where(x == 0, 0.0, x)

    same = jax.custom_vjp(formula)
    same.defvjp(lambda x: (formula(x), None), lambda _, g: (g,))
    off = rule_bounds(same, lower, upper, most_boxes=100)
    assert max(abs(off.least), abs(off.greatest)) <= 1e-30
    assert all(low <= 0 <= high for (low,), (high,), _ in off.undecided)


def test_a_divergence_that_is_negative_somewhere_and_a_rule_that_is_wrong_are_refuted():
    shifted = bounds(lambda p: _divergence(p) - 1e-3, 0.1, 0.9, width=0.05)
    assert shifted.least < 0
    (where,) = shifted.least_at[0]
    assert abs(where - 0.25) < 0.05

    def focal(z):
        return lossjax.sigmoid_focal_loss.plain(z, ONE)

    wrong = jax.custom_vjp(focal)
    wrong.defvjp(lambda z: (focal(z), z), lambda z, g: (1.25 * g * jax.grad(focal)(z),))
    off = rule_bounds(wrong, 0.25, 1.0, width=0.01)
    assert off.upper < 0  # too steep everywhere: the slope is negative


def test_a_rule_for_a_whole_box():
    """Right to the width; and a planted fault that only large arguments show."""

    def softcap(rule):
        capped = jax.custom_vjp(_softcap)
        capped.defvjp(lambda x: (_softcap(x), x), lambda x, g: (g * rule(x),))
        return capped

    right = rule_bounds(softcap(lambda x: 1 - jnp.tanh(x / 5) ** 2), -3.0, 3.0)
    assert right.undecided == ()
    assert max(-right.lower, right.upper) <= 1e-3
    wrong = rule_bounds(softcap(lambda x: jnp.where(x > 2, 1, 1 - jnp.tanh(x / 5) ** 2)), -3.0, 3.0)
    assert wrong.greatest > 0.1
    (where,) = wrong.greatest_at[0]
    assert where > 2


def test_a_wrong_custom_rule_does_not_mislead_the_bounds():
    """The slope that narrows a box is the formula's own, not the rule's (here 0, which would make any box narrow)."""
    liar = jax.custom_vjp(jnp.square)
    liar.defvjp(lambda x: (x**2, None), lambda _, g: (0 * g,))
    assert bounds(liar, 0.0, 2.0).upper >= 4


def test_powers_of_a_ball_about_0() -> None:
    """Arb has none where its middle is 0."""
    x = np.array(arb(0, 2), object)
    for function, upper in ((jnp.square, 4), (lambda x: x**2, 4), (lambda x: x**3, 8), (lambda x: x**6, 64)):
        found = exact(function)(x)[()]
        assert upper <= found.upper() < upper * 1.01


def test_exact_takes_balls_and_gives_enclosures():
    """A comparison that the balls leave open is undecided at once: no precision would settle it."""
    x = np.array([arb(1).union(arb(2)), arb(3)], object)
    first, second = exact(lambda x: jnp.exp(x) - 1)(x)
    assert first.contains(arb(1).exp() - 1)
    assert first.contains(arb(2).exp() - 1)
    assert (first.rad() > 2, second.rad() < 1e-30) == (True, True)
    with pytest.raises(UndecidedComparison, match="at 256 bits"):
        exact(lambda x: jnp.where(x > 1.5, x, 0))(x)


@pytest.mark.parametrize(
    ("corners", "error", "match"),
    [
        ((0.0, (0.0, 1.0)), ValueError, "lower has 1 arguments, upper 2"),
        ((np.zeros(2), np.ones(3)), ValueError, r"argument 0: lower has shape \(2,\), upper \(3,\)"),
        ((1.0, 0.0), ValueError, "wanted finite corners with lower <= upper"),
        ((0.0, np.inf), ValueError, "wanted finite corners"),
        ((1.0, 1.0), ValueError, "a box has an argument that varies"),
    ],
)
def test_a_box_that_is_none(corners, error, match):
    with pytest.raises(error, match=match):
        bounds(jnp.sin, *corners)


def test_what_is_no_function_of_a_box():
    with pytest.raises(TypeError, match="wanted one float array"):
        bounds(lambda x: (x, x), 0.0, 1.0)
    with pytest.raises(ValueError, match="width is 0"):
        bounds(jnp.sin, 0.0, 1.0, width=0)


def test_a_rule_that_is_right_for_a_cotangent_of_one_alone_is_refuted():
    squared = jax.custom_vjp(jnp.square)
    squared.defvjp(lambda x: (x**2, x), lambda x, g: (g * g * 2 * x,))
    assert rule_bounds(squared, 1.0, 2.0).upper < -1
