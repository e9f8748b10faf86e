"""lossjax beside PyTorch in float64, value and gradients, as ``tests/parity/record_torch.py`` recorded them.

A mean over nothing is NaN in PyTorch and 0 in lossjax; label smoothing of a target that is no distribution adds ε/C in
PyTorch and ε·(Σt)/C in lossjax. All else is the same, up to what is true of distributions only (a gradient in
probabilities matters along the simplex) and to constants (½ log 2π), and the plans below say where that is so.
"""

import functools
from collections.abc import Callable

import numpy as np
import pytest

from tests.support import tiers
from tests.support.torch_cases import CASES, EMPTY, STIRLING, TOLERANCE, Case, Plan, deviations, pulled, scales
from tests.support.torch_plans import (
    PLANS,
    along,
    labels_plan,
    log_probabilities,
    logits_kl_plan,
    poisson_plan,
    targets_plan,
)


def agrees(found: dict[str, float]) -> bool:
    return max(found.values()) <= TOLERANCE


def compare(name: str, make: Callable[[Case], Plan] | None = None) -> dict[str, float]:
    case = CASES[name]
    plan = (make or PLANS[case.function])(case)
    return deviations(case, plan, pulled(case, plan))


USUAL = [name for name in CASES if name not in EMPTY and name != STIRLING]
FAST = tiers.covering([[(name.partition("-")[0], part) for part in name.split("-")] for name in USUAL])
"""A name lists what is asked of the function: each of it is in the fast tier, all that can be combined in the slow."""


@pytest.mark.parametrize(
    "name", [name if i in FAST else pytest.param(name, marks=pytest.mark.slow) for i, name in enumerate(USUAL)]
)
def test_value_and_gradients_are_those_of_pytorch(name: str) -> None:
    found = compare(name)
    assert agrees(found), found


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.function == "kl_div_of_logits"])
def test_the_divergence_of_probabilities_too(name: str) -> None:
    found = compare(name, functools.partial(logits_kl_plan, through_probabilities=True))
    assert agrees(found), found


@pytest.mark.parametrize("name", EMPTY)
def test_a_mean_over_nothing_is_nan_there_and_0_here(name: str) -> None:
    case = CASES[name]
    got = pulled(case, labels_plan(case))
    assert case.reduction == "mean"
    assert np.isnan(case.outputs["value"])
    assert got["value"] == 0
    assert not got["input"].any()


def test_log_factorial_is_exact_where_pytorch_takes_stirlings_formula() -> None:
    """Which is short by between 1/(12t + 1) and 1/(12t) (Robbins 1955)."""
    case = CASES[STIRLING]
    plan, t = poisson_plan(case), case.inputs["target"]
    got = pulled(case, plan)
    rounding = 1e-15 * (plan.terms["value"] + t * np.log(t))
    short = got["value"] - case.outputs["value"]
    assert np.all(short >= 1 / (12 * t + 1) - rounding)
    assert np.all(short <= 1 / (12 * t) + rounding)
    assert deviations(case, plan, {**got, "value": case.outputs["value"]})["input"] <= TOLERANCE


MASSES = [
    name
    for name, case in CASES.items()
    if name.startswith("mass") and case.options["label_smoothing"] and case.reduction == "none"
]


@pytest.mark.parametrize("name", MASSES)
def test_smoothing_keeps_the_mass_of_a_target(name: str) -> None:
    """lossjax spreads ε Σt where PyTorch spreads ε: they differ by ε/C (Σt - 1) Σ_k w_k (-log p_k)."""
    case = CASES[name]
    plan = targets_plan(case, by_hand=False)
    logits, target, axis = case.inputs["input"], case.inputs["target"], 1
    surprisals = -along(axis, case.inputs.get("weight"), logits) * log_probabilities(logits, axis)
    difference = case.options["label_smoothing"] * (target.sum(axis=axis) - 1) * surprisals.mean(axis=axis)
    scale = scales(case, plan)["value"] + np.abs(difference)
    got = pulled(case, plan)["value"]
    assert np.all(np.abs(got - case.outputs["value"] - difference) <= TOLERANCE * scale)


# --- what the comparison catches -------------------------------------------------------------------------------------

PLANTED = [next(name for name, case in CASES.items() if case.function == function) for function in PLANS]


@pytest.mark.parametrize("name", [*PLANTED, next(name for name in CASES if name.startswith("distribution"))])
def test_a_recorded_number_a_billionth_off_is_caught(name: str) -> None:
    case = CASES[name]
    plan = PLANS[case.function](case)
    got = pulled(case, plan)
    assert agrees(deviations(case, plan, got))
    for output in plan.want:
        wrong = plan.want[output].copy()
        wrong.flat[np.argmax(np.abs(wrong))] *= 1 + 1e-9
        found = deviations(case, plan._replace(want={**plan.want, output: wrong}), got)
        assert found.pop(output) > TOLERANCE
        assert all(deviation <= TOLERANCE for deviation in found.values())


CONVENTIONS: dict[str, tuple[str, Callable[[Case], Plan]]] = {
    "smoothing over the other classes": ("labels-NC-", functools.partial(labels_plan, smoothing="others")),
    "smoothing that keeps the mass": ("mass-NC-", functools.partial(targets_plan, by_hand=False)),
}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_another_convention_of_smoothing_is_caught(convention: str) -> None:
    family, plan = CONVENTIONS[convention]
    names = [name for name, case in CASES.items() if name.startswith(family) and case.options["label_smoothing"] == 0.1]
    one_of_each = {CASES[name].reduction: name for name in names}
    assert set(one_of_each) == {"none", "sum", "mean"}
    for name in one_of_each.values():
        assert agrees(compare(name))
        assert compare(name, plan)["value"] > TOLERANCE
