"""The rules of the margin losses; ``losses/margins.py`` holds the public functions."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from lossjax._core.autodiff import closed_form
from lossjax._core.masks import hide, nan_unless
from lossjax._core.xla import at_least, between, largest
from lossjax._rules.simplex import project_to_simplex
from lossjax.numerics import exact_difference, times

# --- binary:  max(0, margin - s y) -----------------------------------------------------------------------------------


def _shortfall_forward(options: tuple[Any, float], score: Array, target: Array) -> tuple[Array, Any]:
    dtype, margin = options
    return at_least(margin - score.astype(dtype) * target.astype(dtype), 0), (options, score, target)


def _shortfall_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    (dtype, margin), *given = saved
    score, target = (a.astype(dtype) for a in given)
    missing = margin - score * target
    pull = jnp.where(jnp.isnan(missing), missing, (missing > 0).astype(dtype))
    return None, -cotangent * times(pull, target), -cotangent * times(pull, score)


below_margin = closed_form(_shortfall_forward, _shortfall_backward)
"""``((dtype, margin), score, target) -> max(0, margin - score·target)``, elementwise."""

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


binary_sparsemax = closed_form(_sparsemax_forward, _sparsemax_backward)
"""``(dtype, score, sign) -> loss``, elementwise: 0 for m >= 1, -m for m <= -1, and (1 - m)²/4 between."""

# --- multiclass:  max(0, margin + max_{j≠c} z_j - z_c) ---------------------------------------------------------------


def _undefined_unless_known(dtype: Any, logits: Array, labels: Array, valid: Array | None) -> tuple[Array, Array]:
    """Hide masked rows, and make every row whose label is not a class NaN."""
    z, labels = hide(valid, logits.astype(dtype)), hide(valid, labels)
    known = (labels >= 0) & (labels < z.shape[-1])
    return nan_unless(known, z), labels


def _subtractable(z: Array) -> Array:
    """Logits that can be subtracted from each other: a row with one +inf becomes 0 there and -inf elsewhere."""
    infinite = jnp.isposinf(z)
    decided = jnp.sum(infinite, axis=-1, keepdims=True, dtype=jnp.int32) == 1
    return jnp.where(decided, jnp.where(infinite, 0, jnp.where(jnp.isnan(z), z, -jnp.inf)), z)


def _is_label(z: Array, labels: Array) -> Array:
    return lax.broadcasted_iota(labels.dtype, z.shape, z.ndim - 1) == labels[..., None]


def _margin_shortfall_forward(
    options: tuple[Any, float], logits: Array, labels: Array, valid: Array | None
) -> tuple[Array, Any]:
    dtype, margin = options
    z, labels = _undefined_unless_known(dtype, logits, labels, valid)
    at_label = _is_label(z, labels)
    rivals = jnp.where(at_label, -jnp.inf, z)
    ahead, error = exact_difference(largest(rivals)[..., 0], jnp.sum(jnp.where(at_label, z, 0), axis=-1))
    # (margin + ahead) + error: where the first sum nearly cancels it is exact, and the error is all that counts.
    shortfall = at_least((margin + ahead) + error, 0)
    return shortfall, (options, logits, labels, jnp.argmax(rivals, axis=-1).astype(labels.dtype), shortfall, valid)


def _margin_shortfall_backward(saved: Any, cotangent: Array) -> tuple[None, Array, None, None]:
    options, logits, labels, rival, shortfall, valid = saved
    z, _ = _undefined_unless_known(options[0], logits, labels, valid)
    step = _is_label(z, rival).astype(z.dtype) - _is_label(z, labels).astype(z.dtype)
    pull = jnp.where(jnp.isnan(shortfall), shortfall, (shortfall > 0).astype(z.dtype))
    return None, hide(valid, (cotangent * pull)[..., None] * step), None, None


margin_shortfall = closed_form(_margin_shortfall_forward, _margin_shortfall_backward)
"""``((dtype, margin), logits, labels, valid) -> max(0, margin + the largest rival - the label's logit)``, per row."""

# --- multiclass sparsemax --------------------------------------------------------------------------------------------
#
# Let p = π(z) be the projection onto the simplex: Σp = 1, and p_j = z_j - τ on its support S. With z measured from z_c,
# the Fenchel-Young loss  ½ Σ_S (z_j² - τ²) + ½ - z_c  becomes  ½ [Σp² + 1] + (τ - z_c).
#
#     c in S:       τ - z_c = -p_c,            so the loss is  ½‖p - e_c‖²
#     c not in S:   p_c = 0 and τ >= z_c,      so the loss is  ½‖p - e_c‖² + (τ - z_c)


def _projection_minus_one_hot(z: Array, at_label: Array) -> Array:
    """π(z) - e_c; its entry at the label is the negative sum of the other entries."""
    p = project_to_simplex(z)
    others = jnp.sum(jnp.where(at_label, 0, p), axis=-1, keepdims=True)
    return jnp.where(at_label, -others + 0 * p, p)  # Adding 0·p keeps a NaN.


def _multiclass_sparsemax_forward(dtype: Any, logits: Array, labels: Array, valid: Array | None) -> tuple[Array, Any]:
    z, labels = _undefined_unless_known(dtype, logits, labels, valid)
    z, at_label = _subtractable(z), _is_label(z, labels)
    slope = _projection_minus_one_hot(z, at_label)
    first = jnp.argmax(z, axis=-1, keepdims=True)
    own = jnp.sum(jnp.where(at_label, z, 0), axis=-1)
    top, share = (jnp.take_along_axis(a, first, axis=-1)[..., 0] for a in (z, project_to_simplex(z)))
    behind = at_least((top - own) - share, 0)  # This is τ - z_c, because the largest class is in S.
    loss = jnp.sum(slope * slope, axis=-1) / 2 + behind
    return hide(valid, loss), (dtype, logits, labels, valid)


def _multiclass_sparsemax_backward(saved: Any, cotangent: Array) -> tuple[None, Array, None, None]:
    dtype, logits, labels, valid = saved
    z, labels = _undefined_unless_known(dtype, logits, labels, valid)
    in_z = cotangent[..., None] * _projection_minus_one_hot(_subtractable(z), _is_label(z, labels))
    return None, hide(valid, in_z), None, None


multiclass_sparsemax = closed_form(_multiclass_sparsemax_forward, _multiclass_sparsemax_backward)
"""``(dtype, logits, labels, valid) -> ½‖π(z) - e_c‖² + max(0, τ - z_c)``, per row."""
