"""``lossjax.optax`` stands in for ``optax.losses``: names, signatures, dtypes, optax's own tests; and what it mends."""

import importlib
import inspect
import io
import pkgutil
import types
import unittest
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax.losses as theirs
import pytest

from lossjax import optax as ours
from tests.support.quick import quick

PUBLIC = [name for name in vars(theirs) if not name.startswith("_")]


@pytest.fixture(autouse=True)
def as_users_run_it() -> Iterator[None]:
    """JAX's default promotion: the plug-in's arguments mix as optax's do."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


# --- the same names, signatures, dtypes ------------------------------------------------------------------------------


def test_every_name_is_there() -> None:
    assert {*ours.OWN, *ours.REEXPORTED} == set(PUBLIC)
    assert set(PUBLIC) <= set(dir(ours))
    assert all(callable(getattr(ours, name)) for name in PUBLIC)
    assert all(getattr(ours, name) is getattr(theirs, name) for name in ours.REEXPORTED)
    assert all(getattr(ours, name).__module__ == "lossjax.optax" for name in ours.OWN)
    with pytest.raises(AttributeError, match="has 'nothing'"):
        _ = ours.nothing


@pytest.mark.parametrize("name", ours.OWN)
def test_same_signature(name: str) -> None:
    def shape(function: Callable[..., Any]) -> list[tuple[Any, ...]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert shape(getattr(ours, name)) == shape(getattr(theirs, name))
    assert inspect.getdoc(getattr(ours, name))


def draw(name: str, dtype: Any = np.float32, other: Any = np.float32, shape: tuple[int, ...] = (4, 5)) -> list[Any]:
    """Two arguments that suit the function."""
    random = np.random.default_rng(0)
    first = jnp.asarray(random.normal(size=shape) * 2, dtype)
    if name in ("hinge_loss", "perceptron_loss"):
        return [first, jnp.asarray(np.where(random.uniform(size=shape) < 0.5, -1, 1), other)]
    if name == "sparsemax_loss":
        return [first, jnp.asarray(random.integers(0, 2, shape))]
    if name.startswith("multiclass") or name.endswith("integer_labels"):
        return [first, jnp.asarray(random.integers(0, shape[-1], shape[:-1]))]
    if "softmax" in name or "poly" in name:
        return [first, jnp.asarray(random.dirichlet(np.ones(shape[-1]), shape[:-1]), other)]
    if "sigmoid" in name:
        return [first, jnp.asarray(random.uniform(size=shape), other)]
    if "kl" in name:
        q = random.dirichlet(np.ones(shape[-1]), shape[:-1])
        p = random.dirichlet(np.ones(shape[-1]), shape[:-1])
        return [jnp.asarray(np.log(q), dtype), jnp.asarray(np.log(p) if "log_targets" in name else p, other)]
    return [first, jnp.asarray(random.normal(size=shape), other)]


def call(library: Any, name: str, *args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(library, name)(*args, **options)


@pytest.mark.parametrize("name", ours.OWN)
def test_same_dtype(name: str) -> None:
    floats = (jnp.bfloat16, jnp.float16, jnp.float32)
    for dtype in floats:
        for other in (*floats, jnp.int32):
            args = draw(name, dtype, other)
            if other == jnp.int32 and (name == "poly_loss_cross_entropy" or "kl" in name or "cosine" in name):
                continue  # optax refuses these
            wanted = jax.eval_shape(lambda *a: call(theirs, name, *a), *args)
            got = jax.eval_shape(lambda *a: call(ours, name, *a), *args)
            assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), (dtype, other)


AXES = [name for name in ours.OWN if "axis" in inspect.signature(getattr(theirs, name)).parameters]


def agree(name: str, args: list[Any], options: dict[str, Any]) -> None:
    """Value and gradients within what optax's own rounding explains in float64: 1e-12 of the largest entry.

    Where optax's gradient is NaN (in the targets under a mask) ours is finite.
    """

    def outcome(library: Any) -> tuple[Any, ...]:
        floats = tuple(i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.floating))

        def total(*a: Any) -> tuple[jax.Array, jax.Array]:
            out = call(library, name, *a, **options)
            return jnp.sum(out * jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)), out

        (_, value), gradients = quick(jax.value_and_grad(total, floats, has_aux=True))(*args)
        return value, *gradients

    for got, want in zip(outcome(ours), outcome(theirs), strict=True):
        assert got.shape == want.shape
        assert np.isfinite(got).all()
        compared = jnp.where(jnp.isnan(want), got, want)
        np.testing.assert_allclose(got, compared, rtol=0, atol=1e-12 * max(1.0, float(jnp.max(jnp.abs(compared)))))


@pytest.mark.parametrize("name", ours.OWN)
def test_same_values_and_gradients_on_ordinary_data(name: str) -> None:
    with jax.enable_x64(True):
        agree(name, draw(name, np.float64, np.float64), {})


@pytest.mark.covering
@pytest.mark.parametrize("axis", [0, 1, (0, 2), None], ids=str)
@pytest.mark.parametrize("name", AXES)
def test_same_along_any_axis(name: str, axis: Any) -> None:
    labels = {"0": (4, 5), "1": (3, 5), "(0, 2)": (4,)}
    with jax.enable_x64(True):
        args = draw(name, np.float64, np.float64, shape=(3, 4, 5))
        if name.endswith("integer_labels"):
            if axis is None:
                pytest.skip("optax refuses it, and so do we")
            args[1] = jnp.arange(np.prod(labels[str(axis)])).reshape(labels[str(axis)]) % 3
        agree(name, args, {"axis": axis})


@pytest.mark.parametrize("name", [n for n in AXES if not n.endswith("integer_labels")])
def test_same_under_a_mask_of_entries(name: str) -> None:
    mask = jnp.asarray(np.random.default_rng(1).uniform(size=(4, 5)) < 0.7).at[:, 0].set(True)
    with jax.enable_x64(True):
        agree(name, draw(name, np.float64, np.float64), {"where": mask})


def test_broadcasting_targets_as_optax_does() -> None:
    z = draw("squared_error")[0]
    targets = {
        "huber_loss": z[:1], "log_cosh": z[0], "hinge_loss": jnp.float32(1), "softmax_cross_entropy": jnp.eye(5)[2],
        "sigmoid_focal_loss": 1,
    }  # fmt: skip
    for name, target in targets.items():
        np.testing.assert_allclose(call(ours, name, z, target), call(theirs, name, z, target), rtol=1e-4, atol=1e-6)
    for name in ("squared_error", "l2_loss", "huber_loss", "log_cosh"):
        np.testing.assert_allclose(getattr(ours, name)(z), getattr(theirs, name)(z), rtol=1e-4, atol=1e-6)


# --- optax's own tests -----------------------------------------------------------------------------------------------

SHIPPED = [name for _, name, _ in pkgutil.iter_modules(theirs.__path__, "optax.losses.") if name.endswith("_test")]


def modules_under_test(name: str) -> dict[str, types.ModuleType]:
    """The modules of optax's that a test module tests, if any of their functions are ours."""
    modules = {k: v for k, v in vars(importlib.import_module(name)).items() if isinstance(v, types.ModuleType)}
    with_ours = {getattr(theirs, own).__module__ for own in ours.OWN}
    return {key: module for key, module in modules.items() if module.__name__ in with_ours}


THEIR_TESTS = [name for name in SHIPPED if modules_under_test(name)]


class Instead:
    """A module of optax's whose functions are ours where we have them."""

    def __init__(self, module: types.ModuleType, library: Any = ours) -> None:
        self._module, self._library, self.used = module, library, set()

    def __getattr__(self, name: str) -> Any:
        if name in ours.OWN:
            self.used.add(name)
            return getattr(self._library, name)
        return getattr(self._module, name)


def first_of_each(tests: Iterable[Any]) -> Iterator[unittest.TestCase]:
    """Of the tests that differ in their number alone, as test_axis0, test_axis1 do, the first."""
    seen = set()
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from first_of_each(test)
        elif (stem := test.id().partition(" ")[0].rstrip("0123456789")) not in seen:
            seen.add(stem)
            yield test


def run_their_tests(name: str, library: Any = ours, *, every: bool = True) -> tuple[unittest.TestResult, str, set[str]]:
    """optax's test module, with lossjax.optax in the place of the modules that it tests."""
    module = importlib.import_module(name)
    tested = modules_under_test(name)
    stand_ins = {key: Instead(value, library) for key, value in tested.items()}
    output = io.StringIO()
    vars(module).update(stand_ins)
    try:
        suite = unittest.defaultTestLoader.loadTestsFromModule(module)
        if not every:
            suite = unittest.TestSuite(first_of_each(suite))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = unittest.TextTestRunner(output, verbosity=0).run(suite)
    finally:
        vars(module).update(tested)
    return result, output.getvalue(), set().union(*(s.used for s in stand_ins.values()))


def test_their_tests_are_in_the_wheel() -> None:
    assert len(THEIR_TESTS) >= 3, "optax no longer ships its tests: run them from its sources"


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one of each", "every"])
@pytest.mark.parametrize("name", THEIR_TESTS)
def test_their_tests_pass_on_ours(name: str, every: bool) -> None:
    result, output, used = run_their_tests(name, every=every)
    assert result.testsRun > 0
    assert result.wasSuccessful(), output
    if name.endswith("_classification_test"):
        assert len(used) >= 14, sorted(used)
    if name.endswith("_regression_test"):
        assert used >= {"squared_error", "l2_loss", "huber_loss", "log_cosh", "cosine_similarity", "cosine_distance"}


def test_their_tests_catch_a_fault() -> None:
    faulty = types.SimpleNamespace(**{name: getattr(ours, name) for name in ours.OWN})
    faulty.log_cosh = lambda *args: 1.01 * ours.log_cosh(*args)
    result, output, _ = run_their_tests("optax.losses._regression_test", faulty, every=False)
    assert not result.wasSuccessful()
    assert "LogCosh" in output


# --- what it mends ---------------------------------------------------------------------------------------------------

f32 = np.float32
inf = np.inf


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4, -1e4])
@pytest.mark.parametrize("form", ["integer", "one-hot", "safe"])
def test_large_offsets_and_margins(offset: float, form: str) -> None:
    """Exact differences of logits: a margin of 30 leaves 1.87e-13, at any offset float32 can hold exactly."""
    z = jnp.asarray([[30.0, 0.0, 1.0]], f32) + f32(offset)
    loss = {
        "integer": lambda z: ours.softmax_cross_entropy_with_integer_labels(z, jnp.array([0])),
        "one-hot": lambda z: ours.softmax_cross_entropy(z, jnp.eye(3)[:1]),
        "safe": lambda z: ours.safe_softmax_cross_entropy(z, jnp.eye(3)[:1]),
    }[form]
    truth = np.log1p(np.exp(-30.0) + np.exp(-29.0))
    (gradient,) = jax.grad(lambda z: loss(z)[0])(z)
    np.testing.assert_allclose(loss(z)[0], truth, rtol=8 * 2**-24)
    np.testing.assert_allclose(gradient[0], np.expm1(-truth), rtol=8 * 2**-24)
    assert abs(float(gradient.sum())) <= 4 * 2**-24 * abs(float(gradient[0]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.bfloat16, 2**-8), (jnp.float16, 2**-11)])
def test_sixteen_bits_are_rounded_once(dtype: Any, tolerance: float) -> None:
    z = jnp.asarray([300.0, 299.0, 298.0], dtype)
    values = np.asarray(z, np.float64)
    got = ours.softmax_cross_entropy_with_integer_labels(z, jnp.array(0))
    assert got.dtype == dtype
    np.testing.assert_allclose(float(got), np.log(np.sum(np.exp(values - values[0]))), rtol=tolerance)


def test_a_mask_that_hides_the_label() -> None:
    z, mask = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[True, True, False]])
    assert ours.softmax_cross_entropy_with_integer_labels(z, jnp.array([2]), where=mask)[0] == inf
    nothing = jnp.zeros((1, 3), bool)
    assert ours.softmax_cross_entropy_with_integer_labels(z, jnp.array([2]), where=nothing)[0] == 0


@pytest.mark.parametrize("label", [-1, -100, 3])
def test_a_label_out_of_range(label: int) -> None:
    def loss(z: jax.Array) -> jax.Array:
        return ours.softmax_cross_entropy_with_integer_labels(z, jnp.array([label]))[0]

    z = jnp.array([[1.0, 2.0, 3.0]])
    assert np.isnan(loss(z))
    assert np.isnan(jax.grad(loss)(z)).all()


def test_infinite_logits() -> None:
    z, first = jnp.array([0.0, 1.0, -inf]), jnp.array([1.0, 0.0, 0.0])
    for loss in (ours.softmax_cross_entropy, ours.safe_softmax_cross_entropy, ours.poly_loss_cross_entropy):
        assert np.isfinite(loss(z, first))
        for derivative in (jax.grad, jax.jacfwd):
            assert np.isfinite(derivative(loss)(z, first)).all()
    assert ours.softmax_cross_entropy_with_integer_labels(jnp.array([inf, 0.0]), jnp.array(0)) == 0


@pytest.mark.parametrize("name", ["sigmoid_binary_cross_entropy", "sigmoid_focal_loss"])
def test_binary_losses_at_infinity(name: str) -> None:
    z, y = jnp.array([-inf, inf, inf, -inf]), jnp.array([0.0, 1.0, 0.0, 1.0])
    loss = getattr(ours, name)
    assert loss(z, y).tolist() == [0.0, 0.0, inf, inf]
    assert jax.grad(lambda z: loss(z, y).sum())(z).tolist() == [0.0, 0.0, 1.0, -1.0]


def test_divergences_of_close_distributions_are_never_negative() -> None:
    random = np.random.default_rng(0)
    for step, allowed in ((1e-3, 2e-3), (1e-4, 2e-2)):
        u = random.normal(size=(200, 16))
        v = u + step * random.normal(size=u.shape)
        log_p, log_q = (z - np.log(np.exp(z).sum(-1, keepdims=True)) for z in (u, v))
        log_p32, log_q32 = log_p.astype(f32), log_q.astype(f32)
        d = log_q32.astype(np.float64) - log_p32
        truth = np.sum(np.exp(log_p32.astype(np.float64)) * (np.expm1(d) - d), -1)
        got = ours.kl_divergence_with_log_targets(log_q32, log_p32)
        assert (got >= 0).all()
        np.testing.assert_allclose(got, truth, rtol=16 * 2**-24)
        from_targets = ours.kl_divergence(log_q32, np.exp(log_p).astype(f32))
        assert (from_targets >= 0).all()
        np.testing.assert_allclose(np.median(np.abs(from_targets - truth) / truth), 0, atol=allowed)


def test_divergences_with_zeros() -> None:
    log_q, t = jnp.log(jnp.array([0.5, 0.5, 0.0])), jnp.array([1.0, 0.0, 0.0])
    assert ours.kl_divergence(log_q, t) == pytest.approx(np.log(2))
    assert ours.kl_divergence_with_log_targets(log_q, jnp.log(t)) == pytest.approx(np.log(2))
    assert ours.kl_divergence(log_q, jnp.array([0.5, 0.0, 0.5])) == inf
    in_log_q, in_t = jax.grad(ours.kl_divergence, (0, 1))(log_q[:2], t[:2])
    assert in_log_q.tolist() == [-1.0, 0.0]
    assert np.isfinite(in_t).all()
    assert np.isfinite(jax.grad(ours.kl_divergence_with_log_targets, (0, 1))(log_q, jnp.log(t))).all()


def test_log_cosh_near_zero() -> None:
    x = f32([1e-4, 1e-3, 0.1, 1.0, 20.0])
    truth = np.log1p(np.sinh(x.astype(np.float64)) ** 2) / 2
    np.testing.assert_allclose(ours.log_cosh(x), truth, rtol=16 * 2**-24)


def test_the_cosine_of_zero() -> None:
    zero, v = jnp.zeros(3), jnp.array([1.0, 2.0, 2.0])
    assert ours.cosine_similarity(zero, v) == 0
    assert ours.cosine_distance(zero, v) == 1
    for gradient in jax.grad(ours.cosine_similarity, (0, 1))(zero, v):
        assert gradient.tolist() == [0, 0, 0]


def test_masked_entries_may_hold_anything() -> None:
    z = jnp.array([[jnp.nan, jnp.nan], [1.0, 2.0]])
    for where in (jnp.array([False, True]), jnp.array([[False, False], [True, True]])):
        value, gradient = jax.value_and_grad(
            lambda z, where=where: ours.softmax_cross_entropy_with_integer_labels(
                z, jnp.array([0, 1]), where=where
            ).sum()
        )(z)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert gradient[0].tolist() == [0, 0]


def test_refusals_as_optax() -> None:
    with pytest.raises(ValueError, match="targets has shape"):
        ours.squared_error(jnp.ones(3), jnp.ones(4))
    with pytest.raises(ValueError, match="axis must be"):
        ours.softmax_cross_entropy_with_integer_labels(jnp.ones((2, 2)), jnp.array([0, 1]), axis=None)
    with pytest.raises(TypeError, match="logits must be floating-point"):
        ours.softmax_cross_entropy(jnp.ones((2, 2), int), jnp.ones((2, 2)))
    with pytest.warns(DeprecationWarning, match="use generalized_kl_divergence"):
        ours.convex_kl_divergence(jnp.zeros(2), jnp.ones(2))
