"""What holds of every loss at whatever numbers come: hunted by hypothesis among extremes; and what each refuses."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jax.experimental import checkify

import lossjax
from lossjax.verify import oracle, ulp
from tests.support.cases import CASES, Case
from tests.support.contract import gradients
from tests.support.draws import FAMILIES
from tests.support.truths import of_labels

U, TINY, LARGEST = 2.0**-24, 2.0**-126, float(np.finfo(np.float32).max)
ROWS, CLASSES = 3, 5
ORDINARY = [0.0, -0.0, 1e-30, 1.0, -1.0, 0.5, 0.3, -1.7, 3.0, -2.25, 16.75, -16.75, 88.0, -88.0]
EXTREME = [*ORDINARY, 1e4, -1e4, 1e4 + 2**-10, 1e19, 3e38, -3e38]
POOLS: dict[str, list[float]] = {
    "z": EXTREME, "t": [0, 1, 0.5, 0.25, 1e-30, 2], "y": [0, 1, 0.5, 0.25, 1e-30, 1 - U], "c": [0, 1, 3, 0.5, 1e4],
    "p": [1, 0.5, 0.25, 0.125, 1e-30, 0.3, 1 - U, 1e-37], "s": [0, 1, -1, 0.5, 16.75, -16.75, 40, -40, 190, -190],
    "d": [1e-30, 0.5, 1, 1e4], "v": [0, 0.25, 0.5, 1, 0.9], "n": [1e-3, 0.5, 1, 3, 40, 1e8], "+": [1, -1],
    "*": [*EXTREME, np.inf, -np.inf, np.nan], "/": [0, -0.0, 1, 0.5, 1e-30, np.nan, -0.5],
    "8": [x / 8 for x in range(-200, 200, 7)],
    "o": ORDINARY, "1": [x for x in EXTREME if x],
}  # fmt: skip
SOFT = ("softmax_focal_loss", "poly_cross_entropy", "generalized_cross_entropy", "softmax_brier_score")
LABELLED = ("softmax_cross_entropy_with_integer_labels", *SOFT)
MARGINS = ("multiclass_hinge_loss", "multiclass_perceptron_loss", "multiclass_sparsemax_loss")
TWO = ("softmax_kl_divergence", "softmax_js_divergence")
PROBABILITIES = ("kl_divergence", "jeffreys_divergence", "js_divergence")
KINDS = {
    **dict.fromkeys((*LABELLED, *MARGINS), "zl"), **dict.fromkeys((*TWO, "squared_error", "mean_squared_error"), "zz"),
    **dict.fromkeys(("softmax", "log_softmax", "logsumexp", "softmax_entropy"), "z"),
    **dict.fromkeys((*PROBABILITIES, "cross_entropy"), "pp"),
    **dict.fromkeys(("log_cosh", "cosine_similarity", "cosine_distance"), "zz"), "softmax_cross_entropy": "zt",
    "sigmoid_cross_entropy": "zy", "sigmoid_focal_loss": "zy", "self_information": "p", "entropy": "p",
    "huber_loss": "zzd",
    "quantile_loss": "zzv", "gaussian_nll": "zzs", "laplace_nll": "zzs", "student_t_nll": "zzns", "poisson_nll": "zc",
    "hinge_loss": "z+", "perceptron_loss": "z+", "sparsemax_loss": "zb",
}  # fmt: skip
"""What each argument is drawn from: a pool, or labels of the classes (l) or of two (b)."""
SPECIAL = {"z": "*", "p": "/"}
EACH = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def drawn(kind: str, classes: int = CLASSES) -> st.SearchStrategy[np.ndarray]:
    if kind in "lb":
        size, top = (ROWS, classes) if kind == "l" else (ROWS * classes, 2)
        shape = (ROWS,) if kind == "l" else (ROWS, classes)
        numbers = st.lists(st.integers(0, top - 1), min_size=size, max_size=size)
        return numbers.map(lambda x: np.array(x, np.int32).reshape(shape))
    numbers = st.lists(st.sampled_from(POOLS[kind]), min_size=ROWS * classes, max_size=ROWS * classes)
    return numbers.map(lambda x: np.array(x, np.float32).reshape(ROWS, classes))


SHAPES = ((ROWS, CLASSES), (ROWS, 2), (1, 1))
"""Every shape is compiled for: few."""


def cut(shape: tuple[int, int], array: np.ndarray) -> np.ndarray:
    """The first rows, and classes; labels modulo the classes."""
    return array[: shape[0]] % shape[1] if array.ndim == 1 else array[: shape[0], : shape[1]]


def close_pair(kind: str) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Two arrays that agree in about half of their entries: divergences of what is nearly equal."""
    kept = st.lists(st.booleans(), min_size=ROWS * CLASSES, max_size=ROWS * CLASSES)
    return st.tuples(drawn(kind), drawn(kind), kept).map(
        lambda x: (x[0], np.where(np.reshape(x[2], (ROWS, CLASSES)), x[0], x[1]))
    )


def hunt(holds: Callable[..., None], *strategies: st.SearchStrategy[Any], examples: int = 40) -> None:
    quiet = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    quiet(given(st.tuples(*strategies))(lambda drawn: holds(*drawn)))()


@functools.cache
def compiled(loss: Callable[..., Any], argnums: tuple[int, ...], *options: tuple[str, Any]) -> Callable[..., Any]:
    """The value and its gradients, for arguments of any values."""

    def run(args: tuple[jax.Array, ...], more: dict[str, jax.Array]) -> Any:
        return gradients(functools.partial(loss, **dict(options), **more), Case("", loss, None, argnums), args)

    jitted = jax.jit(run)

    def call(*args: np.ndarray, **more: np.ndarray) -> list[np.ndarray]:
        value, _, pulled = jitted(args, more)
        return [np.asarray(value), *map(np.asarray, pulled)]

    return call


def same(got: np.ndarray, want: np.ndarray, units: float = 0, size: Any = 0) -> bool:
    """Specials exactly; numbers to ``units``·u of themselves and of ``size``."""
    with np.errstate(invalid="ignore"):
        error = np.abs(got.astype(np.float64) - want.astype(np.float64))
        near = error <= units * (U * (np.abs(want) + size) + 64 * TINY)
    return bool((near | (got == want) | (np.isnan(got) & np.isnan(want))).all())


# --- (a) the truth, (i) NaN only where there is no value, (j) 16 bits ------------------------------------------------


MORE = {
    # What the docstrings add at extremes, in u and, for the value, absolutely: 67u where a gap reaches 16,
    # u·q·log(1/p) where p underflows (only there: see FAINT), u² where two directions are one.
    "softmax_kl_divergence": (34, 0), "softmax_js_divergence": (34, 0), "softmax_entropy": (34, 0),
    "generalized_cross_entropy": (100, 0), "cosine_distance": (0, 64 * U * U),
}  # fmt: skip
FAINT = {"generalized_cross_entropy": 1e-24}
"""The truths below which alone a loss has its units of MORE: p^q for a p of 1e-35."""


def check_truth(case: Case, kinds: str, examples: int = 60) -> None:
    run = jax.jit(lambda args: gradients(case.loss, case, args))

    def holds(shape: tuple[int, int], *given: Any) -> None:
        args = tuple(cut(shape, a) for a in (given[0] if isinstance(given[0], tuple) else given))
        value, cotangent, pulled = run(args)
        with oracle.precision(700):
            exact = [ulp.balls(a) if a.dtype.kind == "f" else a for a in args]
            truths = case.truth(ulp.balls(cotangent), *exact) if case.truth else []
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

    pairs = kinds in ("zz", "11", "pp")
    shapes = SHAPES if kinds in ("z", "zl", "ol", "zt") or case.name in TWO else SHAPES[:1]
    drawn_args = [close_pair(kinds[0])] if pairs else list(map(drawn, kinds))
    hunt(holds, st.sampled_from(shapes), *drawn_args, examples=examples)


@EACH
def test_truth(case: Case) -> None:
    # The truth of 1 - p has no digits left at 700 bits where p is within e^-480 of 1; a zero vector has no cosine.
    instead = {"softmax_focal_loss": "o", "cosine_similarity": "1", "cosine_distance": "1"}.get(case.name, "z")
    check_truth(case, KINDS[case.name].replace("z", instead))


def undefined(value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """NaN of the gradient by the entries of the value."""
    bad = np.isnan(gradient)
    return np.asarray(bad.any(tuple(range(value.ndim, gradient.ndim))))


@EACH
def test_a_gradient_is_nan_exactly_where_there_is_no_value(case: Case) -> None:
    run = compiled(case.loss, case.argnums)
    kinds = [SPECIAL.get(k, k) for k in KINDS[case.name]]

    def holds(*args: np.ndarray) -> None:
        value, *pulled = run(*args)
        for gradient in pulled:
            silent = np.isfinite(value) & undefined(value, gradient)
            assert not silent.any(), f"{case.name}{args}: value {value}, gradient {gradient}"
        hidden = np.isnan(value) & ~undefined(value, pulled[0])
        assert not hidden.any(), f"{case.name}{args}: value {value}, gradient {pulled[0]}"

    hunt(holds, *map(drawn, kinds))


@pytest.mark.parametrize(
    ("case", "dtype"),
    [(c, (jnp.bfloat16, jnp.float16)[i % 2]) for i, c in enumerate(CASES) if c.name != "softmax"],
    ids=lambda x: x.name if isinstance(x, Case) else x.__name__,
)
def test_sixteen_bits_are_computed_in_thirty_two(case: Case, dtype: Any) -> None:
    run = compiled(case.loss, case.argnums)

    def holds(*args: np.ndarray) -> None:
        with np.errstate(over="ignore"):
            narrow = [a if a.dtype.kind == "i" else np.asarray(jnp.asarray(a).astype(dtype)) for a in args]
        wide = [a if a.dtype.kind == "i" else np.asarray(jnp.asarray(a).astype(jnp.float32)) for a in narrow]
        for got, want in zip(run(*narrow), run(*wide), strict=True):
            rounded = np.asarray(jnp.asarray(want).astype(got.dtype)).astype(np.float32)
            step = 1 if got.dtype == np.float32 else 2.0**24 * float(jnp.finfo(dtype).eps)
            # float32's own last bits may differ by what XLA fuses
            assert same(got.astype(np.float32), rounded, 8 * step if step == 1 else step + 1, 1e-3), (
                f"{case.name}{narrow}: {got}, {want}"
            )

    hunt(holds, *[drawn(SPECIAL.get(k, k)) for k in KINDS[case.name]], examples=20)


# --- (b) … (h): symmetries -------------------------------------------------------------------------------------------

OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {"label_smoothing": 0.2}, {"temperature": 2.0, "class_weights": (0.0, 0.5, 2.0, 0.5, 0.0)},
    {"label_smoothing": 0.3, "smoothing": "others", "z_loss": 0.1}, {"logit_softcap": 5.0, "reduction": "mean"},
)  # fmt: skip


def with_options(names: tuple[str, ...]) -> Any:
    table = [(n, o) for n in names for o in OPTIONS if not o or "brier" not in n]
    return pytest.mark.parametrize(("name", "options"), table, ids=str)


def of(name: str, *argnums: int, **options: Any) -> Callable[..., list[np.ndarray]]:
    return compiled(getattr(lossjax, name), argnums or (0,), *options.items())


def check_one_hot(labels: Callable[..., list[np.ndarray]], hot: Callable[..., list[np.ndarray]]) -> None:
    def holds(z: np.ndarray, c: np.ndarray) -> None:
        for a, b in zip(labels(z, c), hot(z, np.eye(CLASSES, dtype=np.float32)[c]), strict=True):
            size = np.max(np.abs(np.where(np.isfinite(b), b, 0)), axis=-1, keepdims=True, initial=1)
            assert same(a, b, 64, size if a.ndim > 1 else 1e-3), f"{z} {c}: {a}, {b}"

    hunt(holds, drawn("*"), drawn("l"))


@pytest.mark.covering
@with_options(LABELLED)
def test_a_label_is_its_one_hot_distribution(name: str, options: dict[str, Any]) -> None:
    check_one_hot(of(name, **options), of(name if name in SOFT else "softmax_cross_entropy", **options))


def check_gradient_sums_to_zero(run: Callable[..., list[np.ndarray]], terms: float = 0) -> None:
    """``terms``: the size of what smoothing subtracts."""

    def holds(z: np.ndarray, c: np.ndarray) -> None:
        _, gradient = run(z, c)
        for row in gradient.astype(np.float64):
            assert not abs(row.sum()) > 16 * U * (np.abs(row).sum() + terms) + 8 * TINY, f"{z} {c}: {row}"

    hunt(holds, drawn("z"), drawn("l"))


@pytest.mark.covering
@with_options(LABELLED)
def test_the_gradient_sums_to_zero(name: str, options: dict[str, Any]) -> None:
    kept = {k: v for k, v in options.items() if k not in ("z_loss", "logit_softcap")}
    check_gradient_sums_to_zero(of(name, **kept), 1 if "label_smoothing" in options else 0)


def check_shift(run: Callable[..., list[np.ndarray]], second: str) -> None:
    """By numbers that all the sums hold exactly: the results are the same bits."""

    def holds(z: np.ndarray, other: Any, shift: float) -> None:
        rest = [] if other is None else [other + np.float32(2 * shift) if second == "8" else other]
        for got, want in zip(
            run(z + np.float32(shift), *rest), run(z, *([] if other is None else [other])), strict=True
        ):
            assert np.array_equal(got, want), f"{z} + {shift}: {got}, {want}"

    seconds = drawn(second) if second else st.none()
    hunt(holds, drawn("8"), seconds, st.sampled_from([1.0, -4096.0, 1024.0]), examples=25)


@pytest.mark.parametrize(
    ("name", "second"),
    [*((n, "l") for n in (*LABELLED, *MARGINS)), *((n, "8") for n in TWO), ("softmax", ""), ("log_softmax", ""),
    ("softmax_entropy", "")],
)  # fmt: skip
def test_a_common_offset_is_not_felt(name: str, second: str) -> None:
    check_shift(of(name, *((0, 1) if second == "8" else (0,))), second)


def check_never_negative(loss: Callable[..., Any], kind: str) -> None:
    run = jax.jit(loss)

    def holds(pair: tuple[np.ndarray, np.ndarray]) -> None:
        assert not (np.asarray(run(*pair)) < 0).any(), f"{pair}: {run(*pair)}"
        itself = np.asarray(run(pair[0], pair[0]))
        assert (itself <= MORE.get(getattr(loss, "__name__", ""), (0, 0))[1]).all(), (
            f"{pair[0]} is {itself} from itself"
        )

    hunt(holds, close_pair(kind), examples=100)


@pytest.mark.parametrize("name", [*TWO, *PROBABILITIES, "cosine_distance"])
def test_a_divergence_is_never_negative_and_nothing_from_itself(name: str) -> None:
    check_never_negative(getattr(lossjax, name), "p" if name in PROBABILITIES else "1")


def check_mask(loss: Callable[..., Any], kinds: str) -> None:
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

    pools = [SPECIAL.get(k, k) for k in kinds]
    hunt(holds, st.lists(st.booleans(), min_size=ROWS, max_size=ROWS), *map(drawn, pools), examples=30)


MASKED = [
    n for n, k in KINDS.items() if "reduction" in inspect.signature(getattr(lossjax, n)).parameters and len(k) == 2
]


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_removes_rows(name: str) -> None:
    check_mask(getattr(lossjax, name), KINDS[name])


@pytest.mark.covering
@with_options(LABELLED)
def test_permuted_classes_permute_the_gradient(name: str, options: dict[str, Any]) -> None:
    run = of(name, **options)  # the class weights are their own reverse

    def holds(z: np.ndarray, c: np.ndarray) -> None:
        (value, slope), (other, reverse) = run(z, c), run(z[:, ::-1].copy(), CLASSES - 1 - c)
        size = np.max(np.abs(np.where(np.isfinite(slope), slope, 0)), axis=-1, keepdims=True, initial=0)
        assert same(value, other, 64, 1e-3), f"{z} {c}: {value}, {other}"
        assert same(slope, reverse[:, ::-1], 64, size + ("label_smoothing" in options)), (
            f"{z} {c}: {slope}, {reverse[:, ::-1]}"
        )

    hunt(holds, drawn("*"), drawn("l"), examples=30)


AXES = [n for n in KINDS if "axis" in inspect.signature(getattr(lossjax, n)).parameters]


@pytest.mark.parametrize("name", AXES)
def test_any_axis(name: str) -> None:
    loss = getattr(lossjax, name)
    last, first = jax.jit(loss), jax.jit(functools.partial(loss, axis=0))

    def holds(*args: np.ndarray) -> None:
        want = np.asarray(last(*args))
        got = np.asarray(first(*[a.T for a in args])).T
        assert same(got, want, 4, 1), f"{args}: {got}, {want}"  # the order of the sums may differ

    hunt(holds, *[drawn(SPECIAL.get(k, k)) for k in KINDS[name]], examples=15)


# --- what is refused -------------------------------------------------------------------------------------------------

WRONG: dict[str, Any] = {
    "axis": 7, "where": np.ones((ROWS, CLASSES), np.int32),
    "reduction": "avg", "base": 0.5, "gamma": -1.0, "alpha": -1.0,
    "epsilon": "x", "q": 2.0, "delta": 0.0, "level": 2.0, "degrees_of_freedom": -1.0, "log_scale": np.int32(1),
    "log_variance": np.int32(1), "pos_weight": -1.0, "class_weights": np.full(CLASSES, -1.0), "label_smoothing": 2.0,
    "smoothing": "x", "z_loss": -1.0, "logit_softcap": 0.0, "temperature": 0.0, "ignore_index": 1.5, "top_k": 0,
    "weights": np.full((ROWS, CLASSES), -1.0), "full": None, "return_logsumexp": None,
}  # fmt: skip
FAMILY = FAMILIES[0].__class__("refusals", rows=ROWS, classes=CLASSES)
GOOD = {case.name: case.draw(FAMILY, np.float32)[:2] for case in CASES}
GOOD["accuracy"], GOOD["softmax_cross_entropy_hvp"] = (
    GOOD[LABELLED[0]],
    (*GOOD[LABELLED[0]], np.ones((ROWS, CLASSES), np.float32)),
)


def refusals() -> list[Any]:
    """(loss, argument, its wrong value): a wrong dtype, a wrong shape, and each option out of its range."""
    table = []
    for name, good in GOOD.items():
        parameters = list(inspect.signature(getattr(lossjax, name)).parameters.values())
        for position, value in enumerate(good):
            table.append((name, position, parameters[position].name, value > 0))
            if position:
                table.append((name, position, parameters[position].name, value[:1]))
        table += [
            (name, None, p.name, WRONG[p.name])
            for p in parameters
            if p.kind == p.KEYWORD_ONLY and WRONG[p.name] is not None
        ]
        options = {p.name for p in parameters if p.kind == p.KEYWORD_ONLY}
        assert options <= set(WRONG), f"{name}: no wrong value for {options - set(WRONG)}"
    return [pytest.param(*row, id=f"{row[0]}-{row[2]}-{i}") for i, row in enumerate(table)]


@pytest.mark.parametrize(("name", "position", "argument", "value"), refusals())
def test_an_error_names_the_argument_what_came_and_what_was_wanted(
    name: str, position: int | None, argument: str, value: Any
) -> None:
    args = list(GOOD[name])
    required = {"degrees_of_freedom": 1.0} if name == "student_t_nll" else {}
    if position is not None:
        args[position] = value
    with pytest.raises((TypeError, ValueError)) as caught:
        getattr(lossjax, name)(*args, **{**required, **({} if position is not None else {argument: value})})
    message = str(caught.value)
    aliases = {"labels": "targets", "targets": "labels"}  # one of the two is meant by what takes either
    assert argument in message or aliases.get(argument, argument) in message, message
    assert any(word in message for word in ("got", "has shape", "does not exist")), message
    assert any(word in message for word in ("must", "wanted", "use ")), message


@pytest.mark.parametrize("name", [*LABELLED, *MARGINS, "accuracy", "softmax_cross_entropy_hvp", "sparsemax_loss"])
def test_checkify_names_the_label_and_its_row(name: str) -> None:
    z, c, *rest = GOOD[name]
    bad = c.copy()
    bad[1] = 9
    error, _ = checkify.checkify(jax.jit(getattr(lossjax, name)))(z, bad, *rest)
    assert "label 9 in row" in str(error.get())
    error, _ = checkify.checkify(jax.jit(getattr(lossjax, name)))(z, c, *rest)
    assert error.get() is None


# --- planted faults: each property catches its own -------------------------------------------------------------------


def naive(z: jax.Array, c: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(jnp.log(jax.nn.softmax(z, -1)), c[:, None], -1)[:, 0]


def multiplied(z: jax.Array, c: jax.Array, *, where: Any = None, reduction: str = "none") -> jax.Array:
    loss = lossjax.softmax_cross_entropy_with_integer_labels(z, c)
    kept = jnp.ones_like(loss) if where is None else where.astype(loss.dtype)
    return jnp.sum(loss * kept) / jnp.maximum(jnp.sum(kept), 1) if reduction == "mean" else loss * kept


def leaning(z: jax.Array, c: jax.Array) -> jax.Array:
    return lossjax.softmax_cross_entropy_with_integer_labels(z, c) + 1e-5 * jnp.sum(z, -1)


def textbook(p: jax.Array, q: jax.Array) -> jax.Array:
    return jnp.sum(p * (jnp.log(p) - jnp.log(q)), -1)


@pytest.mark.parametrize("check", [
    lambda: check_truth(Case("naive", naive, None, (0,), of_labels), "zl"),
    lambda: check_one_hot(compiled(naive, (0,)), of("softmax_cross_entropy")),
    lambda: check_mask(multiplied, "zl"),
    lambda: check_gradient_sums_to_zero(compiled(leaning, (0,))),
    lambda: check_shift(compiled(leaning, (0,)), "l"),
    lambda: check_never_negative(textbook, "p"),
], ids=["truth", "one-hot", "mask", "sum", "shift", "negative"])  # fmt: skip
def test_a_planted_fault_is_caught(check: Callable[[], None]) -> None:
    with pytest.raises(AssertionError):
        check()
