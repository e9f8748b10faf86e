"""Losses of the margin: hinge, perceptron and sparsemax, binary and multiclass."""

import functools
from typing import Any, Unpack

from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.domains import SIGNS
from lossjax._core.elementwise import EntryOptions, elementwise, pair
from lossjax._core.masks import nan_unless
from lossjax._core.options import with_options
from lossjax._core.plain import with_plain
from lossjax._rules.margins import below_margin, binary_sparsemax, margin_shortfall, multiclass_sparsemax
from lossjax._softmax.options import LogitLoss, ScoreOptions


def _with_margin(margin: float, dtype: Any, score: Array, target: Array) -> Array:
    return below_margin((dtype, margin), score, target)


def _of_labels(rule: Any, margin: float | None, logits: ArrayLike, labels: ArrayLike, options: ScoreOptions) -> Array:
    """Check the arguments of a multiclass loss, apply its rule, and reduce."""
    given = LogitLoss.of(logits, labels, "labels", **options)
    static = given.dtype if margin is None else (given.dtype, margin)
    return given.reducer(rule(static, given.logits, given.targets, given.reducer.valid))


@with_plain
@with_options
def hinge_loss(predictions: ArrayLike, targets: ArrayLike, **options: Unpack[EntryOptions]) -> Array:
    r"""The loss of a support vector machine, elementwise.

    .. math:: L = \max(0, 1 - s y)

    Domain: any score s, targets y in {-1, 1}; NaN for any other target (0/1 labels are 2y - 1 here).

    Gradient: -y in the score and -s in the target where 1 - sy > 0, otherwise 0 (a subgradient at the kink).

    Args:
      predictions: ``[...]`` floats, the scores.
      targets: ``[...]`` floats of the shape of the predictions, each -1 or 1.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in units of the score, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: u in the value, exact in the gradient.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import hinge_loss
      >>> print(hinge_loss(jnp.array([0.5, 2.0, -1.0]), jnp.array([1.0, 1.0, 1.0])))
      [0.5 0.  2. ]

    Source: Cortes and Vapnik (1995).
    """
    score, target = pair("predictions", predictions, targets)
    return elementwise(functools.partial(_with_margin, 1.0), score, target, {}, SIGNS, **options)


@with_plain
@with_options
def perceptron_loss(predictions: ArrayLike, targets: ArrayLike, **options: Unpack[EntryOptions]) -> Array:
    r"""Rosenblatt's loss, elementwise: 0 where the score has the sign of the target.

    .. math:: L = \max(0, -s y)

    Domain: any score s, targets y in {-1, 1}; NaN for any other target (0/1 labels are 2y - 1 here).

    Gradient: -y in the score and -s in the target where sy < 0, otherwise 0 (a subgradient at the kink).

    Args:
      predictions: ``[...]`` floats, the scores.
      targets: ``[...]`` floats of the shape of the predictions, each -1 or 1.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in units of the score, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: exact, for targets -1 and 1.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import perceptron_loss
      >>> print(perceptron_loss(jnp.array([0.5, -2.0]), jnp.array([1.0, 1.0])))
      [0. 2.]

    Source: Rosenblatt (1958).
    """
    score, target = pair("predictions", predictions, targets)
    return elementwise(functools.partial(_with_margin, 0.0), score, target, {}, SIGNS, **options)


@with_plain
@with_options
def sparsemax_loss(logits: ArrayLike, labels: ArrayLike, **options: Unpack[EntryOptions]) -> Array:
    r"""Binary sparsemax loss, elementwise: a smooth hinge, which is 0 from a margin of 1 on.

    .. math:: L = \begin{cases} 0 & m \ge 1 \\ -m & m \le -1 \\ (1 - m)^2/4 & \text{between} \end{cases},
              \quad m = (2y - 1) z

    Domain: any logits, labels 0 and 1; the loss of any other label is NaN.

    Gradient: -(2y - 1) times (1 - m)/2 clipped to [0, 1].

    Args:
      logits: ``[...]`` floats.
      labels: ``[...]`` integers of the shape of the logits, each 0 or 1.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in units of the logit, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 3u in the value, u in the gradient.

    Raises:
      TypeError: logits that are not floats, labels that are not integers.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import sparsemax_loss
      >>> print(sparsemax_loss(jnp.array([0.0, 3.0, -3.0]), jnp.array([1, 1, 1])))
      [0.25 0.   3.  ]

    Source: Blondel, Martins and Niculae, Learning with Fenchel-Young Losses (2020), §4.4.
    """
    logits, labels = checks.floating("logits", logits), checks.integer_labels("labels", labels)
    checks.same_shape("labels", labels.shape, "of the logits", logits.shape, "give one label per logit")
    labels = checks.labels_in_range(labels, 2, checks.mask("where", options.get("where"), logits.shape))
    known = (labels == 0) | (labels == 1)
    sign = nan_unless(known, 2 * labels.astype(logits.dtype) - 1)
    return elementwise(binary_sparsemax, logits, sign, {}, **options)


@with_plain
@with_options
def multiclass_hinge_loss(logits: ArrayLike, labels: ArrayLike, **options: Unpack[ScoreOptions]) -> Array:
    r"""Crammer and Singer's hinge loss: 0 once the label's logit exceeds every other by 1.

    .. math:: L = \max(0,\, 1 + \max_{j \ne c} z_j - z_c)

    Domain: any real logits; a row whose label lies outside [0, C) is NaN.

    Gradient: e_j - e_c with j the first largest of the other classes, where L > 0; otherwise 0.

    Args:
      logits: ``[..., C]`` floats, the scores (the class axis is ``axis``).
      labels: ``[...]`` integers in [0, C).
      **options: the options of :class:`ScoreOptions`.

    Returns:
      The loss in units of the logits, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 3u, whatever the offset of the logits; the gradient is exact.

    Raises:
      TypeError: logits that are not floats, labels that are not integers.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import multiclass_hinge_loss
      >>> print(multiclass_hinge_loss(jnp.array([[3.0, 1.0], [1.0, 1.5]]), jnp.array([0, 0])))
      [0.  1.5]

    Source: Crammer and Singer (2001).
    """
    return _of_labels(margin_shortfall, 1.0, logits, labels, options)


@with_plain
@with_options
def multiclass_perceptron_loss(logits: ArrayLike, labels: ArrayLike, **options: Unpack[ScoreOptions]) -> Array:
    r"""How far the label's logit is below the largest logit.

    .. math:: L = \max_j z_j - z_c = \max(0,\, \max_{j \ne c} z_j - z_c)

    Domain: any real logits; a row whose label lies outside [0, C) is NaN.

    Gradient: e_j - e_c with j the first largest class, where L > 0; otherwise 0.

    Args:
      logits: ``[..., C]`` floats, the scores (the class axis is ``axis``).
      labels: ``[...]`` integers in [0, C).
      **options: the options of :class:`ScoreOptions`.

    Returns:
      The loss in units of the logits, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 1u, whatever the offset of the logits; the gradient is exact.

    Raises:
      TypeError: logits that are not floats, labels that are not integers.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import multiclass_perceptron_loss
      >>> print(multiclass_perceptron_loss(jnp.array([[3.0, 1.0], [1.0, 1.5]]), jnp.array([0, 0])))
      [0.  0.5]

    Source: Collins (2002).
    """
    return _of_labels(margin_shortfall, 0.0, logits, labels, options)


@with_plain
@with_options
def multiclass_sparsemax_loss(logits: ArrayLike, labels: ArrayLike, **options: Unpack[ScoreOptions]) -> Array:
    r"""The Fenchel-Young loss of the sparsemax: a cross-entropy with the projection in the place of the softmax.

    .. math:: L = \tfrac12 \|\pi(z) - e_c\|^2 + \max(0, \tau - z_c), \qquad \pi(z) = \max(z - \tau, 0)

    with π the Euclidean projection onto the simplex. Both terms are non-negative; both are 0 once the label's logit
    exceeds every other by 1.

    Domain: any real logits; a row whose label lies outside [0, C) is NaN.

    Gradient: π(z) - e_c.

    Args:
      logits: ``[..., C]`` floats, the scores (the class axis is ``axis``).
      labels: ``[...]`` integers in [0, C).
      **options: the options of :class:`ScoreOptions`.

    Returns:
      The loss in units of the logits, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: an absolute error of 16u·max(1, L) in the value and of 8u in the gradient, whatever the offset of the
    logits.

    Raises:
      TypeError: logits that are not floats, labels that are not integers.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import multiclass_sparsemax_loss
      >>> print(multiclass_sparsemax_loss(jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]]), jnp.array([0, 0, 0])))
      [0.25 0.   3.  ]

    Source: Martins and Astudillo, From Softmax to Sparsemax (2016); Blondel, Martins and Niculae (2020).
    """
    return _of_labels(multiclass_sparsemax, None, logits, labels, options)
