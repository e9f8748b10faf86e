"""Cross-entropy with a few classes' probabilities as the target: a teacher's top k, of logits and of a linear head."""

from typing import Any, NamedTuple, Unpack

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.autodiff import scalar_rule
from lossjax._core.masks import hide, nan_unless
from lossjax._core.options import complete, with_options
from lossjax._core.plain import with_plain
from lossjax._core.reduction import CountedOptions, MaskOption, Reducer, ReductionOptions
from lossjax._core.sharding import same_on_all
from lossjax._softmax.head import Rows
from lossjax._softmax.head_inputs import BlockOptions, HeadLoss, LinearHeads, transform_of, transformed
from lossjax._softmax.options import TransformOptions, classes_last
from lossjax._softmax.tokens import Asked, token_answers
from lossjax._softmax.transform import LogitTransform
from lossjax.losses.tokens import checked_tokens
from lossjax.numerics import times


class SparseOptions(MaskOption, TransformOptions, ReductionOptions, total=False):
    """The options of a cross-entropy with sparse targets."""


class LinearSparseOptions(CountedOptions, TransformOptions, BlockOptions, total=False):
    """The options of the cross-entropy of a linear head with sparse targets."""


@with_plain
@with_options
def softmax_cross_entropy_with_sparse_targets(
    logits: ArrayLike,
    classes: ArrayLike,
    probabilities: ArrayLike,
    *,
    tail: bool = False,
    **options: Unpack[SparseOptions],
) -> Array:
    r"""Softmax cross-entropy whose target is given for K classes of each row: a teacher's top k, say.

    .. math:: L = -\textstyle\sum_k q_k \log p_{c_k}, \quad \text{with tail} \quad
              L - (1 - \textstyle\sum_k q_k) \log (1 - \textstyle\sum_k p_{c_k})

    where ``tail`` adds one bin for all other classes. Without it the target has the mass
    Σq, and the student is not asked what it does with the classes that are not listed, except through the sum to 1.
    Less the entropy of the bins, which the student does not change, the loss with tail is the divergence KL(q‖p) of the
    K + 1 bins.

    Domain: that of :func:`~lossjax.softmax` for the logits; distinct classes in [0, C); probabilities >= 0, with
    ``tail`` of sum at most 1 (up to their own rounding). A row outside of it is NaN, and so is its gradient.

    Gradient: (Σt) p - t in the logits, with t = q at the listed classes, and elsewhere 0, or with ``tail`` the rest of
    the mass, shared out as p is; -log p_c in the probabilities, with ``tail`` plus the logarithm of the tail.

    Args:
      logits: ``[..., C]`` floats, the classes last.
      classes: ``[..., K]`` integers, the classes c of each row.
      probabilities: ``[..., K]`` floats, the target's q at these classes.
      tail: whether the rest of the mass is one more bin.
      **options: the options of :class:`SparseOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 16u of the sum of the terms, whatever the size of the tail; 1 - Σq is rounded K times. A temperature
    rounds the logits once more.

    Raises:
      TypeError: logits or probabilities that are not floats, classes that are not integers.
      ValueError: shapes that do not fit, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import softmax_cross_entropy_with_sparse_targets
      >>> z, top = jnp.array([2.0, 1.0, 0.0, -1.0]), jnp.array([0, 1])
      >>> q = jnp.array([0.7, 0.2])
      >>> f"{softmax_cross_entropy_with_sparse_targets(z, top, q):.4f}"
      '0.5962'
      >>> f"{softmax_cross_entropy_with_sparse_targets(z, top, q, tail=True):.4f}"
      '0.8089'

    Source: theorem 4.1.5, of an unnormalised target; for the tail, of the row (p_c, 1 - Σ p_c).
    """
    given, array = complete(SparseOptions, options), checks.floating("logits", logits)
    z = classes_last(array, checks.class_axis(array, "logits", -1))
    reducer, places, q = _checked(classes, probabilities, z.shape[:-1], z.shape[-1], given)
    dtype = checks.compute_dtype(array, q)
    transform = transform_of(given["temperature"], given["logit_softcap"], dtype)
    asked = Asked(dtype, tail=checks.flag("tail", tail))
    return reducer(_losses(asked, transform, z, places, q, reducer.valid))


@with_options
def linear_softmax_cross_entropy_with_sparse_targets(
    hidden: ArrayLike,
    weight: ArrayLike,
    classes: ArrayLike,
    probabilities: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    tail: bool = False,
    **options: Unpack[LinearSparseOptions],
) -> Array:
    r"""Cross-entropy of a linear head with a target for K classes of each row; the logits are never stored.

    .. math:: L = -\textstyle\sum_k q_k \log p_{c_k} \; \left[ - (1 - \sum_k q_k)
              \log (1 - \textstyle\sum_k p_{c_k}) \right], \quad p = \operatorname{softmax}(xW + b)

    Domain: that of :func:`softmax_cross_entropy_with_sparse_targets` for the logits xW + b.

    Gradient: with g = (Σt) p - t that in the logits, :math:`g W^\top` in x, :math:`x^\top g` in W and g in b, summed
    over rows; true in the probabilities too. With ``reduction`` "sum" or "mean" the forward pass forms it.

    Args:
      hidden: x, ``[..., H]`` floats.
      weight: W, ``[H, C]`` floats, of the dtype of ``hidden``.
      classes: ``[..., K]`` integers, the classes c of each row.
      probabilities: ``[..., K]`` floats, the target's q at these classes.
      bias: b, ``[C]`` floats; None stands for 0.
      tail: whether the rest of the mass is one more bin.
      **options: the options of :class:`LinearSparseOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: that of :func:`softmax_cross_entropy_with_sparse_targets` for the logits as computed. Products of 16-bit
    numbers are summed in float32, and so are the gradients of the blocks.

    Raises:
      TypeError: arguments that are not floats (classes: integers), hidden and weight of different dtypes.
      ValueError: shapes that do not fit, a chunk size that is not positive, an option out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import linear_softmax_cross_entropy_with_sparse_targets
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> top, q = jnp.array([[0, 1]]), jnp.array([[0.7, 0.2]])
      >>> f"{linear_softmax_cross_entropy_with_sparse_targets(x, W, top, q, tail=True)[0]:.4f}"
      '1.1300'

    Source: theorem 4.1.5 through the chain rule.
    """
    heads = LinearHeads.of(hidden, weight, bias)
    return sparse_head(heads, classes, probabilities, tail, options)


def sparse_head(
    heads: LinearHeads,
    classes: ArrayLike,
    probabilities: ArrayLike,
    tail: bool,
    options: LinearSparseOptions,
    over: str | None = None,
) -> Array:
    """The same for a head whose classes are all here, or split over the devices of a mesh axis."""
    given = complete(LinearSparseOptions, options)
    reducer, places, q = _checked(classes, probabilities, heads.rows, heads.class_count(over), given)
    dtype = checks.compute_dtype(*heads.hidden, q)
    transform = transform_of(given["temperature"], given["logit_softcap"], dtype)
    loss = _SparseLoss(Asked(dtype, over, tail=checks.flag("tail", tail)))
    return HeadLoss.of(loss, heads, transform, (places, q), reducer.valid, dtype, given, over).reduced(reducer)


class _SparseLoss(NamedTuple):
    """As a loss of a head's logits: a block's own are classes and probabilities, the terms are the transform."""

    asked: Asked

    def __call__(self, transform: LogitTransform, logits: tuple[Array, ...], block: Rows) -> tuple[Array]:
        places, q = block.own
        return (_losses(self.asked, transform, logits[0], places, q, block.valid),)


def _checked(
    classes: ArrayLike, probabilities: ArrayLike, rows: tuple[Any, ...], count: Any, given: dict[str, Any]
) -> tuple[Reducer, Array, Array]:
    """What becomes of the rows, and the classes and probabilities."""
    valid, one, places = checked_tokens(classes, rows, count, given["where"], "classes")
    if one:
        raise ValueError(f"classes has shape {places.shape[:-1]}, wanted {(*rows, 'K')}; give a last axis of K classes")
    q = checks.floating("probabilities", probabilities)
    checks.same_shape("probabilities", q.shape, "of classes", places.shape, "give one probability per class listed")
    return Reducer.of(rows, {**given, "where": valid}), places, q


@scalar_rule(lambda g, weight, value: g * value, lambda g, weight, value: g * weight)
def _weighed(weight: Array, value: Array) -> Array:
    return times(weight, value)


def _losses(
    asked: Asked, transform: LogitTransform, logits: Array, classes: Array, probabilities: Array, valid: Array | None
) -> Array:
    """One loss per row; 0 in masked rows."""
    z = transformed(transform, hide(valid, logits), asked.dtype)
    counted = None if valid is None else jnp.broadcast_to(valid[..., None], classes.shape)
    places = hide(counted, classes)
    if counted is not None:  # masked rows list distinct classes too
        places = jnp.where(counted, places, jnp.arange(classes.shape[-1], dtype=classes.dtype))
    q = hide(valid, probabilities).astype(asked.dtype)
    answers = token_answers(asked, z, places)
    loss = jnp.sum(_weighed(q, -answers.log_probs), axis=-1)
    in_order = jnp.sort(places, axis=-1)
    sound = jnp.all(in_order[..., 1:] != in_order[..., :-1], axis=-1) & jnp.all(q >= 0, axis=-1)
    if answers.tail is not None:
        missing = 1 - jnp.sum(q, axis=-1)
        rounding = probabilities.shape[-1] * float(jnp.finfo(probabilities.dtype).eps)
        sound = sound & (missing >= -rounding)
        # What rounding has left below 0 is 0, and moves with the probabilities.
        missing = missing + lax.stop_gradient(jnp.maximum(-missing, 0))
        loss = loss + _weighed(missing, -answers.tail)
    sound = sound & ~jnp.isnan(answers.logsumexp)  # a probability of 0 must not silence an undefined row
    return hide(valid, same_on_all(nan_unless(sound, loss), asked.over))
