"""The contenders. Each turns a problem into a function of its data that returns what the problem asks for."""

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import lossjax
from lossjax.bench import heads
from lossjax.bench.heads import HeadLoss
from lossjax.bench.losses import PAIRS, LogitLoss
from lossjax.bench.problems import Head, Problem

Step = Callable[..., Any]
"""A function from the data of a problem to (loss, gradients), or to the loss alone."""


def _jax_step(problem: Problem, loss_of_logits: Callable[[Any, Any], Any]) -> Step:
    def loss(*data: Any) -> Any:
        *floats, labels = data
        logits = jnp.matmul(*floats) if isinstance(problem, Head) else floats[0]
        return jnp.mean(loss_of_logits(logits, labels))

    return loss if problem.what == "forward" else jax.value_and_grad(loss, problem.argnums())


def _lossjax(problem: Problem) -> Step:
    if isinstance(problem, HeadLoss):
        return heads.ours(problem)
    if isinstance(problem, LogitLoss):
        return problem.step(PAIRS[problem.loss].ours)
    if not isinstance(problem, Head):
        return _jax_step(problem, lossjax.softmax_cross_entropy_with_integer_labels)

    def loss(hidden: Any, weight: Any, labels: Any) -> Any:
        return lossjax.linear_softmax_cross_entropy(hidden, weight, labels, reduction="mean")

    return jax.value_and_grad(loss, problem.argnums())


def _optax(problem: Problem) -> Step:
    if isinstance(problem, HeadLoss):
        return heads.stored(problem)
    if isinstance(problem, LogitLoss):
        return problem.step(PAIRS[problem.loss].usual)
    return _jax_step(problem, optax.softmax_cross_entropy_with_integer_labels)


def _by_hand(problem: Problem) -> Step | None:
    return heads.by_hand(problem) if isinstance(problem, HeadLoss) else None


def _jax_nn(problem: Problem) -> Step | None:
    if isinstance(problem, HeadLoss | LogitLoss):
        return None

    def loss(logits: Any, labels: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)[:, 0]

    return _jax_step(problem, loss)


def _tokamax(problem: Problem) -> Step | None:
    if not isinstance(problem, Head):
        return None
    import tokamax  # pyright: ignore[reportMissingImports]  # It is in no extra.
    from absl import flags

    if not flags.FLAGS.is_parsed():  # Otherwise tokamax parses the command line of ``lossjax``.
        flags.FLAGS(["lossjax"])

    def loss(hidden: Any, weight: Any, labels: Any) -> Any:
        return tokamax.linear_softmax_cross_entropy_loss(hidden, labels, weight, reduction="mean")

    return jax.value_and_grad(loss, problem.argnums())


PEERS: dict[str, Callable[[Problem], Step | None]] = {
    "lossjax": _lossjax,
    "optax": _optax,
    "jax.nn": _jax_nn,
    "by hand": _by_hand,
    "tokamax": _tokamax,
}


def torch_step(problem: Problem, data: tuple[Any, ...]) -> Callable[[], Any] | None:
    """PyTorch on the CPU, with the same data. None without it, with an accelerator, or for a loss of another suite."""
    if (
        isinstance(problem, HeadLoss | LogitLoss)
        or importlib.util.find_spec("torch") is None
        or jax.default_backend() != "cpu"
    ):
        return None
    import torch  # pyright: ignore[reportMissingImports]  # It is in no extra.

    *floats, labels = (torch.from_dlpack(array) for array in data)
    leaves = [a.detach().clone().requires_grad_(problem.what != "forward") for a in floats]
    y = labels.long()

    def step() -> Any:
        logits = leaves[0] @ leaves[1] if isinstance(problem, Head) else leaves[0]
        loss = torch.nn.functional.cross_entropy(logits, y)
        return (loss, torch.autograd.grad(loss, leaves)) if problem.what != "forward" else loss

    return step


def available() -> list[str]:
    """The names of the peers that can be imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [n for n in PEERS if n != "tokamax" or importlib.util.find_spec("tokamax") is not None]
    return [*names, *(["torch"] if importlib.util.find_spec("torch") is not None else [])]
