"""Losses of the error of a regression: the square of §4.1.2, and losses that grow more slowly."""

from typing import Unpack

from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.elementwise import EntryOptions, elementwise, pair
from lossjax._core.options import with_options
from lossjax._core.plain import with_plain
from lossjax._core.reduction import MaskOption, WeightOptions
from lossjax._rules import regression as rules


class MeanOptions(MaskOption, WeightOptions, total=False):
    """The options of a loss that is always a mean."""


@with_plain
@with_options
def squared_error(predictions: ArrayLike, targets: ArrayLike, **options: Unpack[EntryOptions]) -> Array:
    r"""The squared difference, elementwise.

    .. math:: L = (\hat y - y)^2

    Domain: all real numbers; |ŷ - y| above 1.8e19 overflows float32 to +inf.

    Gradient: 2(ŷ - y) in the predictions, its negative in the targets.

    Args:
      predictions: ``[...]`` floats.
      targets: ``[...]`` floats of the shape of the predictions (nothing broadcasts).
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in squared units of the data, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 3u in the value, 1u in the gradient.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an unknown reduction.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import squared_error
      >>> print(squared_error(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0])))
      [0.25 4.  ]

    Source: §4.1.2; the Bregman divergence of ‖·‖².
    """
    prediction, target = pair("predictions", predictions, targets)
    return elementwise(rules.squared_error, prediction, target, {}, **options)


@with_plain
@with_options
def mean_squared_error(predictions: ArrayLike, targets: ArrayLike, **options: Unpack[MeanOptions]) -> Array:
    r"""The mean of the squared differences.

    .. math:: \mathrm{MSE} = \tfrac{1}{N} \textstyle\sum_i (\hat y_i - y_i)^2 = \tfrac{1}{N} \|\hat y - y\|^2

    To minimise it is to maximise the Gaussian likelihood of one fixed variance (theorem 4.1.1); the minimiser over a
    closed convex set of predictions is the projection of the targets onto it (theorem 4.1.3).

    Domain: all real numbers.

    Gradient: (2/N)(ŷ - y) in the predictions (with weights 2 w (ŷ - y)/Σw), true gradients in targets and weights.

    Args:
      predictions: ``[...]`` floats.
      targets: ``[...]`` floats of the shape of the predictions.
      weights: ``[...]`` floats of the shape of the predictions and of any sign, which multiply the squares; the mean is
        their sum divided by that of the weights. A weight of 0 does not hide a NaN: ``where`` does. Default: None.
      normalizer: a number that divides the sum in place of their count, or of the sum of the weights. 0/0 counts as 0.
        Default: None.
      **options: the options of :class:`MeanOptions`.

    Returns:
      A scalar in squared units of the data, in float32 or wider. A mean over nothing is 0, with zero
      gradient.

    Accuracy: 16u.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import mean_squared_error
      >>> print(mean_squared_error(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0])))
      2.125

    Source: §4.1.2, theorem 4.1.1; §4.1.4.
    """
    prediction, target = pair("predictions", predictions, targets)
    return elementwise(rules.squared_error, prediction, target, {}, reduction="mean", **options)


@with_plain
@with_options
def huber_loss(
    predictions: ArrayLike, targets: ArrayLike, *, delta: ArrayLike = 1.0, **options: Unpack[EntryOptions]
) -> Array:
    r"""Half the squared error near 0, linear beyond ``delta``, elementwise.

    .. math:: L = \tfrac12 q^2 + \delta (|r| - q), \quad r = \hat y - y, \quad q = \min(|r|, \delta)

    Domain: all real numbers, δ > 0.

    Gradient: r clipped to [-δ, δ] in the predictions, its negative in the targets, max(|r| - δ, 0) in δ.

    Args:
      predictions: ``[...]`` floats.
      targets: ``[...]`` floats of the shape of the predictions.
      delta: δ, a number > 0, or an array that broadcasts to the shape of the predictions.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in squared units of the data, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 8u in the value, 1u in the gradients in predictions and targets.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a δ that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import huber_loss
      >>> print(huber_loss(jnp.array([0.5, 3.0]), jnp.array([0.0, 0.0])))
      [0.125 2.5  ]

    Source: Huber (1964).
    """
    prediction, target = pair("predictions", predictions, targets)
    parameters = {"delta": checks.positive("delta", delta)}
    return elementwise(rules.huber, prediction, target, parameters, **options)


@with_plain
@with_options
def log_cosh(predictions: ArrayLike, targets: ArrayLike, **options: Unpack[EntryOptions]) -> Array:
    r"""The logarithm of the hyperbolic cosine of the error, elementwise: r²/2 near 0, \|r\| - log 2 far away.

    .. math:: L = \log\cosh r = \tfrac12 \log(1 + \sinh^2 r) = |r| - \log 2 + \log(1 + e^{-2|r|}), \quad r = \hat y - y

    Domain: all real numbers.

    Gradient: tanh r in the predictions, its negative in the targets.

    Args:
      predictions: ``[...]`` floats.
      targets: ``[...]`` floats of the shape of the predictions.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss, a pure number, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: a relative error within 16u in the value, also near 0 (the second form is used below \|r\| = 1, the third
    beyond), and within 8u in the gradient.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import log_cosh
      >>> [f"{loss:.4g}" for loss in log_cosh(jnp.array([1e-4, 1.0, 100.0]), jnp.zeros(3))]
      ['5e-09', '0.4338', '99.31']

    Source: Chen et al., Log Hyperbolic Cosine Loss (2019); §4.1.2 (noise that is not Gaussian).
    """
    prediction, target = pair("predictions", predictions, targets)
    return elementwise(rules.log_cosh, prediction, target, {}, **options)


@with_plain
@with_options
def quantile_loss(
    predictions: ArrayLike, targets: ArrayLike, *, level: ArrayLike = 0.5, **options: Unpack[EntryOptions]
) -> Array:
    r"""Pinball loss, elementwise: its mean is least where the prediction is the quantile of the targets at this level.

    .. math:: L = \max(\tau (y - \hat y), (1 - \tau)(\hat y - y))

    Domain: all real numbers, τ in [0, 1]. τ = ½ is half the absolute error, whose minimiser is the median.

    Gradient: -τ where the prediction is below the target, 1 - τ above, and 0 (a subgradient) where they are equal;
    its negative in the targets; y - ŷ in τ.

    Args:
      predictions: ``[...]`` floats.
      targets: ``[...]`` floats of the shape of the predictions.
      level: τ in [0, 1], a number, or an array that broadcasts to the shape of the predictions (many quantiles at
        once).
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in units of the data, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 3u in the value, 1u in the gradients.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a level outside [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import quantile_loss
      >>> print(quantile_loss(jnp.array([1.0, 3.0]), jnp.array([2.0, 2.0]), level=0.75))
      [0.75 0.25]

    Source: Koenker and Bassett (1978); the negative log-likelihood of an asymmetric Laplace distribution.
    """
    prediction, target = pair("predictions", predictions, targets)
    parameters = {"level": checks.nonnegative("level", level, at_most=1)}
    return elementwise(rules.quantile, prediction, target, parameters, **options)
