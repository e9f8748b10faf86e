"""Losses compiled by the compilers of TPUs and GPUs; `make accelerators` runs these, with the compilers installed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import lossjax
from lossjax.accelerators import CHIPS, NotPossible, chips, compiled_for, heads, suite

pytestmark = pytest.mark.accelerators


def chip_or_skip(name: str) -> chips.Chip:
    missing = chips.lacking(CHIPS[name])
    if missing is not None:
        pytest.skip(missing)
    return CHIPS[name]


@pytest.mark.parametrize("what", suite.PASSES)
@pytest.mark.parametrize("dtype", suite.DTYPES)
@pytest.mark.parametrize("name", CHIPS)
def test_a_cross_entropy_reads_its_logits_once(name: str, dtype: str, what: suite.Pass) -> None:
    """Once for a value; once more for the gradient, which is written; in no more memory than a part of the logits."""
    chip = chip_or_skip(name)
    ours = suite.rows(chip, "labels", what, dtype, beside_optax=False)[0]
    assert ours.ok, ours
    assert ours.temporary < 0.1 * np.prod(suite.SHAPE) * jnp.dtype(dtype).itemsize


@pytest.mark.parametrize("case", suite.CASES)
@pytest.mark.parametrize("name", ["h100"])
def test_every_case_keeps_within_its_limit(name: str, case: str) -> None:
    chip = chip_or_skip(name)
    for what in suite.PASSES:
        ours = suite.rows(chip, case, what, "float32", beside_optax=False)[0]
        assert ours.ok, ours


def test_what_two_sums_have_in_common_would_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The symptom that ``xla.written_down`` cures: without it an array of probabilities is written, and read twice."""
    chip = chip_or_skip("h100")
    from lossjax._rules import logit_pairs

    monkeypatch.setattr(logit_pairs, "written_down", lambda numbers: numbers)
    jax.clear_caches()
    naive = suite.rows(chip, "KL of logits", "value", "float32", beside_optax=False)[0]
    jax.clear_caches()
    assert naive.units > 6, f"{naive}: xla.written_down can go"


def _from_three_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    from lossjax._softmax import one_pass

    statistics = one_pass.statistics
    monkeypatch.setattr(one_pass, "statistics", lambda *given, one_operand, **how: statistics(*given, **how))


def _of_one_softcap(monkeypatch: pytest.MonkeyPatch) -> None:
    from lossjax._softmax import transform

    monkeypatch.setattr(transform, "known_anew", lambda numbers: numbers)


@pytest.mark.parametrize("naive_way", [_from_three_operands, _of_one_softcap])
def test_a_capped_logit_would_be_stored(naive_way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The symptoms of two operands that are made of a tanh, and of a tanh that two passes have in common."""
    chip = chip_or_skip("h100")
    naive_way(monkeypatch)
    jax.clear_caches()
    naive = suite.rows(chip, "labels, softcap", "value and gradient", "float32", beside_optax=False)[0]
    jax.clear_caches()
    assert naive.units > 3.5, naive


def test_a_root_that_marks_what_is_undefined_would_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The symptom that ``xla.unstored_nan_unless`` cures."""
    chip = chip_or_skip("b200")
    from lossjax._core import domains, masks

    monkeypatch.setattr(domains, "unstored_nan_unless", masks.nan_unless)
    jax.clear_caches()
    naive = suite.rows(chip, "binary labels", "value and gradient", "float32", beside_optax=False)[0]
    jax.clear_caches()
    assert naive.units > 5, f"{naive}: xla.unstored_nan_unless can go"


@pytest.mark.parametrize("case", heads.HEADS)
@pytest.mark.parametrize("name", CHIPS)
def test_a_head_holds_the_sum_of_its_slopes_and_two_blocks(name: str, case: str) -> None:
    """And takes no longer, by the bytes that it moves, than its products and half as much again."""
    if case not in heads.EVERYWHERE and name not in ("v5e", "h100"):
        pytest.skip("of each compiler one chip is asked")
    ours = heads.rows(chip_or_skip(name), case, "bfloat16", beside_stored=False)[0]
    assert ours.ok, ours.complaint
    assert ours.milliseconds < 1.7 * ours.plan.products_ms * heads.HEADS[case].heads, ours


@pytest.mark.parametrize("name", ["v5e", "h100"])
def test_a_formula_for_a_cpu_would_be_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: what asks the process for its backend compiles the host's formula into the chip's program."""
    chip = chip_or_skip(name)
    from lossjax._softmax import row_statistics

    def by_backend(*arguments: Any, cpu: Any, accelerator: Any, **_: Any) -> Any:
        return (cpu if jax.default_backend() == "cpu" else accelerator)(*arguments)

    jax.clear_caches()
    monkeypatch.setattr(row_statistics, "by_platform", by_backend)
    assert not suite.rows(chip, "labels", "value", "float32", beside_optax=False)[0].ok
    jax.clear_caches()


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["automatic", "explicit"])
def test_split_classes_are_not_gathered(kind: AxisType) -> None:
    """On four devices of a v5e, a few numbers a row cross."""
    chip = chip_or_skip("v5e")
    mesh = Mesh(np.array(chips.devices(chip)), ("devices",), axis_types=(kind,))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        logits = jax.ShapeDtypeStruct((1024, 32768), jnp.float32, sharding=NamedSharding(mesh, P(None, "devices")))
        labels = jax.ShapeDtypeStruct((1024,), jnp.int32, sharding=NamedSharding(mesh, P()))
        facts = compiled_for(chip, lossjax.softmax_cross_entropy_with_integer_labels, logits, labels)
    assert facts.moved < 1.2 * 1024 * 32768 * 4 / 4
    assert facts.collectives
    assert facts.temporary < 2**20


def test_a_program_is_compiled_a_second_time() -> None:
    """Although JAX keeps what it compiles: the program of a chip cannot be loaded without it."""
    chip = chip_or_skip("h100")
    logits = jax.ShapeDtypeStruct((256, 512), jnp.float32)
    first = compiled_for(chip, lossjax.logsumexp, logits)
    jax.clear_caches()
    assert compiled_for(chip, lossjax.logsumexp, logits) == first
    assert jax.config.values["jax_enable_compilation_cache"]


@pytest.mark.parametrize("rows", [2**17, 10**14], ids=["large", "more rows than JAX can count"])
@pytest.mark.parametrize(("name", "gigabytes"), [("v5e", 16), ("h100", 80)])
def test_what_does_not_fit_is_said_in_a_sentence(name: str, gigabytes: int, rows: int) -> None:
    chip = chip_or_skip(name)
    shapes = jax.ShapeDtypeStruct((rows, 2**18), jnp.float32), jax.ShapeDtypeStruct((rows,), jnp.int32)
    with pytest.raises(NotPossible, match=rf"\({rows}, 262144\) float32.*too large for the {gigabytes} GB of {name}"):
        compiled_for(chip, lossjax.softmax_cross_entropy_with_integer_labels, *shapes)


def test_what_the_arguments_leave_no_room_for_is_said_in_a_sentence() -> None:
    """The arguments alone would fit."""
    chip = chip_or_skip("h100")
    logits = jax.ShapeDtypeStruct((2**17, 2**17), jnp.float32)
    with pytest.raises(NotPossible, match=r"too large for the 80 GB of h100"):
        compiled_for(chip, lambda z: (z + 1) @ z, logits)


@pytest.mark.parametrize(
    ("topology", "data", "classes"),
    [("v5p:2x2x1", 1, 4), ("v5p:2x2x4", 4, 4), ("v5p:8x8x16", 128, 8)],
    ids=["4 devices", "16 devices", "1024 devices"],
)
def test_a_head_over_devices_gathers_nothing(topology: str, data: int, classes: int) -> None:
    """Rows over one axis, classes over the other: all that crosses is summed."""
    chip = chip_or_skip("v5p")
    devices = np.array(chips.devices(chip, topology)).reshape(data, classes)
    mesh = Mesh(devices, ("data", "class"), axis_types=(AxisType.Auto,) * 2)

    def mean(hidden: Any, weight: Any, labels: Any) -> Any:
        losses = lossjax.vocab_parallel_linear_softmax_cross_entropy(hidden, weight, labels, axis_name="class")
        return jax.lax.pmean(jnp.mean(losses), "data")

    specs = P("data"), P(None, "class"), P("data")
    shapes = ((4096 * data, 2048), jnp.bfloat16), ((2048, 65536), jnp.bfloat16), ((4096 * data,), jnp.int32)
    given = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
        for (shape, dtype), spec in zip(shapes, specs, strict=True)
    ]
    over = jax.shard_map(mean, mesh=mesh, in_specs=specs, out_specs=P())
    facts = compiled_for(chip, jax.value_and_grad(over, (0, 1)), *given)
    assert {kind.split(" of ")[0] for kind in facts.collectives} == {"all-reduce"}
    assert "all-reduce of bf16" not in facts.collectives, "16-bit gradients are summed in float32"
    block, slope = 4096 * 65536 // classes * 4, 2048 * 65536 // classes * 4  # of the logits and of the weight, float32
    assert facts.temporary < 3 * block + slope
