"""Verify a loss of your own: a capped cross-entropy whose hand-written gradient forgot the derivative of tanh.

The value is right, and training goes on. JAX's `check_grads` compares one random direction with a finite difference,
to a tolerance that does not shrink with the gradient of a mean: it rejects the rule at 8 tokens and accepts it at 1000.
`lossjax.verify.check` executes the rule, and the derivative of the formula, in exact arithmetic, and says where they
part: which argument, which entry, what came, what was wanted. The corrected rule passes.

    python examples/04_verify_your_loss.py

Needs `pip install ".[examples]"` in a clone of lossjax; takes a few seconds.
"""

import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads
from rich.console import Console

from lossjax.verify import check

CAP = 30.0


def formula(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross-entropy of logits that pass through CAP · tanh(z / CAP), as Gemma's do."""
    capped = CAP * jnp.tanh(logits / CAP)
    at_label = jnp.take_along_axis(capped, labels[:, None], axis=-1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(capped, axis=-1) - at_label)


def slope_of_cap(logits: jax.Array) -> jax.Array:
    return 1 - jnp.tanh(logits / CAP) ** 2


def loss_with(slope: Callable[[jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    """The formula, its gradient written by hand."""
    loss = jax.custom_vjp(formula)

    def backward(kept: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, None]:
        logits, labels = kept
        p = jax.nn.softmax(CAP * jnp.tanh(logits / CAP))
        in_capped = (p - jax.nn.one_hot(labels, logits.shape[-1])) / len(labels)
        return cotangent * in_capped * slope(logits), None

    loss.defvjp(lambda logits, labels: (formula(logits, labels), (logits, labels)), backward)
    return loss


def finite_differences(loss: Callable[..., jax.Array], tokens: int) -> str:
    random = np.random.default_rng(0)
    logits, labels = np.float32(random.normal(size=(tokens, 32)) * 4), random.integers(0, 32, tokens)
    try:
        # The default step, 1e-4, drowns in float32's rounding: right gradients would be rejected too.
        check_grads(lambda z: loss(z, labels), (logits,), order=1, modes=["rev"], eps=1e-2)
    except AssertionError:
        return "rejects"
    return "accepts"


def main() -> None:
    console = Console(highlight=False)
    logits, labels = np.array([[6, -5, 8], [-9, 0, 4]], np.float32), np.array([1, 2])
    passed = []
    for name, slope in (("wrong", jnp.ones_like), ("right", slope_of_cap)):  # wrong: as if there were no cap
        loss = loss_with(slope)
        few, many = (finite_differences(loss, tokens) for tokens in (8, 1000))
        console.print(f"The {name} rule: check_grads {few} it at 8 tokens, {many} it at 1000.\n")
        certificate = check(loss, logits, labels, checks=("rule", "cotangent"))
        console.print(certificate, "")
        passed.append(certificate.ok)
    if passed != [False, True]:
        sys.exit("the checker has not told the two rules apart")


if __name__ == "__main__":
    main()
