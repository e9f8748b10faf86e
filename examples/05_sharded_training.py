"""Train a language model whose rows and whose vocabulary are split over eight devices, and get what one would get.

The eight are made of this machine's processor; on a pod nothing below changes but the mesh. Rows are split four ways,
the head's weight, its gradient and its optimizer state two ways: each device has the logits of its own classes only,
and `lossjax.vocab_parallel_linear_softmax_cross_entropy` exchanges a few numbers a row (docs/scaling.md counts them).
The model predicts the next byte of Python's own standard library from the eight before it.

    python examples/05_sharded_training.py

Needs `pip install ".[examples]"` in a clone of lossjax; takes half a minute on a laptop.
"""

import argparse
import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before jax is imported

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _accuracy import report_theorems
from _bytes import hidden, initial_parameters, train_and_test
from _training import progress_with_loss, training_step
from jax import Array
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

import lossjax

ROWS = 512  # a step
SPECS = {"embedding": P(), "mix": P(), "bias": P(), "head": P(None, "vocabulary")}


def loss_on_one(parameters: dict[str, Array], contexts: Array, labels: Array) -> Array:
    x = hidden(parameters, contexts)
    return lossjax.linear_softmax_cross_entropy(x, parameters["head"], labels, reduction="mean")


def loss_of_part(parameters: dict[str, Array], contexts: Array, labels: Array) -> Array:
    """The same, as each device sees it: its rows, its classes."""
    loss = lossjax.vocab_parallel_linear_softmax_cross_entropy(
        hidden(parameters, contexts), parameters["head"], labels, axis_name="vocabulary", reduction="mean"
    )
    return jax.lax.pmean(loss, "data")


def bits(nats: Array) -> float:
    return float(nats) / np.log(2)


def main() -> None:
    parser = argparse.ArgumentParser(description="A byte-level language model on a mesh of 4 x 2 devices.")
    parser.add_argument("--steps", type=int, default=2000, metavar="N")
    steps = parser.parse_args().steps
    console = Console(highlight=False)

    mesh = jax.make_mesh((4, 2), ("data", "vocabulary"), axis_types=(AxisType.Auto,) * 2)
    sharded_loss = jax.shard_map(loss_of_part, mesh=mesh, in_specs=(SPECS, P("data"), P("data")), out_specs=P())
    by_row = NamedSharding(mesh, P("data"))
    whole = initial_parameters()
    parameters = {name: jax.device_put(whole[name], NamedSharding(mesh, spec)) for name, spec in SPECS.items()}
    train, test = train_and_test()

    value, gradient = jax.jit(jax.value_and_grad(loss_on_one))(whole, *test)
    sharded_test = jax.device_put(test, by_row)
    evaluate = jax.jit(jax.value_and_grad(sharded_loss))
    sharded_value, sharded_gradient = evaluate(parameters, *sharded_test)
    # Both add up the same numbers, one for each row, in another order.
    allowed = len(test.labels) * 2.0**-24
    differences = [("loss, sharded = loss on one device", sharded_value / value - 1, allowed)]
    for name, wanted in gradient.items():
        off = (jax.device_get(sharded_gradient[name]) - wanted) / jnp.max(abs(wanted))
        differences.append((f"gradient in {name}, of its largest entry", off, allowed))
    report_theorems(console, "Eight devices and one", differences)

    optimizer = optax.adam(optax.cosine_decay_schedule(4e-3, steps))
    step = training_step(sharded_loss, optimizer)
    state, random = (parameters, jax.jit(optimizer.init)(parameters)), np.random.default_rng(0)
    console.print("\nBits per byte of text that no step sees:")
    console.print(f"{0:6} steps {bits(sharded_value):8.3f}")
    with progress_with_loss(console) as progress:
        task = progress.add_task("training", total=steps, loss=np.nan)
        for done in range(1, steps + 1):
            chosen = random.integers(len(train.labels), size=ROWS)
            state, value = step(state, *jax.device_put((train.contexts[chosen], train.labels[chosen]), by_row))
            progress.update(task, advance=1, loss=bits(value))
            if done % max(steps // 5, 1) == 0:
                progress.console.print(f"{done:6} steps {bits(evaluate(state[0], *sharded_test)[0]):8.3f}")

    head, moment = state[0]["head"], state[1][0].mu["head"]
    held, of_moment = (list(array.addressable_shards[0].data.shape) for array in (head, moment))
    console.print(f"head {list(head.shape)}: a device holds {held} of it, {of_moment} of Adam's moments")


if __name__ == "__main__":
    main()
