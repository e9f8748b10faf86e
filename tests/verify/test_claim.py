"""A claim that does not hold is reported as such, whatever way it fails."""

import jax.numpy as jnp
import numpy as np
import pytest

from lossjax.verify.claim import Claim, Measurement, Trial, claim


def of(check: object) -> Claim:
    return claim("x", section="4.1", statement="s")(check)


@pytest.mark.parametrize(
    "check",
    [
        lambda t: t.at_most("too large", 2, 1),
        lambda t: t.at_most("nan", np.nan, 1),
        lambda t: t.refuted("not refuted", 0.5, 1),
        lambda t: t.refuted("nan", np.nan, 1),
        lambda t: t.exactly("differs", t.array([1, 2]), t.array([1, 3])),
        lambda t: t.close("off", t.array([1 + 1e-3]), np.asarray([1.0]), 64),
        lambda t: t.close("not finite", t.array([np.inf]), np.asarray([1.0]), 64),
        lambda t: t.close("another shape", t.array([1.0]), np.asarray([1.0, 1.0]), 64),
        lambda t: t.close("another dtype", jnp.asarray([1.0], jnp.bfloat16), np.asarray([1.0]), 64),
        lambda t: t.happens("did not", False),
        lambda t: t.happens("did not fail", False, refutes=True),
        lambda t: None,
        lambda t: 1 / 0,
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_does_not_hold_fails(check: object, dtype: str) -> None:
    result = of(check).run(dtype)
    assert not result.ok
    assert not result.tightest.ok


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_holds_passes_in_its_dtype(dtype: str) -> None:
    def check(t: Trial) -> None:
        t.close("a third", t.array(1.0) / t.array(3.0), np.longdouble(1) / 3, 1)
        t.at_most("dtype", float(jnp.asarray(1.0, t.dtype).dtype != np.dtype(dtype)), 0)
        t.refuted("seen", 2, 1)

    result = of(check).run(dtype)
    assert result.ok, result.measurements
    assert len(result.measurements) == 3


def test_the_measurement_nearest_its_limit_speaks_for_the_claim() -> None:
    def check(t: Trial) -> None:
        t.at_most("loose", 1, 100)
        t.refuted("a refutation", 1.25, 1)
        t.at_most("tight", 1, 2)

    result = of(check).run("float32")
    assert (result.measured, result.allowed) == (1, 2)
    assert Measurement("", 2, 1).strain == 2
    assert Measurement("", 0, 0).strain == 0


def test_a_verdict_needs_its_correction() -> None:
    with pytest.raises(ValueError, match="correction"):
        claim("x", section="4.1", statement="s", verdict="wrong")
