"""Train over two processes that `jax.distributed` joins, as hosts of a cluster are; here both are on this machine.

The program starts itself twice. Each process has two devices, and half of the classes of the head: the softmax of every
row crosses the processes. Both must print the same losses, digit for digit, and what one process alone gets.

    python examples/06_two_processes.py

Needs `pip install ".[examples]"` in a clone of lossjax; takes about ten seconds on a laptop.
"""

import argparse
import os
import sys

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before jax is imported

import jax
import numpy as np
import optax
from _accuracy import table
from _bytes import hidden, initial_parameters, train_and_test
from _processes import free_port, together
from _training import training_step
from jax import Array
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

import lossjax

ROWS = 256  # a step
SPECS = {"embedding": P(), "mix": P(), "bias": P(), "head": P(None, "vocabulary")}


def loss_of_part(parameters: dict[str, Array], contexts: Array, labels: Array) -> Array:
    """As each device sees it: its rows, its classes."""
    loss = lossjax.vocab_parallel_linear_softmax_cross_entropy(
        hidden(parameters, contexts), parameters["head"], labels, axis_name="vocabulary", reduction="mean"
    )
    return jax.lax.pmean(loss, "data")


def train(steps: int) -> list[float]:
    """The loss at every step, over all devices of all processes: those of one process have the same classes."""
    mesh = jax.make_mesh((jax.process_count(), 2), ("vocabulary", "data"), axis_types=(AxisType.Auto,) * 2)

    def spread(array: np.ndarray, spec: P) -> Array:
        """Every process has the whole array, and gives its devices their parts of it."""
        return jax.make_array_from_callback(array.shape, NamedSharding(mesh, spec), lambda part: array[part])

    whole = initial_parameters()
    parameters = {name: spread(whole[name], spec) for name, spec in SPECS.items()}
    loss = jax.shard_map(loss_of_part, mesh=mesh, in_specs=(SPECS, P("data"), P("data")), out_specs=P())
    optimizer, (text, _), random = optax.adam(3e-3), train_and_test(), np.random.default_rng(0)
    step = training_step(loss, optimizer)
    state, losses = (parameters, jax.jit(optimizer.init)(parameters)), []
    for _ in range(steps):
        chosen = random.integers(len(text.labels), size=ROWS)
        state, value = step(state, *(spread(array[chosen], P("data")) for array in text))
        losses.append(float(value))
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description="A byte-level language model over two processes.")
    parser.add_argument("--steps", type=int, default=200, metavar="N")
    parser.add_argument("--limit", type=float, default=300, metavar="SECONDS", help="before both processes are killed")
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process is not None:
        jax.distributed.initialize(f"127.0.0.1:{options.port}", num_processes=2, process_id=options.process)
        print(*train(options.steps))
        return

    command = [sys.executable, *(f"-W{warning}" for warning in sys.warnoptions), __file__, "--steps"]
    command += [str(options.steps), "--port", str(free_port()), "--process"]
    console = Console(highlight=False)
    with console.status("two processes are training"):
        printed = together([[*command, "0"], [*command, "1"]], options.limit)
    first, second = (output.splitlines()[-1].split() for output in printed)  # what joins them prints lines above
    if first != second:
        sys.exit("the processes do not have the same losses")
    rows = table("The loss, in nats a byte", "step", "process 0", "process 1", "one alone")
    losses, alone = [float(loss) for loss in first], train(options.steps)
    for i in sorted({0, *range(options.steps // 4 - 1, options.steps, max(options.steps // 4, 1))}):
        rows.add_row(str(i + 1), f"{losses[i]:.7f}", f"{float(second[i]):.7f}", f"{alone[i]:.7f}")
    console.print(rows)
    # Before any step both add up the same numbers, one for each row, in another order; steps make more of it.
    off, allowed = abs(losses[0] / alone[0] - 1), ROWS * 2.0**-24
    console.print(f"the first loss is off by {off:.0e} from one process's, ≤ {allowed:.0e} allowed")
    if not off <= allowed:
        sys.exit("two processes do not compute the loss of one")


if __name__ == "__main__":
    main()
