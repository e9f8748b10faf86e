"""§4.1.6: softmax and the cross-entropy, and what §4.1.7 says of the two losses again."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax import geometry
from lossjax.numerics import sigmoid
from lossjax.verify import oracle
from lossjax.verify.claim import Claim, Trial, claim
from lossjax.verify.ulp import balls, in_roundoffs


def measured(function: Callable[..., Any], *args: Any) -> Any:
    """All that a check measures, compiled at once (compilation is most of its time), as numpy arrays."""
    return jax.tree.map(np.asarray, jax.jit(function)(*args))


def gradient(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The gradient in the first argument of a function of rows."""
    return jax.grad(lambda *args: jnp.sum(f(*args)))


def wide(x: Any) -> Any:
    """In extended precision."""
    return np.asarray(x, np.longdouble)


def exact_softmax(z: Any) -> Any:
    """Softmax in extended precision."""
    weights = np.exp(wide(z) - np.max(wide(z), axis=-1, keepdims=True))
    return weights / np.sum(weights, axis=-1, keepdims=True)


def jacobian(p: Any) -> Any:
    """J(p) = diag(p) - p pᵀ in extended precision."""
    return np.eye(wide(p).shape[-1]) * wide(p)[..., None] - wide(p)[..., :, None] * wide(p)[..., None, :]


def centered(z: Any) -> Any:
    """Less its mean, in extended precision."""
    return wide(z) - np.mean(wide(z), axis=-1, keepdims=True)


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
        derivatives = derivative(softmax), derivative(softmax.plain), derivative(_textbook_softmax)
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
        of_soft = [gradient(f)(z, p) for f in (soft_loss, soft_loss.plain, _textbook_loss)]
        of_labels = [gradient(lambda z, f=f: f(z, labels))(z) for f in (label_loss, label_loss.plain)]
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
    trial.close("binary: times σ(1 - σ)", factored, -s * away**2, 16)
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


def _hessian_of_lse(z: jax.Array) -> jax.Array:
    return jax.vmap(jax.hessian(lossjax.logsumexp))(z)


@claim(
    "4.1.6",
    section="4.1.6",
    statement="Softmax and cross-entropy form an isomorphic structure: logits → simplex, with KL as its metric",
    verdict="wrong",
    correction="R^C/R1 → Δ° (Aitchison) is a linear bijection; KL(sm u‖sm v) = D_lse(v, u); metric ∇²lse; lse* = −H",
)
def softmax_as_isomorphism(trial: Trial) -> None:
    """The four exact statements that the theorem may stand for, and what it cannot mean."""
    u, v, t, weights = trial.normal(20, 6), trial.normal(20, 6), trial.normal(20), trial.simplex(20, 6)
    near = u + trial.array([1e-1, 1e-2, 1e-3])[:, None, None] * trial.normal(20, 6)
    gaps = trial.array(np.linspace(0, 80, 20))

    def measure(u: jax.Array, v: jax.Array) -> Any:
        p, q, lse = lossjax.softmax(u), lossjax.softmax(v), lossjax.logsumexp
        aitchison = geometry.aitchison_add(p, q), geometry.aitchison_scale(p, t), geometry.centered_log_ratio(p)
        dual, swapped = geometry.bregman_divergence(geometry.LogSumExp(), jnp.stack([v, u]), jnp.stack([u, v]))
        defined = geometry.bregman_divergence(lse, v, u)
        fisher = geometry.fisher_information(p)
        cross, entropy = lossjax.softmax_cross_entropy(u, weights), lossjax.entropy(weights)
        kl, *alike = lossjax.softmax_kl_divergence(jnp.broadcast_to(u, (4, 20, 6)), jnp.stack([v, *near]))
        of_weights = lossjax.kl_divergence(weights, p)
        one_hot = lossjax.softmax_cross_entropy_with_integer_labels(
            gaps[:, None] * trial.array([1, 0, 0]), jnp.zeros(20, int)
        )
        naive = lse(near) - lse(u) - jnp.sum(p * (near - u), axis=-1)
        distance = geometry.aitchison_distance(p, q)
        of_kl = kl, dual, defined, swapped, alike, naive
        return aitchison, distance, of_kl, fisher, cross, entropy, of_weights, one_hot

    (added, scaled, clr), distance, of_kl, fisher, cross, entropy, of_weights, one_hot = measured(measure, u, v)
    kl, dual, defined, swapped, alike, naive = of_kl
    trial.close("(a) sm(u + v) = sm u ⊕ sm v", added, exact_softmax(wide(u) + wide(v)), 512)
    trial.close("(a) sm(tu) = t ⊙ sm u", scaled, exact_softmax(wide(t)[:, None] * wide(u)), 512)
    trial.close("(a) clr(sm u) = u", clr, centered(u), 32, scale=np.max(np.abs(centered(u))))
    trial.close("(a) distance", distance, np.sqrt(np.sum((centered(u) - centered(v)) ** 2, axis=-1)), 64)

    gap = wide(v) - wide(u)
    terms = np.abs(gap).max(axis=-1) + np.abs(wide(u)).max(axis=-1) + np.abs(wide(v)).max(axis=-1)
    trial.close("(b) KL(sm u‖sm v) = D_lse(v, u)", kl, dual, 128)
    trial.close("(b) by the definition (4.1.2)", defined, kl, 128, scale=terms)
    trial.refuted("(b) unswapped D_lse(u, v) is off by", np.max(np.abs(swapped - kl)), 0.05)

    for name, matrix in (("∇²lse", measured(_hessian_of_lse, u)), ("the Fisher matrix", fisher)):
        trial.close(f"(c) {name} is J", matrix, jacobian(exact_softmax(u)), 16, scale=1)
    trial.at_most("(c) J1 = 0, in u", np.max(np.abs(fisher.sum(axis=-1))) / trial.u, 16)
    trial.refuted("(c) no isometry of Euclidean space: J varies by", np.max(np.abs(fisher[:1] - fisher)), 0.05)

    mass, lse = np.sum(wide(weights), axis=-1), np.log(np.sum(np.exp(wide(u)), axis=-1))
    young = lse * mass + np.sum(wide(weights) * (np.log(wide(weights)) - wide(u)), axis=-1)
    trial.close("(d) CE(p, sm z) - H(p) is Fenchel-Young's gap", cross - entropy, young, 64, scale=cross + entropy)
    trial.close("(d) and KL(p‖sm z) ≥ 0", of_weights, young, 64, scale=cross + entropy)
    trial.close("(d) CE(e_c, sm z) = log1p((C - 1)e^-t)", one_hot, np.log1p(2 * np.exp(-wide(gaps))), 8)
    trial.happens("(d) its infimum 0 is not attained: e_c is no image", np.all(one_hot > 0), refutes=True)

    with oracle.precision():  # close distributions: the divergence is of second order in the logits' difference
        truth, _, _ = oracle.softmax_kl_divergence(np.broadcast_to(balls(u), near.shape), balls(near))
        for scale, got, plain, exact in zip((1e-1, 1e-2, 1e-3), alike, naive, truth, strict=True):
            trial.at_most(f"stable KL at {scale:g}, in u", np.max(in_roundoffs(got, exact)), 33)
            lost = np.max(in_roundoffs(plain, exact))
            trial.refuted(f"lse(v) - lse(u) - ⟨p, v - u⟩ at {scale:g}, in u", lost, 1 / scale**2)


@claim(
    "6.13",
    section="4.1.6",
    statement="Softmax is a bijection on the simplex, so that information is transformed without loss",
    verdict="wrong",
    correction="On R^C it is not one-to-one, sm(z + a1) = sm(z), and onto Δ° only; R^C/R1 → Δ° has the inverse clr",
)
def softmax_is_no_bijection(trial: Trial) -> None:
    """Different logits with the same image, points without preimage, and the inverse on what is left."""
    grid = trial.array(np.round(trial.random.normal(size=(50, 5)) * 768) / 256)
    z, p = trial.normal(50, 5, scale=10), trial.simplex(50, 5)

    def measure(z: jax.Array, p: jax.Array, grid: jax.Array) -> Any:
        softmax, clr = lossjax.softmax, geometry.centered_log_ratio
        return softmax(grid), softmax(grid + 8), softmax(z), softmax(p), softmax(clr(p)), clr(softmax(z))

    of_grid, of_shifted, of_z, of_p, forth, back = measured(measure, z, p, grid)
    trial.happens("sm(z + 8) equals sm(z) in every bit", np.all(of_grid == of_shifted), refutes=True)
    trial.refuted("least entry of sm(z): no vertex is an image", np.min(of_z), trial.tiny)
    spread = np.max(of_p.max(axis=-1) / of_p.min(axis=-1))
    trial.at_most("sm: Δ → Δ reaches max/min ≤ e only", spread, math.e * (1 + 32 * trial.u))
    trial.refuted("max/min of a point of Δ", np.max(np.max(p, axis=-1) / np.min(p, axis=-1)), 10)
    # A relative error of r·u in a logit x is one of |x| r u in exp x.
    size = wide(p) * (1 + np.max(np.abs(np.log(wide(p))), axis=-1, keepdims=True))
    trial.close("sm(clr p) = p", forth, wide(p) / np.sum(wide(p), axis=-1, keepdims=True), 32, scale=size)
    trial.close("clr(sm z) = z", back, centered(z), 32, scale=np.max(np.abs(centered(z)), axis=-1, keepdims=True))


@claim(
    "6.14",
    section="4.1.6",
    statement="Softmax is the canonical form of the categorical family; with it cross-entropy is maximum likelihood",
)
def canonical_form(trial: Trial) -> None:
    """Log-sum-exp as log-partition: mean, covariance, likelihood; frequencies are the most likely distribution."""
    z, labels, counts = trial.normal(20, 6), jnp.asarray(np.arange(20) % 6), np.array([7, 1, 3, 12])
    label_loss = lossjax.softmax_cross_entropy_with_integer_labels
    samples = jnp.asarray(np.repeat(np.arange(4), counts))
    best = trial.array(np.log(counts / counts.sum()))
    tried = best + trial.normal(30, 4, scale=0.3)

    def measure(z: jax.Array, best: jax.Array, tried: jax.Array) -> Any:
        def mean_loss(z: jax.Array) -> jax.Array:
            return label_loss(jnp.broadcast_to(z, (counts.sum(), 4)), samples, reduction="mean")

        losses = label_loss(z, labels), label_loss(z + 2, labels)
        return gradient(lossjax.logsumexp)(z), losses, jax.value_and_grad(mean_loss)(best), jax.vmap(mean_loss)(tried)

    mean, (losses, shifted), (value, slope), elsewhere = measured(measure, z, best, tried)
    p, outcomes = exact_softmax(z), np.eye(6)
    trial.close("∇lse is the mean of e_y", mean, p, 8)
    away = outcomes - p[:, None]
    exact = np.sum(p[..., None, None] * away[..., :, None] * away[..., None, :], axis=1)
    trial.close("∇²lse is its covariance", measured(_hessian_of_lse, z), exact, 16, scale=1)
    likelihood = np.log(p[np.arange(20), np.asarray(labels)])
    trial.close("CE is -log likelihood", losses, -likelihood, 8)
    trial.close("over-complete: z + 2 as likely", shifted, np.asarray(losses), 16, scale=2 + np.max(np.abs(z), axis=-1))
    trial.at_most("gradient at log frequencies, in u", np.max(np.abs(slope)) / trial.u, 16)
    shares = counts / counts.sum()
    trial.close("the loss there is the entropy of the frequencies", value, -np.sum(shares * np.log(shares)), 16)
    trial.refuted("every other is larger, by at least", np.min(elsewhere) - value, 1e-4)


@claim(
    "7.1",
    section="4.1.7",
    statement="Under Gaussian noise the log-likelihood is proportional to the mean squared error",
    verdict="wrong",
    correction="It is affine with negative slope: ℓ = −(N/2) log 2πσ² − (N/2σ²)·MSE",
)
def likelihood_is_affine(trial: Trial) -> None:
    """The affine law for several σ, its gradient, and the ratio, which is no constant."""
    y = trial.normal(50)
    predictions = trial.array(wide(y) + np.linspace(0.2, 3, 9)[:, None] * trial.random.normal(size=(9, 50)))
    log_variances = trial.array(2 * np.log([0.1, 1, 30]))

    def measure(predictions: jax.Array, log_variances: jax.Array) -> Any:
        def likelihood(f: jax.Array, log_variance: jax.Array) -> jax.Array:
            return -lossjax.gaussian_nll(f, y, log_variance=log_variance, reduction="sum")

        error = jax.vmap(jax.value_and_grad(lambda f: lossjax.mean_squared_error(f, y)))(predictions)
        each = jax.vmap(jax.vmap(jax.value_and_grad(likelihood), (0, None)), (None, 0))
        return error, each(predictions, log_variances)

    (error, error_slope), (values, slopes) = measured(measure, predictions, log_variances)
    exact = np.mean((wide(predictions) - wide(y)) ** 2, axis=-1)
    for value, slope, log_variance in zip(values, slopes, wide(log_variances), strict=True):
        sigma = f"σ = {float(np.exp(log_variance / 2)):.2g}"
        constant, factor = -25 * (np.log(2 * np.pi) + log_variance), -25 * np.exp(-log_variance)
        size = np.abs(constant) + np.abs(factor) * exact
        trial.close(f"affine law, {sigma}", value, constant + factor * exact, 32, scale=size)
        trial.close(f"∇ℓ = -(N/2σ²)∇MSE, {sigma}", slope, factor * wide(error_slope), 64)
        trial.happens(f"decreasing in MSE, {sigma}", np.all(np.diff(value[np.argsort(error)]) < 0), refutes=True)
        trial.refuted(f"spread of ℓ/MSE, {sigma}", np.ptp(value / error), 10)


@claim(
    "7.3",
    section="4.1.7",
    statement="On the simplex, cross-entropy corresponds to the KL divergence",
    verdict="imprecise",
    correction="Up to the constant H(P), which is 0 for one-hot P: CE = H(P) + KL",
)
def cross_entropy_and_divergence(trial: Trial) -> None:
    """Their difference is H(P), zero for labels only; their gradients in the logits agree always."""
    z, p = trial.normal(20, 9, scale=2), trial.simplex(20, 9, concentration=2.0)
    one_hot = trial.array(np.eye(9)[np.arange(20) % 9])

    def measure(z: jax.Array, p: jax.Array, one_hot: jax.Array) -> Any:
        q = lossjax.softmax(z)
        parts = lossjax.cross_entropy(p, q), lossjax.entropy(p), lossjax.kl_divergence(p, q)
        functions = lossjax.cross_entropy, lossjax.kl_divergence
        slopes = [gradient(lambda z, f=f: f(p, lossjax.softmax(z)))(z) for f in functions]
        return parts, slopes, lossjax.softmax_cross_entropy(z, one_hot), lossjax.kl_divergence(one_hot, q)

    (cross, entropy, divergence), slopes, of_labels, of_one_hot = measured(measure, z, p, one_hot)
    trial.close("CE = H(P) + KL", cross, wide(entropy) + divergence, 32)
    trial.refuted("CE less KL for soft targets, at least", np.min(cross - divergence), 0.4)
    # KL from probabilities sees the logits through q, of which 1 is known to u.
    trial.close("CE = KL for labels", of_one_hot, wide(of_labels), 16, scale=1 + of_labels)
    for name, slope in zip(("CE", "KL"), slopes, strict=True):
        trial.close(f"gradient of {name} in the logits", slope, exact_softmax(z) - wide(p), 32, scale=1)


CLAIMS: tuple[Claim, ...] = (
    softmax_is_a_map,
    softmax_lands_in_the_simplex,
    gradient_is_the_difference,
    gradient_vanishes_at_the_target,
    no_modulation,
    softmax_as_isomorphism,
    softmax_is_no_bijection,
    canonical_form,
    likelihood_is_affine,
    cross_entropy_and_divergence,
)
