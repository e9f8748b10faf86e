"""Train a flax NNX network on handwritten digits, some classes counting more than others.

Of the digits 5 to 9 only a tenth is kept for training. Class weights that make up for it enter the loss, and its mean
divides by their sum; flax sees an ordinary function. The gain comes early: with ten times as many steps the network
fits every training image under either weighting, and little of it is left.

    python examples/07_flax_nnx.py

Needs `pip install ".[examples]"` in a clone of lossjax; takes a few seconds.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _accuracy import table
from _training import progress_with_loss
from flax import nnx
from jax import Array
from jax.typing import ArrayLike
from rich.console import Console
from sklearn.datasets import load_digits

import lossjax

CLASSES, HIDDEN, BATCH = 10, 64, 128

pixels, digits = (np.asarray(array) for array in load_digits(return_X_y=True))
images, labels = (pixels / 16).astype(np.float32), digits.astype(np.int32)
shuffle = np.random.default_rng(0).permutation(len(labels))
test, rest = np.split(shuffle, [len(labels) // 5])
train = rest[(labels[rest] < 5) | (np.arange(len(rest)) % 10 == 0)]


class Network(nnx.Module):
    """Two layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(images.shape[1], HIDDEN, rngs=rngs)
        self.output = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, images: ArrayLike) -> Array:
        """Logits."""
        return self.output(nnx.relu(self.hidden(jnp.asarray(images))))


@nnx.jit
def training_step(
    network: Network, optimizer: nnx.Optimizer, images: ArrayLike, labels: ArrayLike, weights: ArrayLike
) -> Array:
    def mean_loss(network: Network) -> Array:
        return lossjax.softmax_cross_entropy_with_integer_labels(
            network(images), labels, class_weights=weights, reduction="mean"
        )

    loss, gradient = nnx.value_and_grad(mean_loss)(network)
    # Adam's bias correction in optax mixes dtypes; the rest of this program runs under strict promotion too.
    with jax.numpy_dtype_promotion("standard"):
        optimizer.update(network, gradient)
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description="A flax NNX network on digits, with class weights.")
    parser.add_argument("--steps", type=int, default=100, metavar="N")
    steps = parser.parse_args().steps
    console, counts = Console(highlight=False), np.bincount(labels[train], minlength=CLASSES)
    weightings = {"all alike": np.ones(CLASSES, np.float32), "by rarity": np.float32(counts.mean() / counts)}
    result = table("Accuracy on test images", "class weights", "digits 0 to 4", "digits 5 to 9", "all")
    with progress_with_loss(console) as progress:
        for name, weights in weightings.items():
            network, random = Network(nnx.Rngs(0)), np.random.default_rng(0)
            optimizer = nnx.Optimizer(network, optax.adam(3e-3), wrt=nnx.Param)
            task = progress.add_task(name, total=steps, loss=np.nan)
            for _ in range(steps):
                batch = random.choice(train, BATCH)
                loss = training_step(network, optimizer, images[batch], labels[batch], weights)
                progress.update(task, advance=1, loss=float(loss))
            correct = np.argmax(nnx.jit(network)(images[test]), axis=-1) == labels[test]
            shares = correct[labels[test] < 5], correct[labels[test] >= 5], correct
            result.add_row(name, *(f"{np.mean(share):.4f}" for share in shares))
    console.print(result)
    console.print(f"trained on {counts[:5].sum()} images of 0 to 4 and {counts[5:].sum()} of 5 to 9")


if __name__ == "__main__":
    main()
