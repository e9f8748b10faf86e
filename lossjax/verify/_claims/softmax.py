"""§4.1.6: softmax and the cross-entropy."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax import geometry
from lossjax._core.plain import plain_of
from lossjax.numerics import sigmoid
from lossjax.verify._claims._tools import centered, exact_softmax, gradient, jacobian, measured, wide
from lossjax.verify.claim import Claim, Trial, claim


def _textbook_softmax(z: jax.Array) -> jax.Array:
    return jnp.exp(z) / jnp.sum(jnp.exp(z), axis=-1, keepdims=True)


def _textbook_loss(z: jax.Array, p: jax.Array) -> jax.Array:
    """-Σ p log softmax(z), as the chapter writes it."""
    return -jnp.sum(p * jnp.log(_textbook_softmax(z)), axis=-1)


@claim(
    "6.1",
    section="4.1.6",
    statement="The function that turns logits into a distribution is softmax: p̂_i = exp z_i / Σ exp z_j",
    verdict="imprecise",
    correction="It is one such map (sparsemax is another): the one that maximises ⟨p, z⟩ + H(p), with maximum lse(z)",
)
def softmax_is_a_map(trial: Trial) -> None:
    """The formula at every scale, its derivative, another map to distributions, and what singles softmax out."""
    z, direction = trial.normal(30, 7, scale=3), trial.normal(30, 7)
    scales = (1e-3, 0), (10, 1e4), (40, -1e4)
    hard = trial.array(np.concatenate([trial.normal(10, 7, scale=scale, offset=offset) for scale, offset in scales]))
    random = trial.simplex(30, 7)

    def measure(z: jax.Array, hard: jax.Array, q: jax.Array) -> Any:
        def derivative(f: Any) -> jax.Array:
            return gradient(lambda x: direction * f(x))(z)

        def attained(q: jax.Array) -> jax.Array:
            return jnp.sum(q * z, axis=-1) + lossjax.entropy(q)

        softmax, p, sparse = lossjax.softmax, lossjax.softmax(z), geometry.project_to_simplex(z)
        derivatives = derivative(softmax), derivative(plain_of(softmax)), derivative(_textbook_softmax)
        of_p = attained(p), lossjax.logsumexp(z)
        of_others = [(attained(x), lossjax.kl_divergence(x, p)) for x in (sparse, q)]
        return softmax(hard), derivatives, p, sparse, of_p, of_others

    of_hard, derivatives, p, sparse, (best, lse), of_others = measured(measure, z, hard, random)
    floor = 7 * trial.tiny / (8 * trial.u)
    trial.close("softmax", of_hard, exact_softmax(hard), 8, scale=exact_softmax(hard) + floor)
    truth = np.sum(jacobian(exact_softmax(z)) * wide(direction)[:, None, :], axis=-1)
    for name, got in zip(("closed", "formula's", "textbook's"), derivatives, strict=True):
        trial.close(f"{name} derivative", got, truth, 16, scale=np.max(np.abs(wide(direction)), -1, keepdims=True))
    trial.close("sparsemax sums to 1", np.asarray(sparse).sum(axis=-1), np.ones(30), 8)
    trial.happens("sparsemax is never negative", np.all(sparse >= 0))
    trial.refuted("another map to distributions, apart by", np.max(np.abs(sparse - p)), 0.1)
    size = 1 + np.max(np.abs(wide(z)), axis=-1)
    trial.close("⟨p, z⟩ + H(p) at softmax is lse", best, np.asarray(lse), 32, scale=size)
    for name, (value, kl) in zip(("sparsemax", "a random distribution"), of_others, strict=True):
        trial.refuted(f"lse less ⟨p, z⟩ + H(p) at {name}, at least", np.min(lse - value), 1e-3)
        trial.close(f"that is KL, {name}", np.asarray(lse - value), np.asarray(kl), 64, scale=size + kl)


@claim("6.2", section="4.1.6", statement="Softmax takes any real vector into the simplex: its output is a distribution")
def softmax_lands_in_the_simplex(trial: Trial) -> None:
    """Non-negative with sum 1 wherever the logits are, also where the formula as printed is NaN."""
    for size in (1, 2, 10, 129):
        parts = [trial.normal(10, size, scale=s, offset=o) for s, o in ((1e-3, 0), (1, 1e4), (1e2, -1e4), (1e30, 0))]
        p = measured(lossjax.softmax, trial.array(np.concatenate(parts)))
        trial.close(f"Σp̂, {size} classes", p.sum(axis=-1), np.ones(40), 8)
        trial.happens(f"0 ≤ p̂ ≤ 1, {size} classes", np.all((p >= 0) & (p <= 1)))
        if size == 1:
            trial.exactly("one class", p, np.ones((40, 1)))
    hard = trial.array([[1000, 0], [-1000, -1001]])
    stable, printed = measured(lambda z: (lossjax.softmax(z), _textbook_softmax(z)), hard)
    trial.close("where exp overflows or vanishes", stable, exact_softmax(hard), 8, scale=1)
    trial.happens("exp z / Σ exp z in floats is NaN there", np.all(np.isnan(printed[:, 0])), refutes=True)


@claim(
    "4.1.5",
    section="4.1.6",
    statement="∂L/∂z_k = p̂_k − p_k: predicted less true probability",
    verdict="needs conditions",
    correction="Where Σp = 1; in general ∂L/∂z = (Σp) p̂ − p, because L = −Σ p_k z_k + (Σp) lse(z) and ∇lse = p̂",
)
def gradient_is_the_difference(trial: Trial) -> None:
    """Against p̂ - p, JAX's derivative of the printed loss, and difference quotients; then Σp = 1.7."""
    soft_loss, label_loss = lossjax.softmax_cross_entropy, lossjax.softmax_cross_entropy_with_integer_labels

    def gradients(z: jax.Array, p: jax.Array, labels: jax.Array) -> Any:
        of_soft = [gradient(f)(z, p) for f in (soft_loss, plain_of(soft_loss), _textbook_loss)]
        of_labels = [gradient(lambda z, f=f: f(z, labels))(z) for f in (label_loss, plain_of(label_loss))]
        return of_soft, of_labels

    # Targets of mass 1 in the first 20 rows, of mass 1.7 in the others, where the prediction is nearly certain.
    distributions = trial.random.dirichlet(np.ones(33), size=40) * np.repeat([1, 1.7], 20)[:, None]
    z, p = trial.normal(40, 33, scale=2), trial.array(distributions)
    z = z.at[20:, 0].set(trial.array(30))
    labels = trial.random.integers(33, size=40)
    of_soft, of_labels = measured(gradients, z, p, jnp.asarray(labels))
    mass = np.sum(wide(p), axis=-1, keepdims=True)
    for name, got in zip(("closed form", "its formula", "printed loss"), of_soft, strict=True):
        trial.close(f"p̂ - p, {name}", got[:20], (exact_softmax(z) - wide(p))[:20], 16, scale=1)
        trial.close(f"(Σp) p̂ - p for Σp = 1.7, {name}", got, mass * exact_softmax(z) - wide(p), 16, scale=1)
    for name, got in zip(("closed form", "its formula"), of_labels, strict=True):
        trial.close(f"p̂ - e_c, {name}", got, exact_softmax(z) - np.eye(33)[labels], 16, scale=1)
    sums = np.asarray([of_soft[0], of_labels[0]])[:, :20].sum(axis=-1)
    trial.at_most("|Σ gradient|, in u", np.max(np.abs(sums)) / trial.u, 16)
    trial.refuted("p̂ - p for Σp = 1.7 is off by", np.max(np.abs(of_soft[2] - (exact_softmax(z) - wide(p)))), 0.69)
    # The quotient's own error in extended precision is h²/6·|L'''|, below 1e-10.
    steps = 1e-5 * np.eye(33)[:, None]
    upper, lower = (-np.sum(wide(p) * np.log(exact_softmax(wide(z) + s)), axis=-1) for s in (steps, -steps))
    off = np.max(np.abs((upper - lower).T / 2e-5 - wide(of_soft[0])))
    trial.at_most("difference quotient", off, 1e-9 + 16 * trial.u)

    z, p = trial.normal(6, scale=2), trial.simplex(6)
    hessian = measured(jax.hessian(soft_loss), z, p)
    trial.close("Hessian is J(p̂)", hessian, jacobian(exact_softmax(z)), 16, scale=1)
    eigenvalues = np.linalg.eigvalsh(np.asarray(hessian, np.float64))
    trial.at_most("Hessian, -least eigenvalue in u", -eigenvalues[0] / trial.u, 16)
    trial.at_most("Hessian, largest eigenvalue", eigenvalues[-1], 0.5 + 16 * trial.u)


@claim("6.4", section="4.1.6", statement="The gradient tends to 0 as p̂ → p, and is scaled by how far p̂ is from p")
def gradient_vanishes_at_the_target(trial: Trial) -> None:
    """Zero at p̂ = p and only there: along z = log p + t·d it is below ½t‖d‖, grows with t, and is ‖p̂ - p‖."""
    p, direction = trial.simplex(30, 5, concentration=2.0), trial.normal(30, 5)
    times = trial.array([0, 1e-3, 1e-2, 0.1, 1, 3])[:, None, None]

    def gradients(p: jax.Array) -> Any:
        z = geometry.centered_log_ratio(p) + times * direction
        return z, gradient(lossjax.softmax_cross_entropy)(z, jnp.broadcast_to(p, z.shape))

    z, slope = measured(gradients, p)
    lengths = np.linalg.norm(np.asarray(slope, np.float64), axis=-1)
    # Each entry is a difference of two numbers at most 1 with an error of 13u(p̂ + p), and so is the norm: 26u.
    trial.at_most("at p̂ = p, in u", np.max(lengths[0]) / trial.u, 26)
    bound = 0.5 * np.asarray(times[1:, 0]) * np.linalg.norm(centered(direction).astype(float), axis=-1)
    trial.at_most("over its bound ½t‖d‖", np.max((lengths[1:] - 26 * trial.u) / bound), 1)
    # t ↦ L is strictly convex with its minimum at 0: the slope along d can only grow.
    slopes = np.sum(wide(slope) * wide(direction), axis=-1)
    trial.happens("the slope grows with the distance", np.all(np.diff(slopes, axis=0) > 0))
    distance = np.linalg.norm((exact_softmax(z) - wide(p)).astype(float), axis=-1)
    trial.at_most("its norm less ‖p̂ - p‖, in u", np.max(np.abs(lengths - distance)) / trial.u, 26)
    trial.happens("away from p it is not 0", np.all(lengths[1:] > 0))


@claim(
    "6.6",
    section="4.1.6",
    statement="The gradient of cross-entropy is not modulated by p̂(1 − p̂); it stays large where the sigmoid saturates",
    verdict="needs conditions",
    correction="In the output layer's logits: ∇½‖p̂ − p‖² = J(p̂)∇CE (binary: σ(1 − σ)∇CE); hidden layers still saturate",
)
def no_modulation(trial: Trial) -> None:
    """The factors that squared error has and cross-entropy has not, and a hidden sigmoid that brings them back."""
    z = trial.array([-10, -5, -math.log(2), 0, 5, 10, *trial.random.normal(size=40) * 4])
    logits, p, hidden = trial.normal(20, 5, scale=2), trial.simplex(20, 5), trial.array([20, -20])
    pairs, halves = trial.normal(20, 2, scale=2), trial.simplex(20, 2)
    label_loss = lossjax.softmax_cross_entropy_with_integer_labels

    def square(z: jax.Array, p: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum((lossjax.softmax(z) - p) ** 2, axis=-1)

    def measure(z: jax.Array, logits: jax.Array, p: jax.Array, pairs: jax.Array, hidden: jax.Array) -> Any:
        one = gradient(lambda z: lossjax.sigmoid_cross_entropy(z, jnp.ones_like(z)))(z)
        binary = one, one * sigmoid(z) * sigmoid(-z), gradient(lambda z: 0.5 * (sigmoid(z) - 1) ** 2)(z)
        entropic = gradient(lossjax.softmax_cross_entropy)(logits, p)
        several = entropic, geometry.softmax_fisher_vector_product(logits, entropic), gradient(square)(logits, p)
        label = jnp.asarray(1)
        in_logits = jax.grad(label_loss)(sigmoid(hidden), label)
        in_hidden = jax.grad(lambda h: label_loss(sigmoid(h), label))(hidden)
        return binary, several, gradient(square)(pairs, halves), in_logits / in_hidden

    (entropic, factored, squared), several, of_pairs, attenuation = measured(measure, z, logits, p, pairs, hidden)
    s, away = 1 / (1 + np.exp(-wide(z))), 1 / (1 + np.exp(wide(z)))
    trial.close("binary: ∇CE = σ - 1", entropic, -away, 8)
    trial.close("binary: times σ(1 - σ)", factored, -s * away**2, 8)
    trial.close("binary: ∇½(σ - y)²", squared, -s * away**2, 8, scale=s * away)  # σ - 1 is rounded absolutely
    trial.close("largest at z = -log 2: 4/27", -squared[2], np.float64(4 / 27), 8)
    trial.at_most("largest anywhere", np.max(np.abs(squared)), 4 / 27 * (1 + 8 * trial.u))
    trial.refuted("|∇CE| over |∇½(σ - y)²| at z = -10: not modulated", entropic[0] / squared[0], 22028)

    entropic, factored, squared = several
    truth = np.sum(jacobian(exact_softmax(logits)) * (exact_softmax(logits) - wide(p))[:, None, :], axis=-1)
    trial.close("J(p̂)∇CE", factored, truth, 16, scale=1)
    trial.close("∇½‖p̂ - p‖²", squared, truth, 16, scale=1)
    shrink = np.linalg.norm(squared, axis=-1) / np.linalg.norm(entropic, axis=-1)
    trial.at_most("‖∇½‖p̂ - p‖²‖ over ‖∇CE‖", np.max(shrink), 0.5 + 32 * trial.u)
    factor = 2 * exact_softmax(pairs)[:, :1] * exact_softmax(pairs)[:, 1:]
    trial.close("two logits: factor 2p(1 - p)", of_pairs, factor * (exact_softmax(pairs) - wide(halves)), 16, scale=1)
    trial.refuted("∂L/∂logit over ∂L/∂hidden behind a saturated sigmoid", np.min(attenuation), 1e8)


CLAIMS: tuple[Claim, ...] = (
    softmax_is_a_map,
    softmax_lands_in_the_simplex,
    gradient_is_the_difference,
    gradient_vanishes_at_the_target,
    no_modulation,
)
