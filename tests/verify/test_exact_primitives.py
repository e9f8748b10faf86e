"""Every primitive that ``exact`` covers does in balls what JAX does in float64, at ordinary and at special values."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core.primitives import eq_to_p

from lossjax._core.user_checks import Wrong, none_wrong
from lossjax._core.versions import body, is_jaxpr
from lossjax.verify._exact import covered
from tests.support.exactness import compared
from tests.support.paths import ROOT
from tests.verify import test_exact_kernels, test_exact_matrices

SPECIAL = np.array([np.inf, -np.inf, np.nan, 0.0, -1.0, 1.0, 2.0, 3.0, -2.5, 0.5])


# --- functions of one number: the interval they are drawn from, and the roundoffs JAX is allowed ---------------------

ONE: dict[str, tuple[Callable[..., Any], float, float, float]] = {
    "neg": (lax.neg, -9, 9, 0), "abs": (lax.abs, -9, 9, 0), "sign": (lax.sign, -9, 9, 0),
    "floor": (lax.floor, -9, 9, 0), "ceil": (lax.ceil, -9, 9, 0),
    "round away": (lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), -9, 9, 0),
    "round to even": (lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN), -9, 9, 0),
    "square": (lax.square, -9, 9, 2), "sqrt": (lax.sqrt, 0, 9, 2), "rsqrt": (lax.rsqrt, 0.1, 9, 4),
    "cbrt": (lax.cbrt, -9, 9, 4), "exp": (lax.exp, -20, 20, 8), "exp2": (lax.exp2, -20, 20, 40),
    "expm1": (lax.expm1, -9, 9, 8), "log": (lax.log, 1e-3, 9, 8), "log1p": (lax.log1p, -0.9, 9, 8),
    "logistic": (lax.logistic, -9, 9, 8), "sin": (lax.sin, -9, 9, 8), "cos": (lax.cos, -9, 9, 8),
    "tan": (lax.tan, -1.5, 1.5, 16), "asin": (lax.asin, -1, 1, 16), "acos": (lax.acos, -1, 1, 16),
    "atan": (lax.atan, -9, 9, 8), "sinh": (lax.sinh, -9, 9, 16), "cosh": (lax.cosh, -9, 9, 16),
    "tanh": (lax.tanh, -3, 3, 16), "asinh": (lax.asinh, -9, 9, 16), "acosh": (lax.acosh, 1, 9, 64),
    "atanh": (lax.atanh, -0.9, 0.9, 64), "lgamma": (lax.lgamma, 3, 20, 200), "digamma": (lax.digamma, 2, 9, 200),
    "log2": (jnp.log2, 1e-3, 9, 8),
    "1 - x^2": (jax.vmap(jax.grad(jnp.arctanh)), -0.9, 0.9, 64),
    "erf": (lax.erf, -3, 3, 16), "erfc": (lax.erfc, -3, 3, 64), "erf_inv": (lax.erf_inv, -0.9, 0.9, 64),
    "bessel_i0e": (lax.bessel_i0e, -9, 9, 64), "bessel_i1e": (lax.bessel_i1e, -9, 9, 64),
    "x^3": (lambda x: lax.integer_pow(x, 3), -3, 3, 8), "x^-2": (lambda x: lax.integer_pow(x, -2), 0.5, 3, 8),
    "x^-3": (lambda x: lax.integer_pow(x, -3), 0.5, 3, 8), "x^0": (lambda x: lax.integer_pow(x, 0), -3, 3, 0),
    "is_finite": (lax.is_finite, -9, 9, 0), "to int": (lambda x: x.astype(jnp.int32), -9, 9, 0),
    "to uint8": (lambda x: x.astype(jnp.uint8), -9, 999, 0), "to bool": (lambda x: x.astype(bool), -9, 9, 0),
    "clamp": (lambda x: lax.clamp(-0.7, x, 1.3), -3, 3, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_one_number(name: str, random: np.random.Generator) -> None:
    function, low, high, units = ONE[name]
    compared(function, (random.uniform(low, high, 40),), units)


@pytest.mark.parametrize("name", ONE)
def test_one_special_number(name: str) -> None:
    """Where the function is special; 3000 roundoffs leave room for XLA's worst, lgamma and digamma near 0."""
    compared(ONE[name][0], (SPECIAL,), 3000)


def test_halves_round_as_jax_rounds_them() -> None:
    halves = np.arange(-4.5, 5) + np.array([[0.0], [2.0**60], [0.25]])
    for name in ("round away", "round to even", "floor", "ceil"):
        compared(ONE[name][0], (halves,), 0)


# --- functions of two and three --------------------------------------------------------------------------------------

TWO: dict[str, tuple[Callable[..., Any], float, float, float]] = {
    "add": (lax.add, -9, 9, 1), "sub": (lax.sub, -9, 9, 1), "mul": (lax.mul, -9, 9, 1), "div": (lax.div, -9, 9, 1),
    "max": (lax.max, -9, 9, 0), "min": (lax.min, -9, 9, 0), "rem": (lax.rem, -9, 9, 0), "pow": (lax.pow, 0.1, 5, 16),
    "atan2": (lax.atan2, -9, 9, 8), "eq": (lax.eq, -9, 9, 0), "ne": (lax.ne, -9, 9, 0), "lt": (lax.lt, -9, 9, 0),
    "le": (lax.le, -9, 9, 0), "gt": (lax.gt, -9, 9, 0), "ge": (lax.ge, -9, 9, 0),
    "igamma": (lax.igamma, 0.5, 9, 400), "igammac": (lax.igammac, 0.5, 9, 400),
    "zeta": (lambda s, q: lax.zeta(s + 1, q), 0.5, 9, 400),
}  # fmt: skip


@pytest.mark.parametrize("name", TWO)
def test_two_numbers(name: str, random: np.random.Generator) -> None:
    function, low, high, units = TWO[name]
    compared(function, (random.uniform(low, high, 40), random.uniform(low, high, 40)), units)


@pytest.mark.parametrize("name", sorted(TWO.keys() - {"igamma", "igammac", "zeta"}))
def test_two_special_numbers(name: str) -> None:
    a, b = np.meshgrid(SPECIAL, SPECIAL)
    compared(TWO[name][0], (a, b), 4)


@pytest.mark.parametrize("name", ["igamma", "igammac"])
def test_special_numbers_of_incomplete_gamma_functions(name: str) -> None:
    # JAX contradicts itself at a = 0 (igamma NaN, igammac 0) and at a = inf (igamma 0 for x = 0.5, NaN for x = 1).
    a, x = np.meshgrid(SPECIAL[(SPECIAL != 0) & ~np.isposinf(SPECIAL)], SPECIAL)
    compared(TWO[name][0], (a, x), 64)


def test_polygamma_and_zeta_left_of_zero() -> None:
    order, x = np.meshgrid(np.arange(4.0), [0.3, 1.0, 4.5, -0.5, -2.5])
    compared(lax.polygamma, (order, x), 400)
    compared(lax.zeta, (np.full(3, 2.0), np.array([-2.5, -3.0, 0.0])), 64)
    compared(lax.polygamma, (np.array([1.0, 2.0, np.nan, -1.0]), np.array([0.0, 0.0, 1.0, 1.0])), 0)


def test_incomplete_beta_function(random: np.random.Generator) -> None:
    a, b = random.uniform(0.5, 5, (2, 30))
    compared(lax.betainc, (a, b, random.uniform(0, 1, 30)), 1000)
    edges = np.array([0.0, 1.0, np.nan, -0.5, 1.5])
    compared(lax.betainc, (np.full(5, 2.0), np.full(5, 3.0), edges), 0)


def test_powers_with_integer_exponents(random: np.random.Generator) -> None:
    compared(lambda x, n: lax.pow(x, n), (random.normal(size=9), np.arange(-4, 5)), 16)


# --- many numbers ----------------------------------------------------------------------------------------------------

X = np.random.default_rng(1).normal(size=(3, 4, 5))
Y = np.random.default_rng(2).normal(size=(3, 5, 4))
TIED = np.random.default_rng(3).integers(-3, 4, (4, 6)).astype(np.float64)
WITH_SPECIAL = np.array([[1.0, np.inf, 2.0], [np.inf, -np.inf, 0.0], [np.nan, 1.0, np.inf], [0.0, -0.0, 5.0]])
WHOLE = np.arange(24.0).reshape(4, 6)
PLACES = np.array([0, 3, -1, 9, 2])

_POLYNOMIAL: Any = getattr(lax, "polynomial", None)  # from JAX 0.12 on
POLYNOMIALS = [] if _POLYNOMIAL is None else [_POLYNOMIAL]


def _head_and_tail(x: jax.Array) -> jax.Array:
    """The square of a computed number, of its first half and the rest."""
    x = jnp.exp(x)
    head = lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.uint64) & jnp.uint64(2**64 - 2**27), x.dtype)
    return head * head + (x - head) * (x + head)


MANY: dict[str, tuple[Callable[..., Any], tuple[Any, ...], float]] = {
    "sum": (lambda x: lax.reduce_sum_p.bind(x, axes=(0, 2), out_sharding=None), (X,), 64),
    "sum over nothing": (lambda x: x.sum(axis=1), (np.ones((3, 0)),), 0),
    "prod": (lambda x: x.prod(axis=(1, 2)), (X,), 64),
    "max": (lambda x: x.max(axis=1), (X,), 0), "min": (lambda x: x.min(axis=(0, 1)), (X,), 0),
    "argmax": (lambda x: jnp.argmax(x, 1), (TIED,), 0), "argmin": (lambda x: jnp.argmin(x, 0), (TIED,), 0),
    "cumsum": (lambda x: lax.cumsum(x, 1), (X,), 1e3), "cumprod": (lambda x: lax.cumprod(x, 2, reverse=True), (X,), 64),
    "cummax": (lambda x: lax.cummax(x, 1), (X,), 0), "cummin": (lambda x: lax.cummin(x, 0, reverse=True), (X,), 0),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x, 1), (X + 3,), 64),
    "reduce": (lambda x: lax.reduce(x, -np.inf, lax.max, (0, 2)), (X,), 0),
    "reduce with a body": (lambda x: lax.reduce(x, 0.0, lambda a, b: a + b + a * b, (1,)), (X / 9,), 1e4),
    "dot": (lambda x, y: jnp.einsum("bij,bjk->bik", x, y), (X, Y), 1e4),
    "dot, odd axes": (lambda x, y: jnp.einsum("bij,cjb->ic", x, Y[:, :, :3]), (X, Y), 1e4),
    "dot to a scalar": (lambda x: jnp.vdot(x, x), (X,), 64),
    "outer": (lambda x: jnp.einsum("i,j->ij", x, x), (X[0, 0],), 2),
    "dot over nothing": (lambda x: x @ x.T, (np.ones((2, 0)),), 0),
    "dot with special values": (lambda x: x @ x.T, (WITH_SPECIAL,), 64),
    "special sums": (lambda x: x.sum(1), (WITH_SPECIAL,), 0), "special max": (lambda x: x.max(1), (WITH_SPECIAL,), 0),
    "special argmax": (lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 1)), (WITH_SPECIAL,), 0),
    "special products": (lambda x: x.prod(1), (WITH_SPECIAL,), 0),
    "special order": (lambda x: (jnp.sort(x, 1), lax.top_k(x, 2)), (WITH_SPECIAL,), 0),
    "special cumsum": (lambda x: jnp.cumsum(x, 1), (WITH_SPECIAL,), 0),
    "sort": (lambda x: lax.sort(x, dimension=0), (TIED,), 0), "top_k": (lambda x: lax.top_k(x, 3), (TIED,), 0),
    "sort of several": (
        lambda x, y, i: lax.sort((x, y, i), dimension=1, num_keys=2), (TIED, X[0, 0, :4, None] * WHOLE, TIED > 0), 0,
    ),
    "argsort by integers": (lambda k, x: lax.sort((k, x), num_keys=1), (np.array([3, 1, 2, 1]), X[0, :, 0]), 0),
    "search": (lambda x: jnp.searchsorted(WHOLE[0], x), (np.array([[-1, 0, 2.5], [5, 9, np.nan]]),), 0),
    "search right": (lambda x: jnp.searchsorted(x, x, side="right"), (np.array([0, 1, 1, np.inf, np.nan]),), 0),
    "interpolate": (lambda x: jnp.interp(x, WHOLE[0], WHOLE[1] ** 2), (X[0, 0],), 64),
    "equal in total order": (lambda x: eq_to_p.bind(x, x[::-1]), (WITH_SPECIAL,), 0),
    "gather": (lambda x: jnp.take(x, np.array([[0, 3], [-1, 2]]), axis=0), (WHOLE,), 0),
    "gather clip": (lambda x: jnp.take(x, PLACES, axis=1, mode="clip"), (WHOLE,), 0),
    "gather wrap": (lambda x: jnp.take(x, PLACES, axis=1, mode="wrap"), (WHOLE,), 0),
    "gather fill": (lambda x: jnp.take(x, PLACES, axis=1, mode="fill", fill_value=7.5), (WHOLE,), 0),
    "gather NaN": (lambda x: x.at[PLACES, 1].get(mode="fill"), (WHOLE,), 0),
    "gather promised": (lambda x: x.at[:, 1:4].get(mode="promise_in_bounds"), (WHOLE,), 0),
    "gather along": (lambda x, i: jnp.take_along_axis(x, i, axis=1), (WHOLE, np.array([[0], [5], [2], [1]])), 0),
    "scatter": (lambda x: x.at[PLACES].set(-1.0), (WHOLE,), 0),
    "scatter-add": (lambda x: x.at[np.array([1, 1, 9]), 2:].add(10.0), (WHOLE,), 0),
    "scatter-add clip": (lambda x: x.at[np.array([1, 1, 9])].add(10.0, mode="clip"), (WHOLE,), 0),
    "scatter-sub": (lambda x: x.at[:, 2].subtract(x[:, 1]), (WHOLE,), 0),
    "scatter-mul": (lambda x: x.at[np.array([0, 0, 2]), 1].multiply(np.array([2.0, 3.0, 5.0])), (WHOLE,), 0),
    "scatter-max": (lambda x: x.at[np.array([0, 3])].max(8.0), (WHOLE,), 0),
    "scatter-min": (lambda x: x.at[..., np.array([0, 3])].min(8.0), (WHOLE,), 0),
    "scatter batched": (
        lambda x: jax.vmap(lambda row, i: row.at[i].add(1.0))(x, np.array([[1, 1], [0, 5], [7, 2], [3, 3]])),
        (WHOLE,), 0,
    ),
    "pad": (lambda x: lax.pad(x, 0.5, ((1, 2, 0), (0, 1, 2))), (WHOLE,), 0),
    "pad negative": (lambda x: lax.pad(x, 0.5, ((-1, 2, 1), (-2, -3, 1))), (WHOLE,), 0),
    "pad to nothing": (lambda x: lax.pad(x, 0.5, ((-1, -3, 0), (0, 0, 0))), (WHOLE,), 0),
    "dynamic_slice": (lambda x, i: lax.dynamic_slice(x, (i, 1), (2, 3)), (WHOLE, np.int64(9)), 0),
    "dynamic_slice low": (lambda x, i: lax.dynamic_slice(x, (i, 1), (2, 3)), (WHOLE, np.int64(-9)), 0),
    "dynamic_update_slice": (
        lambda x, i: lax.dynamic_update_slice(x, x[:2, :2] + 0.5, (i, i)), (WHOLE, np.int64(3)), 0,
    ),
    "concatenate": (lambda x: jnp.concatenate([x, 2 * x, x[:, :0]], axis=1), (WHOLE,), 0),
    "slice": (lambda x: lax.slice(x, (0, 1), (4, 6), (2, 3)), (WHOLE,), 0),
    "rev": (lambda x: lax.rev(x, (1,)), (WHOLE,), 0),
    "split": (lambda x: lax.split(x, (1, 2, 3), axis=1), (WHOLE,), 0),
    "tile": (lambda x: jnp.tile(x, (2, 3)), (WHOLE,), 0),
    "transpose": (lambda x: lax.transpose(x, (2, 0, 1)), (X,), 0), "reshape": (lambda x: x.reshape(6, 4), (WHOLE,), 0),
    "squeeze": (lambda x: lax.squeeze(x[:1], (0,)), (WHOLE,), 0),
    "expand": (lambda x: lax.expand_dims(x, (0, 2)), (WHOLE,), 0),
    "broadcast": (lambda x: lax.broadcast_in_dim(x, (2, 6, 4), (2, 1)[::-1]), (WHOLE.T,), 0),
    "select": (lambda x: jnp.where(x > 5, x, -x), (WHOLE,), 0),
    "select_n": (lambda x: lax.select_n(jnp.arange(24).reshape(4, 6) % 3, x, -x, 2 * x), (WHOLE,), 0),
    "select a scalar": (lambda x: lax.select_n(jnp.asarray(True), x, -x), (WHOLE,), 0),
    "iota": (lambda x: x + lax.broadcasted_iota(jnp.float64, (4, 6), 1), (WHOLE,), 0),
    "stack": (lambda x: jnp.stack([x, -x], axis=1), (WHOLE,), 0),
    "unstack": (lambda x: jnp.unstack(x, axis=1), (WHOLE,), 0),
    "from int": (lambda i: (i.astype(jnp.float64), (i > 2).astype(jnp.float64)), (np.arange(5) + 2**52,), 0),
    "integers": (lambda i: (i * i - i // 3, i << 2, ~i, i.astype(jnp.uint8), jnp.cumsum(i)), (np.arange(-5, 300),), 0),
    "int wraps": (lambda i: i * i + i, (np.array([2**31 - 1, -(2**31)], np.int32),), 0),
    "logic": (lambda x: (jnp.any(x > 20), jnp.all(x > -1, 0), (x > 3) ^ (x < 9)), (WHOLE,), 0),
    "random": (lambda k: jax.random.uniform(k, (5,)), (jax.random.key(3),), 0),
    "barrier": (lambda x: lax.optimization_barrier((x, 2 * x)), (WHOLE,), 0),
    "moved": (lambda x: lax.stop_gradient(jax.device_put(jnp.copy(x), jax.devices()[0])), (WHOLE,), 0),
    "named": (lambda x: checkpoint_name(lax.reduce_precision(x, 11, 52), "x"), (WHOLE,), 0),
    "checked": (lambda x: none_wrong(Wrong("{value}", lambda x: x < 0), x, x > 1), (WHOLE,), 0),
    "scan": (lambda x: lax.scan(lambda c, v: (c * 0.5 + v, (c, v.sum())), x[0], x[1:]), (WHOLE,), 8),
    "scan in reverse": (lambda x: lax.scan(lambda c, v: (c + v, c), 0.0, x[0], reverse=True), (WHOLE,), 0),
    "scan without inputs": (lambda x: lax.scan(lambda c, _: (c + x, c[0]), x, None, length=3), (WHOLE,), 0),
    "scan of nothing": (lambda x: lax.scan(lambda c, v: (c, c + v), 1.0, x[:0]), (X[0, 0],), 0),
    "while": (
        lambda x: lax.while_loop(lambda c: c[0].sum() < 900, lambda c: (c[0] * 2, c[1] + 1), (x, 0)),
        (WHOLE,), 0,
    ),
    "fori": (lambda x: lax.fori_loop(0, 3, lambda i, c: c + i * x, x), (WHOLE,), 0),
    "platform_index": (lambda x: lax.platform_dependent(x, tpu=lambda v: v + 1, default=lambda v: v - 1), (WHOLE,), 0),
    "cond": (lambda x: lax.cond(x[0, 1] > 0.5, lambda v: v + 1, lambda v: v - 1, x), (WHOLE,), 0),
    "switch": (lambda x, i: lax.switch(i, [lambda v: v, lambda v: -v, lambda v: 3 * v], x), (WHOLE, np.int32(7)), 0),
    "remat": (jax.grad(lambda x: jax.checkpoint(lambda v: jnp.sin(v) * v)(x).sum()), (WHOLE,), 16),
    "relu": (jax.vmap(jax.value_and_grad(jax.nn.relu)), (X[0, 0],), 0),
    "logsumexp": (jax.jit(jax.grad(lambda x: jax.nn.logsumexp(x, axis=1).sum())), (X[0],), 64),
    "custom_vjp": (jax.nn.silu, (X,), 16),
    "hessian": (jax.hessian(lambda x: jnp.log(jnp.exp(x).sum())), (X[0, 0],), 1e3),
    "median": (lambda x: (jnp.median(x), jnp.var(x), jnp.linalg.norm(x)), (X,), 64),
    "no outputs but integers": (lambda x: {"shape": x.shape[0] + jnp.arange(3), "none": None}, (X,), 0),
    "cholesky": (lambda x: jnp.linalg.cholesky(x @ x.T), (X[0],), 1e3),
    "triangular_solve": (lambda x: lax.linalg.triangular_solve(x @ x.T, x, left_side=True), (X[0],), 1e4),
    "custom_linear_solve": (
        lambda x: lax.custom_linear_solve(lambda v: 2 * v, x, lambda _, b: b / 2, lambda _, b: b / 2), (X[0],), 0,
    ),
    "polynomial": (
        lambda x: [p(v, c) for p in POLYNOMIALS for v in (x, lax.complex(x, x)) for c in ([2.0, -1.0, 0.5], [3.0])],
        (X[0],), 64,
    ),
    "psum of what vmap names": (
        jax.vmap(lambda v: (lax.psum(v * v, "i"), lax.pmax(v, "i"), lax.pmin(v, "i"), lax.psum(v > 0, "i")),
                 axis_name="i"), (X[0],), 16,
    ),
    "split in two": (_head_and_tail, (X[0] * np.pi,), 4),
    "nextafter": (lambda x: (jnp.nextafter(x, 0.0), jnp.nextafter(x, np.inf)), (X[0],), 0),
    "debug": (lambda x: (jax.debug.callback(lambda v: None, x), x)[1], (WHOLE,), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", MANY)
def test_many_numbers(name: str) -> None:
    function, args, units = MANY[name]
    compared(function, args, units)


def test_rank_one_pvary() -> None:
    mesh = jax.make_mesh((1,), ("i",))
    closed = jax.make_jaxpr(
        jax.shard_map(
            lambda x: lax.pcast(x, ("i",), to="varying") * 2, mesh=mesh, in_specs=jax.P(), out_specs=jax.P("i")
        )
    )(np.float32([1, 2]))
    inner = next(p for p in (e.params.get("jaxpr") for e in closed.jaxpr.eqns) if p is not None)
    assert names_in(inner) & {"pvary", "pcast"} <= set(covered())


# --- the tables above leave out no rule ------------------------------------------------------------------------------

UNTESTED = {
    # Spellings of other JAX versions.
    "call", "eval_jaxpr", "call_hi_primitive",
    "scatter_add", "scatter_sub", "scatter_mul", "scatter_max", "scatter_min", "expand_dims", "copy_p",
    "closed_call", "pbroadcast", "custom_vmap_call", "custom_jvp_call", "custom_vjp_call",
    # Not in every JAX, or only inside what newer ones call.
    "lt_to", "le_to", "polynomial",
    "log2", "one_minus_square",
    # Only where a loop is executed in the middle of tracing: the certificate in test_linear.py meets it.
    "empty2",
    # Refused, or run on rounded numbers, in test_exact_decisions.py.
    "pure_callback",
    # Identities that only exist on meshes.
    "sharding_constraint", "layout_constraint", "reshard", "mesh_cast", "pvary", "pcast",
    # Collectives, which test_exact_kernels.py executes inside a shard_map.
    "shard_map", "psum", "psum_invariant", "pmax", "pmin", "all_gather", "all_gather_invariant", "reduce_scatter",
    "all_to_all", "ppermute", "axis_index",
}  # fmt: skip


def names_in(jaxpr: Any) -> set[str]:
    """The primitives of a jaxpr and of all in it."""
    return {name for equation in body(jaxpr).eqns for name in (equation.primitive.name, *_inner_names(equation))}


def _inner_names(equation: Any) -> Iterator[str]:
    if equation.primitive.name == "under_checkify":  # an identity, whose program only checkify executes
        return
    for value in equation.params.values():
        for inner in value if isinstance(value, tuple) else (value,):
            if is_jaxpr(inner):
                yield from names_in(inner)


def test_no_rule_is_left_out() -> None:
    three = (lax.betainc, (0.5, 0.5, 0.5))
    programs = [(f, (SPECIAL,)) for f, *_ in ONE.values()] + [(f, (SPECIAL, SPECIAL)) for f, *_ in TWO.values()]
    programs += [(f, args) for f, args, _ in MANY.values()] + [three]
    programs += [(f, (1.0, 1.0)) for f in (lax.polygamma, lax.igamma_grad_a)]
    drawn = (test_exact_kernels.FAMILIES, test_exact_matrices.FAMILIES)
    programs += [families.program(name) for families in drawn for name in families]
    with jax.enable_x64(True):
        seen = set().union(*(names_in(jax.make_jaxpr(f)(*args)) for f, args in programs))
    assert set(covered()) - seen - UNTESTED == set()
    assert seen - set(covered()) <= {
        "and", "or", "xor", "not", "reduce_or", "reduce_and", "shift_left", "shift_right_logical", "random_bits",
        "bitcast_convert_type", "random_wrap", "random_unwrap", "debug_callback",
    }  # fmt: skip
    assert list(covered()) == sorted(set(covered()))


def test_the_docs_list_what_is_covered() -> None:
    page = (ROOT / "docs" / "verifier.md").read_text(encoding="utf-8")
    listed = page.partition("<!-- covered -->")[2].partition("<!-- end of covered -->")[0]
    assert re.findall(r"`([^`]+)`", listed) == list(covered())
