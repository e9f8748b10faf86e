"""The policy and preference losses beside TRL's formulas in float64, which ``record_trl.py`` recorded."""

import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossjax import policy, preference
from tests.support.paths import ROOT

CASES = json.loads((ROOT / "tests" / "parity" / "post_training" / "trl.json").read_text(encoding="utf-8"))["cases"]

# The formulas have at most ten operations, each within u = 1.1e-16 of terms below 20 (a log-probability, or a margin
# divided by 2β), and magnify the error of an exponent of at most 12 by that: 10·20·12·u = 3e-13.
TOLERANCE = 3e-13


def ours(function: str, options: dict[str, Any]) -> Callable[..., jax.Array]:
    """The loss of lossjax that a formula of TRL is."""
    if function == "grpo":
        clip, level = (options["low"], options["high"]), "sequence" if options["sequence"] else "token"
        return functools.partial(policy.clipped_loss, clip=clip, level=level)
    if function == "kto":
        return lambda p, q: preference.kto_loss(
            p, q, desirable=jnp.full(p.shape, options["desirable"]), reference_kl=options["kl"], beta=options["beta"]
        )
    if function == "k3":
        return policy.sampled_kl
    names = {"smoothing": "label_smoothing", "gamma": "margin"}
    loss = getattr(preference, f"{function}_loss")
    return functools.partial(loss, **{names.get(name, name): value for name, value in options.items()})


def deviation(case: dict[str, Any], loss: Callable[..., jax.Array]) -> float:
    """The largest difference from the record in value and gradients, in units of 1 + their size."""
    with jax.enable_x64(True):
        arguments = [jnp.asarray(x, np.float64) for x in case["inputs"]]
        value, pullback = jax.vjp(loss, *arguments)
        cotangent = 0.5 * jnp.arange(1, value.size + 1, dtype=np.float64).reshape(value.shape)
        pairs = zip((value, *pullback(cotangent)), (case["value"], *case["gradients"]), strict=True)
        return max(float(np.max(np.abs(got - np.asarray(want)) / (1 + np.abs(want)))) for got, want in pairs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['function']}-{list(case['options'].values())}")
def test_value_and_gradients_are_those_of_trl(case: dict[str, Any]) -> None:
    assert deviation(case, ours(case["function"], case["options"])) <= TOLERANCE


def test_a_wrong_formula_is_caught() -> None:
    """A β that is off by 1e-9, and the other side of the clip."""
    case = CASES[0]
    assert deviation(case, ours("dpo", case["options"] | {"beta": 0.1 + 1e-9})) > TOLERANCE
    clipped = CASES[-2]
    assert deviation(clipped, ours("grpo", clipped["options"] | {"high": 0.2})) > TOLERANCE
