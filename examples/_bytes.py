"""Shared by the examples of language models: text that every Python brings along, and a small model of its bytes."""

import sys
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

BYTES, CONTEXT, EMBEDDING, HIDDEN = 256, 8, 16, 128


class Rows(NamedTuple):
    """Some bytes of text and the byte that follows them, many times."""

    contexts: np.ndarray
    labels: np.ndarray


def sources(most: int) -> bytes:
    """The standard library's own modules, one after the other, up to so many bytes."""
    folder = Path(sysconfig.get_path("stdlib"))
    text = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))[:most]
    return text if len(text) > 10_000 else sys.exit(f"{folder} has no sources to learn from")


def train_and_test(most: int = 2**20, tested: int = 4096) -> tuple[Rows, Rows]:
    """All places of the first nine tenths of the text; some of the rest, which no step sees."""
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(sources(most), np.uint8), CONTEXT + 1)
    first, rest = np.split(windows, [len(windows) * 9 // 10])
    chosen = rest[np.linspace(CONTEXT + 1, len(rest) - 1, tested).astype(int)]
    train, test = (Rows(part[:, :-1], part[:, -1].astype(np.int32)) for part in (first, chosen))
    return train, test


def initial_parameters() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"embedding": (BYTES, EMBEDDING), "mix": (CONTEXT * EMBEDDING, HIDDEN), "head": (HIDDEN, BYTES)}
    # First predictions are near uniform: 8 bits a byte.
    scales = {"embedding": 1, "mix": (CONTEXT * EMBEDDING) ** -0.5, "head": HIDDEN**-0.5 / 8}
    drawn = {name: (random.normal(size=shape) * scales[name]).astype(np.float32) for name, shape in shapes.items()}
    return {**drawn, "bias": np.zeros(HIDDEN, np.float32)}


def hidden(parameters: Any, contexts: Array) -> Array:
    """What the head sees of each context."""
    embedded = jnp.take(parameters["embedding"], contexts.astype(int), axis=0, mode="clip")
    return jax.nn.gelu(embedded.reshape(len(contexts), -1) @ parameters["mix"] + parameters["bias"][None])
