"""Train a small network on handwritten digits, then check its loss and gradient against exact arithmetic.

Shows `lossjax.softmax_cross_entropy_with_integer_labels` in an ordinary optax training loop: one jit-compiled step
whose state is donated, so that parameters and optimizer are updated in place. A network that has learned is sure of
itself, and there the usual cross-entropy goes wrong: the last part measures by how much.

    python examples/01_train_digits.py

Needs `pip install ".[examples]"` in a clone of lossjax; takes about ten seconds on a laptop.
"""

import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _accuracy import cross_entropy_errors, report_errors
from _training import progress_with_loss
from jax.typing import ArrayLike
from rich.console import Console
from sklearn.datasets import load_digits

import lossjax
from lossjax.verify import ulp

HIDDEN, CLASSES, EPOCHS, BATCH = 128, 10, 100, 64

# 1797 images of 8 x 8 pixels from 0 to 16, as float32 in [0, 1]; labels 0 to 9. A fifth is kept for the test.
pixels, digits = (np.asarray(array) for array in load_digits(return_X_y=True))
images, labels = (pixels / 16).astype(np.float32), digits.astype(np.int32)
shuffle = np.random.default_rng(0)
test, train = np.split(shuffle.permutation(len(labels)), [len(labels) // 5 + 1])
STEPS = EPOCHS * (len(train) // BATCH)
optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, STEPS), weight_decay=1e-3)


def initial_parameters(key: jax.Array) -> dict[str, dict[str, jax.Array]]:
    first, second = jax.random.split(key)
    draw = jax.nn.initializers.he_normal()
    return {
        "hidden": {"weight": draw(first, (images.shape[1], HIDDEN)), "bias": jnp.zeros(HIDDEN)},
        "output": {"weight": draw(second, (HIDDEN, CLASSES)), "bias": jnp.zeros(CLASSES)},
    }


def network(parameters: Any, images: ArrayLike) -> jax.Array:
    hidden = jax.nn.relu(images @ parameters["hidden"]["weight"] + parameters["hidden"]["bias"])
    return hidden @ parameters["output"]["weight"] + parameters["output"]["bias"]


# Donating the state lets XLA write the new parameters over the old ones instead of beside them.
@partial(jax.jit, donate_argnums=0)
def training_step(state: Any, images: ArrayLike, labels: ArrayLike) -> tuple[Any, jax.Array]:
    parameters, optimizer_state = state

    def mean_loss(parameters: Any) -> jax.Array:
        logits = network(parameters, images)
        return lossjax.softmax_cross_entropy_with_integer_labels(logits, labels, reduction="mean")

    loss, gradient = jax.value_and_grad(mean_loss)(parameters)
    # Adam's bias correction in optax mixes dtypes; the rest of this program runs under strict promotion too.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, parameters)
    return (optax.apply_updates(parameters, updates), optimizer_state), loss


def fit(console: Console) -> Any:
    parameters, loss = initial_parameters(jax.random.key(0)), np.nan
    state = (parameters, optimizer.init(parameters))
    with progress_with_loss(console) as progress:
        task = progress.add_task("training", total=EPOCHS, loss=loss)
        for _ in range(EPOCHS):
            for batch in shuffle.permutation(train)[: STEPS // EPOCHS * BATCH].reshape(-1, BATCH):
                state, loss = training_step(state, images[batch], labels[batch])
            progress.update(task, advance=1, loss=float(loss))
    return state[0]


def main() -> None:
    console = Console(highlight=False)
    parameters = fit(console)
    logits = jax.jit(network)(parameters, images[test])
    accuracy = float(np.mean(np.argmax(logits, axis=-1) == labels[test]))
    console.print(f"accuracy {accuracy:.4f} on {len(test)} test images\n")
    if accuracy < 0.96:
        sys.exit(f"accuracy {accuracy:.4f} is below 0.96")

    # The exact loss and gradient of these very floats are known to 256 bits.
    rows = list(cross_entropy_errors(logits, labels[test]))
    report_errors(console, "The loss on the test logits, against exact arithmetic", rows)
    # The surer the network, the fewer digits 1 + S (in the log) and p - 1 (at the label) keep of the small number S.
    loss, at_label, _ = rows
    relative = ulp.errors(at_label.other, at_label.truth) / ulp.relative_to(at_label.truth)
    count = int(np.sum(ulp.ulps(at_label.other, at_label.truth) > 8))
    console.print(
        f"optax's gradient at the label is off by more than 8 ulp on {count} of {len(test)} images,\n"
        f"and by {np.max(relative):.0%} at worst; its loss is exactly 0 on {np.sum(loss.other == 0)}."
    )


if __name__ == "__main__":
    main()
