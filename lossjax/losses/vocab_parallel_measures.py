"""Entropy and divergences of heads whose classes are split over devices: for use inside ``jax.shard_map``."""

from typing import Unpack

from jax import Array
from jax.typing import ArrayLike

from lossjax._core.options import with_options
from lossjax._softmax.head_inputs import LinearHeads
from lossjax.losses import linear_measures as measures
from lossjax.losses.linear_measures import LinearMeasureOptions
from lossjax.losses.logit_divergences import js_divergence, mixture_of
from lossjax.losses.vocab_parallel import mesh_axis


@with_options
def vocab_parallel_linear_softmax_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    *,
    axis_name: str,
    bias: ArrayLike | None = None,
    **options: Unpack[LinearMeasureOptions],
) -> Array:
    r"""Shannon entropy of a linear head where each device holds the weights of its own classes.

    .. math:: H = -\textstyle\sum_d \sum_{j \in d} p_j \log p_j,
              \quad p = \operatorname{softmax}(x [W_1, \ldots, W_D] + b)

    Domain: that of :func:`~lossjax.linear_softmax_entropy`, for the whole heads.

    Gradient: that of :func:`~lossjax.linear_softmax_entropy`; in what is equal on all devices the sum over them,
    which ``jax.shard_map`` forms (with ``check_vma=True``, its default).

    Args:
      hidden: x, ``[..., H]`` floats, equal on all devices.
      weight: W, ``[H, C/D]`` floats of the dtype of ``hidden``, the columns of the classes held here.
      axis_name: the name of the mesh axis along which the D devices lie.
      bias: b, ``[C/D]`` floats, those of the classes held here; None stands for 0.
      **options: the options of :class:`LinearMeasureOptions`.

    Returns:
      ``[...]`` or a scalar, in nats unless ``base`` is given, equal on all devices.

    Accuracy: that of :func:`~lossjax.linear_softmax_entropy`.

    Raises:
      TypeError: arguments of a wrong dtype.
      ValueError: a name that is no mesh axis here, ``check_vma=False``, shapes that do not fit, an option out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> from lossjax import vocab_parallel_linear_softmax_entropy
      >>> mesh = jax.make_mesh((1,), ("classes",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
      >>> def result(x, W):
      ...     return vocab_parallel_linear_softmax_entropy(x, W, axis_name="classes")
      >>> sharded = jax.shard_map(result, mesh=mesh, in_specs=(P(), P(None, "classes")), out_specs=P())
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> print(f"{sharded(x, W)[0]:.4f}")
      1.2291

    Source: that of :func:`~lossjax.linear_softmax_entropy`; Shoeybi et al., Megatron-LM (2019), §3.
    """
    return measures.measured(measures.entropy_of, LinearHeads.of(hidden, weight, bias), mesh_axis(axis_name), options)


@with_options
def vocab_parallel_linear_softmax_kl_divergence(
    hidden: ArrayLike,
    weight: ArrayLike,
    other_hidden: ArrayLike,
    other_weight: ArrayLike,
    *,
    axis_name: str,
    bias: ArrayLike | None = None,
    other_bias: ArrayLike | None = None,
    **options: Unpack[LinearMeasureOptions],
) -> Array:
    r"""Kullback-Leibler divergence of two heads where each device holds the weights of its own classes.

    .. math:: \textstyle\sum_d \sum_{k \in d} p_k\, \xi(\log q_k - \log p_k), \quad \xi(x) = e^x - 1 - x

    Domain: that of :func:`~lossjax.linear_softmax_kl_divergence`, for the whole heads.

    Gradient: that of :func:`~lossjax.linear_softmax_kl_divergence`; in what is equal on all devices the sum over
    them, which ``jax.shard_map`` forms (with ``check_vma=True``, its default).

    Args:
      hidden: x, ``[..., H]`` floats, equal on all devices.
      weight: W, ``[H, C/D]`` floats of the dtype of ``hidden``, the columns of the classes held here.
      other_hidden: x', ``[..., H']`` floats, equal on all devices.
      other_weight: W', ``[H', C/D]`` floats of the dtype of ``other_hidden``, the columns of this device's classes.
      axis_name: the name of the mesh axis along which the D devices lie.
      bias: b, ``[C/D]`` floats, those of the classes held here; None stands for 0.
      other_bias: b', ``[C/D]`` floats, of this device's classes.
      **options: the options of :class:`LinearMeasureOptions`.

    Returns:
      ``[...]`` or a scalar, never negative, in nats unless ``base`` is given, equal on all devices.

    Accuracy: that of :func:`~lossjax.linear_softmax_kl_divergence`.

    Raises:
      TypeError: arguments of a wrong dtype.
      ValueError: a name that is no mesh axis here, ``check_vma=False``, shapes that do not fit, an option out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> from lossjax import vocab_parallel_linear_softmax_kl_divergence
      >>> mesh = jax.make_mesh((1,), ("classes",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
      >>> def result(x, W):
      ...     return vocab_parallel_linear_softmax_kl_divergence(x, W, x, 2 * W, axis_name="classes")
      >>> sharded = jax.shard_map(result, mesh=mesh, in_specs=(P(), P(None, "classes")), out_specs=P())
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> print(f"{sharded(x, W)[0]:.4f}")
      0.0483

    Source: that of :func:`~lossjax.linear_softmax_kl_divergence`; Shoeybi et al., Megatron-LM (2019), §3.
    """
    heads = measures.two_heads(hidden, weight, bias, other_hidden, other_weight, other_bias)
    return measures.measured(measures.kl_divergence_of, heads, mesh_axis(axis_name), options)


@with_options
def vocab_parallel_linear_softmax_js_divergence(
    hidden: ArrayLike,
    weight: ArrayLike,
    other_hidden: ArrayLike,
    other_weight: ArrayLike,
    *,
    axis_name: str,
    bias: ArrayLike | None = None,
    other_bias: ArrayLike | None = None,
    mixture: ArrayLike = 0.5,
    **options: Unpack[LinearMeasureOptions],
) -> Array:
    r"""Jensen-Shannon divergence of two heads where each device holds the weights of its own classes.

    .. math:: \textstyle\sum_d \sum_{k \in d} (\beta p_k \log \tfrac{p_k}{m_k}
              + (1 - \beta) q_k \log \tfrac{q_k}{m_k}), \quad m = \beta p + (1 - \beta) q

    Domain: that of :func:`~lossjax.linear_softmax_js_divergence`, for the whole heads.

    Gradient: that of :func:`~lossjax.linear_softmax_js_divergence`; in what is equal on all devices the sum over
    them, which ``jax.shard_map`` forms (with ``check_vma=True``, its default).

    Args:
      hidden: x, ``[..., H]`` floats, equal on all devices.
      weight: W, ``[H, C/D]`` floats of the dtype of ``hidden``, the columns of the classes held here.
      other_hidden: x', ``[..., H']`` floats, equal on all devices.
      other_weight: W', ``[H', C/D]`` floats of the dtype of ``other_hidden``, the columns of this device's classes.
      axis_name: the name of the mesh axis along which the D devices lie.
      bias: b, ``[C/D]`` floats, those of the classes held here; None stands for 0.
      other_bias: b', ``[C/D]`` floats, of this device's classes.
      mixture: β, the weight of p in the mixture, a number in (0, 1), equal on all devices. Any other raises; if that is
        known only when the program runs (of a traced array), the result is NaN, because a compiled program cannot
        raise.
      **options: the options of :class:`LinearMeasureOptions`.

    Returns:
      ``[...]`` or a scalar, never negative, in nats unless ``base`` is given, equal on all devices.

    Accuracy: that of :func:`~lossjax.linear_softmax_js_divergence`.

    Raises:
      TypeError: arguments of a wrong dtype.
      ValueError: a name that is no mesh axis here, ``check_vma=False``, shapes that do not fit, an option out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> from lossjax import vocab_parallel_linear_softmax_js_divergence
      >>> mesh = jax.make_mesh((1,), ("classes",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
      >>> def result(x, W):
      ...     return vocab_parallel_linear_softmax_js_divergence(x, W, x, 2 * W, axis_name="classes")
      >>> sharded = jax.shard_map(result, mesh=mesh, in_specs=(P(), P(None, "classes")), out_specs=P())
      >>> x, W = jnp.ones((1, 2)), jnp.array([[1.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
      >>> print(f"{sharded(x, W)[0]:.4f}")
      0.0080

    Source: that of :func:`~lossjax.linear_softmax_js_divergence`; Shoeybi et al., Megatron-LM (2019), §3.
    """
    heads = measures.two_heads(hidden, weight, bias, other_hidden, other_weight, other_bias)
    numbers = mixture_of(mixture, heads.dtype)
    return measures.measured(js_divergence, heads, mesh_axis(axis_name), options, numbers)
