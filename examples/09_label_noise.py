"""Learn digits from labels of which many are wrong, many are missing, and some belong to padding.

Four in ten labels of the training images are replaced by another digit; one image in four has none: its label is -1,
and `ignore_index` leaves it out. The last batch is filled up to the size of the others, and `where` masks the filling.
Four losses that differ in one option learn from these rows; the true labels of the test images judge them.

    python examples/09_label_noise.py

Needs `pip install ".[examples]"` in a clone of lossjax; takes about ten seconds on a laptop.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _accuracy import table
from _training import progress_with_loss
from jax import Array
from rich.console import Console
from sklearn.datasets import load_digits

import lossjax

CLASSES, HIDDEN, BATCH, WRONG, MISSING = 10, 128, 256, 0.4, 0.25
optimizer = optax.adam(3e-3)
Loss = Callable[..., Array]
LOSSES: dict[str, Loss] = {
    "cross-entropy": lossjax.softmax_cross_entropy_with_integer_labels,
    "smoothing 0.4": partial(lossjax.softmax_cross_entropy_with_integer_labels, label_smoothing=0.4),
    "generalized q = 0.7": partial(lossjax.generalized_cross_entropy, q=0.7),
    "focal γ = 2": partial(lossjax.softmax_focal_loss, gamma=2.0),
}


def data(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Training images, the labels they are said to have; test images, their true labels."""
    pixels, digits = (np.asarray(array) for array in load_digits(return_X_y=True))
    shuffle = random.permutation(len(digits))
    images, labels = (pixels[shuffle] / 16).astype(np.float32), digits[shuffle].astype(np.int32)
    (tested, images), (true, labels) = (np.split(array, [len(shuffle) // 5]) for array in (images, labels))
    wrong = random.random(len(labels)) < WRONG
    noisy = np.where(wrong, (labels + random.integers(1, CLASSES, len(labels))) % CLASSES, labels)
    return images, np.where(random.random(len(labels)) < MISSING, -1, noisy), tested, true


def batches(*arrays: np.ndarray) -> list[Any]:
    """Rows in batches of one size, and which rows are real."""
    count = len(arrays[0])
    filled = [np.pad(a, ((0, -count % BATCH), *[(0, 0)] * (a.ndim - 1))) for a in (*arrays, np.ones(count, bool))]
    return list(zip(*(a.reshape(-1, BATCH, *a.shape[1:]) for a in filled), strict=True))


def network(parameters: Any, images: Any) -> Array:
    return jax.nn.relu(images @ parameters["hidden"]) @ parameters["output"]


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def training_step(loss: Loss, state: Any, images: Any, labels: Any, real: Any) -> tuple[Any, Array]:
    parameters, optimizer_state = state

    def mean_loss(parameters: Any) -> Array:
        return loss(network(parameters, images), labels, where=real, ignore_index=-1, reduction="mean")

    value, gradient = jax.value_and_grad(mean_loss)(parameters)
    with jax.numpy_dtype_promotion("standard"):  # Adam's bias correction in optax mixes dtypes
        updates, optimizer_state = optimizer.update(gradient, optimizer_state)
    return (optax.apply_updates(parameters, updates), optimizer_state), value


def padding_is_hidden(loss: Loss, logits: Any, labels: Any, real: Any) -> bool:
    """Whether NaN in the padding's logits and no class for its label leave value and gradient as they are."""

    def of(logits: Array, labels: Array) -> Array:
        return loss(logits, labels, where=real, ignore_index=-1, reduction="mean")

    compiled = jax.jit(jax.value_and_grad(of))
    clean = compiled(logits, labels)
    return all(map(np.array_equal, clean, compiled(jnp.where(real[:, None], logits, jnp.nan), labels + 99 * ~real)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Losses under label noise, missing labels, and padding.")
    parser.add_argument("--epochs", type=int, default=120, metavar="N")
    epochs, console, random = parser.parse_args().epochs, Console(highlight=False), np.random.default_rng(0)
    *rows, tested, true = data(random)
    first = {"hidden": random.normal(size=(64, HIDDEN)) / 6, "output": random.normal(size=(HIDDEN, CLASSES)) / 12}
    result = table(f"{WRONG:.0%} of the labels wrong, {MISSING:.0%} missing", "loss", "test accuracy", "padding hidden")
    hidden = []
    with progress_with_loss(console) as progress:
        for name, loss in LOSSES.items():
            parameters = jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), first)
            state, task = (parameters, optimizer.init(parameters)), progress.add_task(name, total=epochs, loss=np.nan)
            for _ in range(epochs):
                for batch in batches(*rows):
                    state, value = training_step(loss, state, *batch)
                    progress.update(task, loss=float(value))
                progress.update(task, advance=1)
            accuracy = np.mean(np.argmax(network(state[0], tested), axis=-1) == true)
            images, labels, real = batches(*rows)[-1]
            hidden.append(padding_is_hidden(loss, network(state[0], images), labels, real))
            result.add_row(name, f"{accuracy:.4f}", "yes" if hidden[-1] else "no")
    console.print(result)
    if not all(hidden):
        sys.exit("a masked row reaches the loss")


if __name__ == "__main__":
    main()
