r"""Contours of entropy on the simplex: a ray of logits leaves the uniform distribution and crosses each contour once.

On the ray p = softmax(t d), t >= 0, entropy falls,

    dH/dt = -t Var_p(d)

from log n at t = 0 to log m as t → ∞, where m is the number of entries of d that equal its maximum.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core.autodiff import closed_form
from lossjax._rules.logit_divergences import kl_of_logits
from lossjax._softmax.functions import softmax
from lossjax.geometry._vectors import per_row, vectors
from lossjax.numerics import log_ratio, unit_roundoff


def entropy_contour(entropy: ArrayLike, direction: ArrayLike) -> Array:
    r"""The distribution of a given entropy on a ray of logits.

    .. math:: p = \operatorname{softmax}(t d), \qquad t \ge 0, \quad H(p) = \text{entropy}

    Domain: finite d, of any offset and scale; log m < entropy <= log n, where m is the number of entries of d that
    equal its maximum. A row with another entropy is NaN. (An entropy a few roundings above log n counts as log n.)

    Gradient: that of the implicit function, :math:`dt = -(dH + t^2 \langle J d, \delta\rangle)/(t V)` for a change δ of
    d, with :math:`J = \operatorname{diag}(p) - p p^\top, V = \langle d, J d\rangle`. In the entropy it is infinite at
    log n.

    Args:
      entropy: in nats, a number, or one per row, ``[...]``.
      direction: ``[..., n]`` floats, d.

    Returns:
      A distribution, ``[..., n]``, in float32 or wider.

    Accuracy: its entropy is within 8u(H + V) of what was asked, with V the variance of log p (a rounding of t changes
      the entropy by u V). Near the uniform distribution log n - H is small beside log n, and the relative error of t,
      and with it that of each log(n p), is at most 16u + 2u log n/(log n - H).

    Raises:
      TypeError: a direction that is not floating-point, an entropy that is not real.
      ValueError: no class, an entropy of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import entropy_contour
      >>> p = entropy_contour(0.5, jnp.array([3.0, 1.0, 0.0]))
      >>> print([f"{x:.4f}" for x in p], f"{-jnp.sum(p * jnp.log(p)):.5f}")
      ['0.8539', '0.1078', '0.0383'] 0.50000

    Source: §4.1.1, H(P), on the space of theorem 4.1.6.
    """
    (d,) = vectors(direction=direction)
    wanted = jnp.broadcast_to(per_row("entropy", entropy, d.shape[:-1], d.dtype), (*d.shape[:-1], 1))
    # The ray does not depend on the origin and the unit of d, so d is measured by its gaps, scaled to lie in [0, 1].
    gaps = lax.stop_gradient(jnp.max(d, axis=-1, keepdims=True)) - d
    widest = lax.stop_gradient(jnp.max(gaps, axis=-1, keepdims=True))
    # The barrier keeps XLA from forming the gaps a second time in another way: which gaps are 0 is decided once.
    gaps = lax.optimization_barrier(gaps / jnp.where(widest == 0, 1, widest))
    near = _bisection(lax.stop_gradient(wanted), lax.stop_gradient(gaps))
    return softmax(-_time(wanted, gaps, near) * gaps)


# --- the steps -------------------------------------------------------------------------------------------------------

# An entropy is described by its distance from the nearer end. Neither distance cancels:
#
#     D = log n - H = KL(p‖uniform)        E = H - log m = log(1 + R/m) + t M/(m + R),  R = Σ e^(-tg),  M = Σ g e^(-tg)
#
# with the sums over the gaps that are not 0. By dH/dt, D rises and E falls at the rate t V.
#
# Newton's step.  To reach the wanted distance δ, log t has to change by log(δ/D) D/(t²V), because log D is nearly
# linear in log t. To reach the wanted distance ε it has to change by log(E/ε) E/(t²V).
#
# Bounds.  Below: V <= ¼ for gaps in [0, 1] gives D <= t²/8. Above: with k = n - m gaps of at least γ > 0 and
# s = tγ >= 1, E <= (k/m)(1 + s) e^(-s). With L = max(0, log(k/(mε))) this is at most ε for every s >= 2L + 2, because
# s - log(1 + s) >= L there.


def _distances(wanted: Array, gaps: Array) -> tuple[Array, Array]:
    """``δ = log n - H`` and ``ε = H - log m`` of the wanted entropy; NaN if the ray does not have it."""
    top = math.log(gaps.shape[-1])
    below, above = top - wanted, wanted - jnp.log(_ties(gaps))
    uniform = (below <= 0) & (below >= -4 * unit_roundoff(gaps.dtype) * top)
    exists = uniform | ((below > 0) & (above > 0))
    return jnp.where(exists, jnp.maximum(below, 0), jnp.nan), above


def _ties(gaps: Array) -> Array:
    """The number m of entries of d that equal its maximum."""
    return jnp.sum(gaps == 0, axis=-1, keepdims=True, dtype=gaps.dtype)


def _shortfall(wanted: Array, gaps: Array, t: Array) -> tuple[Array, Array]:
    """``log(δ/D)`` or ``log(E/ε)``, positive where t is too small, and the distance D or E itself."""
    below, above = _distances(wanted, gaps)
    ties, growing = _ties(gaps), t * gaps
    fallen = kl_of_logits(-growing, jnp.zeros_like(gaps))[..., None]
    weights = jnp.exp(-growing)
    rest = jnp.where(gaps > 0, weights, jnp.expm1(-growing))  # It is 0 for a tie, but its derivative is not.
    excess = jnp.sum(rest, axis=-1, keepdims=True) / ties
    left = jnp.log1p(excess) + jnp.sum(growing * weights, axis=-1, keepdims=True) / ties / (1 + excess)
    low = below < above
    distance = jnp.where(low, fallen, left)
    logarithm = log_ratio(jnp.where(low, below, above), distance)
    return jnp.where(low, logarithm, -logarithm), distance


def _slope_and_variance(gaps: Array, t: Array) -> tuple[Array, Array]:
    """``t J g = p∘(x - <p, x>)``, x = tg, and ``t²V``. Where p is largest x is 0, so the difference is accurate."""
    growing = t * gaps
    p = softmax(-growing)
    centred = growing - jnp.sum(p * growing, axis=-1, keepdims=True)
    product = p * centred
    return product, jnp.sum(product * centred, axis=-1, keepdims=True)


@jax.jit
def _bisection(wanted: Array, gaps: Array) -> Array:
    """The solution t to within a factor 1 ± 2^-20, by halving the logarithm of the bounds."""
    below, above = _distances(wanted, gaps)
    ties = _ties(gaps)
    nearest = jnp.min(jnp.where(gaps > 0, gaps, jnp.inf), axis=-1, keepdims=True)
    decay = jnp.maximum(jnp.log((gaps.shape[-1] - ties) / ties) - jnp.log(above), 0)
    bounds = jnp.sqrt(8 * below), jnp.where(below == 0, 0, (2 * decay + 2) / nearest)

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = jnp.sqrt(low) * jnp.sqrt(high)
        short = _shortfall(wanted, gaps, middle)[0] > 0
        return jnp.where(short, middle, low), jnp.where(short, high, middle)

    # The bounds are at most a factor 2^1100 apart: 11 halvings leave a factor 2, and 20 more the accuracy promised.
    low, high = lax.fori_loop(0, 32, halve, bounds)
    return jnp.sqrt(low) * jnp.sqrt(high)


def _newton(wanted: Array, gaps: Array, t: Array) -> Array:
    """One step of Newton's method in log t, limited to what the bisection left uncertain. t = 0 stays 0."""
    moving = t != 0
    safe = jnp.where(moving, t, 1)
    shortfall, distance = _shortfall(wanted, gaps, safe)
    step = shortfall * distance / _slope_and_variance(gaps, safe)[1]
    return jnp.where(moving, safe * (1 + jnp.clip(step, -(2.0**-16), 2.0**-16)), t)


def _time_forward(wanted: Array, gaps: Array, near: Array) -> tuple[Array, tuple[Array, ...]]:
    # The error falls from 2^-20 to 2^-40 to below u. After one step first derivatives are right, after two the second.
    return _newton(wanted, gaps, _newton(wanted, gaps, near)), (wanted, gaps, near)


def _time_backward(saved: tuple[Array, ...], cotangent: Array) -> tuple[Array, Array, Array]:
    # dH = -t² <J g, dg> - t V dt. At t = 0, t does not depend on the gaps, and dt/dH is infinite.
    wanted, gaps, near = saved
    t = _time(wanted, gaps, near)
    product, variance = _slope_and_variance(gaps, t)
    uniform = t == 0
    rate = t / jnp.where(uniform, 1, variance)  # This is 1/(tV).
    return -cotangent * jnp.where(uniform, jnp.inf, rate), -cotangent * t * (rate * product), jnp.zeros_like(near)


_time = closed_form(_time_forward, _time_backward)
"""``(wanted, gaps, near) -> t``, the solution near the result of the bisection."""
