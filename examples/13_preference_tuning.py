"""Teach a small language model a preference (DPO), from its hidden states.

The model has learned bytes of Python's standard library, half of them in capitals. Of two answers, the preferred one is
the text as it was written, the other is the same in capitals. `lossjax.linear_token_log_probs` takes the hidden states
and the head, and gives the tokens' log-probabilities without logits in memory; `lossjax.policy.sequence_log_probs`
adds them up to answers, and `lossjax.preference.dpo_loss` compares the answers with those of the model before.

    python examples/13_preference_tuning.py

Needs `pip install ".[examples]"` in a clone of lossjax; takes about half a minute on a laptop.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _bytes import CONTEXT, HIDDEN, hidden, initial_parameters, sources
from _heads import CLASSES, ROWS, WIDTH, report_memory, shape
from _training import progress_with_loss, training_step
from jax import Array
from rich.console import Console

import lossjax
from lossjax.policy import sequence_log_probs
from lossjax.preference import dpo_loss

LENGTH, BETA = 8, 0.1


def states(parameters: Any, windows: Array) -> tuple[Array, Array]:
    """Hidden states ``[B, LENGTH, HIDDEN]`` of windows of CONTEXT + LENGTH bytes, and the bytes to come."""
    places = np.arange(LENGTH)[:, None] + np.arange(CONTEXT)
    contexts = windows[:, places].reshape(-1, CONTEXT)
    return hidden(parameters, contexts).reshape(len(windows), LENGTH, HIDDEN), windows[:, CONTEXT:].astype(jnp.int32)


def pretraining(parameters: Any, windows: Array) -> Array:
    x, tokens = states(parameters, windows)
    return lossjax.linear_softmax_cross_entropy(x, parameters["head"], tokens, reduction="mean")


def answers(parameters: Any, windows: Array) -> Array:
    x, tokens = states(parameters, windows)
    return sequence_log_probs(lossjax.linear_token_log_probs(x, parameters["head"], tokens))


def preference(parameters: Any, chosen: Array, rejected: Array, *reference: Array) -> Array:
    return dpo_loss(answers(parameters, chosen), answers(parameters, rejected), *reference, beta=BETA, reduction="mean")


def main() -> None:
    parser = argparse.ArgumentParser(description="Direct preference optimisation from hidden states.")
    parser.add_argument("--steps", type=int, default=150, metavar="N")
    steps, console, random = parser.parse_args().steps, Console(highlight=False), np.random.default_rng(0)

    text = np.frombuffer(sources(2**19), np.uint8)
    written = np.lib.stride_tricks.sliding_window_view(text, CONTEXT + LENGTH)
    capitals = written.copy()
    answer = capitals[:, CONTEXT:]
    answer[(answer >= ord("a")) & (answer <= ord("z"))] -= 32
    pairs = np.flatnonzero(np.any(written != capitals, axis=1))
    test = pairs[-2048:]

    def drawn(count: int) -> np.ndarray:
        return random.choice(pairs[: len(pairs) * 9 // 10], count)

    with progress_with_loss(console) as progress:

        def fit(name: str, loss: Any, parameters: Any, rate: float, batch: Any) -> Any:
            optimizer = optax.adam(rate)
            step, state = training_step(loss, optimizer), (parameters, optimizer.init(parameters))
            task = progress.add_task(name, total=steps, loss=np.nan)
            for _ in range(steps):
                state, value = step(state, *batch())
                progress.update(task, advance=1, loss=float(value))
            return state[0]

        def either() -> tuple[np.ndarray]:
            chosen = drawn(256)
            return (np.where(random.random((256, 1)) < 0.5, written[chosen], capitals[chosen]),)

        before = fit("pretraining", pretraining, jax.tree.map(jnp.asarray, initial_parameters()), 3e-3, either)
        kept, score = jax.tree.map(jnp.copy, before), jax.jit(answers)

        def pair() -> tuple[Any, ...]:
            of = drawn(128)
            return written[of], capitals[of], score(kept, written[of]), score(kept, capitals[of])

        after = fit("preference tuning", preference, before, 1e-3, pair)

    for name, parameters in (("before", kept), ("after", after)):
        preferred = float(jnp.mean(score(parameters, written[test]) > score(parameters, capitals[test])))
        console.print(f"{name}: the text as written is the more likely one in {preferred:.3f} of test pairs")
    sure, even = jnp.float32(-1100), jnp.float32(0)
    ours, usual = float(dpo_loss(sure, even, even, even)), float(-jnp.log(jax.nn.sigmoid(BETA * sure)))
    console.print(f"an answer that is e^1100 too unlikely: {ours:.1f}; by log(sigmoid(x)): {usual:.1f}\n")
    tokens = jnp.zeros(ROWS, jnp.int32)
    forms = {
        "stored": lambda x, w: jnp.sum(jnp.sin(lossjax.token_log_probs(x @ w, tokens))),
        "never stored": lambda x, w: jnp.sum(jnp.sin(lossjax.linear_token_log_probs(x, w, tokens))),
    }
    report_memory(console, forms, shape(ROWS, WIDTH), shape(WIDTH, CLASSES))


if __name__ == "__main__":
    main()
