"""Train in 16 bits: bfloat16 as it is, float16 with a loss scale.

Weights are kept in float32, the network computes in 16 bits, and the loss of 16-bit logits is in float32. The gradient
goes back in 16 bits: where the network is sure, p - e over the number of rows is below float16's smallest number, 6e-8,
and becomes 0. A loss scale lifts it: a power of two, which costs no digit, doubled now and then and halved when a
gradient overflows (that step is left out). bfloat16 has the exponents of float32 and needs none. (On digits as easy as
these the accuracy does not suffer: the examples whose gradient is lost are learned already.)

    python examples/12_mixed_precision.py

Needs `pip install ".[examples]"` in a clone of lossjax; takes about ten seconds on a laptop.
"""

import argparse
from functools import partial
from typing import Any, NamedTuple

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

HIDDEN, CLASSES, PATIENCE = 128, 10, 50
RUNS = {"float32": False, "bfloat16": False, "float16": False, "float16, scaled": True}
optimizer = optax.adam(1e-2)

pixels, digits = (np.asarray(array) for array in load_digits(return_X_y=True))
shuffle = np.random.default_rng(0).permutation(len(digits))
images, labels = jnp.asarray(pixels[shuffle] / 16, jnp.float32), jnp.asarray(digits[shuffle], jnp.int32)
test, train = slice(0, len(labels) // 5), slice(len(labels) // 5, None)


class State(NamedTuple):
    """What a step needs of the one before; weights in float32."""

    parameters: Any
    optimizer: Any
    scale: Array
    good_steps: Array


def network(parameters: Any, images: Array, dtype: Any) -> Array:
    """Logits in 16 bits."""
    first, second, x = (array.astype(dtype) for array in (parameters["hidden"], parameters["output"], images))
    return jax.nn.relu(x @ first) @ second


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def training_step(dtype: str, scaled: bool, state: State) -> tuple[State, Array]:
    def scaled_loss(parameters: Any) -> Array:
        logits = network(parameters, images[train], dtype)
        return state.scale * lossjax.softmax_cross_entropy_with_integer_labels(logits, labels[train], reduction="mean")

    value, gradient = jax.value_and_grad(scaled_loss)(state.parameters)
    gradient = jax.tree.map(lambda g: g / state.scale, gradient)
    with jax.numpy_dtype_promotion("standard"):  # Adam's bias correction in optax mixes dtypes
        updates, optimizer_state = optimizer.update(gradient, state.optimizer)
    updated = optax.apply_updates(state.parameters, updates), optimizer_state
    finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradient)]))
    parameters, optimizer_state = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old), updated, (state.parameters, state.optimizer)
    )
    good_steps = jnp.where(finite, state.good_steps + 1, 0)
    factor = jnp.where(finite, jnp.where(good_steps % PATIENCE == 0, 2.0, 1.0), 0.5)
    scale = jnp.where(scaled, state.scale * factor, state.scale)
    return State(parameters, optimizer_state, scale, good_steps), value / state.scale


@partial(jax.jit, static_argnums=0)
def judged(dtype: str, state: State) -> tuple[Array, Array]:
    """(test accuracy, the share of labels whose gradient in the logits is 0 where float32 would have one)."""

    def at_label(logits: Array, scale: Any) -> Array:
        def loss(logits: Array) -> Array:
            return scale * lossjax.softmax_cross_entropy_with_integer_labels(logits, labels[train], reduction="mean")

        return jnp.take_along_axis(jax.grad(loss)(logits), labels[train][:, None], axis=-1)

    logits, tested = (network(state.parameters, images[part], dtype) for part in (train, test))
    lost = (at_label(logits, state.scale) == 0) & (at_label(logits.astype("float32"), jnp.float32(1)) != 0)
    return lossjax.accuracy(tested, labels[test], reduction="mean"), jnp.mean(lost)


def main() -> None:
    parser = argparse.ArgumentParser(description="Mixed precision on digits.")
    parser.add_argument("--steps", type=int, default=500, metavar="N")
    steps, console, random = parser.parse_args().steps, Console(highlight=False), np.random.default_rng(1)
    first = {"hidden": random.normal(size=(64, HIDDEN)) / 6, "output": random.normal(size=(HIDDEN, CLASSES)) / 12}
    result = table("Digits", "computed in", "scale", "test accuracy", "loss", "label gradients lost")
    with progress_with_loss(console) as progress:
        for name, scaled in RUNS.items():
            dtype, parameters = name.split(",")[0], jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), first)
            scale = jnp.float32(2.0**30 if scaled else 1)  # too large at first: it comes down by itself
            state, value = State(parameters, optimizer.init(parameters), scale, jnp.int32(0)), jnp.inf
            task = progress.add_task(name, total=steps, loss=np.nan)
            for _ in range(steps):
                state, value = training_step(dtype, scaled, state)
                progress.update(task, advance=1, loss=float(value))
            accuracy, lost = map(float, judged(dtype, state))
            scale = f"2^{np.log2(float(state.scale)):.0f}"
            result.add_row(name, scale, f"{accuracy:.4f}", f"{float(value):.1e}", f"{lost:.1%}")
    console.print(result)


if __name__ == "__main__":
    main()
