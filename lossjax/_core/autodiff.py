"""How a derivative is defined here: the one file that names ``jax.custom_vjp`` and ``jax.custom_jvp``.

Every loss is one pair of functions: a forward pass that returns its output and what it wants saved, and a backward pass
in closed form. ``closed_form`` makes a JAX function of them that can be transformed in every way.

Why two wrappers.  A ``custom_vjp`` alone forbids forward mode.  A pullback is linear in its cotangent, so forward mode
is already contained in it: with  pullback(g) = Jᵀg,  the transpose of the pullback, applied to a tangent t, is Jt.
The outer ``custom_jvp`` returns exactly that (``pushed.py``), in a form whose transpose is the pullback itself. So the
backward pass stays the single source of truth, for arguments that each row owns (logits) and for those that all rows
share (class weights, a temperature) alike; reverse mode executes it as it was written, and keeps what the forward pass
saved and nothing else.

What it costs.  A rule that is only evaluated is one ``custom_jvp`` around one ``jit``. Where a gradient is asked for,
JAX traces the forward pass and the backward pass; in forward mode, the backward pass's transpose as well. The layers
themselves are cheap, the operations are not: the gradient of the cross-entropy takes three to four times as long to
trace as optax's, once per program (``python tools/trace_cost.py``, JAX 0.10.2). That is the price of full accuracy, and
of every order and mode of differentiation from one rule.

A ``custom_jvp`` that changes no derivative stands around the forward pass as well (``whole_forward``). JAX evaluates
the rule of the outer one partially, and so takes every ``jit`` in it apart, operation by operation, even if all of its
arguments are known: it traces the forward pass a second time, which doubled the time of tracing a gradient, and in a
loop it moves parts of it out. A ``custom_jvp`` whose arguments are known it passes on as it is.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from lossjax._core import sharding
from lossjax._core.derived import is_moving, with_derivative
from lossjax._core.packed import Dtypes, Packed, Saved, Structure, is_array, is_inexact
from lossjax._core.plain import rules_are_off
from lossjax._core.platform import traced_for
from lossjax._core.pushed import pushed_forward

P = ParamSpec("P")
R = TypeVar("R")


def closed_form(
    forward: Callable[P, tuple[R, Any]],
    backward: Callable[[Any, Any], tuple[Any, ...]],
    *,
    value: Callable[P, tuple[R, Any]] | None = None,
) -> Callable[P, R]:
    """The function with the value of ``forward`` and the gradient of ``backward``.

    Arguments, output and saved values are pytrees. Leaves that are arrays are differentiated; every other leaf (a
    dtype, a name, a number of Python's) is static and must be hashable.

    Args:
      forward: ``(*args) -> (output, saved)``, the value written as the formula. It must not call the function that is
        being defined.
      backward: ``(saved, cotangent) -> cotangents``, linear in the cotangent (never a comparison with it: forward mode
        transposes it). There is one entry per argument, of that argument's structure, or None where the argument has
        no floating-point array.
      value: the forward pass to use where no derivative is asked for, if another way to the same output is cheaper.

    Returns:
      A function with the parameters of ``forward``.

    Raises:
      TypeError: when traced for a gradient, if ``backward`` answers None for a floating-point array, which would be a
        silent zero.
    """
    signature = inspect.signature(forward)
    name = getattr(forward, "__name__", "loss").strip("_").removesuffix("_forward")
    formula: Callable[..., tuple[R, Any]] = forward
    cheaper: Callable[..., tuple[R, Any]] = value or forward

    @functools.partial(jax.jit, static_argnums=0)
    def compiled_value(structure: Structure, *arrays: Any) -> R:
        return structure.called(cheaper, arrays)[0]

    @functools.partial(jax.jit, static_argnums=0)
    def compiled_forward(structure: Structure, *arrays: Any) -> tuple[R, Saved]:
        with traced_for(structure.platforms):
            output, saved = formula(*structure.filled(arrays))
            return output, Saved.of(saved, arrays)

    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def whole_forward(structure: Structure, *arrays: Any) -> tuple[R, Saved]:
        return compiled_forward(structure, *arrays)

    def push_forward(structure: Structure, arrays: Any, tangents: Any) -> tuple[Any, Any]:
        return _jvp(functools.partial(compiled_forward, structure), arrays, tangents)

    whole_forward.defjvp(push_forward, symbolic_zeros=True)

    @functools.partial(jax.jit, static_argnums=0)
    def compiled_backward(structure: Structure, saved: Any, cotangent: Any) -> tuple[Any, ...]:
        with traced_for(structure.platforms):
            return structure.leaves_of(backward(saved.unpacked(), cotangent))

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def output_of(structure: Structure, *arrays: Any) -> Any:
        return compiled_value(structure, *arrays)

    def output_forward(structure: Structure, *arrays: Any) -> Any:
        output, saved = whole_forward(structure, *arrays)
        return output, (saved.with_given(arrays), Dtypes(tuple(array.dtype for array in arrays)))

    def output_backward(structure: Structure, residuals: Any, cotangent: Any) -> tuple[Any, ...]:
        saved, dtypes = residuals
        given = compiled_backward(structure, saved, cotangent)
        missing = [i for i, dtype in enumerate(dtypes.of_arrays) if given[i] is None and is_inexact(dtype)]
        if missing:
            raise TypeError(
                f"{name}: the backward pass gives no cotangent for {structure.name(missing[0], signature)}, a "
                f"{dtypes.of_arrays[missing[0]]} array; return its true cotangent, or refuse the argument by name "
                "before the rule"
            )
        return tuple(g.astype(d) if is_inexact(d) else None for g, d in zip(given, dtypes.of_arrays, strict=True))

    output_of.defvjp(output_forward, output_backward)

    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def differentiable(structure: Structure, *arrays: Any) -> Any:
        return compiled_value(structure, *arrays)

    def push(structure: Structure, arrays: Any, tangents: Any) -> tuple[Any, Any]:
        moving = [i for i, tangent in enumerate(tangents) if is_moving(tangent)]
        of_moving = _of_moving(functools.partial(output_of, structure), arrays, moving)
        output, pullback = jax.vjp(of_moving, *[arrays[i] for i in moving])
        tangent = pushed_forward(pullback, output, tuple(tangents[i] for i in moving))

        # Not the bare output: that would be differentiated through the forward pass, where row statistics are stopped.
        return with_derivative(output, arrays, functools.partial(pushed_again, structure)), tangent

    def pushed_again(structure: Structure, arrays: Any, tangents: Any) -> list[Any]:
        return jax.tree.leaves(push(structure, arrays, tangents)[1])

    differentiable.defjvp(push, symbolic_zeros=True)

    @functools.wraps(forward)
    def function(*args: P.args, **kwargs: P.kwargs) -> R:
        given: Any = signature.bind(*args, **kwargs).args if kwargs else args
        if rules_are_off():
            return formula(*given)[0]
        packed = Packed.of(given)
        return differentiable(packed.structure, *sharding.alike(packed.arrays))

    return function


def scalar_rule(*pullbacks: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give an elementwise function its derivative, one line per argument.

    Args:
      pullbacks: for each argument, ``(cotangent, *args) -> the argument's cotangent``, elementwise.

    Example:
      >>> @scalar_rule(lambda g, x: 2 * g * x)
      ... def square(x):
      ...     return x * x
      >>> print(jax.grad(square)(jnp.float32(3)))
      6.0
    """

    def with_rule(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def forward(*args: P.args, **kwargs: P.kwargs) -> tuple[R, Any]:
            return function(*args, **kwargs), args

        def backward(saved: Any, cotangent: Any) -> tuple[Any, ...]:
            return tuple(
                _summed_to(argument, pullback(cotangent, *saved))
                for pullback, argument in zip(pullbacks, saved, strict=True)
            )

        return closed_form(forward, backward)

    return with_rule


def known_as(function: Callable[..., R]) -> Callable[..., R]:
    """``precomputed(value, *args)``: a value of ``function(*args)`` that was formed in another way.

    It is returned as it is; only where it is differentiated is the function evaluated. (A value that several devices
    formed alike may be taken to vary between them where the function's is not: then its derivative is, too.)
    """

    def precomputed(value: Any, *args: Any) -> Any:
        packed = Packed.of(args)
        called = _of_arrays(function, packed.structure)
        return with_derivative(value, packed.arrays, functools.partial(_pushed, called))

    return precomputed


def moved_also_by(function: Callable[..., R]) -> Callable[..., R]:
    """``moved(value, fixed, *args)``: the value, to whose derivative that of ``function(fixed, *args)`` is added.

    That is the derivative in ``args`` alone, and is formed only where these move. What ``fixed`` is moved by is in the
    value's own derivative; the second derivative, of what is added, is a derivative in ``fixed`` as well.
    """

    def moved(value: Any, fixed: Any, *args: Any) -> Any:
        if rules_are_off():
            return value
        packed, count = Packed.of((fixed, *args)), len(Packed.of(fixed).arrays)
        called = _of_arrays(function, packed.structure)

        def derivative(arrays: Any, tangents: Any) -> list[Any] | None:
            return _pushed(called, arrays, [*[None] * count, *tangents[count:]])

        return with_derivative(value, packed.arrays, derivative, added=True)

    return moved


def zeros_like(tree: Any) -> Any:
    """The cotangent of an argument that the output does not depend on: a zero for every array of it."""
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if is_array(leaf) else None, tree)


def _summed_to(argument: Any, cotangent: Any) -> Any:
    """Sum a cotangent over the axes along which its argument was broadcast."""
    extra = cotangent.ndim - argument.ndim
    axes = tuple(range(extra)) + tuple(
        extra + i for i, size in enumerate(argument.shape) if size == 1 and cotangent.shape[extra + i] != 1
    )
    return jnp.sum(cotangent, axis=axes).reshape(argument.shape) if axes else cotangent


def _of_arrays(function: Callable[..., R], structure: Structure) -> Callable[..., R]:
    """The function of the pytree's arrays."""
    return lambda *arrays: structure.called(function, arrays)


def _of_moving(function: Callable[..., R], arrays: Any, moving: list[int]) -> Callable[..., R]:
    """The function of the arrays in these places alone."""

    def of_moving(*moved: Any) -> R:
        full = list(arrays)
        for position, array in zip(moving, moved, strict=True):
            full[position] = array
        return function(*full)

    return of_moving


def _jvp(function: Callable[..., R], arrays: Any, tangents: Any) -> tuple[R, R]:
    """``jax.jvp``, where some of the tangents may be zeros."""
    moving = [i for i, tangent in enumerate(tangents) if is_moving(tangent)]
    of_moving = _of_moving(function, arrays, moving)
    return jax.jvp(of_moving, [arrays[i] for i in moving], [tangents[i] for i in moving])


def _pushed(function: Callable[..., Any], arrays: Any, tangents: Any) -> list[Any] | None:
    """The tangents of the function's results; None if nothing moves."""
    return jax.tree.leaves(_jvp(function, arrays, tangents)[1]) if any(map(is_moving, tangents)) else None
