"""The angle between vectors as a loss."""

from collections.abc import Sequence
from typing import Annotated, Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.masks import hide, nan_unless
from lossjax._core.options import Option, complete, with_options
from lossjax._core.plain import with_plain
from lossjax._core.reduction import Reducer, ReductionOptions
from lossjax._rules import cosine as rules
from lossjax._softmax.options import classes_last


class VectorOptions(ReductionOptions, total=False):
    """The options of a loss of vectors."""

    axis: Annotated[
        int | Sequence[int], Option(-1, "the axis of the vectors' entries, or several axes that are taken as one.")
    ]
    where: Annotated[
        ArrayLike | None,
        Option(
            None,
            "booleans, one per vector (``[...]``), or of a shape that broadcasts to the vectors'. False entries count "
            "as 0; a vector that is False, or of which no entry is left, contributes exactly 0 to the value and to "
            "every gradient.",
        ),
    ]


@with_plain
@with_options
def cosine_similarity(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: ArrayLike = 0.0,
    **options: Unpack[VectorOptions],
) -> Array:
    r"""The cosine of the angle between two vectors.

    .. math:: \cos(a, b) = \langle a, b\rangle/(\|a\| \|b\|)

    Domain: real vectors of any length; nothing overflows or underflows. A zero vector has no direction: its cosine is
    0, with zero gradient.

    Gradient: :math:`(\hat b - \cos\,\hat a)/\|a\|` in a, with :math:`\hat a = a/\|a\|`, and with a and b exchanged in
    b; -½ cos/ε in ε for each vector that was divided by √ε.

    Args:
      predictions: ``[..., n]`` floats, a.
      targets: ``[..., n]`` floats of the shape of the predictions, b.
      epsilon: ε >= 0, a number, or an array that broadcasts to the shape of the result: a vector shorter than √ε is
        divided by √ε instead of its length.
      **options: the options of :class:`VectorOptions`.

    Returns:
      ``[...]`` (a scalar for a reduction), a pure number in [-1, 1] where nothing is weighted, in float32 or wider.

    Accuracy: an absolute error within (8 + log₂ n)u. Entry i of the gradient in a is within (16 + log₂ n)u of
    :math:`(|\hat b_i| (1 - \hat a_i^2) + |\hat a_i| \sum_{j \neq i} |\hat a_j \hat b_j|)/\|a\|`, which is what
    rounding b changes, and far less than 1/‖a‖ for an entry that dominates its vector.

    Raises:
      TypeError: arguments that are not floats.
      ValueError: shapes that do not agree, a negative ε.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import cosine_similarity
      >>> print(cosine_similarity(jnp.array([[3e30, 0.0], [0.0, 0.0]]), jnp.array([[1.0, 0.0], [1.0, 2.0]])))
      [1. 0.]

    Source: §4.1.4 (projection onto a line).
    """
    return _cosine(False, predictions, targets, epsilon, options)


@with_plain
@with_options
def cosine_distance(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: ArrayLike = 0.0,
    **options: Unpack[VectorOptions],
) -> Array:
    r"""One minus the cosine of the angle between two vectors.

    .. math:: 1 - \cos(a, b) = \tfrac12 \|\hat a - \hat b\|^2

    The second form does not subtract two nearby numbers: nearly parallel vectors keep their distance.

    Domain: real vectors of any length; the distance of a zero vector from any other is 1, with zero gradient.

    Gradient: the negative of :func:`cosine_similarity`'s.

    Args:
      predictions: ``[..., n]`` floats, a.
      targets: ``[..., n]`` floats of the shape of the predictions, b.
      epsilon: ε >= 0, a number, or an array that broadcasts to the shape of the result: a vector shorter than √ε is
        divided by √ε instead of its length.
      **options: the options of :class:`VectorOptions`.

    Returns:
      ``[...]`` (a scalar for a reduction), a pure number in [0, 2] where nothing is weighted, in float32 or wider.

    Accuracy: (16 + log₂ n)u·√d + 64u², with d the distance (1 - cos has an error of 1u, whatever d). The gradient's is
    that of :func:`cosine_similarity`.

    Raises:
      TypeError: arguments that are not floats.
      ValueError: shapes that do not agree, a negative ε.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import cosine_distance
      >>> print(f"{cosine_distance(jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-5])):.4g}")
      5e-11

    Source: §4.1.4 (projection onto a line).
    """
    return _cosine(True, predictions, targets, epsilon, options)


def _cosine(
    distance: bool,
    predictions: ArrayLike,
    targets: ArrayLike,
    epsilon: ArrayLike,
    options: VectorOptions,
) -> Array:
    given = complete(VectorOptions, options)
    a, b = checks.floating("predictions", predictions), checks.floating("targets", targets)
    checks.same_shape("targets", b.shape, "of the predictions", a.shape, "give two vectors of one length")
    axes = checks.class_axis(a, "predictions", given["axis"])
    counted = None
    if given["where"] is not None:
        kept = _entries(checks.boolean("where", given["where"]), a.shape, axes)
        a, b = hide(kept, a), hide(kept, b)
        counted = jnp.any(classes_last(kept, axes), axis=-1)
    a, b = classes_last(a, axes), classes_last(b, axes)
    reducer = Reducer.of(a.shape[:-1], {**given, "where": counted})
    squared = checks.nonnegative("epsilon", epsilon)
    checks.broadcastable("epsilon", squared.shape, a.shape[:-1])
    dtype = checks.compute_dtype(a, b, squared)
    squared = jnp.broadcast_to(squared.astype(dtype), a.shape[:-1])
    return reducer(nan_unless(~jnp.isnan(squared), rules.cosine(rules.Options(dtype, distance), a, b, squared)))


def _entries(where: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Which entries count; a mask of vectors hides all of theirs."""
    if where.shape == tuple(n for i, n in enumerate(shape) if i not in axes):
        of_vectors = jnp.expand_dims(where, axes)
        of_entries = (1,) * len(axes) + where.shape
        if of_vectors.shape != of_entries and all(m in (1, n) for m, n in zip(of_entries, shape, strict=True)):
            raise ValueError(
                f"where has shape {where.shape}, which may be one per vector or one per entry of the shape {shape}; "
                f"give where.reshape{of_vectors.shape} for vectors, where.reshape{of_entries} for entries"
            )
        where = of_vectors
    checks.broadcastable("where", where.shape, shape)
    return jnp.broadcast_to(where, shape)
