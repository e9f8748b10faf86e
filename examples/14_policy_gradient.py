"""Reinforcement learning with groups of answers (GRPO): a policy learns to count, kept near where it started.

Each prompt is a number; the answer is rewarded for every token that counts on from it. Of a group of answers to one
prompt, what is better than the group's mean is made likelier: `lossjax.policy.clipped_loss` of the tokens'
log-probabilities, plus the divergence from the first policy by `lossjax.policy.sampled_kl` (k3). The log-probabilities
come from hidden states, by `lossjax.linear_token_log_probs`.

    python examples/14_policy_gradient.py
    python examples/14_policy_gradient.py --figure learning_policy.png    # draws what is learned, too

Needs `pip install ".[examples]"` in a clone of lossjax; takes about half a minute on a laptop.
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
from lossjax.policy import clipped_loss, sampled_kl

TOKENS, LENGTH, WIDE, PROMPTS, GROUP, BETA = 16, 4, 64, 16, 32, 0.01


def hidden(parameters: Any, before: Array, place: Array) -> Array:
    """The state before a token, from the one before it and the place in the answer."""
    return jnp.tanh(jnp.take(parameters["tokens"], before, axis=0) + jnp.take(parameters["places"], place, axis=0))


@jax.jit
def answered(parameters: Any, prompts: Array, key: Array) -> Array:
    """Prompts and answers ``[N, 1 + LENGTH]``, drawn token by token."""
    found = [prompts]
    for place in range(LENGTH):
        logits = hidden(parameters, found[-1], jnp.full_like(prompts, place)) @ parameters["head"]
        found.append(jax.random.categorical(jax.random.fold_in(key, place), logits).astype(jnp.int32))
    return jnp.stack(found, axis=1)


@jax.jit
def log_probs(parameters: Any, texts: Array) -> Array:
    places = jnp.broadcast_to(jnp.arange(LENGTH), (len(texts), LENGTH))
    x = hidden(parameters, texts[:, :-1], places)
    return lossjax.linear_token_log_probs(x, parameters["head"], texts[:, 1:])


def rewards(texts: Array) -> Array:
    """The share of tokens that are one more than the one before."""
    return jnp.mean((texts[:, 1:] == (texts[:, :-1] + 1) % TOKENS).astype(jnp.float32), axis=1)


def loss(parameters: Any, texts: Array, old: Array, reference: Array, advantages: Array) -> Array:
    now = log_probs(parameters, texts)
    kept = sampled_kl(now, reference, kind="k3", reduction="mean")
    return clipped_loss(now, old, advantages[:, None], clip=(0.2, 0.28), reduction="mean") + BETA * kept


def main() -> None:
    parser = argparse.ArgumentParser(description="A policy gradient with groups of answers.")
    parser.add_argument("--steps", type=int, default=60, metavar="N")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the curves of learning into this file")
    options, console, random = parser.parse_args(), Console(highlight=False), np.random.default_rng(0)
    shapes = {"tokens": (TOKENS, WIDE), "places": (LENGTH, WIDE), "head": (WIDE, TOKENS)}
    policy = {name: jnp.asarray(random.normal(size=s) * s[1] ** -0.5, jnp.float32) for name, s in shapes.items()}
    first, optimizer = jax.tree.map(jnp.copy, policy), optax.adam(1e-2)
    step, state = training_step(loss, optimizer), (policy, optimizer.init(policy))
    prompts = jnp.repeat(jnp.arange(PROMPTS, dtype=jnp.int32), GROUP)

    result, value = table("Learning", "step", "mean reward", "k3 from the first policy"), jnp.nan
    curves: dict[str, list[tuple[int, float]]] = {"reward": [], "k3": []}
    with progress_with_loss(console) as progress:
        task = progress.add_task("policy gradient", total=options.steps, loss=np.nan)
        for n in range(options.steps + 1):
            texts = answered(state[0], prompts, jax.random.key(n))
            old, reference, gained = log_probs(state[0], texts), log_probs(first, texts), rewards(texts)
            groups = gained.reshape(PROMPTS, GROUP)
            better = groups - jnp.mean(groups, axis=1, keepdims=True)
            advantages = (better / (jnp.std(groups, axis=1, keepdims=True) + 1e-6)).reshape(-1)
            curves["reward"].append((n, float(jnp.mean(gained))))
            curves["k3"].append((n, float(sampled_kl(old, reference, kind="k3", reduction="mean"))))
            if n % max(options.steps // 5, 1) == 0:
                result.add_row(str(n), *(f"{points[-1][1]:.3f}" for points in curves.values()))
            for _ in range(2):  # the second time the ratio is not 1
                state, value = step(state, texts, old, reference, advantages)
            progress.update(task, advance=1, loss=float(value))
    console.print(result)
    if options.figure:
        titles = {"reward": "Mean reward of an answer", "k3": "k3 from the first policy, nats"}
        draw([Panel(title, {name: curves[name]}) for name, title in titles.items()], options.figure)

    near, zero = jnp.float32(1e-4), jnp.float32(0)
    ours, usual = float(sampled_kl(zero, near)), float(jnp.exp(near) - near - 1)
    console.print(f"k3 at a distance of 1e-4: {ours:.3e}; by exp(x) - x - 1: {usual:.3e}\n")
    tokens = jnp.zeros(ROWS, jnp.int32)
    forms = {
        "stored": lambda x, w: jnp.sum(sampled_kl(lossjax.token_log_probs(x @ w, tokens), jnp.zeros(ROWS))),
        "never stored": lambda x, w: jnp.sum(sampled_kl(lossjax.linear_token_log_probs(x, w, tokens), jnp.zeros(ROWS))),
    }
    report_memory(console, forms, shape(ROWS, WIDTH), shape(WIDTH, CLASSES))


if __name__ == "__main__":
    main()
