r"""Riemannian geometry beyond the simplex (chapter 4.1, §4.1.5): curvature of any metric, distance of Gaussians."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.autodiff import closed_form
from lossjax.geometry._pseudo_inverse import matmul
from lossjax.geometry._vectors import norm, vectors
from lossjax.numerics import quotient


def sectional_curvature(metric: Callable[[Array], Array], point: ArrayLike, u: ArrayLike, v: ArrayLike) -> Array:
    r"""Curvature of the plane spanned by two vectors, for any Riemannian metric, by automatic differentiation.

    .. math:: K = \frac{\langle\Gamma_{uv}, \Gamma_{uv}\rangle - \langle\Gamma_{uu}, \Gamma_{vv}\rangle
        - \tfrac12 (\partial_v^2 g_{uu} + \partial_u^2 g_{vv} - 2 \partial_u \partial_v g_{uv})}
        {g_{uu} g_{vv} - g_{uv}^2}

    with Christoffel's symbols in the directions a, b: :math:`2\Gamma_{ab,l} = \partial_a g_{bl} + \partial_b g_{al} -
    \partial_l g_{ab}`. Their scalar products are taken with g⁻¹.

    Domain: a metric that JAX can differentiate twice, and independent u, v. Parallel vectors span no plane: their
    result is NaN or rounding noise.

    Gradient: JAX differentiates this formula.

    Args:
      metric: from a point ``[n]`` to a symmetric positive definite matrix ``[n, n]``.
      point: ``[..., n]`` floats.
      u: ``[..., n]`` floats, the same shape.
      v: ``[..., n]`` floats, the same shape.

    Returns:
      K, ``[...]``, in units of 1/length²; it is 1/4 for Fisher's metric on the simplex, n >= 3.

    Accuracy: second derivatives lose digits with the condition of the metric; use float64 (1e-12 on the simplex).

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or a metric that does not give an n x n matrix.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import sectional_curvature
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


def gaussian_fisher_rao_distance(mean_p: ArrayLike, scale_p: ArrayLike, mean_q: ArrayLike, scale_q: ArrayLike) -> Array:
    r"""Length of the shortest path between two Gaussians in Fisher's metric (dμ² + 2 dσ²)/σ², elementwise.

    .. math:: d = 2\sqrt2\, \operatorname{asinh}\frac{\|(a, b)\|}{2\sqrt{\sigma_p\sigma_q}},
              \qquad a = \tfrac{\mu_p - \mu_q}{\sqrt2},\ b = \sigma_p - \sigma_q

    Domain: any means, scales σ > 0 (standard deviations). No square overflows or vanishes.

    Gradient: with the unit vectors e = (a, b)/‖(a, b)‖ and f = (a, σ_p + σ_q)/H, H = ‖(a, σ_p + σ_q)‖, it is
    :math:`\partial_{\mu_p} = 2 e_1/H`, :math:`\partial_{\sigma_p} = \sqrt2\,(e_2 f_2 - e_1 f_1)/\sigma_p`, and in q
    with a and b reversed. Its length in the dual metric is 1; the subgradient 0 where the two Gaussians are one.

    Args:
      mean_p: ``[...]`` floats.
      scale_p: ``[...]`` that broadcasts to ``mean_p``, positive.
      mean_q: ``[...]`` floats, the same shape as ``mean_p``.
      scale_q: ``[...]`` that broadcasts to ``mean_p``, positive.

    Returns:
      The distance, ``[...]``, in float32 or wider. Near equality it is √(2 KL), KL in nats.

    Accuracy: relatively within 16u.

    Raises:
      TypeError: means that are not floating-point.
      ValueError: shapes that do not agree, scales that are not positive. If that is known only when the program runs
        (of traced arrays), the result is NaN, because a compiled program cannot raise.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import gaussian_fisher_rao_distance
      >>> d = gaussian_fisher_rao_distance(jnp.array(0.0), 1.0, jnp.array(0.0), jnp.e)  # √2 Δ log σ
      >>> print(f"{d:.5f}")
      1.41421

    Source: Atkinson and Mitchell, Rao's Distance Measure (1981); §4.1.5, I(p) of the model of §4.1.2.
    """
    means = {"mean_p": checks.floating("mean_p", mean_p), "mean_q": checks.floating("mean_q", mean_q)}
    shape = means["mean_p"].shape
    checks.same_shape("mean_q", means["mean_q"].shape, "of mean_p", shape, "use jnp.broadcast_to, or jax.vmap")
    scales = {name: _positive(name, value) for name, value in (("scale_p", scale_p), ("scale_q", scale_q))}
    for name, scale in scales.items():
        checks.broadcastable(name, scale.shape, shape)
    dtype = checks.compute_dtype(*means.values(), *scales.values())
    m_p, m_q = (mean.astype(dtype) for mean in means.values())
    s_p, s_q = (jnp.broadcast_to(scale.astype(dtype), shape) for scale in scales.values())
    return _gaussian_distance(m_p, s_p, m_q, s_q)


# --- the steps -------------------------------------------------------------------------------------------------------


def _sectional_curvature(metric: Callable[[Array], Array], x: Array, u: Array, v: Array) -> Array:
    g, n = metric(x), x.shape[-1]
    if g.shape != (n, n):
        raise ValueError(f"metric gives shape {g.shape} at a point of shape ({n},), wanted ({n}, {n}); return a matrix")

    def product(a: Array, b: Array) -> Callable[[Array], Array]:
        return lambda x: matmul(a, matmul(metric(x), b))

    def derivative(f: Callable[[Array], Array], along: Array) -> Callable[[Array], Array]:
        return lambda x: jax.jvp(f, (x,), (along,))[1]

    def christoffel(a: Array, b: Array) -> Array:
        towards = matmul(derivative(metric, a)(x), b) + matmul(derivative(metric, b)(x), a)
        return 0.5 * (towards - jax.grad(product(a, b))(x))

    uu = product(u, u)
    v = v - product(u, v)(x) / uu(x) * u  # It spans the same plane with u, and g_uv = 0 leaves nothing to cancel.
    uv, vv = product(u, v), product(v, v)
    of_uv, of_vv = christoffel(u, v), christoffel(v, v)
    raised = jnp.linalg.solve(g, jnp.stack([of_uv, of_vv], axis=-1))
    quadratic = matmul(of_uv, raised[:, 0]) - matmul(christoffel(u, u), raised[:, 1])
    second = (
        derivative(derivative(uu, v), v)(x)
        + derivative(derivative(vv, u), u)(x)
        - 2 * derivative(derivative(uv, u), v)(x)
    )
    return (quadratic - 0.5 * second) / (uu(x) * vv(x))


def _positive(name: str, value: ArrayLike) -> Array:
    """The value as floats. Where it is traced and not positive, it and its slope are NaN."""
    array = checks.positive(name, value)
    return array + jnp.where(array > 0, jnp.zeros_like(array), jnp.nan)


# Let h = ‖(a, b)‖, S = σ_p + σ_q, H = ‖(a, S)‖ and x = d/√8. Because S² = b² + 4 σ_p σ_q,
#
#     2√(σ_p σ_q) sinh x = h,        2√(σ_p σ_q) cosh x = H,        σ_p σ_q sinh²x = h²/4.
#
# Differentiating the last equation, with σ_p σ_q sinh x cosh x = h H/4 and h ∂h = (a/√2, b), gives
#
#     in μ_p:    ∂x/∂μ_p = (a/√2)/(h H)
#     in σ_p:    ∂x/∂σ_p = (b - h²/(2σ_p))/(h H) = (b S - a²)/(2 σ_p h H)
#
# which in e and f are the derivatives of the docstring. They have length 1 in the dual metric: from 2σ_p/H = f_2 + b/H
# and b e_1 = a e_2 follows σ_p ∂_μ d = e_1 f_2 + e_2 f_1, and this with (σ_p/√2) ∂_σ d = e_2 f_2 - e_1 f_1 is the
# product of two complex numbers of length 1.


def _gaussian_distance_forward(
    mean_p: Array, scale_p: Array, mean_q: Array, scale_q: Array
) -> tuple[Array, tuple[Array, ...]]:
    h = norm(_sides(mean_p, scale_p, mean_q, scale_q))
    # With the larger root divided out first, only the last quotient can overflow; there asinh(r) = log 2r is a sum.
    large, small = (jnp.sqrt(extreme(scale_p, scale_q)) for extreme in (jnp.maximum, jnp.minimum))
    ratio = h / large / small
    far = ratio > float(jnp.finfo(ratio.dtype).max) / 2**24
    value = jnp.where(far, jnp.log(h) - jnp.log(large) - jnp.log(small), jnp.arcsinh(jnp.where(far, 0, ratio / 2)))
    return math.sqrt(8) * value, (mean_p, scale_p, mean_q, scale_q)


def _gaussian_distance_backward(saved: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    _mean_p, scale_p, _mean_q, scale_q = saved
    ab = _sides(*saved)
    e, _h = _unit(ab)
    f, across = _unit(jnp.stack([ab[..., 0], scale_p + scale_q], axis=-1))
    turned = e * f
    in_mean = cotangent * 2 * e[..., 0] / across
    g = cotangent * math.sqrt(2)
    in_scale_p = g * (turned[..., 1] - turned[..., 0]) / scale_p
    in_scale_q = -g * (turned[..., 1] + turned[..., 0]) / scale_q
    return in_mean, in_scale_p, -in_mean, in_scale_q


def _sides(mean_p: Array, scale_p: Array, mean_q: Array, scale_q: Array) -> Array:
    """The vector (a, b) of the docstring, on a last axis."""
    return jnp.stack([(mean_p - mean_q) * math.sqrt(0.5), scale_p - scale_q], axis=-1)


def _unit(x: Array) -> tuple[Array, Array]:
    """A vector divided by its length (a zero vector stays 0), and the length."""
    length = norm(x)
    divisor = jnp.where(length == 0, 1, length)[..., None]
    return quotient(x, jnp.broadcast_to(divisor, x.shape)), length


_gaussian_distance = closed_form(_gaussian_distance_forward, _gaussian_distance_backward)
