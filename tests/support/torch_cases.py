"""What PyTorch computed: the recorded cases, and how far a loss of lossjax departs from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.support.paths import ROOT
from tests.support.quick import quick

FOLDER = ROOT / "tests" / "parity"

# Of the size of a result, or of the largest terms that it is a sum of where these cancel. With u = 1.1e-16 it is 9000u.
# lossjax promises 8u to 67u. PyTorch forms log p = (z - m) - log Σ, three roundings, each within u of the gap between
# logits or of log C (the terms: 1 + gap), and p = exp(log p), within u·|log p| of itself, where |log p| < 163 in these
# cases; a sum of n terms adds n·u, n < 25. Together 200u = 2e-14. An offset of 1000 costs nothing beside, z - m being
# rounded after the offset has gone; but a PyTorch that formed z - (m + log Σ) would lose u·1000 = 1e-13 in every log p,
# and so of every p: 1e-12 has room for one recorded with that. A number 1e-9 off is far outside.
TOLERANCE = 1e-12


class Case(NamedTuple):
    """One call of PyTorch: see ``record_torch.py``."""

    name: str
    function: str
    inputs: dict[str, np.ndarray]
    options: dict[str, Any]
    outputs: dict[str, np.ndarray]

    @property
    def cotangent(self) -> np.ndarray:
        return self.inputs["cotangent"]

    @property
    def reduction(self) -> str:
        return self.options.get("reduction", "none")


def _read(path: Path) -> list[Case]:
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    for case in cases:
        case["inputs"] = {key: np.asarray(value) for key, value in case["inputs"].items()}
        case["outputs"] = {key: np.asarray(value, np.float64) for key, value in case["outputs"].items()}
    return [Case(**case) for case in cases]


CASES = {case.name: case for path in sorted(FOLDER.glob("*.json")) for case in _read(path)}
EMPTY = [name for name, case in CASES.items() if np.isnan(case.outputs["value"]).any()]
STIRLING = "poisson-full-above_1"


class Plan(NamedTuple):
    """What lossjax is asked for a case, and how large the terms are that its results are sums of.

    ``terms`` has the shape of the input: with "value" those of the loss of a row (its class axis of length 1), with an
    argument's name those of the gradient for a cotangent of 1. A mean divides by ``mass``.
    """

    loss: Callable[..., jax.Array]
    arguments: dict[str, np.ndarray]
    want: dict[str, np.ndarray]
    terms: dict[str, np.ndarray]
    mass: float
    axis: int | None = None
    along_simplex: tuple[str, ...] = ()


def per_row(case: Case, plan: Plan) -> np.ndarray:
    """The cotangent of each row's loss."""
    g = case.cotangent / (plan.mass if "mean" in case.reduction else 1)
    return g if plan.axis is None or not g.ndim else np.expand_dims(g, plan.axis)


def sum_to(shape: tuple[int, ...], terms: np.ndarray, axis: int | None) -> np.ndarray:
    """The terms of an argument that was broadcast: class weights along ``axis``, or axes of length 1."""
    if axis is not None and len(shape) == 1 < terms.ndim:
        return terms.sum(axis=tuple(a for a in range(terms.ndim) if a != axis))
    short = tuple(a for a, n in enumerate(terms.shape) if n != 1 and shape[a] == 1)
    return terms.sum(axis=short, keepdims=True)


def scales(case: Case, plan: Plan) -> dict[str, np.ndarray]:
    """The size of the terms, of the shape of each output."""
    value = plan.terms["value"]
    if case.reduction == "none":
        result = {"value": value if plan.axis is None else value.squeeze(plan.axis)}
    else:
        result = {"value": value.sum() / (plan.mass if "mean" in case.reduction else 1)}
    for name, argument in plan.arguments.items():
        result[name] = sum_to(argument.shape, np.abs(per_row(case, plan)) * plan.terms[name], plan.axis)
    return result


def _with_pullback(loss: Callable[..., jax.Array], cotangent: jax.Array, *arguments: jax.Array) -> Any:
    value, pullback = jax.vjp(loss, *arguments)
    return value, pullback(cotangent)


def pulled(case: Case, plan: Plan) -> dict[str, np.ndarray]:
    """Value and gradients of lossjax."""
    with jax.enable_x64(True):
        arguments = map(jnp.asarray, plan.arguments.values())
        value, gradients = quick(lambda g, *a: _with_pullback(plan.loss, g, *a))(
            jnp.asarray(case.cotangent), *arguments
        )
        return {"value": np.asarray(value), **dict(zip(plan.arguments, map(np.asarray, gradients), strict=True))}


def deviations(case: Case, plan: Plan, got: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest deviation of each output from what is wanted, relative to it and to the terms."""
    found = {}
    for name, size in scales(case, plan).items():
        have, want = got[name], plan.want[name]
        assert have.dtype == want.dtype == np.float64
        assert have.shape == want.shape == size.shape
        if name in plan.along_simplex:
            have, want = (x - x.mean(axis=plan.axis, keepdims=True) for x in (have, want))
        error, size = np.abs(have - want), np.maximum(np.abs(want), size)
        found[name] = float(np.max(np.divide(error, size, out=np.where(error == 0, 0.0, np.inf), where=size > 0)))
    return found
