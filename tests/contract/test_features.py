"""The table of docs/comparison.md: each "yes" of lossjax names the test that proves it, and the test exists."""

import ast
import re

from tests.support.paths import ROOT

TABLE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (?P<feature>[^|]+?) +\| (?P<lossjax>[^|]+?) +\|", re.MULTILINE)

PROOFS = {
    "integer labels, no one-hot in memory": (
        "losses/test_classification.py::test_labels_are_not_spread_over_the_classes"
    ),
    "soft targets": "contract/test_contract.py::test_accuracy",
    "right gradient for targets that do not sum to 1": (
        "losses/test_classification_accuracy.py::test_unnormalised_targets_have_their_true_gradient"
    ),
    "`ignore_index`, masks that hide anything": (
        "losses/test_classification_edges.py::test_masks_hide_bad_labels_and_bad_logits"
    ),
    "class weights, with their gradient": "contract/test_contract.py::test_accuracy_of_options",
    "label smoothing on integer labels, both conventions": "contract/test_contract.py::test_accuracy_of_options",
    "z-loss, with its coefficient's gradient": "contract/test_contract.py::test_accuracy_of_options",
    "log-sum-exp returned, differentiable": (
        "losses/test_classification_accuracy.py::test_the_second_results_have_gradients"
    ),
    "logit softcap and temperature, with their gradients": "contract/test_contract.py::test_accuracy_of_options",
    "reductions; a mean over nothing is 0": "contract/test_edges.py::test_edges_that_follow_from_the_signature",
    "any combination of these options": "contract/test_contract.py::test_accuracy_of_options",
    "focal, poly, generalised, Brier": "contract/test_contract.py::test_accuracy",
    "accuracy, entropy, KL and JS from logits": "contract/test_edges.py::test_edges",
    "forward mode": "contract/test_contract.py::test_rule_is_the_derivative_of_the_plain_formula",
    "second order": "contract/test_contract.py::test_second_order",
    "residuals: a few numbers a row beside the logits": (
        "losses/test_classification.py::test_nothing_but_numbers_a_row_is_kept_beside_the_logits"
    ),
    "few-ulp loss and label gradient": "losses/test_classification_accuracy.py::test_within_8_roundoffs",
    "16-bit logits lose nothing": "contract/test_contract.py::test_sixteen_bits",
    "a label out of range is NaN, in value and gradient": (
        "losses/test_classification_edges.py::test_a_label_out_of_range_is_NaN_in_its_row_only"
    ),
    "Hessian and Fisher products, no C×C matrix": "losses/test_curvature.py::test_no_square_matrix_is_in_memory",
    "gradients proven in ulps against exact arithmetic": "verify/test_certified.py::test_certified_as_recorded",
    "linear head fused, no logits in memory": "losses/test_linear_head.py::test_logits_are_never_stored",
    "classes of no weight skipped, the error bounded": (
        "losses/test_linear_head_skipping.py::test_the_error_is_within_the_bound_and_only_where_it_is_promised"
    ),
    "classes over devices": "losses/test_vocab_parallel.py::test_value_and_every_gradient",
}


def table() -> dict[str, str]:
    """What lossjax's column says of each feature."""
    part = TABLE.split("<!-- features -->")[1].split("<!-- end of features -->")[0]
    rows = {m["feature"]: m["lossjax"] for m in ROW.finditer(part)}
    rows.pop("feature")
    return {name: says for name, says in rows.items() if set(name) - set("-: ")}


def exists(node: str) -> bool:
    """Whether the file has a test of that name."""
    file, _, name = node.partition("::")
    path = ROOT / "tests" / file
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
    return any(isinstance(part, ast.FunctionDef) and part.name == name for part in tree.body)


def test_every_yes_of_the_table_has_its_proof() -> None:
    assert {name for name, says in table().items() if says == "yes"} == set(PROOFS)
    assert set(table().values()) == {"yes"}


def test_every_proof_exists() -> None:
    assert [node for node in PROOFS.values() if not exists(node)] == []


def test_a_missing_proof_is_seen() -> None:
    assert not exists("contract/test_features.py::test_nothing")
    assert not exists("contract/test_nothing.py::test_every_proof_exists")
