"""What the claims share: compiled measurements, gradients of rows, and extended precision."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossjax._core.versions import OLDER_FUSIONS
from lossjax._core.xla import LITTLE_EFFORT
from lossjax.verify.claim import Trial


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Jit a function with little effort: nearly all of the time of a claim is compiling.

    A claim about the mathematics does not hang on how a program is optimised. The claims about floating-point
    arithmetic (§4.1.6) are compiled as a user's programs are, and so are the losses for their certificates.
    """
    return jax.jit(function, compiler_options=LITTLE_EFFORT | OLDER_FUSIONS, **options)


def measured(function: Callable[..., Any], *args: Any) -> Any:
    """The results of a function as numpy arrays; it is compiled as a whole, with little effort."""
    return jax.tree.map(np.asarray, compiled(function)(*args))


def optimised(function: Callable[..., Any], *args: Any) -> Any:
    """The results of a function as numpy arrays; it is compiled as a user's program is."""
    return jax.tree.map(np.asarray, jax.jit(function)(*args))


def gradient(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The gradient in the first argument of a function of rows."""
    return jax.grad(lambda *args: jnp.sum(f(*args)))


def wide(x: Any) -> Any:
    """An array in extended precision."""
    return np.asarray(x, np.longdouble)


def exact_softmax(z: Any) -> Any:
    """Softmax in extended precision."""
    weights = np.exp(wide(z) - np.max(wide(z), axis=-1, keepdims=True))
    return weights / np.sum(weights, axis=-1, keepdims=True)


def jacobian(p: Any) -> Any:
    """J(p) = diag(p) - p pᵀ in extended precision."""
    return np.eye(wide(p).shape[-1]) * wide(p)[..., None] - wide(p)[..., :, None] * wide(p)[..., None, :]


def centered(z: Any) -> Any:
    """Logits less their mean, in extended precision."""
    return wide(z) - np.mean(wide(z), axis=-1, keepdims=True)


def interior(trial: Trial, *shape: int) -> jax.Array:
    """Distributions whose entries are at least a quarter of uniform."""
    return trial.array(0.75 * trial.random.dirichlet(np.ones(shape[-1]), size=shape[:-1]) + 0.25 / shape[-1])
