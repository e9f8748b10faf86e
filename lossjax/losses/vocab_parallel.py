"""Cross-entropies whose classes are split over devices: for use inside ``jax.shard_map``."""

from typing import Literal, Unpack, overload

import jax
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.options import with_options
from lossjax._core.sharding import varies_over
from lossjax._softmax.curves import CROSS_ENTROPY
from lossjax._softmax.options import LogitLoss, VocabOptions
from lossjax.losses.linear_head import HeadOptions, linear_head


@overload
def vocab_parallel_softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
    return_logsumexp: Literal[False] = ...,
    **options: Unpack[VocabOptions],
) -> Array: ...
@overload
def vocab_parallel_softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
    return_logsumexp: Literal[True],
    **options: Unpack[VocabOptions],
) -> tuple[Array, Array]: ...
@overload
def vocab_parallel_softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, axis_name: str, return_logsumexp: bool, **options: Unpack[VocabOptions]
) -> Array | tuple[Array, Array]: ...
@with_options
def vocab_parallel_softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
    return_logsumexp: bool = False,
    **options: Unpack[VocabOptions],
) -> Array | tuple[Array, Array]:
    r"""Softmax cross-entropy where each device holds the logits of its own classes, equally many.

    .. math:: L = \log \sum_d \sum_{j \in d} e^{z_j} - z_c

    Three numbers per row cross the devices, whatever C is: the maximum, the label's logit, and the rest of the sum
    (options add up to four more).

    Domain: that of :func:`~lossjax.softmax_cross_entropy_with_integer_labels`, for the whole rows.

    Gradient: that of the one loss that all devices share: :math:`\hat p - e_c` for the classes held here. Arguments
    that are equal on all devices have the whole gradient, which ``jax.shard_map`` sums over the devices; for that it
    must check varying axes (``check_vma=True``, its default).

    Args:
      logits: ``[..., C/D]`` floats, those of the classes held here; the class axis is the last.
      labels: ``[...]`` integers in [0, C), equal on all devices; or ``[..., C/D]`` floats, the target's entries for the
        classes held here.
      axis_name: the name of the mesh axis along which the D devices lie.
      return_logsumexp: also return the log-sum-exp of the logits after softcap and temperature, 0 for masked rows.
      where: ``[...]`` booleans, one per row, equal on all devices; a False row contributes exactly 0 to value and
        gradient, whatever it holds. Default: None.
      class_weights: ``[C/D]`` floats >= 0, the weights of the classes held here, which multiply their terms; "mean"
        divides by the sum of the labels' weights. Default: None.
      reduction: "none", "sum", or "mean" over the unmasked rows that are held here; an empty mean is 0 (PyTorch: NaN).
        Default: "none".
      **options: the options of :class:`VocabOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar, equal on all devices; with ``return_logsumexp`` a pair.

    Accuracy: that of :func:`~lossjax.softmax_cross_entropy_with_integer_labels`.

    Raises:
      TypeError: logits that are not floats.
      ValueError: a name that is not a mesh axis here, or ``check_vma=False``; shapes that do not fit, an
        option out of its range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> from lossjax import vocab_parallel_softmax_cross_entropy
      >>> mesh = jax.make_mesh((1,), ("classes",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
      >>> def loss(z, y):
      ...     return vocab_parallel_softmax_cross_entropy(z, y, axis_name="classes")
      >>> sharded = jax.shard_map(loss, mesh=mesh, in_specs=(P(None, "classes"), P()), out_specs=P())
      >>> print(f"{sharded(jnp.array([[2.0, 0.0, -1.0]]), jnp.array([0]))[0]:.5f}")
      0.16985

    Source: theorem 4.1.5; Shoeybi et al., Megatron-LM (2019), §3.
    """
    given = LogitLoss.of(logits, labels, "either", over=mesh_axis(axis_name), **options)
    if checks.flag("return_logsumexp", return_logsumexp):
        return given.reduced_with_logsumexp(CROSS_ENTROPY)
    return given.reduced(CROSS_ENTROPY)


@overload
def vocab_parallel_linear_softmax_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
    bias: ArrayLike | None = ...,
    return_logsumexp: Literal[False] = ...,
    **options: Unpack[HeadOptions],
) -> Array: ...
@overload
def vocab_parallel_linear_softmax_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
    bias: ArrayLike | None = ...,
    return_logsumexp: Literal[True],
    **options: Unpack[HeadOptions],
) -> tuple[Array, Array]: ...
@overload
def vocab_parallel_linear_softmax_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
    bias: ArrayLike | None = ...,
    return_logsumexp: bool,
    **options: Unpack[HeadOptions],
) -> Array | tuple[Array, Array]: ...
@with_options
def vocab_parallel_linear_softmax_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
    bias: ArrayLike | None = None,
    return_logsumexp: bool = False,
    **options: Unpack[HeadOptions],
) -> Array | tuple[Array, Array]:
    r"""Cross-entropy of a linear head where each device holds the weights of its own classes; logits are not stored.

    .. math:: L = -\log \operatorname{softmax}(xW + b)_c, \qquad W = [W_1, \ldots, W_D]

    Domain: that of :func:`~lossjax.linear_softmax_cross_entropy`, for the whole head.

    Gradient: that of the one loss that all devices share: in W and b for the classes held here, in x the sum over
    devices, which ``jax.shard_map`` forms (for that it must check varying axes: ``check_vma=True``, its default).

    Args:
      hidden: x, ``[..., H]`` floats, equal on all devices.
      weight: W, ``[H, C/D]`` floats of the dtype of ``hidden``, the columns of the classes held here.
      labels: ``[...]`` integers in [0, C), equal on all devices.
      axis_name: the name of the mesh axis along which the D devices lie.
      bias: b, ``[C/D]`` floats, those of the classes held here; None stands for 0.
      return_logsumexp: also return the log-sum-exp of the logits after softcap and temperature, 0 for masked rows.
      where: ``[...]`` booleans, one per row, equal on all devices; a False row contributes exactly 0 to value and
        gradient, whatever it holds. Default: None.
      class_weights: ``[C/D]`` floats >= 0, the weights of the classes held here, which multiply their terms; "mean"
        divides by the sum of the labels' weights. Default: None.
      reduction: "none", "sum", or "mean" over the unmasked rows that are held here; an empty mean is 0 (PyTorch: NaN).
        Default: "none".
      **options: the options of :class:`HeadOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar, equal on all devices; with ``return_logsumexp`` a pair.

    Accuracy: that of :func:`~lossjax.linear_softmax_cross_entropy`.

    Raises:
      TypeError: arguments that are not floats (labels: integers), hidden and weight of different dtypes.
      ValueError: a name that is not a mesh axis here, or ``check_vma=False``; shapes that do not fit, a
        chunk size that is not positive.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> from lossjax import vocab_parallel_linear_softmax_cross_entropy
      >>> mesh = jax.make_mesh((1,), ("classes",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
      >>> def loss(x, W, y):
      ...     return vocab_parallel_linear_softmax_cross_entropy(x, W, y, axis_name="classes", reduction="sum")
      >>> sharded = jax.shard_map(loss, mesh=mesh, in_specs=(P(), P(None, "classes"), P()), out_specs=P())
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> print(f"{sharded(x, W, jnp.array([0])):.4f}")
      1.1427

    Source: theorem 4.1.5 through the chain rule; Shoeybi et al., Megatron-LM (2019), §3.
    """
    return linear_head(
        hidden, weight, labels, bias=bias, return_logsumexp=return_logsumexp, over=mesh_axis(axis_name), **options
    )


def mesh_axis(name: str) -> str:
    """The name, checked to be that of a mesh axis here, over which values are known to vary."""
    try:
        lax.axis_size(name)
    except (NameError, TypeError, ValueError):
        here = jax.sharding.get_abstract_mesh().axis_names
        raise ValueError(
            f"axis_name {name!r} is no mesh axis here (there are {list(here)}); call this inside jax.shard_map over a "
            "mesh that has it; for sharded logits under plain jax.jit use the loss without vocab_parallel_"
        ) from None
    if not varies_over(lax.axis_index(name), name):
        raise ValueError(
            f"jax.shard_map does not check what varies over {name!r}, and would return wrong gradients; call it with "
            "check_vma=True, its default"
        )
    return name
