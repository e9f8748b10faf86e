"""What the losses of a policy gradient are: estimates of a divergence, one-sided bounds, means of sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax import log_softmax, policy, softmax_kl_divergence

NAN, INF = np.nan, np.inf
POLICY, REFERENCE = jnp.float32([0.3, -1.2, 2.0, 0.1]), jnp.float32([0.1, -1.0, 2.2, 0.5])


@pytest.mark.parametrize(("kind", "units"), [("k1", 16), ("k3", 16)])
def test_its_expectation_is_the_divergence(kind: str, units: float) -> None:
    log_p, log_q = log_softmax(POLICY), log_softmax(REFERENCE)
    terms = jnp.exp(log_p) * policy.sampled_kl(log_p, log_q, kind=kind)
    divergence = softmax_kl_divergence(POLICY, REFERENCE)
    assert abs(jnp.sum(terms) - divergence) <= units * 2.0**-24 * jnp.sum(jnp.abs(terms))
    assert divergence > 1e-3


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_its_gradient_is_in_expectation_what_the_docstring_says(kind: str) -> None:
    """k1: 0; k2: that of KL(policy ‖ reference); k3: that of KL(reference ‖ policy)."""
    drawn = jnp.exp(log_softmax(POLICY))  # the tokens are drawn already: their frequencies are constants
    got = jax.grad(lambda z: jnp.sum(drawn * policy.sampled_kl(log_softmax(z), log_softmax(REFERENCE), kind=kind)))(
        POLICY
    )
    want = {
        "k1": jnp.zeros(4),
        "k2": jax.grad(softmax_kl_divergence, 0)(POLICY, REFERENCE),
        "k3": jax.grad(softmax_kl_divergence, 1)(REFERENCE, POLICY),
    }
    np.testing.assert_allclose(got, want[kind], rtol=0, atol=64 * 2.0**-24)
    others = [jnp.max(jnp.abs(got - want[other])) for other in want if other != kind]
    assert min(others) > 1e-3


def test_k3_is_never_negative_and_keeps_its_digits() -> None:
    steps = np.float32([1e-3, 1e-4, 1e-6, 1e-10, 0, -1e-6, 3, 80])
    log_p = np.full(steps.shape, -0.0, np.float32)
    got = np.asarray(policy.sampled_kl(log_p, steps), np.float64)
    with np.errstate(invalid="ignore"):
        x = steps.astype(np.float64)
    want = np.where(np.abs(x) < 0.1, x * x / 2 + x**3 / 6 + x**4 / 24 + x**5 / 120, np.exp(x) - 1 - x)
    np.testing.assert_allclose(got, want, rtol=16 * 2.0**-24)
    assert (got >= 0).all()
    usual = np.exp(steps) - steps - np.float32(1)
    assert usual[2] < 0 or usual[1] == 0  # what it is measured against


def test_beyond_a_bound_the_gradient_is_0_on_the_side_of_the_advantage_alone() -> None:
    ratio = jnp.float32([1.99, 2.01, 1.99, 2.01, 0.51, 0.49, 0.51, 0.49, 1.0])
    advantage = jnp.float32([1, 1, -1, -1, -1, -1, 1, 1, 3])
    bound = jnp.float32([0, 2, 0, 0, 0, 0.5, 0, 0, 0])  # 0 where the ratio counts
    loss, pullback = jax.vjp(lambda x: policy.clipped_loss(x, jnp.zeros(9), advantage, clip=(0.5, 1.0)), jnp.log(ratio))
    np.testing.assert_allclose(loss, -advantage * jnp.where(bound > 0, bound, ratio), rtol=8 * 2.0**-24)
    np.testing.assert_allclose(pullback(jnp.ones(9))[0], jnp.where(bound > 0, 0, -advantage * ratio), rtol=8 * 2.0**-24)


def test_at_the_bound_itself_the_ratio_counts() -> None:
    """As in the papers' min of two equal numbers, of which the first has the gradient."""
    log_p, old = jnp.zeros(2), jnp.zeros(2)
    slopes = jax.grad(lambda x: jnp.sum(policy.clipped_loss(x, old, jnp.float32([1, -1]), clip=(0.0, 0.0))))(log_p)
    np.testing.assert_array_equal(slopes, [-1, 1])


def test_the_clip_has_its_gradient() -> None:
    log_p, advantage = jnp.log(jnp.float32([3, 0.1, 1])), jnp.float32([2, -5, 7])

    def loss(low: jax.Array, high: jax.Array) -> jax.Array:
        return policy.clipped_loss(log_p, jnp.zeros(3), advantage, clip=(low, high), reduction="sum")

    slopes = jax.grad(loss, (0, 1))(jnp.float32(0.2), jnp.float32(0.3))
    np.testing.assert_allclose(slopes, [-5, -2])


def test_sequences_are_means_of_their_unmasked_tokens() -> None:
    log_p = jnp.float32([[-1, -2, NAN], [-3, INF, NAN], [NAN, NAN, NAN]])
    old = jnp.float32([[-1.5, -1.25, 0], [-3.25, 0, NAN], [INF, NAN, 0]])
    where = jnp.array([[True, True, False], [True, False, False], [False] * 3])
    advantage = jnp.float32([1.5, -2, NAN])

    def loss(p: jax.Array, q: jax.Array, a: jax.Array) -> jax.Array:
        return policy.clipped_loss(p, q, a, clip=(0.5, 0.5), level="sequence", where=where)

    value, pullback = jax.vjp(loss, log_p, old, advantage)
    ratios = np.exp([-0.125, 0.25])
    np.testing.assert_allclose(value, [-1.5 * ratios[0], 2 * ratios[1], 0], rtol=8 * 2.0**-24)
    in_p, in_q, in_a = pullback(jnp.ones(3))
    first = -1.5 * ratios[0] / 2
    np.testing.assert_allclose(in_p, [[first, first, 0], [2 * ratios[1], 0, 0], [0, 0, 0]], rtol=8 * 2.0**-24)
    np.testing.assert_array_equal(in_q, -in_p)
    np.testing.assert_allclose(in_a, [-ratios[0], -ratios[1], 0], rtol=8 * 2.0**-24)
    mean = policy.clipped_loss(log_p, old, advantage, clip=(0.5, 0.5), level="sequence", where=where, reduction="mean")
    np.testing.assert_allclose(mean, (2 * ratios[1] - 1.5 * ratios[0]) / 2, rtol=16 * 2.0**-24)


def test_sequence_log_probs() -> None:
    tokens, where = jnp.float32([[-1, -2, NAN], [INF, NAN, 3]]), jnp.array([[True, True, False], [False] * 3])
    for mean, values, slope in ((False, [-3, 0], 1), (True, [-1.5, 0], 0.5)):
        of = jax.vjp(lambda x, mean=mean: policy.sequence_log_probs(x, where=where, mean=mean), tokens)
        np.testing.assert_array_equal(of[0], values)
        np.testing.assert_array_equal(of[1](jnp.ones(2))[0], [[slope, slope, 0], [0, 0, 0]])
    assert policy.sequence_log_probs(jnp.float16([-1, -2])).dtype == jnp.float32
    with pytest.raises(ValueError, match="log_probs must have an axis of tokens"):
        policy.sequence_log_probs(-1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: policy.sampled_kl(x, x, kind="k4"), "kind must be one of 'k1', 'k2', 'k3', got 'k4'"),
        (lambda x: policy.clipped_loss(x, x, x, level="word"), "level must be 'token' or 'sequence', got 'word'"),
        (lambda x: policy.clipped_loss(x, x, x, clip=(0.1, -0.1)), r"clip\[1\] must be at least 0"),
        (lambda x: policy.clipped_loss(x, x, x, clip=0.2), r"clip must be two widths \(below, above\), got 0.2"),
        (lambda x: policy.clipped_loss(x, x, x, clip=(0.2,)), "clip must be two widths"),
        (lambda x: policy.clipped_loss(x[0], x[0], x[0], level="sequence"), "log_probs must have an axis of tokens"),
        (lambda x: policy.sampled_kl(x, x[:2]), "reference_log_probs has shape"),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(jnp.zeros(3))
