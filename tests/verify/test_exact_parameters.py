"""Every rule does what JAX does, for parameters drawn at random: modes, axes, combiners, indices out of range.

Each family draws equations of one kind. All its draws are one program, compiled once, and executed exactly beside it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive

from lossjax.verify._exact import UnsupportedPrimitive, exact
from lossjax.verify._exact.rules import RULES
from tests.support.beside_jax import assert_as_jax
from tests.support.equations import Families, numbers, ordered, shape_of, some, with_special

FAMILIES = Families()
family = FAMILIES.family


# --- what is moved ---------------------------------------------------------------------------------------------------


def _indexing(random: np.random.Generator) -> tuple[Any, ...]:
    """Shape, indices (some out of range), the sizes of a window, and dimension numbers, with axes of a batch or not."""
    shape = tuple(random.integers(2, 5, random.integers(1, 5)).tolist())
    rank = len(shape)
    axes = random.permutation(rank).tolist()
    of_batch = ordered(tuple(axes[: random.integers(0, min(2, rank))]))
    rest = [a for a in axes if a not in of_batch]
    mapped = rest[: random.integers(1, len(rest) + 1)] if rest else []
    collapsed = ordered(tuple(a for a in rest if random.random() < 0.5))
    sizes = [1 if a in of_batch or a in collapsed else int(random.integers(1, shape[a] + 1)) for a in range(rank)]
    free = shape_of(random, 0, 2)
    batch = [*(shape[a] for a in of_batch), *free]
    places = random.permutation(len(batch)).tolist()  # where each axis of the batch stands among those of the indices
    lengths = [0] * len(batch)
    for axis, place in enumerate(places):
        lengths[place] = batch[axis]
    indices = random.integers(-2, 6, (*lengths, len(mapped)))
    kept = [a for a in range(rank) if a not in of_batch and a not in collapsed]
    window = ordered(tuple(random.permutation(len(lengths) + len(kept))[: len(kept)].tolist()))
    return (
        shape,
        indices.astype(np.int32),
        sizes,
        window,
        collapsed,
        tuple(mapped),
        of_batch,
        tuple(places[: len(of_batch)]),
    )


@family(32)
def gathers(random: np.random.Generator) -> Any:
    shape, indices, sizes, window, collapsed, mapped, of_batch, places = _indexing(random)
    mode = random.choice([lax.GatherScatterMode.CLIP, lax.GatherScatterMode.FILL_OR_DROP,
                          lax.GatherScatterMode.PROMISE_IN_BOUNDS])  # fmt: skip
    dimension_numbers = lax.GatherDimensionNumbers(window, collapsed, mapped, of_batch, places)
    dtype = random.choice([None, None, np.int32, np.uint8, bool])
    fill = random.choice([None, 7.5, np.inf] if dtype is None else [None, 1])
    x = with_special(random, shape) if dtype is None else random.integers(0, 9, shape).astype(dtype)
    return (
        lambda x, i: lax.gather(x, i, dimension_numbers, sizes, mode=mode, fill_value=fill),
        (x, indices),
    )


@family(28)
def scatters(random: np.random.Generator) -> Any:
    shape, indices, sizes, window, inserted, mapped, of_batch, places = _indexing(random)
    mode = random.choice([lax.GatherScatterMode.CLIP, lax.GatherScatterMode.FILL_OR_DROP,
                          lax.GatherScatterMode.PROMISE_IN_BOUNDS])  # fmt: skip
    dimension_numbers = lax.ScatterDimensionNumbers(window, inserted, mapped, of_batch, places)
    kept = iter([s for a, s in enumerate(sizes) if a not in inserted and a not in of_batch])
    lengths = iter(indices.shape[:-1])
    rank = len(window) + indices.ndim - 1
    updates = numbers(random, tuple(next(kept) if a in window else next(lengths) for a in range(rank)))
    combine = random.choice([lax.scatter, lax.scatter_add, lax.scatter_sub, lax.scatter_mul, lax.scatter_max,
                             lax.scatter_min, "apply"])  # fmt: skip
    if combine == "apply":
        scale = float(random.integers(1, 4))
        return (
            lambda x, i: lax.scatter_apply(
                x, i, lambda v: v * scale + 0.5, dimension_numbers, update_shape=updates.shape, mode=mode
            ),
            (numbers(random, shape), indices),
        )
    return (
        lambda x, i, u: combine(x, i, u, dimension_numbers, mode=mode),
        (numbers(random, shape), indices, updates),
    )


@family(12)
def transpositions(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    order, flipped = tuple(random.permutation(len(shape)).tolist()), some(random, len(shape))
    return (lambda x: lax.rev(lax.transpose(x, order), flipped)), (with_special(random, shape),)


@family(12)
def shapes(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    order = tuple(random.permutation(len(shape)).tolist())
    new = tuple(random.permutation(shape).tolist())
    ones = ordered(some(random, len(shape) + 1))
    wide = (*shape_of(random, 0, 2), *new)
    axes = tuple(range(len(wide) - len(new), len(wide)))
    return (
        lambda x: (
            lax.reshape(x, new, order),
            lax.squeeze(lax.expand_dims(x, ones), ones),
            lax.broadcast_in_dim(x.reshape(new), wide, axes),
            jnp.tile(x, [2 if a in ones else 1 for a in range(x.ndim)]),
        ),
        (numbers(random, shape),),
    )


@family(12)
def cuts(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    low = [int(random.integers(0, s + 1)) for s in shape]
    high = [int(random.integers(a, s + 1)) for a, s in zip(low, shape, strict=True)]
    strides = random.choice([None, 1]) and random.integers(1, 4, len(shape)).tolist()
    padding = [(int(random.integers(-s, 3)), int(random.integers(0, 3)), int(random.integers(0, 3))) for s in shape]
    axis = int(random.integers(len(shape)))
    first = int(random.integers(0, shape[axis] + 1))
    return (
        lambda x: (
            lax.slice(x, low, high, strides),
            lax.pad(x, 0.5, padding),
            lax.split(x, (first, shape[axis] - first), axis=axis),
            lax.concatenate([x, -x, x], axis),
            jnp.unstack(jnp.stack([x, -x], axis), axis=axis),
        ),
        (with_special(random, shape),),
    )


@family(16)
def windows_at_indices(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    sizes = [int(random.integers(0, s + 1)) for s in shape]
    starts = random.integers(-6, 7, len(shape)).astype(random.choice([np.int32, np.int64, np.int8]))
    return (
        lambda x, u, s: (lax.dynamic_slice(x, list(s), sizes), lax.dynamic_update_slice(x, u, list(s))),
        (with_special(random, shape), numbers(random, sizes), starts),
    )


@family(10)
def selections(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    cases = int(random.integers(1, 4))
    spread = shape if random.random() < 0.6 else ()
    which = random.integers(0, cases, spread) if cases > 2 or random.random() < 0.3 else random.random(spread) < 0.5
    which = which if which.dtype == bool else np.asarray(which, np.int32)
    cases = 2 if which.dtype == bool else max(cases, 1)
    low, high = (numbers(random, shape if random.random() < 0.5 else ()) for _ in range(2))
    return (
        lambda w, a, lo, hi, *x: (lax.select_n(w, *x), lax.clamp(lo, a, hi), lax.clamp(0.5, a, -0.5)),
        (which, with_special(random, shape), low, high, *(with_special(random, shape) for _ in range(cases))),
    )


@family(10)
def counts(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    axis = int(random.integers(len(shape)))
    kinds = random.choice(["float64", "float32", "int32", "uint8"], 2)
    return (
        lambda x: tuple(x + lax.broadcasted_iota(kind, shape, axis).astype(x.dtype) for kind in kinds),
        (numbers(random, shape),),
    )


# --- what is reduced -------------------------------------------------------------------------------------------------

REDUCTIONS = ("sum", "prod", "max", "min")


@family(16, 4)
def reductions(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    axes = ordered(some(random, len(shape)))
    axis = int(random.integers(len(shape)))
    index = random.choice(["int32", "int64", "uint8"])
    reduce = random.choice([lax.reduce_sum_p, lax.reduce_prod_p, lax.reduce_max_p, lax.reduce_min_p])
    locate = random.choice([lax.argmax, lax.argmin])
    sharded = {"out_sharding": None} if reduce is lax.reduce_sum_p else {}
    return (
        lambda x: (reduce.bind(x, axes=axes, **sharded), locate(x, axis, index)),
        (with_special(random, shape),),
    )


@family(10, 8)
def folds(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    axes = ordered(some(random, len(shape), 1))
    start = float(random.integers(-2, 3))
    combine = random.choice([lax.add, lax.max, lambda a, b: a + b + a * b])
    return lambda x, n: (
        lax.reduce(x, start if combine is lax.max else 0.0, combine, axes),
        lax.reduce((x, n), (-np.inf, 0), lambda a, b: (lax.max(a[0], b[0]), a[1] + b[1]), axes),
    ), (numbers(random, shape) / 8, random.integers(0, 9, shape))


@family(12, 1e3)
def running(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    axis, backwards = int(random.integers(len(shape))), bool(random.random() < 0.5)
    run = random.choice([lax.cumsum, lax.cumprod, lax.cummax, lax.cummin, lax.cumlogsumexp])
    return lambda x: run(x, axis, reverse=backwards), (with_special(random, shape),)


@family(16)
def orders(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    axis, keys = int(random.integers(len(shape))), int(random.integers(1, 4))
    most = int(random.integers(0, shape[axis] + 1))
    order = tuple(random.permutation(3).tolist())
    return (
        lambda *x: (lax.sort([x[i] for i in order], dimension=axis, num_keys=keys), lax.top_k(x[0], most, axis=axis)),
        (with_special(random, shape), random.integers(0, 3, shape), random.random(shape) < 0.5),
    )


@family(30)
def products(random: np.random.Generator) -> Any:
    sizes = random.integers(1, 4, 6).tolist()
    batch, summed = int(random.integers(0, 3)), int(random.integers(0, 3))
    shared = list(range(batch + summed))
    places = []
    operands = []
    special = random.random() < 0.3
    for _ in range(2):
        own = random.integers(1, 4, random.integers(0, 3)).tolist()
        axes = random.permutation(len(shared) + len(own)).tolist()
        shape = [0] * len(axes)
        for k, axis in enumerate(axes):
            shape[axis] = sizes[k] if k < len(shared) else own[k - len(shared)]
        places.append(tuple(axes[: len(shared)]))
        operands.append((with_special if special else numbers)(random, shape))
    (a, b) = places
    dimension_numbers = ((a[batch:], b[batch:]), (a[:batch], b[:batch]))
    precision = random.choice([None, lax.Precision.HIGHEST])
    whole = random.random() < 0.2 and not special
    kind = np.int32 if whole else np.float64
    operands[1] = np.rint(operands[1]).astype(kind)
    operands[0] = operands[0].astype(kind) if whole else operands[0]
    wanted = jnp.float64 if whole else None
    return (
        lambda x, y: lax.dot_general(x, y, dimension_numbers, precision=precision, preferred_element_type=wanted),
        tuple(operands),
    )


# --- entry by entry --------------------------------------------------------------------------------------------------


@family(16, 16)
def conversions(random: np.random.Generator) -> Any:
    x = np.concatenate([with_special(random, 6), numbers(random, 3) * 1e3, numbers(random, 3) * 1e12])
    kind = random.choice(["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool", "float64"])
    power = int(random.integers(-5, 6))
    method = random.choice([lax.RoundingMethod.AWAY_FROM_ZERO, lax.RoundingMethod.TO_NEAREST_EVEN])
    return (
        lambda x, n: (
            x.astype(kind), n.astype("float64"), lax.integer_pow(x, power), lax.round(x * 4, method),
            lax.reduce_precision(x, 11, 52), n.astype(kind),
        ),
        (x, random.integers(-300, 300, 5)),
    )  # fmt: skip


@family(1, 1e5)
def of_two_numbers(random: np.random.Generator) -> Any:
    a, x = (np.exp(random.normal(size=40) * 1.5) for _ in range(2))
    a, x = (np.concatenate([v, random.choice([0.0, -1.0, np.nan, 2.0], 12)]) for v in (a, x))
    return lambda a, x: (lax.igamma_grad_a(a, x), lax.igamma(a, x), lax.igammac(a, x)), (a, x)


@family(10)
def stored(random: np.random.Generator) -> Any:
    shape = shape_of(random)
    kind = random.choice(["int64", "uint64"])
    return (
        lambda x, y: (
            jnp.signbit(x), jnp.copysign(y, x), jnp.nextafter(x, y), lax.bitcast_convert_type(x, kind) >> 7,
        ),
        (numbers(random, shape) + 1 / 3, numbers(random, shape) - 1 / 3),
    )  # fmt: skip


# --- control -----------------------------------------------------------------------------------------------------


@family(10, 64)
def loops(random: np.random.Generator) -> Any:
    shape = shape_of(random, 1, 2)
    backwards, unroll = bool(random.random() < 0.5), int(random.integers(1, 4))
    branch = int(random.integers(-2, 5))
    rounds = int(random.integers(0, 5))

    def step(carry: Any, given: Any) -> Any:
        return (carry[0] * 0.5 + given[0], carry[1] + given[1]), (carry[0], given[1] * carry[1])

    def program(x: Any, n: Any, k: Any) -> Any:
        scanned = lax.scan(step, (x[0], n[0]), (x, n), reverse=backwards, unroll=unroll)
        switched = lax.switch(k, [lambda v: v, lambda v: -v, lambda v: v * 3], x)
        counted = lax.while_loop(lambda c: c[1] < rounds, lambda c: (c[0] * 0.5, c[1] + 1), (x, 0))
        rows = jax.vmap(lambda v, m: lax.while_loop(lambda c: c[1] < m, lambda c: (c[0] + v, c[1] + 1), (v, 0)))(x, n)
        return scanned, switched, counted, rows

    return program, (numbers(random, shape), random.integers(0, 4, shape[:1]), np.int32(branch))


@pytest.mark.parametrize("name", FAMILIES)
def test_any_parameters(name: str) -> None:
    assert_as_jax(FAMILIES, name)


def test_a_parameter_that_a_rule_does_not_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever JAX may add to a primitive: what would change the result and is not understood is not passed over."""
    x = np.float32([[1, 2]])
    monkeypatch.setitem(RULES, "reduce_sum", RULES["reduce_sum"]._replace(reads=frozenset()))
    with pytest.raises(UnsupportedPrimitive, match=r"'reduce_sum' .* its rule does not know the parameter 'axes'"):
        exact(jnp.sum)(x)
    monkeypatch.setitem(RULES, "transpose", RULES["transpose"]._replace(reads=frozenset()))
    with pytest.raises(UnsupportedPrimitive, match="does not know the parameter 'permutation'"):
        exact(jnp.transpose)(x)
    np.testing.assert_array_equal(exact(jnp.transpose)(x.astype(np.int32)), x.T)  # of integers JAX knows what it is
    assert "permutation" not in RULES["transpose"].parameters({"permutation": (1, 0)})


def test_an_unknown_primitive_is_executed_by_its_implementation() -> None:
    known = Primitive("softly")
    known.def_impl(lambda x, *, scale: jnp.tanh(x) * scale)
    known.def_abstract_eval(lambda x, *, scale: x)
    found = exact(lambda x: known.bind(x, scale=2.0))(np.float32(0.5))[()]
    assert abs(float(found) - 2 * np.tanh(0.5)) < 1e-15
    opaque = Primitive("opaquely")
    opaque.def_impl(lambda x: np.tanh(x))
    opaque.def_abstract_eval(lambda x: x)
    with pytest.raises(UnsupportedPrimitive, match="'opaquely' cannot be executed exactly: there is no rule for it"):
        exact(lambda x: opaque.bind(x))(np.float32(0.5))


def test_the_sign_of_a_computed_number_is_known_and_its_bits_are_not() -> None:
    assert exact(lambda x: jnp.signbit(jnp.log(x)))(np.float32([0.5, 2])).tolist() == [True, False]
    with pytest.raises(UnsupportedPrimitive, match="depends on a rounding to float32"):
        exact(lambda x: lax.bitcast_convert_type(jnp.log(x), jnp.int32))(np.float32([0.5, 2]))


def test_a_scatter_applies_its_function() -> None:
    """Also through ``at[].apply``, and to the entry that is named alone."""
    first = exact(lambda x: x.at[0].apply(jnp.exp))(np.float32([1, 2]))
    assert (float(first[0]), float(first[1])) == (pytest.approx(np.e), 2)


def test_a_promised_index_out_of_range_is_dropped() -> None:
    """As XLA drops it; a gather of one is clamped."""
    places = np.array([1, 7])
    added = exact(lambda x: x.at[places].add(1.0, mode="promise_in_bounds"))(np.float32([1, 2, 3]))
    assert added.tolist() == [1, 3, 3]
    taken = exact(lambda x: x.at[places].get(mode="promise_in_bounds"))(np.float32([1, 2, 3]))
    assert taken.tolist() == [2, 3]


def test_digamma_at_its_poles_is_what_jax_has() -> None:
    """NaN; and -inf at 0 from JAX 0.12 on."""
    x = np.float32([0, -1, -2])
    found = exact(jax.scipy.special.digamma)(x)
    np.testing.assert_array_equal(np.vectorize(float)(found), jax.scipy.special.digamma(x))


def test_what_a_scatter_promises_and_breaks() -> None:
    twice = np.array([1, 1])
    with pytest.raises(UnsupportedPrimitive, match="unique_indices is promised, but two updates meet"):
        exact(lambda x: x.at[twice].set(x[:2], unique_indices=True))(np.float32([1, 2, 3]))
    apart = exact(lambda x: x.at[np.array([1, 0, 7, 8])].add(1.0, unique_indices=True))(np.float32([1, 2, 3]))
    assert [float(v) for v in apart] == [2, 3, 3]


def test_comparisons_of_zeros_subnormal_numbers_and_nan() -> None:
    """-0 is 0, and a subnormal number is no zero, though XLA's CPU flushes it; NaN compares as in IEEE 754."""
    tiny = np.finfo(np.float32).smallest_subnormal
    a = np.float32([0.0, -0.0, tiny, -tiny, 0.0, np.nan, np.nan])
    b = np.float32([-0.0, 0.0, 0.0, 0.0, tiny, np.nan, 0.0])
    results = exact(lambda a, b: (a == b, a != b, a < b, a <= b, a > b, a >= b))(a, b)
    for found, wanted in zip(results, (a == b, a != b, a < b, a <= b, a > b, a >= b), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert exact(jnp.sign)(a)[2:4].tolist() == [1, -1]
    assert exact(jnp.argmax)(b[:5]) == 4
    assert exact(lambda x: 1 / x)(a)[1] == np.inf  # with no signed zero it cannot be -inf, as JAX has it
