"""§4.1.6: softmax as a map of geometries, theorem 4.1.6."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax import geometry
from lossjax.verify import oracle
from lossjax.verify._claims._tools import centered, exact_softmax, gradient, jacobian, measured, wide
from lossjax.verify.claim import Claim, Trial, claim
from lossjax.verify.ulp import balls, in_roundoffs


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


CLAIMS: tuple[Claim, ...] = (
    softmax_as_isomorphism,
    softmax_is_no_bijection,
    canonical_form,
)
