"""The rule of a reduced cross-entropy: the sum or mean over the rows, whose gradient a kernel may form with the losses.

    loss = R(l_1 … l_N) = Σ_r c_r l_r        ∂loss/∂z_rk = g c_r ∂l_r/∂z_rk        (g the cotangent, one number)

The coefficients c_r = ∂R/∂l_r are those of the reduction, by masks, weights and what they are divided by, and are known
before any loss is. So where a kernel reads the rows (``row_kernel.py``), the forward pass forms c_r ∂l_r/∂z_rk in the
same reading, in the dtype of the logits, and the backward pass multiplies it by g; that is 1 in most programs, where
XLA leaves the product out. (An entry that is rounded there is so once more by the product, and one that underflows
there is not brought back by a large g.) Everywhere else, and for all other arguments, the backward pass is that of the
losses of the rows.

The forward pass saves one array of the logits' size: what the platform's backward pass needs, its logits or its
gradient. So the other arguments' gradients, which need the logits, come of the rule of the rows, where they are asked.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lossjax._core import whole_rows
from lossjax._core.autodiff import closed_form, moved_also_by, zeros_like
from lossjax._core.packed import Packed, Structure
from lossjax._core.platform import by_platform
from lossjax._core.reduction import Reducer
from lossjax._core.sharding import varying_alike
from lossjax._core.whole_rows import Kind, Operand
from lossjax._softmax import cross_entropy
from lossjax._softmax.cross_entropy_terms import Options, SoftmaxInputs
from lossjax._softmax.kernels import Kernel
from lossjax._softmax.row_statistics import RowStatistics


def has_a_kernel(options: Options, inputs: SoftmaxInputs, reducer: Reducer) -> bool:
    """Whether a kernel may form the gradient with the loss, on a platform that has one."""
    logits = inputs.logits
    return (
        reducer.how != "none"
        and options.curve.is_identity
        and options.over is None
        and logits.ndim > 1
        and options.dtype == jnp.float32
        and logits.dtype in (jnp.float32, jnp.bfloat16)
    )


def _pull_back(losses: Array, reducer: Reducer, own_weights: Array | None, cotangent: Array | None = None) -> Any:
    """The gradient of ``reducer(losses, own_weights)`` in all three, for this cotangent or for 1."""
    given = Packed.of((losses, reducer, own_weights))

    def reduce(*arrays: Array) -> Array:
        losses, reducer, own_weights = given.structure.filled(arrays)
        return reducer(losses, own_weights)

    result, pull_back = jax.vjp(reduce, *given.arrays)
    found = pull_back(varying_alike(result, jnp.ones_like(result)) if cotangent is None else cotangent)
    return given.structure.filled([None if x.dtype == jax.dtypes.float0 else x for x in found])


@dataclasses.dataclass(frozen=True)
class _LossAndGradient:
    """The formula of the kernel: (options, inputs, coefficients) -> the losses, and the gradient of their sum."""

    structure: Structure

    def __call__(self, *arrays: Array) -> tuple[Array, Array]:
        return self.structure.called(self._of, arrays)

    @staticmethod
    def _of(options: Options, inputs: SoftmaxInputs, coefficients: Array) -> tuple[Array, Array]:
        (losses, _), saved = cross_entropy.forward(options, inputs)
        in_logits = cross_entropy.backward(saved, (coefficients, jnp.zeros_like(coefficients)))[1].logits
        return losses, in_logits.astype(inputs.logits.dtype)


def _operands(options: Options, inputs: SoftmaxInputs, coefficients: Array) -> list[Operand]:
    """The arrays, in the order of the pytree, each with what it has."""
    kinds: dict[str, Kind] = {
        "logits": "classes",
        "targets": "rows" if options.labelled else "classes",
        "valid": "rows",
    }
    each = inputs._asdict().items()
    found = [Operand(x, kinds.get(field, "shared")) for field, value in each for x in jax.tree.leaves(value)]
    return [*found, Operand(coefficients, "rows")]


def _arrays_held(options: Options, inputs: SoftmaxInputs) -> int:
    """How many arrays of float32 the formula holds at once, of the size of the logits: as TPUs' compiler reports it.

    Without options it is 4.9 for labels and 7.0 for distributions; label smoothing adds 2.0, a softcap 1.1, and all
    options together make it 9.2. ``tests/accelerators/test_row_kernel.py`` compiles the longest rows that this leaves
    room for, without options and with all.
    """
    plain = inputs.smoothing is None and inputs.transform.softcap is None and inputs.class_weights is None
    return (5 if options.labelled else 7) if plain else 10


def _in_one_reading(options: Options, _: Array, inputs: SoftmaxInputs, coefficients: Array) -> tuple[Array, Array]:
    """The losses, and the gradient of their sum by these coefficients."""
    if options.labelled:
        labels, classes = inputs.targets, inputs.logits.shape[-1]
        inside = (labels >= 0) & (labels < classes)
        inputs = inputs._replace(targets=jnp.where(inside, labels, -1).astype(jnp.int32))
    formula = _LossAndGradient(Packed.of((options, inputs, coefficients)).structure)
    operands = _operands(options, inputs, coefficients)
    kernel = Kernel(_arrays_held(options, inputs))
    losses, in_logits = whole_rows.formed(formula, kernel, operands, (coefficients, inputs.logits))
    return losses, in_logits


def _value(options: Options, inputs: SoftmaxInputs, reducer: Reducer, own_weights: Array | None) -> tuple[Array, None]:
    (losses, _), _ = cross_entropy.forward(options, inputs, differentiated=False)
    return reducer(losses, own_weights), None


def _forward(options: Options, inputs: SoftmaxInputs, reducer: Reducer, own_weights: Array | None) -> tuple[Array, Any]:
    (losses, _), (*_, rows, sums) = cross_entropy.forward(options, inputs)
    # Of losses that are not 0: of nothing but these, divided by 0, a reduction makes 0.
    coefficients = _pull_back(jnp.ones_like(losses), reducer, own_weights)[0].astype(options.dtype)
    losses, logits_or_gradient = by_platform(
        losses,
        inputs,
        coefficients,
        tpu=functools.partial(_in_one_reading, options),
        otherwise=lambda losses, inputs, _: (losses, inputs.logits),
    )
    saved = inputs._replace(logits=logits_or_gradient), rows, sums
    return reducer(losses, own_weights), (options, saved, losses, reducer, own_weights)


def _backward(saved: Any, cotangent: Array) -> tuple[Any, ...]:
    options, (inputs, rows, sums), losses, reducer, own_weights = saved

    def by_kernel(inputs: SoftmaxInputs, *_: Any) -> Array:
        return cotangent.astype(losses.dtype) * inputs.logits.astype(losses.dtype)

    def by_formula(inputs: SoftmaxInputs, rows: RowStatistics, sums: Any) -> Array:
        in_losses = _pull_back(losses, reducer, own_weights, cotangent)[0].astype(losses.dtype)
        of_rows = options, inputs, rows, sums
        return cross_entropy.backward(of_rows, (in_losses, jnp.zeros_like(in_losses)))[1].logits

    in_logits = by_platform(inputs, rows, sums, tpu=by_kernel, otherwise=by_formula)
    rest = zeros_like(inputs._replace(logits=None))
    return None, rest._replace(logits=in_logits), zeros_like(reducer), zeros_like(own_weights)


_of_logits = closed_form(_forward, _backward, value=_value)
"""The reduced loss, with the derivative in its logits alone."""


@moved_also_by
def _of_the_rest(
    logits: Array, options: Options, inputs: SoftmaxInputs, reducer: Reducer, own_weights: Array | None
) -> Array:
    return reducer(cross_entropy.softmax_losses(options, inputs._replace(logits=logits))[0], own_weights)


def reduced_loss(options: Options, inputs: SoftmaxInputs, reducer: Reducer, own_weights: Array | None) -> Array:
    """The loss, reduced; ``own_weights`` are those that the losses contain already."""
    loss = _of_logits(options, inputs, reducer, own_weights)
    return _of_the_rest(loss, inputs.logits, options, inputs._replace(logits=None), reducer, own_weights)
