r"""Information projections: onto given moments (I-projection), and onto an exponential family (m-projection).

They minimise KL in its first argument, and in its second: G6 (docs/theorems.md). One computation gives both. Let
p* = softmax(log q + Tᵀλ) have the moments Tp* = b. For every p with the same moments, log p*/q = Tᵀλ - const has the
same mean under p and under p*, so that

    KL(p‖q) = KL(p‖p*) + ⟨p, log p*/q⟩ = KL(p‖p*) + KL(p*‖q),                                             (Pythagoras)

hence p* is the I-projection of q onto {p : Tp = b}. The equation also holds with any member q' = softmax(log q + Tᵀλ')
of the family of q in place of q: so p* is the m-projection onto that family of every p with Tp = b.
"""

import functools
from typing import Literal, overload

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax.geometry._pseudo_inverse import matmul
from lossjax.geometry._tilting import tilted_to
from lossjax.geometry._vectors import vectors
from lossjax.geometry.intersection import ProjectionInfo, settled


@overload
def i_projection(
    q: ArrayLike, T: ArrayLike, b: ArrayLike, *, max_iterations: int = ..., return_info: Literal[False] = ...
) -> Array: ...
@overload
def i_projection(
    q: ArrayLike, T: ArrayLike, b: ArrayLike, *, max_iterations: int = ..., return_info: Literal[True]
) -> tuple[Array, ProjectionInfo]: ...
def i_projection(
    q: ArrayLike, T: ArrayLike, b: ArrayLike, *, max_iterations: int = 100, return_info: bool = False
) -> Array | tuple[Array, ProjectionInfo]:
    r"""The distribution with the moments b nearest to q: the I-projection onto a linear family.

    .. math:: p^* = \arg\min_p \{ \mathrm{KL}(p \| q) : Tp = b,\ \textstyle\sum_i p_i = 1 \}
        = \operatorname{softmax}(\log q + T^\top \lambda)

    It is the distribution of largest entropy with these moments, if q is uniform.

    Domain: q >= 0 of any scale, not all 0; zeros stay zeros. Rows of T may be redundant or constant; each is measured
    in units of its largest entry. b must be the moments of some distribution on the support of q. At the edge of these
    moments λ is infinite, and p* is the limit, up to rounding. (Where rows of T are redundant to 1 in 100, rounding may
    put b beyond the edge.) Any other b raises; if that is known only when the program runs (of traced arrays), the
    result is NaN, because a compiled program cannot raise.

    Gradient: true in q (also at q_i = 0), T and b, to any order, where the rank of T and the support of p* do not
    change nearby.

    Args:
      q: ``[..., n]`` floats.
      T: ``[k, n]`` floats, the statistics.
      b: ``[..., k]`` floats, the moments wanted.
      max_iterations: Newton steps, an integer.
      return_info: also return how the iteration ended; then nothing is raised if it did not converge.

    Returns:
      p*, ``[..., n]``, in float32 or wider; with ``return_info`` the pair (p*, :class:`ProjectionInfo`). Its residual
      is the largest |Tp* - b|, each moment in units of the largest entry of its row of T.

    Accuracy: that residual is at most 4u(1 + s)(8 + max(k, n) + g), where s <= 2√(kn) is a norm of T in the same units
    and g is the size of the exponents: a small number except near the edge, and never above 64 log(1/u).

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not fit; moments that no distribution on the support of q has.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import i_projection
      >>> p = i_projection(jnp.full(3, 1 / 3), jnp.array([[0.0, 1.0, 2.0]]), jnp.array([10 / 7]))
      >>> print(jnp.round(7 * p, 4))
      [1. 2. 4.]

    Source: G6 (docs/theorems.md); Csiszár (1975); Kullback (1959).
    """
    (q,), T, b = vectors(q=q), _statistics(T), checks.floating("b", b)
    checks.same_shape("T", T.shape[1:], "of a row of q, after its first axis", q.shape[-1:], "give [k, n]")
    checks.same_shape("b", b.shape, "of q, but k of T for n", (*q.shape[:-1], T.shape[0]), "give k moments a row")
    dtype = checks.compute_dtype(q, T, b)
    point, info = _by_row(q.astype(dtype), T.astype(dtype), b.astype(dtype), max_iterations)
    remedy = "no distribution on the support of q has these moments; or raise max_iterations"
    point, info = settled(point, info, raises=not return_info, remedy=remedy)
    return (point, info) if return_info else point


@overload
def m_projection(
    p: ArrayLike, T: ArrayLike, base: ArrayLike, *, max_iterations: int = ..., return_info: Literal[False] = ...
) -> Array: ...
@overload
def m_projection(
    p: ArrayLike, T: ArrayLike, base: ArrayLike, *, max_iterations: int = ..., return_info: Literal[True]
) -> tuple[Array, ProjectionInfo]: ...
def m_projection(
    p: ArrayLike, T: ArrayLike, base: ArrayLike, *, max_iterations: int = 100, return_info: bool = False
) -> Array | tuple[Array, ProjectionInfo]:
    r"""The member of an exponential family nearest to p: the m-projection, the fit of maximum likelihood.

    .. math:: q^* = \arg\min_q \{ \mathrm{KL}(p \| q) : q = \operatorname{softmax}(\log q_0 + T^\top \lambda) \}

    It has the moments of p, Tq* = Tp, and so it is the I-projection of the base q₀ onto these moments.

    Domain: distributions p, base >= 0 of any scale; p > 0 only where base > 0. Otherwise every KL is infinite, and the
    call raises; if that is known only when the program runs (of traced arrays), the result is NaN, because a compiled
    program cannot raise. Where zeros of p put Tp at the edge of the moments of the family, λ is infinite, and q* is in
    the closure of the family.

    Gradient: true in p, T and base, under the conditions of :func:`i_projection`.

    Args:
      p: ``[..., n]`` floats, each row summing to 1.
      T: ``[k, n]`` floats, the statistics.
      base: ``[..., n]`` floats, the same shape as p.
      max_iterations: Newton steps, an integer.
      return_info: also return how the iteration ended; then nothing is raised if it did not converge.

    Returns:
      q*, ``[..., n]``, in float32 or wider; with ``return_info`` the pair (q*, :class:`ProjectionInfo`), the residual
      in the units of :func:`i_projection`.

    Accuracy: the bound of :func:`i_projection`.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not fit; p > 0 where base is 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import m_projection
      >>> p, base = jnp.array([0.5, 0.0, 0.5]), jnp.array([1.0, 2.0, 1.0])  # binomials
      >>> print(jnp.round(m_projection(p, jnp.array([[0.0, 1.0, 2.0]]), base), 4))
      [0.25 0.5  0.25]

    Source: G6 (docs/theorems.md); Amari and Nagaoka, Methods of Information Geometry (2000), §3.5.
    """
    (p, base), T = vectors(p=p, base=base), _statistics(T)
    checks.same_shape("T", T.shape[1:], "of a row of p, after its first axis", p.shape[-1:], "give [k, n]")
    dtype = checks.compute_dtype(p, T)
    p, T, base = p.astype(dtype), T.astype(dtype), base.astype(dtype)
    moments = matmul(p.reshape(-1, p.shape[-1]), T.T).reshape(*p.shape[:-1], T.shape[0])
    point, info = _by_row(base, T, moments, max_iterations)
    inside = ~jnp.any((p != 0) & (base == 0), axis=-1)
    remedy = "p must be a distribution, and 0 where base is; or raise max_iterations"
    info = info._replace(converged=info.converged & inside)
    point, info = settled(point, info, raises=not return_info, remedy=remedy)
    return (point, info) if return_info else point


def _statistics(T: ArrayLike) -> Array:
    array = checks.floating("T", T)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"T has shape {array.shape}, wanted [k, n], k, n >= 1; for one statistic use t[None, :]")
    return array


def _by_row(q: Array, T: Array, b: Array, max_iterations: int) -> tuple[Array, ProjectionInfo]:
    if checks.integer("max_iterations", max_iterations) < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    return _solved(q, T, b, int(max_iterations))


@functools.partial(jax.jit, static_argnums=3)
def _solved(q: Array, T: Array, b: Array, max_iterations: int) -> tuple[Array, ProjectionInfo]:
    # It is jitted for callers that are not: eagerly, the iteration compiles some 130 small programs, which takes 4 s.
    row = jnp.vectorize(lambda q, b: tilted_to(q, T, b, max_iterations), signature="(n),(k)->(n),(),(),()")
    point, *ending = row(q, b)
    return point, ProjectionInfo(*ending)
