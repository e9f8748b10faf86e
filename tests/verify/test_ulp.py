"""The ruler is right: known distances, special values, and balls too wide to judge by."""

import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb

from lossjax.verify import oracle, ulp


@pytest.mark.parametrize(("dtype", "u"), [(np.float32, 2.0**-24), (np.float64, 2.0**-53), (jnp.bfloat16, 2.0**-8)])
@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_known_distances(dtype: type, u: float, steps: int) -> None:
    computed = np.asarray([1 + 2 * u * steps], dtype)
    assert ulp.in_roundoffs(computed, ulp.balls([1.0]))[0] == 2 * steps
    assert ulp.in_roundoffs(computed, ulp.balls([1.0]), scale=[4.0])[0] == steps / 2


@pytest.mark.parametrize(
    ("value", "truth", "wrong"),
    [
        (np.inf, arb("inf"), False), (-np.inf, arb("inf"), True), (1.0, arb("inf"), True), (np.inf, arb(1), True),
        (np.nan, arb("nan"), False), (np.nan, arb(1), True), (1.0, arb("nan"), True), (0.0, arb(0), False),
    ],
)  # fmt: skip
def test_special_values(value: float, truth: arb, wrong: bool) -> None:
    found = ulp.in_roundoffs(np.asarray([value]), np.asarray([truth], dtype=object))[0]
    assert found == (np.inf if wrong else 0)


def test_flushing_to_zero_is_not_counted_but_more_is() -> None:
    tiny = ulp.smallest_normal(np.float32)
    assert ulp.in_roundoffs(np.float32([0]), ulp.balls([tiny / 2]))[0] == 0
    assert ulp.in_roundoffs(np.float32([0]), ulp.balls([tiny * 3]))[0] > 1e6


def test_a_vague_truth_is_refused() -> None:
    vague = np.asarray([arb(1, 1e-10)], dtype=object)
    with pytest.raises(ArithmeticError, match="more precision"):
        ulp.errors(np.asarray([1.0]), vague)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="compare like with like"):
        ulp.errors(np.zeros(3), ulp.balls([1.0, 2.0]))


def test_the_oracle_is_the_textbook() -> None:
    """Against values known otherwise: log 2 and e, and a loss of 1e-22 that floats lose."""
    with oracle.precision():
        z = ulp.balls([[0.0, 0.0], [50.0, 0.0]])
        value, gradient = oracle.softmax_cross_entropy(z, oracle.one_hot([0, 0], 2))
        assert (value[0] - arb(2).log()).contains(0)
        assert abs(float(value[1]) / 1.928749847963918e-22 - 1) < 1e-14
        assert abs(float(gradient[1, 0]) / -1.928749847963918e-22 - 1) < 1e-14
        assert float(oracle.softmax(ulp.balls([[-np.inf, 0.0]]))[0, 0]) == 0
        assert float(oracle.kl_divergence(ulp.balls([0.5, 0.5]), ulp.balls([0.5, 0.5]))) == 0
