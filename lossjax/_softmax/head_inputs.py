"""What every linear head shares: its hidden states, weight and bias, checked, and how its logits are formed."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.autodiff import closed_form
from lossjax._core.options import Option
from lossjax._core.reduction import Reducer
from lossjax._softmax.chunk_size import ChunkSize, chunk_size_of
from lossjax._softmax.head import Head, Outputs, Rows, Shared
from lossjax._softmax.head_rules import row_outputs, summed_loss
from lossjax._softmax.transform import LogitTransform


class BlockOptions(TypedDict, total=False):
    """How the logits of a linear head are formed."""

    chunk_size: Annotated[
        int | Literal["auto"],
        Option(
            "auto",
            'at most so many rows per block, or "auto": :func:`~lossjax.losses.linear_head.auto_chunk_size`. It '
            "changes memory and speed, not the result (except for the order of sums, all in float32 or wider); more "
            "rows than there are means all of them.",
        ),
    ]
    precision: Annotated[
        lax.PrecisionLike,
        Option(
            None,
            "that of the matrix products, forward and backward, as in :func:`jax.numpy.matmul`: on a TPU or GPU "
            '"highest" keeps the digits of float32.',
        ),
    ]


class LinearHeads(NamedTuple):
    """Hidden states, weight and bias of one head or of several with the same rows and classes, checked."""

    hidden: tuple[Array, ...]
    weight: tuple[Array, ...]
    bias: tuple[Array | None, ...]

    @classmethod
    def of(cls, hidden: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, prefix: str = "") -> "LinearHeads":
        """One head, whose arguments have these names behind the prefix."""
        x, w = checks.floating(f"{prefix}hidden", hidden), checks.floating(f"{prefix}weight", weight)
        if x.ndim < 1 or w.ndim != 2 or w.shape[0] != x.shape[-1]:
            raise ValueError(
                f"{prefix}hidden has shape {x.shape} and {prefix}weight {w.shape}, wanted [..., H] and [H, C]; "
                "transpose the weight if it is [C, H]"
            )
        if x.dtype != w.dtype:
            raise TypeError(
                f"{prefix}hidden is {x.dtype} and {prefix}weight {w.dtype}, wanted one dtype; cast one of them"
            )
        b = None if bias is None else checks.floating(f"{prefix}bias", bias)
        if b is not None:
            wanted = "(one number per class)"
            checks.same_shape(f"{prefix}bias", b.shape, wanted, w.shape[1:], "give a bias for every class")
        if w.shape[1] == 0:
            raise ValueError(f"{prefix}weight has shape {w.shape} with no class along 1; wanted at least 1")
        return cls((x,), (w,), (b,))

    def beside(self, other: "LinearHeads") -> "LinearHeads":
        """Both heads; ValueError unless their rows and their vocabularies are the same."""
        checks.same_shape("other_hidden", other.rows, "(less the last axis) as hidden", self.rows, "give the same rows")
        if other.classes != self.classes:
            raise ValueError(
                f"other_weight has {other.classes} classes and weight {self.classes}, wanted the same vocabulary; "
                "leave out the classes that only one head has (or pad with a bias of -inf)"
            )
        return LinearHeads(self.hidden + other.hidden, self.weight + other.weight, self.bias + other.bias)

    @property
    def rows(self) -> tuple[Any, ...]:
        return self.hidden[0].shape[:-1]

    @property
    def classes(self) -> Any:
        return self.weight[0].shape[1]

    def class_count(self, over: str | None) -> Any:
        """The classes on all devices of a mesh axis, or here."""
        return self.classes if over is None else self.classes * lax.axis_size(over)

    @property
    def dtype(self) -> Any:
        """The dtype to compute in."""
        return checks.compute_dtype(*self.hidden, *self.weight)

    def shared(self, terms: Any) -> Shared:
        """What the rows of the engine share."""
        return Shared(self.weight, self.bias, terms)

    def block_rows(self, chunk_size: int | str) -> ChunkSize:
        """How many rows are in a block."""
        return chunk_size_of(chunk_size, math.prod(self.rows), self.classes, self.weight[0].dtype)


class HeadLoss(NamedTuple):
    """A loss of the logits of heads, and all that it is called with."""

    head: Head
    shared: Shared
    rows: Rows

    @classmethod
    def of(
        cls,
        loss: Callable[[Any, tuple[Array, ...], Rows], Outputs],
        heads: LinearHeads,
        terms: Any,
        own: Any,
        valid: Array | None,
        dtype: Any,
        options: Mapping[str, Any],
        over: str | None = None,
        skip_below: float | None = None,
    ) -> "HeadLoss":
        """With the options that say how the logits are formed, checked."""
        size = heads.block_rows(options.get("chunk_size", "auto"))
        head = Head(loss, dtype, over, size, checked_precision(options.get("precision")), skip_below)
        return cls(head, heads.shared(terms), Rows(heads.hidden, own, valid))

    def of_rows(self) -> Outputs:
        """The results of every row."""
        return row_outputs(*self)

    def reduced(self, reducer: Reducer, unit: float = 1.0, own_weights: Array | None = None) -> Array:
        """The first of the results, times a number, reduced."""
        if reducer.how == "none":
            return reducer(self.of_rows()[0] * unit, own_weights)
        total = summed_loss(self.head, self.shared, self.rows._replace(weights=reducer.weights))
        return reducer.of_total(total * unit, self.rows.shape, own_weights)


def checked_precision(precision: lax.PrecisionLike) -> lax.PrecisionLike:
    """What ``jax.lax`` makes of it; ValueError where it knows no such precision."""
    try:
        jax.eval_shape(lambda a: lax.dot(a, a, precision=precision), jax.ShapeDtypeStruct((1, 1), jnp.float32))
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"precision must be one that jax.numpy.matmul takes, got {precision!r}") from error
    return precision


def transform_of(temperature: ArrayLike, softcap: ArrayLike | None, dtype: Any) -> LogitTransform:
    """Softcap and temperature, checked; None at their defaults, where they cost nothing."""
    cap = None if softcap is None else checks.number("logit_softcap", softcap, dtype, positive=True)
    divisor = checks.number("temperature", temperature, dtype, positive=True)
    return LogitTransform(cap, None if checks.is_known(temperature, 1) else divisor)


def _transformed_forward(transform: LogitTransform, x: Array) -> tuple[Array, Any]:
    return transform.apply(x), (transform, x)


def _transformed_backward(saved: Any, cotangent: Array) -> tuple[LogitTransform, Array]:
    transform, x = saved
    in_x, in_transform = transform.pullback(x, cotangent)
    return in_transform, in_x


_transformed = closed_form(_transformed_forward, _transformed_backward)


def transformed(transform: LogitTransform, x: Array, dtype: Any) -> Array:
    """The logits after softcap and temperature, in this dtype; as they are where there is neither."""
    return x if transform.is_identity else _transformed(transform, x.astype(dtype))
