r"""Fisher-Rao geometry of categorical distributions (§4.1.5, table 4.1.1 corrected).

The map ξ = 2√p takes the simplex with Fisher's metric Σ dp²/p onto the positive orthant of a sphere of radius 2,
without distortion: geodesics are arcs of great circles and the curvature is the constant 1/4.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax import _softmax
from lossjax.geometry._elementary import norm, per_row, vectors

Coordinates = Literal["logits", "ambient", "mean", "natural"]


def fisher_information(p: ArrayLike, coordinates: Coordinates = "logits") -> Array:
    r"""Fisher's information matrix of a categorical distribution, in one of four coordinate systems.

    .. math::
        \text{logits: } \operatorname{diag}(p) - p p^\top \qquad \text{ambient: } \operatorname{diag}(1/p) \qquad
        \text{mean } (p_1..p_{n-1}): \operatorname{diag}(1/p_i) + 1 1^\top/p_n

    and natural (logits with :math:`z_n = 0`): the logits' matrix less its last row and column, inverse of mean's.

    Domain: p on the simplex, in its interior for "ambient" (a matrix on vectors that sum to 0) and "mean".

    Gradient: that of the formulas.

    Args:
      p: ``[..., n]`` floats, a distribution.
      coordinates: "logits" (singular: it annihilates the constants), "ambient", "mean" or "natural" (n >= 2).

    Returns:
      ``[..., n, n]``, or ``[..., n - 1, n - 1]`` for "mean" and "natural", in float32 or wider.

    Accuracy: each entry within 8u. For the largest p, 1 - p is the sum of the others: nothing cancels.

    Raises:
      TypeError: p that is not floating-point.
      ValueError: no class, a single one where two are needed, coordinates of another name.

    Example:
      >>> import jax.numpy as jnp
      >>> print(fisher_information(jnp.array([0.5, 0.25, 0.25])))
      [[ 0.25   -0.125  -0.125 ]
       [-0.125   0.1875 -0.0625]
       [-0.125  -0.0625  0.1875]]

    Source: §4.1.5, I(p); Amari, Information Geometry and Its Applications (2016), §2.
    """
    if coordinates not in ("logits", "ambient", "mean", "natural"):
        raise ValueError(f"coordinates must be 'logits', 'ambient', 'mean' or 'natural', got {coordinates!r}")
    (p,) = vectors(p=p)
    if coordinates in ("mean", "natural") and p.shape[-1] < 2:
        raise ValueError(f"p has 1 class, wanted at least 2 in {coordinates} coordinates (n - 1 of them)")
    if coordinates == "ambient":
        return _with_diagonal(1 / p, jnp.zeros_like(p[..., :, None] * p[..., None, :]))
    if coordinates == "mean":
        free, last = p[..., :-1], p[..., -1:, None]
        ones = jnp.ones_like(free)
        return _with_diagonal(1 / free, ones[..., :, None] * ones[..., None, :] / last)
    covariance = -p[..., :, None] * p[..., None, :]
    covariance = _with_diagonal(p * _complement(p), covariance, add=False)
    return covariance if coordinates == "logits" else covariance[..., :-1, :-1]


def softmax_fisher_vector_product(logits: ArrayLike, v: ArrayLike) -> Array:
    r"""Fisher's information of softmax in logits, times a vector, without the matrix.

    .. math:: F v = J(p)\,v = p \circ (v - \langle p, v\rangle), \qquad p = \operatorname{softmax}(z)

    It is the Hessian of every softmax cross-entropy, hence also its Gauss-Newton matrix.

    Domain: any logits that define a softmax (-inf removes a class), finite v.

    Gradient: true in both; linear and symmetric in v.

    Args:
      logits: ``[..., n]`` floats.
      v: ``[..., n]`` floats, the same shape.

    Returns:
      ``[..., n]``, in float32 or wider.

    Accuracy: within 16u·p_i·(|v_i - v_m| + Σ_j p_j|v_j - v_m|), m the most probable class: confident rows included.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> print(softmax_fisher_vector_product(jnp.array([0.0, 0.0]), jnp.array([1.0, 3.0])))
      [-0.5  0.5]

    Source: §4.1.5; theorem 4.1.5 differentiated once more.
    """
    z, v = vectors(logits=logits, v=v)
    return _softmax.fisher_product(z, _softmax.row_statistics(z), v)


def fisher_rao_distance(p: ArrayLike, q: ArrayLike) -> Array:
    r"""Length of the shortest path between two distributions in Fisher's metric.

    .. math:: d(p, q) = 2 \arccos \textstyle\sum_i \sqrt{p_i q_i} = 4 \operatorname{atan2}(\|a\|, \|b\|),
              \qquad a = \sqrt p - \sqrt q = \tfrac{p - q}{\sqrt p + \sqrt q},\ b = \sqrt p + \sqrt q

    Domain: p, q on the closed simplex. The second form reads any scale of (p, q) as an angle, and keeps the relative
    accuracy that the first loses for p near q (it returns 0 from a separation of 1e-4 in float32).

    Gradient: :math:`(\cos\tfrac d2 - \sqrt{q_i/p_i})/\sin\tfrac d2` up to a constant, which no direction on the simplex
    sees; the subgradient 0 at p = q and where p_i = q_i = 0; infinite where p_i = 0 < q_i.

    Args:
      p: ``[..., n]`` floats.
      q: ``[..., n]`` floats, the same shape.

    Returns:
      The distance, ``[...]``, between 0 and π, in float32 or wider. Near p = q it is √(2 KL), KL in nats.

    Accuracy: relatively within 8u at every separation.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
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

    Gradient: true in p, q and t, at p = q also; an entry that is 0 in p and q stays 0, with gradient 0.

    Args:
      p: ``[..., n]`` floats, the point at t = 0.
      q: ``[..., n]`` floats, the same shape, the point at t = 1.
      t: a number, or one a row, ``[...]``; for many points of one path use ``jax.vmap``.

    Returns:
      A distribution, ``[..., n]``, in float32 or wider.

    Accuracy: each entry relatively within 32u for t in [0, 1]; the sum is 1 within 32u.

    Raises:
      TypeError: arguments that are not floating-point, t that is not real.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
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


def sectional_curvature(metric: Callable[[Array], Array], point: ArrayLike, u: ArrayLike, v: ArrayLike) -> Array:
    r"""Curvature of the plane spanned by two vectors, for any Riemannian metric, by automatic differentiation.

    .. math:: K = \frac{\langle\Gamma_{uv}, \Gamma_{uv}\rangle - \langle\Gamma_{uu}, \Gamma_{vv}\rangle
        - \tfrac12 (\partial_v^2 g_{uu} + \partial_u^2 g_{vv} - 2 \partial_u \partial_v g_{uv})}
        {g_{uu} g_{vv} - g_{uv}^2}

    with Christoffel's symbols in the directions a, b: :math:`2\Gamma_{ab,l} = \partial_a g_{bl} + \partial_b g_{al} -
    \partial_l g_{ab}`, scalar products of which are taken with g⁻¹.

    Domain: a metric that JAX can differentiate twice, and independent u, v; parallel ones span no plane, and what comes
    out of them is NaN or rounding noise.

    Gradient: by differentiation of the above.

    Args:
      metric: from a point ``[n]`` to a symmetric positive definite matrix ``[n, n]``.
      point: ``[..., n]`` floats.
      u: ``[..., n]`` floats, the same shape.
      v: ``[..., n]`` floats, the same shape.

    Returns:
      K, ``[...]``, in units of 1/length²: 1/4 for Fisher's metric on the simplex, n >= 3.

    Accuracy: second derivatives lose digits with the condition of the metric; use float64 (1e-12 on the simplex).

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or a metric that does not give an n x n matrix.

    Example:
      >>> import jax.numpy as jnp
      >>> sphere = lambda x: jnp.diag(jnp.array([1.0, jnp.sin(x[0]) ** 2]))  # polar angle and longitude
      >>> x, u, v = jnp.array([0.5, 0.1]), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
      >>> print(f"{sectional_curvature(sphere, x, u, v):.3f}")
      1.000

    Source: table 4.1.1, where "variable curvature" is corrected to 1/4; do Carmo, Riemannian Geometry (1992), §4.3.
    """
    point, u, v = vectors(point=point, u=u, v=v)

    def at_point(x: Array, u: Array, v: Array) -> Array:
        return _sectional_curvature(metric, x, u, v)

    return jnp.vectorize(at_point, signature="(n),(n),(n)->()")(point, u, v)


# --- the steps -------------------------------------------------------------------------------------------------------


def _with_diagonal(diagonal: Array, matrix: Array, *, add: bool = True) -> Array:
    """``matrix`` with ``diagonal`` added to its own, or in its place; a product with the identity would make inf·0."""
    on = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=bool), matrix.shape)
    return jnp.where(on, diagonal[..., None, :] + (matrix if add else 0), matrix)


def _complement(p: Array) -> Array:
    """1 - p of a distribution: at its largest entry, the sum of the others. The derivative is that of 1 - p."""
    largest = jnp.argmax(p, axis=-1, keepdims=True)
    at_largest = lax.broadcasted_iota(largest.dtype, p.shape, p.ndim - 1) == largest
    others = jnp.sum(jnp.where(at_largest, 0, p), axis=-1, keepdims=True)
    return lax.stop_gradient(jnp.where(at_largest, others, 1 - p)) - (p - lax.stop_gradient(p))


def _roots(p: Array, q: Array) -> tuple[Array, Array]:
    """√p and √q, constant where both are 0: there √ has an infinite slope that nothing else would silence."""
    absent = (p == 0) & (q == 0)
    root_p, root_q = (jnp.where(absent, 0, jnp.sqrt(jnp.where(absent, 1, x))) for x in (p, q))
    return root_p, root_q


def _half_angle(root_p: Array, root_q: Array, p: Array, q: Array) -> Array:
    """The angle θ = d/2 between √p and √q."""
    total = root_p + root_q
    difference = (p - q) / jnp.where(total == 0, 1, total)
    return 2 * jnp.arctan2(norm(difference), norm(total))


def _sine_ratio(fraction: Array, theta: Array) -> Array:
    """``sin(fraction·θ)/sin θ``, and its limit ``fraction`` at θ = 0."""
    apart = theta != 0
    return jnp.where(apart, jnp.sin(fraction * theta) / jnp.where(apart, jnp.sin(theta), 1), fraction)


def _sectional_curvature(metric: Callable[[Array], Array], x: Array, u: Array, v: Array) -> Array:
    g, n = metric(x), x.shape[-1]
    if g.shape != (n, n):
        raise ValueError(f"metric gives shape {g.shape} at a point of shape ({n},), wanted ({n}, {n}); return a matrix")

    def product(a: Array, b: Array) -> Callable[[Array], Array]:
        return lambda x: _dot(a, _dot(metric(x), b))

    def derivative(f: Callable[[Array], Array], along: Array) -> Callable[[Array], Array]:
        return lambda x: jax.jvp(f, (x,), (along,))[1]

    def christoffel(a: Array, b: Array) -> Array:
        towards = _dot(derivative(metric, a)(x), b) + _dot(derivative(metric, b)(x), a)
        return 0.5 * (towards - jax.grad(product(a, b))(x))

    uu = product(u, u)
    v = v - product(u, v)(x) / uu(x) * u  # the plane is the same, and g_uv = 0 leaves nothing to cancel below
    uv, vv = product(u, v), product(v, v)
    of_uv, of_vv = christoffel(u, v), christoffel(v, v)
    raised = jnp.linalg.solve(g, jnp.stack([of_uv, of_vv], axis=-1))
    quadratic = _dot(of_uv, raised[:, 0]) - _dot(christoffel(u, u), raised[:, 1])
    second = (
        derivative(derivative(uu, v), v)(x)
        + derivative(derivative(vv, u), u)(x)
        - 2 * derivative(derivative(uv, u), v)(x)
    )
    return (quadratic - 0.5 * second) / (uu(x) * vv(x))


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
