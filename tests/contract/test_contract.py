"""Every loss meets the contract; and the contract catches what it is there to catch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import lossjax
from lossjax._core.autodiff import closed_form
from lossjax._core.plain import plain_of
from lossjax.verify.samples import names as public_losses
from lossjax.verify.signatures import SIGNATURES
from tests.support import contract
from tests.support.cases import CASES, OF_EACH_FILE, OPTION_CASES, STANDING, Case
from tests.support.draws import FAMILIES, Family, labelled
from tests.support.truths import TRUTHS, of_labels

ONE_OF_EACH = STANDING[0], STANDING[-1]
"""A loss with one number for each row, and one with a row."""
MODERATE = Family("moderate", rows=3, classes=5, scale=2.0)
PER_ROW = pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c.name, marks=[] if c in ONE_OF_EACH else [pytest.mark.slow]) for c in CASES if c.per_row],
)
"""``make verify`` asks every loss for its rows and for two devices; here it is by the bit, and with forward mode."""


ALONE = (
    "labels, smoothing", "labels, weights", "labels, z-loss", "labels, softcap", "labels, temperature",
    "targets, smoothing", "focal, gamma",
)  # fmt: skip
"""Options whose derivatives "labels, all", "targets, all" and "focal, all" have together. Each is a term, or a factor,
of its own in the rule; value and gradient of each alone are judged by ``test_accuracy_of_options``."""

NO_TAIL = "sparse targets, tail", FAMILIES[1]
"""Where two of two classes are listed, what is left of the target has no class: the loss is infinite."""


@pytest.mark.covering
@pytest.mark.parametrize(
    ("case", "family"),
    [(c, f) for c in OPTION_CASES if c.name not in ALONE for f in (MODERATE, FAMILIES[1]) if (c.name, f) != NO_TAIL],
    ids=lambda x: x.name,
)
def test_rule_is_the_derivative_of_the_plain_formula(case: Case, family: Family) -> None:
    """In reverse, in forward mode, and forward over reverse, with every option."""
    contract.assert_rule_is_derivative(case, family)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_rule_without_options_is_the_derivative_of_the_plain_formula(case: Case) -> None:
    """``make verify`` asks this of every loss in exact arithmetic, and in every mode."""
    contract.assert_rule_is_derivative(case, MODERATE)


USUAL = FAMILIES[0].rows, FAMILIES[0].classes
DTYPES = np.float32, np.float64
JUDGED = [(c, f) for c in CASES for f in c.families]
OF_ROWS = [(c, f) for c, f in JUDGED if SIGNATURES[c.name].kinds[0] in ("logits", "probabilities", "vectors")]
"""The losses that the number of classes says something of."""
OPTIONS = [c for c in OPTION_CASES if c.truth is not None]
COMBINED = [(c, f) for c in OPTIONS if c.name in ("labels, all", "targets, all") for f in c.families]
OF_EACH_RULE = [*OF_EACH_FILE, *dict.fromkeys(c for c, _ in COMBINED)]


def is_asked(case: Case, turn: int, dtype: type) -> bool:
    """In the fast tier: in float64; and a loss of each file of rules in turn in either."""
    return DTYPES[turn % 2] is dtype if case in OF_EACH_FILE else dtype is np.float64


@pytest.mark.parametrize(
    ("case", "family", "dtype"),
    [
        pytest.param(
            c, f, d, id=f"{c.name}-{f.name}-{d.__name__}", marks=[] if is_asked(c, i, d) else [pytest.mark.slow]
        )
        for i, (c, f) in enumerate((c, f) for c, f in JUDGED if (f.rows, f.classes) == USUAL)
        for d in DTYPES
    ],
)
def test_accuracy(case: Case, family: Family, dtype: type) -> None:
    """``make verify`` judges every loss in float32, at more numbers."""
    contract.assert_accurate(case, family, dtype)


@pytest.mark.parametrize(
    ("case", "family", "dtype"),
    [
        pytest.param(c, f, d, id=f"{c.name}-{f.name}-{d.__name__}", marks=[pytest.mark.slow] if (i + k) % 2 else [])
        for i, c in enumerate(OPTIONS)
        for f in c.families
        for k, d in enumerate(DTYPES)
        if (f.rows, f.classes) == USUAL
    ],
)
def test_accuracy_of_options(case: Case, family: Family, dtype: type) -> None:
    """Every option in one dtype, every second in the other."""
    contract.assert_accurate(case, family, dtype)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("case", "family"),
    [
        pytest.param(c, f, id=f"{c.name}-{f.name}", marks=[] if c in OF_EACH_RULE else [pytest.mark.slow])
        for c, f in OF_ROWS + COMBINED
        if (f.rows, f.classes) != USUAL
    ],
)
def test_accuracy_in_other_shapes(case: Case, family: Family, dtype: type) -> None:
    contract.assert_accurate(case, family, dtype)


@pytest.mark.covering
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("case", [*CASES, *dict.fromkeys(c for c, _ in COMBINED)], ids=lambda c: c.name)
def test_sixteen_bits(case: Case, dtype: type) -> None:
    contract.assert_narrow(case, MODERATE, dtype)


# `make verify` asks the next three of every loss, in exact arithmetic.


@pytest.mark.slow
@pytest.mark.parametrize("name", contract.TRANSFORMATIONS)
@pytest.mark.parametrize("case", STANDING, ids=lambda c: c.name)
def test_transformation(case: Case, name: str) -> None:
    contract.assert_transforms(case, MODERATE, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", contract.SECOND_ORDER)
@pytest.mark.parametrize("case", STANDING, ids=lambda c: c.name)
def test_second_order(case: Case, name: str) -> None:
    contract.assert_second_order(case, MODERATE, name)


@pytest.mark.slow
@pytest.mark.parametrize("case", OF_EACH_FILE, ids=lambda c: c.name)
def test_second_order_in_a_loop(case: Case) -> None:
    contract.assert_second_order_in_a_loop(case, MODERATE)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, id=c.name, marks=[] if c.name == "softmax_entropy" else [pytest.mark.slow])
        for c in CASES + OPTION_CASES
    ],
)
def test_third_order_in_a_loop(case: Case) -> None:
    """What it needs of the wrapper around every rule, tests/core/test_derived.py asks for."""
    contract.assert_third_order_in_a_loop(case, MODERATE)


@PER_ROW
def test_vmap(case: Case) -> None:
    contract.assert_maps(case, MODERATE)


@PER_ROW
def test_shard_map(case: Case) -> None:
    contract.assert_shards(case, MODERATE, AxisType.Auto, forward=case in STANDING)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c.name, marks=[] if c is STANDING[0] else [pytest.mark.slow]) for c in STANDING[:2]],
)
def test_shard_map_over_explicit_axes(case: Case) -> None:
    contract.assert_shards(case, MODERATE, AxisType.Explicit, forward=True)


# --- the contract can fail -------------------------------------------------------------------------------------------


def _faulty(fault: str) -> Case:
    """The integer-label loss with one planted fault in its closed-form rule."""
    good = lossjax.softmax_cross_entropy_with_integer_labels

    def forward(z: jax.Array, labels: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        value = plain_of(good)(z, labels)
        if fault == "naive value":
            lse = jnp.log(jnp.sum(jnp.exp(z - z.max(-1, keepdims=True)), -1)) + z.max(-1)
            value = lse - jnp.take_along_axis(z, labels[:, None], -1)[:, 0]
        if fault == "batch in value":
            value = value + 1e-9 * z.shape[0]
        return value, (z, labels)

    def backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, None]:
        z, labels = saved
        hot = jnp.arange(z.shape[-1], dtype=labels.dtype)[None] == labels[:, None]
        p = jax.nn.softmax(z, -1)
        gradient = p - hot.astype(z.dtype)
        if fault == "three times":
            gradient = 3 * gradient
        if fault == "first row's cotangent":
            g = jnp.broadcast_to(g[:1], g.shape)
        if fault == "zero off label":
            gradient = jnp.where(hot, gradient, 0)
        if fault == "gradient in one direction":
            gradient = gradient + 1e-7
        if fault == "constant second order":
            gradient = jax.lax.stop_gradient(gradient)
        return g[:, None] * gradient, None

    rule = closed_form(forward, backward)

    def loss(z: jax.Array, labels: jax.Array) -> jax.Array:
        return rule(z, labels)

    loss.plain = plain_of(good)  # pyright: ignore[reportFunctionMemberAccess]  # functions take attributes
    return Case(fault, loss, labelled, (0,), of_labels)


@pytest.mark.parametrize(
    "fault", ["three times", "first row's cotangent", "zero off label", "gradient in one direction"]
)
def test_a_wrong_rule_is_caught(fault: str) -> None:
    with pytest.raises(AssertionError, match="differs from its formula's derivative"):
        contract.assert_rule_is_derivative(_faulty(fault), MODERATE)


@pytest.mark.parametrize(
    ("fault", "family"), [("naive value", "confident"), ("naive value", "offset"), ("", "confident")]
)
def test_a_cancelling_value_or_gradient_is_caught(fault: str, family: str) -> None:
    """With no fault planted, the textbook gradient softmax - onehot is fault enough."""
    (chosen,) = [f for f in FAMILIES if f.name == family]
    with pytest.raises(AssertionError, match="is off by"):
        contract.assert_accurate(_faulty(fault), chosen, np.float32)


def test_a_lost_second_order_is_caught() -> None:
    with pytest.raises(AssertionError, match="off by"):
        contract.assert_second_order(_faulty("constant second order"), MODERATE, "reverse over reverse")


def test_a_value_that_feels_the_batch_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"half the batch|vmap"):
        contract.assert_maps(_faulty("batch in value"), MODERATE)


def test_a_missing_forward_mode_is_caught() -> None:
    @jax.custom_vjp
    def square(z: jax.Array) -> jax.Array:
        return jnp.sum(z**2, -1)

    square.defvjp(lambda z: (jnp.sum(z**2, -1), z), lambda z, g: (2 * g[:, None] * z,))
    case = Case("custom_vjp alone", square, lambda f, d: (f.logits(f.random(), d),), (0,))
    with pytest.raises(TypeError, match="forward-mode"):
        contract.assert_transforms(case, MODERATE, "jvp")


def test_every_public_loss_has_a_signature_and_a_truth() -> None:
    """A loss without a line in lossjax/verify/signatures.py would escape the contract."""
    names = set(public_losses())
    assert names == set(SIGNATURES) == set(TRUTHS)
