"""Cross-entropies whose classes are split over devices: for use inside ``jax.shard_map``."""

from typing import Any, Literal, overload

import jax
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core.sharding import varies_over
from lossjax._softmax.curves import CROSS_ENTROPY
from lossjax._softmax.inputs import LogitLoss, Reduction
from lossjax.losses.linear_head import linear_head


@overload
def vocab_parallel_softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
    return_logsumexp: Literal[False] = ...,
    **options: Any,
) -> Array: ...
@overload
def vocab_parallel_softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, axis_name: str, return_logsumexp: Literal[True], **options: Any
) -> tuple[Array, Array]: ...
def vocab_parallel_softmax_cross_entropy(  # pyright: ignore[reportInconsistentOverload]  # "options" are those below
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
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
    r"""Softmax cross-entropy where each device holds the logits of its own classes, equally many.

    .. math:: L = \log \sum_d \sum_{j \in d} e^{z_j} - z_c

    Three numbers a row cross the devices, whatever C is: the maximum, the label's logit, the rest of the sum (options
    add up to four).

    Domain: as :func:`~lossjax.softmax_cross_entropy_with_integer_labels`, of the whole rows.

    Gradient: of the one loss that all devices share: :math:`\hat p - e_c` of the classes held here. Arguments that are
    the same on all devices have the whole gradient, summed over devices by ``jax.shard_map``; it must check varying
    axes for that (``check_vma``, its default).

    Args:
      logits: ``[..., C/D]`` floats, the classes of this device; the class axis is the last.
      labels: ``[...]`` integers in [0, C), the same on all devices; or ``[..., C/D]`` floats, the target's part here.
      axis_name: the mesh axis that the D devices are along.
      where: as there, for this and what follows; the same on all devices.
      ignore_index: rows with this label are masked.
      class_weights: ``[C/D]``, of the classes held here.
      label_smoothing: ε in [0, 1].
      smoothing: "uniform" or "others".
      z_loss: coefficient of lse².
      logit_softcap: c in c·tanh(z/c).
      temperature: T divides the logits.
      reduction: "none", "sum" or "mean", over the rows held here.
      return_logsumexp: also return the log-sum-exp of each row.

    Returns:
      The loss in nats, ``[...]`` or a scalar, the same on all devices; with ``return_logsumexp`` a pair.

    Accuracy: that of :func:`~lossjax.softmax_cross_entropy_with_integer_labels`.

    Raises:
      TypeError: logits that are not floats.
      ValueError: an axis that is no mesh axis here, or ``check_vma=False``; shapes that do not fit, an
        option out of its range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> mesh = jax.make_mesh((1,), ("classes",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
      >>> def loss(z, y):
      ...     return vocab_parallel_softmax_cross_entropy(z, y, axis_name="classes")
      >>> sharded = jax.shard_map(loss, mesh=mesh, in_specs=(P(None, "classes"), P()), out_specs=P())
      >>> print(f"{sharded(jnp.array([[2.0, 0.0, -1.0]]), jnp.array([0]))[0]:.5f}")
      0.16985

    Source: theorem 4.1.5; Shoeybi et al., Megatron-LM (2019), §3.
    """
    given = LogitLoss.of(
        logits, labels, kind="either", axis=-1, where=where, ignore_index=ignore_index, class_weights=class_weights,
        label_smoothing=label_smoothing, smoothing=smoothing, z_loss=z_loss, logit_softcap=logit_softcap,
        temperature=temperature, reduction=reduction, over=_mesh_axis(axis_name),
    )  # fmt: skip
    loss, lse = given.reduced(CROSS_ENTROPY)
    return (loss, lse) if return_logsumexp else loss


@overload
def vocab_parallel_linear_softmax_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
    return_logsumexp: Literal[False] = ...,
    **options: Any,
) -> Array: ...
@overload
def vocab_parallel_linear_softmax_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
    return_logsumexp: Literal[True],
    **options: Any,
) -> tuple[Array, Array]: ...
def vocab_parallel_linear_softmax_cross_entropy(  # pyright: ignore[reportInconsistentOverload]  # "options" are those below
    hidden: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str,
    bias: ArrayLike | None = None,
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
    chunk_size: int | Literal["auto"] = "auto",
    skip_below: float | Literal["auto"] | None = None,
) -> Array | tuple[Array, Array]:
    r"""Cross-entropy of a linear head where each device holds the weights of its own classes; logits are not stored.

    .. math:: L = -\log \operatorname{softmax}(xW + b)_c, \qquad W = [W_1, \ldots, W_D]

    Domain: as :func:`~lossjax.linear_softmax_cross_entropy`, of the whole head.

    Gradient: of the one loss that all devices share: in W and b for the classes held here, in x the sum over devices
    (by ``jax.shard_map``, which must check varying axes for that).

    Args:
      hidden: x, ``[..., H]`` floats, the same on all devices.
      weight: W, ``[H, C/D]`` floats, the classes of this device.
      labels: ``[...]`` integers in [0, C), the same on all devices.
      axis_name: the mesh axis that the D devices are along.
      bias: b, ``[C/D]`` floats.
      where: as :func:`vocab_parallel_softmax_cross_entropy`, for this and what follows down to ``return_logsumexp``.
      ignore_index: rows with this label are masked.
      class_weights: ``[C/D]`` floats >= 0.
      label_smoothing: ε in [0, 1].
      smoothing: "uniform" or "others".
      z_loss: coefficient of lse².
      logit_softcap: c in c·tanh(z/c).
      temperature: T divides the logits.
      reduction: "none", "sum" or "mean", over the rows held here.
      return_logsumexp: also return the log-sum-exp of each row.
      chunk_size: rows a block, as :func:`~lossjax.linear_softmax_cross_entropy`.
      skip_below: as there; each device leaves out classes of its own.

    Returns:
      The loss in nats, ``[...]`` or a scalar, the same on all devices; with ``return_logsumexp`` a pair.

    Accuracy: that of :func:`~lossjax.linear_softmax_cross_entropy`.

    Raises:
      TypeError: arguments that are not floats (labels: integers), hidden and weight of different dtypes.
      ValueError: an axis that is no mesh axis here, or ``check_vma=False``; shapes that do not fit, a
        chunk size that is not positive.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import AxisType, PartitionSpec as P
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
        hidden, weight, labels, bias=bias, where=where, ignore_index=ignore_index, class_weights=class_weights,
        label_smoothing=label_smoothing, smoothing=smoothing, z_loss=z_loss, logit_softcap=logit_softcap,
        temperature=temperature, reduction=reduction, return_logsumexp=return_logsumexp, chunk_size=chunk_size,
        skip_below=skip_below, over=_mesh_axis(axis_name),
    )  # fmt: skip


def _mesh_axis(name: str) -> str:
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
