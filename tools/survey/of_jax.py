"""Subjects of JAX itself and of optax: every public function of a module, with arguments found by trying."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from survey import subjects
from survey.subjects import IMAGE, OTHER, POSITIVE, SQUARE, TALL, UNIT, WHOLE, Subject

MODULES = (
    "jax.nn", "jax.numpy", "jax.numpy.linalg", "jax.numpy.fft", "jax.lax", "jax.lax.linalg", "jax.scipy.special",
    "jax.scipy.stats", "jax.scipy.linalg", "jax.scipy.signal", "jax.random", "jax.nn.initializers", "jax.ops",
)  # fmt: skip

KEY = jax.random.key(3)
_VOID = lax.conv_dimension_numbers(IMAGE.shape, (3, 3, 4, 2), ("NHWC", "HWIO", "NHWC"))
_TAKE = lax.GatherDimensionNumbers((1,), (0,), (0,))
_PUT = lax.ScatterDimensionNumbers((1,), (0,), (0,))
_KERNEL = np.cos(np.arange(72.0)).reshape(3, 3, 4, 2)
_AT = np.array([[0], [2]])
_QR = np.linalg.qr(SQUARE)


def _batched(operation: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return jax.vmap(operation, axis_name="i")


def _scatter(operation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, u: operation(x, _AT, u, _PUT)


BY_HAND: dict[str, tuple[Any, ...]] = {
    "jax.lax.all_gather": (lambda x: _batched(lambda v: lax.all_gather(v, "i"))(x), UNIT),
    "jax.lax.all_to_all": (lambda x: _batched(lambda v: lax.all_to_all(v, "i", 0, 0))(x), SQUARE),
    "jax.lax.axis_index": (lambda x: _batched(lambda v: v * lax.axis_index("i"))(x), UNIT),
    "jax.lax.axis_size": (lambda x: _batched(lambda v: v * lax.axis_size("i"))(x), UNIT),
    "jax.lax.pmax": (lambda x: _batched(lambda v: lax.pmax(lax.stop_gradient(v), "i") * v)(x), UNIT),
    "jax.lax.pmin": (lambda x: _batched(lambda v: lax.pmin(lax.stop_gradient(v), "i") * v)(x), UNIT),
    "jax.lax.pmean": (lambda x: _batched(lambda v: lax.pmean(v, "i"))(x), UNIT),
    "jax.lax.psum": (lambda x: _batched(lambda v: lax.psum(v * v, "i") * v)(x), UNIT),
    "jax.lax.ppermute": (lambda x: _batched(lambda v: lax.ppermute(v, "i", [(0, 1), (1, 0), (2, 2)]))(x), UNIT[:3]),
    "jax.lax.pshuffle": (lambda x: _batched(lambda v: lax.pshuffle(v, "i", [1, 0, 2]))(x), UNIT[:3]),
    "jax.lax.pswapaxes": (lambda x: _batched(lambda v: lax.pswapaxes(v, "i", 0))(x), SQUARE),
    "jax.lax.psum_scatter": (lambda x: _batched(lambda v: lax.psum_scatter(v, "i"))(x), SQUARE),
    "jax.lax.associative_scan": (lambda x: lax.associative_scan(jnp.multiply, x), UNIT),
    "jax.lax.batch_matmul": (lax.batch_matmul, IMAGE[0], IMAGE[0].swapaxes(1, 2)),
    "jax.lax.cond": (lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), UNIT),
    "jax.lax.switch": (lambda x: lax.switch(2, [jnp.sin, jnp.cos, jnp.tan], x), UNIT),
    "jax.lax.conv": (lambda x, k: lax.conv(x, k, (1, 2), "SAME"), IMAGE.transpose(0, 3, 1, 2), _KERNEL.transpose(3, 2, 0, 1)),
    "jax.lax.conv_general_dilated": (
        lambda x, k: lax.conv_general_dilated(x, k, (2, 1), ((1, 2), (0, 1)), (1, 2), (2, 1), _VOID), IMAGE, _KERNEL),
    "jax.lax.conv_general_dilated_local": (
        lambda x, k: lax.conv_general_dilated_local(x, k, (1,), "VALID", (2,)), IMAGE[0, :2].transpose(0, 2, 1)[:, :1],
        np.cos(np.arange(8.0)).reshape(1, 2, 4)),
    "jax.lax.conv_general_dilated_patches": (
        lambda x: lax.conv_general_dilated_patches(x, (2, 2), (1, 1), "SAME"), IMAGE.transpose(0, 3, 1, 2)),
    "jax.lax.conv_transpose": (lambda x, k: lax.conv_transpose(x, k, (2, 2), "SAME"), IMAGE[:, :3, :3], _KERNEL),
    "jax.lax.conv_with_general_padding": (
        lambda x, k: lax.conv_with_general_padding(x, k, (1, 1), "SAME", None, None), IMAGE.transpose(0, 3, 1, 2),
        _KERNEL.transpose(3, 2, 0, 1)),
    "jax.lax.custom_linear_solve": (
        lambda a, b: lax.custom_linear_solve(lambda x: a @ x, b, lambda _, r: jnp.linalg.solve(a, r),
                                             lambda _, r: jnp.linalg.solve(a.T, r)), SQUARE, SQUARE[0]),
    "jax.lax.custom_root": (
        lambda x: lax.custom_root(lambda r: r**3 - x, 1.0, lambda f, r: lax.fori_loop(
            0, 9, lambda _, v: v - f(v) / jax.grad(f)(v), r), lambda g, y: y / g(1.0)), UNIT[0]),
    "jax.lax.dot_general": (lambda a, b: lax.dot_general(a, b, (((2,), (1,)), ((0,), (0,)))), IMAGE[0], IMAGE[0].swapaxes(1, 2)),
    "jax.lax.ragged_dot": (lambda a, b: lax.ragged_dot(a, b, np.int32([2, 1])), SQUARE, np.stack([SQUARE, POSITIVE])),
    "jax.lax.dynamic_slice": (lambda x: lax.dynamic_slice(x, (1,), (2,)), UNIT),
    "jax.lax.dynamic_update_slice": (lambda x, u: lax.dynamic_update_slice(x, u, (1,)), UNIT, OTHER[:2]),
    "jax.lax.dynamic_update_slice_in_dim": (lambda x, u: lax.dynamic_update_slice_in_dim(x, u, 1, 0), UNIT, OTHER[:2]),
    "jax.lax.dynamic_update_index_in_dim": (lambda x, u: lax.dynamic_update_index_in_dim(x, u, 1, 0), UNIT, OTHER[0]),
    "jax.lax.fft": (lambda x: lax.fft(x, lax.FftType.RFFT, (4,)), UNIT),
    "jax.lax.fori_loop": (lambda x: lax.fori_loop(0, 4, lambda i, c: jnp.sin(c) + i, x), UNIT),
    "jax.lax.while_loop": (lambda x: lax.while_loop(lambda c: c[0].sum() < 9, lambda c: (c[0] * 2,), (x,)), UNIT),
    "jax.lax.scan": (lambda x: lax.scan(lambda c, v: (c * v, jnp.sin(c)), 1.0, x), UNIT),
    "jax.lax.map": (lambda x: lax.map(jnp.sin, x), UNIT),
    "jax.lax.gather": (lambda x: lax.gather(x, _AT, _TAKE, (1, 3)), SQUARE),
    "jax.lax.scatter": (_scatter(lax.scatter), SQUARE, SQUARE[:2] + 1),
    "jax.lax.scatter_add": (_scatter(lax.scatter_add), SQUARE, SQUARE[:2] + 1),
    "jax.lax.scatter_sub": (_scatter(lax.scatter_sub), SQUARE, SQUARE[:2] + 1),
    "jax.lax.scatter_mul": (lambda x, u: lax.scatter_mul(x, _AT, u, _PUT, unique_indices=True), SQUARE, SQUARE[:2] + 1),
    "jax.lax.scatter_max": (_scatter(lax.scatter_max), SQUARE, SQUARE[:2] + 1),
    "jax.lax.scatter_min": (_scatter(lax.scatter_min), SQUARE, SQUARE[:2] + 1),
    "jax.lax.scatter_apply": (lambda x: lax.scatter_apply(x, _AT, jnp.sin, _PUT, update_shape=(2, 3)), SQUARE),
    "jax.lax.index_take": (lambda x: lax.index_take(x, (np.array([2, 0]),), (0,)), SQUARE),
    "jax.lax.pad": (lambda x: lax.pad(x, 0.5, [(1, -1, 2)]), UNIT),
    "jax.lax.platform_dependent": (lambda x: lax.platform_dependent(x, cpu=jnp.sin, default=jnp.sin), UNIT),
    "jax.lax.reduce": (lambda x: lax.reduce(x, 0.0, lax.add, (0,)), SQUARE),
    "jax.lax.reduce_precision": (lambda x: lax.reduce_precision(x, 11, 52), UNIT),
    "jax.lax.reduce_window": (
        lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 1, 1), "SAME"), IMAGE),
    "jax.lax.reduce_window (max)": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 1, 1), "SAME"), IMAGE),
    "jax.lax.slice": (lambda x: lax.slice(x, (1,), (4,), (2,)), UNIT),
    "jax.lax.squeeze": (lambda x: lax.squeeze(x, (0,)), UNIT[None]),
    "jax.lax.split": (lambda x: lax.split(x, (1, 3)), UNIT),
    "jax.lax.broadcast_in_dim": (lambda x: lax.broadcast_in_dim(x, (2, 4), (1,)), UNIT),
    "jax.lax.concatenate": (lambda x, y: lax.concatenate([x, y], 0), UNIT, OTHER),
    "jax.lax.reshape": (lambda x: lax.reshape(x, (2, 2), (0,)), UNIT),
    "jax.lax.composite": (lambda x: lax.composite(jnp.sin, "survey.sine")(x), UNIT),
    "jax.lax.select_n": (lambda x, y: lax.select_n(WHOLE > 1, x, y), UNIT, OTHER),
    "jax.lax.select": (lambda x, y: lax.select(WHOLE > 1, x, y), UNIT, OTHER),
    "jax.lax.polygamma": (lambda x: lax.polygamma(np.float64([1, 2, 0, 3]), x), UNIT),
    "jax.lax.zeta": (lambda x: lax.zeta(x + 1.5, OTHER), UNIT),
    "jax.lax.bitcast_convert_type": (lambda x: lax.bitcast_convert_type(x, jnp.int64), UNIT),
    "jax.lax.rng_uniform": (lambda a, b: lax.rng_uniform(a, b, (3,)), 0.1, 0.2),
    "jax.lax.linalg.triangular_solve": (lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True, lower=True), SQUARE, TALL),
    "jax.lax.linalg.cholesky": (lax.linalg.cholesky, POSITIVE),
    "jax.lax.linalg.cholesky_update": (lax.linalg.cholesky_update, np.linalg.cholesky(POSITIVE).T, SQUARE[0]),
    "jax.lax.linalg.eigh": (lax.linalg.eigh, POSITIVE),
    "jax.lax.linalg.qdwh": (lambda a: lax.linalg.qdwh(a, is_hermitian=False)[:2], SQUARE),
    "jax.lax.linalg.tridiagonal": (lax.linalg.tridiagonal, POSITIVE),
    "jax.lax.linalg.tridiagonal_solve": (
        lambda below, d, above, b: lax.linalg.tridiagonal_solve(below, d + 3, above, b), UNIT, OTHER, UNIT, IMAGE[0, 0, :4]),
    "jax.lax.linalg.householder_product": (lax.linalg.householder_product, SQUARE, UNIT[:3]),
    "jax.lax.linalg.ormqr": (lax.linalg.ormqr, SQUARE, UNIT[:3], POSITIVE),
    "jax.lax.linalg.schur": (lambda a: lax.linalg.schur(a), POSITIVE),
    "jax.numpy.linalg.cholesky": (jnp.linalg.cholesky, POSITIVE),
    "jax.scipy.linalg.cholesky": (jax.scipy.linalg.cholesky, POSITIVE),
    "jax.numpy.linalg.tensorsolve": (jnp.linalg.tensorsolve, SQUARE, SQUARE[0]),
    "jax.numpy.linalg.solve": (jnp.linalg.solve, SQUARE, TALL),
    "jax.numpy.linalg.lstsq": (lambda a, b: jnp.linalg.lstsq(a, b)[0], TALL, SQUARE[0]),
    "jax.numpy.linalg.qr": (jnp.linalg.qr, TALL),
    "jax.numpy.linalg.svd": (lambda a: jnp.linalg.svd(a, full_matrices=False), TALL),
    "jax.numpy.linalg.pinv": (jnp.linalg.pinv, TALL),
    "jax.scipy.linalg.cho_factor": (lambda a: jax.scipy.linalg.cho_factor(a)[0], POSITIVE),
    "jax.scipy.linalg.cho_solve": (lambda a, b: jax.scipy.linalg.cho_solve((a, False), b), POSITIVE, TALL),
    "jax.scipy.linalg.lu_solve": (lambda a, b: jax.scipy.linalg.lu_solve(jax.scipy.linalg.lu_factor(a), b), SQUARE, TALL),
    "jax.scipy.linalg.solve": (jax.scipy.linalg.solve, SQUARE, TALL),
    "jax.scipy.linalg.solve_triangular": (jax.scipy.linalg.solve_triangular, SQUARE, TALL),
    "jax.scipy.linalg.eigh_tridiagonal": (
        lambda d, e: jax.scipy.linalg.eigh_tridiagonal(d, e, eigvals_only=True), UNIT + np.arange(4), OTHER[:3]),
    "jax.scipy.linalg.solve_sylvester": (jax.scipy.linalg.solve_sylvester, SQUARE, POSITIVE, SQUARE),
    "jax.scipy.linalg.rsf2csf": (lambda a: jax.scipy.linalg.rsf2csf(*jax.scipy.linalg.schur(a)), POSITIVE),
    "jax.scipy.linalg.funm": (lambda a: jax.scipy.linalg.funm(a, jnp.exp, disp=False), POSITIVE),
    "jax.scipy.special.polygamma": (lambda x: jax.scipy.special.polygamma(np.int64([1, 2, 0, 3]), x), UNIT),
    "jax.scipy.special.zeta": (lambda x: jax.scipy.special.zeta(x + 1.5, OTHER), UNIT),
    "jax.scipy.special.expn": (lambda x: jax.scipy.special.expn(2, x), UNIT),
    "jax.scipy.special.bessel_jn": (lambda x: jax.scipy.special.bessel_jn(x, v=2, n_iter=20), UNIT),
    "jax.scipy.special.sph_harm_y": (lambda a, b: jax.scipy.special.sph_harm_y(np.array([2]), np.array([1]), a, b, n_max=2), UNIT[:1], OTHER[:1]),
    "jax.scipy.special.multigammaln": (lambda x: jax.scipy.special.multigammaln(x + 3, 2), UNIT),
    "jax.scipy.special.bernoulli": (lambda x: jax.scipy.special.bernoulli(3) * x[0], UNIT),
    **{f"jax.scipy.stats.truncnorm.{name}": (getattr(jax.scipy.stats.truncnorm, name), UNIT, UNIT - 1, UNIT + 1)
       for name in ("cdf", "logcdf", "logpdf", "logsf", "pdf", "sf")},
    "jax.scipy.stats.bernoulli.logpmf": (lambda p: jax.scipy.stats.bernoulli.logpmf(WHOLE % 2, p), UNIT),
    "jax.scipy.stats.dirichlet.logpdf": (jax.scipy.stats.dirichlet.logpdf, UNIT / UNIT.sum(), OTHER),
    "jax.nn.scaled_matmul": (None,), "jax.nn.scaled_dot_general": (None,),
    "jax.nn.get_scaled_dot_general_config": (None,),
    "jax.nn.dot_product_attention": (jax.nn.dot_product_attention, *(IMAGE[:, :, :2] + s for s in (0, 0.1, 0.2))),
    "jax.nn.one_hot": (lambda x: jax.nn.one_hot(WHOLE, 4) * x, UNIT),
    "jax.random.multinomial": (lambda p: jax.random.multinomial(KEY, 5.0, p), UNIT / UNIT.sum()),
    "jax.random.multivariate_normal": (lambda m, c: jax.random.multivariate_normal(KEY, m, c), SQUARE[0], POSITIVE),
    "jax.random.wald": (lambda m: jax.random.wald(KEY, m), UNIT),
    "jax.random.randint": (lambda x: x * jax.random.randint(KEY, (4,), 0, 9), UNIT),
    "jax.random.truncated_normal": (lambda a, b: jax.random.truncated_normal(KEY, a, b), UNIT, UNIT + 1),
    "jax.random.choice": (lambda x: jax.random.choice(KEY, x, (3,)), UNIT),
    "jax.numpy.einsum": (lambda a, b: jnp.einsum("ij,jk->ik", a, b), SQUARE, POSITIVE),
    "jax.numpy.piecewise": (lambda x: jnp.piecewise(x, [x < 0.3, x >= 0.3], [jnp.sin, jnp.cos]), UNIT),
    "jax.numpy.select": (lambda x, y: jnp.select([x < 0.3, x < 0.6], [x, y], 0.5), UNIT, OTHER),
    "jax.numpy.choose": (lambda x, y: jnp.choose(WHOLE % 2, [x, y], mode="wrap"), UNIT, OTHER),
    "jax.numpy.apply_along_axis": (lambda x: jnp.apply_along_axis(jnp.sort, 0, x), SQUARE),
    "jax.numpy.apply_over_axes": (lambda x: jnp.apply_over_axes(jnp.sum, x, [0]), SQUARE),
    "jax.numpy.vectorize": (lambda x: jnp.vectorize(lambda v: v.sum(), signature="(n)->()")(x), SQUARE),
    "jax.numpy.polyfit": (lambda x, y: jnp.polyfit(x, y, 2), UNIT, OTHER),
    "jax.numpy.polydiv": (jnp.polydiv, UNIT, OTHER[:2]),
    "jax.numpy.roots": (lambda p: jnp.roots(p, strip_zeros=False), UNIT),
    "jax.numpy.interp": (lambda x, f: jnp.interp(x, np.array([0, 0.4, 1]), f[:3]), UNIT, OTHER),
    "jax.numpy.take": (lambda x: jnp.take(x, WHOLE), UNIT),
    "jax.numpy.take_along_axis": (lambda x: jnp.take_along_axis(x, WHOLE, 0), UNIT),
    "jax.numpy.put": (lambda x, v: jnp.put(x, WHOLE[:2], v[:2], inplace=False), UNIT, OTHER),
    "jax.numpy.put_along_axis": (lambda x, v: jnp.put_along_axis(x, WHOLE, v, 0, inplace=False), UNIT, OTHER),
    "jax.numpy.bincount": (lambda w: jnp.bincount(WHOLE, w, length=4), UNIT),
    "jax.numpy.insert": (lambda x: jnp.insert(x, 1, 0.5), UNIT),
    "jax.numpy.delete": (lambda x: jnp.delete(x, 1), UNIT),
    "jax.numpy.compress": (lambda x: jnp.compress(np.array([True, False, True]), x, size=2), UNIT),
    "jax.numpy.extract": (lambda x: jnp.extract(np.array([True, False, True, True]), x, size=3), UNIT),
    "jax.numpy.place": (lambda x, v: jnp.place(x, x > 0.5, v, inplace=False), UNIT, OTHER),
    "jax.numpy.fill_diagonal": (lambda x: jnp.fill_diagonal(x, 0.5, inplace=False), SQUARE),
    "jax.numpy.quantile": (lambda x: jnp.quantile(x, 0.3), UNIT), "jax.numpy.nanquantile": (lambda x: jnp.nanquantile(x, 0.3), UNIT),
    "jax.numpy.percentile": (lambda x: jnp.percentile(x, 30), UNIT), "jax.numpy.nanpercentile": (lambda x: jnp.nanpercentile(x, 30), UNIT),
    "jax.numpy.unique": (lambda x: jnp.unique(x, size=4), UNIT), "jax.numpy.nonzero": (lambda x: jnp.nonzero(x, size=4), UNIT),
    "jax.numpy.union1d": (lambda x, y: jnp.union1d(x, y, size=8), UNIT, OTHER), "jax.numpy.setdiff1d": (lambda x, y: jnp.setdiff1d(x, y, size=4), UNIT, OTHER),
    "jax.numpy.intersect1d": (lambda x, y: jnp.intersect1d(x, y, size=4), UNIT, OTHER), "jax.numpy.setxor1d": (lambda x, y: jnp.setxor1d(x, y, size=8), UNIT, OTHER),
    "jax.numpy.argwhere": (lambda x: jnp.argwhere(x, size=4), UNIT), "jax.numpy.flatnonzero": (lambda x: jnp.flatnonzero(x, size=4), UNIT),
    "jax.numpy.unique_values": (lambda x: jnp.unique_values(x, size=4), UNIT),
    "jax.numpy.unique_counts": (lambda x: jnp.unique_counts(x, size=4), UNIT), "jax.numpy.unique_all": (lambda x: jnp.unique_all(x, size=4), UNIT),
    "jax.numpy.unique_inverse": (lambda x: jnp.unique_inverse(x, size=4), UNIT),
    "jax.numpy.arccosh": (lambda x: jnp.arccosh(x + 1), UNIT), "jax.numpy.acosh": (lambda x: jnp.acosh(x + 1), UNIT), "jax.lax.acosh": (lambda x: lax.acosh(x + 1), UNIT),
    "jax.nn.initializers.orthogonal": (lambda x: x * jax.nn.initializers.orthogonal()(KEY, (3, 3)), SQUARE),
    "jax.ops.segment_max": (lambda x: jax.ops.segment_max(x, WHOLE % 2, 2), UNIT), "jax.ops.segment_min": (lambda x: jax.ops.segment_min(x, WHOLE % 2, 2), UNIT),
    "jax.ops.segment_sum": (lambda x: jax.ops.segment_sum(x, WHOLE % 2, 2), UNIT), "jax.ops.segment_prod": (lambda x: jax.ops.segment_prod(x, WHOLE, 4), UNIT),
    "jax.shard_map": (lambda x: jax.shard_map(lambda v: v / lax.psum(v, "i"), mesh=jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,)), in_specs=jax.P("i"), out_specs=jax.P("i"))(x), UNIT),
}  # fmt: skip
"""Functions of which the arguments say more than an array, and those whose usual domain is elsewhere."""


def _distributions() -> Iterator[Subject]:
    """The densities of ``jax.scipy.stats``, each a module of its own."""
    stats = importlib.import_module("jax.scipy.stats")
    for name in sorted(vars(stats)):
        module = getattr(stats, name)
        if not hasattr(module, "__path__") and type(module).__name__ == "module":
            yield from _of_module(f"jax.scipy.stats.{name}", "jax.scipy.stats")


def _of_module(module_name: str, library: str) -> Iterator[Subject]:
    module = importlib.import_module(module_name)
    for name in sorted(n for n in dir(module) if not n.startswith("_")):
        function = getattr(module, name)
        if not callable(function) or isinstance(function, type) or "typing" in type(function).__module__:
            continue
        full = f"{module_name}.{name}"
        if full in BY_HAND:
            continue
        wrapped = returned(function) if module_name.endswith("initializers") else function
        if (subject := subjects.found(library, full, wrapped)) is not None:
            yield subject


def returned(factory: Callable[..., Any]) -> Callable[..., Any]:
    """An initializer's result."""
    return lambda x: x * factory()(KEY, x.shape)


def of(library: str) -> Iterator[Subject]:
    """The subjects of one of ``MODULES``."""
    for name, (function, *args) in BY_HAND.items():
        of_stats = library == "jax.scipy.stats" and name.startswith("jax.scipy.stats.")  # each a module of its own
        if function is not None and (of_stats or name.rpartition(".")[0] == library):
            yield Subject(library, name, function, tuple(args))
    if library == "jax.lax":
        yield Subject(library, "jax.shard_map", BY_HAND["jax.shard_map"][0], (UNIT,))
    if library == "jax.scipy.stats":
        yield from _distributions()
    yield from _of_module(library, library)
