"""What every loss of logits shares: its options, written once; their check; and the call of the rule."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, Unpack

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.domains import AMOUNTS, Domain
from lossjax._core.masks import hide, nan_unless
from lossjax._core.options import Option, complete
from lossjax._core.reduction import MaskOption, Reducer, ReductionOptions, WeightOptions
from lossjax._softmax.cross_entropy import softmax_losses
from lossjax._softmax.cross_entropy_terms import Options, SoftmaxInputs
from lossjax._softmax.curves import Curve
from lossjax._softmax.reduced import has_a_kernel, reduced_loss
from lossjax._softmax.row_sum import class_count
from lossjax._softmax.transform import LogitTransform

Kind = Literal["labels", "distributions", "either"]


class AxisOption(TypedDict, total=False):
    """Which axis the classes are along."""

    axis: Annotated[
        int | Sequence[int],
        Option(-1, "the class axis, or several axes that are taken as one, flattened."),
    ]


class LabelMaskOptions(MaskOption, total=False):
    """Which rows count, by a mask and by their labels."""

    ignore_index: Annotated[
        ArrayLike | None, Option(None, "rows with this integer label are masked; it may lie outside [0, C).")
    ]


class TemperatureOption(TypedDict, total=False):
    """By what the logits are divided."""

    temperature: Annotated[ArrayLike, Option(1.0, "T > 0 divides the logits.")]


class TransformOptions(TemperatureOption, total=False):
    """What happens to the logits first."""

    logit_softcap: Annotated[
        ArrayLike | None,
        Option(None, "c > 0 replaces each logit z by c·tanh(z/c), before the temperature; None leaves it as it is."),
    ]


class TermOptions(TransformOptions, total=False):
    """What happens to the logits, to the target, and to the terms of a row's loss."""

    class_weights: Annotated[
        ArrayLike | None,
        Option(
            None,
            "``[C]`` floats >= 0 that multiply the classes' terms, and so a row's loss by the weight of its label; "
            '"mean" divides by the sum of the labels\' weights.',
        ),
    ]
    label_smoothing: Annotated[
        ArrayLike, Option(0.0, "ε in [0, 1]; the target keeps 1 - ε of its mass, and ε is spread over the classes.")
    ]
    smoothing: Annotated[
        Literal["uniform", "others"],
        Option(
            "uniform", '"uniform" spreads ε/C over all classes, "others" ε/(C-1) over the classes but the target\'s.'
        ),
    ]
    z_loss: Annotated[
        ArrayLike,
        Option(0.0, "coefficient λ >= 0 of the added term λ·lse² (times the row's weight), lse the log-sum-exp."),
    ]


class SoftmaxOptions(AxisOption, LabelMaskOptions, TermOptions, ReductionOptions, total=False):
    """The options of a softmax cross-entropy."""


class DistributionOptions(AxisOption, MaskOption, TermOptions, ReductionOptions, total=False):
    """The options of a loss whose targets are distributions: no label to ignore."""


class VocabOptions(LabelMaskOptions, TermOptions, ReductionOptions, total=False):
    """The options of a loss whose class axis is always the last."""


class HessianOptions(AxisOption, LabelMaskOptions, TermOptions, WeightOptions, total=False):
    """The options of a second derivative, which is of the sum over the rows."""


class LabelOptions(AxisOption, LabelMaskOptions, WeightOptions, total=False):
    """The options of a score of labelled rows with a default of its own for the reduction."""


class ScoreOptions(AxisOption, LabelMaskOptions, ReductionOptions, total=False):
    """The options of a loss that takes the logits as they are."""


class LogitLoss(NamedTuple):
    """The arguments of a loss of logits, checked: the class axis last, numbers as arrays, defaults as None."""

    logits: Array
    targets: Array
    labelled: bool
    class_weights: Array | None
    smoothing: Array | None
    over_others: bool
    z_loss: Array | None
    softcap: Array | None
    temperature: Array | None
    reducer: Reducer
    dtype: Any
    over: str | None
    domain: Domain

    @classmethod
    def of(
        cls,
        logits: ArrayLike,
        targets: ArrayLike,
        kind: Kind,
        *,
        over: str | None = None,
        domain: Domain = AMOUNTS,
        **options: Unpack[SoftmaxOptions],
    ) -> "LogitLoss":
        """Check everything; ``kind`` says whether the targets are labels, distributions, or known by their dtype.

        With ``over`` the logits, distributions and class weights are those of the classes that this device holds.
        ``domain`` says what the entries of distributions may be.
        """
        given = complete(SoftmaxOptions, options)
        second = "targets" if kind == "distributions" else "labels"
        targets = checks.as_array(second, targets, _WANTED[kind])
        logits = checks.floating("logits", logits, **_if_swapped(logits, targets, second))
        axes = checks.class_axis(logits, "logits", given["axis"])
        labelled = kind == "labels" or (kind == "either" and jnp.issubdtype(targets.dtype, jnp.integer))
        z = classes_last(logits, axes)
        rows, classes = z.shape[:-1], z.shape[-1]
        targets = _labels(targets, logits, rows, kind) if labelled else _distributions(targets, logits, axes, kind)
        weights = checks.nonnegative_weights("class_weights", given["class_weights"], classes)
        dtype = checks.compute_dtype(logits, None if labelled else targets, weights)
        reducer = Reducer.of(rows, given)
        if given["ignore_index"] is not None:
            if not labelled:
                raise ValueError("ignore_index is for integer labels; mask distributions by where=")
            label = checks.ignored_label("ignore_index", given["ignore_index"], targets)
            reducer = reducer if label is None else reducer.only(targets != label)
        if labelled:
            targets = checks.labels_in_range(targets, class_count(z, over), reducer.valid)
        else:
            targets = domain.named("targets", targets, reducer.valid)
        softcap = given["logit_softcap"]
        return cls(
            logits=z,
            targets=targets,
            labelled=labelled,
            class_weights=None if weights is None else weights.astype(dtype),
            smoothing=_unless(0, "label_smoothing", given["label_smoothing"], dtype, at_most=1),
            over_others=_over_others(given["smoothing"]),
            z_loss=_unless(0, "z_loss", given["z_loss"], dtype),
            softcap=None if softcap is None else checks.number("logit_softcap", softcap, dtype, positive=True),
            temperature=_unless(1, "temperature", given["temperature"], dtype),
            reducer=reducer,
            dtype=dtype,
            over=over,
            domain=domain,
        )

    def rule_options(self, curve: Curve) -> Options:
        """The static part of the rule's arguments."""
        return Options(self.dtype, curve, self.labelled, self.over_others, self.over, self.domain)

    def or_nan(self, rows: Array) -> Array:
        """What was computed of each row, NaN where a target lies outside the domain (of labels the rules see to it)."""
        if self.labelled:
            return rows
        return nan_unless(hide(self.reducer.valid, jnp.all(self.domain.contains(self.targets), axis=-1), True), rows)

    def inputs(self) -> SoftmaxInputs:
        """The arrays of the rule's arguments."""
        return SoftmaxInputs(
            self.logits,
            self.targets,
            class_weights=self.class_weights,
            smoothing=self.smoothing,
            z_loss=self.z_loss,
            transform=LogitTransform(self.softcap, self.temperature),
            valid=self.reducer.valid,
        )

    def row_weights(self) -> Array | None:
        """The class weight of each row's label, which "mean" counts; None for ones."""
        if not self.labelled or self.class_weights is None:
            return None
        if self.over is None:
            return jnp.take(self.class_weights, self.targets, mode="clip")
        held = self.targets - lax.axis_index(self.over).astype(self.targets.dtype) * self.class_weights.size
        here = (held >= 0) & (held < self.class_weights.size)
        return lax.psum(jnp.where(here, jnp.take(self.class_weights, held, mode="clip"), 0), self.over)

    def reduced(self, curve: Curve, parameter: Array | None = None, multiplier: Array | None = None) -> Array:
        """The loss of this curve, reduced.

        ``multiplier``, of shape [C], multiplies the classes' terms as class weights do, but is not counted by "mean".
        """
        options, inputs = self.rule_options(curve), self.inputs()._replace(parameter=parameter)
        if multiplier is not None:
            weights = self.class_weights
            inputs = inputs._replace(class_weights=multiplier if weights is None else weights * multiplier)
        if has_a_kernel(options, inputs, self.reducer):
            return reduced_loss(options, inputs, self.reducer, self.row_weights())
        return self.reducer(softmax_losses(options, inputs)[0], self.row_weights())

    def reduced_with_logsumexp(self, curve: Curve) -> tuple[Array, Array]:
        """The same, and the log-sum-exp of each row."""
        losses, lse = softmax_losses(self.rule_options(curve), self.inputs())
        return self.reducer(losses, self.row_weights()), lse


def classes_last(array: Array, positive_axes: tuple[int, ...]) -> Array:
    """The class axes moved last and flattened into one."""
    rest = [a for a in range(array.ndim) if a not in positive_axes]
    moved = jnp.transpose(array, (*rest, *positive_axes))
    return moved if len(positive_axes) == 1 else moved.reshape(*(array.shape[a] for a in rest), -1)


def _unless(default: int, name: str, value: ArrayLike, dtype: Any, at_most: float = math.inf) -> Array | None:
    """A number that may be 0 only if that is its default; None at its default, which then costs nothing."""
    number = checks.number(name, value, dtype, positive=default != 0, at_most=at_most)
    return None if checks.is_known(value, default) else number


def _over_others(how: str) -> bool:
    if not isinstance(how, str) or how not in ("uniform", "others"):
        raise ValueError(f"smoothing must be 'uniform' (ε/C) or 'others' (ε/(C-1)), got {how!r}")
    return how == "others"


_WANTED = {
    "labels": "integer class indices",
    "distributions": "floating-point distributions over the classes",
    "either": "integer class indices, or floating-point distributions over the classes",
}
"""What each kind of second argument must be."""


def _if_swapped(logits: ArrayLike, targets: Array, second: str) -> dict[str, str]:
    """A remedy, if the arguments are those of a call in the other order."""
    kind = getattr(logits, "dtype", None)
    if kind is not None and jnp.issubdtype(kind, jnp.integer) and jnp.issubdtype(targets.dtype, jnp.floating):
        return {"remedy": f"the order is (logits, {second}): swap the two if they are the other way round"}
    return {}


def _fitting(labels: Array, logits: Array, rows: tuple[int, ...], kind: Kind) -> str:
    """What is most likely meant by integers that are not one per row."""
    if labels.shape == logits.shape:
        if kind == "either":
            return "give one label per row, or convert one-hot rows to floats with .astype(jnp.float32)"
        return "give one label per row; one-hot rows are for softmax_cross_entropy, as floats"
    for axis in range(logits.ndim):
        if labels.shape == logits.shape[:axis] + logits.shape[axis + 1 :] != rows:
            return f"they fit classes along another axis of the logits: give axis={axis}"
    return "give one label per row"


def _labels(labels: Array, logits: Array, rows: tuple[int, ...], kind: Kind) -> Array:
    array = checks.integer_labels("labels", labels)
    wanted = "of the rows (the logits less the class axis)"
    checks.same_shape("labels", array.shape, wanted, rows, _fitting(array, logits, rows, kind))
    # Every class index, and iota, must fit the dtype.
    return array.astype(jnp.int32) if jnp.iinfo(array.dtype).bits < 32 else array


def _distributions(targets: ArrayLike, logits: Array, axes: tuple[int, ...], kind: Kind) -> Array:
    remedy = "for integer labels use softmax_cross_entropy_with_integer_labels"
    if kind == "either":
        remedy = "give integer labels, or a distribution over the classes as floats"
    array = checks.floating("targets", targets, remedy=remedy)
    checks.same_shape("targets", array.shape, "of the logits", logits.shape, "give one target per logit")
    return classes_last(array, axes)
