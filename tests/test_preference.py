"""What the preference losses keep where the usual expressions lose it, and what they are at their edges."""

import jax
import jax.numpy as jnp
import numpy as np

from lossjax import preference

INF = np.inf
ONE = jnp.float32([1])


def test_the_margin_is_rounded_once() -> None:
    """Log-probabilities of long answers, equal to all digits but the last: h = 2⁻⁹, where the sums lose half of it."""
    c, r = jnp.float32([-9000 + 2.0**-10]), jnp.float32([-9000])
    loss, slope = jax.value_and_grad(lambda moved: preference.dpo_loss(moved, r, r, c, beta=1.0, reduction="sum"))(c)
    h = 2 * (float(c[0]) - float(r[0]))
    np.testing.assert_allclose(loss, np.log1p(np.exp(-h)), rtol=8 * 2.0**-24)
    np.testing.assert_allclose(slope, -1 / (1 + np.exp(h)), rtol=8 * 2.0**-24)


def test_a_saturated_preference_keeps_its_gradient() -> None:
    c, r, none = jnp.float32([-10, -900]), jnp.float32([-90, -820]), jnp.zeros(2)
    loss, slopes = jax.vjp(lambda c: preference.dpo_loss(c, r, none, none, beta=1.0), c)
    np.testing.assert_allclose(loss, [np.exp(-80), 80], rtol=100 * 2.0**-24)
    np.testing.assert_allclose(slopes(jnp.ones(2))[0], [-np.exp(-80), -1], rtol=100 * 2.0**-24)


def test_label_smoothing_exchanges_the_answers() -> None:
    c, r, c0, r0 = (jnp.float32(x) for x in ([-3, -1.5], [-2, -7], [-2.5, -2], [-2.5, -5]))
    for smoothing in (0.0, 0.25, 1.0):
        one = preference.dpo_loss(c, r, c0, r0, label_smoothing=smoothing)
        other = preference.dpo_loss(r, c, r0, c0, label_smoothing=1 - smoothing)
        np.testing.assert_allclose(one, other, rtol=8 * 2.0**-24)


def test_desirable_and_undesirable_answers_add_to_one() -> None:
    p, q = jnp.float32([-3, -100, -1]), jnp.float32([-4, -10, -1])
    good, bad = (preference.kto_loss(p, q, desirable=jnp.full(3, d), reference_kl=0.5, beta=0.7) for d in (True, False))
    np.testing.assert_allclose(good + bad, 1, rtol=2.0**-22)
    assert (bad > 0).all()  # 1 - σ(x) would be 0


def test_the_odds_ratio_at_certain_answers() -> None:
    """log(1 - e^c) loses its digits near c = 0 and is -inf there, yet value and gradient have limits."""
    c, r = jnp.float32([0, -1e-7, -1e-7]), jnp.float32([-1, -1, -1e-7])
    value, pullback = jax.vjp(lambda c, r: preference.orpo_loss(c, r, weight=1.0), c, r)
    in_c, in_r = pullback(jnp.ones(3))
    odds = np.exp(-1.0) / -np.expm1(-1.0)
    tiny = -float(c[1])
    np.testing.assert_allclose(value, [0, tiny + tiny * odds, tiny + np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(in_c, [-1 - odds, -1 - odds, -0.5 / tiny], rtol=1e-6)
    np.testing.assert_allclose(in_r[1:], [tiny * odds / -np.expm1(-1.0), 0.5 / tiny], rtol=1e-6)
    usual = jnp.log1p(-jnp.exp(c[1]))
    assert abs(usual / np.log(tiny) - 1) > 1e-3  # what it is measured against


def test_no_probability_exceeds_one() -> None:
    for c, r in ((0.5, -1), (-1, 0.5), (0, 0)):
        value, slopes = jax.value_and_grad(
            lambda c, r: preference.orpo_loss(c, r, weight=1.0, reduction="sum"), (0, 1)
        )(c * ONE, r * ONE)
        assert np.isnan(value)
        assert np.isnan(slopes).all()


def test_an_impossible_rejected_answer_is_the_best_that_can_be() -> None:
    value, slopes = jax.value_and_grad(
        lambda c, r, beta: preference.dpo_loss(c, r, 0.0, 0.0, beta=beta, reduction="sum"), (0, 1, 2)
    )(-2 * ONE, -INF * ONE, jnp.float32(0.1))
    assert value == 0
    assert not any(np.any(x) for x in slopes)


def test_no_reference_is_the_number_0_however_it_is_written() -> None:
    c, r = jnp.float32([-3, -1.5]), jnp.float32([-2, -7])
    for loss in (preference.dpo_loss, preference.ipo_loss):
        want = loss(c, r, jnp.zeros(2), jnp.zeros(2))
        for zero in (0, 0.0, np.float32(0), np.int32(0)):
            np.testing.assert_array_equal(loss(c, r, zero, zero), want)
    kto = [preference.kto_loss(c, r, desirable=c > r, reference_kl=zero) for zero in (0, 0.0)]
    np.testing.assert_array_equal(*kto)
    np.testing.assert_array_equal(*[preference.simpo_loss(c, r, beta=2, margin=one) for one in (1, 1.0)])
