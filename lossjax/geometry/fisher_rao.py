r"""Fisher-Rao geometry of categorical distributions (chapter 4.1, §4.1.5; table 4.1.1, corrected).

The map ξ = 2√p takes the simplex with Fisher's metric Σ dp²/p onto the positive orthant of a sphere of radius 2, and
preserves every length. So geodesics are arcs of great circles, and the curvature is the constant 1/4.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core.autodiff import closed_form
from lossjax.geometry._vectors import per_row, vectors


def fisher_rao_distance(p: ArrayLike, q: ArrayLike) -> Array:
    r"""Length of the shortest path between two distributions in Fisher's metric.

    .. math:: d(p, q) = 2 \arccos \textstyle\sum_i \sqrt{p_i q_i} = 4 \, \mathrm{atan2}(\|a\|, \|b\|),
              \qquad a = \sqrt p - \sqrt q = \tfrac{p - q}{\sqrt p + \sqrt q},\ b = \sqrt p + \sqrt q

    Domain: p, q on the closed simplex. The second form is computed. It reads any scale of (p, q) as an angle, and keeps
    the relative accuracy that the first form loses for p near q (in float32 that is 0 below a separation of 1e-4).

    Gradient: :math:`(\cos\tfrac d2 - \sqrt{q_i/p_i})/\sin\tfrac d2` up to a constant, which no direction on the simplex
    depends on; the subgradient 0 at p = q and where p_i = q_i = 0; infinite where p_i = 0 < q_i.

    Args:
      p: ``[..., n]`` floats.
      q: ``[..., n]`` floats, the same shape.

    Returns:
      The distance, ``[...]``, between 0 and π, in float32 or wider. Near p = q it is √(2 KL), KL in nats.

    Accuracy: relatively within 10u, and what the sums over the classes lose, at every separation, also below 1e-5 (the
    largest error found is 6.6u). That takes an arc tangent within 2u, as JAX 0.10's is; of arrays JAX 0.12's is within
    4.2u, and the bound is 13u.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import fisher_rao_distance
      >>> print(fisher_rao_distance(jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 0.5, 0.5])))
      3.1415927

    Source: §4.1.5, ds² integrated; Rao (1945). Kahan's formula for the angle between two vectors.
    """
    p, q = vectors(p=p, q=q)
    return 2 * _half_angle(*_roots(p, q), p, q)


def fisher_rao_geodesic(p: ArrayLike, q: ArrayLike, t: ArrayLike) -> Array:
    r"""The point at fraction t of the shortest path from p to q in Fisher's metric.

    .. math:: \sqrt{\gamma(t)} = \frac{\sin((1 - t)\theta)\sqrt p + \sin(t\theta)\sqrt q}{\sin\theta},
              \qquad \theta = \arccos \textstyle\sum_i \sqrt{p_i q_i}

    Domain: p, q on the closed simplex, t in [0, 1]. For other t the great circle goes on, and is reflected where it
    meets the boundary.

    Gradient: true in p, q and t, also at p = q. An entry that is 0 in p and q stays 0, with gradient 0.

    Args:
      p: ``[..., n]`` floats, the point at t = 0.
      q: ``[..., n]`` floats, the same shape, the point at t = 1.
      t: a number, or one per row, ``[...]``; for many points of one path use ``jax.vmap``.

    Returns:
      A distribution, ``[..., n]``, in float32 or wider.

    Accuracy: each entry relatively within 32u for t in [0, 1]; the sum is 1 within 32u.

    Raises:
      TypeError: arguments that are not floating-point, t that is not real.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import fisher_rao_geodesic
      >>> print(jnp.round(fisher_rao_geodesic(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), 1 / 3), 6))
      [0.75 0.25]

    Source: §4.1.5; Rao (1945).
    """
    p, q = vectors(p=p, q=q)
    fraction = per_row("t", t, p.shape[:-1], p.dtype)
    root_p, root_q = _roots(p, q)
    theta = _half_angle(root_p, root_q, p, q)[..., None]
    at_p, at_q = _sine_ratio(1 - fraction, theta), _sine_ratio(fraction, theta)
    return jnp.square(at_p * root_p + at_q * root_q)


def fisher_rao_exp(p: ArrayLike, v: ArrayLike) -> Array:
    r"""Where the geodesic that leaves p with velocity v is after unit time: the exponential map of Fisher's metric.

    .. math:: \sqrt{\gamma} = \cos\tfrac s2 \sqrt p + \tfrac{\sin(s/2)}{s}\, \tfrac{v}{\sqrt p},
              \qquad s = \sqrt{\textstyle\sum_i v_i^2/p_i}

    Domain: p on the closed simplex, and v that sums to 0, with v_i = 0 wherever p_i = 0 (otherwise the row is NaN,
    because no velocity dp leads off the boundary). It is the inverse of :func:`fisher_rao_log`. A path that meets the
    boundary is reflected there, like that of :func:`fisher_rao_geodesic`, and returns to p at s = 2π.

    Gradient: true in p and v, also at v = 0, in every order. An entry with p_i = v_i = 0 stays 0, with gradient 0.

    Args:
      p: ``[..., n]`` floats.
      v: ``[..., n]`` floats, the same shape: dp, a tangent vector of Fisher length s.

    Returns:
      A distribution, ``[..., n]``, in float32 or wider.

    Accuracy: each entry γ_i within 16u √γ_i (√p_i + \|v_i\|/√p_i) for s <= π: relatively, where v_i does not undo p_i.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import fisher_rao_exp
      >>> print(jnp.round(fisher_rao_exp(jnp.array([0.5, 0.5]), jnp.array([0.25, -0.25]) * jnp.pi), 6))
      [1. 0.]

    Source: §4.1.5, ds² integrated; do Carmo, Riemannian Geometry (1992), §3.2.
    """
    p, v = vectors(p=p, v=v)
    absent = (p == 0) & (v == 0)
    root = jnp.where(absent, 0, jnp.sqrt(jnp.where(absent, 1, p)))
    half_step = v / jnp.where(absent, 1, 2 * root)  # ½ dξ
    square = jnp.sum(jnp.square(half_step), axis=-1, keepdims=True)  # (s/2)²
    return jnp.square(_wave(-1, square) * root + _wave(0, square) * half_step)


def fisher_rao_log(p: ArrayLike, q: ArrayLike) -> Array:
    r"""The velocity with which the shortest path leaves p to reach q in unit time: the inverse of the exponential map.

    .. math:: v = \tfrac{d}{\sin\theta}\, \sqrt p \circ \left(\sqrt q - \cos\theta \sqrt p\right)
              = \tfrac{2\theta}{\sin\theta}\, \sqrt p \circ \left(a + 2 \sin^2\tfrac\theta2 \sqrt p\right),
              \qquad a = \tfrac{q - p}{\sqrt p + \sqrt q},\ \theta = \tfrac d2

    Domain: p, q on the closed simplex, q_i = 0 wherever p_i = 0 (otherwise the row is NaN: the velocity dp would be 0
    there, whatever q_i is). So there is no velocity between distributions of disjoint supports, at distance π.

    Gradient: true in p and q in every order, also at p = q, where it is minus the identity, and the identity.

    Args:
      p: ``[..., n]`` floats, where the vector starts.
      q: ``[..., n]`` floats, the same shape, where it leads.

    Returns:
      dp, ``[..., n]``, in float32 or wider. It sums to 0, and its Fisher length √(Σ v²/p) is the distance. At p = q it
      is 0 exactly.

    Accuracy: each entry within 16u √p_i (\|√q_i - √p_i\| + 2 sin²(θ/2) √p_i) 2θ/sin θ, at every separation: near p = q
      relatively, except for entries that change far less than the others.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import fisher_rao_log
      >>> print(jnp.round(fisher_rao_log(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0])) * 4 / jnp.pi, 6))
      [ 1. -1.]

    Source: §4.1.5, ds² integrated; do Carmo, Riemannian Geometry (1992), §3.2.
    """
    p, q = vectors(p=p, q=q)
    root_p, root_q = _roots(p, q)
    a = _difference(root_q, root_p, q, p)
    # ‖a‖² + ‖√p + √q‖² = 2 Σ(p + q). The share of ‖a‖² in it is sin²(θ/2), which is at most one half.
    share = jnp.sum(jnp.square(a), axis=-1, keepdims=True) / (2 * _mass(p, q)[..., None])
    leaves = jnp.any((p == 0) & (q > 0), axis=-1, keepdims=True)
    return root_p * (a + 2 * share * root_p) * _arc(share) * jnp.where(leaves, jnp.nan, 1)


# --- the steps -------------------------------------------------------------------------------------------------------


def _roots(p: Array, q: Array) -> tuple[Array, Array]:
    """√p and √q. Where both are 0 they are constants, because the slope of √ is infinite there."""
    absent = (p == 0) & (q == 0)
    root_p, root_q = (jnp.where(absent, 0, jnp.sqrt(jnp.where(absent, 1, x))) for x in (p, q))
    return root_p, root_q


def _difference(root_p: Array, root_q: Array, p: Array, q: Array) -> Array:
    """``a = √p - √q`` without cancellation."""
    total = root_p + root_q
    return (p - q) / jnp.where(total == 0, 1, total)


def _mass(p: Array, q: Array) -> Array:
    """``Σ(p + q)``. Where both are 0, an entry is a constant."""
    return jnp.sum(jnp.where((p == 0) & (q == 0), 0, p + q), axis=-1)


def _half_angle(root_p: Array, root_q: Array, p: Array, q: Array) -> Array:
    """The angle θ = d/2 between √p and √q, 2 atan(‖a‖/‖b‖).

    Where the squares of a would underflow, a is scaled by a power of two, which does not round. ‖b‖² is formed as
    2 Σ(p + q) - ‖a‖²; it is at least half of 2 Σ(p + q), so this does not cancel.

    Beside the errors of the two sums: an entry of a is within 4u (p - q, √p + √q with its roots, their ratio), and ‖a‖²
    within 9u. With r = ‖a‖/‖b‖ at most 1, θ feels half of that r/atan r times, at most 5.8u; 2.5u for the difference,
    the ratio and its root at most; and the arctangent's own 2u. Together 10u at most.
    """
    difference = _difference(root_p, root_q, p, q)
    tiny = float(jnp.finfo(difference.dtype).tiny)
    largest = lax.stop_gradient(jnp.max(jnp.abs(difference), axis=-1))
    scale = jnp.where(largest < tiny**0.25, tiny**0.5, 1).astype(difference.dtype)
    square_of_a = jnp.sum(jnp.square(difference / scale[..., None]), axis=-1)
    square_of_b = 2 * _mass(p, q) - square_of_a * scale * scale
    apart = square_of_a != 0
    return 2 * jnp.arctan(scale * jnp.where(apart, jnp.sqrt(jnp.where(apart, square_of_a, 1) / square_of_b), 0))


def _sine_ratio(fraction: Array, theta: Array) -> Array:
    """``sin(fraction·θ)/sin θ``, and its limit ``fraction`` at θ = 0."""
    apart = theta != 0
    return jnp.where(apart, jnp.sin(fraction * theta) / jnp.where(apart, jnp.sin(theta), 1), fraction)


def _arc(share: Array) -> Array:
    """``2θ/sin θ`` as a series in the share h = sin²(θ/2) in [0, ½]; a formula, which JAX differentiates.

    It is 2 asin(√h)/√(h(1 - h)) = 2 Σ_k h^k (2·4⋯2k)/(3·5⋯(2k + 1)). Every term is positive, and less than h times the
    term before it, so 26 terms in float32 and 56 in float64 leave less than u/8.
    """
    total = jnp.ones_like(share)
    for k in range(26 if jnp.finfo(share.dtype).bits <= 32 else 56, 0, -1):
        total = 1 + total * (share * (2 * k / (2 * k + 1)))
    return 2 * total


# The functions  w_k(y) = j_k(√y)/√y^k,  with spherical Bessel functions j_k:  w_{-1} = cos √y,  w_0 = sin √y/√y.
#
# As functions of the square y they have no kink at 0. With x = √y, (1/x) d/dx [j_k/x^k] = -j_{k+1}/x^{k+1}, and d/dy is
# half of (1/x) d/dx, so
#
#     dw_k/dy = -½ w_{k+1}.


def _wave_forward(order: int, y: Array) -> tuple[Array, Any]:
    # Near 0 it is the series Σ (-y/2)^i/(i! (2k + 2i + 1)!!), whose terms alternate and fall. cos and sin take it up to
    # before their first zero, the others up to y = 9, below which their recurrence cancels.
    near = y < (1 if order < 1 else 9)
    small, large = jnp.where(near, y, 0), jnp.where(near, 9, y)
    series = jnp.ones_like(y)
    for i in range(16, 0, -1):
        series = 1 - series * (small / (2 * i * (2 * (order + i) + 1)))
    x = jnp.sqrt(large)
    direct = [jnp.cos(x), jnp.sin(x) / x]
    for k in range(order):
        direct.append(((2 * k + 1) * direct[-1] - direct[-2]) / large)
    return jnp.where(near, series / math.prod(range(1, 2 * order + 2, 2)), direct[order + 1]), (order, y)


def _wave_backward(saved: Any, cotangent: Array) -> tuple[None, Array]:
    order, y = saved
    return None, -0.5 * cotangent * _wave(order + 1, y)


_wave = closed_form(_wave_forward, _wave_backward)
"""``(k, y) -> w_k(y)``, elementwise, for k >= -1."""
