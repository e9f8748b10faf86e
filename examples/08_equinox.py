"""Train an equinox network to tell malignant tumours from benign ones, and fit how sure it may be.

`lossjax.sigmoid_cross_entropy` of one logit a patient, from 30 measurements of scikit-learn's breast cancer data. Its
mean, in nats, judges the probabilities as accuracy judges the decisions. A network that has fitted its patients is too
sure of others: the temperature that divides its logits is then fitted by the same loss, on patients held back for it.

    python examples/08_equinox.py

Needs `pip install ".[examples]"` in a clone of lossjax; takes a few seconds.
"""

import argparse
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _accuracy import table
from _training import progress_with_loss
from jax import Array
from rich.console import Console
from sklearn.datasets import load_breast_cancer

import lossjax

measurements, benign = (np.asarray(array) for array in load_breast_cancer(return_X_y=True))
inputs = ((measurements - measurements.mean(axis=0)) / measurements.std(axis=0)).astype(np.float32)
malignant = (1 - benign).astype(np.float32)
train, held, test = np.split(
    np.random.default_rng(0).permutation(len(inputs)), [len(inputs) // 3, len(inputs) * 2 // 3]
)
optimizer = optax.adam(3e-3)


def logits_of(network: Any, inputs: Any) -> Array:
    return jax.vmap(network)(inputs)


def mean_loss(network: Any, inputs: Any, targets: Any) -> Array:
    return lossjax.sigmoid_cross_entropy(logits_of(network, inputs), targets, reduction="mean")


@eqx.filter_jit
def training_step(network: Any, state: Any, inputs: Any, targets: Any) -> tuple[Any, Any, Array]:
    loss, gradient = eqx.filter_value_and_grad(mean_loss)(network, inputs, targets)
    # Adam's bias correction in optax mixes dtypes; the rest of this program runs under strict promotion too.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimizer.update(gradient, state)
    return eqx.apply_updates(network, updates), state, loss


def best_temperature(logits: Array, targets: Any) -> float:
    """By Newton's method in log T: the loss is a function like any other, and has a second derivative."""

    def loss(log_temperature: Array) -> Array:
        return lossjax.sigmoid_cross_entropy(logits / jnp.exp(log_temperature), targets, reduction="mean")

    def step(_: Any, at: Array) -> Array:
        return at - jnp.clip(jax.grad(loss)(at) / abs(jax.grad(jax.grad(loss))(at)), -0.5, 0.5)

    return float(jnp.exp(jax.jit(lambda: jax.lax.fori_loop(0, 50, step, jnp.zeros(())))()))


def main() -> None:
    parser = argparse.ArgumentParser(description="An equinox network on the breast cancer data.")
    parser.add_argument("--steps", type=int, default=400, metavar="N")
    steps = parser.parse_args().steps
    console = Console(highlight=False)
    network = eqx.nn.MLP(inputs.shape[1], "scalar", width_size=64, depth=2, key=jax.random.key(0))
    state = optimizer.init(eqx.filter(network, eqx.is_array))
    with progress_with_loss(console) as progress:
        task = progress.add_task("training", total=steps, loss=np.nan)
        for _ in range(steps):
            network, state, loss = training_step(network, state, inputs[train], malignant[train])
            progress.update(task, advance=1, loss=float(loss))

    compiled = eqx.filter_jit(logits_of)
    temperature = best_temperature(compiled(network, inputs[held]), malignant[held])
    logits = compiled(network, inputs[test])
    result = table(f"{len(test)} patients not trained on", "probabilities", "accuracy", "loss, nats", "the worst")
    for name, z in (("as trained", logits), (f"temperature {temperature:.2f}", logits / temperature)):
        losses = lossjax.sigmoid_cross_entropy(z, malignant[test])
        accuracy = np.mean((np.asarray(z) > 0) == (malignant[test] > 0))
        result.add_row(name, f"{accuracy:.4f}", f"{np.mean(losses):.4f}", f"{np.max(losses):.4f}")
    console.print(result)


if __name__ == "__main__":
    main()
