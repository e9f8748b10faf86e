r"""Aitchison geometry: the open simplex as a vector space (chapter 4.1, §4.1.6; theorem 4.1.6 made exact).

Softmax maps R^C modulo the constants one-to-one onto the open simplex, and the centred log-ratio is its inverse. The
addition and scaling of logits become the operations ⊕ and ⊙ here, and the norm of centred logits becomes the distance:

    softmax(u + v) = softmax(u) ⊕ softmax(v)        softmax(t·u) = t ⊙ softmax(u)        clr(softmax(u)) = u - mean(u)
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.autodiff import closed_form
from lossjax._softmax.functions import centered_by, log_sum_exp, softmax
from lossjax.geometry._vectors import norm, per_row, vectors
from lossjax.numerics import log_ratio, xlogy


def centered_log_ratio(p: ArrayLike, *, axis: int | Sequence[int] = -1) -> Array:
    r"""Logits of a distribution that sum to 0: the inverse of softmax.

    .. math:: \operatorname{clr}(p)_i = \log p_i - \tfrac1n \textstyle\sum_j \log p_j

    Domain: p > 0; scaling p changes nothing. Where an entry is 0 (or below the smallest normal number times the largest
    entry) the row has no logits: NaN there and +inf at the other entries.

    Gradient: :math:`(g_i - \tfrac1n \sum_j g_j)/p_i` for a cotangent g.

    Args:
      p: ``[..., n]`` floats (the class axis is ``axis``).
      axis: the class axis, or several axes, which are taken as one.

    Returns:
      Logits in nats, the shape of ``p``, in float32 or wider.

    Accuracy: within 8u of the largest entry of the result, also near the uniform distribution.

    Raises:
      TypeError: p that is not floating-point.
      ValueError: a scalar, an axis that does not exist, no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import centered_log_ratio
      >>> print(centered_log_ratio(jnp.array([0.125, 0.25, 0.5]), axis=-1) / jnp.log(2.0))
      [-1.  0.  1.]

    Source: theorem 4.1.6; Aitchison, The Statistical Analysis of Compositional Data (1986).
    """
    p = checks.floating("p", p)
    axes = checks.class_axis(p, "p", axis)
    return _centered_log_ratio(axes, p.astype(checks.compute_dtype(p)))


def _centered_log_ratio_forward(axes: tuple[int, ...], p: Array) -> tuple[Array, Any]:
    # Measured from the largest entry, the logarithms are as small as the result. Near uniform, log p itself is not.
    logits = log_ratio(p, jnp.broadcast_to(jnp.max(p, axis=axes, keepdims=True), p.shape))
    return logits - jnp.mean(logits, axis=axes, keepdims=True), (axes, p)


def _centered_log_ratio_backward(saved: Any, cotangent: Array) -> tuple[None, Array]:
    axes, p = saved
    return None, (cotangent - jnp.mean(cotangent, axis=axes, keepdims=True)) / p


_centered_log_ratio = closed_form(_centered_log_ratio_forward, _centered_log_ratio_backward)
"""``(axes, p) -> log p - mean log p``."""


def aitchison_add(p: ArrayLike, q: ArrayLike) -> Array:
    r"""Perturbation, the addition of Aitchison's space; also Bayes' rule with prior p and likelihood q.

    .. math:: (p \oplus q)_i = p_i q_i / \textstyle\sum_j p_j q_j = \operatorname{softmax}(\log p + \log q)_i

    Domain: p, q >= 0, of any scale; zeros stay zeros. A row whose products are all 0 is NaN.

    Gradient: :math:`(g_i - \langle p \oplus q, g\rangle)\,q_i/\langle p, q\rangle` in p, also
    at p_i = 0, and with p and q exchanged in q. (Second derivatives exist for positive entries.)

    Args:
      p: ``[..., n]`` floats.
      q: ``[..., n]`` floats, the same shape.

    Returns:
      A distribution, ``[..., n]``, in float32 or wider.

    Accuracy: each entry relatively within 8u(1 + max|log p| + max|log q|); no product underflows.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import aitchison_add
      >>> print(jnp.round(aitchison_add(jnp.array([0.5, 0.25, 0.25]), jnp.array([0.0, 0.3, 0.1])), 6))
      [0.   0.75 0.25]

    Source: theorem 4.1.6; Aitchison (1986).
    """
    p, q = vectors(p=p, q=q)
    return _aitchison_add(p, q)


def _aitchison_add_forward(p: Array, q: Array) -> tuple[Array, Any]:
    return softmax(jnp.log(p) + jnp.log(q)), (p, q)


def _aitchison_add_backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    p, q = saved
    log_p, log_q = jnp.log(p), jnp.log(q)
    log_mass = log_sum_exp(log_p + log_q)[..., None]  # This is log <p, q>.
    centered = centered_by(softmax(log_p + log_q), cotangent)
    return centered * jnp.exp(log_q - log_mass), centered * jnp.exp(log_p - log_mass)


_aitchison_add = closed_form(_aitchison_add_forward, _aitchison_add_backward)
"""``(p, q) -> p∘q/<p, q>`` over the last axis."""


def aitchison_scale(p: ArrayLike, scalar: ArrayLike) -> Array:
    r"""Powering, the scalar multiplication of Aitchison's space; also a change of temperature, scalar = 1/T.

    .. math:: (t \odot p)_i = p_i^t / \textstyle\sum_j p_j^t = \operatorname{softmax}(t \log p)_i

    Domain: p > 0 of any scale, any real scalar. Zeros of p stay zeros for a positive scalar, and 0 ⊙ p is uniform.

    Gradient: :math:`t\,(J(r) g)_i/p_i` in p and :math:`\langle J(r) g, \log p\rangle` in the scalar, with
    r = t ⊙ p and J(r) = diag(r) - r rᵀ.

    Args:
      p: ``[..., n]`` floats.
      scalar: t, a number, or one per row, ``[...]``.

    Returns:
      A distribution, ``[..., n]``, in float32 or wider.

    Accuracy: each entry relatively within 8u(1 + |t| max|log p|).

    Raises:
      TypeError: p that is not floating-point, a scalar that is not real.
      ValueError: no class, a scalar of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import aitchison_scale
      >>> print(jnp.round(aitchison_scale(jnp.array([0.25, 0.25, 0.5]), 3), 6))
      [0.1 0.1 0.8]

    Source: theorem 4.1.6; Aitchison (1986).
    """
    (p,) = vectors(p=p)
    t = per_row("scalar", scalar, p.shape[:-1], p.dtype)
    return softmax(xlogy(jnp.broadcast_to(t, p.shape), p))


def aitchison_distance(p: ArrayLike, q: ArrayLike) -> Array:
    r"""Euclidean distance of centred logits: the metric in which softmax is an isometry from centred logits.

    .. math:: d(p, q) = \|\operatorname{clr}(p) - \operatorname{clr}(q)\|_2

    Domain: p, q > 0, of any scale. +inf or NaN where exactly one, or both, of a pair of entries is 0.

    Gradient: :math:`c_i/(d\,p_i)` in p, :math:`-c_i/(d\,q_i)` in q, c = clr(p) - clr(q); 0 at d = 0, a subgradient.

    Args:
      p: ``[..., n]`` floats.
      q: ``[..., n]`` floats, the same shape.

    Returns:
      The distance in nats, ``[...]``, in float32 or wider.

    Accuracy: within 8u of max|log p/q|, also near p = q. For distributions this is a relative error.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import aitchison_distance
      >>> print(aitchison_distance(jnp.array([0.5, 0.5]), jnp.array([0.75, 0.25])) * jnp.sqrt(2.0) / jnp.log(3.0))
      1.0

    Source: theorem 4.1.6; Aitchison (1986).
    """
    p, q = vectors(p=p, q=q)
    # clr(p) - clr(q) = clr(p/q) is formed from the ratios, because the difference of two logits cancels near p = q.
    logits = log_ratio(p, q)
    return norm(logits - jnp.mean(logits, axis=-1, keepdims=True))


def aitchison_inner_product(p: ArrayLike, q: ArrayLike) -> Array:
    r"""Scalar product of Aitchison's space: the scalar product of the centred logits.

    .. math:: \langle p, q\rangle = \textstyle\sum_i \operatorname{clr}(p)_i \operatorname{clr}(q)_i

    Domain: p, q > 0, of any scale; NaN where an entry is 0. The uniform distribution is orthogonal to all others.

    Gradient: :math:`\operatorname{clr}(q)_i/p_i` in p, :math:`\operatorname{clr}(p)_i/q_i` in q.

    Args:
      p: ``[..., n]`` floats.
      q: ``[..., n]`` floats, the same shape.

    Returns:
      The product in nats², ``[...]``, in float32 or wider; of p with itself, the square of the distance from uniform.

    Accuracy: within 16(n + 1)u·max|clr p|·max|clr q|.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import aitchison_inner_product
      >>> p = jnp.array([0.125, 0.25, 0.5])
      >>> print(f"{aitchison_inner_product(p, p) / jnp.log(2.0) ** 2:.5f}")
      2.00000

    Source: theorem 4.1.6; Aitchison (1986); Pawlowsky-Glahn and Egozcue (2001).
    """
    p, q = vectors(p=p, q=q)
    return jnp.sum(centered_log_ratio(p) * centered_log_ratio(q), axis=-1)
