"""Shared by the examples of post-training: the memory of a step of a head, without and with stored logits."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _accuracy import table
from rich.console import Console

ROWS, WIDTH, CLASSES = 2048, 64, 32768


def shape(*sizes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """An array of which only the shape is known: enough to compile for."""
    return jax.ShapeDtypeStruct(sizes, dtype)


def report_memory(console: Console, forms: Mapping[str, Callable[..., Any]], *arguments: Any) -> None:
    """What value and gradient of the same loss take beside their arguments, as compiled; nothing is run."""
    taken = {}
    for name, loss in forms.items():
        differentiated = jax.value_and_grad(loss, (0, 1))
        analysis = jax.jit(differentiated).lower(*arguments).compile().memory_analysis()
        taken[name] = np.nan if analysis is None else analysis.temp_size_in_bytes / 1e6
    result = table(f"{ROWS} rows, {CLASSES} classes", "logits", "temporary, MB")
    for name, size in taken.items():
        result.add_row(name, f"{size:.0f}")
    console.print(result)
    if not taken["never stored"] < taken["stored"] / 2:
        sys.exit("lossjax breaks its promise: a head takes as much memory as stored logits")
