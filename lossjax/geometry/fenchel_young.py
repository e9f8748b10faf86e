r"""Fenchel-Young losses: from one convex function, a prediction and the loss that trains it.

.. math:: L_\Omega(z; y) = \Omega^*(z) + \Omega(y) - \langle z, y\rangle \ge 0, \qquad
          \nabla_z L = \nabla\Omega^*(z) - y

The prediction is ∇Ω*(z), and L = 0 exactly where the prediction is the target. On the simplex,
Ω = Σ (y^α - y)/(α(α - 1)) gives softmax and the cross-entropy (α -> 1), 1.5-entmax, and the sparsemax (α = 2).
"""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core.autodiff import closed_form
from lossjax._core.masks import nan_unless
from lossjax._core.xla import at_least, largest
from lossjax._rules.positive import power_divergence
from lossjax._rules.probabilities import relative_entropy
from lossjax._softmax import functions, row_statistics
from lossjax._softmax.row_sum import sum_over_classes
from lossjax.geometry._vectors import vectors
from lossjax.geometry.bregman import Generator, bregman_divergence
from lossjax.geometry.generators import BernoulliEntropy, NegativeEntropy, Tsallis
from lossjax.numerics import times, unit_roundoff, xlogy

_MOST_STEPS = 200


def fenchel_young_loss(generator: Generator | Any, scores: ArrayLike, targets: ArrayLike) -> Array:
    r"""The loss that a convex function Ω makes of scores z and a target y: 0 where the prediction is the target.

    .. math:: L_\Omega(z; y) = \Omega^*(z) + \Omega(y) - \langle z, y\rangle = D_\Omega(y, \nabla\Omega^*(z))

    (the last for Ω smooth up to the boundary of its domain). One definition, many losses:

    * ``NegativeEntropy()``, on the simplex: the softmax cross-entropy less the target's entropy, KL(y‖p̂);
    * ``Tsallis(1.5)``, on the simplex: the 1.5-entmax loss; ``Tsallis(2.0)``: the sparsemax loss;
    * ``SquaredEuclidean()``: ½‖z - y‖²; ``BernoulliEntropy()``: binary cross-entropies less their entropies;
    * ``BurgEntropy()``, ``Exponential()``, ``Mahalanobis(A)``: D(y, ∇Ω*(z)), on the domains of Ω and Ω*.

    Domain: any scores (for the last line, scores in the domain of Ω*). On the simplex targets are distributions; a
    negative entry makes the row NaN.

    Gradient: :math:`\nabla\Omega^*(z) - y`, prediction - target, in the scores; :math:`\nabla\Omega(y) - z` in the
    targets, on the simplex up to a constant that no direction in it depends on.

    Args:
      generator: Ω: a generator of this package, or an object with ``value`` and ``conjugate``.
      scores: ``[..., n]`` floats.
      targets: ``[..., n]`` floats of the shape of ``scores``.

    Returns:
      The loss, ``[...]``, in the units of Ω (nats for the entropies), in float32 or wider. Ω(y) is included, so that
      the least value is 0; for this package's generators the result is never negative.

    Accuracy: for NegativeEntropy a relative error of 33u; for Tsallis 33u, and 16u/(α - 1) absolute, because a
    threshold is subtracted from the scores. From ``value`` and ``conjugate``, a few u of the largest term.

    Raises:
      TypeError: arguments that are not floats, a generator that is not one.
      ValueError: shapes that do not agree, no entry, Tsallis with α outside (1, 2].

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lossjax.geometry import NegativeEntropy, SquaredEuclidean, Tsallis
      >>> from lossjax import fenchel_young_loss
      >>> z, y = jnp.array([1.0, 0.5, -2.0]), jnp.array([1.0, 0.0, 0.0])
      >>> for omega in (NegativeEntropy(), Tsallis(1.5), Tsallis(2.0), SquaredEuclidean()):
      ...     print([f"{g:.2f}" for g in jax.grad(lambda z: fenchel_young_loss(omega, z, y))(z)])
      ['-0.40', '0.37', '0.03']
      ['-0.33', '0.33', '0.00']
      ['-0.25', '0.25', '0.00']
      ['-0.00', '0.50', '-2.00']

    Source: Blondel, Martins and Niculae, Learning with Fenchel-Young losses, JMLR 2020; theorem 4.1.5 generalised.
    """
    z, y = vectors(scores=scores, targets=targets)
    methods: Any = generator
    if isinstance(generator, NegativeEntropy):
        return _on_simplex(1.0, z, y)
    if isinstance(generator, Tsallis):
        return _on_simplex(_exponent(generator.alpha), z, y)
    if isinstance(generator, BernoulliEntropy):  # Each entry is a simplex of two classes, so that no σ(z) rounds to 1.
        return jnp.sum(_on_simplex(1.0, jnp.stack([z, jnp.zeros_like(z)], -1), jnp.stack([y, 1 - y], -1)), axis=-1)
    if hasattr(methods, "conjugate_gradient") and hasattr(methods, "divergence"):
        return bregman_divergence(generator, y, methods.conjugate_gradient(z))
    if hasattr(methods, "value") and hasattr(methods, "conjugate"):
        return methods.conjugate(z) + methods.value(y) - jnp.sum(z * y, axis=-1)
    raise TypeError(
        f"generator must have value and conjugate, got {generator!r}; an example is geometry.NegativeEntropy()"
    )


def entmax(scores: ArrayLike, alpha: float = 1.5) -> Array:
    r"""The sparse softmax: the distribution that maximises ⟨p, z⟩ less Tsallis' Ω.

    .. math:: p_i = \max(0, (\alpha - 1) z_i - \tau)^{1/(\alpha - 1)}, \qquad \tau : \textstyle\sum_i p_i = 1

    Domain: real scores; -inf gives 0. NaN or +inf makes the row NaN.

    Gradient: :math:`s \circ (g - \langle s, g\rangle/\textstyle\sum s)` with :math:`s_i = p_i^{2-\alpha}` on the
    support, 0 elsewhere.

    Args:
      scores: ``[..., n]`` floats.
      alpha: α in (1, 2], a Python number: 2 is the sparsemax, towards 1 it is the softmax.

    Returns:
      A distribution, ``[..., n]``, in float32 or wider, exactly 0 where the score is far below the largest.

    Accuracy: each entry within 16u/(α - 1) absolute, whatever the offset of the scores; the sum is 1 within 8u.

    Raises:
      TypeError: scores that are not floating-point, α that is not a Python number.
      ValueError: a scalar, no class, α outside (1, 2].

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import entmax
      >>> [f"{p:.4f}" for p in entmax(jnp.array([1.0, 0.5, -2.0]))]
      ['0.6740', '0.3260', '0.0000']

    Source: Peters, Niculae and Martins, Sparse Sequence-to-Sequence Models, ACL 2019.
    """
    (z,) = vectors(scores=scores)
    return _entmax(_exponent(Tsallis(alpha).alpha), z)


def _exponent(alpha: float) -> float:
    if not 1 < alpha <= 2:
        raise ValueError(f"alpha must lie in (1, 2] on the simplex (use NegativeEntropy for 1), got {alpha}")
    return float(alpha)


# --- the prediction --------------------------------------------------------------------------------------------------
#
# The scores are measured from the largest one, s = (α - 1)(z - max z) <= 0; the threshold τ then lies in [-1, 0). With
# β = 1/(α - 1) >= 1, the function f(τ) = Σ max(0, s - τ)^β - 1 is convex and falls, and f(-1) >= 0. So Newton's method
# climbs from -1 to the root and never passes it. JAX differentiates the last two steps: at the root, one step has the
# first derivative of the root, and two steps have the first three.


def _heights(alpha: float, z: Array) -> tuple[Array, Array]:
    """p, and by how much (α - 1)z - τ falls short of 0 outside the support."""
    top = largest(z)
    s = (alpha - 1) * (z - nan_unless(jnp.isfinite(top), top))
    above = s - _climbed(alpha, s, _climbed(alpha, s, _threshold(alpha, lax.stop_gradient(s))))
    p = jnp.where(above > 0, jnp.where(above > 0, above, 1) ** (1 / (alpha - 1)), jnp.where(above <= 0, 0, above))
    return p / jnp.sum(p, axis=-1, keepdims=True), at_least(-above, 0)


def _threshold(alpha: float, s: Array) -> Array:
    """The threshold τ to within u, with the class axis kept."""

    def unsettled(state: tuple[Array, Array, Array]) -> Array:
        before, now, steps = state
        return jnp.any(now - before > unit_roundoff(s.dtype)) & (steps < _MOST_STEPS)

    start = jnp.full_like(s[..., :1], -1)
    state = start, _climbed(alpha, s, start), jnp.asarray(1)
    _, tau, _ = lax.while_loop(unsettled, lambda at: (at[1], _climbed(alpha, s, at[1]), at[2] + 1), state)
    return lax.stop_gradient(tau)


def _climbed(alpha: float, s: Array, tau: Array) -> Array:
    """One step of Newton's method."""
    beta = 1 / (alpha - 1)
    height = s - tau
    inside = height > 0
    below = jnp.where(inside, jnp.where(inside, height, 1) ** (beta - 1), 0)
    excess = jnp.sum(times(below, height), axis=-1, keepdims=True) - 1
    return tau + excess / (beta * jnp.sum(below, axis=-1, keepdims=True))


def _entmax_forward(alpha: float, z: Array) -> tuple[Array, Any]:
    return _heights(alpha, z)[0], (alpha, z)


def _entmax_backward(saved: Any, cotangent: Array) -> tuple[None, Array]:
    alpha, z = saved
    # Differentiating Σp = 1 with p = (s - τ)^β gives dp = σ∘(dz - <σ, dz>/Σσ), where σ = p^(2-α).
    weight = _slopes(alpha, _entmax(alpha, z))
    inside = jnp.where(weight == 0, 0, cotangent)
    return None, weight * functions.centered_by(weight / sum_over_classes(weight), inside)


def _slopes(alpha: float, p: Array) -> Array:
    """``σ = p^(2-α)``, which is 0 outside the support."""
    inside = p > 0
    return jnp.where(inside, jnp.where(inside, p, 1) ** (2 - alpha), 0 * p)


_entmax = closed_form(_entmax_forward, _entmax_backward)
"""``(α, z) -> p``, over the last axis."""


# --- the loss --------------------------------------------------------------------------------------------------------
#
# At the prediction p, z = ∇Ω(p) + a constant - λ, where λ >= 0 are the multipliers of p >= 0, and λp = 0. So for
# Σy = Σp = 1
#
#     L = Ω(y) - Ω(p) - <z, y - p> = D_Ω(y, p) + <λ, y>,      ∂L/∂y = ∇Ω(y) - ∇Ω(p) + λ + a constant
#     ∂L/∂z = p - y + (Σy - 1) σ/Σσ
#
# Every term of L is non-negative. The last term of ∂L/∂z is there for a y whose sum differs from 1 by a rounding: the
# right-hand form of L does not change when a constant is added to z, whatever Σy is. For α -> 1, σ = p and
# ∂L/∂z = (Σy) p - y. There is no λ then, but p may underflow; there y log(y/p) is formed as y log y - y log p̂.


def _simplex_forward(alpha: float, scores: Array, targets: Array) -> tuple[Array, Any]:
    z, y = scores, nan_unless(targets >= 0, targets)
    if alpha == 1:
        rows = row_statistics.row_statistics(z)
        p = row_statistics.p_of(z, rows)
        faint = p < 1e3 * float(jnp.finfo(p.dtype).tiny)
        usual = relative_entropy(jnp.where(faint, 1, y), jnp.where(faint, 1, p))
        terms = jnp.where(faint, xlogy(y, y) + times(y, row_statistics.surprisal(z, rows)) - y + p, usual)
    else:
        # Outside the support p stays 0 as z moves, while the slope of D in p is -∞. JAX would form 0·∞, which is NaN.
        p, short = _heights(alpha, z)
        outside = p == 0  # This is False for NaN, which is thereby kept.
        inside = power_divergence(alpha, jnp.where(outside, 1, y), jnp.where(outside, 1, p))
        beside = jnp.where(outside, y, 0) ** alpha / (alpha * (alpha - 1)) + times(y, short / (alpha - 1))
        terms = inside + beside
    return jnp.sum(terms, axis=-1), (alpha, scores, targets)


def _simplex_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    alpha, z, targets = saved
    y = nan_unless(targets >= 0, targets)
    if alpha == 1:
        rows = row_statistics.row_statistics(z).stopped()
        in_scores = functions.cross_entropy_slope(z, rows, y)
        in_targets = jnp.log(y) - functions.log_probabilities(z, rows)
    else:
        p = _entmax(alpha, z)
        weight = _slopes(alpha, p)
        excess = jnp.sum(y, axis=-1, keepdims=True) - 1
        in_scores = p - y + excess * weight / jnp.sum(weight, axis=-1, keepdims=True)
        scores_of = (alpha - 1) * z
        on = p > 0
        # ∇Ω(y) - z, with z measured from the threshold, so that it is 0 at y = p.
        level = jnp.max(jnp.where(on, scores_of - jnp.where(on, p, 1) ** (alpha - 1), -jnp.inf), axis=-1, keepdims=True)
        in_targets = (y ** (alpha - 1) - (scores_of - level)) / (alpha - 1)
    return None, cotangent[..., None] * in_scores, cotangent[..., None] * in_targets


_on_simplex = closed_form(_simplex_forward, _simplex_backward)
"""``(α, scores, targets) -> L``, over the last axis; α = 1 stands for the negative entropy."""
