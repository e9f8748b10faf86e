"""Distil a head of many classes into one of fewer units: forward, reverse, and by the teacher's ten likeliest classes.

Neither head's logits are stored: `lossjax.linear_softmax_kl_divergence` takes hidden states and weights of both. With
the teacher first it is the forward divergence, which covers all that the teacher does; with the student first the
reverse one, which leaves out what it cannot do. `lossjax.linear_softmax_cross_entropy_with_sparse_targets` needs no
teacher at all any more, but its ten likeliest classes of each row, and one bin for the rest (`tail=True`).

    python examples/15_head_distillation.py
    python examples/15_head_distillation.py --figure learning_distillation.png    # draws what is learned, too

Needs `pip install ".[examples]"` in a clone of lossjax; takes about a minute on a laptop.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _accuracy import table
from _heads import CLASSES, ROWS, WIDTH, report_memory, shape
from _learning import Panel, draw
from _training import progress_with_loss, training_step
from jax import Array
from rich.console import Console

import lossjax
from lossjax import linear_softmax_cross_entropy_with_sparse_targets as sparse_cross_entropy
from lossjax import linear_softmax_kl_divergence as divergence

TEACHER, STUDENT, INPUTS, TOP = 32, 12, 16, 10


def main() -> None:
    parser = argparse.ArgumentParser(description="A large head into a small one.")
    parser.add_argument("--classes", type=int, default=8192, metavar="C")
    parser.add_argument("--steps", type=int, default=200, metavar="N")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the curves of learning into this file")
    options, console, random = parser.parse_args(), Console(highlight=False), np.random.default_rng(0)

    def drawn(*sizes: int) -> Array:
        return jnp.asarray(random.normal(size=sizes) * sizes[0] ** -0.5, jnp.float32)

    inputs, body = 32 * drawn(1024, INPUTS), drawn(INPUTS, TEACHER)
    head = 4 * drawn(TEACHER, options.classes)
    taught = jnp.tanh(inputs @ body)
    in_blocks = [taught[start : start + 128] @ head for start in range(0, len(inputs), 128)]
    log_p, top = (
        jnp.concatenate(x) for x in zip(*(jax.lax.top_k(lossjax.log_softmax(z), TOP) for z in in_blocks), strict=True)
    )
    listed = jnp.exp(log_p)

    def student(parameters: Any, x: Array) -> tuple[Array, Array]:
        return jnp.tanh(x @ parameters["body"]), parameters["head"]

    def forward(parameters: Any, x: Array, h: Array, *_: Array) -> Array:
        return divergence(h, head, *student(parameters, x), reduction="mean")

    def reverse(parameters: Any, x: Array, h: Array, *_: Array) -> Array:
        return divergence(*student(parameters, x), h, head, reduction="mean")

    def by_top(parameters: Any, x: Array, _: Array, classes: Array, probabilities: Array) -> Array:
        return sparse_cross_entropy(*student(parameters, x), classes, probabilities, tail=True, reduction="mean")

    result = table("Divergence of teacher and student, nats", "by", "at first", "forward", "reverse")
    rows = (inputs, taught, top, listed)
    measured = {"forward": jax.jit(forward), "reverse": jax.jit(reverse)}
    learned: dict[str, dict[str, list[tuple[int, float]]]] = {way: {} for way in measured}

    def look(name: str, step: int, parameters: Any) -> None:
        for way, curves in learned.items():
            curves.setdefault(name, []).append((step, float(measured[way](parameters, *rows))))

    with progress_with_loss(console) as progress:
        for name, loss in (("forward", forward), ("reverse", reverse), (f"top {TOP}", by_top)):
            parameters = {"body": drawn(INPUTS, STUDENT), "head": drawn(STUDENT, options.classes)}
            optimizer = optax.adam(1e-2)
            step, state = training_step(loss, optimizer), (parameters, optimizer.init(parameters))
            task = progress.add_task(name, total=options.steps, loss=np.nan)
            for n in range(options.steps):
                if n % max(options.steps // 10, 1) == 0:
                    look(name, n, state[0])
                chosen = random.integers(len(inputs), size=256)
                state, value = step(state, *(array[chosen] for array in rows))
                progress.update(task, advance=1, loss=float(value))
            look(name, options.steps, state[0])
            at_first, ended = learned["forward"][name][0], (curves[name][-1] for curves in learned.values())
            result.add_row(name, *(f"{value:.3f}" for _, value in (at_first, *ended)))
    console.print(result)
    if options.figure:
        draw([Panel(f"The {way} divergence, nats", curves, "log") for way, curves in learned.items()], options.figure)

    x, near = taught[:64], head * (1 + 2.0**-12)
    z, w = jax.nn.log_softmax(x @ head), jax.nn.log_softmax(x @ near)
    usual = int(np.sum(jnp.sum(jnp.exp(z) * (z - w), axis=-1) <= 0))
    lowest = float(jnp.min(divergence(x, head, x, near)))
    console.print(f"a student that is nearly there: lossjax at least {lowest:.1e},")
    console.print(f"the sum of p (log p - log q) is not positive in {usual} of 64 rows\n")
    forms = {
        "stored": lambda x, w, y, v: jnp.mean(lossjax.softmax_kl_divergence(y @ v, x @ w)),
        "never stored": lambda x, w, y, v: divergence(y, v, x, w, reduction="mean"),
    }
    report_memory(console, forms, *(shape(ROWS, WIDTH), shape(WIDTH, CLASSES)) * 2)


if __name__ == "__main__":
    main()
