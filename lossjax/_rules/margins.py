"""The rules of the margin losses; ``losses/margins.py`` holds the public functions."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax._core.xla import at_least, between, largest
from lossjax._rules.simplex import project_to_simplex
from lossjax.numerics import exact_difference, times

# --- binary:  max(0, margin - s y) -----------------------------------------------------------------------------------


def _short_forward(options: tuple[Any, float], score: Array, target: Array) -> tuple[Array, Any]:
    dtype, margin = options
    return at_least(margin - score.astype(dtype) * target.astype(dtype), 0), (options, score, target)


def _short_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    (dtype, margin), *given = saved
    score, target = (a.astype(dtype) for a in given)
    missing = margin - score * target
    pull = jnp.where(jnp.isnan(missing), missing, (missing > 0).astype(dtype))
    return None, -cotangent * times(pull, target), -cotangent * times(pull, score)


# --- binary sparsemax, m = s y ---------------------------------------------------------------------------------------


def _sparsemax_forward(dtype: Any, score: Array, sign: Array) -> tuple[Array, Any]:
    m = score.astype(dtype) * sign.astype(dtype)
    middle = jnp.square(1 - between(m, -1, 1)) / 4
    return jnp.where(m <= -1, -m, middle), (dtype, score, sign)


def _sparsemax_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    dtype, *given = saved
    score, sign = (a.astype(dtype) for a in given)
    pull = (1 - between(score * sign, -1, 1)) / 2
    return None, -cotangent * times(pull, sign), -cotangent * times(pull, score)


# --- multiclass:  max(0, margin + max_{j≠c} z_j - z_c) ---------------------------------------------------------------


def _seen(dtype: Any, logits: Array, labels: Array, valid: Array | None) -> tuple[Array, Array]:
    """Logits and labels with masked rows replaced by 0; a row with an unknown label is NaN."""
    z = logits.astype(dtype)
    if valid is not None:
        z, labels = jnp.where(valid[..., None], z, 0), jnp.where(valid, labels, 0)
    known = (labels >= 0) & (labels < z.shape[-1])
    return jnp.where(known[..., None], z, jnp.nan), labels


def _certain(z: Array) -> Array:
    """A row that one +inf decides, by logits that can be subtracted."""
    infinite = jnp.isposinf(z)
    decided = jnp.sum(infinite, axis=-1, keepdims=True, dtype=jnp.int32) == 1
    return jnp.where(decided, jnp.where(infinite, 0, jnp.where(jnp.isnan(z), z, -jnp.inf)), z)


def _is_label(z: Array, labels: Array) -> Array:
    return lax.broadcasted_iota(labels.dtype, z.shape, z.ndim - 1) == labels[..., None]


def _lead_forward(options: tuple[Any, float], logits: Array, labels: Array, valid: Array | None) -> tuple[Array, Any]:
    dtype, margin = options
    z, labels = _seen(dtype, logits, labels, valid)
    hot = _is_label(z, labels)
    rivals = jnp.where(hot, -jnp.inf, z)
    ahead, error = exact_difference(largest(rivals)[..., 0], jnp.sum(jnp.where(hot, z, 0), axis=-1))
    # (margin + ahead) + error: where the first sum nearly cancels it is exact, and the error is all that counts.
    short = at_least((margin + ahead) + error, 0)
    return short, (options, logits, labels, jnp.argmax(rivals, axis=-1).astype(labels.dtype), short, valid)


def _lead_backward(saved: Any, cotangent: Array) -> tuple[None, Array, None, None]:
    options, logits, labels, rival, short, valid = saved
    z, _ = _seen(options[0], logits, labels, valid)
    step = _is_label(z, rival).astype(z.dtype) - _is_label(z, labels).astype(z.dtype)
    pull = jnp.where(jnp.isnan(short), short, (short > 0).astype(z.dtype))
    in_z = (cotangent * pull)[..., None] * step
    return None, in_z if valid is None else jnp.where(valid[..., None], in_z, 0), None, None


# --- multiclass sparsemax --------------------------------------------------------------------------------------------
#
# For p = π(z), Σp = 1 and p_j = z_j - τ on the support S, the Fenchel-Young loss ½ Σ_S (z_j² - τ²) + ½ - z_c becomes,
# with z measured from z_c,  ½ [Σp² + 1] + (τ - z_c).  For c in S, τ - z_c = -p_c, and it is ½‖p - e_c‖²; for c outside,
# p_c = 0, and it is ½‖p - e_c‖² + (τ - z_c) with τ >= z_c.


def _residual(z: Array, hot: Array) -> Array:
    """π(z) - e_c, its entry at the label the negative sum of the others."""
    p = project_to_simplex(z)
    others = jnp.sum(jnp.where(hot, 0, p), axis=-1, keepdims=True)
    return jnp.where(hot, -others + 0 * p, p)  # 0·p: NaN stays NaN


def _multiclass_sparsemax_forward(dtype: Any, logits: Array, labels: Array, valid: Array | None) -> tuple[Array, Any]:
    z, labels = _seen(dtype, logits, labels, valid)
    z, hot = _certain(z), _is_label(z, labels)
    residual = _residual(z, hot)
    first = jnp.argmax(z, axis=-1, keepdims=True)
    own = jnp.sum(jnp.where(hot, z, 0), axis=-1)
    top, share = (jnp.take_along_axis(a, first, axis=-1)[..., 0] for a in (z, project_to_simplex(z)))
    behind = at_least((top - own) - share, 0)  # τ - z_c, the largest class being in S
    loss = jnp.sum(residual * residual, axis=-1) / 2 + behind
    return loss if valid is None else jnp.where(valid, loss, 0), (dtype, logits, labels, valid)


def _multiclass_sparsemax_backward(saved: Any, cotangent: Array) -> tuple[None, Array, None, None]:
    dtype, logits, labels, valid = saved
    z, labels = _seen(dtype, logits, labels, valid)
    in_z = cotangent[..., None] * _residual(_certain(z), _is_label(z, labels))
    return None, in_z if valid is None else jnp.where(valid[..., None], in_z, 0), None, None


below_margin = closed_form(_short_forward, _short_backward)
"""((dtype, margin), score, target) -> max(0, margin - score·target)."""
binary_sparsemax = closed_form(_sparsemax_forward, _sparsemax_backward)
behind_rival = closed_form(_lead_forward, _lead_backward)
"""((dtype, margin), logits, labels, valid) -> max(0, margin + the best rival - the label's logit)."""
multiclass_sparsemax = closed_form(_multiclass_sparsemax_forward, _multiclass_sparsemax_backward)
