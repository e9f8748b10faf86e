"""Fine-tune the head of a language model with a large vocabulary, in a fraction of the memory.

The tokens are the words and signs of Python's standard library, the most frequent ones first; the vocabulary is padded
to a round number, as GPT-2's is. The body is frozen (here: fixed random features of the last four tokens), the head is
trained by `lossjax.linear_softmax_cross_entropy`, which makes the logits of a block of rows at a time and never stores
them all. The compiled programs say how much memory they take, without and with stored logits.

    python examples/11_large_vocabulary.py

Needs `pip install ".[examples]"` in a clone of lossjax; takes about a minute on a laptop.
"""

import argparse
import re
import sys
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _accuracy import table
from _bytes import sources
from _training import progress_with_loss, training_step
from jax import Array
from rich.console import Console

import lossjax

HIDDEN, CONTEXT, UNKNOWN = 64, 4, -1


def tokens(vocabulary: int) -> np.ndarray:
    """The library's words and signs as ranks of their frequency; those beyond the vocabulary are UNKNOWN."""
    words = re.findall(r"\w+|[^\w\s]|\n *", sources(2**21).decode("utf-8", "replace"))
    rank = {word: i for i, (word, _) in enumerate(Counter(words).most_common(vocabulary))}
    return np.array([rank.get(word, UNKNOWN) for word in words], np.int32)


def in_blocks(head: Array, x: Array, labels: Array) -> Array:
    return lossjax.linear_softmax_cross_entropy(x, head, labels, ignore_index=UNKNOWN, reduction="mean")


def stored(head: Array, x: Array, labels: Array) -> Array:
    return lossjax.softmax_cross_entropy_with_integer_labels(x @ head, labels, ignore_index=UNKNOWN, reduction="mean")


FORMS = {"stored": stored, "in blocks": in_blocks}


def megabytes(loss: Any, *arguments: Any) -> float:
    """What the compiled loss and gradient take beside their arguments and results."""
    analysis = jax.jit(jax.value_and_grad(loss)).lower(*arguments).compile().memory_analysis()
    return np.nan if analysis is None else analysis.temp_size_in_bytes / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="A head with a large vocabulary, fine-tuned.")
    parser.add_argument("--vocabulary", type=int, default=50304, metavar="C")
    parser.add_argument("--rows", type=int, default=1024, metavar="N", help="a step")
    parser.add_argument("--steps", type=int, default=60, metavar="N")
    options = parser.parse_args()
    console, random = Console(highlight=False), np.random.default_rng(0)

    text = tokens(options.vocabulary)
    windows = np.lib.stride_tricks.sliding_window_view(text, CONTEXT + 1)
    train, test = windows[: len(windows) * 9 // 10], windows[len(windows) * 9 // 10 :: 29][: options.rows]
    features = random.normal(size=(CONTEXT, options.vocabulary + 1, HIDDEN)).astype(np.float32) / 2

    def body(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(hidden, labels); the frozen features, UNKNOWN's last."""
        return np.sum([features[i, windows[:, i]] for i in range(CONTEXT)], axis=0), windows[:, -1]

    head = jnp.zeros((HIDDEN, options.vocabulary))
    taken = {name: megabytes(loss, head, *body(train[: options.rows])) for name, loss in FORMS.items()}
    logits = options.rows * options.vocabulary * 4 / 1e6
    result = table("Memory of a step", "logits", "temporary, MB", "in units of the logits")
    for name, size in taken.items():
        result.add_row(name, f"{size:.0f}", f"{size / logits:.1f}")
    console.print(result)
    console.print(f"logits of {options.rows} rows and {options.vocabulary} classes: {logits:.0f} MB\n")
    if not taken["in blocks"] < taken["stored"]:
        sys.exit("in blocks the head takes as much memory as with stored logits: too few rows or classes")

    optimizer = optax.adam(2e-2)
    step = training_step(in_blocks, optimizer)
    evaluate, state = jax.jit(in_blocks), (head, optimizer.init(head))
    before = float(evaluate(head, *body(test)))
    with progress_with_loss(console) as progress:
        task = progress.add_task("fine-tuning", total=options.steps, loss=before)
        for _ in range(options.steps):
            state, value = step(state, *body(train[random.integers(len(train), size=options.rows)]))
            progress.update(task, advance=1, loss=float(value))
    after = float(evaluate(state[0], *body(test)))
    console.print(f"perplexity of text not trained on: {np.exp(before):.0f} before, {np.exp(after):.0f} after")


if __name__ == "__main__":
    main()
