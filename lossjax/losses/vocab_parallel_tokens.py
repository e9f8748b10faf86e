"""Tokens and sparse targets of heads whose classes are split over devices: for use inside ``jax.shard_map``."""

from typing import Unpack

from jax import Array
from jax.typing import ArrayLike

from lossjax._core.options import with_options
from lossjax._softmax.head_inputs import LinearHeads
from lossjax._softmax.tokens import Asked
from lossjax.losses.sparse_targets import LinearSparseOptions, sparse_head
from lossjax.losses.tokens import LinearTokenOptions, TokenStatistics, linear_answers, log_probs_of, statistics_of
from lossjax.losses.vocab_parallel import mesh_axis


@with_options
def vocab_parallel_linear_token_statistics(
    hidden: ArrayLike,
    weight: ArrayLike,
    tokens: ArrayLike,
    *,
    axis_name: str,
    bias: ArrayLike | None = None,
    **options: Unpack[LinearTokenOptions],
) -> TokenStatistics:
    r"""Log-probabilities of tokens, entropy and log-sum-exp where each device holds the weights of its own classes.

    .. math:: \log p_c = z_c - A, \quad A = \log \textstyle\sum_d \sum_{j \in d} e^{z_j},
              \quad z = x [W_1, \ldots, W_D] + b

    Domain: that of :func:`~lossjax.linear_token_statistics`, for the whole heads.

    Gradient: that of :func:`~lossjax.linear_token_statistics`; in what is equal on all devices the sum over them,
    which ``jax.shard_map`` forms (with ``check_vma=True``, its default).

    Args:
      hidden: x, ``[..., H]`` floats, equal on all devices.
      weight: W, ``[H, C/D]`` floats of the dtype of ``hidden``, the columns of the classes held here.
      tokens: ``[...]`` or ``[..., K]`` integers in [0, C), equal on all devices.
      axis_name: the name of the mesh axis along which the D devices lie.
      bias: b, ``[C/D]`` floats, those of the classes held here; None stands for 0.
      **options: the options of :class:`LinearTokenOptions`.

    Returns:
      A :class:`~lossjax.TokenStatistics`, equal on all devices.

    Accuracy: that of :func:`~lossjax.linear_token_statistics`.

    Raises:
      TypeError: arguments of a wrong dtype.
      ValueError: a name that is no mesh axis here, ``check_vma=False``, shapes that do not fit, an option out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> from lossjax import vocab_parallel_linear_token_statistics
      >>> mesh = jax.make_mesh((1,), ("classes",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
      >>> def result(x, W):
      ...     return vocab_parallel_linear_token_statistics(x, W, jnp.array([0]), axis_name="classes").entropy
      >>> sharded = jax.shard_map(result, mesh=mesh, in_specs=(P(), P(None, "classes")), out_specs=P())
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> print(f"{sharded(x, W)[0]:.4f}")
      1.2291

    Source: that of :func:`~lossjax.linear_token_statistics`; Shoeybi et al., Megatron-LM (2019), §3.
    """
    asked = Asked(None, mesh_axis(axis_name), entropy=True)
    return statistics_of(*linear_answers(hidden, weight, tokens, bias, options, asked))


@with_options
def vocab_parallel_linear_token_log_probs(
    hidden: ArrayLike,
    weight: ArrayLike,
    tokens: ArrayLike,
    *,
    axis_name: str,
    bias: ArrayLike | None = None,
    **options: Unpack[LinearTokenOptions],
) -> Array:
    r"""Log-probabilities of tokens where each device holds the weights of its own classes.

    .. math:: \log p_c = z_c - \log \textstyle\sum_d \sum_{j \in d} e^{z_j},
              \quad z = x [W_1, \ldots, W_D] + b

    Domain: that of :func:`~lossjax.linear_token_log_probs`, for the whole heads.

    Gradient: that of :func:`~lossjax.linear_token_log_probs`; in what is equal on all devices the sum over them,
    which ``jax.shard_map`` forms (with ``check_vma=True``, its default).

    Args:
      hidden: x, ``[..., H]`` floats, equal on all devices.
      weight: W, ``[H, C/D]`` floats of the dtype of ``hidden``, the columns of the classes held here.
      tokens: ``[...]`` or ``[..., K]`` integers in [0, C), equal on all devices.
      axis_name: the name of the mesh axis along which the D devices lie.
      bias: b, ``[C/D]`` floats, those of the classes held here; None stands for 0.
      **options: the options of :class:`LinearTokenOptions`.

    Returns:
      Nats, never positive, of the shape of the tokens, equal on all devices.

    Accuracy: that of :func:`~lossjax.linear_token_log_probs`.

    Raises:
      TypeError: arguments of a wrong dtype.
      ValueError: a name that is no mesh axis here, ``check_vma=False``, shapes that do not fit, an option out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> from lossjax import vocab_parallel_linear_token_log_probs
      >>> mesh = jax.make_mesh((1,), ("classes",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
      >>> def result(x, W):
      ...     return vocab_parallel_linear_token_log_probs(x, W, jnp.array([0]), axis_name="classes")
      >>> sharded = jax.shard_map(result, mesh=mesh, in_specs=(P(), P(None, "classes")), out_specs=P())
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> print(f"{sharded(x, W)[0]:.4f}")
      -1.1427

    Source: that of :func:`~lossjax.linear_token_log_probs`; Shoeybi et al., Megatron-LM (2019), §3.
    """
    return log_probs_of(*linear_answers(hidden, weight, tokens, bias, options, Asked(None, mesh_axis(axis_name))))


@with_options
def vocab_parallel_linear_softmax_cross_entropy_with_sparse_targets(
    hidden: ArrayLike,
    weight: ArrayLike,
    classes: ArrayLike,
    probabilities: ArrayLike,
    *,
    axis_name: str,
    bias: ArrayLike | None = None,
    tail: bool = False,
    **options: Unpack[LinearSparseOptions],
) -> Array:
    r"""Cross-entropy with a target for K classes of each row, where each device holds the weights of its own classes.

    .. math:: L = -\textstyle\sum_k q_k \log p_{c_k} \; \left[ - (1 - \sum_k q_k)
              \log (1 - \textstyle\sum_k p_{c_k}) \right]

    Domain: that of :func:`~lossjax.linear_softmax_cross_entropy_with_sparse_targets`, for the whole heads.

    Gradient: that of :func:`~lossjax.linear_softmax_cross_entropy_with_sparse_targets`; in what is equal on all
    devices the sum over them, which ``jax.shard_map`` forms (with ``check_vma=True``, its default).

    Args:
      hidden: x, ``[..., H]`` floats, equal on all devices.
      weight: W, ``[H, C/D]`` floats of the dtype of ``hidden``, the columns of the classes held here.
      classes: ``[..., K]`` integers in [0, C), distinct, equal on all devices.
      probabilities: ``[..., K]`` floats, the target's probabilities of these classes, equal on all devices.
      axis_name: the name of the mesh axis along which the D devices lie.
      bias: b, ``[C/D]`` floats, those of the classes held here; None stands for 0.
      tail: whether the rest of the mass is one more bin.
      **options: the options of :class:`LinearSparseOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar, equal on all devices.

    Accuracy: that of :func:`~lossjax.linear_softmax_cross_entropy_with_sparse_targets`.

    Raises:
      TypeError: arguments of a wrong dtype.
      ValueError: a name that is no mesh axis here, ``check_vma=False``, shapes that do not fit, an option out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> from lossjax import vocab_parallel_linear_softmax_cross_entropy_with_sparse_targets
      >>> mesh = jax.make_mesh((1,), ("classes",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
      >>> def result(x, W):
      ...     listed = jnp.array([[0, 1]]), jnp.array([[0.7, 0.2]])
      ...     return vocab_parallel_linear_softmax_cross_entropy_with_sparse_targets(x, W, *listed, axis_name="classes")
      >>> sharded = jax.shard_map(result, mesh=mesh, in_specs=(P(), P(None, "classes")), out_specs=P())
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> print(f"{sharded(x, W)[0]:.4f}")
      1.0285

    Source: that of :func:`~lossjax.linear_softmax_cross_entropy_with_sparse_targets`; Shoeybi et al., Megatron-LM
      (2019), §3.
    """
    heads = LinearHeads.of(hidden, weight, bias)
    return sparse_head(heads, classes, probabilities, tail, options, mesh_axis(axis_name))
