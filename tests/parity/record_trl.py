"""Record what TRL's formulas give, and their gradients, for ``tests/parity/test_trl_parity.py``.

The formulas are those of TRL 0.24 (``DPOTrainer``, ``KTOTrainer``, ``CPOTrainer``, ``ORPOTrainer``, ``GRPOTrainer``),
written out for float64 tensors of PyTorch. To write the data file again, from the root of the repository::

    python -m venv torchenv
    torchenv/bin/pip install torch==2.13.0 numpy
    torchenv/bin/python tests/parity/record_trl.py

A case is ``{"function", "inputs", "options", "value", "gradients"}``, the gradients those of the sum of the value times
0.5, 1, 1.5, … (so that no two entries share a cotangent). The log-probabilities are in the range where the formulas
keep their digits in float64.
"""

import importlib
import json
import random
from pathlib import Path
from typing import Any

torch: Any = importlib.import_module("torch")
F: Any = importlib.import_module("torch.nn.functional")

FILE = Path(__file__).parent / "post_training" / "trl.json"


def dpo(
    chosen: Any, rejected: Any, reference_chosen: Any, reference_rejected: Any, *, beta: float, smoothing: float
) -> Any:
    logits = (chosen - rejected) - (reference_chosen - reference_rejected)
    return -F.logsigmoid(beta * logits) * (1 - smoothing) - F.logsigmoid(-beta * logits) * smoothing


def ipo(chosen: Any, rejected: Any, reference_chosen: Any, reference_rejected: Any, *, beta: float) -> Any:
    return ((chosen - rejected) - (reference_chosen - reference_rejected) - 1 / (2 * beta)) ** 2


def kto(log_probs: Any, reference: Any, *, desirable: bool, kl: float, beta: float) -> Any:
    ratio = log_probs - reference
    return 1 - torch.sigmoid(beta * (ratio - kl)) if desirable else 1 - torch.sigmoid(beta * (kl - ratio))


def cpo(chosen: Any, rejected: Any, *, beta: float) -> Any:
    return -F.logsigmoid(beta * (chosen - rejected)) - chosen


def simpo(chosen: Any, rejected: Any, *, beta: float, gamma: float) -> Any:
    return -F.logsigmoid(beta * (chosen - rejected - gamma / beta))


def orpo(chosen: Any, rejected: Any, *, weight: float) -> Any:
    log_odds = (chosen - rejected) - (torch.log1p(-torch.exp(chosen)) - torch.log1p(-torch.exp(rejected)))
    return -chosen - weight * F.logsigmoid(log_odds)


def k3(log_probs: Any, reference: Any) -> Any:
    return torch.exp(reference - log_probs) - (reference - log_probs) - 1


def grpo(log_probs: Any, old: Any, advantages: Any, *, low: float, high: float, sequence: bool) -> Any:
    ratio = log_probs - old
    ratio = torch.exp(ratio.mean(-1) if sequence else ratio)
    return -torch.min(ratio * advantages, torch.clamp(ratio, 1 - low, 1 + high) * advantages)


CALLS = (
    (dpo, 4, {"beta": 0.1, "smoothing": 0.0}), (dpo, 4, {"beta": 0.5, "smoothing": 0.2}), (ipo, 4, {"beta": 0.3}),
    (kto, 2, {"desirable": True, "kl": 0.0, "beta": 0.1}), (kto, 2, {"desirable": False, "kl": 0.7, "beta": 0.4}),
    (cpo, 2, {"beta": 0.1}), (simpo, 2, {"beta": 2.0, "gamma": 0.5}), (orpo, 2, {"weight": 0.1}), (k3, 2, {}),
    (grpo, 3, {"low": 0.2, "high": 0.2, "sequence": False}), (grpo, 3, {"low": 0.2, "high": 0.28, "sequence": False}),
    (grpo, 3, {"low": 0.02, "high": 0.03, "sequence": True}),
)  # fmt: skip
ROWS, TOKENS = 3, 5


def drawn(rng: random.Random, position: int, before: Any, advantages: bool, sequence: bool) -> list[Any]:
    """Log-probabilities from -12 to -0.1, those of one place near each other; or advantages of either sign."""
    if advantages:
        return [
            round(rng.gauss(0, 1), 3) if sequence else [round(rng.gauss(0, 1), 3) for _ in range(TOKENS)]
            for _ in range(ROWS)
        ]
    if position == 0:
        return [[round(-rng.uniform(0.1, 12), 3) for _ in range(TOKENS)] for _ in range(ROWS)]
    return [[round(min(x + rng.gauss(0, 0.4), -0.05), 3) for x in row] for row in before]


def case(function: Any, arguments: int, options: dict[str, Any]) -> dict[str, Any]:
    rng, inputs = random.Random(f"{function.__name__} {options}"), []
    for position in range(arguments):
        advantages = function is grpo and position == 2
        inputs.append(drawn(rng, position, inputs[0] if inputs else None, advantages, options.get("sequence", False)))
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    value = function(*tensors, **options)
    cotangent = 0.5 * torch.arange(1, value.numel() + 1, dtype=torch.float64).reshape(value.shape)
    gradients = torch.autograd.grad(value, tensors, cotangent)
    return {
        "function": function.__name__,
        "inputs": inputs,
        "options": options,
        "value": value.tolist(),
        "gradients": [g.tolist() for g in gradients],
    }


if __name__ == "__main__":
    cases = [json.dumps(case(*call)) for call in CALLS]
    head = json.dumps({"torch": torch.__version__, "command": "python tests/parity/record_trl.py"})[1:-1]
    FILE.write_text("{" + head + ', "cases": [\n' + ",\n".join(cases) + "\n]}\n", encoding="utf-8")
