"""Second-order products of the softmax cross-entropies: Hessian times vector, without a C×C matrix."""

from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.domains import AMOUNTS
from lossjax._core.masks import hide
from lossjax._core.options import complete, with_options
from lossjax._softmax import functions, row_statistics
from lossjax._softmax.cross_entropy import softmax_losses
from lossjax._softmax.curves import CROSS_ENTROPY
from lossjax._softmax.options import HessianOptions, LogitLoss, classes_last
from lossjax._softmax.smoothing import Smoothing
from lossjax._softmax.transform import LogitTransform


@with_options
def softmax_cross_entropy_hvp(
    logits: ArrayLike, targets: ArrayLike, vector: ArrayLike, **options: Unpack[HessianOptions]
) -> Array:
    r"""Hessian of the softmax cross-entropy, summed over rows (weighted, and over the normalizer), times a vector.

    .. math:: H v = (\mu + 2\lambda\omega\,\mathrm{lse})\, p \circ (v - \langle p, v\rangle)
                    + 2\lambda\omega\, p\, \langle p, v\rangle, \qquad \mu = \textstyle\sum_k w_k t_k

    Here ω is the row's weight and lse the log-sum-exp. Without z-loss and softcap the Hessian depends on the targets
    only through their mass μ: Hessian, Fisher information and Gauss-Newton matrix are then the same.

    Domain: any logits that define a softmax (-inf removes a class), targets >= 0 or labels in [0, C), finite vectors. A
    row of other targets is NaN.

    Gradient: true in logits, float targets, vector, weights and normalizer (the product is linear in the vector).

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      targets: ``[...]`` integers in [0, C), or ``[..., C]`` floats.
      vector: ``[..., C]`` floats, of the shape of the logits.
      where: ``[...]`` booleans, one per row; the product of a False row is 0. Default: None.
      class_weights: ``[C]`` floats >= 0 that multiply the classes' terms, and so a row's product by the weight of its
        label. Default: None.
      logit_softcap: c > 0 replaces each logit z by c·tanh(z/c), whose curvature is included. Default: None.
      weights: ``[...]`` floats of any sign, one per row, which multiply its loss and so its product. Default: None.
      normalizer: a number that divides the sum and so the product. Default: None.
      **options: the options of :class:`HessianOptions`.

    Returns:
      ``[..., C]``, of the shape of the logits, in float32 or wider; in nats per squared unit of the logits, times the
      unit of the vector.

    Accuracy: 16u·μ p_i(|v_i - v_m| + Σ_j p_j|v_j - v_m|), with m the most probable class, for confident rows too.

    Raises:
      TypeError: arguments of the wrong dtype.
      ValueError: shapes that do not agree, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import softmax_cross_entropy_hvp
      >>> print(softmax_cross_entropy_hvp(jnp.array([0.0, 0.0]), jnp.array(1), jnp.array([1.0, 3.0])))
      [-0.5  0.5]

    Source: theorem 4.1.5 differentiated once more; §4.1.5 (Fisher information).
    """
    given = LogitLoss.of(logits, targets, "either", **options)
    vector = checks.floating("vector", vector)
    shape, axis = jnp.shape(logits), complete(HessianOptions, options)["axis"]
    checks.same_shape("vector", vector.shape, "of the logits", shape, "give one entry per logit")
    axes = checks.class_axis(vector, "vector", axis)
    product = _hessian_product(given, classes_last(vector, axes).astype(given.dtype))
    rest = tuple(a for a in range(len(shape)) if a not in axes)
    moved = product.reshape(*(shape[a] for a in rest), *(shape[a] for a in axes))
    order = (*rest, *axes)
    return jnp.transpose(moved, [order.index(a) for a in range(len(shape))])


def _hessian_product(given: LogitLoss, v: Array) -> Array:
    x, v = hide(given.reducer.valid, given.logits.astype(given.dtype)), hide(given.reducer.valid, v)
    targets = hide(given.reducer.valid, given.targets)
    transform = LogitTransform(given.softcap, given.temperature)
    z, slope, bend = transform.derivatives(x)
    rows = row_statistics.row_statistics(z)
    known = (targets >= 0) & (targets < z.shape[-1]) if given.labelled else jnp.all(AMOUNTS.contains(targets), axis=-1)
    rows = rows.undefined_unless(known)
    u = v if slope is None else slope * v
    mass, of_square = _masses(given, targets, z.dtype)
    product = functions.fisher_product(z, rows, u)
    result = mass * product
    if given.z_loss is not None:
        p, lse = functions.probabilities(z, rows), functions.log_partition(z, rows)
        along = p * jnp.sum(p * u, axis=-1, keepdims=True)
        result = result + 2 * given.z_loss * of_square * (lse * product + along)
    if slope is not None:
        result = slope * result
    if bend is not None:
        result = result + _gradient(given, z, targets) * bend * v
    weights = given.reducer.weights
    return given.reducer._replace(weights=None if weights is None else weights[..., None])(result)


def _masses(given: LogitLoss, targets: Array, dtype: jnp.dtype) -> tuple[Array, Array]:
    """The mass Σ_k w_k t_k of the smoothed target, and the row's weight in the z-loss; the class axis is kept."""
    classes = given.logits.shape[-1]
    weights = jnp.ones(classes, dtype) if given.class_weights is None else given.class_weights
    if not given.labelled:
        smoothed = targets.astype(dtype)
        if given.smoothing is not None:
            smoothed = Smoothing(given.smoothing, given.over_others).apply(smoothed)
        mass = jnp.sum(smoothed * weights.reshape((1,) * (smoothed.ndim - 1) + (classes,)), axis=-1, keepdims=True)
        return mass, jnp.ones_like(mass)
    own = jnp.take(weights, targets, mode="clip")[..., None]
    if given.smoothing is None:
        return own, own
    at_label, each = Smoothing(given.smoothing, given.over_others).shares(classes)
    is_label = row_statistics.class_index(given.logits, targets.dtype) == targets[..., None]
    return at_label * own + each * jnp.sum(jnp.where(is_label, 0, weights), axis=-1, keepdims=True), own


def _gradient(given: LogitLoss, z: Array, targets: Array) -> Array:
    """The gradient of the loss in the logits that softcap and temperature have passed."""
    options = given.rule_options(CROSS_ENTROPY)

    def total(z: Array) -> Array:
        inputs = given.inputs()._replace(logits=z, targets=targets, transform=LogitTransform(None, None))
        return jnp.sum(softmax_losses(options, inputs)[0])

    return jax.grad(total)(z)
