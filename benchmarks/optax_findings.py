"""Every loss of ``optax.losses`` through ``lossjax.verify.check``: what falls short, as a Markdown table.

Run: python benchmarks/optax_findings.py [NAME …]

Takes some minutes; with names, those functions only. A formula's own derivative is the yardstick, except at the edges:
there it may be NaN itself (0 · ∞), and the loss of the same name in ``lossjax.optax`` says what is meant.
"""

import re
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from optax import losses

import lossjax.optax
from lossjax.verify._check import CHECKS, Row, check

random = np.random.default_rng(0)
ROWS, CLASSES = 3, 4
logits, others, third = (np.asarray(random.normal(size=(ROWS, CLASSES)) * 2, np.float32) for _ in range(3))
labels = random.integers(0, CLASSES, ROWS).astype(np.int32)
one_hot = np.eye(CLASSES, dtype=np.float32)[labels]
log_p = np.asarray(jax.nn.log_softmax(logits))
targets = np.asarray(random.dirichlet(np.ones(CLASSES), ROWS), np.float32)
binary = random.integers(0, 2, (ROWS, CLASSES))
signs = np.asarray(2 * binary - 1, np.float32)


def log_partition(scores: Any, *_: Any, **__: Any) -> Any:
    return jax.nn.logsumexp(scores, axis=-1)


CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], int | tuple[int, ...]]] = {
    "binary_dice_loss": (losses.binary_dice_loss, (logits, np.float32(binary)), 0),
    "cosine_distance": (losses.cosine_distance, (logits, others), (0, 1)),
    "cosine_similarity": (losses.cosine_similarity, (logits, others), (0, 1)),
    "dice_loss": (losses.dice_loss, (logits, one_hot), 0),
    "generalized_kl_divergence": (losses.generalized_kl_divergence, (log_p, targets), (0, 1)),
    "hinge_loss": (losses.hinge_loss, (logits, signs), 0),
    "huber_loss": (losses.huber_loss, (logits, others), (0, 1)),
    "kl_divergence": (losses.kl_divergence, (log_p, targets), (0, 1)),
    "kl_divergence_with_log_targets": (
        losses.kl_divergence_with_log_targets, (log_p, np.log(targets)), (0, 1),
    ),
    "l2_loss": (losses.l2_loss, (logits, others), (0, 1)),
    "log_cosh": (losses.log_cosh, (logits, others), (0, 1)),
    "make_fenchel_young_loss": (
        losses.make_fenchel_young_loss(log_partition), (logits, targets), 0,
    ),
    "multiclass_generalized_dice_loss": (losses.multiclass_generalized_dice_loss, (logits, one_hot), 0),
    "multiclass_hinge_loss": (losses.multiclass_hinge_loss, (logits, labels), 0),
    "multiclass_perceptron_loss": (losses.multiclass_perceptron_loss, (logits, labels), 0),
    "multiclass_sparsemax_loss": (losses.multiclass_sparsemax_loss, (logits, labels), 0),
    "ntxent": (losses.ntxent, (logits, np.array([0, 1, 0], np.int32)), 0),
    "perceptron_loss": (losses.perceptron_loss, (logits, signs), 0),
    "poly_loss_cross_entropy": (losses.poly_loss_cross_entropy, (logits, one_hot), 0),
    "ranking_softmax_loss": (losses.ranking_softmax_loss, (logits, np.float32(binary)), 0),
    "safe_softmax_cross_entropy": (losses.safe_softmax_cross_entropy, (logits, targets), (0, 1)),
    "sigmoid_binary_cross_entropy": (losses.sigmoid_binary_cross_entropy, (logits, np.float32(binary)), 0),
    "sigmoid_focal_loss": (losses.sigmoid_focal_loss, (logits, np.float32(binary)), 0),
    "smooth_labels": (lambda t: losses.smooth_labels(t, 0.125), (targets,), 0),
    "softmax_cross_entropy": (losses.softmax_cross_entropy, (logits, one_hot), 0),
    "softmax_cross_entropy_with_integer_labels": (
        losses.softmax_cross_entropy_with_integer_labels, (logits, labels), 0,
    ),
    "sparsemax_loss": (losses.sparsemax_loss, (logits, binary), 0),
    "squared_error": (losses.squared_error, (logits, others), (0, 1)),
    "triplet_margin_loss": (losses.triplet_margin_loss, (logits, others, third), (0, 1, 2)),
}  # fmt: skip
LEFT_OUT = {
    "convex_kl_divergence": "a deprecated alias",
    "ctc_loss": "a dynamic programme, not a formula",
    "ctc_loss_with_forward_probs": "the same",
}


def cells(row: Row) -> str:
    """Check, by how much it fails, its first failure, and the inputs of that, as the checker names them."""
    text = row.failures[0] if row.failures else row.statement
    inputs = re.search(r"inputs '([^']*)'", text)
    text = re.split(r" and [^ ]*u with| \((?:inputs|allowed|\d+ of)", text)[0]
    return f"{row.name} | {row.measured:.2g} | {row.allowed:.2g} | {text} | {inputs[1] if inputs else ''}"


def main() -> None:
    names = sys.argv[1:] or list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        sys.exit(f"there is no {unknown[0]!r}; there are {', '.join(CASES)}")
    print(f"optax {optax.__version__}, jax {jax.__version__}, float32, {jax.default_backend()}\n")
    print("| function | check | measured | allowed | the first failure | inputs |")
    print("|---|---|---|---|---|---|")
    passed = []
    for name in names:
        function, arguments, argnums = CASES[name]
        meant = getattr(lossjax.optax, name) if name in lossjax.optax.OWN else None
        rows = check(function, *arguments, argnums=argnums, checks=[c for c in CHECKS if c != "edges"]).rows
        rows += check(function, *arguments, argnums=argnums, checks="edges", reference=meant).rows
        failing = [row for row in rows if row.ok is False]
        for row in failing:
            print(f"| `{name}` | {cells(row)} |", flush=True)
        passed += [] if failing else [f"`{name}`"]
    print(f"\nNothing falls short in {', '.join(passed) or 'any of the others: there are none'}.")
    print(f"Not tried: {', '.join(f'`{name}` ({why})' for name, why in LEFT_OUT.items())}.")


if __name__ == "__main__":
    main()
