"""What a program costs before it runs: CPU seconds of tracing and compiling, and its size, beside optax's.

    python tools/trace_cost.py

Each number is the least of three, with JAX's caches cleared before each.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

import lossjax

LOGITS = jax.ShapeDtypeStruct((3, 5), jnp.float32)
LABELS = jax.ShapeDtypeStruct((3,), jnp.int32)


def optax_kl(p: Array, q: Array) -> Array:
    """KL(softmax p ‖ softmax q), as distillation with optax writes it."""
    return optax.losses.kl_divergence_with_log_targets(jax.nn.log_softmax(q), jax.nn.log_softmax(p))


LOSSES: dict[str, tuple[Callable[..., Array], Any]] = {
    "cross-entropy, optax": (optax.softmax_cross_entropy_with_integer_labels, LABELS),
    "cross-entropy": (lossjax.softmax_cross_entropy_with_integer_labels, LABELS),
    "cross-entropy of distributions": (lossjax.softmax_cross_entropy, LOGITS),
    "entropy": (lambda z, _: lossjax.softmax_entropy(z), LABELS),
    "Brier": (lossjax.softmax_brier_score, LABELS),
    "focal": (lossjax.softmax_focal_loss, LABELS),
    "KL of logits, optax": (optax_kl, LOGITS),
    "KL of logits": (lossjax.softmax_kl_divergence, LOGITS),
    "Jensen-Shannon of logits": (lossjax.softmax_js_divergence, LOGITS),
}


def cost(function: Callable[..., Any], *shapes: Any) -> tuple[float, float, int]:
    """CPU seconds of tracing and of compiling, and the lines of StableHLO."""
    jax.clear_caches()
    start = time.process_time()
    traced = jax.jit(function).trace(*shapes)
    traced_at = time.process_time()
    lowered = traced.lower()
    lowered.compile()
    return traced_at - start, time.process_time() - traced_at, lowered.as_text().count("\n")


def main() -> None:
    """Print one row per loss: trace, compile, and lines, for the value, its gradient, and that one's derivative."""
    print(
        f"{'':31}" + "".join(f"{what + ': trace, XLA, lines':>36}" for what in ("value", "gradient", "its derivative"))
    )
    for name, (loss, second) in LOSSES.items():

        def total(*arguments: Array, loss: Callable[..., Array] = loss) -> Array:
            return jnp.sum(loss(*arguments))

        def derivative(z: Array, *rest: Array, total: Callable[..., Array] = total) -> Array:
            return jax.jvp(lambda z: jax.grad(total)(z, *rest), (z,), (z,))[1]

        cells = [min(cost(of, LOGITS, second) for _ in range(3)) for of in (total, jax.grad(total), derivative)]
        print(f"{name:31}" + "".join(f"{trace:18.3f} s {xla:6.2f} s {lines:6}" for trace, xla, lines in cells))


if __name__ == "__main__":
    main()
