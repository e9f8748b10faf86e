"""Softmax collapse: where the usual loss rounds to 0 a network stops generalizing; with the exact loss it goes on.

A small network learns a + b mod P in float32, without weight decay, from half of all pairs, twice: same data, same
first weights, same optimizer, once with optax's `softmax_cross_entropy_with_integer_labels` and once with lossjax's.
Both soon fit every training pair; what happens afterwards decides the test accuracy. Beyond a margin of 16.6 each wrong
class weighs less than 2^-24 of the right one and is lost in a float32 sum: the usual loss and its gradient at the label
are exactly 0, while that at the wrong classes is not, and the network moves in a wrong direction. This is the softmax
collapse of "Grokking at the edge of numerical stability" (arXiv 2501.04697). The loss and the gradient of lossjax keep
their digits up to a margin of 87, where exp underflows; the default run ends before.

    python examples/03_softmax_collapse.py                              # two minutes; softmax_collapse.png, .csv
    python examples/03_softmax_collapse.py --modulus 59 --steps 1200    # ten seconds; 11 % against 30 %

What it does not show. Network, share of pairs and optimizer were chosen by trial so that the difference is large. Most
of the exact gradient, too, only scales the logits, so the gain is slow, and it is lost where the optimizer ignores
small gradients: with Adam's usual eps of 1e-8 and an unscaled loss, optax's run rests at 54 % and lossjax's creeps to
59 %. Nor does it help every network: with ReLU instead of the square neither learns to generalize (modulus 59, 2400
steps: about 1 % at most). The paper's remedies are others, StableMax and ⟂Grad: they change the function and the
direction.

Needs `pip install ".[examples]"` in a clone of lossjax.
"""

import argparse
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _collapse import draw, progress_table
from rich.console import Console
from rich.progress import track

import lossjax

LOSSES = {
    "optax": optax.losses.softmax_cross_entropy_with_integer_labels,
    "lossjax": lossjax.softmax_cross_entropy_with_integer_labels,
}
HIDDEN, BLOCKS = 200, 60  # the test set is looked at after each of the blocks
# Adam divides by the root of a mean of squares, and squares of float32 below 1e-19 underflow. So the loss is scaled by
# a power of two, which costs no digit and which Adam does not notice, and eps is as small as such a root can be.
SCALE = 2.0**50
optimizer = optax.adamw(3e-3, b1=0.9, b2=0.95, eps=1e-19, weight_decay=0.0)


def all_pairs(modulus: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (a, b) in random order, each as two one-hot vectors side by side, and a + b."""
    a, b = np.divmod(np.random.default_rng(0).permutation(modulus**2), modulus)
    one_hot = np.eye(modulus, dtype=np.float32)
    return np.hstack([one_hot[a], one_hot[b]]), ((a + b) % modulus).astype(np.int32)


def network(parameters: Any, inputs: jax.Array) -> jax.Array:
    return (inputs @ parameters["hidden"]) ** 2 @ parameters["output"]


def train(name: str, modulus: int, steps: int) -> dict[str, np.ndarray]:
    """Loss and gradient norm at every step, and what is measured after every block of steps."""
    loss, (inputs, labels) = LOSSES[name], map(jnp.asarray, all_pairs(modulus))
    (inputs, test_inputs), (labels, test_labels) = (jnp.split(array, [len(array) // 2]) for array in (inputs, labels))

    def scaled_loss(parameters: Any) -> jax.Array:
        return SCALE * jnp.mean(loss(network(parameters, inputs), labels))

    def step(state: Any, _: None) -> tuple[Any, dict[str, jax.Array]]:
        parameters, optimizer_state = state
        value, gradient = jax.value_and_grad(scaled_loss)(parameters)
        # Adam's bias correction in optax mixes dtypes; the rest of this program runs under strict promotion too.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = optimizer.update(gradient, optimizer_state, parameters)
        measured = {"loss": value / SCALE, "norm": optax.tree.norm(gradient) / SCALE}
        return (optax.apply_updates(parameters, updates), optimizer_state), measured

    @partial(jax.jit, donate_argnums=0)
    def block(state: Any) -> tuple[Any, dict[str, jax.Array]]:
        state, measured = jax.lax.scan(step, state, length=steps // BLOCKS)
        logits = network(state[0], inputs)
        is_label = jax.nn.one_hot(labels, modulus, dtype=bool)
        margin = jnp.min(jnp.where(is_label, jnp.inf, logits[jnp.arange(len(labels)), labels, None] - logits), axis=1)
        gradient = jax.grad(lambda logits: jnp.sum(loss(logits, labels)))(logits)
        zero = jnp.any(is_label & (gradient == 0), axis=1)
        correct = jnp.argmax(network(state[0], test_inputs), axis=1) == test_labels
        measured |= {"zero": jnp.sum(zero), "broken": jnp.sum(zero & (margin < 87))}
        return state, measured | {"margin": jnp.median(margin), "accuracy": jnp.mean(correct)}

    first, second = jax.random.split(jax.random.key(0))
    draw = jax.nn.initializers.he_normal()
    parameters = {"hidden": draw(first, (2 * modulus, HIDDEN)), "output": draw(second, (HIDDEN, modulus))}
    state, blocks = (parameters, optimizer.init(parameters)), []
    console = Console(stderr=True, quiet=not sys.stderr.isatty())
    for _ in track(range(BLOCKS), f"training with {name}", console=console):
        state, measured = block(state)
        blocks.append(jax.device_get(measured))
    return {key: np.hstack([measured[key] for measured in blocks]) for key in blocks[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Softmax collapse, on addition modulo P.")
    parser.add_argument("--modulus", type=int, default=113, metavar="P")
    parser.add_argument("--steps", type=int, default=2400, metavar="N", help=f"a multiple of {BLOCKS}, or rounded down")
    parser.add_argument("--output", default="softmax_collapse.png", metavar="PNG")
    options = parser.parse_args()
    if options.steps < BLOCKS or options.modulus < 2:
        parser.error(f"at least {BLOCKS} steps, and a modulus of at least 2")
    runs = {name: train(name, options.modulus, options.steps) for name in LOSSES}

    console, pairs = Console(highlight=False), options.modulus**2 // 2
    console.print(progress_table(runs, f"a + b mod {options.modulus}, trained on {pairs} pairs"))
    theirs, ours = (runs[name]["accuracy"] for name in LOSSES)
    console.print(
        f"test accuracy with optax's loss {theirs[-1]:.4f} (at best {theirs.max():.4f}), with lossjax's {ours[-1]:.4f}"
    )
    scores = f"test accuracy {theirs[-1]:.0%} with optax's loss, {ours[-1]:.0%} with lossjax's"
    title = f"Softmax collapse on a + b mod {options.modulus}: {scores}"
    draw(runs, pairs, title, options.output)
    console.print(f"wrote {options.output}")
    if broken := int(np.max(runs["lossjax"]["broken"])):
        sys.exit(f"lossjax breaks its promise: a gradient of 0 at the label of {broken} pairs below a margin of 87")


if __name__ == "__main__":
    main()
