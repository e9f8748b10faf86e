"""Shared by the examples: steps of an optimizer, and the progress bar that shows the loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


def progress_with_loss(console: Console) -> Progress:
    """A progress bar whose tasks have the field ``loss``."""
    loss = TextColumn("loss {task.fields[loss]:.4f}")
    return Progress(TextColumn("{task.description:20}"), BarColumn(), loss, TimeElapsedColumn(), console=console)


def training_step(loss: Callable[..., Array], optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """``(state, *rows) -> (state, loss)``, compiled; the state is written over."""

    def step(state: Any, *rows: Any) -> tuple[Any, Array]:
        parameters, optimizer_state = state
        value, gradient = jax.value_and_grad(loss)(parameters, *rows)
        # Adam's bias correction in optax mixes dtypes; the rest of this program runs under strict promotion too.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = optimizer.update(gradient, optimizer_state, parameters)
        return (optax.apply_updates(parameters, updates), optimizer_state), value

    return jax.jit(step, donate_argnums=0)


def minimise(
    progress: Progress, name: str, loss: Callable[..., Array], *parameters: Array, steps: int = 200
) -> tuple[Array, ...]:
    """Minimise ``loss(*parameters)`` by L-BFGS, each step one compiled program."""
    optimizer, objective = optax.lbfgs(), lambda parameters: loss(*parameters)

    @jax.jit
    def step(parameters: tuple[Array, ...], state: Any) -> tuple[Any, Any, Any]:
        # The line search inside optax mixes dtypes; the rest of this program runs under strict promotion too.
        with jax.numpy_dtype_promotion("standard"):
            value, slope = optax.value_and_grad_from_state(objective)(parameters, state=state)
            updates, state = optimizer.update(slope, state, parameters, value=value, grad=slope, value_fn=objective)
            return optax.apply_updates(parameters, updates), state, value

    # optax starts some of its state weakly typed; typed firmly, every step fits the one compiled program.
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), optimizer.init(parameters))
    task = progress.add_task(name, total=steps, loss=np.nan)
    for _ in range(steps):
        parameters, state, value = step(parameters, state)
        progress.update(task, advance=1, loss=float(value))
    return parameters
