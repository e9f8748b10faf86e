"""What options do at the edges of the cross-entropies: undefined rows, bad labels, masks, impossible classes.

The edges without options are lines of ``tests/support/edges.py``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

from lossjax import sigmoid_cross_entropy, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from tests.support.quick import quick

INF, NAN = np.inf, np.nan
U = 2.0**-24
Loss = Callable[..., jax.Array]


def _as_target(z: jax.Array, labels: jax.Array, **options: Any) -> jax.Array:
    hot = jax.nn.one_hot(labels, z.shape[-1], dtype=z.dtype)
    return softmax_cross_entropy(z, hot, **options)


FORMS: dict[str, Loss] = {"label": softmax_cross_entropy_with_integer_labels, "one-hot": _as_target}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
FORM = pytest.mark.parametrize("form", FORMS)

S1, S2 = 1 / (1 + np.e), np.e / (1 + np.e)  # softmax(1, 2)


def _pulled(loss: Loss, z: jax.Array, *rest: Any, **options: Any) -> tuple[jax.Array, jax.Array]:
    value, pullback = jax.vjp(lambda z: loss(z, *rest, **options), z)
    return value, pullback(jnp.ones_like(value))[0]


def _both(loss: Loss, z: jax.Array, *rest: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    value, gradient = quick(lambda z, *rest: _pulled(loss, z, *rest, **options))(z, *rest)
    return np.asarray(value), np.asarray(gradient)


@DTYPES
@FORM
def test_a_loss_beyond_the_largest_float_is_infinite(form: str, dtype: Any) -> None:
    with jax.enable_x64(dtype == np.float64):
        huge = 0.9 * float(np.finfo(dtype).max)
        value, gradient = _both(FORMS[form], jnp.asarray([[huge, -huge]], dtype), jnp.int32([1]))
        assert value == INF
        assert np.array_equal(gradient, [[1, -1]])


@pytest.mark.parametrize("k", [1, 2, 3, 7, 1000])
def test_a_tie_of_k_is_log_k(k: int) -> None:
    all_tied = np.full((1, k), 1e4, np.float32)
    with_others = np.pad(np.zeros((1, k), np.float32), ((0, 0), (0, 3)), constant_values=-INF)
    label = np.zeros(1, np.int32)
    for found in jax.jit(lambda *z: [loss(row, label) for loss in FORMS.values() for row in z])(all_tied, with_others):
        assert abs(float(found[0]) - np.log(k)) <= 2 * U * np.log(k)


@FORM
@pytest.mark.parametrize(
    "options",
    [{"label_smoothing": 0.1}, {"z_loss": 0.1}, {"temperature": 2.0}, {"class_weights": [1.0, 2.0, 0.5]}],
    ids=str,
)
def test_an_undefined_row_is_NaN_with_every_option(form: str, options: dict[str, Any]) -> None:
    options = {k: jnp.float32(v) if isinstance(v, list) else v for k, v in options.items()}
    z = jnp.float32([[NAN, 1, 2], [INF, INF, 0], [-INF, -INF, -INF], [1, 2, 3]])
    value, gradient = _both(FORMS[form], z, jnp.int32([0, 2, 1, 1]), **options)
    assert np.array_equal(np.isnan(value), [True, True, True, False])
    assert np.array_equal(np.isnan(gradient), [[True] * 3] * 3 + [[False] * 3])


@FORM
def test_a_class_of_zero_weight_does_not_silence_an_undefined_row(form: str) -> None:
    """The two forms agree at every edge, and NaN logits give NaN."""
    z = jnp.float32([[NAN, 1, 2], [INF, INF, 0], [-INF, -INF, -INF], [-INF, 1, 2]])
    value, gradient = _both(FORMS[form], z, jnp.int32([0, 0, 0, 0]), class_weights=jnp.float32([0, 1, 2]))
    assert np.array_equal(value, [NAN, NAN, NAN, 0], equal_nan=True)
    assert np.isnan(gradient[:3]).all()
    assert not gradient[3].any()


@FORM
def test_z_loss_of_a_certain_row(form: str) -> None:
    """λ·lse² is +inf where a logit is; its slope is +inf there and, as lse·p_j vanishes, 0 elsewhere."""
    value, gradient = _both(FORMS[form], jnp.float32([[INF, 1, 2]]), jnp.int32([0]), z_loss=0.1)
    assert value == INF
    assert np.array_equal(gradient, [[INF, 0, 0]])


@FORM
def test_smoothing_onto_an_impossible_class_is_infinite_with_finite_gradient(form: str) -> None:
    value, gradient = _both(FORMS[form], jnp.float32([[1, 2, -INF]]), jnp.int32([0]), label_smoothing=0.3)
    assert value == INF
    assert np.allclose(gradient, [[S1 - 0.8, S2 - 0.1, -0.1]], rtol=32 * U, atol=0)


@pytest.mark.parametrize("options", [
    {}, {"label_smoothing": 0.2}, {"label_smoothing": 1.0, "smoothing": "others"}, {"z_loss": 0.3},
    {"logit_softcap": 3.0}, {"temperature": 0.7}, {"reduction": "mean"},
    {"reduction": "sum", "z_loss": 0.1, "label_smoothing": 0.1, "logit_softcap": 9.0},
], ids=str)  # fmt: skip
def test_integer_and_one_hot_labels_agree(options: dict[str, Any], random: np.random.Generator) -> None:
    with jax.enable_x64(True):
        z = jnp.asarray(random.normal(size=(7, 5)) * 4)
        labels = jnp.asarray(random.integers(0, 5, 7))
        got, want = (quick(lambda z, c, f=f: _pulled(f, z, c, **options))(z, labels) for f in FORMS.values())
        for a, b in zip(got, want, strict=True):
            assert np.allclose(a, b, rtol=1e-13, atol=1e-14)


WEIGHTS = np.float32([1, 2, 0.5])
BAD_LABELS: dict[str, dict[str, Any]] = {
    "none": {},
    "weights": {"class_weights": WEIGHTS},
    "weights and z-loss": {"class_weights": WEIGHTS, "z_loss": 0.1},
    "smoothing": {"label_smoothing": 0.1},
    "others": {"label_smoothing": 0.1, "smoothing": "others"},
    "all": {"class_weights": WEIGHTS, "z_loss": 0.1, "label_smoothing": 0.1, "temperature": 2.0, "logit_softcap": 5.0},
}  # fmt: skip


@pytest.mark.parametrize("options", BAD_LABELS)
def test_a_label_out_of_range_is_NaN_in_its_row_only(options: str, random: np.random.Generator) -> None:
    def loss(z: jax.Array, labels: jax.Array, how: str) -> jax.Array:
        return softmax_cross_entropy_with_integer_labels(z, labels, reduction=how, **BAD_LABELS[options])

    z = jnp.asarray(random.normal(size=(4, 3)), jnp.float32)
    both = quick(lambda z, labels: (loss(z, labels, "none"), *jax.value_and_grad(lambda z: loss(z, labels, "sum"))(z)))
    for bad in (-1, -100, 3, 2**31 - 1, -(2**31)):
        value, total, gradient = both(z, jnp.int32([0, bad, 2, 1]))
        assert np.array_equal(np.isnan(value), [False, True, False, False]), f"label {bad}: {value}"
        assert np.array_equal(np.isnan(gradient), [[False] * 3, [True] * 3, [False] * 3, [False] * 3]), (
            f"label {bad}: {gradient}"
        )
        assert np.isnan(total)
    assert np.isnan(loss(z, jnp.int32([0, -1, 2, 1]), "mean"))


@pytest.mark.parametrize(("jitted", "differentiated"), [(True, False), (True, True), (False, True)])
def test_checkify_names_the_label_and_its_row(jitted: bool, differentiated: bool) -> None:
    def loss(z: jax.Array, labels: jax.Array) -> jax.Array:
        return softmax_cross_entropy_with_integer_labels(z, labels, ignore_index=-100, reduction="mean")

    checked = checkify.checkify(jax.grad(loss) if differentiated else loss)
    checked = quick(checked) if jitted else checked
    z = jnp.zeros((2, 3, 5), jnp.float32)
    error, _ = checked(z, jnp.int32([[0, -100, 4], [2, 17, -3]]))
    assert "label 17 in row 4" in str(error.get())
    error, _ = checked(z, jnp.int32([[0, -100, 4], [2, 1, -100]]))
    assert error.get() is None


def test_masks_hide_bad_labels_and_bad_logits() -> None:
    z = jnp.float32([[1, 2, 4], [NAN, INF, INF], [0, 1, 0], [3, 1, 2]])
    labels = jnp.int32([2, 9, -100, 0])
    where = jnp.array([True, False, True, True])
    value, gradient = _both(softmax_cross_entropy_with_integer_labels, z, labels, where=where, ignore_index=-100)
    want, slope = _both(softmax_cross_entropy_with_integer_labels, z[jnp.array([0, 3])], labels[jnp.array([0, 3])])
    assert np.array_equal(value, [want[0], 0, 0, want[1]])
    assert np.array_equal(gradient, [slope[0], [0, 0, 0], [0, 0, 0], slope[1]])
    mean = softmax_cross_entropy_with_integer_labels(z, labels, where=where, ignore_index=-100, reduction="mean")
    assert abs(float(mean) - want.mean()) <= 4 * U * want.mean()
    _, lse = softmax_cross_entropy_with_integer_labels(z, labels, where=where, ignore_index=-100, return_logsumexp=True)
    assert np.array_equal(np.asarray(lse) == 0, [False, True, True, False])


def test_ignore_index_may_be_a_class() -> None:
    """As in PyTorch: an ignored class is masked, though it is in range."""
    z = jnp.zeros((3, 4), jnp.float32)
    value = softmax_cross_entropy_with_integer_labels(z, jnp.int32([0, 2, 3]), ignore_index=2)
    assert np.array_equal(np.asarray(value) == 0, [False, True, False])


def test_a_positive_weight_of_0_at_an_infinite_logit() -> None:
    """w = 0, y = 1: nothing is left of the loss, w·softplus(-z) - softplus(z) included."""
    value, pullback = jax.vjp(
        lambda z, y: sigmoid_cross_entropy(z, y, pos_weight=0.0), jnp.float32([-INF, 5]), jnp.float32([1, 1])
    )
    in_z, in_y = pullback(jnp.float32([1, 2]))
    assert not np.any(value)
    assert not np.any(in_z)
    assert np.allclose(in_y, [0, -2 * np.logaddexp(0, 5)], rtol=8 * U, atol=0)
