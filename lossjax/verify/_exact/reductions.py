"""Rules that sum and multiply: reductions, running ones, matrix products, and scatters."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flint import arb, arb_mat
from jax.lax import GatherScatterMode

from lossjax._core.versions import body
from lossjax.verify._exact.context import Context
from lossjax.verify._exact.ordering import lines_along
from lossjax.verify._exact.pairs import BINARY
from lossjax.verify._exact.rules import ONE, ZERO, nonnegative, rule, to_array
from lossjax.verify._exact.structural import places_read
from lossjax.verify._exact.unary import UNARY
from lossjax.verify.ulp import Balls

ADD, MUL = BINARY["add"], BINARY["mul"]


def summed(context: Context, entries: Sequence[arb]) -> arb:
    """The sum of finitely many numbers, or of none."""
    return context.fold("add", ADD, operator.add, entries) if entries else ZERO


@rule("reduce_sum", reads=["axes"])
def _reduce_sum(context: Context, params: Any, x: Balls) -> Balls:
    lines, shape = lines_along(x, params["axes"])
    return to_array([summed(context, line) for line in lines], shape)


@rule("reduce_prod", reads=["axes"])
def _reduce_prod(context: Context, params: Any, x: Balls) -> Balls:
    lines, shape = lines_along(x, params["axes"])
    return to_array([context.fold("mul", MUL, operator.mul, line) if line else ONE for line in lines], shape)


@rule("reduce", reads=["jaxpr", "dimensions"])
def _reduce(context: Context, params: Any, *values: Any) -> list[Any]:
    """A fold from the left with the given function; JAX leaves the order open and asks that it not matter."""
    arrays, starts = values[: len(values) // 2], values[len(values) // 2 :]
    axes = params["dimensions"]
    results: list[list[Any]] = [[] for _ in arrays]
    lines, shape = zip(*(lines_along(a, axes) for a in arrays), strict=True)
    for row in zip(*lines, strict=True):
        state = list(starts)
        for entries in zip(*row, strict=True):
            scalars = [np.asarray(e, dtype=a.dtype) for e, a in zip(entries, arrays, strict=True)]
            state = context.run(params["jaxpr"], [*state, *scalars])
        for result, final in zip(results, state, strict=True):
            result.append(final[()])
    return [np.asarray(r, dtype=a.dtype).reshape(shape[0]) for r, a in zip(results, arrays, strict=True)]


# --- running ---------------------------------------------------------------------------------------------------------


def _running(name: str) -> Callable[..., Balls]:
    def run(context: Context, params: Any, x: Balls) -> Balls:
        return scanned(params, x, lambda total, entry: context.apply(name, BINARY[name], total, entry))

    return run


def scanned(params: Any, x: Balls, combine: Callable[[Balls, Balls], Balls]) -> Balls:
    """An operation of all entries up to each one, along an axis."""
    along = np.moveaxis(x, params["axis"], 0)
    if not len(along):
        return x
    along = along[::-1] if params["reverse"] else along
    slices = [along[i : i + 1] for i in range(len(along))]
    totals = [slices[0]]
    for entry in slices[1:]:
        totals.append(combine(totals[-1], entry))
    result = np.concatenate(totals)
    return np.moveaxis(result[::-1] if params["reverse"] else result, 0, params["axis"])


for _name, _of in (("cumsum", "add"), ("cumprod", "mul"), ("cummax", "max"), ("cummin", "min")):
    rule(_name, reads=["axis", "reverse"])(_running(_of))


@rule("cumlogsumexp", reads=["axis", "reverse"])
def _cumlogsumexp(context: Context, params: Any, x: Balls) -> Balls:
    weights = context.apply("exp", UNARY["exp"], x)
    sums = scanned(params, weights, lambda total, entry: context.apply("add", ADD, total, entry))
    return context.apply("log", UNARY["log"], sums)


# --- matrix products -------------------------------------------------------------------------------------------------


@rule("dot_general", reads=["dimension_numbers"])
def dot_general(context: Context, params: Any, left: Any, right: Any) -> Balls:
    """Sums of products over some axes, for each place on others."""
    (left_sum, right_sum), (left_batch, right_batch) = params["dimension_numbers"]
    a, b = context.balls(left), context.balls(right)
    left_free = [i for i in range(a.ndim) if i not in left_sum and i not in left_batch]
    right_free = [i for i in range(b.ndim) if i not in right_sum and i not in right_batch]
    shape = [a.shape[i] for i in (*left_batch, *left_free)] + [b.shape[i] for i in right_free]
    sizes = [a.shape[i] for i in left_sum]
    batch, length = _size(a.shape[i] for i in left_batch), _size(sizes)
    rows = np.transpose(a, (*left_batch, *left_free, *left_sum)).reshape(batch, -1, length) if a.size else None
    columns = np.transpose(b, (*right_batch, *right_free, *right_sum)).reshape(batch, -1, length) if b.size else None
    if rows is None or columns is None:
        return to_array([ZERO] * _size(shape), shape)
    entries = [e for r, c in zip(rows, columns, strict=True) for e in product(context, r.tolist(), c.tolist())]
    return to_array(entries, shape)


def _size(sizes: Any) -> int:
    return int(np.prod(list(sizes), dtype=int))


def product(context: Context, rows: list[list[arb]], columns: list[list[arb]]) -> list[arb]:
    """Every row times every column; equal rows and columns give the same objects."""
    memo = context.memo("dot", *rows, *columns)
    left, right = ([tuple(map(id, line)) for line in lines] for lines in (rows, columns))
    pairs = [(i, j) if i < j else (j, i) for i in left for j in right]
    if not all(pair in memo for pair in pairs):
        finite = all(v.is_finite() for lines in (rows, columns) for line in lines for v in line)
        compute = _matrix_product if finite else functools.partial(_careful_product, context)
        for pair, entry in zip(pairs, compute(rows, columns), strict=True):
            entry = nonnegative(entry) if pair[0] == pair[1] else entry
            memo.setdefault(pair, context.intern(entry) if entry.is_finite() and entry.is_exact() else entry)
    return [memo[pair] for pair in pairs]


def _matrix_product(rows: list[list[arb]], columns: list[list[arb]]) -> list[arb]:
    length = len(rows[0])
    left = arb_mat(len(rows), length, [v for row in rows for v in row])
    right = arb_mat(length, len(columns), [column[k] for k in range(length) for column in columns])
    return (left * right).entries()


def _careful_product(context: Context, rows: list[list[arb]], columns: list[list[arb]]) -> list[arb]:
    """With infinities or NaN: product by product."""
    return [
        summed(context, [context.one(MUL, a, b) for a, b in zip(row, column, strict=True)])
        for row in rows
        for column in columns
    ]


# --- scatters --------------------------------------------------------------------------------------------------------

SCATTERS = ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-max", "scatter-min")
_SCATTERED = ["dimension_numbers", "mode", "update_jaxpr", "update_consts", "unique_indices"]
_MODES = {
    GatherScatterMode.CLIP: GatherScatterMode.CLIP,
    GatherScatterMode.FILL_OR_DROP: GatherScatterMode.FILL_OR_DROP,
    GatherScatterMode.PROMISE_IN_BOUNDS: GatherScatterMode.FILL_OR_DROP,  # what breaks the promise is dropped
}
"""Mode of a scatter: that of the gather that reads from the same places."""


@rule(*SCATTERS, *(name.replace("-", "_") for name in SCATTERS), reads=_SCATTERED)
def _scatter(context: Context, params: Any, x: Any, indices: Any, updates: Any) -> Balls:
    """Each update goes to the place that a gather with the same dimension numbers would read from, or is dropped (-1).

    If several updates set one entry the last one remains, as on a CPU; JAX leaves the order open. Where they may not
    meet because the program promises that they do not, an answer would be a guess.
    """
    combine = _combination(context, params)
    numbers, mode = params["dimension_numbers"], params["mode"]
    if mode not in _MODES:
        raise context.unsupported(f"its rule does not know the mode {mode}")
    kept = [i for i in range(x.ndim) if i not in numbers.inserted_window_dims + numbers.operand_batching_dims]
    sizes = [1] * x.ndim
    for axis, window in zip(kept, numbers.update_window_dims, strict=True):
        sizes[axis] = updates.shape[window]
    reads = jax.lax.GatherDimensionNumbers(
        offset_dims=numbers.update_window_dims,
        collapsed_slice_dims=numbers.inserted_window_dims,
        start_index_map=numbers.scatter_dims_to_operand_dims,
        operand_batching_dims=numbers.operand_batching_dims,
        start_indices_batching_dims=numbers.scatter_indices_batching_dims,
    )
    targets = places_read(context, reads, sizes, _MODES[mode], x, indices).ravel().tolist()
    met = [place for place in targets if place >= 0]
    if params["unique_indices"] and len(set(met)) < len(met):
        raise context.unsupported("unique_indices is promised, but two updates meet at one place")
    result = list(x.ravel())
    for target, update in zip(targets, updates.ravel().tolist(), strict=True):
        if target >= 0:
            result[target] = combine(result[target], update)
    return to_array(result, x.shape)


def _combination(context: Context, params: Any) -> Callable[[arb, arb], arb]:
    """What becomes of an entry and an update: the update itself, or what the primitive's own program makes of them."""
    program = params["update_jaxpr"]
    if program is None:
        if not context.equation.primitive.name == "scatter":
            raise context.unsupported("it has no update_jaxpr")
        return lambda _, update: update
    if params["update_consts"]:
        raise context.unsupported("its rule does not know the parameter 'update_consts'")
    real = not jnp.issubdtype(context.equation.outvars[0].aval.dtype, jnp.complexfloating)
    if real and [equation.primitive.name for equation in body(program).eqns] == [(name := _named(context))]:
        return functools.partial(context.one, BINARY[name])
    return lambda entry, update: context.run(program, [_scalar(entry), _scalar(update)])[0][()]


def _named(context: Context) -> str:
    """The operation in a scatter's name, which is quicker than to interpret a program of one equation."""
    return context.equation.primitive.name.replace("_", "-").partition("-")[2]


def _scalar(entry: arb) -> Balls:
    return to_array([entry], ())
