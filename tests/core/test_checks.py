"""Every refusal names the argument, what came, what was wanted, and the remedy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

from lossjax._core import checks

Call = Callable[[], Any]
MATRIX = np.zeros((2, 3), np.float32)

REFUSALS: dict[str, tuple[Call, type[Exception], tuple[str, ...]]] = {
    # name: (the call, the error, what its message must contain: argument, got, wanted, remedy)
    "integers for floats": (
        lambda: checks.floating("logits", np.zeros((2, 3), np.int32)),
        TypeError, ("logits", "int32[2, 3]", "must be floating-point", ".astype(jnp.float32)"),
    ),
    "booleans for floats": (
        lambda: checks.floating("targets", np.zeros(4, bool), remedy="do this"),
        TypeError, ("targets", "bool[4]", "must be floating-point", "do this"),
    ),
    "complex for floats": (
        lambda: checks.floating("logits", np.zeros(4, np.complex64)), TypeError, ("logits", "complex64[4]"),
    ),
    "float labels": (
        lambda: checks.integer_labels("labels", np.zeros(5, np.float32)),
        TypeError, ("labels", "float32[5]", "integer class indices", "softmax_cross_entropy", ".astype(jnp.int32)"),
    ),
    "boolean labels": (
        lambda: checks.integer_labels("labels", np.zeros((5, 1), bool)),
        TypeError, ("labels", "bool[5, 1]", "integer class indices"),
    ),
    "another shape": (
        lambda: checks.same_shape("labels", (4, 1), "of the rows", (4,), "squeeze it"),
        ValueError, ("labels", "(4, 1)", "wanted (4,)", "of the rows", "squeeze it"),
    ),
    "a shape that does not broadcast": (
        lambda: checks.broadcastable("pos_weight", (2,), (5, 3)),
        ValueError, ("pos_weight", "(2,)", "(5, 3)", "broadcasts", "reshape pos_weight"),
    ),
    "a shape that broadcasts to a larger one": (
        lambda: checks.broadcastable("pos_weight", (7, 5, 3), (5, 3)), ValueError, ("pos_weight", "(7, 5, 3)"),
    ),
    "an axis beyond": (
        lambda: checks.axes("axis", 2, 2), ValueError, ("axis=2", "2 dimensions", "use -2 to 1"),
    ),
    "an axis below": (
        lambda: checks.axes("axis", (0, -3), 2), ValueError, ("axis=(0, -3)", "use -2 to 1"),
    ),
    "an axis twice": (
        lambda: checks.axes("axis", (0, -2), 2), ValueError, ("axis=(0, -2)", "at least one axis, and none twice"),
    ),
    "no axis": (lambda: checks.axes("axis", (), 2), ValueError, ("axis=()", "at least one axis")),
    "a float axis": (
        lambda: checks.axes("axis", 1.0, 2), TypeError, ("axis", "integer", "1.0"),
    ),
    "a boolean axis": (lambda: checks.axes("axis", True, 2), TypeError, ("axis", "integer", "True")),
    "axis None": (
        lambda: checks.axes("axis", None, 2), TypeError, ("axis", "integer", "None"),
    ),
    "a scalar for rows": (
        lambda: checks.class_axis(jnp.float32(1), "logits", -1), ValueError, ("logits", "scalar", "[..., C]"),
    ),
    "no class": (
        lambda: checks.class_axis(jnp.zeros((2, 0)), "logits", -1),
        ValueError, ("logits", "(2, 0)", "no class along -1", "at least 1"),
    ),
    "no class along several axes": (
        lambda: checks.class_axis(jnp.zeros((2, 0, 3)), "logits", (1, 2)), ValueError, ("logits", "(1, 2)"),
    ),
    "several axes for one": (
        lambda: checks.one_class_axis(jnp.zeros((2, 3)), "logits", (0, 1)),
        ValueError, ("axis", "one integer", "(0, 1)"),
    ),
    "a mask of numbers": (
        lambda: checks.mask("where", np.ones(2, np.float32), (2,)),
        TypeError, ("where", "float32", "must be boolean", "where != 0"),
    ),
    "a mask of another shape": (
        lambda: checks.mask("where", np.ones((2, 3), bool), (2,)),
        ValueError, ("where", "(2, 3)", "wanted (2,)", "one entry per row"),
    ),
    "an unknown reduction": (
        lambda: checks.reduction("average"), ValueError, ("reduction", "'none', 'sum', 'mean'", "'average'"),
    ),
    "a number of 0": (
        lambda: checks.number("temperature", 0, np.float32, positive=True),
        ValueError, ("temperature", "greater than 0", "0.0"),
    ),
    "a negative number": (
        lambda: checks.number("z_loss", -0.5, np.float32, positive=False),
        ValueError, ("z_loss", "at least 0", "-0.5"),
    ),
    "a number of NaN": (
        lambda: checks.number("temperature", np.nan, np.float32, positive=True), ValueError, ("temperature", "nan"),
    ),
    "a number of None": (
        lambda: checks.number("temperature", None, np.float32, positive=True), TypeError, ("temperature",),
    ),
    "a vector for a number": (
        lambda: checks.number("temperature", np.ones(3, np.float32), np.float32, positive=True),
        TypeError, ("temperature", "real scalar", "float32[3]"),
    ),
    "a boolean for a number": (
        lambda: checks.number("z_loss", True, np.float32, positive=False),
        TypeError, ("z_loss", "real scalar", "bool"),
    ),
    "a complex number": (
        lambda: checks.number("z_loss", 1j, np.float32, positive=False),
        TypeError, ("z_loss", "real scalar", "complex"),
    ),
    "a negative weight": (
        lambda: checks.nonnegative("pos_weight", np.float32([1, -2, 3])),
        ValueError, ("pos_weight", "at least 0", "-2.0"),
    ),
    "a weight of NaN": (
        lambda: checks.nonnegative("pos_weight", np.float32([1, np.nan])), ValueError, ("pos_weight", "nan"),
    ),
    "integer weights": (
        lambda: checks.nonnegative_weights("weights", np.arange(3), 3), TypeError,
        ("weights", "int64[3]", "floating-point"),
    ),
    "too few weights": (
        lambda: checks.nonnegative_weights("class_weights", np.ones(3, np.float32), 4),
        ValueError, ("class_weights", "(3,)", "wanted (4,)", "a weight for every class"),
    ),
    "base 1": (lambda: checks.base(1), ValueError, ("base", "greater than 1", "2 = bits", "got 1")),
    "base 1/2": (lambda: checks.base(0.5), ValueError, ("base", "greater than 1", "0.5")),
    "base 0": (lambda: checks.base(0), ValueError, ("base", "greater than 1")),
    "base -2": (lambda: checks.base(-2), ValueError, ("base", "greater than 1")),
    "base NaN": (lambda: checks.base(np.nan), ValueError, ("base", "nan")),
    "an infinite base": (lambda: checks.base(np.inf), ValueError, ("base", "inf")),
    "a boolean base": (lambda: checks.base(True), TypeError, ("base", "Python number greater than 1", "True")),
    "a traced base": (lambda: jax.jit(checks.base)(2.0), TypeError, ("base", "Python number greater than 1")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name: str) -> None:
    call, error, parts = REFUSALS[name]
    with jax.enable_x64(True), pytest.raises(error) as caught:
        call()
    missing = [part for part in parts if part not in str(caught.value)]
    assert not missing, f"the message lacks {missing}: {caught.value}"


def test_what_is_right_passes_unchanged() -> None:
    assert checks.floating("logits", MATRIX).dtype == jnp.float32
    assert checks.floating("logits", jnp.zeros(3, jnp.bfloat16)).dtype == jnp.bfloat16
    assert checks.integer_labels("labels", np.zeros(3, np.uint8)).dtype == jnp.uint8
    assert checks.axes("axis", (-1, 0), 3) == (2, 0)
    assert checks.axes("axis", np.int64(1), 2) == (1,)
    assert checks.class_axis(jnp.zeros((0, 3)), "logits", -1) == (1,)
    assert checks.mask("where", None, (2,)) is None
    assert checks.base(None) is None
    assert checks.base(10) == 10.0
    assert checks.nonnegative_weights("class_weights", None, 3) is None
    assert float(checks.number("z_loss", 0, np.float32, positive=False)) == 0
    checks.broadcastable("pos_weight", (1, 3), (5, 3))
    checks.same_shape("labels", [2], "of the rows", (2,), "")


def test_a_traced_option_out_of_range_is_nan_in_value_and_slope() -> None:
    """What cannot be looked at is not refused; nor does it yield a plausible number."""
    for check in (
        lambda x: checks.number("temperature", x, jnp.float32, positive=True),
        lambda x: checks.nonnegative("pos_weight", x),
        lambda x: checks.positive("delta", x),
        lambda x: checks.number("q", 2 - x, jnp.float32, positive=True, at_most=1),
    ):
        value, slope = jax.jit(jax.value_and_grad(lambda x, f=check: f(x) ** 2))(-1.0)
        assert np.isnan(value)
        assert np.isnan(slope)
        assert np.isfinite(jax.jit(check)(1.5))
    assert not jax.jit(lambda x: jnp.asarray(checks.is_known(x, 1)))(1.0)


def test_closed_over_arrays_are_looked_at_inside_jit() -> None:
    weights = jnp.float32([1, -1])
    with pytest.raises(ValueError, match="class_weights must be at least 0"):
        jax.jit(lambda x: x + jnp.sum(checks.nonnegative("class_weights", weights)))(jnp.float32(0))


def test_the_widest_argument_sets_the_dtype_and_numbers_do_not() -> None:
    with jax.enable_x64(True):
        half, single, double = (jnp.zeros(2, d) for d in (jnp.float16, jnp.float32, jnp.float64))
        assert checks.compute_dtype(half, jnp.zeros(2, jnp.bfloat16)) == jnp.float32
        assert checks.compute_dtype(half, None, double) == jnp.float64
        assert checks.compute_dtype(single, jnp.asarray(2.0)) == jnp.float32


@pytest.mark.parametrize(("bad", "row"), [(-1, 0), (7, 5), (4, 2)])
def test_a_label_out_of_range_is_named_under_checkify(bad: int, row: int) -> None:
    labels = jnp.int32([0, 1, 2, 3, 2, 1]).at[row].set(bad).reshape(2, 3)

    def check(x: jax.Array) -> jax.Array:
        return checks.labels_in_range(x, 4, None)

    error, _ = jax.jit(checkify.checkify(check))(labels)
    assert f"label {bad} in row {row} is outside the 4 classes" in str(error.get())
    assert "ignore_index" in str(error.get())
    assert jnp.array_equal(jax.jit(check)(labels), labels), "without checkify nothing happens"


def test_labels_not_counted_and_no_labels_raise_nothing() -> None:
    def check(x: jax.Array, counted: jax.Array) -> jax.Array:
        return checks.labels_in_range(x, 4, counted)

    for labels, counted in (
        (jnp.int32([9, 1]), jnp.array([False, True])),
        (jnp.zeros(0, jnp.int32), jnp.zeros(0, bool)),
    ):
        error, _ = checkify.checkify(check)(labels, counted)
        assert error.get() is None
