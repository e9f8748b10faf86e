"""Losses for classification: §4.1.3 (cross-entropy as likelihood) and §4.1.6 (softmax with cross-entropy)."""

from typing import Any, Literal, Protocol, Unpack, overload

from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.domains import FRACTIONS
from lossjax._core.elementwise import EntryOptions, elementwise
from lossjax._core.options import with_options, with_overloads
from lossjax._core.plain import with_plain
from lossjax._rules.sigmoid import elementwise_sigmoid_cross_entropy
from lossjax._softmax.curves import CROSS_ENTROPY
from lossjax._softmax.options import DistributionOptions, LogitLoss, SoftmaxOptions


class LabelCrossEntropy(Protocol):
    """How :func:`softmax_cross_entropy_with_integer_labels` is called: ``return_logsumexp`` makes the result a pair."""

    @overload
    def __call__(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        return_logsumexp: Literal[False] = ...,
        **options: Unpack[SoftmaxOptions],
    ) -> Array: ...
    @overload
    def __call__(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        return_logsumexp: Literal[True],
        **options: Unpack[SoftmaxOptions],
    ) -> tuple[Array, Array]: ...
    @overload
    def __call__(
        self, logits: ArrayLike, labels: ArrayLike, *, return_logsumexp: bool, **options: Unpack[SoftmaxOptions]
    ) -> Array | tuple[Array, Array]: ...


class DistributionCrossEntropy(Protocol):
    """How :func:`softmax_cross_entropy` is called: ``return_logsumexp`` makes the result a pair."""

    @overload
    def __call__(
        self,
        logits: ArrayLike,
        targets: ArrayLike,
        *,
        return_logsumexp: Literal[False] = ...,
        **options: Unpack[DistributionOptions],
    ) -> Array: ...
    @overload
    def __call__(
        self,
        logits: ArrayLike,
        targets: ArrayLike,
        *,
        return_logsumexp: Literal[True],
        **options: Unpack[DistributionOptions],
    ) -> tuple[Array, Array]: ...
    @overload
    def __call__(
        self, logits: ArrayLike, targets: ArrayLike, *, return_logsumexp: bool, **options: Unpack[DistributionOptions]
    ) -> Array | tuple[Array, Array]: ...


@with_plain
@with_overloads(LabelCrossEntropy)
@with_options
def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike, labels: ArrayLike, *, return_logsumexp: bool = False, **options: Unpack[SoftmaxOptions]
) -> Array | tuple[Array, Array]:
    r"""Negative log-likelihood of class labels under ``softmax(logits)``.

    .. math:: L = \log \sum_j e^{z_j} - z_c = (z_m - z_c) + \log(\textstyle\sum_j e^{z_j - z_m}), \quad z_m = \max z

    Domain: any real logits; a logit of -inf removes its class, and a single +inf makes its class certain. A row that
    holds NaN, two +inf, or nothing but -inf, and a row whose label lies outside [0, C), has NaN loss and NaN gradient.

    Gradient: :math:`\partial L/\partial z = \hat p - e_c` (theorem 4.1.5), with :math:`\hat p_c - 1` formed without
    cancellation; true gradients also in ``class_weights``, ``z_loss``, ``logit_softcap`` and ``temperature``.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      labels: ``[...]`` integers in [0, C).
      return_logsumexp: also return the log-sum-exp of the logits after softcap and temperature, 0 for masked rows.
      **options: the options of :class:`SoftmaxOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar; float32 for 16-bit logits, otherwise of the logits' dtype. With
      ``return_logsumexp`` a pair, both parts of it differentiable.

    Accuracy: value and gradient lie within 8u of the exact result for logits taken as exact, at every scale, offset
    and gap, for up to 1000 classes (beyond, log2(C)/2 u more), plus C times the smallest normal number. Label
    smoothing, class weights under smoothing, and the z-loss subtract terms of one size: the error is then within 13u of
    the terms. Softcap and temperature round the logits once more.

    Raises:
      TypeError: logits that are not floats, labels that are not integers, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, no class, an option out of its range.

    Under ``jax.experimental.checkify`` a label out of range raises an error that names the label and its row.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import softmax_cross_entropy_with_integer_labels
      >>> logits = jnp.array([[2.0, 0.0, -1.0], [50.0, 0.0, 0.0]])
      >>> [f"{loss:.5g}" for loss in softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 0]))]
      ['0.16985', '3.8575e-22']

    Source: theorems 4.1.2, 4.1.5 and 4.1.6, equations (4.1.4) and (4.1.5) with the sign corrected.
    """
    given = LogitLoss.of(logits, labels, "labels", **options)
    if checks.flag("return_logsumexp", return_logsumexp):
        return given.reduced_with_logsumexp(CROSS_ENTROPY)
    return given.reduced(CROSS_ENTROPY)


@with_plain
@with_overloads(DistributionCrossEntropy)
@with_options
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, return_logsumexp: bool = False, **options: Unpack[DistributionOptions]
) -> Array | tuple[Array, Array]:
    r"""Cross-entropy of target distributions with ``softmax(logits)``; the targets need not sum to 1.

    .. math::
        L = \sum_k t_k (z_m - z_k) + (\textstyle\sum_k t_k) \log(\textstyle\sum_j e^{z_j - z_m}), \quad z_m = \max z

    Domain: any real logits (see :func:`softmax_cross_entropy_with_integer_labels` for infinite ones), targets >= 0;
    a negative one makes its row NaN. A class of zero target contributes nothing, also where its probability is 0. A
    positive target there makes the loss +inf, and so does a logit that is further below the maximum than the largest
    number of the dtype.

    Gradient: :math:`(\sum t)\,\hat p - t` in the logits (theorem 4.1.5, which prints the case Σt = 1) and
    :math:`-\log \hat p` in the targets; true gradients also in ``class_weights``, ``z_loss``, ``logit_softcap`` and
    ``temperature``.

    Args:
      logits: ``[..., C]`` floats (the class axis is ``axis``).
      targets: ``[..., C]`` floats, of the shape of the logits.
      return_logsumexp: also return the log-sum-exp of the logits after softcap and temperature, 0 for masked rows.
      class_weights: ``[C]`` floats >= 0 that multiply the terms of the sum, after smoothing. Default: None.
      label_smoothing: ε in [0, 1]; t becomes (1 - ε)t + ε·(Σt)/C, which keeps the mass Σt (PyTorch adds ε/C, whatever
        the mass). Default: 0.0.
      **options: the options of :class:`DistributionOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider. With ``return_logsumexp`` a pair, both parts of it
      differentiable.

    Accuracy: the value lies within 33u (67u where a gap between logits reaches 16), the gradient within 13u(p̂ + t)
    (67u(p̂ + t) where a gap reaches 16), because the subtraction p̂ - t is inherent. One-hot targets are as accurate as
    integer labels.

    Raises:
      TypeError: logits or targets that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, no class, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import softmax_cross_entropy
      >>> print(f"{softmax_cross_entropy(jnp.array([1.0, 1.0, -jnp.inf]), jnp.array([0.25, 0.75, 0.0])):.5f}")
      0.69315

    Source: §4.1.3, H(P, Q); theorem 4.1.5.
    """
    given = LogitLoss.of(logits, targets, "distributions", **options)
    if checks.flag("return_logsumexp", return_logsumexp):
        return given.reduced_with_logsumexp(CROSS_ENTROPY)
    return given.reduced(CROSS_ENTROPY)


@with_plain
@with_options
def sigmoid_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    label_smoothing: ArrayLike = 0.0,
    **options: Unpack[EntryOptions],
) -> Array:
    r"""Binary cross-entropy of targets in [0, 1] with ``sigmoid(logits)``, elementwise.

    .. math:: L = w\,y \log(1 + e^{-z}) + (1 - y) \log(1 + e^{z})

    Domain: any logits, ±inf included (the loss is 0 if the target agrees and +inf if it does not); targets in [0, 1],
    and NaN for other targets. NaN in, NaN out.

    Gradient: :math:`(1 - y)\,\sigma(z) - w\,y\,\sigma(-z)` in the logits, which is σ(z) - y for w = 1 (theorem 4.1.5
    with two classes); w·softplus(-z) - softplus(z) in the targets (-z for w = 1); y·softplus(-z) in ``pos_weight``;
    true in ``label_smoothing``.

    Args:
      logits: ``[...]`` floats.
      targets: ``[...]`` floats, of the shape of the logits.
      pos_weight: w, a weight of the positive class: a scalar, or an array that broadcasts to the shape of the logits.
        None stands for 1.
      label_smoothing: ε in [0, 1], a scalar, or an array that broadcasts to the shape of the logits; y becomes
        (1 - ε)y + ε/2.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in nats, the shape of the logits or a scalar, in float32 or wider.

    Accuracy: the value lies within 8u, the gradient within 8u for targets 0 and 1, and within
    8u((1 - y)σ(z) + w y σ(-z)) for targets between.

    Raises:
      TypeError: logits or targets that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a negative ``pos_weight``, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import sigmoid_cross_entropy
      >>> [f"{loss:.4g}" for loss in sigmoid_cross_entropy(jnp.array([0.0, 30.0, -30.0]), jnp.ones(3))]
      ['0.6931', '9.358e-14', '30']

    Source: §4.1.3; theorem 4.1.5 for C = 2.
    """
    logits = checks.floating("logits", logits)
    targets = checks.floating("targets", targets, remedy="convert 0/1 labels with .astype(logits.dtype)")
    checks.same_shape("targets", targets.shape, "of the logits", logits.shape, "give one target per logit")
    parameters = {"label_smoothing": checks.nonnegative("label_smoothing", label_smoothing, at_most=1)}
    if checks.is_known(label_smoothing, 0):
        parameters = {}
    if pos_weight is not None:
        parameters["pos_weight"] = checks.nonnegative("pos_weight", pos_weight)

    def rule(dtype: Any, logits: Array, targets: Array, *given: Array) -> Array:
        named = dict(zip(parameters, given, strict=True))
        smoothing, weight = named.get("label_smoothing"), named.get("pos_weight")
        return elementwise_sigmoid_cross_entropy(dtype, logits, targets, smoothing, weight)

    return elementwise(rule, logits, targets, parameters, FRACTIONS, **options)
