"""Two rows of logits in one reading of both: the statistics of each about one class, and a first guess of a mean.

As in ``one_pass.py``, parts of a row are joined by one associative step, which XLA fuses into a pass over both arrays.
A part keeps the first row's maximum, its class i, the pivot, and the sum of the others; of the second row its logit at
i, its maximum, and the sum of the classes but i. So the second row's sum is about a pivot that is not known beforehand.

**The mean.** With w = v - u measured from its value at the pivot, a divergence wants <p, w> = Σ_{j≠i} p_j w_j. A part
keeps A = Σ_{j≠i} e^(u_j - R) w_j about its own pivot. Where two parts meet, the loser's w are measured anew:

    A = A₁ + D (A₂ + S₂ s)        s = (v_i₂ - v_i₁) - (u_i₂ - u_i₁)

with D the way from its reference to the common one, and S₂ its sum, with its pivot, which is one of the others now.
No pivot is less probable than the others of its part; so |s| S₂ is at most the part's size times Σ p |w|, and A within
that times u: a first guess, near the mean but not within its roundings, that a second reading mends (``logit_
divergences.py``). An infinite w is not in it: a step has an end.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from lossjax._softmax.one_pass import SCALE, Parts, reference, term, to_maximum, together
from lossjax._softmax.row_sum import DEFINITION, class_index

LONGEST_STEP = 1e12
"""Of w. With it a part's sum, up to 1e18, is a number of float32 still."""


def _joined(a: Parts, b: Parts) -> Parts:
    """Two parts as one: (maximum of u, sum without it, its index, v there, maximum of v, sum without i, A)."""
    (m1, s1, i1, v1, n1, t1, a1), (m2, s2, i2, v2, n2, t2, a2) = a, b
    first = (m1 > m2) | ((m1 == m2) & (i1 < i2))

    def ordered(of_a: Array, of_b: Array) -> tuple[Array, Array]:
        return jnp.where(first, of_a, of_b), jnp.where(first, of_b, of_a)

    (m, m_lost), (s, s_lost), (v, v_lost) = ordered(m1, m2), ordered(s1, s2), ordered(v1, v2)
    (n, n_lost), (t, t_lost), (a_kept, a_lost) = ordered(n1, n2), ordered(t1, t2), ordered(a1, a2)
    s_lost = s_lost + term(m_lost)
    t_lost = together(reference(n_lost), t_lost, reference(v_lost), term(v_lost))
    decay = jnp.where(reference(m) == reference(m_lost), 1, jnp.exp(0.5 * (reference(m_lost) - reference(m))))
    step = (v_lost - v) - (m_lost - m)
    step = jnp.where(jnp.isnan(step), 0, jnp.clip(step, -LONGEST_STEP, LONGEST_STEP))
    return (
        m,
        s + s_lost * decay * decay,
        jnp.where(first, i1, i2),
        v,
        jnp.maximum(n1, n2),
        together(reference(n), t, reference(n_lost), t_lost),
        a_kept + a_lost * decay * decay + s_lost * decay * decay * step,
    )


def statistics_of_pair(
    u: Array, v: Array, dtype: Any, reduce: Any = lax.reduce
) -> tuple[Array, tuple[Array, ...], tuple[Array, ...], Array]:
    """Of two rows each, with the class axis kept as 1: the index i of a maximum of u, and sums without it.

    ``(i, (u_i, max u, Σ exp(u_j - max u)), (v_i, max v, Σ exp(v_j - max v)), Σ exp(u_j - max u) w_j)``, all sums over
    j ≠ i, and the last a first guess; ``reduce`` is how parts are reduced, as in ``one_pass.statistics``.
    """
    u, v = (lax.stop_gradient(z).astype(dtype) for z in (u, v))
    nothing, zero, least = jnp.zeros_like(u), jnp.zeros((), dtype), jnp.asarray(-jnp.inf, dtype)
    parts = u, nothing, class_index(u, jnp.int32), v, v, nothing, nothing
    starts = least, zero, jnp.asarray(jnp.iinfo(jnp.int32).max, jnp.int32), least, least, zero, zero
    found = reduce(parts, starts, _joined, (u.ndim - 1,))
    m, s, i, there, n, t, a = (part[..., None] for part in found)
    to_m, to_n = to_maximum(m) / SCALE, to_maximum(n) / SCALE
    i = i.astype(jax.eval_shape(DEFINITION.index_of_maximum, u).dtype)
    return i, (m, m, s * to_m), (there, n, t * to_n), a * to_m
