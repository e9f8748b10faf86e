"""What holds of every loss at whatever numbers come: hunted by hypothesis among extremes."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import lossjax
from lossjax.verify import oracle, ulp
from lossjax.verify.samples import loss_of
from lossjax.verify.signatures import SIGNATURES, U
from tests.support.cases import CASE, CASES, OF_EACH_FILE, Case
from tests.support.contract import cotangent_for
from tests.support.hunting import (
    CLASSES,
    LARGEST,
    ROWS,
    TINY,
    among,
    close_pair,
    compiled,
    drawn,
    hunt,
    pool,
    same,
)
from tests.support.quick import quick
from tests.support.truths import TRUTHS

OF_EACH_RULE = pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.name, marks=[] if c in OF_EACH_FILE else pytest.mark.slow) for c in CASES]
)
"""``make verify`` judges every loss, at the numbers where it is likely to fail."""


# --- the truth, and NaN only where there is no value -----------------------------------------------------------------


MORE = {
    # What the docstrings add at extremes, in u and, for the value, absolutely: 67u where a gap reaches 16,
    # u·q·log(1/p) where p underflows (only there: see FAINT), u² where two directions are one.
    "softmax_kl_divergence": (34, 0), "softmax_js_divergence": (34, 0), "softmax_entropy": (34, 0),
    "generalized_cross_entropy": (100, 0), "cosine_distance": (0, 64 * U * U),
}  # fmt: skip
FAINT = {"generalized_cross_entropy": 1e-24}
"""The truths below which alone a loss has its units of MORE: p^q for a p of 1e-35."""


def ordinary(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """Those whose exponentials are floats."""
    return tuple(x for x in numbers if abs(x) <= 88)


def nonzero(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """All but the zeros."""
    return tuple(x for x in numbers if x)


INSTEAD = {
    # The truth of 1 - p has no digits left at 700 bits where p is within e^-480 of 1.
    "softmax_focal_loss": ordinary,
    # A zero vector has no cosine.
    "cosine_similarity": nonzero,
    "cosine_distance": nonzero,
}
"""What some losses are hunted among in place of all hard numbers."""


def check_truth(case: Case, kinds: tuple[str, ...], examples: int = 60) -> None:
    run = compiled(case.loss, case.argnums)

    def holds(*given: Any) -> None:
        args = given[0] if isinstance(given[0], tuple) else given
        value, *pulled = run(*args)
        with oracle.precision(700):
            exact = [ulp.balls(a) if a.dtype.kind == "f" else a for a in args]
            truths = case.truth(ulp.balls(cotangent_for(value)), *exact) if case.truth else []
            for name, got, (truth, scale) in zip(("value", *case.argnums), (value, *pulled), truths, strict=True):
                size = None if scale is None else np.minimum(ulp.relative_to(scale), 1e300)
                want = np.array([float(x.mid()) for x in truth.ravel()]).reshape(truth.shape)
                # A probability that XLA flushes to 0 may have been multiplied by its surprisal, or by a logit.
                far = np.max(np.abs(np.asarray(args[:2], np.float64))) if "kl_" in case.name and name != 1 else 0
                more, absolute = MORE.get(case.name, (0, 0))
                lost = 2 * CLASSES * TINY * (128 + far) + (absolute if name == "value" else 0)
                units = ulp.in_roundoffs(got, truth, scale=size, negligible=lost)
                unrepresentable = np.abs(want) > LARGEST * (1 - 32 * U)
                if case.name == "softmax_cross_entropy":  # so its docstring: a gap beyond the largest number is inf
                    wide = np.ptp(np.asarray(args[0], np.float64), axis=-1) > LARGEST
                    unrepresentable |= wide if name == "value" else wide[:, None] & (name == 1)
                beyond = unrepresentable & (np.asarray(got) == np.copysign(np.inf, want))
                allowed = case.units + np.where(np.abs(want) < FAINT.get(case.name, np.inf), more, 0)
                bad = ~((units <= allowed) | beyond)
                assert not bad.any(), f"{case.name}, {name}: got {got}, want {want}, {units}u"

    numbers = INSTEAD.get(case.name, tuple)(pool(kinds[0]))
    if len(kinds) == 2 and pool(kinds[0]) == pool(kinds[1]):
        hunt(holds, close_pair(numbers), examples=examples)
    else:
        hunt(holds, among(numbers), *map(drawn, kinds[1:]), examples=examples)


@OF_EACH_RULE
def test_truth(case: Case) -> None:
    check_truth(case, SIGNATURES[case.name].kinds)


def undefined(value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """NaN of the gradient by the entries of the value."""
    bad = np.isnan(gradient)
    return np.asarray(bad.any(tuple(range(value.ndim, gradient.ndim))))


@OF_EACH_RULE
def test_a_gradient_is_nan_exactly_where_there_is_no_value(case: Case) -> None:
    run = compiled(case.loss, case.argnums)

    def holds(*args: np.ndarray) -> None:
        value, *pulled = run(*args)
        for gradient in pulled:
            silent = np.isfinite(value) & undefined(value, gradient)
            assert not silent.any(), f"{case.name}{args}: value {value}, gradient {gradient}"
        hidden = np.isnan(value) & ~undefined(value, pulled[0])
        assert not hidden.any(), f"{case.name}{args}: value {value}, gradient {pulled[0]}"

    hunt(holds, *[drawn(kind, beyond=True) for kind in SIGNATURES[case.name].kinds])


# --- masks and axes -------------------------------------------------------------------------------------------------


def check_mask(loss: Callable[..., Any], kinds: tuple[str, ...]) -> None:
    """Masked rows are 0 whatever they hold, the others feel nothing of them, and a mean counts those alone."""
    run, mean = compiled(loss, (0,)), compiled(loss, (0,), ("reduction", "mean"))

    def holds(kept: list[bool], *args: np.ndarray) -> None:
        rows = np.array(kept)
        full = run(*args)
        mask = rows if full[0].ndim == 1 else np.broadcast_to(rows[:, None], full[0].shape)
        masked = run(*args, where=mask)
        for got, want in zip(masked, full, strict=True):
            assert not got[~rows].any(), f"{args} {rows}: {got}"
            assert same(got[rows], want[rows], 8), f"{args} {rows}: {got}, {want}"  # last bits: what XLA fuses
        with np.errstate(over="ignore", invalid="ignore"):
            values = masked[0][rows].astype(np.float64)
            want = values.mean() if rows.any() else np.float64(0)
        if not np.abs(values).sum() > LARGEST:
            value, slope = mean(*args, where=mask)
            assert same(value, want, 16, np.abs(values).mean() if rows.any() else 0), f"{args} {rows}: {value}, {want}"
            assert not slope[~rows].any(), f"{args} {rows}: {slope}"

    rows = st.lists(st.booleans(), min_size=ROWS, max_size=ROWS)
    hunt(holds, rows, *[drawn(kind, beyond=True) for kind in kinds], examples=30)


MASKED = (
    "softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy", "softmax_brier_score", 
    "multiclass_hinge_loss", "sigmoid_cross_entropy", "log_cosh",
)  # fmt: skip
"""One for each way that masks and means are made. Of every loss ``test_edges`` asks what a mask hides."""


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_removes_rows(name: str) -> None:
    check_mask(loss_of(name), SIGNATURES[name].kinds)


AXES = [name for name in SIGNATURES if "axis" in inspect.signature(loss_of(name)).parameters]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if CASE[n] in OF_EACH_FILE else [pytest.mark.slow]) for n in AXES]
)
def test_any_axis(name: str) -> None:
    loss = loss_of(name)
    both = quick(lambda args, turned: (loss(*args), functools.partial(loss, axis=0)(*turned)))

    def holds(*args: np.ndarray) -> None:
        want, got = both(args, tuple(a.T for a in args))
        assert same(np.asarray(got).T, np.asarray(want), 4, 1), f"{args}: {got}, {want}"  # sums in another order

    hunt(holds, *[drawn(kind, beyond=True) for kind in SIGNATURES[name].kinds], examples=15)


# --- planted faults: each property catches its own -------------------------------------------------------------------


def naive(z: jax.Array, c: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(jnp.log(jax.nn.softmax(z, -1)), c[:, None], -1)[:, 0]


def multiplied(z: jax.Array, c: jax.Array, *, where: Any = None, reduction: str = "none") -> jax.Array:
    loss = lossjax.softmax_cross_entropy_with_integer_labels(z, c)
    kept = jnp.ones_like(loss) if where is None else where.astype(loss.dtype)
    return jnp.sum(loss * kept) / jnp.maximum(jnp.sum(kept), 1) if reduction == "mean" else loss * kept


LABELLED = ("logits", "labels")


@pytest.mark.parametrize("check", [
    lambda: check_truth(
        Case("naive", naive, None, (0,), TRUTHS["softmax_cross_entropy_with_integer_labels"].truth), LABELLED
    ),
    lambda: check_mask(multiplied, LABELLED),
], ids=["truth", "mask"])  # fmt: skip
def test_a_planted_fault_is_caught(check: Callable[[], None]) -> None:
    with pytest.raises(AssertionError):
        check()
