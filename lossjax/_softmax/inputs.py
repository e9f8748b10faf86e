"""What every loss of logits shares: its options, checked and made ready, and the call of the rule."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.reduction import reduce
from lossjax._softmax.cross_entropy import LogitTransform, Options, Smoothing, SoftmaxInputs, softmax_losses
from lossjax._softmax.curves import Curve
from lossjax._softmax.row_sum import class_count

Reduction = Literal["none", "sum", "mean"]
Kind = Literal["labels", "distributions", "either"]


class LogitLoss(NamedTuple):
    """The arguments of a loss of logits, checked: the class axis last, numbers as arrays, defaults as None."""

    logits: Array
    targets: Array
    labelled: bool
    weights: Array | None
    smoothing: Smoothing
    z_loss: Array | None
    softcap: Array | None
    temperature: Array | None
    valid: Array | None
    reduction: str
    dtype: Any
    over: str | None

    @classmethod
    def of(
        cls,
        logits: ArrayLike,
        targets: ArrayLike,
        *,
        kind: Kind,
        axis: int | Sequence[int],
        where: ArrayLike | None,
        ignore_index: int | None,
        class_weights: ArrayLike | None,
        label_smoothing: float,
        smoothing: str,
        z_loss: ArrayLike,
        logit_softcap: ArrayLike | None,
        temperature: ArrayLike,
        reduction: str,
        over: str | None = None,
    ) -> "LogitLoss":
        """Check everything; ``kind`` says whether the targets are labels, distributions, or known by their dtype.

        With ``over`` the logits, distributions and class weights are those of the classes that this device holds.
        """
        logits = checks.floating("logits", logits)
        axes = checks.class_axis(logits, "logits", axis)
        labelled = kind == "labels" or (kind == "either" and jnp.issubdtype(jnp.result_type(targets), jnp.integer))
        z = classes_last(logits, axes)
        rows, classes = z.shape[:-1], z.shape[-1]
        targets = _labels(targets, rows) if labelled else _distributions(targets, logits, axes, kind)
        weights = checks.nonnegative_weights("class_weights", class_weights, classes)
        dtype = checks.compute_dtype(logits, None if labelled else targets, weights)
        valid = checks.mask("where", where, rows)
        if ignore_index is not None:
            label = checks.integer("ignore_index", ignore_index)
            if not labelled:
                raise ValueError("ignore_index is for integer labels; mask distributions by where=")
            valid = targets != label if valid is None else valid & (targets != label)
        if labelled:
            checks.labels_in_range(targets, class_count(z, over), valid)
        if smoothing not in ("uniform", "others"):
            raise ValueError(f"smoothing must be 'uniform' (ε/C) or 'others' (ε/(C-1)), got {smoothing!r}")
        coefficient = checks.number("z_loss", z_loss, dtype, positive=False)
        divisor = checks.number("temperature", temperature, dtype, positive=True)
        return cls(
            logits=z,
            targets=targets,
            labelled=labelled,
            weights=None if weights is None else weights.astype(dtype),
            smoothing=Smoothing(checks.fraction("label_smoothing", label_smoothing), smoothing == "others"),
            z_loss=None if checks.is_known(z_loss, 0) else coefficient,
            softcap=None
            if logit_softcap is None
            else checks.number("logit_softcap", logit_softcap, dtype, positive=True),
            temperature=None if checks.is_known(temperature, 1) else divisor,
            valid=valid,
            reduction=checks.reduction(reduction),
            dtype=dtype,
            over=over,
        )

    def rule_options(self, curve: Curve) -> Options:
        """The static part of the rule's arguments."""
        return Options(self.dtype, self.smoothing, curve, self.labelled, self.over)

    def row_weights(self) -> Array | None:
        """What "mean" divides by the sum of, None for ones."""
        if not self.labelled or self.weights is None:
            return None
        if self.over is None:
            return jnp.take(self.weights, self.targets, mode="clip")
        held = self.targets - lax.axis_index(self.over).astype(self.targets.dtype) * self.weights.size
        here = (held >= 0) & (held < self.weights.size)
        return lax.psum(jnp.where(here, jnp.take(self.weights, held, mode="clip"), 0), self.over)

    def reduced(
        self, curve: Curve, parameter: Array | None = None, multiplier: Array | None = None
    ) -> tuple[Array, Array]:
        """The loss of this curve, reduced, and the log-sum-exp of each row.

        ``multiplier``, of shape [C], multiplies the classes' terms as class weights do, but is not counted by "mean".
        """
        weights = self.weights
        if multiplier is not None:
            weights = multiplier if weights is None else weights * multiplier
        inputs = SoftmaxInputs(
            self.logits,
            self.targets,
            class_weights=weights,
            parameter=parameter,
            z_loss=self.z_loss,
            transform=LogitTransform(self.softcap, self.temperature),
            valid=self.valid,
        )
        losses, lse = softmax_losses(self.rule_options(curve), inputs)
        return reduce(losses, self.reduction, where=self.valid, weights=self.row_weights()), lse


def classes_last(array: Array, positive_axes: tuple[int, ...]) -> Array:
    """The class axes moved last and flattened into one."""
    rest = [a for a in range(array.ndim) if a not in positive_axes]
    moved = jnp.transpose(array, (*rest, *positive_axes))
    return moved if len(positive_axes) == 1 else moved.reshape(*(array.shape[a] for a in rest), -1)


def _labels(labels: ArrayLike, rows: tuple[int, ...]) -> Array:
    array = checks.integer_labels("labels", labels)
    wanted = "of the rows (the logits less the class axis)"
    checks.same_shape("labels", array.shape, wanted, rows, "give one label a row")
    # Every class index, and iota, must fit the dtype.
    return array.astype(jnp.int32) if jnp.iinfo(array.dtype).bits < 32 else array


def _distributions(targets: ArrayLike, logits: Array, axes: tuple[int, ...], kind: Kind) -> Array:
    remedy = "for integer labels use softmax_cross_entropy_with_integer_labels"
    if kind == "either":
        remedy = "give integer labels, or a distribution over the classes as floats"
    array = checks.floating("targets", targets, remedy=remedy)
    checks.same_shape("targets", array.shape, "of the logits", logits.shape, "give one target a logit")
    return classes_last(array, axes)
