"""optax's own tests of its losses, run with the losses of ``lossjax.optax`` in their place."""

import functools
import importlib
import inspect
import io
import pkgutil
import re
import types
import unittest
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import optax.losses as theirs
import pytest

from lossjax import optax as ours

SHIPPED = [name for _, name, _ in pkgutil.iter_modules(theirs.__path__, "optax.losses.") if name.endswith("_test")]


def modules_under_test(name: str) -> dict[str, types.ModuleType]:
    """The modules of optax's that a test module tests, if any of their functions are ours."""
    modules = {k: v for k, v in vars(importlib.import_module(name)).items() if isinstance(v, types.ModuleType)}
    with_ours = {getattr(theirs, own).__module__ for own in ours.OWN}
    return {key: module for key, module in modules.items() if module.__name__ in with_ours}


OWN = frozenset(ours.OWN)
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


COMPARED = re.compile(r"\.test_(multi_class_)?(gradient|mask|axis|axes)")
"""Tests of what ``test_optax.py`` compares in float64, to 1e-12: gradients, and any axis, and masks of entries."""


def first_of_each(tests: Iterable[Any]) -> Iterator[unittest.TestCase]:
    """Of the tests that differ in their number alone, as test_scalar0, test_scalar1 do, the first.

    None that is ``COMPARED``, and none of a class that names no function of ours, as that of the CTC loss, which would
    test optax with optax.
    """
    seen = set()
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from first_of_each(test)
            continue
        stem = test.id().partition(" ")[0].rstrip("0123456789")
        if stem not in seen and names_ours(type(test)) and not COMPARED.search(stem):
            seen.add(stem)
            yield test


@functools.cache
def names_ours(tests: type) -> bool:
    return not OWN.isdisjoint(re.findall(r"\w+", inspect.getsource(tests)))


@pytest.fixture(autouse=True, scope="module")
def _little_effort() -> Iterator[None]:
    """Their tolerances are of many roundings, and most of their programs are single operations outside ``jit``."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


def run_their_tests(
    name: str, library: Any = ours, *, every: bool = True, pattern: str | None = None
) -> tuple[unittest.TestResult, str, set[str]]:
    """optax's test module, with lossjax.optax in the place of the modules that it tests; those that fit the pattern."""
    module = importlib.import_module(name)
    tested = modules_under_test(name)
    stand_ins = {key: Instead(value, library) for key, value in tested.items()}
    output = io.StringIO()
    vars(module).update(stand_ins)
    try:
        loader = unittest.TestLoader()
        loader.testNamePatterns = None if pattern is None else [pattern]
        suite = loader.loadTestsFromModule(module)
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
    result, output, _ = run_their_tests("optax.losses._regression_test", faulty, pattern="*LogCosh*")
    assert not result.wasSuccessful()
    assert "LogCosh" in output
