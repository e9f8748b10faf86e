"""Focal loss and its kin: losses Σ t_k F(-log p̂_k), which weigh easy and hard examples differently.

Each has the gradient (Σs) p̂ - s of a cross-entropy with the effective target s = t∘F'(-log p̂).
"""

from typing import Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.domains import FRACTIONS
from lossjax._core.elementwise import EntryOptions, elementwise
from lossjax._core.options import with_options
from lossjax._core.plain import with_plain
from lossjax._rules.sigmoid import elementwise_sigmoid_focal
from lossjax._softmax.curves import FOCAL, GENERALIZED, POLY
from lossjax._softmax.options import LogitLoss, SoftmaxOptions


@with_plain
@with_options
def softmax_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: ArrayLike = 2.0,
    alpha: ArrayLike | None = None,
    **options: Unpack[SoftmaxOptions],
) -> Array:
    r"""Focal loss: a cross-entropy that fades where the label is predicted already.

    .. math:: L = \textstyle\sum_k \alpha_k t_k (1 - \hat p_k)^\gamma (-\log \hat p_k)

    Domain: γ >= 0, the logits and labels of :func:`softmax_cross_entropy_with_integer_labels`, targets >= 0; any other
    label or target makes its row NaN. γ = 0 is the cross-entropy.

    Gradient: :math:`(\sum s)\,\hat p - s` in the logits, with s = αt (1-p̂)^γ (1 + γ p̂ (-log p̂)/(1-p̂)); true
    gradients also in γ, α, float targets and every other float option.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      labels: ``[...]`` integers in [0, C), or a distribution over the classes, ``[..., C]`` floats.
      gamma: γ, a number >= 0.
      alpha: a number, or ``[C]`` floats, that multiply the classes' terms; "mean" does not count them.
      **options: the options of :class:`SoftmaxOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: value and gradient lie within (16 + 8γ)u for integer labels, also where 1 - p̂ is tiny.

    Raises:
      TypeError: arguments of the wrong dtype.
      ValueError: shapes that do not fit, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import softmax_focal_loss
      >>> [f"{loss:.4g}" for loss in softmax_focal_loss(jnp.array([[0.0, 0.0], [10.0, 0.0]]), jnp.array([0, 0]))]
      ['0.1733', '9.357e-14']

    Source: Lin et al., Focal Loss for Dense Object Detection (2017).
    """
    given = LogitLoss.of(logits, labels, "either", **options)
    multiplier = None
    if alpha is not None:
        multiplier = checks.nonnegative("alpha", alpha)
        classes = given.logits.shape[-1:]
        checks.broadcastable("alpha", multiplier.shape, classes)
        multiplier = jnp.broadcast_to(multiplier.astype(given.dtype), classes)
    return given.reduced(FOCAL, checks.number("gamma", gamma, given.dtype, positive=False), multiplier)


@with_plain
@with_options
def poly_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, epsilon: ArrayLike = 2.0, **options: Unpack[SoftmaxOptions]
) -> Array:
    r"""Poly-1 loss: a cross-entropy with the first term of its series in 1 - p̂ changed.

    .. math:: L = \textstyle\sum_k t_k \left[-\log \hat p_k + \epsilon (1 - \hat p_k)\right]

    Domain: any real ε (below -1 the loss can be negative), the logits and labels of
    :func:`softmax_cross_entropy_with_integer_labels`, targets >= 0; any other label or target makes its row NaN.

    Gradient: :math:`(\sum s)\,\hat p - s` in the logits, with s = t(1 + ε p̂); :math:`\sum_k t_k (1 - \hat p_k)` in ε;
    true gradients also in float targets and every other float option.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      labels: ``[...]`` integers in [0, C), or a distribution over the classes, ``[..., C]`` floats.
      epsilon: ε, the change of the first coefficient, a real number.
      **options: the options of :class:`SoftmaxOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 16u for integer labels and ε >= -1; for ε below -1, 16u of the terms that are subtracted.

    Raises:
      TypeError: arguments of the wrong dtype.
      ValueError: shapes that do not fit, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import poly_cross_entropy
      >>> print(f"{poly_cross_entropy(jnp.array([0.0, 0.0]), jnp.array(1), epsilon=1.0):.5f}")
      1.19315

    Source: Leng et al., PolyLoss (2022).
    """
    given = LogitLoss.of(logits, labels, "either", **options)
    return given.reduced(POLY, checks.real("epsilon", epsilon, given.dtype))


@with_plain
@with_options
def generalized_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, q: ArrayLike = 0.7, **options: Unpack[SoftmaxOptions]
) -> Array:
    r"""Generalised cross-entropy, bounded by 1/q, and so robust against wrong labels.

    .. math:: L = \textstyle\sum_k t_k (1 - \hat p_k^q)/q

    It lies between the cross-entropy (q → 0) and half the mean absolute error of probabilities (q = 1, L = 1 - p̂_c).

    Domain: q in (0, 1], the logits and labels of :func:`softmax_cross_entropy_with_integer_labels`, targets >= 0; any
    other label or target makes its row NaN.

    Gradient: :math:`(\sum s)\,\hat p - s` in the logits, with s = t p̂^q, so that a hopeless row has no
    influence. True gradients also in q, float targets and every other float option.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      labels: ``[...]`` integers in [0, C), or a distribution over the classes, ``[..., C]`` floats.
      q: a number in (0, 1].
      **options: the options of :class:`SoftmaxOptions`.

    Returns:
      The loss, a pure number (nats as q → 0), ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 24u for integer labels, also where p̂ is near 1 or tiny; u·q·log(1/p̂) more where p̂ itself underflows.

    Raises:
      TypeError: arguments of the wrong dtype.
      ValueError: shapes that do not fit, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import generalized_cross_entropy
      >>> print(f"{generalized_cross_entropy(jnp.array([0.0, 90.0]), jnp.array(0), q=0.5):.5f}")
      2.00000

    Source: Zhang and Sabuncu, Generalized Cross Entropy Loss for Training Deep Networks with Noisy Labels (2018).
    """
    given = LogitLoss.of(logits, labels, "either", **options)
    return given.reduced(GENERALIZED, checks.number("q", q, given.dtype, positive=True, at_most=1))


@with_plain
@with_options
def sigmoid_focal_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    alpha: ArrayLike | None = None,
    gamma: ArrayLike = 2.0,
    **options: Unpack[EntryOptions],
) -> Array:
    r"""Binary focal loss, elementwise.

    .. math:: L = \alpha_t (1 - p_t)^\gamma \left[y \log(1 + e^{-z}) + (1 - y) \log(1 + e^z)\right]

    .. math:: 1 - p_t = y\,\sigma(-z) + (1 - y)\,\sigma(z), \quad \alpha_t = \alpha y + (1 - \alpha)(1 - y)

    Domain: any logits, ±inf included; γ >= 0; targets in [0, 1], and NaN for other targets. NaN in, NaN out.

    Gradient: true in logits, targets, γ and α.

    Args:
      logits: ``[...]`` floats.
      targets: ``[...]`` floats, of the shape of the logits.
      alpha: the weight in [0, 1] of the positive class (the negative class has 1 - α): a number, or an array that
        broadcasts to the shape of the logits; None weighs both classes by 1.
      gamma: γ, a number >= 0, or an array that broadcasts to the shape of the logits.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in nats, the shape of the logits or a scalar, in float32 or wider.

    Accuracy: (16 + 8γ)u for targets 0 and 1; for targets between, the gradient lies within (16 + 8γ)u of its terms.

    Raises:
      TypeError: logits or targets that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import sigmoid_focal_loss
      >>> [f"{loss:.4g}" for loss in sigmoid_focal_loss(jnp.array([0.0, 20.0, -20.0]), jnp.ones(3))]
      ['0.1733', '8.757e-27', '20']

    Source: Lin et al., Focal Loss for Dense Object Detection (2017).
    """
    logits = checks.floating("logits", logits)
    targets = checks.floating("targets", targets, remedy="convert 0/1 labels with .astype(logits.dtype)")
    checks.same_shape("targets", targets.shape, "of the logits", logits.shape, "give one target per logit")
    parameters = {"gamma": checks.nonnegative("gamma", gamma)}
    if alpha is not None:
        parameters["alpha"] = checks.nonnegative("alpha", alpha, at_most=1)
    return elementwise(elementwise_sigmoid_focal, logits, targets, parameters, FRACTIONS, **options)
