"""How a derivative is defined here: the one file that names ``jax.custom_vjp`` and ``jax.custom_jvp``.

Every loss is one pair of functions: a forward pass that returns its output and the residuals it wants kept, and a
backward pass in closed form. ``closed_form`` makes a JAX function of them that can be transformed in every way.

Why two wrappers.  A ``custom_vjp`` alone forbids forward mode.  A pullback is linear in its cotangent, so forward mode
is already contained in it: with  pullback(g) = Jᵀg,  the transpose of the pullback, applied to a tangent t, is Jt.
The outer ``custom_jvp`` returns exactly that transpose. The backward pass stays the single source of truth, for
arguments that each row owns (logits) and for those that all rows share (class weights, a temperature) alike.
The transpose stands inside ``jax.checkpoint`` so that reverse mode keeps the residuals that the forward pass chose
and nothing else; ``prevent_cse=False`` because nothing is recomputed that XLA could not merge to advantage.

What the outer rule returns as output is ``known``: the number just computed, whose own derivative is again the rule's.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from lossjax._core.plain import rules_are_off

Forward = Callable[..., tuple[Any, Any]]
"""``(options, *args) -> (output, residuals)``: the value, written as the formula."""

Backward = Callable[[Any, Any, Any], tuple[Any, ...]]
"""``(options, residuals, cotangent) -> one cotangent an argument``; None for integers and for absent arguments."""


def closed_form(forward: Forward, backward: Backward, *, value: Forward | None = None) -> Callable[..., Any]:
    """The function ``f(options, *args)`` with the value of ``forward`` and the gradient of ``backward``.

    Args:
      forward: ``(options, *args) -> (output, residuals)``. It must not call the function that is being defined.
      backward: ``(options, residuals, cotangent) -> cotangents``, linear in the cotangent (never a
        comparison with it: forward mode transposes it), one entry an argument.
      value: the forward pass where no derivative is asked for, if another way to the same output is cheaper then.

    Returns:
      A function of ``(options, *args)``; ``options`` is hashable and static, each of ``args`` an array or None.

    Raises:
      TypeError: when traced for a gradient, if ``backward`` answers None for a floating-point argument: that would
        be a silent zero.
    """
    name = getattr(forward, "__name__", "loss").strip("_").removesuffix("_forward")
    compiled_forward = jax.jit(forward, static_argnums=0)
    undifferentiated = value or forward
    compiled_value = jax.jit(lambda options, *args: undifferentiated(options, *args)[0], static_argnums=0)
    compiled_backward = jax.jit(backward, static_argnums=0)

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def output_of(options: Hashable, *args: Any) -> Any:
        return compiled_value(options, *args)  # residuals may be costly: gradients formed on the way

    def output_forward(options: Hashable, *args: Any) -> Any:
        output, residuals = compiled_forward(options, *args)
        return output, (residuals, _Dtypes(tuple(None if a is None else jnp.result_type(a) for a in args)))

    def output_backward(options: Hashable, residuals: Any, cotangent: Any) -> tuple[Any, ...]:
        kept, dtypes = residuals
        cotangents = compiled_backward(options, kept, cotangent)
        return tuple(
            _in_dtype(name, position, dtype, given)
            for position, (dtype, given) in enumerate(zip(dtypes.of_args, cotangents, strict=True))
        )

    output_of.defvjp(output_forward, output_backward)

    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def differentiable(options: Hashable, *args: Any) -> Any:
        return output_of(options, *args)

    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def known(options: Hashable, output: Any, *args: Any) -> Any:
        """The output, already computed; its derivative in the arguments is the rule's."""
        return output

    def push(options: Hashable, args: Any, tangents: Any) -> tuple[Any, Any]:
        moving = [i for i, tangent in enumerate(tangents) if _is_moving(tangent)]

        def of_moving(*moved: Any) -> Any:
            full = list(args)
            for position, argument in zip(moving, moved, strict=True):
                full[position] = argument
            return output_of(options, *full)

        output, pullback = jax.vjp(of_moving, *[args[i] for i in moving])

        def transpose_of_pullback(pullback: Any, *moved: Any) -> Any:
            # By jax.vjp, not jax.linear_transpose: a backward pass may apply another rule to its cotangent. The
            # pullback is linear, so any point will do.
            anywhere = jax.tree.map(lambda leaf: jax.lax.full_like(leaf, 0), output)
            return jax.vjp(pullback, anywhere)[1](moved)[0]

        transposed = jax.checkpoint(transpose_of_pullback, prevent_cse=False)
        # Not the bare output: a derivative of it would go through the forward pass, where statistics are stopped. In
        # the body of a loop JAX drops the custom_jvp of what it has linearised, and the forward pass is what is left:
        # so the output is not cut off from it.
        settled = known(options, output, *args)
        return settled, transposed(pullback, *[tangents[i] for i in moving])

    differentiable.defjvp(push, symbolic_zeros=True)
    known.defjvp(lambda options, given, tangents: push(options, given[1:], tangents[1:]), symbolic_zeros=True)

    @functools.wraps(forward)
    def function(options: Hashable, *args: Any) -> Any:
        if rules_are_off():
            return forward(options, *args)[0]
        return differentiable(options, *_varying_alike(args))

    return function


def known_as(function: Callable[..., Any]) -> Callable[..., Any]:
    """``known(options, value, *args)``: a value of ``function(options, *args)`` that was formed on another way.

    It is returned as it is; only where it is differentiated is the function evaluated.
    """

    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def known(options: Hashable, value: Any, *args: Any) -> Any:
        return value

    @known.defjvp
    def _(options: Hashable, primals: Any, tangents: Any) -> tuple[Any, Any]:
        value, *args = primals
        pushed = jax.jvp(functools.partial(function, options), tuple(args), tuple(tangents[1:]))[1]
        return known(options, value, *args), pushed

    return known


def _is_moving(tangent: Any) -> bool:
    return tangent is not None and not isinstance(tangent, SymbolicZero) and tangent.dtype != jax.dtypes.float0


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Dtypes:
    """The dtypes of a rule's arguments, carried from its forward to its backward pass as static data."""

    of_args: tuple[Any, ...]


def _in_dtype(name: str, position: int, dtype: Any, cotangent: Any) -> Any:
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        return None
    if cotangent is None:
        raise TypeError(
            f"{name}: the backward pass gives no cotangent for argument {position}, a {dtype} array; "
            "return its true cotangent, or refuse the argument by name before the rule"
        )
    return cotangent.astype(dtype)


def _varying_alike(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inside ``shard_map``: give all float arguments the same varying mesh axes.

    A cotangent must vary over the same axes as its argument. ``pcast`` makes a replicated argument (class weights,
    say) a varying one, and its own transpose sums the devices' cotangents.
    """
    union = frozenset().union(*(_varying_axes(a) for a in args if a is not None))
    return tuple(_varying_over(union, a) if a is not None and jnp.issubdtype(a.dtype, jnp.inexact) else a for a in args)


def varying_alike(reference: Any, arrays: Any) -> Any:
    """The arrays, varying over the mesh axes that the reference varies over, as a loop or a branch wants them."""
    axes = _varying_axes(reference)
    return jax.tree.map(lambda array: _varying_over(axes, array), arrays)


def varies_over(array: Any, axis_name: str) -> bool:
    """Whether ``shard_map`` takes the array to differ between the devices along a mesh axis."""
    return axis_name in _varying_axes(array)


def _varying_over(axes: frozenset[str], array: Any) -> Any:
    missing = axes - _varying_axes(array)
    return jax.lax.pcast(array, tuple(sorted(missing)), to="varying") if missing else array


def _varying_axes(argument: Any) -> frozenset[str]:
    manual = getattr(jax.typeof(argument), "manual_axis_type", None)
    return frozenset() if manual is None else manual.varying
