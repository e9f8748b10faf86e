"""What each loss refuses: a wrong dtype, a wrong shape, an option out of its range; and the message that it gives."""

import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

from lossjax.verify.samples import loss_of
from lossjax.verify.signatures import SIGNATURES
from tests.support.cases import CASES
from tests.support.draws import Family
from tests.support.quick import quick

ROWS, CLASSES = 3, 5
WRONG: dict[str, Any] = {
    "axis": 7, "where": np.ones((ROWS, CLASSES), np.int32), "b": np.int32(1),
    "reduction": "avg", "base": 0.5, "gamma": -1.0, "alpha": -1.0,
    "epsilon": "x", "q": 2.0, "delta": 0.0, "beta": -1.0, "level": 2.0, "degrees_of_freedom": -1.0,
    "log_scale": "x", "log_variance": "x", "pos_weight": -1.0, "class_weights": np.full(CLASSES, -1.0),
    "label_smoothing": 2.0,
    "smoothing": "x", "z_loss": -1.0, "logit_softcap": 0.0, "temperature": 0.0, "ignore_index": 1.5, "top_k": 0,
    "weights": np.ones((ROWS, CLASSES), np.int32), "normalizer": np.ones(2), "full": "False", "log_input": "False",
    "return_logsumexp": "False",
    "kind": "x", "clip": (-1.0, 0.2), "desirable": 1.0, "reference_kl": "x", "margin": "x",
    "weight": -1.0, "tail": "False", "mixture": 1.0,
}  # fmt: skip
REQUIRED = {
    "degrees_of_freedom": 1.0, "desirable": np.ones((ROWS, CLASSES), bool), "beta": 1.0, "margin": 1.0, "weight": 1.0,
}  # fmt: skip
"""Values of the options that have no default."""
FAMILY = Family("refusals", rows=ROWS, classes=CLASSES)
GOOD = {case.name: case.draw(FAMILY, np.float32)[: len(SIGNATURES[case.name].arguments)] for case in CASES}
"""Positional arguments that each function takes."""
GOOD["accuracy"] = GOOD["softmax_cross_entropy_with_integer_labels"]
GOOD["softmax_cross_entropy_hvp"] = (*GOOD["accuracy"], np.ones((ROWS, CLASSES), np.float32))


def refusals() -> list[Any]:
    """(loss, argument, its wrong value): a wrong dtype, a wrong shape, and each option out of its range."""
    table = []
    for name, good in GOOD.items():
        parameters = list(inspect.signature(loss_of(name)).parameters.values())
        for position, value in enumerate(good):
            table.append((name, position, parameters[position].name, value > 0))
            if position:
                table.append((name, position, parameters[position].name, value[:-1]))
        table += [(name, None, p.name, WRONG[p.name]) for p in parameters if p.kind == p.KEYWORD_ONLY]
        options = {p.name for p in parameters if p.kind == p.KEYWORD_ONLY}
        assert options <= set(WRONG), f"{name}: no wrong value for {options - set(WRONG)}"
    return [pytest.param(*row, id=f"{row[0]}-{row[2]}-{i}") for i, row in enumerate(table)]


@pytest.mark.parametrize(("name", "position", "argument", "value"), refusals())
def test_an_error_names_the_argument_what_came_and_what_was_wanted(
    name: str, position: int | None, argument: str, value: Any
) -> None:
    args = list(GOOD[name])
    parameters = inspect.signature(loss_of(name)).parameters.values()
    options = {p.name: REQUIRED[p.name] for p in parameters if p.kind == p.KEYWORD_ONLY and p.default is p.empty}
    if position is None:
        options[argument] = value
    else:
        args[position] = value
    with pytest.raises((TypeError, ValueError)) as caught:  # traced, since some options are looked at last
        jax.eval_shape(lambda: loss_of(name)(*args, **options))
    message = str(caught.value)
    aliases = {"labels": "targets", "targets": "labels"}  # one of the two is meant by what takes either
    assert argument in message or aliases.get(argument, argument) in message, message
    assert any(word in message for word in ("got", "has shape", "does not exist")), message
    assert any(word in message for word in ("must", "wanted", "use ")), message


@pytest.mark.parametrize("name", [name for name, good in GOOD.items() if any(a.dtype.kind == "i" for a in good)])
def test_checkify_names_the_label_and_its_row(name: str) -> None:
    z, c, *rest = GOOD[name]
    bad = c.copy()
    bad[1] = 9
    checked = quick(checkify.checkify(loss_of(name)))
    error, _ = checked(z, bad, *rest)
    assert "label 9 in row" in str(error.get())
    error, _ = checked(z, c, *rest)
    assert error.get() is None


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("value", [None, "cat"])
def test_what_is_no_array_is_named(name: str, value: Any) -> None:
    parameters = list(inspect.signature(loss_of(name)).parameters)
    options = {key: value for key, value in REQUIRED.items() if key in parameters}
    for position, argument in enumerate(parameters[: len(GOOD[name])]):
        args = list(GOOD[name])
        args[position] = value
        aliases = {"labels": "targets", "targets": "labels"}
        with pytest.raises(TypeError, match=f"^({argument}|{aliases.get(argument, argument)}) must be .*{value!r}"):
            loss_of(name)(*args, **options)


@pytest.mark.parametrize("name", GOOD)
def test_an_option_that_is_nothing_of_the_kind_is_named(name: str) -> None:
    """No word of JAX's or Python's own: what came may be a thing, a string, a ragged list, or a number beyond all."""
    parameters = inspect.signature(loss_of(name)).parameters
    options = {key: value for key, value in REQUIRED.items() if key in parameters}
    for argument in (p.name for p in parameters.values() if p.kind == p.KEYWORD_ONLY):
        for value in (object(), "cat", [[1.0, 2.0], [3.0]], {"a": 1.0}, np.ones(7, complex)):
            with pytest.raises((TypeError, ValueError), match=argument):
                loss_of(name)(*GOOD[name], **{**options, argument: value})


LOGITS, LABELS = np.zeros((ROWS, CLASSES, 2), np.float32), np.zeros((ROWS, 2), np.int32)
OF_LABELS = [name for name, s in SIGNATURES.items() if s.arguments == ("logits", "labels")]


@pytest.mark.parametrize("name", OF_LABELS)
def test_the_likeliest_remedy_is_named(name: str) -> None:
    loss = loss_of(name)
    with pytest.raises(ValueError, match="give axis=1"):
        loss(LOGITS, LABELS)
    assert loss(LOGITS, LABELS, axis=1).shape == LABELS.shape
    with pytest.raises(TypeError, match=r"logits must be floating-point.*the order is \(logits, labels\): swap"):
        loss(*GOOD[name][::-1])
    with pytest.raises(ValueError, match="one-hot rows"):
        loss(GOOD[name][0], GOOD[name][0].astype(np.int32))
    with pytest.raises(ValueError, match=re.escape("labels has shape (4,), wanted (3,) of the rows")):
        loss(GOOD[name][0], np.zeros(4, np.int32))


@pytest.mark.parametrize("name", OF_LABELS)
def test_ignore_index_may_be_an_array_and_traced(name: str) -> None:
    loss = loss_of(name)
    z, labels = GOOD[name]
    want = loss(z, labels, ignore_index=int(labels[0]))
    assert want[0] == 0
    for given in (np.int64(labels[0]), jnp.asarray(labels[0]), np.uint8(labels[0])):
        assert np.array_equal(loss(z, labels, ignore_index=given), want)
    traced = quick(lambda i: loss(z, labels, ignore_index=i))(labels[0])
    assert np.array_equal(traced == 0, want == 0)
    with pytest.raises(
        ValueError, match=r"ignore_index must be a number of the labels' dtype int32.*got 1099511627776"
    ):
        loss(z, labels, ignore_index=2**40)
    for wrong in (1.5, True, labels):
        with pytest.raises(TypeError, match="ignore_index must be one integer, got"):
            loss(z, labels, ignore_index=wrong)
