"""Heads in larger programs: rows over devices stay where they are; exported for every chip, sizes unknown."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import lossjax
from lossjax._softmax import head
from lossjax.accelerators.text import Program
from tests.support.compiled import collectives
from tests.support.heads import CASES, CLASSES, HEADS, MASK, NEVER_REDUCED, OTHER, WIDTH, Arrays, drawn, listed
from tests.support.quick import quick

OWN = ("hidden", "other_hidden", "weights", "probabilities", "classes")
"""What each row has of its own."""


def squares(name: str, a: Arrays, *, stored: bool = False, **options: Any) -> jax.Array:
    """A number whose derivative in each result is another one; of the stored logits, whose program is a short one."""
    return sum((jnp.sum(x * x) for x in jax.tree.leaves(HEADS[name][stored](a, **options))), jnp.float32(0))


def given() -> tuple[Arrays, Arrays]:
    """The floats, and the classes."""
    a = drawn(np.float32)
    return a, {"classes": listed(a)}


@pytest.mark.covering
@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "automatic"])
@pytest.mark.parametrize(("name", "how"), [case for case in CASES if case[0] != "js"])
def test_a_batch_that_is_sharded_stays_where_it_is(name: str, how: str, kind: AxisType) -> None:
    """Under plain ``jax.jit``: only sums cross, of what rows share, of losses and of counts.

    Of the two divergences, whose rows are spread by the same code, the smaller program.
    """
    reduced = {} if name in NEVER_REDUCED else {"reduction": how}

    def slopes(floats: Arrays, classes: Arrays, where: jax.Array, **form: Any) -> Any:
        masked = {} if name == "any loss" else {"where": where}
        return jax.value_and_grad(lambda a: squares(name, a | classes, **masked, **reduced, **form))(floats)

    floats, classes = given()
    want = quick(functools.partial(slopes, stored=True))(floats, classes, jnp.asarray(MASK))
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind,))
    with jax.set_mesh(mesh):

        def placed(arrays: Arrays) -> Arrays:
            spec = {n: P("batch") if n in OWN else P() for n in arrays}
            return {n: jax.device_put(np.asarray(x), NamedSharding(mesh, spec[n])) for n, x in arrays.items()}

        args = placed(floats), placed(classes), jax.device_put(MASK, NamedSharding(mesh, P("batch")))
        program = quick(functools.partial(slopes, chunk_size=4)).lower(*args).compile()
        got = program(*args)
        assert got[1]["hidden"].sharding.is_equivalent_to(args[0]["hidden"].sharding, 3)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=0, atol=256 * 2.0**-24 * max(1, np.max(np.abs(w))))
    moved = collectives(program.as_text() or "")
    assert {name for name, _ in moved} == {"all-reduce"}, moved
    assert all(count <= (WIDTH + OTHER + 2) * CLASSES + 8 for _, count in moved), moved


@pytest.mark.covering
@pytest.mark.parametrize(("name", "how"), CASES)
def test_exported_with_sizes_that_are_not_known(name: str, how: str) -> None:
    """One program for any batch, length and number of classes, and for any chip; serialised, and run."""
    reduced = {} if name in NEVER_REDUCED else {"reduction": how}
    floats, classes = given()

    def slopes(floats: Arrays, classes: Arrays, **form: Any) -> Any:
        return jax.value_and_grad(lambda a: squares(name, a | classes, **reduced, **form))(floats)

    letters = {"hidden": "b, t, h", "weight": "h, c", "bias": "c", "other_hidden": "b, t, k", "other_weight": "k, c",
               "other_bias": "c", "weights": "b, t", "probabilities": "b, t, 2", "classes": "b, t, 2"}  # fmt: skip
    names = [{n: letters.get(n, "") for n in arrays} for arrays in (floats, classes)]
    sizes = export.symbolic_args_specs((floats, classes), tuple(names))
    exported = export.export(jax.jit(slopes), platforms=("cpu", "tpu", "cuda"))(*sizes)
    got = quick(export.deserialize(exported.serialize()).call)(floats, classes)
    want = quick(functools.partial(slopes, stored=True))(floats, classes)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=0, atol=256 * 2.0**-24 * max(1, np.max(np.abs(w))))


def _reductions_beside_the_products(step: Any, *shapes: Any) -> int:
    """How many reductions the backward pass has in its loop over blocks: of the loops, the one with most products."""
    computations = Program(quick(jax.grad(step, (0, 1))).lower(*shapes).compile().as_text() or "").computations

    def kinds(name: str) -> Iterator[str]:
        for operation in computations[name].values():
            yield operation.kind
            for called in ("calls", "to_apply", "body"):
                yield from (kind for callee in operation.called(called) for kind in kinds(callee))

    operations = (operation for computation in computations.values() for operation in computation.values())
    loops = [list(kinds(loop.called("body")[0])) for loop in operations if loop.kind == "while"]
    return max(loops, key=lambda loop: loop.count("dot")).count("reduce")


@pytest.mark.parametrize("name", ["linear_token_log_probs", "linear_softmax_kl_divergence"])
def test_what_the_forward_pass_knows_of_a_row_is_not_formed_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of losses that are not summed: maxima, sums and means of rows. Without what is kept all are formed twice."""

    def step(size: int, hidden: jax.Array, weight: jax.Array, tokens: jax.Array, cotangents: jax.Array) -> jax.Array:
        other = (tokens,) if name.endswith("probs") else (hidden[:, ::-1], weight)
        return jnp.sum(cotangents * getattr(lossjax, name)(hidden, weight, *other, chunk_size=size))

    sizes = ((64, 8), jnp.float32), ((8, 200), jnp.float32), ((64,), jnp.int32), ((64,), jnp.float32)
    shapes = [jax.ShapeDtypeStruct(*size) for size in sizes]
    assert _reductions_beside_the_products(functools.partial(step, 16), *shapes) == 0
    if "kl" in name:  # what is kept is kept by the engine: one loss shows what the count is worth
        return
    monkeypatch.setattr(head, "MOST_OF_A_ROW", 0)
    assert _reductions_beside_the_products(functools.partial(step, 8), *shapes) > 0
