"""Every loss meets the contract; and the contract catches what it is there to catch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import lossjax
from lossjax._autodiff import closed_form
from tests import contract
from tests.cases import CASES, FAMILIES, OPTION_CASES, Case, Family, labelled, of_labels

MODERATE = Family("moderate", rows=3, classes=5, scale=2.0)
EVERY_CASE = pytest.mark.parametrize("case", CASES + OPTION_CASES, ids=lambda c: c.name)
PER_ROW = pytest.mark.parametrize("case", [c for c in CASES + OPTION_CASES if c.per_row], ids=lambda c: c.name)


@pytest.mark.parametrize("family", [MODERATE, FAMILIES[0], FAMILIES[1], FAMILIES[3]], ids=lambda f: f.name)
@EVERY_CASE
def test_rule_is_the_derivative_of_the_plain_formula(case: Case, family: Family) -> None:
    contract.assert_rule_is_derivative(case, family)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("case", "family"), [(c, f) for c in CASES for f in c.families], ids=lambda x: x.name
)
def test_accuracy(case: Case, family: Family, dtype: type) -> None:
    contract.assert_accurate(case, family, dtype)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_sixteen_bits(case: Case, dtype: type) -> None:
    contract.assert_narrow(case, MODERATE, dtype)


@pytest.mark.parametrize("name", contract.TRANSFORMATIONS)
@EVERY_CASE
def test_transformation(case: Case, name: str) -> None:
    contract.assert_transforms(case, MODERATE, name)


@pytest.mark.parametrize("name", contract.SECOND_ORDER)
@EVERY_CASE
def test_second_order(case: Case, name: str) -> None:
    contract.assert_second_order(case, MODERATE, name)


@PER_ROW
def test_vmap(case: Case) -> None:
    contract.assert_maps(case, MODERATE)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["automatic", "explicit"])
@PER_ROW
def test_shard_map(case: Case, axis_type: AxisType) -> None:
    contract.assert_shards(case, MODERATE, axis_type)
