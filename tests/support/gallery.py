"""Wrong gradients that were published, each rebuilt in a few lines, with its right twin beside it.

None of this is anyone's code: each function is written from the description of a bug, in the smallest form that still
has it. The line that makes it wrong is marked. ``docs/wrong_gradients.md`` tells the stories;
``test_gallery.py`` holds that the checker rejects the one twin and passes the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax

CAP = 30.0
SMOOTHING = 3 / 16  # times 4 / 3 and times 2 it is a float exactly
FILTER = float(jnp.finfo(jnp.bfloat16).eps) / 32


@dataclass(frozen=True, eq=False)
class Entry:
    """One published mistake: the faulty function, the same function right, and what tells them apart."""

    name: str
    where: str
    wrong: Callable[..., Any]
    right: Callable[..., Any]
    args: tuple[Any, ...]
    caught_by: str
    argnums: int | tuple[int, ...] = 0
    reference: Callable[..., Any] | None = None
    """What is meant, where the wrong twin's formula is not it."""


def ruled(formula: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """A formula with a hand-written backward pass: ``backward(cotangent, *arguments)``, a cotangent an argument."""
    loss = jax.custom_vjp(formula)
    loss.defvjp(lambda *args: (formula(*args), args), lambda args, g: backward(g, *args))
    return loss


def log_partition(logits):
    return jax.nn.logsumexp(logits, axis=-1)


def probabilities(logits):
    return jnp.exp(logits - log_partition(logits)[:, None])


def one_hot(labels, logits):
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)


def at(labels, rows):
    return jnp.sum(jnp.where(one_hot(labels, rows) == 1, rows, 0), axis=-1)


def cross_entropy(logits, labels):
    return log_partition(logits) - at(labels, logits)


def cross_entropy_backward(g, logits, labels):
    return g[:, None] * (probabilities(logits) - one_hot(labels, logits)), None


# Targets whose sum is not 1.


def soft_cross_entropy(logits, targets):
    return jnp.sum(targets * (log_partition(logits)[:, None] - logits), axis=-1)


def unit_mass_backward(g, logits, targets):
    return g[:, None] * (probabilities(logits) - targets), None  # wrong


def any_mass_backward(g, logits, targets):
    mass = jnp.sum(targets, axis=-1, keepdims=True)
    return g[:, None] * (mass * probabilities(logits) - targets), None


# Two outputs, the loss with its z-loss and the z-loss alone, and a coefficient.


def with_z_loss(logits, labels, coefficient):
    z_loss = coefficient * log_partition(logits) ** 2
    return cross_entropy(logits, labels) + z_loss, z_loss


def z_loss_backward(cotangents, logits, labels, coefficient):
    g, g_alone = cotangents
    lse = log_partition(logits)
    in_lse = g + 2 * coefficient * lse * (g + g_alone)
    in_logits = in_lse[:, None] * probabilities(logits) - g[:, None] * one_hot(labels, logits)
    return in_logits, None, jnp.sum((g + g_alone) * lse**2)


def one_output_backward(cotangents, logits, labels, coefficient):
    g, _ = cotangents  # wrong
    return z_loss_backward((g, jnp.zeros_like(g)), logits, labels, coefficient)


def fixed_coefficient_backward(cotangents, logits, labels, coefficient):
    in_logits, _, _ = z_loss_backward(cotangents, logits, labels, coefficient)
    return in_logits, None, jnp.zeros_like(coefficient)  # wrong


# Labels that mean "no loss here".


def masked_cross_entropy(logits, labels):
    valid = (labels >= 0) & (labels < logits.shape[-1])
    return jnp.where(valid, cross_entropy(logits, labels), 0)


def unmasked_backward(g, logits, labels):
    return g[:, None] * (probabilities(logits) - one_hot(labels, logits)), None  # wrong


def masked_backward(g, logits, labels):
    valid = (labels >= 0) & (labels < logits.shape[-1])
    return jnp.where(valid, g, 0)[:, None] * (probabilities(logits) - one_hot(labels, logits)), None


# Logits that pass through cap · tanh(z / cap).


def softcapped_cross_entropy(logits, labels):
    return cross_entropy(CAP * jnp.tanh(logits / CAP), labels)


def no_chain_backward(g, logits, labels):
    return cross_entropy_backward(g, CAP * jnp.tanh(logits / CAP), labels)  # wrong


def chain_backward(g, logits, labels):
    in_capped, _ = cross_entropy_backward(g, CAP * jnp.tanh(logits / CAP), labels)
    return in_capped * (1 - jnp.tanh(logits / CAP) ** 2), None


def uncapped_cross_entropy(logits, labels):
    return cross_entropy(logits * jnp.tanh(logits / CAP), labels)  # wrong


def padded_cross_entropy(logits, labels):
    lanes = 2 ** (logits.shape[-1] - 1).bit_length() - logits.shape[-1]
    padded = jnp.pad(logits, ((0, 0), (0, lanes)), constant_values=-jnp.inf)
    return cross_entropy(CAP * jnp.tanh(padded / CAP), labels)  # wrong: CAP * tanh(-inf) is -CAP


def padded_then_masked_cross_entropy(logits, labels):
    lanes = 2 ** (logits.shape[-1] - 1).bit_length() - logits.shape[-1]
    capped = jnp.pad(CAP * jnp.tanh(logits / CAP), ((0, 0), (0, lanes)), constant_values=-jnp.inf)
    return cross_entropy(capped, labels)


# A linear head and its loss in one, with a loss a row.


def linear_cross_entropy(hidden, weight, labels):
    return cross_entropy(hidden @ weight, labels)


def first_row_backward(g, hidden, weight, labels):
    in_logits = probabilities(hidden @ weight) - one_hot(labels, hidden @ weight)
    return g[0] * (in_logits @ weight.T), g[0] * (hidden.T @ in_logits), None  # wrong


def every_row_backward(g, hidden, weight, labels):
    in_logits = g[:, None] * (probabilities(hidden @ weight) - one_hot(labels, hidden @ weight))
    return in_logits @ weight.T, hidden.T @ in_logits, None


# A mean whose gradient is formed in the forward pass.


def mean_cross_entropy(logits, labels):
    return jnp.mean(cross_entropy(logits, labels))


def unit_cotangent_backward(_, logits, labels):
    return (probabilities(logits) - one_hot(labels, logits)) / len(labels), None  # wrong


def any_cotangent_backward(g, logits, labels):
    return g * (probabilities(logits) - one_hot(labels, logits)) / len(labels), None


# Label smoothing on the first of the ranks that hold the classes, so many each.


def smoothed_over(classes: int) -> Callable[..., Any]:
    smoothing = SMOOTHING * classes / (classes - 1)

    def formula(logits, labels):
        log_p = logits - log_partition(logits)[:, None]
        return -(1 - smoothing) * at(labels, log_p) - smoothing * jnp.mean(log_p[:, :classes], axis=-1)

    def backward(g, logits, labels):
        target = (1 - smoothing) * one_hot(labels, logits) + smoothing / classes  # wrong unless these are all
        return g[:, None] * (probabilities(logits) - target), None

    return ruled(formula, backward)


def log_of_exp_smoothed(logits, labels):
    e = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    log_p = jnp.log(e / jnp.sum(e, axis=-1, keepdims=True))  # wrong: e underflows to 0
    return -(1 - SMOOTHING) * at(labels, log_p) - SMOOTHING * jnp.mean(log_p, axis=-1)


def smoothed(logits, labels):
    log_p = logits - log_partition(logits)[:, None]
    return -(1 - SMOOTHING) * at(labels, log_p) - SMOOTHING * jnp.mean(log_p, axis=-1)


def accurately_smoothed(logits, labels):
    return lossjax.softmax_cross_entropy_with_integer_labels(logits, labels, label_smoothing=SMOOTHING)


# Gradients that are dropped: where they are small, or altogether.


def filtered_backward(g, logits, labels):
    in_logits = probabilities(logits) - one_hot(labels, logits)
    return g[:, None] * jnp.where(abs(in_logits) < FILTER, 0, in_logits), None  # wrong


def zero_backward(_, logits, labels):
    return jnp.zeros_like(logits), None  # wrong


# A temperature that is an argument as well.


def softmin(values, temperature):
    return -temperature * log_partition(-values / temperature)


def no_temperature_backward(g, values, temperature):
    return g[:, None] * probabilities(-values / temperature), None  # wrong: None is a zero


def temperature_backward(g, values, temperature):
    p = probabilities(-values / temperature)
    in_temperature = -log_partition(-values / temperature) - jnp.sum(p * values, axis=-1) / temperature
    return g[:, None] * p, jnp.sum(g * in_temperature)


# A gradient that is a constant to the next derivative.


def with_tangent(derivative: Callable[..., Any]) -> Callable[..., Any]:
    loss = jax.custom_jvp(cross_entropy)

    def tangent(primals, tangents):
        return cross_entropy(*primals), jnp.sum(derivative(*primals) * tangents[0], axis=-1)

    loss.defjvp(tangent)
    return loss


def constant_derivative(logits, labels):
    return jax.lax.stop_gradient(probabilities(logits) - one_hot(labels, logits))  # wrong


def differentiable_derivative(logits, labels):
    return probabilities(logits) - one_hot(labels, logits)


# The softmax of logits that leave no doubt.


def softmax(logits):
    e = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))
    return e / jnp.sum(e, axis=-1, keepdims=True)


def cancelling_backward(g, logits):
    p = softmax(logits)
    return (p * (g - jnp.sum(p * g, axis=-1, keepdims=True)),)  # wrong: p and Σ p g are rounded before they cancel


def differences_backward(g, logits):
    p = softmax(logits)
    return (p * jnp.sum(p[:, None, :] * (g[:, :, None] - g[:, None, :]), axis=-1),)


LOGITS = np.array([[1.5, -0.5, 0.25, 2.0, -1.0], [0.0, 0.75, -2.0, 0.5, 1.0], [-1.25, 3.0, 0.5, -0.75, 0.0]], "f4")
LABELS = np.array([3, 0, 1], "i4")
TARGETS = np.array([[0, 0, 0, 0, 0], [0, 2, 0, 0, 0], [0.25, 0.5, 0, 0.25, 0]], "f4")
HIDDEN = np.array([[0.5, -1.0], [1.25, 0.25], [-0.75, 1.5]], "f4")
WEIGHT = np.array([[1.0, -0.5, 0.25, 0.75, -1.5], [0.5, 1.25, -1.0, 0.0, 0.25]], "f4")

ENTRIES = (
    Entry(
        "targets-of-unit-mass", "T5X, MaxText, EasyDeL",
        ruled(soft_cross_entropy, unit_mass_backward), ruled(soft_cross_entropy, any_mass_backward),
        (LOGITS, TARGETS), "rule",
    ),
    Entry(
        "auxiliary-output", "T5X, MaxText, EasyDeL",
        ruled(with_z_loss, one_output_backward), ruled(with_z_loss, z_loss_backward),
        (LOGITS, LABELS, np.float32(0.25)), "rule",
    ),
    Entry(
        "coefficient", "T5X, MaxText, EasyDeL",
        ruled(with_z_loss, fixed_coefficient_backward), ruled(with_z_loss, z_loss_backward),
        (LOGITS, LABELS, np.float32(0.25)), "rule", argnums=2,
    ),
    Entry(
        "ignored-label", "tokamax",
        ruled(masked_cross_entropy, unmasked_backward), ruled(masked_cross_entropy, masked_backward),
        (LOGITS, np.array([3, -100, 5], "i4")), "rule",
    ),
    Entry(
        "softcap-without-chain-rule", "Levanter",
        ruled(softcapped_cross_entropy, no_chain_backward), ruled(softcapped_cross_entropy, chain_backward),
        (8 * LOGITS, LABELS), "rule",
    ),
    Entry(
        "softcap-that-caps-nothing", "Unsloth-zoo",
        uncapped_cross_entropy, softcapped_cross_entropy,
        (12 * LOGITS, LABELS), "rule", reference=softcapped_cross_entropy,
    ),
    Entry(
        "softcap-of-padding", "Unsloth",
        padded_cross_entropy, padded_then_masked_cross_entropy,
        (LOGITS - 45, LABELS), "rule", reference=softcapped_cross_entropy,
    ),
    Entry(
        "first-row-cotangent", "Liger",
        ruled(linear_cross_entropy, first_row_backward), ruled(linear_cross_entropy, every_row_backward),
        (HIDDEN, WEIGHT, LABELS), "rule", argnums=(0, 1),
    ),
    Entry(
        "unit-cotangent", "Unsloth-zoo",
        ruled(mean_cross_entropy, unit_cotangent_backward), ruled(mean_cross_entropy, any_cotangent_backward),
        (LOGITS, LABELS), "cotangent",
    ),
    Entry(
        "smoothing-over-a-shard", "Megatron-LM",
        smoothed_over(2), smoothed_over(4),  # wrong, right
        (LOGITS[:, :4], LABELS), "rule",
    ),
    Entry(
        "log-of-underflow", "Megatron-LM",
        log_of_exp_smoothed, accurately_smoothed,
        (60 * LOGITS[:, :4], LABELS), "gradient", reference=smoothed,
    ),
    Entry(
        "gradient-filter", "Apple's CCE",
        ruled(cross_entropy, filtered_backward), ruled(cross_entropy, cross_entropy_backward),
        (5 * LOGITS, LABELS), "rule",
    ),
    Entry(
        "zero-gradient", "torch-directml",
        ruled(cross_entropy, zero_backward), ruled(cross_entropy, cross_entropy_backward),
        (LOGITS, LABELS), "rule",
    ),
    Entry(
        "none-for-the-temperature", "OTT-JAX",
        ruled(softmin, no_temperature_backward), ruled(softmin, temperature_backward),
        (LOGITS, np.float32(0.5)), "rule", argnums=(0, 1),
    ),
    Entry(
        "zero-hessian", "TensorFlow",
        with_tangent(constant_derivative), with_tangent(differentiable_derivative),
        (LOGITS, LABELS), "modes",
    ),
    Entry(
        "softmax-of-the-sure", "JAX",
        ruled(softmax, cancelling_backward), ruled(softmax, differences_backward),
        (np.array([[20.0, 0.0, -1.0]], "f4"),), "gradient",
    ),
)  # fmt: skip
