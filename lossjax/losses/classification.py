"""Losses for classification: §4.1.3 (cross-entropy as likelihood) and §4.1.6 (softmax with cross-entropy)."""

from collections.abc import Sequence
from typing import Any, Literal, overload

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.plain import with_plain
from lossjax._core.reduction import reduce
from lossjax._rules.sigmoid import SigmoidOptions, elementwise_sigmoid_cross_entropy
from lossjax._softmax.curves import CROSS_ENTROPY
from lossjax._softmax.inputs import LogitLoss, Reduction


@overload
def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike, labels: ArrayLike, *, return_logsumexp: Literal[False] = ..., **options: Any
) -> Array: ...
@overload
def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike, labels: ArrayLike, *, return_logsumexp: Literal[True], **options: Any
) -> tuple[Array, Array]: ...
@with_plain
def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int | Sequence[int] = -1,
    where: ArrayLike | None = None,
    ignore_index: int | None = None,
    class_weights: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    smoothing: str = "uniform",
    z_loss: ArrayLike = 0.0,
    logit_softcap: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    reduction: Reduction = "none",
    return_logsumexp: bool = False,
) -> Array | tuple[Array, Array]:
    r"""Negative log-likelihood of class labels under ``softmax(logits)``.

    .. math:: L = \log \sum_j e^{z_j} - z_c = (z_m - z_c) + \log(\textstyle\sum_j e^{z_j - z_m})

    Domain: any real logits; -inf removes a class, one +inf makes it certain. A row with NaN, with two +inf, with
    nothing but -inf, or with a label outside [0, C) has NaN loss and NaN gradient.

    Gradient: :math:`\partial L/\partial z = \hat p - e_c` (theorem 4.1.5), with :math:`\hat p_c - 1` formed without
    cancellation; true gradients also in ``class_weights``, ``z_loss``, ``logit_softcap`` and ``temperature``.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      labels: ``[...]`` integers in [0, C).
      axis: the class axis; or several, which labels then index as flattened.
      where: ``[...]`` booleans; False rows contribute exactly 0 to value and gradient, whatever they hold.
      ignore_index: rows with this label are masked likewise.
      class_weights: ``[C]``; a row's loss is multiplied by the weight of its label (of each class, under smoothing).
      label_smoothing: ε in [0, 1]; the target keeps 1 - ε, and ε is spread over the classes.
      smoothing: "uniform" spreads ε/C over all classes, "others" ε/(C-1) over the classes other than the label.
      z_loss: coefficient λ of the added term λ·lse² (times the row's weight).
      logit_softcap: c replaces the logits by c·tanh(z/c), before the temperature.
      temperature: T divides the logits.
      reduction: "none", "sum", or "mean" over unmasked rows, weighted by the labels' class weights; an empty mean is 0
        (PyTorch: NaN).
      return_logsumexp: also return the log-sum-exp of the logits after softcap and temperature, 0 for masked rows.

    Returns:
      The loss in nats, ``[...]`` or a scalar; float32 for 16-bit logits, else the logits' dtype. With
      ``return_logsumexp`` a pair, both differentiable.

    Accuracy: value and gradient within 8u of the exact result for logits taken as exact, at every scale, offset and
    gap, for up to 1000 classes (then log2(C)/2 more), plus C times the smallest normal number. Label smoothing, class
    weights under smoothing and z-loss subtract terms of one size: then 13u of the terms. Softcap and temperature round
    the logits once more.

    Raises:
      TypeError: logits that are not floats, labels that are not integers, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, no class, an option out of its range.

    Under ``jax.experimental.checkify`` a label out of range raises with the label and its row.

    Example:
      >>> import jax.numpy as jnp
      >>> logits = jnp.array([[2.0, 0.0, -1.0], [50.0, 0.0, 0.0]])
      >>> [f"{loss:.5g}" for loss in softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 0]))]
      ['0.16985', '3.8575e-22']

    Source: theorems 4.1.2, 4.1.5 and 4.1.6, equations (4.1.4) and (4.1.5) with the sign corrected.
    """
    given = LogitLoss.of(
        logits, labels, kind="labels", axis=axis, where=where, ignore_index=ignore_index, class_weights=class_weights,
        label_smoothing=label_smoothing, smoothing=smoothing, z_loss=z_loss, logit_softcap=logit_softcap,
        temperature=temperature, reduction=reduction,
    )  # fmt: skip
    loss, lse = given.reduced(CROSS_ENTROPY)
    return (loss, lse) if return_logsumexp else loss


@overload
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, return_logsumexp: Literal[False] = ..., **options: Any
) -> Array: ...
@overload
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, return_logsumexp: Literal[True], **options: Any
) -> tuple[Array, Array]: ...
@with_plain
def softmax_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    axis: int | Sequence[int] = -1,
    where: ArrayLike | None = None,
    class_weights: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    smoothing: str = "uniform",
    z_loss: ArrayLike = 0.0,
    logit_softcap: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    reduction: Reduction = "none",
    return_logsumexp: bool = False,
) -> Array | tuple[Array, Array]:
    r"""Cross-entropy of target distributions with ``softmax(logits)``; the targets need not sum to 1.

    .. math:: L = \sum_k t_k (z_m - z_k) + (\textstyle\sum_k t_k) \log(\textstyle\sum_j e^{z_j - z_m})

    Domain: any real logits (see :func:`softmax_cross_entropy_with_integer_labels` for infinite ones), targets >= 0.
    A class of zero target contributes nothing, also where its probability is 0; a positive target there gives +inf,
    as it does where the logit is further below the maximum than the largest number of the dtype.

    Gradient: :math:`(\sum t)\,\hat p - t` in the logits (theorem 4.1.5, which prints the case Σt = 1) and
    :math:`-\log \hat p` in the targets; true gradients also in ``class_weights``, ``z_loss``, ``logit_softcap`` and
    ``temperature``.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      targets: ``[..., C]`` floats, the same shape as the logits.
      axis: the class axis, or several, taken as one.
      where: ``[...]`` booleans; False rows contribute exactly 0 to value and gradient, whatever they hold.
      class_weights: ``[C]``; multiplies the terms of the sum (after smoothing).
      label_smoothing: ε in [0, 1]; t becomes (1 - ε)t + ε·(Σt)/C, which keeps the mass (PyTorch adds ε/C, whatever
        the mass).
      smoothing: "uniform" spreads over all C classes, "others" over the C - 1 other classes.
      z_loss: coefficient λ of the added term λ·lse².
      logit_softcap: c replaces the logits by c·tanh(z/c), before the temperature.
      temperature: T divides the logits.
      reduction: "none", "sum", or "mean" over unmasked rows; an empty mean is 0 (PyTorch: NaN).
      return_logsumexp: also return the log-sum-exp of the logits after softcap and temperature, 0 for masked rows.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider. With ``return_logsumexp`` a pair, both
      differentiable.

    Accuracy: value within 33u (67u where a gap between logits reaches 16); gradient within 13u(p̂ + t) (67u likewise),
    for the subtraction is inherent; as accurate as integer labels where the target is one-hot.

    Raises:
      TypeError: logits or targets that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, no class, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{softmax_cross_entropy(jnp.array([1.0, 1.0, -jnp.inf]), jnp.array([0.25, 0.75, 0.0])):.5f}")
      0.69315

    Source: §4.1.3 (H(P, Q)), theorem 4.1.5.
    """
    given = LogitLoss.of(
        logits, targets, kind="distributions", axis=axis, where=where, ignore_index=None, class_weights=class_weights,
        label_smoothing=label_smoothing, smoothing=smoothing, z_loss=z_loss, logit_softcap=logit_softcap,
        temperature=temperature, reduction=reduction,
    )  # fmt: skip
    loss, lse = given.reduced(CROSS_ENTROPY)
    return (loss, lse) if return_logsumexp else loss


@with_plain
def sigmoid_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    where: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "none",
) -> Array:
    r"""Binary cross-entropy of targets in [0, 1] with ``sigmoid(logits)``, elementwise.

    .. math:: L = w\,y \log(1 + e^{-z}) + (1 - y) \log(1 + e^{z})

    Domain: any logits, ±inf included (0 if the target agrees, +inf if not); targets in [0, 1]. NaN in, NaN out.

    Gradient: :math:`(1 - y)\,\sigma(z) - w\,y\,\sigma(-z)` in the logits, which is σ(z) - y for w = 1 (theorem 4.1.5
    with two classes); w·softplus(-z) - softplus(z) in the targets (-z for w = 1); y·softplus(-z) in ``pos_weight``.

    Args:
      logits: ``[...]`` floats.
      targets: ``[...]`` floats, the same shape.
      where: ``[...]`` booleans; False entries contribute exactly 0 to value and gradient.
      pos_weight: w, a weight of the positive class: a scalar, or a shape that broadcasts to the logits'.
      label_smoothing: ε in [0, 1]; y becomes (1 - ε)y + ε/2.
      reduction: "none", "sum", or "mean" over unmasked entries; an empty mean is 0.

    Returns:
      The loss in nats, the shape of the logits or a scalar, in float32 or wider.

    Accuracy: value within 8u; gradient within 8u for targets 0 and 1, within 8u((1-y)σ(z) + w y σ(-z)) between.

    Raises:
      TypeError: logits or targets that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a negative ``pos_weight``, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> [f"{loss:.4g}" for loss in sigmoid_cross_entropy(jnp.array([0.0, 30.0, -30.0]), jnp.ones(3))]
      ['0.6931', '9.358e-14', '30']

    Source: §4.1.3; theorem 4.1.5 for C = 2.
    """
    logits = checks.floating("logits", logits)
    targets = checks.floating("targets", targets, remedy="convert 0/1 labels with .astype(logits.dtype)")
    checks.same_shape("targets", targets.shape, "of the logits", logits.shape, "give one target a logit")
    weight = None
    if pos_weight is not None:
        weight = checks.nonnegative("pos_weight", pos_weight)
        checks.broadcastable("pos_weight", weight.shape, logits.shape)
    dtype = checks.compute_dtype(logits, targets, weight)
    amount = checks.fraction("label_smoothing", label_smoothing)
    how = checks.reduction(reduction)
    valid = checks.mask("where", where, logits.shape)
    if weight is not None:
        weight = jnp.broadcast_to(weight.astype(dtype), logits.shape)
    losses = elementwise_sigmoid_cross_entropy(SigmoidOptions(dtype, amount), logits, targets, weight, valid)
    return reduce(losses, how, where=valid)
