"""The symmetries of the losses, hunted by hypothesis among extremes: labels and one-hot rows, offsets, permutations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import lossjax
from lossjax.verify.samples import loss_of
from lossjax.verify.signatures import SIGNATURES, U
from tests.support.cases import CASE
from tests.support.hunting import CLASSES, TINY, among, close_pair, compiled, drawn, hunt, pool, same

SOFT = ("softmax_focal_loss", "poly_cross_entropy", "generalized_cross_entropy", "softmax_brier_score")
LABELLED = ("softmax_cross_entropy_with_integer_labels", *SOFT)
DIVERGENCES = (
    "softmax_kl_divergence", "softmax_js_divergence", "kl_divergence", "jeffreys_divergence", "js_divergence",
)  # fmt: skip
OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {"label_smoothing": 0.2}, {"temperature": 2.0, "class_weights": (0.0, 0.5, 2.0, 0.5, 0.0)},
    {"label_smoothing": 0.3, "smoothing": "others", "z_loss": 0.1}, {"logit_softcap": 5.0, "reduction": "mean"},
)  # fmt: skip


def with_options(names: tuple[str, ...]) -> Any:
    table = [(n, o) for n in names for o in OPTIONS if not o or "brier" not in n]
    return pytest.mark.parametrize(("name", "options"), table, ids=str)


def of(name: str, *argnums: int, **options: Any) -> Callable[..., list[np.ndarray]]:
    return compiled(loss_of(name), argnums or (0,), *options.items())


def check_one_hot(labels: Callable[..., list[np.ndarray]], hot: Callable[..., list[np.ndarray]]) -> None:
    def holds(z: np.ndarray, c: np.ndarray) -> None:
        for a, b in zip(labels(z, c), hot(z, np.eye(CLASSES, dtype=np.float32)[c]), strict=True):
            size = np.max(np.abs(np.where(np.isfinite(b), b, 0)), axis=-1, keepdims=True, initial=1)
            assert same(a, b, 64, size if a.ndim > 1 else 1e-3), f"{z} {c}: {a}, {b}"

    hunt(holds, drawn("logits", beyond=True), drawn("labels"))


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

    hunt(holds, drawn("logits"), drawn("labels"))


@pytest.mark.covering
@with_options(LABELLED)
def test_the_gradient_sums_to_zero(name: str, options: dict[str, Any]) -> None:
    kept = {k: v for k, v in options.items() if k not in ("z_loss", "logit_softcap")}
    check_gradient_sums_to_zero(of(name, **kept), 1 if "label_smoothing" in options else 0)


EIGHTHS = tuple(x / 8 for x in range(-200, 200, 7))
"""Numbers that are shifted without a rounding."""


def check_shift(run: Callable[..., list[np.ndarray]], *kinds: str) -> None:
    """By numbers that all the sums hold exactly: the results are the same bits."""

    def holds(z: np.ndarray, rest: tuple[np.ndarray, ...], shift: float) -> None:
        moved = [
            x + np.float32(2 * shift) if kind == "other logits" else x for kind, x in zip(kinds, rest, strict=True)
        ]
        for got, want in zip(run(z + np.float32(shift), *moved), run(z, *rest), strict=True):
            assert np.array_equal(got, want), f"{z} + {shift}: {got}, {want}"

    others = [among(EIGHTHS) if kind == "other logits" else drawn(kind) for kind in kinds]
    hunt(holds, among(EIGHTHS), st.tuples(*others), st.sampled_from([1.0, -4096.0, 1024.0]), examples=25)


OF_LOGITS = {
    name: signature
    for name, signature in SIGNATURES.items()
    if signature.kinds[0] == "logits" and "distributions" not in signature.kinds and name != "logsumexp"
}


@pytest.mark.parametrize("name", OF_LOGITS)
def test_a_common_offset_is_not_felt(name: str) -> None:
    check_shift(compiled(CASE[name].loss, CASE[name].argnums), *OF_LOGITS[name].kinds[1:])


NOTHING = {"cosine_distance": 64 * U * U}
"""What a distance of a thing from itself may be, where its docstring does not say 0."""


def check_never_negative(loss: Callable[..., Any], numbers: tuple[float, ...]) -> None:
    run = jax.jit(loss)
    nothing = NOTHING.get(getattr(loss, "__name__", ""), 0)

    def holds(pair: tuple[np.ndarray, np.ndarray]) -> None:
        assert not (np.asarray(run(*pair)) < 0).any(), f"{pair}: {run(*pair)}"
        itself = np.asarray(run(pair[0], pair[0]))
        assert (itself <= nothing).all(), f"{pair[0]} is {itself} from itself"

    hunt(holds, close_pair(numbers), examples=100)


@pytest.mark.parametrize("name", [*DIVERGENCES, "cosine_distance"])
def test_a_divergence_is_never_negative_and_nothing_from_itself(name: str) -> None:
    check_never_negative(loss_of(name), tuple(x for x in pool(SIGNATURES[name].kinds[0]) if x))


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

    hunt(holds, drawn("logits", beyond=True), drawn("labels"), examples=30)


# --- planted faults: each property catches its own -------------------------------------------------------------------


def naive(z: jax.Array, c: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(jnp.log(jax.nn.softmax(z, -1)), c[:, None], -1)[:, 0]


def leaning(z: jax.Array, c: jax.Array) -> jax.Array:
    return lossjax.softmax_cross_entropy_with_integer_labels(z, c) + 1e-5 * jnp.sum(z, -1)


def textbook(p: jax.Array, q: jax.Array) -> jax.Array:
    return jnp.sum(p * (jnp.log(p) - jnp.log(q)), -1)


@pytest.mark.parametrize("check", [
    lambda: check_one_hot(compiled(naive, (0,)), of("softmax_cross_entropy")),
    lambda: check_gradient_sums_to_zero(compiled(leaning, (0,))),
    lambda: check_shift(compiled(leaning, (0,)), "labels"),
    lambda: check_never_negative(textbook, pool("probabilities")),
], ids=["one-hot", "sum", "shift", "negative"])  # fmt: skip
def test_a_planted_fault_is_caught(check: Callable[[], None]) -> None:
    with pytest.raises(AssertionError):
        check()
