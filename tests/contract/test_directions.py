"""Every loss keeps its digits in every single direction: one-hot, sparse, huge and tiny, both modes, second order."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax import geometry
from lossjax._core.autodiff import closed_form
from lossjax._softmax import functions
from lossjax._softmax.row_statistics import row_statistics
from lossjax.verify import oracle
from lossjax.verify.signatures import SIGNATURES
from lossjax.verify.ulp import Balls
from tests.support.cases import CASE, CASES, Case
from tests.support.directions import assert_accurate_in_every_direction
from tests.support.draws import FAMILIES, Family, arguments_of, labelled
from tests.support.truths import Truth, centered_terms, of_labels, of_log_softmax

FAMILY = {family.name: family for family in FAMILIES}
WIDE = FAMILY["wide"]
OF_ROWS = [c for c in CASES if SIGNATURES[c.name].kinds[0] in ("logits", "probabilities", "vectors") and c.per_row]
OF_ENTRIES = [c for c in CASES if c.per_row and c not in OF_ROWS]
"""Their Jacobian is diagonal, and nothing in it can cancel between classes."""
TO_SECOND_ORDER = (
    "softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy", "logsumexp", "log_softmax",
)  # fmt: skip
"""Each entry of their Hessian is one product, p_j (δ_jk - p_k), and is accurate by itself."""


def _from_one_hot(z: Balls) -> tuple[Balls, Balls]:
    """p, and |δ_jk - p_k| without a subtraction from 1, at [..., j, k]."""
    p = oracle.softmax(z)
    away = np.broadcast_to(p[..., None, :], (*p.shape, p.shape[-1])).copy()
    for k in range(p.shape[-1]):
        away[..., k, k] = oracle.total(np.delete(p, k, axis=-1))
    return p, away


def terms_of_softmax(z: Balls, c: int, k: int) -> Balls:
    """Of ``p_c ((δ_cl - p_l) (δ_ck - p_k) - p_l (δ_lk - p_k))``."""
    p, away = _from_one_hot(z)
    return p[..., c, None] * (away[..., c, :] * away[..., c, k, None] + p * away[..., :, k])


def terms_of_entropy(z: Balls, _: int, k: int) -> Balls:
    """Of ``-p_l (δ_lk - p_k) (s_l + 1) + p_l p_k s_k``, with s = log p + H."""
    p, away = _from_one_hot(z)
    log_p = oracle.log(p)
    size = abs(log_p) - oracle.total(p * log_p)[..., None]
    return p * (away[..., :, k] * (1 + size) + p[..., k, None] * size[..., k, None])


OF_TERMS = {"softmax": terms_of_softmax, "softmax_entropy": terms_of_entropy}
"""Each entry of their Hessian is a difference, judged by what is subtracted."""


@pytest.mark.parametrize(
    ("case", "dtype"),
    [pytest.param(c, np.float32, id=c.name) for c in OF_ROWS]
    + [
        pytest.param(
            CASE[name], np.float64, id=f"{name}-float64", marks=[] if name == "log_softmax" else [pytest.mark.slow]
        )
        for name in TO_SECOND_ORDER
    ]
    + [pytest.param(c, np.float32, id=c.name, marks=pytest.mark.slow) for c in OF_ENTRIES],
)
def test_every_direction(case: Case, dtype: type) -> None:
    """In the family where more cancels; ``make verify`` asks for one-hot cotangents at usual numbers."""
    family = next(f for f in (WIDE, FAMILY["normal"]) if f in case.families)
    terms = OF_TERMS.get(case.name)
    assert_accurate_in_every_direction(
        case, family, dtype, second=case.name in (*TO_SECOND_ORDER, *OF_TERMS), terms_of_second=terms
    )


def of_fisher_product(g: Balls, z: Balls, v: Balls) -> Truth:
    p = oracle.softmax(z)
    return [
        (p * (v - oracle.total(p * v)[..., None]), None),
        (p * (g - oracle.total(p * g)[..., None]), p * centered_terms(p, g)),
    ]


def of_aitchison_sum(g: Balls, p: Balls, q: Balls) -> Truth:
    mass = oracle.total(p * q)[..., None]
    r = p * q / mass
    centered = g - oracle.total(r * g)[..., None]
    return [(r, None), *((centered * x / mass, centered_terms(r, g) * x / mass) for x in (q, p))]


PRODUCTS = {
    geometry.softmax_fisher_vector_product: (arguments_of("logits", "scores"), (1,), of_fisher_product, 24),
    # 8u(1 + max|log p| + max|log q|), of probabilities above e^-12
    geometry.aitchison_add: (arguments_of("probabilities", "probabilities"), (0, 1), of_aitchison_sum, 200),
}


@pytest.mark.parametrize("case", [Case(f.__name__, f, *rest) for f, rest in PRODUCTS.items()], ids=lambda c: c.name)
def test_every_direction_of_a_product(case: Case) -> None:
    family = WIDE if case.argnums == (1,) else FAMILY["normal"]
    assert_accurate_in_every_direction(case, family, np.float32)


# --- the question cannot be passed with the trap ---------------------------------------------------------------------


def _slope_forward(z: jax.Array, t: jax.Array) -> tuple[jax.Array, Any]:
    return functions.cross_entropy_slope(z, row_statistics(z).stopped(), t), (z, t)


def _slope_backward(saved: Any, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    z, t = saved
    expected = jnp.sum(lossjax.softmax(z) * cotangent, axis=-1, keepdims=True)
    product = jnp.sum(t, axis=-1, keepdims=True) * geometry.softmax_fisher_vector_product(z, cotangent)
    return product, expected - cotangent  # right on paper; near p = 1 its terms cancel


_trapped_slope = closed_form(_slope_forward, _slope_backward)


def test_an_accurate_backward_pass_whose_transpose_cancels_is_caught() -> None:
    """The cotangent goes into a rule: accurate, linear in the cotangent, and transposed to what cancels."""
    rule = closed_form(lambda z: (lossjax.log_softmax(z), z), lambda z, g: (-_trapped_slope(z, g),))
    case = Case("trapped log_softmax", rule, arguments_of("logits"), (0,), of_log_softmax, 13)
    with pytest.raises(AssertionError, match=r"trapped log_softmax.*is off by"):
        assert_accurate_in_every_direction(case, WIDE, np.float32)


def test_a_loss_whose_transpose_cancels_is_caught() -> None:
    """``slope(z, cotangent·target)`` of CONTRIBUTING: right in reverse mode of a dense cotangent."""

    def forward(z: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
        return lossjax.softmax_cross_entropy_with_integer_labels(z, labels), (z, labels)

    def backward(saved: Any, g: jax.Array) -> tuple[jax.Array, None]:
        z, labels = saved
        return _trapped_slope(z, g[:, None] * jax.nn.one_hot(labels, z.shape[-1], dtype=z.dtype)), None

    case = Case("trapped loss", closed_form(forward, backward), labelled, (0,), of_labels)
    with pytest.raises(AssertionError, match=r"trapped loss.*is off by"):
        assert_accurate_in_every_direction(case, FAMILY["confident"], np.float32)


def test_a_second_derivative_that_cancels_is_caught() -> None:
    """About its label a row's other classes have no accurate 1 - p."""

    def forward(z: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
        return lossjax.softmax_cross_entropy_with_integer_labels(z, labels), (z, labels)

    def backward(saved: Any, g: jax.Array) -> tuple[jax.Array, None]:
        z, labels = saved
        p = jax.nn.softmax(z)
        return g[:, None] * jnp.where(jax.nn.one_hot(labels, z.shape[-1], dtype=bool), -_others(p, labels), p), None

    def _others(p: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(jax.nn.one_hot(labels, p.shape[-1], dtype=bool), 0, p), axis=-1, keepdims=True)

    small = Family("wide", scale=8.0)
    case = Case("trapped second order", closed_form(forward, backward), labelled, (0,), of_labels, 40)
    assert_accurate_in_every_direction(case, small, np.float32)
    with pytest.raises(AssertionError, match="second order"):
        assert_accurate_in_every_direction(case, small, np.float32, second=True)
