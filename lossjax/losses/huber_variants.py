"""Losses like :func:`lossjax.huber_loss`: a square near 0, linear far away, scaled or joined otherwise."""

from typing import Unpack

from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.elementwise import EntryOptions, elementwise, pair
from lossjax._core.options import with_options
from lossjax._core.plain import with_plain
from lossjax._rules import regression as rules


@with_plain
@with_options
def smooth_l1_loss(
    predictions: ArrayLike, targets: ArrayLike, *, beta: ArrayLike = 1.0, **options: Unpack[EntryOptions]
) -> Array:
    r"""The absolute error, rounded off within ``beta`` of 0, elementwise: :func:`huber_loss` divided by its δ = β.

    .. math:: L = \begin{cases} r^2/(2\beta) & |r| < \beta \\ |r| - \beta/2 & |r| \ge \beta \end{cases},
              \quad r = \hat y - y

    Domain: all real numbers, β >= 0; at β = 0 it is the absolute error.

    Gradient: r/β cut off at ±1 in the predictions (at β = 0 the sign of r, and 0 at r = 0), its negative in the
    targets, -½ min(\|r\|/β, 1)² in β.

    Args:
      predictions: ``[...]`` floats.
      targets: ``[...]`` floats of the shape of the predictions.
      beta: β, a number >= 0, or an array that broadcasts to the shape of the predictions.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in units of the data, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 8u.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a negative β.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import smooth_l1_loss
      >>> print(smooth_l1_loss(jnp.array([0.5, 3.0]), jnp.array([0.0, 0.0]), beta=2.0))
      [0.0625 2.    ]

    Source: Girshick, Fast R-CNN (2015).
    """
    prediction, target = pair("predictions", predictions, targets)
    return elementwise(rules.smooth_l1, prediction, target, {"beta": checks.nonnegative("beta", beta)}, **options)


@with_plain
@with_options
def pseudo_huber_loss(
    predictions: ArrayLike, targets: ArrayLike, *, delta: ArrayLike = 1.0, **options: Unpack[EntryOptions]
) -> Array:
    r"""Half the squared error near 0, linear of slope ``delta`` far away, smooth between, elementwise.

    .. math:: L = \delta^2 \left(\sqrt{1 + (r/\delta)^2} - 1\right) = \frac{r^2}{1 + \sqrt{1 + (r/\delta)^2}},
              \quad r = \hat y - y

    Domain: all real numbers, δ > 0.

    Gradient: with h = √(1 + (r/δ)²), r/h in the predictions, its negative in the targets, δ(h - 1)²/h in δ.

    Args:
      predictions: ``[...]`` floats.
      targets: ``[...]`` floats of the shape of the predictions.
      delta: δ, a number > 0, or an array that broadcasts to the shape of the predictions.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in squared units of the data, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 16u.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a δ that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import pseudo_huber_loss
      >>> [f"{loss:.4g}" for loss in pseudo_huber_loss(jnp.array([0.75, 2.4]), jnp.zeros(2))]
      ['0.25', '1.6']

    Source: Charbonnier et al. (1994); Barron, A General and Adaptive Robust Loss Function (2019).
    """
    prediction, target = pair("predictions", predictions, targets)
    parameters = {"delta": checks.positive("delta", delta)}
    return elementwise(rules.pseudo_huber, prediction, target, parameters, **options)
