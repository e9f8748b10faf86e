"""Losses for regression: §4.1.2, squared error as Gaussian likelihood."""

import math
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax import _checks
from lossjax._autodiff import closed_form, with_plain
from lossjax._reduction import reduce
from lossjax.numerics import times

Reduction = Literal["none", "sum", "mean"]


@with_plain
def squared_error(predictions: ArrayLike, targets: ArrayLike) -> Array:
    r"""The squared difference, elementwise.

    .. math:: L = (\hat y - y)^2

    Domain: all real numbers; |ŷ - y| above 1.8e19 overflows float32 to +inf.

    Gradient: 2(ŷ - y) in the predictions, its negative in the targets.

    Args:
      predictions: ``[...]`` floats.
      targets: ``[...]`` floats, the same shape (nothing broadcasts).

    Returns:
      ``[...]`` in squared units of the data, in float32 or wider.

    Accuracy: 3u in the value, u in the gradient.

    Raises:
      TypeError: arguments that are not floats.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> print(squared_error(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0])))
      [0.25 4.  ]

    Source: §4.1.2; the Bregman divergence of ‖·‖².
    """
    prediction, target, dtype = _pair("predictions", predictions, targets)
    return _squared_error(dtype, prediction, target)


@with_plain
def mean_squared_error(
    predictions: ArrayLike, targets: ArrayLike, *, where: ArrayLike | None = None, weights: ArrayLike | None = None
) -> Array:
    r"""The mean of the squared differences.

    .. math:: \mathrm{MSE} = \tfrac{1}{N} \textstyle\sum_i (\hat y_i - y_i)^2 = \tfrac{1}{N} \|\hat y - y\|^2

    Minimising it is maximising the Gaussian likelihood of one fixed variance (theorem 4.1.1); the minimiser over a
    closed convex set of predictions is the projection of the targets onto it (theorem 4.1.3).

    Domain: all real numbers.

    Gradient: (2/N)(ŷ - y) in the predictions (weighted: 2 w (ŷ - y)/Σw), true gradients in targets and weights.

    Args:
      predictions: ``[...]`` floats.
      targets: ``[...]`` floats, the same shape.
      where: ``[...]`` booleans; False entries contribute exactly 0, and are not counted.
      weights: ``[...]`` floats >= 0, the same shape: the weighted mean Σ w (ŷ - y)²/Σ w.

    Returns:
      A scalar in squared units of the data, in float32 or wider; 0 with zero gradient for a mean over nothing.

    Accuracy: 16u.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, negative weights.

    Example:
      >>> import jax.numpy as jnp
      >>> print(mean_squared_error(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0])))
      2.125

    Source: §4.1.2, theorem 4.1.1; §4.1.4.
    """
    prediction, target, dtype = _pair("predictions", predictions, targets)
    valid = _checks.mask("where", where, prediction.shape)
    if valid is not None:
        prediction, target = (jnp.where(valid, a, 0) for a in (prediction, target))
    errors = _squared_error(dtype, prediction, target)
    if weights is None:
        return reduce(errors, "mean", where=valid)
    weight = _checks.nonnegative("weights", weights)
    _checks.same_shape("weights", weight.shape, "of the predictions", prediction.shape, "give one weight an entry")
    if valid is not None:
        weight = jnp.where(valid, weight, 0)
    weight = weight.astype(errors.dtype)
    return reduce(weight * errors, "mean", where=valid, weights=weight)


@with_plain
def gaussian_nll(
    mean: ArrayLike,
    targets: ArrayLike,
    *,
    log_variance: ArrayLike = 0.0,
    where: ArrayLike | None = None,
    reduction: Reduction = "none",
) -> Array:
    r"""Negative log-likelihood of a Gaussian, elementwise; the variance may be fixed, learned, or heteroscedastic.

    .. math:: L = \tfrac12\left[\log 2\pi + s + (\mu - y)^2 e^{-s}\right], \quad s = \log \sigma^2

    For one fixed variance it is an increasing affine function of the squared error: N·MSE/(2σ²) + (N/2) log 2πσ² in
    sum (theorem 4.1.1). It may be negative: a density is no probability. With a learned variance it is unbounded
    below where the squared error can be 0: bound s, or add a prior.

    Domain: all real numbers.

    Gradient: (μ - y) e^{-s} in the mean, its negative in the targets, ½(1 - (μ - y)² e^{-s}) in s. Not convex in
    (μ, s) jointly; its Fisher information is diag(e^{-s}, ½).

    Args:
      mean: ``[...]`` floats, the predicted mean μ.
      targets: ``[...]`` floats, the same shape.
      log_variance: s, a scalar or a shape that broadcasts to the mean's (predict it to let the noise vary).
      where: ``[...]`` booleans; False entries contribute exactly 0 to value and gradient.
      reduction: "none", "sum", or "mean" over unmasked entries; an empty mean is 0.

    Returns:
      The loss in nats, ½ log 2π included, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 8u of the three terms' magnitudes; (μ - y) e^{-s/2} is squared, so that e^{-s} alone never overflows.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, an unknown reduction.

    Example:
      >>> import jax.numpy as jnp
      >>> print(gaussian_nll(jnp.array([0.0, 1.0]), jnp.array([0.0, 3.0]), log_variance=0.0))
      [0.9189385 2.9189386]

    Source: §4.1.2, equation (4.1.1), theorem 4.1.1.
    """
    center, target, _ = _pair("mean", mean, targets)
    log_variance = _checks.floating("log_variance", log_variance)
    _checks.broadcastable("log_variance", log_variance.shape, center.shape)
    how = _checks.reduction(reduction)
    dtype = _checks.compute_dtype(center, target, log_variance)
    spread = jnp.broadcast_to(log_variance.astype(dtype), center.shape)
    valid = _checks.mask("where", where, center.shape)
    if valid is not None:
        center, target, spread = (jnp.where(valid, a, 0) for a in (center, target, spread))
    return reduce(_gaussian_nll(dtype, center, target, spread), how, where=valid)


def _pair(name: str, predictions: ArrayLike, targets: ArrayLike) -> tuple[Array, Array, Any]:
    """Predictions and targets, checked to be floats of one shape, and the dtype to compute in."""
    prediction, target = _checks.floating(name, predictions), _checks.floating("targets", targets)
    _checks.same_shape("targets", target.shape, f"of {name}", prediction.shape, "reshape one; nothing broadcasts here")
    return prediction, target, _checks.compute_dtype(prediction, target)


def _squared_error_forward(dtype: Any, prediction: Array, target: Array) -> tuple[Array, Any]:
    error = prediction.astype(dtype) - target.astype(dtype)
    return error * error, (prediction, target)


def _squared_error_backward(dtype: Any, residuals: Any, cotangent: Array) -> tuple[Array, Array]:
    prediction, target = residuals
    in_prediction = 2 * cotangent * (prediction.astype(dtype) - target.astype(dtype))
    return in_prediction, -in_prediction


def _gaussian_nll_forward(dtype: Any, mean: Array, target: Array, log_variance: Array) -> tuple[Array, Any]:
    # times: a residual of exactly 0 stays 0, whatever the precision overflows to
    standardized = times(mean.astype(dtype) - target.astype(dtype), jnp.exp(-log_variance / 2))
    value = 0.5 * (math.log(2 * math.pi) + log_variance + standardized * standardized)
    return value, (mean, target, log_variance)


def _gaussian_nll_backward(dtype: Any, residuals: Any, cotangent: Array) -> tuple[Array, Array, Array]:
    mean, target, log_variance = residuals
    root_precision = jnp.exp(-log_variance / 2)
    standardized = times(mean.astype(dtype) - target.astype(dtype), root_precision)
    in_mean = cotangent * times(standardized, root_precision)
    return in_mean, -in_mean, cotangent * 0.5 * (1 - standardized) * (1 + standardized)


_squared_error = closed_form(_squared_error_forward, _squared_error_backward)
_gaussian_nll = closed_form(_gaussian_nll_forward, _gaussian_nll_backward)
