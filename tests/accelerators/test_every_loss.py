"""Every public loss as a program for a GPU: exported once, with symbolic sizes where it has them, and compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import lossjax
from lossjax.accelerators import compiled_for, suite
from lossjax.verify import samples
from tests.accelerators.test_programs import chip_or_skip
from tests.contract.test_programs import PLATFORMS, SUBJECTS, symbolic, value_and_slopes

pytestmark = pytest.mark.accelerators


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_loss_is_compiled_for_a_gpu(name: str) -> None:
    """Value and gradients; what is exported for all platforms is what a chip's compiler is given."""
    chip = chip_or_skip("h100")
    loss, argnums, args = SUBJECTS[name]
    program = jax.jit(lambda *a: value_and_slopes(loss, argnums, *a))
    exported = export.export(program, platforms=PLATFORMS)(*symbolic(args))
    facts = compiled_for(chip, exported.call, *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in args))
    assert facts.kernels
    assert not facts.collectives


@pytest.mark.parametrize("what", suite.PASSES)
@pytest.mark.parametrize("name", ["v5e", "h100"])
def test_tokens_of_many_sequences_are_rows(name: str, what: suite.Pass) -> None:
    """Logits ``[batch, length, classes]`` move what as many rows move."""
    chip = chip_or_skip(name)
    shape = (16, 512, suite.SHAPE[1])
    given = jax.ShapeDtypeStruct(shape, jnp.bfloat16), jax.ShapeDtypeStruct(shape[:-1], jnp.int32)
    program: Any = suite.program_of(lossjax.softmax_cross_entropy_with_integer_labels, what)
    facts = compiled_for(chip, program, *given)
    assert facts.moved / (2 * np.prod(shape)) <= suite.CASES["labels"].allowed(chip, what) + suite.ALLOWANCE


OF_ENTRIES = (
    "gaussian_nll", "hinge_loss", "huber_loss", "laplace_nll", "log_cosh", "perceptron_loss", "poisson_nll",
    "policy.clipped_loss", "policy.sampled_kl", "pseudo_huber_loss", "quantile_loss", "sigmoid_cross_entropy",
    "sigmoid_focal_loss", "smooth_l1_loss", "squared_error",
)  # fmt: skip
OF_ROWS = "cross_entropy", "entropy", "js_divergence", "jeffreys_divergence", "kl_divergence"
"""Whose rows are NaN as a whole: a gradient reads them after the value has."""


@pytest.mark.parametrize(
    ("chip", "name"), [*(("h100", name) for name in (*OF_ENTRIES, *OF_ROWS)), *(("v5e", name) for name in OF_ROWS)]
)
def test_nothing_is_stored_that_value_and_gradient_have_in_common(chip: str, name: str) -> None:
    """A value reads its arguments once; with its gradient it reads them as often, or once more, and writes once."""
    shape = (4096, 2048)
    drawn = samples.sample(name, np.float32, (6, shape[1]))
    shapes = [
        jax.ShapeDtypeStruct(tuple(shape[0] if n == 6 else n for n in np.shape(a)), "float32") for a in drawn.arguments
    ]

    def mean(*arguments: Any) -> Any:
        return jnp.mean(drawn.loss(*arguments))

    arrays, position = sum(s.size for s in shapes) / np.prod(shape), drawn.argnums[0]
    value, both = (
        compiled_for(chip_or_skip(chip), f, *shapes).moved / np.prod(shape) / 4
        for f in (mean, jax.value_and_grad(mean, position))
    )
    assert value <= arrays + suite.ALLOWANCE
    assert both <= arrays * (2 if name in OF_ROWS else 1) + 1 + suite.ALLOWANCE


@pytest.mark.parametrize(("tokens", "tail"), [(2, False), (2, True), (16, False)])
def test_a_few_sparse_targets_are_compared_and_not_scattered(tokens: int, tail: bool) -> None:
    """In 16 bits, where what is scattered into is a second array, of 32."""
    shape = 4096, 32_768
    given = [((*shape[:1], tokens), dtype) for dtype in ("int32", "float32")]
    shapes = [jax.ShapeDtypeStruct(*one) for one in ((shape, "bfloat16"), *given)]

    def mean(*arguments: Any) -> Any:
        return lossjax.softmax_cross_entropy_with_sparse_targets(*arguments, tail=tail, reduction="mean")

    value, both = (compiled_for(chip_or_skip("h100"), f, *shapes) for f in (mean, jax.value_and_grad(mean)))
    logits = 2 * np.prod(shape)
    assert value.moved <= 1.1 * logits
    assert both.moved <= 3.1 * logits
    assert both.temporary <= 0.1 * logits
