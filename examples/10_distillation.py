"""Distil a network into one forty times smaller, by the divergence of their logits.

The teacher has learned all training digits. The student sees the label of one image in twenty, and for all of them
what the teacher makes of it: `lossjax.softmax_kl_divergence` of the teacher's logits from the student's, both divided
by a temperature T, times T² so that gradients keep their size. Once the student agrees with the teacher the usual
Σ p (log p - log q) is below its own rounding error, and may be negative; from the logits it is not.

    python examples/10_distillation.py

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

TEMPERATURE, LABELLED = 4.0, 20
pixels, digits = (np.asarray(array) for array in load_digits(return_X_y=True))
shuffle = np.random.default_rng(0).permutation(len(digits))
images, labels = jnp.asarray(pixels[shuffle] / 16, jnp.float32), jnp.asarray(digits[shuffle], jnp.int32)
test, train = slice(0, len(labels) // 5), slice(len(labels) // 5, None)


def network(parameters: Any, images: Array) -> Array:
    return jax.nn.relu(images @ parameters["hidden"]) @ parameters["output"]


def initial(width: int) -> dict[str, Array]:
    random = np.random.default_rng(1)
    shapes = {"hidden": (64, width), "output": (width, 10)}
    return {name: jnp.asarray(random.normal(size=s) / np.sqrt(s[0]), jnp.float32) for name, s in shapes.items()}


def fitted(loss: Callable[[Any], Array], parameters: Any, steps: int, after: Callable[[float], None]) -> Any:
    """The parameters after so many steps of Adam, ten blocks of them."""
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    def step(state: Any, _: None) -> tuple[Any, Array]:
        parameters, optimizer_state = state
        value, gradient = jax.value_and_grad(loss)(parameters)
        with jax.numpy_dtype_promotion("standard"):  # Adam's bias correction in optax mixes dtypes
            updates, optimizer_state = optimizer.update(gradient, optimizer_state)
        return (optax.apply_updates(parameters, updates), optimizer_state), value

    block = jax.jit(lambda state: jax.lax.scan(step, state, length=steps // 10), donate_argnums=0)
    state = (parameters, optimizer.init(parameters))
    for _ in range(10):
        state, losses = block(state)
        after(float(losses[-1]))
    return state[0]


def usual_divergence(z: Array, w: Array) -> Array:
    log_p, log_q = jax.nn.log_softmax(z), jax.nn.log_softmax(w)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Distillation by the divergence of logits.")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="a multiple of 10, or rounded down")
    steps, console = parser.parse_args().steps, Console(highlight=False)
    cross_entropy = partial(lossjax.softmax_cross_entropy_with_integer_labels, reduction="mean")
    few = slice(train.start, None, LABELLED)

    def by_labels(parameters: Any) -> Array:
        return cross_entropy(network(parameters, images[few]), labels[few])

    with progress_with_loss(console) as progress:

        def fit(name: str, loss: Callable[[Any], Array], width: int) -> Any:
            task = progress.add_task(name, total=10, loss=np.nan)
            return fitted(loss, initial(width), steps, lambda value: progress.update(task, advance=1, loss=value))

        teacher = fit("teacher", lambda p: cross_entropy(network(p, images[train]), labels[train]), 256)
        taught = network(teacher, images)

        def by_teacher(parameters: Any) -> Array:
            z, w = taught[train] / TEMPERATURE, network(parameters, images[train]) / TEMPERATURE
            return TEMPERATURE**2 * jnp.mean(lossjax.softmax_kl_divergence(z, w)) + by_labels(parameters)

        alone, student = fit("student, alone", by_labels, 6), fit("student, taught", by_teacher, 6)
        copy = teacher | {"output": teacher["output"] * (1 + 2.0**-14)}  # a student that has learned it all

    result = table("On test images", "", "parameters", "accuracy", "KL from teacher", "usual KL < 0")
    lowest = []
    for name, parameters in (("student, alone", alone), ("student, taught", student), ("near copy", copy)):
        z, w = taught[test], network(parameters, images[test])
        divergence, negative = lossjax.softmax_kl_divergence(z, w), np.sum(usual_divergence(z, w) < 0)
        lowest.append(float(jnp.min(divergence)))
        count, accuracy = sum(array.size for array in parameters.values()), np.mean(np.argmax(w, -1) == labels[test])
        result.add_row(name, str(count), f"{accuracy:.4f}", f"{float(jnp.mean(divergence)):.1e}", f"{negative} rows")
    console.print(result)
    accuracy = np.mean(np.argmax(taught[test], -1) == labels[test])
    console.print(f"teacher {accuracy:.4f}; smallest divergence of any row, from the logits: {min(lowest):.1e}")
    if not min(lowest) >= 0:
        sys.exit("lossjax breaks its promise: a negative divergence")


if __name__ == "__main__":
    main()
